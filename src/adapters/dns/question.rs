//! One question of one type, put to whom the caller says, past our own cache: what the `dns` signal looks at.

use std::net::SocketAddr;
use std::sync::Arc;

use hickory_resolver::NameServerPool;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsHandle, FirstAnswer};
use hickory_resolver::proto::op::{DnsRequestOptions, Query};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::time::timeout;

use super::{CALL_TIMEOUT, Dns, DnsError, QUERY_TIMEOUT, authority, classed, parse, pool};
use crate::domain::model::words;

words! {
    /// Types of records that can be asked for.
    RecordKind { A = "A", Aaaa = "AAAA", Cname = "CNAME", Txt = "TXT" }
}

impl RecordKind {
    pub(super) fn wire(self) -> RecordType {
        match self {
            RecordKind::A => RecordType::A,
            RecordKind::Aaaa => RecordType::AAAA,
            RecordKind::Cname => RecordType::CNAME,
            RecordKind::Txt => RecordType::TXT,
        }
    }

    /// The record's value as people write it; `None` if it is of another type. Names in lower case, without the last dot.
    pub(super) fn value(self, record: &Record) -> Option<String> {
        match (self, &record.data) {
            (RecordKind::A, RData::A(address)) => Some(address.0.to_string()),
            (RecordKind::Aaaa, RData::AAAA(address)) => Some(address.0.to_string()),
            (RecordKind::Cname, RData::CNAME(name)) => Some(name.0.to_lowercase().to_ascii().trim_end_matches('.').to_owned()),
            (RecordKind::Txt, RData::TXT(text)) => Some(text.txt_data.iter().map(|part| String::from_utf8_lossy(part)).collect::<String>()),
            _ => None,
        }
    }
}

/// Whom to ask.
#[derive(Clone)]
pub enum Whom {
    /// The zone's own servers.
    Authority,
    /// The configured resolvers.
    Resolvers,
    /// One server after the other, each question the next.
    Servers(Servers),
}

/// Servers by their addresses; asked with recursion, which a zone's own server ignores.
#[derive(Clone)]
pub struct Servers(Arc<[(SocketAddr, NameServerPool<TokioRuntimeProvider>)]>);

impl Servers {
    /// Asks nothing yet.
    pub fn new(addresses: &[SocketAddr]) -> Servers {
        Servers(addresses.iter().filter_map(|address| Some((*address, pool(*address, QUERY_TIMEOUT, true)?))).collect())
    }
}

impl Dns {
    /// The values of `name`'s records of that type, sorted, never empty; never from our own cache. `turn` picks the server
    /// of [`Whom::Servers`]. CNAMEs on the way to an address are followed, by us or by whoever is asked.
    ///
    /// # Errors
    /// As [`DnsError`] says; `NoData` where the name has no record of that type.
    pub async fn values(&self, name: &str, kind: RecordKind, whom: &Whom, turn: usize) -> Result<Vec<String>, DnsError> {
        let name = parse(name)?;
        let ask = async {
            match whom {
                Whom::Authority => self.at_authority(name, kind).await,
                Whom::Resolvers => {
                    let found = self.inner.resolver.lookup(name, kind.wire()).await.map_err(classed)?;
                    Ok(found.answers().iter().filter_map(|record| kind.value(record)).collect())
                }
                Whom::Servers(servers) => servers.ask(name, kind, turn).await,
            }
        };
        let mut values: Vec<String> = timeout(CALL_TIMEOUT, ask).await.unwrap_or(Err(DnsError::Timeout))?;
        if values.is_empty() {
            return Err(DnsError::NoData);
        }
        values.sort();
        Ok(values)
    }

    async fn at_authority(&self, name: Name, kind: RecordKind) -> Result<Vec<String>, DnsError> {
        match kind {
            RecordKind::A | RecordKind::Aaaa => {
                let found = authority::resolve(self, name, &[kind.wire()]).await?;
                Ok(found.iter().map(ToString::to_string).collect())
            }
            RecordKind::Cname | RecordKind::Txt => {
                let found = authority::records(self, &name, kind.wire()).await?;
                Ok(found.iter().filter_map(|record| kind.value(record)).collect())
            }
        }
    }
}

impl Servers {
    /// Who is asked at that turn, for a person.
    pub fn at(&self, turn: usize) -> Option<SocketAddr> {
        self.0.get(turn.checked_rem(self.0.len())?).map(|(address, _)| *address)
    }

    async fn ask(&self, name: Name, kind: RecordKind, turn: usize) -> Result<Vec<String>, DnsError> {
        let server = turn.checked_rem(self.0.len()).and_then(|at| self.0.get(at));
        let (_, server) = server.ok_or_else(|| DnsError::Failed("there is no server to ask".to_owned()))?;
        let mut how = DnsRequestOptions::default();
        how.use_edns = true;
        let answer = server.lookup(Query::query(name, kind.wire()), how).first_answer().await.map_err(classed)?;
        Ok(answer.answers.iter().filter_map(|record| kind.value(record)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::DnsSpec;
    use super::super::fake::{Fake, Says, at};
    use super::*;

    #[tokio::test]
    async fn each_way_of_asking_gives_the_values_and_none_is_cached() {
        let (fake, server) = Fake::start().await;
        let spec = DnsSpec { resolvers: vec![server.to_string()], authoritative: [("example.com".to_owned(), vec![server])].into() };
        let dns = Dns::new(&spec).unwrap();
        fake.set("shop.example.com", at(&[2, 1], 60));
        fake.set("www.example.com", Says::Alias("lb.example.net", 60));
        for whom in [Whom::Authority, Whom::Resolvers, Whom::Servers(Servers::new(&[server]))] {
            fake.set("shop.example.com", at(&[2, 1], 60));
            let a = async || dns.values("shop.example.com", RecordKind::A, &whom, 0).await;
            assert_eq!(a().await.unwrap(), ["127.0.1.1", "127.0.1.2"]);
            fake.set("shop.example.com", at(&[3], 60));
            assert_eq!(a().await.unwrap(), ["127.0.1.3"], "within the TTL, and yet anew");
            assert_eq!(dns.values("shop.example.com", RecordKind::Aaaa, &whom, 0).await, Err(DnsError::NoData));
            assert_eq!(dns.values("www.example.com", RecordKind::Cname, &whom, 0).await.unwrap(), ["lb.example.net"]);
            assert_eq!(dns.values("missing.example.com", RecordKind::A, &whom, 0).await, Err(DnsError::NxDomain));
        }
        let nobody = Whom::Servers(Servers::new(&[]));
        assert!(matches!(dns.values("shop.example.com", RecordKind::A, &nobody, 0).await, Err(DnsError::Failed(_))));
    }
}
