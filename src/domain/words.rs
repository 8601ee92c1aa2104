//! Entries in words: the same line in the log, the live view and the timeline of a report.

use super::autonomy;
use super::gates::closed_words;
use super::ledger::{Entry, Figures, Ruling};
use super::model::rfc3339;

impl Entry {
    /// What happened, for a person; without when and to whom, which stand beside it.
    pub fn words(&self) -> String {
        match self {
            Entry::Started { version, observer, .. } => format!("watchover {version} on {observer}"),
            Entry::Stopped { reason } => reason.clone(),
            Entry::Gap { seconds } => format!("our own loop stood still for {seconds:.1}s; what was counted is forgotten"),
            Entry::ClockStepped { seconds } => {
                format!("the wall clock moved by {seconds:+.1}s against our own; what was counted is forgotten")
            }
            Entry::Reloaded { ok: true, words } => format!("the new config is in force: {words}"),
            Entry::Reloaded { ok: false, words } => format!("the new config was refused, the old one stays: {words}"),
            Entry::Active { site, by } => format!("the {site} is active, says {} ({})", by.who, by.reason),
            Entry::Paused { until, by } => format!("until {} by {} ({})", rfc3339(*until), by.who, by.reason),
            Entry::Resumed { by } | Entry::Retried { by } | Entry::AbortedBy { by } | Entry::Declined { by, .. } => {
                format!("by {} ({})", by.who, by.reason)
            }
            Entry::Autonomous { found } if found.is_empty() => "nothing moves its traffic without us any more".to_owned(),
            Entry::Autonomous { found } => format!("others can move its traffic (R53-AUTONOMOUS): {}", autonomy::words(found)),
            Entry::Opened { trigger, direction, words, .. } => format!("{trigger}, {direction}: {words}"),
            Entry::Commanded { wish, .. } => format!("by {} ({}){}", wish.by.who, wish.by.reason, if wish.force { ", forced" } else { "" }),
            Entry::Confirmed { first_failed, words } => format!("first failed look sent {}: {words}", first_failed.rfc3339()),
            Entry::Gated { ruling, gates, exposure } => {
                let closed = closed_words(gates);
                if closed.is_empty() && *ruling == Ruling::Hold {
                    format!("{ruling}: all {} gates open, and right now the site is not known to be down", gates.len())
                } else if closed.is_empty() {
                    format!("{ruling}: all {} gates open; loss {}", gates.len(), exposure.words())
                } else {
                    format!("{ruling}: {closed}")
                }
            }
            Entry::Approved { wish } => {
                let shown = wish.shown.map_or_else(|| "of unknown size".to_owned(), super::rpo::at_most);
                format!("by {} ({}), shown a loss {shown}", wish.by.who, wish.by.reason)
            }
            Entry::FrontDoorLost { at } => format!("stopped answering from the old site at {}", at.rfc3339()),
            Entry::FrontDoorBack { at } => format!("answers from the old site again since {}", at.rfc3339()),
            Entry::MovedByOthers { at } => format!(
                "others moved traffic: the zone's own servers answer with the target since {}, and we had not asked for it",
                at.rfc3339()
            ),
            Entry::Planned { plan } => {
                format!("{}: {}", plan.direction, plan.steps.iter().map(|step| step.name.as_str()).collect::<Vec<_>>().join(", "))
            }
            Entry::StepStarted { step } => step.clone(),
            Entry::StepPermitted { step, gates } => format!("{step}: looked at again, {} gates open", gates.len()),
            Entry::StepWaits { step, words, waits_for, exposure } => {
                format!("{step}: {words}; loss {}; waits for: {waits_for}", exposure.words())
            }
            Entry::StepIntent { step, attempt, .. } => format!("{step}: asking, attempt {attempt}"),
            Entry::StepAsked { step, .. } => format!("{step}: the request was taken"),
            Entry::StepTrouble { step, words, .. } => format!("{step}: {words}"),
            Entry::StepProgress { step, words } => format!("{step}: waits: {words}"),
            Entry::StepVerified { step, already: true, .. } => format!("{step}: it was so already"),
            Entry::StepVerified { step, .. } => format!("{step}: read back, it is so"),
            Entry::StepFailed { step, words, needs_person, .. } => {
                format!("{step}: {words}{}", if *needs_person { "; needs a person" } else { "" })
            }
            Entry::StepSkipped { step, by } => format!("{step}: by {} ({})", by.who, by.reason),
            Entry::CallingOff { words } => words.clone(),
            Entry::StepUndone { step, words } => format!("{step}: {words}"),
            Entry::Executed => "every step has come to its end".to_owned(),
            Entry::AuthorityMoved { at } => format!("the zone's own servers answer with the target since {}", at.rfc3339()),
            Entry::Proven { first } => format!("the front door answers from the target since {}", first.rfc3339()),
            Entry::Stuck { words, waits_for } => format!("{words}; waits for: {waits_for}"),
            Entry::OldSiteSeen { incident, site, at, words } => format!(
                "the {site} was seen alive at {} ({words}): its data has moved and no proven fence holds its writers back, so the loss of {incident} has no bound; fence it",
                at.rfc3339()
            ),
            Entry::Closed { outcome, active, figures, by } => {
                let active = active.map(|site| format!(", the {site} is active")).unwrap_or_default();
                let by = by.as_ref().map(|by| format!(", by {} ({})", by.who, by.reason)).unwrap_or_default();
                format!("{outcome}{active}{by}{}", figures_words(figures))
            }
        }
    }
}

fn figures_words(figures: &Figures) -> String {
    let rto = figures.rto_seconds.map(|seconds| format!("; RTO {seconds:.2}s")).unwrap_or_default();
    let rpo = figures.rpo.as_ref().map(|rpo| format!("; loss {}", rpo.words())).unwrap_or_default();
    format!("{rto}{rpo}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::model::{Outcome, SiteName};
    use crate::domain::rpo::no_bound;

    #[test]
    fn what_others_can_do_and_what_they_cannot_any_more_are_two_lines() {
        let words = |found: &[&str]| {
            let found = found.iter().map(|words| ("traffic".to_owned(), vec![(*words).to_owned()])).collect();
            Entry::Autonomous { found }.words()
        };
        assert_eq!(words(&[]), "nothing moves its traffic without us any more");
        let can = words(&["record shop: its check can take it away"]);
        assert!(can.starts_with("others can move its traffic (R53-AUTONOMOUS): ") && can.contains("its check"), "{can}");
    }

    #[test]
    fn the_end_of_a_move_says_its_figures() {
        let closed = |figures: Figures| {
            Entry::Closed { outcome: Outcome::Moved, active: Some(SiteName::Standby), figures: Box::new(figures), by: None }.words()
        };
        assert_eq!(closed(Figures::default()), "moved, the standby is active");
        let rpo = Some(no_bound(None, 0));
        let words = closed(Figures { rto_seconds: Some(41.5), rpo, ..Figures::default() });
        assert!(words.starts_with("moved, the standby is active; RTO 41.50s; loss unbounded"), "{words}");
    }
}
