//! Incidents as text: prose, events with times, the expected log; replayed in virtual time.
//!
//! `RECORD=1 cargo test --test scenarios` writes the logs anew; a diff is understood before it is committed.

#![expect(clippy::unwrap_used, reason = "what fails here must fail the test")]

#[path = "sim/acceptance.rs"]
mod acceptance;
mod sim;

use std::path::{Path, PathBuf};
use std::time::Duration;

use sim::{Answer, SECOND, Sim, WorldStep, by};
use watchover::domain::ledger::{Entry, Wish, step_of};
use watchover::domain::model::{Cause, Mode, SiteName};
use watchover::domain::orders::Order;
use watchover::domain::plan::{Class, OnFailure, PlannedStep, Repeat, Reversibility};
use watchover::domain::policy::{AppPolicy, DownWhen, OnRpoExceeded, Required, SignalPolicy};

#[test]
fn every_scenario_ends_as_it_says() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios");
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "txt"))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    // Each file has a world of its own: two at a time, because days of simulated time add up. The first that is wrong
    // tells enough; all that changes is seen in what `RECORD=1` writes.
    let (left, right): (Vec<_>, Vec<_>) = files.iter().enumerate().partition(|(at, _)| at % 2 == 0);
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let halves = [left, right].map(|half| scope.spawn(move || half.into_iter().find_map(|(_, file)| judge(file))));
        halves.into_iter().filter_map(|half| half.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// What is wrong with a scenario, if anything is. Recording, its log is written anew instead.
fn judge(file: &Path) -> Option<String> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).unwrap();
    let (script, expected) = text.split_once("\nlog\n").unwrap_or((&text, ""));
    let id = file.file_stem().unwrap().to_string_lossy().split('-').next().unwrap_or_default().to_owned();
    if acceptance::IDS.contains(&id.as_str()) && !script.starts_with(&format!("# {id}: ")) {
        return Some(format!("{name}: its first line does not begin with \"# {id}: \""));
    }
    let log = replay(script, &name);
    if std::env::var_os("RECORD").is_some() {
        std::fs::write(file, format!("{}\n\nlog\n{log}", script.trim_end())).unwrap();
        return None;
    }
    (log.trim_end() != expected.trim_end()).then(|| format!("{name}\n--- expected\n{expected}\n--- got\n{log}"))
}

