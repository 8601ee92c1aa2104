//! What a person's bash script is made of: words and comments that can be nothing else, and what its lines can call.

/// What every script begins with. Time limits stand on each call, because the region that is left may not answer.
pub const PRELUDE: &str = r#"set -euo pipefail
command -v aws >/dev/null || { echo "the aws command is not installed" >&2; exit 2; }
# Of STS the regional endpoint: the global one lies in us-east-1, which may be the region that is lost.
export AWS_PAGER= AWS_MAX_ATTEMPTS="${AWS_MAX_ATTEMPTS:-3}" AWS_STS_REGIONAL_ENDPOINTS=regional
# By option too: for some services in us-east-1 the command line does not look at AWS_ENDPOINT_URL.
aws() { command aws --cli-connect-timeout 5 --cli-read-timeout "${patience:-20}" ${AWS_ENDPOINT_URL:+--endpoint-url "$AWS_ENDPOINT_URL"} "$@"; }
say() { printf '%s  %s\n' "$(date -u +%H:%M:%S)" "$*" >&2; }

# wait_for SECONDS is|ge WANTED COMMAND...: asks until the answer is WANTED, or at least that number.
wait_for() {
  local limit=$((SECONDS + $1)) how=$2 wanted=$3 answer=
  shift 3
  while true; do
    if answer=$("$@"); then
      case $how in
        is) if [[ $answer == "$wanted" ]]; then say "it is $answer"; return 0; fi ;;
        ge) if [[ $answer =~ ^[0-9]+$ ]] && ((answer >= wanted)); then say "it is $answer"; return 0; fi ;;
      esac
    fi
    if ((SECONDS >= limit)); then say "not in time: wanted $how $wanted, last seen ${answer:-no answer}: $*"; return 1; fi
    sleep 2
  done
}

# in_a_row SECONDS TIMES PAUSE COMMAND...: runs it until it has succeeded so many times in a row.
in_a_row() {
  local limit=$((SECONDS + $1)) times=$2 pause=$3 good=0
  shift 3
  while true; do
    if "$@"; then good=$((good + 1)); else good=0; fi
    if ((good >= times)); then say "$good in a row"; return 0; fi
    if ((SECONDS >= limit)); then say "not in time: $good of $times in a row: $*"; return 1; fi
    sleep "$pause"
  done
}

