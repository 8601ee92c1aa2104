//! S3 over its own REST, path style.

use hyper::Method;

use super::wire::{Call, Form, document, http_date, iso};
use super::{Answer, unknown};
use crate::lab::serve::{header, text};
use crate::lab::world::{ApiError, Bucket, Millis, Object, PublicAccess, World};

const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// The operation of a method, a path and its parameters.
pub fn operation(method: &Method, path: &str, form: &Form) -> String {
    let (bucket, key) = split(path);
    let has = |name: &str| form.get(name).is_some();
    let name = match *method {
        Method::GET if bucket.is_empty() => "ListBuckets",
        Method::GET if key.is_empty() && has("location") => "GetBucketLocation",
        Method::GET if key.is_empty() && has("publicAccessBlock") => "GetPublicAccessBlock",
        Method::GET if key.is_empty() && has("policy") => "GetBucketPolicy",
        Method::GET if key.is_empty() && has("policyStatus") => "GetBucketPolicyStatus",
        Method::GET if key.is_empty() && (has("list-type") || form.0.is_empty()) => "ListObjectsV2",
        Method::PUT if key.is_empty() && has("publicAccessBlock") => "PutPublicAccessBlock",
        Method::HEAD if key.is_empty() => "HeadBucket",
        Method::GET if !key.is_empty() => "GetObject",
        Method::HEAD => "HeadObject",
        Method::PUT if !key.is_empty() => "PutObject",
        Method::DELETE if !key.is_empty() => "DeleteObject",
        _ => return format!("{method} {path}"),
    };
    name.to_owned()
}

fn split(path: &str) -> (&str, &str) {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.split_once('/').unwrap_or((path, ""))
}

/// Answers a call.
pub fn handle(world: &mut World, call: &Call, now: Millis) -> Result<Answer, ApiError> {
    let (name, key) = split(&call.path);
    if call.operation == "ListBuckets" {
        if !call.signed {
            return Err(denied());
        }
        return Ok(buckets(world));
    }
    let bucket = world.bucket(name)?;
    if !call.signed {
        if !matches!(call.operation.as_str(), "GetObject" | "HeadObject") {
            return Err(denied());
        }
        return Ok(object(world, world.public_object(name, key)?, call));
    }
    // GetBucketLocation is how one finds the region, so it answers from everywhere.
    if bucket.region != call.region && call.operation != "GetBucketLocation" {
        return Ok(elsewhere(call, bucket));
    }
    match call.operation.as_str() {
        "HeadBucket" => Ok(at(text(200, "application/xml", ""), bucket)),
        "GetBucketLocation" => {
            let place = if bucket.region == "us-east-1" { "" } else { &bucket.region };
            Ok(document("LocationConstraint", NAMESPACE, |x| x.0.push_str(place)))
        }
        "ListObjectsV2" => list(world, bucket, call),
        "GetPublicAccessBlock" => {
            let access = bucket.public_access;
            Ok(document("PublicAccessBlockConfiguration", NAMESPACE, |x| {
                x.leaf("BlockPublicAcls", access.block_acls).leaf("IgnorePublicAcls", access.ignore_acls);
                x.leaf("BlockPublicPolicy", access.block_policy).leaf("RestrictPublicBuckets", access.restrict);
            }))
        }
        "GetBucketPolicy" if bucket.public_keys.is_empty() => {
            Err(ApiError::new(404, "NoSuchBucketPolicy", "The bucket policy does not exist"))
        }
        "GetBucketPolicy" => Ok(text(200, "application/json", policy(bucket))),
        "GetBucketPolicyStatus" => {
            let public = !bucket.public_keys.is_empty();
            Ok(document("PolicyStatus", NAMESPACE, |x| {
                x.leaf("IsPublic", public);
            }))
        }
        "PutPublicAccessBlock" => {
            let body = String::from_utf8_lossy(&decoded(call)?).into_owned();
            let on = |name: &str| body.contains(&format!("<{name}>true</{name}>"));
            let access = PublicAccess {
                block_acls: on("BlockPublicAcls"),
                ignore_acls: on("IgnorePublicAcls"),
                block_policy: on("BlockPublicPolicy"),
                restrict: on("RestrictPublicBuckets"),
            };
            world.set_public_access(name, access, now)?;
            Ok(text(200, "application/xml", ""))
        }
        "GetObject" | "HeadObject" => {
            let missing = || ApiError::new(404, "NoSuchKey", "The specified key does not exist.");
            Ok(object(world, bucket.objects.get(key).ok_or_else(missing)?, call))
        }
        "PutObject" => {
            let kind = call.header("content-type");
            let kind = if kind.is_empty() { "binary/octet-stream" } else { kind };
            let etag = world.put_object(name, key, decoded(call)?, kind, now)?;
            let mut answer = text(200, "application/xml", "");
            header(&mut answer, "etag", &format!("\"{etag}\""));
            Ok(answer)
        }
        "DeleteObject" => {
            world.delete_object(name, key, now)?;
            Ok(text(204, "application/xml", ""))
        }
        _ => Err(unknown(call)),
    }
}

