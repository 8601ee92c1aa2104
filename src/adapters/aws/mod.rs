//! AWS, as every adapter reaches it: one HTTP client, one set of credentials, one client per service, account,
//! region and purpose, explicit timeouts on each, and one place that times and classes every call.
//!
//! What must be set and why was measured: without it a silent peer is waited for without end, and polling a dead
//! region eats the retry tokens of the calls that save the day.

mod assumed;
#[cfg(feature = "autoscaling")]
pub mod autoscaling;
mod bounded;
mod failure;
#[cfg(feature = "rds")]
pub mod rds;
#[cfg(test)]
pub mod scripted;
mod sendable;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_sts::config::retry::RetryPartition;
use aws_smithy_http_client::Builder as HttpBuilder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use assumed::Assumed;
pub use failure::{Failure, Kind, Op, classify};
use sendable::Sendable;

/// How long a TCP (and TLS) connection may take to stand, at most.
const CONNECT: Duration = Duration::from_millis(2_500);
/// First pause between two attempts of a change; the SDK's own default is a second.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Longest such pause.
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// What the config says about AWS.
#[derive(Clone)]
pub struct AwsSpec {
    /// An emulator or the lab; `None`: AWS itself.
    pub endpoint_url: Option<String>,
    /// How long one attempt of one call may take.
    pub call_timeout: Duration,
    /// How often a change is sent at most, on throttling and lost answers.
    pub attempts: u32,
    /// Accounts other than our own, by the names that steps and signals use.
    pub accounts: BTreeMap<String, AccountSpec>,
}

impl Default for AwsSpec {
    fn default() -> AwsSpec {
        AwsSpec { endpoint_url: None, call_timeout: Duration::from_secs(5), attempts: 3, accounts: BTreeMap::new() }
    }
}

/// One other account.
#[derive(Clone)]
pub struct AccountSpec {
    /// The role to take there.
    pub role_arn: String,
    /// The external id that the role demands; treated as a secret.
    pub external_id: Option<String>,
}

impl fmt::Debug for AccountSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccountSpec")
            .field("role_arn", &self.role_arn)
            .field("external_id", &self.external_id.as_ref().map(|_| "…"))
            .finish()
    }
}

/// What a client is for: how patient it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// A look: one attempt, with retry tokens of its own.
    Look,
    /// A change that bears repetition: up to `attempts`.
    Change,
    /// A change that must not be sent twice unseen: one attempt; who called inspects before asking again.
    Once,
}

/// One finished call, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CallRecord<'a> {
    /// `rds`.
    pub service: &'static str,
    /// `PromoteReadReplica`.
    pub operation: &'static str,
    /// The region it went to.
    pub region: &'a str,
    /// `ok`, `error`, `timeout` or `throttled`.
    pub outcome: &'static str,
    /// How long it took, all attempts together.
    pub seconds: f64,
}

/// Sees every call.
pub type Hook = Arc<dyn Fn(&CallRecord<'_>) + Send + Sync>;

type ClientKey = (&'static str, Option<String>, String, Purpose);
type ConfigKey = (Option<String>, String);

struct Inner {
    spec: AwsSpec,
    hook: Hook,
    http: SharedHttpClient,
    base: OnceCell<SdkConfig>,
    configs: Mutex<HashMap<ConfigKey, SdkConfig>>,
    clients: Mutex<HashMap<ClientKey, Box<dyn Any + Send + Sync>>>,
    looks: RetryPartition,
    failover: RetryPartition,
}

/// The way to AWS. Cheap to clone; all clones share clients, connections and credentials.
#[derive(Clone)]
pub struct Aws(Arc<Inner>);

impl fmt::Debug for Aws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aws").field("endpoint_url", &self.0.spec.endpoint_url).finish_non_exhaustive()
    }
}

impl Aws {
    /// Makes no call and loads nothing yet; clients and credentials come with their first use.
    pub fn new(spec: &AwsSpec, hook: Hook) -> Aws {
        let plain = spec.endpoint_url.as_deref().is_some_and(|url| url.starts_with("http://"));
        let builder = HttpBuilder::new().pool_idle_timeout(Duration::from_secs(50)).pool_max_idle_per_host(4);
        // A plain endpoint (the lab, an emulator) needs no TLS roots in memory.
        let http = if plain { builder.build_http() } else { builder.tls_provider(Provider::Rustls(CryptoMode::AwsLc)).build_https() };
        Aws(Arc::new(Inner {
            spec: spec.clone(),
            hook,
            http: bounded::bounded(http),
            base: OnceCell::new(),
            configs: Mutex::default(),
            clients: Mutex::default(),
            // Custom partitions own their tokens: 24 failed looks at a dead region would dry a shared bucket,
            // and the promotion's second attempt would not be sent.
            looks: RetryPartition::custom("looks").build(),
            failover: RetryPartition::custom("failover").build(),
        }))
    }

