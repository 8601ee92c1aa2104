//! One app's decision: looks and reports come in, entries to write and effects to have go out.
//!
//! [`App::observe`] takes in what is only seen; [`App::next`] says what should happen now, and changes nothing; the
//! caller makes the entries durable and hands them to [`App::commit`]. What was not committed has not happened, so a
//! journal that refuses stops the action and never the watching.

use std::time::Duration;

use super::gates::{Around, Found, NAMES};
use super::ledger::{Entry, Figures, GateState, Incident, Ruling};
use super::model::{Actor, Direction, Health, Moment, Outcome, SiteName, State, Trigger};
use super::moving::{self, Work};
use super::plan::{Class, Plan};
use super::quorum::{self, Point, Problem};

/// How soon an outage is confirmed for which others wait already.
const SOON: Duration = Duration::from_secs(10);
/// How long a preflight serves while all is well.
const PREFLIGHT_EVERY: Duration = Duration::from_secs(300);
/// How soon it is tried again while the active site is not known.
const PREFLIGHT_EAGER: Duration = Duration::from_secs(15);
/// Within this time, a held app's changing gates are written once.
const GATES_EVERY: Duration = Duration::from_secs(10);

/// How long a doubtful app may be without any look that tells.
const NEWS_WITHIN: Duration = Duration::from_secs(60);
/// How long the front door must stay as it is to be believed.
const STEADY: Duration = Duration::from_secs(1);
/// The move itself, where what the steps are doing is kept; no step can be called so.
const MOVE: &str = "";

pub use super::app::{App, Decision, Effect, Front, Input, PROOF, Tempo};

impl App {
    /// What should happen now; `None`: nothing. Call again after each commit until it says so.
    pub fn next(&self, around: &Around, now: Moment) -> Option<Decision> {
        if let Some(pause) = self.ledger.paused.as_ref().filter(|pause| pause.until <= now.wall) {
            let by = Actor { who: "watchover".into(), reason: format!("the pause by {} ended by its time", pause.by.who) };
            return Some(Decision::entry(Entry::Resumed { by }));
        }
        let seen = self
            .preflight_due(now)
            .or_else(|| self.autonomy_read())
            .or_else(|| self.learn())
            .or_else(|| self.front_door_moved(around, now))
            .or_else(|| self.moved_by_others())
            .or_else(|| super::left::old_site_seen(self, now));
        seen.or_else(|| match self.ledger.state {
            State::Watching => self.watching(now),
            State::Suspect => self.suspect(around, now),
            State::Confirmed | State::Held | State::AwaitingApproval => self.deciding(around, now),
            State::Moving => moving::next(self, around, now),
            State::Proving => self.proving(around, now),
            State::Stuck => moving::settle_stuck(self),
        })
    }

    /// When time alone will change what should happen next, of what is urgent and known ahead: an outage is old enough, a
    /// step's wait is over. What else time changes is met with the next pulse.
    pub fn wakes(&self, around: &Around, now: Moment) -> Option<Moment> {
        let urgent = match self.ledger.state {
            State::Suspect => Some(self.site(self.direction().source(), now).first_failed? + self.policy.min_outage),
            State::Held => Some(around.started + self.policy.startup_grace),
            State::Moving => self.work.values().filter_map(|work| work.idle_until(now)).min_by_key(|until| until.mono),
            State::Watching | State::Confirmed | State::AwaitingApproval | State::Proving | State::Stuck => None,
        };
        urgent.filter(|at| at.mono > now.mono)
    }