# answers CODES BODY [NAME VALUE]... -- CURL ARGUMENT...: whether a URL answers with one of these codes, with BODY in it
# and with these headers.
answers() (
  codes=$1 body=$2 wanted=() held=
  shift 2
  while [[ $1 != -- ]]; do wanted+=("$1" "$2"); shift 2; done
  shift
  told=$(curl -sS -i --suppress-connect-headers -w '\n%{http_code}' "$@" | tr -d '\r\000') || exit 1
  code=${told##*$'\n'} told=${told%$'\n'*}
  for range in ${codes//,/ }; do
    if ((code >= ${range%-*} && code <= ${range#*-})); then held=yes; fi
  done
  if [[ -z $held ]]; then say "answered $code"; exit 1; fi
  if [[ ${told#*$'\n\n'} != *"$body"* ]]; then say "answered $code without $body"; exit 1; fi
  set -- ${wanted[@]+"${wanted[@]}"}
  # The name's case does not matter, the value's does: `[` knows nothing of this option.
  shopt -s nocasematch
  while (($#)); do
    held=
    while IFS= read -r line && [[ -n $line ]]; do
      [[ $line == "$1":* ]] || continue
      value=${line#*:} value=${value#"${value%%[![:space:]]*}"} value=${value%"${value##*[![:space:]]}"}
      if [ "$value" = "$2" ]; then held=yes; fi
    done <<<"$told"
    if [[ -z $held ]]; then say "answered $code without $1: $2"; exit 1; fi
    shift 2
  done
)

# within SECONDS COMMAND...: runs it, and ends it when its time is up.
within() {
  if command -v timeout >/dev/null; then
    timeout -k 5 "$@" </dev/null
  else
    perl -e 'alarm shift; exec @ARGV or exit 127' "$@" </dev/null
  fi
}

# grow REGION GROUP SIZE: raises the sizes of an Auto Scaling group to at least that; lowers none, whatever it is by now.
grow() {
  local sizes min max desired rise=()
  sizes=$(aws autoscaling describe-auto-scaling-groups --region "$1" --auto-scaling-group-names "$2" --query 'AutoScalingGroups[0].[MinSize,MaxSize,DesiredCapacity]' --output text) || return 1
  read -r min max desired <<<"$sizes"
  if ! [[ "$min $max $desired" =~ ^[0-9]+\ [0-9]+\ [0-9]+$ ]]; then say "no sizes of group $2 in $1: $sizes"; return 1; fi
  if ((min < $3)); then rise+=(--min-size "$3"); fi
  if ((max < $3)); then rise+=(--max-size "$3"); fi
  if ((desired < $3)); then rise+=(--desired-capacity "$3"); fi
  if ((${#rise[@]} == 0)); then say "group $2 is sized to $min, $desired, $max: nothing to raise"; return 0; fi
  aws autoscaling update-auto-scaling-group --region "$1" --auto-scaling-group-name "$2" "${rise[@]}"
}

# healthy REGION GROUP: the fewest healthy targets in any target group of an Auto Scaling group; a million if it has none.
healthy() {
  local arns arn count least=1000000
  arns=$(aws autoscaling describe-auto-scaling-groups --region "$1" --auto-scaling-group-names "$2" --query 'AutoScalingGroups[0].TargetGroupARNs' --output text) || return 1
  for arn in $arns; do
    [[ $arn == arn:* ]] || continue
    count=$(aws elbv2 describe-target-health --region "$1" --target-group-arn "$arn" --query "length(TargetHealthDescriptions[?TargetHealth.State=='healthy'])" --output text) || return 1
    ((count >= least)) || least=$count
  done
  echo "$least"
}

# as_role REGION ARN EXTERNAL_ID COMMAND...: runs a command in another account. STS is asked in that region.
as_role() {
  local region=$1 arn=$2 id=$3 keys
  shift 3
  keys=$(aws sts assume-role --region "$region" --role-arn "$arn" --role-session-name break-glass ${id:+--external-id "$id"} --query 'Credentials.[AccessKeyId,SecretAccessKey,SessionToken]' --output text) || return 1
  read -r AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN <<<"$keys"
  export AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN
  "$@"
}
"#;

/// What a line must not hold as it is: what ends it, and what a terminal or an editor would not show where it stands.
fn hidden(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// A value as one shell word on one line, quoted if need be; what is hidden in it stands there by its bytes, as bash has
/// it and a plain shell has not.
pub fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    if !text.chars().any(hidden) {
        return format!("'{}'", text.replace('\'', r"'\''"));
    }
    let mut out = "$'".to_owned();
    for c in text.chars() {
        match c {
            '\'' | '\\' => out.extend(['\\', c]),
            // Bash ends the word with it, and what is left would name something else.
            '\0' => out.push('\u{fffd}'),
            c if hidden(c) => out.extend(c.encode_utf8(&mut [0; 4]).bytes().map(|byte| format!("\\x{byte:02x}"))),
            c => out.push(c),
        }
    }
    out + "'"
}

/// Words as what stands behind a `#`: on one line, whatever they hold.
pub fn one_line(words: &str) -> String {
    let shown: String = words.chars().map(|c| if hidden(c) { ' ' } else { c }).collect();
    shown.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A text as it stands in a query of the command line: as JSON, because its own quotes know no backslash.
pub fn literal(text: &str) -> String {
    format!("`{}`", serde_json::Value::from(text).to_string().replace('`', "\\`"))
}

/// Lines of a script, joined so that the first that fails ends them, whatever bash makes of `set -e` there.
pub fn joined(lines: &[String]) -> String {
    let is_comment = |line: &str| line.trim_start().starts_with('#');
    let lines: Vec<&String> = lines.iter().filter(|line| !line.trim().is_empty()).collect();
    let mut out = String::new();
    for (at, line) in lines.iter().enumerate() {
        if is_comment(line) {
            out.push_str(&format!("  {}\n", one_line(line)));
            continue;
        }
        // A comment takes no `&&`, and the last command none either.
        let more = lines[at + 1..].iter().any(|line| !is_comment(line));
        out.push_str(&format!("  {line}{}\n", if more { " &&" } else { "" }));
    }
    if lines.iter().all(|line| is_comment(line)) {
        out.push_str("  true\n");
    }
    out
}

/// Lines of a script, run in bash with commands that stand for the real ones.
#[cfg(test)]
pub(crate) mod bench {
    use std::os::unix::fs::PermissionsExt;
    use std::path::{Path, PathBuf};

    use super::*;

    /// A folder with the commands in it; whatever they log in `$LOG` can be read back.
    pub(crate) struct Bench {
        dir: tempfile::TempDir,
    }

    /// What a run came to.
    pub(crate) struct Ran {
        /// The exit code.
        pub(crate) code: Option<i32>,
        /// Both outputs.
        pub(crate) said: String,
        /// What the commands logged.
        pub(crate) log: String,
    }

    impl Bench {
        /// Each command by its name and what it does, in bash. Nothing of it waits.
        pub(crate) fn new(commands: &[(&str, &str)]) -> Bench {
            let bench = Bench { dir: tempfile::tempdir().unwrap() };
            bench.command("sleep", "exec /bin/sleep 0.01");
            for (name, body) in commands {
                bench.command(name, body);
            }
            bench
        }

        pub(crate) fn path(&self) -> &Path {
            self.dir.path()
        }

        fn command(&self, name: &str, body: &str) {
            let file = self.path().join(name);
            std::fs::write(&file, format!("#!/bin/bash\n{body}\n")).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        }

        /// Runs a whole script.
        pub(crate) fn script(&self, text: &str, variables: &[(&str, &str)]) -> Ran {
            let path = format!("{}:{}", self.path().display(), std::env::var("PATH").unwrap_or_default());
            let log: PathBuf = self.path().join("log");
            let file = self.path().join("script");
            std::fs::write(&file, text).unwrap();
            let mut bash = std::process::Command::new("bash");
            bash.arg(&file).current_dir(self.path()).env("PATH", path).env("LOG", &log).stdin(std::process::Stdio::null());
            bash.env_remove("AWS_ENDPOINT_URL");
            let ran = bash.envs(variables.iter().copied()).output().unwrap();
            let said = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
            Ran { code: ran.status.code(), said, log: std::fs::read_to_string(&log).unwrap_or_default() }
        }

        /// Runs the lines of one step.
        pub(crate) fn lines(&self, lines: &[String]) -> Ran {
            self.script(&format!("{PRELUDE}step() {{\n{}}}\nstep || exit 1\n", joined(lines)), &[])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::bench::Bench;
    use super::*;

    const HOSTILE: &[&str] = &[
        "plain",
        "",
        "it's",
        "$(touch taken)",
        "`touch taken`",
        "a\ntouch taken\n#",
        "a\r\ntouch taken #",
        "\\\n'; touch taken; '\u{1b}[2K",
        "a\u{85}\u{2028}\u{202e}b",
        "\"; touch taken; \"",
        "ends with \\",
        "\\'\n$(touch taken)",
    ];

    #[test]
    fn a_word_is_one_word_whatever_it_holds() {
        let bench = Bench::new(&[("aws", "exit 0")]);
        for text in HOSTILE {
            let word = shell_word(text);
            assert!(!word.chars().any(hidden), "{word:?}");
            let ran = bench.lines(&[format!("printf '<%s>' {word}")]);
            assert_eq!((ran.code, ran.said.as_str()), (Some(0), format!("<{text}>").as_str()), "{word}");
        }
        assert!(!bench.path().join("taken").exists());
        assert_eq!(shell_word("a\0b"), "$'a\u{fffd}b'");
    }

    #[test]
    fn a_comment_runs_nothing_whatever_it_holds() {
        let bench = Bench::new(&[("aws", "exit 0")]);
        for text in HOSTILE {
            let ran = bench.lines(&[format!("# of {text}"), "echo done".to_owned(), format!("# and {text}")]);
            assert_eq!((ran.code, ran.said.as_str()), (Some(0), "done\n"), "{text:?}");
        }
        assert!(!bench.path().join("taken").exists());
    }

    #[test]
    fn a_literal_stands_in_backticks_as_json() {
        assert_eq!(literal("shop"), "`\"shop\"`");
        assert_eq!(literal("\\052.a`b\"c\\"), "`\"\\\\052.a\\`b\\\"c\\\\\"`");
    }

    #[test]
    fn a_row_is_full_or_its_time_is_up() {
        let bench = Bench::new(&[("aws", "exit 0"), ("flaky", "echo x >>\"$LOG\"; [[ $(wc -l <\"$LOG\") != 2 ]]")]);
        let ran = bench.lines(&["in_a_row 60 3 1 flaky".to_owned()]);
        assert_eq!((ran.code, ran.log.lines().count()), (Some(0), 5), "one good, one bad, three good: {}", ran.said);
        let ran = bench.lines(&["in_a_row 0 3 1 false".to_owned(), "echo never".to_owned()]);
        assert!(ran.code == Some(1) && ran.said.contains("0 of 3 in a row: false") && !ran.said.contains("never"), "{}", ran.said);
    }

    #[test]
    fn what_does_not_end_is_ended() {
        let bench = Bench::new(&[("aws", "exit 0"), ("hang", "exec /bin/sleep 30")]);
        let start = std::time::Instant::now();
        let ran = bench.lines(&["within 1 hang".to_owned()]);
        assert!(ran.code == Some(1) && start.elapsed().as_secs() < 20, "{}", ran.said);
        assert_eq!(bench.lines(&["within 9 true".to_owned()]).code, Some(0));
    }
}
