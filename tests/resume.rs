//! One complete move: the process dies at each row of its journal, each step is refused, repeated and delayed.
//! The end is always the same one, and each step takes effect once.

mod sim;

use std::sync::atomic::Ordering;

use sim::{Answer, SECOND, Sim};
use watchover::domain::ledger::Entry;
use watchover::domain::model::{Actor, Cause, Outcome, SiteName, State};
use watchover::domain::orders::Order;

const STEPS: [&str; 4] = ["fence", "promote", "capacity", "traffic"];

/// A world whose primary dies at second 15, right after the startup grace, as seen by a daemon that runs.
fn outage() -> Sim {
    let mut sim = Sim::new(sim::policy());
    sim.run_until(15 * SECOND);
    sim.world.primary = Answer::Down(Cause::Refused);
    sim
}

fn moved(sim: &Sim) -> bool {
    sim.is_running() && sim.state() == State::Watching && sim.app().ledger().active == Some(SiteName::Standby)
}

/// The one end: moved, on the standby, each step asked for and taken once.
fn assert_moved(sim: &mut Sim, what: &str) {
    let arrived = sim.run_till(120.0, moved);
    assert!(arrived, "{what}: not moved\n{}", sim.log().join("\n"));
    let ends: Vec<Outcome> = sim
        .records()
        .iter()
        .filter_map(|row| if let Entry::Closed { outcome, active: Some(_), .. } = &row.entry { Some(*outcome) } else { None })
        .collect();
    assert_eq!(ends, [Outcome::Moved], "{what}");
    for step in STEPS {
        let world = &sim.world.steps[step];
        // A fence whose deadline passed while nobody ran, before it was asked for, is gone on without.
        let overdue = sim.records().iter().any(|row| matches!(&row.entry, Entry::StepFailed { step: failed, code, .. } if failed == step && failed == "fence" && code == "deadline"));
        let effects = u32::from(!(overdue && world.applies == 0));
        assert_eq!(
            (world.effects, world.repeats),
            (effects, 0),
            "{what}: effects and needless requests of {step}\n{}",
            sim.log().join("\n")
        );
    }
}

/// Rows of a move that nothing disturbs.
fn rows() -> usize {
    let mut sim = outage();
    assert_moved(&mut sim, "undisturbed");
    sim.records().len()
}

#[test]
fn a17_dead_before_it_does_what_a_row_announces() {
    for row in 3..=rows() {
        for pause in [0.1, 3.0, 8.0] {
            let mut sim = outage();
            sim.journal.dies_at.store(row, Ordering::SeqCst);
            assert!(sim.run_till(60.0, |sim| sim.journal.dead.load(Ordering::SeqCst)), "row {row} is written");
            let last = sim.records().last().unwrap().entry.kind();
            sim.kill();
            sim.run_for(pause);
            sim.boot();
            assert_moved(&mut sim, &format!("dead at row {row} ({last}), back after {pause}s"));
        }
    }
}

#[test]
fn a17_dead_right_after_it_did_what_a_row_announces() {
    for row in 3..=rows() {
        for pause in [0.1, 3.0, 8.0] {
            let mut sim = outage();
            assert!(sim.run_till(60.0, |sim| sim.records().len() >= row), "row {row} is written");
            let last = sim.records().last().unwrap().entry.kind();
            sim.kill();
            sim.run_for(pause);
            sim.boot();
            assert_moved(&mut sim, &format!("dead after row {row} ({last}), back after {pause}s"));
        }
    }
}

#[test]
fn a_refused_step_is_stuck_and_says_which_and_goes_on_once_mended() {
    for step in STEPS {
        let mut sim = outage();
        assert!(sim.run_till(30.0, |sim| sim.state() == State::Moving));
        sim.world.steps.get_mut(step).unwrap().refuse = true;
        if step == "fence" {
            // It may fail: the old site is down, and waiting for it would make the outage longer.
            assert!(sim.run_till(60.0, moved), "without a fence: {}", sim.log().join("\n"));
            assert_eq!((sim.effects("fence"), sim.effects("promote")), (0, 1));
            continue;
        }
        assert!(sim.run_till(60.0, |sim| sim.state() == State::Stuck), "{step}: {}", sim.log().join("\n"));
        let incident = sim.app().ledger().incident.clone().unwrap();
        let (words, waits_for) = incident.stuck.unwrap();
        assert!(words.contains(step) && waits_for.contains(&incident.id) && waits_for.contains("retry"), "{words}; {waits_for}");
        assert_eq!(sim.effects(step), 0);
        sim.world.steps.get_mut(step).unwrap().refuse = false;
        let by = Actor { who: "alice".into(), reason: "mended".into() };
        sim.order(Order::Retry { incident: incident.id, by }).unwrap();
        assert_moved(&mut sim, &format!("{step} refused, then retried"));
    }
}

#[test]
fn a_lost_answer_or_request_is_no_second_effect() {
    for step in STEPS {
        for times in [1, 2] {
            let mut sim = outage();
            sim.world.steps.get_mut(step).unwrap().lose_answers = times;
            assert_moved(&mut sim, &format!("{times} answers of {step} lost"));
            let mut sim = outage();
            sim.world.steps.get_mut(step).unwrap().drop_requests = times;
            assert_moved(&mut sim, &format!("{times} requests of {step} dropped"));
            assert_eq!(sim.world.steps[step].applies, times + 1, "{step}");
        }
    }
}

#[test]
fn a_slow_step_is_waited_for() {
    for step in STEPS {
        for longer in [2, 4] {
            let mut sim = outage();
            sim.world.steps.get_mut(step).unwrap().takes += longer * SECOND;
            assert_moved(&mut sim, &format!("{step} takes {longer}s longer"));
        }
    }
}
