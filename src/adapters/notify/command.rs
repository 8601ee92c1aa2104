//! `command`: one run of a program a message, which it reads as JSON on its standard input.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::adapters::Adapters;
use crate::adapters::process::{Ended, GRACE, Program, wrong_argv, wrong_names};
use crate::adapters::registry::{KeyDoc, NotifyKind};
use crate::config::NotifyConfig;
use crate::config::judge::Table;
use crate::domain::notice::Notice;
use crate::ports::{Notifier, NotifyError};

/// The registry's entry.
pub static KIND: NotifyKind<Adapters> = NotifyKind {
    name: "command",
    doc: "Runs a program without a shell, with the message as a JSON object on its standard input, and WATCHOVER_EVENT, _MESSAGE_ID, _APP, _INCIDENT and _TEXT in its environment, which is otherwise empty but for PATH. Exit code 0 is told, 1 is tried again, anything else is given up. At its time the whole process group is ended. Under systemd it runs inside the daemon's sandbox.",
    keys: &[
        KeyDoc { name: "argv", form: "list of strings", default: "", doc: "The absolute path of the program and its arguments." },
        KeyDoc {
            name: "pass_env",
            form: "list of names",
            default: "[]",
            doc: "Variables of the daemon that it gets too, by name; their values are blanked where its output repeats them.",
        },
    ],
    judge,
    build,
    permissions: |_| Vec::new(),
};

#[derive(Serialize, Deserialize)]
struct Keys {
    argv: Vec<String>,
    pass_env: Vec<String>,
}

fn judge(table: &Table) -> Option<Value> {
    let form = "a list like [\"/usr/local/bin/page\", \"--team\", \"ops\"]";
    let argv = match table.raw("argv") {
        None => {
            table.fault("argv", format!("is missing; give {form}"));
            return None;
        }
        Some(value) if value.is_string() => {
            table.fault("argv", format!("is one text; give {form}, as there is no shell to cut it up"));
            return None;
        }
        Some(_) => table.strings("argv")?,
    };
    if let Some(wrong) = wrong_argv(&argv) {
        table.fault("argv", wrong);
        return None;
    }
    let pass_env = table.strings("pass_env").unwrap_or_default();
    if let Some(wrong) = wrong_names(&pass_env) {
        table.fault("pass_env", wrong);
        return None;
    }
    serde_json::to_value(Keys { argv, pass_env }).ok()
}

fn build(receiver: &NotifyConfig, _: &Adapters) -> Result<Arc<dyn Notifier>, String> {
    Ok(Arc::new(Command(super::kept(receiver)?)))
}

struct Command(Keys);

impl Command {
    fn program(&self, notice: Option<&Notice>) -> Program {
        let mut program = Program { argv: self.0.argv.clone(), pass: self.0.pass_env.clone(), ..Program::default() };
        if let Some(notice) = notice {
            let of = |name: &str, value: &str| (format!("WATCHOVER_{name}"), value.to_owned());
            program.env = BTreeMap::from([
                of("EVENT", notice.event.as_str()),
                of("MESSAGE_ID", &notice.id),
                of("APP", notice.app.as_deref().unwrap_or_default()),
                of("INCIDENT", notice.incident.as_deref().unwrap_or_default()),
                of("TEXT", &notice.text()),
            ]);
            program.input = serde_json::to_string(notice).unwrap_or_default();
        }
        program
    }
}

#[async_trait]
impl Notifier for Command {
    async fn send(&self, notice: &Notice, limit: Duration) -> Result<(), NotifyError> {
        let run = self.program(Some(notice)).run(limit.saturating_sub(GRACE * 2).max(limit / 2)).await;
        let said = run.last_line();
        let (again, words) = match run.ended {
            Ended::Code(0) => return Ok(()),
            Ended::Code(code) => (code == 1, format!("exit code {code}")),
            Ended::Killed(signal) => (true, format!("ended by signal {signal}")),
            Ended::TimedOut => (true, format!("ended by us after {:.1}s", run.took.as_secs_f64())),
            Ended::NotStarted(cause) => (true, cause),
        };
        Err(NotifyError { again, words: format!("{}: {words}{said}", self.0.argv.first().map_or("", String::as_str)) })
    }

    async fn check(&self) -> Result<String, String> {
        self.program(None).look().await.map(|()| format!("{} can be run; not run", self.0.argv.first().map_or("", String::as_str)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::notice::Event;

    #[tokio::test]
    async fn it_reads_the_message_and_its_code_decides() {
        let notice = Notice {
            id: "i".into(),
            event: Event::Stuck,
            app: Some("shop".into()),
            incident: None,
            at: "t".into(),
            observer: "o".into(),
            words: "w".into(),
            waits_for: None,
            reminder: 2,
        };
        let run = async |script: &str| {
            let command = Command(Keys { argv: vec!["/bin/sh".into(), "-c".into(), script.into()], pass_env: Vec::new() });
            command.send(&notice, Duration::from_secs(20)).await
        };
        let told = run("test \"$WATCHOVER_EVENT $WATCHOVER_APP\" = 'stuck shop' && grep -q '\"reminder\":2'").await;
        assert!(told.is_ok(), "{told:?}");
        let error = run("echo busy; exit 1").await.unwrap_err();
        assert!(error.again && error.words.contains("it said last: busy"), "{error:?}");
        assert!(!run("exit 2").await.unwrap_err().again);
        let missing = Command(Keys { argv: vec!["/nowhere/page".into()], pass_env: Vec::new() });
        assert!(missing.check().await.unwrap_err().contains("/nowhere/page"));
    }
}
