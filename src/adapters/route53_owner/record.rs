//! Records as Route 53 keeps them: read, compared by meaning, and written back whole.

use std::net::IpAddr;

use aws_sdk_route53::error::BuildError;
use aws_sdk_route53::types as sdk;
use serde::{Deserialize, Serialize};

/// Which record: within a zone these three name exactly one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Pick {
    /// The record's name, in any spelling.
    pub name: String,
    /// `A`, `CNAME`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Tells records of the same name and type apart; `None` for simple records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_identifier: Option<String>,
}

impl Pick {
    /// The same in the one spelling that compares.
    pub fn canonical(&self) -> Pick {
        Pick {
            name: canonical(&self.name),
            kind: self.kind.to_ascii_uppercase(),
            set_identifier: self.set_identifier.clone().filter(|id| !id.is_empty()),
        }
    }
}

impl std::fmt::Display for Pick {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.name, self.kind)?;
        self.set_identifier.as_ref().map_or(Ok(()), |id| write!(f, " [{id}]"))
    }
}

/// One record set with everything that Route 53 says of it, in the words of its JSON: what facts hold can be pasted
/// into `aws route53 change-resource-record-sets`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Record {
    /// As read, escapes and all (`\052.example.com.`).
    pub name: String,
    /// `A`, `CNAME`, …
    #[serde(rename = "Type")]
    pub kind: String,
    /// Tells it from others of the same name and type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_identifier: Option<String>,
    /// Of weighted records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<i64>,
    /// Of latency records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Of geolocation records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub geo_location: Option<GeoLocation>,
    /// `PRIMARY` or `SECONDARY`, of failover records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failover: Option<String>,
    /// Of multivalue records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multi_value_answer: Option<bool>,
    /// Seconds; absent for aliases.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "TTL")]
    pub ttl: Option<i64>,
    /// The values; absent for aliases.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "ResourceRecords")]
    pub values: Option<Vec<RecordValue>>,
    /// What an alias points to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias_target: Option<Alias>,
    /// The check that decides whether it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check_id: Option<String>,
    /// Set where a traffic policy made the record; such a record cannot be changed by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_policy_instance_id: Option<String>,
    /// Of IP-based records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr_routing_config: Option<Cidr>,
    /// Of geoproximity records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub geo_proximity_location: Option<GeoProximity>,
}

/// One value of a record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RecordValue {
    /// In the form of the record's type.
    pub value: String,
}

/// An alias.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Alias {
    /// The zone of the thing pointed to: a load balancer's own, not ours.
    pub hosted_zone_id: String,
    /// Its name.
    #[serde(rename = "DNSName")]
    pub dns_name: String,
    /// Whether its health decides whether this record answers.
    pub evaluate_target_health: bool,
}

/// Where a geolocation record answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GeoLocation {
    /// Continent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continent_code: Option<String>,
    /// Country.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country_code: Option<String>,
    /// Part of a country.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subdivision_code: Option<String>,
}

/// Which blocks an IP-based record answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Cidr {
    /// The collection.
    pub collection_id: String,
    /// The location within it.
    pub location_name: String,
}

/// Where a geoproximity record stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GeoProximity {
    /// A region of AWS.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "AWSRegion")]
    pub aws_region: Option<String>,
    /// A local zone group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_zone_group: Option<String>,
    /// Or a place on the map.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coordinates: Option<Coordinates>,
    /// Grows or shrinks the area.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bias: Option<i32>,
}

/// A place on the map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Coordinates {
    /// Degrees.
    pub latitude: String,
    /// Degrees.
    pub longitude: String,
}

impl Record {
    /// What names it within its zone, in the spelling that compares.
    pub fn pick(&self) -> Pick {
        Pick { name: self.name.clone(), kind: self.kind.clone(), set_identifier: self.set_identifier.clone() }.canonical()
    }