    /// Who we are, asked at the STS of `region`, so that the credentials are resolved and cached before they are needed.
    ///
    /// Call it once at start with a region that is not the one to be left: where the environment names no region
    /// (`AWS_REGION`), the credentials chain itself uses this one.
    pub async fn identity(&self, region: &str) -> Result<String, Failure> {
        let op = Op::new("sts", "GetCallerIdentity", "sts:GetCallerIdentity", region, "our own identity");
        let client = self.sts(None, region, Purpose::Look).await?;
        let answer = self.call(&op, client.get_caller_identity().send()).await?;
        Ok(answer.arn().unwrap_or("an identity without ARN").to_owned())
    }

    /// Makes a call, times it, tells the hook and classes its failure.
    pub async fn call<T, E>(&self, op: &Op, call: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>) -> Result<T, Failure>
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        self.call_expecting(op, |_| false, call).await
    }

    /// The same of a call that some failures answer: counted as errors, they would alarm somebody while all is well.
    pub async fn call_expecting<T, E>(
        &self,
        op: &Op,
        answers: impl Fn(&Failure) -> bool,
        call: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, Failure>
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let start = Instant::now();
        let result = call.await.map_err(|error| classify(op, &error));
        let outcome = result.as_ref().map_or_else(|failure| if answers(failure) { "ok" } else { failure.outcome() }, |_| "ok");
        let seconds = start.elapsed().as_secs_f64();
        (self.0.hook)(&CallRecord { service: op.service, operation: op.operation, region: &op.region, outcome, seconds });
        result
    }

    /// The STS client of a region.
    pub async fn sts(&self, account: Option<&str>, region: &str, purpose: Purpose) -> Result<aws_sdk_sts::Client, Failure> {
        self.client("sts", account, region, purpose, |config, tokens| {
            aws_sdk_sts::Client::from_conf(aws_sdk_sts::config::Builder::from(config).retry_partition(tokens).build())
        })
        .await
    }

    /// A client that asks without credentials, as the world at large does.
    #[cfg(feature = "s3")]
    pub async fn s3_anonymous(&self, region: &str) -> Result<aws_sdk_s3::Client, Failure> {
        let plain = self.0.spec.endpoint_url.is_some();
        self.client("s3-anonymous", None, region, Purpose::Look, |config, tokens| {
            let mut nameless = config.to_builder();
            nameless.set_credentials_provider(None);
            let builder = aws_sdk_s3::config::Builder::from(&nameless.build()).retry_partition(tokens);
            aws_sdk_s3::Client::from_conf(builder.force_path_style(plain).allow_no_auth().build())
        })
        .await
    }

    /// The cached client of that key, or a new one.
    async fn client<C: Clone + Send + Sync + 'static>(
        &self,
        service: &'static str,
        account: Option<&str>,
        region: &str,
        purpose: Purpose,
        make: impl FnOnce(&SdkConfig, RetryPartition) -> C,
    ) -> Result<C, Failure> {
        let key = (service, account.map(str::to_owned), region.to_owned(), purpose);
        let cached = |map: &HashMap<ClientKey, Box<dyn Any + Send + Sync>>| map.get(&key).and_then(|any| any.downcast_ref::<C>()).cloned();
        if let Some(client) = cached(&self.0.clients.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(client);
        }
        let config = self.config(account, region).await?;
        let (attempts, tokens) = match purpose {
            Purpose::Look => (1, self.0.looks.clone()),
            Purpose::Change => (self.0.spec.attempts.max(1), self.0.failover.clone()),
            Purpose::Once => (1, self.0.failover.clone()),
        };
        let retries = RetryConfig::standard().with_max_attempts(attempts).with_initial_backoff(FIRST_PAUSE).with_max_backoff(LAST_PAUSE);
        let config = config.to_builder().retry_config(retries).timeout_config(self.timeouts(attempts)).build();
        let client = make(&config, tokens);
        self.0.clients.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Box::new(client.clone()));
        Ok(client)
    }

    /// Region, credentials and endpoint of one account in one region.
    async fn config(&self, account: Option<&str>, region: &str) -> Result<SdkConfig, Failure> {
        let key = (account.map(str::to_owned), region.to_owned());
        if let Some(config) = self.0.configs.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(config.clone());
        }
        let base = self.0.base.get_or_init(|| self.load(region)).await;
        let mut config = base.to_builder().region(Region::new(region.to_owned())).build();
        if let Some(name) = account {
            let op = Op::new("sts", "AssumeRole", "sts:AssumeRole", region, format!("account {name}"));
            let Some(spec) = self.0.spec.accounts.get(name) else {
                let known: Vec<&str> = self.0.spec.accounts.keys().map(String::as_str).collect();
                return Err(Failure::before(
                    &op,
                    Kind::Rejected,
                    "unknown-account",
                    &format!("no [account.{name}] in the config; known: {}", known.join(", ")),
                ));
            };
            // The region's own STS: the role must not hang on the region that is left, nor on us-east-1.
            let mut role = AssumeRoleProvider::builder(&spec.role_arn).session_name("watchover").configure(&config);
            if let Some(id) = &spec.external_id {
                role = role.external_id(id);
            }
            let role = Assumed { role: role.build().await, op, hook: Arc::clone(&self.0.hook) };
            config = config.to_builder().credentials_provider(SharedCredentialsProvider::new(Sendable(role))).build();
        }
        self.0.configs.lock().unwrap_or_else(PoisonError::into_inner).insert(key, config.clone());
        Ok(config)
    }

    /// The SDK's own chain, without the question for a default region: that would ask the instance's metadata.
    async fn load(&self, region: &str) -> SdkConfig {
        let home = ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().find_map(|name| std::env::var(name).ok()).filter(|found| !found.is_empty());
        let cache = aws_config::identity::IdentityCache::lazy().load_timeout(self.0.spec.call_timeout).build();
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .region(Region::new(home.unwrap_or_else(|| region.to_owned())))
            .http_client(self.0.http.clone())
            .identity_cache(cache)
            .timeout_config(self.timeouts(1));
        if let Some(url) = &self.0.spec.endpoint_url {
            loader = loader.endpoint_url(url);
        }
        let found = loader.load().await;
        let mut config = found.to_builder();
        config.set_credentials_provider(found.credentials_provider().map(|own| SharedCredentialsProvider::new(Sendable(own))));
        config.build()
    }

    /// Connect and read are the same for all clients: each other setting would mean another pool and another set of roots.
    fn timeouts(&self, attempts: u32) -> TimeoutConfig {
        let call = self.0.spec.call_timeout;
        let whole = call.saturating_mul(attempts).saturating_add(LAST_PAUSE.saturating_mul(attempts.saturating_sub(1)));
        TimeoutConfig::builder()
            .connect_timeout(CONNECT.min(call))
            .read_timeout(call)
            .operation_attempt_timeout(call)
            .operation_timeout(whole)
            .build()
    }
}

