//! Everything that can happen to an app, tried in every situation.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use watchover::domain::autonomy::Autonomy;
use watchover::domain::decide::Input;
use watchover::domain::gates::Found;
use watchover::domain::ledger::Wish;
use watchover::domain::model::{Actor, Cause, Mode, SiteName, State, Verdict};
use watchover::domain::moving::Doing;
use watchover::domain::orders::Order;
use watchover::domain::report::{ErrorClass, Inspection, Report, StepError};

use super::exits::rests;
use super::spot::{Door, Replica, Spot, Tally, errand};
use super::stage::{patience, policy};

/// One event, as a counterexample prints it.
#[derive(Debug, Clone)]
pub enum Event {
    /// One look, of one subject that says this from now on: the primary's two signals, the standby's.
    Web(usize, Verdict),
    Replica(Replica),
    Door(Door),
    Authority(SiteName),
    Witness(bool),
    /// Seconds pass, and the looks go on saying the same.
    Seconds(u64),
    /// The same, until the app rests or waits for a person.
    Rest,
    /// Seconds pass without a look.
    Silence(u64),
    /// The executor comes back.
    Report(String, Report),
    Preflight(Found),
    Autonomous(Autonomy),
    Order(Press),
    Reload(Mode, bool),
    Gap,
    Restart,
    /// Three seconds pass, then looks come, the front door's perhaps a new one; the journal takes what is decided first, and
    /// nothing after it.
    JournalRefuses(Option<Door>),
    /// Another group begins to move, or has moved.
    OthersMove(bool),
}

/// An order, without what the situation adds.
#[derive(Debug, Clone)]
pub enum Press {
    Move { to: SiteName, force: bool, graceful: bool, accept_loss: Option<f64> },
    Approve(Option<f64>),
    Decline,
    Retry,
    Skip(String),
    Abort,
    Adopt(SiteName),
    Pause,
    Resume,
}

const DOWN: Verdict = Verdict::Down(Cause::Refused);
const BLIND: Verdict = Verdict::Unknown(Cause::ResolverTimeout);

fn errors() -> Vec<StepError> {
    let of = |class, code: &str| StepError::new(class, code, format!("the world says {code}"));
    vec![
        of(ErrorClass::Retry, "timeout"),
        of(ErrorClass::Retry, "Throttling"),
        of(ErrorClass::AlreadySo, "already"),
        of(ErrorClass::Refused, "AccessDenied"),
        of(ErrorClass::NeedsPerson, "odd"),
    ]
}

/// The facts with which a step is read back: of the fence since when the writers are gone, of the data whom it saw write.
fn facts(spot: &Spot, step: &str) -> Vec<Value> {
    match step {
        "fence" => vec![json!({ "fence": "proven", "at": spot.now.wall }), json!({ "fence": "assumed" })],
        "promote" => vec![Value::Null, json!({ "old_writer": { "at": spot.now.wall, "words": "it wrote" } })],
        _ => vec![Value::Null],
    }
}

/// Every answer that the executor can come back with.
fn answers(spot: &Spot, step: &str, on: Doing) -> Vec<Report> {
    let wrong = |to: fn(StepError) -> Report| errors().into_iter().map(to);
    match on {
        Doing::Inspect => {
            let mut all: Vec<Report> =
                facts(spot, step).into_iter().map(|facts| Report::Inspected(Ok(Inspection::AlreadySo(facts)))).collect();
            let found = [
                Inspection::Possible(json!("as it was")),
                Inspection::UnderWay(Value::Null),
                Inspection::NotYet("a backup runs".into()),
                Inspection::Asks("is it well?".into()),
                Inspection::CannotTell,
            ];
            all.extend(found.map(|found| Report::Inspected(Ok(found))));
            all.extend(wrong(|error| Report::Inspected(Err(error))));
            all
        }
        Doing::Apply => [Report::Applied(Ok(Value::Null))].into_iter().chain(wrong(|error| Report::Applied(Err(error)))).collect(),
        Doing::Verify => {
            let so = facts(spot, step).into_iter().map(|facts| Report::Verified(Ok(facts)));
            so.chain([Report::Progress("half way".into())]).chain(wrong(|error| Report::Verified(Err(error)))).collect()
        }
        Doing::Undo => [Report::Undone(Ok("put back".into()))].into_iter().chain(wrong(|error| Report::Undone(Err(error)))).collect(),
    }
}

