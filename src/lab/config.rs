//! A daemon configuration that fits a running lab, by the reference thresholds.

use std::fmt::Write;
use std::path::Path;

use super::world::Traffic;
use super::{Addresses, AppAddresses};

/// Which plans the apps have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plans {
    /// Fence, promotion, capacity, traffic.
    #[default]
    Whole,
    /// The promotion alone: users are moved by others.
    PromoteOnly,
    /// Traffic alone, there and back.
    TrafficOnly,
}

/// What may differ from one configuration to the next. Durations in `humantime` form.
#[derive(Clone, Debug)]
pub struct ConfigOptions {
    /// Where the daemon listens for HTTP.
    pub listen: String,
    /// Its mode.
    pub mode: String,
    /// How long it only watches after its start.
    pub startup_grace: String,
    /// How long after a move the next one asks.
    pub cooldown: String,
    /// What happens when a move would lose more than the objective.
    pub on_rpo_exceeded: String,
    /// Time between looks: while all is well, and while in doubt.
    pub interval: (String, String),
    /// How long one look may take.
    pub timeout: String,
    /// Consecutive failed looks that trip.
    pub fall: u32,
    /// The windowed rate: its span, and the share that trips.
    pub window: (String, f64),
    /// How long the promotion waits behind a proven fence for a lag of zero.
    pub drain: String,
    /// The steps.
    pub plans: Plans,
}

impl Default for ConfigOptions {
    fn default() -> Self {
        let text = str::to_owned;
        Self {
            listen: text("127.0.0.1:0"),
            mode: text("automatic"),
            startup_grace: text("2s"),
            cooldown: text("1h"),
            on_rpo_exceeded: text("approve"),
            interval: (text("1s"), text("250ms")),
            timeout: text("800ms"),
            fall: 3,
            window: (text("90s"), 0.5),
            drain: text("20s"),
            plans: Plans::Whole,
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
"#,
        listen = options.listen,
        aws = a.aws_endpoint_url,
        witnesses = witnesses.join(", "),
        dns = a.dns,
        zone = a.zone_name,
    );
    for app in &a.apps {
        push(&mut text, head(a, app, options));
        sites(&mut text, a, app);
        push(&mut text, probe(options));
        steps(&mut text, a, app, options);
    }
    text
}

fn push(text: &mut String, part: String) {
    text.push_str(&part);
}

fn head(a: &Addresses, app: &AppAddresses, options: &ConfigOptions) -> String {
    // Apps that share their sites go down as one, and move as one.
    let group = if a.apps.len() > 1 { &a.primary.region } else { &app.name };
    let autonomous = if a.traffic == Traffic::Autonomous { "traffic_is_autonomous = true\n" } else { "" };
    format!(
        r#"
[[app]]
name = "{name}"
group = "{group}"
priority = 10
mode = "{mode}"
{autonomous}rto_objective = "5m"
rpo_objective = "5m"
on_rpo_exceeded = "{exceeded}"
min_outage = "3s"
startup_grace = "{grace}"
cooldown = "{cooldown}"
approval_timeout = "30m"
move_timeout = "30m"
prove_timeout = "5m"

[app.front_door]
url = "{front}"
"#,
        name = app.name,
        mode = options.mode,
        exceeded = options.on_rpo_exceeded,
        grace = options.startup_grace,
        cooldown = options.cooldown,
        front = app.front_door_url,
    )
}

fn probe(options: &ConfigOptions) -> String {
    format!(
        r#"
[app.probe]
interval = "{}"
fast_interval = "{}"
timeout = "{}"
fall = {}
rise = 5
window = {{ span = "{}", down_rate = {:?}, min_looks = 20 }}
"#,
        options.interval.0, options.interval.1, options.timeout, options.fall, options.window.0, options.window.1
    )
}

fn sites(text: &mut String, a: &Addresses, app: &AppAddresses) {
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
            front = app.front_door_url,
            port = a.front_door_port,
        );
        debug_assert!(written.is_ok(), "writing into a string cannot fail");
    }
    // A warm standby: its web server runs before anything moves, and is worth nothing as a target if it does not.
    text.push_str("required = \"start\"\n");
    text.push_str(&format!(
        "[[app.standby.signal]]\nname = \"replica\"\nkind = \"rds-replica\"\ndb_instance = \"{}\"\n",
        app.standby.database
    ));
}

fn steps(text: &mut String, a: &Addresses, app: &AppAddresses, options: &ConfigOptions) {
    if options.plans == Plans::TrafficOnly {
        text.push_str(&weights(a, app, "failover", [0, 100], ""));
        text.push_str(&weights(a, app, "failback", [100, 0], ""));
        return;
    }
    let promote = format!(
        r#"[[app.failover]]
name = "promote"
kind = "rds-promote-replica"
db_instance = "{}"
drain = "{}"
backup_retention = 7
multi_az = true
"#,
        app.standby.database, options.drain
    );
    if options.plans == Plans::PromoteOnly {
        text.push_str(&format!("\n{promote}"));
        return;
    }
    text.push_str(&format!(
        r#"
[[app.failover]]
name = "fence"
kind = "fence-primary"
group = "{fence}"
deadline = "5s"
on_failure = "continue"
{promote}[[app.failover]]
name = "capacity"
kind = "autoscaling-capacity"
group = "{capacity}"
desired = 4
after = []
"#,
        fence = app.primary.group,
        capacity = app.standby.group,
    ));
    match a.traffic {
        Traffic::Route53 => {
            let db = format!(
                "  {{ name = \"{}\", type = \"CNAME\", values = [\"{}\"], ttl = {} }},\n",
                app.database_name, app.standby.database_endpoint, a.record_ttl_s
            );
            text.push_str(&weights(a, app, "failover", [0, 100], &db));
        }
        Traffic::S3Switch => text.push_str(&format!(
            r#"[[app.failover]]
name = "traffic"
after = ["promote", "capacity"]
kind = "s3-switch"
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
            app.front_door_name,
        )),
        Traffic::Autonomous => {}
    }
}

/// The step that gives the front door these weights, behind the promotion and the capacity where it also has a database's name.
fn weights(a: &Addresses, app: &AppAddresses, way: &str, [primary, standby]: [u32; 2], db: &str) -> String {
    let after = if db.is_empty() { "" } else { "after = [\"promote\", \"capacity\"]\n" };
    format!(
        r#"[[app.{way}]]
name = "traffic"
{after}kind = "route53-records"
zone_id = "{zone}"
records = [
  {{ name = "{front}", type = "A", set_identifier = "primary", weight = {primary} }},
  {{ name = "{front}", type = "A", set_identifier = "standby", weight = {standby} }},
{db}]
"#,
        zone = a.zone_id,
        front = app.front_door_name,
    )
}
