//! One tree for the three protocols that CloudWatch speaks.

use super::Answer;
use super::wire::{Form, Style, Xml, iso};
use crate::lab::serve::{header, text};
use crate::lab::world::ApiError;

/// A value, whatever it was written in.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A number.
    Number(f64),
    /// A whole number.
    Whole(i64),
    /// A truth value.
    Bool(bool),
    /// A moment, in Unix seconds.
    Time(f64),
    /// Values in order.
    List(Vec<Value>),
    /// Values by name.
    Map(Vec<(String, Value)>),
    /// Nothing.
    Null,
}

impl Value {
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// What stands under a name.
    pub fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Map(fields) => fields.iter().find(|(n, v)| n == name && *v != Self::Null).map(|(_, v)| v),
            _ => None,
        }
    }

    /// The items of the list under a name; none, where there is no list.
    pub fn items(&self, name: &str) -> &[Self] {
        match self.get(name) {
            Some(Self::List(items)) => items,
            _ => &[],
        }
    }

    /// The text under a name.
    pub fn word(&self, name: &str) -> Option<String> {
        match self.get(name)? {
            Self::Text(text) => Some(text.clone()),
            _ => None,
        }
    }

    /// The number under a name.
    pub fn number(&self, name: &str) -> Option<f64> {
        match self.get(name)? {
            Self::Number(n) | Self::Time(n) => Some(*n),
            Self::Whole(n) => Some(*n as f64),
            Self::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// The moment under a name, in Unix milliseconds.
    pub fn unix_ms(&self, name: &str) -> Option<u64> {
        let seconds = match self.get(name)? {
            Self::Text(text) => match text.parse::<f64>() {
                Ok(seconds) => seconds,
                Err(_) => text.parse::<jiff::Timestamp>().ok()?.as_millisecond() as f64 / 1_000.0,
            },
            _ => self.number(name)?,
        };
        Some((seconds * 1_000.0).round().max(0.0) as u64)
    }

    /// Reads a body.
    pub fn read(style: Style, body: &[u8], form: &Form) -> Result<Self, ApiError> {
        let bad = |e: String| ApiError::new(400, "SerializationException", e);
        match style {
            Style::Cbor if body.is_empty() => Ok(Self::Map(Vec::new())),
            Style::Cbor => ciborium::from_reader(body).map(from_cbor).map_err(|e| bad(e.to_string())),
            Style::Json => serde_json::from_slice(body).map(from_json).map_err(|e| bad(e.to_string())),
            Style::Query | Style::Rest | Style::S3 => Ok(from_form(form)),
        }
    }

    /// Writes an answer.
    pub fn answer(&self, style: Style, operation: &str, status: u16) -> Answer {
        match style {
            Style::Cbor => {
                let mut bytes = Vec::new();
                if let Err(error) = ciborium::into_writer(&self.to_cbor(), &mut bytes) {
                    return text(500, "text/plain", error.to_string());
                }
                let mut answer = text(status, "application/cbor", bytes);
                header(&mut answer, "smithy-protocol", "rpc-v2-cbor");
                answer
            }
            Style::Json => text(status, "application/x-amz-json-1.0", self.to_json().to_string()),
            Style::Query | Style::Rest | Style::S3 => {
                let namespace = "http://monitoring.amazonaws.com/doc/2010-08-01/";
                super::wire::document(&format!("{operation}Response"), namespace, |x| {
                    x.node(&format!("{operation}Result"), |x| self.to_xml(x));
                    x.node("ResponseMetadata", |x| {
                        x.leaf("RequestId", super::wire::request_id());
                    });
                })
            }
        }
    }

    fn to_xml(&self, x: &mut Xml) {
        match self {
            Self::Map(fields) => {
                for (name, value) in fields.iter().filter(|(_, v)| *v != Self::Null) {
                    x.node(name, |x| value.to_xml(x));
                }
            }
            Self::List(items) => {
                for item in items {
                    x.node("member", |x| item.to_xml(x));
                }
            }
            Self::Text(text) => x.0.push_str(&super::wire::escape(text)),
            Self::Number(n) => x.0.push_str(&n.to_string()),
            Self::Whole(n) => x.0.push_str(&n.to_string()),
            Self::Bool(b) => x.0.push_str(&b.to_string()),
            Self::Time(t) => x.0.push_str(&iso((t * 1_000.0) as u64)),
            Self::Null => {}
        }
    }

    fn to_cbor(&self) -> ciborium::Value {
        use ciborium::Value as C;
        match self {
            Self::Text(text) => C::Text(text.clone()),
            Self::Number(n) => C::Float(*n),
            Self::Whole(n) => C::Integer((*n).into()),
            Self::Bool(b) => C::Bool(*b),
            // Tag 1: seconds since the epoch, as the protocol demands of timestamps.
            Self::Time(t) => C::Tag(1, Box::new(C::Float(*t))),
            Self::List(items) => C::Array(items.iter().map(Self::to_cbor).collect()),
            Self::Map(fields) => {
                let kept = fields.iter().filter(|(_, v)| *v != Self::Null);
                C::Map(kept.map(|(k, v)| (C::Text(k.clone()), v.to_cbor())).collect())
            }
            Self::Null => C::Null,
        }
    }

    fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as J;
        match self {
            Self::Text(text) => J::from(text.clone()),
            Self::Number(n) | Self::Time(n) => J::from(*n),
            Self::Whole(n) => J::from(*n),
            Self::Bool(b) => J::from(*b),
            Self::List(items) => items.iter().map(Self::to_json).collect(),
            Self::Map(fields) => fields.iter().filter(|(_, v)| *v != Self::Null).map(|(k, v)| (k.clone(), v.to_json())).collect(),
            Self::Null => J::Null,
        }
    }
}

