//! Route 53's health checks over REST with XML.

use roxmltree::Node;

use super::route53::{NAMESPACE, child_text, created, read_document};
use super::wire::{Call, Xml, document, iso, page};
use super::{Answer, unknown};
use crate::lab::world::{ApiError, Cause, CheckConfig, CheckKind, HealthCheck, Millis, World};

/// Answers a call.
pub fn handle(world: &mut World, call: &Call, id: &str, now: Millis) -> Result<Answer, ApiError> {
    let missing = || ApiError::new(404, "NoSuchHealthCheck", format!("A health check with id {id} does not exist."));
    let find = |world: &World| world.checks().iter().find(|c| c.id == id).cloned().ok_or_else(missing);
    match call.operation.as_str() {
        "CreateHealthCheck" => {
            let (reference, config) = read_document(&call.body, |root| {
                let reference = child_text(root, "CallerReference").unwrap_or_default();
                let config = root.children().find(|n| n.is_element() && n.tag_name().name() == "HealthCheckConfig");
                let config = config.ok_or_else(|| ApiError::new(400, "InvalidInput", "Missing HealthCheckConfig"))?;
                Ok((reference, change(config, empty(kind(config)?))?))
            })?;
            let check = world.create_check(&reference, config, Cause::Api, now);
            let answer = document("CreateHealthCheckResponse", NAMESPACE, |x| {
                x.node("HealthCheck", |x| health_check(x, &check));
            });
            Ok(created(answer, &format!("https://route53.amazonaws.com/2013-04-01/healthcheck/{}", check.id)))
        }
        "GetHealthCheck" => one(call, &find(world)?),
        "UpdateHealthCheck" => {
            let before = find(world)?;
            let config = read_document(&call.body, |root| {
                let version = child_text(root, "HealthCheckVersion").and_then(|v| v.parse::<u64>().ok());
                if version.is_some_and(|v| v != before.version) {
                    return Err(ApiError::new(409, "HealthCheckVersionMismatch", "The version does not match."));
                }
                change(root, before.config.clone())
            })?;
            one(call, &world.update_check(id, config, now).ok_or_else(missing)?)
        }
        "ListHealthChecks" => {
            let size = call.form.parse::<usize>("maxitems")?.unwrap_or(100).clamp(1, 1_000);
            let start = call.form.get("marker").and_then(|m| m.parse().ok()).unwrap_or(0);
            let (items, next) = page(world.checks(), start, size);
            Ok(document("ListHealthChecksResponse", NAMESPACE, |x| {
                x.each("HealthChecks", "HealthCheck", &items, health_check);
                x.leaf("Marker", start).leaf("IsTruncated", next.is_some()).maybe("NextMarker", next).leaf("MaxItems", size);
            }))
        }
        "GetHealthCheckStatus" => {
            let check = find(world)?;
            let healthy = check.healthy != check.config.inverted;
            let status = if healthy { "Success: HTTP Status Code 200, OK" } else { "Failure: HTTP Status Code 403, Forbidden" };
            Ok(document("GetHealthCheckStatusResponse", NAMESPACE, |x| {
                x.each("HealthCheckObservations", "HealthCheckObservation", ["us-east-1", "eu-west-1", "ap-southeast-1"], |x, region| {
                    x.leaf("Region", region).leaf("IPAddress", "192.0.2.1");
                    x.node("StatusReport", |x| {
                        x.leaf("Status", status).leaf("CheckedTime", iso(world.unix_ms(check.looked)));
                    });
                });
            }))
        }
        _ => Err(unknown(call)),
    }
}

fn one(call: &Call, check: &HealthCheck) -> Result<Answer, ApiError> {
    Ok(document(&format!("{}Response", call.operation), NAMESPACE, |x| {
        x.node("HealthCheck", |x| health_check(x, check));
    }))
}

