//! How much a move would lose, at most: from the last moment known to be replicated to the last moment at which
//! the old site can have taken a write.
//!
//! An upper bound under the assumption that it names, or no number at all; never a guess.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::model::{LagSample, Moment, SiteName, rfc3339, words};

words! {
    /// What the end of writes rests on.
    Assumption {
        /// The old writers were read back as gone.
        FenceProven = "fence-proven",
        /// Unfenced: users reach the database through the front door alone, and it had stopped answering from the old site.
        NoWritesPastFrontDoor = "no-writes-past-the-front-door",
        /// The old site may take writes at this very moment.
        WritesUntilNow = "writes-until-now",
        /// Planned: writers gone and the replica caught up, both read back.
        Drained = "fenced-and-drained",
        /// No data step: nothing changes hands.
        NoData = "no-data-moves",
        /// The plan of the other direction moves the data and this one does not: what was written since stays behind.
        DataStays = "data-stays",
        /// None holds any more: the old site was seen alive after its data had moved, and after its fence if it had one. No bound can be given.
        OldSiteSeen = "old-site-seen-alive",
    }
}

/// The bound, with its evidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exposure {
    /// Seconds; `None`: no sample that means something, so nobody knows; infinite: known to have no bound.
    #[serde(default, with = "unbounded")]
    pub seconds: Option<f64>,
    /// The sample it rests on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<LagSample>,
    /// Last moment at which the old site can have taken a write, wall clock in microseconds.
    pub end_of_writes: i64,
    /// What that moment rests on.
    pub assumption: Assumption,
}

impl Exposure {
    /// The figure and its evidence in words.
    pub fn words(&self) -> String {
        match (self.seconds, self.sample) {
            (Some(seconds), _) if seconds.is_infinite() && self.assumption == Assumption::OldSiteSeen => format!(
                "unbounded ({}): the old site was seen alive at {}, after its data had moved, and no proven fence held its writers back",
                self.assumption,
                rfc3339(self.end_of_writes)
            ),
            (Some(seconds), Some(sample)) => format!(
                "{} ({}): replicated until {} (lag {:.1}s at {}), writes until {}",
                at_most(seconds),
                self.assumption,
                rfc3339(sample.replicated_until()),
                sample.seconds,
                rfc3339(sample.at),
                rfc3339(self.end_of_writes)
            ),
            (Some(seconds), None) => format!("{} ({})", at_most(seconds), self.assumption),
            (None, _) if self.assumption == Assumption::DataStays => {
                "unknown: the plan of the other direction moves the data and this one does not, so that what was written since stays behind"
                    .to_owned()
            }
            (None, _) => "unknown: no lag sample from before the outage that means something".to_owned(),
        }
    }
}

/// A bound in words: `at most 12.0s`, or `unbounded`.
pub fn at_most(seconds: f64) -> String {
    if seconds.is_finite() { format!("at most {seconds:.1}s") } else { unbounded::WORD.to_owned() }
}

/// Seconds that may have no bound, in JSON. It has no infinity, and its `null` means that nobody knows: a word stands for it.
pub mod unbounded {
    use serde::{Deserialize, Deserializer, Serializer};
    use serde_json::Value;

    /// What stands for an infinite figure.
    pub const WORD: &str = "unbounded";

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Seconds(f64),
        Word(String),
    }

    /// A number, the word, or `null`.
    ///
    /// # Errors
    /// Not a number: no figure of ours is, and `null` would say something else.
    pub fn serialize<S: Serializer>(value: &Option<f64>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(seconds) if seconds.is_finite() => to.serialize_f64(*seconds),
            Some(seconds) if *seconds == f64::INFINITY => to.serialize_str(WORD),
            Some(seconds) => Err(serde::ser::Error::custom(format!("{seconds} is no number of seconds"))),
            None => to.serialize_none(),
        }
    }

    /// The same, read back.
    ///
    /// # Errors
    /// Any other word.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
        match Option::<Form>::deserialize(from)? {
            None => Ok(None),
            Some(Form::Seconds(seconds)) => Ok(Some(seconds)),
            Some(Form::Word(word)) if word == WORD => Ok(Some(f64::INFINITY)),
            Some(Form::Word(word)) => Err(serde::de::Error::custom(format!("{word:?} is neither a number of seconds nor {WORD:?}"))),
        }
    }

    /// The same as a value, for documents that are put together by hand.
    pub fn value(seconds: Option<f64>) -> Value {
        match seconds {
            Some(seconds) if seconds == f64::INFINITY => Value::from(WORD),
            seconds => Value::from(seconds),
        }
    }
}

/// What is known of the end of writes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Writes {
    /// When the old writers were proven gone.
    pub fenced: Option<i64>,
    /// Between which moments the old site was lost.
    pub site: Option<Lost>,
    /// When the front door had stopped answering from the old site: the end of its first failed look.
    pub front_door_lost: Option<i64>,
    /// When the old site was seen alive although its data had moved.
    pub old_site_seen: Option<i64>,
}

