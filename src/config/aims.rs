//! Where looks go: signals that say nothing of their site, and witnesses that are not neutral.

use std::net::IpAddr;

use serde_json::Value;
use url::Url;

use super::app::Site;
use super::check::Judge;
use super::judge::Table;
use super::{AwsConfig, WitnessConfig};
use crate::domain::plan::{Class, Plan};
use crate::domain::policy::{AppPolicy, Required};

/// A host that is connected to, in the one spelling that compares.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Aim {
    host: String,
    /// None where any is meant.
    port: Option<u16>,
}

impl Aim {
    fn new(host: &str, port: Option<u16>) -> Aim {
        Aim { host: host.trim().trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_lowercase(), port }
    }

    fn of_url(text: &str) -> Option<Aim> {
        let url = Url::parse(text).ok()?;
        Some(Aim::new(url.host_str()?, url.port_or_known_default()))
    }

    /// Where a signal of our own connects, and the key that says so. Read from the raw table, as what a kind makes of its keys
    /// is that kind's matter; what cannot be read is named by that kind.
    fn of_signal(signal: &Value) -> Option<(Aim, &'static str)> {
        let text = |key: &str| signal.get(key).and_then(Value::as_str);
        if !matches!(text("kind"), Some("http" | "tcp")) {
            return None;
        }
        if let Some(text) = text("connect_to") {
            let (host, port) = text.trim().rsplit_once(':')?;
            return Some((Aim::new(host, port.parse().ok()), "connect_to"));
        }
        Some((Aim::of_url(text("url")?)?, "url"))
    }

    fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// This machine: a rehearsal, in which many parts stand at one address.
    fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.ends_with(".localhost") || self.address().is_some_and(|ip| ip.is_loopback())
    }

    /// An address that says nothing of the network between us and anybody.
    fn is_ourselves(&self) -> bool {
        self.is_loopback()
            || self.address().is_some_and(|ip| match ip {
                IpAddr::V4(ip) => ip.is_link_local() || ip.is_unspecified(),
                IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.is_unspecified(),
            })
    }

    /// One place: the port tells services of one address apart, but a name leads where its zone says, whatever the port.
    fn is(&self, other: &Aim) -> bool {
        let ports = self.address().is_none() || self.port.is_none() || other.port.is_none() || self.port == other.port;
        self.host == other.host && ports && !self.is_loopback()
    }
}

/// Checks the signals of both sites, and the front door, against each other.
pub(super) fn app(judge: &Judge<'_>, table: &Table, policy: &AppPolicy, primary: &Site, standby: &Site) {
    let door = door(table);
    let balancer = |site: &Site| site.config.load_balancer.as_deref().map(|name| Aim::new(name, None));
    let balancers = [balancer(primary), balancer(standby)];
    // Named where it stands; what follows from it is not.
    let door_is_a_site = balancers.iter().flatten().find(|one| door.as_ref().is_some_and(|door| door.is(one)));
    if let Some(one) = door_is_a_site {
        table.fault(
            "front_door.url",
            format!("{:?} is a site's own load_balancer: users who call it stay there, and no move could be proven from the other site; give the name that users call", one.host),
        );
    }
    let same_balancer = balancers[0].is_some() && balancers[0] == balancers[1];
    let (away, home) = (&policy.failover, &policy.failback);
    for (site, other, others, plan, is_standby) in
        [(primary, standby, &balancers[1], home, false), (standby, primary, &balancers[0], away, true)]
    {
        let own = balancer(site);
        for (signal, raw) in signals(site) {
            let required = raw.get("required").and_then(Value::as_str).unwrap_or(Required::Start.as_str());
            leads_to_itself(&signal, &raw, required, plan);
            let Some((aim, key)) = Aim::of_signal(&raw) else { continue };
            if !same_balancer && others.as_ref().is_some_and(|other| aim.is(other)) {
                signal.fault(key, "leads to the load_balancer of the other site, so it says nothing of this one; give this site's own");
            } else if is_standby
                && !own.as_ref().is_some_and(|own| aim.is(own))
                && signals(other).iter().any(|(_, theirs)| is_same_look(&raw, theirs, &aim))
            {
                signal.fault(key, "is the very look of a signal of the other site, so it says nothing of this one; let it connect to this site's own load balancer (connect_to)");
            } else if door_is_a_site.is_none() && required != Required::Never.as_str() && door.as_ref().is_some_and(|door| aim.is(door)) {
                let words = "leads to the front door, so it says whether users are served, wherever they are led, and nothing of this site; add connect_to with the site's own load balancer, or required = \"never\"";
                if is_standby && !away.steps.is_empty() {
                    signal.fault(key, words);
                } else {
                    judge.warnings.add(signal.at(key), words);
                }
            }
        }
    }
}

