//! What goes into the control and what comes out of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::domain::decide::{App, Effect, Input, Tempo};
use crate::domain::gates::Around;
use crate::domain::ledger::Record;
use crate::domain::model::{AppName, Look, Moment, State};
use crate::domain::orders::{Order, Refusal};
use crate::domain::policy::{AppPolicy, FleetPolicy};

/// What reaches the control.
pub enum Message {
    /// Something was seen of an app.
    Seen(AppName, Input),
    /// A look at a witness.
    Witness(usize, Look),
    /// A person's word for an app, and where the answer goes.
    Order(AppName, Order, oneshot::Sender<Result<Followed, NotDone>>),
    /// A judged config, ready to be taken over; the answer says when it is in force. Apps that it does not name are let go
    /// once they have no open incident.
    Reload(Vec<Arc<AppPolicy>>, FleetPolicy, oneshot::Sender<()>),
    /// A config that was refused; it is noted.
    ReloadRefused(String),
}

/// An order was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// The incident it concerns, if any.
    pub incident: Option<String>,
    /// The journal's place of its first entry.
    pub seq: i64,
}

/// Why an order was not followed.
#[derive(Debug, Clone, PartialEq)]
pub enum NotDone {
    /// It will not be: a gate is shut, or it does not fit what is.
    Refused(Refusal),
    /// It would have been, and the journal did not take it: nothing was refused, and the same order may be given again.
    Unwritten(String),
}

impl NotDone {
    /// Why, in words.
    pub fn words(&self) -> &str {
        match self {
            NotDone::Refused(Refusal { words, .. }) | NotDone::Unwritten(words) => words,
        }
    }
}

/// What the control has done by others. All of it returns at once.
pub trait Hands: Send {
    /// Carries out an effect of an app. The app's state is the one after the entries beside it.
    fn carry_out(&mut self, app: &App, effect: &Effect, now: Moment);
    /// The app's looks go at this tempo from now on.
    fn pace(&mut self, app: &AppName, tempo: Tempo);
    /// The app is no longer decided on: whatever looks for it ends.
    fn let_go(&mut self, app: &AppName);
    /// These rows are durable.
    fn written(&mut self, records: &[Record]);
    /// Something changed that is shown.
    fn show(&mut self, fleet: &Fleet, now: Moment);
}

/// All apps, and what surrounds them.
pub struct Fleet {
    /// By name.
    pub apps: BTreeMap<AppName, App>,
    /// Incidents that are open in the journal, of apps that the config does not name: the app, the incident, its state.
    pub unnamed: Vec<(String, String, State)>,
    /// What surrounds every decision; `ahead` is filled in for each.
    pub around: Around,
}
