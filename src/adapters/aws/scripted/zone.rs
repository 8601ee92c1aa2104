//! One hosted zone and one bucket, for the records and for the switch.
#![cfg(test)]

use super::{Answer, Heard, World, bare, element, query, refusal, xml};

/// The zone, and the object that a switch puts.
#[derive(Debug, Clone, Default)]
pub struct Zone {
    /// What stands inside each `ResourceRecordSet`.
    pub records: Vec<String>,
    /// Records in one page at most, whatever was asked for; 0: as many as asked for.
    pub page: usize,
    /// Names whose changes are refused.
    pub refused: Vec<&'static str>,
    /// Refusals in the older form, where the error's name is the document's root.
    pub older: bool,
    /// Questions that are answered with `PENDING` before `INSYNC`.
    pub pending: usize,
    /// Changes so far.
    pub changes: usize,
    /// The load balancer is known to calls signed with this key alone; empty: to all.
    pub balancer_of: &'static str,
    /// The object is there.
    pub object: bool,
    /// What a question for an object that is not there is answered with.
    pub absent: u16,
    /// There is no bucket.
    pub no_bucket: bool,
    /// `RestrictPublicBuckets`, if the bucket has such a configuration at all.
    pub restricts: Option<bool>,
    /// The bucket's policy, if it has one.
    pub policy: Option<String>,
    /// The health check `hc-1`, if there is one: whether it is inverted.
    pub inverted: Option<bool>,
}

/// The text of the first element of that name.
pub fn text<'a>(inside: &'a str, name: &str) -> &'a str {
    let found = inside.split_once(&format!("<{name}>")).and_then(|(_, rest)| rest.split_once(&format!("</{name}>")));
    found.map_or("", |(text, _)| text)
}

/// What stands inside each element of that name.
pub fn each<'a>(document: &'a str, name: &str) -> Vec<&'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    document.split(open.as_str()).skip(1).filter_map(|rest| rest.split_once(close.as_str()).map(|(inside, _)| inside)).collect()
}

/// Route 53's order: labels from the right, then type, then set identifier.
fn place(name: &str, kind: &str, id: &str) -> (String, String, String) {
    let labels: Vec<&str> = name.trim_end_matches('.').split('.').rev().collect();
    (labels.join("."), kind.to_owned(), id.to_owned())
}

fn place_of(inside: &str) -> (String, String, String) {
    place(text(inside, "Name"), text(inside, "Type"), text(inside, "SetIdentifier"))
}

impl Zone {
    /// Simple A records of those names.
    pub fn of(names: &[&str]) -> Zone {
        let record = |name: &&str| {
            element("Name", format!("{name}."))
                + "<Type>A</Type><TTL>60</TTL><ResourceRecords><ResourceRecord><Value>192.0.2.1</Value></ResourceRecord></ResourceRecords>"
        };
        Zone { records: names.iter().map(record).collect(), ..Zone::default() }
    }

    fn list(&mut self, heard: &Heard) -> Answer {
        self.records.sort_by_key(|inside| place_of(inside));
        let from = place(&heard.get("name").replace('*', "\\052"), heard.get("type"), heard.get("identifier"));
        let most = heard.get("maxitems").parse::<usize>().unwrap();
        let most = if self.page == 0 { most } else { most.min(self.page) };
        let left: Vec<&String> = self.records.iter().filter(|inside| place_of(inside) >= from).collect();
        let page: String = left.iter().take(most).map(|inside| element("ResourceRecordSet", inside)).collect();
        let mut inside = element("ResourceRecordSets", page) + &element("IsTruncated", left.len() > most) + &element("MaxItems", most);
        if let Some(next) = left.get(most) {
            inside += &(element("NextRecordName", text(next, "Name")) + &element("NextRecordType", text(next, "Type")));
        }
        xml(200, element("ListResourceRecordSetsResponse", inside))
    }

    fn change(&mut self, heard: &Heard) -> Answer {
        let wanted = each(&heard.body, "ResourceRecordSet");
        if let Some(bad) = self.refused.iter().find(|name| wanted.iter().any(|inside| text(inside, "Name").starts_with(**name))) {
            let words = format!("Tried to change {bad}, but it is protected");
            if self.older {
                return xml(400, element("InvalidChangeBatch", element("Messages", element("Message", words))));
            }
            return refusal(heard, 400, "InvalidChangeBatch", &format!("[{words}]"));
        }
        // Judged line by line, the strictest that Route 53 may be, and done as a whole.
        let mut records = self.records.clone();
        for (action, inside) in each(&heard.body, "Action").into_iter().zip(wanted) {
            let there = records.iter().position(|one| place_of(one) == place_of(inside)).map(|at| records.remove(at));
            let role = text(inside, "Failover");
            let is = |one: &str, name: &str| text(one, name) == text(inside, name);
            let same_role = |one: &String| !role.is_empty() && ["Name", "Type", "Failover"].iter().all(|name| is(one, name));
            let words = match (action, &there) {
                ("DELETE", None) => "Tried to delete resource record set but it was not found",
                ("DELETE", Some(there)) if parts(there) != parts(inside) => {
                    "Tried to delete resource record set but the values provided do not match the current values"
                }
                ("CREATE", Some(_)) => "Tried to create resource record set but it already exists",
                ("CREATE" | "UPSERT", _) if records.iter().any(same_role) => "Failover record sets of the same role already exist",
                _ => "",
            };
            if !words.is_empty() {
                return refusal(heard, 400, "InvalidChangeBatch", &format!("[{words}]"));
            }
            records.extend((action != "DELETE").then(|| inside.to_owned()));
        }
        self.records = records;
        self.changes += 1;
        xml(200, element("ChangeResourceRecordSetsResponse", info(self.changes, "PENDING")))
    }
}