    /// Which site is active, once the inspections agree on it. They may agree late: an outage that is already there when a
    /// daemon with an empty journal starts opens an incident before the first of them is done.
    fn learn(&self) -> Option<Decision> {
        if self.ledger.active.is_some() || matches!(self.ledger.state, State::Moving | State::Proving | State::Stuck) {
            return None;
        }
        let site = self.learned()?;
        let by = Actor { who: "watchover".into(), reason: "the inspections of the plan's data and traffic steps agree".into() };
        let active = Entry::Active { site, by };
        // Opened on the guess that the primary serves: what failed there was nobody's outage.
        let mistaken = self.ledger.incident.as_ref().is_some_and(|incident| incident.direction.source() != site);
        Some(if mistaken { self.close(Outcome::NoAction, None).then(active) } else { Decision::entry(active) })
    }

    fn preflight_due(&self, now: Moment) -> Option<Decision> {
        if matches!(self.ledger.state, State::Moving | State::Proving | State::Stuck) {
            return None;
        }
        let direction = self.direction();
        // In doubt it matters whether what was refused has been mended since.
        let serves = self.ledger.state == State::Watching
            || !self.is_refused(direction, self.ledger.incident.as_ref().is_some_and(Incident::graceful));
        let settled = self.ledger.active.is_some() && self.preflights.contains_key(&direction) && serves;
        let every = if settled { PREFLIGHT_EVERY } else { PREFLIGHT_EAGER };
        let due = self.preflight_asked.is_none_or(|asked| now.since(asked) >= every);
        due.then(|| Decision::default().and(Effect::Preflight(direction)))
    }

    /// Keeps the end of writes durable while an incident is open. A front door that flickers has not stopped taking
    /// writes, and is not worth a row for each flicker.
    fn front_door_moved(&self, around: &Around, now: Moment) -> Option<Decision> {
        let incident = self.ledger.incident.as_ref()?;
        match (incident.front_door_lost, self.front.lost) {
            (None, Some(at)) if now.since(at) >= STEADY => Some(Decision::entry(Entry::FrontDoorLost { at })),
            // A proven fence has ended the writes.
            (Some(_), Some(_)) if incident.fenced_at().is_some() => None,
            // It has answered since, or nobody watched it for a while: the end of writes is a later one.
            (Some(old), Some(at)) if old.mono < around.awake.mono || (at.since(old) >= STEADY && now.since(at) >= STEADY) => {
                (at.mono > old.mono).then(|| Decision::entry(Entry::FrontDoorLost { at }))
            }
            (Some(_), None) => {
                let at = self.front.back.filter(|at| now.since(*at) >= STEADY)?;
                Some(Decision::entry(Entry::FrontDoorBack { at }))
            }
            _ => None,
        }
    }

    fn watching(&self, now: Moment) -> Option<Decision> {
        let direction = self.direction();
        let source = direction.source();
        if !quorum::in_doubt(self.policy.site(source), self.signals(source), now) {
            return None;
        }
        let view = self.site(source, now);
        let opened =
            Entry::Opened { trigger: Trigger::Outage, direction, first_failed: view.first_failed, words: self.site_words(source, now) };
        Some(Decision::entry(opened).and(Effect::LookNow))
    }

    /// The active site, if the inspections of every data and traffic step of the way over agree on it.
    fn learned(&self) -> Option<SiteName> {
        let plan: &Plan = &self.policy.failover;
        let preflight = self.preflights.get(&Direction::ToStandby)?;
        let decisive = plan.steps.iter().filter(|step| matches!(step.class, Class::Data | Class::Traffic));
        let found: Option<Vec<&Found>> = decisive.map(|step| preflight.steps.get(&step.name)).collect();
        let found = found.filter(|found| !found.is_empty())?;
        if found.iter().all(|one| matches!(one, Found::Possible)) {
            Some(SiteName::Primary)
        } else if found.iter().all(|one| matches!(one, Found::AlreadySo)) {
            Some(SiteName::Standby)
        } else {
            None
        }
    }

