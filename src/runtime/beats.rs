//! How fast each app is looked at, and until when: said by the decision, heard by the lookers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::probing::{Beat, Whose};
use crate::domain::decide::Tempo;
use crate::domain::model::AppName;

/// The beats of all apps and of the witnesses. Cheap to clone: the decision and the lookers hold the same ones, and apps
/// come and go with the config.
#[derive(Clone)]
pub struct Beats {
    kept: Arc<Mutex<Kept>>,
    stop: CancellationToken,
}

#[derive(Default)]
struct Kept {
    apps: BTreeMap<AppName, Pulse>,
    witness: Pulse,
}

#[derive(Default)]
struct Pulse {
    beat: Beat,
    /// One channel for each looker: several that wait on one are woken in an order that no seed repeats.
    ears: Vec<watch::Sender<Beat>>,
    running: CancellationToken,
}

impl Pulse {
    /// Ends the lookers that hear it, and makes room for others.
    fn begin(&mut self, stop: &CancellationToken) -> CancellationToken {
        self.running.cancel();
        self.ears.clear();
        self.running = stop.child_token();
        self.running.clone()
    }

    fn hear(&mut self) -> watch::Receiver<Beat> {
        let (ear, heard) = watch::channel(self.beat);
        self.ears.push(ear);
        heard
    }

    fn say(&mut self, beat: Beat) {
        if beat != self.beat {
            self.beat = beat;
            for ear in &self.ears {
                ear.send_replace(beat);
            }
        }
    }

    fn pace(&mut self, tempo: Tempo) {
        self.say(Beat { tempo, ..self.beat });
    }
}

impl Beats {
    /// Nobody is looked at yet; `stop` ends all lookers.
    pub fn new(stop: CancellationToken) -> Beats {
        Beats { kept: Arc::default(), stop }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Changed by single calls: no holder leaves a half-done state.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the app's lookers, if it has some: what ends those that begin now.
    pub fn begin(&self, app: &AppName) -> CancellationToken {
        self.kept().apps.entry(app.clone()).or_default().begin(&self.stop)
    }

    /// The same for those who look at the witnesses.
    pub fn begin_witness(&self) -> CancellationToken {
        self.kept().witness.begin(&self.stop)
    }

    /// The beat that this looker follows. The tempo of the witnesses is that of the fastest app.
    pub fn hear(&self, whose: &Whose) -> watch::Receiver<Beat> {
        let mut kept = self.kept();
        match whose {
            Whose::Witness(_) => kept.witness.hear(),
            Whose::App(app, _) => kept.apps.entry(app.clone()).or_default().hear(),
        }
    }

    /// The app is looked at no more.
    pub fn end(&self, app: &AppName) {
        let mut kept = self.kept();
        if let Some(pulse) = kept.apps.remove(app) {
            pulse.running.cancel();
        }
        kept.follow();
    }

    /// The app's looks go at this tempo from now on.
    pub fn pace(&self, app: &AppName, tempo: Tempo) {
        let mut kept = self.kept();
        kept.apps.entry(app.clone()).or_default().pace(tempo);
        kept.follow();
    }

    /// All of the app's looks happen at once.
    pub fn nudge(&self, app: &AppName) {
        if let Some(pulse) = self.kept().apps.get_mut(app) {
            pulse.say(Beat { nudge: pulse.beat.nudge + 1, ..pulse.beat });
        }
    }
}

impl Kept {
    /// The witnesses are looked at as fast as the fastest app.
    fn follow(&mut self) {
        let fastest = self.apps.values().map(|pulse| pulse.beat.tempo).max().unwrap_or_default();
        self.witness.pace(fastest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::model::Subject;

    #[test]
    fn lookers_of_the_old_config_end_and_the_tempo_stays() {
        let beats = Beats::new(CancellationToken::new());
        let app: AppName = "shop".into();
        beats.pace(&app, Tempo::Fast);
        let old = beats.begin(&app);
        let new = beats.begin(&app);
        let beat = beats.hear(&Whose::App(app.clone(), Subject::FrontDoor));
        assert!(old.is_cancelled() && !new.is_cancelled());
        assert_eq!(beat.borrow().tempo, Tempo::Fast);
        beats.nudge(&app);
        assert_eq!(beat.borrow().nudge, 1);
    }

    #[test]
    fn witnesses_follow_the_fastest_app_that_is_left() {
        let stop = CancellationToken::new();
        let beats = Beats::new(stop.clone());
        let (shop, till): (AppName, AppName) = ("shop".into(), "till".into());
        let running = beats.begin_witness();
        let witness = beats.hear(&Whose::Witness(0));
        beats.pace(&shop, Tempo::Fast);
        beats.pace(&till, Tempo::Urgent);
        assert_eq!(witness.borrow().tempo, Tempo::Urgent);
        let tills = beats.begin(&till);
        beats.end(&till);
        assert!(tills.is_cancelled() && !running.is_cancelled());
        assert_eq!(witness.borrow().tempo, Tempo::Fast);
        beats.pace(&shop, Tempo::Calm);
        assert_eq!(witness.borrow().tempo, Tempo::Calm);
        stop.cancel();
        assert!(running.is_cancelled());
    }
}
