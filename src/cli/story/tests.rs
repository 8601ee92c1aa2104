use std::time::Duration;

use serde_json::json;

use super::*;
use crate::domain::ledger::Wish;
use crate::domain::model::LagSample;
use crate::domain::plan::{OnFailure, PlannedStep, Repeat};
use crate::domain::rpo::Assumption;

/// 2026-11-21T03:45:00Z.
const NOON: i64 = 1_795_232_700_000_000;

/// A journal that grows, millisecond by millisecond.
struct Book {
    records: Vec<Record>,
    incident: Option<String>,
    boot: &'static str,
    epoch: u64,
}

fn book() -> Book {
    let mut book = Book { records: Vec::new(), incident: None, boot: "boot-1", epoch: 1 };
    book.daemon(-60_000, Entry::Started { version: "0.1.0".into(), observer: "bastion".into(), config: "config.toml".into() });
    book.write(-59_000, Entry::Active { site: SiteName::Primary, by: actor("uid 1000 (alice)", "first start") });
    book
}

impl Book {
    fn put(&mut self, millis: i64, app: Option<&str>, entry: Entry) {
        let seq = self.records.len() as i64 + 1;
        self.records.push(Record {
            seq,
            at: at(millis),
            boot_id: self.boot.into(),
            app: app.map(str::to_owned),
            incident: app.and(self.incident.clone()),
            epoch: self.epoch,
            entry,
        });
    }

    fn daemon(&mut self, millis: i64, entry: Entry) {
        self.put(millis, None, entry);
    }

    fn write(&mut self, millis: i64, entry: Entry) {
        self.put(millis, Some("shop"), entry);
    }

    fn open(&mut self, id: &str, millis: i64, trigger: Trigger) {
        self.incident = Some(id.into());
        let first_failed = (trigger == Trigger::Outage).then(|| at(millis - 10));
        let words = "primary alb is down (refused): 127.0.1.1:443".to_owned();
        self.write(millis, Entry::Opened { trigger, direction: Direction::ToStandby, first_failed, words });
    }

    fn close(&mut self, millis: i64, outcome: Outcome, active: Option<SiteName>, figures: Figures, by: Option<Actor>) {
        self.write(millis, Entry::Closed { outcome, active, figures: Box::new(figures), by });
        self.incident = None;
    }
}

fn at(millis: i64) -> Moment {
    Moment { mono: 500_000_000 + millis * 1000, wall: NOON + millis * 1000 }
}

fn actor(who: &str, reason: &str) -> Actor {
    Actor { who: who.into(), reason: reason.into() }
}

fn gated(ruling: Ruling, loss: Option<f64>, state: GateState, words: &str) -> Entry {
    let gates = vec![
        Gate { name: "active-known".into(), state: GateState::Open, words: "primary".into() },
        Gate { name: "data-loss".into(), state, words: words.into() },
        Gate { name: "not-isolated".into(), state: GateState::Open, words: "2 of 2 witnesses up, 1 needed".into() },
    ];
    Entry::Gated { ruling, gates, exposure: exposure(loss) }
}

fn exposure(seconds: Option<f64>) -> Exposure {
    let sample = seconds.map(|_| LagSample { at: NOON - 90_000_000, period: 60_000_000, seconds: 0.5 });
    Exposure { seconds, sample, end_of_writes: NOON + 12_000, assumption: Assumption::NoWritesPastFrontDoor }
}

fn plan() -> Plan {
    let step = |name: &str, kind: &str, class, reversibility, after: &[&str]| PlannedStep {
        name: name.into(),
        kind: kind.into(),
        class,
        reversibility,
        repeat: Repeat::Inspectable,
        after: after.iter().map(|s| (*s).into()).collect(),
        deadline: Duration::from_secs(600),
        attempts: 3,
        on_failure: OnFailure::Halt,
        only: None,
        account: None,
        region: "us-east-1".into(),
        keys: json!({}),
    };
    Plan {
        direction: Direction::ToStandby,
        steps: vec![
            step("promote", "rds-promote-replica", Class::Data, Reversibility::ForwardOnly, &[]),
            step("capacity", "autoscaling-capacity", Class::Capacity, Reversibility::Reversible, &[]),
            step("traffic", "route53-records", Class::Traffic, Reversibility::Reversible, &["promote", "capacity"]),
        ],
    }
}

