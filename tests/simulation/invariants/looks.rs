//! What has to have been seen before it was decided on.

use std::time::Duration;

use watchover::domain::ledger::{Entry, GateState, Record};
use watchover::domain::model::{Direction, Moment, SiteName, State, Subject, Trigger, Verdict};
use watchover::domain::policy::AppPolicy;

use super::Checked;
use crate::stage::{Seen, Stage};

/// The looks at a site that were known when the row was written, in the boot that wrote it and as they were sent: whoever wakes from a pause may
/// decide before the answers that came meanwhile are read, in the same instant.
fn looks_before<'a>(stage: &'a Stage, site: SiteName, row: &Record) -> Vec<&'a Seen> {
    let subject = Some(Subject::Signal(site, 0));
    let known = |look: &Seen| look.done < row.at.mono || (look.done == row.at.mono && look.rows < row.seq);
    let mut looks: Vec<&Seen> = stage.seen.iter().filter(|look| look.is_of(subject, row) && known(look)).collect();
    looks.sort_by_key(|look| look.sent);
    looks
}

/// 2. An outage starts with a look that failed, is confirmed by as many as the signal needs, and moves only if somebody
///    else answered us since.
pub fn never_on_ignorance(stage: &Stage, policy: &AppPolicy, from: usize) -> Checked {
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
        // Of looks there are only more with time: what was seen for an older row is seen still.
        let judged = one_boot && place >= from;
        match &row.entry {
            Entry::Opened { trigger: Trigger::Outage, direction, first_failed, .. } => {
                if let (Some(at), true) = (first_failed, judged) {
                    holds!(was(&[source(*direction)], down, at.mono, at.mono), "never-on-ignorance: an outage without a failed look");
                }
                open = Some((*direction, *first_failed));
            }
            Entry::Confirmed { first_failed, .. } => {
                if let Some((direction, at)) = &mut open {
                    if judged {
                        let seen = was(&[source(*direction)], down, first_failed.mono, first_failed.mono);
                        holds!(seen, "never-on-ignorance: confirmed by no look");
                        confirmed_by_looks(stage, policy, *direction, row)?;
                    }
                    *at = Some(*first_failed);
                }
            }
            Entry::Commanded { .. } | Entry::Closed { .. } => open = None,
            Entry::Planned { .. } => {
                if let (Some((direction, Some(first_failed))), true) = (&open, judged) {
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
    let mut looks = looks_before(stage, direction.source(), row);
    // A rate is that of the last look, whatever it said.
    let span = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
    let from = looks.last().map_or(row.at.mono, |last| last.sent).saturating_sub(span);
    looks.retain(|look| look.tells());
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

/// 2. An outage that ends by itself ends with looks that were answered well: as many in a row as a site needs to be up again,
///    or one where nothing was confirmed yet; of which nothing is heard for a minute, nothing is suspected any more.
pub fn recovered(stage: &Stage, policy: &AppPolicy, from: usize) -> Checked {
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
                let mut looks = looks_before(stage, direction.source(), row);
                looks.retain(|look| look.tells());
                let life = looks.last().map(|look| look.life);
                let good = looks.iter().rev().take_while(|look| Some(look.life) == life && look.verdict == Verdict::Up).count();
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

/// 3. Before each promotion and each move of users stands a second look of that very instant, with open gates and a target
///    that was seen well; and before a fence, if the move was decided a while ago and nothing final was asked for since.
pub fn permitted(stage: &Stage, policy: &AppPolicy, from: usize) -> Checked {
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
            let looks = looks_before(stage, target, row);
            let fall = policy.site(target).signals[0].fall as usize;
            let well = looks.iter().rev().take(fall).any(|look| look.verdict == Verdict::Up);
            holds!(well, "second-look: {step} towards a {target} that has not answered well for {fall} looks");
        }
    }
    Ok(())
}

/// A site that has failed at seven looks of ten for two windows is known to be lost, however its good looks are spread: words, if
/// its app merely suspects it still.
pub fn undecided(stage: &Stage, policy: &AppPolicy, now: i64) -> Option<String> {
    let opened = stage.rows.iter().rposition(|row| matches!(row.entry, Entry::Opened { .. }))?;
    let Entry::Opened { trigger: Trigger::Outage, direction, .. } = &stage.rows[opened].entry else { return None };
    let since = &stage.rows[opened..];
    // What begins anew is counted anew.
    let anew =
        |row: &&Record| matches!(row.entry, Entry::Opened { .. } | Entry::Started { .. } | Entry::Gap { .. } | Entry::ClockStepped { .. });
    let suspected = since.iter().all(|row| row.entry.leads(State::Suspect).is_none_or(|to| to == State::Suspect));
    let begun = since.iter().rfind(anew)?;
    let signal = &policy.site(direction.source()).signals[0];
    let window = signal.window?;
    let span = i64::try_from(window.span.as_micros()).unwrap_or(i64::MAX);
    let from = now - 2 * span;
    if !suspected || begun.at.mono > from {
        return None;
    }
    let subject = Some(Subject::Signal(direction.source(), 0));
    let looks: Vec<&Seen> =
        stage.seen.iter().rev().take_while(|look| look.done >= from).filter(|look| look.is_of(subject, begun)).collect();
    let ill = |from: i64, to: i64| {
        let part: Vec<&&Seen> = looks.iter().filter(|look| (from..to).contains(&look.sent)).collect();
        let failed = part.iter().filter(|look| matches!(look.verdict, Verdict::Down(_))).count();
        part.len() >= window.min_looks && failed * 10 >= part.len() * 7
    };
    let told = looks.iter().all(|look| look.tells());
    (told && ill(from, now - span) && ill(now - span, now))
        .then(|| format!("suspected since {:.1}s, though most looks fail", begun.at.mono as f64 / 1e6))
}
