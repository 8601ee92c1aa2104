//! `R53-AUTONOMOUS`: whether others can move an app's traffic, as `check` says it.

use std::collections::BTreeSet;

use crate::adapters::{Adapters, steps};
use crate::config::AppConfig;
use crate::domain::autonomy::Autonomy;
use crate::domain::model::Mode;
use crate::domain::plan::Plan;
use crate::runtime::executor;

/// The finding's name.
pub(super) const NAME: &str = "R53-AUTONOMOUS";

/// What the steps of one plan read.
#[derive(Debug, Default, PartialEq)]
struct Read {
    asked: bool,
    found: BTreeSet<String>,
    unread: Vec<String>,
}

/// Whether it is well, in words; `None`: no step of the app's plans can tell. `now`: wall clock, microseconds.
pub(super) async fn finding(app: &AppConfig, adapters: &Adapters, now: i64) -> Option<(bool, String)> {
    let over = read(app, &app.policy.failover, adapters, now).await;
    let back = read(app, &app.policy.failback, adapters, now).await;
    said(app.policy.mode, app.policy.traffic_is_autonomous, over, back)
}

async fn read(app: &AppConfig, plan: &Plan, adapters: &Adapters, now: i64) -> Read {
    let mut read = Read::default();
    for step in &plan.steps {
        // A step that cannot be built says so where it is inspected.
        let Ok(built) = steps::build(step, adapters) else { continue };
        let context = executor::preflight_context(&app.policy.name, plan.direction, step, now);
        let told = executor::autonomy(built.as_ref(), &context).await;
        read.asked |= told.is_some();
        match told {
            Some(Autonomy::Read(words)) => read.found.extend(words),
            Some(Autonomy::Unread(why)) => read.unread.push(format!("{} step {}: {why}", plan.direction, step.name)),
            None => {}
        }
    }
    read
}

/// `known`: the config says that others move traffic.
fn said(mode: Mode, known: bool, over: Read, back: Read) -> Option<(bool, String)> {
    if !over.asked && !back.asked {
        return None;
    }
    let capped = !over.found.is_empty();
    let all: BTreeSet<String> = over.found.into_iter().chain(back.found).collect();
    let unread: Vec<String> = over.unread.into_iter().chain(back.unread).collect();
    let list = all.iter().chain(&unread).cloned().collect::<Vec<_>>().join("; ");
    Some(match (all.is_empty(), unread.is_empty()) {
        (true, true) if known => (true, "nothing found; the config says traffic_is_autonomous = true all the same".to_owned()),
        (true, true) => (true, "nothing but watchover moves the records of its plans".to_owned()),
        (_, _) if known => {
            (true, format!("the config knows it (traffic_is_autonomous = true), so the mode stays {mode:?}: {list}", mode = mode.as_str()))
        }
        (true, false) => (
            false,
            format!(
                "whether others can move its records could not be read, so that the mode is capped only if it was known before: {list}"
            ),
        ),
        (false, _) if capped && mode == Mode::Automatic => {
            (false, format!("others can move its traffic, so the mode \"automatic\" is capped at \"approval\": {list}"))
        }
        (false, _) if capped => (
            false,
            format!(
                "others can move its traffic; the mode is {:?}, and \"automatic\" would be capped at \"approval\": {list}",
                mode.as_str()
            ),
        ),
        (false, _) => (false, format!("others can move its traffic on the way back: {list}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(found: &[&str], unread: &[&str]) -> Read {
        let all = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        Read { asked: true, found: all(found).into_iter().collect(), unread: all(unread) }
    }

    #[test]
    fn only_what_the_config_does_not_know_is_a_finding() {
        let none = || read(&[], &[]);
        let mut told = vec![];
        for (mode, known, over, back) in [
            (Mode::Automatic, false, none(), none()),
            (Mode::Automatic, true, none(), none()),
            (Mode::Automatic, false, read(&["a"], &[]), read(&["a", "b"], &[])),
            (Mode::Approval, false, read(&["a"], &["w"]), none()),
            (Mode::Automatic, true, read(&["a"], &["w"]), none()),
            (Mode::Automatic, false, none(), read(&["b"], &[])),
            (Mode::Automatic, false, read(&[], &["w"]), none()),
        ] {
            let (ok, words) = said(mode, known, over, back).unwrap();
            told.push(format!("{ok} {words}"));
        }
        assert_eq!(
            told,
            [
                "true nothing but watchover moves the records of its plans",
                "true nothing found; the config says traffic_is_autonomous = true all the same",
                "false others can move its traffic, so the mode \"automatic\" is capped at \"approval\": a; b",
                "false others can move its traffic; the mode is \"approval\", and \"automatic\" would be capped at \"approval\": a; w",
                "true the config knows it (traffic_is_autonomous = true), so the mode stays \"automatic\": a; w",
                "false others can move its traffic on the way back: b",
                "false whether others can move its records could not be read, so that the mode is capped only if it was known before: w",
            ]
        );
        assert_eq!(said(Mode::Automatic, false, Read::default(), Read::default()), None, "no step could tell");
    }
}
