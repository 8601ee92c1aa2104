//! From file and environment to one tree of values; nothing is judged here but the syntax.

use std::path::{Path, PathBuf};

use config::{Environment, FileFormat};
use serde_json::{Map, Value};
use toml::de::{DeTable, DeValue};

use super::judge::Problem;
use super::{ConfigErrors, depth, judge};

/// Prefix of every override.
const PREFIX: &str = "WATCHOVER__";

/// Syntax errors shown at most: past these, one mistake explains the rest.
const MAX_SYNTAX_ERRORS: usize = 20;

/// Where a config is looked for after the flag and `$WATCHOVER_CONFIG`.
pub fn places() -> [PathBuf; 2] {
    [PathBuf::from("./config.toml"), PathBuf::from("/etc/watchover/config.toml")]
}

/// The config file to use: the flag, else `$WATCHOVER_CONFIG`, else the first of [`places`] that exists.
///
/// A file that was named is taken as named: if it is missing, [`super::load`] says so, and no other is taken instead.
///
/// # Errors
/// None was named and none lies in the usual places.
pub fn locate(flag: Option<&Path>) -> Result<PathBuf, ConfigErrors> {
    pick(flag, std::env::var_os("WATCHOVER_CONFIG").map(PathBuf::from), &places())
}

fn pick(flag: Option<&Path>, variable: Option<PathBuf>, usual: &[PathBuf]) -> Result<PathBuf, ConfigErrors> {
    if let Some(named) = flag.map(Path::to_path_buf).or(variable.filter(|path| !path.as_os_str().is_empty())) {
        return Ok(named);
    }
    // `exists` is false for a file we may not even see; then the error below names the places.
    usual.iter().find(|path| path.exists()).cloned().ok_or_else(|| {
        let tried: Vec<String> = usual.iter().map(|path| path.display().to_string()).collect();
        let message = format!("no config file: name one with --config FILE or $WATCHOVER_CONFIG, or put it at {}", tried.join(" or "));
        ConfigErrors { file: usual.last().cloned().unwrap_or_default(), problems: vec![Problem { path: String::new(), message }] }
    })
}

/// The file's text.
pub(super) fn text(path: &Path) -> Result<String, ConfigErrors> {
    let fail = |message: String| ConfigErrors { file: path.to_owned(), problems: vec![Problem { path: String::new(), message }] };
    let bytes = std::fs::read(path).map_err(|cause| {
        let hint = match cause.kind() {
            std::io::ErrorKind::NotFound => "give an existing file with --config",
            std::io::ErrorKind::PermissionDenied => "let the user of this process read it",
            std::io::ErrorKind::IsADirectory => "give the file within it",
            _ => "see to the file and try again",
        };
        fail(format!("cannot be read ({cause}); {hint}"))
    })?;
    String::from_utf8(bytes).map_err(|cause| {
        let line = line_of(cause.as_bytes(), cause.utf8_error().valid_up_to());
        fail(format!("line {line}: not UTF-8; TOML files are"))
    })
}

/// The overrides of this process. A value that is not Unicode cannot be one of ours and is left to the judge as missing.
pub(super) fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
        .filter(|(name, _)| name.starts_with(PREFIX))
        .collect()
}

/// True for the overrides that say where a daemon is reached and its journal lies.
pub(super) fn names_a_place(name: &str) -> bool {
    is_sound(name) && matches!(key_path(name).as_str(), "daemon.admin_socket" | "daemon.state_dir")
}

