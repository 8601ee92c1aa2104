//! Where an app comes to rest if nobody touches it and nothing changes.

use watchover::domain::ledger::GateState;
use watchover::domain::model::{Health, State};
use watchover::domain::quorum::Point;

use super::spot::{Spot, Tally};
use super::stage::patience;

fn shut_with_words(spot: &Spot) -> bool {
    let (_, gates, _) = spot.app.view(&spot.around, spot.now).gates(spot.app.direction(), Point::Start);
    gates.iter().any(|gate| gate.state != GateState::Open && !gate.words.is_empty())
}

/// True if the status names a signal of the site in question that is not well.
fn names_a_signal(spot: &Spot) -> bool {
    let source = spot.app.direction().source();
    let words = spot.app.site_words(source, spot.now);
    words.contains("down") || words.contains("unknown")
}

/// At rest, or waiting for a person and saying so.
pub fn rests(spot: &Spot) -> bool {
    let ledger = spot.app.ledger();
    match ledger.state {
        State::Watching => true,
        State::Stuck => ledger.incident.as_ref().and_then(|open| open.stuck.as_ref()).is_some_and(|(words, waits_for)| {
            let named = waits_for.contains("`watchover ") || waits_for.contains("a person");
            !words.is_empty() && named
        }),
        State::AwaitingApproval => shut_with_words(spot),
        // Held by no gate it is held because nobody knows how its site is: then the signals say so.
        State::Held => {
            shut_with_words(spot) || (spot.app.site(spot.app.direction().source(), spot.now).health != Health::Down && names_a_signal(spot))
        }
        State::Suspect | State::Confirmed | State::Moving | State::Proving => false,
    }
}

/// Nothing but time passes: within the sum of all time limits the app rests. A doubt that lasts as long as one of two
/// signals stays bad has no end of its own; it must name that signal.
pub fn found(from: &Spot, tally: &mut Tally) -> Result<(u64, Spot), String> {
    let mut spot = from.clone();
    let limit = patience(spot.app.policy());
    if spot.pass(limit, tally, rests)? {
        return Ok((spot.now.since(from.now).as_secs(), spot));
    }
    let state = spot.app.ledger().state;
    if state == State::Suspect && names_a_signal(&spot) {
        return Ok((0, spot));
    }
    Err(format!("no exit: still {state} after {}s, and it does not say for whom or what it waits", limit.as_secs()))
}
