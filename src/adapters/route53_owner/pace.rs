//! Route 53 takes 5 calls a second from a whole account.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Calls per [`SPAN`] and account. Source: "API requests" in the Route 53 quotas.
const CALLS: usize = 5;
/// What the limit counts over.
const SPAN: Duration = Duration::from_secs(1);

/// Calls of those that surveys may take: a move that comes meanwhile finds a turn free.
const SURVEYS: usize = 3;

/// Who takes a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// A move, or a look that a move may wait for.
    Move,
    /// A survey, for which nobody waits.
    Survey,
}

/// Hands out turns per account, never more than the limit in any span.
///
/// A leaky bucket either spaces calls evenly, which costs a lone move most of its time, or lets a burst of five and
/// five more pass within one second; remembering the last five turns does neither.
#[derive(Debug, Default)]
pub struct Pace(Mutex<HashMap<Option<String>, VecDeque<Instant>>>);

impl Pace {
    /// Waits for a turn of `account`.
    pub async fn turn(&self, account: Option<&str>, whom: For) {
        while let Some(free) = self.take(account, whom, Instant::now()) {
            tokio::time::sleep_until(free).await;
        }
    }

    /// Takes a turn, or says when to ask again.
    fn take(&self, account: Option<&str>, whom: For, now: Instant) -> Option<Instant> {
        let mut accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let turns = accounts.entry(account.map(str::to_owned)).or_default();
        while turns.front().is_some_and(|first| *first + SPAN <= now) {
            turns.pop_front();
        }
        let most = match whom {
            For::Move => CALLS,
            For::Survey => SURVEYS,
        };
        // The one that must be a span ago before there are fewer than the most.
        match turns.len().checked_sub(most).and_then(|at| turns.get(at)) {
            Some(one) => Some(*one + SPAN),
            None => {
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
            assert_eq!(pace.take(None, For::Move, start), None);
        }
        assert_eq!(pace.take(None, For::Move, start), Some(start + SPAN));
        assert_eq!(pace.take(Some("other"), For::Move, start), None);
        assert_eq!(pace.take(None, For::Move, start + SPAN), None);
    }

    #[test]
    fn surveys_leave_turns_to_moves() {
        let (pace, start) = (Pace::default(), Instant::now());
        let (later, half) = (start + SPAN, start + SPAN / 2);
        for _ in 0..3 {
            assert_eq!(pace.take(None, For::Survey, start), None);
        }
        assert_eq!(pace.take(None, For::Survey, start), Some(later));
        for _ in 0..2 {
            assert_eq!(pace.take(None, For::Move, half), None, "surveys that wait are in nobody's way");
        }
        assert_eq!(pace.take(None, For::Move, half), Some(later));
        assert_eq!(pace.take(None, For::Survey, half), Some(later), "two of a move and none of a survey");
        assert_eq!(pace.take(None, For::Survey, later), None);
    }
}
