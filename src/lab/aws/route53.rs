//! Route 53 over REST with XML.

use hyper::Method;
use roxmltree::{Document, Node};

use super::wire::{Call, Xml, document, iso};
use super::{Answer, health_xml, unknown};
use crate::lab::serve::header;
use crate::lab::world::{Alias, ApiError, Change, ChangeAction, Failover, Millis, RecordSet, World, Zone, normal_name, reversed_labels};

pub(super) const NAMESPACE: &str = "https://route53.amazonaws.com/doc/2013-04-01/";

/// The operation of a method and a path.
pub fn operation(method: &Method, path: &str, query: &str) -> String {
    let parts: Vec<&str> = path.trim_matches('/').split('/').skip(1).collect();
    let name = match (method, parts.as_slice()) {
        (&Method::GET, ["hostedzone"]) => "ListHostedZones",
        (&Method::GET, ["hostedzonesbyname"]) => "ListHostedZonesByName",
        (&Method::GET, ["hostedzone", _]) => "GetHostedZone",
        (&Method::GET, ["hostedzone", _, "rrset"]) => "ListResourceRecordSets",
        (&Method::POST, ["hostedzone", _, "rrset"]) => "ChangeResourceRecordSets",
        (&Method::GET, ["change", _]) => "GetChange",
        (&Method::POST, ["healthcheck"]) => "CreateHealthCheck",
        (&Method::GET, ["healthcheck"]) => "ListHealthChecks",
        (&Method::GET, ["healthcheck", _]) => "GetHealthCheck",
        (&Method::POST, ["healthcheck", _]) => "UpdateHealthCheck",
        (&Method::GET, ["healthcheck", _, "status"]) => "GetHealthCheckStatus",
        _ => return format!("{method} {path}{}", if query.is_empty() { "" } else { "?" }),
    };
    name.to_owned()
}

/// Answers a call.
pub fn handle(world: &mut World, call: &Call, now: Millis) -> Result<Answer, ApiError> {
    world.route53_pace(now)?;
    let id = call.path.trim_matches('/').split('/').nth(2).unwrap_or_default().to_owned();
    match call.operation.as_str() {
        "ListHostedZones" | "ListHostedZonesByName" => Ok(zones(world, call)),
        "GetHostedZone" => {
            let zone = world.zone(&id)?;
            Ok(document("GetHostedZoneResponse", NAMESPACE, |x| {
                x.node("HostedZone", |x| hosted_zone(x, zone));
                let servers = zone.records.values().find(|r| r.kind == "NS" && r.name == zone.name);
                x.node("DelegationSet", |x| {
                    x.node("NameServers", |x| {
                        for server in servers.iter().flat_map(|s| &s.values) {
                            x.leaf("NameServer", server.trim_end_matches('.'));
                        }
                    });
                });
            }))
        }
        "ListResourceRecordSets" => records(world.zone(&id)?, call),
        "ChangeResourceRecordSets" => {
            world.zone(&id)?;
            let batch = read_batch(&call.body)?;
            let change = world.change_records(&id, &batch, now).map_err(|mut error| {
                if error.code == "InvalidChangeBatch" {
                    error.message = format!("[{}]", error.message.replace('\n', ", "));
                }
                error
            })?;
            Ok(document("ChangeResourceRecordSetsResponse", NAMESPACE, |x| change_info(x, world, &change)))
        }
        "GetChange" => {
            let change = world.change(&id, now)?;
            Ok(document("GetChangeResponse", NAMESPACE, |x| change_info(x, world, &change)))
        }
        name if name.contains("HealthCheck") => health_xml::handle(world, call, &id, now),
        _ => Err(unknown(call)),
    }
}

fn zones(world: &World, call: &Call) -> Answer {
    let by_name = call.operation == "ListHostedZonesByName";
    let from = call.form.get("dnsname").map(|n| reversed_labels(&normal_name(n)));
    let mut all: Vec<&Zone> = world.zones().iter().collect();
    all.sort_by_key(|z| reversed_labels(&z.name));
    all.retain(|z| from.as_ref().is_none_or(|from| reversed_labels(&z.name) >= *from));
    document(&format!("{}Response", call.operation), NAMESPACE, |x| {
        x.each("HostedZones", "HostedZone", all, hosted_zone);
        if by_name {
            x.maybe("DNSName", call.form.get("dnsname"));
        } else {
            x.maybe("Marker", call.form.get("marker"));
        }
        x.leaf("IsTruncated", false).leaf("MaxItems", call.form.get("maxitems").unwrap_or("100"));
    })
}

fn hosted_zone(x: &mut Xml, zone: &Zone) {
    x.leaf("Id", format!("/hostedzone/{}", zone.id)).leaf("Name", &zone.name).leaf("CallerReference", "lab");
    x.node("Config", |x| {
        x.leaf("PrivateZone", false);
    });
    x.leaf("ResourceRecordSetCount", zone.records.len());
}

fn records(zone: &Zone, call: &Call) -> Result<Answer, ApiError> {
    let form = &call.form;
    let size = form.parse::<usize>("maxitems")?.unwrap_or(300).clamp(1, 300);
    if form.get("type").is_some() && form.get("name").is_none() {
        return Err(ApiError::new(400, "InvalidInput", "StartRecordType requires StartRecordName"));
    }
    let from = form.get("name").map(|name| {
        let text = |key: &str| form.get(key).unwrap_or_default().to_owned();
        (reversed_labels(&normal_name(&name.replace("\\052", "*"))), text("type"), text("identifier"))
    });
    let mut left = zone.records.iter().filter(|(key, _)| from.as_ref().is_none_or(|from| *key >= from)).map(|(_, set)| set);
    let page: Vec<&RecordSet> = left.by_ref().take(size).collect();
    let next = left.next();
    Ok(document("ListResourceRecordSetsResponse", NAMESPACE, |x| {
        x.each("ResourceRecordSets", "ResourceRecordSet", page, record_set);
        x.leaf("IsTruncated", next.is_some());
        if let Some(next) = next {
            x.leaf("NextRecordName", &next.name).leaf("NextRecordType", &next.kind);
            x.maybe("NextRecordIdentifier", next.set_id.as_ref());
        }
        x.leaf("MaxItems", size);
    }))
}

