//! What stands around the records of a step, read to judge whether others move them, and whether a switch does. Never on a
//! move's path, nor before it: what is kept here serves surveys alone, and they leave turns to moves.

use std::collections::{BTreeSet, VecDeque};

use super::autonomy::{self, Check, Checks, Known, Switch};
use super::switch;
use super::*;

/// How long a page or a check serves: the apps of one preflight round, whose records stand side by side, share a page, and
/// the questions of one app share its switch's check.
const PAGE_SERVES: Duration = Duration::from_secs(5);
/// Records to a page: the most that Route 53 gives.
const PAGE: i32 = 300;
/// Names that one step's records may lead to by aliases within their zone; Route 53 itself ends such chains.
const MAX_NAMES: usize = 16;

/// How long what was read of a health check serves every survey. Longer than two rounds of preflights: all apps ask at once,
/// for a few seconds each, and more checks than these seconds have turns are learnt round by round or never. What a person
/// changes of a check is seen that much later.
const CHECK_SERVES: Duration = Duration::from_secs(900);
/// Checks kept; an account has 200 if nobody asked for more.
const MAX_CHECKS: usize = 2_048;

/// What was read of one check, and when: the lock lets one survey ask while the others wait for its answer.
type KeptCheck = Arc<tokio::sync::Mutex<Option<(Instant, Known)>>>;

/// What was read of the checks lately, by account and id.
#[derive(Debug, Default)]
pub(super) struct KeptChecks(Mutex<HashMap<Key, KeptCheck>>);

impl KeptChecks {
    fn of(&self, key: Key) -> KeptCheck {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_CHECKS && !kept.contains_key(&key) {
            // Only surveys under way hold one; the rest is forgotten and asked for again.
            kept.retain(|_, check| Arc::strong_count(check) > 1);
        }
        Arc::clone(kept.entry(key).or_default())
    }

    /// The check as it was last read; `None` if it never was, or is being read right now.
    fn read_last(&self, key: &Key) -> Option<Check> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()?;
        match kept.try_lock().ok()?.as_ref()? {
            (_, Known::Is(check)) => Some(check.clone()),
            _ => None,
        }
    }
}

/// The page that was read last.
#[derive(Debug, Default)]
pub(super) struct LastPage(Option<(Key, Instant, Page)>);

#[derive(Debug)]
struct Page {
    /// The name that it was asked to begin with.
    from: String,
    records: Vec<Record>,
    /// More stands behind it.
    truncated: bool,
}

impl Page {
    /// Every record of one name, if the page holds them all: others stand before and after them, or it was asked to begin
    /// with that name, or nothing is left behind it.
    fn whole(&self, name: &str) -> Option<Vec<Record>> {
        let is = |record: &Record| canonical(&record.name) == name;
        let (first, last) = (self.records.iter().position(is)?, self.records.iter().rposition(is)?);
        let all = (first > 0 || self.from == name) && (last + 1 < self.records.len() || !self.truncated);
        all.then(|| self.records[first..=last].to_vec())
    }
}

/// What is asked of a survey.
pub struct Survey<'a> {
    /// The names that the step changes.
    pub names: Vec<String>,
    /// The switch, if the step flips one.
    pub switch: Option<Switch>,
    /// The records as the step leaves them, of all records of a name as they are.
    pub after: &'a (dyn Fn(&[Record]) -> Vec<Record> + Sync),
}

impl Owner {
    /// What can move the traffic of these names without us: now, and after the step. Aliases within the zone are followed.
    ///
    /// # Errors
    /// [`Failure`] of `ListResourceRecordSets` or `GetHealthCheck`. A check that we may not read is told as what it is; the
    /// switch's own must be readable, else nobody can tell whether it is one.
    pub async fn survey(&self, zone: &Zone, survey: &Survey<'_>) -> Result<Vec<String>, Failure> {
        unthrottled(|| self.survey_once(zone, survey)).await
    }

    /// Every record of one name, all types, for whom nobody waits; what was read a moment ago may serve again.
    ///
    /// # Errors
    /// [`Failure`] of `ListResourceRecordSets`.
    pub async fn every(&self, zone: &Zone, name: &str) -> Result<Vec<Record>, Failure> {
        let name = canonical(name);
        unthrottled(|| self.shared.every(zone, &name)).await
    }

