//! `check`: every problem of the file at once, and then what can be seen to stand in the way of its plans.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::client::Client;
use super::inspect::{Inspected, adapters, inspected, on_runtime, said, wall};
use super::out::{complain, say};
use super::{Look, autonomy, exit, telling};
use crate::adapters::{Kinds, signals};
use crate::config::{self, Config};
use crate::domain::model::{Cause, SiteName, Verdict, counted};
use crate::domain::policy::{Required, SignalPolicy};

/// How long a daemon is asked which sites are active: it answers at once, or somebody else has to say.
const ASK: Duration = Duration::from_secs(3);

/// What an online check found.
#[derive(serde::Serialize)]
struct Finding {
    subject: String,
    ok: bool,
    words: String,
}

/// `check`.
pub(super) fn check(flag: Option<&Path>, offline: bool, look: Look) -> u8 {
    let read = config::locate(flag).and_then(|path| config::load(&path, &Kinds));
    let config = match read {
        Ok(config) => config,
        Err(errors) => {
            if look.json {
                let document = json!({"schema_version": 1, "error": errors.to_string(), "file": errors.file, "ok": false, "problems": errors.problems});
                say!("{document}");
            } else {
                complain!("watchover: {errors}");
            }
            return exit::USAGE;
        }
    };
    let findings = if offline { Vec::new() } else { online(&config) };
    let bad = findings.iter().filter(|finding| !finding.ok).count();
    if look.json {
        say!(
            "{}",
            json!({"schema_version": 1, "file": config.path, "ok": bad == 0, "problems": [], "warnings": config.warnings, "findings": findings})
        );
    } else {
        for warning in &config.warnings {
            say!("warning  {warning}");
        }
        for finding in &findings {
            say!("{}  {}: {}", if finding.ok { "ok     " } else { "FINDING" }, finding.subject, finding.words);
        }
        let (apps, warnings) = (counted(config.apps.len(), "app"), counted(config.warnings.len(), "warning"));
        say!("{}: {apps}, {warnings}, {}", config.path.display(), counted(bad, "finding"));
    }
    if bad > 0 { exit::FINDINGS } else { exit::DONE }
}

fn online(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    on_runtime(async {
        let adapters = match adapters(config) {
            Ok(adapters) => adapters,
            Err(words) => {
                findings.push(Finding { subject: "config".into(), ok: false, words });
                return exit::FINDINGS;
            }
        };
        let active = active_sites(config).await;
        let receivers = telling::findings(config, &adapters).await;
        findings.extend(receivers.into_iter().map(|(subject, ok, words)| Finding { subject, ok, words }));
        for app in &config.apps {
            let name = &app.policy.name;
            let region = &app.policy.standby.region;
            let at = active.get(&**name).copied().unwrap_or(SiteName::Primary);
            match adapters.aws.identity(region).await {
                Ok(identity) => findings.push(Finding { subject: format!("{name}: credentials in {region}"), ok: true, words: identity }),
                Err(failure) => {
                    findings.push(Finding { subject: format!("{name}: credentials in {region}"), ok: false, words: failure.to_string() })
                }
            }
            for site in SiteName::ALL {
                for (spec, policy) in app.site(*site).signals.iter().zip(&app.policy.site(*site).signals) {
                    let (ok, words) = match signals::build(spec, &adapters) {
                        Ok(probe) => {
                            let found = probe.look(policy.timeout, wall()).await;
                            let (ok, why) = judged(policy, *site == at, found.verdict);
                            (ok, format!("{} {}{why}", found.verdict, found.detail))
                        }
                        Err(error) => (false, error.to_string()),
                    };
                    findings.push(Finding { subject: format!("{name}.{site}.{}", spec.name), ok, words });
                }
            }
            for plan in [&app.policy.failover, &app.policy.failback] {
                for Inspected { step, found, .. } in inspected(app, plan, &adapters).await {
                    let (ok, words) = said(&found);
                    findings.push(Finding { subject: format!("{name} {} step {}", plan.direction, step.name), ok, words });
                }
            }
            let others = autonomy::finding(app, &adapters, wall()).await;
            findings.extend(others.map(|(ok, words)| Finding { subject: format!("{name}: {}", autonomy::NAME), ok, words }));
        }
        exit::DONE
    });
    findings
}

/// Which site of an app is active, by the word of the daemon that runs. Where none answers it is taken to be the primary.
async fn active_sites(config: &Config) -> BTreeMap<String, SiteName> {
    let client = Client::new(&config.daemon.admin_socket);
    let Ok(Ok(status)) = tokio::time::timeout(ASK, client.get("/api/v1/status")).await else { return BTreeMap::new() };
    let site = |app: &Value| Some((app["name"].as_str()?.to_owned(), SiteName::parse(app["active_site"].as_str()?)?));
    status["apps"].as_array().into_iter().flatten().filter_map(site).collect()
}

/// Whether such a look is well at a site that is active, or is not, and why it is where it does not look so.
fn judged(signal: &SignalPolicy, active: bool, verdict: Verdict) -> (bool, &'static str) {
    match (verdict, signal.required) {
        (Verdict::Up, _) => (true, ""),
        (Verdict::Down(Cause::NotAReplica), _) if active && signal.replica => {
            (true, "; as it should be on the site that is active: it lies dormant")
        }
        // What we may not ask is our own lack, whatever the answer would be worth.
        (Verdict::Unknown(Cause::NoCredentials | Cause::AccessDenied), _) => (false, ""),
        (_, Required::Never) if !active => (true, "; no move here requires it"),
        (_, Required::Traffic) if !active => (true, "; a move here requires it before traffic moves, and not before"),
        _ => (false, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_site_need_not_be_yet_is_no_finding() {
        let signal = |required: Required, replica: bool| SignalPolicy {
            name: "alb".into(),
            kind: "http".into(),
            interval: Duration::from_secs(1),
            fast_interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            fall: 3,
            rise: 5,
            window: None,
            required,
            replica,
            counts: !replica,
        };
        let ok = |required: Required, replica: bool, active: bool, verdict: Verdict| judged(&signal(required, replica), active, verdict).0;
        let (refused, alone) = (Verdict::Down(Cause::Refused), Verdict::Down(Cause::NotAReplica));
        assert!(ok(Required::Start, false, true, Verdict::Up) && ok(Required::Start, false, false, Verdict::Up));
        // A pilot light, and a name that leads to the other site; but users are served where the app is active.
        for (required, well) in [(Required::Start, false), (Required::Traffic, true), (Required::Never, true)] {
            assert_eq!(ok(required, false, false, refused), well, "{required}");
            assert!(!ok(required, false, true, refused), "{required}");
            assert!(!ok(required, false, false, Verdict::Unknown(Cause::AccessDenied)), "{required}");
        }
        // The primary of a database replicates from nothing, and so does a replica that was promoted behind our back.
        assert!(ok(Required::Start, true, true, alone) && !ok(Required::Start, true, false, alone));
        assert!(!ok(Required::Start, true, true, Verdict::Down(Cause::ReplicaError)));
    }
}