    fn suspect(&self, around: &Around, now: Moment) -> Option<Decision> {
        if self.ledger.incident.as_ref()?.commanded() {
            return self.deciding(around, now);
        }
        let source = self.direction().source();
        let view = self.site(source, now);
        let (site, signals) = (self.policy.site(source), self.signals(source));
        if view.health == Health::Down
            && !quorum::wavers(site, signals, now)
            && !self.is_taken_by_blindness(source, now)
            && !quorum::is_unheard(site, signals, around.awake, now)
            && quorum::is_down_as_seen(site, signals, self.policy.min_outage, now)
            && let Some(seen) = view.first_failed
            && now.since(seen) >= self.policy.min_outage
        {
            let unserved = self.front.lost.and_then(|lost| quorum::began(site, signals, lost, now));
            let seen = unserved.filter(|at| at.mono < seen.mono).unwrap_or(seen);
            let first_failed = self.since_before(seen, around, now);
            return Some(Decision::entry(Entry::Confirmed { first_failed, words: self.site_words(source, now) }));
        }
        let doubt = quorum::in_doubt(self.policy.site(source), self.signals(source), now);
        // A restart or a standstill forgets what was counted: no news is not good news until there was time for some.
        let begun = self.ledger.since.max(around.awake);
        let quiet = view.health == Health::Up || (view.health == Health::Unknown && now.since(begun) >= NEWS_WITHIN);
        (!doubt && quiet).then(|| self.close(Outcome::NoAction, None))
    }

    /// True of a site in doubt that is down by its rule, unless what speaks for it is our own ignorance or is contradicted, and
    /// that will be old enough soon. Others wait for it: who may never be confirmed, or only in ten minutes, must not keep them.
    pub fn is_about_to_be_confirmed(&self, now: Moment) -> bool {
        let source = self.direction().source();
        let (site, signals) = (self.policy.site(source), self.signals(source));
        let view = self.site(source, now);
        let soon = |seen: Moment| now.since(seen) + SOON >= self.policy.min_outage;
        let told = view.health == Health::Down && !quorum::wavers(site, signals, now);
        told && view.first_failed.is_some_and(soon) && !self.is_taken_by_blindness(source, now)
    }

    /// The first failed look of this outage: one from before a restart or a standstill of ours counts, too. That it lasts has
    /// to be seen anew: the first looks of who has just woken may fail by our own fault.
    pub(super) fn since_before(&self, seen: Moment, around: &Around, now: Moment) -> Moment {
        let source = self.direction().source();
        // What has answered since is down anew, whatever else was failing all the while.
        let open =
            self.ledger.incident.as_ref().filter(|_| !quorum::answered(self.policy.site(source), self.signals(source), around.awake, now));
        let earlier = open.filter(|incident| around.awake.mono > incident.opened.mono).and_then(|incident| incident.first_failed);
        earlier.filter(|at| at.mono < seen.mono).unwrap_or(seen)
    }

    /// True of a site that is down by its rule only because an eye that saw it well sees nothing any more, while the front door
    /// does not say for as long as an outage lasts that it is lost: what took it would be our own ignorance.
    pub(super) fn is_taken_by_blindness(&self, site: SiteName, now: Moment) -> bool {
        quorum::rests_on_blindness(self.policy.site(site), self.signals(site), now)
            && !self.front.is_lost_to(site, self.policy.min_outage, now)
    }

    /// When the question whether to move ends by its time, with these gates; `None`: it is not asked, or its time stands still.
    pub fn question_ends(&self, ruling: Ruling) -> Option<Moment> {
        let incident = self.ledger.incident.as_ref().filter(|_| self.ledger.state == State::AwaitingApproval)?;
        // An approval that no longer covers the figures is asked for again, and that question ends by its time, too. A pause
        // costs it none of that: a yes could not have set anything going.
        let waits = (!incident.approved || ruling == Ruling::Ask) && self.ledger.paused.is_none();
        waits.then(|| self.ledger.since.max(incident.resumed.unwrap_or_default()) + self.policy.approval_timeout)
    }

