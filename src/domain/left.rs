//! The site that a move has left: one sign of life from it, behind its fence or without one, takes the bound off the loss.
//!
//! The bound rests on the old site taking no write after its proven fence or, unfenced, after its front went silent. A
//! site that answers again, or a database that RDS calls available and standing alone, contradicts it: what it takes from
//! then on the new one lacks. Whether anybody does write there cannot be read in time (RDS counts connections and writes
//! by the minute, minutes late), and an upper bound must not rest on hope.

use std::time::Duration;

use super::app::{App, Decision};
use super::ledger::Entry;
use super::model::{Moment, ReplicaState, SiteName, State};

/// Kinds of signals that speak with the site itself: one that is up says that the site answers. Others read about it.
const SPEAKS: &[&str] = &["http", "tcp"];
/// How long after the end of a move a sign of life still changes its figures. By then the old site has been seen to by
/// people: it is fenced, or built anew as the standby, whose web servers answer by right.
const WATCHED: Duration = Duration::from_secs(24 * 3600);

/// The entry that takes the bound off, if the site that was left has shown itself.
pub(super) fn old_site_seen(app: &App, now: Moment) -> Option<Decision> {
    let entry = |incident: &str, site, at, words| Entry::OldSiteSeen { incident: incident.to_owned(), site, at, words };
    let (incident, site, since) = match (&app.ledger.incident, &app.ledger.left) {
        // A fence that runs beside the data step may still prove itself: judged when every step has ended.
        (Some(open), _) if app.ledger.state == State::Proving => {
            let (site, since) = (open.direction.source(), open.strays_since()?);
            if let Some((at, words)) = open.old_writer_seen() {
                return Some(Decision::entry(entry(&open.id, site, now.at_wall(at), words.to_owned())));
            }
            (&open.id, site, since)
        }
        (None, Some(left)) if now.since(left.closed) < WATCHED => (&left.incident, left.site, left.since),
        _ => return None,
    };
    let (at, words) = alive(app, site, since)?;
    Some(Decision::entry(entry(incident, site, at, words)))
}

/// The latest sign of life at or after `since`, and which signal saw it. A site whose database is a replica again takes no
/// writes, however its link is; what it is has to be read first, and one reading that fails changes nothing.
pub(super) fn alive(app: &App, site: SiteName, since: Moment) -> Option<(Moment, String)> {
    let policies = &app.policy.site(site).signals;
    let stands_alone = |at: usize| app.link.get(&(site, at)) == Some(&ReplicaState::NotAReplica);
    if (0..policies.len()).any(|at| policies[at].replica && !stands_alone(at)) {
        return None;
    }
    let speaking = policies.iter().zip(app.signals(site)).filter(|(policy, _)| policy.counts && SPEAKS.contains(&policy.kind.as_str()));
    let seen = speaking.filter_map(|(policy, signal)| Some((signal.last_up().filter(|up| up.mono >= since.mono)?, &policy.name)));
    seen.max_by_key(|(at, _)| at.mono).map(|(at, name)| (at, format!("{site}.{name} answers")))
}
