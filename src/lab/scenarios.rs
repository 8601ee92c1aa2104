//! What a scenario is: the world it plays in, what is broken when, what a person does, and how it has to end.

mod table;

use std::time::Duration;

use serde::Serialize;

use super::action::Action;
use super::world::Traffic;
use super::{ConfigOptions, Setting};

pub use table::all;

/// How a scenario has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expected {
    /// Every app moved, and users are served at the standby.
    Moved,
    /// Every app moved and came back by command, and users are served at the primary again.
    Returned,
    /// Nothing was done, and nothing is pending.
    NoAction,
    /// The outage is confirmed, and a gate holds the move.
    Held,
    /// The outage is confirmed, and a person is asked.
    AwaitingApproval,
}

impl Expected {
    /// The word in reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Moved => "moved",
            Self::Returned => "returned",
            Self::NoAction => "no-action",
            Self::Held => "held",
            Self::AwaitingApproval => "awaiting-approval",
        }
    }

    /// Whether something is changed at AWS; else nothing may be.
    pub fn acts(self) -> bool {
        matches!(self, Self::Moved | Self::Returned)
    }
}

/// When the daemon is killed, and for how long it stays away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crash {
    /// The kind of the world's event right after which it is killed.
    pub after_event: &'static str,
    /// How long until it is started again.
    pub away: Duration,
}

/// What something waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cue {
    /// The daemon watches, and its gates say what they should.
    Steady,
    /// An app awaits approval.
    Asked,
    /// Every app has moved.
    Moved,
}

/// An order of a person, given with the command line that anybody would use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// `failover --graceful` of the first app.
    Failover,
    /// `failback` of the first app.
    Failback,
    /// `approve` of the first app's incident.
    Approve,
}

/// What is done on a cue.
#[derive(Clone, Debug, PartialEq)]
pub enum Deed {
    /// Something is broken or mended.
    Break(Action),
    /// A person gives an order.
    Give(Order),
}

/// Something that waits for its cue.
#[derive(Clone, Debug, PartialEq)]
pub struct Later {
    /// What it waits for.
    pub cue: Cue,
    /// How long after that.
    pub wait: Duration,
    /// What is done then.
    pub deed: Deed,
}

/// What must hold at the end of a scenario besides its outcome and the invariants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// The reported loss has no bound.
    Unbounded,
    /// After the move no second one began, and no front door pointed back.
    NothingBack,
    /// Status and metrics show that the site that was left answers again.
    ReturnShows,
    /// Not one request of a user failed.
    NobodyNoticed,
    /// No outage was ever confirmed, and the journal was not flooded with incidents: at most this many.
    NeverConfirmed(usize),
    /// Nothing was changed before a person had approved.
    ApprovedFirst,
    /// The gates stated a loss no smaller than a move would truly have had.
    LossStated,
    /// AWS throttled calls of each of these services, and they were made again.
    ThrottleMet(&'static [&'static str]),
    /// All apps moved as one event: every plan began before the first app was done, and Route 53 was asked in few batches,
    /// within its pace.
    OneEvent,
}

/// One scenario.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Name on the command line.
    pub name: &'static str,
    /// What happens, in a sentence.
    pub summary: &'static str,
    /// How it has to end.
    pub expected: Expected,
    /// How traffic is moved in it.
    pub traffic: Traffic,
    /// How its world is set up, where it is not the ordinary one.
    pub setting: Setting,
    /// How the daemon is configured, where it is not by the reference.
    pub options: ConfigOptions,
    /// What all gates together say before anything is broken: `go`, `ask` or `hold`.
    pub steady: &'static str,
    /// What is broken or mended, by time since the daemon is steady.
    pub steps: Vec<(Duration, Action)>,
    /// What is done on cues, each once, in this order.
    pub later: Vec<Later>,
    /// Whether and when the daemon is killed.
    pub crash: Option<Crash>,
    /// How long to wait for the end; for those that expect none, how long to watch that nothing happens.
    pub watch: Duration,
    /// How long to look on after the end.
    pub linger: Duration,
    /// Whether not one acknowledged write may be lost.
    pub loses_nothing: bool,
    /// What else must hold at its end.
    pub checks: Vec<Check>,
}

/// One scenario by its name.
pub fn find(name: &str) -> Option<Scenario> {
    all().into_iter().find(|s| s.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_issues_name_them() {
        let names: std::collections::BTreeSet<&str> = all().iter().map(|s| s.name).collect();
        for name in [
            "region-loss",
            "app-stopped",
            "instance-terminated",
            "bastion-isolated",
            "standby-down",
            "control-plane-down",
            "crash-mid-failover",
            "instance-stopped",
            "promote-only",
            "dns-validation",
            "flapping",
            "lag-over-objective",
            "replication-broken",
            "api-throttled",
            "brown-out",
            "writers-survive",
            "primary-returns",
            "both-regions-down",
            "approval-needed",
            "many-apps",
        ] {
            assert!(names.contains(name), "{name} is not in {names:?}");
        }
        assert_eq!(names.len(), all().len(), "a name is used twice");
        assert!(find("region-loss").is_some() && find("none").is_none());
    }
}
