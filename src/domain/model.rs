//! The words of the design as types: who, when, and what a look said.
//!
//! Nothing here reads a clock or touches the world; a [`Moment`] always comes in as an argument.

use std::fmt;
use std::ops::{Add, Sub};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An app's name; shared, because it travels with every event.
pub type AppName = Arc<str>;

/// One point in time on both of our clocks.
///
/// `mono` (microseconds, boot clock) orders and measures within one boot; `wall` (microseconds since
/// 1970) speaks to people and to CloudWatch, and bridges restarts of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Moment {
    /// Microseconds of the boot clock. Signed: a moment before this boot is negative.
    pub mono: i64,
    /// Microseconds since the Unix epoch.
    pub wall: i64,
}

impl Moment {
    /// Time passed since `earlier`; zero if `earlier` lies ahead.
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_micros(u64::try_from(self.mono.saturating_sub(earlier.mono)).unwrap_or(0))
    }

    /// The moment of `wall` on the timeline of `self`, which both clocks describe.
    pub fn at_wall(self, wall: i64) -> Moment {
        Moment { mono: self.mono.saturating_sub(self.wall.saturating_sub(wall)), wall }
    }

    /// This moment's wall clock in RFC 3339, to the millisecond.
    pub fn rfc3339(self) -> String {
        rfc3339(self.wall)
    }
}

/// Microseconds since 1970 in RFC 3339, to the millisecond; figures outside jiff's range as the number itself.
pub fn rfc3339(wall_micros: i64) -> String {
    match jiff::Timestamp::from_microsecond(wall_micros) {
        Ok(at) => format!("{at:.3}"),
        Err(_) => wall_micros.to_string(),
    }
}

/// A span that no clock here will ever show, and that still can be added to.
const FAR: i64 = 1 << 61;

impl Add<Duration> for Moment {
    type Output = Moment;
    fn add(self, by: Duration) -> Moment {
        let by = i64::try_from(by.as_micros()).unwrap_or(FAR);
        Moment { mono: self.mono.saturating_add(by), wall: self.wall.saturating_add(by) }
    }
}

impl Sub<Duration> for Moment {
    type Output = Moment;
    fn sub(self, by: Duration) -> Moment {
        let by = i64::try_from(by.as_micros()).unwrap_or(FAR);
        Moment { mono: self.mono.saturating_sub(by), wall: self.wall.saturating_sub(by) }
    }
}

/// Declares a closed set of words: an enum whose names are the same in log, metric, journal and API.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name { $($(#[$doc])* #[serde(rename = $word)] $variant),+ }
        impl $name {
            /// Every value, in declaration order.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];
            /// The word used everywhere for this value.
            pub const fn as_str(self) -> &'static str { match self { $($name::$variant => $word),+ } }
            /// The value that `word` names.
            pub fn parse(word: &str) -> Option<$name> { match word { $($word => Some($name::$variant),)+ _ => None } }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.pad(self.as_str()) }
        }
    };
}
pub(crate) use words;

words! {
    /// One region's half of an app. The names never swap; which site is active does.
    SiteName { Primary = "primary", Standby = "standby" }
}

impl SiteName {
    /// The other half.
    pub const fn other(self) -> SiteName {
        match self {
            SiteName::Primary => SiteName::Standby,
            SiteName::Standby => SiteName::Primary,
        }
    }
}

words! {
    /// Which way a move goes.
    Direction { ToStandby = "to-standby", ToPrimary = "to-primary" }
}

impl Direction {
    /// The site that the move goes to.
    pub const fn target(self) -> SiteName {
        match self {
            Direction::ToStandby => SiteName::Standby,
            Direction::ToPrimary => SiteName::Primary,
        }
    }

    /// The site that the move leaves.
    pub const fn source(self) -> SiteName {
        self.target().other()
    }

    /// The direction that ends at `target`.
    pub const fn towards(target: SiteName) -> Direction {
        match target {
            SiteName::Primary => Direction::ToPrimary,
            SiteName::Standby => Direction::ToStandby,
        }
    }
}

words! {
    /// What opened an incident.
    Trigger { Outage = "outage", Operator = "operator", Drill = "drill" }
}

words! {
    /// How an incident ended.
    Outcome {
        NoAction = "no-action", CalledOff = "called-off", Declined = "declined", Moved = "moved",
        Returned = "returned", Aborted = "aborted", Stuck = "stuck",
    }
}

