//! AWS's own protocols, all services and regions on one port.
//!
//! Service and region come from the credential scope of the signature, as they do at AWS; signatures
//! themselves are not verified. The faces only translate: what is true and what is refused is the world's.

mod alarms;
mod autoscaling;
mod cloudwatch;
mod elbv2;
mod health_xml;
mod rds;
mod route53;
mod s3;
mod sns;
mod sts;
mod value;
mod wire;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use tokio::net::TcpListener;

use super::cloud::Cloud;
use super::faults::Fault;
use super::serve::{Door, Reply, Room, Whole, header, serve};
use super::world::ApiError;
pub use sts::{SESSION_SECRET, SESSION_TOKEN};
use wire::{Call, Style};

type Answer = Response<Full<Bytes>>;

/// Binds and serves; answers the address.
pub async fn start(room: &Room, cloud: &Arc<Cloud>) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let (at_door, inside) = (cloud.clone(), cloud.clone());
    let door = move |peer: SocketAddr| {
        if at_door.cut_off(peer.ip()) { Door::Silent } else { Door::Open }
    };
    serve(room, listener, door, move |request, peer| answer(inside.clone(), request, peer));
    Ok(address)
}

async fn answer(cloud: Arc<Cloud>, request: Whole, peer: SocketAddr) -> Reply {
    if cloud.cut_off(peer.ip()) {
        return Reply::Hang;
    }
    let call = match Call::read(request) {
        Ok(call) => call,
        Err(error) => return Reply::Answer(wire::error(Style::Query, "", &error)),
    };
    cloud.count(&call.service, &call.region, &call.operation, call.mutates());
    if dark(&cloud, &call) {
        return Reply::Hang;
    }
    let fault = cloud.faults().next(&call.service, &call.region, &call.operation, cloud.now());
    match fault {
        None => Reply::Answer(perform(&cloud, &call)),
        Some(Fault::Latency { millis }) => Reply::Late(Duration::from_millis(millis), perform(&cloud, &call)),
        Some(Fault::Hang) => Reply::Hang,
        Some(Fault::DropBefore) => Reply::Drop,
        Some(Fault::DropAfter) => {
            drop(perform(&cloud, &call));
            Reply::Drop
        }
        Some(Fault::Answer { status, code, message }) => {
            Reply::Answer(wire::error_named(call.style, &call.operation, status, &code, &message))
        }
    }
}

/// Route 53 is global and has a life of its own; everything else goes dark with its region, a bucket with
/// its own one whatever the caller signed for.
fn dark(cloud: &Cloud, call: &Call) -> bool {
    let world = cloud.world();
    let bucket = if call.service == "s3" { world.bucket(call.bucket()).ok().map(|b| b.region.clone()) } else { None };
    call.service != "route53" && world.is_dark(bucket.as_deref().unwrap_or(&call.region))
}

fn perform(cloud: &Cloud, call: &Call) -> Answer {
    let now = cloud.now();
    let world = &mut cloud.world();
    let result = match call.service.as_str() {
        "route53" => route53::handle(world, call, now),
        "rds" => rds::handle(world, call, now),
        "monitoring" => cloudwatch::handle(world, call, now),
        "autoscaling" => autoscaling::handle(world, call, now),
        "elasticloadbalancing" => elbv2::handle(world, call),
        "s3" => s3::handle(world, call, now),
        "sns" => sns::handle(world, call, now),
        "sts" => sts::handle(world, call, now),
        other => Err(ApiError::new(400, "InvalidAction", format!("the lab has no service {other}"))),
    };
    let mut answer = result.unwrap_or_else(|error| wire::error(call.style, &call.operation, &error));
    let id = wire::request_id();
    header(&mut answer, "x-amzn-requestid", &id);
    header(&mut answer, "x-amz-request-id", &id);
    answer
}

fn unknown(call: &Call) -> ApiError {
    let message = format!("The action {} is not valid for this endpoint.", call.operation);
    ApiError::new(400, "InvalidAction", message)
}