/// Runs a script: `# prose`, `set KEY VALUE` before anything, `at SECONDS EVENT…`, `until SECONDS`. A file that proves an
/// acceptance case begins with its ID.
fn replay(script: &str, name: &str) -> String {
    let mut policy = sim::policy();
    for line in script.lines().filter_map(|line| line.strip_prefix("set ")) {
        let (key, value) = line.split_once(' ').unwrap();
        let duration = || humantime::parse_duration(value).unwrap();
        match key {
            "mode" => policy.mode = Mode::parse(value).unwrap(),
            "traffic_is_autonomous" => policy.traffic_is_autonomous = value.parse().unwrap(),
            "rpo_objective" => policy.rpo_objective = duration(),
            "on_rpo_exceeded" => policy.on_rpo_exceeded = OnRpoExceeded::parse(value).unwrap(),
            "startup_grace" => policy.startup_grace = duration(),
            "cooldown" => policy.cooldown = duration(),
            "approval_timeout" => policy.approval_timeout = duration(),
            "move_timeout" => policy.move_timeout = duration(),
            "prove_timeout" => policy.prove_timeout = duration(),
            "interval" => {
                let signals = policy.primary.signals.iter_mut().chain(&mut policy.standby.signals);
                signals.for_each(|signal| signal.interval = duration());
                policy.front_door.interval = duration();
            }
            "min_outage" => policy.min_outage = duration(),
            "down_when" => {
                policy.primary.down_when = match value {
                    "all" => DownWhen::All,
                    "any" => DownWhen::Any,
                    least => DownWhen::AtLeast(least.parse().unwrap()),
                }
            }
            "standby_required" => policy.standby.signals[0].required = Required::parse(value).unwrap(),
            "second_signal" => {
                let deep = SignalPolicy { name: value.into(), ..policy.primary.signals[0].clone() };
                policy.primary.signals.push(deep);
            }
            // One of the AWS kinds: looked at every 15 s, also in doubt.
            "slow_signal" => {
                let (interval, timeout) = (Duration::from_secs(15), Duration::from_secs(5));
                let (name, kind) = (value.into(), "elb-target-health".into());
                let (fall, rise, window, quick) = (2, 1, None, policy.primary.signals[0].clone());
                let slow = SignalPolicy { name, kind, interval, fast_interval: interval, timeout, fall, rise, window, ..quick };
                policy.primary.signals.push(slow);
            }
            "without" => {
                policy.failover.steps.retain(|one| one.name != value);
                policy.failover.steps.iter_mut().for_each(|one| one.after.retain(|name| name != value));
            }
            "promote_deadline" => policy.failover.steps[1].deadline = duration(),
            other => panic!("{name}: unknown setting {other}"),
        }
    }
    let added = added_steps(script, &mut policy, name);
    let mut sim = Sim::new(policy);
    sim.world.steps.extend(added);
    let mut extra = Vec::new();
    for line in script.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["at", at, event @ ..] => {
                sim.run_until((at.parse::<f64>().unwrap() * 1e6) as i64);
                if let Some(words) = act(&mut sim, event, name) {
                    extra.push(format!("{at:>8} {words}"));
                }
            }
            ["until", at] => sim.run_until(at.parse::<i64>().unwrap() * SECOND),
            [] | ["#", ..] | ["set", ..] | ["add", ..] => {}
            _ => panic!("{name}: unknown line {line:?}"),
        }
    }
    let mut lines = sim.log();
    lines.extend(extra);
    let mut effects: Vec<String> = sim.world.steps.iter().map(|(name, step)| format!("{name} {}", step.effects)).collect();
    effects.sort();
    lines.push(format!(
        "         effects: {}; state {}, active {}",
        effects.join(", "),
        sim.state(),
        sim.app().ledger().active.map_or("unknown", SiteName::as_str)
    ));
    lines.join("\n") + "\n"
}

/// `add NAME approval|command|command-idempotent|pre|fence before STEP…`: a step more in the plan, that those wait for. It
/// starts at once, or `after STEP`; a deadline of its own follows as `deadline 30s`, what its failure means as
/// `on_failure continue`, and `reversible` where something takes it back.
fn added_steps(script: &str, policy: &mut AppPolicy, name: &str) -> Vec<(String, WorldStep)> {
    let mut added = Vec::new();
    for line in script.lines().filter_map(|line| line.strip_prefix("add ")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [step, kind, rest @ ..] = words.as_slice() else { panic!("{name}: unknown step {line:?}") };
        let mut planned = policy.failover.steps[0].clone();
        (planned.name, planned.kind, planned.class) = ((*step).into(), (*kind).into(), Class::Other);
        planned.region = policy.standby.region.clone();
        (planned.after, planned.deadline, planned.on_failure) = (Vec::new(), Duration::from_secs(60), OnFailure::Halt);
        planned.reversibility = if matches!(*kind, "pre" | "fence") { Reversibility::Reversible } else { Reversibility::ForwardOnly };
        planned.repeat = if *kind == "command-idempotent" { Repeat::AtLeastOnce } else { Repeat::Inspectable };
        let mut world = sim::World::step(SECOND);
        (world.asks, world.blind) = (*kind == "approval", !matches!(*kind, "approval" | "fence"));
        let mut rest = rest.iter();
        while let Some(word) = rest.next() {
            let mut value = || *rest.next().unwrap_or_else(|| panic!("{name}: {line:?} ends early"));
            match *word {
                "before" => {
                    for waits in value().split(',') {
                        let at = policy.failover.steps.iter().position(|one| one.name == waits).unwrap();
                        policy.failover.steps[at].after.push((*step).into());
                    }
                }
                "after" => planned.after.push(value().into()),
                "reversible" => planned.reversibility = Reversibility::Reversible,
                "deadline" => planned.deadline = humantime::parse_duration(value()).unwrap(),
                "on_failure" => planned.on_failure = OnFailure::parse(value()).unwrap(),
                other => panic!("{name}: unknown word {other:?} in {line:?}"),
            }
        }
        let behind = |one: &PlannedStep| planned.after.contains(&one.name);
        let at = policy.failover.steps.iter().rposition(behind).map_or(0, |at| at + 1);
        policy.failover.steps.insert(at, planned);
        added.push(((*step).into(), world));
    }
    added
}

