//! A running lab: the world with all its faces, on free ports of loopback.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::addresses::addresses;
use super::postgres::Postgres;
use super::profile::Profile;
use super::referee::{self, Expect, Violation};
use super::serve::Room;
use super::world::{Event, Millis, SiteName, Traffic, TrueLoss, WorldSpec};
use super::{Action, Addresses, Calls, Cloud, ConfigOptions, Log, aws, config, control, dns, sites, writers};

/// What a lab is started from.
#[derive(Clone, Debug)]
pub struct LabSpec {
    /// Decides on everything that is left to chance.
    pub seed: u64,
    /// How long things take.
    pub profile: Profile,
    /// How many users write.
    pub writers: usize,
    /// How traffic is moved.
    pub traffic: Traffic,
    /// What stands behind the databases.
    pub engine: Engine,
    /// What else is different from the ordinary world.
    pub setting: Setting,
}

/// What stands behind the databases of both sites.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Engine {
    /// The world's own reckoning.
    #[default]
    World,
    /// A PostgreSQL primary and its streaming replica, on this machine.
    Postgres,
}

impl Default for LabSpec {
    fn default() -> Self {
        Self { seed: 1, profile: Profile::lab(), writers: 4, traffic: Traffic::Route53, engine: Engine::World, setting: Setting::default() }
    }
}

/// How a world is set up, where it is not the ordinary one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setting {
    /// How many apps share the two sites; 0 counts as 1.
    pub apps: usize,
    /// The primary is one machine that nothing replaces.
    pub single_machine: bool,
    /// By how much replicas run late.
    pub late: Duration,
    /// For how long the replicas' links have been broken at birth; nothing: they flow.
    pub broken: Duration,
    /// Users read instead of writing.
    pub readers: bool,
    /// How many writers write to the primary's database past the front door and the machines behind it.
    pub past_writers: usize,
}

/// A running lab.
#[derive(Debug)]
pub struct Lab {
    cloud: Arc<Cloud>,
    room: Room,
    addresses: Addresses,
    postgres: Option<Arc<Postgres>>,
}

impl Lab {
    /// Starts everything on free ports of loopback.
    pub async fn start(spec: LabSpec) -> std::io::Result<Self> {
        let LabSpec { seed, profile, writers, traffic, engine, setting } = spec;
        let millis = |length: Duration| u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        let birth = WorldSpec {
            seed,
            profile,
            traffic,
            busy_history: writers > 0,
            base_unix_ms: 0,
            apps: setting.apps,
            single_machine: setting.single_machine,
            late_ms: millis(setting.late),
            broken_ms: millis(setting.broken),
            readers: setting.readers,
            past_writers: setting.past_writers > 0,
        };
        let cloud = Arc::new(Cloud::new(birth));
        let room = Room::default();
        let aws = aws::start(&room, &cloud).await?;
        let dns = dns::start(&room, &cloud).await?;
        let port = sites::start_sites(&room, &cloud).await?;
        let witness_urls = sites::start_witnesses(&room, &cloud).await?;
        let control_url = control::start(&room, &cloud).await?;
        let postgres = match engine {
            Engine::World => None,
            Engine::Postgres => Some(Postgres::start(&room, &cloud).await?),
        };
        cloud.set_postgres(postgres.clone());
        let addresses = addresses(&cloud, traffic, port, format!("http://{aws}"), dns.to_string(), control_url, witness_urls);
        let users = writers::Users { count: writers, dns, port, read: setting.readers };
        writers::start(&room, &cloud, &users);
        writers::start_past(&room, &cloud, setting.past_writers);
        Ok(Self { cloud, room, addresses, postgres })
    }

    /// Where everything is.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The shared state, for those who want to look deeper.
    pub fn cloud(&self) -> &Arc<Cloud> {
        &self.cloud
    }

    /// Breaks or mends; `Err` says what there is not.
    pub fn act(&self, action: &Action) -> Result<(), String> {
        self.cloud.act(action)
    }

    /// Milliseconds since the world's birth.
    pub fn now(&self) -> Millis {
        self.cloud.now()
    }

    /// The whole truth as JSON.
    pub fn snapshot(&self) -> Value {
        self.cloud.world().snapshot()
    }

    /// What happened, from this position of the log on.
    pub fn events_since(&self, seq: usize) -> Vec<Event> {
        self.cloud.world().events().get(seq..).map(<[Event]>::to_vec).unwrap_or_default()
    }

    /// Calls by service, region and operation.
    pub fn calls(&self) -> Vec<Calls> {
        self.cloud.calls()
    }

    /// When the first API call took effect.
    pub fn first_effect(&self) -> Option<Millis> {
        self.cloud.world().first_effect()
    }

    /// Requests that Route 53 refused because the account was above its pace.
    pub fn route53_too_fast(&self) -> u64 {
        self.cloud.world().route53_too_fast()
    }

    /// Wall clock at a time of the world, in Unix milliseconds.
    pub fn unix_ms(&self, at: Millis) -> u64 {
        self.cloud.world().unix_ms(at)
    }

    /// What was truly lost, if a database was promoted.
    pub fn true_loss(&self) -> Option<TrueLoss> {
        self.cloud.world().true_loss()
    }

    /// Version of the PostgreSQL behind the databases, if one is.
    pub fn postgres_version(&self) -> Option<&str> {
        self.postgres.as_ref().map(|postgres| postgres.version())
    }

    /// How many writes a site has acknowledged.
    pub fn acknowledged(&self, site: SiteName) -> usize {
        self.cloud.world().acks().iter().filter(|ack| ack.site == site).count()
    }

    /// What was truly lost of one app, if its database was promoted.
    pub fn true_loss_of(&self, app: usize) -> Option<TrueLoss> {
        self.cloud.world().true_loss_of(app)
    }

    /// What an app's standby lacks right now: what a move would lose.
    pub fn standby_lacks(&self, app: usize) -> Option<TrueLoss> {
        self.cloud.world().standby_lacks(app)
    }

    /// What users saw.
    pub fn users(&self) -> Log {
        self.cloud.users().clone()
    }

    /// Which invariants the world saw broken.
    pub fn violations(&self, expect: Expect) -> Vec<Violation> {
        referee::violations(&self.cloud.world(), expect)
    }

    /// A complete `config.toml` for a daemon that keeps its state in `dir`.
    pub fn daemon_config(&self, dir: &Path, options: &ConfigOptions) -> String {
        config::daemon_config(&self.addresses, dir, options)
    }

    /// Ends everything and waits for it; a straggler is named in the log, not waited for.
    pub async fn shutdown(self) {
        self.room.token.cancel();
        self.room.tasks.close();
        if tokio::time::timeout(Duration::from_secs(2), self.room.tasks.wait()).await.is_err() {
            tracing::warn!(left = self.room.tasks.len(), "tasks of the lab did not end in time");
        }
        if let Some(postgres) = &self.postgres {
            postgres.stop().await;
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.room.token.cancel();
        // At once and here: when a lab is dropped its runtime often ends too, and drops what tasks hold late or never.
        if let Some(postgres) = &self.postgres {
            postgres.end();
        }
    }
}
