//! The processes of one role that a caller may use, and which of them it does.

use std::{
    collections::HashMap,
    error::Error,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::sync::{Notify, watch};
use tonic::{ConnectError, Status, TimeoutExpired, body::Body, transport::Channel};
use tower::{Service, ServiceExt};

use crate::{
    ClientTls,
    addresses::{AddressError, CONNECT, Target},
};

/// What is known of a process; the better first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Health {
    /// It says that it serves.
    Serving,
    /// Nobody has asked it yet.
    Unknown,
    /// It says that it does not serve: it starts, stops, or lacks something.
    NotServing,
    /// It does not answer.
    Silent,
    /// It has not answered for so long that nobody waits for its answers any more.
    Lost,
}

/// One process.
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    channel: Channel,
    health: watch::Sender<Health>,
    /// Calls that wait for their answers.
    running: AtomicUsize,
}

/// Why a call has no answer.
pub(crate) enum Failed {
    /// It never left: there is no connection. Nothing has happened, whatever was asked for.
    Unsent(Status),
    /// It may have arrived.
    Broken(Status),
    /// Its time is over; how long it takes says nothing of the process, and nobody waits for a second try.
    Late(Status),
}

impl Failed {
    pub(crate) fn into_status(self) -> Status {
        match self {
            Failed::Unsent(status) | Failed::Broken(status) | Failed::Late(status) => status,
        }
    }
}

impl Peer {
    fn new(address: SocketAddr, channel: Channel) -> Peer {
        Peer { address, channel, health: watch::Sender::new(Health::Unknown), running: AtomicUsize::new(0) }
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) fn health(&self) -> Health {
        *self.health.borrow()
    }

    pub(crate) fn set(&self, health: Health) {
        let before = self.health.send_replace(health);
        match (before >= Health::Silent, health >= Health::Silent) {
            (false, true) => tracing::warn!(address = %self.address, "a process does not answer"),
            (true, false) => tracing::info!(address = %self.address, "a process answers again"),
            _ => {}
        }
    }

    /// Sends, and waits for the head of the answer as long as somebody there seems to be alive.
    pub(crate) async fn send(&self, request: Request<Body>) -> Result<Response<Body>, Failed> {
        self.running.fetch_add(1, Ordering::Relaxed);
        let _running = Running(&self.running);
        let mut health = self.health.subscribe();
        let mut channel = self.channel.clone();
        let answer = async {
            let ready = channel.ready().await.map_err(failed)?;
            ready.call(request).await.map_err(failed)
        };
        let answer = tokio::select! {
            answer = answer => answer?,
            _ = health.wait_for(|health| *health == Health::Lost) => {
                return Err(Failed::Broken(Status::unavailable("the service does not answer")));
            }
        };
        // What a service says of a call comes after the body; an error of the body itself is a connection that broke.
        Ok(answer.map(|body| Body::new(body.map_err(broken_off))))
    }
}

struct Running<'a>(&'a AtomicUsize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn broken_off(error: Status) -> Status {
    let mut status = Status::unavailable("the service ended while it answered");
    status.set_source(Arc::new(error));
    status
}

fn failed(error: tonic::transport::Error) -> Failed {
    let unsent = causes(&error).any(is_no_connection);
    if !unsent && causes(&error).any(|cause| cause.is::<TimeoutExpired>()) {
        return Failed::Late(Status::deadline_exceeded("the deadline passed"));
    }
    let mut status = Status::unavailable("the service is not reachable");
    status.set_source(Arc::new(error));
    if unsent { Failed::Unsent(status) } else { Failed::Broken(status) }
}

