//! One line of words for each kind of entry.

use crate::domain::ledger::{Entry, GateState, Wish};
use crate::domain::model::rfc3339;

/// The entry in one line.
pub(super) fn words(entry: &Entry) -> String {
    match entry {
        Entry::Started { version, observer, .. } => format!("watchover {version} took over on {observer}"),
        Entry::Stopped { reason } => format!("watchover stopped: {reason}"),
        Entry::Gap { seconds } => format!("The daemon itself stood still for {}", span(*seconds)),
        Entry::ClockStepped { seconds } => format!("The wall clock moved by {seconds:+.1}s"),
        Entry::Reloaded { ok: true, words } => format!("Config reloaded: {words}"),
        Entry::Reloaded { ok: false, words } => format!("Config refused, the old one stays: {words}"),
        Entry::Active { site, by } => format!("{site} is active, says {}: {}", by.who, by.reason),
        Entry::Paused { until, by } => format!("Paused until {} by {}: {}", rfc3339(*until), by.who, by.reason),
        Entry::Resumed { by } => format!("Resumed by {}: {}", by.who, by.reason),
        Entry::Autonomous { found } if found.is_empty() => "Nothing moves its traffic without us any more".to_owned(),
        Entry::Autonomous { found } => format!("Others can move its traffic (R53-AUTONOMOUS): {}", crate::domain::autonomy::words(found)),
        Entry::Opened { trigger, direction, words, .. } => format!("Opened ({trigger}, {direction}): {words}"),
        Entry::Commanded { wish, .. } => format!("Asked for by {}{}: {}", wish.by.who, terms(wish), wish.by.reason),
        Entry::Confirmed { words, .. } => format!("Outage confirmed: {words}"),
        Entry::Gated { ruling, gates, .. } => {
            let not_open: Vec<String> = gates
                .iter()
                .filter(|gate| gate.state != GateState::Open)
                .map(|gate| format!("{} {}: {}", gate.name, gate.state, gate.words))
                .collect();
            if not_open.is_empty() {
                format!("Gates say {ruling}: all open")
            } else {
                format!("Gates say {ruling}: {}", not_open.join("; "))
            }
        }
        Entry::Approved { wish } => format!("Approved by {}{}: {}", wish.by.who, terms(wish), wish.by.reason),
        Entry::Declined { by, .. } => format!("Declined by {}: {}", by.who, by.reason),
        Entry::FrontDoorLost { at } => format!("The front door no longer answers from the old site, since {}", at.rfc3339()),
        Entry::MovedByOthers { at } => {
            format!(
                "Others moved traffic: the zone's own servers answer with the target since {}, and we had not asked for it",
                at.rfc3339()
            )
        }
        Entry::FrontDoorBack { at } => format!("The front door answers from the old site again, since {}", at.rfc3339()),
        Entry::Planned { plan } => {
            let names: Vec<&str> = plan.steps.iter().map(|step| step.name.as_str()).collect();
            format!("The move starts, {}: {}", plan.direction, names.join(", "))
        }
        Entry::StepStarted { step } => format!("{step}: its turn"),
        Entry::StepPermitted { step, gates } => {
            let count = gates.len();
            format!("{step}: permitted after a second look at {count} {}", if count == 1 { "gate" } else { "gates" })
        }
        Entry::StepWaits { step, words, waits_for, .. } => format!("{step}: asks a person: {words}; waits for {waits_for}"),
        Entry::StepIntent { step, attempt, .. } => format!("{step}: about to ask (attempt {attempt})"),
        Entry::StepAsked { step, .. } => format!("{step}: asked for"),
        Entry::StepTrouble { step, code, words } => format!("{step}: trouble ({code}): {words}"),
        Entry::StepProgress { step, words } => format!("{step}: waits: {words}"),
        Entry::StepVerified { step, already: true, .. } => format!("{step}: verified, it was so already"),
        Entry::StepVerified { step, already: false, .. } => format!("{step}: verified"),
        Entry::StepFailed { step, code, words, needs_person } => {
            format!("{step}: {} ({code}): {words}", if *needs_person { "needs a person" } else { "failed" })
        }
        Entry::StepSkipped { step, by } => format!("{step}: skipped by {}: {}", by.who, by.reason),
        Entry::CallingOff { words } => format!("Calling it off: {words}"),
        Entry::StepUndone { step, words } => format!("{step}: undone: {words}"),
        Entry::Executed => "Every step has come to its end; the proof begins".to_owned(),
        Entry::AuthorityMoved { at } => format!("The zone's own servers answer with the target, since {}", at.rfc3339()),
        Entry::Proven { first } => format!("Proven: the front door answers from the target, since {}", first.rfc3339()),
        Entry::OldSiteSeen { site, at, words, .. } => {
            format!("The {site}, left without a proven fence, was seen alive at {}: {words}; the loss has no bound", at.rfc3339())
        }
        Entry::Stuck { words, waits_for } => format!("Stuck: {words}; waits for {waits_for}"),
        Entry::Retried { by } => format!("Failed steps are tried again, says {}: {}", by.who, by.reason),
        Entry::AbortedBy { by } => format!("Aborted by {}: {}", by.who, by.reason),
        Entry::Closed { outcome, active, by, .. } => {
            let site = active.map(|site| format!(", {site} is active")).unwrap_or_default();
            let person = by.as_ref().map(|by| format!(", by {}: {}", by.who, by.reason)).unwrap_or_default();
            format!("Closed as {outcome}{site}{person}")
        }
    }
}

/// The terms of a wish, to stand behind a name.
pub(super) fn terms(wish: &Wish) -> String {
    let mut terms = Vec::new();
    if wish.graceful {
        terms.push("graceful".to_owned());
    }
    if wish.force {
        terms.push("by force".to_owned());
    }
    if let Some(loss) = wish.accept_loss {
        let shown = wish.shown.map_or_else(|| "unknown".to_owned(), span);
        let accepted = if loss.is_finite() { format!("up to {}", span(loss)) } else { "whatever it is".to_owned() };
        terms.push(format!("accepting a loss of {accepted}, shown {shown}"));
    }
    if terms.is_empty() { String::new() } else { format!(" ({})", terms.join(", ")) }
}

/// A length of time for people: milliseconds where they matter, minutes where they do not.
pub(super) fn span(seconds: f64) -> String {
    match seconds {
        s if s.is_infinite() => "unbounded".to_owned(),
        s if !s.is_finite() => "unknown".to_owned(),
        s if s < 0.0 => format!("-{}", span(-s)),
        s if s < 59.9995 => format!("{s:.3}s"),
        s if s < 3599.95 => {
            let tenths = (s * 10.0).round();
            format!("{}m {:04.1}s", (tenths / 600.0).floor(), tenths % 600.0 / 10.0)
        }
        s => {
            let whole = s.round();
            format!("{}h {:02}m {:02}s", (whole / 3600.0).floor(), (whole % 3600.0 / 60.0).floor(), whole % 60.0)
        }
    }
}
