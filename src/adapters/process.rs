//! Other people's programs: started without a shell, in a process group and an environment of their own, cut off at
//! their time, and heard only as far as their last lines.
//!
//! What the daemon knows of secrets is in its environment, so a program gets none of it but what is named for it.

use std::collections::{BTreeMap, VecDeque};
use std::os::unix::fs::PermissionsExt;
use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// What is kept of the output, standard output and error together: its end.
const MOST_OUTPUT: usize = 64 * 1024;
/// Of that, what goes into facts and errors.
const MOST_LINES: usize = 20;
const MOST_LINE: usize = 300;
/// From the request to end to the end by force.
pub const GRACE: Duration = Duration::from_millis(300);
/// A value shorter than this is not looked for in the output: it would blank ordinary words.
const LEAST_SECRET: usize = 6;
/// Where programs are looked for by the program itself.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program to run.
#[derive(Debug, Clone, Default)]
pub struct Program {
    /// The absolute path of the program, and its arguments.
    pub argv: Vec<String>,
    /// Its whole environment, besides `PATH` and what is passed.
    pub env: BTreeMap<String, String>,
    /// Names of the daemon's own variables that it gets; their values never show.
    pub pass: Vec<String>,
    /// What it reads on its standard input.
    pub input: String,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ended {
    /// By itself, with that code.
    Code(i32),
    /// By a signal that was not ours.
    Killed(i32),
    /// It never ran.
    NotStarted(String),
    /// Its time was up; the whole process group was ended.
    TimedOut,
}

/// What a program did.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// How it ended.
    pub ended: Ended,
    /// The last lines that it wrote, oldest first.
    pub lines: Vec<String>,
    /// How long it ran.
    pub took: Duration,
}

impl Run {
    /// The last line, to stand behind an error.
    pub fn last_line(&self) -> String {
        self.lines.last().map(|line| format!("; it said last: {line}")).unwrap_or_default()
    }
}

/// What is wrong with an argument list, if anything is: the right form is a list whose first word is an absolute path.
pub fn wrong_argv(argv: &[String]) -> Option<String> {
    let form = "give a list like [\"/usr/local/bin/hook\", \"--for\", \"shop\"]";
    match argv.first() {
        None => Some(format!("is empty; {form}")),
        Some(program) if !program.starts_with('/') => {
            Some(format!("begins with {program:?}, which is not an absolute path; {form} (there is no shell and no search)"))
        }
        Some(_) if argv.iter().any(|word| word.contains('\0')) => Some(format!("has a word with a zero byte; {form}")),
        Some(_) => None,
    }
}

/// What is wrong with names of variables to pass, if anything is. They are not quoted: whoever takes them for settings
/// writes the secret itself here.
pub fn wrong_names(names: &[String]) -> Option<String> {
    let place = names.iter().position(|name| !is_name(name))?;
    let words = "is not the name of a variable (not shown, it may hold a secret); give names alone, like \"HTTPS_PROXY\"";
    Some(format!("its entry {} {words}", place + 1))
}

/// True for the name of a variable.
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

impl Program {
    /// Whether it could be run.
    ///
    /// # Errors
    /// It is not there, or not a file that may be executed.
    pub async fn look(&self) -> Result<(), String> {
        let program = self.argv.first().map_or("", String::as_str);
        match tokio::fs::metadata(program).await {
            Err(cause) => Err(format!("{program} cannot be run: {cause}")),
            Ok(found) if !found.is_file() || found.permissions().mode() & 0o111 == 0 => {
                Err(format!("{program} cannot be run: it is not a file with the right to be executed"))
            }
            Ok(_) => Ok(()),
        }
    }

    /// Runs it for at most `limit` and [`GRACE`]. Dropped before its end, it ends the process group at once.
    pub async fn run(&self, limit: Duration) -> Run {
        let began = Instant::now();
        let tail = Mutex::new(Tail::default());
        let ended = match self.start() {
            Err(cause) => Ended::NotStarted(cause),
            Ok(mut child) => attend(&mut child, &self.input, &tail, began + limit).await,
        };
        let tail = tail.into_inner().unwrap_or_else(PoisonError::into_inner);
        Run { ended, lines: tail.lines(&self.secrets()), took: began.elapsed() }
    }

