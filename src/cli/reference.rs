//! The reference of step and signal kinds, from the same words that the registries judge by.

use serde::Serialize;

use super::page::{Block, markdown as as_markdown, text as as_text};
use crate::adapters::registry::{KeyDoc, NotifyKind, SignalKind, StepKind};
use crate::domain::plan::{Class, Repeat, Reversibility};

/// What a kind is, without what builds it.
#[derive(Debug, Clone, Serialize)]
pub struct KindDoc {
    /// `rds-promote-replica`.
    pub name: &'static str,
    /// What it looks at or changes, in one sentence.
    pub doc: &'static str,
    /// Steps: its class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    /// Steps: whether it can be taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reversibility: Option<Reversibility>,
    /// Steps: what a crash in its middle means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat: Option<Repeat>,
    /// Steps: the deadline where the config gives none, in TOML's form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<&'static str>,
    /// Its own keys.
    pub keys: &'static [KeyDoc],
}

impl<A: ?Sized> From<&StepKind<A>> for KindDoc {
    fn from(kind: &StepKind<A>) -> KindDoc {
        KindDoc {
            name: kind.name,
            doc: kind.doc,
            class: Some(kind.class),
            reversibility: Some(kind.reversibility),
            repeat: Some(kind.repeat),
            deadline: Some(kind.default_deadline),
            keys: kind.keys,
        }
    }
}

impl<A: ?Sized> From<&SignalKind<A>> for KindDoc {
    fn from(kind: &SignalKind<A>) -> KindDoc {
        KindDoc { name: kind.name, doc: kind.doc, class: None, reversibility: None, repeat: None, deadline: None, keys: kind.keys }
    }
}

impl<A: ?Sized> From<&NotifyKind<A>> for KindDoc {
    fn from(kind: &NotifyKind<A>) -> KindDoc {
        KindDoc { name: kind.name, doc: kind.doc, class: None, reversibility: None, repeat: None, deadline: None, keys: kind.keys }
    }
}

/// All kinds, and the keys that every kind shares.
#[derive(Debug, Clone, Serialize)]
pub struct Reference {
    /// Of this document's form.
    pub schema_version: u32,
    /// Keys common to all signals.
    pub signal_keys: &'static [KeyDoc],
    /// The signals.
    pub signals: Vec<KindDoc>,
    /// Keys common to all steps.
    pub step_keys: &'static [KeyDoc],
    /// The steps.
    pub steps: Vec<KindDoc>,
    /// Keys common to all receivers of messages.
    pub notify_keys: &'static [KeyDoc],
    /// The receivers of messages.
    pub receivers: Vec<KindDoc>,
}

impl Reference {
    /// The reference of these kinds, in the order given.
    pub fn new(signal_keys: &'static [KeyDoc], signals: Vec<KindDoc>, step_keys: &'static [KeyDoc], steps: Vec<KindDoc>) -> Reference {
        Reference { schema_version: 1, signal_keys, signals, step_keys, steps, notify_keys: &[], receivers: Vec::new() }
    }

    /// The same with the kinds of receivers of messages.
    pub fn telling(self, notify_keys: &'static [KeyDoc], receivers: Vec<KindDoc>) -> Reference {
        Reference { notify_keys, receivers, ..self }
    }

    /// As Markdown, for `docs/kinds.md`.
    pub fn markdown(&self) -> String {
        as_markdown(&self.blocks())
    }

    /// As text for a terminal.
    pub fn text(&self, colour: bool) -> String {
        as_text(&self.blocks(), colour)
    }

    /// As one JSON document.
    ///
    /// # Errors
    /// None with the types as they are; serde's signature has one.
    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }

    fn blocks(&self) -> Vec<Block> {
        let mut page = vec![Block::Heading(1, "Kinds of signals and steps".into())];
        part(&mut page, "Signals", "`[[app.primary.signal]]`, `[[app.standby.signal]]`", self.signal_keys, &self.signals);
        part(&mut page, "Steps", "`[[app.failover]]`, `[[app.failback]]`", self.step_keys, &self.steps);
        if !self.receivers.is_empty() {
            part(&mut page, "Receivers of messages", "`[[notify]]`", self.notify_keys, &self.receivers);
        }
        page
    }
}

