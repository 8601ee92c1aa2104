//! The loader of config files: the repository's own file after every kind of accident, and texts made of its words.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use watchover::adapters::Kinds;
use watchover::config::{Config, ConfigErrors, judge_text, load};

use super::edit::{Edit, TOKENS, edited, edits};
use super::tally::{tried, worked};

const REFERENCE: &str = include_str!("../../config.toml");

/// Processor time of one file, unoptimised. An honest one takes some milliseconds.
const WORK: Duration = Duration::from_secs(4);

/// What happens to whole lines.
#[derive(Debug, Clone)]
enum Line {
    Delete(usize),
    Twice(usize),
    Swap(usize, usize),
    /// A commented line comes to life.
    Uncomment(usize),
    /// Its value becomes another of the file, or one that is none.
    Value(usize, usize),
    /// Its key becomes another of the file.
    Key(usize, usize),
    /// A value or a table nested so deep.
    Deep(usize, u16, u8),
    /// So many lines of that kind follow.
    Many(usize, u16, u8),
}

fn lines() -> impl Strategy<Value = Line> {
    let at = any::<u16>().prop_map(usize::from).boxed();
    prop_oneof![
        3 => at.clone().prop_map(Line::Delete),
        2 => at.clone().prop_map(Line::Twice),
        1 => (at.clone(), at.clone()).prop_map(|(one, other)| Line::Swap(one, other)),
        6 => at.clone().prop_map(Line::Uncomment),
        6 => (at.clone(), at.clone()).prop_map(|(at, from)| Line::Value(at, from)),
        3 => (at.clone(), at.clone()).prop_map(|(at, from)| Line::Key(at, from)),
        1 => (at.clone(), 1..20_000_u16, any::<u8>()).prop_map(|(at, depth, how)| Line::Deep(at, depth, how)),
        1 => (at, 1..3_000_u16, any::<u8>()).prop_map(|(at, count, how)| Line::Many(at, count, how)),
    ]
}

const VALUES: &[&str] = &[
    "9223372036854775807",
    "-9223372036854775808",
    "99999999999999999999999",
    "1e308",
    "inf",
    "nan",
    "-0.0",
    "\"\"",
    "\"999999999999999999y\"",
    "\"18446744073709551615s\"",
    "\"0s\"",
    "\"-1s\"",
    "\"584942417355y\"",
    "\"1ns\"",
    "\"18446744073709551615KiB\"",
    "\"99999999999999999999TiB\"",
    "[]",
    "{}",
    "[[], {}, 1]",
    "true",
    "1979-05-27T07:32:00Z",
    "\"http://\"",
    "\"http://[::1\"",
    "\"\\u0000\"",
    "\"\u{202e}x\u{0}\"",
    "\"100000000000%\"",
    "\"arn:aws:\"",
    "\"::\"",
    "\"> nan\"",
    "\"> 1e999\"",
    "{ span = \"0s\", down_rate = -1, min_looks = 0 }",
    "{ span = \"999999999y\", down_rate = 2e300, min_looks = 4294967296 }",
];