    /// What it counts towards a batch's limits: `(elements, characters of values)`, before an UPSERT's doubling.
    pub fn cost(&self) -> (usize, usize) {
        let values = self.values.as_deref().unwrap_or_default();
        (values.len().max(1), values.iter().map(|one| one.value.chars().count()).sum())
    }

    /// True if both answer the same way, however names, addresses and orders are spelled.
    pub fn same(&self, other: &Record) -> bool {
        self.normal() == other.normal()
    }

    fn normal(&self) -> Record {
        let mut record = self.clone();
        let pick = self.pick();
        (record.name, record.kind, record.set_identifier) = (pick.name, pick.kind, pick.set_identifier);
        if let Some(values) = &mut record.values {
            for one in values.iter_mut() {
                one.value = match record.kind.as_str() {
                    "CNAME" | "NS" | "PTR" => canonical(&one.value),
                    "A" | "AAAA" => one.value.trim().parse::<IpAddr>().map_or_else(|_| one.value.clone(), |address| address.to_string()),
                    _ => one.value.clone(),
                };
            }
            values.sort();
        }
        record.values = record.values.filter(|values| !values.is_empty());
        if let Some(alias) = &mut record.alias_target {
            alias.dns_name = canonical(&alias.dns_name);
            alias.hosted_zone_id = alias.hosted_zone_id.trim_start_matches("/hostedzone/").to_owned();
        }
        record.health_check_id = record.health_check_id.filter(|id| !id.is_empty());
        record.multi_value_answer = record.multi_value_answer.filter(|flag| *flag);
        record
    }

    /// As the SDK read it.
    pub fn read(set: &sdk::ResourceRecordSet) -> Record {
        Record {
            name: set.name().to_owned(),
            kind: set.r#type().as_str().to_owned(),
            set_identifier: set.set_identifier().map(str::to_owned),
            weight: set.weight(),
            region: set.region().map(|region| region.as_str().to_owned()),
            geo_location: set.geo_location().map(|geo| GeoLocation {
                continent_code: geo.continent_code().map(str::to_owned),
                country_code: geo.country_code().map(str::to_owned),
                subdivision_code: geo.subdivision_code().map(str::to_owned),
            }),
            failover: set.failover().map(|role| role.as_str().to_owned()),
            multi_value_answer: set.multi_value_answer(),
            ttl: set.ttl(),
            values: set.resource_records.as_ref().map(|all| all.iter().map(|one| RecordValue { value: one.value().to_owned() }).collect()),
            alias_target: set.alias_target().map(|alias| Alias {
                hosted_zone_id: alias.hosted_zone_id().to_owned(),
                dns_name: alias.dns_name().to_owned(),
                evaluate_target_health: alias.evaluate_target_health(),
            }),
            health_check_id: set.health_check_id().map(str::to_owned),
            traffic_policy_instance_id: set.traffic_policy_instance_id().map(str::to_owned),
            cidr_routing_config: set
                .cidr_routing_config()
                .map(|cidr| Cidr { collection_id: cidr.collection_id().to_owned(), location_name: cidr.location_name().to_owned() }),
            geo_proximity_location: set.geo_proximity_location().map(|geo| GeoProximity {
                aws_region: geo.aws_region().map(str::to_owned),
                local_zone_group: geo.local_zone_group().map(str::to_owned),
                coordinates: geo
                    .coordinates()
                    .map(|at| Coordinates { latitude: at.latitude().to_owned(), longitude: at.longitude().to_owned() }),
                bias: geo.bias(),
            }),
        }
    }

