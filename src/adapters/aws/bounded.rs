//! A bound on what one answer may hold in memory.
//!
//! The SDK reads every body to its end before it looks at it, and bounds only its time: within `call_timeout` a peer that
//! never stops would have filled gigabytes.

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::{RuntimeComponents, RuntimeComponentsBuilder};
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;
use http_body_util::Limited;

/// Bytes of an answer's body. The largest honest one is a full page of what is listed, about a tenth of it.
const BODY: usize = 8 << 20;

/// The same client, whose answers are cut off with an error once they are larger than any honest one.
pub(super) fn bounded(client: SharedHttpClient) -> SharedHttpClient {
    SharedHttpClient::new(Bounded(client))
}

#[derive(Debug)]
struct Bounded(SharedHttpClient);

impl HttpClient for Bounded {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(Connector(self.0.http_connector(settings, components)))
    }

    fn validate_base_client_config(&self, components: &RuntimeComponentsBuilder, config: &ConfigBag) -> Result<(), BoxError> {
        self.0.validate_base_client_config(components, config)
    }

    fn validate_final_config(&self, components: &RuntimeComponents, config: &ConfigBag) -> Result<(), BoxError> {
        self.0.validate_final_config(components, config)
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.0.connector_metadata()
    }
}

#[derive(Debug)]
struct Connector(SharedHttpConnector);

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let answer = self.0.call(request);
        HttpConnectorFuture::new(async move { Ok(answer.await?.map(|body| SdkBody::from_body_1_x(Limited::new(body, BODY)))) })
    }
}
