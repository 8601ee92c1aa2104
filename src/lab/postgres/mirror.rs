//! The world's events into the servers, and the servers' facts into the world.

use std::collections::BTreeSet;
use std::io::{Error, Result};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::server::PATIENCE;
use super::{Postgres, Psql};
use crate::lab::cloud::Cloud;
use crate::lab::world::{Promotion, SiteName};

/// How often the two are compared.
const PACE: Duration = Duration::from_millis(20);
/// How often the replica is asked how far it has come.
const REPLAY: Duration = Duration::from_millis(200);
/// A replica that does not answer within this is asked again later.
const ANSWER: Duration = Duration::from_secs(2);
/// When the last replayed transaction was committed, in Unix milliseconds. It is what RDS calls ReplicaLag from the
/// other side: the time since then (aws-facts: PostgreSQL's lag counts from the last replayed transaction).
const REPLAYED: &str = "SELECT floor(extract(epoch FROM pg_last_xact_replay_timestamp()) * 1000)::bigint;";

/// Mirrors until it is cancelled.
pub async fn run(postgres: Arc<Postgres>, cloud: Arc<Cloud>) {
    let mut mirror = Mirror { lit: [true, true], promoted: false, replica: None, next: Instant::now(), postgres, cloud };
    let mut clock = interval(PACE);
    clock.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        clock.tick().await;
        // A failure is the server's (it is being killed, it starts): the next round sees where things stand.
        if let Err(error) = mirror.round().await {
            tracing::warn!(%error, "the lab's PostgreSQL does not follow the world");
        }
    }
}

struct Mirror {
    postgres: Arc<Postgres>,
    cloud: Arc<Cloud>,
    /// Which servers run.
    lit: [bool; 2],
    promoted: bool,
    replica: Option<Psql>,
    /// When the replica is asked again.
    next: Instant,
}

impl Mirror {
    async fn round(&mut self) -> Result<()> {
        for (running, site) in self.lit.iter_mut().zip(SiteName::BOTH) {
            let lit = {
                let world = self.cloud.world();
                !world.is_dark(&world.site(site).region)
            };
            if lit && !*running {
                self.postgres.server(site).start(&self.postgres.place).await?;
            } else if !lit && *running {
                self.postgres.server(site).kill().await;
            }
            *running = lit;
        }
        let (id, promotion) = {
            let world = self.cloud.world();
            let id = world.site(SiteName::Standby).database.clone();
            let promotion = world.databases().iter().find(|d| d.id == id).and_then(|d| d.promotion);
            (id, promotion)
        };
        if promotion == Some(Promotion::Rebooting) && !self.promoted {
            return self.promote(&id).await;
        }
        if !self.promoted && self.next <= Instant::now() {
            self.next = Instant::now() + REPLAY;
            return self.ask_replica(&id).await;
        }
        Ok(())
    }

    /// How far the replica has come.
    async fn ask_replica(&mut self, id: &str) -> Result<()> {
        let mut psql = match self.replica.take() {
            Some(psql) => psql,
            None => Psql::open(&self.postgres.place, self.postgres.server(SiteName::Standby).port())?,
        };
        // A connection that failed is not put back.
        let Ok(rows) = psql.ask(REPLAYED, ANSWER).await else { return Ok(()) };
        self.replica = Some(psql);
        // Empty while nothing has been replayed at all.
        let Some(unix_ms) = rows.first().and_then(|row| row.parse::<i64>().ok()) else { return Ok(()) };
        let now = self.cloud.now();
        let mut world = self.cloud.world();
        let birth = i64::try_from(world.unix_ms(0)).unwrap_or(i64::MAX);
        world.report_replayed(id, unix_ms.saturating_sub(birth), now);
        Ok(())
    }

    /// `pg_promote`, and the count of what the new primary holds of the old one's writes.
    async fn promote(&mut self, id: &str) -> Result<()> {
        let server = self.postgres.server(SiteName::Standby);
        let mut psql = Psql::open(&self.postgres.place, server.port())?;
        let said = psql.ask("SELECT CASE WHEN pg_is_in_recovery() THEN pg_promote(true, 15) ELSE true END;", PATIENCE).await?;
        if said != ["t"] {
            return Err(Error::other(format!("pg_promote said {said:?}")));
        }
        let rows = psql.ask(&format!("SELECT id FROM writes WHERE site = '{}';", SiteName::Primary.word()), PATIENCE).await?;
        let survived: BTreeSet<u64> = rows.iter().filter_map(|row| row.parse().ok()).collect();
        if survived.len() != rows.len() {
            return Err(Error::other("the promoted server listed a write without a number"));
        }
        let now = self.cloud.now();
        self.cloud.world().report_promoted(id, survived, now);
        self.promoted = true;
        Ok(())
    }
}