fn presses(spot: &Spot) -> Vec<Press> {
    let mut all = vec![
        Press::Approve(None),
        Press::Approve(Some(f64::INFINITY)),
        Press::Decline,
        Press::Retry,
        Press::Abort,
        Press::Pause,
        Press::Resume,
    ];
    for to in SiteName::ALL.iter().copied() {
        all.push(Press::Adopt(to));
        for (force, graceful, accept_loss) in
            [(false, false, None), (false, true, None), (false, false, Some(f64::INFINITY)), (true, false, Some(f64::INFINITY))]
        {
            all.push(Press::Move { to, force, graceful, accept_loss });
        }
    }
    let steps = spot.app.ledger().incident.iter().flat_map(|open| open.steps.keys().cloned());
    all.extend(steps.map(Press::Skip));
    all
}

/// Every event that can be tried here.
pub fn all(spot: &Spot) -> Vec<Event> {
    let mut all = Vec::new();
    for place in 0..3 {
        all.extend([Verdict::Up, DOWN, BLIND].map(|verdict| Event::Web(place, verdict)));
    }
    all.extend([Replica::Fresh, Replica::Behind, Replica::Broken, Replica::Promoted, Replica::Blind].map(Event::Replica));
    all.extend([Door::From(SiteName::Primary), Door::From(SiteName::Standby), Door::Unsaid, Door::Down, Door::Unknown].map(Event::Door));
    all.extend([SiteName::Primary, SiteName::Standby].map(Event::Authority));
    all.extend([true, false].map(Event::Witness));
    all.extend([1, 5, 15].map(Event::Seconds));
    all.push(Event::Silence(25));
    for (step, job) in &spot.jobs {
        all.extend(answers(spot, step, job.on).into_iter().map(|report| Event::Report(step.clone(), report)));
    }
    let found = [Found::Possible, Found::AlreadySo, Found::Refused("not allowed".into()), Found::Unknown("no answer".into())];
    all.extend(found.map(Event::Preflight));
    all.extend([Autonomy::Read(vec!["a health check".into()]), Autonomy::Unread("denied".into())].map(Event::Autonomous));
    all.extend(presses(spot).into_iter().map(Event::Order));
    all.extend([Mode::Automatic, Mode::Approval, Mode::Observe].map(|mode| Event::Reload(mode, false)));
    all.push(Event::Reload(spot.app.policy().mode, true));
    all.extend([None, Some(Door::Down), Some(Door::From(SiteName::Primary))].map(Event::JournalRefuses));
    all.extend([Event::Gap, Event::Restart, Event::OthersMove(!spot.others_move)]);
    all
}

/// The order as this situation makes it.
pub fn order(spot: &Spot, press: &Press) -> Order {
    let by = || Actor { who: "alice".into(), reason: "test".into() };
    let incident = spot.incident();
    match press {
        Press::Move { to, force, graceful, accept_loss } => {
            let wish = Wish { by: by(), accept_loss: *accept_loss, shown: None, force: *force, graceful: *graceful };
            Order::Move { to: *to, wish }
        }
        Press::Approve(accept_loss) => Order::Approve { incident, by: by(), accept_loss: *accept_loss },
        Press::Decline => Order::Decline { incident, by: by() },
        Press::Retry => Order::Retry { incident, by: by() },
        Press::Skip(step) => Order::Skip { incident, step: step.clone(), by: by() },
        Press::Abort => Order::Abort { incident, by: by() },
        Press::Adopt(site) => Order::Adopt { site: *site, by: by() },
        Press::Pause => Order::Pause { length: Duration::from_secs(20), by: by() },
        Press::Resume => Order::Resume { by: by() },
    }
}

