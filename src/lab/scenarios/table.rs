//! The table of scenarios.

use std::time::Duration;

use super::{Check, Crash, Cue, Deed, Expected, Later, Order, Scenario};
use crate::lab::action::Action;
use crate::lab::faults::Fault;
use crate::lab::world::{PRIMARY_REGION, STANDBY_REGION, SiteMode, SiteName, Traffic};
use crate::lab::{ConfigOptions, Plans, Setting};

/// All scenarios, in the order in which they are listed.
pub fn all() -> Vec<Scenario> {
    let mut all = first();
    all.extend(moves());
    all.extend(stays());
    all
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn plain(name: &'static str, summary: &'static str, expected: Expected, steps: Vec<(Duration, Action)>) -> Scenario {
    Scenario {
        name,
        summary,
        expected,
        traffic: Traffic::Route53,
        setting: Setting::default(),
        options: ConfigOptions::default(),
        steady: "go",
        steps,
        later: Vec::new(),
        crash: None,
        watch: if expected.acts() { at(60) } else { at(15) },
        linger: Duration::from_millis(1_500),
        loses_nothing: !expected.acts(),
        checks: Vec::new(),
    }
}

fn dark() -> Action {
    region(PRIMARY_REGION, true)
}

fn region(region: &str, dark: bool) -> Action {
    Action::Region { region: region.to_owned(), dark }
}

fn front(mode: SiteMode) -> Action {
    Action::Site { site: SiteName::Primary, mode }
}

/// Calls that are answered with this error: so many of them, or all.
fn refused(service: &str, region: &str, operation: &str, (status, code, message): (u16, &str, &str), times: Option<u32>) -> Action {
    let fault = Fault::Answer { status, code: code.to_owned(), message: message.to_owned() };
    let (service, region, operation) = (service.to_owned(), region.to_owned(), operation.to_owned());
    Action::Fault { service, region, operation, fault, times, for_ms: None }
}

const GONE: (u16, &str, &str) = (503, "ServiceUnavailable", "The service is unavailable.");
const THROTTLED: (u16, &str, &str) = (400, "Throttling", "Rate exceeded");

fn on(cue: Cue, wait: Duration, deed: Deed) -> Later {
    Later { cue, wait, deed }
}

/// The thread of the main job.
fn first() -> Vec<Scenario> {
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
                vec![(at(0), refused("route53", "*", "*", GONE, None)), (at(0), dark())],
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

/// Those in which the app has to move.
fn moves() -> Vec<Scenario> {
    vec![
        Scenario {
            loses_nothing: true,
            setting: Setting { single_machine: true, ..Setting::default() },
            ..plain(
                "instance-stopped",
                "The primary is one machine that nothing replaces, and somebody stops it in EC2. The region and its APIs live.",
                Expected::Moved,
                vec![(at(0), Action::Stop { group: "shop-primary".to_owned() })],
            )
        },
        Scenario {
            traffic: Traffic::Autonomous,
            options: ConfigOptions { plans: Plans::PromoteOnly, ..ConfigOptions::default() },
            ..plain(
                "promote-only",
                "Route 53's own failover records move the users; the plan is the promotion alone. The primary region goes dark.",
                Expected::Moved,
                vec![(at(0), dark())],
            )
        },
        Scenario {
            setting: Setting { readers: true, ..Setting::default() },
            options: ConfigOptions { plans: Plans::TrafficOnly, cooldown: "1s".to_owned(), ..ConfigOptions::default() },
            later: vec![on(Cue::Steady, at(1), Deed::Give(Order::Failover)), on(Cue::Moved, at(3), Deed::Give(Order::Failback))],
            linger: at(4),
            loses_nothing: true,
            checks: vec![Check::NobodyNoticed],
            ..plain(
                "dns-validation",
                "Nothing is broken: a person moves the traffic of an app without data to the standby and back, to see that the way is good. Not one request fails.",
                Expected::Returned,
                Vec::new(),
            )
        },
        Scenario {
            checks: vec![Check::ThrottleMet(&["rds", "autoscaling", "route53"])],
            ..plain(
                "api-throttled",
                "The primary region goes dark while RDS, Auto Scaling and Route 53 throttle: the first calls are refused, whole, and made again.",
                Expected::Moved,
                vec![
                    (at(0), refused("rds", STANDBY_REGION, "PromoteReadReplica", THROTTLED, Some(3))),
                    (at(0), refused("rds", STANDBY_REGION, "DescribeDBInstances", THROTTLED, Some(4))),
                    (at(0), refused("autoscaling", STANDBY_REGION, "UpdateAutoScalingGroup", THROTTLED, Some(5))),
                    (at(0), refused("autoscaling", STANDBY_REGION, "DescribeAutoScalingGroups", THROTTLED, Some(4))),
                    (at(0), refused("route53", "*", "ChangeResourceRecordSets", THROTTLED, Some(4))),
                    (at(0), refused("route53", "*", "ListResourceRecordSets", THROTTLED, Some(2))),
                    (at(0), dark()),
                ],
            )
        },
        Scenario {
            loses_nothing: true,
            // A run of failures is what a half-dead site hardly ever shows; here it may not help.
            options: ConfigOptions { fall: 12, window: ("20s".to_owned(), 0.4), drain: "2s".to_owned(), ..ConfigOptions::default() },
            ..plain(
                "brown-out",
                "Every second answer of the primary is an error. No run of failures trips; the rate does.",
                Expected::Moved,
                vec![(at(0), front(SiteMode::Share { fraction: 0.5 }))],
            )
        },
        Scenario {
            setting: Setting { past_writers: 1, ..Setting::default() },
            linger: at(3),
            checks: vec![Check::Unbounded],
            ..plain(
                "writers-survive",
                "The primary's front is dead and its group cannot be fenced, but its database lives, and a batch job writes to it past everything. What is lost has no bound, and the report says so.",
                Expected::Moved,
                vec![(at(0), refused("autoscaling", PRIMARY_REGION, "*", GONE, None)), (at(0), front(SiteMode::Refuse))],
            )
        },
        Scenario {
            // Behind the TTL: a user who came to the old site until then would only show what a TTL is.
            later: vec![on(Cue::Moved, at(3), Deed::Break(region(PRIMARY_REGION, false)))],
            linger: at(12),
            checks: vec![Check::NothingBack, Check::ReturnShows, Check::Unbounded],
            ..plain(
                "primary-returns",
                "As region-loss, and right after the move the primary comes back as if nothing had been. It gets no users, and it alarms.",
                Expected::Moved,
                vec![(at(0), dark())],
            )
        },
        Scenario {
            options: ConfigOptions { mode: "approval".to_owned(), ..ConfigOptions::default() },
            steady: "ask",
            later: vec![on(Cue::Asked, at(2), Deed::Give(Order::Approve))],
            checks: vec![Check::ApprovedFirst],
            ..plain(
                "approval-needed",
                "As region-loss, but the app's mode asks a person first. Nothing is changed until they say yes.",
                Expected::Moved,
                vec![(at(0), dark())],
            )
        },
        Scenario {
            setting: Setting { apps: 50, ..Setting::default() },
            // Fifty times the looks, answered by the same small machine: less often, and with patience.
            options: ConfigOptions { interval: ("3s".to_owned(), "2s".to_owned()), timeout: "2s".to_owned(), ..ConfigOptions::default() },
            checks: vec![Check::OneEvent],
            watch: at(90),
            ..plain(
                "many-apps",
                "Fifty apps of one region lose it at once. They move as one event, in few batches of records, within the pace of Route 53.",
                Expected::Moved,
                vec![(at(0), dark())],
            )
        },
    ]
}

/// Those in which nothing may be changed.
fn stays() -> Vec<Scenario> {
    vec![
        Scenario {
            checks: vec![Check::NeverConfirmed(8)],
            watch: at(28),
            ..plain(
                "flapping",
                "The primary's front goes and comes: ten times for a moment, then three times for a second and a half. It is watched closely, and nothing moves.",
                Expected::NoAction,
                flaps(),
            )
        },
        Scenario {
            setting: Setting { late: at(600), ..Setting::default() },
            options: ConfigOptions { on_rpo_exceeded: "hold".to_owned(), ..ConfigOptions::default() },
            steady: "hold",
            checks: vec![Check::LossStated],
            ..plain(
                "lag-over-objective",
                "The replica runs ten minutes late, twice what may be lost, and the primary region goes dark. The move is held.",
                Expected::Held,
                vec![(at(0), dark())],
            )
        },
        Scenario {
            setting: Setting { broken: at(600), ..Setting::default() },
            steady: "hold",
            checks: vec![Check::LossStated],
            ..plain(
                "replication-broken",
                "The replica's link broke ten minutes ago, nobody mended it, and the primary region goes dark. The move is held, and says what it would lose.",
                Expected::Held,
                vec![(at(0), dark())],
            )
        },
        plain(
            "both-regions-down",
            "Both regions go dark while the witnesses answer: it is not us, and there is nowhere to go.",
            Expected::Held,
            vec![(at(0), region(STANDBY_REGION, true)), (at(0), dark())],
        ),
    ]
}

/// Short ones that never make a run, with too little good time between them to be believed; then long ones that trip, and
/// are over before an outage is one.
fn flaps() -> Vec<(Duration, Action)> {
    let mut steps = Vec::new();
    let mut now = 0;
    for (times, away, well) in [(10, 300, 900), (3, 1_500, 2_500)] {
        for _ in 0..times {
            steps.push((Duration::from_millis(now), front(SiteMode::Refuse)));
            steps.push((Duration::from_millis(now + away), front(SiteMode::Ok)));
            now += away + well;
        }
    }
    steps
}
