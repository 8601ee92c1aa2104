//! The direction of the layers, the size of files, and where tasks and clocks may be: read from the source itself.
#![expect(clippy::unwrap_used, reason = "a test's helper may end the test")]

use std::path::Path;

/// Downwards only: a layer sees itself and those behind it in this list.
const LAYERS: &[&str] = &["cli", "runtime", "adapters", "config", "ports", "domain"];
/// Siblings in `adapters` that all others may see: the common ground, and the doors themselves.
const COMMON_GROUND: &[&str] =
    &["aws", "http", "dns", "registry", "web", "cloudwatch", "route53_owner", "followup", "process", "shell", "sns_topic", "Adapters"];
/// Above this a file has two jobs.
const MOST_LINES: usize = 400;

/// One file under `src`.
struct Source {
    /// Path below `src`, with slashes.
    path: String,
    /// Its code: tests, comments and texts taken out.
    code: String,
    /// Lines before its tests.
    lines: usize,
    /// Its documentation shows code.
    examples: bool,
}

impl Source {
    fn new(path: &str, text: &str) -> Source {
        // Files of tests alone are named so, and belong to the tests of their module.
        let only_tests = path.ends_with("/tests.rs") || path.contains("/tests/") || text.contains("#![cfg(test)]");
        let shipped = if only_tests { "" } else { before_tests(text) };
        Source {
            path: path.to_owned(),
            code: without_comments_and_texts(shipped),
            lines: shipped.lines().count(),
            examples: text.lines().any(opens_example),
        }
    }

    /// `adapters/steps/rds.rs` to `["adapters", "steps", "rds"]`; `mod.rs` is its folder.
    fn module(&self) -> Vec<&str> {
        let mut parts: Vec<&str> = self.path.trim_end_matches(".rs").split('/').collect();
        if parts.last() == Some(&"mod") {
            parts.pop();
        }
        parts
    }
}

/// True of a line of documentation that opens or ends a block of code.
fn opens_example(line: &str) -> bool {
    let line = line.trim_start();
    (line.starts_with("///") || line.starts_with("//!")) && line.contains("```")
}

/// What stands before the first test module. Single items under `cfg(test)`, and declarations of test files, count as code.
fn before_tests(text: &str) -> &str {
    let mut at = 0;
    while let Some(found) = text[at..].find("#[cfg(test)]") {
        let start = at + found;
        let rest = &text[start..];
        let item: Vec<&str> = rest.lines().map(str::trim).filter(|line| !line.starts_with("#[")).take(1).collect();
        if item.first().is_some_and(|line| line.starts_with("mod ") && line.contains('{')) {
            return &text[..start];
        }
        at = start + 1;
    }
    text
}

/// Blanks comments, strings and character literals, so that words in them are not taken for code.
fn without_comments_and_texts(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let (mut out, mut at) = (String::new(), 0);
    while at < chars.len() {
        let rest = &chars[at..];
        if rest.starts_with(&['/', '/']) {
            while at < chars.len() && chars[at] != '\n' {
                at += 1;
            }
        } else if rest.starts_with(&['/', '*']) {
            at += 2;
            while at < chars.len() && !chars[at..].starts_with(&['*', '/']) {
                at += 1;
            }
            at += 2;
        } else if let Some(hashes) = raw_string(&chars, at) {
            let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
            at += 2 + hashes;
            while at < chars.len() && !chars[at..].starts_with(&end) {
                at += 1;
            }
            at += end.len();
            out.push_str("\"\"");
        } else if chars[at] == '"' {
            at += 1;
            while at < chars.len() && chars[at] != '"' {
                at += if chars[at] == '\\' { 2 } else { 1 };
            }
            at += 1;
            out.push_str("\"\"");
        } else if chars[at] == '\'' && (rest.get(1) == Some(&'\\') || rest.get(2) == Some(&'\'')) {
            at += if rest.get(1) == Some(&'\\') { 3 } else { 2 };
            while at < chars.len() && chars[at] != '\'' {
                at += 1;
            }
            at += 1;
        } else {
            out.push(chars[at]);
            at += 1;
        }
    }
    out
}