fn record_set(x: &mut Xml, set: &RecordSet) {
    x.leaf("Name", set.name.replace('*', "\\052")).leaf("Type", &set.kind);
    x.maybe("SetIdentifier", set.set_id.as_ref()).maybe("Weight", set.weight);
    x.maybe("Failover", set.failover.map(|f| if f == Failover::Primary { "PRIMARY" } else { "SECONDARY" }));
    x.maybe("TTL", set.ttl);
    if !set.values.is_empty() {
        x.each("ResourceRecords", "ResourceRecord", &set.values, |x, value| {
            x.leaf("Value", value);
        });
    }
    if let Some(alias) = &set.alias {
        x.node("AliasTarget", |x| {
            x.leaf("HostedZoneId", &alias.zone_id).leaf("DNSName", &alias.dns_name);
            x.leaf("EvaluateTargetHealth", alias.evaluate);
        });
    }
    x.maybe("HealthCheckId", set.health_check.as_ref());
}

fn change_info(x: &mut Xml, world: &World, change: &Change) {
    x.node("ChangeInfo", |x| {
        x.leaf("Id", format!("/change/{}", change.id)).leaf("Status", if change.in_sync { "INSYNC" } else { "PENDING" });
        x.leaf("SubmittedAt", iso(world.unix_ms(change.submitted)));
    });
}

/// A document as Route 53 takes it; what cannot be read is named.
pub(super) fn read_document<T>(body: &[u8], read: impl FnOnce(Node) -> Result<T, ApiError>) -> Result<T, ApiError> {
    let malformed = |e: String| ApiError::new(400, "MalformedInput", format!("Unable to parse the request: {e}"));
    let text = std::str::from_utf8(body).map_err(|e| malformed(e.to_string()))?;
    let document = Document::parse(text).map_err(|e| malformed(e.to_string()))?;
    read(document.root_element())
}

/// The text of the child element of this name.
pub(super) fn child_text(node: Node, name: &str) -> Option<String> {
    node.children().find(|n| n.is_element() && n.tag_name().name() == name).map(|n| n.text().unwrap_or_default().trim().to_owned())
}

fn read_batch(body: &[u8]) -> Result<Vec<(ChangeAction, RecordSet)>, ApiError> {
    read_document(body, |root| {
        let changes = root.descendants().filter(|n| n.is_element() && n.tag_name().name() == "Change");
        changes.map(read_change).collect()
    })
}

fn read_change(change: Node) -> Result<(ChangeAction, RecordSet), ApiError> {
    let bad = |m: String| ApiError::new(400, "InvalidInput", m);
    let action = match child_text(change, "Action").as_deref() {
        Some("CREATE") => ChangeAction::Create,
        Some("DELETE") => ChangeAction::Delete,
        Some("UPSERT") => ChangeAction::Upsert,
        other => return Err(bad(format!("Invalid action {other:?}"))),
    };
    let set = change
        .children()
        .find(|n| n.is_element() && n.tag_name().name() == "ResourceRecordSet")
        .ok_or_else(|| bad("Missing ResourceRecordSet".to_owned()))?;
    let number = |name: &str| child_text(set, name).map(|t| t.parse::<u64>().map_err(|_| bad(format!("Invalid {name} {t}")))).transpose();
    let failover = match child_text(set, "Failover").as_deref() {
        None => None,
        Some("PRIMARY") => Some(Failover::Primary),
        Some("SECONDARY") => Some(Failover::Secondary),
        Some(other) => return Err(bad(format!("Invalid failover {other}"))),
    };
    let values = set.descendants().filter(|n| n.is_element() && n.tag_name().name() == "Value");
    let alias = set.children().find(|n| n.is_element() && n.tag_name().name() == "AliasTarget").map(|alias| Alias {
        zone_id: child_text(alias, "HostedZoneId").unwrap_or_default(),
        dns_name: normal_name(&child_text(alias, "DNSName").unwrap_or_default()),
        evaluate: child_text(alias, "EvaluateTargetHealth").as_deref() == Some("true"),
    });
    let record = RecordSet {
        name: normal_name(&child_text(set, "Name").ok_or_else(|| bad("Missing Name".to_owned()))?.replace("\\052", "*")),
        kind: child_text(set, "Type").ok_or_else(|| bad("Missing Type".to_owned()))?,
        set_id: child_text(set, "SetIdentifier"),
        weight: number("Weight")?,
        failover,
        ttl: number("TTL")?.map(|t| u32::try_from(t).unwrap_or(u32::MAX)),
        values: values.map(|n| n.text().unwrap_or_default().trim().to_owned()).collect(),
        alias,
        health_check: child_text(set, "HealthCheckId"),
    };
    Ok((action, record))
}

/// 201 with the place of what was made.
pub(super) fn created(mut answer: Answer, location: &str) -> Answer {
    *answer.status_mut() = hyper::StatusCode::CREATED;
    header(&mut answer, "location", location);
    answer
}
