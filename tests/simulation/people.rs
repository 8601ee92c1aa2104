//! People, who press every button at the worst time, and in the end the right one.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use watchover::domain::ledger::{Ledger, StepState, Wish};
use watchover::domain::model::{SiteName, State};
use watchover::domain::orders::Order;

use crate::deeds::Deed;
use crate::history::{History, SETTLES, STEPS};
use crate::sim::by;
use crate::stage::lock;

impl History {
    /// An operator at three in the morning.
    pub async fn person(&mut self, which: u32) {
        let Some(daemon) = &self.daemon else { return };
        let ledger = daemon.ledger();
        // Mostly what the state calls for; else whatever a hand finds in the dark.
        let which = match ledger.state {
            _ if self.rng.random_bool(0.3) => which,
            State::AwaitingApproval => *[2, 2, 2, 6].choose(&mut self.rng).unwrap_or(&2),
            State::Stuck => *[7, 9, 9, 10, 11, 2].choose(&mut self.rng).unwrap_or(&7),
            State::Watching => *[0, 12, 13].choose(&mut self.rng).unwrap_or(&0),
            _ => which,
        };
        let failed = ledger
            .incident
            .iter()
            .flat_map(|open| &open.steps)
            .find(|(_, run)| run.state == StepState::Failed)
            .map(|(name, _)| name.clone());
        let home = ledger.active == Some(SiteName::Standby);
        let incident = ledger.incident.map(|open| open.id).unwrap_or_default();
        let accept_loss = *[None, Some(200.0), Some(f64::INFINITY)].choose(&mut self.rng).unwrap_or(&None);
        let step = || {
            failed
                .clone()
                .unwrap_or_else(|| STEPS[..4].choose(&mut SmallRng::seed_from_u64(u64::from(which))).copied().unwrap_or("fence").to_owned())
        };
        let (name, order) = match which {
            0..2 => {
                let (force, graceful) = (self.rng.random_bool(0.5), self.rng.random_bool(0.3));
                let wish = Wish { by: by("drill"), accept_loss, shown: None, force, graceful };
                ("move", Order::Move { to: if self.rng.random_bool(0.8) == home { SiteName::Primary } else { SiteName::Standby }, wish })
            }
            2..6 => ("approve", Order::Approve { incident, by: by("go"), accept_loss }),
            6 => ("decline", Order::Decline { incident, by: by("no") }),
            7 | 8 => ("retry", Order::Retry { incident, by: by("again") }),
            9 => ("skip", Order::Skip { incident, step: step(), by: by("without it") }),
            10 => ("abort", Order::Abort { incident, by: by("stop") }),
            11 => ("adopt", Order::Adopt { site: *SiteName::ALL.choose(&mut self.rng).unwrap_or(&SiteName::Primary), by: by("it is so") }),
            12 => ("pause", Order::Pause { length: Duration::from_secs(self.rng.random_range(1..30)), by: by("maintenance") }),
            _ => ("resume", Order::Resume { by: by("done") }),
        };
        let answer = daemon.order(order).await;
        let mut stage = lock(&self.stage);
        stage.coverage.order(name, matches!(answer, Some(Ok(_))));
        drop(stage);
        self.told.push(match answer {
            None => format!("{:>9.3}    {name}: no answer", self.now()),
            Some(Ok(_)) => format!("{:>9.3}    {name}: followed", self.now()),
            Some(Err(refusal)) => format!("{:>9.3}    {name}: {}", self.now(), refusal.words()),
        });
    }

    /// In a whole world somebody starts the old site again and commands the way back: it is followed once that site is
    /// well, and comes to its end.
    pub async fn go_home(&mut self) -> Result<(), String> {
        self.told.push(format!("{:>9.3} somebody starts the primary again, and commands the way back", self.now()));
        lock(&self.stage).undergo(Deed::Refill);
        let mut refused = String::new();
        for _ in 0..SETTLES.as_secs() / 3 {
            self.pass(Duration::from_secs(3)).await?;
            let Some(daemon) = &self.daemon else { return Err("settles: the daemon died of nothing".into()) };
            let wish = Wish { by: by("home again"), accept_loss: Some(f64::INFINITY), shown: None, force: true, graceful: false };
            let answer = daemon.order(Order::Move { to: SiteName::Primary, wish }).await;
            lock(&self.stage).coverage.order("move", matches!(answer, Some(Ok(_))));
            match answer {
                Some(Ok(_)) => {
                    let rest = self.settle().await?;
                    let home = rest.active == Some(SiteName::Primary) || rest.state != State::Watching;
                    return if home { Ok(()) } else { Err(format!("settles: commanded home, and at rest with {:?}", rest.active)) };
                }
                Some(Err(refusal)) => refused = refusal.words().to_owned(),
                None => return Err("settles: no answer to an order".into()),
            }
        }
        Err(format!("settles: the way back is refused in a whole world: {refused}"))
    }

    /// What a person does whom it waits for, when all is mended.
    pub async fn answer(&mut self, ledger: &Ledger, tries: &mut u32) -> Result<(), String> {
        let Some(daemon) = &self.daemon else { return Ok(()) };
        if ledger.paused.is_some() {
            drop(daemon.order(Order::Resume { by: by("done") }).await);
        }
        let (State::Stuck, Some(open)) = (ledger.state, &ledger.incident) else { return Ok(()) };
        let waits = open.stuck.as_ref().is_some_and(|(_, waits_for)| !waits_for.is_empty());
        if !waits {
            return Err("settles: stuck, and waits for nobody".into());
        }
        *tries += 1;
        let lost = open.aborted || open.calling_off.is_some() || *tries > 3;
        let to_standby = lock(&self.stage).world.front_door_sites(0).contains("standby");
        let site = if to_standby { SiteName::Standby } else { SiteName::Primary };
        let order =
            if lost { Order::Adopt { site, by: by("it is so") } } else { Order::Retry { incident: open.id.clone(), by: by("mended") } };
        match daemon.order(order).await {
            Some(Ok(_)) => {
                if !lost {
                    lock(&self.stage).coverage.order("retry", true);
                }
                Ok(())
            }
            Some(Err(refusal)) => Err(format!("settles: a stuck incident takes no answer: {}", refusal.words())),
            None => Err("settles: no answer to an order".into()),
        }
    }
}
