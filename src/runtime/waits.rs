//! For what an app waits that only a person can do, and until when an answer counts.

use crate::domain::decide::App;
use crate::domain::gates::{Around, Preflight};
use crate::domain::ledger::{Gate, GateState, Incident, Ledger, Ruling};
use crate::domain::model::{Direction, Moment, State};
use crate::domain::notice;

/// What a person is to do, in words, with the commands that do it; `None` while what it waits for passes by itself.
pub(super) fn waits_for(app: &App, gates: &[Gate], around: &Around, now: Moment) -> Option<String> {
    let name = app.policy().name.as_ref();
    of(name, app.ledger(), gates, app.view(around, now).preflight)
}

fn of(name: &str, ledger: &Ledger, gates: &[Gate], preflight: Option<&Preflight>) -> Option<String> {
    // What messages say, in their words.
    if let Some(notice) = notice::waiting(name, ledger) {
        return notice.waits_for;
    }
    // Until the plan's inspections are in they may tell it by themselves, and after a start they soon are.
    if ledger.active.is_none() && preflight.is_some() {
        return Some(format!("`watchover adopt {name} --active SITE --reason TEXT`: which site is active is not known"));
    }
    let incident = ledger.incident.as_ref().filter(|_| ledger.state == State::Held)?;
    let shut = gates.iter().filter(|gate| gate.state == GateState::Shut);
    let said: Vec<String> =
        shut.filter_map(|gate| Some(format!("{}: {} ({})", key(name, incident, gate)?, gate.name, gate.words))).collect();
    (!said.is_empty()).then(|| said.join("; "))
}

/// What a person does about a gate that nothing else opens.
///
/// The others pass by themselves, or are none that a word would help: cooldown, startup grace and the other groups' turn end
/// with time; the target, our own sight and what the inspections found are looked at again and again, and mended where they
/// are broken. A pause ends by its time, too, but meanwhile users are not served, and only a person can want that.
fn key(app: &str, incident: &Incident, gate: &Gate) -> Option<String> {
    let order = match incident.direction {
        Direction::ToStandby => "failover",
        Direction::ToPrimary => "failback",
    };
    let by_command = |more: &str| format!("`watchover {order} {app} {more}--reason TEXT`");
    match gate.name.as_str() {
        "direction" => Some(by_command("")),
        "not-paused" => Some(format!("`watchover resume {app}`")),
        // Somebody has said no, and so nobody is waited for.
        "mode" if incident.declined => None,
        "mode" => Some(by_command("")),
        "data-loss" if incident.declined => None,
        "data-loss" => Some(by_command("--accept-data-loss DURATION ")),
        _ => None,
    }
}

