//! What people are told: which entries are news, and for what a person is still waited for.
//!
//! News is told once an incident and state. A person's own word begins the count anew: what gets stuck again after a
//! `retry` is news again.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::ledger::{Entry, Ledger, Record, Ruling};
use super::model::{Moment, Outcome, State, words};

words! {
    /// What a receiver can be told of.
    Event {
        Opened = "opened", Confirmed = "confirmed", Held = "held", AwaitingApproval = "awaiting-approval", Moving = "moving",
        Stuck = "stuck", Moved = "moved", Returned = "returned", Aborted = "aborted", CalledOff = "called-off",
        Declined = "declined", NoAction = "no-action", JournalUnwritable = "journal-unwritable", JournalWritable = "journal-writable",
    }
}

impl Event {
    /// What is told unless the config names events: all but the blips that end by themselves.
    pub fn usual() -> Vec<Event> {
        Event::ALL.iter().copied().filter(|event| !matches!(event, Event::Opened | Event::NoAction)).collect()
    }
}

/// One message.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Notice {
    /// The same for every repetition of this message, and no other's.
    pub id: String,
    /// What it tells of.
    pub event: Event,
    /// The app; `None`: the daemon itself.
    pub app: Option<String>,
    /// The incident, if it is about one.
    pub incident: Option<String>,
    /// When it happened, RFC 3339.
    pub at: String,
    /// Who speaks; filled in by whoever sends.
    pub observer: String,
    /// What happened, in words.
    pub words: String,
    /// For whom or what it waits, if for a person.
    pub waits_for: Option<String>,
    /// 0: news; else which reminder of it this is.
    pub reminder: u32,
}

impl Notice {
    fn new(event: Event, app: Option<&str>, incident: Option<&str>, at: Moment, key: &str, words: String) -> Notice {
        let whose = incident.or(app).unwrap_or("watchover");
        let id = format!("{whose}/{key}/{}", at.wall);
        let (app, incident) = (app.map(str::to_owned), incident.map(str::to_owned));
        Notice { id, event, app, incident, at: at.rfc3339(), observer: String::new(), words, waits_for: None, reminder: 0 }
    }

    fn waiting(mut self, waits_for: impl Into<String>) -> Notice {
        self.waits_for = Some(waits_for.into());
        self
    }

    /// One line: who, and what.
    pub fn subject(&self) -> String {
        let again = if self.reminder > 0 { "still " } else { "" };
        format!("watchover: {} {again}{}", self.app.as_deref().unwrap_or(&self.observer), self.event)
    }

    /// The whole of it, for people.
    pub fn text(&self) -> String {
        let incident = self.incident.as_ref().map(|id| format!(" (incident {id})")).unwrap_or_default();
        let waits = self.waits_for.as_ref().map(|whom| format!("\nwaits for: {whom}")).unwrap_or_default();
        format!("{}{incident}, says {} at {}: {}{waits}", self.subject(), self.observer, self.at, self.words)
    }
}

/// What was told so far.
#[derive(Debug, Default)]
pub struct Notices {
    /// By app: its incident, and what of it was told.
    told: BTreeMap<String, (String, BTreeSet<String>)>,
    /// The journal refuses, and that was told.
    journal: bool,
}

impl Notices {
    /// What an entry that just became durable says to people, if anything that they have not been told.
    pub fn news(&mut self, record: &Record) -> Option<Notice> {
        let (app, incident) = (record.app.as_deref()?, record.incident.as_deref()?);
        let told = self.told.entry(app.to_owned()).or_default();
        if told.0 != incident {
            *told = (incident.to_owned(), BTreeSet::new());
        }
        let words = record.entry.words();
        let notice = |event: Event, key: &str| Notice::new(event, Some(app), Some(incident), record.at, key, words.clone());
        let plain = |event: Event| (event.as_str().to_owned(), notice(event, event.as_str()));
        let (key, notice) = match &record.entry {
            Entry::Opened { .. } => plain(Event::Opened),
            Entry::Confirmed { .. } => plain(Event::Confirmed),
            Entry::Gated { ruling: Ruling::Hold, .. } => plain(Event::Held),
            Entry::Gated { ruling: Ruling::Ask, .. } => {
                let (key, notice) = plain(Event::AwaitingApproval);
                (key, notice.waiting(approve(incident)))
            }
            Entry::StepWaits { step, waits_for, .. } => {
                let key = format!("{}/{step}", Event::AwaitingApproval);
                (key.clone(), notice(Event::AwaitingApproval, &key).waiting(waits_for))
            }
            Entry::Planned { .. } => plain(Event::Moving),
            Entry::Declined { .. } => {
                told.1.clear();
                // `gated hold` follows, and would say the same again.
                told.1.insert(Event::Held.as_str().to_owned());
                ("declined".to_owned(), notice(Event::Held, "declined"))
            }
            Entry::Stuck { waits_for, .. } => {
                let (key, notice) = plain(Event::Stuck);
                (key, notice.waiting(waits_for))
            }
            Entry::AbortedBy { .. } => ("aborted-by".to_owned(), notice(Event::Stuck, "aborted-by").waiting("`watchover adopt`")),
            Entry::Closed { outcome, .. } => plain(ended(*outcome)),
            Entry::Approved { .. } | Entry::Commanded { .. } | Entry::Retried { .. } | Entry::StepSkipped { .. } => {
                told.1.clear();
                return None;
            }
            _ => return None,
        };
        let new = told.1.insert(key);
        if matches!(record.entry, Entry::Closed { .. }) {
            self.told.remove(app);
        }
        new.then_some(notice)
    }

