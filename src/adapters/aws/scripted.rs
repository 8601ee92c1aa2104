//! AWS as a script on loopback, for tests: what is asked is read as each service's protocol has it and recorded, and a
//! small world of the test's own answers it. Troubles are queued ahead of the world: the next call of that operation
//! runs into them.
#![cfg(test)]

pub mod db;
pub mod fleet;
pub mod zone;

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_credential_types::Credentials;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;

use super::{AccountSpec, Aws, AwsSpec};
use crate::adapters::Adapters;
use crate::adapters::registry::StepKind;
use crate::domain::model::Direction;
use crate::domain::plan::{OnFailure, PlannedStep};
use crate::ports::{ScriptContext, Step, StepContext};

/// The region that is left in every test, and the one that is moved to.
pub const SOURCE: &str = "ap-south-1";
/// See [`SOURCE`].
pub const TARGET: &str = "us-east-1";
/// The wall clock of every context, microseconds; a whole minute.
pub const NOW: i64 = 1_700_000_040_000_000;
/// What must never be seen.
pub const SECRET: &str = "hushhushhushhush";
/// The key id that calls of our own account are signed with.
pub const KEY: &str = "AKIAOUROWN";

/// One call, as it was heard.
#[derive(Debug, Clone)]
pub struct Heard {
    /// `rds`: the signature's service; `s3` for calls without signature.
    pub service: String,
    /// `PromoteReadReplica`.
    pub operation: String,
    /// The signature's region; empty without signature.
    pub region: String,
    /// The key id of the signature; empty without.
    pub key: String,
    /// Path without query.
    pub path: String,
    /// Parameters of query and form.
    pub form: BTreeMap<String, String>,
    /// Headers.
    pub headers: BTreeMap<String, String>,
    /// Body, as text as far as it is.
    pub body: String,
}

impl Heard {
    /// One parameter; empty if it is not there.
    pub fn get(&self, name: &str) -> &str {
        self.form.get(name).map_or("", String::as_str)
    }

    fn read(head: &hyper::http::request::Parts, body: &[u8]) -> Heard {
        let headers: BTreeMap<String, String> =
            head.headers.iter().map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())).collect();
        let scope: Vec<&str> = headers
            .get("authorization")
            .and_then(|line| line.split("Credential=").nth(1)?.split(',').next())
            .map(|scope| scope.split('/').collect())
            .unwrap_or_default();
        let part = |at: usize| scope.get(at).copied().unwrap_or_default().to_owned();
        let path = head.uri.path().to_owned();
        let mut form: BTreeMap<String, String> =
            form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        if headers.get("content-type").is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded")) {
            form.extend(form_urlencoded::parse(body).into_owned());
        }
        let service = Some(part(3)).filter(|name| !name.is_empty()).unwrap_or_else(|| "s3".to_owned());
        let operation = match (service.as_str(), head.method.as_str()) {
            ("s3", "HEAD") => "HeadObject".to_owned(),
            ("s3", "PUT") => "PutObject".to_owned(),
            ("s3", "DELETE") => "DeleteObject".to_owned(),
            ("s3", _) if form.contains_key("publicAccessBlock") => "GetPublicAccessBlock".to_owned(),
            ("s3", _) if form.contains_key("policy") => "GetBucketPolicy".to_owned(),
            ("route53", "POST") => "ChangeResourceRecordSets".to_owned(),
            ("route53", _) if path.contains("/change/") => "GetChange".to_owned(),
            ("route53", _) if path.contains("/healthcheck/") => "GetHealthCheck".to_owned(),
            ("route53", _) => "ListResourceRecordSets".to_owned(),
            _ => {
                path.split_once("/operation/").map_or_else(|| form.get("Action").cloned().unwrap_or_default(), |(_, name)| name.to_owned())
            }
        };
        let body = String::from_utf8_lossy(body).into_owned();
        Heard { service, operation, region: part(2), key: part(0), path, form, headers, body }
    }
}

/// What comes back.
#[derive(Debug, Clone)]
pub struct Answer {
    status: u16,
    kind: &'static str,
    body: Vec<u8>,
}

/// An answer without body.
pub fn bare(status: u16) -> Answer {
    Answer { status, kind: "text/plain", body: Vec::new() }
}

/// A document as it stands.
pub fn xml(status: u16, body: impl Into<String>) -> Answer {
    Answer { status, kind: "text/xml", body: body.into().into_bytes() }
}

