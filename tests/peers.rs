//! Runs the peers of `tests/peers`: software that we did not write, against the real binary.
//!
//! `make test` installs what they need and names the virtual environment in `WATCHOVER_VENV`. Without it they are
//! skipped with a word, unless `CI=true`: there nothing missing is skipped.
#![expect(clippy::expect_used, reason = "a test's helper may end the test")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// The Python of the virtual environment, if there is one.
fn python() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = Path::new(env!("CARGO_BIN_EXE_watchover")).parent().and_then(Path::parent).map(|target| target.join("venv"));
    let named = std::env::var_os("WATCHOVER_VENV").map(|venv| root.join(venv));
    named.into_iter().chain(target).map(|venv| venv.join("bin/python")).find(|python| python.exists())
}

fn pytest(file: &str) {
    let Some(python) = python() else {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "the peers' virtual environment is missing; run make test");
        println!("skipped: no virtual environment for tests/peers/{file}; `make test` makes one");
        return;
    };
    let status = Command::new(python)
        .args(["-m", "pytest", "-q", "-p", "no:cacheprovider"])
        .arg(Path::new("tests/peers").join(file))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("WATCHOVER_BIN", env!("CARGO_BIN_EXE_watchover"))
        // What is imported is compiled once, and beside the sources nothing is left behind.
        .env_remove("PYTHONDONTWRITEBYTECODE")
        .env("PYTHONPYCACHEPREFIX", Path::new(env!("CARGO_TARGET_TMPDIR")).join("pycache"))
        .status()
        .expect("python runs");
    assert!(status.success(), "tests/peers/{file} failed: {status}");
}

#[test]
fn boto3_drives_the_labs_wire() {
    pytest("test_boto3.py");
}

#[test]
fn aws_runs_the_documents_examples_and_the_break_glass_script() {
    pytest("test_aws_cli.py");
}

#[test]
fn the_adapters_run_against_emulators_by_others() {
    pytest("test_emulators.py");
}

#[test]
fn prometheus_scrapes_a_daemon_through_a_move() {
    pytest("test_prometheus.py");
}

#[test]
fn a_browser_follows_a_move() {
    pytest("test_page.py");
}

#[test]
fn postgresql_loses_no_more_than_is_reported() {
    pytest("test_postgres.py");
}
