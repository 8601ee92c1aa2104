//! The load balancer that an alias names: the zone that the alias must name with it is told by the load balancer's own region
//! and account.
//!
//! The zone's account may hold nothing but zones, the usual shape of an account for the network; the load balancer is then in
//! ours. Where both may be asked, the step's own account comes first.

use super::*;
#[cfg(feature = "elbv2")]
use crate::adapters::aws::{Failure, Op, Purpose};

/// The accounts that may hold the load balancer, in the order in which they are asked.
fn holders(account: Option<&str>) -> Vec<Option<&str>> {
    account.map(Some).into_iter().chain([None]).collect()
}

/// What asking for them needs. Describe calls of load balancers know no resources.
pub(super) fn permissions(step: &PlannedStep) -> Vec<Permission> {
    let action = "elasticloadbalancing:DescribeLoadBalancers";
    let may =
        |account: Option<&str>| Permission { action: action.to_owned(), resource: "*".to_owned(), account: account.map(str::to_owned) };
    holders(step.account.as_deref()).into_iter().map(may).collect()
}

#[cfg(feature = "elbv2")]
fn in_words(account: Option<&str>) -> String {
    account.map_or_else(|| "our own account".to_owned(), |name| format!("account {name:?}"))
}

impl Records {
    /// The zone that an alias to this load balancer must name: its own, told by its region's API.
    pub(super) async fn zone_of(&self, name: &str) -> Result<String, StepError> {
        let bare = name.trim_start_matches("dualstack.").to_owned();
        if let Some(zone) = self.memory(|memory| memory.zones.get(&bare).cloned()) {
            return Ok(zone);
        }
        let zone = self.ask_zone(&bare).await?;
        self.memory(|memory| memory.zones.insert(bare, zone.clone()));
        Ok(zone)
    }

    #[cfg(feature = "elbv2")]
    async fn ask_zone(&self, name: &str) -> Result<String, StepError> {
        // `x.REGION.elb.amazonaws.com` or `x.elb.REGION.amazonaws.com`; else the step's own region.
        let labels: Vec<&str> = name.split('.').collect();
        let region = match labels.as_slice() {
            [_, "elb", region, "amazonaws", ..] | [_, region, "elb", "amazonaws", ..] => region,
            _ => self.zone.region.as_str(),
        };
        let accounts = holders(self.zone.account.as_deref());
        let mut unasked = None;
        for account in &accounts {
            match self.ask_account(*account, region, name).await {
                Ok(Some(zone)) => return Ok(zone),
                Ok(None) => {}
                // One account that cannot be asked does not hide what the other has.
                Err(failure) => unasked = unasked.or(Some(failure)),
            }
        }
        if let Some(failure) = unasked {
            return Err(failure.step());
        }
        let asked: Vec<String> = accounts.into_iter().map(in_words).collect();
        let message = format!("elbv2: no load balancer in {region} has the DNS name {name}, in {}; mend `alias`", asked.join(" or "));
        Err(StepError::new(ErrorClass::Refused, "load-balancer-not-found", message))
    }

    /// The zone of that load balancer, if the account has it.
    #[cfg(feature = "elbv2")]
    async fn ask_account(&self, account: Option<&str>, region: &str, name: &str) -> Result<Option<String>, Failure> {
        let action = "elasticloadbalancing:DescribeLoadBalancers";
        let subject = format!("load balancer {name} of {}", in_words(account));
        let op = Op::new("elbv2", "DescribeLoadBalancers", action, region, subject);
        let client = self.aws.elbv2(account, region, Purpose::Look).await?;
        let mut marker = None;
        loop {
            let call = client.describe_load_balancers().set_marker(marker.take()).send();
            let page = self.aws.call(&op, call).await?;
            let mut found = page.load_balancers().iter().filter(|one| one.dns_name().is_some_and(|dns| canonical(dns) == name));
            if let Some(zone) = found.next().and_then(|one| one.canonical_hosted_zone_id()) {
                return Ok(Some(zone.to_owned()));
            }
            match page.next_marker().filter(|next| !next.is_empty()) {
                Some(next) => marker = Some(next.to_owned()),
                None => return Ok(None),
            }
        }
    }

    #[cfg(not(feature = "elbv2"))]
    async fn ask_zone(&self, name: &str) -> Result<String, StepError> {
        let message = format!("alias {name}: this build has no elbv2 and cannot ask for the load balancer's zone");
        Err(StepError::new(ErrorClass::Refused, "no-elbv2", message))
    }
}
