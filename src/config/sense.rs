//! What is well formed and yet cannot work: checks over more than one key.

use std::time::Duration;

use super::WitnessConfig;
use super::app::Site;
use super::check::{Judge, shown};
use super::judge::Table;
use super::{aims, ends};
use crate::domain::model::Mode;
use crate::domain::plan::{Class, Plan};
use crate::domain::policy::{AppPolicy, DownWhen, OnRpoExceeded, Required};

/// The least loss that CloudWatch's `ReplicaLag` can ever bound: a datapoint covers one minute (RDS publishes at 1-minute
/// granularity).
const EVIDENCE_AT_BEST: Duration = Duration::from_secs(60);

/// The least loss that it can always bound: a datapoint is visible about two minutes after its minute began (on the delay
/// see <https://docs.datadoghq.com/integrations/guide/cloud-metric-delay/>).
const EVIDENCE_FLOOR: Duration = Duration::from_secs(180);

/// Checks an app as a whole.
pub(super) fn app(judge: &Judge<'_>, table: &Table, policy: &AppPolicy, primary: &Site, standby: &Site) {
    regions_and_proof(table, primary, standby);
    for site in [primary, standby] {
        site_rule(site);
    }
    objectives(judge, table, policy, standby);
    failover(judge, table, policy, standby);
    aims::app(judge, table, policy, primary, standby);
    if policy.failback.steps.iter().any(|step| step.class == Class::Data)
        && !policy.primary.signals.iter().any(|signal| signal.replica)
        && primary.doubtful == 0
    {
        judge.warnings.add(
            table.at("failback"),
            format!(
                "has a data step, but no signal of the primary reads a replica: nobody can say what the way back would lose, and a graceful failback to a database that was not built anew as a replica is refused only once it is under way; add [[app.{}.primary.signal]], such as kind = \"rds-replica\"",
                policy.name
            ),
        );
    }
    for (key, plan) in [("failover", &policy.failover), ("failback", &policy.failback)] {
        ends::plan(judge, table, key, plan, primary, standby);
        data_and_users_of_every_move(table, key, plan, policy.traffic_is_autonomous);
        let longest = [false, true].map(|graceful| longest_chain(&plan.for_move(graceful))).into_iter().max().unwrap_or_default();
        if longest > policy.move_timeout {
            judge.warnings.add(
                table.at("move_timeout"),
                format!(
                    "\"{}\" is less than the longest chain of deadlines in {key}, \"{}\": the move may be called stuck while a step is still in time",
                    shown(policy.move_timeout),
                    shown(longest)
                ),
            );
        }
    }
}

/// A data step that sits out some moves leaves them to send users to data that did not come with them; a traffic step, to move
/// the data away from the users.
fn data_and_users_of_every_move(table: &Table, key: &str, plan: &Plan, traffic_is_autonomous: bool) {
    let has = |graceful: bool, class: Class| plan.steps.iter().any(|step| step.takes_part(graceful) && step.class == class);
    for (graceful, only) in [(false, "graceful"), (true, "forced")] {
        let sits_out = |class: Class| !has(graceful, class) && has(!graceful, class);
        if sits_out(Class::Data) && has(graceful, Class::Traffic) {
            let words = format!(
                "the only data step has only = \"{only}\": every other move would send users on without their data; leave it out, or give the traffic step only = \"{only}\" too"
            );
            table.fault(key, words);
        }
        if sits_out(Class::Traffic) && has(graceful, Class::Data) && !traffic_is_autonomous {
            let words = format!(
                "the only traffic step has only = \"{only}\": every other move would move the data and leave the users; leave it out, or give the data step only = \"{only}\" too"
            );
            table.fault(key, words);
        }
    }
}