words! {
    /// Where an app is in its life. One-hot in `watchover_app_state`.
    State {
        Watching = "watching", Suspect = "suspect", Confirmed = "confirmed", Held = "held",
        AwaitingApproval = "awaiting-approval", Moving = "moving", Proving = "proving", Stuck = "stuck",
    }
}

words! {
    /// Who may start a move.
    Mode { Observe = "observe", Approval = "approval", Automatic = "automatic" }
}

words! {
    /// What a signal, or a site by its rule, amounts to after debouncing.
    Health { Up = "up", Down = "down", Unknown = "unknown" }
}

words! {
    /// Why a look said what it said. A closed set: it labels logs, metrics and the journal alike.
    Cause {
        // The world answered, and the answer is bad.
        Refused = "refused", Reset = "reset", TimedOut = "timed-out", NxDomain = "nxdomain", Tls = "tls-invalid",
        Status = "wrong-status", Body = "wrong-body", Header = "wrong-header", Redirects = "too-many-redirects",
        Malformed = "malformed-answer", TooLarge = "answer-too-large",
        ReplicaStopped = "replication-stopped", ReplicaError = "replication-error",
        ReplicaTerminated = "replication-terminated", NotAReplica = "not-a-replica",
        InstanceStatus = "instance-status", NotFound = "not-found",
        Address = "wrong-address", Threshold = "threshold-crossed", Alarm = "alarm", FewTargets = "too-few-targets",
        // We could not tell.
        NoRoute = "no-route", FileLimit = "file-limit", ResolverTimeout = "resolver-timeout",
        ResolverFailed = "resolver-failed", NoCredentials = "no-credentials", AccessDenied = "access-denied",
        Throttled = "throttled", ApiUnavailable = "api-unavailable", LoopLate = "loop-late", NoData = "no-data", Stale = "stale-data",
        LagUnknown = "lag-unknown", Insufficient = "insufficient-data", Settling = "targets-settling",
        // A replica's signal on the site that is active: it became the primary, and has nothing to say until it replicates again.
        Dormant = "dormant",
        NotLookedYet = "not-looked-yet", Unclassified = "unclassified",
    }
}

/// What one look said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "verdict", content = "cause")]
pub enum Verdict {
    /// It answered as it should.
    Up,
    /// It answered wrongly, or proved that it does not answer.
    Down(Cause),
    /// We cannot tell, and the fault may be ours. Counts for nothing.
    Unknown(Cause),
}

impl Verdict {
    /// The verdict without its cause, as the metric label says it.
    pub const fn health(self) -> Health {
        match self {
            Verdict::Up => Health::Up,
            Verdict::Down(_) => Health::Down,
            Verdict::Unknown(_) => Health::Unknown,
        }
    }

    /// The cause, if the verdict is not `up`.
    pub const fn cause(self) -> Option<Cause> {
        match self {
            Verdict::Up => None,
            Verdict::Down(cause) | Verdict::Unknown(cause) => Some(cause),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cause() {
            None => f.write_str("up"),
            Some(cause) => write!(f, "{} ({cause})", self.health()),
        }
    }
}

words! {
    /// How the replication link is, in the field's own words; where it flows, what its lag says about itself. One-hot in
    /// `watchover_replication_state`.
    ReplicaState {
        Replicating = "replicating", Degraded = "degraded",
        /// The lag climbs a second a second, as PostgreSQL's does while nothing is written (or nothing arrives).
        Idle = "idle",
        /// The newest datapoint is negative: the engine does not know its lag.
        LagUnknown = "lag-unknown",
        /// There is no datapoint at all.
        NoData = "no-data",
        /// The newest datapoint is too old to mean anything.
        Stale = "stale-data",
        Error = "error", Stopped = "stopped", Terminated = "terminated",
        StopPointSet = "stop-point-set", StopPointReached = "stop-point-reached",
        NotAReplica = "not-a-replica",
        /// Not a replica, on the site that is active: as it should be.
        Dormant = "dormant",
        Unknown = "unknown",
    }
}

impl ReplicaState {
    /// True while data flows and the newest datapoint is a number, however old.
    pub const fn has_lag(self) -> bool {
        matches!(self, ReplicaState::Replicating | ReplicaState::Degraded | ReplicaState::Idle | ReplicaState::Stale)
    }
}

/// One datapoint of replication lag.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LagSample {
    /// The datapoint's timestamp: the *start* of its period, microseconds since 1970. What was committed
    /// before `at - seconds` is on the replica.
    pub at: i64,
    /// Length of the period that the datapoint covers, microseconds.
    pub period: i64,
    /// The largest lag within the period, seconds. Negative never gets here: `-1` is "broken", not a number.
    pub seconds: f64,
}

