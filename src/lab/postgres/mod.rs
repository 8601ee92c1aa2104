//! PostgreSQL as the lab's database: a primary and a streaming replica that really lose what had not arrived.
//!
//! `place` finds the programs and gives them a directory · `server` is one server · `psql` one connection · `line` the
//! late relay between the two · `mirror` carries the world's events into the servers and their facts back. The wire
//! stays the pretend cloud's: RDS answers as ever, and a promotion there is `pg_promote` here.

mod line;
mod mirror;
mod place;
mod psql;
mod server;

use std::io::{Error, Result};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use self::place::Place;
use self::psql::Psql;
use self::server::{PATIENCE, Server};
use super::cloud::Cloud;
use super::serve::Room;
use super::world::SiteName;

/// Connections of a site's app.
const CONNECTIONS: usize = 8;
/// How long the app waits for its database; less than its users wait for the app.
const WRITE: Duration = Duration::from_millis(700);
/// What the app writes into. The number is the app's own: one from a sequence could be given out twice, since a
/// promoted replica may not have heard of the last ones.
const TABLE: &str = "CREATE TABLE writes (id bigint PRIMARY KEY, site text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());";

/// Two servers and the app's connections to them. Field order is the order of their end: servers before their place.
#[derive(Debug)]
pub struct Postgres {
    idle: [Mutex<Vec<Psql>>; 2],
    permits: [Semaphore; 2],
    servers: [Server; 2],
    /// The primary's version, as it says it.
    version: String,
    place: Place,
}

impl Postgres {
    /// Makes both servers, connects them by a line that is as late as the world says, and mirrors the world into them.
    /// Takes some seconds. Fails with the program and the log's last lines, or with what to install.
    pub async fn start(room: &Room, cloud: &Arc<Cloud>) -> Result<Arc<Postgres>> {
        let place = Place::new()?;
        let (primary, standby) = (Server::new("primary"), Server::new("standby"));
        primary.create(&place).await?;
        primary.start(&place).await?;
        let mut psql = Psql::open(&place, primary.port())?;
        let version = psql.ask("SHOW server_version;", PATIENCE).await?.concat();
        // Without what the distribution adds to it.
        let version = version.split_whitespace().next().unwrap_or_default().to_owned();
        psql.ask(TABLE, PATIENCE).await?;
        let replica = cloud.world().site(SiteName::Standby).database.clone();
        cloud.world().hand_to_servers();
        let line = line::start(room, cloud, &replica, primary.port()).await?;
        standby.copy(&place, &primary, line).await?;
        standby.start(&place).await?;
        streams(&place, &standby).await?;
        let idle = [Mutex::default(), Mutex::default()];
        let permits = [Semaphore::new(CONNECTIONS), Semaphore::new(CONNECTIONS)];
        let postgres = Arc::new(Postgres { idle, permits, servers: [primary, standby], version, place });
        let (token, mirrored, cloud) = (room.token.clone(), postgres.clone(), cloud.clone());
        room.tasks.spawn(async move {
            token.run_until_cancelled(mirror::run(mirrored, cloud)).await;
        });
        Ok(postgres)
    }

    /// The primary's version, such as `15.18`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Writes a row at a site; whether the server has committed it. `false` may also mean that nobody knows: then it is
    /// not acknowledged either.
    pub async fn write(&self, site: SiteName, number: u64) -> bool {
        let Ok(_permit) = self.permit(site).acquire().await else { return false };
        let idle = self.idle(site).lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut psql = match idle.map_or_else(|| Psql::open(&self.place, self.server(site).port()), Ok) {
            Ok(psql) => psql,
            Err(error) => {
                tracing::warn!(%error, "the lab's app cannot connect to its database");
                return false;
            }
        };
        let statement = format!("INSERT INTO writes (id, site) VALUES ({number}, '{}') RETURNING id;", site.word());
        match psql.ask(&statement, WRITE).await {
            Ok(rows) => {
                self.idle(site).lock().unwrap_or_else(PoisonError::into_inner).push(psql);
                rows == [number.to_string()]
            }
            // The connection goes with its value: whatever is still said on it answers an old question.
            Err(_) => false,
        }
    }

    /// Ends both servers and waits for it.
    pub async fn stop(&self) {
        for site in SiteName::BOTH {
            self.idle(site).lock().unwrap_or_else(PoisonError::into_inner).clear();
            self.server(site).kill().await;
        }
    }

    /// Ends both at once and takes their directory away: for a lab that is dropped, where nothing can be waited for.
    pub fn end(&self) {
        for site in SiteName::BOTH {
            self.idle(site).lock().unwrap_or_else(PoisonError::into_inner).clear();
            self.server(site).end();
        }
        self.place.remove();
    }

    fn server(&self, site: SiteName) -> &Server {
        let [primary, standby] = &self.servers;
        if site == SiteName::Primary { primary } else { standby }
    }

    fn idle(&self, site: SiteName) -> &Mutex<Vec<Psql>> {
        let [primary, standby] = &self.idle;
        if site == SiteName::Primary { primary } else { standby }
    }

    fn permit(&self, site: SiteName) -> &Semaphore {
        let [primary, standby] = &self.permits;
        if site == SiteName::Primary { primary } else { standby }
    }
}

/// Until the replica streams.
async fn streams(place: &Place, standby: &Server) -> Result<()> {
    let mut psql = Psql::open(place, standby.port())?;
    let begun = std::time::Instant::now();
    while psql.ask("SELECT status FROM pg_stat_wal_receiver;", PATIENCE).await? != ["streaming"] {
        if begun.elapsed() > PATIENCE {
            return Err(Error::other(format!("the replica does not stream from its primary within {}s", PATIENCE.as_secs())));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
