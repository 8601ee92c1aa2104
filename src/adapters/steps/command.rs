//! `command`: runs a program of yours, without a shell and within its time.
//!
//! What it did nobody can read back, so its own word counts: 0 done, 1 try again, anything else final. After a crash in
//! its middle a person must look, unless `idempotent = true` says that it bears repetition under its `WATCHOVER_STEP_ID`.
//! Under systemd it runs inside the daemon's sandbox and ends with the daemon's control group.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::adapters::Adapters;
use crate::adapters::process::{Ended, GRACE, Program, Run, is_name, wrong_argv, wrong_names};
use crate::adapters::registry::{KeyDoc, Place, StepKind, StepTraits};
use crate::adapters::shell::shell_word;
use crate::config::judge::Table;
use crate::domain::model::words;
use crate::domain::plan::{Class, PlannedStep, Repeat, Reversibility};
use crate::ports::{Call, ErrorClass, Inspection, Permission, ScriptContext, Step, StepContext, StepError, Verification};

words! {
    /// When the program runs.
    Phase {
        /// Before every other step: while it fails, nothing is changed.
        Pre = "pre",
        /// Where `after` puts it.
        Main = "main",
    }
}

/// The kind's entry in the registry.
///
/// Forward only as long as nothing says how to take it back: what a program did is final for all that we know.
pub static KIND: StepKind<Adapters> = StepKind {
    name: "command",
    doc: "Runs a program without a shell: exit code 0 is done, 1 is tried again, anything else is final. It gets WATCHOVER_ACTION (apply, undo), _STEP_ID, _STEP, _APP, _INCIDENT, _DIRECTION, _TARGET, _REGION and _GRACEFUL, PATH, and nothing else of the daemon's environment. At its time the whole process group is ended. The last lines of its output go into the journal: let it print no secrets. With `undo` or phase \"pre\" it is reversible; with `idempotent = true` it may be run again after a crash. Under systemd it runs inside the daemon's sandbox.",
    class: Class::Other,
    reversibility: Reversibility::ForwardOnly,
    repeat: Repeat::Inspectable,
    default_deadline: "1m",
    at_source: false,
    refine: Some(refine),
    keys: &[
        KeyDoc {
            name: "argv",
            form: "list of strings",
            default: "",
            doc: "The absolute path of the program and its arguments. Stored in the journal: no secrets.",
        },
        KeyDoc {
            name: "phase",
            form: "\"main\" or \"pre\"",
            default: "\"main\"",
            doc: "\"pre\": it comes before every other step of the plan, whatever their `after` says, and must change nothing; while it fails, nothing is changed.",
        },
        KeyDoc {
            name: "idempotent",
            form: "boolean",
            default: "false",
            doc: "true: it may be run again after a crash, a lost end or its time-out, also beside its earlier run. false: a person looks first.",
        },
        KeyDoc {
            name: "undo",
            form: "list of strings",
            default: "none",
            doc: "The program that takes it back, if the move is called off before anything final. Without one the step is forward only.",
        },
        KeyDoc {
            name: "class",
            form: "\"other\", \"data\", \"capacity\" or \"traffic\"",
            default: "\"other\"",
            doc: "What it changes: traffic never goes before data, and is looked at twice.",
        },
        KeyDoc { name: "timeout", form: "duration", default: "the step's deadline", doc: "How long one run may take." },
        KeyDoc { name: "env", form: "table of strings", default: "{}", doc: "More variables for it. Stored in the journal: no secrets." },
        KeyDoc {
            name: "pass_env",
            form: "list of names",
            default: "[]",
            doc: "Variables of the daemon that it gets too, by name; their values are blanked where its output repeats them.",
        },
    ],
    judge,
    build,
    permissions: |_: &PlannedStep| -> Vec<Permission> { Vec::new() },
};

#[derive(Serialize, Deserialize)]
struct Keys {
    argv: Vec<String>,
    phase: Phase,
    idempotent: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    undo: Option<Vec<String>>,
    class: Class,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout_seconds: Option<f64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    env: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pass_env: Vec<String>,
}

fn judge(table: &Table, _: &Place) -> Option<Value> {
    let before = table.problems().len();
    if !table.has("argv") {
        table.fault("argv", "is missing; give a list like [\"/usr/local/bin/hook\", \"--for\", \"shop\"]");
    }
    let argv = argv(table, "argv").unwrap_or_default();
    let phase = table.word("phase", Phase::ALL, Phase::as_str, Phase::Main);
    let idempotent = table.boolean("idempotent", false);
    let undo = argv_if_any(table);
    let class = table.word("class", Class::ALL, Class::as_str, Class::Other);
    if phase == Phase::Pre && class != Class::Other {
        table.fault("class", "does not go with phase = \"pre\": what comes before everything changes neither data, capacity nor traffic");
    }
    let timeout = table.has("timeout").then(|| table.some_duration("timeout", Duration::from_secs(60)));
    let env = environment(table);
    let pass_env = table.strings("pass_env").unwrap_or_default();
    if let Some(wrong) = wrong_names(&pass_env) {
        table.fault("pass_env", wrong);
    }
    if table.problems().len() > before {
        return None;
    }
    let timeout_seconds = timeout.map(|timeout| timeout.as_secs_f64());
    serde_json::to_value(Keys { argv, phase, idempotent, undo, class, timeout_seconds, env, pass_env }).ok()
}