fn regions_and_proof(table: &Table, primary: &Site, standby: &Site) {
    if !primary.policy.region.is_empty() && primary.policy.region == standby.policy.region {
        standby.table.fault(
            "region",
            format!("{:?} is the primary's region too; what takes the one would take the other. Give two regions", standby.policy.region),
        );
    }
    for site in [primary, standby] {
        if site.config.load_balancer.is_none()
            && site.config.marker.is_none()
            && !site.policy.region.is_empty()
            && !site.table.has("load_balancer")
            && !site.table.has("marker")
        {
            site.table.fault("load_balancer", "neither load_balancer nor marker is given: nothing could prove that an answer of the front door comes from this site. Give one of them");
        }
    }
    if primary.config.load_balancer.is_some() && primary.config.load_balancer == standby.config.load_balancer {
        standby.table.fault("load_balancer", "is the primary's too, so an address would prove nothing; give each site its own");
    }
    if primary.config.marker.is_some() && primary.config.marker == standby.config.marker {
        standby.table.fault("marker", "is the primary's too, so it would prove nothing; give each site its own value");
    }
    let proof = |site: &Site| (site.config.load_balancer.is_some(), site.config.marker.is_some());
    if let ((true, false), (false, true)) | ((false, true), (true, false)) = (proof(primary), proof(standby)) {
        table.fault(
            "front_door",
            "one site is proven by its load balancer alone and the other by its marker alone; give both sites the same kind of proof",
        );
    }
}

fn site_rule(site: &Site) {
    if site.doubtful > 0 {
        return;
    }
    let counting = site.policy.signals.iter().filter(|signal| signal.counts).count();
    if counting == 0 {
        site.table.fault("signal", "no signal here says whether this site serves users (a replica's signal says nothing about users), and either site can be the active one; add one, such as kind = \"http\"");
        return;
    }
    if let DownWhen::AtLeast(needed) = site.policy.down_when
        && needed > counting
    {
        site.table.fault(
            "down_when",
            format!("{needed} signals can never be down: only {counting} here count; give at most {counting}, \"all\" or \"any\""),
        );
    }
    if site.policy.min_known > counting {
        site.table.fault(
            "min_known",
            format!(
                "{} signals can never be known: only {counting} here count, so the site could never go down; give at most {counting}",
                site.policy.min_known
            ),
        );
    }
}

fn objectives(judge: &Judge<'_>, table: &Table, policy: &AppPolicy, standby: &Site) {
    if policy.rto_objective < policy.min_outage {
        let (rto, outage) = (shown(policy.rto_objective), shown(policy.min_outage));
        table.fault("rto_objective", format!("\"{rto}\" is shorter than min_outage (\"{outage}\"): an outage would not even be confirmed in that time; raise it, or lower min_outage"));
    }
    let aws = |kind: &str| judge.catalogue.signal(kind).is_some_and(|traits| traits.aws);
    let evidence: Vec<_> = policy.standby.signals.iter().filter(|signal| signal.replica).collect();
    let coarse = standby.doubtful == 0 && !evidence.is_empty() && evidence.iter().all(|signal| aws(&signal.kind));
    if coarse && policy.on_rpo_exceeded != OnRpoExceeded::Proceed && policy.rpo_objective < EVIDENCE_FLOOR {
        let (objective, least, kind) = (shown(policy.rpo_objective), shown(EVIDENCE_FLOOR), &evidence[0].kind);
        let why = format!("{kind} reads a metric of one datapoint a minute that is two minutes late and bounds 60-180 s");
        let mend = format!("write at least \"{least}\", or on_rpo_exceeded = \"proceed\"");
        if policy.rpo_objective <= EVIDENCE_AT_BEST {
            let words = format!(
                "\"{objective}\" can never be shown by the evidence configured: {why}, so the data-loss gate would stay shut; {mend}"
            );
            table.fault("rpo_objective", words);
        } else {
            // At some moments of each minute it is shown, so it is no error; but nobody should count on that.
            let words = format!(
                "\"{objective}\" is shown only at times by the evidence configured: {why}, so the data-loss gate is often not open although the replica is well; {mend}"
            );
            judge.warnings.add(table.at("rpo_objective"), words);
        }
    }
}

