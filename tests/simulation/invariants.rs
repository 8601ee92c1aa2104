//! The invariants of the design as functions over what was left behind: rows, requests, looks, and the cloud's own truth.
//!
//! Each is named after what it guards; a violation names it first.

use std::collections::BTreeSet;

use watchover::domain::gates;
use watchover::domain::ledger::{Entry, GateState, Record, Ruling};
use watchover::domain::model::{Direction, Moment, Outcome, SiteName, Subject, Verdict};
use watchover::domain::policy::AppPolicy;
use watchover::runtime::control::fold;

use self::figures::figures;
pub use self::looks::undecided;
use self::looks::{never_on_ignorance, permitted, recovered};
use crate::stage::{Seen, Stage};

type Checked = Result<(), String>;

macro_rules! holds {
    ($what:expr, $($words:tt)+) => {
        if !$what {
            return Err(format!($($words)+));
        }
    };
}

mod figures;
mod looks;

/// All that can be judged while a history runs, after anything was written or asked for. `from`: rows before it were
/// judged already, and what they alone can break is not judged again.
pub fn running(stage: &Stage, policy: &AppPolicy, from: usize) -> Checked {
    one_writer(stage)?;
    order(stage)?;
    written_before_done(stage)?;
    inspected_first(stage)?;
    sizes_never_fall(stage)?;
    let new = |wanted: fn(&Entry) -> bool| stage.rows[from.min(stage.rows.len())..].iter().any(|row| wanted(&row.entry));
    if new(|entry| matches!(entry, Entry::Opened { .. } | Entry::Confirmed { .. } | Entry::Planned { .. })) {
        never_on_ignorance(stage, policy, from)?;
    }
    if new(|entry| matches!(entry, Entry::Planned { .. })) {
        no_way_back(stage)?;
        a_no_holds(&stage.rows)?;
        gates_open(&stage.rows)?;
        cooldown(&stage.rows, policy)?;
    }
    if new(|entry| matches!(entry, Entry::StepIntent { .. })) {
        permitted(stage, policy, from)?;
    }
    if new(|entry| matches!(entry, Entry::Closed { .. })) {
        figures(stage)?;
        recovered(stage, policy, from)?;
    }
    if new(|entry| matches!(entry, Entry::Stuck { .. })) {
        stuck_says_for_whom(&stage.rows)?;
    }
    epochs_rise(&stage.rows)
}

/// 1. A promotion takes effect once, and what AWS has accepted is not asked for again.
fn one_writer(stage: &Stage) -> Checked {
    for database in stage.world.databases() {
        holds!(database.promotions <= 1, "one-writer: {} was promoted {} times", database.id, database.promotions);
    }
    let again = stage.requests.iter().find(|request| request.again);
    again.map_or(Ok(()), |request| Err(format!("one-writer: {} was asked for again at {} ms", request.step, request.at)))
}

/// 4. Users follow the data; unless a person said to go on without it.
fn order(stage: &Stage) -> Checked {
    for request in stage.requests.iter().filter(|request| request.step == "traffic" && !request.promoted) {
        let before = &stage.rows[..request.rows];
        let skipped = before.iter().any(|row| matches!(&row.entry, Entry::StepSkipped { step, .. } if step == "promote"));
        // Undoing a move of users that a person wanted without the data is the same exception.
        holds!(skipped, "order: users were sent to a database that takes no writes, at {} ms", request.at);
    }
    Ok(())
}

/// 5. Whatever reaches the cloud has its intent on the disk before.
fn written_before_done(stage: &Stage) -> Checked {
    for request in &stage.requests {
        let rows = stage.rows[..request.rows].iter();
        let intent = rows.rev().find(|row| matches!(&row.entry, Entry::StepIntent { step, .. } if step == request.step));
        holds!(intent.is_some(), "written-before-done: {} reached the cloud at {} ms without an intent", request.step, request.at);
    }
    for step in crate::history::STEPS {
        let asked = stage.requests.iter().filter(|request| request.step == *step).count();
        let intents = stage.rows.iter().filter(|row| matches!(&row.entry, Entry::StepIntent { step: of, .. } if of == step)).count();
        let undone = stage.rows.iter().filter(|row| matches!(&row.entry, Entry::CallingOff { .. })).count();
        // An undo writes its result alone; it may be tried several times.
        holds!(asked <= intents || undone > 0, "written-before-done: {asked} requests of {step} with {intents} intents");
    }
    Ok(())
}

