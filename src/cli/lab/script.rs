//! What the scenario does to the world and to the daemon, each at its time or on its cue.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use tokio::process::Command;

use super::follow::Teller;
use crate::domain::model::Outcome;
use crate::lab::Lab;
use crate::lab::scenarios::{Cue, Deed, Later, Order, Scenario};

/// What is still to be done.
pub struct Script<'a> {
    scenario: &'a Scenario,
    config: PathBuf,
    began: Instant,
    done: usize,
    /// Each once: when its turn is, once its cue was given.
    later: Vec<(&'a Later, Option<Instant>)>,
}

impl<'a> Script<'a> {
    /// Its time starts now. Orders are given with this configuration.
    pub fn new(scenario: &'a Scenario, config: &Path) -> Script<'a> {
        let later = scenario.later.iter().map(|one| (one, None)).collect();
        Script { scenario, config: config.to_owned(), began: Instant::now(), done: 0, later }
    }

    /// Does what is due.
    ///
    /// # Errors
    /// What there is not to break, or an order that was refused.
    pub async fn play(&mut self, lab: &Lab, tell: &mut Teller) -> Result<(), String> {
        while let Some((at, action)) = self.scenario.steps.get(self.done).filter(|(at, _)| self.began.elapsed() >= *at) {
            tracing::debug!(?at, "the scenario's next step");
            lab.act(action)?;
            tell.broken(action);
            self.done += 1;
        }
        let now = Instant::now();
        for (one, due) in &mut self.later {
            if due.is_none() && given(one.cue, self.scenario, tell) {
                *due = Some(now + one.wait);
            }
        }
        let Some(next) = self.later.iter().position(|(_, due)| due.is_some_and(|due| now >= due)) else { return Ok(()) };
        let (one, _) = self.later.remove(next);
        match &one.deed {
            Deed::Break(action) => {
                lab.act(action)?;
                tell.broken(action);
                Ok(())
            }
            Deed::Give(order) => self.give(*order, lab, tell).await,
        }
    }

    /// Whether nothing is left to do.
    pub fn is_done(&self) -> bool {
        self.done == self.scenario.steps.len() && self.later.is_empty()
    }

    /// As a person would: with the command line, which asks the daemon over its socket.
    async fn give(&self, order: Order, lab: &Lab, tell: &mut Teller) -> Result<(), String> {
        let app = lab.addresses().apps.first().map(|app| app.name.clone()).unwrap_or_default();
        let words = |all: &[&str]| all.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let mut args = match order {
            Order::Failover => words(&["failover", &app, "--graceful", "--no-follow"]),
            Order::Failback => words(&["failback", &app, "--no-follow"]),
            Order::Approve => words(&["approve", &tell.asked().ok_or("nothing awaits approval")?]),
        };
        args.extend(words(&["--reason", "the scenario asks for it"]));
        tell.say("person", &format!("watchover {}", args.join(" ")));
        let program = std::env::current_exe().map_err(|cause| format!("find ourselves: {cause}"))?;
        let given = Command::new(program).arg("--config").arg(&self.config).args(&args).stdin(Stdio::null()).output().await;
        let given = given.map_err(|cause| format!("give the order {}: {cause}", args[0]))?;
        if given.status.success() {
            return Ok(());
        }
        Err(format!("the order {} was refused ({}): {}", args[0], given.status, String::from_utf8_lossy(&given.stderr).trim()))
    }
}

fn given(cue: Cue, scenario: &Scenario, tell: &Teller) -> bool {
    match cue {
        Cue::Steady => true,
        Cue::Asked => tell.asked().is_some(),
        Cue::Moved => tell.ended(Outcome::Moved) >= scenario.setting.apps.max(1),
    }
}
