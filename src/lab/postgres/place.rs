//! Where PostgreSQL's programs are, as whom they run, and the directory that a lab gives them.

use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::process::Command;

/// Where Debian keeps one folder a version.
const DEBIAN: &str = "/usr/lib/postgresql";
/// How often a directory is tried to be taken away, and the pause between two tries.
const TRIES: usize = 100;
const PAUSE: Duration = Duration::from_millis(20);
/// Labs of one process are told apart by a number.
static TURN: AtomicU32 = AtomicU32::new(0);

/// A directory that goes with its lab, and the programs that work in it.
#[derive(Debug)]
pub struct Place {
    dir: PathBuf,
    bin: PathBuf,
    /// User and group that the servers run as, if we are root: PostgreSQL refuses to be root.
    user: Option<(u32, u32)>,
    password: String,
}

impl Place {
    /// Finds the programs and makes the directory. Fails with what to install where PostgreSQL is missing.
    pub fn new() -> Result<Place> {
        let bin = programs()?;
        let user = if rustix::process::geteuid().is_root() { Some(unprivileged()?) } else { None };
        let name = format!("watchover-postgres-{}-{}", std::process::id(), TURN.fetch_add(1, Ordering::Relaxed));
        let place = Place { dir: std::env::temp_dir().join(name), bin, user, password: password()? };
        std::fs::DirBuilder::new().mode(0o700).create(&place.dir).map_err(|cause| said("create", &place.dir, cause))?;
        place.give(&place.dir)?;
        Ok(place)
    }

    /// A path within the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The superuser's password: other users of this machine reach the port too.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Writes a file that its owner alone may read, and gives it to the servers' user.
    pub fn write(&self, path: &Path, text: &str) -> Result<()> {
        use std::io::Write;
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.create(true).append(true).mode(0o600).open(path).map_err(|cause| said("write", path, cause))?;
        file.write_all(text.as_bytes()).map_err(|cause| said("write", path, cause))?;
        self.give(path)
    }

    fn give(&self, path: &Path) -> Result<()> {
        let Some((user, group)) = self.user else { return Ok(()) };
        chown(path, Some(user), Some(group)).map_err(|cause| said("give away", path, cause))
    }

    /// One of PostgreSQL's programs as the servers' user. It ends with its handle, and with us, however we end:
    /// `setpriv` (util-linux) has the kernel tell it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "INT"]);
        if let Some((user, group)) = self.user {
            command.arg(format!("--reuid={user}")).arg(format!("--regid={group}")).arg("--clear-groups");
        }
        command.arg(self.bin.join(program)).current_dir(&self.dir);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").env("PGPASSWORD", &self.password);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Takes the directory away, once its servers were told to end; they may still write while they do.
    pub fn remove(&self) {
        for _ in 0..TRIES {
            match std::fs::remove_dir_all(&self.dir) {
                Err(cause) if cause.kind() != ErrorKind::NotFound => std::thread::sleep(PAUSE),
                _ => return,
            }
        }
        tracing::warn!(dir = %self.dir.display(), "left behind: something still writes there");
    }

    /// Runs one of the programs to its end.
    pub async fn run(&self, program: &str, args: &[&str]) -> Result<()> {
        let done = self.command(program).args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).output().await;
        let done = done.map_err(|cause| Error::new(cause.kind(), format!("run {program}: {cause}")))?;
        if done.status.success() {
            return Ok(());
        }
        let words = String::from_utf8_lossy(&done.stderr);
        let last: Vec<&str> = words.lines().rev().take(3).collect();
        Err(Error::other(format!("{program} failed ({}): {}", done.status, last.into_iter().rev().collect::<Vec<_>>().join(" | "))))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.remove();
    }
}

/// A failure with what was tried on which path.
fn said(what: &str, path: &Path, cause: Error) -> Error {
    Error::new(cause.kind(), format!("{what} {}: {cause}", path.display()))
}

/// The folder that holds the servers' programs: the newest of Debian's, else where `initdb` is found.
fn programs() -> Result<PathBuf> {
    let found = std::fs::read_dir(DEBIAN).into_iter().flatten().flatten();
    let versions = found.filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path().join("bin"))));
    let newest = versions.filter(|(_, bin)| bin.join("initdb").exists()).max();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let elsewhere = || std::env::split_paths(&path).find(|bin| bin.join("initdb").exists());
    newest.map(|(_, bin)| bin).or_else(elsewhere).ok_or_else(|| {
        Error::other(format!("no PostgreSQL here: there is no initdb below {DEBIAN} nor in PATH; install the package `postgresql`"))
    })
}

/// Whom to run the servers as when we are root: `postgres` if there is one, else `nobody`.
fn unprivileged() -> Result<(u32, u32)> {
    let users = std::fs::read_to_string("/etc/passwd").map_err(|cause| said("read", Path::new("/etc/passwd"), cause))?;
    let find = |wanted: &str| {
        users.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            (fields.first() == Some(&wanted)).then(|| Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?)))?
        })
    };
    find("postgres").or_else(|| find("nobody")).ok_or_else(|| {
        Error::other("PostgreSQL refuses to run as root, and /etc/passwd names neither postgres nor nobody; run the lab as another user")
    })
}

fn password() -> Result<String> {
    use std::io::Read;
    let mut bytes = [0_u8; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
