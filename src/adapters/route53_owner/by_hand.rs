//! Changes of records as a person makes them: what the owner would send, in lines of a script.

use std::time::Duration;

use serde_json::{Value, json};

use super::edit::{Edit, lines};
use super::record::{Record, canonical};
use crate::adapters::shell::{literal, shell_word};

/// The batch of these changes, and the line that asks for it.
pub fn change(zone: &str, edits: &[Edit]) -> (Value, String) {
    let changes: Vec<Value> =
        lines(edits).into_iter().map(|(action, set)| json!({ "Action": action.as_str(), "ResourceRecordSet": set })).collect();
    let batch = json!({ "Comment": "watchover", "Changes": changes });
    let (zone, sent) = (shell_word(zone), shell_word(&batch.to_string()));
    (batch, format!("aws route53 change-resource-record-sets --hosted-zone-id {zone} --change-batch {sent}"))
}

/// Asks for a change by such a line, and waits until it is on all of Route 53's servers.
pub fn ask_and_wait(line: &str, limit: Duration) -> [String; 2] {
    // AWS's own waiter asks twice a minute: here seconds count.
    let insync = "aws route53 get-change --id \"$change\" --query ChangeInfo.Status --output text";
    [format!("change=$({line} --query ChangeInfo.Id --output text)"), format!("wait_for {} is INSYNC {insync}", limit.as_secs())]
}

/// The same, but not where these commands say that it is so already: sent a second time, a change that takes records away
/// first is refused, and what it was to do is done.
pub fn ask_unless(so: &[String], line: &str, limit: Duration) -> String {
    let [ask, wait] = ask_and_wait(line, limit);
    format!("{{ {{ {}; }} 2>/dev/null && say 'it is so already'; }} || {{ {ask} && {wait}; }}", so.join(" && "))
}

/// A name as Route 53 writes it: the query compares texts.
fn spelled(name: &str) -> String {
    let mut out = String::new();
    for c in canonical(name).chars() {
        match c {
            'a'..='z' | '0'..='9' | '-' | '_' | '.' | '\\' => out.push(c),
            c => out.extend(c.encode_utf8(&mut [0; 4]).bytes().map(|byte| format!("\\{byte:03o}"))),
        }
    }
    out + "."
}

/// How many of a name's PRIMARY records have this check, or have not: the command that answers it.
pub fn primaries(zone: &str, name: &str, check: &str, with: bool) -> String {
    let name = spelled(name);
    let same = if with { "==" } else { "!=" };
    let which = format!("Name=={} && Failover=='PRIMARY' && HealthCheckId{same}{}", literal(&name), literal(check));
    let query = shell_word(&format!("length(ResourceRecordSets[?{which}])"));
    let (zone, name) = (shell_word(zone), shell_word(&name));
    format!(
        "aws route53 list-resource-record-sets --no-paginate --hosted-zone-id {zone} --start-record-name {name} --query {query} --output text"
    )
}

/// Waits until the record says what was written, or shows it where nothing of it is to be compared.
///
/// Of one page that begins with the record: the command line answers a query as text once for each page, and a zone may
/// have many.
pub fn read_back(zone: &str, set: &Record, limit: Duration) -> String {
    let (field, value) = match (&set.weight, &set.failover, set.values.iter().flatten().next()) {
        (Some(weight), ..) => ("Weight", Some(weight.to_string())),
        (None, Some(role), _) => ("Failover", Some(role.clone())),
        (None, None, Some(one)) => ("ResourceRecords[0].Value", Some(one.value.clone())),
        // Route 53 spells an alias's target in its own way: shown, and left to the reader.
        (None, None, None) => ("AliasTarget.DNSName", None),
    };
    let wait = value.map(|value| format!("wait_for {} is {} ", limit.as_secs(), shell_word(&value))).unwrap_or_default();
    let mut start = format!("--start-record-name {} --start-record-type {}", shell_word(&set.name), shell_word(&set.kind));
    let mut which = format!("Name=={} && Type=={}", literal(&set.name), literal(&set.kind));
    if let Some(id) = &set.set_identifier {
        start.push_str(&format!(" --start-record-identifier {}", shell_word(id)));
        which.push_str(&format!(" && SetIdentifier=={}", literal(id)));
    }
    let query = shell_word(&format!("ResourceRecordSets[?{which}] | [0].{field}"));
    let zone = shell_word(zone);
    format!("{wait}aws route53 list-resource-record-sets --no-paginate --hosted-zone-id {zone} {start} --query {query} --output text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_spelled_as_route_53_answers_them() {
        for (name, answered) in
            [("Shop.example.com", "shop.example.com."), ("*.example.com.", "\\052.example.com."), ("a\\056b.c", "a\\056b.c.")]
        {
            assert_eq!(spelled(name), answered);
        }
    }
}
