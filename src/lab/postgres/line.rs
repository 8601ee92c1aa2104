//! The line between the regions: a relay between the replica and its source that carries late, stops, and is cut.
//!
//! On loopback a streaming replica is never behind, and a test of loss would lose nothing. What the replica is sent
//! therefore travels for as long as the seed says, and what is on its way when the light goes out is lost.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::lab::cloud::Cloud;
use crate::lab::serve::Room;
use crate::lab::world::Line;

/// Most bytes of a piece.
const PIECE: usize = 16 * 1_024;
/// Most pieces on their way; a fuller line makes the source wait.
const PIECES: usize = 512;
/// How often a line looks whether it still stands.
const LOOK: Duration = Duration::from_millis(20);

/// Binds and carries; answers where the replica finds its source. `source`: that server's own port.
pub async fn start(room: &Room, cloud: &Arc<Cloud>, replica: &str, source: u16) -> std::io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let port = listener.local_addr()?.port();
    let (token, tasks, cloud, replica) = (room.token.clone(), room.tasks.clone(), cloud.clone(), replica.to_owned());
    room.tasks.spawn(async move {
        while let Some(accepted) = token.run_until_cancelled(listener.accept()).await {
            let Ok((stream, _)) = accepted else { continue };
            if line(&cloud, &replica) == Line::Cut {
                continue;
            }
            let (token, cloud, replica) = (token.clone(), cloud.clone(), replica.clone());
            tasks.spawn(async move {
                if let Some(Err(error)) = token.run_until_cancelled(carry(cloud, &replica, stream, source)).await {
                    tracing::debug!(%replica, %error, "the line of a replica ended");
                }
            });
        }
    });
    Ok(port)
}

fn line(cloud: &Cloud, replica: &str) -> Line {
    cloud.world().line(replica)
}

/// Carries one connection until either end leaves or the line is cut.
async fn carry(cloud: Arc<Cloud>, replica: &str, near: TcpStream, source: u16) -> std::io::Result<()> {
    let far = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, source))).await?;
    let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
    let (sender, receiver) = mpsc::channel(PIECES);
    tokio::select! {
        done = at_once(near_read, far_write) => done,
        done = take_in(&cloud, replica, far_read, sender) => done,
        done = hand_out(&cloud, replica, near_write, receiver) => done,
    }
}

/// Towards the source: what a replica says back is small, and its lateness would change nothing that is measured.
async fn at_once(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> std::io::Result<()> {
    tokio::io::copy(&mut from, &mut to).await.map(drop)
}

async fn take_in(cloud: &Cloud, replica: &str, mut from: OwnedReadHalf, to: mpsc::Sender<(Instant, Vec<u8>)>) -> std::io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let length = from.read(&mut piece).await?;
        let late = match line(cloud, replica) {
            Line::Flows { delay_ms } => Duration::from_millis(delay_ms),
            Line::Held => Duration::ZERO,
            Line::Cut => return Ok(()),
        };
        if length == 0 || to.send((Instant::now() + late, piece[..length].to_vec())).await.is_err() {
            return Ok(());
        }
    }
}

async fn hand_out(
    cloud: &Cloud,
    replica: &str,
    mut to: OwnedWriteHalf,
    mut from: mpsc::Receiver<(Instant, Vec<u8>)>,
) -> std::io::Result<()> {
    loop {
        match timeout(LOOK, from.recv()).await {
            Ok(Some((due, piece))) => {
                sleep_until(due).await;
                // Looked at right before it is handed out: nothing passes once the light is out.
                loop {
                    match line(cloud, replica) {
                        Line::Flows { .. } => break,
                        Line::Held => sleep(LOOK).await,
                        Line::Cut => return Ok(()),
                    }
                }
                to.write_all(&piece).await?;
            }
            Ok(None) => return Ok(()),
            Err(_) if line(cloud, replica) == Line::Cut => return Ok(()),
            Err(_) => {}
        }
    }
}
