//! Every situation that an app can come to, times everything that can happen to it: breadth first over the real decision,
//! from an empty ledger. What is found wrong is printed with the shortest way that leads to it.
//!
//! `cargo test --test walk -- --nocapture` prints the figures; `FINE=1` tells more situations apart, and takes far longer.
#![expect(clippy::expect_used, reason = "what fails here must fail the test")]

mod events;
mod exits;
mod key;
mod pairs;
mod rules;
mod spot;
mod stage;

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::time::Instant;

use events::Event;
use key::Grain;
use spot::{Spot, Tally};
use stage::Stage;
use watchover::domain::model::{Mode, State};

/// More situations than this are a walk that does not end.
const MOST: usize = 100_000;

/// What one walk came to.
struct Walk {
    tally: Tally,
    situations: BTreeMap<State, usize>,
    transitions: usize,
    stale: usize,
    slowest_exit: u64,
}

/// The shortest way to a situation, in events.
fn way(nodes: &[(usize, Option<Event>)], mut at: usize) -> String {
    let mut events = Vec::new();
    while let (parent, Some(event)) = &nodes[at] {
        events.push(format!("  {event:?}"));
        at = *parent;
    }
    events.reverse();
    events.join("\n")
}

/// A panic of the decision is a finding like any other.
fn caught<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("it panics".into()))
}

fn walk(stage: Stage, grain: Grain) -> Walk {
    let mut walk = Walk { tally: Tally::default(), situations: BTreeMap::new(), transitions: 0, stale: 0, slowest_exit: 0 };
    let mut birth = Spot::birth(stage, Mode::Automatic);
    birth.settle(&mut walk.tally).expect("an empty ledger is a situation");
    walk.tally.states.insert(State::Watching);
    let mut known = HashSet::from([key::of(&birth, grain)]);
    let mut nodes: Vec<(usize, Option<Event>)> = vec![(0, None)];
    let mut open = VecDeque::from([(0, birth)]);
    while let Some((at, spot)) = open.pop_front() {
        let fail = |words: String, event: Option<&Event>| -> ! {
            let last = event.map(|event| format!("\n  {event:?}")).unwrap_or_default();
            panic!("{stage:?}: {words}\nafter these events, from an empty ledger:\n{}{last}\n", way(&nodes, at));
        };
        *walk.situations.entry(spot.app.ledger().state).or_default() += 1;
        let tally = &mut walk.tally;
        let mut found = Vec::new();
        match caught(|| exits::found(&spot, tally)) {
            Ok((seconds, rest)) => {
                walk.slowest_exit = walk.slowest_exit.max(seconds);
                if known.insert(key::of(&rest, grain)) {
                    found.push((Event::Rest, rest));
                }
            }
            Err(words) => fail(words, None),
        }
        match caught(|| events::stale(&spot)) {
            Ok(tried) => walk.stale += tried,
            Err(words) => fail(words, None),
        }
        if let Err(words) = caught(|| events::named_ways_are_open(&spot)) {
            fail(words, None);
        }
        for event in events::all(&spot) {
            walk.transitions += 1;
            match caught(|| events::happen(&spot, &event, tally)) {
                Ok(Some(next)) if known.insert(key::of(&next, grain)) => found.push((event, next)),
                Ok(_) => {}
                Err(words) => fail(words, Some(&event)),
            }
        }
        for (event, next) in found {
            nodes.push((at, Some(event)));
            open.push_back((nodes.len() - 1, next));
        }
        assert!(nodes.len() < MOST, "{stage:?}: the walk does not end; {:?}", walk.situations);
    }
    walk
}

fn told(stage: Stage, walk: &Walk, began: Instant) {
    let situations: usize = walk.situations.values().sum();
    println!(
        "{stage:?}: {situations} situations, {} transitions, {} late or foreign reports, {} pairs of state and entry, at most {} rounds to come \
         to rest, {}s to rest or to a person, {:.1}s",
        walk.transitions,
        walk.stale,
        walk.tally.pairs.len(),
        walk.tally.rounds,
        walk.slowest_exit,
        began.elapsed().as_secs_f64()
    );
    println!("  situations by state: {:?}", walk.situations);
    println!("  effects: {:?}", walk.tally.effects);
}

/// The legal pairs, as `docs/states.md` has them.
fn legal() -> BTreeSet<(State, String)> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/states.md")).expect("docs/states.md is there");
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    rows.flat_map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let kind = cells[0].trim_matches('`').to_owned();
        let states: Vec<State> = State::ALL.iter().zip(&cells[1..]).filter(|(_, cell)| !cell.is_empty()).map(|(state, _)| *state).collect();
        states.into_iter().map(move |state| (state, kind.clone()))
    })
    .collect()
}

#[test]
fn every_situation_meets_every_event() {
    let grain = if std::env::var_os("FINE").is_some() { Grain::Fine } else { Grain::Coarse };
    let mut reached = BTreeSet::new();
    let mut states = BTreeSet::new();
    let walks = std::thread::scope(|scope| {
        let started = [Stage::Serial, Stage::Parallel].map(|stage| {
            scope.spawn(move || {
                let began = Instant::now();
                let walk = walk(stage, grain);
                told(stage, &walk, began);
                walk
            })
        });
        started.map(|one| one.join().unwrap_or_else(|failure| std::panic::resume_unwind(failure)))
    });
    for walk in walks {
        reached.extend(walk.tally.pairs.iter().map(|(state, kind)| (*state, (*kind).to_owned())));
        states.extend(walk.tally.states);
    }
    assert_eq!(states, State::ALL.iter().copied().collect(), "a state was not reached");
    let excused: BTreeSet<(State, String)> =
        pairs::NEVER.iter().flat_map(|(kind, states, _)| states.iter().map(|state| (*state, (*kind).to_owned()))).collect();
    let legal: BTreeSet<(State, String)> = legal().into_iter().filter(|(_, kind)| !pairs::DAEMON.contains(&kind.as_str())).collect();
    assert!(legal.len() > 100, "docs/states.md has its table");
    let missing: Vec<_> = legal.iter().filter(|pair| !reached.contains(*pair) && !excused.contains(*pair)).collect();
    let stale: Vec<_> = excused.iter().filter(|pair| reached.contains(*pair) || !legal.contains(*pair)).collect();
    println!("pairs: {} legal, {} reached, {} with a reason why not", legal.len(), reached.len(), excused.len());
    assert!(missing.is_empty(), "never reached, and no reason in tests/walk/pairs.rs says why: {missing:#?}");
    assert!(stale.is_empty(), "reached, or not legal at all, in spite of its reason in tests/walk/pairs.rs: {stale:#?}");
}
