//! What a decky is, how a deployment becomes deckies beside those that there are, and what a mutation chooses.

use std::{
    collections::{BTreeMap, HashSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use chrono::{DateTime, Utc};
use ipnet::IpNet;
use rand::{Rng, seq::SliceRandom};
use uuid::Uuid;

use super::{
    archetypes::{self, ARCHETYPES, Archetype},
    ini::{Deployment, Options, Problems, Wanted, is_host},
    names::{self, Seed},
    settings::Interval,
};

/// The address that the machine itself has on every loopback net.
const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Tries to find names that nobody has yet; there are more of them than deckies.
const ATTEMPTS: u32 = 600;

/// A decky, and what its sensor says of it.
#[derive(Clone, Debug)]
pub(crate) struct Decky {
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) ip: IpAddr,
    pub(crate) mac: String,
    pub(crate) hostname: String,
    pub(crate) archetype: String,
    pub(crate) nmap_os: String,
    /// One of [`archetypes::SYSTEMS`].
    pub(crate) system: String,
    pub(crate) seed: [u8; 32],
    pub(crate) booted_at: DateTime<Utc>,
    pub(crate) network: Network,
    /// `native` or `docker`.
    pub(crate) runtime: String,
    /// Whether its deployment is through.
    pub(crate) deployed: bool,
    /// Whose it is to host.
    pub(crate) sensor_id: Uuid,
    /// Whether that one gives a sign of life.
    pub(crate) sensor_alive: bool,
    pub(crate) mutate_interval: Option<Interval>,
    pub(crate) options: Options,
    pub(crate) last_mutated: Option<DateTime<Utc>>,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) version: i64,
    pub(crate) services: Vec<Service>,
}

/// Where a decky is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Network {
    pub(crate) net: Option<IpNet>,
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) interface: Option<String>,
}

/// A service of a decky, and what its sensor says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) port: u16,
    pub(crate) status: ServiceStatus,
    /// Where it answers; empty until it does.
    pub(crate) address: String,
    /// Why it does not.
    pub(crate) detail: String,
}

/// How a service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServiceStatus {
    /// Its sensor has said nothing of it yet.
    Pending,
    Running,
    Failed,
}

impl ServiceStatus {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            ServiceStatus::Pending => "pending",
            ServiceStatus::Running => "running",
            ServiceStatus::Failed => "failed",
        }
    }

    /// What is kept; anything else is not there yet.
    pub(crate) fn parse(text: &str) -> ServiceStatus {
        match text {
            "running" => ServiceStatus::Running,
            "failed" => ServiceStatus::Failed,
            _ => ServiceStatus::Pending,
        }
    }
}

impl Decky {
    /// How it is as a whole.
    pub(crate) fn status(&self) -> &'static str {
        if !self.sensor_alive && self.deployed {
            return "unreachable";
        }
        let has = |status| self.services.iter().any(|service| service.status == status);
        match (has(ServiceStatus::Running), has(ServiceStatus::Failed), has(ServiceStatus::Pending)) {
            (true, false, false) => "running",
            (true, _, _) => "degraded",
            (false, true, _) => "failed",
            (false, false, _) => "pending",
        }
    }

    /// The names of its services.
    pub(crate) fn service_names(&self) -> Vec<String> {
        self.services.iter().map(|service| service.name.clone()).collect()
    }

    /// Where a service of it is to answer, and with which port of its own.
    pub(crate) fn port(&self, service: &str, loopback_offset: u16) -> u16 {
        port(service, self.ip, self.options.get(service), loopback_offset)
    }
}

/// The port of a service: its own, or the standard one; that moved up on a loopback address.
pub(crate) fn port(service: &str, ip: IpAddr, options: Option<&BTreeMap<String, String>>, loopback_offset: u16) -> u16 {
    let own = options.and_then(|options| options.get("port")).and_then(|port| port.parse().ok()).filter(|p| *p > 0);
    let standard = archetypes::service(service).map_or(0, |(_, port)| port);
    let moved = if ip.is_loopback() { standard.checked_add(loopback_offset) } else { None };
    own.or(moved).unwrap_or(standard)
}

/// What there is already.
#[derive(Clone, Debug, Default)]
pub(crate) struct Existing {
    pub(crate) names: HashSet<String>,
    pub(crate) ips: HashSet<IpAddr>,
    pub(crate) macs: HashSet<String>,
    pub(crate) hostnames: HashSet<String>,
}

/// What a deployment goes by besides its own text.
pub(crate) struct Terms {
    /// Most deckies at a time.
    pub(crate) limit: i32,
    /// The net of a deployment that names none.
    pub(crate) default_net: IpNet,
    pub(crate) loopback_offset: u16,
    pub(crate) runtime: &'static str,
    pub(crate) at: DateTime<Utc>,
}