    /// For the SDK to write.
    pub fn written(&self) -> Result<sdk::ResourceRecordSet, BuildError> {
        let values = match &self.values {
            None => None,
            Some(values) => {
                Some(values.iter().map(|one| sdk::ResourceRecord::builder().value(&one.value).build()).collect::<Result<Vec<_>, _>>()?)
            }
        };
        let alias = match &self.alias_target {
            None => None,
            Some(alias) => Some(
                sdk::AliasTarget::builder()
                    .hosted_zone_id(&alias.hosted_zone_id)
                    .dns_name(&alias.dns_name)
                    .evaluate_target_health(alias.evaluate_target_health)
                    .build()?,
            ),
        };
        let cidr = match &self.cidr_routing_config {
            None => None,
            Some(cidr) => {
                Some(sdk::CidrRoutingConfig::builder().collection_id(&cidr.collection_id).location_name(&cidr.location_name).build()?)
            }
        };
        let proximity = match &self.geo_proximity_location {
            None => None,
            Some(geo) => {
                let at = match &geo.coordinates {
                    None => None,
                    Some(at) => Some(sdk::Coordinates::builder().latitude(&at.latitude).longitude(&at.longitude).build()?),
                };
                let builder = sdk::GeoProximityLocation::builder().set_aws_region(geo.aws_region.clone()).set_bias(geo.bias);
                Some(builder.set_local_zone_group(geo.local_zone_group.clone()).set_coordinates(at).build())
            }
        };
        let place = self.geo_location.as_ref().map(|geo| {
            sdk::GeoLocation::builder()
                .set_continent_code(geo.continent_code.clone())
                .set_country_code(geo.country_code.clone())
                .set_subdivision_code(geo.subdivision_code.clone())
                .build()
        });
        sdk::ResourceRecordSet::builder()
            .name(&self.name)
            .r#type(sdk::RrType::from(self.kind.as_str()))
            .set_set_identifier(self.set_identifier.clone())
            .set_weight(self.weight)
            .set_region(self.region.as_deref().map(sdk::ResourceRecordSetRegion::from))
            .set_geo_location(place)
            .set_failover(self.failover.as_deref().map(sdk::ResourceRecordSetFailover::from))
            .set_multi_value_answer(self.multi_value_answer)
            .set_ttl(self.ttl)
            .set_resource_records(values)
            .set_alias_target(alias)
            .set_health_check_id(self.health_check_id.clone())
            .set_cidr_routing_config(cidr)
            .set_geo_proximity_location(proximity)
            .build()
    }
}

/// A DNS name in the one spelling that compares: lower case, no final dot, Route 53's octal escapes (`\052` for `*`)
/// undone where the character is harmless.
///
/// Source: "DNS domain name format" of the Route 53 guide: everything but `a-z 0-9 - _ .` comes back as `\ooo`.
pub fn canonical(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut rest = name.trim();
    while let Some(first) = rest.chars().next() {
        let octal = rest.strip_prefix('\\').and_then(|tail| tail.get(..3)).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let Some(byte) = octal {
            // An escaped dot is part of a label: it must not become one that parts labels.
            if byte.is_ascii_graphic() && byte != b'.' && byte != b'\\' {
                out.push(char::from(byte.to_ascii_lowercase()));
            } else {
                out.push_str(&rest[..4]);
            }
            rest = &rest[4..];
        } else {
            out.extend(first.to_lowercase());
            rest = &rest[first.len_utf8()..];
        }
    }
    if out.ends_with('.') {
        out.pop();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_compare_by_meaning() {
        for (a, b) in
            [("*.Example.com", "\\052.example.com."), ("shop.example.com.", "SHOP.example.com"), ("_x.example.com", "\\137x.example.com.")]
        {
            assert_eq!(canonical(a), canonical(b));
        }
        assert_ne!(canonical("a\\056b.example.com"), canonical("a.b.example.com"));
        assert_eq!(canonical("\\9é"), "\\9é");
    }

    #[test]
    fn a_record_survives_the_way_through_the_sdk_and_json() {
        let json = serde_json::json!({"Name": "shop.example.com.", "Type": "A", "SetIdentifier": "p", "Weight": 100,
            "AliasTarget": {"HostedZoneId": "ZP97RAFLXTNZK", "DNSName": "lb.example.", "EvaluateTargetHealth": true}});
        let record: Record = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(Record::read(&record.written().unwrap()), record);
        assert_eq!(serde_json::to_value(&record).unwrap(), json);
    }
}
