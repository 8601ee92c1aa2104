//! The table of scenarios: what is broken when, and how it has to end.

use std::time::Duration;

use serde::Serialize;

use super::action::Action;
use super::faults::Fault;
use super::world::{PRIMARY_REGION, SiteName, Traffic};

/// How a scenario has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expected {
    /// The app moved, and users are served at the standby.
    Moved,
    /// Nothing was done, and nothing is pending.
    NoAction,
    /// The outage is confirmed, and a gate holds the move.
    Held,
}

impl Expected {
    /// The word in reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Moved => "moved",
            Self::NoAction => "no-action",
            Self::Held => "held",
        }
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
    /// What is broken or mended, by time since the daemon is steady.
    pub steps: Vec<(Duration, Action)>,
    /// Whether and when the daemon is killed.
    pub crash: Option<Crash>,
    /// How long to wait for the end; for those that expect none, how long to watch that nothing happens.
    pub watch: Duration,
    /// Whether not one acknowledged write may be lost.
    pub loses_nothing: bool,
}

/// All scenarios, in the order in which they are listed.
pub fn all() -> Vec<Scenario> {
    let at = Duration::from_secs;
    let dark = || Action::Region { region: PRIMARY_REGION.to_owned(), dark: true };
    let plain = |name, summary, expected, steps| Scenario {
        name,
        summary,
        expected,
        traffic: Traffic::Route53,
        steps,
        crash: None,
        watch: if expected == Expected::Moved { at(60) } else { at(15) },
        loses_nothing: expected != Expected::Moved,
    };
    vec![
        plain(
            "region-loss",
            "The whole primary region goes dark: its load balancer, its database and its APIs accept and stay silent.",
            Expected::Moved,
            vec![(at(0), dark())],
        ),
        Scenario {
            loses_nothing: true,
            ..plain(
                "app-stopped",
                "The web server dies on every machine of the primary; the region and its APIs live. The old primary is fenced and drained, and nothing is lost.",
                Expected::Moved,
                vec![(at(0), Action::App { site: SiteName::Primary, running: false })],
            )
        },
        plain(
            "instance-terminated",
            "One machine of the primary dies. The load balancer ejects it, its group replaces it, nobody else does anything.",
            Expected::NoAction,
            vec![(at(0), Action::Terminate { group: Some("shop-primary".to_owned()), id: None })],
        ),
        plain(
            "bastion-isolated",
            "The bastion is cut off from everything while users are served as ever. It has to hold.",
            Expected::Held,
            vec![(at(0), Action::Isolate { on: true })],
        ),
        plain(
            "standby-down",
            "The app in the standby is dead, and then the primary region goes dark. There is nowhere to go.",
            Expected::Held,
            vec![(at(0), Action::App { site: SiteName::Standby, running: false }), (at(4), dark())],
        ),
        Scenario {
            traffic: Traffic::S3Switch,
            ..plain(
                "control-plane-down",
                "The primary region goes dark and Route 53's API fails with it. An object in a third region still moves the users.",
                Expected::Moved,
                vec![
                    (
                        at(0),
                        Action::Fault {
                            service: "route53".to_owned(),
                            region: "*".to_owned(),
                            operation: "*".to_owned(),
                            fault: Fault::Answer {
                                status: 503,
                                code: "ServiceUnavailable".to_owned(),
                                message: "The service is unavailable.".to_owned(),
                            },
                            times: None,
                            for_ms: None,
                        },
                    ),
                    (at(0), dark()),
                ],
            )
        },
        Scenario {
            crash: Some(Crash { after_event: "promotion-accepted", away: at(1) }),
            ..plain(
                "crash-mid-failover",
                "As region-loss, and the daemon is killed right after the promotion was accepted, and started again.",
                Expected::Moved,
                vec![(at(0), dark())],
            )
        },
    ]
}

/// One scenario by its name.
pub fn find(name: &str) -> Option<Scenario> {
    all().into_iter().find(|s| s.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_issue_names_them() {
        let names: Vec<&str> = all().iter().map(|s| s.name).collect();
        assert_eq!(
            names,
            [
                "region-loss",
                "app-stopped",
                "instance-terminated",
                "bastion-isolated",
                "standby-down",
                "control-plane-down",
                "crash-mid-failover"
            ]
        );
        assert!(find("region-loss").is_some() && find("none").is_none());
    }
}