/// The policy that lets everybody read some keys.
fn policy(bucket: &Bucket) -> String {
    let keys: Vec<String> = bucket.public_keys.iter().map(|key| format!("arn:aws:s3:::{}/{key}", bucket.name)).collect();
    let statement = serde_json::json!({"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": keys});
    serde_json::json!({"Version": "2012-10-17", "Statement": [statement]}).to_string()
}

fn denied() -> ApiError {
    ApiError::new(403, "AccessDenied", "Access Denied")
}

fn at(mut answer: Answer, bucket: &Bucket) -> Answer {
    header(&mut answer, "x-amz-bucket-region", &bucket.region);
    answer
}

/// A call that was signed for the wrong region; S3 says where the bucket is.
fn elsewhere(call: &Call, bucket: &Bucket) -> Answer {
    let mut answer = document("Error", "", |x| {
        if call.region == "us-east-1" {
            x.leaf("Code", "PermanentRedirect");
            x.leaf("Message", "The bucket you are attempting to access must be addressed using the specified endpoint.");
            x.leaf("Endpoint", format!("{}.s3.{}.amazonaws.com", bucket.name, bucket.region)).leaf("Bucket", &bucket.name);
        } else {
            x.leaf("Code", "AuthorizationHeaderMalformed");
            let message =
                format!("The authorization header is malformed; the region '{}' is wrong; expecting '{}'", call.region, bucket.region);
            x.leaf("Message", message).leaf("Region", &bucket.region);
        }
    });
    let moved = call.region == "us-east-1" || call.method == Method::HEAD;
    *answer.status_mut() = if moved { hyper::StatusCode::MOVED_PERMANENTLY } else { hyper::StatusCode::BAD_REQUEST };
    at(answer, bucket)
}

fn buckets(world: &World) -> Answer {
    let born = iso(world.unix_ms(0).saturating_sub(86_400_000 * 90));
    document("ListAllMyBucketsResult", NAMESPACE, |x| {
        x.node("Owner", |x| {
            x.leaf("ID", crate::lab::world::ACCOUNT);
        });
        x.each("Buckets", "Bucket", world.buckets(), |x, bucket| {
            x.leaf("Name", &bucket.name).leaf("CreationDate", &born);
        });
    })
}

fn list(world: &World, bucket: &Bucket, call: &Call) -> Result<Answer, ApiError> {
    let prefix = call.form.get("prefix").unwrap_or_default();
    let size = call.form.parse::<usize>("max-keys")?.unwrap_or(1_000).min(1_000);
    let after = call.form.get("continuation-token").or(call.form.get("start-after")).unwrap_or_default();
    let mut left = bucket.objects.iter().filter(|(k, _)| k.starts_with(prefix) && k.as_str() > after);
    let page: Vec<_> = left.by_ref().take(size).collect();
    let last = page.last().map(|(k, _)| (*k).clone()).filter(|_| left.next().is_some());
    Ok(document("ListBucketResult", NAMESPACE, |x| {
        x.leaf("Name", &bucket.name).leaf("Prefix", prefix).leaf("KeyCount", page.len()).leaf("MaxKeys", size);
        x.leaf("IsTruncated", last.is_some()).maybe("NextContinuationToken", last);
        for (key, object) in page {
            x.node("Contents", |x| {
                x.leaf("Key", key).leaf("LastModified", iso(world.unix_ms(object.modified)));
                x.leaf("ETag", format!("\"{}\"", object.etag)).leaf("Size", object.body.len()).leaf("StorageClass", "STANDARD");
            });
        }
    }))
}

fn object(world: &World, object: &Object, call: &Call) -> Answer {
    let head = call.method == Method::HEAD;
    let body = if head { Vec::new() } else { object.body.clone() };
    let mut answer = text(200, &object.content_type, body);
    if head {
        header(&mut answer, "content-length", &object.body.len().to_string());
    }
    header(&mut answer, "etag", &format!("\"{}\"", object.etag));
    header(&mut answer, "last-modified", &http_date(world.unix_ms(object.modified)));
    answer
}

/// The body without the chunks and trailing checksums that newer SDKs wrap around it.
fn decoded(call: &Call) -> Result<Vec<u8>, ApiError> {
    let chunked = call.header("content-encoding").contains("aws-chunked") || call.header("x-amz-content-sha256").starts_with("STREAMING-");
    if !chunked {
        return Ok(call.body.to_vec());
    }
    unchunk(&call.body).ok_or_else(|| ApiError::new(400, "IncompleteBody", "The aws-chunked body cannot be read."))
}

fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|w| w == b"\r\n")?;
        let line = std::str::from_utf8(&rest[..end]).ok()?;
        let size = usize::from_str_radix(line.split(';').next()?.trim(), 16).ok()?;
        rest = &rest[end + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_and_trailers_come_off() {
        let wire = b"5;chunk-signature=ab\r\nhello\r\n1\r\n!\r\n0\r\nx-amz-checksum-crc32:AAAA\r\n\r\n";
        assert_eq!(unchunk(wire).unwrap(), b"hello!");
        assert!(unchunk(b"5\r\nhel").is_none());
    }
}
