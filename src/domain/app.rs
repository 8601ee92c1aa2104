//! One app: what is durable of it, what is only seen, and how both are taken in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use super::front::{Answered, Front, PROOF};
use super::gates::{Around, Preflight, View};
use super::health::SignalHealth;
use super::ledger::{Entry, Illegal, Ledger, Record};
use super::model::{Cause, Direction, Finding, LagSample, Look, Moment, ReplicaReading, ReplicaState, SiteName, State, Subject, Verdict};
use super::moving::Work;
use super::plan::Class;
use super::policy::{AppPolicy, SitePolicy};
use super::quorum::{self, SiteView};
use super::report::{Inspection, Report};
use super::rpo::{self, Lags};

/// Something that was seen.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// A look is done.
    Look(Look),
    /// An executor reports; `epoch` is the one it was sent out under.
    Step { incident: String, epoch: u64, step: String, report: Report },
    /// All steps of a plan were inspected.
    Preflight(Preflight),
    /// Our own loop stood still for that long.
    Gap(Duration),
}

/// Something to have done in the world, once the entries beside it are durable.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Look at a step: is it so already, could it be done?
    Inspect { step: String },
    /// Ask for it.
    Apply { step: String },
    /// Read it back until it is so.
    Verify { step: String },
    /// Put back what stood there.
    Undo { step: String },
    /// Stop whatever runs for the step.
    Cancel { step: String },
    /// Look at every signal and the front door at once.
    LookNow,
    /// Inspect every step of the plan that ends at the site.
    Preflight(Direction),
}

/// How fast the looks of an app go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Tempo {
    /// At their interval.
    #[default]
    Calm,
    /// At their fast interval.
    Fast,
    /// The same; and the front door faster still, because each look that comes later is counted to users as downtime.
    Urgent,
}

/// What should happen now.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Decision {
    /// To be made durable, in this order, as one.
    pub entries: Vec<Entry>,
    /// To be done after that.
    pub effects: Vec<Effect>,
    /// What the steps are doing from now on.
    pub work: Vec<(String, Work)>,
}

impl Decision {
    /// One entry and nothing else.
    pub fn entry(entry: Entry) -> Decision {
        Decision { entries: vec![entry], ..Decision::default() }
    }

    /// The same with an effect.
    #[must_use]
    pub fn and(mut self, effect: Effect) -> Decision {
        self.effects.push(effect);
        self
    }

    /// The same with another entry.
    #[must_use]
    pub fn then(mut self, entry: Entry) -> Decision {
        self.entries.push(entry);
        self
    }

    /// The same with what a step does from now on.
    #[must_use]
    pub fn doing(mut self, step: &str, work: Work) -> Decision {
        self.work.push((step.to_owned(), work));
        self
    }
}

/// One app.
#[derive(Debug, Clone)]
pub struct App {
    pub(super) policy: Arc<AppPolicy>,
    pub(super) ledger: Ledger,
    pub(super) signals: [Vec<SignalHealth>; 2],
    pub(super) lags: Lags,
    pub(super) replica: BTreeMap<(SiteName, usize), ReplicaState>,
    /// The same as it was when it was last to be told.
    pub(super) link: BTreeMap<(SiteName, usize), ReplicaState>,
    pub(super) front: Front,
    pub(super) preflights: BTreeMap<Direction, Preflight>,
    pub(super) preflight_asked: Option<Moment>,
    pub(super) work: BTreeMap<String, Work>,
    pub(super) progress: BTreeMap<String, String>,
    pub(super) gates_written: Option<Moment>,
    pub(super) epoch: u64,
}

impl App {
    /// An app as its folded journal left it. `epoch` is this takeover's.
    pub fn new(policy: Arc<AppPolicy>, ledger: Ledger, epoch: u64) -> App {
        let fresh = |site: &SitePolicy| vec![SignalHealth::default(); site.signals.len()];
        let signals = [fresh(&policy.primary), fresh(&policy.standby)];
        App {
            policy,
            ledger,
            signals,
            lags: Lags::new(),
            replica: BTreeMap::new(),
            link: BTreeMap::new(),
            front: Front::default(),
            preflights: BTreeMap::new(),
            preflight_asked: None,
            work: BTreeMap::new(),
            progress: BTreeMap::new(),
            gates_written: None,
            epoch,
        }
    }