/// The answer of a service of the query protocol, `inside` its result.
pub fn query(heard: &Heard, inside: &str) -> Answer {
    let name = &heard.operation;
    xml(
        200,
        format!(
            "<{name}Response xmlns=\"https://x/\"><{name}Result>{inside}</{name}Result><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></{name}Response>"
        ),
    )
}

/// A refusal in the words of the service's protocol.
pub fn refusal(heard: &Heard, status: u16, code: &str, words: &str) -> Answer {
    match (heard.service.as_str(), heard.operation.as_str()) {
        (_, "HeadObject") => bare(status),
        ("monitoring", _) => {
            cbor(status, &serde_json::json!({ "__type": format!("com.amazonaws.cloudwatch#{code}"), "message": words }), &[])
        }
        ("s3", _) => xml(status, format!("<Error><Code>{code}</Code><Message>{words}</Message><RequestId>r</RequestId></Error>")),
        _ => xml(
            status,
            format!(
                "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{words}</Message></Error><RequestId>r</RequestId></ErrorResponse>"
            ),
        ),
    }
}

/// CloudWatch's own form: the fields, and beside them one series of datapoints `(seconds since 1970, value)`.
pub fn cbor(status: u16, fields: &Value, points: &[(i64, f64)]) -> Answer {
    use ciborium::Value as Cbor;
    let text = |text: &str| Cbor::Text(text.to_owned());
    let mut map: Vec<(Cbor, Cbor)> =
        fields.as_object().into_iter().flatten().map(|(name, value)| (text(name), text(value.as_str().unwrap()))).collect();
    if status == 200 {
        let times = points.iter().map(|(at, _)| Cbor::Tag(1, Box::new(Cbor::Float(*at as f64)))).collect();
        let values = points.iter().map(|(_, value)| Cbor::Float(*value)).collect();
        map.push((text("Id"), text("m0")));
        map.push((text("Timestamps"), Cbor::Array(times)));
        map.push((text("Values"), Cbor::Array(values)));
        map = vec![(text("MetricDataResults"), Cbor::Array(vec![Cbor::Map(map)]))];
    }
    let mut body = Vec::new();
    ciborium::into_writer(&Cbor::Map(map), &mut body).unwrap();
    Answer { status, kind: "application/cbor", body }
}

/// What answers.
pub trait World: Send + 'static {
    /// One call, done and answered.
    fn answer(&mut self, heard: &Heard) -> Answer;
}

/// What the next call of an operation runs into.
#[derive(Debug, Clone, PartialEq)]
pub enum Trouble {
    /// It is done, and the connection breaks before the answer.
    LostAnswer,
    /// It is not done and never answered.
    Silence,
    /// It is not done, and refused with that status and code.
    Refused(u16, &'static str),
}

/// Calls, with what they ran into.
type Record = Mutex<Vec<Heard>>;
type Troubles = Mutex<VecDeque<(&'static str, Trouble)>>;

/// The scripted AWS; it ends with the test's runtime.
pub struct Script<W> {
    /// Where it listens.
    pub url: String,
    world: Arc<Mutex<W>>,
    record: Arc<Record>,
    troubles: Arc<Troubles>,
}

impl<W: World> Script<W> {
    /// Serves that world.
    pub async fn start(world: W) -> Script<W> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let script = Script { url, world: Arc::new(Mutex::new(world)), record: Arc::default(), troubles: Arc::default() };
        let (world, record, troubles) = (Arc::clone(&script.world), Arc::clone(&script.record), Arc::clone(&script.troubles));
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (world, record, troubles) = (Arc::clone(&world), Arc::clone(&record), Arc::clone(&troubles));
                let service = service_fn(move |request| serve(Arc::clone(&world), Arc::clone(&record), Arc::clone(&troubles), request));
                // How a connection ends is the client's side of the test.
                tokio::spawn(async move { http1::Builder::new().serve_connection(TokioIo::new(tcp), service).await.unwrap_or_default() });
            }
        });
        script
    }

    /// The next call of that operation runs into this; several queue up.
    pub fn trouble(&self, operation: &'static str, trouble: Trouble) {
        self.troubles.lock().unwrap().push_back((operation, trouble));
    }

    /// Changes or reads the world.
    pub fn world<T>(&self, with: impl FnOnce(&mut W) -> T) -> T {
        with(&mut self.world.lock().unwrap())
    }

    /// Everything heard so far.
    pub fn heard(&self) -> Vec<Heard> {
        self.record.lock().unwrap().clone()
    }

    /// The calls of one operation.
    pub fn calls(&self, operation: &str) -> Vec<Heard> {
        self.heard().into_iter().filter(|heard| heard.operation == operation).collect()
    }

    /// The way to it, as a config would have it.
    pub fn spec(&self) -> AwsSpec {
        let network = AccountSpec { role_arn: "arn:aws:iam::123456789012:role/watchover".into(), external_id: Some(SECRET.into()) };
        AwsSpec { endpoint_url: Some(self.url.clone()), accounts: BTreeMap::from([("network".to_owned(), network)]), ..AwsSpec::default() }
    }

    /// The common ground on it.
    pub async fn ground(&self) -> Adapters {
        Adapters::for_tests_on(Aws::with_keys(&self.spec(), Arc::new(|_| {}), keys()).await)
    }

    /// The common ground on it, where one attempt of a call may take so long.
    pub async fn hasty_ground(&self, call_timeout: Duration) -> Adapters {
        Adapters::for_tests_on(Aws::with_keys(&AwsSpec { call_timeout, ..self.spec() }, Arc::new(|_| {}), keys()).await)
    }
}