#[cfg(test)]
impl Aws {
    /// The same way with keys given: a test cannot set the environment that the SDK's chain reads.
    pub(crate) async fn with_keys(spec: &AwsSpec, hook: Hook, keys: aws_credential_types::Credentials) -> Aws {
        let aws = Aws::new(spec, hook);
        let base = aws.load("eu-west-1").await.to_builder().credentials_provider(SharedCredentialsProvider::new(Sendable(keys))).build();
        assert!(aws.0.base.set(base).is_ok(), "nothing was asked yet");
        aws
    }
}

/// One accessor per service, behind its feature.
macro_rules! service {
    ($feature:literal, $name:ident, $sdk:ident, $doc:literal $(, $extra:ident)?) => {
        #[cfg(feature = $feature)]
        impl Aws {
            #[doc = $doc]
            pub async fn $name(&self, account: Option<&str>, region: &str, purpose: Purpose) -> Result<$sdk::Client, Failure> {
                self.client(stringify!($name), account, region, purpose, |config, tokens| {
                    let builder = $sdk::config::Builder::from(config).retry_partition(tokens);
                    $(let builder = builder.$extra(self.0.spec.endpoint_url.is_some());)?
                    $sdk::Client::from_conf(builder.build())
                })
                .await
            }
        }
    };
}

service!("rds", rds, aws_sdk_rds, "The RDS client of a region.");
service!("cloudwatch", cloudwatch, aws_sdk_cloudwatch, "The CloudWatch client of a region.");
service!("autoscaling", autoscaling, aws_sdk_autoscaling, "The Auto Scaling client of a region.");
service!("elbv2", elbv2, aws_sdk_elasticloadbalancingv2, "The client of a region's load balancers.");
service!("route53", route53, aws_sdk_route53, "The Route 53 client; the service is global, its calls are signed for us-east-1.");
service!("sns", sns, aws_sdk_sns, "The SNS client of a region.");
service!("s3", s3, aws_sdk_s3, "The S3 client of a bucket's region; path style where an emulator answers.", force_path_style);

/// The partition that ARNs of a region begin with.
pub fn partition(region: &str) -> &'static str {
    // Of prefixes that begin alike the longer one first.
    let known = [
        ("cn-", "aws-cn"),
        ("us-gov-", "aws-us-gov"),
        ("us-isob-", "aws-iso-b"),
        ("us-isof-", "aws-iso-f"),
        ("eu-isoe-", "aws-iso-e"),
        ("us-iso-", "aws-iso"),
        ("eusc-", "aws-eusc"),
    ];
    known.iter().find(|(prefix, _)| region.starts_with(prefix)).map_or("aws", |(_, partition)| partition)
}
