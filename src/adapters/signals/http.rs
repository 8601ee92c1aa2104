//! `http`: one URL, looked at as users have it, connected where the site is.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use crate::adapters::Adapters;
use crate::adapters::http::{Expect, HttpSpec, Target};
use crate::adapters::registry::{KeyDoc, SignalKind, SignalPlace, SignalSpec};
use crate::config::judge::Table;
use crate::ports::{ErrorClass, Probe, StepError};

/// Methods that change nothing where they are asked: a look repeats every second.
const METHODS: &[&str] = &["GET", "HEAD", "OPTIONS"];

/// More redirects than this are a loop or an odd place for a health check.
const MOST_REDIRECTS: u32 = 10;

/// The registry's entry.
pub static KIND: SignalKind<Adapters> = SignalKind {
    name: "http",
    doc: "One URL over HTTP or HTTPS: host name and TLS name as users have them, connected to the site itself; each look goes to the next address.",
    keys: KEYS,
    aws: false,
    replica: false,
    judge,
    build,
    permissions: |_| Vec::new(),
};

const KEYS: &[KeyDoc] = &[
    KeyDoc {
        name: "url",
        form: "URL (http or https)",
        default: "",
        doc: "What is asked for. Its host is the Host header and the TLS name. It carries no credentials.",
    },
    KeyDoc {
        name: "connect_to",
        form: "host:port",
        default: "the URL's host and port",
        doc: "Where it is connected: the site's own load balancer. Looks go round all addresses of that name, so that a half-dead set is seen.",
    },
    KeyDoc {
        name: "server_name",
        form: "host name",
        default: "the URL's host",
        doc: "The TLS name, where it differs from the URL's host.",
    },
    KeyDoc {
        name: "method",
        form: "\"GET\", \"HEAD\" or \"OPTIONS\"",
        default: "\"GET\"",
        doc: "How it is asked for; nothing that changes anything.",
    },
    KeyDoc {
        name: "expect",
        form: "{ status, body_contains, header }",
        default: "{ status = \"200-399\" }",
        doc: "What the answer must be: a status within the set (\"200\", \"200,204,300-399\"), a piece of text within the first max_body bytes, headers with exactly these values.",
    },
    KeyDoc {
        name: "ca_file",
        form: "path",
        default: "the machine's root certificates",
        doc: "PEM file of the only certificates to trust.",
    },
    KeyDoc { name: "verify_tls", form: "boolean", default: "true", doc: "false accepts any certificate: an expired one is then not seen." },
    KeyDoc {
        name: "follow_redirects",
        form: "whole number, at most 10",
        default: "0",
        doc: "Redirects to follow; 0 judges the redirect itself by its status. Each costs a connection out of the same timeout.",
    },
    KeyDoc {
        name: "max_body",
        form: "size",
        default: "\"64KiB\"",
        doc: "Bytes read of the body at most; held in memory only as far as body_contains needs.",
    },
    KeyDoc {
        name: "keep_alive",
        form: "boolean",
        default: "false",
        doc: "Keep one connection an address between looks: cheaper, and blind to a listener that takes no new connections.",
    },
];

fn judge(table: &Table, _place: &SignalPlace) -> Option<Value> {
    let before = table.problems().len();
    let url = table
        .need_string("url", "an absolute URL such as https://shop.example.com/healthz")
        .and_then(|text| table.judge_url("url", &text, &["http", "https"]));
    let connect_to =
        table.string("connect_to").and_then(|text| Target::parse(&text).map_err(|problem| table.fault("connect_to", problem)).ok());
    let server_name = table.string("server_name");
    if let Some(name) = &server_name
        && rustls::pki_types::ServerName::try_from(name.as_str()).is_err()
    {
        table.fault("server_name", format!("{name:?} is not a host name; give the name on the certificate, without scheme or port"));
    }
    let method = table.word("method", METHODS, |word| word, "GET");
    let expect = Expect::judge(&table.table("expect"));
    if method == "HEAD" && expect.body_contains.is_some() {
        table.fault("method", "HEAD answers have no body, but expect.body_contains wants one; use \"GET\"");
    }
    let ca_file = table.string("ca_file").map(PathBuf::from);
    let verify_tls = table.boolean("verify_tls", true);
    let plain = url.as_ref().is_some_and(|url| url.scheme() == "http");
    let follow_redirects = u32::try_from(table.whole("follow_redirects", 0, 0)).unwrap_or(u32::MAX);
    if follow_redirects > MOST_REDIRECTS {
        table.fault("follow_redirects", format!("is more than {MOST_REDIRECTS}; point the URL at where the redirects end"));
    }
    if let Some(file) = &ca_file {
        if let Err(problem) = crate::adapters::http::check_ca_file(file) {
            table.fault("ca_file", problem);
        }
        if !verify_tls {
            table.fault("ca_file", "has no effect with verify_tls = false; leave one of them out");
        }
    }
    for key in ["ca_file", "server_name", "verify_tls"] {
        if plain && follow_redirects == 0 && table.has(key) {
            table.fault(key, "has no effect: the URL is plain http");
        }
    }
    let max_body = table.size("max_body", 64 * 1024);
    if max_body > 16 << 20 {
        table.fault("max_body", "is more than 16MiB; a health check's answer is small, and every look would load it");
    }
    if expect.body_contains.as_ref().is_some_and(|text| text.len() as u64 > max_body) {
        table.fault("max_body", "is shorter than expect.body_contains, which could never be found; raise it");
    }
    let keep_alive = table.boolean("keep_alive", false);
    if table.problems().len() > before {
        return None;
    }
    let method = method.to_owned();
    serde_json::to_value(HttpSpec {
        url: url?,
        connect_to,
        server_name,
        method,
        expect,
        ca_file,
        verify_tls,
        follow_redirects,
        max_body,
        keep_alive,
    })
    .ok()
}

