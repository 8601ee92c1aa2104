//! `route53-records`: changes named attributes of records and leaves all else as it is read.
//!
//! A change replaces a record as a whole, so each one carries the record as it was read with only the named attributes changed.

mod balancer;
mod keys;
mod spread;
mod together;

use self::keys::{Keys, Wish, judge};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::adapters::Adapters;
use crate::adapters::aws::{Aws, partition};
use crate::adapters::dns::Dns;
use crate::adapters::registry::{KeyDoc, Place, StepKind};
use crate::adapters::route53_owner::{Alias, Edit, Found, Owner, Pick, Record, RecordValue, Survey, Zone, by_hand, canonical, edit};
use crate::adapters::shell::shell_word;
use crate::config::judge::Table;
use crate::domain::plan::{Class, PlannedStep, Repeat, Reversibility};
use crate::ports::{Call, ErrorClass, Inspection, Permission, ScriptContext, Step, StepContext, StepError, Verification};

/// The kind's entry in the registry.
pub static KIND: StepKind<Adapters> = StepKind {
    name: "route53-records",
    doc: "changes weights, failover roles, targets or checks of Route 53 records, all records of the step together",
    class: Class::Traffic,
    reversibility: Reversibility::Reversible,
    repeat: Repeat::Inspectable,
    default_deadline: "3m",
    at_source: false,
    refine: None,
    keys: &[
        KeyDoc { name: "zone_id", form: "string", default: "", doc: "The hosted zone." },
        KeyDoc {
            name: "records",
            form: "list of tables",
            default: "",
            doc: "Each picks a record by `name`, `type` and `set_identifier` and says what shall hold afterwards: `weight`, `failover` \
                  (\"PRIMARY\" or \"SECONDARY\"), `alias` (a load balancer's DNS name, in the step's account or our own), `values` (TXT in double \
                  quotes of its own: '\"v=spf1 -all\"') and `ttl`, `health_check_id` (\"\" takes it away). What is not named stays as it is read. \
                  A record set protection of one of these names and types makes Route 53 refuse the whole step, and nothing looks for one beforehand.",
        },
    ],
    judge,
    build,
    permissions,
};

/// The TTL of values that replace an alias, where none is named; an ELB alias has the same.
const DEFAULT_TTL: i64 = 60;
/// How long (microseconds) what `inspect` read is good enough to write back whole.
const FRESH: i64 = 5_000_000;

fn build(step: &PlannedStep, adapters: &Adapters) -> Result<Arc<dyn Step>, StepError> {
    let keys: Keys = super::stored(step)?;
    let zone = Zone { account: step.account.clone(), region: step.region.clone(), id: keys.zone_id };
    Ok(Arc::new(Records {
        owner: adapters.route53.clone(),
        aws: adapters.aws.clone(),
        authority: Arc::clone(&adapters.authority),
        dns: adapters.dns.clone(),
        zone,
        wishes: keys.records,
        memory: Mutex::default(),
    }))
}

fn permissions(step: &PlannedStep) -> Vec<Permission> {
    let Ok(keys) = super::stored::<Keys>(step) else { return Vec::new() };
    let arn = partition(&step.region);
    let may = |action: &str, resource: String| Permission { action: action.to_owned(), resource, account: step.account.clone() };
    let zone = format!("arn:{arn}:route53:::hostedzone/{}", keys.zone_id);
    let mut all = vec![
        may("route53:ListResourceRecordSets", zone.clone()),
        may("route53:ChangeResourceRecordSets", zone),
        may("route53:GetChange", format!("arn:{arn}:route53:::change/*")),
        // Which checks the records have, nobody knows beforehand.
        may("route53:GetHealthCheck", format!("arn:{arn}:route53:::healthcheck/*")),
    ];
    if keys.records.iter().any(|wish| wish.alias.is_some()) {
        all.extend(balancer::permissions(step));
    }
    all
}

/// What this process knows of the step between its calls. Lost in a restart; `inspect` comes first then.
#[derive(Default)]
struct Memory {
    /// When `inspect` read the records, and as what.
    read: Option<(i64, Vec<Record>)>,
    /// The change that is on its way.
    change: Option<String>,
    /// Since when the records read back right without a change's id.
    right: Option<i64>,
    /// Zones of the load balancers that aliases name.
    zones: BTreeMap<String, String>,
}

struct Records {
    owner: Owner,
    aws: Aws,
    authority: Arc<dyn super::Authority>,
    dns: Dns,
    zone: Zone,
    wishes: Vec<Wish>,
    memory: Mutex<Memory>,
}