    fn start(&self) -> Result<Child, String> {
        let (program, arguments) = self.argv.split_first().ok_or_else(|| "no program is named".to_owned())?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("PATH", PATH).envs(&self.env);
        command.envs(self.pass.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true).spawn().map_err(|cause| format!("{program} cannot be run: {cause}"))
    }

    fn secrets(&self) -> Vec<String> {
        self.pass.iter().filter_map(|name| std::env::var(name).ok()).filter(|value| value.len() >= LEAST_SECRET).collect()
    }
}

/// Feeds it, hears it, and waits for it.
async fn attend(child: &mut Child, input: &str, tail: &Mutex<Tail>, limit: Instant) -> Ended {
    let mut group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let talk = async {
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A program that does not read what it is told is in its right.
                drop(stdin.write_all(input.as_bytes()).await);
            }
        };
        tokio::join!(feed, hear(stdout, tail), hear(stderr, tail));
    };
    tokio::pin!(talk);
    let mut silent = false;
    let waited = timeout_at(limit, async {
        loop {
            tokio::select! {
                status = child.wait() => break status,
                () = &mut talk, if !silent => silent = true,
            }
        }
    })
    .await;
    match waited {
        Ok(status) => {
            // The leader is reaped, and its number free for another: from here on the group is not ours to end.
            group.0 = None;
            if !silent {
                // What it left in the background may hold the pipes for good.
                drop(timeout(GRACE, &mut talk).await);
            }
            status.map_or_else(|cause| Ended::NotStarted(format!("its end was not seen: {cause}")), ended)
        }
        Err(_) => {
            group.signal(Signal::TERM);
            tokio::select! {
                () = sleep(GRACE) => {}
                () = &mut talk, if !silent => {}
            }
            Ended::TimedOut
        }
    }
}

fn ended(status: ExitStatus) -> Ended {
    use std::os::unix::process::ExitStatusExt;
    status.code().map_or_else(|| Ended::Killed(status.signal().unwrap_or_default()), Ended::Code)
}

/// A process group that does not outlive its value. Its leader is not reaped as long as this has its number, so that the
/// number is nobody else's.
struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.0 {
            // A group that is gone needs no signal.
            kill_process_group(pid, signal).unwrap_or_default();
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

async fn hear(from: Option<impl AsyncRead + Unpin>, tail: &Mutex<Tail>) {
    let Some(mut from) = from else { return };
    let mut part = [0; 4096];
    while let Ok(count) = from.read(&mut part).await {
        if count == 0 {
            return;
        }
        tail.lock().unwrap_or_else(PoisonError::into_inner).take(&part[..count]);
    }
}

/// The end of what was said.
#[derive(Default)]
struct Tail(VecDeque<u8>);

impl Tail {
    fn take(&mut self, part: &[u8]) {
        self.0.extend(part);
        let over = self.0.len().saturating_sub(MOST_OUTPUT);
        self.0.drain(..over);
    }

    fn lines(mut self, secrets: &[String]) -> Vec<String> {
        let mut text = String::from_utf8_lossy(self.0.make_contiguous()).into_owned();
        for secret in secrets {
            text = text.replace(secret, "…");
        }
        let lines: Vec<String> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).map(shown).collect();
        lines[lines.len().saturating_sub(MOST_LINES)..].to_vec()
    }
}

