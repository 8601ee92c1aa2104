//! `approval`: the plan stops here until a person says yes.
//!
//! The world is asked for nothing. The question stands in the journal with the loss as the move stands; a yes is
//! `watchover approve`, and what is not answered in time fails the step. Whoever waits for the step waits with it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::adapters::Adapters;
use crate::adapters::registry::{KeyDoc, Place, StepKind, StepTraits};
use crate::adapters::shell::shell_word;
use crate::config::judge::Table;
use crate::domain::plan::{Class, PlannedStep, Repeat, Reversibility};
use crate::ports::{Call, ErrorClass, Inspection, Permission, Step, StepContext, StepError, Verification};

/// The kind's entry in the registry.
pub static KIND: StepKind<Adapters> = StepKind {
    name: "approval",
    doc: "Waits for a person: the move goes on with `watchover approve INCIDENT --reason …`, which says yes to every step that waits then, and to the loss as it stands. `decline` fails the step for good. The wait survives a restart, and counts into the phase `execute`, into move_timeout too.",
    class: Class::Other,
    reversibility: Reversibility::Reversible,
    repeat: Repeat::Inspectable,
    default_deadline: "30m",
    at_source: false,
    refine: Some(refine),
    keys: &[
        KeyDoc {
            name: "ask",
            form: "string",
            default: "\"go on?\"",
            doc: "What the person has to decide, in a sentence; it is shown and journaled.",
        },
        KeyDoc { name: "who", form: "string", default: "\"whoever is on call\"", doc: "For whom it waits, in words." },
        KeyDoc {
            name: "timeout",
            form: "duration",
            default: "\"30m\"",
            doc: "How long it waits; then the step has failed, and `on_failure` says whether the move stops. The same as `deadline`: give one of the two.",
        },
    ],
    judge,
    build,
    permissions: |_: &PlannedStep| -> Vec<Permission> { Vec::new() },
};

/// A question is a sentence, not a page.
const MOST_WORDS: usize = 200;

#[derive(Serialize, Deserialize)]
struct Keys {
    ask: String,
    who: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout_seconds: Option<f64>,
}

fn judge(table: &Table, _: &Place) -> Option<Value> {
    let before = table.problems().len();
    let ask = words(table, "ask", "go on?");
    let who = words(table, "who", "whoever is on call");
    let timeout = table.maybe_duration("timeout");
    if timeout.is_some() && table.has("deadline") {
        table.fault("timeout", "stands beside `deadline`, which means the same here; give one of the two");
    }
    if timeout.is_some_and(|timeout| timeout < Duration::from_secs(1) || timeout > Duration::from_secs(86_400)) {
        table.fault("timeout", "is not a time in which a person answers; give from \"1s\" to \"24h\"");
    }
    (table.problems().len() == before).then(|| json!(Keys { ask, who, timeout_seconds: timeout.map(|timeout| timeout.as_secs_f64()) }))
}

fn words(table: &Table, key: &str, default: &str) -> String {
    let Some(text) = table.string(key) else { return default.to_owned() };
    let text = text.trim().to_owned();
    if text.is_empty() || text.chars().count() > MOST_WORDS || text.chars().any(char::is_control) {
        table.fault(key, format!("is not one line of 1 to {MOST_WORDS} characters; write what a person can answer at a glance"));
    }
    text
}

fn refine(keys: &Value, traits: StepTraits) -> StepTraits {
    let timeout = keys.get("timeout_seconds").and_then(Value::as_f64).and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    StepTraits { default_deadline: timeout.unwrap_or(traits.default_deadline), ..traits }
}

fn build(step: &PlannedStep, _: &Adapters) -> Result<Arc<dyn Step>, StepError> {
    let keys: Keys = super::stored(step)?;
    Ok(Arc::new(Approval { name: step.name.clone(), ask: keys.ask, who: keys.who }))
}

struct Approval {
    name: String,
    ask: String,
    who: String,
}

#[async_trait]
impl Step for Approval {
    fn describe(&self, _: &Inspection) -> Vec<Call> {
        let question = shell_word(&format!("{} ({}) [yes]: ", self.ask, self.who));
        vec![Call {
            service: "person".into(),
            operation: "approve".into(),
            region: String::new(),
            parameters: json!({ "ask": self.ask, "who": self.who }),
            shell: format!("printf '%s' {question}; read -r said; [ \"$said\" = yes ]"),
            afterwards: false,
        }]
    }

    async fn inspect(&self, _: &StepContext) -> Result<Inspection, StepError> {
        Ok(Inspection::Asks(format!("{} (asks {})", self.ask, self.who)))
    }

    /// Never called: the answer comes from a person, by way of the journal.
    async fn apply(&self, _: &StepContext) -> Result<Value, StepError> {
        let words = format!("approval {}: only a person can say yes, with `watchover approve`", self.name);
        Err(StepError::new(ErrorClass::NeedsPerson, "not-ours", words))
    }

    async fn verify(&self, _: &StepContext) -> Result<Verification, StepError> {
        Ok(Verification::NotYet(format!("waits for {}", self.who)))
    }

    async fn undo(&self, _: &StepContext) -> Result<String, StepError> {
        Ok("a yes changed nothing".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::StepTraits;

    fn judged(keys: Value) -> Result<Value, Vec<String>> {
        let (found, said) = KIND.judged(keys);
        found.ok_or(said)
    }

    #[test]
    fn the_timeout_is_the_deadline() {
        let traits = StepTraits {
            class: KIND.class,
            reversibility: KIND.reversibility,
            repeat: KIND.repeat,
            default_deadline: Duration::from_secs(1800),
            at_source: false,
            first: false,
        };
        let keys = judged(json!({ "timeout": "2h" })).unwrap();
        assert_eq!(refine(&keys, traits).default_deadline, Duration::from_secs(7200));
        assert_eq!(refine(&judged(json!({})).unwrap(), traits), traits);
        for (keys, part) in [
            (json!({ "timeout": "2h", "deadline": "1h" }), "beside `deadline`"),
            (json!({ "timeout": "0s" }), "in which a person answers"),
            (json!({ "ask": " " }), "one line"),
            (json!({ "who": "a\nb" }), "one line"),
        ] {
            let said = judged(keys).unwrap_err();
            assert!(said.len() == 1 && said[0].contains(part), "{said:?}");
        }
    }

    #[test]
    fn the_script_stops_without_a_yes() {
        let step = Approval { name: "go".into(), ask: "don't \"lose\" it?".into(), who: "the on-call".into() };
        let shell = step.describe(&Inspection::CannotTell).remove(0).shell;
        for (said, code) in [("yes", 0), ("no", 1), ("", 1)] {
            let script = format!("set -eu\n{shell}\nexit 0");
            let ran =
                std::process::Command::new("/bin/sh").args(["-c", &format!("printf '%s\\n' '{said}' | ( {script} )")]).output().unwrap();
            assert_eq!(ran.status.code(), Some(code), "{said:?}: {}", String::from_utf8_lossy(&ran.stderr));
            assert!(String::from_utf8_lossy(&ran.stdout).contains("don't \"lose\" it? (the on-call)"));
        }
    }
}
