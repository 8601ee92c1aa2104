//! The calls themselves: reads and changes of one zone, one request after another.

use aws_sdk_route53::operation::change_resource_record_sets::ChangeResourceRecordSetsError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;

use super::edit::INVALID_BATCH;
use super::*;

impl Shared {
    /// Reads for all, sharing pages: records that stand together come together.
    pub(super) async fn read_all(&self, zone: &Zone, jobs: Vec<ReadJob>) {
        let mut open: Vec<Pick> = jobs.iter().flat_map(|job| job.picks.iter().map(Pick::canonical)).collect();
        open.sort();
        open.dedup();
        let mut known: HashMap<Pick, Found> = HashMap::new();
        let mut failed = None;
        while let Some(first) = open.first().cloned() {
            match self.page(zone, &first, if open.len() > 1 { 300 } else { 10 }, For::Move).await {
                Err(failure) => {
                    failed = Some(failure);
                    break;
                }
                Ok((page, _)) => {
                    for record in page {
                        let pick = record.pick();
                        if let Some(at) = open.iter().position(|one| *one == pick) {
                            known.insert(open.remove(at), Found::Record(Box::new(record)));
                        }
                    }
                }
            }
            // The page began where the record would stand: it is not there. Say what is.
            if open.first() == Some(&first) {
                open.remove(0);
                match self.named(zone, &first.name, 100, For::Move).await {
                    Ok(there) => match there.iter().find(|record| record.pick() == first) {
                        Some(record) => known.insert(first, Found::Record(Box::new(record.clone()))),
                        None => known.insert(first, Found::Missing(there.iter().map(Record::pick).collect())),
                    },
                    Err(failure) => {
                        failed = Some(failure);
                        break;
                    }
                };
            }
        }
        for job in jobs {
            let found: Option<Vec<Found>> = job.picks.iter().map(|pick| known.get(&pick.canonical()).cloned()).collect();
            let result = match (found, &failed) {
                (Some(found), _) => Ok(found),
                (None, Some(failure)) => Err(failure.clone()),
                (None, None) => Err(Failure::before(&zone_op(zone), Kind::Malformed, "malformed-answer", "the records did not come back")),
            };
            answer(job.reply, result);
        }
    }

    /// One page of records from `from` on, and whether there are more behind it: a page may be shorter than asked for.
    pub(super) async fn page(&self, zone: &Zone, from: &Pick, most: i32, whom: For) -> Result<(Vec<Record>, bool), Failure> {
        let op = Op::new(
            "route53",
            "ListResourceRecordSets",
            "route53:ListResourceRecordSets",
            HOME,
            format!("record {from} of zone {}", zone.id),
        );
        let client = self.aws.route53(zone.account.as_deref(), &zone.region, Purpose::Look).await?;
        self.pace.turn(zone.account.as_deref(), whom).await;
        let call = client.list_resource_record_sets().hosted_zone_id(&zone.id).start_record_name(&from.name);
        let kind = (!from.kind.is_empty()).then(|| RrType::from(from.kind.as_str()));
        let call = call.set_start_record_type(kind).set_start_record_identifier(from.set_identifier.clone()).max_items(most);
        let answer = self.aws.call(&op, call.send()).await?;
        Ok((answer.resource_record_sets().iter().map(Record::read).collect(), answer.is_truncated()))
    }

    /// Every record of one name: pages until the name ends.
    pub(super) async fn named(&self, zone: &Zone, name: &str, most: i32, whom: For) -> Result<Vec<Record>, Failure> {
        let name = canonical(name);
        let mut from = Pick { name: name.clone(), kind: String::new(), set_identifier: None };
        let mut found: Vec<Record> = Vec::new();
        loop {
            let (page, truncated) = self.page(zone, &from, most, whom).await?;
            let length = page.len();
            let ours: Vec<Record> = page.into_iter().filter(|record| canonical(&record.name) == name).collect();
            let more = truncated && ours.len() == length;
            let before = found.len();
            for record in ours {
                if !found.iter().any(|one| one.pick() == record.pick()) {
                    found.push(record);
                }
            }
            // The next page begins with the last record of this one: no need to trust a marker. No news: the end.
            match found.last() {
                Some(last) if more && found.len() > before => from = last.pick(),
                _ => return Ok(found),
            }
        }
    }

    /// Sends a batch; one that is refused for a member is split until the culprit stands alone.
    pub(super) async fn change_all(&self, zone: &Zone, jobs: Vec<ChangeJob>) {
        let mut open = vec![jobs];
        while let Some(mut jobs) = open.pop() {
            match self.submit(zone, &mut jobs).await {
                Err(failure) if failure.code == INVALID_BATCH && jobs.len() > 1 => {
                    let second = jobs.split_off(jobs.len() / 2);
                    open.push(second);
                    open.push(jobs);
                }
                result => {
                    for job in jobs {
                        answer(job.reply, result.clone());
                    }
                }
            }
        }
    }