/// A list: a text would have to be cut up as a shell does, and there is none.
fn argv(table: &Table, key: &str) -> Option<Vec<String>> {
    if table.raw(key)?.is_string() {
        table.fault(key, "is one text; give a list like [\"/usr/local/bin/hook\", \"--for\", \"shop\"], as there is no shell to cut it up");
        return None;
    }
    let words = table.strings(key)?;
    if let Some(wrong) = wrong_argv(&words) {
        table.fault(key, wrong);
    }
    Some(words)
}

fn argv_if_any(table: &Table) -> Option<Vec<String>> {
    argv(table, "undo")
}

fn environment(table: &Table) -> BTreeMap<String, String> {
    let table = table.table("env");
    let mut found = BTreeMap::new();
    for (name, value) in table.entries() {
        match value.as_str() {
            _ if !is_name(&name) || name.starts_with("WATCHOVER_") => {
                table.fault(
                    &name,
                    "is not a name for a variable of yours; give one of letters, digits and _ that does not begin with WATCHOVER_",
                );
            }
            // Not quoted: whoever puts a secret here must not see it printed.
            Some(text) if !text.contains('\0') => {
                found.insert(name, text.to_owned());
            }
            _ => table.fault(&name, "is not a text; write it in quotes"),
        }
    }
    found
}

fn refine(keys: &Value, traits: StepTraits) -> StepTraits {
    let Ok(keys) = serde_json::from_value::<Keys>(keys.clone()) else { return traits };
    let (first, takes_back) = (keys.phase == Phase::Pre, keys.undo.is_some());
    StepTraits {
        class: keys.class,
        reversibility: if first || takes_back { Reversibility::Reversible } else { Reversibility::ForwardOnly },
        repeat: if keys.idempotent { Repeat::AtLeastOnce } else { Repeat::Inspectable },
        first,
        ..traits
    }
}

fn build(step: &PlannedStep, _: &Adapters) -> Result<Arc<dyn Step>, StepError> {
    let keys: Keys = super::stored(step)?;
    let timeout = keys.timeout_seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    Ok(Arc::new(Command { name: step.name.clone(), region: step.region.clone(), timeout, keys, last: Mutex::default() }))
}

struct Command {
    name: String,
    region: String,
    timeout: Option<Duration>,
    keys: Keys,
    last: Mutex<Last>,
}

/// What this process knows of the last run; a new process knows nothing.
#[derive(Default, Clone)]
enum Last {
    #[default]
    Unknown,
    /// It ended by itself and asked to be tried again: nothing is left open.
    Again,
    /// It is done, and left this.
    Done(Value),
}

impl Command {
    fn program(&self, argv: &[String], action: &str, cx: &StepContext) -> Program {
        let own = [
            ("ACTION", action.to_owned()),
            ("STEP_ID", cx.step_id.clone()),
            ("STEP", self.name.clone()),
            ("APP", cx.app().to_owned()),
            ("INCIDENT", cx.incident.clone()),
            ("DIRECTION", cx.direction.to_string()),
            ("TARGET", cx.direction.target().to_string()),
            ("REGION", self.region.clone()),
            ("GRACEFUL", cx.graceful.to_string()),
        ];
        let own = own.into_iter().map(|(name, value)| (format!("WATCHOVER_{name}"), value));
        let env = self.keys.env.clone().into_iter().chain(own).collect();
        Program { argv: argv.to_vec(), env, pass: self.keys.pass_env.clone(), input: String::new() }
    }

    async fn run(&self, argv: &[String], action: &str, cx: &StepContext) -> Run {
        // Ended by us rather than with the call: then its last lines are heard.
        let room = cx.time_left.saturating_sub(GRACE * 2);
        self.program(argv, action, cx).run(self.timeout.map_or(room, |timeout| timeout.min(room))).await
    }

