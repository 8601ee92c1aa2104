//! One outside thing each.
//!
//! Siblings do not see each other, save the common ground: `aws`, `http`, `dns`, `web`, what reads AWS for signals
//! and steps alike (`cloudwatch`, `route53_owner`), `process` (other people's programs), and `followup`.

pub mod aws;
pub mod catalogue;
#[cfg(feature = "cloudwatch")]
pub mod cloudwatch;
pub mod dead_man;
pub mod dns;
pub mod followup;
pub mod front_door;
pub mod http;
pub mod notify;
pub mod process;
pub mod registry;
#[cfg(feature = "route53")]
pub mod route53_owner;
pub mod shell;
pub mod signals;
#[cfg(feature = "sns")]
pub mod sns_topic;
pub mod sqlite;
pub mod steps;
pub mod web;
pub mod witness;

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use catalogue::Kinds;

use crate::config::Config;

/// The common ground that kinds are built on; one of it in a process.
#[derive(Clone)]
pub struct Adapters {
    /// Names to addresses.
    pub dns: dns::Dns,
    /// Looks over HTTP.
    pub http: http::Dialer,
    /// Messages over HTTP: webhooks and the dead man's switch.
    pub web: web::Web,
    /// The way to AWS.
    pub aws: aws::Aws,
    /// Route 53's one owner.
    #[cfg(feature = "route53")]
    pub route53: route53_owner::Owner,
    /// The zones' own servers.
    pub authority: Arc<dyn steps::Authority>,
    /// Work after the critical path.
    pub followups: followup::Followups,
}

impl Adapters {
    /// Sets the ground up; asks nothing and reads no certificates yet. Tasks run under `tracker` until `stop`.
    /// Must be called within the runtime that they shall run on.
    ///
    /// # Errors
    /// In words: the resolvers cannot be set up.
    pub fn new(config: &Config, hook: aws::Hook, tracker: &TaskTracker, stop: &CancellationToken) -> Result<Adapters, String> {
        let spec = dns::DnsSpec { resolvers: config.dns.resolvers.clone(), authoritative: config.dns.authoritative.clone() };
        let dns = dns::Dns::new(&spec).map_err(|cause| format!("dns.resolvers: {cause}"))?;
        let http = http::Dialer::new(dns.clone());
        let account = |account: &crate::config::AccountConfig| aws::AccountSpec {
            role_arn: account.role_arn.clone(),
            external_id: account.external_id.as_ref().map(|id| id.expose().to_owned()),
        };
        let spec = aws::AwsSpec {
            endpoint_url: config.aws.endpoint_url.as_ref().map(|url| url.as_str().trim_end_matches('/').to_owned()),
            call_timeout: config.aws.call_timeout,
            attempts: config.aws.attempts,
            accounts: config.accounts.iter().map(|(name, found)| (name.clone(), account(found))).collect(),
        };
        let aws = aws::Aws::new(&spec, hook);
        Ok(Adapters {
            web: web::Web::new(http.clone()),
            #[cfg(feature = "route53")]
            route53: route53_owner::Owner::new(aws.clone(), tracker, stop.clone()),
            followups: followup::Followups::new(tracker.clone(), stop.clone()),
            authority: Arc::new(ZoneServers(dns.clone())),
            aws,
            dns,
            http,
        })
    }
}

#[cfg(test)]
impl Adapters {
    /// The ground for tests of kinds that ask nobody.
    pub(crate) fn for_tests() -> Adapters {
        Adapters::for_tests_on(aws::Aws::new(&aws::AwsSpec::default(), Arc::new(|_| {})))
    }

    /// The ground for tests of kinds that ask AWS.
    pub(crate) fn for_tests_on(aws: aws::Aws) -> Adapters {
        let spec = dns::DnsSpec { resolvers: vec!["127.0.0.1".into()], ..dns::DnsSpec::default() };
        let dns = dns::Dns::new(&spec).expect("an address is a resolver");
        let http = http::Dialer::new(dns.clone());
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        Adapters {
            web: web::Web::new(http.clone()),
            #[cfg(feature = "route53")]
            route53: route53_owner::Owner::new(aws.clone(), &tracker, stop.clone()),
            followups: followup::Followups::new(tracker, stop),
            authority: Arc::new(ZoneServers(dns.clone())),
            aws,
            dns,
            http,
        }
    }
}

/// The zones' own servers, as steps ask them.
struct ZoneServers(dns::Dns);

#[async_trait]
impl steps::Authority for ZoneServers {
    async fn authoritative(&self, name: &str) -> Result<Vec<std::net::IpAddr>, String> {
        known(self.0.authoritative(name).await)
    }
}

/// That a name has no address is an answer; that nobody answers is none.
fn known(answer: Result<Vec<std::net::IpAddr>, dns::DnsError>) -> Result<Vec<std::net::IpAddr>, String> {
    match answer {
        Err(dns::DnsError::NxDomain | dns::DnsError::NoData) => Ok(Vec::new()),
        answer => answer.map_err(|error| error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_is_an_answer_and_no_answer_is_none() {
        for none in [dns::DnsError::NxDomain, dns::DnsError::NoData] {
            assert_eq!(known(Err(none)), Ok(Vec::new()));
        }
        for silent in [dns::DnsError::Timeout, dns::DnsError::Failed("refused".into())] {
            assert_eq!(known(Err(silent.clone())), Err(silent.to_string()));
        }
        assert_eq!(known(Ok(vec![[192, 0, 2, 1].into()])), Ok(vec![[192, 0, 2, 1].into()]));
    }
}