/// What a record consists of, in any order.
fn parts(inside: &str) -> Vec<&str> {
    let mut parts: Vec<&str> = inside.split('<').collect();
    parts.sort_unstable();
    parts
}

fn info(number: usize, status: &str) -> String {
    let inside = element("Id", format!("/change/C{number}")) + &element("Status", status);
    element("ChangeInfo", inside + &element("SubmittedAt", "2026-01-01T00:00:00Z"))
}

/// `GetHealthCheck`'s answer, with the elements of the check's configuration.
fn check(id: &str, config: String) -> String {
    let rest = element("CallerReference", "x") + &element("HealthCheckConfig", config) + &element("HealthCheckVersion", 1);
    element("GetHealthCheckResponse", element("HealthCheck", element("Id", id) + &rest))
}

/// The switch's own check.
fn switch(inverted: bool) -> String {
    let config = "<Type>HTTP</Type><FullyQualifiedDomainName>switches.s3.eu-west-1.amazonaws.com</FullyQualifiedDomainName>\
                  <ResourcePath>/shop/failed-over</ResourcePath><RequestInterval>10</RequestInterval><FailureThreshold>3</FailureThreshold>";
    check("hc-1", config.to_owned() + &element("Inverted", inverted))
}

impl World for Zone {
    fn answer(&mut self, heard: &Heard) -> Answer {
        match heard.operation.as_str() {
            "ListResourceRecordSets" => self.list(heard),
            "ChangeResourceRecordSets" => self.change(heard),
            "GetChange" if self.pending > 0 => {
                self.pending -= 1;
                xml(200, element("GetChangeResponse", info(self.changes, "PENDING")))
            }
            "GetChange" => xml(200, element("GetChangeResponse", info(self.changes, "INSYNC"))),
            "GetHealthCheck" if heard.path.ends_with("/hc-1") => match self.inverted {
                Some(inverted) => xml(200, switch(inverted)),
                None => refusal(heard, 404, "NoSuchHealthCheck", "No health check exists with the specified ID."),
            },
            "GetHealthCheck" => {
                let config = element("Type", "HTTPS") + &element("FullyQualifiedDomainName", "shop.example.com");
                xml(200, check(heard.path.rsplit('/').next().unwrap_or_default(), config))
            }
            "DescribeLoadBalancers" => {
                let balancer =
                    element("DNSName", "standby-alb-456.us-east-1.elb.amazonaws.com") + &element("CanonicalHostedZoneId", "ZALB");
                let known = self.balancer_of.is_empty() || self.balancer_of == heard.key;
                query(heard, &element("LoadBalancers", if known { element("member", balancer) } else { String::new() }))
            }
            // The session of another account's role.
            "AssumeRole" => {
                let keys = [("AccessKeyId", "AKIANETWORK"), ("SecretAccessKey", "other"), ("SessionToken", "session")];
                let keys: String = keys.iter().map(|(name, value)| element(name, value)).collect();
                query(heard, &element("Credentials", keys + &element("Expiration", "2099-01-01T00:00:00Z")))
            }
            "GetPublicAccessBlock" => match self.restricts {
                _ if self.no_bucket => refusal(heard, 404, "NoSuchBucket", "The specified bucket does not exist"),
                Some(on) => xml(200, element("PublicAccessBlockConfiguration", element("RestrictPublicBuckets", on))),
                None => refusal(heard, 404, "NoSuchPublicAccessBlockConfiguration", "The public access block configuration was not found"),
            },
            "GetBucketPolicy" => match &self.policy {
                _ if self.no_bucket => refusal(heard, 404, "NoSuchBucket", "The specified bucket does not exist"),
                Some(policy) => xml(200, policy.as_str()),
                None => refusal(heard, 404, "NoSuchBucketPolicy", "The bucket policy does not exist"),
            },
            "HeadObject" => bare(if self.object { 200 } else { self.absent }),
            "PutObject" => {
                self.object = true;
                bare(200)
            }
            "DeleteObject" => {
                self.object = false;
                bare(204)
            }
            other => refusal(heard, 400, "InvalidAction", other),
        }
    }
}