fn answer(words: &[&str], name: &str) -> Answer {
    match words {
        ["up"] => Answer::Up,
        ["half"] => Answer::Half,
        ["mostly"] => Answer::Mostly,
        ["rarely"] => Answer::Rarely,
        ["down", cause] => Answer::Down(Cause::parse(cause).unwrap_or_else(|| panic!("{name}: {cause}"))),
        ["unknown", cause] => Answer::Unknown(Cause::parse(cause).unwrap_or_else(|| panic!("{name}: {cause}"))),
        other => panic!("{name}: no answer {other:?}"),
    }
}

fn act(sim: &mut Sim, event: &[&str], name: &str) -> Option<String> {
    let incident = |sim: &Sim| sim.app().ledger().incident.as_ref().map(|open| open.id.clone()).unwrap_or_default();
    let order = match event {
        ["primary", rest @ ..] => return set(&mut sim.world.primary, answer(rest, name)),
        ["standby", rest @ ..] => return set(&mut sim.world.standby, answer(rest, name)),
        ["witness", rest @ ..] => return set(&mut sim.world.witness, answer(rest, name)),
        ["replica", rest @ ..] => return set(&mut sim.world.replica, answer(rest, name)),
        ["deep", rest @ ..] => return set(&mut sim.world.deep, answer(rest, name)),
        ["preflight-takes", seconds] => return set(&mut sim.world.preflight_takes, micros(seconds)),
        ["lag", seconds] => return set(&mut sim.world.lag, seconds.parse().unwrap()),
        ["no-samples"] => return set(&mut sim.world.lag_stops, true),
        ["step", step, event @ ..] => {
            step_event(sim.world.steps.get_mut(*step).unwrap_or_else(|| panic!("{name}: no step {step:?}")), event, name);
            return None;
        }
        ["late-answer", step] => {
            sim.late_answer(step);
            return None;
        }
        ["journal", "hangs", seconds] => {
            sim.journal.hangs.store(micros(seconds), std::sync::atomic::Ordering::SeqCst);
            return None;
        }
        ["clock-steps", seconds] => {
            sim.step_clock(seconds.parse().unwrap());
            return None;
        }
        ["machine-paused", seconds] => {
            sim.pause_machine(seconds.parse().unwrap());
            return None;
        }
        ["reload", "mode", mode] => {
            sim.policy.mode = Mode::parse(mode).unwrap();
            sim.reload();
            return None;
        }
        ["reload", "fall", fall] => {
            sim.policy.primary.signals[0].fall = fall.parse().unwrap();
            sim.reload();
            return None;
        }
        ["reload", "without", step] => {
            sim.policy.failover.steps.retain(|one| one.name != *step);
            sim.policy.failover.steps.iter_mut().for_each(|one| one.after.retain(|name| name != step));
            sim.reload();
            return None;
        }
        ["reload", "refused"] => {
            sim.reload_refused();
            return None;
        }
        // Its request is on the way by then, and arrives all the same.
        ["kill-after", kind, step] => {
            let is_it = |entry: &Entry| entry.kind() == *kind && step_of(entry) == Some(*step);
            assert!(sim.run_till(60.0, |sim| sim.records().last().is_some_and(|row| is_it(&row.entry))), "{name}: no {kind} {step}");
            sim.kill();
            return None;
        }
        ["journal", "full"] => {
            sim.journal.full.store(true, std::sync::atomic::Ordering::SeqCst);
            return None;
        }
        ["journal", "mended"] => {
            sim.journal.full.store(false, std::sync::atomic::Ordering::SeqCst);
            return None;
        }
        ["gate", gate] => return Some(sim.gate(gate)),
        ["others-could", "move"] => {
            return set(&mut sim.world.autonomous, Ok(vec!["record shop A [primary]: its check can take it away".into()]));
        }
        ["others-could", "nothing"] => return set(&mut sim.world.autonomous, Ok(Vec::new())),
        ["others-could", "unread"] => return set(&mut sim.world.autonomous, Err("no answer in time".into())),
        ["ask-authority"] => {
            sim.ask_authority();
            return None;
        }
        ["others-move", site] => {
            let now = sim.now();
            return set(&mut sim.world.others, Some((SiteName::parse(site).unwrap(), now)));
        }
        ["others-leave"] => return set(&mut sim.world.others, None),
        ["kill"] => {
            sim.kill();
            return None;
        }
        ["boot"] => {
            sim.boot();
            return None;
        }
        ["reboot"] => {
            sim.reboot();
            return None;
        }
        ["stop-for", seconds] => {
            sim.stand_still(seconds.parse().unwrap());
            return None;
        }
        ["failover", rest @ ..] => {
            let accept_loss =
                rest.iter().position(|word| *word == "accept").map(|at| humantime::parse_duration(rest[at + 1]).unwrap().as_secs_f64());
            let wish =
                Wish { by: by("drill"), accept_loss, shown: None, force: rest.contains(&"force"), graceful: rest.contains(&"graceful") };
            Order::Move { to: SiteName::Standby, wish }
        }
        ["approve", rest @ ..] => {
            let accept_loss = rest.first().map(|text| humantime::parse_duration(text).map_or(f64::INFINITY, |length| length.as_secs_f64()));
            Order::Approve { incident: incident(sim), by: by("go"), accept_loss }
        }
        ["decline"] => Order::Decline { incident: incident(sim), by: by("no") },
        ["retry"] => Order::Retry { incident: incident(sim), by: by("again") },
        ["skip", step] => Order::Skip { incident: incident(sim), step: (*step).into(), by: by("without it") },
        ["abort"] => Order::Abort { incident: incident(sim), by: by("stop") },
        ["adopt", site] => Order::Adopt { site: SiteName::parse(site).unwrap(), by: by("it is so") },
        ["pause", length] => Order::Pause { length: humantime::parse_duration(length).unwrap_or(Duration::ZERO), by: by("maintenance") },
        ["resume"] => Order::Resume { by: by("done") },
        other => panic!("{name}: unknown event {other:?}"),
    };
    sim.order(order).err().map(|refusal| {
        format!(
            "refused: {}",
            refusal.gates.iter().filter(|gate| gate.state.as_str() != "open").map(|gate| gate.name.as_str()).collect::<Vec<_>>().join(", ")
        )
    })
}

