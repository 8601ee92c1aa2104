//! When two situations are the same one. What is left out here is what does not change which events matter; the first
//! situation of a kind that the walk meets stands for all of its kind.

use watchover::domain::gates::NAMES;
use watchover::domain::health::SignalHealth;
use watchover::domain::ledger::{GateState, Incident, StepState};
use watchover::domain::model::{Direction, Health, State, Trigger};
use watchover::domain::moving::{Doing, LAST_LOOK};
use watchover::domain::plan::PlannedStep;
use watchover::domain::policy::SignalPolicy;
use watchover::domain::quorum::{self, Point};

use super::spot::{Spot, is_out};

/// How much makes a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grain {
    /// Of the steps of a move: their states, and what is out for them.
    Coarse,
    /// Also the attempts made, what was touched before, and each mixture of pause, command and shut gates.
    Fine,
}

/// What matters of a situation, packed.
pub type Key = Vec<u8>;

fn health(health: Health) -> u8 {
    match health {
        Health::Up => 0,
        Health::Down => 1,
        Health::Unknown => 2,
    }
}

/// How many gates are not open (two stand for more), which is the first, and what it says.
fn gates(spot: &Spot, direction: Direction) -> [u8; 2] {
    let (_, states) = spot.app.view(&spot.around, spot.now).states(direction, Point::Start);
    let closed = || states.iter().enumerate().filter(|(_, state)| **state != GateState::Open);
    let first = closed().next().map_or(0, |(at, state)| 1 + at as u8 * 2 + u8::from(*state == GateState::Asks));
    [closed().count().min(2) as u8, first]
}

/// The first of the gates that bind a final step, if one is shut.
fn binding(spot: &Spot, direction: Direction) -> u8 {
    let (_, states) = spot.app.view(&spot.around, spot.now).states(direction, Point::Start);
    let binds = |at: &usize| ["not-isolated", "target-healthy", "data-loss"].contains(&NAMES[*at]) && states[*at] != GateState::Open;
    (0..states.len()).find(binds).map_or(0, |at| at as u8)
}

/// How the site that would be left is: by its rule, and whether its latest looks contradict that.
fn source(spot: &Spot, direction: Direction) -> u8 {
    let (policy, signals) = (spot.app.policy().site(direction.source()), spot.app.signals(direction.source()));
    let wavers = quorum::wavers(policy, signals, spot.now);
    if wavers { 3 } else { health(spot.app.site(direction.source(), spot.now).health) }
}

/// Each of its signals: settled, and the latest look. Two signals of one kind may change places.
fn looks(spot: &Spot, direction: Direction) -> Key {
    let (policy, signals) = (spot.app.policy().site(direction.source()), spot.app.signals(direction.source()));
    let one = |(policy, signal): (&SignalPolicy, &SignalHealth)| {
        health(signal.health(policy, spot.now)) * 4 + signal.last().map_or(3, |last| health(last.verdict.health()))
    };
    let mut all: Key = policy.signals.iter().zip(signals).filter(|(policy, _)| policy.counts).map(one).collect();
    all.sort_unstable();
    all
}

/// The step's state (done is done, by itself or by a person's word), whether it was touched, and what is out for it.
fn steps(spot: &Spot, incident: &Incident, fine: bool, key: &mut Key) {
    let stuck = spot.app.ledger().state == State::Stuck;
    for (name, run) in &incident.steps {
        let state = match run.state {
            StepState::Skipped => StepState::Verified,
            // Only what was touched and is not put back yet counts any more.
            state if incident.calling_off.is_some() && !fine && state != StepState::Undone => StepState::Verified,
            state => state,
        };
        let goes_on = matches!(run.state, StepState::Running | StepState::Intended | StepState::Asked);
        let touched = run.touched && (fine || goes_on || run.state == StepState::Waiting || incident.calling_off.is_some());
        let most = incident.plan.as_ref().and_then(|plan| plan.step(name)).map_or(0, |step| step.attempts);
        let made = run.attempts.saturating_sub(run.turned_away).min(most) as u8;
        // Just after a standstill of ours a step whose time is over is looked at, not given up.
        let planned = incident.plan.as_ref().and_then(|plan| plan.step(name));
        let late = planned.zip(run.started).is_some_and(|(step, started)| {
            started.mono < spot.around.awake.mono
                && spot.now.since(started) >= step.deadline
                && spot.now.since(spot.around.awake) < LAST_LOOK
        });
        // What nothing takes back is given a moment to be seen, before it is asked for again.
        let rests = planned.is_some_and(PlannedStep::is_final) && run.rests_until(spot.now).is_some();
        let flags = u8::from(goes_on && late) << 3
            | u8::from(fine && goes_on && rests) << 4
            | u8::from(touched)
            | u8::from(fine && run.needs_person) << 1
            | u8::from(run.asks.is_some()) << 2;
        let out = match (spot.jobs.get(name).map(|job| job.on), spot.work.get(name).copied()) {
            (Some(Doing::Inspect), _) => 1,
            (Some(Doing::Apply), _) => 2,
            (Some(Doing::Verify), _) => 3,
            (Some(Doing::Undo), _) => 4,
            (None, Some("permit")) => 5,
            (None, Some(work)) if is_out(work) => 6,
            (None, _) => 0,
        };
        key.extend([state as u8, flags, if fine && goes_on && !stuck { made } else { 0 }, if fine || !stuck { out } else { out.min(1) }]);
    }
}