/// A line as a terminal and a journal bear it.
fn shown(line: &str) -> String {
    let plain: String = line.chars().map(|c| if c.is_control() && c != '\t' { '?' } else { c }).take(MOST_LINE).collect();
    if line.chars().count() > MOST_LINE { format!("{plain}…") } else { plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Program {
        Program { argv: vec!["/bin/sh".into(), "-c".into(), script.into()], ..Program::default() }
    }

    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn codes_signals_and_words_come_back() {
        let run = shell("echo one; echo two >&2; exit 3").run(LONG).await;
        assert_eq!((run.ended, run.lines.len()), (Ended::Code(3), 2));
        assert_eq!(shell("kill -9 $$").run(LONG).await.ended, Ended::Killed(9));
        let none = Program { argv: vec!["/nowhere/hook".into()], ..Program::default() };
        assert!(matches!(none.run(LONG).await.ended, Ended::NotStarted(words) if words.contains("/nowhere/hook")));
        assert!(none.look().await.is_err() && shell("").look().await.is_ok());
        let directory = Program { argv: vec!["/".into()], ..Program::default() };
        assert!(directory.look().await.unwrap_err().contains("right to be executed"));
    }

    #[tokio::test]
    async fn it_gets_what_is_named_for_it_and_nothing_else() {
        let mut program = shell("cat; env | sort");
        program.env.insert("WATCHOVER_APP".into(), "shop".into());
        program.input = "told\n".into();
        let run = program.run(LONG).await;
        let names: Vec<&str> = run.lines.iter().filter_map(|line| line.split_once('=').map(|(name, _)| name)).collect();
        // PWD, SHLVL and _ are the shell's own.
        assert!(names.iter().all(|name| ["PATH", "WATCHOVER_APP", "PWD", "SHLVL", "_", "OLDPWD"].contains(name)), "{names:?}");
        assert_eq!(run.lines[0], "told");
    }

    #[tokio::test]
    async fn what_is_passed_reaches_it_and_does_not_show() {
        let (name, value) = std::env::vars().find(|(name, value)| name == "CARGO_MANIFEST_DIR" && value.len() >= LEAST_SECRET).unwrap();
        let mut program = shell(&format!("test -n \"${name}\" && echo \"it is ${name}.\""));
        program.pass = vec![name];
        let run = program.run(LONG).await;
        assert_eq!(run.ended, Ended::Code(0));
        assert!(run.lines == ["it is …."] && !run.lines[0].contains(&value), "{:?}", run.lines);
    }

    #[tokio::test]
    async fn a_flood_is_kept_by_its_end_and_does_not_stop_it() {
        let run =
            shell("i=0; while [ $i -lt 9000 ]; do echo \"line $i of very many\"; i=$((i+1)); done; printf '\\033[31mred'").run(LONG).await;
        assert_eq!((run.ended, run.lines.len()), (Ended::Code(0), MOST_LINES));
        assert_eq!(run.lines.last().unwrap(), "?[31mred");
        assert_eq!(run.lines[MOST_LINES - 2], "line 8999 of very many");
    }

    #[tokio::test]
    async fn its_time_ends_the_whole_group() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("child");
        // The child ignores the polite request, and would write its number again and again.
        let script = format!("trap '' TERM; (trap '' TERM; while :; do sleep 0.05; done) & echo $! > {}; wait", mark.display());
        let run = shell(&script).run(Duration::from_millis(400)).await;
        assert_eq!(run.ended, Ended::TimedOut);
        assert!(run.took < Duration::from_secs(10), "{:?}", run.took);
        let child = Pid::from_raw(std::fs::read_to_string(&mark).unwrap().trim().parse().unwrap()).unwrap();
        let gone = || rustix::process::test_kill_process(child).is_err() || zombie(child);
        let start = Instant::now();
        while !gone() {
            assert!(start.elapsed() < LONG, "the child lives on");
            tokio::task::yield_now().await;
        }
    }

    /// Ended, and not yet reaped by whoever adopted it.
    fn zombie(pid: Pid) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
        status.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with('Z'))
    }

    #[tokio::test]
    async fn what_it_leaves_in_the_background_is_not_waited_for() {
        let run = shell("sleep 20 & echo gone").run(LONG).await;
        assert_eq!((run.ended, run.lines), (Ended::Code(0), vec!["gone".to_owned()]));
        assert!(run.took < Duration::from_secs(10), "{:?}", run.took);
    }

    #[test]
    fn only_absolute_programs_are_taken() {
        let argv = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(wrong_argv(&argv(&["/bin/true", ""])), None);
        for words in [&[][..], &["true"], &["./hook"], &["/bin/echo", "a\0b"]] {
            assert!(wrong_argv(&argv(words)).is_some_and(|said| said.contains("/usr/local/bin/hook")), "{words:?}");
        }
    }
}