    /// That the journal refuses, or takes entries again; once each.
    pub fn journal(&mut self, fault: Option<&str>, now: Moment) -> Option<Notice> {
        let was = std::mem::replace(&mut self.journal, fault.is_some());
        let (event, words) = match (was, fault) {
            (false, Some(fault)) => (Event::JournalUnwritable, format!("nothing is done until the journal takes it: {fault}")),
            (true, None) => (Event::JournalWritable, "the journal takes entries again".to_owned()),
            (false, None) | (true, Some(_)) => return None,
        };
        let notice = Notice::new(event, None, None, now, event.as_str(), words);
        Some(if fault.is_some() { notice.waiting("somebody to make room or mend the disk") } else { notice })
    }
}

/// For what an app waits for a person right now. The id stays the same for as long as it waits for the same.
pub fn waiting(app: &str, ledger: &Ledger) -> Option<Notice> {
    let incident = ledger.incident.as_ref()?;
    let notice = |event: Event, key: &str, words: String| Notice::new(event, Some(app), Some(&incident.id), ledger.since, key, words);
    match ledger.state {
        State::AwaitingApproval => {
            let words = format!("since {}: {}", ledger.since.rfc3339(), super::gates::closed_words(&incident.gates));
            Some(notice(Event::AwaitingApproval, "awaiting-approval", words).waiting(approve(&incident.id)))
        }
        State::Stuck => {
            let (words, waits_for) = incident.stuck.clone().unwrap_or_default();
            Some(notice(Event::Stuck, "stuck", words).waiting(waits_for))
        }
        State::Moving => {
            let (step, run) = incident.asking().next()?;
            let (words, waits_for) = run.asks.clone()?;
            Some(notice(Event::AwaitingApproval, step, format!("{step}: {words}")).waiting(waits_for))
        }
        State::Watching | State::Suspect | State::Confirmed | State::Held | State::Proving => None,
    }
}

fn approve(incident: &str) -> String {
    format!("`watchover approve {incident} --reason …` or `watchover decline {incident} --reason …`")
}

