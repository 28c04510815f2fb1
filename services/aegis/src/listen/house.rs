//! Who is connected: how many there may be, in all and of one address, and who has been there for too long.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use aegis_telemetry::Held;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{
    figures,
    watch::{Clock, Watch},
};

/// Files that are not connections of clients: databases, blobs, connections to other processes.
const OTHER_FILES: usize = 512;
/// Fewer connections are no product.
const FEWEST: usize = 64;
/// How often refusals are told in the log.
const TELL: Duration = Duration::from_secs(60);

/// What connections may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// In all.
    pub connections: usize,
    /// Of one address; of IPv6, of one network of 64 bits. Not set: any number.
    pub per_address: Option<usize>,
    /// The TLS handshake.
    pub handshake: Duration,
    /// The head of a request, from its first byte, or from the beginning of the connection.
    pub head: Duration,
    /// Between two parts of the body of a request.
    pub body: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// Until some of what is to be sent is taken.
    pub write: Duration,
    /// How often all this is looked at.
    pub look: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 10_000,
            per_address: Some(1_000),
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(15),
            body: Duration::from_secs(20),
            // A minute is what proxies keep a connection for; whoever closes first must not be us.
            idle: Duration::from_secs(75),
            write: Duration::from_secs(60),
            look: Duration::from_secs(1),
        }
    }
}

/// Lets this process have as many files as the system allows, and says for how many of `wanted` connections that is
/// enough.
pub fn room(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some() && limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::debug!(%error, "the number of open files cannot be raised");
        }
    }
    let Some(files) = getrlimit(Resource::Nofile).current.and_then(|files| usize::try_from(files).ok()) else {
        return wanted;
    };
    let room = files.saturating_sub(OTHER_FILES).max(files / 2).max(FEWEST);
    if room < wanted {
        tracing::warn!(files, connections = room, wanted, "the system allows fewer open files than connections");
    }
    wanted.min(room)
}

/// All connections of a socket.
pub struct House {
    limits: Limits,
    strangers: bool,
    began: Instant,
    clock: Clock,
    guests: Mutex<Guests>,
}

#[derive(Default)]
struct Guests {
    next: u64,
    watches: HashMap<u64, Arc<Watch>>,
    of_address: HashMap<IpAddr, usize>,
    /// Who found no room since that was told.
    refused: u64,
}

/// The room of one connection, free again when this is dropped.
pub struct Place {
    house: Arc<House>,
    id: u64,
    address: IpAddr,
    watch: Arc<Watch>,
    _counted: Held,
}

impl Place {
    /// What is known of the connection.
    pub fn watch(&self) -> Arc<Watch> {
        Arc::clone(&self.watch)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut guests = self.house.guests();
        guests.watches.remove(&self.id);
        if let Some(count) = guests.of_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                guests.of_address.remove(&self.address);
            }
        }
    }
}

impl House {
    /// An empty one.
    pub fn new(limits: Limits, strangers: bool) -> House {
        figures::declare();
        House { limits, strangers, began: Instant::now(), clock: Clock::default(), guests: Mutex::default() }
    }

    fn guests(&self) -> MutexGuard<'_, Guests> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection of this address, if there is one.
    pub fn enter(self: &Arc<House>, address: IpAddr) -> Option<Place> {
        let address = network(address);
        let mut guests = self.guests();
        let full = guests.watches.len() >= self.limits.connections;
        let of_address = guests.of_address.get(&address).copied().unwrap_or(0);
        if full || self.limits.per_address.is_some_and(|most| of_address >= most) {
            guests.refused += 1;
            figures::REFUSED.inc(&[if full { "all" } else { "address" }]);
            return None;
        }
        let id = guests.next;
        guests.next += 1;
        let watch = Arc::new(Watch::new(self.clock.clone(), self.strangers));
        guests.watches.insert(id, Arc::clone(&watch));
        *guests.of_address.entry(address).or_default() += 1;
        Some(Place { house: Arc::clone(self), id, address, watch, _counted: figures::OPEN.hold(&[]) })
    }

    fn look(&self) {
        self.clock.set(self.began.elapsed());
        let guests = self.guests();
        let hurry = guests.watches.len() > self.limits.connections / 10 * 8;
        for watch in guests.watches.values() {
            watch.look(&self.limits, hurry);
        }
    }

    fn tell(&self) {
        let mut guests = self.guests();
        let refused = std::mem::take(&mut guests.refused);
        if refused > 0 {
            let open = guests.watches.len();
            drop(guests);
            tracing::warn!(
                refused,
                open,
                "connections found no room: AEGIS_CONNECTIONS and AEGIS_CONNECTIONS_PER_ADDRESS say how many there may be"
            );
        }
    }
}

/// Looks after the connections for as long as anybody lets it.
pub async fn keep(house: Arc<House>) {
    let mut looks = tokio::time::interval(house.limits.look);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut told = Instant::now();
    loop {
        looks.tick().await;
        house.look();
        if told.elapsed() >= TELL {
            told = Instant::now();
            house.tell();
        }
    }
}

/// Whom an address stands for: a customer of IPv6 has a network of 64 bits or more.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}