/// True for names of plain letters. The reader below takes dots and brackets for a path of its own: it would lead into lists of
/// tables, and `[99999999]` would make a list as long as that.
fn is_sound(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// File and overrides as one tree.
pub(super) fn tree(path: &Path, text: &str, environment: &[(String, String)]) -> Result<Map<String, Value>, ConfigErrors> {
    let fail = |problems: Vec<Problem>| ConfigErrors { file: path.to_owned(), problems };
    if let Some((line, words)) = depth::fault(text) {
        return Err(fail(vec![Problem { path: String::new(), message: format!("TOML syntax, line {line}: {words}") }]));
    }
    let mut problems = syntax(text);
    for (name, _) in environment.iter().filter(|(name, _)| !is_sound(name)) {
        problems.push(Problem {
            path: String::new(),
            message: format!("{name:?} is set in the environment, but an override is written in A-Z, a-z, 0-9, - and _ alone, like WATCHOVER__DAEMON__LISTEN; unset it"),
        });
    }
    let is_list = |name: &str| matches!(key_path(name).split('.').next(), Some("app" | "notify"));
    for (name, _) in environment.iter().filter(|(name, _)| is_sound(name) && is_list(name)) {
        problems.push(Problem {
            path: key_path(name),
            message: format!("{name} is set, but lists of tables are out of reach of the environment; write it into the file"),
        });
    }
    if !problems.is_empty() {
        return Err(fail(problems));
    }
    let source = environment.iter().cloned().collect();
    config::Config::builder()
        .add_source(config::File::from_str(text, FileFormat::Toml))
        .add_source(Environment::with_prefix("WATCHOVER").prefix_separator("__").separator("__").source(Some(source)))
        .build()
        .and_then(config::Config::try_deserialize::<Map<String, Value>>)
        .map_err(|_| {
            // The cause may quote a value, and a value may be a secret.
            fail(vec![Problem {
                path: String::new(),
                message: "holds a value that no config holds, such as a number past 64 bits".to_owned(),
            }])
        })
}

/// Every syntax error with its line, and what TOML allows and no config of ours can hold. Only the parser's words, never the
/// line itself: it may hold a secret.
fn syntax(text: &str) -> Vec<Problem> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut problems: Vec<Problem> = Vec::new();
    if errors.is_empty() {
        let line = |at: usize| line_of(text.as_bytes(), at);
        for key in root.get_ref().keys().filter(|key| key.get_ref().contains(['.', '[', ']'])) {
            let message =
                format!("line {}: is quoted and no key of the config; write tables as [table] or [[table]]", line(key.span().start));
            problems.push(Problem { path: format!("{:?}", key.get_ref()), message });
        }
        for (path, at) in numbers_out_of_range(root.get_ref(), "") {
            problems.push(Problem { path, message: format!("line {}: a whole number goes from -2^63 to 2^63 - 1", line(at)) });
        }
    }
    for error in errors.iter().take(MAX_SYNTAX_ERRORS) {
        let message = match error.span() {
            Some(span) => format!("line {}: {}", line_of(text.as_bytes(), span.start), error.message()),
            None => error.message().to_owned(),
        };
        let problem = Problem { path: String::new(), message: format!("TOML syntax, {message}") };
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }
    problems
}

/// Whole numbers that no 64 bits with a sign hold, by their paths and where they stand.
fn numbers_out_of_range(table: &DeTable<'_>, within: &str) -> Vec<(String, usize)> {
    let below = |key: &str| if within.is_empty() { key.to_owned() } else { format!("{within}.{key}") };
    table.iter().flat_map(|(key, value)| out_of_range(value, &below(key.get_ref()))).collect()
}

fn out_of_range(value: &toml::Spanned<DeValue<'_>>, path: &str) -> Vec<(String, usize)> {
    match value.get_ref() {
        DeValue::Integer(number) if i64::from_str_radix(number.as_str(), number.radix()).is_err() => {
            vec![(path.to_owned(), value.span().start)]
        }
        DeValue::Array(all) => all.iter().enumerate().flat_map(|(at, one)| out_of_range(one, &format!("{path}[{at}]"))).collect(),
        DeValue::Table(table) => numbers_out_of_range(table, path),
        _ => Vec::new(),
    }
}

/// Says at each problem of an overridden key where its value came from.
pub(super) fn name_overrides(problems: &mut [judge::Problem], environment: &[(String, String)]) {
    for problem in problems {
        if let Some((name, _)) = environment.iter().find(|(name, _)| key_path(name) == problem.path) {
            problem.message.push_str(&format!(" (set by ${name})"));
        } else if let Some((name, _)) = environment.iter().find(|(name, _)| is_below(&key_path(name), &problem.path)) {
            problem.message.push_str(&format!(" (${name} sets a key in it)"));
        }
    }
}

fn is_below(key: &str, table: &str) -> bool {
    !table.is_empty() && key.strip_prefix(table).is_some_and(|rest| rest.starts_with('.'))
}

fn key_path(name: &str) -> String {
    name.trim_start_matches(PREFIX).to_lowercase().replace("__", ".")
}

