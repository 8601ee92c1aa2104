//! Route 53's health checks: looks by interval and threshold at the world's own truth.

use serde::Serialize;

use super::{Cause, Millis, SiteMode, SiteName, Tick, World};

/// What a check looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum CheckKind {
    /// A status from 200 to 399.
    Http,
    /// The same behind TLS; certificates are not judged.
    Https,
    /// A connection.
    Tcp,
    /// Enough of other checks.
    Calculated,
}

/// How a check is configured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckConfig {
    /// What it looks at.
    pub kind: CheckKind,
    /// Address.
    pub ip: Option<String>,
    /// Port.
    pub port: Option<u16>,
    /// Host name.
    pub fqdn: Option<String>,
    /// Path.
    pub path: Option<String>,
    /// Seconds between looks.
    pub interval_s: u64,
    /// Looks in a row that change its mind.
    pub threshold: u32,
    /// Healthy counts as unhealthy.
    pub inverted: bool,
    /// Not looked at, and counted healthy.
    pub disabled: bool,
    /// Healthy children that a calculated one wants.
    pub health_threshold: u32,
    /// Children of a calculated one.
    pub children: Vec<String>,
}

/// A health check.
#[derive(Clone, Debug, Serialize)]
pub struct HealthCheck {
    /// Identifier.
    pub id: String,
    /// The creator's own word for it.
    pub caller_reference: String,
    /// Rises with every update.
    pub version: u64,
    /// How it is configured.
    pub config: CheckConfig,
    /// What it says, inversion applied. A new one says healthy, or unhealthy if inverted.
    pub healthy: bool,
    /// When it last looked.
    pub looked: Millis,
    #[serde(skip)]
    pub(super) against: u32,
}

impl World {
    /// What counts in an answer: a disabled check is healthy, and so is one that is not there.
    pub fn check_healthy(&self, id: &str) -> bool {
        self.checks.iter().find(|c| c.id == id).is_none_or(|c| c.config.disabled || c.healthy)
    }

    /// `CreateHealthCheck`.
    pub fn create_check(&mut self, caller_reference: &str, config: CheckConfig, by: Cause, now: Millis) -> HealthCheck {
        self.advance(now);
        if let Some(same) = self.checks.iter().find(|c| c.caller_reference == caller_reference && c.config == config) {
            return same.clone();
        }
        let hex = self.hex_id(32);
        let id = format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
        let check = HealthCheck {
            id: id.clone(),
            caller_reference: caller_reference.to_owned(),
            version: 1,
            healthy: !config.inverted,
            config,
            looked: self.now,
            against: 0,
        };
        let delay = self.interval(&check);
        self.checks.push(check.clone());
        self.record("health-check-created", by, "global", &id, "");
        self.later(delay, Tick::HealthCheck(id));
        check
    }

    /// `UpdateHealthCheck`: the whole configuration at once, as read and changed by the face.
    pub fn update_check(&mut self, id: &str, config: CheckConfig, now: Millis) -> Option<HealthCheck> {
        self.advance(now);
        let check = self.checks.iter_mut().find(|c| c.id == id)?;
        check.version += 1;
        if check.config != config {
            // Inverting takes effect at once, as it only turns round what is known.
            if check.config.inverted != config.inverted {
                check.healthy = !check.healthy;
            }
            check.config = config;
            self.record("health-check-updated", Cause::Api, "global", id, "");
            self.look_at_front_door();
        }
        self.checks.iter().find(|c| c.id == id).cloned()
    }

    pub(super) fn evaluate_check(&mut self, id: &str) {
        let Some(check) = self.checks.iter().find(|c| c.id == id).cloned() else {
            return;
        };
        let seen = self.endpoint_healthy(&check.config) != check.config.inverted;
        let threshold = self.profile.health_threshold.unwrap_or(check.config.threshold).max(1);
        let against = if seen == check.healthy { 0 } else { check.against + 1 };
        let flips = against >= threshold;
        let (now, delay) = (self.now, self.interval(&check));
        if let Some(check) = self.checks.iter_mut().find(|c| c.id == id) {
            check.looked = now;
            check.against = if flips { 0 } else { against };
            check.healthy = if flips { seen } else { check.healthy };
        }
        if flips {
            self.record("health-check", Cause::World, "global", id, if seen { "healthy" } else { "unhealthy" });
        }
        self.look_at_front_door();
        self.later(delay, Tick::HealthCheck(id.to_owned()));
    }

    fn interval(&self, check: &HealthCheck) -> u64 {
        self.profile.health_interval.unwrap_or(check.config.interval_s * 1_000).max(100)
    }