    /// Takes a new policy: counters of signals that kept their names stay, the running incident keeps its stored plan.
    pub fn reload(&mut self, policy: Arc<AppPolicy>) {
        let (mut lags, mut replica) = (std::mem::take(&mut self.lags), std::mem::take(&mut self.replica));
        let mut link = std::mem::take(&mut self.link);
        for (at, site) in [SiteName::Primary, SiteName::Standby].into_iter().enumerate() {
            let old: BTreeMap<&str, usize> = self.policy.site(site).signals.iter().map(|signal| signal.name.as_str()).zip(0..).collect();
            let places = policy.site(site).signals.iter().map(|signal| old.get(signal.name.as_str()).copied());
            let mut signals = Vec::new();
            for (place, was) in places.enumerate() {
                signals.push(was.map(|was| self.signals[at][was].clone()).unwrap_or_default());
                let Some(was) = was.map(|was| (site, was)) else { continue };
                let place = (site, place);
                self.lags.extend(lags.remove(&was).map(|known| (place, known)));
                self.replica.extend(replica.remove(&was).map(|state| (place, state)));
                self.link.extend(link.remove(&was).map(|state| (place, state)));
            }
            self.signals[at] = signals;
        }
        self.preflights.clear();
        self.preflight_asked = None;
        self.policy = policy;
    }

    /// The policy in force.
    pub fn policy(&self) -> &Arc<AppPolicy> {
        &self.policy
    }

    /// The durable state.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What is seen of the front door.
    pub fn front(&self) -> &Front {
        &self.front
    }

    /// Health of a site's signals, in the policy's order.
    pub fn signals(&self, site: SiteName) -> &[SignalHealth] {
        match site {
            SiteName::Primary => &self.signals[0],
            SiteName::Standby => &self.signals[1],
        }
    }

    /// The newest lag that the signal at that place read.
    pub fn lag(&self, site: SiteName, at: usize) -> Option<&LagSample> {
        self.lags.get(&(site, at))?.last()
    }

    /// The replication link as the signal at that place last read it.
    pub fn replica_state(&self, site: SiteName, at: usize) -> Option<ReplicaState> {
        self.replica.get(&(site, at)).copied()
    }

    /// The epoch under which effects of this app are valid.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What a running step last said of its progress.
    pub fn progress(&self, step: &str) -> Option<&str> {
        self.progress.get(step).map(String::as_str)
    }

    /// The way a move would go from here: off the active site; off the primary while nobody knows.
    pub fn direction(&self) -> Direction {
        match &self.ledger.incident {
            Some(incident) => incident.direction,
            None => Direction::towards(self.ledger.active.unwrap_or(SiteName::Primary).other()),
        }
    }

    /// How fast looks should be.
    pub fn tempo(&self) -> Tempo {
        match self.ledger.state {
            State::Watching | State::Stuck => Tempo::Calm,
            State::Suspect | State::Confirmed | State::Held | State::AwaitingApproval => Tempo::Fast,
            State::Moving | State::Proving => Tempo::Urgent,
        }
    }

    /// Everything the gates look at, as of now.
    pub fn view<'a>(&'a self, around: &'a Around, now: Moment) -> View<'a> {
        View {
            policy: &self.policy,
            ledger: &self.ledger,
            signals: [&self.signals[0], &self.signals[1]],
            lags: &self.lags,
            front: &self.front,
            preflight: self.preflights.get(&self.direction()),
            around,
            now,
            telling: true,
        }
    }

    /// A site by its own rule.
    pub fn site(&self, site: SiteName, now: Moment) -> SiteView {
        quorum::site(self.policy.site(site), self.signals(site), now)
    }

    /// What its signals say, in words.
    pub fn site_words(&self, site: SiteName, now: Moment) -> String {
        quorum::words(self.policy.site(site), self.signals(site), now).join(", ")
    }

    /// Takes in what was seen. Writes nothing, decides nothing.
    pub fn observe(&mut self, input: Input) {
        match input {
            Input::Look(look) => self.observe_look(look),
            Input::Step { incident, epoch, step, report } => {
                let ours = self.ledger.incident.as_ref().is_some_and(|open| open.id == incident) && epoch == self.epoch;
                match report {
                    // An executor of an older takeover, or of an incident that is over, has nothing to say here.
                    _ if !ours => {}
                    Report::Progress(words) => {
                        self.progress.insert(step, words);
                    }
                    report => {
                        if let Report::Inspected(Ok(Inspection::NotYet(words))) = &report {
                            self.progress.insert(step.clone(), words.clone());
                        }
                        if self.work.get(&step).is_some_and(|work| work.awaits(&report)) {
                            self.work.insert(step, Work::Back(report));
                        }
                    }
                }
            }
            Input::Preflight(preflight) => {
                self.preflights.insert(preflight.direction, preflight);
            }
            Input::Gap(_) => {
                self.signals.iter_mut().flatten().for_each(SignalHealth::forget);
                self.front.forget();
                // As after a restart: what was on its way may be old by now, and every step is inspected before it goes on. But
                // what was asked for is awaited: a look that overtakes the request would have it asked for twice.
                self.work.retain(|_, work| work.is_of_a_change());
            }
        }
    }

