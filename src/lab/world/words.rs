//! What can be set in the world, in words for people.

use std::fmt;

use super::{MetricMode, Modify, SiteMode};

impl fmt::Display for MetricMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MetricMode::Truth => f.write_str("tells the truth"),
            MetricMode::Missing => f.write_str("is silent"),
            MetricMode::Fixed(value) => write!(f, "says {value}"),
        }
    }
}

impl fmt::Display for Modify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = self.backup_retention.map(|days| format!("backups kept for {days} days"));
        let zones = self.multi_az.map(|two| if two { "in two zones" } else { "in one zone" }.to_owned());
        f.write_str(&[days, zones].into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

/// What a site's front does, in words.
pub fn mode_words(mode: &SiteMode) -> String {
    match mode {
        SiteMode::Ok => "answers as it should again".to_owned(),
        SiteMode::Refuse => "refuses connections".to_owned(),
        SiteMode::Reset => "resets connections".to_owned(),
        SiteMode::Hang => "accepts connections and never answers".to_owned(),
        SiteMode::Error => "answers 500 to everything".to_owned(),
        SiteMode::Slow { millis } => format!("answers {millis} ms late"),
        SiteMode::WrongBody => "answers with somebody else's page".to_owned(),
        SiteMode::Share { fraction } => format!("fails {:.0} % of the requests", fraction * 100.0),
    }
}