fn through(book: &mut Book, step: &str, from: i64, to: i64, attempt: u32) {
    let step = || step.to_owned();
    book.write(from, Entry::StepStarted { step: step() });
    book.write(from + 20, Entry::StepIntent { step: step(), attempt, found: json!({"status": "available"}) });
    book.write(from + 90, Entry::StepAsked { step: step(), facts: Value::Null });
    book.write(to, Entry::StepVerified { step: step(), already: false, facts: json!({"status": "available"}) });
}

/// Outage, confirmed, all gates open, planned, done, proven.
fn moved() -> Book {
    let mut book = book();
    book.open("shop-20261121T034500Z-3", 10, Trigger::Outage);
    book.write(1_010, Entry::FrontDoorLost { at: at(12) });
    book.write(3_020, Entry::Confirmed { first_failed: at(0), words: "alb down for 3.0s, 1 of 1 known signals".into() });
    book.write(3_030, gated(Ruling::Go, Some(90.512), GateState::Open, "at most 90.5s, objective 300s"));
    book.write(3_031, Entry::Planned { plan: plan() });
    book.write(3_040, Entry::StepStarted { step: "promote".into() });
    book.write(
        3_050,
        Entry::StepPermitted {
            step: "promote".into(),
            gates: vec![Gate { name: "target-healthy".into(), state: GateState::Open, words: "replica up".into() }],
        },
    );
    book.write(3_051, Entry::StepIntent { step: "promote".into(), attempt: 1, found: json!({"status": "available"}) });
    book.write(
        3_055,
        Entry::StepTrouble {
            step: "promote".into(),
            code: "Throttling".into(),
            words: "rds:PromoteReadReplica on shop|replica: slow down".into(),
        },
    );
    book.write(3_058, Entry::StepIntent { step: "promote".into(), attempt: 2, found: json!({"status": "available"}) });
    through(&mut book, "capacity", 3_060, 40_060, 1);
    book.write(95_000, Entry::StepVerified { step: "promote".into(), already: false, facts: Value::Null });
    through(&mut book, "traffic", 95_010, 130_000, 1);
    book.write(130_001, Entry::Executed);
    book.write(130_002, Entry::AuthorityMoved { at: at(120_000) });
    book.write(131_500, Entry::Proven { first: at(130_500) });
    let phases = [("detect", 3.02), ("hold", 0.011), ("approve", 0.0), ("execute", 126.97), ("prove", 0.499)];
    let figures = Figures {
        rto_seconds: Some(130.5),
        phases: phases.map(|(name, s)| (name.to_owned(), s)).into(),
        rpo: Some(exposure(Some(90.512))),
        authority_seconds: Some(120.0),
        uncertainty_seconds: 0.0,
    };
    book.close(131_501, Outcome::Moved, Some(SiteName::Standby), figures, None);
    book
}

/// Held by the data-loss gate, then the site came back.
fn called_off(book: &mut Book) {
    book.write(4_000_000, Entry::Active { site: SiteName::Primary, by: actor("uid 1000 (alice)", "rebuilt by hand") });
    book.open("shop-20261121T050000Z-5", 4_500_000, Trigger::Outage);
    book.write(4_503_000, Entry::Confirmed { first_failed: at(4_499_990), words: "alb down for 3.0s".into() });
    book.write(4_503_010, gated(Ruling::Hold, Some(400.0), GateState::Shut, "at most 400.0s, objective 300s"));
    book.write(4_504_010, gated(Ruling::Hold, Some(401.0), GateState::Shut, "at most 401.0s, objective 300s"));
    book.write(4_506_010, gated(Ruling::Hold, Some(403.0), GateState::Shut, "at most 403.0s, objective 300s"));
    book.close(4_520_000, Outcome::CalledOff, None, Figures::default(), None);
}

