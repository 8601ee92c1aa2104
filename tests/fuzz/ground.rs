//! The product as the daemon wires it: a judged config, and the adapters on it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use watchover::adapters::{Adapters, Kinds, signals, steps};
use watchover::config::{Config, judge_text};
use watchover::domain::model::{Direction, SiteName};
use watchover::ports::{Probe, Step, StepContext};

/// The wall clock of every context, microseconds.
pub const NOW: i64 = 1_700_000_040_000_000;

/// A runtime for a test's own calls.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A small config with these tables at its head, these signals at the standby and these steps.
pub fn config(head: &str, signals: &str, steps: &str) -> Config {
    let text = format!(
        r#"{head}
[witness]
urls = ["http://127.0.0.1:1/"]
[[app]]
name = "shop"
mode = "observe"
rto_objective = "5m"
rpo_objective = "5m"
[app.front_door]
url = "http://shop.example.com/healthz"
[app.primary]
region = "ap-south-1"
marker = {{ header = "x-region", value = "a" }}
[[app.primary.signal]]
name = "alb"
kind = "http"
url = "http://127.0.0.1:1/"
[app.standby]
region = "us-east-1"
marker = {{ header = "x-region", value = "b" }}
[[app.standby.signal]]
name = "alb"
kind = "http"
url = "http://127.0.0.1:1/"
{signals}
{steps}
"#
    );
    judged(&text)
}

/// The text's config, which must be right.
pub fn judged(text: &str) -> Config {
    judge_text(Path::new("fuzz.toml"), text, Vec::new(), &Kinds).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The adapters of a daemon with that config; within a runtime.
pub fn adapters(config: &Config) -> Adapters {
    Adapters::new(config, Arc::new(|_| {}), &TaskTracker::new(), &CancellationToken::new()).unwrap()
}

/// A signal's probe.
pub fn probe(config: &Config, ground: &Adapters, name: &str) -> Arc<dyn Probe> {
    let all = SiteName::ALL.iter().rev().flat_map(|site| &config.apps[0].site(*site).signals);
    let spec = all.into_iter().find(|spec| spec.name == name).unwrap();
    signals::build(spec, ground).unwrap()
}

/// A step.
pub fn step(config: &Config, ground: &Adapters, name: &str) -> Arc<dyn Step> {
    steps::build(config.apps[0].policy.failover.step(name).unwrap(), ground).unwrap()
}

/// What a step is told in a failover.
pub fn context(time_left: Duration) -> StepContext {
    StepContext {
        incident: "shop-7".into(),
        step_id: "shop-7/it".into(),
        direction: Direction::ToStandby,
        now: NOW,
        time_left,
        facts: BTreeMap::new(),
        before: Value::Null,
        graceful: false,
    }
}