    /// How long a check takes at most to turn, as far as the last preflight read it. Asks nobody.
    pub fn takes(&self, zone: &Zone, check: &str) -> Option<Duration> {
        self.shared.checks.read_last(&(zone.account.clone(), check.to_owned())).map(|check| check.takes)
    }

    /// Why that switch, thrown, would not move the users of that name, in words; empty: it would.
    ///
    /// # Errors
    /// [`Failure`] of `ListResourceRecordSets` or `GetHealthCheck`.
    pub async fn useless(&self, zone: &Zone, name: &str, switch: &Switch) -> Result<Vec<String>, Failure> {
        unthrottled(|| async {
            let records = self.shared.every(zone, &canonical(name)).await?;
            let check = self.shared.check(zone, &switch.check, Some(switch)).await?;
            Ok(switch::useless(name, &records, &switch.check, &check))
        })
        .await
    }

    async fn survey_once(&self, zone: &Zone, survey: &Survey<'_>) -> Result<Vec<String>, Failure> {
        let mut open: VecDeque<String> = survey.names.iter().map(|name| canonical(name)).collect();
        let mut seen: BTreeSet<String> = BTreeSet::new();
        let mut checks = Checks::new();
        let mut found: Vec<String> = Vec::new();
        while let Some(name) = open.pop_front().filter(|_| seen.len() < MAX_NAMES) {
            if !seen.insert(name.clone()) {
                continue;
            }
            let now = self.shared.every(zone, &name).await?;
            let after = (survey.after)(&now);
            for id in now.iter().chain(&after).filter_map(|record| record.health_check_id.as_deref()).filter(|id| !id.is_empty()) {
                if !checks.contains_key(id) {
                    checks.insert(id.to_owned(), self.shared.check(zone, id, survey.switch.as_ref()).await?);
                }
            }
            let told = autonomy::judge(&now, &checks, survey.switch.as_ref());
            let later = autonomy::judge(&after, &checks, survey.switch.as_ref());
            found.extend(later.into_iter().filter(|words| !told.contains(words)).map(|words| format!("after the move, {words}")));
            found.extend(told);
            let aliases = now.iter().filter_map(|record| record.alias_target.as_ref());
            open.extend(aliases.filter(|alias| bare(&alias.hosted_zone_id) == zone.id).map(|alias| canonical(&alias.dns_name)));
        }
        found.sort();
        found.dedup();
        Ok(found)
    }
}

/// Others share the account's rate, and nobody waits for this: throttled, it is asked again for a while.
async fn unthrottled<T, F: Future<Output = Result<T, Failure>>>(ask: impl Fn() -> F) -> Result<T, Failure> {
    let mut pause = FIRST_PAUSE;
    loop {
        match ask().await {
            Err(failure) if failure.kind == Kind::Throttled && pause <= LAST_PAUSE => tokio::time::sleep(pause).await,
            result => return result,
        }
        pause *= 2;
    }
}

fn bare(zone: &str) -> &str {
    zone.trim_start_matches("/hostedzone/")
}

impl Shared {
    /// Every record of one name, from the page that was just read if it holds them all.
    async fn every(&self, zone: &Zone, name: &str) -> Result<Vec<Record>, Failure> {
        let mut last = self.last_page.lock().await;
        let kept = last.0.as_ref().filter(|(key, at, _)| *key == zone.key() && at.elapsed() < PAGE_SERVES);
        if let Some(records) = kept.and_then(|(.., page)| page.whole(name)) {
            return Ok(records);
        }
        let from = Pick { name: name.to_owned(), kind: String::new(), set_identifier: None };
        let (records, truncated) = self.page(zone, &from, PAGE, For::Survey).await?;
        let page = Page { from: from.name, records, truncated };
        let ours = page.whole(name);
        // The page begins with the name: only its end can be cut off.
        let none = ours.is_none() && page.records.first().is_none_or(|record| canonical(&record.name) != name);
        last.0 = Some((zone.key(), Instant::now(), page));
        drop(last);
        match ours {
            Some(ours) => Ok(ours),
            None if none => Ok(Vec::new()),
            None => self.named(zone, name, PAGE, For::Survey).await,
        }
    }

