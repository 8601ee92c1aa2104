//! A daemon configuration that fits a running lab, by the reference thresholds.

use std::fmt::Write;
use std::path::Path;

use super::Addresses;
use super::world::Traffic;

/// What may differ from one configuration to the next.
#[derive(Clone, Debug)]
pub struct ConfigOptions {
    /// Where the daemon listens for HTTP.
    pub listen: String,
    /// Its mode.
    pub mode: String,
    /// How long it only watches after its start.
    pub startup_grace: String,
}

impl Default for ConfigOptions {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:0".to_owned(),
            mode: "automatic".to_owned(),
            startup_grace: "2s".to_owned(),
        }
    }
}

/// The whole text of a `config.toml`.
pub fn daemon_config(a: &Addresses, dir: &Path, options: &ConfigOptions) -> String {
    let state = dir.join("state").display().to_string();
    let socket = dir.join("admin.sock").display().to_string();
    let witnesses: Vec<String> = a.witness_urls.iter().map(|u| format!("{u:?}")).collect();
    let mut text = format!(
        r#"# Written by the lab: the reference thresholds, pointed at a pretend cloud.
[daemon]
observer = "bastion-lab"
listen = "{listen}"
admin_socket = {socket:?}
state_dir = {state:?}

[aws]
endpoint_url = "{aws}"
call_timeout = "5s"
attempts = 3

[witness]
urls = [{witnesses}]
need_up = 1

[dns]
resolvers = ["{dns}"]
authoritative = {{ "{zone}" = ["{dns}"] }}

[limits]
max_concurrent_groups = 1

[[app]]
name = "shop"
group = "shop"
priority = 10
mode = "{mode}"
rto_objective = "5m"
rpo_objective = "5m"
on_rpo_exceeded = "approve"
min_outage = "3s"
startup_grace = "{grace}"
cooldown = "1h"
approval_timeout = "30m"
move_timeout = "30m"
prove_timeout = "5m"

[app.front_door]
url = "{front}"
"#,
        listen = options.listen,
        aws = a.aws_endpoint_url,
        witnesses = witnesses.join(", "),
        dns = a.dns,
        zone = a.zone_name,
        mode = options.mode,
        grace = options.startup_grace,
        front = a.front_door_url,
    );
    sites(&mut text, a);
    text.push_str(
        r#"
[app.probe]
interval = "1s"
fast_interval = "250ms"
timeout = "800ms"
fall = 3
rise = 5
window = { span = "90s", down_rate = 0.5, min_looks = 20 }
"#,
    );
    steps(&mut text, a);
    text
}

fn sites(text: &mut String, a: &Addresses) {
    for (word, site) in [("primary", &a.primary), ("standby", &a.standby)] {
        let written = write!(
            text,
            r#"
[app.{word}]
region = "{region}"
load_balancer = "{balancer}"
marker = {{ header = "x-region", value = "{region}" }}
down_when = "all"
min_known = 1
[[app.{word}.signal]]
name = "alb"
kind = "http"
url = "{front}"
connect_to = "{balancer}:{port}"
"#,
            region = site.region,
            balancer = site.load_balancer,
            front = a.front_door_url,
            port = a.front_door_port,
        );
        debug_assert!(written.is_ok(), "writing into a string cannot fail");
    }
    // A warm standby: its web server runs before anything moves, and is worth nothing as a target if it does not.
    text.push_str("required = \"start\"\n");
    text.push_str(&format!("[[app.standby.signal]]\nname = \"replica\"\nkind = \"rds-replica\"\ndb_instance = \"{}\"\n", a.standby.database));
}

fn steps(text: &mut String, a: &Addresses) {
    text.push_str(&format!(
        r#"
[[app.failover]]
name = "fence"
kind = "fence-primary"
group = "{fence}"
deadline = "5s"
on_failure = "continue"
[[app.failover]]
name = "promote"
kind = "rds-promote-replica"
db_instance = "{replica}"
drain = "20s"
backup_retention = 7
multi_az = true
[[app.failover]]
name = "capacity"
kind = "autoscaling-capacity"
group = "{capacity}"
desired = 4
after = []
[[app.failover]]
name = "traffic"
after = ["promote", "capacity"]
"#,
        fence = a.primary.group,
        replica = a.standby.database,
        capacity = a.standby.group,
    ));
    match a.traffic {
        Traffic::Route53 => text.push_str(&format!(
            r#"kind = "route53-records"
zone_id = "{zone}"
records = [
  {{ name = "{front}", type = "A", set_identifier = "primary", weight = 0 }},
  {{ name = "{front}", type = "A", set_identifier = "standby", weight = 100 }},
  {{ name = "{db}", type = "CNAME", values = ["{endpoint}"], ttl = {ttl} }},
]
"#,
            zone = a.zone_id,
            front = a.front_door_name,
            db = a.database_name,
            endpoint = a.standby.database_endpoint,
            ttl = a.record_ttl_s,
        )),
        Traffic::S3Switch => text.push_str(&format!(
            r#"kind = "s3-switch"
bucket = "{}"
key = "{}"
region = "{}"
health_check_id = "{}"
zone_id = "{}"
record = "{}"
pin = true
"#,
            a.bucket,
            a.key,
            a.bucket_region,
            a.health_check_ids.first().map_or("", String::as_str),
            a.zone_id,
            a.front_door_name,
        )),
    }
}
