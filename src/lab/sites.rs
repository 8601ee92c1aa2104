//! The load balancers and the witnesses as real listeners on loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use tokio::net::TcpListener;

use super::cloud::Cloud;
use super::serve::{Door, Reply, Room, Whole, header, serve, text};
use super::world::{Ask, SiteMode, SiteName, SiteReply};

/// Where the witnesses are.
pub const WITNESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 0, 3, 11), Ipv4Addr::new(127, 0, 3, 12)];

/// Tries before giving up on a port that is free on every address.
const TRIES: usize = 50;

/// Binds and serves both sites; answers the port that is common to all their addresses.
pub async fn start_sites(room: &Room, cloud: &Arc<Cloud>) -> std::io::Result<u16> {
    let places: Vec<(SiteName, Ipv4Addr)> = {
        let world = cloud.world();
        world.sites().iter().flat_map(|s| s.balancer.addresses.iter().map(|a| (s.name, *a))).collect()
    };
    let (port, listeners) = common_port(&places).await?;
    for (site, listener) in listeners {
        let (at_door, inside) = (cloud.clone(), cloud.clone());
        let door = move |peer: SocketAddr| door(&at_door, site, peer);
        serve(room, listener, door, move |request, peer| answer(inside.clone(), site, request, peer));
    }
    Ok(port)
}

/// Binds and serves the witnesses; answers their URLs.
pub async fn start_witnesses(room: &Room, cloud: &Arc<Cloud>) -> std::io::Result<Vec<String>> {
    let mut urls = Vec::new();
    for address in WITNESSES {
        let listener = TcpListener::bind((address, 0)).await?;
        urls.push(format!("http://{}/", listener.local_addr()?));
        let cloud = cloud.clone();
        let door = move |peer: SocketAddr| {
            if cloud.cut_off(peer.ip()) { Door::Silent } else { Door::Open }
        };
        serve(room, listener, door, |_, _| async { Reply::Answer(text(204, "text/plain", "")) });
    }
    Ok(urls)
}

async fn common_port(places: &[(SiteName, Ipv4Addr)]) -> std::io::Result<(u16, Vec<(SiteName, TcpListener)>)> {
    let mut last = std::io::Error::other("no load balancer to bind");
    for _ in 0..TRIES {
        match bind_all(places).await {
            Ok(bound) => return Ok(bound),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn bind_all(places: &[(SiteName, Ipv4Addr)]) -> std::io::Result<(u16, Vec<(SiteName, TcpListener)>)> {
    let mut port = 0;
    let mut listeners = Vec::new();
    for (site, address) in places {
        let listener = TcpListener::bind((*address, port)).await?;
        port = listener.local_addr()?.port();
        listeners.push((*site, listener));
    }
    Ok((port, listeners))
}

fn door(cloud: &Cloud, site: SiteName, peer: SocketAddr) -> Door {
    let cut_off = cloud.cut_off(peer.ip());
    let world = cloud.world();
    let place = world.site(site);
    match place.mode {
        _ if cut_off || world.is_dark(&place.region) => Door::Silent,
        SiteMode::Refuse | SiteMode::Reset => Door::Reset,
        SiteMode::Hang => Door::Silent,
        SiteMode::Ok | SiteMode::Error | SiteMode::Slow { .. } | SiteMode::WrongBody | SiteMode::Share { .. } => Door::Open,
    }
}

async fn answer(cloud: Arc<Cloud>, site: SiteName, request: Whole, peer: SocketAddr) -> Reply {
    if cloud.cut_off(peer.ip()) {
        return Reply::Hang;
    }
    let ask = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/healthz" | "/") => Ask::Health,
        (&Method::POST, "/write") => Ask::Write,
        _ => return Reply::Answer(text(404, "text/plain", "no such page\n")),
    };
    let now = cloud.now();
    let host = request.headers().get("host").and_then(|host| host.to_str().ok()).unwrap_or_default();
    let reply = {
        let mut world = cloud.world();
        let app = world.tenant_called(host);
        world.app_request(app, site, ask, now)
    };
    match reply {
        SiteReply::Database { marker, delay } => write(&cloud, site, marker, delay).await,
        SiteReply::Hang => Reply::Hang,
        SiteReply::Reset => Reply::Drop,
        SiteReply::Answer { status, marker, body, delay } => said(status, marker.as_deref(), body, delay),
    }
}

fn said(status: u16, marker: Option<&str>, body: String, delay: u64) -> Reply {
    let mut response = text(status, "text/plain", body);
    if let Some(region) = marker {
        header(&mut response, "x-region", region);
    }
    if delay == 0 { Reply::Answer(response) } else { Reply::Late(Duration::from_millis(delay), response) }
}

/// A write into the real server of a site. It counts as acknowledged when its answer leaves the region.
async fn write(cloud: &Cloud, site: SiteName, marker: String, delay: u64) -> Reply {
    let number = cloud.world().number_write();
    let written = match cloud.postgres() {
        Some(postgres) => postgres.write(site, number).await,
        None => false,
    };
    if !written {
        return said(503, Some(&marker), "the database takes no writes\n".to_owned(), delay);
    }
    let now = cloud.now();
    let out = cloud.world().acknowledge(site, number, now);
    if out { said(200, Some(&marker), format!("{number}\n"), delay) } else { Reply::Hang }
}
