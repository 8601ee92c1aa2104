//! Texts that must never show.

use std::fmt;

/// A secret of the config. `Debug` and `Display` hide it; there is no `Serialize` on purpose.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a text into hiding.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself, for the one call that needs it. Never hand it to a log, an error or the journal.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_shows_nowhere_but_on_demand() {
        let secret = Secret::new("https://hc.example.net/ping/hush");
        assert!(!format!("{secret:?} {secret} {:#?}", Some(&secret)).contains("hush"));
        assert!(secret.expose().ends_with("hush"));
    }
}
