//! The whole truth as JSON, for people and for `/state`.

use serde_json::{Value, json};

use super::World;

impl World {
    /// The whole truth.
    pub fn snapshot(&self) -> Value {
        json!({
            "now_ms": self.now,
            "unix_ms": self.unix_ms(self.now),
            "seed": self.seed,
            "profile": self.profile,
            "dark": self.dark,
            "isolated": self.isolated,
            "sites": self.sites,
            "groups": self.groups,
            "databases": self.databases,
            "zones": self.zones,
            "front_door": self.front_door_points.first(),
            "apps": self.tenants,
            "health_checks": self.checks,
            "buckets": self.buckets,
            "topics": self.topics,
            "writes": { "acknowledged": self.acks.len(), "last": self.acks.last() },
            "true_loss": self.true_loss(),
            "first_effect_ms": self.first_effect,
            "events": self.events.len(),
        })
    }
}
