//! Where everything of a running lab is.

use serde::Serialize;

use super::cloud::Cloud;
use super::world::{self, SiteName, Traffic, names};

/// One site, as an outsider finds it.
#[derive(Clone, Debug, Serialize)]
pub struct SiteAddresses {
    /// Region.
    pub region: String,
    /// Name of the load balancer.
    pub load_balancer: String,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Auto Scaling group.
    pub group: String,
    /// Target group.
    pub target_group_arn: String,
    /// Database.
    pub database: String,
    /// Endpoint of the database.
    pub database_endpoint: String,
}

/// One app's own things at one site.
#[derive(Clone, Debug, Serialize)]
pub struct AppSite {
    /// Auto Scaling group.
    pub group: String,
    /// Database.
    pub database: String,
    /// Endpoint of the database.
    pub database_endpoint: String,
}

/// One app, as an outsider finds it.
#[derive(Clone, Debug, Serialize)]
pub struct AppAddresses {
    /// Name in the daemon's configuration.
    pub name: String,
    /// What its users call.
    pub front_door_url: String,
    /// Its name.
    pub front_door_name: String,
    /// The name under which it finds its database.
    pub database_name: String,
    /// What it has at the primary.
    pub primary: AppSite,
    /// What it has at the standby.
    pub standby: AppSite,
}

/// Where everything is; the content of `world.json`.
#[derive(Clone, Debug, Serialize)]
pub struct Addresses {
    /// Version of this document's shape.
    pub schema_version: u32,
    /// The seed.
    pub seed: u64,
    /// Name of the profile.
    pub profile: &'static str,
    /// How traffic is moved.
    pub traffic: Traffic,
    /// AWS, all services and regions.
    pub aws_endpoint_url: String,
    /// The name server, UDP and TCP.
    pub dns: String,
    /// What users call.
    pub front_door_url: String,
    /// Its name.
    pub front_door_name: String,
    /// The port of both sites.
    pub front_door_port: u16,
    /// The primary.
    pub primary: SiteAddresses,
    /// The standby.
    pub standby: SiteAddresses,
    /// The control server.
    pub control_url: String,
    /// The witnesses.
    pub witness_urls: Vec<String>,
    /// Hosted zone.
    pub zone_id: String,
    /// Its name.
    pub zone_name: String,
    /// The name under which the app finds its database.
    pub database_name: String,
    /// TTL of plain records.
    pub record_ttl_s: u32,
    /// Bucket of the switch.
    pub bucket: String,
    /// Object of the switch.
    pub key: String,
    /// Where the bucket is.
    pub bucket_region: String,
    /// Route 53 health checks.
    pub health_check_ids: Vec<String>,
    /// SNS topic.
    pub topic_arn: String,
    /// Every app; the first is the one that the fields above describe.
    pub apps: Vec<AppAddresses>,
}

/// Reads them off the world and the servers that were started.
pub(super) fn addresses(
    cloud: &Cloud,
    traffic: Traffic,
    port: u16,
    aws: String,
    dns: String,
    control_url: String,
    witness_urls: Vec<String>,
) -> Addresses {
    let world = cloud.world();
    let apps = world.tenants().iter().map(|tenant| {
        let own = |name: SiteName, at: usize| AppSite {
            group: tenant.groups[at].clone(),
            database: tenant.databases[at].clone(),
            database_endpoint: world
                .database(&world.site(name).region, &tenant.databases[at])
                .map(|d| d.endpoint.clone())
                .unwrap_or_default(),
        };
        AppAddresses {
            name: tenant.name.clone(),
            front_door_url: format!("http://{}:{port}/healthz", tenant.front_door),
            front_door_name: tenant.front_door.clone(),
            database_name: tenant.database_name.clone(),
            primary: own(SiteName::Primary, 0),
            standby: own(SiteName::Standby, 1),
        }
    });
    let apps = apps.collect();
    let site = |name: SiteName| {
        let site = world.site(name);
        let database = world.database(&site.region, &site.database);
        SiteAddresses {
            region: site.region.clone(),
            load_balancer: site.balancer.dns_name.clone(),
            addresses: site.balancer.addresses.iter().map(ToString::to_string).collect(),
            group: site.group.clone(),
            target_group_arn: site.balancer.target_group_arn.clone(),
            database: site.database.clone(),
            database_endpoint: database.map(|d| d.endpoint.clone()).unwrap_or_default(),
        }
    };
    Addresses {
        schema_version: 1,
        seed: world.seed(),
        profile: world.profile().name,
        traffic,
        aws_endpoint_url: aws,
        dns,
        front_door_url: format!("http://{}:{port}/healthz", names::FRONT_DOOR),
        front_door_name: names::FRONT_DOOR.to_owned(),
        front_door_port: port,
        primary: site(SiteName::Primary),
        standby: site(SiteName::Standby),
        control_url,
        witness_urls,
        zone_id: names::ZONE_ID.to_owned(),
        zone_name: names::ZONE.to_owned(),
        database_name: names::DATABASE_NAME.to_owned(),
        record_ttl_s: world.profile().record_ttl_s,
        bucket: names::BUCKET.to_owned(),
        key: names::KEY.to_owned(),
        bucket_region: world::SWITCH_REGION.to_owned(),
        health_check_ids: world.checks().iter().map(|c| c.id.clone()).collect(),
        topic_arn: world.topics().first().map(|t| t.arn.clone()).unwrap_or_default(),
        apps,
    }
}