impl Records {
    fn memory<T>(&self, with: impl FnOnce(&mut Memory) -> T) -> T {
        with(&mut self.memory.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The records as they are, in the order of the wishes.
    async fn read(&self) -> Result<Vec<Record>, StepError> {
        let picks = self.wishes.iter().map(|wish| wish.pick.clone()).collect();
        let found = self.owner.read(&self.zone, picks).await.map_err(|failure| failure.step())?;
        let mut records = Vec::with_capacity(found.len());
        for (wish, found) in self.wishes.iter().zip(found) {
            match found {
                Found::Record(record) if record.traffic_policy_instance_id.is_some() => {
                    let message = format!(
                        "record {} of zone {} belongs to a traffic policy and cannot be changed by itself",
                        wish.pick, self.zone.id
                    );
                    return Err(StepError::new(ErrorClass::Refused, "traffic-policy", message));
                }
                Found::Record(record) => records.push(*record),
                Found::Missing(there) => {
                    let there: Vec<String> = there.iter().map(Pick::to_string).collect();
                    let there = if there.is_empty() { "nothing of that name".to_owned() } else { there.join(", ") };
                    let message = format!(
                        "route53: zone {} has no record {}; there is {there}. Mend `name`, `type` or `set_identifier`",
                        self.zone.id, wish.pick
                    );
                    return Err(StepError::new(ErrorClass::Refused, "record-not-found", message));
                }
            }
        }
        Ok(records)
    }

    /// What the records shall be.
    async fn wanted(&self, records: &[Record]) -> Result<Vec<Record>, StepError> {
        let mut wanted = Vec::with_capacity(records.len());
        for (wish, record) in self.wishes.iter().zip(records) {
            let mut next = wish.on(record);
            if let Some(name) = &wish.alias {
                let (name, old) = (canonical(name), record.alias_target.as_ref());
                let plain = |alias: &Alias| canonical(&alias.dns_name).trim_start_matches("dualstack.").to_owned();
                // `dualstack.` is how the console spells the same load balancer.
                if old.is_none_or(|alias| plain(alias) != name.trim_start_matches("dualstack.")) {
                    let hosted_zone_id = self.zone_of(&name).await?;
                    let evaluate_target_health = old.is_some_and(|alias| alias.evaluate_target_health);
                    next.alias_target = Some(Alias { hosted_zone_id, dns_name: name, evaluate_target_health });
                    (next.values, next.ttl) = (None, None);
                }
            }
            wanted.push(next);
        }
        Ok(wanted)
    }
}

/// The changes of the records that differ from what is wanted.
fn differing(records: &[Record], wanted: &[Record]) -> Vec<Edit> {
    records.iter().zip(wanted).filter(|(is, wants)| !is.same(wants)).map(|(is, wants)| Edit::new(is, wants.clone())).collect()
}

/// The records that facts hold under `key`.
fn recorded(facts: &Value, key: &str) -> Option<Vec<Record>> {
    serde_json::from_value(facts.get(key)?.clone()).ok()
}

#[async_trait]
impl Step for Records {
    fn describe(&self, found: &Inspection) -> Vec<Call> {
        let facts = match found {
            Inspection::AlreadySo(_) | Inspection::UnderWay(_) => return Vec::new(),
            Inspection::Possible(facts) => facts,
            Inspection::NotYet(_) | Inspection::Asks(_) | Inspection::CannotTell => &Value::Null,
        };
        let (batch, shell) = match Edit::noted(facts, "becomes") {
            Some(edits) => by_hand::change(&self.zone.id, &edits),
            // Without a reading the whole record is not known, and a guessed one would wipe what is not named.
            None => (
                json!({ "wanted": self.wishes }),
                format!("aws route53 list-resource-record-sets --hosted-zone-id {}", shell_word(&self.zone.id)),
            ),
        };
        let parameters = json!({ "HostedZoneId": self.zone.id, "ChangeBatch": batch });
        vec![Call {
            service: "route53".to_owned(),
            operation: "ChangeResourceRecordSets".to_owned(),
            region: String::new(),
            parameters,
            shell,
            afterwards: false,
        }]
    }

    fn script(&self, found: &Inspection, cx: &ScriptContext) -> Vec<String> {
        let calls = self.describe(found);
        let edits = match found {
            Inspection::Possible(facts) => Edit::noted(facts, "becomes"),
            Inspection::AlreadySo(_) | Inspection::UnderWay(_) => return Vec::new(),
            Inspection::NotYet(_) | Inspection::Asks(_) | Inspection::CannotTell => None,
        };
        let Some(edits) = edits else {
            let words = "the records could not be read when this was written; write the batch by hand from this list";
            return calls.into_iter().map(|call| call.shell).chain([format!("say {}", shell_word(words)), "false".to_owned()]).collect();
        };
        let read_back = |edit: &Edit, limit: Duration| by_hand::read_back(&self.zone.id, edit.becomes(), limit);
        // The batch goes as a whole: where the roles are right, it has gone.
        let swapped: Vec<String> = edits.iter().filter(|edit| edit.replaces()).map(|edit| read_back(edit, Duration::ZERO)).collect();
        let ask = |call: Call| match swapped.is_empty() {
            true => by_hand::ask_and_wait(&call.shell, cx.limit).to_vec(),
            false => vec![by_hand::ask_unless(&swapped, &call.shell, cx.limit)],
        };
        let mut lines: Vec<String> = calls.into_iter().flat_map(ask).collect();
        lines.extend(edits.iter().map(|edit| read_back(edit, cx.limit)));
        lines
    }

    async fn inspect(&self, cx: &StepContext) -> Result<Inspection, StepError> {
        let records = self.read().await?;
        let wanted = self.wanted(&records).await?;
        let becomes = differing(&records, &wanted);
        // After a restart the records may be ours already: what stood there before is what the first inspection found.
        let was = recorded(&cx.before, "records").unwrap_or_else(|| records.clone());
        let mut facts = json!({ "records": was });
        Edit::note(&mut facts, "becomes", &becomes);
        let change = self.memory(|memory| {
            memory.read = Some((cx.now, records));
            memory.change.clone()
        });
        Ok(match (becomes.is_empty(), change) {
            (true, Some(_)) => Inspection::UnderWay(facts),
            // Asked for before a restart, or with an answer that was lost: accepted, and not known to be everywhere.
            (true, None) if !cx.before.is_null() => Inspection::UnderWay(facts),
            (true, None) => Inspection::AlreadySo(facts),
            (false, _) => Inspection::Possible(facts),
        })
    }

    async fn preflight(&self, _cx: &StepContext, found: Inspection) -> Result<Inspection, StepError> {
        // What stands already has been taken.
        if matches!(found, Inspection::Possible(_)) {
            self.among_others().await?;
        }
        Ok(found)
    }

    async fn autonomy(&self, _cx: &StepContext) -> Result<Option<Vec<String>>, StepError> {
        // A failover swaps roles or weights: a check that stands idle now may decide once it is done.
        let after = |records: &[Record]| self.after(records);
        let names = self.wishes.iter().map(|wish| wish.pick.name.clone()).collect();
        let survey = Survey { names, switch: None, after: &after };
        self.owner.survey(&self.zone, &survey).await.map(Some).map_err(|failure| failure.step())
    }

    async fn apply(&self, cx: &StepContext) -> Result<Value, StepError> {
        let fresh = self.memory(|memory| memory.read.take()).filter(|(at, _)| (0..FRESH).contains(&(cx.now - at)));
        let records = match fresh {
            Some((_, records)) => records,
            None => self.read().await?,
        };
        let becomes = differing(&records, &self.wanted(&records).await?);
        if becomes.is_empty() {
            return Ok(json!({ "change": null }));
        }
        let change = self.owner.change(&self.zone, becomes, cx.time_left).await.map_err(|failure| edit::failed(&failure))?;
        self.memory(|memory| memory.change = Some(change.clone()));
        Ok(json!({ "change": change }))
    }

    async fn verify(&self, cx: &StepContext) -> Result<Verification, StepError> {
        let change = self.memory(|memory| memory.change.clone());
        if let Some(change) = &change {
            match self.owner.synced(&self.zone, change).await {
                Ok(true) => {}
                Ok(false) => {
                    return Ok(Verification::NotYet(format!("change {change} is accepted and not on all of Route 53's servers yet")));
                }
                Err(failure) if failure.code == "NoSuchChange" => {
                    // Accelerated recovery strands changes in flight; the records tell whether to ask again.
                    self.memory(|memory| memory.change = None);
                    return Err(failure.step_as(ErrorClass::Retry));
                }
                Err(failure) => return Err(failure.step()),
            }
        }
        let records = self.read().await?;
        let wrong = differing(&records, &self.wanted(&records).await?);
        if let Some(first) = wrong.first() {
            self.memory(|memory| (memory.change, memory.right) = (None, None));
            let message = format!("route53: record {} of zone {} was changed by somebody else meanwhile", first.pick(), self.zone.id);
            return Err(StepError::new(ErrorClass::Retry, "changed-meanwhile", message));
        }
        let insync = match (&change, recorded(&cx.before, "records")) {
            (Some(_), _) => "yes",
            (None, None) => "unknown",
            // The change's id is gone, and whether all servers have it is not to be asked for: they are asked themselves.
            (None, Some(before)) => match self.spread(cx, &before, &records).await {
                Ok(told) => told,
                Err(words) => return Ok(Verification::NotYet(words)),
            },
        };
        Ok(Verification::So(json!({ "change": change, "insync": insync, "now": records })))
    }

    async fn undo(&self, cx: &StepContext) -> Result<String, StepError> {
        let Some(was) = recorded(&cx.before, "records") else {
            let message = format!("route53: nothing is recorded of what stood in zone {} before; put it back by hand", self.zone.id);
            return Err(StepError::new(ErrorClass::NeedsPerson, "no-record", message));
        };
        let back = differing(&self.read().await?, &was);
        if back.is_empty() {
            return Ok("the records stand as they stood before".to_owned());
        }
        let names: Vec<String> = back.iter().map(|edit| edit.pick().to_string()).collect();
        let change = self.owner.change(&self.zone, back, cx.time_left).await.map_err(|failure| edit::failed(&failure))?;
        self.memory(|memory| (memory.change, memory.read, memory.right) = (None, None, None));
        Ok(format!("put back {} as before (change {change})", names.join(", ")))
    }
}

#[cfg(test)]
mod tests;
