//! The sites of many apps in this process: primary, standby and front door, each at an address of its own; paths tell the
//! apps apart. They note when they are looked at: evidence from outside the daemon.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// The time between looks: while all is well, and while in doubt.
#[derive(Clone, Copy)]
pub struct Pace {
    pub interval: Duration,
    pub fast: Duration,
    /// From the first failed look to the decision, at least: the looks that it needs are through by then.
    pub outage: Duration,
}

/// Who is asked: the listeners in their order.
#[derive(Clone, Copy, PartialEq)]
pub enum Role {
    Primary,
    Standby,
    Front,
    Witness,
}

const ROLES: [Role; 4] = [Role::Primary, Role::Standby, Role::Front, Role::Witness];

/// Looks of one kind: how many, and how much later than their interval they came. Microseconds.
#[derive(Default)]
pub struct Heard {
    count: AtomicU64,
    late: AtomicU64,
    latest: AtomicU64,
}

impl Heard {
    fn note(&self, late: u64) {
        self.count.fetch_add(1, Ordering::SeqCst);
        self.late.fetch_add(late, Ordering::SeqCst);
        self.latest.fetch_max(late, Ordering::SeqCst);
    }

    pub fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    /// How late they were on average, and at worst; milliseconds.
    pub fn late(&self) -> [f64; 2] {
        let sum = self.late.load(Ordering::SeqCst) as f64;
        [sum / self.count().max(1) as f64 / 1e3, self.latest.load(Ordering::SeqCst) as f64 / 1e3]
    }
}

/// One app as its sites know it. 0: never; else microseconds since the sites began.
#[derive(Default)]
struct Place {
    /// The last look at each.
    last: [AtomicU64; 3],
    /// When its primary first answered a look badly.
    lost: AtomicU64,
    /// Its front door leads to the standby.
    moved: AtomicBool,
}

/// What the listeners share.
struct World {
    begun: Instant,
    pace: Pace,
    /// A directory for each app whose traffic was moved: whoever moves it twice finds it there and fails.
    moved: PathBuf,
    places: Vec<Place>,
    down: AtomicBool,
    /// Looks at rest are counted.
    measures: AtomicBool,
    rest: Heard,
    doubt: Heard,
}

pub struct Sites {
    world: Arc<World>,
    addresses: Vec<String>,
    // Its tasks end with it.
    _runtime: Runtime,
}

impl Sites {
    pub fn start(apps: usize, pace: Pace, moved: PathBuf) -> Sites {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let world = Arc::new(World {
            begun: Instant::now(),
            pace,
            moved,
            places: (0..apps).map(|_| Place::default()).collect(),
            down: AtomicBool::new(false),
            measures: AtomicBool::new(false),
            rest: Heard::default(),
            doubt: Heard::default(),
        });
        let listen = |(at, role): (usize, Role)| {
            let listener = runtime.block_on(TcpListener::bind(format!("127.0.0.{}:0", at + 2))).unwrap();
            let (address, world) = (listener.local_addr().unwrap().to_string(), Arc::clone(&world));
            runtime.spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(answer(Arc::clone(&world), role, stream));
                }
            });
            address
        };
        let addresses = ROLES.into_iter().enumerate().map(listen).collect();
        Sites { world, addresses, _runtime: runtime }
    }

    pub fn address(&self, role: Role) -> &str {
        &self.addresses[role as usize]
    }

    /// All primaries are gone from now on.
    pub fn lose(&self) {
        self.measures(false);
        self.world.down.store(true, Ordering::SeqCst);
    }

    /// Counts looks at rest from now on, or no more.
    pub fn measures(&self, on: bool) {
        self.world.measures.store(on, Ordering::SeqCst);
    }

    /// Looks at rest, and those of apps in doubt.
    pub fn heard(&self) -> [&Heard; 2] {
        [&self.world.rest, &self.world.doubt]
    }
}

/// One request, one answer, as the daemon's looks go.
async fn answer(world: Arc<World>, role: Role, mut stream: TcpStream) {
    let (mut got, mut length) = ([0; 2_048], 0);
    while !got[..length].ends_with(b"\r\n\r\n") {
        match stream.read(&mut got[length..]).await {
            Ok(count) if count > 0 => length += count,
            // Whoever asked has gone.
            _ => return,
        }
    }
    let asked = String::from_utf8_lossy(&got[..length]);
    // A path that is no number is no look at an app: a witness's, or a step's.
    let app = asked.split(['/', ' ']).nth(2).and_then(|name| name.parse().ok());
    let site = app.map_or(Some("nobody's"), |app| world.see(role, app));
    let head = site.map_or("503 Service Unavailable".to_owned(), |site| format!("200 OK\r\nx-region: {site}"));
    // It may have gone by now.
    drop(stream.write_all(format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").as_bytes()).await);
}

impl World {
    /// Notes the look, and says which site answers; `None`: none does.
    fn see(&self, role: Role, at: usize) -> Option<&'static str> {
        let (place, down) = (&self.places[at], self.down.load(Ordering::SeqCst));
        let now = micros(self.begun.elapsed());
        let last = place.last[role as usize].swap(now, Ordering::SeqCst);
        let lost = place.lost.load(Ordering::SeqCst);
        // A directory that is there stays there.
        if lost > 0 && role == Role::Front && !place.moved.load(Ordering::SeqCst) {
            place.moved.store(self.moved.join(at.to_string()).exists(), Ordering::SeqCst);
        }
        let moved = place.moved.load(Ordering::SeqCst);
        if !down && last > 0 && self.measures.load(Ordering::SeqCst) {
            self.rest.note((now - last).saturating_sub(micros(self.pace.interval)));
        } else if lost > 0 && last > lost && !moved {
            // In doubt from the first bad answer on; once its users are moved it calms down again.
            self.doubt.note((now - last).saturating_sub(micros(self.pace.fast)));
        }
        if down && role == Role::Primary && lost == 0 {
            place.lost.store(now, Ordering::SeqCst);
        }
        match role {
            Role::Front if moved => Some("standby"),
            Role::Standby => Some("standby"),
            _ => (!down).then_some("primary"),
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap()
}
