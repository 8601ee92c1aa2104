//! Pairs of state and entry that `Entry::leads` allows and no decision makes, each with its reason.

use watchover::domain::model::State;

/// Rows of the daemon itself: no app decides them.
pub const DAEMON: &[&str] = &["started", "stopped", "gap", "clock-stepped", "reloaded"];

const BEFORE_A_MOVE: &[State] = &[State::Suspect, State::Confirmed, State::Held, State::AwaitingApproval];

/// `(entry, states, reason)`
pub const NEVER: &[(&str, &[State], &str)] = &[
    ("approved", &[State::Suspect], "nothing is asked yet: the order is refused"),
    ("active", &[State::Stuck], "to adopt a site closes the stuck incident first, and nothing is learned while it is stuck"),
    ("authority-moved", BEFORE_A_MOVE, "only the proof of our own move looks for it; before that it is `moved-by-others`"),
    ("authority-moved", &[State::Moving, State::Stuck], "the proof begins when every step has ended"),
    ("old-site-seen", BEFORE_A_MOVE, "the last move's is over with the next incident, and this one has moved no data"),
    (
        "old-site-seen",
        &[State::Moving, State::Stuck],
        "a fence beside the data step may still prove itself: judged when every step has ended",
    ),
    ("step-trouble", &[State::Stuck], "of what still answers only a success is taken down; older journals have it"),
    ("step-progress", &[State::Stuck], "of what still answers only a success is taken down; older journals have it"),
    ("step-failed", &[State::Stuck], "of what still answers only a success is taken down; older journals have it"),
    ("step-undone", &[State::Stuck], "of what still answers only a success is taken down; older journals have it"),
];