/// The number of hashes, if a raw string begins here.
fn raw_string(chars: &[char], at: usize) -> Option<usize> {
    let within_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_') && chars[at - 1] != 'b';
    if chars[at] != 'r' || within_word {
        return None;
    }
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    (chars.get(at + 1 + hashes) == Some(&'"')).then_some(hashes)
}

/// Every path that begins at `crate::`, `super::` or the crate's own name, groups taken apart, as absolute modules.
fn seen(source: &Source) -> Vec<Vec<String>> {
    let code: String = source.code.split_whitespace().collect::<Vec<_>>().join(" ");
    let code = code.replace(" ::", "::").replace(":: ", "::").replace("{ ", "{").replace(" }", "}");
    let here: Vec<String> = source.module().into_iter().map(str::to_owned).collect();
    let mut found = Vec::new();
    for (start, root) in [("crate::", Some(0)), ("watchover::", Some(0)), ("super::", None)] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
                continue;
            }
            let mut base = match root {
                Some(_) => Vec::new(),
                None => here[..here.len().saturating_sub(1)].to_vec(),
            };
            let mut rest = &code[at + start.len()..];
            while let Some(further) = rest.strip_prefix("super::") {
                base.pop();
                rest = further;
            }
            expand(rest, &base, &mut found);
        }
    }
    found
}

/// Reads `a::{b, c::d}` behind `base`; returns what is left after it.
fn expand<'t>(text: &'t str, base: &[String], found: &mut Vec<Vec<String>>) -> &'t str {
    let mut path = base.to_vec();
    let mut rest = text;
    loop {
        if let Some(mut inner) = rest.strip_prefix('{') {
            loop {
                inner = expand(inner.trim_start(), &path, found).trim_start();
                match inner.strip_prefix(',') {
                    Some(more) if !more.trim_start().starts_with('}') => inner = more,
                    Some(more) => return more.trim_start().strip_prefix('}').unwrap_or(more),
                    None => return inner.strip_prefix('}').unwrap_or(inner),
                }
            }
        }
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        if end == 0 {
            found.push(path);
            return rest.strip_prefix('*').unwrap_or(rest);
        }
        path.push(rest[..end].to_owned());
        rest = &rest[end..];
        match rest.strip_prefix("::") {
            Some(more) => rest = more,
            None => {
                found.push(path);
                return rest.strip_prefix(" as ").map_or(rest, |alias| alias.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_'));
            }
        }
    }
}

/// Everything that is wrong with one file.
fn faults(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    if source.lines > MOST_LINES {
        faults.push(format!("{}: {} lines before its tests; above {MOST_LINES} a file has two jobs", source.path, source.lines));
    }
    if source.examples {
        faults.push(format!("{}: its documentation shows code, and Cargo.toml's `doctest = false` keeps it from being run", source.path));
    }
    let module = source.module();
    for path in seen(source) {
        if let Some(fault) = direction(source, &module, &path) {
            faults.push(fault);
        }
    }
    let tracked = source.code.contains("TaskTracker");
    if source.code.contains("tokio::spawn(") && source.path != "runtime/supervisor.rs" && !tracked {
        faults.push(format!(
            "{}: tokio::spawn outside the supervisor; take a TaskTracker, so that a shutdown waits for the task",
            source.path
        ));
    }
    if module[0] == "domain" {
        for clock in ["SystemTime::now", "Instant::now", "Timestamp::now", "Zoned::now"] {
            if source.code.contains(clock) {
                faults.push(format!("{}: {clock} in the domain; time is an argument there", source.path));
            }
        }
    }
    faults.sort();
    faults.dedup();
    faults
}

