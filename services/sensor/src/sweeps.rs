//! Notices who tries many services in a short time.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Different services of one address within [`WINDOW`] that are a sweep.
const MANY: usize = 8;
const WINDOW: Duration = Duration::from_secs(60);
/// How often those that are over are looked for when there is no room.
const CLEAN_EVERY: Duration = Duration::from_secs(1);
/// Addresses that are remembered.
const MAX_ADDRESSES: usize = 8192;

/// Who tried what. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sweeps(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    of: HashMap<IpAddr, Tried>,
    /// When those that are over were last looked for.
    cleaned: Option<Instant>,
}

#[derive(Debug)]
struct Tried {
    since: Instant,
    /// At most [`MANY`].
    services: Vec<SocketAddr>,
}

impl Sweeps {
    /// One more connection; whether it makes a sweep of what the address did. Told once in each window.
    pub(crate) fn is_sweep(&self, attacker: IpAddr, service: SocketAddr) -> bool {
        self.at(attacker, service, Instant::now())
    }

    fn at(&self, attacker: IpAddr, service: SocketAddr, now: Instant) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.of.len() >= MAX_ADDRESSES && !known.of.contains_key(&attacker) {
            if known.cleaned.is_none_or(|at| now.duration_since(at) >= CLEAN_EVERY) {
                known.of.retain(|_, tried| now.duration_since(tried.since) < WINDOW);
                known.cleaned = Some(now);
            }
            if known.of.len() >= MAX_ADDRESSES {
                return false;
            }
        }
        let tried = known.of.entry(attacker).or_insert_with(|| Tried { since: now, services: Vec::new() });
        if now.duration_since(tried.since) >= WINDOW {
            *tried = Tried { since: now, services: Vec::new() };
        }
        if tried.services.len() >= MANY || tried.services.contains(&service) {
            return false;
        }
        tried.services.push(service);
        tried.services.len() == MANY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_services_in_a_short_time_are_one_sweep() {
        let sweeps = Sweeps::default();
        let attacker: IpAddr = "192.0.2.1".parse().unwrap();
        let began = Instant::now();
        let port = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let told = |at: Instant| (1..100).filter(|n| sweeps.at(attacker, port(*n), at)).count();
        assert!((0..100).all(|_| !sweeps.at(attacker, port(1), began)), "the same one often is none");
        assert_eq!(told(began), 1);
        assert_eq!(told(began), 0);
        assert_eq!(told(began + WINDOW), 1);
        for n in 0..20_000_u32 {
            assert!(!sweeps.at(IpAddr::from(n.to_be_bytes()), port(1), began + WINDOW));
        }
        assert!(sweeps.0.lock().unwrap().of.len() <= MAX_ADDRESSES);
    }
}