/// The situation's kind.
pub fn of(spot: &Spot, grain: Grain) -> Key {
    let fine = grain == Grain::Fine;
    let (app, ledger) = (&spot.app, spot.app.ledger());
    let direction = app.direction();
    let active = ledger.active.map_or(2, |site| site as u8);
    let mut key = vec![ledger.state as u8, direction as u8];
    let Some(open) = &ledger.incident else {
        key.extend([active, u8::from(ledger.paused.is_some()), u8::from(ledger.left.is_some())]);
        key.extend(looks(spot, direction));
        return key;
    };
    // 0: as seen; 1: it came back, and is not believed yet; 2: lost, and not believed yet; 3: lost.
    let door = match (open.front_door_lost.is_some(), app.front().lost.is_some()) {
        (false, false) => 0,
        (true, false) => 1,
        (false, true) => 2,
        (true, true) => 3,
    };
    let wish = open.wish.as_ref().map_or(0, |wish| 1 + u8::from(wish.force) + 2 * u8::from(wish.graceful));
    let kind = match (open.graceful(), open.commanded()) {
        (true, _) => 2,
        (false, commanded) => u8::from(commanded),
    };
    match ledger.state {
        State::Suspect | State::Confirmed | State::Held | State::AwaitingApproval => {
            key.extend([active, u8::from(open.trigger == Trigger::Outage), u8::from(open.approved), wish]);
        }
        _ => key.push(if fine || open.calling_off.is_none() { kind } else { 0 }),
    }
    match ledger.state {
        State::Watching => {}
        State::Suspect => {
            let (ruling, _) = app.view(&spot.around, spot.now).states(direction, Point::Start);
            key.extend(if fine || door == 0 { [ruling as u8, door] } else { [0, door] });
            key.push(u8::from(ledger.paused.is_some() && source(spot, direction) == health(Health::Down)));
            key.extend(looks(spot, direction));
        }
        State::Confirmed | State::Held | State::AwaitingApproval => {
            let gates = gates(spot, direction);
            let bits = [("mode", 2), ("data-loss", 4), ("cooldown", 8)];
            let unanswered: u8 = bits.iter().filter(|(gate, _)| open.unanswered.contains(*gate)).map(|(_, bit)| bit).sum();
            key.extend([u8::from(open.declined) + unanswered, source(spot, direction), u8::from(spot.work.get("") == Some(&"permit"))]);
            key.push(if gates[0] < 2 { door } else { 0 });
            // A state that is only passed through, unless the journal refuses what follows: its few situations are told apart.
            key.push(u8::from(ledger.state == State::Confirmed && ledger.paused.is_some()));
            key.extend(gates);
        }
        State::Moving => {
            let held = ledger.paused.is_some() && !open.despite_pause;
            key.extend([u8::from(open.calling_off.is_some()), u8::from(held && (fine || (kind == 0 && !open.is_committed())))]);
            let begun = open.steps.values().any(|run| run.touched);
            key.push(if begun || ledger.paused.is_some() || kind > 0 { 0 } else { door });
            steps(spot, open, fine, &mut key);
            if spot.work.values().any(|work| *work == "permit") {
                let (source, shut) = (source(spot, direction), binding(spot, direction));
                key.extend(if fine || shut == 0 { [source, shut] } else { [0, shut] });
            }
        }
        State::Proving => {
            let run = &app.front().run;
            let to_target = run.last().is_some_and(|(site, ..)| *site == direction.target());
            key.extend([if to_target { run.len().min(3) as u8 } else { 0 }, u8::from(open.authority_moved.is_some())]);
            key.extend([u8::from(open.old_site_seen.is_some()), u8::from(open.strays_since().is_some()), door]);
        }
        State::Stuck => {
            key.extend([u8::from(open.aborted), if open.aborted && kind == 0 { door } else { 0 }]);
            // Of an aborted move nothing goes on.
            if fine || !open.aborted {
                steps(spot, open, fine, &mut key);
            }
        }
    }
    key
}
