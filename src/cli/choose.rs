//! Which incident is meant where none is named.

use serde_json::Value;

use super::exit;

/// What an order does with an incident; it says which incidents it can be meant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    /// `approve`, `decline`: one that waits for an answer.
    Answer,
    /// `retry`, `skip`: one that is stuck.
    Mend,
    /// `abort`: any.
    End,
}

impl For {
    fn fits(self, state: &str) -> bool {
        match self {
            For::Answer => state == "awaiting-approval",
            For::Mend => state == "stuck",
            For::End => true,
        }
    }

    fn words(self) -> &'static str {
        match self {
            For::Answer => " awaits an approval",
            For::Mend => " is stuck",
            For::End => " is open",
        }
    }
}

/// The only open incident of the status document, or among several the only one that waits for this; else the exit code and the words to say.
pub(super) fn choose(status: &Value, wanted: For) -> Result<String, (u8, String)> {
    let text = |value: &Value| value.as_str().unwrap_or("unknown").to_owned();
    let apps = status["apps"].as_array().into_iter().flatten();
    let open: Vec<(String, String)> =
        apps.filter_map(|app| Some((app["incident"]["id"].as_str()?.to_owned(), text(&app["state"])))).collect();
    let fitting: Vec<&(String, String)> = open.iter().filter(|(_, state)| wanted.fits(state)).collect();
    let list = |all: &[&(String, String)]| all.iter().map(|(id, state)| format!("{id} ({state})")).collect::<Vec<_>>().join(", ");
    match (open.as_slice(), fitting.as_slice()) {
        // The only one, whatever it waits for: the daemon says it if the order does not fit.
        ([(one, _)], _) | (_, [(one, _)]) => Ok(one.clone()),
        ([], _) => Err((exit::REFUSED, "no incident is open".to_owned())),
        (all, []) => Err((
            exit::USAGE,
            format!("{} incidents are open and none{}; name one: {}", all.len(), wanted.words(), list(&all.iter().collect::<Vec<_>>())),
        )),
        (_, many) => Err((exit::USAGE, format!("more than one incident{}; name one: {}", wanted.words(), list(many)))),
    }
}

/// What goes on only when a person does something: one of these apps of the document, or the journal of all of them.
pub(super) fn waiting<'a>(status: &Value, apps: impl IntoIterator<Item = &'a Value>) -> bool {
    let waits = |app: &Value| matches!(app["state"].as_str(), Some("stuck" | "awaiting-approval")) || app["waits_for"].is_string();
    let left = status["unconfigured"].as_array().is_some_and(|left| !left.is_empty());
    left || status["journal_fault"].is_string() || apps.into_iter().any(waits)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(apps: &[(&str, &str)]) -> Value {
        let app = |(name, state): &(&str, &str)| {
            let incident = if *state == "watching" { Value::Null } else { json!({"id": format!("{name}-1")}) };
            json!({"name": name, "state": state, "incident": incident})
        };
        json!({"apps": apps.iter().map(app).collect::<Vec<_>>()})
    }

    #[test]
    fn the_only_incident_is_meant_and_the_only_one_that_waits() {
        let one = status(&[("shop", "moving"), ("till", "watching")]);
        for wanted in [For::Answer, For::Mend, For::End] {
            assert_eq!(choose(&one, wanted), Ok("shop-1".to_owned()));
        }
        let three = status(&[("shop", "moving"), ("till", "stuck"), ("mail", "awaiting-approval")]);
        assert_eq!((choose(&three, For::Mend), choose(&three, For::Answer)), (Ok("till-1".to_owned()), Ok("mail-1".to_owned())));
    }

    #[test]
    fn what_is_not_clear_is_listed_and_never_guessed() {
        let three = status(&[("shop", "moving"), ("till", "stuck"), ("mail", "stuck")]);
        let (code, words) = choose(&three, For::Mend).unwrap_err();
        assert_eq!((code, words.as_str()), (2, "more than one incident is stuck; name one: till-1 (stuck), mail-1 (stuck)"));
        let (code, words) = choose(&three, For::Answer).unwrap_err();
        assert!(code == 2 && words.contains("none awaits an approval") && words.contains("shop-1 (moving)"), "{words}");
        assert_eq!(choose(&three, For::End).unwrap_err().0, 2);
        assert_eq!(choose(&status(&[("shop", "watching")]), For::End), Err((4, "no incident is open".to_owned())));
    }

    #[test]
    fn only_what_a_person_must_do_counts_as_waiting() {
        let waits = |document: &Value| waiting(document, document["apps"].as_array().unwrap());
        for (state, wanted) in [("watching", false), ("held", false), ("moving", false), ("stuck", true), ("awaiting-approval", true)] {
            let mut document = status(&[("till", "watching"), ("shop", state)]);
            assert_eq!(waits(&document), wanted, "{state}");
            document["apps"][1]["waits_for"] = "`watchover adopt shop`".into();
            assert!(waits(&document), "{state}");
        }
        let mut document = status(&[("shop", "watching")]);
        document["journal_fault"] = "the disk is full".into();
        assert!(waits(&document));
        let mut document = status(&[("shop", "watching")]);
        document["unconfigured"] = json!([{"name": "till", "incident": "till-1", "state": "stuck"}]);
        assert!(waits(&document), "an incident that nobody goes on with");
    }
}