/// 6. A life that asks for something has looked at it before.
fn inspected_first(stage: &Stage) -> Checked {
    for request in stage.requests.iter().filter(|request| !request.inspected) {
        let undoing = stage.rows[..request.rows].iter().rev().find_map(|row| match &row.entry {
            Entry::CallingOff { .. } => Some(true),
            Entry::Planned { .. } => Some(false),
            _ => None,
        });
        holds!(undoing == Some(true), "resume: {} was asked for at {} ms by a life that had not inspected it", request.step, request.at);
    }
    Ok(())
}

/// 7. The way back is a person's command.
fn no_way_back(stage: &Stage) -> Checked {
    let mut commanded = false;
    for row in &stage.rows {
        match &row.entry {
            Entry::Commanded { .. } => commanded = true,
            Entry::Closed { .. } => commanded = false,
            Entry::Planned { plan } if plan.direction == Direction::ToPrimary => {
                holds!(commanded, "no-way-back: a way back that nobody commanded");
            }
            _ => {}
        }
    }
    Ok(())
}

/// A no stands until a person says yes, or the outage is another; what nobody answered is not asked again.
fn a_no_holds(rows: &[Record]) -> Checked {
    let (mut declined, mut unheard) = (false, BTreeSet::new());
    for row in rows {
        match &row.entry {
            Entry::Declined { unanswered, .. } => {
                declined |= unanswered.is_empty();
                unheard.extend(unanswered);
            }
            Entry::Approved { .. } | Entry::Commanded { .. } | Entry::Closed { .. } => (declined, unheard) = (false, BTreeSet::new()),
            Entry::Planned { .. } => holds!(!declined, "a-no-holds: a declined move went on"),
            Entry::Gated { ruling: Ruling::Ask, gates, .. } => {
                let again = gates.iter().find(|gate| gate.state == GateState::Asks && unheard.contains(&gate.name));
                holds!(again.is_none(), "a-no-holds: what nobody answered was asked again: {again:?}");
            }
            _ => {}
        }
    }
    Ok(())
}

/// 3. Right before each plan stands the evaluation that let it go, with every gate in it, open.
fn gates_open(rows: &[Record]) -> Checked {
    for (at, row) in rows.iter().enumerate().filter(|(_, row)| matches!(row.entry, Entry::Planned { .. })) {
        let Some(before) = at.checked_sub(1).map(|at| &rows[at]) else { return Err("gates: planned first of all".into()) };
        let Entry::Gated { ruling: Ruling::Go, gates, .. } = &before.entry else {
            return Err(format!("gates: planned after {}", before.entry.kind()));
        };
        holds!(before.at == row.at, "gates: evaluated in another instant");
        holds!(gates.iter().map(|gate| gate.name.as_str()).eq(gates::NAMES.iter().copied()), "gates: not all of them");
        holds!(gates.iter().all(|gate| gate.state == GateState::Open), "gates: went with {gates:?}");
    }
    Ok(())
}

