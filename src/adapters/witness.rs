//! A witness: a neutral place whose answer tells "they are gone" from "we are cut off".

use std::time::Duration;

use async_trait::async_trait;
use url::Url;

use super::http::{Client, Dialer, HttpSpec, StatusSet};
use crate::domain::model::Finding;
use crate::ports::Probe;

/// One witness URL. Any HTTP answer below 500 is enough: it proves that we are not alone, whatever it says.
pub struct Witness(Client);

impl Witness {
    /// A witness at `url`.
    ///
    /// # Errors
    /// The machine's root certificates cannot be read (https).
    pub fn new(url: Url, dialer: &Dialer) -> Result<Witness, String> {
        let mut spec = HttpSpec::get(url);
        spec.expect.status = StatusSet::parse("100-499")?;
        // The head proves it; the body is not ours to load.
        spec.method = "HEAD".to_owned();
        Ok(Witness(dialer.client(spec)?))
    }
}

#[async_trait]
impl Probe for Witness {
    async fn look(&self, timeout: Duration, now: i64) -> Finding {
        Probe::look(&self.0, timeout, now).await
    }
}

#[cfg(test)]
mod tests {
    use super::super::dns::{Dns, DnsSpec};
    use super::super::http::server::Server;
    use super::*;
    use crate::domain::model::{Cause, Verdict};

    #[tokio::test]
    async fn any_answer_below_500_proves_that_we_are_not_alone() {
        let dialer = Dialer::new(Dns::new(&DnsSpec { resolvers: vec!["127.0.0.1".to_owned()], ..DnsSpec::default() }).unwrap());
        for (status, verdict) in
            [(204, Verdict::Up), (302, Verdict::Up), (403, Verdict::Up), (405, Verdict::Up), (503, Verdict::Down(Cause::Status))]
        {
            let server =
                Server::saying(&format!("HTTP/1.1 {status} X\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 99\r\n\r\n")).await;
            let witness = Witness::new(Url::parse(&format!("http://{}/", server.address)).unwrap(), &dialer).unwrap();
            assert_eq!(witness.look(Duration::from_secs(2), 0).await.verdict, verdict, "{status}");
        }
    }
}