    /// Confirmed, held or waiting for a person: all gates, on every event.
    fn deciding(&self, around: &Around, now: Moment) -> Option<Decision> {
        let incident = self.ledger.incident.as_ref()?;
        let source = incident.direction.source();
        let view = self.site(source, now);
        let state = self.ledger.state;
        let (site, signals) = (self.policy.site(source), self.signals(source));
        let well = view.health == Health::Up && quorum::risen(site, signals, now);
        if well && !incident.commanded() {
            let outcome = if incident.declined || !incident.unanswered.is_empty() { Outcome::Declined } else { Outcome::CalledOff };
            return Some(self.close(outcome, None));
        }
        let (mut ruling, states) = self.view(around, now).states(incident.direction, Point::Start);
        let asking = || NAMES.iter().zip(&states).filter(|(_, state)| **state == GateState::Asks).map(|(name, _)| (*name).to_owned());
        if asking().next().is_some() && self.question_ends(ruling).is_some_and(|end| now.mono >= end.mono) {
            let reason = format!("nobody answered within {}", humantime::format_duration(self.policy.approval_timeout));
            let by = Actor { who: "watchover".into(), reason };
            return Some(Decision::entry(Entry::Declined { by, unanswered: asking().collect() }));
        }
        let lost = view.health == Health::Down && !self.is_taken_by_blindness(source, now);
        if !lost && !incident.commanded() && ruling != Ruling::Hold {
            // Confirmed once, but unknown now: never on ignorance.
            ruling = Ruling::Hold;
        }
        if ruling == Ruling::Go && matches!(state, State::Held | State::AwaitingApproval) && !incident.commanded() {
            // What was counted while a gate was shut may be stale, or have come from our own fault: the problem must show
            // itself once more, in looks sent after the last gate opened.
            match self.work.get(MOVE) {
                Some(Work::Permit { asked, .. }) => {
                    if quorum::second_look(self.policy.site(source), self.signals(source), *asked, now) != Some(Problem::Persists) {
                        return None;
                    }
                }
                _ => {
                    let asked = Work::Permit { asked: now, found: serde_json::Value::Null };
                    return Some(Decision::default().and(Effect::LookNow).doing(MOVE, asked));
                }
            }
        } else if self.work.contains_key(MOVE) && self.work.get(MOVE) != Some(&Work::default()) {
            return Some(Decision::default().doing(MOVE, Work::default()));
        }
        let entered = match (state, ruling) {
            (_, Ruling::Go) => true,
            (State::Held, Ruling::Ask) | (State::Suspect | State::Confirmed, _) => true,
            // Where nothing asks any more it waits for what is shut.
            (State::AwaitingApproval, Ruling::Hold) => incident.approved || asking().next().is_none(),
            (State::AwaitingApproval, Ruling::Ask) => false,
            (State::Held, Ruling::Hold) => {
                let written = incident.gates.iter().map(|gate| (gate.name.as_str(), gate.state));
                !written.eq(NAMES.iter().copied().zip(states)) && self.gates_written.is_none_or(|at| now.since(at) >= GATES_EVERY)
            }
            (State::Watching | State::Moving | State::Proving | State::Stuck, _) => false,
        };
        if !entered {
            return None;
        }
        let (_, gates, exposure) = self.view(around, now).gates(incident.direction, Point::Start);
        let decision = Decision::entry(Entry::Gated { ruling, gates, exposure });
        Some(match ruling {
            Ruling::Go => {
                let plan = self.policy.plan_to(incident.direction.target()).for_move(incident.graceful());
                decision.then(Entry::Planned { plan })
            }
            Ruling::Ask | Ruling::Hold => decision,
        })
    }

