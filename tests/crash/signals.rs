//! SIGSTOP for longer than every deadline that runs, and SIGTERM, in the middle of a promotion.

use std::time::Duration;

use rustix::process::Signal;
use watchover::lab::Action;
use watchover::lab::faults::Fault;
use watchover::lab::world::{SiteMode, SiteName, Traffic};

use crate::real::{Daemon, command, until};
use crate::stage::{PROMOTE, RECORDS, Stage};

/// Longer than the deadlines of the steps that run then, a call's, a look's, and the gap from which looks are forgotten.
const STOPPED: Duration = Duration::from_secs(6);

/// Stops it, and waits until it stands: a signal that was sent has not arrived yet.
fn stop_still(daemon: &Daemon) {
    daemon.process.signal(Signal::STOP);
    until("it stands", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.process.0.id())).unwrap();
        // The state follows the name, which may itself hold anything.
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T')).then_some(())
    });
}

#[test]
fn stopped_for_longer_than_every_deadline_it_does_nothing_on_stale_evidence() {
    let stage = Stage::of(Traffic::Route53, 1_500);
    stage.edit(&[
        ("deadline = \"40s\"", "deadline = \"4s\""),
        ("kind = \"rds-promote-replica\"", "kind = \"rds-promote-replica\"\ndeadline = \"5s\""),
        ("kind = \"autoscaling-capacity\"", "kind = \"autoscaling-capacity\"\ndeadline = \"5s\""),
        ("call_timeout = \"5s\"", "call_timeout = \"2s\""),
    ]);
    let daemon = Daemon::steady(&stage.config);
    stage.break_primary();
    until("the promotion is accepted", || (stage.effect(PROMOTE) == 1).then_some(()));
    stop_still(&daemon);
    let before = stage.rows().len();
    // While it sleeps the database comes up, and the front of the standby, which it saw up last, goes.
    stage.act(&Action::Site { site: SiteName::Standby, mode: SiteMode::Refuse });
    // The passing of time is what is tested.
    std::thread::sleep(STOPPED);
    assert_eq!(stage.rows().len(), before, "it was stopped");
    assert_eq!(stage.happened("promoted"), 1);
    daemon.process.signal(Signal::CONT);

    let written = |name: &str| {
        until(name, || {
            assert_ne!(daemon.app()["state"], "stuck", "{}", daemon.said());
            stage.rows().iter().find(|row| row.name == name).map(drop)
        });
    };
    // It sees that it stood still, and takes the promotion as done although its time is over.
    written("gap");
    written("step-verified promote");
    // Users are not sent to a front that it has not seen up since.
    written("step-trouble traffic");
    assert_eq!(stage.effect(RECORDS), 0);
    stage.act(&Action::Site { site: SiteName::Standby, mode: SiteMode::Ok });
    stage.ends_well(daemon);
}

#[test]
fn stopped_for_longer_than_the_whole_move_may_take_it_asks_a_person_and_goes_on_at_a_word() {
    let stage = Stage::of(Traffic::Route53, 1_500);
    stage.edit(&[
        ("deadline = \"40s\"", "deadline = \"1s\""),
        ("kind = \"rds-promote-replica\"", "kind = \"rds-promote-replica\"\ndeadline = \"4s\""),
        ("kind = \"autoscaling-capacity\"", "kind = \"autoscaling-capacity\"\ndeadline = \"4s\""),
        ("kind = \"route53-records\"", "kind = \"route53-records\"\ndeadline = \"3s\""),
        ("call_timeout = \"5s\"", "call_timeout = \"1s\""),
        ("move_timeout = \"30m\"", "move_timeout = \"9s\""),
    ]);
    let daemon = Daemon::steady(&stage.config);
    stage.break_primary();
    until("the promotion is accepted", || (stage.effect(PROMOTE) == 1).then_some(()));
    stop_still(&daemon);
    // The passing of time is what is tested.
    std::thread::sleep(Duration::from_secs(10));
    daemon.process.signal(Signal::CONT);
    let waits_for = daemon.waits_for();
    assert!(waits_for.contains("watchover retry"), "{waits_for}");
    assert_eq!(stage.effect(RECORDS), 0, "users are where they were");
    let said = command(&stage.config, &["retry", "--reason", "it stood still, and its database is up"]);
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    stage.ends_well(daemon);
}

#[test]
fn told_to_stop_within_a_promotion_it_leaves_it_open_and_goes_on_later() {
    // The answer is on its way, or the request was never done: it waits for neither.
    for (fault, effect) in [(Fault::Latency { millis: 600_000 }, 1), (Fault::Hang, 0)] {
        let stage = Stage::new();
        let mut daemon = Daemon::steady(&stage.config);
        stage.fault(PROMOTE, fault, None);
        stage.break_primary();
        stage.is_on_its_way(PROMOTE, effect);
        daemon.process.signal(Signal::TERM);
        let (status, took) = daemon.process.end();
        assert_eq!(status.code(), Some(0), "{}", daemon.said());
        stage.leaves_done();
        assert!(took < Duration::from_secs(5), "it took {took:?}");
        let rows = stage.rows();
        assert_eq!(rows.last().unwrap().name, "stopped", "{rows:?}");
        let promote: Vec<&str> = rows.iter().map(|row| row.name.as_str()).filter(|name| name.ends_with(" promote")).collect();
        assert_eq!(promote.last(), Some(&"step-intent promote"), "what runs in AWS stays open in the journal");
        assert!(!rows.iter().any(|row| row.name == "closed"));
        stage.act(&Action::ClearFaults);
        stage.ends_well(Daemon::start(&stage.config));
    }
}