/// A person forces it, a step fails, the daemon is restarted on another boot, a person aborts and adopts.
fn adopted(book: &mut Book) {
    book.open("shop-20261121T060000Z-7", 8_000_000, Trigger::Operator);
    let wish =
        Wish { by: actor("uid 1000 (alice)", "drill <1>"), accept_loss: Some(f64::INFINITY), shown: None, force: true, graceful: false };
    book.write(8_000_000, Entry::Commanded { wish, first_failed: None });
    book.write(8_000_002, gated(Ruling::Go, None, GateState::Open, "unknown, accepted by uid 1000 (alice)"));
    book.write(8_000_003, Entry::Planned { plan: plan() });
    book.write(8_000_010, Entry::StepStarted { step: "promote".into() });
    book.write(8_000_020, Entry::StepIntent { step: "promote".into(), attempt: 1, found: Value::Null });
    (book.boot, book.epoch) = ("boot-2", 2);
    book.daemon(8_060_000, Entry::Started { version: "0.1.0".into(), observer: "bastion".into(), config: "config.toml".into() });
    book.write(
        8_060_100,
        Entry::StepFailed {
            step: "promote".into(),
            code: "InvalidDBInstanceState".into(),
            words: "shop-replica is incompatible-restore".into(),
            needs_person: true,
        },
    );
    book.write(8_060_101, Entry::Stuck { words: "promote needs a person".into(), waits_for: "`watchover retry` or `abort`".into() });
    book.write(8_100_000, Entry::AbortedBy { by: actor("uid 1000 (alice)", "restore by hand") });
    book.close(
        8_200_000,
        Outcome::Aborted,
        Some(SiteName::Primary),
        Figures::default(),
        Some(actor("uid 1001 (bob)", "primary serves again")),
    );
}

fn all() -> Vec<Record> {
    let mut book = moved();
    called_off(&mut book);
    adopted(&mut book);
    book.records
}

fn told(place: usize) -> Story {
    let story = stories(&all()).remove(place);
    assert_eq!(story.faults, Vec::<String>::new(), "the samples are legal journals");
    story
}

