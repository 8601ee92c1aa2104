//! What the protocols share: reading a call, writing XML, wording refusals.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::body::Bytes;
use hyper::{HeaderMap, Method};
use jiff::Timestamp;

use super::Answer;
use super::value::Value;
use crate::lab::serve::{Whole, header, text};
use crate::lab::world::ApiError;

/// How a service words answers and refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Query protocol: form in, XML out.
    Query,
    /// REST with XML.
    Rest,
    /// S3's own REST with XML.
    S3,
    /// RPC v2 with CBOR.
    Cbor,
    /// JSON 1.0.
    Json,
}

/// One call, as far as every service needs it.
#[derive(Clone, Debug)]
pub struct Call {
    /// Signing name of the service.
    pub service: String,
    /// Region of the credential scope.
    pub region: String,
    /// Operation.
    pub operation: String,
    /// How to answer.
    pub style: Style,
    /// Method.
    pub method: Method,
    /// Path, decoded.
    pub path: String,
    /// Query and form parameters.
    pub form: Form,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
    /// Whether it came with a signature.
    pub signed: bool,
}

/// Query and form parameters.
#[derive(Clone, Debug, Default)]
pub struct Form(pub BTreeMap<String, String>);

impl Form {
    /// One parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// One parameter that has to be there.
    pub fn need(&self, name: &str) -> Result<&str, ApiError> {
        let missing = || ApiError::new(400, "MissingParameter", format!("The request must contain the parameter {name}."));
        self.get(name).ok_or_else(missing)
    }

    /// One parameter as a number or a boolean.
    pub fn parse<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        let bad = |text: &str| ApiError::validation(format!("value '{text}' at '{name}' is not valid"));
        self.get(name).map(|text| text.parse().map_err(|_| bad(text))).transpose()
    }

    /// A list: `Name.member.1` or `Name.Anything.1` or `Name.1`, in order of the number.
    pub fn list(&self, name: &str) -> Vec<String> {
        let number = |key: &str| key.strip_prefix(name)?.strip_prefix('.')?.rsplit('.').next()?.parse::<u32>().ok();
        let mut found: Vec<(u32, String)> = self.0.iter().filter_map(|(k, v)| Some((number(k)?, v.clone()))).collect();
        found.sort();
        found.into_iter().map(|(_, v)| v).collect()
    }
}

impl Call {
    /// Reads service, region and operation out of a request.
    pub fn read(request: Whole) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let query = parts.uri.query().unwrap_or_default();
        let mut form = Form(form_urlencoded::parse(query.as_bytes()).into_owned().collect());
        let raw = parts.uri.path().to_owned();
        let path = form_urlencoded::parse(raw.replace('+', "%2B").replace('&', "%26").replace('=', "%3D").as_bytes())
            .map(|(k, _)| k.into_owned())
            .next()
            .unwrap_or_default();
        let text = |name: &str| parts.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let (content_type, target) = (text("content-type"), text("x-amz-target"));
        let credential = scope(&text("authorization")).or_else(|| form.get("X-Amz-Credential").and_then(parse_scope));
        let signed = credential.is_some();
        let (service, region) = match credential {
            Some(found) => found,
            None if parts.method == Method::GET || parts.method == Method::HEAD => ("s3".to_owned(), String::new()),
            None => {
                return Err(ApiError::new(403, "MissingAuthenticationToken", "Request is missing Authentication Token"));
            }
        };
        if content_type.starts_with("application/x-www-form-urlencoded") {
            form.0.extend(form_urlencoded::parse(&body).into_owned());
        }
        let rpc = path.strip_prefix("/service/").and_then(|p| p.split_once("/operation/")).map(|(_, op)| op.to_owned());
        let (style, operation) = match service.as_str() {
            "route53" => (Style::Rest, super::route53::operation(&parts.method, &path, query)),
            "s3" => (Style::S3, super::s3::operation(&parts.method, &path, &form)),
            _ if rpc.is_some() => (Style::Cbor, rpc.unwrap_or_default()),
            _ if !target.is_empty() => (Style::Json, target.rsplit('.').next().unwrap_or_default().to_owned()),
            _ => (Style::Query, form.get("Action").unwrap_or_default().to_owned()),
        };
        let (method, headers) = (parts.method, parts.headers);
        Ok(Self { service, region, operation, style, method, path, form, headers, body, signed })
    }

    /// Whether the operation changes something, by AWS's own habit of naming.
    pub fn mutates(&self) -> bool {
        let reads = ["Describe", "Get", "List", "Head", "Assume", "Publish"];
        !reads.iter().any(|prefix| self.operation.starts_with(prefix))
    }

    /// The bucket of a path-style S3 call.
    pub fn bucket(&self) -> &str {
        self.path.trim_start_matches('/').split('/').next().unwrap_or_default()
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }
}

