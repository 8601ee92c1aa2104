//! What the hand can break and mend: one type for scenarios and for the control server.

use serde::{Deserialize, Serialize};

use super::cloud::Cloud;
use super::faults::{Fault, Rule};
use super::world::{MetricMode, Replication, SiteMode, SiteName};

/// One thing that is broken or mended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Action {
    /// A region goes dark, or lights up.
    Region {
        /// Which.
        region: String,
        /// Whether it is dark.
        dark: bool,
    },
    /// A site's front behaves so.
    Site {
        /// Which.
        site: SiteName,
        /// How.
        mode: SiteMode,
    },
    /// The app on every machine of a site stops, or runs.
    App {
        /// Which.
        site: SiteName,
        /// Whether it runs.
        running: bool,
    },
    /// A machine dies: this one, or some one of this group.
    Terminate {
        /// Group's name.
        group: Option<String>,
        /// Machine's identifier.
        id: Option<String>,
    },
    /// Somebody stops a machine in EC2: some one of this group.
    Stop {
        /// Group's name.
        group: String,
    },
    /// No machines are to be had for a group.
    NoCapacity {
        /// Group's name.
        group: String,
        /// Whether so.
        on: bool,
    },
    /// The bastion is cut off.
    Isolate {
        /// Whether so.
        on: bool,
    },
    /// A fault rule.
    Fault {
        /// Service or `*`.
        service: String,
        /// Region or `*`.
        region: String,
        /// Operation or `*`.
        operation: String,
        /// What happens.
        fault: Fault,
        /// How many calls it catches.
        times: Option<u32>,
        /// For how long it holds, in milliseconds from now.
        for_ms: Option<u64>,
    },
    /// No fault rules any more.
    ClearFaults,
    /// A database is bent.
    Database {
        /// Identifier.
        id: String,
        /// What its link does.
        replication: Option<Replication>,
        /// By how much its link runs late.
        lag_ms: Option<u64>,
        /// Its status.
        status: Option<String>,
    },
    /// A replica's lag metric is bent.
    Metric {
        /// Identifier of the replica.
        id: String,
        /// What it says.
        says: Says,
    },
}

/// What a bent lag metric says.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Says {
    /// The truth.
    Truth,
    /// Nothing.
    Missing,
    /// This number.
    Value(f64),
}

impl Cloud {
    /// Breaks or mends; `Err` says what there is not.
    pub fn act(&self, action: &Action) -> Result<(), String> {
        let now = self.now();
        let mut world = self.world();
        let known = |found: bool, id: &str| {
            if found { Ok(()) } else { Err(format!("there is no database {id}")) }
        };
        match action {
            Action::Region { region, dark } => world.set_dark(region, *dark, now),
            Action::Site { site, mode } => world.set_site_mode(*site, mode.clone(), now),
            Action::App { site, running } => world.set_app(*site, *running, now),
            Action::Isolate { on } => world.set_isolated(*on, now),
            Action::NoCapacity { group, on } => world.set_no_capacity(group, *on, now).map_err(|e| e.message)?,
            Action::Terminate { group, id } => {
                let first = || {
                    let fits = |g: &&super::world::Group| group.as_ref().is_none_or(|name| *name == g.name);
                    let alive = world.groups().iter().filter(fits).flat_map(|g| &g.instances).find(|i| i.alive);
                    alive.map(|i| i.id.clone())
                };
                let id = id.clone().or_else(first).ok_or("there is no machine to terminate")?;
                world.kill_instance(&id, now).map_err(|e| e.message)?;
            }
            Action::Stop { group } => {
                let alive = world.groups().iter().filter(|g| g.name == *group).flat_map(|g| &g.instances).find(|i| i.alive);
                let id = alive.map(|i| i.id.clone()).ok_or_else(|| format!("there is no machine to stop in {group}"))?;
                world.stop_instance(&id, now).map_err(|e| e.message)?;
            }
            Action::Fault { service, region, operation, fault, times, for_ms } => {
                let until = for_ms.map(|ms| now + ms);
                self.faults().add(Rule {
                    service: service.clone(),
                    region: region.clone(),
                    operation: operation.clone(),
                    fault: fault.clone(),
                    times: *times,
                    until,
                });
            }
            Action::ClearFaults => self.faults().clear(),
            Action::Database { id, replication, lag_ms, status } => {
                if replication.is_some() || lag_ms.is_some() {
                    known(world.set_replication(id, *replication, *lag_ms, now), id)?;
                }
                if let Some(status) = status {
                    known(world.set_database_status(id, status, now), id)?;
                }
            }
            Action::Metric { id, says } => {
                let mode = match says {
                    Says::Truth => MetricMode::Truth,
                    Says::Missing => MetricMode::Missing,
                    Says::Value(value) => MetricMode::Fixed(*value),
                };
                known(world.set_lag_metric(id, mode, now), id)?;
            }
        }
        Ok(())
    }
}