    /// What is known of a check, if it was read lately; else it is read.
    async fn check(&self, zone: &Zone, id: &str, switch: Option<&Switch>) -> Result<Known, Failure> {
        let kept = self.checks.of((zone.account.clone(), id.to_owned()));
        let mut kept = kept.lock().await;
        let ours = switch.is_some_and(|switch| switch.check == id);
        // A switch's own check is read anew: whether it is as it must be matters at once, and so does whether it may be read.
        let serves = if ours { PAGE_SERVES } else { CHECK_SERVES };
        if let Some((at, known)) = kept.as_ref()
            && at.elapsed() < serves
            && !(ours && *known == Known::Hidden)
        {
            return Ok(known.clone());
        }
        let known = self.read_check(zone, id, ours).await?;
        *kept = Some((Instant::now(), known.clone()));
        Ok(known)
    }

    async fn read_check(&self, zone: &Zone, id: &str, ours: bool) -> Result<Known, Failure> {
        let op = Op::new("route53", "GetHealthCheck", "route53:GetHealthCheck", HOME, format!("health check {id}"));
        let client = self.aws.route53(zone.account.as_deref(), &zone.region, Purpose::Look).await?;
        self.pace.turn(zone.account.as_deref(), For::Survey).await;
        let answer = match self.aws.call(&op, client.get_health_check().health_check_id(id).send()).await {
            Ok(answer) => answer,
            Err(failure) if failure.code == "NoSuchHealthCheck" => return Ok(Known::Missing),
            Err(failure) if failure.kind == Kind::AccessDenied && !ours => return Ok(Known::Hidden),
            Err(failure) => return Err(failure),
        };
        let Some(config) = answer.health_check().and_then(|check| check.health_check_config()) else {
            return Err(Failure::before(&op, Kind::Malformed, "malformed-answer", "the answer has no configuration"));
        };
        let check = Check {
            kind: config.r#type().as_str().to_owned(),
            inverted: config.inverted().unwrap_or(false),
            disabled: config.disabled().unwrap_or(false),
            host: config.fully_qualified_domain_name().or(config.ip_address()).unwrap_or_default().to_owned(),
            path: config.resource_path().unwrap_or_default().to_owned(),
            takes: taken(config.request_interval(), config.failure_threshold()),
        };
        Ok(Known::Is(check))
    }
}

/// Where they are not told, Route 53's own defaults.
fn taken(interval: Option<i32>, threshold: Option<i32>) -> Duration {
    let seconds = |told: Option<i32>, default: u32| told.and_then(|told| u32::try_from(told).ok()).unwrap_or(default);
    Duration::from_secs(u64::from(seconds(interval, 30)) * (u64::from(seconds(threshold, 3)) + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_serves_a_name_only_if_it_holds_all_of_it() {
        let record = |name: &str, id: &str| -> Record {
            serde_json::from_value(serde_json::json!({"Name": name, "Type": "A", "SetIdentifier": id, "Weight": 1})).unwrap()
        };
        let records = [record("a.example.", "1"), record("b.example.", "1"), record("b.example.", "2"), record("c.example.", "1")];
        let page = |from: &str, truncated: bool| Page { from: from.to_owned(), records: records.to_vec(), truncated };
        let (middle, whole) = (page("z.a.example", true), page("a.example", false));
        assert_eq!(middle.whole("b.example"), Some(records[1..3].to_vec()));
        assert_eq!(middle.whole("a.example"), None, "more of it may stand before the page");
        assert_eq!(middle.whole("c.example"), None, "more of it may stand after the page");
        assert_eq!((middle.whole("d.example"), whole.whole("d.example")), (None, None));
        assert_eq!(whole.whole("a.example"), Some(records[..1].to_vec()), "it was asked to begin with that name");
        assert_eq!(whole.whole("c.example"), Some(records[3..].to_vec()), "nothing is left behind it");
    }
}