fn changed(text: &str, changes: &[Line]) -> String {
    let known: Vec<(&str, &str)> = REFERENCE
        .lines()
        .filter_map(|line| line.trim_start_matches("# ").split_once(" = "))
        .filter(|(key, _)| key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'))
        .collect();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for change in changes {
        if lines.is_empty() {
            break;
        }
        let count = lines.len();
        match *change {
            Line::Delete(at) => drop(lines.remove(at % count)),
            Line::Twice(at) => lines.insert(at % count, lines[at % count].clone()),
            Line::Swap(one, other) => lines.swap(one % count, other % count),
            Line::Uncomment(at) => {
                // The next one that holds a key or opens a table.
                let commented = |line: &&mut String| line.starts_with("# ") && (line.contains(" = ") || line.starts_with("# ["));
                if let Some(line) = lines.iter_mut().skip(at % count).find(commented) {
                    *line = line.trim_start_matches("# ").to_owned();
                }
            }
            Line::Value(at, from) => {
                let value = if from % 2 == 0 { VALUES[from / 2 % VALUES.len()] } else { known[from % known.len()].1 };
                if let Some(line) = lines.iter_mut().skip(at % count).find(|line| !line.starts_with('#') && line.contains(" = ")) {
                    let key = line.split_once(" = ").map_or("", |(key, _)| key).to_owned();
                    *line = format!("{key} = {value}");
                }
            }
            Line::Key(at, from) => {
                if let Some(line) = lines.iter_mut().skip(at % count).find(|line| !line.starts_with('#') && line.contains(" = ")) {
                    let value = line.split_once(" = ").map_or("", |(_, value)| value).to_owned();
                    *line = format!("{} = {value}", known[from % known.len()].0);
                }
            }
            Line::Deep(at, depth, how) => {
                let depth = usize::from(depth);
                lines.insert(
                    at % count,
                    match how % 6 {
                        0 => format!("x = {}{}", "[".repeat(depth), "]".repeat(depth)),
                        1 => format!("x = {}1{}", "{ x = ".repeat(depth), " }".repeat(depth)),
                        2 => format!("[{}x]", "x.".repeat(depth)),
                        3 => format!("{}x = 1", "x.".repeat(depth)),
                        4 => format!("x = {}", "[".repeat(depth)),
                        // As deep as each part of the parser allows, one within the other.
                        _ => format!(
                            "[{0}x]\n{0}x = {1}{0}x = 1{2}",
                            "x.".repeat(70),
                            format!("{{ {}x = ", "x.".repeat(70)).repeat(60),
                            " }".repeat(60)
                        ),
                    },
                );
            }
            Line::Many(at, times, how) => {
                let (at, times) = (at % count, usize::from(times));
                let more: Vec<String> = (0..times)
                    .map(|turn| match how % 6 {
                        0 => format!("unknown_key_{turn} = {turn}"),
                        1 => format!("[[app]]\nname = \"app-{turn}\""),
                        2 => format!("[[app.failover]]\nname = \"s{turn}\"\nkind = \"approval\"\nafter = [\"s{}\"]", (turn + 1) % times),
                        3 => format!("[[app.standby.signal]]\nname = \"n\"\nkind = \"{}\"", "k".repeat(turn)),
                        4 => format!("[account.a{turn}]\nrole_arn = \"x\""),
                        _ => "= = =".to_owned(),
                    })
                    .collect();
                lines.splice(at..at, more);
            }
        }
    }
    lines.join("\n")
}

/// Texts made of the file's words, most of them well-formed.
fn made() -> impl Strategy<Value = String> {
    let tables =
        ["[daemon]", "[aws]", "[witness]", "[dns]", "[limits]", "[[app]]", "[app.front_door]", "[app.primary]", "[[app.primary.signal]]"];
    let more = [
        "[app.standby]",
        "[[app.standby.signal]]",
        "[app.probe]",
        "[[app.failover]]",
        "[[app.failback]]",
        "[[notify]]",
        "[account.x]",
        "[x]",
    ];
    let lines: Vec<&str> = REFERENCE.lines().map(|line| line.trim_start_matches("# ")).filter(|line| line.contains(" = ")).collect();
    let table = prop::sample::select([tables.as_slice(), more.as_slice()].concat());
    let line = prop_oneof![
        5 => prop::sample::select(lines.clone()).prop_map(str::to_owned),
        2 => (prop::sample::select(lines), prop::sample::select(VALUES.to_vec()))
            .prop_map(|(line, value)| format!("{} = {value}", line.split_once(" = ").map_or("x", |(key, _)| key))),
    ];
    vec((table, vec(line, 0..8)), 0..14).prop_map(|tables| {
        tables
            .into_iter()
            .map(|(table, mut lines)| {
                lines.insert(0, table.to_owned());
                lines.join("\n") + "\n"
            })
            .collect()
    })
}

/// An answer of the loader: a config, or at least one problem with words.
fn answered(found: Result<Config, ConfigErrors>) -> Result<(), String> {
    match found {
        Ok(config) => {
            Kinds::permissions(&config);
            Ok(())
        }
        Err(errors) if errors.problems.is_empty() => Err("refused, and no problem is named".to_owned()),
        Err(errors) => match errors.problems.iter().find(|problem| problem.message.trim().is_empty()) {
            Some(problem) => Err(format!("a problem without words at {:?}", problem.path)),
            None if !errors.to_string().starts_with("fuzz.toml") && !errors.to_string().contains(".toml: ") => {
                Err(format!("the file is not named: {errors}"))
            }
            None => Ok(()),
        },
    }
}

fn in_bounds(judge: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let before = worked();
    judge()?;
    let took = worked() - before;
    if took > WORK { Err(format!("it took {took:?} of the processor, {WORK:?} are allowed")) } else { Ok(()) }
}

#[test]
fn texts() {
    let accident = (vec(lines(), 0..6), edits(3)).prop_map(|(changes, edits)| {
        let text = changed(REFERENCE, &changes);
        String::from_utf8_lossy(&edited(text.as_bytes(), &edits)).into_owned()
    });
    let garbled = (made(), vec(lines(), 0..3), edits(2))
        .prop_map(|(text, changes, edits)| String::from_utf8_lossy(&edited(changed(&text, &changes).as_bytes(), &edits)).into_owned());
    let texts = prop_oneof![6 => accident, 5 => garbled];
    tried("config::texts", 40, 1, texts, |text| in_bounds(|| answered(judge_text(Path::new("fuzz.toml"), text, Vec::new(), &Kinds))));
}

#[test]
fn files() {
    let binary = vec(any::<u8>(), 0..400);
    let bytes = prop_oneof![
        3 => edits(4).prop_map(|edits| edited(REFERENCE.as_bytes(), &edits)),
        1 => binary,
    ];
    tried("config::files", 20, 4, bytes, |bytes| {
        let mut file = tempfile::Builder::new().suffix(".toml").tempfile().map_err(|cause| cause.to_string())?;
        file.write_all(bytes).map_err(|cause| cause.to_string())?;
        in_bounds(|| answered(load(file.path(), &Kinds)))
    });
}

#[test]
fn overrides() {
    let name = prop::sample::select(vec![
        "DAEMON__LISTEN",
        "WITNESS__URLS",
        "DAEMON",
        "DAEMON__",
        "__",
        "",
        "APP",
        "APP__0__NAME",
        "DNS__RESOLVERS__X__Y",
        "AWS__ATTEMPTS",
    ]);
    let value = prop_oneof![
        prop::sample::select(VALUES.to_vec()).prop_map(str::to_owned),
        prop::sample::select(TOKENS.to_vec()).prop_map(|token| String::from_utf8_lossy(token).into_owned()),
        any::<String>(),
    ];
    tried("config::overrides", 20, 4, vec((name, value), 1..4), |pairs| {
        let pairs = pairs.iter().map(|(name, value)| (format!("WATCHOVER__{name}"), value.clone())).collect();
        in_bounds(|| answered(judge_text(Path::new("fuzz.toml"), REFERENCE, pairs, &Kinds)))
    });
}

#[test]
fn a_plan_of_any_length_is_judged_in_time_and_on_the_stack() {
    let step = |turn| format!("[[app.failover]]\nname = \"s{turn}\"\nkind = \"approval\"\nafter = [\"s{}\"]\n", turn + 1);
    let text = format!("{REFERENCE}\n{}", (0..5_000).map(step).collect::<String>());
    in_bounds(|| match judge_text(Path::new("fuzz.toml"), &text, Vec::new(), &Kinds) {
        Err(errors) if errors.to_string().contains("a plan has at most") => Ok(()),
        other => Err(format!("{:?}", other.map(|_| ()).map_err(|errors| errors.problems.len()))),
    })
    .unwrap();
}

#[test]
fn nesting_that_no_stack_holds_is_refused() {
    let dots = "x.".repeat(70);
    for deep in [
        format!("{dots}x = {}1{}", format!("{{ {dots}x = ").repeat(60), " }".repeat(60)),
        format!("x = {}{}", "[".repeat(60), "]".repeat(60)),
        format!("[{dots}x]"),
        format!("\"a\".{dots}'b' = 1"),
    ] {
        let text = format!("# [[[[[[[[[[[[[[[[[[[[[[[[\ns = \"[[[[[[[[[[[[[[[[[[[[[[\"\n\n{deep}\n");
        let said = judge_text(Path::new("fuzz.toml"), &text, Vec::new(), &Kinds).unwrap_err().to_string();
        assert!(said.contains("line 4: nested deeper than"), "{said}");
    }
}

#[test]
fn the_reference_itself_is_right_and_what_is_tried_is_mostly_not() {
    assert!(judge_text(Path::new("fuzz.toml"), REFERENCE, Vec::new(), &Kinds).is_ok());
    let cut = edited(REFERENCE.as_bytes(), &[Edit::Cut(30_000)]);
    assert!(judge_text(Path::new("fuzz.toml"), &String::from_utf8_lossy(&cut), Vec::new(), &Kinds).is_err());
}
