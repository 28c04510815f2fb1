//! What the sensor hosts, made to be what it was told to host.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use aegis_proto::deception::v1::{AssignedDecky, AssignedService, Assignment, HostedService};
use chrono::DateTime;
use futures::StreamExt;
use uuid::Uuid;

use crate::{
    decoys,
    listen::{self, Hosting, Port},
    persona::{Os, Persona, Services},
    protocol::Server,
};

/// Makes a service of a decky. The product's is [`decoys::server`].
pub(crate) type Make = fn(&str, &Arc<Persona>, &decoys::Options) -> Result<Server, String>;

/// Which decky's which service.
type Key = (String, String);

/// One service as it was asked for. Not to be shown: it has the decky's seed and the service's credentials.
#[derive(Clone, PartialEq)]
struct Asked {
    /// Without its services.
    decky: Arc<AssignedDecky>,
    service: AssignedService,
}

/// One service as it is.
struct Hosted {
    asked: Asked,
    is: Result<Port, String>,
}

/// All services.
pub(crate) struct Fleet {
    hosting: Hosting,
    make: Make,
    hosted: BTreeMap<Key, Hosted>,
    /// What each decky offers, by its id: a service that stays learns of those that come and go.
    services: HashMap<String, Arc<Services>>,
}

impl Fleet {
    pub(crate) fn new(hosting: Hosting, make: Make) -> Self {
        Fleet { hosting, make, hosted: BTreeMap::new(), services: HashMap::new() }
    }

    /// Whether some service does not run.
    pub(crate) fn has_failed(&self) -> bool {
        self.hosted.values().any(|hosted| hosted.is.is_err())
    }

    /// Makes it so: what is not asked for is ended (its open sessions go on), what is asked for and not there is begun,
    /// what is there as it was asked for stays as it is.
    pub(crate) async fn apply(&mut self, assignment: &Assignment) {
        let wanted = asked(assignment);
        self.services.retain(|id, _| assignment.deckies.iter().any(|decky| decky.id == *id));
        for decky in &assignment.deckies {
            let offered = decky.services.iter().map(|service| {
                let options = service.options.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
                (service.name.clone(), options)
            });
            self.services.entry(decky.id.clone()).or_default().set(offered.collect());
        }
        let mut before = std::mem::take(&mut self.hosted);
        let mut missing = Vec::new();
        for (key, asked) in wanted {
            match before.remove(&key) {
                Some(hosted) if hosted.asked == asked && hosted.is.is_ok() => {
                    self.hosted.insert(key, hosted);
                }
                // Its port is free before it is bound again.
                Some(hosted) => {
                    close(hosted.is).await;
                    missing.push((key, asked));
                }
                None => missing.push((key, asked)),
            }
        }
        for (_, hosted) in before {
            close(hosted.is).await;
        }
        let mut personas: HashMap<String, Result<Arc<Persona>, String>> = HashMap::new();
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let make = self.make;
        let building = missing.into_iter().map(|(key, asked)| {
            let services = self.services.entry(asked.decky.id.clone()).or_default();
            let persona = personas
                .entry(asked.decky.id.clone())
                .or_insert_with(|| persona(&asked.decky, services.clone()))
                .clone();
            async move {
                let server = match persona {
                    Ok(persona) => build(make, persona, asked.service.clone()).await,
                    Err(problem) => Err(problem),
                };
                (key, asked, server)
            }
        });
        let mut building = futures::stream::iter(building.collect::<Vec<_>>()).buffer_unordered(threads);
        while let Some((key, asked, server)) = building.next().await {
            let is = server.and_then(|(persona, server)| self.open(&asked, &persona, server));
            if let Err(problem) = &is {
                tracing::warn!(decky = asked.decky.name, service = asked.service.name, problem, "a service cannot run");
            }
            self.hosted.insert(key, Hosted { asked, is });
        }
    }

    fn open(&self, asked: &Asked, persona: &Arc<Persona>, server: Server) -> Result<Port, String> {
        let port = u16::try_from(asked.service.port).map_err(|_| "there is no such port".to_owned())?;
        let address = SocketAddr::new(persona.ip, port);
        listen::open(&self.hosting, address, persona, &asked.service.name, server)
            .map_err(|error| cannot_bind(address, &error))
    }

    /// How each of them is.
    pub(crate) fn report(&self) -> Vec<HostedService> {
        let service = |hosted: &Hosted| {
            let (status, address, detail) = match &hosted.is {
                Ok(port) => ("running", port.address.to_string(), String::new()),
                Err(problem) => ("failed", String::new(), problem.clone()),
            };
            HostedService {
                decky_id: hosted.asked.decky.id.clone(),
                service: hosted.asked.service.name.clone(),
                status: status.to_owned(),
                address,
                detail,
            }
        };
        self.hosted.values().map(service).collect()
    }
}

async fn close(is: Result<Port, String>) {
    if let Ok(port) = is {
        port.close().await;
    }
}

fn asked(assignment: &Assignment) -> BTreeMap<Key, Asked> {
    let mut all = BTreeMap::new();
    for decky in &assignment.deckies {
        let alone = Arc::new(AssignedDecky { services: Vec::new(), ..decky.clone() });
        for service in &decky.services {
            let key = (decky.id.clone(), service.name.clone());
            all.insert(key, Asked { decky: alone.clone(), service: service.clone() });
        }
    }
    all
}

/// Makes the server on a thread for that: keys take their time, and a fault in one is told of that one.
async fn build(make: Make, persona: Arc<Persona>, service: AssignedService) -> Result<(Arc<Persona>, Server), String> {
    let built = tokio::task::spawn_blocking(move || {
        let options = service.options.into_iter().collect();
        make(&service.name, &persona, &options).map(|server| (persona, server))
    });
    built.await.unwrap_or_else(|_| Err("it failed while it was made".to_owned()))
}

fn persona(decky: &AssignedDecky, services: Arc<Services>) -> Result<Arc<Persona>, String> {
    let id = Uuid::parse_str(&decky.id).map_err(|_| "the decky's id is no UUID".to_owned())?;
    let ip: IpAddr = decky.ip.parse().map_err(|_| format!("{} is no address", decky.ip))?;
    let seed = decky.seed[..].try_into().map_err(|_| "the decky's seed is not 32 bytes long".to_owned())?;
    let os = Os::parse(&decky.os).ok_or_else(|| format!("there is no system {}", decky.os))?;
    let booted_at = decky
        .booted_at
        .as_ref()
        .and_then(|at| DateTime::from_timestamp(at.seconds, u32::try_from(at.nanos).ok()?))
        .ok_or_else(|| "the decky has no time of its start".to_owned())?;
    Ok(Arc::new(Persona {
        id,
        name: decky.name.clone(),
        ip,
        hostname: decky.hostname.clone(),
        archetype: decky.archetype.clone(),
        os,
        booted_at,
        mac: decky.mac.clone(),
        services,
        seed,
    }))
}

/// Why an address cannot be bound, in words that help.
fn cannot_bind(address: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => format!("{} is not an address of this machine", address.ip()),
        io::ErrorKind::AddrInUse => format!("{address} is in use"),
        io::ErrorKind::PermissionDenied => {
            format!("port {} needs CAP_NET_BIND_SERVICE, or a port offset", address.port())
        }
        _ => format!("{address}: {error}"),
    }
}

#[cfg(test)]
mod tests;