/// An error and what led to it.
fn causes(error: &tonic::transport::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(Some(error as &(dyn Error + 'static)), |&error| error.source())
}

/// Whether there was no connection, or one that ended before it took the call.
fn is_no_connection(cause: &(dyn Error + 'static)) -> bool {
    cause.is::<ConnectError>() || cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled)
}

/// The processes behind the addresses of one role.
pub(crate) struct Pool {
    targets: Vec<Target>,
    tls: ClientTls,
    peers: watch::Sender<Arc<Vec<Arc<Peer>>>>,
    /// Rounds of looking that have ended.
    rounds: watch::Sender<u64>,
    /// Somebody wants a round now.
    pub(crate) look: Arc<Notify>,
}

impl Pool {
    /// Those that are addresses are known at once, names are looked up in the first round.
    pub(crate) fn new(targets: Vec<Target>, tls: ClientTls) -> Result<Pool, AddressError> {
        let mut peers = Vec::new();
        for target in &targets {
            // Also where it is a name: what is wrong with it is said at the start.
            let address = target.literal();
            let channel = target.channel(address.unwrap_or_else(|| ([127, 0, 0, 1], 9).into()), &tls)?;
            if let Some(address) = address {
                peers.push(Arc::new(Peer::new(address, channel)));
            }
        }
        let peers = watch::Sender::new(Arc::new(peers));
        Ok(Pool { targets, tls, peers, rounds: watch::Sender::new(0), look: Arc::default() })
    }

    /// Whether there is something to look after: names, or more than one process.
    pub(crate) fn changes(&self) -> bool {
        self.targets.len() > 1 || self.targets.iter().any(|target| target.literal().is_none())
    }

    pub(crate) fn peers(&self) -> Arc<Vec<Arc<Peer>>> {
        Arc::clone(&self.peers.borrow())
    }

    /// The processes, once anything is known of them.
    pub(crate) async fn known(&self) -> Arc<Vec<Arc<Peer>>> {
        let knows = |peers: &[Arc<Peer>]| match peers {
            [] => false,
            [_] => true,
            many => {
                many.iter().any(|peer| peer.health() == Health::Serving)
                    || many.iter().all(|peer| peer.health() != Health::Unknown)
            }
        };
        let peers = self.peers();
        if knows(&peers) || !self.changes() {
            return peers;
        }
        let mut rounds = self.rounds.subscribe();
        self.look.notify_one();
        let next = async { while rounds.changed().await.is_ok() && !knows(&self.peers()) {} };
        // Who is asked in vain is asked nevertheless.
        let _ = tokio::time::timeout(CONNECT, next).await;
        self.peers()
    }

    /// Looks names up again. A process that was known stays the same, with its connection.
    pub(crate) async fn resolve(&self) {
        let found = self.targets.iter().map(|target| async move {
            match target.literal() {
                Some(address) => (target, Some(vec![address])),
                None => (target, target.resolve().await),
            }
        });
        let found = futures::future::join_all(found).await;
        let old: HashMap<SocketAddr, Arc<Peer>> =
            self.peers().iter().map(|peer| (peer.address, Arc::clone(peer))).collect();
        let mut peers: Vec<Arc<Peer>> = Vec::new();
        for (target, addresses) in &found {
            for address in addresses.iter().flatten() {
                if peers.len() == crate::MAX_ADDRESSES || peers.iter().any(|peer| peer.address == *address) {
                    continue;
                }
                if let Some(peer) = old.get(address) {
                    peers.push(Arc::clone(peer));
                    continue;
                }
                match target.channel(*address, &self.tls) {
                    Ok(channel) => {
                        tracing::debug!(%address, "a process is new");
                        peers.push(Arc::new(Peer::new(*address, channel)));
                    }
                    Err(error) => tracing::warn!(%address, %error, "an address cannot be used"),
                }
            }
        }
        // A name that is not known for a moment is no reason to let go of what may answer.
        if found.iter().any(|(_, addresses)| addresses.is_none()) {
            let kept = old.values().filter(|old| !peers.iter().any(|peer| Arc::ptr_eq(peer, old))).cloned();
            let room = crate::MAX_ADDRESSES - peers.len();
            peers.extend(kept.take(room).collect::<Vec<_>>());
        }
        if peers.len() != old.len() || peers.iter().any(|peer| !old.contains_key(&peer.address)) {
            self.peers.send_replace(Arc::new(peers));
        }
    }

    /// All that can be known is known.
    pub(crate) fn looked(&self) {
        self.rounds.send_modify(|rounds| *rounds = rounds.wrapping_add(1));
    }

    /// A process of this pool answered.
    pub(crate) fn answers(&self, peer: &Peer) {
        if peer.health() >= Health::Silent {
            peer.set(Health::Serving);
        }
    }

    /// A process of this pool failed.
    pub(crate) fn fails(&self, peer: &Peer, failed: &Failed) {
        if !self.changes() {
            return;
        }
        match failed {
            Failed::Unsent(_) if peer.health() < Health::Silent => peer.set(Health::Silent),
            Failed::Unsent(_) => {}
            Failed::Broken(_) if peer.health() == Health::Serving => peer.set(Health::Unknown),
            Failed::Broken(_) => {}
            Failed::Late(_) => return,
        }
        self.look.notify_one();
    }
}

/// One of those that seem best and were not tried yet, of two at random the one with less to do.
pub(crate) fn choose(peers: &[Arc<Peer>], tried: &[Arc<Peer>]) -> Option<Arc<Peer>> {
    // Asked once each: it may be another a moment later.
    let all: Vec<(Health, &Arc<Peer>)> = peers.iter().map(|peer| (peer.health(), peer)).collect();
    let is_fresh = |peer: &Arc<Peer>| !tried.iter().any(|tried| Arc::ptr_eq(tried, peer));
    let any_fresh = all.iter().any(|(_, peer)| is_fresh(peer));
    let open = || all.iter().filter(|(_, peer)| !any_fresh || is_fresh(peer));
    let best = open().map(|(health, _)| *health).min()?;
    let best: Vec<&Arc<Peer>> = open().filter(|(health, _)| *health == best).map(|(_, peer)| *peer).collect();
    let (one, other) = match best.len() {
        1 => (0, 0),
        count => {
            let one = rand::random_range(0..count);
            (one, (one + rand::random_range(1..count)) % count)
        }
    };
    let busy = |at: usize| best[at].running.load(Ordering::Relaxed);
    Some(Arc::clone(best[if busy(other) < busy(one) { other } else { one }]))
}

/// How long after a call failed another one is sent.
pub(crate) fn pause(tries: u32) -> Duration {
    Duration::from_millis(rand::random_range(20..80) * u64::from(tries))
}
