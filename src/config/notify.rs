//! `[[notify]]`: who is told, of what, and how often again.

use std::collections::BTreeSet;
use std::time::Duration;

use super::check::Judge;
use super::judge::{Table, nearest};
use super::signals::{known_kind, label};
use crate::domain::notice::Event;
pub use crate::ports::NotifyConfig;

/// More receivers than this are a mistake: each costs a task and a queue.
const MOST: usize = 32;

/// Judges all receivers; those with problems are left out.
pub(super) fn receivers(judge: &Judge<'_>, root: &Table) -> Vec<NotifyConfig> {
    let tables = root.tables("notify");
    if tables.len() > MOST {
        root.fault("notify", format!("has {} receivers; at most {MOST}", tables.len()));
    }
    let mut names = BTreeSet::new();
    let mut found = Vec::new();
    for table in &tables {
        let receiver = receiver(judge, table);
        if let Some(receiver) = receiver {
            if !names.insert(receiver.name.clone()) {
                table.fault("name", "another receiver has this name; names must differ, as they label metrics");
            }
            found.push(receiver);
        }
    }
    found
}

fn receiver(judge: &Judge<'_>, table: &Table) -> Option<NotifyConfig> {
    let before = judge.problems.len();
    let name = label(table, "a receiver's name");
    let kind = known_kind(table, "receiver", &judge.catalogue.notify_kinds());
    let events = events(table);
    let remind = judge.bounded(table, "remind_every", "30m", Duration::ZERO, Duration::from_secs(7 * 86_400));
    if !remind.is_zero() && remind < Duration::from_secs(1) {
        table.fault("remind_every", "is too short; give at least \"1s\", or \"0s\" for no reminders");
    }
    let timeout = judge.bounded(table, "timeout", "10s", Duration::from_millis(100), Duration::from_secs(60));
    let account = judge.account(table);
    let keys = kind.as_deref().and_then(|kind| {
        let keys = judge.catalogue.judge_notify(kind, table);
        table.finish();
        keys
    });
    if judge.problems.len() > before {
        return None;
    }
    Some(NotifyConfig {
        name: name?,
        kind: kind?,
        events,
        remind_every: (!remind.is_zero()).then_some(remind),
        timeout,
        account,
        keys: keys?,
    })
}

fn events(table: &Table) -> BTreeSet<Event> {
    let Some(names) = table.strings("events") else { return Event::usual().into_iter().collect() };
    if names.is_empty() {
        table.fault("events", "is an empty list: it would be told of nothing; leave it out for the usual ones");
    }
    let known = || Event::ALL.iter().map(|event| event.as_str());
    let judged = |name: &String| {
        let found = Event::parse(name);
        if found.is_none() {
            let hint = nearest(name, known()).map(|near| format!("did you mean {near:?}? ")).unwrap_or_default();
            table.fault("events", format!("{name:?} is not an event; {hint}there are {}", known().collect::<Vec<_>>().join(", ")));
        }
        found
    };
    names.iter().filter_map(judged).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::judge_text;

    /// The committed reference with these receivers, judged by the kinds of this build's door for tests.
    fn judged(receivers: &str) -> Result<Vec<NotifyConfig>, Vec<String>> {
        let text = format!("{}\n{receivers}", include_str!("../../config.toml"));
        let found = judge_text(Path::new("config.toml"), &text, Vec::new(), &crate::adapters::Kinds);
        found.map(|config| config.notify).map_err(|errors| errors.problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_receiver_is_completed() {
        let found = judged("[[notify]]\nname = \"pager\"\nkind = \"webhook\"\nurl = \"https://relay.example.net/tell\"\n").unwrap();
        assert_eq!((found[0].remind_every, found[0].timeout), (Some(Duration::from_secs(1800)), Duration::from_secs(10)));
        assert_eq!(found[0].events, Event::usual().into_iter().collect());
        let found = judged(
            "[[notify]]\nname = \"hook\"\nkind = \"command\"\nargv = [\"/bin/true\"]\nevents = [\"stuck\", \"opened\"]\nremind_every = \"0s\"\n",
        )
        .unwrap();
        assert_eq!((found[0].remind_every, found[0].events.len()), (None, 2));
    }

    #[test]
    fn two_receivers_with_one_mistake_are_two_problems() {
        let one = "[[notify]]\nname = \"a\"\nkind = \"webhok\"\n";
        let said = judged(&format!("{one}{one}")).unwrap_err();
        let at = |path: &str| said.iter().any(|line| line.starts_with(path) && line.contains("did you mean \"webhook\"?"));
        assert!(said.len() == 2 && at("notify.a.kind: ") && at("notify.a[1].kind: "), "{said:?}");
    }

    #[test]
    fn every_problem_is_named_and_no_secret_is_quoted() {
        let said = judged(
            r#"
[[notify]]
name = "a"
kind = "slack"
url = "https://hooks.slack.com/services/T00HUSH00/B00HUSH00/hush8hush8hush8"
[[notify]]
name = "b"
kind = "webhok"
[[notify]]
name = "c"
kind = "webhook"
url = "https://relay.example.net/tell"
events = ["stuk"]
remind_every = "10ms"
[[notify]]
name = "d"
kind = "command"
argv = "mail root"
evnts = ["stuck"]
[[notify]]
name = "e"
kind = "webhook"
url_file = "relative"
"#,
        )
        .unwrap_err();
        for part in [
            "notify.a.url: has a path with what looks like a token",
            "did you mean \"webhook\"?",
            "did you mean \"stuck\"?",
            "notify.c.remind_every",
            "notify.d.argv: is one text",
            "did you mean \"events\"?",
            "notify.e.url_file: is not an absolute path",
        ] {
            assert!(said.iter().any(|line| line.contains(part)), "{part}\n{said:#?}");
        }
        assert!(!said.iter().any(|line| line.to_lowercase().contains("hush")), "{said:?}");
    }
}
