//! What a bucket's policy says of one object to everybody. No I/O.
//!
//! Source: IAM user guide, "IAM JSON policy elements reference" (wildcards of actions and resources; `Principal` `"*"` and
//! `{"AWS": "*"}` are both everybody; names of actions know no case) and "Policy evaluation logic" (a Deny beats every Allow).

use serde_json::Value;

/// May everybody read it?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readable {
    /// Certainly.
    Yes,
    /// By a statement that hangs on a condition, or names whom or what it is not about: whether Route 53's checkers meet it
    /// nobody can say here.
    Perhaps,
    /// No statement allows it.
    No,
    /// A statement denies it to everybody.
    Denied,
}

/// The word of a policy, an empty document if there is none, on reading the object of that ARN. A Deny that hangs on a
/// condition is let be: whether it is met, as with the common `aws:SecureTransport`, nobody can say here.
///
/// # Errors
/// It is no policy, in words.
pub(super) fn readable(policy: &str, object: &str) -> Result<Readable, String> {
    let policy: Value = serde_json::from_str(policy).map_err(|cause| format!("the policy is no JSON: {cause}"))?;
    let mut found = Readable::No;
    for statement in each(&policy["Statement"]) {
        let about = is_about(statement, object);
        match (statement["Effect"].as_str(), about) {
            (Some("Allow"), Some(true)) if found != Readable::Denied => found = Readable::Yes,
            (Some("Allow"), None) if found == Readable::No => found = Readable::Perhaps,
            (Some("Deny"), Some(true)) => found = Readable::Denied,
            _ => {}
        }
    }
    Ok(found)
}

/// Whether a statement is about everybody's reading of the object; `None`: perhaps.
fn is_about(statement: &Value, object: &str) -> Option<bool> {
    let any = |key: &str, fits: &dyn Fn(&str) -> bool| each(&statement[key]).iter().filter_map(|value| value.as_str()).any(fits);
    let told = |key: &str| !statement[key].is_null();
    let everybody = match &statement["Principal"] {
        Value::Object(by) => by.get("AWS").is_some_and(|who| each(who).iter().any(|one| *one == "*")),
        who => who == "*",
    };
    let parts = [
        (everybody, told("NotPrincipal")),
        (any("Action", &|action| fits(&action.to_ascii_lowercase(), "s3:getobject")), told("NotAction")),
        (any("Resource", &|resource| fits(resource, object)), told("NotResource")),
    ];
    if parts.iter().any(|(fits, not)| !fits && !not) {
        return Some(false);
    }
    let certain = parts.iter().all(|(fits, _)| *fits);
    let conditions = statement["Condition"].as_object().is_some_and(|all| !all.is_empty());
    (certain && !conditions).then_some(true)
}

/// One or a list of them.
fn each(value: &Value) -> Vec<&Value> {
    match value {
        Value::Null => Vec::new(),
        Value::Array(all) => all.iter().collect(),
        one => vec![one],
    }
}

/// Whether a text is of a pattern's kind: `*` is any text, `?` any one sign. Without recursion: a policy is another's text.
fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut seen) = (0, 0);
    // The last star, and how much of the text it has taken so far.
    let mut star: Option<(usize, usize)> = None;
    while seen < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, seen));
                at += 1;
            }
            Some(sign) if *sign == '?' || *sign == text[seen] => {
                at += 1;
                seen += 1;
            }
            _ => match star {
                Some((place, taken)) => {
                    star = Some((place, taken + 1));
                    (at, seen) = (place + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|sign| *sign == '*')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const OBJECT: &str = "arn:aws:s3:::switches/shop/failed-over";

    fn statement(more: &Value) -> Value {
        let mut value = json!({"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": OBJECT});
        value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        value.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        value
    }

    fn said(statements: &[Value]) -> Readable {
        readable(&json!({"Version": "2012-10-17", "Statement": statements}).to_string(), OBJECT).unwrap()
    }

    #[test]
    fn one_statement_allows_everybody_denies_everybody_or_leaves_it_open() {
        use Readable::{Denied, No, Perhaps, Yes};
        for (more, wanted) in [
            (json!({}), Yes),
            (json!({"Principal": {"AWS": "*"}}), Yes),
            (json!({"Principal": {"AWS": ["arn:aws:iam::123456789012:root", "*"]}}), Yes),
            (json!({"Principal": {"AWS": "arn:aws:iam::123456789012:root"}}), No),
            (json!({"Principal": {"Service": "*"}}), No),
            (json!({"Principal": null, "NotPrincipal": {"AWS": "arn:aws:iam::123456789012:root"}}), Perhaps),
            (json!({"Action": ["s3:PutObject", "s3:Get*"]}), Yes),
            (json!({"Action": "*"}), Yes),
            (json!({"Action": "s3:*"}), Yes),
            (json!({"Action": "S3:getobject"}), Yes),
            (json!({"Action": "s3:GetObjectVersion"}), No),
            (json!({"Action": null, "NotAction": "s3:PutObject"}), Perhaps),
            (json!({"Resource": "arn:aws:s3:::switches/*"}), Yes),
            (json!({"Resource": ["arn:aws:s3:::switches", "arn:aws:s3:::switches/sho?/*over"]}), Yes),
            (json!({"Resource": "arn:aws:s3:::switches/shop/*-ove"}), No),
            (json!({"Resource": "arn:aws:s3:::switches"}), No),
            (json!({"Resource": "arn:aws:s3:::switches/Shop/*"}), No),
            (json!({"Condition": {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}}), Perhaps),
            (json!({"Condition": {}}), Yes),
            (json!({"Condition": {"Bool": {"aws:SecureTransport": "true"}}, "Action": "s3:PutObject"}), No),
            (json!({"Effect": "Deny"}), Denied),
            (json!({"Effect": "Deny", "Condition": {"Bool": {"aws:SecureTransport": "false"}}}), No),
        ] {
            assert_eq!(said(&[statement(&more)]), wanted, "{more}");
        }
    }

    #[test]
    fn a_denial_beats_what_is_allowed_and_the_best_of_the_rest_counts() {
        let (allow, deny) = (statement(&json!({})), statement(&json!({"Effect": "Deny", "Action": "s3:*"})));
        let perhaps = statement(&json!({"Condition": {"Bool": {"aws:SecureTransport": "true"}}}));
        let other = statement(&json!({"Resource": "arn:aws:s3:::switches/other"}));
        assert_eq!(said(&[allow.clone(), deny.clone()]), Readable::Denied);
        assert_eq!(said(&[deny, allow.clone()]), Readable::Denied);
        assert_eq!(said(&[perhaps.clone(), allow]), Readable::Yes);
        assert_eq!(said(&[other.clone(), perhaps]), Readable::Perhaps);
        assert_eq!(said(&[other]), Readable::No);
        assert_eq!(readable(&json!({"Statement": statement(&json!({}))}).to_string(), OBJECT), Ok(Readable::Yes), "one without a list");
        assert_eq!(readable("{}", OBJECT), Ok(Readable::No));
        assert!(readable("<html>", OBJECT).unwrap_err().starts_with("the policy is no JSON"));
    }

    #[test]
    fn patterns_match_as_those_of_iam() {
        for (pattern, text, wanted) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a*b*c", "axxbyybzc", true),
            ("a*b*c", "axxbyybz", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("**a", "ba", true),
            ("a*", "a", true),
            ("*a?", "aaa", true),
        ] {
            assert_eq!(fits(pattern, text), wanted, "{pattern} {text}");
        }
        assert!(!fits(&"*a".repeat(2_000), &"a".repeat(1_500)), "in time");
    }
}
