//! The figures of a move that has ended.

use watchover::domain::decide::PROOF;
use watchover::domain::ledger::{Entry, Record};
use watchover::domain::model::{Moment, SiteName, Subject, Verdict};
use watchover::domain::rpo::{Assumption, Exposure};
use watchover::lab::world as lab;

use super::Checked;
use crate::stage::{Seen, Stage};

/// 10. The phases are the whole; the clock starts at the failed look; the loss is at least the true one.
pub fn figures(stage: &Stage) -> Checked {
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
                    earliest(stage, active.map_or(SiteName::Primary, SiteName::other), at, row)?;
                    let since = row.at.since(at).as_secs_f64();
                    let began = total <= since + 1e-6;
                    holds!(began, "figures: RTO {total} where {since} passed since the failed look");
                    // The clock stops with the first of a row of good answers of the front door, and with nothing else.
                    let end = at.mono + (total * 1e6) as i64;
                    let front = stage.seen.iter().filter(|look| look.is_of(Some(Subject::FrontDoor), row));
                    let mut told: Vec<_> = front.filter(|look| look.tells()).collect();
                    told.sort_by_key(|look| look.sent);
                    let first = told.iter().position(|look| look.verdict == Verdict::Up && (look.done - end).abs() <= 1);
                    let served = first.is_some_and(|first| told[first..].iter().take(PROOF).all(|look| look.verdict == Verdict::Up));
                    holds!(served, "figures: RTO {total} ends where nobody was answered at the front door");
                }
                if *active == Some(SiteName::Standby)
                    && let Some(exposure) = &figures.rpo
                {
                    loss(stage, exposure)?;
                    end_of_writes(stage, exposure, row)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whoever looked at that site right before, and was not told `unknown`, was answered well: the clock begins with the
/// first failed look of its row. What an earlier life saw and did not write is lost with it; what was counted before a
/// standstill, a step of the clock or the undoing of our own fence is forgotten, and a row says so if the disk takes one.
fn earliest(stage: &Stage, site: SiteName, first_failed: Moment, closed: &Record) -> Checked {
    let of_site = |look: &&Seen| look.is_of(Some(Subject::Signal(site, 0)), closed) && look.tells();
    let Some(first) = stage.seen.iter().filter(of_site).find(|look| look.sent == first_failed.mono) else { return Ok(()) };
    let before =
        stage.seen.iter().filter(of_site).filter(|look| look.life == first.life && look.sent < first.sent).max_by_key(|look| look.sent);
    let forgot = |row: &Record, from: i64| {
        let forgets = matches!(&row.entry, Entry::Gap { .. } | Entry::ClockStepped { .. })
            || matches!(&row.entry, Entry::StepUndone { step, .. } if step == "fence");
        forgets && (from..=first.done).contains(&row.at.mono)
    };
    let full = stage.coverage.had_fault("disk-full");
    let well = full || before.is_none_or(|look| look.verdict == Verdict::Up || stage.rows.iter().any(|row| forgot(row, look.sent)));
    holds!(well, "figures: the clock begins at {}, and the look before it had failed as well", first_failed.mono);
    Ok(())
}

/// Writes that end with the front door end where it was seen lost: it has not answered from the old site since, and there is
/// no time since in which nobody watched it, until the data was asked for.
fn end_of_writes(stage: &Stage, exposure: &Exposure, closed: &Record) -> Checked {
    let another = ["clock-step", "machine-rebooted"].iter().any(|fault| stage.coverage.had_fault(fault));
    let asked =
        |row: &&Record| row.incident == closed.incident && matches!(&row.entry, Entry::StepIntent { step, .. } if step == "promote");
    let Some(asked) = stage.rows.iter().find(asked).filter(|_| exposure.assumption == Assumption::NoWritesPastFrontDoor && !another) else {
        return Ok(());
    };
    // By the clock of a row, which one boot has for all of its moments.
    let end = exposure.end_of_writes - asked.at.wall + asked.at.mono;
    let between = |at: i64| end < at && at < asked.at.mono;
    let away = |row: &&Record| between(row.at.mono) && matches!(row.entry, Entry::Started { .. } | Entry::Gap { .. });
    if let Some(row) = stage.rows.iter().find(away) {
        return Err(format!("figures: writes are said to end at {end}, and {} at {} nobody had watched", row.entry.kind(), row.at.mono));
    }
    let answers = |look: &&Seen| look.is_of(Some(Subject::FrontDoor), asked) && look.from == Some(SiteName::Primary) && between(look.done);
    match stage.seen.iter().find(answers) {
        Some(look) => Err(format!("figures: writes are said to end at {end}, and the old site answered at {}", look.done)),
        None => Ok(()),
    }
}

/// Of the writes up to the stated end of writes, none lies further back than the reported loss; and behind a proven
/// fence there is none at all (invariant 10).
fn loss(stage: &Stage, exposure: &Exposure) -> Checked {
    let (Some(reported), Some(truth)) = (exposure.seconds, stage.world.true_loss()) else { return Ok(()) };
    // A clock that was stepped tells another time than the cloud's.
    if stage.coverage.had_fault("clock-step") {
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
