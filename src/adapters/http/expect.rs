//! What an answer must be to count as well: status set, headers, a piece of the body.

use std::collections::BTreeMap;

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::judge::Table;

/// A set of status codes: `"200"`, `"200-399"`, `"200,204,300-399"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StatusSet(Vec<(u16, u16)>);

impl StatusSet {
    /// Reads the set. The error says what is wrong with it and how it is written.
    ///
    /// # Errors
    /// No range, a range that runs backwards, a number outside 100 to 599.
    pub fn parse(text: &str) -> Result<StatusSet, String> {
        let form = "write \"200\", \"200-399\" or \"200,204,300-399\"";
        let one = |text: &str| match text.trim().parse::<u16>() {
            Ok(code) if (100..=599).contains(&code) => Ok(code),
            _ => Err(format!("{:?} is not a status code from 100 to 599; {form}", text.trim())),
        };
        let mut ranges = Vec::new();
        for part in text.split(',') {
            let (low, high) = match part.split_once('-') {
                Some((low, high)) => (one(low)?, one(high)?),
                None => (one(part)?, one(part)?),
            };
            if low > high {
                return Err(format!("{:?} runs backwards; {form}", part.trim()));
            }
            ranges.push((low, high));
        }
        Ok(StatusSet(ranges))
    }

    /// Whether the code belongs to it.
    pub fn holds(&self, status: u16) -> bool {
        self.0.iter().any(|(low, high)| (*low..=*high).contains(&status))
    }
}

impl TryFrom<String> for StatusSet {
    type Error = String;
    fn try_from(text: String) -> Result<StatusSet, String> {
        StatusSet::parse(&text)
    }
}

impl From<StatusSet> for String {
    fn from(set: StatusSet) -> String {
        set.to_string()
    }
}

impl std::fmt::Display for StatusSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let part = |(low, high): &(u16, u16)| if low == high { low.to_string() } else { format!("{low}-{high}") };
        f.write_str(&self.0.iter().map(part).collect::<Vec<_>>().join(","))
    }
}

/// The expectations of one look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expect {
    /// Codes that are well.
    pub status: StatusSet,
    /// A piece of text that the first `max_body` bytes must hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_contains: Option<String>,
    /// Headers that must be there with exactly that value; names in lower case.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub header: BTreeMap<String, String>,
}

impl Default for Expect {
    fn default() -> Expect {
        Expect { status: StatusSet(vec![(200, 399)]), body_contains: None, header: BTreeMap::new() }
    }
}

impl Expect {
    /// Judges the table `expect = { status, body_contains, header }` and finishes it; every part has its default.
    pub fn judge(table: &Table) -> Expect {
        let mut expect = Expect::default();
        if let Some(value) = table.raw("status") {
            let text = value.as_str().map(str::to_owned).or_else(|| value.as_u64().map(|code| code.to_string()));
            match text.as_deref().map(StatusSet::parse) {
                Some(Ok(set)) => expect.status = set,
                Some(Err(problem)) => table.fault("status", problem),
                None => table.fault("status", "is not a set of status codes; write \"200\", \"200-399\" or \"200,204,300-399\""),
            }
        }
        expect.body_contains = table.prose("body_contains").filter(|text| {
            if text.is_empty() {
                table.fault("body_contains", "is empty, which every body contains; give a piece of text or leave the key out");
            }
            !text.is_empty()
        });
        if table.has("header") {
            let headers = table.table("header");
            for (name, value) in headers.entries() {
                if let Some((name, value)) = judge_header(&headers, &name, &value) {
                    expect.header.insert(name, value);
                }
            }
        }
        table.finish();
        expect
    }

    /// The first expected header that the answer lacks or has with another value.
    pub fn missing_header(&self, headers: &HeaderMap) -> Option<&str> {
        self.header.iter().find(|(name, value)| !has(headers, name, value)).map(|(name, _)| name.as_str())
    }
}

/// True if one of the header's values is exactly `value`.
pub fn has(headers: &HeaderMap, name: &str, value: &str) -> bool {
    headers.get_all(name).iter().any(|found| found.as_bytes().trim_ascii() == value.as_bytes())
}

/// A header's name and value as HTTP takes them, the name in lower case; notes the problem otherwise.
pub fn judge_header(table: &Table, name: &str, value: &Value) -> Option<(String, String)> {
    let Ok(known) = HeaderName::from_bytes(name.as_bytes()) else {
        table.fault(name, "is not a header name; give one like \"x-role\"");
        return None;
    };
    match value.as_str() {
        Some(text) if HeaderValue::from_str(text.trim()).is_ok() => Some((known.as_str().to_owned(), text.trim().to_owned())),
        _ => {
            table.fault(name, "is not a header value; give the whole text that the header must have");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::judge::Problems;

    #[test]
    fn status_sets() {
        for text in ["200", "200-399", "200,204,300-399"] {
            assert_eq!(StatusSet::parse(text).unwrap().to_string(), text);
        }
        let set = StatusSet::parse("200, 300-399").unwrap();
        assert!(set.holds(200) && set.holds(302) && !set.holds(201) && !set.holds(404));
        for text in ["", "2xx", "399-200", "200-", "99", "600", "200;204"] {
            assert!(StatusSet::parse(text).unwrap_err().contains("write \"200\""), "{text}");
        }
    }

    #[test]
    fn every_problem_of_an_expectation_is_named() {
        let problems = Problems::default();
        let Value::Object(map) =
            serde_json::json!({"status": "2xx", "body_contains": "", "body_contain": "x", "header": {"a b": "c", "x-n": 5}})
        else {
            unreachable!()
        };
        Expect::judge(&Table::new("expect", map, &problems));
        let said: Vec<String> = problems.take().iter().map(ToString::to_string).collect();
        for part in [
            "expect.status:",
            "expect.body_contains: is empty",
            "did you mean \"body_contains\"?",
            "expect.header.a b:",
            "expect.header.x-n:",
        ] {
            assert!(said.iter().any(|line| line.contains(part)), "{part} in {said:?}");
        }
    }
}
