//! What is known of one connection, and when that is reason enough to end it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::sync::Notify;

use super::house::Limits;

/// Fewer bytes at once are a question whether somebody is there, or the answer to one.
const A_PING: usize = 64;
/// How long a connection may take to end when it was asked to.
const FAREWELL: u64 = 10_000;
/// Requests that a stranger may give up within [`SPAN`] before they are answered.
const GIVEN_UP: u64 = 500;
/// See [`GIVEN_UP`]; milliseconds.
const SPAN: u64 = 10_000;

/// Why a connection is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// No TLS came about.
    Handshake,
    /// The head of a request did not come in time.
    Head,
    /// Nothing was asked for a long time.
    Idle,
    /// An answer is not taken.
    Stalled,
    /// One request after the other is given up.
    Resets,
}

impl Ending {
    /// Every reason.
    pub const ALL: [Ending; 5] = [Ending::Handshake, Ending::Head, Ending::Idle, Ending::Stalled, Ending::Resets];

    /// For logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Ending::Handshake => "handshake",
            Ending::Head => "slow_request",
            Ending::Idle => "idle",
            Ending::Stalled => "slow_reader",
            Ending::Resets => "resets",
        }
    }
}

/// The time in steps of a second: good enough for limits of many, and nothing to ask for.
#[derive(Clone, Debug, Default)]
pub struct Clock(Arc<AtomicU64>);

impl Clock {
    /// Milliseconds since the socket was opened, never 0.
    pub fn now(&self) -> u64 {
        self.0.load(Relaxed).max(1)
    }

    /// It is this late.
    pub fn set(&self, since: Duration) {
        self.0.store(u64::try_from(since.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }
}

/// One connection. Times are those of the clock; 0 is never.
#[derive(Debug)]
pub struct Watch {
    clock: Clock,
    strangers: bool,
    http2: AtomicBool,
    /// Since when the head of a request is awaited: from the first byte on, and at the very beginning.
    head: AtomicU64,
    /// When something was asked or answered last.
    active: AtomicU64,
    /// Since when nothing can be written.
    blocked: AtomicU64,
    /// Requests that run, their answers included.
    running: AtomicI64,
    /// Parts of answers that were handed over and are not on their way yet.
    handed: AtomicI64,
    /// When one of these was last taken.
    moved: AtomicU64,
    /// Requests that were given up since `given_up_since`.
    given_up: AtomicU64,
    given_up_since: AtomicU64,
    /// When it was asked to end.
    asked: AtomicU64,
    ending: AtomicU8,
    told: Notify,
}

impl Watch {
    /// One that has just begun.
    pub fn new(clock: Clock, strangers: bool) -> Watch {
        let now = clock.now();
        let at = AtomicU64::new;
        Watch {
            clock,
            strangers,
            http2: AtomicBool::new(false),
            head: at(now),
            active: at(now),
            blocked: at(0),
            running: AtomicI64::new(0),
            handed: AtomicI64::new(0),
            moved: at(now),
            given_up: at(0),
            given_up_since: at(now),
            asked: at(0),
            ending: AtomicU8::new(0),
            told: Notify::new(),
        }
    }

    /// It speaks HTTP/2, where bytes may come without a request.
    pub fn is_http2(&self) {
        self.http2.store(true, Relaxed);
        self.head.store(0, Relaxed);
    }

    /// Something came in.
    pub fn read(&self) {
        if !self.http2.load(Relaxed) && self.running.load(Relaxed) == 0 && self.head.load(Relaxed) == 0 {
            self.head.store(self.clock.now(), Relaxed);
        }
    }

    /// So many bytes went out.
    pub fn wrote(&self, bytes: usize) {
        if self.blocked.load(Relaxed) != 0 {
            self.blocked.store(0, Relaxed);
        }
        if bytes > A_PING {
            self.active.store(self.clock.now(), Relaxed);
        }
    }

    /// Nothing can go out.
    pub fn blocked(&self) {
        if self.blocked.load(Relaxed) == 0 {
            self.blocked.store(self.clock.now(), Relaxed);
        }
    }

    /// A request is there.
    pub fn begins(&self) {
        self.running.fetch_add(1, Relaxed);
        self.head.store(0, Relaxed);
    }

    /// It is over; `answered` or given up.
    pub fn ends(&self, answered: bool) {
        self.running.fetch_sub(1, Relaxed);
        let now = self.clock.now();
        self.active.store(now, Relaxed);
        if answered {
            return;
        }
        if now - self.given_up_since.load(Relaxed).min(now) > SPAN {
            self.given_up_since.store(now, Relaxed);
            self.given_up.store(0, Relaxed);
        }
        if self.given_up.fetch_add(1, Relaxed) >= GIVEN_UP && self.strangers {
            self.end(Ending::Resets);
        }
    }

    /// A part of an answer was handed over to be sent.
    pub fn hands(&self) {
        if self.handed.fetch_add(1, Relaxed) == 0 {
            self.moved.store(self.clock.now(), Relaxed);
        }
    }

    /// It is on its way.
    pub fn moves(&self) {
        self.handed.fetch_sub(1, Relaxed);
        self.moved.store(self.clock.now(), Relaxed);
    }

    /// Ends it where there is a reason. `hurry`: there is hardly any room left.
    pub fn look(&self, limits: &Limits, hurry: bool) {
        let now = self.clock.now();
        let over = |since: &AtomicU64, limit: Duration| {
            let since = since.load(Relaxed);
            since != 0 && Duration::from_millis(now.saturating_sub(since)) > limit
        };
        let (head, idle) = match hurry {
            true => (limits.head / 4, limits.idle / 16),
            false => (limits.head, limits.idle),
        };
        let running = self.running.load(Relaxed) > 0;
        if over(&self.blocked, limits.write) {
            self.end(Ending::Stalled);
        } else if over(&self.head, head) {
            self.end(Ending::Head);
        } else if self.strangers && self.handed.load(Relaxed) > 0 && over(&self.moved, limits.write) {
            self.end(Ending::Stalled);
        } else if !running && over(&self.active, idle) && (self.strangers || !self.http2.load(Relaxed)) {
            let asked = self.asked.load(Relaxed);
            if asked == 0 {
                self.asked.store(now, Relaxed);
                self.end(Ending::Idle);
            } else if now.saturating_sub(asked.max(self.active.load(Relaxed))) > FAREWELL {
                self.end(Ending::Stalled);
            }
        }
    }

    fn end(&self, ending: Ending) {
        self.ending.store(ending as u8 + 1, Relaxed);
        self.told.notify_one();
    }

    /// Waits for a reason to end it.
    pub async fn ended(&self) -> Ending {
        loop {
            self.told.notified().await;
            let ending = usize::from(self.ending.load(Relaxed));
            if let Some(ending) = ending.checked_sub(1).and_then(|at| Ending::ALL.get(at)) {
                return *ending;
            }
        }
    }
}