fn direction(source: &Source, module: &[&str], path: &[String]) -> Option<String> {
    let to = path.first()?.as_str();
    let shown = path.join("::");
    let fault = |why: &str| Some(format!("{}: sees {shown}; {why}", source.path));
    let from = module[0];
    if from == "lib" || from == "main" {
        return None;
    }
    if to == "lab" && from != "lab" {
        return if source.path == "cli/lab.rs" || source.path.starts_with("cli/lab/") {
            None
        } else {
            fault("only cli/lab.rs and tests see the lab")
        };
    }
    if from == "lab" {
        let model = to == "domain" && path.get(1).is_some_and(|part| part == "model");
        return if to == "lab" || to == "ports" || model { None } else { fault("the lab sees ports and domain::model alone") };
    }
    let place = |layer: &str| LAYERS.iter().position(|one| *one == layer);
    match (place(from), place(to)) {
        (None, _) => fault("its own layer is not known; name it in tests/layers.rs"),
        // A name at the crate's root is no layer: a macro or a re-export.
        (_, None) => None,
        (Some(a), Some(b)) if a > b => fault(&format!("layers go downwards only: {}", LAYERS.join(" > "))),
        (Some(a), Some(b)) if a == b && from == "adapters" => siblings(source, module, path),
        _ => None,
    }
}

fn siblings(source: &Source, module: &[&str], path: &[String]) -> Option<String> {
    let registry = matches!(module, ["adapters"] | ["adapters", "catalogue" | "steps" | "signals" | "notify"]);
    let common = path.get(1).is_none_or(|part| COMMON_GROUND.contains(&part.as_str()));
    // Steps and signals are rooms of one file each, or a folder of their own; everything else in `adapters` is a room itself.
    let depth = if matches!(module.get(1), Some(&("steps" | "signals"))) { 3 } else { 2 };
    let own_room = module.iter().take(depth).zip(path).all(|(mine, other)| mine == other) && path.len() >= depth.min(module.len());
    // What a registry's own file offers to its rooms: an item of the folder, not a neighbour.
    let item = depth == 3
        && path.get(1).is_some_and(|part| part == module[1])
        && path.get(2).is_none_or(|part| part.starts_with(char::is_uppercase) || part == "stored");
    if common || own_room || registry || item {
        return None;
    }
    Some(format!("{}: sees {}; siblings in adapters see only {}", source.path, path.join("::"), COMMON_GROUND.join(", ")))
}

fn sources(folder: &Path, below: &str, found: &mut Vec<Source>) {
    let mut entries: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()).collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = format!("{below}{}", entry.file_name().to_string_lossy());
        if entry.file_type().unwrap().is_dir() {
            sources(&entry.path(), &format!("{name}/"), found);
        } else if name.ends_with(".rs") {
            found.push(Source::new(&name, &std::fs::read_to_string(entry.path()).unwrap()));
        }
    }
}

#[test]
fn the_source_keeps_its_layers() {
    let mut all = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut all);
    assert!(all.len() > 10, "found only {} files", all.len());
    let faults: Vec<String> = all.iter().flat_map(faults).collect();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// The faults of a small sample.
fn of(path: &str, text: &str) -> Vec<String> {
    faults(&Source::new(path, text))
}

#[test]
fn upward_looks_are_found_in_every_form() {
    for text in [
        "use crate::runtime::control;",
        "use crate::{domain::model, runtime::{self, control}};",
        "use crate::{\n    ports,\n    cli,\n};",
        "fn f() { crate::adapters::aws::go() }",
        "fn f() -> super::adapters::Aws { }",
        "use watchover::runtime;",
    ] {
        assert!(!of("ports.rs", text).is_empty(), "{text}");
    }
    assert!(of("config/check.rs", "use super::super::adapters::registry;").len() == 1);
}