    fn remember(&self, last: Last) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = last;
    }

    fn last(&self) -> Last {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What a run that is not done means.
    fn failed(&self, action: &str, argv: &[String], run: &Run) -> StepError {
        let heading = format!("command {}: {action} by {}", self.name, argv.first().map_or("", String::as_str));
        let open = if self.keys.idempotent { ErrorClass::Retry } else { ErrorClass::NeedsPerson };
        let advice = if self.keys.idempotent { "" } else { "; whether it did its work is open: look, then retry or skip the step" };
        let (class, code, words) = match &run.ended {
            Ended::Code(1) => (ErrorClass::Retry, "exit-1".to_owned(), "exit code 1, try again".to_owned()),
            Ended::Code(code) => (ErrorClass::Refused, format!("exit-{code}"), format!("exit code {code}, which is final")),
            Ended::Killed(signal) => (open, "killed".to_owned(), format!("ended by signal {signal}{advice}")),
            Ended::TimedOut => (open, "timed-out".to_owned(), format!("ended by us after {:.1}s{advice}", run.took.as_secs_f64())),
            Ended::NotStarted(cause) => (ErrorClass::NeedsPerson, "not-started".to_owned(), cause.clone()),
        };
        StepError::new(class, code, format!("{heading}: {words}{}", run.last_line()))
    }
}

#[async_trait]
impl Step for Command {
    fn describe(&self, _: &Inspection) -> Vec<Call> {
        let mut shell: Vec<String> = vec!["env".into(), "-i".into(), "PATH=\"$PATH\"".into()];
        shell.push("WATCHOVER_ACTION=apply".into());
        shell.push(format!("WATCHOVER_STEP={}", shell_word(&self.name)));
        shell.push(format!("WATCHOVER_STEP_ID=\"${{WATCHOVER_INCIDENT-}}/\"{}", shell_word(&self.name)));
        shell.push(format!("WATCHOVER_REGION={}", shell_word(&self.region)));
        // The step does not know its move: the script does, at its head.
        shell.extend(
            ["APP", "INCIDENT", "DIRECTION", "TARGET", "GRACEFUL"].map(|name| format!("WATCHOVER_{name}=\"${{WATCHOVER_{name}-}}\"")),
        );
        shell.extend(self.keys.pass_env.iter().map(|name| format!("{name}=\"${{{name}-}}\"")));
        shell.extend(self.keys.env.iter().map(|(name, value)| format!("{name}={}", shell_word(value))));
        shell.extend(self.keys.argv.iter().map(|word| shell_word(word)));
        vec![Call {
            service: "command".into(),
            operation: self.keys.argv.first().cloned().unwrap_or_default(),
            region: String::new(),
            parameters: json!({ "argv": self.keys.argv, "phase": self.keys.phase, "idempotent": self.keys.idempotent }),
            shell: shell.join(" "),
            afterwards: false,
        }]
    }

    fn script(&self, found: &Inspection, cx: &ScriptContext) -> Vec<String> {
        // In whole seconds, and never none: to `timeout` that is no limit.
        let limit = self.timeout.unwrap_or(cx.limit).as_secs_f64().ceil().max(1.0);
        self.describe(found).into_iter().map(|call| format!("within {limit} {}", call.shell)).collect()
    }

    /// What it would do or did, nobody can tell; that it could be run, we can.
    async fn inspect(&self, cx: &StepContext) -> Result<Inspection, StepError> {
        for argv in [Some(&self.keys.argv), self.keys.undo.as_ref()].into_iter().flatten() {
            let look = self.program(argv, "apply", cx).look().await;
            look.map_err(|wrong| StepError::new(ErrorClass::NeedsPerson, "not-started", format!("command {}: {wrong}", self.name)))?;
        }
        Ok(if matches!(self.last(), Last::Again) { Inspection::Possible(Value::Null) } else { Inspection::CannotTell })
    }

    async fn apply(&self, cx: &StepContext) -> Result<Value, StepError> {
        self.remember(Last::Unknown);
        let run = self.run(&self.keys.argv, "apply", cx).await;
        if run.ended != Ended::Code(0) {
            if run.ended == Ended::Code(1) {
                self.remember(Last::Again);
            }
            return Err(self.failed("apply", &self.keys.argv, &run));
        }
        let facts = json!({ "exit": 0, "seconds": run.took.as_secs_f64(), "output": run.lines });
        self.remember(Last::Done(facts.clone()));
        Ok(facts)
    }

    /// Its exit code is all the proof there is.
    async fn verify(&self, _: &StepContext) -> Result<Verification, StepError> {
        let facts = if let Last::Done(facts) = self.last() { facts } else { json!({ "exit": 0 }) };
        Ok(Verification::So(facts))
    }

    async fn undo(&self, cx: &StepContext) -> Result<String, StepError> {
        let Some(argv) = &self.keys.undo else {
            return Ok("it comes before everything and changes nothing, so there is nothing to take back".to_owned());
        };
        let run = self.run(argv, "undo", cx).await;
        match run.ended {
            Ended::Code(0) => Ok(format!("taken back by {}{}", argv.first().map_or("", String::as_str), run.last_line())),
            _ => Err(self.failed("undo", argv, &run)),
        }
    }
}

#[cfg(test)]
mod tests;
