//! Route 53 takes 5 calls a second from a whole account.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Calls per [`SPAN`] and account. Source: "API requests" in the Route 53 quotas.
const CALLS: usize = 5;
/// What the limit counts over.
const SPAN: Duration = Duration::from_secs(1);

/// Hands out turns per account, never more than the limit in any span.
///
/// A leaky bucket either spaces calls evenly, which costs a lone move most of its time, or lets a burst of five and
/// five more pass within one second; remembering the last five turns does neither.
#[derive(Debug, Default)]
pub struct Pace(Mutex<HashMap<Option<String>, VecDeque<Instant>>>);

impl Pace {
    /// Waits for a turn of `account`.
    pub async fn turn(&self, account: Option<&str>) {
        while let Some(free) = self.take(account, Instant::now()) {
            tokio::time::sleep_until(free).await;
        }
    }

    /// Takes a turn, or says when to ask again.
    fn take(&self, account: Option<&str>, now: Instant) -> Option<Instant> {
        let mut accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let turns = accounts.entry(account.map(str::to_owned)).or_default();
        while turns.front().is_some_and(|first| *first + SPAN <= now) {
            turns.pop_front();
        }
        match turns.front() {
            Some(first) if turns.len() >= CALLS => Some(*first + SPAN),
            _ => {
                turns.push_back(now);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_more_than_five_in_any_second_and_no_wait_below() {
        let (pace, start) = (Pace::default(), Instant::now());
        for _ in 0..5 {
            assert_eq!(pace.take(None, start), None);
        }
        assert_eq!(pace.take(None, start), Some(start + SPAN));
        assert_eq!(pace.take(Some("other"), start), None);
        assert_eq!(pace.take(None, start + SPAN), None);
    }
}
