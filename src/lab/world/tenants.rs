//! The apps that live in the two sites: one, or many behind the same load balancers, each with what is its own.

use serde::Serialize;

use super::{SiteName, World, names};

/// One app's own things; `[primary, standby]` where there are two.
#[derive(Clone, Debug, Serialize)]
pub struct Tenant {
    /// Name in the daemon's configuration.
    pub name: String,
    /// The name that its users call.
    pub front_door: String,
    /// The name under which it finds its database.
    pub database_name: String,
    /// Its Auto Scaling groups.
    pub groups: [String; 2],
    /// Its databases.
    pub databases: [String; 2],
}

impl Tenant {
    /// The first is the app `shop`, which every world has; the others have numbers.
    pub(super) fn numbered(index: usize) -> Self {
        let text = str::to_owned;
        if index == 0 {
            return Self {
                name: text("shop"),
                front_door: text(names::FRONT_DOOR),
                database_name: text(names::DATABASE_NAME),
                groups: [text("shop-primary"), text("shop-standby")],
                databases: [text("shop-primary"), text("shop-replica")],
            };
        }
        let name = format!("app-{:02}", index + 1);
        Self {
            front_door: format!("{name}.{}", names::ZONE),
            database_name: format!("db.{name}.{}", names::ZONE),
            groups: [format!("{name}-primary"), format!("{name}-standby")],
            databases: [format!("{name}-primary"), format!("{name}-replica")],
            name,
        }
    }
}

impl World {
    /// Every app, `shop` first.
    pub fn tenants(&self) -> &[Tenant] {
        &self.tenants
    }

    /// The app whose users call this host; with only one, whatever they call it.
    pub fn tenant_called(&self, host: &str) -> usize {
        let bare = host.split(':').next().unwrap_or(host);
        self.tenants.iter().position(|one| one.front_door.eq_ignore_ascii_case(bare)).unwrap_or(0)
    }

    /// The app that a database belongs to.
    pub(super) fn tenant_of(&self, database: &str) -> usize {
        self.tenants.iter().position(|one| one.databases.iter().any(|id| id == database)).unwrap_or(0)
    }

    /// An app's database at a site.
    pub(super) fn database_of(&self, app: usize, site: SiteName) -> Option<&super::Database> {
        let id = &self.tenants.get(app)?.databases[site.index()];
        self.database(&self.site(site).region, id)
    }
}