/// Lets it happen, and the app decide. `None`: an order that is not followed, and says why.
pub fn happen(from: &Spot, event: &Event, tally: &mut Tally) -> Result<Option<Spot>, String> {
    let now = from.now + Duration::from_millis(50);
    if let (Event::Order(press), None) = (event, &from.around.journal_fault)
        && let Err(refusal) = from.app.order(order(from, press), &from.new_id(), &from.around, now)
    {
        return if refusal.words.is_empty() { Err("an order was refused without a word".into()) } else { Ok(None) };
    }
    let mut spot = Spot { now, ..from.clone() };
    match event {
        Event::Web(place, verdict) => {
            spot.world.web[*place] = *verdict;
            spot.look_signal(*place);
        }
        Event::Replica(replica) => {
            spot.world.replica = *replica;
            spot.look_signal(3);
        }
        Event::Door(door) => {
            spot.world.door = *door;
            spot.look_door();
        }
        Event::Authority(site) => {
            spot.world.authority = *site;
            spot.look_authority();
        }
        Event::Witness(up) => {
            spot.world.witness = *up;
            spot.look_witness();
        }
        Event::Seconds(seconds) => {
            spot.pass(Duration::from_secs(*seconds), tally, |_| false)?;
        }
        Event::Rest => {
            spot.pass(patience(spot.app.policy()), tally, rests)?;
        }
        Event::Silence(seconds) => spot.now = spot.now + Duration::from_secs(*seconds),
        Event::Report(step, report) => spot.report(step, report.clone()),
        Event::Preflight(found) => spot.preflight(found, BTreeMap::new()),
        Event::Autonomous(read) => {
            let step = spot.app.policy().failover.steps.last().map(|step| step.name.clone()).unwrap_or_default();
            spot.preflight(&Found::Possible, BTreeMap::from([(step, read.clone())]));
        }
        Event::Order(press) => {
            // What the journal refused earlier says nothing of now.
            spot.around.journal_fault = None;
            let id = spot.new_id();
            match spot.app.order(order(&spot, press), &id, &spot.around, spot.now) {
                Ok(decision) => spot.carry(decision, &id, tally)?,
                Err(refusal) if refusal.words.is_empty() => return Err("an order was refused without a word".into()),
                Err(_) => return Ok(None),
            }
        }
        Event::Reload(mode, short) => spot.app.reload(policy(spot.stage, *mode, *short)),
        Event::JournalRefuses(door) => {
            spot.world.door = door.unwrap_or(spot.world.door);
            spot.journal_takes = Some(1);
            spot.now = spot.now + Duration::from_secs(3);
            spot.look_all();
            spot.settle(tally)?;
            spot.journal_takes = None;
            return Ok(Some(spot));
        }
        Event::Gap => spot.gap(),
        Event::Restart => spot.restart(),
        Event::OthersMove(moves) => spot.others_move = *moves,
    }
    spot.settle(tally)?;
    Ok(Some(spot))
}

/// What comes too late or from elsewhere: of an older takeover, of another incident, of an errand that is not the step's.
/// Nothing follows from it, and nothing is decided on it.
pub fn stale(from: &Spot) -> Result<usize, String> {
    let Some(open) = &from.app.ledger().incident else { return Ok(0) };
    let mut spot = from.clone();
    spot.survey();
    let mut tried = 0;
    for step in open.steps.keys() {
        let awaited = spot.jobs.get(step).map(|job| job.on);
        for on in [Doing::Inspect, Doing::Apply, Doing::Verify, Doing::Undo] {
            let mut tell = |incident: &str, epoch: u64| {
                for report in answers(from, step, on) {
                    spot.app.observe(Input::Step { incident: incident.to_owned(), epoch, step: step.clone(), report });
                    tried += 1;
                }
            };
            tell("shop-of-yore", from.app.epoch());
            tell(&open.id, from.app.epoch() - 1);
            if awaited != Some(on) && from.work.get(step) != Some(&errand(on)) {
                tell(&open.id, from.app.epoch());
            }
        }
    }
    match spot.app.next(&spot.around, spot.now) {
        Some(decision) if from.app.next(&spot.around, spot.now).is_none() => {
            Err(format!("a report that nobody waited for had {decision:?} decided"))
        }
        _ => Ok(tried),
    }
}

/// What the app says it waits for can be had: the commands that it names are followed.
pub fn named_ways_are_open(spot: &Spot) -> Result<(), String> {
    let ledger = spot.app.ledger();
    let Some(open) = &ledger.incident else { return Ok(()) };
    let follows = |press: Press| match spot.app.order(order(spot, &press), "none", &spot.around, spot.now) {
        Ok(_) => Ok(()),
        Err(refusal) => Err(format!("{press:?} is named as a way on, and refused: {}", refusal.words)),
    };
    let waits_for = match (&open.stuck, ledger.state) {
        (Some((_, waits_for)), _) => waits_for.clone(),
        (None, State::AwaitingApproval) => "watchover approve or watchover decline".to_owned(),
        (None, _) => open.asking().filter_map(|(_, run)| run.asks.as_ref()).map(|(_, waits_for)| waits_for.as_str()).collect(),
    };
    let names = |word: &str| waits_for.contains(&format!("watchover {word}"));
    if names("retry") {
        follows(Press::Retry)?;
    }
    if let Some(rest) = waits_for.split("watchover skip ").nth(1) {
        follows(Press::Skip(rest.split(' ').next().unwrap_or_default().to_owned()))?;
    }
    if names("abort") {
        follows(Press::Abort)?;
    }
    if names("approve") {
        follows(Press::Approve(Some(f64::INFINITY)))?;
    }
    if names("decline") {
        follows(Press::Decline)?;
    }
    if names("adopt") {
        follows(Press::Adopt(SiteName::Primary))?;
        follows(Press::Adopt(SiteName::Standby))?;
    }
    Ok(())
}