/// How far back lag samples are remembered: as far as CloudWatch is asked.
pub const HISTORY: Duration = Duration::from_secs(15 * 60);

/// What is remembered of each replica signal's lag, oldest first.
pub type Lags = BTreeMap<(SiteName, usize), Vec<LagSample>>;

/// When a site was lost, as near as its looks tell (wall, microseconds).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lost {
    /// The first failed look of the run that confirmed the outage: only samples before it count.
    pub first_failed: i64,
    /// It was seen well until then: one interval before its first failed look.
    pub well: i64,
    /// It was gone by then: the end of that look, by its time limit.
    pub gone: i64,
}

/// The bound as of `now`.
pub fn exposure(samples: &[LagSample], writes: Writes, now: Moment) -> Exposure {
    // A fence that was proven later ends what was seen before it; one that was proven before did not hold.
    if let Some(seen) = writes.old_site_seen.filter(|seen| writes.fenced.is_none_or(|fenced| fenced < *seen)) {
        return no_bound(samples.last().copied(), seen);
    }
    // Our own sight of the front door may have been lost long before its users' was: while the site was seen well it took
    // writes. Without an outage nobody knows since when it does not.
    let lost = writes.front_door_lost.zip(writes.site).map(|(lost, site)| if lost < site.well { site.gone } else { lost });
    let (end_of_writes, assumption) = match (writes.fenced, lost) {
        (Some(fenced), _) => (fenced, Assumption::FenceProven),
        (None, Some(lost)) => (lost, Assumption::NoWritesPastFrontDoor),
        (None, None) => (now.wall, Assumption::WritesUntilNow),
    };
    if let (Some(fenced), Some(sample)) =
        (writes.fenced, samples.iter().find(|sample| writes.fenced.is_some_and(|at| sample.at >= at) && sample.seconds <= 0.0))
    {
        return Exposure { seconds: Some(0.0), sample: Some(*sample), end_of_writes: fenced, assumption: Assumption::Drained };
    }
    let usable = |sample: &&LagSample| writes.site.is_none_or(|lost| sample.at.saturating_add(sample.period) <= lost.first_failed);
    let sample = samples.iter().filter(usable).max_by_key(|sample| sample.at).copied();
    let seconds = sample.map(|sample| (end_of_writes.saturating_sub(sample.replicated_until()).max(0) as f64) / 1e6);
    Exposure { seconds, sample, end_of_writes, assumption }
}

/// The loss of a move whose old site was seen alive at `seen` (wall, microseconds): each write it takes is one more.
pub fn no_bound(sample: Option<LagSample>, seen: i64) -> Exposure {
    Exposure { seconds: Some(f64::INFINITY), sample, end_of_writes: seen, assumption: Assumption::OldSiteSeen }
}

