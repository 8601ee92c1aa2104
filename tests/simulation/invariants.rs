//! The invariants of the design as functions over what was left behind: rows, requests, looks, and the cloud's own truth.
//!
//! Each is named after what it guards; a violation names it first.

use std::time::Duration;

use watchover::domain::decide::PROOF;
use watchover::domain::gates;
use watchover::domain::ledger::{Entry, GateState, Record, Ruling};
use watchover::domain::model::{Direction, Moment, Outcome, SiteName, Subject, Trigger, Verdict};
use watchover::domain::policy::AppPolicy;
use watchover::domain::rpo::{Assumption, Exposure};
use watchover::lab::world as lab;
use watchover::runtime::control::fold;

use crate::stage::{Seen, Stage};

type Checked = Result<(), String>;

macro_rules! holds {
    ($what:expr, $($words:tt)+) => {
        if !$what {
            return Err(format!($($words)+));
        }
    };
}

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

/// 2. An outage starts with a look that failed, is confirmed by as many as the signal needs, and moves only if somebody
///    else answered us since.
fn never_on_ignorance(stage: &Stage, policy: &AppPolicy, from: usize) -> Checked {
    let was = |subjects: &[Option<Subject>], good: fn(&Verdict) -> bool, from: i64, to: i64| {
        stage.seen.iter().any(|look| subjects.contains(&look.subject) && good(&look.verdict) && (from..=to).contains(&look.sent))
    };
    let source = |direction: Direction| Some(Subject::Signal(direction.source(), 0));
    let down: fn(&Verdict) -> bool = |verdict| matches!(verdict, Verdict::Down(_));
    let up: fn(&Verdict) -> bool = |verdict| *verdict == Verdict::Up;
    let mut open: Option<(Direction, Option<Moment>)> = None;
    let mut boots = stage.rows.iter().map(|row| row.boot_id.as_str());
    let first = boots.next();
    // Monotonic time of another boot compares with nothing here.
    let one_boot = boots.all(|boot| Some(boot) == first);
    for (place, row) in stage.rows.iter().enumerate() {
        match &row.entry {
            Entry::Opened { trigger: Trigger::Outage, direction, first_failed, .. } => {
                if let (Some(at), true) = (first_failed, one_boot) {
                    holds!(was(&[source(*direction)], down, at.mono, at.mono), "never-on-ignorance: an outage without a failed look");
                }
                open = Some((*direction, *first_failed));
            }
            Entry::Confirmed { first_failed, .. } => {
                if let Some((direction, at)) = &mut open {
                    if one_boot {
                        let seen = was(&[source(*direction)], down, first_failed.mono, first_failed.mono);
                        holds!(seen, "never-on-ignorance: confirmed by no look");
                        if place >= from {
                            confirmed_by_looks(stage, policy, *direction, row)?;
                        }
                    }
                    *at = Some(*first_failed);
                }
            }
            Entry::Commanded { .. } | Entry::Closed { .. } => open = None,
            Entry::Planned { .. } => {
                if let (Some((direction, Some(first_failed))), true) = (&open, one_boot) {
                    let others = [None, Some(Subject::Signal(direction.target(), 0))];
                    let answered = was(&others, up, first_failed.mono, row.at.mono);
                    holds!(answered, "never-on-ignorance: moved while nobody at all answered us");
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// 2. What is confirmed was down as often as its signal needs, and when it was last seen; or for so long that a rate tells.
fn confirmed_by_looks(stage: &Stage, policy: &AppPolicy, direction: Direction, row: &Record) -> Checked {
    let signal = &policy.site(direction.source()).signals[0];
    let span = signal.window.map_or(Duration::ZERO, |window| window.span);
    let from = (row.at - span).mono;
    let subject = Some(Subject::Signal(direction.source(), 0));
    let told = |look: &&Seen| look.is_of(subject, row) && look.done <= row.at.mono && !matches!(look.verdict, Verdict::Unknown(_));
    let mut looks: Vec<&Seen> = stage.seen.iter().filter(told).collect();
    looks.sort_by_key(|look| look.sent);
    // A run lasts until a good look ends it, however long nothing is seen meanwhile.
    let run = looks.iter().rev().take_while(|look| look.verdict != Verdict::Up).count();
    looks.retain(|look| look.sent >= from);
    let failed = looks.iter().filter(|look| look.verdict != Verdict::Up).count().max(run);
    holds!(failed >= signal.fall as usize, "never-on-ignorance: confirmed by {failed} failed looks");
    let ill = run > 0;
    let rated = signal.window.is_some_and(|window| looks.len() >= window.min_looks);
    holds!(ill || rated, "never-on-ignorance: confirmed, and well when it was last seen");
    Ok(())
}

/// 2. An outage that ends by itself ends with looks that were answered well: as many as a site needs to be up again, or one
///    where nothing was confirmed yet; of which nothing is heard for a minute, nothing is suspected any more.
fn recovered(stage: &Stage, policy: &AppPolicy, from: usize) -> Checked {
    let (mut open, mut confirmed): (Option<(Direction, &Record)>, bool) = (None, false);
    for (at, row) in stage.rows.iter().enumerate() {
        match &row.entry {
            Entry::Opened { trigger: Trigger::Outage, direction, .. } => (open, confirmed) = (Some((*direction, row)), false),
            Entry::Confirmed { .. } => confirmed = true,
            // It was no outage: the other site is the active one, by what the plan's own inspections say.
            Entry::Closed { .. } if matches!(stage.rows.get(at + 1), Some(Record { entry: Entry::Active { .. }, .. })) => open = None,
            Entry::Opened { .. } | Entry::Planned { .. } => open = None,
            Entry::Closed { by: None, .. } => {
                let Some((direction, opened)) = open.take().filter(|(_, opened)| at >= from && opened.boot_id == row.boot_id) else {
                    continue;
                };
                let subject = Some(Subject::Signal(direction.source(), 0));
                let good = |look: &&Seen| look.is_of(subject, row) && look.verdict == Verdict::Up && look.done <= row.at.mono;
                let good = stage.seen.iter().filter(good).filter(|look| look.sent >= opened.at.mono).count();
                let forgot = stage
                    .rows
                    .iter()
                    .filter(|row| matches!(row.entry, Entry::Started { .. } | Entry::Gap { .. } | Entry::ClockStepped { .. }));
                let awake = forgot.filter(|other| other.seq < row.seq).map(|row| row.at).next_back().unwrap_or_default();
                if !confirmed && row.at.since(opened.at.max(awake)).as_secs() >= 60 {
                    continue;
                }
                let needed = if confirmed { policy.site(direction.source()).signals[0].rise as usize } else { 1 };
                holds!(good >= needed, "never-on-ignorance: an outage ended by {good} good looks");
            }
            Entry::Closed { .. } => open = None,
            _ => {}
        }
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

/// A no stands until a person says yes, or the outage is another.
fn a_no_holds(rows: &[Record]) -> Checked {
    let mut declined = false;
    for row in rows {
        match &row.entry {
            Entry::Declined { .. } => declined = true,
            Entry::Approved { .. } | Entry::Commanded { .. } | Entry::Closed { .. } => declined = false,
            Entry::Planned { .. } => holds!(!declined, "a-no-holds: a declined move went on"),
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

/// 3. Before each promotion and each move of users stands a second look of that very instant, with open gates and a target
///    that was seen well; and before a fence, if the move was decided a while ago and nothing final was asked for since.
fn permitted(stage: &Stage, policy: &AppPolicy, from: usize) -> Checked {
    let rows = &stage.rows;
    let (mut planned, mut committed, mut target): (Option<&Record>, bool, SiteName) = (None, false, SiteName::Standby);
    for (at, row) in rows.iter().enumerate() {
        let Entry::StepIntent { step, .. } = &row.entry else {
            if let Entry::Planned { plan } = &row.entry {
                (planned, committed, target) = (Some(row), false, plan.direction.target());
            }
            continue;
        };
        let old = planned.is_some_and(|planned| planned.boot_id == row.boot_id && row.at.since(planned.at).as_secs() > 2);
        if matches!(step.as_str(), "promote" | "traffic" | "back") {
            planned = None;
        } else if step != "fence" || !old {
            continue;
        }
        let looked = at.checked_sub(1).map(|at| &rows[at]).filter(|before| before.at == row.at);
        let gates = looked.and_then(|before| match &before.entry {
            Entry::StepPermitted { step: of, gates } if of == step => Some(gates),
            _ => None,
        });
        let Some(gates) = gates else { return Err(format!("second-look: {step} was intended without one")) };
        holds!(gates.iter().all(|gate| gate.state == GateState::Open), "second-look: {step} in spite of {gates:?}");
        // The loss was judged before the first promotion: what is asked for cannot lose more.
        let needed = ["not-isolated", "target-healthy", "lease"].into_iter().chain((!committed).then_some("data-loss"));
        for name in needed {
            holds!(gates.iter().any(|gate| gate.name == name), "second-look: {step} without the gate {name}");
        }
        committed |= step == "promote";
        if at >= from && matches!(step.as_str(), "traffic" | "back") {
            let fall = policy.site(target).signals[0].fall as usize;
            let subject = Some(Subject::Signal(target, 0));
            let mut looks: Vec<&Seen> = stage.seen.iter().filter(|look| look.is_of(subject, row) && look.done <= row.at.mono).collect();
            looks.sort_by_key(|look| look.done);
            let well = looks.is_empty() || looks.iter().rev().take(fall + 1).any(|look| look.verdict == Verdict::Up);
            holds!(well, "second-look: {step} towards a {target} that was seen ill");
        }
    }
    Ok(())
}

/// A move soon after another needs a person, also if the other was called off.
fn cooldown(rows: &[Record], policy: &AppPolicy) -> Checked {
    let (mut last, mut by_person, mut planned) = (None, false, false);
    for row in rows {
        match &row.entry {
            Entry::Opened { .. } => by_person = false,
            Entry::Commanded { .. } | Entry::Approved { .. } => by_person = true,
            Entry::Closed { .. } if planned => (last, planned) = (Some((row.at, row.boot_id.clone())), false),
            Entry::Planned { .. } => {
                planned = true;
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

/// 10. The phases are the whole; the clock starts at the failed look; the loss is at least the true one.
fn figures(stage: &Stage) -> Checked {
    let (mut first_failed, mut commanded): (Option<Moment>, bool) = (None, false);
    let mut boots: Vec<&str> = Vec::new();
    for row in &stage.rows {
        boots.push(row.boot_id.as_str());
        match &row.entry {
            Entry::Opened { .. } => (first_failed, commanded) = (None, false),
            Entry::Commanded { .. } => commanded = true,
            Entry::Confirmed { first_failed: at, .. } => first_failed = Some(*at),
            Entry::Closed { figures, active, .. } => {
                let Some(total) = figures.rto_seconds else { continue };
                let sum: f64 = figures.phases.values().sum();
                let whole = (sum - total).abs() < 1e-6 && figures.phases.values().all(|seconds| *seconds >= 0.0);
                holds!(whole, "figures: {total} is not the sum of {:?}", figures.phases);
                let one_boot = boots.iter().all(|boot| *boot == row.boot_id);
                if let (Some(at), false, true) = (first_failed, commanded, one_boot) {
                    earliest(stage, active.map_or(SiteName::Primary, other), at, row)?;
                    let since = row.at.since(at).as_secs_f64();
                    let began = total <= since + 1e-6;
                    holds!(began, "figures: RTO {total} where {since} passed since the failed look");
                    // The clock stops with the first of a row of good answers of the front door, and with nothing else.
                    let end = at.mono + (total * 1e6) as i64;
                    let front = stage.seen.iter().filter(|look| look.is_of(Some(Subject::FrontDoor), row));
                    let mut told: Vec<_> = front.filter(|look| !matches!(look.verdict, Verdict::Unknown(_))).collect();
                    told.sort_by_key(|look| look.sent);
                    let first = told.iter().position(|look| look.verdict == Verdict::Up && (look.done - end).abs() <= 1);
                    let served = first.is_some_and(|first| told[first..].iter().take(PROOF).all(|look| look.verdict == Verdict::Up));
                    holds!(served, "figures: RTO {total} ends where nobody was answered at the front door");
                }
                if *active == Some(SiteName::Standby)
                    && let Some(exposure) = &figures.rpo
                {
                    loss(stage, exposure)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn other(site: SiteName) -> SiteName {
    if site == SiteName::Primary { SiteName::Standby } else { SiteName::Primary }
}

/// Whoever looked at that site right before, and was not told `unknown`, was answered well: the clock begins with the
/// first failed look of its row. What an earlier life saw and did not write is lost with it; what was counted before a
/// standstill, a step of the clock or the undoing of our own fence is forgotten, and a row says so if the disk takes one.
fn earliest(stage: &Stage, site: SiteName, first_failed: Moment, closed: &Record) -> Checked {
    let of_site = |look: &&Seen| look.is_of(Some(Subject::Signal(site, 0)), closed) && !matches!(look.verdict, Verdict::Unknown(_));
    let Some(first) = stage.seen.iter().filter(of_site).find(|look| look.sent == first_failed.mono) else { return Ok(()) };
    let before =
        stage.seen.iter().filter(of_site).filter(|look| look.life == first.life && look.sent < first.sent).max_by_key(|look| look.sent);
    let forgot = |row: &Record, from: i64| {
        let forgets = matches!(&row.entry, Entry::Gap { .. } | Entry::ClockStepped { .. })
            || matches!(&row.entry, Entry::StepUndone { step, .. } if step == "fence");
        forgets && (from..=first.done).contains(&row.at.mono)
    };
    let full = stage.coverage.count("fault disk-full") > 0;
    let well = full || before.is_none_or(|look| look.verdict == Verdict::Up || stage.rows.iter().any(|row| forgot(row, look.sent)));
    holds!(well, "figures: the clock begins at {}, and the look before it had failed as well", first_failed.mono);
    Ok(())
}

/// Of the writes up to the stated end of writes, none lies further back than the reported loss; and behind a proven
/// fence there is none at all (invariant 10).
fn loss(stage: &Stage, exposure: &Exposure) -> Checked {
    let (Some(reported), Some(truth)) = (exposure.seconds, stage.world.true_loss()) else { return Ok(()) };
    // A clock that was stepped tells another time than the cloud's.
    if stage.coverage.count("fault clock-step") > 0 {
        return Ok(());
    }
    let at = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    let end = (exposure.end_of_writes - stage.birth()) / 1_000;
    let missing = stage.world.acks().iter().filter(|ack| ack.site == lab::SiteName::Primary && at(ack.at_ms) > truth.held_until_ms);
    // What somebody starts again behind the fence writes until it is seen: then it is told (`old-site-seen`).
    let sizes = stage.world.events().iter().filter(|event| event.kind == "group-size" && event.subject == "shop-primary");
    let again = sizes.map(|event| at(event.at_ms)).any(|at| at > end);
    for ack in missing {
        if exposure.assumption == Assumption::FenceProven && !again {
            holds!(at(ack.at_ms) <= end, "figures: a write at {} ms behind the fence proven at {end} ms", ack.at_ms);
        }
        let back = (at(ack.at_ms) - truth.held_until_ms) as f64 / 1e3;
        let told = at(ack.at_ms) > end || back <= reported + 1e-3;
        holds!(told, "figures: reported loss {reported} until {end} ms, but a write at {} ms lies {back}s back", ack.at_ms);
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
        || ["journal-lost", "clock-step", "machine-rebooted"].iter().any(|name| stage.coverage.count(&format!("fault {name}")) > 0);
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
