//! Reading leniently, judging strictly: a [`Table`] hands out values by key and notes everything that is wrong,
//! so that one run reports every problem with its key path and the right form.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Map, Value};

pub use super::problems::{Problem, Problems};

/// One TOML table on its way through the judge.
#[derive(Debug)]
pub struct Table {
    path: String,
    map: Map<String, Value>,
    asked: RefCell<BTreeSet<String>>,
    problems: Problems,
    one_line: bool,
}

impl Table {
    /// A table at `path`.
    pub fn new(path: impl Into<String>, map: Map<String, Value>, problems: &Problems) -> Table {
        Table { path: path.into(), map, asked: RefCell::default(), problems: problems.clone(), one_line: false }
    }

    /// The same, refusing control characters in its strings and in those of the tables below. What a person says, such as the
    /// reason of an order, may have lines; names, paths and addresses of a file have none, and one that slipped in is seen
    /// nowhere and makes another name.
    pub fn of_one_line(self) -> Table {
        Table { one_line: true, ..self }
    }

    fn below(&self, path: String, map: Map<String, Value>, problems: &Problems) -> Table {
        Table { one_line: self.one_line, ..Table::new(path, map, problems) }
    }

    /// Where this table stands.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The path of one of its keys.
    pub fn at(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Notes a problem of one of its keys.
    pub fn fault(&self, key: &str, message: impl Into<String>) {
        self.problems.add(self.at(key), message);
    }

    /// The list this table writes to.
    pub fn problems(&self) -> &Problems {
        &self.problems
    }

    /// The raw value, marking the key as known.
    pub fn raw(&self, key: &str) -> Option<&Value> {
        self.asked.borrow_mut().insert(key.to_owned());
        self.map.get(key)
    }

    /// True if the key stands there.
    pub fn has(&self, key: &str) -> bool {
        self.raw(key).is_some()
    }

    fn typed<T>(&self, key: &str, form: &str, read: impl FnOnce(&Value) -> Option<T>) -> Option<T> {
        let value = self.raw(key)?;
        let found = read(value);
        if found.is_none() {
            self.fault(key, format!("{} is not {form}", kind(value)));
        }
        found
    }

    /// A string; a number or boolean from the environment arrives as one, so these are taken too.
    pub fn string(&self, key: &str) -> Option<String> {
        let text = self.prose(key)?;
        (!self.one_line || self.is_one_line(key, &text)).then_some(text)
    }

    /// True of a text without control characters; those of another are named.
    fn is_one_line(&self, key: &str, text: &str) -> bool {
        let hidden = text.contains(char::is_control);
        if hidden {
            self.fault(key, "has a control character, such as a line's end or a tab; write it without");
        }
        !hidden
    }

    /// A string that may have lines.
    pub fn prose(&self, key: &str) -> Option<String> {
        self.typed(key, "a string", |value| value.as_str().map(str::to_owned))
    }

    /// A string that must be there and not be empty.
    pub fn need_string(&self, key: &str, form: &str) -> Option<String> {
        match self.string(key) {
            Some(text) if text.trim().is_empty() => {
                self.fault(key, format!("is empty; give {form}"));
                None
            }
            Some(text) => Some(text),
            None => {
                if !self.has(key) {
                    self.fault(key, format!("is missing; give {form}"));
                }
                None
            }
        }
    }

    /// A whole number, not below `least`. Strings of digits (environment overrides) are taken.
    pub fn whole(&self, key: &str, least: u64, default: u64) -> u64 {
        let Some(value) = self.raw(key) else { return default };
        let number = value.as_u64().or_else(|| value.as_str().and_then(|text| text.trim().parse().ok()));
        match number {
            Some(number) if number >= least => number,
            _ => {
                self.fault(key, format!("{} is not a whole number of at least {least}", shown(value)));
                default
            }
        }
    }

    /// A number within `low..=high`.
    pub fn number(&self, key: &str, low: f64, high: f64, default: f64) -> f64 {
        let Some(value) = self.raw(key) else { return default };
        let number = value.as_f64().or_else(|| value.as_str().and_then(|text| text.trim().parse().ok()));
        match number {
            Some(number) if (low..=high).contains(&number) => number,
            _ => {
                self.fault(key, format!("{} is not a number from {low} to {high}", shown(value)));
                default
            }
        }
    }

    /// `true` or `false`.
    pub fn boolean(&self, key: &str, default: bool) -> bool {
        let Some(value) = self.raw(key) else { return default };
        match value.as_bool().or_else(|| value.as_str().and_then(|text| text.trim().parse().ok())) {
            Some(flag) => flag,
            None => {
                self.fault(key, format!("{} is not true or false", shown(value)));
                default
            }
        }
    }

    /// A duration in humantime's form.
    pub fn duration(&self, key: &str, default: Duration) -> Duration {
        self.maybe_duration(key).unwrap_or(default)
    }

    /// The same, without a default.
    pub fn maybe_duration(&self, key: &str) -> Option<Duration> {
        let value = self.raw(key)?;
        let Some(text) = value.as_str() else {
            self.fault(
                key,
                format!("{} has no unit; write a duration as a string, like \"{}s\", \"250ms\" or \"5m\"", shown(value), digits(value)),
            );
            return None;
        };
        match humantime::parse_duration(text.trim()) {
            Ok(found) => Some(found),
            Err(_) if !text.trim().is_empty() && text.trim().parse::<f64>().is_ok() => {
                self.fault(key, format!("{text:?} has no unit; write \"{}s\", or with ms, m or h", text.trim()));
                None
            }
            Err(cause) => {
                self.fault(key, format!("{text:?} is not a duration ({cause}); write it like \"250ms\", \"3s\", \"5m\" or \"1h 30m\""));
                None
            }
        }
    }

    /// A duration that must not be zero.
    pub fn some_duration(&self, key: &str, default: Duration) -> Duration {
        let found = self.duration(key, default);
        if found.is_zero() {
            self.fault(key, "is zero; it must be some time, like \"1s\"");
            return default;
        }
        found
    }

    /// One of a closed set of words.
    pub fn word<T: Copy>(&self, key: &str, all: &[T], name: impl Fn(T) -> &'static str, default: T) -> T {
        let Some(value) = self.raw(key) else { return default };
        if let Some(found) = value.as_str().and_then(|text| all.iter().copied().find(|one| name(*one) == text)) {
            return found;
        }
        let words: Vec<&str> = all.iter().map(|one| name(*one)).collect();
        let near = value.as_str().and_then(|text| nearest(text, words.iter().copied()));
        let hint = near.map(|word| format!("; did you mean {word:?}?")).unwrap_or_default();
        self.fault(key, format!("{} is not one of {}{hint}", shown(value), quoted(&words)));
        default
    }

    /// A size in bytes: `"64KiB"`, `"1MiB"`, or a bare number of bytes.
    pub fn size(&self, key: &str, default: u64) -> u64 {
        let Some(value) = self.raw(key) else { return default };
        let found = value.as_u64().or_else(|| value.as_str().and_then(parse_size));
        match found {
            Some(bytes) if bytes > 0 => bytes,
            _ => {
                self.fault(key, format!("{} is not a size; write \"64KiB\", \"1MiB\" or a number of bytes", shown(value)));
                default
            }
        }
    }

    /// A list of strings. One string, or a comma-separated one from the environment, is taken as a list.
    pub fn strings(&self, key: &str) -> Option<Vec<String>> {
        self.typed(key, "a list of strings", |value| match value {
            Value::Array(items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
            Value::String(text) => Some(text.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()),
            _ => None,
        })
    }

    /// An absolute URL with one of `schemes`.
    pub fn url(&self, key: &str, schemes: &[&str]) -> Option<url::Url> {
        let text = self.string(key)?;
        self.judge_url(key, &text, schemes)
    }

    /// The same for a text that stands in a list or elsewhere.
    pub fn judge_url(&self, key: &str, text: &str, schemes: &[&str]) -> Option<url::Url> {
        let form = format!("an absolute URL such as {}://shop.example.com/healthz", schemes.last().copied().unwrap_or("https"));
        // The parser drops some of them without a word.
        if !self.is_one_line(key, text) {
            return None;
        }
        let parsed = url::Url::parse(text);
        // What stands before an @ or behind a ? may be a secret, and problems are printed.
        let text = if text.contains(['@', '?']) { "the text (not shown, it may hold a secret)".to_owned() } else { format!("{text:?}") };
        match parsed {
            Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                self.fault(key, "carries a user name or a password; looks and calls send none of a URL's, so give one without");
                None
            }
            Ok(url) if !schemes.contains(&url.scheme()) => {
                self.fault(key, format!("{text} has the scheme {:?}; give {form}", url.scheme()));
                None
            }
            Ok(url) if url.host_str().is_none_or(str::is_empty) => {
                self.fault(key, format!("{text} names no host; give {form}"));
                None
            }
            Ok(url) => Some(url),
            Err(cause) => {
                self.fault(key, format!("{text} is not a URL ({cause}); give {form}"));
                None
            }
        }
    }

    /// A table below this one; an empty one, and no problem, where it is missing. Where something else stands, that is the
    /// problem, and what the empty one lacks is none.
    pub fn table(&self, key: &str) -> Table {
        let (map, problems) = match self.raw(key) {
            Some(Value::Object(map)) => (map.clone(), self.problems.clone()),
            None => (Map::new(), self.problems.clone()),
            Some(other) => {
                self.fault(key, format!("{} is not a table; write [{}] or {{ … }}", kind(other), self.at(key)));
                (Map::new(), Problems::default())
            }
        };
        self.below(self.at(key), map, &problems)
    }

    /// A list of tables below this one; each is called by its `name` in paths, else by its place. Of several with one name each
    /// has its own path: by its `set_identifier`, or by its place from the second on.
    pub fn tables(&self, key: &str) -> Vec<Table> {
        let items = match self.raw(key) {
            None => return Vec::new(),
            Some(Value::Array(items)) => items.clone(),
            Some(other) => {
                self.fault(key, format!("{} is not a list of tables; write [[{}]]", kind(other), self.at(key)));
                return Vec::new();
            }
        };
        let names: Vec<Option<String>> = items.iter().map(|item| Some(item.get("name")?.as_str()?.to_owned())).collect();
        let mut found: Vec<Table> = Vec::new();
        for (place, item) in items.into_iter().enumerate() {
            let Value::Object(map) = item else {
                self.fault(key, format!("entry {place} ({}) is not a table", kind(&item)));
                continue;
            };
            let mut path = format!("{}.{}", self.at(key), names[place].clone().unwrap_or_else(|| place.to_string()));
            if names[place].is_some()
                && names.iter().filter(|name| **name == names[place]).count() > 1
                && let Some(id) = map.get("set_identifier").and_then(Value::as_str)
            {
                path.push_str(&format!("({id})"));
            }
            if found.iter().any(|other| other.path == path) {
                path.push_str(&format!("[{place}]"));
            }
            found.push(self.below(path, map, &self.problems));
        }
        found
    }

    /// Keys and values of a table of free keys, all marked as known.
    pub fn entries(&self) -> Vec<(String, Value)> {
        self.asked.borrow_mut().extend(self.map.keys().cloned());
        self.map.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Notes every key that nobody asked for, with the nearest known one.
    pub fn finish(&self) {
        let asked = self.asked.borrow();
        for key in self.map.keys().filter(|key| !asked.contains(*key)) {
            let hint = match nearest(key, asked.iter().map(String::as_str)) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("known here: {}", asked.iter().map(String::as_str).collect::<Vec<_>>().join(", ")),
            };
            self.fault(key, format!("unknown key; {hint}"));
        }
    }
}

/// Bytes of a word that may be meant for another one.
const LONGEST_WORD: usize = 100;

/// The known word nearest to `text`, if one is near enough to be meant.
pub fn nearest<'a>(text: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Nobody mistypes a word into this; and to compare costs the product of both lengths.
    if text.len() > LONGEST_WORD {
        return None;
    }
    known
        .map(|word| (strsim::jaro_winkler(&text.to_lowercase(), word), word))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, word)| word)
}

fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..split].parse().ok()?;
    let factor = match text[split..].trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "kB" => 1_000,
        "MB" => 1_000_000,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// What a value is, where it should be something else altogether: what was written there may be a secret in the wrong place.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Object(_) => "a table",
        Value::Array(_) => "a list",
        Value::String(_) => "a text",
        Value::Number(_) => "a number",
        Value::Bool(_) => "a truth value",
        Value::Null => "nothing",
    }
}

/// A value as a problem shows it, under a key that holds no secret.
fn shown(value: &Value) -> String {
    match value {
        Value::Object(_) => "a table".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        other => {
            let text = other.to_string();
            if text.chars().count() > 60 { format!("{}…", text.chars().take(59).collect::<String>()) } else { text }
        }
    }
}

fn digits(value: &Value) -> String {
    value.as_f64().map_or_else(|| "3".to_owned(), |number| number.to_string())
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(value: Value) -> (Table, Problems) {
        let problems = Problems::default();
        let Value::Object(map) = value else { unreachable!("tests hand in tables") };
        (Table::new("app.shop", map, &problems), problems)
    }

    fn messages(problems: &Problems) -> Vec<String> {
        problems.take().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_duration_without_a_unit_says_how_to_write_it() {
        let (table, problems) = table(serde_json::json!({"a": 5, "b": "5", "c": "5 parsecs", "d": "250ms"}));
        for key in ["a", "b", "c"] {
            assert_eq!(table.maybe_duration(key), None);
        }
        assert_eq!(table.maybe_duration("d"), Some(Duration::from_millis(250)));
        let said = messages(&problems);
        assert!(said[0].contains("app.shop.a: 5 has no unit") && said[0].contains("\"5s\""), "{said:?}");
        assert!(said[1].contains("\"5\" has no unit"), "{said:?}");
        assert!(said[2].contains("not a duration"), "{said:?}");
    }

    #[test]
    fn an_unknown_key_names_the_nearest_known_one() {
        let (table, problems) = table(serde_json::json!({"intervall": "1s", "zebra": 1}));
        table.maybe_duration("interval");
        table.finish();
        let said = messages(&problems);
        assert!(said.iter().any(|line| line.contains("did you mean \"interval\"?")), "{said:?}");
        assert!(said.iter().any(|line| line.contains("app.shop.zebra: unknown key; known here: interval")), "{said:?}");
    }

    #[test]
    fn each_of_several_tables_of_one_name_has_its_own_path() {
        let (table, _) = table(serde_json::json!({"a": [
            {"name": "x", "set_identifier": "p"}, {"name": "x", "set_identifier": "s"}, {"name": "y", "set_identifier": "p"},
            {"name": "z"}, {"name": "z"}, {}, {},
        ]}));
        let paths: Vec<String> = table.tables("a").iter().map(|one| one.path().trim_start_matches("app.shop.a.").to_owned()).collect();
        assert_eq!(paths, ["x(p)", "x(s)", "y", "z", "z[4]", "5", "6"]);
    }

    #[test]
    fn what_is_no_table_is_one_problem() {
        let (table, problems) = table(serde_json::json!({"a": "text"}));
        table.table("a").need_string("url", "an address");
        let said = messages(&problems);
        assert!(said.len() == 1 && said[0].contains("app.shop.a: a text is not a table"), "{said:?}");
    }

    #[test]
    fn names_of_a_file_have_no_control_characters() {
        let (table, problems) = table(serde_json::json!({"a": {"b": "x\n"}, "c": "x\ty", "d": "one\ntwo"}));
        assert_eq!(table.string("c").as_deref(), Some("x\ty"), "an order may say more than a line");
        let table = table.of_one_line();
        assert_eq!(table.prose("d").as_deref(), Some("one\ntwo"));
        assert!(table.table("a").need_string("b", "b").is_none() && table.string("c").is_none());
        assert!(table.judge_url("e", "https://h/a\nb", &["https"]).is_none());
        let said = messages(&problems);
        assert!(said.len() == 3 && said.iter().all(|line| line.contains("has a control character")), "{said:?}");
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_size("64KiB"), Some(65_536));
        assert_eq!(parse_size("10"), Some(10));
        assert_eq!(parse_size("10 bananas"), None);
    }
}