fn line_of(text: &[u8], at: usize) -> usize {
    1 + text.iter().take(at).filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_wins_over_the_variable_over_the_usual_places() {
        let dir = tempfile::tempdir().unwrap();
        let there = dir.path().join("config.toml");
        std::fs::write(&there, "").unwrap();
        let usual = [dir.path().join("missing.toml"), there.clone()];
        let named = PathBuf::from("/named.toml");
        assert_eq!(pick(Some(Path::new("/flag.toml")), Some(named.clone()), &usual).unwrap(), PathBuf::from("/flag.toml"));
        assert_eq!(pick(None, Some(named.clone()), &usual).unwrap(), named);
        assert_eq!(pick(None, Some(PathBuf::new()), &usual).unwrap(), there);
        let said = pick(None, None, &usual[..1]).unwrap_err().to_string();
        assert!(said.contains("--config FILE or $WATCHOVER_CONFIG"), "{said}");
    }

    #[test]
    fn a_syntax_error_names_its_line_and_never_quotes_it() {
        let said = tree(Path::new("x.toml"), "[daemon]\n\ndead_man = { url = \"https://hush }\n", &[]).unwrap_err().to_string();
        assert!(said.contains("line 3") && !said.contains("hush"), "{said}");
    }

    #[test]
    fn several_syntax_errors_are_named_at_once() {
        let errors = tree(Path::new("x.toml"), "a = \n[b]\nc = 1\nd d = 2\n", &[]).unwrap_err();
        assert!(errors.problems.len() >= 2, "{errors}");
    }

    #[test]
    fn keys_with_dots_and_capitals_pass_through() {
        let tree = tree(Path::new("x"), "[dns.authoritative]\n\"Example.com\" = [\"a\"]\n", &[]).unwrap();
        assert!(tree["dns"]["authoritative"]["Example.com"].is_array(), "{tree:?}");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        for path in [dir.path().to_owned(), dir.path().join("none.toml")] {
            assert!(text(&path).unwrap_err().to_string().contains("cannot be read"));
        }
        let bad = dir.path().join("bad.toml");
        std::fs::write(&bad, b"a = 1\nb = \"\xff\"\n").unwrap();
        assert!(text(&bad).unwrap_err().to_string().contains("line 2: not UTF-8"));
    }

    #[test]
    fn the_environment_overrides_single_values_and_not_lists_of_tables() {
        let env = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        let file = "[daemon]\nlisten = \"127.0.0.1:1\"\nlog = { filter = \"info\" }\n";
        let found = tree(Path::new("x"), file, &env("WATCHOVER__DAEMON__LOG__FORMAT", "json")).unwrap();
        assert_eq!(found["daemon"]["log"]["format"], "json");
        assert_eq!(found["daemon"]["log"]["filter"], "info");
        assert_eq!(found["daemon"]["listen"], "127.0.0.1:1");
        let said = tree(Path::new("x"), file, &env("WATCHOVER__APP__SHOP__MODE", "observe")).unwrap_err().to_string();
        assert!(said.contains("out of reach of the environment"), "{said}");
        for name in ["WATCHOVER__app__shop", "WATCHOVER__NOTIFY__CHAT__KIND"] {
            let said = tree(Path::new("x"), file, &env(name, "1")).unwrap_err().to_string();
            assert!(said.contains(&format!("{name} is set, but lists of tables")), "{said}");
        }
        assert!(tree(Path::new("x"), file, &env("WATCHOVER__APPS", "1")).unwrap().contains_key("apps"), "judged as any unknown key");
        let mut problems = [judge::Problem { path: "witnes".into(), message: "unknown key".into() }];
        name_overrides(&mut problems, &env("WATCHOVER__WITNES__NEED_UP", "2"));
        assert_eq!(problems[0].message, "unknown key ($WATCHOVER__WITNES__NEED_UP sets a key in it)");
    }

    #[test]
    fn an_override_whose_name_is_a_path_is_refused_by_its_name() {
        let env = |name: &str| vec![(name.to_owned(), "29d".to_owned())];
        let file = "[[app]]\nname = \"shop\"\n";
        for name in [
            "WATCHOVER__APP[0]__RPO_OBJECTIVE",
            "WATCHOVER__APP[99999999]__NAME",
            "WATCHOVER__NOTIFY[0].NAME",
            "WATCHOVER__DAEMON.LISTEN",
            "WATCHOVER__DAEMON__LISTEN ",
            "WATCHOVER__D\u{e4}MON__LISTEN",
        ] {
            let errors = tree(Path::new("x"), file, &env(name)).unwrap_err();
            assert!(errors.problems.len() == 1 && errors.problems[0].message.contains(&format!("{name:?} is set in")), "{errors}");
        }
        assert!(!names_a_place("WATCHOVER__DAEMON.STATE_DIR"));
        assert!(tree(Path::new("x"), file, &env("WATCHOVER__ACCOUNT__my-net__ROLE_ARN")).is_ok());
    }

    #[test]
    fn what_toml_allows_and_no_config_holds_is_named_with_its_line() {
        let text = "\"app[0].mode\" = 1\n[[app]]\npriority = 9223372036854775808\nlist = [1, 0xffffffffffffffff]\n[daemon]\n\"a.b\" = 2\n";
        let said = tree(Path::new("x"), text, &[]).unwrap_err().to_string();
        for words in ["\"app[0].mode\": line 1: is quoted", "app[0].priority: line 3: a whole number", "app[0].list[1]: line 4: a whole"] {
            assert!(said.contains(words), "{words} is not in {said}");
        }
        assert!(!said.contains("a.b"), "below the root a key may be anything: {said}");
        assert!(tree(Path::new("x"), "a = -9223372036854775808\nb = 9223372036854775807\n", &[]).is_ok());
    }
}