fn build(spec: &SignalSpec, adapters: &Adapters) -> Result<Arc<dyn Probe>, StepError> {
    let fail = |cause: String| {
        StepError::new(
            ErrorClass::Refused,
            "signal-setup",
            format!("setting up signal {} of {}'s {} failed: {cause}", spec.name, spec.app, spec.site),
        )
    };
    let look: HttpSpec = serde_json::from_value(spec.keys.clone()).map_err(|cause| fail(cause.to_string()))?;
    Ok(Arc::new(adapters.http.client(look).map_err(fail)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::judge::Problems;
    use crate::domain::model::SiteName;

    fn judged(value: Value) -> (Option<Value>, Vec<String>) {
        let problems = Problems::default();
        let Value::Object(map) = value else { unreachable!() };
        let table = Table::new("signal.alb", map, &problems);
        let found = judge(&table, &SignalPlace::default());
        table.finish();
        (found, problems.take().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn every_key_is_documented_and_no_other() {
        let every = serde_json::json!({"url": "https://h/", "connect_to": "h:1", "server_name": "h", "method": "GET", "expect": {}, "verify_tls": true,
            "follow_redirects": 1, "max_body": "1KiB", "keep_alive": true});
        let (found, said) = judged(every.clone());
        assert!(found.is_some() && said.is_empty(), "{said:?}");
        for key in every.as_object().unwrap().keys() {
            assert!(KEYS.iter().any(|doc| doc.name == key), "{key}");
        }
    }

    #[tokio::test]
    async fn what_is_judged_is_what_is_built() {
        let (found, said) = judged(
            serde_json::json!({"url": "http://shop.example.com/healthz", "connect_to": "alb.example.net:80", "expect": {"status": 204}}),
        );
        assert!(said.is_empty(), "{said:?}");
        let spec = SignalSpec {
            app: "shop".into(),
            site: SiteName::Primary,
            name: "alb".into(),
            kind: "http".into(),
            account: None,
            region: "eu-west-1".into(),
            keys: found.unwrap(),
        };
        let adapters = Adapters::for_tests();
        assert!(build(&spec, &adapters).is_ok());
    }

    #[test]
    fn every_problem_is_named() {
        let (found, said) = judged(serde_json::json!({
            "url": "ftp://shop.example.com", "connect_to": "alb.example.net", "server_name": "https://x", "method": "POST",
            "expect": {"status": "2xx", "statuss": 1}, "ca_file": "/nowhere/ca.pem", "follow_redirects": 99, "max_body": "64 bananas", "conect_to": "x:1",
        }));
        assert!(found.is_none());
        for part in [
            "url: \"ftp://shop.example.com\" has the scheme \"ftp\"",
            "connect_to: \"alb.example.net\" has no port",
            "server_name: \"https://x\" is not a host name",
            "method: \"POST\" is not one of",
            "expect.status: \"2xx\" is not a status code",
            "expect.statuss: unknown key; did you mean \"status\"?",
            "ca_file: reading ca_file /nowhere/ca.pem failed",
            "follow_redirects: is more than",
            "max_body: \"64 bananas\" is not a size",
            "conect_to: unknown key; did you mean \"connect_to\"?",
        ] {
            assert!(said.iter().any(|line| line.contains(part)), "{part}\n{said:#?}");
        }
        for (connect_to, part) in
            [("h:0", "for a port"), ("h:99999", "for a port"), ("::1:443", "without brackets"), (":443", "names no host")]
        {
            let (_, said) = judged(serde_json::json!({"url": "http://h/", "connect_to": connect_to}));
            assert!(said.iter().any(|line| line.contains(part)), "{connect_to}: {said:?}");
        }
        let (_, said) = judged(serde_json::json!({"url": "http://h/", "max_body": 3, "expect": {"body_contains": "well"}}));
        assert!(said.len() == 1 && said[0].contains("max_body: is shorter than expect.body_contains"), "{said:?}");
        let (_, said) = judged(serde_json::json!({"url": "https://me:s3cr3t@h/"}));
        assert!(said.len() == 1 && !said[0].contains("s3cr3t"), "{said:?}");
        assert!(judged(serde_json::json!({})).1[0].contains("url: is missing"));
    }
}