    fn endpoint_healthy(&self, config: &CheckConfig) -> bool {
        if config.kind == CheckKind::Calculated {
            let healthy = config.children.iter().filter(|id| self.check_healthy(id)).count();
            return healthy >= config.health_threshold as usize;
        }
        let path = config.path.clone().unwrap_or_else(|| "/".to_owned());
        if let Some(host) = &config.fqdn
            && let Some((bucket, key)) = s3_object(host, &path)
        {
            return self.public_object(&bucket, &key).is_ok();
        }
        let host = config.ip.as_ref().or(config.fqdn.as_ref());
        let site = host.and_then(|host| self.site_at(host));
        site.is_some_and(|site| self.site_answers(site, config.kind == CheckKind::Tcp))
    }

    /// The site whose load balancer has this name or address.
    pub(super) fn site_at(&self, host: &str) -> Option<SiteName> {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let is_it = |b: &super::Balancer| {
            host == b.dns_name.to_ascii_lowercase()
                || host == format!("dualstack.{}", b.dns_name.to_ascii_lowercase())
                || b.addresses.iter().any(|a| a.to_string() == host)
        };
        self.sites.iter().find(|s| is_it(&s.balancer)).map(|s| s.name)
    }

    fn site_answers(&self, name: SiteName, connection_is_enough: bool) -> bool {
        let site = self.site(name);
        let connects = !self.dark.contains(&site.region) && !matches!(site.mode, SiteMode::Refuse | SiteMode::Reset);
        let answers = match site.mode {
            SiteMode::Ok | SiteMode::WrongBody => true,
            SiteMode::Slow { millis } => millis < 2_000,
            SiteMode::Share { fraction } => fraction < 0.5,
            SiteMode::Refuse | SiteMode::Reset | SiteMode::Hang | SiteMode::Error => false,
        };
        connects && (connection_is_enough || (answers && self.healthy_targets(name) > 0))
    }
}

/// Bucket and key, when host and path are those of an S3 object.
fn s3_object(host: &str, path: &str) -> Option<(String, String)> {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if !host.ends_with(".amazonaws.com") || !host.contains("s3") {
        return None;
    }
    let path = path.split('?').next().unwrap_or(path).trim_start_matches('/');
    match host.split_once(".s3") {
        Some((bucket, _)) => {
            let key = path.strip_prefix(&format!("{bucket}/")).unwrap_or(path);
            Some((bucket.to_owned(), key.to_owned()))
        }
        None => path.split_once('/').map(|(bucket, key)| (bucket.to_owned(), key.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::world::{PRIMARY_REGION, Traffic, WorldSpec, names};

    fn switched() -> WorldSpec {
        let mut spec = WorldSpec::lab(1);
        spec.traffic = Traffic::S3Switch;
        spec
    }

    #[test]
    fn an_object_turns_the_inverted_check() {
        let mut world = World::new(&switched());
        let id = world.checks()[0].id.clone();
        assert!(world.check_healthy(&id), "no object: the primary serves");
        world.put_object(names::BUCKET, names::KEY, b"moved".to_vec(), "text/plain", 5_000).unwrap();
        assert!(world.check_healthy(&id), "not looked at yet");
        world.advance(6_100);
        assert!(!world.check_healthy(&id));
        world.delete_object(names::BUCKET, names::KEY, 7_000).unwrap();
        world.advance(8_100);
        assert!(world.check_healthy(&id));
    }

    #[test]
    fn a_new_inverted_check_starts_unhealthy_and_a_disabled_one_is_healthy() {
        let mut world = World::new(&switched());
        let mut config = world.checks()[0].config.clone();
        config.path = Some("/other/key".to_owned());
        let check = world.create_check("x", config.clone(), Cause::Api, 10);
        assert!(!world.check_healthy(&check.id));
        config.disabled = true;
        world.update_check(&check.id, config, 20).unwrap();
        assert!(world.check_healthy(&check.id));
    }

    #[test]
    fn thresholds_hold_in_a_realistic_world() {
        let mut spec = WorldSpec::lab(1);
        spec.profile = crate::lab::profile::Profile::realistic();
        let mut world = World::new(&spec);
        let config = CheckConfig {
            kind: CheckKind::Http,
            ip: Some("127.0.1.11".to_owned()),
            port: Some(80),
            fqdn: None,
            path: Some("/healthz".to_owned()),
            interval_s: 10,
            threshold: 3,
            inverted: false,
            disabled: false,
            health_threshold: 0,
            children: Vec::new(),
        };
        let id = world.create_check("y", config, Cause::Api, 0).id;
        world.set_dark(PRIMARY_REGION, true, 5_000);
        world.advance(29_000);
        assert!(world.check_healthy(&id));
        world.advance(30_001);
        assert!(!world.check_healthy(&id));
    }
}