    /// One batch, as a whole, until it is answered for good or nobody is left who waits for it: whoever is gone, or out of
    /// time, is left out of every further sending, as a record that moves after its move is over moves against somebody.
    async fn submit(&self, zone: &Zone, jobs: &mut Vec<ChangeJob>) -> Result<String, Failure> {
        let waited = "its turn did not come before its asker's time was over";
        let mut why = Failure::before(&change_op(zone, jobs.iter().flat_map(|job| &job.edits)), Kind::Throttled, "no-turn", waited);
        let (mut lost, mut pause) = (0, FIRST_PAUSE);
        loop {
            let client = self.aws.route53(zone.account.as_deref(), &zone.region, Purpose::Once).await?;
            self.pace.turn(zone.account.as_deref(), For::Move).await;
            // The last look before the world is touched: it has been a while since anybody asked.
            leave_out(jobs, Instant::now(), &why);
            if jobs.is_empty() {
                return Err(why);
            }
            let op = change_op(zone, jobs.iter().flat_map(|job| &job.edits));
            let batch = batch_of(&op, jobs)?;
            let call = client.change_resource_record_sets().hosted_zone_id(&zone.id).change_batch(batch);
            let mut refused = None;
            let sent = async {
                let result = call.send().await;
                refused = result.as_ref().err().and_then(invalid_batch);
                result
            };
            let mut failure = match self.aws.call(&op, sent).await {
                Ok(answer) => {
                    let id = answer.change_info().map(|info| info.id().trim_start_matches("/change/").to_owned());
                    return id.ok_or_else(|| Failure::before(&op, Kind::Malformed, "malformed-answer", "accepted without a change id"));
                }
                Err(failure) => failure,
            };
            if let Some(words) = refused {
                let code = std::mem::replace(&mut failure.code, INVALID_BATCH.to_owned());
                failure.message = failure.message.replacen(&code, INVALID_BATCH, 1);
                if !failure.message.contains(&words) {
                    failure.message = format!("{}: {words}", failure.message);
                }
            }
            let again = match failure.kind {
                Kind::Throttled => true,
                Kind::Timeout | Kind::NoAnswer | Kind::Server | Kind::Malformed => {
                    lost += 1;
                    lost < LOST_TRIES
                }
                Kind::NoCredentials | Kind::AccessDenied | Kind::Rejected => false,
            };
            if !again {
                return Err(failure);
            }
            // Whose time ends in the pause is told now.
            leave_out(jobs, Instant::now() + pause, &failure);
            if jobs.is_empty() {
                return Err(failure);
            }
            why = failure;
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    pub(super) fn progress(&self, change: &str) -> Arc<tokio::sync::Mutex<Progress>> {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, progress)) = changes.iter().find(|(id, _)| id == change) {
            return Arc::clone(progress);
        }
        if changes.len() >= MAX_CHANGES {
            changes.pop_front();
        }
        let progress = Arc::new(tokio::sync::Mutex::new(Progress { synced: false, next: Instant::now(), pause: FIRST_PAUSE }));
        changes.push_back((change.to_owned(), Arc::clone(&progress)));
        progress
    }
}

/// Leaves out who is gone, and answers those whose time is over by then.
fn leave_out(jobs: &mut Vec<ChangeJob>, by: Instant, why: &Failure) {
    jobs.retain(|job| !job.reply.is_closed());
    for late in jobs.extract_if(.., |job| job.until <= by) {
        answer(late.reply, Err(why.clone()));
    }
}

/// The changes of all of them.
fn batch_of(op: &Op, jobs: &[ChangeJob]) -> Result<ChangeBatch, Failure> {
    let bad = |cause: &dyn std::error::Error| Failure::before(op, Kind::Rejected, "bad-request", &crate::ports::chain(cause));
    let mut changes = Vec::new();
    for (action, record) in edit::lines(jobs.iter().flat_map(|job| &job.edits)) {
        let set = record.written().map_err(|cause| bad(&cause))?;
        changes.push(Change::builder().action(action).resource_record_set(set).build().map_err(|cause| bad(&cause))?);
    }
    ChangeBatch::builder().comment("watchover").set_changes(Some(changes)).build().map_err(|cause| bad(&cause))
}

/// Why a batch is refused, in Route 53's words; `None`: it is not refused for its content.
///
/// The words stand in a list of their own, which the error's message may lack. Route 53 has also answered with the
/// error's name as the document's root (aws-sdk-kotlin issues 242 and 1433), which the SDK takes for no error it knows:
/// then the batch would not be split, and one app's bad record would stop all others.
fn invalid_batch(error: &SdkError<ChangeResourceRecordSetsError, HttpResponse>) -> Option<String> {
    if let Some(ChangeResourceRecordSetsError::InvalidChangeBatch(invalid)) = error.as_service_error() {
        return Some(invalid.messages().join("; "));
    }
    let (_, inside) = std::str::from_utf8(error.raw_response()?.body().bytes()?).ok()?.split_once("<InvalidChangeBatch")?;
    let words = inside.split("<Message>").skip(1).filter_map(|rest| Some(rest.split_once("</Message>")?.0.trim()));
    Some(words.collect::<Vec<_>>().join("; "))
}

pub(super) fn zone_op(zone: &Zone) -> Op {
    Op::new("route53", "any call", "route53:ListResourceRecordSets", HOME, format!("zone {}", zone.id))
}

/// The change of those records, for errors and metrics.
pub(super) fn change_op<'a>(zone: &Zone, edits: impl IntoIterator<Item = &'a Edit>) -> Op {
    let mut edits = edits.into_iter();
    let first = edits.next().map_or_else(|| "nothing".to_owned(), |edit| edit.pick().to_string());
    let more = match edits.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Op::new("route53", "ChangeResourceRecordSets", "route53:ChangeResourceRecordSets", HOME, format!("{first}{more} in zone {}", zone.id))
}