fn health_check(x: &mut Xml, check: &HealthCheck) {
    let c = &check.config;
    x.leaf("Id", &check.id).leaf("CallerReference", &check.caller_reference);
    x.node("HealthCheckConfig", |x| {
        x.maybe("IPAddress", c.ip.as_ref()).maybe("Port", c.port).leaf("Type", word(c.kind));
        x.maybe("ResourcePath", c.path.as_ref()).maybe("FullyQualifiedDomainName", c.fqdn.as_ref());
        if c.kind == CheckKind::Calculated {
            x.leaf("HealthThreshold", c.health_threshold);
            x.node("ChildHealthChecks", |x| {
                for child in &c.children {
                    x.leaf("ChildHealthCheck", child);
                }
            });
        } else {
            x.leaf("RequestInterval", c.interval_s).leaf("FailureThreshold", c.threshold);
            x.leaf("MeasureLatency", false).leaf("EnableSNI", c.kind == CheckKind::Https);
        }
        x.leaf("Inverted", c.inverted).leaf("Disabled", c.disabled);
    });
    x.leaf("HealthCheckVersion", check.version);
}

fn word(kind: CheckKind) -> &'static str {
    match kind {
        CheckKind::Http => "HTTP",
        CheckKind::Https => "HTTPS",
        CheckKind::Tcp => "TCP",
        CheckKind::Calculated => "CALCULATED",
    }
}

fn kind(config: Node) -> Result<CheckKind, ApiError> {
    match child_text(config, "Type").as_deref() {
        Some("HTTP") => Ok(CheckKind::Http),
        Some("HTTPS") => Ok(CheckKind::Https),
        Some("TCP") => Ok(CheckKind::Tcp),
        Some("CALCULATED") => Ok(CheckKind::Calculated),
        other => Err(ApiError::new(400, "InvalidInput", format!("the lab has no health checks of type {other:?}"))),
    }
}

fn empty(kind: CheckKind) -> CheckConfig {
    CheckConfig {
        kind,
        ip: None,
        port: None,
        fqdn: None,
        path: None,
        interval_s: 30,
        threshold: 3,
        inverted: false,
        disabled: false,
        health_threshold: 0,
        children: Vec::new(),
    }
}

/// Takes over what is named; the rest stays, as at AWS.
fn change(node: Node, mut config: CheckConfig) -> Result<CheckConfig, ApiError> {
    let truth = |name: &str, old: bool| child_text(node, name).map_or(old, |t| t == "true");
    let number = |name: &str, low: u64, high: u64| match child_text(node, name) {
        None => Ok(None),
        Some(text) => match text.parse::<u64>() {
            Ok(n) if (low..=high).contains(&n) => Ok(Some(n)),
            _ => Err(ApiError::new(400, "InvalidInput", format!("Invalid {name}: {text}, must be {low} to {high}"))),
        },
    };
    config.ip = child_text(node, "IPAddress").or(config.ip);
    config.fqdn = child_text(node, "FullyQualifiedDomainName").or(config.fqdn);
    config.path = child_text(node, "ResourcePath").or(config.path);
    config.port = number("Port", 1, 65_535)?.map(|p| p as u16).or(config.port);
    config.interval_s = number("RequestInterval", 10, 30)?.unwrap_or(config.interval_s);
    config.threshold = number("FailureThreshold", 1, 10)?.map_or(config.threshold, |t| t as u32);
    config.health_threshold = number("HealthThreshold", 0, 256)?.map_or(config.health_threshold, |t| t as u32);
    config.inverted = truth("Inverted", config.inverted);
    config.disabled = truth("Disabled", config.disabled);
    let children: Vec<String> = node
        .descendants()
        .filter(|n| n.is_element() && n.tag_name().name() == "ChildHealthCheck")
        .map(|n| n.text().unwrap_or_default().to_owned())
        .collect();
    if !children.is_empty() {
        config.children = children;
    }
    Ok(config)
}