/// A move soon after another needs a person, also if the other was called off; if anything was asked for in it.
fn cooldown(rows: &[Record], policy: &AppPolicy) -> Checked {
    let (mut last, mut by_person, mut asked) = (None, false, false);
    for row in rows {
        match &row.entry {
            Entry::Opened { .. } => (by_person, asked) = (false, false),
            Entry::StepIntent { .. } => asked = true,
            Entry::Commanded { .. } | Entry::Approved { .. } => by_person = true,
            Entry::Closed { outcome, .. } if asked || matches!(outcome, Outcome::Moved | Outcome::Returned) => {
                last = Some((row.at, row.boot_id.clone()));
            }
            Entry::Planned { .. } => {
                if let Some((ended, boot)) = &last
                    && *boot == row.boot_id
                {
                    let soon = row.at.since(*ended) < policy.cooldown;
                    holds!(!soon || by_person, "cooldown: a move {:?} after the last one, by itself", row.at.since(*ended));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Each start raises the epoch, and no row carries an older one than the row before it.
fn epochs_rise(rows: &[Record]) -> Checked {
    let mut last = 0;
    for row in rows {
        holds!(row.epoch >= last, "epoch: {} after {last} at row {}", row.epoch, row.seq);
        holds!(!matches!(row.entry, Entry::Started { .. }) || row.epoch > last, "epoch: a start without a rise at row {}", row.seq);
        last = row.epoch;
    }
    Ok(())
}

/// A site that answers behind the move that left it is told of: what it takes the new one lacks, and nobody else looks.
pub fn strays_are_told(stage: &Stage) -> Checked {
    let moved = |row: &Record| matches!(row.entry, Entry::Closed { outcome: Outcome::Moved, active: Some(SiteName::Standby), .. });
    let Some(end) = stage.rows.iter().rposition(moved) else { return Ok(()) };
    let closed = &stage.rows[end];
    let asked = |row: &Record| row.incident == closed.incident && matches!(&row.entry, Entry::StepIntent { step, .. } if step == "promote");
    let told = |row: &Record| matches!(&row.entry, Entry::OldSiteSeen { incident, .. } if Some(incident) == closed.incident.as_ref());
    // What a person says of the sites, another move, a lost journal and another clock change what is known of it.
    let changed = stage.rows[end + 1..].iter().any(|row| matches!(row.entry, Entry::Active { .. } | Entry::Opened { .. }))
        || ["journal-lost", "clock-step", "machine-rebooted"].iter().any(|name| stage.coverage.had_fault(name));
    if changed || !stage.rows.iter().any(asked) {
        return Ok(());
    }
    let of_old = |look: &&Seen| matches!(look.subject, Some(Subject::Signal(SiteName::Primary, _))) && look.sent > closed.at.mono;
    let answers = stage.seen.iter().filter(of_old).max_by_key(|look| look.done).is_some_and(|look| look.verdict == Verdict::Up);
    holds!(!answers || stage.rows.iter().any(told), "strays: the primary answers behind the move, and nobody says so");
    Ok(())
}

/// A step of capacity never lowers a size.
fn sizes_never_fall(stage: &Stage) -> Checked {
    for event in stage.world.events().iter().filter(|event| event.kind == "group-size" && event.subject == "shop-standby") {
        let fell = event.detail.split(' ').filter_map(|word| word.split_once('→')).any(|(was, is)| {
            match (was.parse::<u32>(), is.parse::<u32>()) {
                (Ok(was), Ok(is)) => is < was,
                _ => false,
            }
        });
        holds!(!fell, "capacity: a size fell: {}", event.detail);
    }
    Ok(())
}

/// 8. A stuck incident names what is wrong and what would help.
fn stuck_says_for_whom(rows: &[Record]) -> Checked {
    for row in rows {
        if let Entry::Stuck { words, waits_for } = &row.entry {
            holds!(!words.is_empty() && !waits_for.is_empty(), "stuck: without a word");
        }
    }
    Ok(())
}

/// The journal read from scratch, as it is when one starts at that moment, is the state that lived: nothing is known that
/// is not written.
pub fn journal_is_the_state(stage: &Stage, boot: &str, born: Moment, lived: Option<&watchover::domain::ledger::Ledger>) -> Checked {
    let folded = fold(&stage.rows, boot, born).map_err(|error| format!("journal: {error}"))?;
    if let Some(lived) = lived {
        let read = folded.get("shop").cloned().unwrap_or_default();
        holds!(read == *lived, "journal: it says {read:?}, the daemon knew {lived:?}");
    }
    Ok(())
}