fn ended(outcome: Outcome) -> Event {
    match outcome {
        Outcome::NoAction => Event::NoAction,
        Outcome::CalledOff => Event::CalledOff,
        Outcome::Declined => Event::Declined,
        Outcome::Moved => Event::Moved,
        Outcome::Returned => Event::Returned,
        Outcome::Aborted => Event::Aborted,
        Outcome::Stuck => Event::Stuck,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fixtures::{by, exposure, opened, record, step};
    use crate::domain::model::Direction;
    use crate::domain::plan::{Class, Plan};

    fn gated(ruling: Ruling) -> Entry {
        Entry::Gated { ruling, gates: Vec::new(), exposure: exposure(None) }
    }

    fn stuck() -> Entry {
        Entry::Stuck { words: "step promote failed".into(), waits_for: "`watchover retry shop-1`".into() }
    }

    #[test]
    fn each_state_of_an_incident_is_told_once_and_a_persons_word_begins_anew() {
        let mut notices = Notices::default();
        let mut told = |seconds: i64, entry: Entry| notices.news(&record(entry, seconds)).map(|notice| notice.event);
        assert_eq!(told(1, opened(None)), Some(Event::Opened));
        let first_failed = Moment::default();
        assert_eq!(told(1, Entry::Confirmed { first_failed, words: "alb".into() }), Some(Event::Confirmed));
        assert_eq!(told(2, gated(Ruling::Hold)), Some(Event::Held));
        assert_eq!(told(3, gated(Ruling::Hold)), None, "gates that change are no news");
        assert_eq!(told(4, gated(Ruling::Ask)), Some(Event::AwaitingApproval));
        assert_eq!(told(5, gated(Ruling::Hold)), None, "nor is what flaps");
        assert_eq!(told(6, gated(Ruling::Ask)), None);
        assert_eq!(told(7, gated(Ruling::Go)), None);
        let plan = Plan { direction: Direction::ToStandby, steps: Vec::new() };
        assert_eq!(told(7, Entry::Planned { plan }), Some(Event::Moving));
        let waits =
            |step: &str| Entry::StepWaits { step: step.into(), words: "go?".into(), waits_for: "ops".into(), exposure: exposure(None) };
        assert_eq!([told(7, waits("go")), told(7, waits("go"))], [Some(Event::AwaitingApproval), None]);
        assert_eq!(told(7, waits("go-on")), Some(Event::AwaitingApproval), "each question is one");
        assert_eq!(told(8, stuck()), Some(Event::Stuck));
        assert_eq!(told(9, stuck()), None);
        assert_eq!(told(10, Entry::Retried { by: by() }), None);
        assert_eq!(told(11, stuck()), Some(Event::Stuck), "stuck again after a retry is news");
        let closed = || Entry::Closed { outcome: Outcome::Moved, active: None, figures: Box::default(), by: None };
        assert_eq!(told(12, closed()), Some(Event::Moved));
        assert_eq!(told(13, opened(None)), Some(Event::Opened));
        let another = notices.news(&Record { incident: Some("shop-2".into()), ..record(opened(None), 14) });
        assert_eq!(another.map(|notice| notice.id), Some("shop-2/opened/14000000".into()), "each incident is one");
        assert_eq!(notices.news(&Record { app: None, ..record(stuck(), 15) }), None, "the daemon's own rows are no news");
    }

    #[test]
    fn a_no_and_an_abort_are_told_and_what_follows_from_them_is_not() {
        let mut notices = Notices::default();
        let mut told = |entry: Entry| notices.news(&record(entry, 1)).map(|notice| (notice.event, notice.waits_for.is_some()));
        assert_eq!(told(gated(Ruling::Ask)), Some((Event::AwaitingApproval, true)));
        assert_eq!(told(Entry::Declined { by: by(), unanswered: Vec::new() }), Some((Event::Held, false)));
        assert_eq!(told(gated(Ruling::Hold)), None, "it is the same");
        assert_eq!(told(gated(Ruling::Ask)), Some((Event::AwaitingApproval, true)), "asked anew");
        assert_eq!(told(Entry::AbortedBy { by: by() }), Some((Event::Stuck, true)));
    }

    #[test]
    fn whatever_waits_for_a_person_is_told_again_under_one_id() {
        let mut ledger = Ledger::default();
        let mut waits = |entry: Entry, seconds: i64| {
            ledger.apply(&record(entry, seconds)).unwrap();
            waiting("shop", &ledger).map(|notice| (notice.id, notice.event, notice.waits_for.unwrap_or_default()))
        };
        assert_eq!(waits(opened(None), 1), None);
        let (id, event, whom) = waits(gated(Ruling::Ask), 2).unwrap();
        assert_eq!((id.as_str(), event), ("shop-1/awaiting-approval/2000000", Event::AwaitingApproval));
        assert!(whom.contains("watchover approve shop-1"), "{whom}");
        assert_eq!(waits(gated(Ruling::Ask), 3).unwrap().0, id, "as long as it waits for the same");
        let plan = Plan { direction: Direction::ToStandby, steps: vec![step("go", Class::Other, None, &[])] };
        assert_eq!(waits(Entry::Planned { plan }, 4), None);
        assert_eq!(waits(Entry::StepStarted { step: "go".into() }, 5), None);
        let asks =
            Entry::StepWaits { step: "go".into(), words: "go?".into(), waits_for: "the database on-call".into(), exposure: exposure(None) };
        assert_eq!(waits(asks, 6), Some(("shop-1/go/4000000".into(), Event::AwaitingApproval, "the database on-call".into())));
        assert_eq!(waits(stuck(), 7), Some(("shop-1/stuck/7000000".into(), Event::Stuck, "`watchover retry shop-1`".into())));
    }

    #[test]
    fn what_waits_says_for_whom() {
        let mut notices = Notices::default();
        let told = notices.news(&record(gated(Ruling::Ask), 1)).unwrap();
        assert!(told.waits_for.as_deref().is_some_and(|whom| whom.contains("watchover approve shop-1")), "{told:?}");
        let told = Notice { observer: "bastion".into(), ..notices.news(&record(stuck(), 2)).unwrap() };
        assert_eq!(told.subject(), "watchover: shop stuck");
        assert_eq!(Notice { reminder: 1, ..told.clone() }.subject(), "watchover: shop still stuck");
        let text = told.text();
        assert!(
            text.contains("bastion") && text.contains("step promote failed") && text.ends_with("waits for: `watchover retry shop-1`"),
            "{text}"
        );
    }

    #[test]
    fn a_journal_that_refuses_is_told_once_each_way() {
        let mut notices = Notices::default();
        let at = Moment::default();
        let mut told = |fault: Option<&str>| notices.journal(fault, at).map(|notice| notice.event);
        assert_eq!(
            [told(None), told(Some("full")), told(Some("full")), told(None), told(None)],
            [None, Some(Event::JournalUnwritable), None, Some(Event::JournalWritable), None]
        );
    }

    #[test]
    fn usual_news_leaves_the_blips_out() {
        let usual = Event::usual();
        assert!(!usual.contains(&Event::Opened) && !usual.contains(&Event::NoAction) && usual.len() == Event::ALL.len() - 2);
    }
}
