//! Everything that looks: builds the probes of a config and keeps them looking, until the next config.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::beats::Beats;
use super::clock::Clock;
use super::control::Message;
use super::probing::{Prober, Seen, Whose};
use super::supervisor::Supervisor;
use crate::adapters::front_door::{AuthorityProbe, FrontDoorProbe, FrontDoorSpec, ProofSpec};
use crate::adapters::witness::Witness;
use crate::adapters::{Adapters, signals};
use crate::config::{AppConfig, Config, SiteConfig};
use crate::domain::model::{SiteName, Subject};
use crate::domain::policy::Pace;
use crate::ports::Probe;

/// What looks at the world on behalf of the control.
pub struct Watchers {
    supervisor: Supervisor,
    to: mpsc::Sender<Message>,
    clock: Clock,
    beats: Beats,
}

/// The probes of one config, all built before any is started.
pub struct Lookers {
    probes: Vec<(String, Whose, Arc<dyn Probe>, Pace)>,
}

impl Lookers {
    /// Builds every probe.
    ///
    /// # Errors
    /// Every probe that cannot be built, with its place and the reason.
    pub fn build(config: &Config, adapters: &Adapters) -> Result<Lookers, Vec<String>> {
        let mut probes: Vec<(String, Whose, Arc<dyn Probe>, Pace)> = Vec::new();
        let mut faults = Vec::new();
        for app in &config.apps {
            let name = &app.policy.name;
            for site in SiteName::ALL {
                for (at, (spec, policy)) in app.site(*site).signals.iter().zip(&app.policy.site(*site).signals).enumerate() {
                    let pace = Pace { interval: policy.interval, fast_interval: policy.fast_interval, timeout: policy.timeout };
                    let label = format!("{name}.{site}.{}", spec.name);
                    match signals::build(spec, adapters) {
                        Ok(probe) => probes.push((label, Whose::App(name.clone(), Subject::Signal(*site, at)), probe, pace)),
                        Err(error) => faults.push(format!("{label}: {error}")),
                    }
                }
            }
            let spec = front_door(app);
            let pace = app.policy.front_door;
            match FrontDoorProbe::new(spec.clone(), &adapters.http) {
                Ok(probe) => {
                    probes.push((format!("{name}.front-door"), Whose::App(name.clone(), Subject::FrontDoor), Arc::new(probe), pace))
                }
                Err(cause) => faults.push(format!("{name}.front_door: {cause}")),
            }
            // The zone's servers are asked to date the move, not to decide it: no faster than users' resolvers would.
            let pace = Pace { interval: pace.interval * 5, fast_interval: pace.fast_interval, timeout: pace.timeout };
            probes.push((
                format!("{name}.authority"),
                Whose::App(name.clone(), Subject::Authority),
                AuthorityProbe::new(spec, &adapters.dns),
                pace,
            ));
        }
        for (at, url) in config.witness.urls.iter().enumerate() {
            match Witness::new(url.clone(), &adapters.http) {
                Ok(probe) => probes.push((format!("witness.{at}"), Whose::Witness(at), Arc::new(probe), config.witness.pace)),
                Err(cause) => faults.push(format!("witness {url}: {cause}")),
            }
        }
        if faults.is_empty() { Ok(Lookers { probes }) } else { Err(faults) }
    }
}

impl Watchers {
    /// Nothing looks yet.
    pub fn new(supervisor: Supervisor, to: mpsc::Sender<Message>, clock: Clock, beats: Beats) -> Watchers {
        Watchers { supervisor, to, clock, beats }
    }

    /// Stops the looks of the apps that the config names, and of the witnesses, and starts those of the new config. An app
    /// that it does not name is looked at until the decision lets it go: its open incident needs looks. `seen` counts them.
    pub fn start(&self, lookers: Lookers, seen: &Seen) {
        let witness = self.beats.begin_witness();
        let mut apps = BTreeMap::new();
        let count = lookers.probes.len();
        for (at, (label, whose, probe, pace)) in lookers.probes.into_iter().enumerate() {
            let running = match &whose {
                Whose::Witness(_) => witness.clone(),
                Whose::App(app, _) => apps.entry(app.clone()).or_insert_with(|| self.beats.begin(app)).clone(),
            };
            let beat = self.beats.hear(&whose);
            let (to, clock) = (self.to.clone(), self.clock.clone());
            let prober = Prober { whose, probe, pace, beat, to, clock, seen: Some(Arc::clone(seen)) };
            let (wait, stop) = (apart(at, count, pace.interval), running.clone());
            self.supervisor.vital(label, running, async move {
                if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_some() {
                    prober.run(stop).await;
                }
            });
        }
    }
}

/// Lookers that are as few as one app has begin at once.
const FEW: usize = 16;
/// Nobody waits longer than this for a first look.
const LAST_FIRST_LOOK: Duration = Duration::from_secs(2);

/// When a looker begins: many are spread over a part of their interval, for looks that are all sent in one moment make
/// each other late, and would do so again at every turn.
fn apart(at: usize, count: usize, interval: Duration) -> Duration {
    if count <= FEW {
        return Duration::ZERO;
    }
    interval.min(LAST_FIRST_LOOK).mul_f64(at as f64 / count as f64)
}

fn front_door(app: &AppConfig) -> FrontDoorSpec {
    let proof = |site: &SiteConfig| ProofSpec {
        load_balancer: site.load_balancer.clone(),
        marker: site.marker.as_ref().map(|marker| (marker.header.clone(), marker.value.clone())),
    };
    FrontDoorSpec {
        url: app.front_door.url.clone(),
        ca_file: app.front_door.ca_file.clone(),
        expect: app.front_door.keys.get("expect").cloned().and_then(|keys| serde_json::from_value(keys).ok()).unwrap_or_default(),
        primary: proof(&app.primary),
        standby: proof(&app.standby),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_begin_at_once_and_many_within_a_part_of_their_interval() {
        let second = Duration::from_secs(1);
        assert!((0..FEW).all(|at| apart(at, FEW, second) == Duration::ZERO));
        let begin: Vec<Duration> = (0..200).map(|at| apart(at, 200, second)).collect();
        assert!(begin.windows(2).all(|pair| pair[0] < pair[1]) && begin[199] < second);
        assert!(apart(199, 200, Duration::from_secs(60)) < LAST_FIRST_LOOK);
    }
}
