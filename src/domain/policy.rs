//! What the config demands, judged and complete: the numbers the decision works with.

use std::time::Duration;

use super::model::{AppName, Mode, SiteName, words};
use super::plan::Plan;

words! {
    /// When a signal of the target must be up.
    Required { Start = "start", Traffic = "traffic", Never = "never" }
}

words! {
    /// What happens when a move would lose more than the objective, or nobody knows how much.
    OnRpoExceeded { Hold = "hold", Approve = "approve", Proceed = "proceed" }
}

/// How many of the signals that know something must be down for the site to be down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DownWhen {
    /// Every one of them.
    All,
    /// Any one.
    Any,
    /// At least that many.
    AtLeast(usize),
}

/// The windowed way to trip: a share of bad time, with a floor of evidence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// How far back looks count.
    pub span: Duration,
    /// Share of the looked-at time that was down, 0 to 1, at which the signal is down.
    pub down_rate: f64,
    /// Fewer looks than this say nothing.
    pub min_looks: usize,
}

/// One signal as the decision sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct SignalPolicy {
    /// Unique within its site.
    pub name: String,
    /// The kind, as the registry knows it.
    pub kind: String,
    /// Time from one look to the next while all is well.
    pub interval: Duration,
    /// The same while in doubt; equal to `interval` for signals that gain nothing from haste.
    pub fast_interval: Duration,
    /// How long one look may take.
    pub timeout: Duration,
    /// Consecutive `down` looks to go down.
    pub fall: u32,
    /// Consecutive `up` looks to come back.
    pub rise: u32,
    /// The windowed way to trip; `None`: runs alone decide.
    pub window: Option<Window>,
    /// When the signal must be up, if its site is the target.
    pub required: Required,
    /// True for signals that read a replica: they carry the lag, and end with the promotion.
    pub replica: bool,
    /// True if the signal says whether its site serves users: only these take part in `down_when`.
    pub counts: bool,
}

/// One site.
#[derive(Debug, Clone, PartialEq)]
pub struct SitePolicy {
    /// AWS region.
    pub region: String,
    /// The rule over its signals.
    pub down_when: DownWhen,
    /// Fewer signals known: the site is unknown, not down.
    pub min_known: usize,
    /// The signals, in the order of the file.
    pub signals: Vec<SignalPolicy>,
}

/// How the front door is looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// While all is well.
    pub interval: Duration,
    /// While in doubt or moving.
    pub fast_interval: Duration,
    /// How long one look may take.
    pub timeout: Duration,
}

/// One app.
#[derive(Debug, Clone, PartialEq)]
pub struct AppPolicy {
    /// Its name.
    pub name: AppName,
    /// Apps of one group move as one event.
    pub group: String,
    /// Waiting groups go in falling order of this.
    pub priority: i64,
    /// Who may start a move.
    pub mode: Mode,
    /// Promise to users; reported, not enforced.
    pub rto_objective: Duration,
    /// The data-loss gate.
    pub rpo_objective: Duration,
    /// What the gate does beyond it.
    pub on_rpo_exceeded: OnRpoExceeded,
    /// From the first failed look to "confirmed", at least.
    pub min_outage: Duration,
    /// No automatic move this long after the daemon's start.
    pub startup_grace: Duration,
    /// No automatic move this long after the last one.
    pub cooldown: Duration,
    /// How long an approval is waited for.
    pub approval_timeout: Duration,
    /// How long a move may take before a person is asked.
    pub move_timeout: Duration,
    /// How long the proof may take before a person is asked.
    pub prove_timeout: Duration,
    /// Others may move this app's traffic, and the operator knows it.
    pub traffic_is_autonomous: bool,
    /// The front door's pace.
    pub front_door: Pace,
    /// The two sites.
    pub primary: SitePolicy,
    /// The two sites.
    pub standby: SitePolicy,
    /// Steps towards the standby.
    pub failover: Plan,
    /// Steps back; empty where the way back is a rebuild by hand.
    pub failback: Plan,
}

impl AppPolicy {
    /// The site of that name.
    pub fn site(&self, name: SiteName) -> &SitePolicy {
        match name {
            SiteName::Primary => &self.primary,
            SiteName::Standby => &self.standby,
        }
    }

    /// The plan that ends at `target`.
    pub fn plan_to(&self, target: SiteName) -> &Plan {
        match target {
            SiteName::Primary => &self.failback,
            SiteName::Standby => &self.failover,
        }
    }
}

/// What holds for all apps together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetPolicy {
    /// Witnesses, or standbys standing in for one, that must be known up: fewer, and we are the lonely one.
    pub need_up: usize,
    /// Number of witness addresses; zero: only the other site can witness.
    pub witnesses: usize,
    /// Groups that may move at the same time.
    pub max_concurrent_groups: usize,
}