fn part(page: &mut Vec<Block>, title: &str, place: &str, common: &'static [KeyDoc], kinds: &[KindDoc]) {
    page.push(Block::Heading(2, title.into()));
    if !common.is_empty() {
        page.push(Block::Para(format!("Keys of every table in {place}:")));
        page.push(keys(common));
    }
    for kind in kinds {
        page.push(Block::Heading(3, kind.name.into()));
        page.push(Block::Para(kind.doc.into()));
        let facts = [
            kind.class.map(|class| format!("Class {class}.")),
            kind.reversibility.map(|word| match word {
                Reversibility::Reversible => "Reversible: undone when a move is called off.".to_owned(),
                Reversibility::ForwardOnly => "Forward only: looked at twice before it is asked for.".to_owned(),
                Reversibility::NeedsPerson => "Needs a person to take it back.".to_owned(),
            }),
            kind.repeat.map(|word| match word {
                Repeat::Inspectable => "After a crash it is inspected, and never asked for twice.".to_owned(),
                Repeat::AtLeastOnce => "After a crash it may be sent again, under the same `WATCHOVER_STEP_ID`.".to_owned(),
            }),
            kind.deadline.map(|deadline| format!("Deadline by default: {deadline}.")),
        ];
        let facts: Vec<String> = facts.into_iter().flatten().collect();
        if !facts.is_empty() {
            page.push(Block::Para(facts.join(" ")));
        }
        page.push(if kind.keys.is_empty() { Block::Para("No keys of its own.".into()) } else { keys(kind.keys) });
    }
}

fn keys(keys: &'static [KeyDoc]) -> Block {
    let row = |key: &KeyDoc| {
        let default = if key.default.is_empty() { "must be given".to_owned() } else { format!("`{}`", key.default) };
        vec![format!("`{}`", key.name).into(), key.form.into(), default.into(), key.doc.into()]
    };
    Block::Table(vec!["key", "form", "default", "what it does"], keys.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &[KeyDoc] = &[
        KeyDoc { name: "db_instance", form: "string", default: "", doc: "The replica to promote." },
        KeyDoc { name: "drain", form: "duration", default: "\"20s\"", doc: "How long lag 0 is waited for once the writers are gone." },
    ];
    const COMMON: &[KeyDoc] =
        &[KeyDoc { name: "after", form: "list of strings", default: "the step above", doc: "Steps that must be done first." }];

    fn reference() -> Reference {
        let step = KindDoc {
            name: "rds-promote-replica",
            doc: "Promotes a read replica.",
            class: Some(Class::Data),
            reversibility: Some(Reversibility::ForwardOnly),
            repeat: Some(Repeat::Inspectable),
            deadline: Some("20m"),
            keys: KEYS,
        };
        let signal =
            KindDoc { name: "http", doc: "Asks a URL.", class: None, reversibility: None, repeat: None, deadline: None, keys: &[] };
        Reference::new(&[], vec![signal], COMMON, vec![step])
    }

    #[test]
    fn markdown_holds_every_kind_and_key() {
        insta::assert_snapshot!(reference().markdown(), @r#"
        # Kinds of signals and steps

        ## Signals

        ### http

        Asks a URL.

        No keys of its own.

        ## Steps

        Keys of every table in `[[app.failover]]`, `[[app.failback]]`:

        | key | form | default | what it does |
        |---|---|---|---|
        | `after` | list of strings | `the step above` | Steps that must be done first. |

        ### rds-promote-replica

        Promotes a read replica.

        Class data. Forward only: looked at twice before it is asked for. After a crash it is inspected, and never asked for twice. Deadline by default: 20m.

        | key | form | default | what it does |
        |---|---|---|---|
        | `db_instance` | string | must be given | The replica to promote. |
        | `drain` | duration | `"20s"` | How long lag 0 is waited for once the writers are gone. |
        "#);
    }

    #[test]
    fn text_and_json_say_the_same() {
        insta::assert_snapshot!(reference().text(false), @r#"
        Kinds of signals and steps

        Signals

        http

        Asks a URL.

        No keys of its own.

        Steps

        Keys of every table in `[[app.failover]]`, `[[app.failback]]`:

        key      form             default           what it does
        `after`  list of strings  `the step above`  Steps that must be done first.

        rds-promote-replica

        Promotes a read replica.

        Class data. Forward only: looked at twice before it is asked for. After a crash it is inspected, and never asked for twice. Deadline by default: 20m.

        key            form      default        what it does
        `db_instance`  string    must be given  The replica to promote.
        `drain`        duration  `"20s"`        How long lag 0 is waited for once the writers are gone.
        "#);
        let json: serde_json::Value = serde_json::from_str(&reference().json().unwrap()).unwrap();
        assert_eq!(json["schema_version"], 1);
        assert_eq!(json["steps"][0]["reversibility"], "forward-only");
        assert_eq!(json["steps"][0]["keys"][1]["default"], "\"20s\"");
        assert!(json["signals"][0].get("class").is_none());
    }
}