impl LagSample {
    /// The moment (wall, microseconds) up to which everything is known to be replicated.
    pub fn replicated_until(&self) -> i64 {
        self.at.saturating_sub((self.seconds * 1e6) as i64)
    }
}

/// What a look at a replica found besides its verdict.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplicaReading {
    /// The link's state.
    pub state: ReplicaState,
    /// The visible history of the lag, oldest first, at most 15 minutes; only numbers that mean something.
    pub samples: Vec<LagSample>,
}

/// The durations of one look's phases; `None` where the phase was not reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Phases {
    /// Name to addresses.
    pub resolve: Option<Duration>,
    /// TCP handshake.
    pub connect: Option<Duration>,
    /// TLS handshake.
    pub tls: Option<Duration>,
    /// Request sent to first byte of the answer.
    pub wait: Option<Duration>,
    /// First byte to the end of what is read.
    pub body: Option<Duration>,
}

/// What a probe found; the runtime adds who and when.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// What the look says.
    pub verdict: Verdict,
    /// Words for a person (status line, address tried); never a secret, at most a line.
    pub detail: String,
    /// Durations of its phases.
    pub phases: Phases,
    /// Set by replica signals.
    pub replica: Option<ReplicaReading>,
    /// Set by the front door: the site that the answer is proven to come from.
    pub from: Option<SiteName>,
    /// When the evidence itself is from (wall, microseconds), where it is renewed more slowly than it is looked at: a
    /// datapoint that is read again counts once.
    pub evidence: Option<i64>,
    /// When the certificate shown ends (wall, microseconds), where TLS was spoken.
    pub certificate: Option<i64>,
}

impl Finding {
    /// A finding with nothing but its verdict and a line for a person.
    pub fn new(verdict: Verdict, detail: impl Into<String>) -> Finding {
        Finding { verdict, detail: detail.into(), phases: Phases::default(), replica: None, from: None, evidence: None, certificate: None }
    }
}

/// What was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A signal of a site, by its place in the site's list.
    Signal(SiteName, usize),
    /// The public name, through resolvers that honour TTLs.
    FrontDoor,
    /// The public name as the zone's own servers answer it now.
    Authority,
}

/// One look, done.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// What was looked at.
    pub subject: Subject,
    /// When the look was sent: RTO counts from here.
    pub sent: Moment,
    /// When its answer, or the lack of one, was known.
    pub done: Moment,
    /// What it found.
    pub finding: Finding,
}

/// Who asked for something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// `uid 1000 (alice)`, or `watchover` for the daemon itself.
    pub who: String,
    /// Why, in their words.
    pub reason: String,
}
/// A number of things: `1 app`, `2 apps`.
pub fn counted(count: usize, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_has_two_clocks_and_words() {
        let now = Moment { mono: 50_000_000, wall: 1_700_000_050_000_000 };
        assert_eq!(now.at_wall(now.wall - 7), Moment { mono: 49_999_993, wall: now.wall - 7 });
        assert_eq!(now.rfc3339(), "2023-11-14T22:14:10.000Z");
        assert_eq!(rfc3339(1_700_000_000_123_456), "2023-11-14T22:13:20.123Z");
        assert_eq!(rfc3339(i64::MAX), i64::MAX.to_string());
        let second = Duration::from_secs(1);
        assert_eq!(now - second, Moment { mono: 49_000_000, wall: 1_700_000_049_000_000 });
        assert_eq!(now + second - second, now);
        let (soon, never) = (now + 9 * second, now + Duration::MAX);
        assert!(soon < never && never.since(soon) > Duration::from_secs(86_400 * 365 * 10_000), "what no clock holds is far away");
    }

    #[test]
    fn words_are_as_people_say_them() {
        assert_eq!([counted(0, "app"), counted(1, "app"), counted(2, "app")], ["0 apps", "1 app", "2 apps"]);
        assert_eq!(Verdict::Up.to_string(), "up");
        assert_eq!(Verdict::Down(Cause::Refused).to_string(), "down (refused)");
        assert_eq!(Verdict::Unknown(Cause::NoRoute).to_string(), "unknown (no-route)");
        let flows = [ReplicaState::Replicating, ReplicaState::Degraded, ReplicaState::Idle, ReplicaState::Stale];
        let numbers: Vec<_> = ReplicaState::ALL.iter().copied().filter(|state| state.has_lag()).collect();
        assert_eq!(numbers, flows);
    }
}