fn from_cbor(value: ciborium::Value) -> Value {
    use ciborium::Value as C;
    match value {
        C::Text(text) => Value::Text(text),
        C::Float(n) => Value::Number(n),
        C::Integer(n) => Value::Whole(i64::try_from(i128::from(n)).unwrap_or(i64::MAX)),
        C::Bool(b) => Value::Bool(b),
        C::Tag(_, inner) => from_cbor(*inner),
        C::Array(items) => Value::List(items.into_iter().map(from_cbor).collect()),
        C::Map(fields) => Value::Map(fields.into_iter().filter_map(|(k, v)| Some((k.into_text().ok()?, from_cbor(v)))).collect()),
        _ => Value::Null,
    }
}

fn from_json(value: serde_json::Value) -> Value {
    use serde_json::Value as J;
    match value {
        J::String(text) => Value::Text(text),
        J::Number(n) => n.as_i64().map_or_else(|| Value::Number(n.as_f64().unwrap_or_default()), Value::Whole),
        J::Bool(b) => Value::Bool(b),
        J::Array(items) => Value::List(items.into_iter().map(from_json).collect()),
        J::Object(fields) => Value::Map(fields.into_iter().map(|(k, v)| (k, from_json(v))).collect()),
        J::Null => Value::Null,
    }
}

/// `A.B.member.1.C=x` becomes `{A: {B: [{C: x}]}}`.
fn from_form(form: &Form) -> Value {
    let mut root = Value::Map(Vec::new());
    let mut pairs: Vec<(Vec<&str>, &String)> = form.0.iter().map(|(k, v)| (k.split('.').collect(), v)).collect();
    // By number and not by letter, so that the tenth member follows the ninth.
    pairs.sort_by_key(|(path, _)| path.iter().map(|p| (p.parse::<u32>().unwrap_or(0), (*p).to_owned())).collect::<Vec<_>>());
    for (path, value) in pairs {
        put(&mut root, &path, value);
    }
    root
}

fn put(at: &mut Value, path: &[&str], value: &str) {
    match path {
        [] => *at = Value::text(value),
        ["member", number, rest @ ..] => {
            if !matches!(at, Value::List(_)) {
                *at = Value::List(Vec::new());
            }
            let index = number.parse::<usize>().unwrap_or(1).clamp(1, 1_000) - 1;
            if let Value::List(items) = at {
                while items.len() <= index {
                    items.push(Value::Map(Vec::new()));
                }
                put(&mut items[index], rest, value);
            }
        }
        [name, rest @ ..] => {
            if !matches!(at, Value::Map(_)) {
                *at = Value::Map(Vec::new());
            }
            if let Value::Map(fields) = at {
                let place = fields.iter().position(|(n, _)| n == name).unwrap_or_else(|| {
                    fields.push(((*name).to_owned(), Value::Map(Vec::new())));
                    fields.len() - 1
                });
                put(&mut fields[place].1, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_becomes_a_tree() {
        let form = Form(form_urlencoded::parse(b"Q.member.10.Id=j&Q.member.2.Id=b&Q.member.1.Id=a&S.T=5").into_owned().collect());
        let tree = from_form(&form);
        assert_eq!(tree.items("Q")[0].word("Id").as_deref(), Some("a"));
        assert_eq!(tree.items("Q")[9].word("Id").as_deref(), Some("j"));
        assert_eq!(tree.get("S").and_then(|s| s.number("T")), Some(5.0));
    }

    #[test]
    fn cbor_goes_round() {
        let tree = Value::Map(vec![
            ("a".to_owned(), Value::List(vec![Value::Number(1.5), Value::Whole(2), Value::Bool(true)])),
            ("b".to_owned(), Value::text("x")),
        ]);
        let mut bytes = Vec::new();
        ciborium::into_writer(&tree.to_cbor(), &mut bytes).unwrap();
        assert_eq!(Value::read(Style::Cbor, &bytes, &Form::default()).unwrap(), tree);
    }
}