/// When a question ends that is open now; `None`: none is, or its time stands still.
pub(super) fn answer_by(app: &App, ruling: Ruling, now: Moment) -> Option<Moment> {
    let ledger = app.ledger();
    let incident = ledger.incident.as_ref()?;
    match ledger.state {
        State::AwaitingApproval => app.question_ends(ruling),
        // As a step's time is counted, from its start on, unless a pause holds it.
        State::Moving if ledger.paused.is_none() || !incident.heeds_pause() => {
            let ends = incident.asking().filter_map(|(step, run)| {
                let deadline = incident.plan.as_ref()?.step(step)?.deadline;
                Some(run.started.unwrap_or(now) + deadline)
            });
            ends.min_by_key(|at| at.mono)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::fixtures::{at, by, exposure, opened, policy, record, step};
    use crate::domain::gates::NAMES;
    use crate::domain::ledger::Entry;
    use crate::domain::model::SiteName;
    use crate::domain::plan::{Class, Plan};

    fn gate(name: &str, state: GateState) -> Gate {
        Gate { name: name.into(), state, words: "why".into() }
    }

    /// The app after these entries, a second apart.
    fn ledger(entries: Vec<Entry>) -> Ledger {
        let mut ledger = Ledger { active: Some(SiteName::Primary), ..Ledger::default() };
        (1..).zip(entries).for_each(|(second, entry)| ledger.apply(&record(entry, second)).unwrap());
        ledger
    }

    fn gated(ruling: Ruling) -> Entry {
        Entry::Gated { ruling, gates: Vec::new(), exposure: exposure(None) }
    }

    #[test]
    fn what_is_held_waits_for_a_person_only_behind_a_gate_that_nothing_else_opens() {
        let held = ledger(vec![opened(None), gated(Ruling::Hold)]);
        let waits: Vec<&str> =
            NAMES.iter().copied().filter(|name| of("shop", &held, &[gate(name, GateState::Shut)], None).is_some()).collect();
        assert_eq!(waits, ["direction", "not-paused", "mode", "data-loss"]);
        let said = of("shop", &held, &[gate("mode", GateState::Shut), gate("cooldown", GateState::Shut)], None).unwrap();
        assert_eq!(said, "`watchover failover shop --reason TEXT`: mode (why)");
        assert_eq!(of("shop", &held, &[gate("mode", GateState::Open)], None), None);
        let declined = ledger(vec![opened(None), gated(Ruling::Ask), Entry::Declined { by: by(), unanswered: Vec::new() }]);
        assert_eq!(of("shop", &declined, &[gate("mode", GateState::Shut)], None), None, "somebody has said no");
        let unanswered = ledger(vec![opened(None), gated(Ruling::Ask), Entry::Declined { by: by(), unanswered: vec!["mode".into()] }]);
        assert!(of("shop", &unanswered, &[gate("mode", GateState::Shut)], None).is_some());
        let watching = ledger(Vec::new());
        assert_eq!(of("shop", &watching, &[gate("mode", GateState::Shut)], None), None, "nothing is wanted yet");
    }

    #[test]
    fn an_active_site_that_nobody_knows_waits_for_a_person_once_the_inspections_do_not_tell_it() {
        let unknown = Ledger::default();
        assert_eq!(of("shop", &unknown, &[], None), None);
        let preflight = Preflight { at: at(1), direction: Direction::ToStandby, steps: BTreeMap::new(), autonomy: BTreeMap::new() };
        let said = of("shop", &unknown, &[], Some(&preflight)).unwrap();
        assert!(said.starts_with("`watchover adopt shop --active SITE --reason TEXT`"), "{said}");
        assert_eq!(of("shop", &ledger(Vec::new()), &[], Some(&preflight)), None);
    }

    #[test]
    fn a_question_says_how_it_is_answered_and_until_when() {
        let asks = |entries: Vec<Entry>| App::new(policy("shop"), ledger(entries), 1);
        let app = asks(vec![opened(None), gated(Ruling::Ask)]);
        let said = of("shop", app.ledger(), &[], None).unwrap();
        assert!(said.contains("`watchover approve shop-1") && said.contains("`watchover decline shop-1"), "{said}");
        assert_eq!(answer_by(&app, Ruling::Ask, at(9)), Some(at(2 + 300)));
        let paused = asks(vec![opened(None), gated(Ruling::Ask), Entry::Paused { until: at(99).wall, by: by() }]);
        assert_eq!(answer_by(&paused, Ruling::Hold, at(9)), None, "its time stands still");
        let resumed =
            asks(vec![opened(None), gated(Ruling::Ask), Entry::Paused { until: at(99).wall, by: by() }, Entry::Resumed { by: by() }]);
        assert_eq!(answer_by(&resumed, Ruling::Ask, at(9)), Some(at(4 + 300)));

        let plan = Plan { direction: Direction::ToStandby, steps: vec![step("go", Class::Other, None, &[])] };
        let waits = Entry::StepWaits { step: "go".into(), words: "go?".into(), waits_for: "the on-call".into(), exposure: exposure(None) };
        let asking = asks(vec![opened(None), gated(Ruling::Go), Entry::Planned { plan }, Entry::StepStarted { step: "go".into() }, waits]);
        assert_eq!(of("shop", asking.ledger(), &[], None).as_deref(), Some("the on-call"));
        assert_eq!(answer_by(&asking, Ruling::Go, at(9)), Some(at(4 + 1)));
        assert_eq!(answer_by(&asks(vec![opened(None), gated(Ruling::Hold)]), Ruling::Hold, at(9)), None);
    }
}
