//! How many connections there may be, of one address and in all.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

/// Lets connections in. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    per_address: u32,
    in_all: u32,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    all: u32,
    of: HashMap<IpAddr, u32>,
}

/// One connection that was let in, until it is dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    gate: Arc<Inner>,
    address: IpAddr,
}

impl Gate {
    pub(crate) fn new(per_address: u32, in_all: u32) -> Self {
        Gate(Arc::new(Inner { per_address, in_all, open: Mutex::default() }))
    }

    /// Lets one more in, if there is room.
    pub(crate) fn admit(&self, address: IpAddr) -> Option<Admitted> {
        let address = network(address);
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        let of = open.of.get(&address).copied().unwrap_or(0);
        if open.all >= self.0.in_all || of >= self.0.per_address {
            return None;
        }
        open.all += 1;
        open.of.insert(address, of + 1);
        Some(Admitted { gate: self.0.clone(), address })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut open = self.gate.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.all = open.all.saturating_sub(1);
        if let Some(of) = open.of.get_mut(&self.address) {
            *of = of.saturating_sub(1);
            if *of == 0 {
                open.of.remove(&self.address);
            }
        }
    }
}

/// What one attacker has: an address of IPv4, a /64 of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_leaves_room_for_others_and_gives_back_what_it_had() {
        let gate = Gate::new(2, 3);
        let (one, other): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let first = gate.admit(one).unwrap();
        let _second = gate.admit(one).unwrap();
        assert!(gate.admit(one).is_none());
        let _third = gate.admit(other).unwrap();
        assert!(gate.admit(other).is_none(), "full");
        drop(first);
        assert!(gate.admit(one).is_some());
        assert!(gate.0.open.lock().unwrap().of.len() <= 2);
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let gate = Gate::new(1, 10);
        let _held = gate.admit("2001:db8::1".parse().unwrap()).unwrap();
        assert!(gate.admit("2001:db8::ffff".parse().unwrap()).is_none());
        assert!(gate.admit("2001:db8:0:1::1".parse().unwrap()).is_some());
        let _v4 = gate.admit("192.0.2.1".parse().unwrap()).unwrap();
        assert!(gate.admit("::ffff:192.0.2.1".parse().unwrap()).is_none());
    }
}