/// What becomes of a step in the world.
fn step_event(step: &mut WorldStep, event: &[&str], name: &str) {
    match event {
        ["silent"] => step.silent = true,
        ["refuses"] => step.refuse = true,
        ["denied"] => step.denied = true,
        ["mended"] => (step.silent, step.refuse, step.denied) = (false, false, false),
        ["loses-answers", times] => step.lose_answers = times.parse().unwrap(),
        ["loses-looks", times] => step.lose_looks = times.parse().unwrap(),
        ["drops-requests", times] => step.drop_requests = times.parse().unwrap(),
        ["looks-take", seconds] => step.look_takes = micros(seconds),
        ["throttles-looks", times] => step.throttle_looks = times.parse().unwrap(),
        ["throttles", times] => step.throttles = times.parse().unwrap(),
        ["hides", seconds] => step.hidden = micros(seconds),
        ["undo-fails", times] => step.undo_fails = times.parse().unwrap(),
        ["takes", seconds] => step.takes = micros(seconds),
        ["on"] => step.on = true,
        ["off"] => step.on = false,
        other => panic!("{name}: unknown event of a step {other:?}"),
    }
}

fn micros(seconds: &str) -> i64 {
    (seconds.parse::<f64>().unwrap() * 1e6) as i64
}

fn set<T>(slot: &mut T, value: T) -> Option<String> {
    *slot = value;
    None
}