#[test]
fn downward_looks_comments_texts_and_tests_pass() {
    for text in [
        "use crate::domain::model::{self, Moment};",
        "// use crate::runtime;\n/* crate::cli */ const A: &str = \"crate::cli\"; const B: &str = r#\"crate::\"cli\"#;",
        "const C: char = '\"'; use crate::domain::plan;",
        "fn f<'a>(x: &'a str) {}\n#[cfg(test)]\nmod tests { use crate::runtime; }",
    ] {
        assert_eq!(of("ports.rs", text), Vec::<String>::new(), "{text}");
    }
    assert_eq!(of("config/tests.rs", "use crate::runtime;"), Vec::<String>::new());
}

#[test]
fn a_test_helper_does_not_hide_the_code_behind_it() {
    assert_eq!(of("ports.rs", "#[cfg(test)]\nfn helper() {}\nuse crate::runtime;").len(), 1);
}

#[test]
fn siblings_see_only_common_ground() {
    assert_eq!(of("adapters/witness.rs", "use super::http; use crate::adapters::{aws, Adapters};"), Vec::<String>::new());
    assert_eq!(of("adapters/witness.rs", "use super::front_door;").len(), 1);
    assert_eq!(of("adapters/steps/rds.rs", "use crate::adapters::steps::route53;").len(), 1);
    assert_eq!(of("adapters/steps/rds.rs", "use super::fence::x;").len(), 1);
    assert_eq!(of("adapters/steps/mod.rs", "use self::fence::x; use crate::adapters::steps::rds;"), Vec::<String>::new());
    assert_eq!(of("adapters/route53_owner/batch.rs", "use super::queue;"), Vec::<String>::new());
}

#[test]
fn the_lab_stands_aside() {
    assert_eq!(of("lab/world.rs", "use crate::ports; use crate::domain::model::Moment; use super::faults;"), Vec::<String>::new());
    assert_eq!(of("lab/world.rs", "use crate::domain::plan;").len(), 1);
    assert_eq!(of("lab/aws/rds.rs", "use crate::config;").len(), 1);
    assert_eq!(of("runtime/mod.rs", "use crate::lab::world;").len(), 1);
    assert_eq!(of("cli/lab.rs", "use crate::lab::Lab;"), Vec::<String>::new());
    assert_eq!(of("cli/operate.rs", "use crate::lab::Lab;").len(), 1);
}

#[test]
fn size_tasks_and_clocks_are_watched() {
    let line = "const A: u8 = 1;\n";
    assert_eq!(of("ports.rs", &line.repeat(MOST_LINES)), Vec::<String>::new());
    assert_eq!(of("ports.rs", &line.repeat(MOST_LINES + 1)).len(), 1);
    assert_eq!(of("ports.rs", "/// ```\n/// f();\n/// ```\nfn f() {}").len(), 1);
    assert_eq!(of("runtime/probing.rs", "fn f() { tokio::spawn(async {}); }").len(), 1);
    assert_eq!(of("runtime/supervisor.rs", "fn f() { tokio::spawn(async {}); }"), Vec::<String>::new());
    assert_eq!(of("domain/decide.rs", "fn f() { std::time::Instant::now(); }").len(), 1);
    assert_eq!(of("runtime/control.rs", "fn f() { std::time::Instant::now(); }"), Vec::<String>::new());
}

#[test]
fn an_unknown_layer_must_be_named() {
    assert_eq!(of("helpers/x.rs", "use crate::domain::model;").len(), 1);
}

#[test]
fn planted_faults_are_in_date() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let faults: toml::Table = std::fs::read_to_string(root.join("tests/mutants/faults.toml")).unwrap().parse().unwrap();
    let mut stale = Vec::new();
    for fault in faults["fault"].as_array().unwrap() {
        for edit in fault["edits"].as_array().unwrap() {
            let file = edit["file"].as_str().unwrap();
            let times = std::fs::read_to_string(root.join(file)).unwrap().matches(edit["find"].as_str().unwrap()).count();
            if times != 1 {
                stale.push(format!("{}: {file} holds its text {times} times", fault["name"]));
            }
        }
    }
    assert!(stale.is_empty(), "{stale:#?}");
}