/// Merges what a look saw into what is remembered: by timestamp, oldest first, nothing older than `horizon`.
pub fn remember(known: &mut Vec<LagSample>, seen: &[LagSample], horizon: i64) {
    for sample in seen {
        match known.iter_mut().find(|old| old.at == sample.at) {
            // A datapoint may still grow while its period is open.
            Some(old) => *old = *sample,
            None => known.push(*sample),
        }
    }
    known.retain(|sample| sample.at >= horizon && sample.seconds >= 0.0);
    known.sort_by_key(|sample| sample.at);
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::domain::fixtures::at;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn a_loss_without_bound_says_so_in_words_and_in_documents() {
        let words = no_bound(Some(sample(0, 1.0)), 60 * SECOND).words();
        assert!(words.starts_with("unbounded (old-site-seen-alive): the old site was seen alive at 1970-01-01T00:01:00"), "{words}");
        let values = [None, Some(1.5), Some(f64::INFINITY)].map(unbounded::value);
        assert_eq!(values, [Value::Null, Value::from(1.5), Value::from("unbounded")]);
    }

    #[test]
    fn what_is_too_old_or_means_nothing_is_not_remembered() {
        let mut known = vec![sample(10, 1.0)];
        remember(&mut known, &[sample(30, 3.0), sample(20, -1.0), sample(20, 2.0), sample(40, -1.0)], 20 * SECOND);
        assert_eq!(known, [sample(20, 2.0), sample(30, 3.0)]);
    }

    fn sample(at: i64, seconds: f64) -> LagSample {
        LagSample { at: at * SECOND, period: 60 * SECOND, seconds }
    }

    #[test]
    fn only_samples_from_before_the_outage_count() {
        let samples = [sample(0, 1.0), sample(60, 2.0), sample(120, 3.0)];
        let writes = outage(150, 152);
        let found = exposure(&samples, writes, at(400));
        assert_eq!(found.seconds, Some(152.0 - 58.0), "the sample of 120 s straddles the first failed look");
        assert_eq!(found.assumption, Assumption::NoWritesPastFrontDoor);
    }

    fn lost(first_failed: i64) -> Lost {
        Lost { first_failed: first_failed * SECOND, well: (first_failed - 1) * SECOND, gone: (first_failed + 2) * SECOND }
    }

    /// First failed look of the site, and when the front door was lost.
    fn outage(first_failed: i64, front_door_lost: i64) -> Writes {
        Writes { site: Some(lost(first_failed)), front_door_lost: Some(front_door_lost * SECOND), ..Writes::default() }
    }

    #[test]
    fn a_front_door_that_only_we_had_lost_ends_no_writes() {
        let samples = [sample(7_000, 1_800.0)];
        let ends = |writes: Writes| exposure(&samples, writes, at(7_300)).end_of_writes / SECOND;
        assert_eq!(ends(outage(7_200, 7_199)), 7_199, "within the interval before the first failed look of the site");
        assert_eq!(ends(outage(7_200, 10)), 7_202, "the site was seen well until 7,199 s");
        let found = exposure(&samples, outage(7_200, 10), at(7_300));
        assert_eq!((found.seconds, found.assumption), (Some(2_002.0), Assumption::NoWritesPastFrontDoor));
        let commanded = Writes { front_door_lost: Some(10 * SECOND), ..Writes::default() };
        assert_eq!(ends(commanded), 7_300, "without an outage nobody knows");
    }

    #[test]
    fn a_lag_beyond_all_clocks_is_a_loss_and_not_none() {
        for lag in [1e13, 1e300, f64::INFINITY] {
            let found = exposure(&[sample(0, lag)], Writes::default(), at(400));
            assert!(found.seconds.is_some_and(|seconds| seconds > 9e12), "{lag}: {found:?}");
        }
    }

    #[test]
    fn without_a_sample_there_is_no_number() {
        let found = exposure(&[], Writes::default(), at(5));
        assert_eq!((found.seconds, found.assumption), (None, Assumption::WritesUntilNow));
        assert_eq!(found.words(), "unknown: no lag sample from before the outage that means something");
    }

    #[test]
    fn a_fence_and_a_lag_of_zero_after_it_lose_nothing() {
        let samples = [sample(0, 1.0), sample(120, 0.0)];
        let writes = Writes { site: Some(lost(90)), fenced: Some(100 * SECOND), ..Writes::default() };
        assert_eq!(exposure(&samples, writes, at(300)).seconds, Some(0.0));
    }

    #[test]
    fn a_loss_without_bound_is_a_word_and_never_null() {
        let found = Exposure { seconds: Some(f64::INFINITY), sample: None, end_of_writes: 7, assumption: Assumption::WritesUntilNow };
        let text = serde_json::to_string(&found).unwrap();
        assert!(text.contains(r#""seconds":"unbounded""#), "{text}");
        assert_eq!(serde_json::from_str::<Exposure>(&text).unwrap(), found);
        assert_eq!(found.words(), "unbounded (writes-until-now)");
        let unknown = Exposure { seconds: None, ..found.clone() };
        let text = serde_json::to_string(&unknown).unwrap();
        assert!(text.contains(r#""seconds":null"#), "{text}");
        assert_eq!(serde_json::from_str::<Exposure>(&text).unwrap(), unknown);
        assert!(serde_json::from_str::<Exposure>(&text.replace("null", "\"any\"")).is_err());
        assert!(serde_json::to_string(&Exposure { seconds: Some(f64::NAN), ..found }).is_err());
        assert_eq!((unbounded::value(Some(f64::INFINITY)), unbounded::value(None)), ("unbounded".into(), serde_json::Value::Null));
    }

    #[test]
    fn an_old_site_seen_alive_has_no_bound_unless_it_was_fenced_since() {
        let seen = Writes { site: Some(lost(90)), old_site_seen: Some(130 * SECOND), ..Writes::default() };
        let found = exposure(&[sample(0, 1.0)], seen, at(300));
        assert_eq!((found.seconds, found.assumption), (Some(f64::INFINITY), Assumption::OldSiteSeen));
        let before = Writes { fenced: Some(100 * SECOND), ..seen };
        assert_eq!(exposure(&[sample(0, 1.0)], before, at(300)).seconds, Some(f64::INFINITY), "the fence did not hold");
        let since = Writes { fenced: Some(150 * SECOND), ..seen };
        assert_eq!(exposure(&[sample(0, 1.0)], since, at(300)).seconds, Some(151.0));
    }

    #[test]
    fn no_bound_reads_back_from_json_as_no_bound() {
        let found = no_bound(None, 5);
        let text = serde_json::to_string(&found).unwrap();
        assert!(text.contains("\"seconds\":\"unbounded\""), "{text}");
        assert_eq!(serde_json::from_str::<Exposure>(&text).unwrap(), found);
        let unknown = exposure(&[], Writes::default(), at(5));
        assert_eq!(serde_json::from_str::<Exposure>(&serde_json::to_string(&unknown).unwrap()).unwrap(), unknown);
    }
}