fn scope(authorization: &str) -> Option<(String, String)> {
    let credential = authorization.split("Credential=").nth(1)?;
    parse_scope(credential.split([',', ' ']).next()?)
}

fn parse_scope(credential: &str) -> Option<(String, String)> {
    let parts: Vec<&str> = credential.split('/').collect();
    match parts.as_slice() {
        [.., region, service, "aws4_request"] => Some(((*service).to_owned(), (*region).to_owned())),
        _ => None,
    }
}

/// XML under construction.
#[derive(Debug, Default)]
pub struct Xml(pub String);

impl Xml {
    /// A leaf with a text.
    pub fn leaf(&mut self, name: &str, value: impl Display) -> &mut Self {
        self.0.push_str(&format!("<{name}>{}</{name}>", escape(&value.to_string())));
        self
    }

    /// A leaf, if there is a value.
    pub fn maybe(&mut self, name: &str, value: Option<impl Display>) -> &mut Self {
        if let Some(value) = value {
            self.leaf(name, value);
        }
        self
    }

    /// An element with content.
    pub fn node(&mut self, name: &str, fill: impl FnOnce(&mut Self)) -> &mut Self {
        self.0.push_str(&format!("<{name}>"));
        fill(self);
        self.0.push_str(&format!("</{name}>"));
        self
    }

    /// An element with one child for each item.
    pub fn each<T>(
        &mut self,
        name: &str,
        child: &str,
        items: impl IntoIterator<Item = T>,
        mut fill: impl FnMut(&mut Self, T),
    ) -> &mut Self {
        self.node(name, |x| {
            for item in items {
                x.node(child, |x| fill(x, item));
            }
        })
    }
}

/// Text fit to stand in XML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A whole document.
pub fn document(root: &str, namespace: &str, fill: impl FnOnce(&mut Xml)) -> Answer {
    let mut xml = Xml::default();
    fill(&mut xml);
    let attribute = if namespace.is_empty() { String::new() } else { format!(" xmlns=\"{namespace}\"") };
    let body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{root}{attribute}>{}</{root}>", xml.0);
    text(200, "text/xml", body)
}

/// An answer in the query protocol.
pub fn query(call: &Call, namespace: &str, fill: impl FnOnce(&mut Xml)) -> Answer {
    let operation = &call.operation;
    document(&format!("{operation}Response"), namespace, |x| {
        x.node(&format!("{operation}Result"), fill);
        x.node("ResponseMetadata", |x| {
            x.leaf("RequestId", request_id());
        });
    })
}

/// A refusal.
pub fn error(style: Style, operation: &str, error: &ApiError) -> Answer {
    error_named(style, operation, error.status, error.code, &error.message)
}

/// A refusal by its parts.
pub fn error_named(style: Style, operation: &str, status: u16, code: &str, message: &str) -> Answer {
    let kind = if status < 500 { "Sender" } else { "Receiver" };
    let wording = |x: &mut Xml| {
        x.leaf("Code", code).leaf("Message", message);
    };
    let mut answer = match style {
        Style::Query | Style::Rest => document("ErrorResponse", "", |x| {
            x.node("Error", |x| {
                x.leaf("Type", kind);
                wording(x);
            });
            x.leaf("RequestId", request_id());
        }),
        // A HEAD has no body, and hyper drops it.
        Style::S3 => document("Error", "", |x| {
            wording(x);
            x.leaf("RequestId", request_id());
        }),
        Style::Cbor | Style::Json => {
            let kind = Value::text(format!("com.amazonaws.cloudwatch#{code}"));
            let map = Value::Map(vec![("__type".to_owned(), kind), ("message".to_owned(), Value::text(message))]);
            return map.answer(style, operation, status);
        }
    };
    if let Ok(status) = hyper::StatusCode::from_u16(status) {
        *answer.status_mut() = status;
    }
    header(&mut answer, "content-type", "text/xml");
    answer
}

/// An identifier for a request; nothing depends on it, so a counter will do.
pub fn request_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("00000000-1ab0-4000-8000-{:012x}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Unix milliseconds as AWS writes them in XML.
pub fn iso(unix_ms: u64) -> String {
    let millis = i64::try_from(unix_ms).unwrap_or_default();
    Timestamp::from_millisecond(millis).map(|t| format!("{t:.3}")).unwrap_or_default()
}

/// Unix milliseconds as HTTP writes them.
pub fn http_date(unix_ms: u64) -> String {
    let millis = i64::try_from(unix_ms).unwrap_or_default();
    Timestamp::from_millisecond(millis).map(|t| t.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()).unwrap_or_default()
}

/// A page of a list: the items from the marker on, and the marker of the next page.
pub fn page<T: Clone>(all: &[T], start: usize, size: usize) -> (Vec<T>, Option<usize>) {
    let page: Vec<T> = all.iter().skip(start).take(size.max(1)).cloned().collect();
    let end = start + page.len();
    (page, (end < all.len()).then_some(end))
}
