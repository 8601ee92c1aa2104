//! A change whose number is lost, in a restart or with its answer: whether the zone's own servers answer as it says.
//!
//! To ask for the same records once more would give a new number, and be a change that nobody permitted.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::*;
use crate::adapters::dns::Dns;
use crate::adapters::steps::Authority;

/// Within this (microseconds) Route 53 usually has a change on all of its servers (API reference of
/// `ChangeResourceRecordSets`: generally within 60 seconds). Waited out where its servers' answers cannot tell.
const USUAL: i64 = 60_000_000;
/// Where less than this is left of the step's time, records that read back right count as they are: with one more wait it
/// would fail for its deadline, though only what nobody can tell is missing.
const LAST: Duration = Duration::from_secs(6);
/// How long the servers are asked, at most: a look, its questions and the wait for the next one fit into [`LAST`].
const PATIENCE: Duration = Duration::from_secs(2);

/// Types by which a name leads to addresses.
const LEADING: &[&str] = &["A", "AAAA", "CNAME"];

/// Where users are sent by the records of one name: addresses and host names.
fn targets(records: &[Record], name: &str) -> BTreeSet<String> {
    let leads = |record: &&Record| {
        let has_share = record.weight != Some(0) && record.failover.as_deref() != Some("SECONDARY");
        canonical(&record.name) == name && LEADING.contains(&record.kind.as_str()) && has_share
    };
    let alias = |record: &Record| record.alias_target.as_ref().map(|alias| alias.dns_name.clone());
    let all = records.iter().filter(leads).flat_map(|record| {
        let values = record.values.iter().flatten().map(|value| value.value.clone());
        values.chain(alias(record)).collect::<Vec<_>>()
    });
    all.map(|target| canonical(&target).trim_start_matches("dualstack.").to_owned()).collect()
}

/// `None`: the zone's own servers send users where no record sent them before. Else why that is not seen, in words.
async fn unseen(before: &[Record], now: &[Record], authority: &dyn Authority, dns: &Dns) -> Option<String> {
    let asking = async {
        let names: BTreeSet<String> = now.iter().map(|record| canonical(&record.name)).collect();
        let mut seen = false;
        for name in names {
            let fresh: Vec<String> = targets(now, &name).difference(&targets(before, &name)).cloned().collect();
            if fresh.is_empty() {
                continue;
            }
            let answered = match authority.authoritative(&name).await {
                Ok(answered) => answered,
                Err(why) => return Some(format!("the zone's own servers do not say where {name} points: {why}")),
            };
            let mut theirs: BTreeSet<IpAddr> = BTreeSet::new();
            for target in &fresh {
                match dns.addresses(target).await {
                    Ok(found) => theirs.extend(found.addresses),
                    Err(why) => return Some(format!("{target}, to which {name} points now: {why}")),
                }
            }
            if !answered.iter().any(|address| theirs.contains(address)) {
                return Some(format!("the zone's own servers do not answer {name} with {} yet", fresh.join(", ")));
            }
            seen = true;
        }
        (!seen).then(|| "no answer of the zone's own servers would tell it".to_owned())
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| Some("the zone's own servers did not answer in time".to_owned()))
}

impl Records {
    /// What is known of the spread of records that stand as they should, `before` being what stood there; or what is waited for.
    pub(super) async fn spread(&self, cx: &StepContext, before: &[Record], now: &[Record]) -> Result<&'static str, String> {
        let Some(words) = unseen(before, now, self.authority.as_ref(), &self.dns).await else { return Ok("answered") };
        // A clock that was set back begins the wait anew rather than making it longer.
        let since = self.memory(|memory| *memory.right.insert(memory.right.map_or(cx.now, |since| since.min(cx.now))));
        if cx.now - since >= USUAL || cx.time_left < LAST {
            return Ok("unknown");
        }
        Err(format!("the records stand, and the number of their change is lost: {words}"))
    }
}