fn failover(judge: &Judge<'_>, table: &Table, policy: &AppPolicy, standby: &Site) {
    let steps = &policy.failover.steps;
    if steps.is_empty() {
        // What is no list at all is named as that.
        if table.raw("failover").is_none_or(|steps| steps.as_array().is_some_and(Vec::is_empty)) {
            let path = table.at("failover");
            match policy.mode {
                Mode::Observe => judge.warnings.add(path, "has no steps: this app is watched, and never moved"),
                mode => judge.problems.add(
                    path,
                    format!(
                        "has no steps, but the mode is {:?}: there would be nothing to do; write [[{}]], or mode = \"observe\"",
                        mode.as_str(),
                        table.at("failover")
                    ),
                ),
            }
        }
        return;
    }
    if policy.mode != Mode::Observe
        && let Some(words) = policy.failover.leads_nowhere(&policy.name, false)
    {
        table.fault("failover", format!("{words}, and an outage is none: an automatic or approved move would have nothing to do; leave `only` out of those that it needs, or write mode = \"observe\""));
    }
    let data = steps.iter().find(|step| step.class == Class::Data);
    if data.is_none() && policy.standby.signals.iter().any(|signal| signal.replica) {
        judge.warnings.add(
            table.at("failover"),
            "has no data step, but a signal of the standby reads a replica: users would be sent to a database that takes no writes, and no loss would be reported; add the step that promotes it, or leave the signal out",
        );
    }
    if let Some(data) = data
        && standby.doubtful == 0
        && !policy.standby.signals.iter().any(|signal| signal.replica)
    {
        standby.table.fault("signal", format!("step {:?} changes where the data lives, but no signal here reads the replica: nobody could say what the move would lose; add one, such as kind = \"rds-replica\"", data.name));
    }
    if !steps.iter().any(|step| step.class == Class::Traffic) && !policy.traffic_is_autonomous {
        judge.warnings.add(
            table.at("failover"),
            "has no traffic step: users stay where they are unless others move them; if they do, say traffic_is_autonomous = true",
        );
    }
    if standby.doubtful == 0
        && !policy.standby.signals.is_empty()
        && policy.standby.signals.iter().all(|signal| signal.required == Required::Never)
    {
        standby.table.fault(
            "signal",
            "every signal is required = \"never\", so nothing would keep a move from a dead standby; require at least one",
        );
    }
}

/// The longest chain of deadlines, each step behind the slowest that it waits for. Zero if the order is faulty.
fn longest_chain(plan: &Plan) -> Duration {
    let mut ends: Vec<(String, Duration)> = Vec::new();
    // A sound order settles within one round a step; more rounds would be a circle, which is named elsewhere.
    for _ in &plan.steps {
        for step in plan.steps.iter() {
            let starts: Option<Vec<Duration>> =
                step.after.iter().map(|name| ends.iter().find(|(done, _)| done == name).map(|(_, end)| *end)).collect();
            if let Some(starts) = starts
                && !ends.iter().any(|(name, _)| *name == step.name)
            {
                ends.push((step.name.clone(), starts.into_iter().max().unwrap_or_default() + step.deadline));
            }
        }
    }
    ends.into_iter().map(|(_, end)| end).max().unwrap_or_default()
}

/// Checks the witnesses against what hangs on them.
pub(super) fn witness<'p>(judge: &Judge<'_>, witness: &WitnessConfig, apps: impl Iterator<Item = &'p AppPolicy>) {
    let automatic: Vec<&str> = apps.filter(|app| app.mode == Mode::Automatic).map(|app| &*app.name).collect();
    if automatic.is_empty() {
        return;
    }
    let who = automatic.join(", ");
    if witness.urls.is_empty() && !judge.problems.has_at("witness.urls") {
        judge.problems.add(
            "witness.urls",
            format!("no witness is given, but {who} may move automatically: if our own uplink fails, every site looks dead, and nothing could tell that from an outage. Give neutral addresses, or mode = \"approval\""),
        );
    } else if witness.need_up == 0 {
        judge.problems.add(
            "witness.need_up",
            format!("0 switches the test for our own isolation off, but {who} may move automatically; give at least 1"),
        );
    }
}
