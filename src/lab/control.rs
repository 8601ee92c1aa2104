//! The control server: JSON in to break and mend, JSON out to look at the truth.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use hyper::Method;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

use super::action::{Action, Says};
use super::cloud::Cloud;
use super::faults::Fault;
use super::referee::{self, Expect};
use super::serve::{Door, Reply, Room, Whole, serve, text};

/// Every door of the control server, as its front page prints it.
pub const PAGE: &str = "\
The lab's control server. Every POST answers {\"ok\":true}, or 400 with {\"error\":\"…\"}.

POST /region             {\"region\":\"ap-south-1\",\"dark\":true}
POST /site               {\"site\":\"primary\",\"mode\":\"ok|refuse|reset|hang|error|slow|wrong-body|share\",
                          \"millis\":500 (slow), \"fraction\":0.5 (share)}
POST /app                {\"site\":\"primary\",\"running\":false}
POST /instance/terminate {\"group\":\"shop-primary\"} or {\"id\":\"i-…\"}
POST /instance/stop      {\"group\":\"shop-primary\"}
POST /capacity           {\"group\":\"shop-standby\",\"available\":false}
POST /isolate            {\"on\":true}
POST /fault              {\"service\":\"rds\",\"region\":\"*\",\"operation\":\"PromoteReadReplica\",
                          \"action\":\"answer|latency|hang|drop-before|drop-after\",
                          \"status\":503,\"code\":\"…\",\"message\":\"…\" (answer), \"millis\":900 (latency),
                          \"times\":1, \"for_ms\":5000}
DELETE /faults
POST /database           {\"id\":\"shop-replica\",\"replication\":\"ok|broken|paused\",\"lag_ms\":60000,\"status\":\"backing-up\"}
POST /metric             {\"id\":\"shop-replica\",\"says\":\"truth|missing\"} or {\"id\":…,\"says\":{\"value\":-1}}

GET /state    the whole truth         GET /calls   calls by service, region and operation
GET /events   what happened (?from=N) GET /writes  acknowledged writes, what users saw, the true loss
GET /faults   the rules that hold     GET /violations  what the referee says

curl -X POST $CONTROL/region -d '{\"region\":\"ap-south-1\",\"dark\":true}'
curl -X POST $CONTROL/isolate -d '{\"on\":true}'
curl -X POST $CONTROL/fault -d '{\"service\":\"route53\",\"action\":\"answer\",\"status\":503,\"code\":\"ServiceUnavailable\",\"message\":\"gone\"}'
curl $CONTROL/state
";

/// Binds and serves; answers the URL.
pub async fn start(room: &Room, cloud: &Arc<Cloud>) -> std::io::Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let cloud = cloud.clone();
    // The hand stays steady when everything else is cut off or dark.
    serve(
        room,
        listener,
        |_| Door::Open,
        move |request, _: SocketAddr| {
            let reply = answer(&cloud, &request);
            async move { reply }
        },
    );
    Ok(url)
}

fn answer(cloud: &Cloud, request: &Whole) -> Reply {
    let path = request.uri().path();
    let shown = |value: Value| Reply::Answer(text(200, "application/json", format!("{value:#}\n")));
    let value = match (request.method(), path) {
        (&Method::GET, "/") => return Reply::Answer(text(200, "text/plain; charset=utf-8", PAGE)),
        (&Method::GET, "/state") => cloud.world().snapshot(),
        (&Method::GET, "/calls") => json!(cloud.calls()),
        (&Method::GET, "/events") => {
            let query = request.uri().query().unwrap_or_default();
            let from = query.strip_prefix("from=").and_then(|n| n.parse::<usize>().ok()).unwrap_or(0);
            json!(cloud.world().events().get(from..).unwrap_or_default())
        }
        (&Method::GET, "/writes") => {
            let users = cloud.users().clone();
            let world = cloud.world();
            json!({ "acknowledged": world.acks().len(), "last": world.acks().last(), "true_loss": world.true_loss(), "users": users })
        }
        (&Method::GET, "/faults") => json!(cloud.faults().rules()),
        (&Method::GET, "/violations") => {
            json!(referee::violations(&cloud.world(), Expect::Anything))
        }
        (&Method::POST | &Method::DELETE, _) => {
            let done = read(request.method(), path, request.body()).and_then(|action| cloud.act(&action));
            return match done {
                Ok(()) => shown(json!({ "ok": true })),
                Err(error) => Reply::Answer(text(400, "application/json", format!("{}\n", json!({ "error": error })))),
            };
        }
        _ => {
            return Reply::Answer(text(404, "text/plain; charset=utf-8", format!("no such page: {path}\n\n{PAGE}")));
        }
    };
    shown(value)
}

/// The fields of a body, taken out one after the other; what is left at the end is unknown.
struct Fields(Map<String, Value>);

impl Fields {
    fn maybe<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, String> {
        let value = self.0.remove(name).filter(|v| !v.is_null());
        value.map(|v| serde_json::from_value(v).map_err(|e| format!("{name}: {e}"))).transpose()
    }

    fn need<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, String> {
        self.maybe(name)?.ok_or_else(|| format!("{name}: missing"))
    }

    /// Takes these fields as one tagged value.
    fn tagged<T: DeserializeOwned>(&mut self, tag: &str, names: &[&str]) -> Result<T, String> {
        let mut taken = Map::new();
        for name in [tag].iter().chain(names) {
            if let Some(value) = self.0.remove(*name) {
                taken.insert((*name).to_owned(), value);
            }
        }
        serde_json::from_value(Value::Object(taken)).map_err(|e| format!("{tag}: {e}"))
    }
}

/// The keys of each body, so that a misspelt one is named before it is missed.
const KEYS: &[(&str, &[&str])] = &[
    ("/region", &["region", "dark"]),
    ("/site", &["site", "mode", "millis", "fraction"]),
    ("/app", &["site", "running"]),
    ("/instance/terminate", &["group", "id"]),
    ("/instance/stop", &["group"]),
    ("/capacity", &["group", "available"]),
    ("/isolate", &["on"]),
    ("/fault", &["service", "region", "operation", "action", "status", "code", "message", "millis", "times", "for_ms"]),
    ("/faults", &[]),
    ("/database", &["id", "replication", "lag_ms", "status"]),
    ("/metric", &["id", "says"]),
];

/// Every key that the body cannot have, with the nearest that it can.
fn unknown(path: &str, body: &Map<String, Value>) -> Vec<String> {
    let Some((_, known)) = KEYS.iter().find(|(door, _)| *door == path) else { return Vec::new() };
    let said = |key: &String| {
        let near = known.iter().map(|known| (strsim::jaro_winkler(key, known), known)).max_by(|a, b| a.0.total_cmp(&b.0));
        match near.filter(|(score, _)| *score > 0.7) {
            Some((_, near)) => format!("{key}: unknown key, did you mean {near:?}?"),
            None => format!("{key}: unknown key; known: {}", known.join(", ")),
        }
    };
    body.keys().filter(|key| !known.contains(&key.as_str())).map(said).collect()
}

fn read(method: &Method, path: &str, body: &[u8]) -> Result<Action, String> {
    let body = if body.is_empty() { b"{}" } else { body };
    let object: Map<String, Value> = serde_json::from_slice(body).map_err(|e| format!("the body is no JSON object: {e}"))?;
    let wrong = unknown(path, &object);
    if !wrong.is_empty() {
        return Err(wrong.join("; "));
    }
    let mut f = Fields(object);
    let star = || "*".to_owned();
    let action = match (method, path) {
        (&Method::DELETE, "/faults") => Action::ClearFaults,
        (&Method::POST, "/region") => Action::Region { region: f.need("region")?, dark: f.need("dark")? },
        (&Method::POST, "/site") => Action::Site { site: f.need("site")?, mode: f.tagged("mode", &["millis", "fraction"])? },
        (&Method::POST, "/app") => Action::App { site: f.need("site")?, running: f.need("running")? },
        (&Method::POST, "/instance/terminate") => Action::Terminate { group: f.maybe("group")?, id: f.maybe("id")? },
        (&Method::POST, "/instance/stop") => Action::Stop { group: f.need("group")? },
        (&Method::POST, "/capacity") => Action::NoCapacity { group: f.need("group")?, on: !f.need::<bool>("available")? },
        (&Method::POST, "/isolate") => Action::Isolate { on: f.need("on")? },
        (&Method::POST, "/fault") => Action::Fault {
            service: f.maybe("service")?.unwrap_or_else(star),
            region: f.maybe("region")?.unwrap_or_else(star),
            operation: f.maybe("operation")?.unwrap_or_else(star),
            times: f.maybe("times")?,
            for_ms: f.maybe("for_ms")?,
            fault: f.tagged::<Fault>("action", &["status", "code", "message", "millis"])?,
        },
        (&Method::POST, "/database") => Action::Database {
            id: f.need("id")?,
            replication: f.maybe("replication")?,
            lag_ms: f.maybe("lag_ms")?,
            status: f.maybe("status")?,
        },
        (&Method::POST, "/metric") => Action::Metric { id: f.need("id")?, says: f.need::<Says>("says")? },
        _ => {
            return Err(format!("nothing to {method} at {path}; GET / lists what there is"));
        }
    };
    Ok(action)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::world::{SiteMode, SiteName};

    fn post(path: &str, body: &str) -> Result<Action, String> {
        read(&Method::POST, path, body.as_bytes())
    }

    #[test]
    fn reads_what_the_page_shows() {
        assert_eq!(post("/region", r#"{"region":"x","dark":true}"#), Ok(Action::Region { region: "x".to_owned(), dark: true }));
        let slow = Action::Site { site: SiteName::Primary, mode: SiteMode::Slow { millis: 5 } };
        assert_eq!(post("/site", r#"{"site":"primary","mode":"slow","millis":5}"#), Ok(slow));
        assert!(matches!(
            post("/fault", r#"{"service":"rds","action":"drop-after","times":1}"#),
            Ok(Action::Fault { fault: Fault::DropAfter, times: Some(1), .. })
        ));
        assert!(matches!(post("/metric", r#"{"id":"r","says":{"value":-1}}"#), Ok(Action::Metric { says: Says::Value(_), .. })));
        assert!(matches!(post("/metric", r#"{"id":"r","says":"missing"}"#), Ok(Action::Metric { says: Says::Missing, .. })));
    }

    #[test]
    fn names_what_it_does_not_know() {
        let said = post("/isolate", r#"{"on":true,"x":2}"#);
        assert_eq!(said, Err("x: unknown key; known: on".to_owned()));
        let said = post("/region", r#"{"region":"ap-south-1","drak":true}"#);
        assert_eq!(said, Err("drak: unknown key, did you mean \"dark\"?".to_owned()));
        // Every key that the page shows is one.
        assert!(post("/fault", r#"{"service":"s","region":"r","operation":"o","action":"answer","status":503,"code":"c","message":"m","times":1,"for_ms":5}"#).is_ok());
        assert_eq!(post("/isolate", "{}"), Err("on: missing".to_owned()));
        assert!(post("/fault", r#"{"action":"explode"}"#).unwrap_err().contains("explode"));
        assert!(post("/nothing", "{}").unwrap_err().contains("GET /"));
    }
}