/// Our own account's keys.
pub fn keys() -> Credentials {
    Credentials::new(KEY, SECRET, None, None, "script")
}

async fn serve<W: World>(
    world: Arc<Mutex<W>>,
    record: Arc<Record>,
    troubles: Arc<Troubles>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let heard = Heard::read(&head, &body);
    record.lock().unwrap().push(heard.clone());
    let trouble = {
        let mut troubles = troubles.lock().unwrap();
        let at = troubles.iter().position(|(operation, _)| *operation == heard.operation);
        at.and_then(|at| troubles.remove(at)).map(|(_, trouble)| trouble)
    };
    let answer = match trouble {
        Some(Trouble::Silence) => match std::future::pending::<Infallible>().await {},
        Some(Trouble::Refused(status, code)) => refusal(&heard, status, code, "the script says so"),
        Some(Trouble::LostAnswer) => {
            world.lock().unwrap().answer(&heard);
            return Err(std::io::Error::other("the connection breaks here"));
        }
        None => world.lock().unwrap().answer(&heard),
    };
    let mut response = Response::builder().status(answer.status).header("content-type", answer.kind);
    if answer.kind == "application/cbor" {
        response = response.header("smithy-protocol", "rpc-v2-cbor");
    }
    response.body(Full::new(Bytes::from(answer.body))).map_err(std::io::Error::other)
}

/// An element, or nothing.
pub fn element(name: &str, text: impl std::fmt::Display) -> String {
    let mut out = String::new();
    write!(out, "<{name}>{text}</{name}>").unwrap();
    out
}

/// A step of that kind as a plan stores it, from keys as a config has them.
pub fn planned(kind: &StepKind<Adapters>, keys: Value) -> PlannedStep {
    let (judged, said) = kind.judged(keys);
    PlannedStep {
        name: "it".into(),
        kind: kind.name.into(),
        class: kind.class,
        reversibility: kind.reversibility,
        repeat: kind.repeat,
        after: Vec::new(),
        deadline: Duration::from_secs(30),
        attempts: 3,
        on_failure: OnFailure::Halt,
        only: None,
        account: None,
        region: if kind.at_source { SOURCE } else { TARGET }.into(),
        keys: judged.unwrap_or_else(|| panic!("the keys are not right: {said:?}")),
    }
}

/// A step of that kind, built.
pub fn step(kind: &StepKind<Adapters>, keys: Value, ground: &Adapters) -> Arc<dyn Step> {
    (kind.build)(&planned(kind, keys), ground).unwrap()
}

/// What a failover's script is written for, its waits so many seconds long.
pub fn scripting(seconds: u64) -> ScriptContext {
    ScriptContext { direction: Direction::ToStandby, limit: Duration::from_secs(seconds) }
}

/// What a step is told in a failover at [`NOW`].
pub fn context() -> StepContext {
    StepContext {
        incident: "shop-7".into(),
        step_id: "shop-7/it".into(),
        direction: Direction::ToStandby,
        now: NOW,
        time_left: Duration::from_secs(30),
        facts: BTreeMap::new(),
        before: Value::Null,
        graceful: false,
    }
}
