//! Which region and which database the steps change: those of the site that they are for.

use super::app::Site;
use super::check::Judge;
use super::judge::Table;
use crate::domain::model::Direction;
use crate::domain::plan::{Class, OnFailure, Plan, PlannedStep};

/// Checks one plan; `key` is where its steps stand.
pub(super) fn plan(judge: &Judge<'_>, table: &Table, key: &str, plan: &Plan, primary: &Site, standby: &Site) {
    let (left, target) = match plan.direction {
        Direction::ToStandby => (primary, standby),
        Direction::ToPrimary => (standby, primary),
    };
    for step in &plan.steps {
        region(judge, table, key, step, left, target);
        evidence(judge, table, key, step, target);
        data_left_behind(judge, table, key, plan, step);
    }
}

/// A fence that fences the target and a promotion where users leave are slips of a copied plan.
fn region(judge: &Judge<'_>, table: &Table, key: &str, step: &PlannedStep, left: &Site, target: &Site) {
    let (left, target, region) = (&left.policy.region, &target.policy.region, &step.region);
    if left.is_empty() || target.is_empty() || region.is_empty() || left == target {
        return;
    }
    let (own, other, what) = match &*step.kind {
        "fence-primary" => (left, target, "the move leaves"),
        "autoscaling-capacity" | "rds-promote-replica" => (target, left, "the move goes to"),
        _ => return,
    };
    let at = format!("{key}.{}.region", step.name);
    if region == other {
        table.fault(&at, format!("{region:?} is the wrong side: a {} works in the region that {what}, {own:?}; leave it out", step.kind));
    } else if region != own {
        judge.warnings.add(
            table.at(&at),
            format!(
                "{region:?} is neither site's region: a {} works in the region that {what}, {own:?}; leave it out, unless that is meant",
                step.kind
            ),
        );
    }
}

/// The loss that is judged must be that of the database that is promoted.
fn evidence(judge: &Judge<'_>, table: &Table, key: &str, step: &PlannedStep, target: &Site) {
    let name = |keys: &serde_json::Value| keys.get("db_instance").and_then(|name| name.as_str()).map(str::to_ascii_lowercase);
    let Some(promoted) = name(&step.keys).filter(|_| step.kind == "rds-promote-replica" && target.doubtful == 0) else { return };
    let mut readers = target.config.signals.iter().filter(|signal| signal.kind == "rds-replica").peekable();
    // Where there is none at all, that is said of the whole plan.
    if readers.peek().is_none() || step.region.is_empty() {
        return;
    }
    // A wrong account or region is named at its own key.
    let wrong = |at: String| ["account", "region"].iter().any(|part| judge.problems.has_at(&format!("{at}.{part}")));
    if wrong(table.at(&format!("{key}.{}", step.name)))
        || readers.clone().any(|one| wrong(target.table.at(&format!("signal.{}", one.name))))
    {
        return;
    }
    let read: Vec<String> = readers.clone().map(|signal| signal.keys["db_instance"].as_str().unwrap_or("?").to_owned()).collect();
    if !readers
        .any(|signal| name(&signal.keys).as_ref() == Some(&promoted) && signal.region == step.region && signal.account == step.account)
    {
        table.fault(
            &format!("{key}.{}.db_instance", step.name),
            format!(
                "{promoted:?} is read by no rds-replica signal of {} with the same region and account (those there read {}): the loss that is judged would be another database's; add one",
                target.table.path(),
                read.join(", ")
            ),
        );
    }
}

fn data_left_behind(judge: &Judge<'_>, table: &Table, key: &str, plan: &Plan, step: &PlannedStep) {
    if step.class == Class::Data && step.on_failure == OnFailure::Continue && plan.steps.iter().any(|other| other.class == Class::Traffic) {
        judge.warnings.add(
            table.at(&format!("{key}.{}.on_failure", step.name)),
            "\"continue\" sends users on although their data did not come with them; write \"halt\", unless that is meant",
        );
    }
}