/// The front door of an app.
fn door(app: &Table) -> Option<Aim> {
    app.raw("front_door").and_then(|door| Aim::of_url(door.get("url")?.as_str()?))
}

/// The signals of a site with their raw tables.
fn signals(site: &Site) -> Vec<(Table, Value)> {
    let raw = site.table.raw("signal").and_then(Value::as_array).cloned().unwrap_or_default();
    site.table.tables("signal").into_iter().zip(raw.into_iter().filter(Value::is_object)).collect()
}

/// A look that is up only once users have been moved keeps them from being moved.
fn leads_to_itself(signal: &Table, raw: &Value, required: &str, plan: &Plan) {
    let text = |key: &str| raw.get(key).and_then(Value::as_str);
    if text("kind") != Some("dns") || text("expect") != Some("load-balancer") {
        return;
    }
    let waits = match required {
        "never" => false,
        "traffic" => plan.steps.iter().any(|step| step.class == Class::Traffic),
        _ => !plan.steps.is_empty(),
    };
    if waits {
        signal.fault(
            "required",
            format!("{required:?} keeps every move to this site waiting for what only the move brings: the name leads here once users have been moved; write required = \"never\""),
        );
    }
}

/// True for looks that cannot differ. Two that ask one place for different things may be told apart by what it answers.
fn is_same_look(one: &Value, other: &Value, aim: &Aim) -> bool {
    let same = |key: &str| one.get(key) == other.get(key);
    Aim::of_signal(other).is_some_and(|(theirs, _)| theirs == *aim && !aim.is_loopback())
        && ["kind", "url", "method", "expect", "server_name"].into_iter().all(same)
}

/// Checks that the witnesses are neutral, and places at all.
pub(super) fn witness(judge: &Judge<'_>, root: &Table, witness: &WitnessConfig, aws: &AwsConfig, apps: &[Table]) {
    let places: Vec<(Aim, String)> = apps.iter().flat_map(places).collect();
    let emulated = aws.endpoint_url.as_ref().and_then(|url| Aim::of_url(url.as_str()));
    let rehearsal = emulated.iter().chain(places.iter().map(|(aim, _)| aim)).any(Aim::is_loopback);
    for url in &witness.urls {
        let Some(aim) = Aim::of_url(url.as_str()) else { continue };
        // Where the sites are on this machine, so are those who tell an outage from a cut.
        if aim.is_ourselves() && !rehearsal {
            root.fault(
                "witness.urls",
                format!(
                    "{:?} is answered by this machine or its own link, also when we are cut off from everybody else; give a neutral place",
                    aim.host
                ),
            );
        } else if let Some((_, what)) = places.iter().find(|(place, _)| place.is(&aim)) {
            judge.warnings.add(
                "witness.urls",
                format!("{:?} is {what}: an outage there takes the witness with it, and looks as if we were cut off; give a place that shares nothing with the sites", aim.host),
            );
        }
    }
}

/// Every place of an app that may be lost with a site, and what it is.
fn places(app: &Table) -> Vec<(Aim, String)> {
    let mut found = Vec::new();
    for site in ["primary", "standby"] {
        let Some(raw) = app.raw(site) else { continue };
        if let Some(name) = raw.get("load_balancer").and_then(Value::as_str) {
            found.push((Aim::new(name, None), format!("the load_balancer of {}", app.at(site))));
        }
        for signal in raw.get("signal").and_then(Value::as_array).into_iter().flatten() {
            found.extend(Aim::of_signal(signal).map(|(aim, _)| (aim, format!("where a signal of {} looks", app.at(site)))));
        }
    }
    found.extend(door(app).map(|aim| (aim, format!("the front door of {}", app.path()))));
    found
}
