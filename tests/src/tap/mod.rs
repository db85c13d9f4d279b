//! A tap between one controller and one of its servers, etcd or a Mesos master: it writes down who asked for
//! what and what became of it, in one order for all taps of a test; and it can hold a message at a chosen
//! moment, keep everything back, cut the way, or lose an answer.

mod etcd;
mod proxy;
mod tape;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{net::TcpListener, sync::watch, task::JoinSet};

pub use self::tape::{Asked, Call, Outcome, Tape, WrittenKey};

/// What is behind a tap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// gRPC.
    Etcd,
    /// The scheduler API, HTTP/1.1 with JSON.
    Mesos,
}

/// How the way is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Way {
    /// Everything goes through.
    #[default]
    Open,
    /// Connections stay, and nothing goes through.
    Silent,
    /// Connections end, new ones too.
    Cut,
}

/// A moment at which a message can be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// A write of an instance's record is on its way to etcd.
    IntentAsked,
    /// It is done, and the answer is on its way back.
    IntentAnswered,
    /// An ACCEPT that launches is on its way to the master.
    AcceptAsked,
    /// It is done, and the answer is on its way back.
    AcceptAnswered,
}

/// A tap. Dropped, its connections end.
#[derive(Debug)]
pub struct Tap {
    address: SocketAddr,
    shared: Arc<Shared>,
    way: watch::Sender<Way>,
    _listening: JoinSet<()>,
}

/// What all connections of a tap share.
#[derive(Debug)]
struct Shared {
    /// Whose tap it is.
    by: String,
    server: Server,
    tape: Tape,
    trap: Mutex<Option<Trap>>,
    /// Answers to writes that are to be lost.
    lose: Mutex<u32>,
}

/// A message that is waited for, or held.
#[derive(Debug, Clone)]
struct Trap {
    point: Point,
    reached: watch::Sender<bool>,
    released: watch::Sender<bool>,
}

/// A message that is to be held. Dropped, it goes on.
#[derive(Debug)]
pub struct Held {
    shared: Arc<Shared>,
    trap: Trap,
}

impl Tap {
    /// A tap of `by` in front of `upstream`, an `ip:port`.
    ///
    /// # Panics
    /// When there is no port to listen on.
    #[expect(clippy::expect_used, reason = "the tests' own way to fail")]
    pub async fn open(server: Server, by: &str, upstream: &str, tape: &Tape) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port of a tap");
        let address = listener.local_addr().expect("the address of a tap");
        let (way, ways) = watch::channel(Way::Open);
        let shared = Arc::new(Shared {
            by: by.to_owned(),
            server,
            tape: tape.clone(),
            trap: Mutex::new(None),
            lose: Mutex::new(0),
        });
        let upstream: SocketAddr = upstream.parse().expect("an address to tap");
        let mut listening = JoinSet::new();
        listening.spawn(proxy::listen(listener, upstream, Arc::clone(&shared), ways));
        Self { address, shared, way, _listening: listening }
    }

    /// Where it listens: `ip:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Opens, mutes or cuts the way.
    pub fn set(&self, way: Way) {
        self.way.send_replace(way);
    }

    /// How the way is.
    pub fn way(&self) -> Way {
        *self.way.borrow()
    }

    /// Has the answers of the next writes lost, with their connections, after they were done.
    pub fn lose_answers(&self, count: u32) {
        *lock(&self.shared.lose) = count;
    }

    /// Has the next message of that kind held.
    pub fn hold(&self, point: Point) -> Held {
        let trap = Trap { point, reached: watch::channel(false).0, released: watch::channel(false).0 };
        *lock(&self.shared.trap) = Some(trap.clone());
        Held { shared: Arc::clone(&self.shared), trap }
    }
}

impl Held {
    /// Waits until such a message is there; it goes no further until released.
    pub async fn reached(&self) {
        // The sender lives here: it cannot be gone.
        let _ = self.trap.reached.subscribe().wait_for(|reached| *reached).await;
    }

    /// Lets it go on.
    pub fn release(&self) {
        self.trap.released.send_replace(true);
        let mut trap = lock(&self.shared.trap);
        // A later hold is none of this one's.
        if trap.as_ref().is_some_and(|trap| trap.reached.same_channel(&self.trap.reached)) {
            *trap = None;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.release();
    }
}

impl Shared {
    /// Waits here if this is what is to be held; the first one only.
    async fn pass(&self, point: Option<Point>) {
        let caught = {
            let trap = lock(&self.trap);
            let waits = |trap: &&Trap| Some(trap.point) == point && !*trap.reached.borrow();
            let caught = trap.as_ref().filter(waits).cloned();
            if let Some(trap) = &caught {
                trap.reached.send_replace(true);
            }
            caught
        };
        if let Some(trap) = caught {
            let _ = trap.released.subscribe().wait_for(|released| *released).await;
        }
    }

    /// Whether this answer is to be lost.
    fn loses(&self) -> bool {
        let mut left = lock(&self.lose);
        let loses = *left > 0;
        *left = left.saturating_sub(1);
        loses
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
