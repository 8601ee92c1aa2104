//! STS over the query protocol: everybody is who they say they are.

use super::wire::{Call, iso, query};
use super::{Answer, unknown};
use crate::lab::world::{ACCOUNT, ApiError, Millis, World};

const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// The secret key that everybody gets who assumes a role. No other text holds it by chance, so that it can be searched for.
pub const SESSION_SECRET: &str = "labSessionSecretKey0labSessionSecretKey0";
/// The session token that comes with it.
pub const SESSION_TOKEN: &str = "labSessionToken0labSessionToken0labSessionToken0";

/// Answers a call.
pub fn handle(world: &World, call: &Call, now: Millis) -> Result<Answer, ApiError> {
    match call.operation.as_str() {
        "GetCallerIdentity" => Ok(query(call, NAMESPACE, |x| {
            x.leaf("Arn", format!("arn:aws:iam::{ACCOUNT}:user/lab")).leaf("UserId", "AIDALABLABLABLABLABLA").leaf("Account", ACCOUNT);
        })),
        "AssumeRole" => {
            let (role, session) = (call.form.need("RoleArn")?, call.form.need("RoleSessionName")?);
            let seconds = call.form.parse::<u64>("DurationSeconds")?.unwrap_or(3_600);
            let name = role.rsplit('/').next().unwrap_or(role);
            Ok(query(call, NAMESPACE, |x| {
                x.node("AssumedRoleUser", |x| {
                    x.leaf("Arn", format!("arn:aws:sts::{ACCOUNT}:assumed-role/{name}/{session}"));
                    x.leaf("AssumedRoleId", format!("AROALABLABLABLABLABLA:{session}"));
                });
                x.node("Credentials", |x| {
                    x.leaf("AccessKeyId", "ASIALABLABLABLABLABL");
                    x.leaf("SecretAccessKey", SESSION_SECRET).leaf("SessionToken", SESSION_TOKEN);
                    x.leaf("Expiration", iso(world.unix_ms(now) + seconds * 1_000));
                });
            }))
        }
        _ => Err(unknown(call)),
    }
}