    fn observe_look(&mut self, mut look: Look) {
        match look.subject {
            Subject::Signal(site, at) => {
                let Some(policy) = self.policy.site(site).signals.get(at) else { return };
                if policy.replica && self.ledger.active == Some(site) {
                    lie_dormant(&mut look.finding);
                }
                if let Some(reading) = &look.finding.replica {
                    self.replica.insert((site, at), reading.state);
                    if reading.state != ReplicaState::Unknown {
                        self.link.insert((site, at), reading.state);
                    }
                    let anchor = self.ledger.incident.as_ref().and_then(|incident| incident.first_failed).unwrap_or(look.done);
                    let horizon = (anchor - rpo::HISTORY).wall.min((look.done - rpo::HISTORY).wall);
                    rpo::remember(self.lags.entry((site, at)).or_default(), &reading.samples, horizon);
                }
                let health = match site {
                    SiteName::Primary => &mut self.signals[0][at],
                    SiteName::Standby => &mut self.signals[1][at],
                };
                health.take(policy, &look);
            }
            Subject::FrontDoor => {
                let leaving = self.direction().source();
                self.front.observe(look, leaving);
            }
            Subject::Authority => {
                if let Some(site) = look.finding.from {
                    self.front.answered(site, look.done);
                }
            }
        }
    }

    /// True of a fence and of a hook: capacity, data and traffic leave the machines of a site as they are.
    fn touches_a_site(&self, step: &str) -> bool {
        let plan = self.ledger.incident.as_ref().and_then(|incident| incident.plan.as_ref());
        plan.and_then(|plan| plan.step(step)).is_none_or(|step| step.class == Class::Other)
    }

    /// Folds in what is durable now, and takes up the work.
    pub fn commit(&mut self, records: &[Record], work: Vec<(String, Work)>) -> Result<(), Illegal> {
        for record in records {
            if matches!(record.entry, Entry::Gated { .. }) {
                self.gates_written = Some(record.at);
            }
            self.ledger.apply(record)?;
            match &record.entry {
                Entry::Closed { active, .. } => {
                    self.work.clear();
                    self.progress.clear();
                    if active.is_some() {
                        // The other plan is the one that counts now, and a person may want it at once.
                        self.preflight_asked = None;
                        // When the door was lost to users of the old site says nothing of the new one's writers.
                        (self.front.lost, self.front.back) = (None, None);
                    }
                }
                Entry::Planned { .. } => {
                    self.work.clear();
                    self.progress.clear();
                }
                // What was asked for, and is on its way, is awaited still.
                Entry::Retried { .. } => {
                    self.work.retain(|_, work| work.is_of_a_change());
                    self.progress.clear();
                }
                // What a skipped step still reports is nobody's answer any more.
                Entry::StepSkipped { step, .. } => {
                    self.work.remove(step);
                }
                // A site that was down by our own hand counts as down from here on only.
                Entry::StepUndone { step, .. } if self.touches_a_site(step) => {
                    self.signals.iter_mut().flatten().for_each(SignalHealth::forget);
                    self.front.run.clear();
                }
                // What was looked at before or during the pause says nothing of now.
                Entry::Resumed { .. } => self.work.retain(|_, work| !matches!(work, Work::Permit { .. })),
                _ => {}
            }
        }
        self.work.extend(work);
        Ok(())
    }

    /// A preflight was sent for.
    pub fn preflight_sent(&mut self, now: Moment) {
        self.preflight_asked = Some(now);
    }
}

/// On the active site a database that replicates from nothing is what it should be: its signal waits for the day when it
/// is a replica again. Whatever lag it shows dates from before it was promoted, and bounds nothing.
fn lie_dormant(finding: &mut Finding) {
    if finding.verdict == Verdict::Down(Cause::NotAReplica) {
        finding.verdict = Verdict::Unknown(Cause::Dormant);
        finding.replica = finding.replica.take().map(|_| ReplicaReading { state: ReplicaState::Dormant, samples: Vec::new() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_database_that_replicates_from_nothing_lies_dormant() {
        let reading = |state| ReplicaReading { state, samples: vec![LagSample { at: 0, period: 60_000_000, seconds: 1.0 }] };
        let read = |verdict, state| {
            let mut finding = Finding { replica: Some(reading(state)), ..Finding::new(verdict, "") };
            lie_dormant(&mut finding);
            (finding.verdict, finding.replica.unwrap())
        };
        let dormant = ReplicaReading { state: ReplicaState::Dormant, samples: Vec::new() };
        assert_eq!(read(Verdict::Down(Cause::NotAReplica), ReplicaState::NotAReplica), (Verdict::Unknown(Cause::Dormant), dormant));
        for (verdict, state) in [
            (Verdict::Up, ReplicaState::Replicating),
            (Verdict::Down(Cause::ReplicaError), ReplicaState::Error),
            (Verdict::Unknown(Cause::Throttled), ReplicaState::Unknown),
        ] {
            assert_eq!(read(verdict, state), (verdict, reading(state)));
        }
    }
}