/// The deckies of a deployment, beside those that there are. Who hosts them is not said yet.
pub(crate) fn plan(
    deployment: &Deployment,
    mut existing: Existing,
    terms: &Terms,
    mut seed: impl FnMut() -> [u8; 32],
) -> Result<Vec<Decky>, Problems> {
    let mut problems = Problems::default();
    let limit = usize::try_from(terms.limit).unwrap_or(0);
    if let Some(beyond) = deployment.deckies.get(limit.saturating_sub(existing.names.len())) {
        let text = format!(
            "the deployment limit of {limit} is passed: there are {} deckies, and {} more are asked for",
            existing.names.len(),
            deployment.deckies.len()
        );
        problems.add(&beyond.at, text);
    }
    for wanted in &deployment.deckies {
        if existing.names.contains(&wanted.name) {
            problems.add(&wanted.at, format!("the name '{}' is used already", wanted.name));
        }
        if let Some((ip, at)) = &wanted.ip
            && !existing.ips.insert(*ip)
        {
            problems.add(at, format!("the address {ip} is used already"));
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let net = deployment.net.unwrap_or(terms.default_net);
    existing.ips.extend(deployment.gateway);
    existing.ips.insert(LOCALHOST);
    let mut addresses = net.hosts().filter(|ip| is_host(&net, *ip));
    let mut deckies = Vec::with_capacity(deployment.deckies.len());
    for wanted in &deployment.deckies {
        let given = wanted.ip.as_ref().map(|(ip, _)| *ip);
        let Some(ip) = given.or_else(|| addresses.by_ref().find(|ip| !existing.ips.contains(ip))) else {
            problems.add(&wanted.at, format!("the net {net} has no address left"));
            return Err(problems);
        };
        // Of an address that was given without a net nothing more is known.
        let of_net = (deployment.net.is_some() || given.is_none()).then_some(net);
        let network = Network { net: of_net, gateway: deployment.gateway, interface: deployment.interface.clone() };
        deckies.push(make(wanted, ip, network, terms, seed(), &mut existing));
    }
    Ok(deckies)
}

fn make(
    wanted: &Wanted,
    ip: IpAddr,
    network: Network,
    terms: &Terms,
    seed: [u8; 32],
    existing: &mut Existing,
) -> Decky {
    let nmap_os = wanted.nmap_os.as_deref();
    let (archetype, services) = choose(wanted, &Seed(&seed));
    let mut identity = names::identity(&seed, archetype, nmap_os, terms.at, 0);
    for attempt in 1..ATTEMPTS {
        if !existing.macs.contains(&identity.mac) && !existing.hostnames.contains(&identity.hostname) {
            break;
        }
        identity = names::identity(&seed, archetype, nmap_os, terms.at, attempt);
    }
    existing.names.insert(wanted.name.clone());
    existing.ips.insert(ip);
    existing.macs.insert(identity.mac.clone());
    existing.hostnames.insert(identity.hostname.clone());
    let pending = |name: &&'static str| Service {
        name: (*name).to_owned(),
        port: port(name, ip, wanted.options.get(*name), terms.loopback_offset),
        status: ServiceStatus::Pending,
        address: String::new(),
        detail: String::new(),
    };
    Decky {
        id: Uuid::now_v7(),
        name: wanted.name.clone(),
        ip,
        mac: identity.mac,
        hostname: identity.hostname,
        archetype: archetype.name.to_owned(),
        nmap_os: nmap_os.unwrap_or(archetype.nmap_os).to_owned(),
        system: identity.system.to_owned(),
        seed,
        booted_at: identity.booted_at,
        network,
        runtime: terms.runtime.to_owned(),
        deployed: false,
        sensor_id: Uuid::nil(),
        sensor_alive: false,
        mutate_interval: wanted.mutate_interval.clone(),
        options: wanted.options.clone(),
        last_mutated: None,
        created_at: terms.at,
        version: 1,
        services: services.iter().map(pending).collect(),
    }
}

/// What a decky is and serves, where its section leaves that open: services without an archetype make it the machine
/// that has them; neither makes it any machine, with one to three of what such a machine serves.
fn choose(wanted: &Wanted, seed: &Seed<'_>) -> (&'static Archetype, Vec<&'static str>) {
    let nmap_os = wanted.nmap_os.as_deref();
    match (wanted.archetype, &wanted.services) {
        (Some(archetype), Some(services)) => (archetype, services.clone()),
        (Some(archetype), None) => (archetype, archetype.services.to_vec()),
        (None, Some(services)) => (archetypes::fitting(services, nmap_os), services.clone()),
        (None, None) => {
            let family = nmap_os.and_then(archetypes::family);
            let of_family = |archetype: &&Archetype| family.is_none_or(|family| archetype.nmap_os == family);
            let fitting: Vec<&'static Archetype> = ARCHETYPES.iter().filter(of_family).collect();
            let number = seed.number("fleet archetype", fitting.len());
            let archetype = fitting.get(number).copied().unwrap_or_else(|| archetypes::fitting(&[], nmap_os));
            let mut left = archetype.pool.to_vec();
            let mut services = Vec::new();
            for turn in 0..=seed.number("fleet service count", 3) {
                services.push(left.remove(seed.number(&format!("fleet service {turn}"), left.len())));
            }
            (archetype, services)
        }
    }
}

/// What a decky serves after a mutation: as many services as before, others of its archetype as far as there are; in any
/// case not the same ones.
pub(crate) fn others<R: Rng>(archetype: &Archetype, now: &[String], rng: &mut R) -> Vec<&'static str> {
    let serves = |service: &&'static str| now.iter().any(|name| name == *service);
    let (mut kept, mut fresh): (Vec<&'static str>, Vec<&'static str>) =
        archetype.pool.iter().copied().partition(serves);
    fresh.shuffle(rng);
    kept.shuffle(rng);
    if fresh.is_empty() {
        // It serves all that it can: it serves less for once.
        kept.truncate(kept.len().saturating_sub(1).max(1));
        return kept;
    }
    let count = now.len().max(1);
    fresh.into_iter().chain(kept).take(count).collect()
}

/// Where a service answers, as far as the address is one.
pub(crate) fn is_address(text: &str) -> bool {
    text.parse::<SocketAddr>().is_ok()
}

#[cfg(test)]
#[path = "fleet_tests.rs"]
mod tests;
