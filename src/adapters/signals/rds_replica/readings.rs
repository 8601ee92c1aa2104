use super::*;
use crate::adapters::aws::rds::Link;

const NOW: i64 = 10_000 * 1_000_000;
const STALE: Duration = Duration::from_secs(300);

fn replica(status: &str, link: &str) -> Instance {
    let link = Link { normal: matches!(link, "replicating"), status: link.to_owned(), message: String::new() };
    Instance {
        status: status.to_owned(),
        source: Some("arn:aws:rds:ap-south-1:123456789012:db:shop-primary".to_owned()),
        cluster: None,
        link: Some(link),
        multi_az: false,
        backup_retention: 0,
        engine: "postgres".to_owned(),
    }
}

/// Lags of the latest minutes, the last of them `age` seconds old.
fn lags(age: i64, seconds: &[f64]) -> LagHistory {
    let sample = |(back, seconds): (usize, &f64)| LagSample {
        at: NOW - (age + back as i64 * 60) * 1_000_000,
        period: 60_000_000,
        seconds: *seconds,
    };
    LagHistory { samples: seconds.iter().rev().enumerate().map(sample).rev().collect(), newest_unknown: false }
}

fn read(instance: Instance, lag: LagHistory) -> (Verdict, ReplicaState, usize) {
    let found = judge_reading("shop-replica", Ok(Some(instance)), Ok(lag), NOW, STALE);
    let reading = found.replica.unwrap();
    (found.verdict, reading.state, reading.samples.len())
}

#[test]
fn every_status_of_the_link_is_a_value_of_its_own() {
    let well = || lags(130, &[0.5, 0.4]);
    for (word, verdict, state) in [
        ("replicating", Verdict::Up, ReplicaState::Replicating),
        ("replication degraded", Verdict::Up, ReplicaState::Degraded),
        ("error", Verdict::Down(Cause::ReplicaError), ReplicaState::Error),
        ("stopped", Verdict::Down(Cause::ReplicaStopped), ReplicaState::Stopped),
        ("terminated", Verdict::Down(Cause::ReplicaTerminated), ReplicaState::Terminated),
        ("replication stop point set", Verdict::Down(Cause::ReplicaStopped), ReplicaState::StopPointSet),
        ("replication stop point reached", Verdict::Down(Cause::ReplicaStopped), ReplicaState::StopPointReached),
        ("levitating", Verdict::Unknown(Cause::Unclassified), ReplicaState::Unknown),
    ] {
        assert_eq!(read(replica("available", word), well()), (verdict, state, 2), "{word}");
    }
    let alone = Instance { source: None, link: None, ..replica("available", "") };
    assert_eq!(read(alone, well()), (Verdict::Down(Cause::NotAReplica), ReplicaState::NotAReplica, 2));
    let gone = judge_reading("shop-replica", Ok(None), Ok(well()), NOW, STALE);
    assert_eq!((gone.verdict, gone.replica), (Verdict::Down(Cause::NotFound), None));
}

#[test]
fn minus_one_missing_stale_and_idle_are_values_and_only_idle_is_a_number() {
    let flows = || replica("available", "replicating");
    let unknown = |cause| Verdict::Unknown(cause);
    let minus = LagHistory { newest_unknown: true, ..lags(190, &[0.5]) };
    assert_eq!(read(flows(), minus.clone()), (unknown(Cause::LagUnknown), ReplicaState::LagUnknown, 1));
    assert_eq!(read(flows(), LagHistory::default()), (unknown(Cause::NoData), ReplicaState::NoData, 0));
    assert_eq!(read(flows(), lags(301, &[0.5])), (unknown(Cause::Stale), ReplicaState::Stale, 1));
    assert_eq!(read(flows(), lags(130, &[100.0, 160.0])), (Verdict::Up, ReplicaState::Idle, 2));
    assert_eq!(read(flows(), lags(130, &[10.0, 0.2])).1, ReplicaState::Replicating, "the sawtooth's fall");
    assert_eq!(read(flows(), lags(130, &[340.0, 400.0])).1, ReplicaState::Replicating, "no idle primary climbs that high");
    let mysql = Instance { engine: "mysql".to_owned(), ..flows() };
    assert_eq!(read(mysql, lags(130, &[100.0, 160.0])).1, ReplicaState::Replicating, "an idle MySQL shows 0: this one lags");
    // A link that says error is an error, whatever its lag says.
    assert_eq!(read(replica("available", "error"), minus).1, ReplicaState::Error);
}

#[test]
fn a_status_in_which_nothing_can_be_promoted_is_down_whatever_the_lag() {
    for (word, verdict) in [
        ("modifying", Verdict::Up),
        ("configuring-enhanced-monitoring", Verdict::Up),
        ("rebooting", Verdict::Down(Cause::InstanceStatus)),
        ("incompatible-parameters", Verdict::Down(Cause::InstanceStatus)),
        ("dreaming", Verdict::Unknown(Cause::Unclassified)),
    ] {
        assert_eq!(read(replica(word, "replicating"), lags(130, &[0.1])).0, verdict, "{word}");
    }
    let stopped = read(replica("stopped", "replicating"), LagHistory::default());
    assert_eq!(stopped.0, Verdict::Down(Cause::InstanceStatus), "a proven fault is not hidden by a lag that did not come");
}