#[test]
fn the_report_of_a_move() {
    insta::assert_snapshot!(told(0).markdown(), @r"
    # Incident shop-20261121T034500Z-3: moved

    |  |  |
    |---|---|
    | App | shop |
    | Outcome | moved |
    | Trigger | outage |
    | Direction | to-standby |
    | Active site | primary before, standby after |
    | Opened | 2026-11-21T03:45:00.010Z |
    | Closed | 2026-11-21T03:47:11.501Z, after 2m 11.5s |
    | Seen | primary alb is down (refused): 127.0.1.1:443 |
    | RTO | 2m 10.5s |
    | RPO | at most 1m 30.5s |

    ## Timeline

    | time (UTC) | boot clock | wall clock | what |
    |---|---|---|---|
    | 03:45:00.000 | +0.000s | +0.000s | First failed look of the run |
    | 03:45:00.010 | +0.010s | +0.010s | Opened (outage, to-standby): primary alb is down (refused): 127.0.1.1:443 |
    | 03:45:01.010 | +1.010s | +1.010s | The front door no longer answers from the old site, since 2026-11-21T03:45:00.012Z |
    | 03:45:03.020 | +3.020s | +3.020s | Outage confirmed: alb down for 3.0s, 1 of 1 known signals |
    | 03:45:03.030 | +3.030s | +3.030s | Gates say go: all open |
    | 03:45:03.031 | +3.031s | +3.031s | The move starts, to-standby: promote, capacity, traffic |
    | 03:45:03.040 | +3.040s | +3.040s | promote: its turn |
    | 03:45:03.050 | +3.050s | +3.050s | promote: permitted after a second look at 1 gate |
    | 03:45:03.051 | +3.051s | +3.051s | promote: about to ask (attempt 1) |
    | 03:45:03.055 | +3.055s | +3.055s | promote: trouble (Throttling): rds:PromoteReadReplica on shop\|replica: slow down |
    | 03:45:03.058 | +3.058s | +3.058s | promote: about to ask (attempt 2) |
    | 03:45:03.060 | +3.060s | +3.060s | capacity: its turn |
    | 03:45:03.080 | +3.080s | +3.080s | capacity: about to ask (attempt 1) |
    | 03:45:03.150 | +3.150s | +3.150s | capacity: asked for |
    | 03:45:40.060 | +40.060s | +40.060s | capacity: verified |
    | 03:46:35.000 | +1m 35.0s | +1m 35.0s | promote: verified |
    | 03:46:35.010 | +1m 35.0s | +1m 35.0s | traffic: its turn |
    | 03:46:35.030 | +1m 35.0s | +1m 35.0s | traffic: about to ask (attempt 1) |
    | 03:46:35.100 | +1m 35.1s | +1m 35.1s | traffic: asked for |
    | 03:47:10.000 | +2m 10.0s | +2m 10.0s | traffic: verified |
    | 03:47:10.001 | +2m 10.0s | +2m 10.0s | Every step has come to its end; the proof begins |
    | 03:47:10.002 | +2m 10.0s | +2m 10.0s | The zone's own servers answer with the target, since 2026-11-21T03:47:00.000Z |
    | 03:47:11.500 | +2m 11.5s | +2m 11.5s | Proven: the front door answers from the target, since 2026-11-21T03:47:10.500Z |
    | 03:47:11.501 | +2m 11.5s | +2m 11.5s | Closed as moved, standby is active |

    ## Gates

    ### Ruling: go (2026-11-21T03:45:03.030Z)

    | gate | state | figures |
    |---|---|---|
    | active-known | open | primary |
    | data-loss | open | at most 90.5s, objective 300s |
    | not-isolated | open | 2 of 2 witnesses up, 1 needed |

    A move now loses: at most 90.5s (no-writes-past-the-front-door): replicated until 2026-11-21T03:43:29.500Z (lag 0.5s at 2026-11-21T03:43:30.000Z), writes until 2026-11-21T03:45:00.012Z.

    ### Second look before promote (2026-11-21T03:45:03.050Z)

    | gate | state | figures |
    |---|---|---|
    | target-healthy | open | replica up |

    ## Steps

    | step | kind | class | reversibility | state | started | took | attempts | remarks |
    |---|---|---|---|---|---|---|---|---|
    | promote | rds-promote-replica | data | forward-only | verified | +3.040s | 1m 32.0s | 2 | Throttling: rds:PromoteReadReplica on shop\|replica: slow down |
    | capacity | autoscaling-capacity | capacity | reversible | verified | +3.060s | 37.000s | 1 |  |
    | traffic | route53-records | traffic | reversible | verified | +1m 35.0s | 34.990s | 1 |  |

    ## RTO

    | phase | time | share |
    |---|---|---|
    | detect | 3.020s | 2 % |
    | hold | 0.011s | 0 % |
    | approve | 0.000s | 0 % |
    | execute | 2m 07.0s | 97 % |
    | prove | 0.499s | 0 % |
    | total | 2m 10.5s | 100 % |

    The zone's own servers answered with the target after 2m 00.0s.

    ## RPO

    Lost: at most 90.5s (no-writes-past-the-front-door): replicated until 2026-11-21T03:43:29.500Z (lag 0.5s at 2026-11-21T03:43:30.000Z), writes until 2026-11-21T03:45:00.012Z.

    It rests on this: nobody wrote past the front door, which had stopped answering from the old site; the old writers were not proven gone.
    ");
}

#[test]
fn the_report_of_one_that_was_held_and_called_off() {
    insta::assert_snapshot!(told(1).markdown(), @"
    # Incident shop-20261121T050000Z-5: called-off

    |  |  |
    |---|---|
    | App | shop |
    | Outcome | called-off |
    | Trigger | outage |
    | Direction | to-standby |
    | Active site | primary before, primary after |
    | Opened | 2026-11-21T05:00:00.000Z |
    | Closed | 2026-11-21T05:00:20.000Z, after 20.000s |
    | Seen | primary alb is down (refused): 127.0.1.1:443 |
    | RTO | – |
    | RPO | – |

    ## Timeline

    | time (UTC) | boot clock | wall clock | what |
    |---|---|---|---|
    | 04:59:59.990 | +0.000s | +0.000s | First failed look of the run |
    | 05:00:00.000 | +0.010s | +0.010s | Opened (outage, to-standby): primary alb is down (refused): 127.0.1.1:443 |
    | 05:00:03.000 | +3.010s | +3.010s | Outage confirmed: alb down for 3.0s |
    | 05:00:03.010 | +3.020s | +3.020s | Gates say hold: data-loss shut: at most 400.0s, objective 300s |
    | 05:00:04.010 | +4.020s | +4.020s | Gates say hold: data-loss shut: at most 401.0s, objective 300s |
    | 05:00:06.010 | +6.020s | +6.020s | Gates say hold: data-loss shut: at most 403.0s, objective 300s |
    | 05:00:20.000 | +20.010s | +20.010s | Closed as called-off |

    ## Gates

    ### Ruling: hold (2026-11-21T05:00:03.010Z to 2026-11-21T05:00:06.010Z, 3 times alike; the last)

    | gate | state | figures |
    |---|---|---|
    | active-known | open | primary |
    | data-loss | shut | at most 403.0s, objective 300s |
    | not-isolated | open | 2 of 2 witnesses up, 1 needed |

    A move then would have lost: at most 403.0s (no-writes-past-the-front-door): replicated until 2026-11-21T03:43:29.500Z (lag 0.5s at 2026-11-21T03:43:30.000Z), writes until 2026-11-21T03:45:00.012Z.

    ## What watchover waited for

    | since (UTC) | for | state | waiting for |
    |---|---|---|---|
    | 05:00:03.010 | 16.990s | held | data-loss (shut): at most 400.0s, objective 300s |
    ");
}

#[test]
fn the_report_of_one_that_got_stuck_and_was_adopted() {
    insta::assert_snapshot!(told(2).markdown(), @"
    # Incident shop-20261121T060000Z-7: aborted

    |  |  |
    |---|---|
    | App | shop |
    | Outcome | aborted |
    | Trigger | operator |
    | Direction | to-standby |
    | Active site | primary before, primary after |
    | Opened | 2026-11-21T05:58:20.000Z |
    | Closed | 2026-11-21T06:01:40.000Z, after 3m 20.0s |
    | Seen | primary alb is down (refused): 127.0.1.1:443 |
    | RTO | – |
    | RPO | – |
    | Restarts within | 1 (epochs 1, 2) |
    | Clocks | the machine was restarted within; times across it rest on the wall clock |

    ## Timeline

    | time (UTC) | boot clock | wall clock | what |
    |---|---|---|---|
    | 05:58:20.000 | +0.000s | +0.000s | Opened (operator, to-standby): primary alb is down (refused): 127.0.1.1:443 |
    | 05:58:20.000 | +0.000s | +0.000s | Asked for by uid 1000 (alice) (by force, accepting a loss of whatever it is, shown unknown): drill &lt;1> |
    | 05:58:20.002 | +0.002s | +0.002s | Gates say go: all open |
    | 05:58:20.003 | +0.003s | +0.003s | The move starts, to-standby: promote, capacity, traffic |
    | 05:58:20.010 | +0.010s | +0.010s | promote: its turn |
    | 05:58:20.020 | +0.020s | +0.020s | promote: about to ask (attempt 1) |
    | 05:59:20.000 | – | +1m 00.0s | watchover 0.1.0 took over on bastion |
    | 05:59:20.100 | – | +1m 00.1s | promote: needs a person (InvalidDBInstanceState): shop-replica is incompatible-restore |
    | 05:59:20.101 | – | +1m 00.1s | Stuck: promote needs a person; waits for `watchover retry` or `abort` |
    | 06:00:00.000 | – | +1m 40.0s | Aborted by uid 1000 (alice): restore by hand |
    | 06:01:40.000 | – | +3m 20.0s | Closed as aborted, primary is active, by uid 1001 (bob): primary serves again |

    ## Gates

    ### Ruling: go (2026-11-21T05:58:20.002Z)

    | gate | state | figures |
    |---|---|---|
    | active-known | open | primary |
    | data-loss | open | unknown, accepted by uid 1000 (alice) |
    | not-isolated | open | 2 of 2 witnesses up, 1 needed |

    A move now loses: unknown: no lag sample from before the outage that means something.

    ## Steps

    | step | kind | class | reversibility | state | started | took | attempts | remarks |
    |---|---|---|---|---|---|---|---|---|
    | promote | rds-promote-replica | data | forward-only | failed | +0.010s | 1m 00.1s | 1 | InvalidDBInstanceState: shop-replica is incompatible-restore |
    | capacity | autoscaling-capacity | capacity | reversible | waiting | – | – | 0 |  |
    | traffic | route53-records | traffic | reversible | waiting | – | – | 0 |  |

    ## What watchover waited for

    | since (UTC) | for | state | waiting for |
    |---|---|---|---|
    | 05:59:20.101 | 39.899s | stuck | `watchover retry` or `abort`: promote needs a person |
    | 06:00:00.000 | 1m 40.0s | stuck | `watchover adopt`: uid 1000 (alice) aborted it (restore by hand) |

    ## People

    | time (UTC) | who | what | why |
    |---|---|---|---|
    | 05:58:20.000 | uid 1000 (alice) | asked for this move (by force, accepting a loss of whatever it is, shown unknown) | drill &lt;1> |
    | 06:00:00.000 | uid 1000 (alice) | aborted the move | restore by hand |
    | 06:01:40.000 | uid 1001 (bob) | closed it as aborted, with primary active | primary serves again |
    ");
}

#[test]
fn history_lists_all_of_them_newest_last() {
    insta::assert_snapshot!(history_text(&stories(&all()), false), @"
    INCIDENT                 APP   OPENED                    TRIGGER   DIRECTION   OUTCOME     RTO       RPO
    shop-20261121T034500Z-3  shop  2026-11-21T03:45:00.010Z  outage    to-standby  moved       2m 10.5s  1m 30.5s
    shop-20261121T050000Z-5  shop  2026-11-21T05:00:00.000Z  outage    to-standby  called-off  –         –
    shop-20261121T060000Z-7  shop  2026-11-21T05:58:20.000Z  operator  to-standby  aborted     –         –
    ");
    let json: Value = serde_json::from_str(&history_json(&stories(&all()), Some("shop-9")).unwrap()).unwrap();
    assert_eq!(json["schema_version"], 1);
    assert_eq!(json["older_than"], "shop-9");
    assert_eq!(json["incidents"][0]["rto_seconds"], 130.5);
    assert_eq!(json["incidents"][0]["rpo"]["assumption"], "no-writes-past-the-front-door");
    assert_eq!(json["incidents"][2]["outcome"], "aborted");
    assert_eq!(history_text(&[], true), "No incidents in the journal.\n");
}

#[test]
fn explain_shows_every_ruling_with_its_figures() {
    let text = explain_text(&told(1), false);
    insta::assert_snapshot!(text, @"
    Incident shop-20261121T050000Z-5: called-off

    primary alb is down (refused): 127.0.1.1:443

    Ruling: hold (2026-11-21T05:00:03.010Z)

    gate          state  figures
    active-known  open   primary
    data-loss     shut   at most 400.0s, objective 300s
    not-isolated  open   2 of 2 witnesses up, 1 needed

    A move then would have lost: at most 400.0s (no-writes-past-the-front-door): replicated until 2026-11-21T03:43:29.500Z (lag 0.5s at 2026-11-21T03:43:30.000Z), writes until 2026-11-21T03:45:00.012Z.

    Ruling: hold (2026-11-21T05:00:04.010Z)

    gate          state  figures
    active-known  open   primary
    data-loss     shut   at most 401.0s, objective 300s
    not-isolated  open   2 of 2 witnesses up, 1 needed

    A move then would have lost: at most 401.0s (no-writes-past-the-front-door): replicated until 2026-11-21T03:43:29.500Z (lag 0.5s at 2026-11-21T03:43:30.000Z), writes until 2026-11-21T03:45:00.012Z.

    Ruling: hold (2026-11-21T05:00:06.010Z)

    gate          state  figures
    active-known  open   primary
    data-loss     shut   at most 403.0s, objective 300s
    not-isolated  open   2 of 2 witnesses up, 1 needed

    A move then would have lost: at most 403.0s (no-writes-past-the-front-door): replicated until 2026-11-21T03:43:29.500Z (lag 0.5s at 2026-11-21T03:43:30.000Z), writes until 2026-11-21T03:45:00.012Z.
    ");
    assert!(explain_text(&told(1), true).contains("\u{1b}[31mshut"));
    let json: Value = serde_json::from_str(&explain_json(&told(1)).unwrap()).unwrap();
    assert_eq!(json["decided"][2]["gates"][1]["words"], "at most 403.0s, objective 300s");
}

#[test]
fn json_carries_clocks_people_and_steps() {
    let json: Value = serde_json::from_str(&told(2).json().unwrap()).unwrap();
    assert_eq!(json["schema_version"], 1);
    assert_eq!(json["crossed_boot"], true);
    assert_eq!(json["epochs"], json!([1, 2]));
    assert_eq!(json["steps"][0]["state"], "failed");
    assert_eq!(json["steps"][0]["seconds"], 60.09);
    assert_eq!(json["closed"]["boot_clock_seconds"], Value::Null);
    assert_eq!(json["closed"]["wall_clock_seconds"], 200.0);
    assert_eq!(json["people"][0]["who"], "uid 1000 (alice)");
}

#[test]
fn html_quotes_what_people_typed() {
    let page = told(2).html();
    assert!(page.contains("drill &lt;1&gt;") && !page.contains("<1>"), "{page}");
    assert!(page.contains("<title>Incident shop-20261121T060000Z-7: aborted</title>"));
}

#[test]
fn an_open_incident_is_told_up_to_now() {
    let mut records = moved().records;
    records.truncate(12);
    let story = story(&records, "shop-20261121T034500Z-3").unwrap();
    assert_eq!((story.outcome, story.state), (None, State::Moving));
    assert!(story.markdown().contains("| Outcome | open: moving |"), "{}", story.markdown());
}

#[test]
fn a_journal_that_could_not_have_been_is_told_with_its_faults() {
    let mut book = book();
    book.open("shop-1", 0, Trigger::Outage);
    book.write(10, Entry::Executed);
    let story = story(&book.records, "shop-1").unwrap();
    assert_eq!(story.faults, ["entry 4: executed cannot follow the state suspect"]);
    assert!(story.markdown().contains("a daemon refuses it"));
}

#[test]
fn an_unknown_incident_has_no_story() {
    assert!(story(&all(), "shop-20261121T034500Z-4").is_none());
}

#[test]
fn a_loss_without_bound_is_told_in_that_word() {
    let mut records = moved().records;
    for record in &mut records {
        if let Entry::Closed { figures, .. } = &mut record.entry {
            figures.rpo.as_mut().unwrap().seconds = Some(f64::INFINITY);
        }
    }
    let told = stories(&records);
    assert!(history_text(&told, false).contains("unbounded"), "{}", history_text(&told, false));
    let json: Value = serde_json::from_str(&history_json(&told, None).unwrap()).unwrap();
    assert_eq!((&json["incidents"][0]["rpo"]["seconds"], &json["older_than"]), (&json!("unbounded"), &Value::Null));
    let page = told[0].markdown();
    assert!(page.contains("| RPO | unbounded |") && !page.contains("inf"), "{page}");
    let whole: Value = serde_json::from_str(&told[0].json().unwrap()).unwrap();
    assert_eq!(whole["figures"]["rpo"]["seconds"], "unbounded");
}

#[test]
fn the_html_report_stands_alone() {
    let mut records = moved().records;
    for record in &mut records {
        if let Entry::Opened { words, .. } = &mut record.entry {
            *words = "<img src=http://evil.example/x onerror=alert(1)>".into();
        }
    }
    let page = stories(&records)[0].html();
    assert!(page.contains("Timeline") && page.contains("default-src &#39;none&#39;") || page.contains("default-src 'none'"), "{page}");
    for loads in ["<img", "<script", "<link", "<iframe", "src=\"", "href=", "url(", "@import"] {
        assert!(!page.contains(loads), "{loads}");
    }
    assert!(page.contains("&lt;img src=http://evil.example/x"));
}

#[test]
fn what_a_step_waits_for_is_progress_and_no_trouble() {
    let mut book = book();
    book.open("shop-1", 0, Trigger::Outage);
    book.write(10, Entry::Planned { plan: plan() });
    book.write(20, Entry::StepStarted { step: "promote".into() });
    book.write(30, Entry::StepProgress { step: "promote".into(), words: "draining: lag 3.0s".into() });
    let told = story(&book.records, "shop-1").unwrap();
    assert!(told.faults.is_empty() && told.steps[0].trouble.is_empty(), "{told:?}");
    assert_eq!(told.timeline.last().unwrap().words, "promote: waits: draining: lag 3.0s");
}

/// Every part of a journal up to any entry can be told: the daemon may have died there.
#[test]
fn every_prefix_can_be_told() {
    let records = all();
    for length in 0..=records.len() {
        for story in stories(&records[..length]) {
            assert_eq!(story.faults, Vec::<String>::new(), "{length}");
            assert!(story.markdown().starts_with("# Incident "));
            assert!(story.json().is_ok());
            explain_text(&story, true);
        }
    }
}

#[test]
fn spans_read_well() {
    let said: Vec<String> =
        [0.0, 0.0421, 59.9994, 59.9999, 119.97, 3599.9, 3599.96, 4000.0, 100_000.4, f64::INFINITY, f64::NAN, -1.5].map(lines::span).into();
    let expected = [
        "0.000s",
        "0.042s",
        "59.999s",
        "1m 00.0s",
        "2m 00.0s",
        "59m 59.9s",
        "1h 00m 00s",
        "1h 06m 40s",
        "27h 46m 40s",
        "unbounded",
        "unknown",
        "-1.500s",
    ];
    assert_eq!(said, expected);
}

#[test]
fn that_others_moved_traffic_is_told() {
    let mut book = book();
    book.open("shop-20261121T034500Z-9", 10, Trigger::Outage);
    book.write(3_000, Entry::MovedByOthers { at: at(2_990) });
    book.close(9_000, Outcome::NoAction, None, Figures::default(), None);
    let told = story(&book.records, "shop-20261121T034500Z-9").unwrap();
    assert!(told.faults.is_empty(), "{:?}", told.faults);
    let words = "others moved it before watchover did: the zone's own servers answered with the target since 2026-11-21T";
    assert!(told.markdown().contains(words), "{}", told.markdown());
    assert!(explain_text(&told, false).contains(words), "{}", explain_text(&told, false));
    let explained: Value = serde_json::from_str(&explain_json(&told).unwrap()).unwrap();
    assert_eq!(explained["moved_by_others"]["wall_clock_seconds"], 2.99);
    assert!(told.timeline.iter().any(|line| line.kind == "moved-by-others" && line.words.starts_with("Others moved traffic")));
}