    fn proving(&self, around: &Around, now: Moment) -> Option<Decision> {
        let incident = self.ledger.incident.as_ref()?;
        let target = incident.direction.target();
        if incident.authority_moved.is_none()
            && let Some(answered) = self.front.authority.filter(|answered| answered.site == target)
        {
            // Others had moved it before we were restarted, and nobody saw it turn back since.
            let at = incident.moved_by_others.filter(|_| !answered.turned).unwrap_or(answered.since);
            return Some(Decision::entry(Entry::AuthorityMoved { at }));
        }
        // An answer from the target proves nothing while its data is not: others may have sent users there before us.
        let data = incident.plan.iter().flat_map(|plan| &plan.steps).filter(|step| step.class == Class::Data);
        let ended = data.filter_map(|step| incident.steps.get(&step.name)?.ended);
        let from = ended.chain(incident.planned).max().unwrap_or(incident.opened);
        let answers: Vec<Moment> =
            self.front.run.iter().filter(|(site, sent, _)| *site == target && sent.mono >= from.mono).map(|(.., done)| *done).collect();
        if answers.len() >= PROOF {
            let first = answers[0];
            let figures = self.figures(first);
            let outcome = match incident.direction {
                Direction::ToStandby => Outcome::Moved,
                Direction::ToPrimary => Outcome::Returned,
            };
            let closed = Entry::Closed { outcome, active: Some(target), figures: Box::new(figures), by: None };
            return Some(Decision::entry(Entry::Proven { first }).then(closed));
        }
        // Whether it answered while we were away nobody knows.
        if now.since(self.ledger.since.max(around.awake)) >= self.policy.prove_timeout {
            let seen = self.front.last.as_ref().map_or_else(|| "no answer yet".to_owned(), |last| last.finding.detail.clone());
            let words = format!(
                "every step has come to its end{}, but the front door was not seen to answer from the {target} within {}: {seen}",
                incident.left_undone(),
                humantime::format_duration(self.policy.prove_timeout)
            );
            let waits_for = format!(
                "`watchover retry {} --reason TEXT` to look on, or `watchover adopt {} --active SITE --reason TEXT`",
                incident.id, self.policy.name
            );
            return Some(Decision::entry(Entry::Stuck { words, waits_for }));
        }
        None
    }

    /// RTO by phase and RPO, as of the first proving answer.
    fn figures(&self, first: Moment) -> Figures {
        let Some(incident) = &self.ledger.incident else { return Figures::default() };
        let seconds = |duration: Duration| duration.as_secs_f64();
        let spent = |state: State| incident.spent.get(&state).copied().map_or(0.0, seconds);
        let start = incident.clock_start();
        let total = seconds(first.since(start));
        let hold = spent(State::Confirmed) + spent(State::Held);
        let approve = spent(State::AwaitingApproval);
        let planned = seconds(incident.planned.unwrap_or(incident.opened).since(start));
        let detect = (planned - hold - approve).max(0.0);
        let prove = seconds(first.since(self.ledger.since)).min(total);
        let execute = (total - planned - prove).max(0.0);
        let phases = [
            ("detect", detect),
            ("hold", hold),
            ("approve", approve),
            ("execute", execute),
            ("prove", total - detect - hold - approve - execute),
        ];
        Figures {
            rto_seconds: Some(total),
            phases: phases.into_iter().map(|(name, seconds)| (name.to_owned(), whole_micros(seconds.max(0.0)))).collect(),
            rpo: Some(self.view(&Around::default(), first).exposure(incident.direction)),
            authority_seconds: incident.authority_moved.map(|at| seconds(at.since(start))),
            // ntpd and chrony slew below their step threshold of 128 ms; on either side of a boot.
            uncertainty_seconds: if incident.crossed_boot { 0.256 } else { 0.0 },
        }
    }

    /// The end of the incident without a move.
    pub(super) fn close(&self, outcome: Outcome, by: Option<Actor>) -> Decision {
        Decision::entry(Entry::Closed { outcome, active: None, figures: Box::default(), by })
    }
}

/// To the microsecond that our clocks have: what is read back from the journal is then the very same number.
fn whole_micros(seconds: f64) -> f64 {
    (seconds * 1e6).round() / 1e6
}
