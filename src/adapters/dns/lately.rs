//! What a load balancer's name answered lately: a large one gives a part of its addresses each time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

/// Addresses that one answer of a load balancer's name holds at most: as many as Route 53 documents for `MultiValueAnswer`, and
/// as are seen of large load balancers. Fewer are all that it has.
pub const FULL_PART: usize = 8;

/// How long an address stays its load balancer's after the last answer that had it. A large one's name gives some of its
/// addresses at a time, and another name that leads to it is drawn and kept apart from it: one answer alone need not have
/// the address that users got. A few of its TTLs (a minute: Elastic Load Balancing user guide) gather most of them; much
/// longer, and an address that it gave back as it shrank would still prove something.
const ADDRESS_KEPT: Duration = Duration::from_secs(300);

/// Addresses kept of one load balancer. One of AWS has a hundred at most (user guide of Application Load Balancers).
const ADDRESSES_KEPT: usize = 256;

/// The addresses that one load balancer had lately, each with when an answer last had it.
#[derive(Debug, Default)]
pub struct Lately(HashMap<IpAddr, Instant>);

impl Lately {
    /// Takes an answer in.
    pub fn add(&mut self, addresses: &[IpAddr], now: Instant) {
        self.0.extend(addresses.iter().map(|address| (*address, now)));
        while self.0.len() > ADDRESSES_KEPT
            && let Some(oldest) = self.0.iter().min_by_key(|(_, at)| **at).map(|(address, _)| *address)
        {
            self.0.remove(&oldest);
        }
    }

    /// Forgets what no answer has had for too long.
    pub fn forget_old(&mut self, now: Instant) {
        self.0.retain(|_, at| now.saturating_duration_since(*at) < ADDRESS_KEPT);
    }

    /// True of an address that an answer had lately.
    pub fn has(&self, address: &IpAddr) -> bool {
        self.0.contains_key(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_kept_for_their_time_and_in_bounds() {
        let (start, address) = (Instant::now(), |at: u32| IpAddr::from(at.to_be_bytes()));
        let many: Vec<IpAddr> = (0..300).map(address).collect();
        let mut lately = Lately::default();
        lately.add(&many[..150], start);
        lately.add(&many[150..], start + Duration::from_secs(10));
        assert_eq!(lately.0.len(), ADDRESSES_KEPT);
        assert!(many[150..].iter().all(|at| lately.has(at)), "the oldest went");
        lately.forget_old(start + ADDRESS_KEPT);
        assert!(!lately.has(&many[149]) && lately.has(&many[150]));
        lately.forget_old(start + ADDRESS_KEPT + Duration::from_secs(10));
        assert!(!lately.has(&many[150]));
    }
}
