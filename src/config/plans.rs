//! `[[app.failover]]` and `[[app.failback]]`: tables to a plan in which nothing is left to choose.

use std::collections::BTreeSet;
use std::time::Duration;

use super::check::{Judge, shown, small};
use super::judge::Table;
use super::signals::{known_kind, label, region};
use super::{Place, StepTraits};
use crate::domain::plan::{Class, OnFailure, Only, Plan, PlannedStep, Repeat, Reversibility};

/// Steps of one plan. The order of steps is judged by walks along it, whose time and stack grow with the plan.
const MOST_STEPS: usize = 100;

/// Judges one plan. Steps that could not be judged stand in it by their names, so that the order can be judged all
/// the same; their problems keep the plan from being used.
pub(super) fn plan(judge: &Judge<'_>, app: &Table, key: &str, place: &Place) -> Plan {
    let mut steps: Vec<PlannedStep> = Vec::new();
    let mut names = BTreeSet::new();
    let mut first: Vec<String> = Vec::new();
    let mut tables = app.tables(key);
    if tables.len() > MOST_STEPS {
        app.fault(key, format!("has {} steps; a plan has at most {MOST_STEPS}, and the rest is not judged", tables.len()));
        tables.truncate(MOST_STEPS);
    }
    for table in &tables {
        let name = label(table, "a step's name").unwrap_or_default();
        if !name.is_empty() && !names.insert(name.clone()) {
            table.fault("name", "another step of this plan has this name; names must differ, as `after` and metrics use them");
        }
        let above = steps.last().map(|step| step.name.clone());
        let (step, comes_first) = step(judge, table, name, above, &first, place);
        first.extend(comes_first.then(|| step.name.clone()));
        steps.push(step);
    }
    put_first(&mut steps, &first);
    let plan = Plan { direction: place.direction, steps };
    // A doubled name makes the order ambiguous; it is named already, and the order is judged once it is gone.
    if names.len() == plan.steps.len() {
        for (step, what) in plan.order_faults() {
            match tables.iter().zip(&plan.steps).find(|(_, planned)| planned.name == step) {
                Some((table, _)) => table.fault("after", what),
                None => app.fault(key, what),
            }
        }
    }
    plan
}

/// Lets every step that would start at once wait for those that come first. One of these that waits for another step
/// makes a circle, which is named as such.
fn put_first(steps: &mut [PlannedStep], first: &[String]) {
    for step in steps.iter_mut().filter(|step| !first.contains(&step.name)) {
        let starts_at_once = step.after.iter().all(|name| first.contains(name));
        for name in first.iter().filter(|_| starts_at_once) {
            if !step.after.contains(name) {
                step.after.push(name.clone());
            }
        }
    }
}

/// One step, and whether it comes before the others.
fn step(judge: &Judge<'_>, table: &Table, name: String, above: Option<String>, first: &[String], place: &Place) -> (PlannedStep, bool) {
    let kind = known_kind(table, "step", &judge.catalogue.step_kinds());
    let known = kind.as_deref().and_then(|kind| judge.catalogue.step(kind));
    let traits = known.unwrap_or(StepTraits {
        class: Class::Other,
        reversibility: Reversibility::Reversible,
        repeat: Repeat::Inspectable,
        default_deadline: Duration::from_secs(60),
        at_source: false,
        first: false,
    });
    // Before the common keys: a kind's own may decide what their defaults are.
    let keys = kind.as_deref().filter(|_| known.is_some()).and_then(|kind| {
        let before = judge.problems.len();
        let keys = judge.catalogue.judge_step(kind, table, place);
        if keys.is_none() && judge.problems.len() == before {
            table.fault("kind", format!("its keys do not make a step of kind {kind:?}; see `watchover steps`"));
        }
        keys
    });
    let traits = kind.as_deref().zip(keys.as_ref()).map_or(traits, |(kind, keys)| judge.catalogue.refine(kind, keys, traits));
    // One that comes first does so wherever it stands in the file.
    let above = above.filter(|above| !traits.first || first.contains(above));
    let after = table.strings("after").unwrap_or_else(|| above.into_iter().collect());
    let deadline =
        judge.bounded(table, "deadline", &shown(traits.default_deadline), Duration::from_millis(100), Duration::from_secs(86_400));
    let attempts = small(table, "attempts", 3, 100);
    let on_failure = table.word("on_failure", OnFailure::ALL, OnFailure::as_str, OnFailure::Halt);
    let only = table.raw("only").is_some().then(|| table.word("only", Only::ALL, Only::as_str, Only::Forced));
    let account = judge.account(table);
    let default_region = if traits.at_source { &place.source_region } else { &place.target_region };
    let region = region(table, "region").unwrap_or_else(|| default_region.clone());
    if known.is_some() {
        table.finish();
    }
    if traits.at_source && on_failure == OnFailure::Halt && only != Some(Only::Graceful) {
        judge.warnings.add(
            table.at("on_failure"),
            "this step calls into the region that is left: if that region is gone, the step fails and the move halts; write on_failure = \"continue\" to go on unfenced",
        );
    }
    let step = PlannedStep {
        name,
        kind: kind.unwrap_or_default(),
        class: traits.class,
        reversibility: traits.reversibility,
        repeat: traits.repeat,
        after,
        deadline,
        attempts,
        on_failure,
        only,
        account,
        region,
        keys: keys.unwrap_or_default(),
    };
    (step, traits.first)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::judge_text;

    /// The failover plan of the committed reference with these steps at its end: names, and what they wait for.
    fn plan(more: &str) -> Result<Vec<(String, Vec<String>)>, Vec<String>> {
        let text = include_str!("../../config.toml").replace("# Besides, wherever", &format!("{more}\n# Besides, wherever"));
        let found = judge_text(Path::new("config.toml"), &text, Vec::new(), &crate::adapters::Kinds);
        let found = found.map_err(|errors| errors.problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        Ok(found.apps[0].policy.failover.steps.iter().map(|step| (step.name.clone(), step.after.clone())).collect())
    }

    fn pre(name: &str, more: &str) -> String {
        format!("[[app.failover]]\nname = \"{name}\"\nkind = \"command\"\nphase = \"pre\"\nargv = [\"/bin/true\"]\n{more}\n")
    }

    #[test]
    fn what_comes_first_does_so_wherever_it_stands() {
        let steps = plan(&format!("{}{}", pre("freeze", ""), pre("quorum", ""))).unwrap();
        let after = |name: &str| steps.iter().find(|step| step.0 == name).unwrap().1.clone();
        assert_eq!((after("freeze"), after("quorum")), (Vec::<String>::new(), vec!["freeze".to_owned()]));
        for step in ["fence", "capacity"] {
            assert_eq!(after(step), ["freeze", "quorum"], "{step} would have started at once");
        }
        assert_eq!(after("promote"), ["fence"]);
        assert_eq!(after("traffic"), ["promote", "capacity"]);
    }

    #[test]
    fn what_comes_first_cannot_wait_for_what_comes_later() {
        let said = plan(&pre("freeze", "after = [\"fence\"]")).unwrap_err();
        assert!(said.len() == 1 && said[0].contains("runs in a circle") && said[0].contains("freeze"), "{said:?}");
    }
}
