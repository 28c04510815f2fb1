//! Decoys in containers: one for each decky, with a sensor in it, on a macvlan network where it has its own address and
//! network card, and on an internal network over which it reaches deception and nothing else.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use aegis_db::{Db, now};
use aegis_error::{Code, Failure};
use async_trait::async_trait;
use bollard::{
    API_DEFAULT_VERSION, Docker,
    errors::Error as EngineError,
    models::{
        ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HostConfig, Ipam, IpamConfig, NetworkConnectRequest,
        NetworkCreateRequest, NetworkingConfig, RestartPolicy, RestartPolicyNameEnum,
    },
    query_parameters::{CreateContainerOptions, ListContainersOptions, RemoveContainerOptions},
};
use futures::{StreamExt, stream};
use secrecy::ExposeSecret;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::{Host, NotStarted, Runtime, sensor_name};
use crate::{
    config::DockerConfig,
    domain::{
        archetypes,
        fleet::{Decky, Network},
        ini::Deployment,
    },
    error::Error,
    store::fleet::{self, Which},
};

/// Marks containers and networks of ours, with the uid of the fleet.
const FLEET: &str = "aegis.fleet";
/// Marks a container, with the id of its decky.
const DECKY: &str = "aegis.decky";
/// Where a sensor keeps what waits to be handed in.
const DATA: &str = "/var/lib/aegis";
/// Seconds that one call may take.
const CALL_SECONDS: u64 = 30;
/// How long the health check waits.
const PING: Duration = Duration::from_millis(800);
/// Containers that are started at a time.
const AT_A_TIME: usize = 4;
/// Of one container.
const MEMORY: i64 = 256 * 1024 * 1024;
const PROCESSES: i64 = 128;

/// Containers of an engine.
pub(crate) struct Containers {
    config: DockerConfig,
    db: Db,
}

impl Containers {
    pub(crate) fn new(config: DockerConfig, db: Db) -> Result<Self, Failure> {
        config.check()?;
        Ok(Containers { config, db })
    }

    /// Paths are asked for without a version: the engine takes its own.
    fn engine(&self) -> Result<Docker, EngineError> {
        Docker::connect_with_unix(&self.config.socket, CALL_SECONDS, API_DEFAULT_VERSION)
    }

    /// Makes a network if it is not there.
    async fn network(&self, engine: &Docker, network: NetworkCreateRequest) -> Result<(), EngineError> {
        match engine.inspect_network(&network.name, None).await {
            Err(error) if status(&error) == Some(404) => {}
            found => return found.map(|_| ()),
        }
        match engine.create_network(network).await {
            // Another process was faster.
            Err(error) if status(&error) == Some(409) => Ok(()),
            made => made.map(|_| ()),
        }
    }

    async fn networks(&self, engine: &Docker, fleet: Uuid, deckies: &[Decky]) -> Result<(), EngineError> {
        let labels = HashMap::from([(FLEET.to_owned(), fleet.to_string())]);
        let control = NetworkCreateRequest {
            name: self.config.control_network.clone(),
            driver: Some("bridge".to_owned()),
            // No way out of it.
            internal: Some(true),
            labels: Some(labels.clone()),
            ..NetworkCreateRequest::default()
        };
        self.network(engine, control).await?;
        let mut known = HashSet::new();
        for Decky { network, .. } in deckies {
            let Some((name, request)) = macvlan(fleet, network) else { continue };
            if known.insert(name) {
                self.network(engine, NetworkCreateRequest { labels: Some(labels.clone()), ..request }).await?;
            }
        }
        Ok(())
    }

    async fn run(&self, engine: &Docker, fleet: Uuid, decky: &Decky) -> Result<(), EngineError> {
        let name = container(decky.id);
        let body = self.container(fleet, decky);
        let options = CreateContainerOptions { name: Some(name.clone()), ..CreateContainerOptions::default() };
        match engine.create_container(Some(options), body).await {
            // Left by a start that was interrupted.
            Err(error) if status(&error) == Some(409) => {}
            made => drop(made?),
        }
        let control = NetworkConnectRequest { container: name.clone(), endpoint_config: None };
        match engine.connect_network(&self.config.control_network, control).await {
            Err(error) if matches!(status(&error), Some(403 | 409)) => {}
            connected => connected?,
        }
        engine.start_container(&name, None).await
    }

    fn container(&self, fleet: Uuid, decky: &Decky) -> ContainerCreateBody {
        let text = |text: &str| text.to_owned();
        let own = decky.ip.to_string();
        let (v4, v6) = if decky.ip.is_ipv4() { (Some(own), None) } else { (None, Some(own)) };
        let endpoint = EndpointSettings {
            ipam_config: Some(EndpointIpamConfig { ipv4_address: v4, ipv6_address: v6, link_local_ips: None }),
            mac_address: Some(decky.mac.clone()),
            ..EndpointSettings::default()
        };
        let network = macvlan(fleet, &decky.network).map(|(name, _)| name).unwrap_or_default();
        // What the stack of such a system says in its packets, as far as a container may say so.
        let ttl = if archetypes::family(&decky.system) == Some("windows") { "128" } else { "64" };
        ContainerCreateBody {
            hostname: Some(decky.hostname.clone()),
            image: Some(self.config.image.clone()),
            cmd: Some(vec![text("sensor")]),
            env: Some(vec![
                format!("AEGIS_DECEPTION_URL={}", self.config.control_url),
                format!("AEGIS_SENSOR_TOKEN={}", self.config.token.expose_secret()),
                format!("AEGIS_SENSOR_NAME={}", sensor_name(decky)),
                format!("AEGIS_DATA_DIR={DATA}"),
            ]),
            // What waits to be handed in outlives the process; it goes with the container.
            volumes: Some(vec![text(DATA)]),
            labels: Some(HashMap::from([(text(FLEET), fleet.to_string()), (text(DECKY), decky.id.to_string())])),
            host_config: Some(HostConfig {
                network_mode: Some(network.clone()),
                restart_policy: Some(RestartPolicy {
                    name: Some(RestartPolicyNameEnum::UNLESS_STOPPED),
                    maximum_retry_count: None,
                }),
                cap_drop: Some(vec![text("ALL")]),
                cap_add: Some(vec![text("NET_BIND_SERVICE")]),
                security_opt: Some(vec![text("no-new-privileges")]),
                readonly_rootfs: Some(true),
                tmpfs: Some(HashMap::from([(text("/tmp"), text("size=64m,mode=1777"))])),
                memory: Some(MEMORY),
                pids_limit: Some(PROCESSES),
                sysctls: Some(HashMap::from([(text("net.ipv4.ip_default_ttl"), text(ttl))])),
                ..HostConfig::default()
            }),
            networking_config: Some(NetworkingConfig { endpoints_config: Some(HashMap::from([(network, endpoint)])) }),
            ..ContainerCreateBody::default()
        }
    }

    async fn remove(&self, engine: &Docker, decky: Uuid) {
        let options = RemoveContainerOptions { force: true, v: true, ..RemoveContainerOptions::default() };
        match engine.remove_container(&container(decky), Some(options)).await {
            Ok(()) => {}
            Err(error) if status(&error) == Some(404) => {}
            Err(error) => tracing::warn!(%error, %decky, "a container stays for now"),
        }
    }

    /// The deckies whose containers are there, running or not.
    async fn containers(&self, engine: &Docker, fleet: Uuid) -> Result<HashSet<Uuid>, EngineError> {
        let filters = HashMap::from([("label".to_owned(), vec![format!("{FLEET}={fleet}")])]);
        let options = ListContainersOptions { all: true, filters: Some(filters), ..ListContainersOptions::default() };
        let containers = engine.list_containers(Some(options)).await?;
        let ids = containers.into_iter().filter_map(|container| container.labels?.get(DECKY)?.parse().ok());
        Ok(ids.collect())
    }
}

#[async_trait]
impl Runtime for Containers {
    fn name(&self) -> &'static str {
        "docker"
    }

    async fn host(&self, deployment: &Deployment, _until: Instant) -> Result<Host, Error> {
        if deployment.net.is_none() || deployment.interface.is_none() {
            let text =
                "line 1: containers need net and interface in [general]: their network is laid over that interface";
            return Err(Failure::new(Code::Conflict, text).into());
        }
        Ok(Host::Own)
    }

    async fn start(&self, deckies: &[Decky]) -> Result<(), Vec<NotStarted>> {
        let all = |why: String| -> Vec<NotStarted> {
            let not =
                |decky: &Decky| NotStarted { decky: decky.name.clone(), service: String::new(), why: why.clone() };
            deckies.iter().map(not).collect()
        };
        let fleet = fleet::uid(&self.db).await.map_err(|error| {
            tracing::warn!(%error, "the database does not answer");
            all("the database does not answer".to_owned())
        })?;
        let engine = self.engine().map_err(|error| all(told(&error)))?;
        self.networks(&engine, fleet, deckies).await.map_err(|error| all(told(&error)))?;
        let engine = &engine;
        let starting: Vec<_> =
            deckies.iter().map(|decky| async move { (decky, self.run(engine, fleet, decky).await) }).collect();
        let results: Vec<_> = stream::iter(starting).buffer_unordered(AT_A_TIME).collect().await;
        let failed = results.into_iter().filter_map(|(decky, result)| {
            let why = told(&result.err()?);
            Some(NotStarted { decky: decky.name.clone(), service: String::new(), why })
        });
        let failed: Vec<_> = failed.collect();
        if failed.is_empty() { Ok(()) } else { Err(failed) }
    }

    async fn stop(&self, deckies: &[Uuid]) {
        match self.engine() {
            Ok(engine) => {
                let engine = &engine;
                let removing: Vec<_> = deckies.iter().map(|decky| self.remove(engine, *decky)).collect();
                stream::iter(removing).buffer_unordered(AT_A_TIME).collect::<()>().await;
            }
            Err(error) => tracing::warn!(%error, "containers stay until the engine answers again"),
        }
    }

    async fn sweep(&self) -> Result<(), Error> {
        let away = |error: EngineError| Failure::unavailable("the container engine").with_source(error);
        let fleet = fleet::uid(&self.db).await?;
        let engine = self.engine().map_err(away)?;
        // In this order, or what is being deployed would be taken for a leftover.
        let there = self.containers(&engine, fleet).await.map_err(away)?;
        let mut tx = self.db.begin_read().await?;
        let deckies = fleet::deckies(&mut tx, Which::All, now()).await?;
        tx.rollback().await?;
        let known: HashSet<Uuid> = deckies.iter().map(|decky| decky.id).collect();
        let gone: Vec<Uuid> = there.difference(&known).copied().collect();
        self.stop(&gone).await;
        let is_missing = |decky: &Decky| decky.deployed && decky.runtime == self.name() && !there.contains(&decky.id);
        let missing: Vec<Decky> = deckies.into_iter().filter(is_missing).collect();
        if !missing.is_empty()
            && let Err(failed) = self.start(&missing).await
        {
            tracing::warn!(?failed, "containers of deckies are missing and do not start");
        }
        Ok(())
    }

    async fn look(&self) -> Result<(), String> {
        let answer = timeout(PING, async { self.engine()?.ping().await }).await;
        match answer {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the container engine does not answer");
                Err("the container engine does not answer".to_owned())
            }
            Err(_) => Err("the container engine does not answer in time".to_owned()),
        }
    }
}

fn container(decky: Uuid) -> String {
    format!("aegis-{decky}")
}

/// The network on which a decky has its address, and how it is made; none where nothing is known of its place.
fn macvlan(fleet: Uuid, network: &Network) -> Option<(String, NetworkCreateRequest)> {
    let (net, interface) = (network.net?, network.interface.as_ref()?);
    let place = format!("{fleet}|{net}|{interface}");
    let digest = ring::digest::digest(&ring::digest::SHA256, place.as_bytes());
    let name = format!("aegis-{}", hex::encode(digest.as_ref().get(..6)?));
    let config = IpamConfig {
        subnet: Some(net.to_string()),
        gateway: network.gateway.map(|gateway| gateway.to_string()),
        ..IpamConfig::default()
    };
    let request = NetworkCreateRequest {
        name: name.clone(),
        driver: Some("macvlan".to_owned()),
        enable_ipv6: Some(net.network().is_ipv6()),
        ipam: Some(Ipam { config: Some(vec![config]), ..Ipam::default() }),
        options: Some(HashMap::from([("parent".to_owned(), interface.clone())])),
        ..NetworkCreateRequest::default()
    };
    Some((name, request))
}

fn status(error: &EngineError) -> Option<u16> {
    match error {
        EngineError::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// What the administrator who deploys is told.
fn told(error: &EngineError) -> String {
    match error {
        EngineError::DockerResponseServerError { message, .. } => {
            let line: String = message.chars().filter(|c| !c.is_control()).take(200).collect();
            format!("the container engine says: {line}")
        }
        _ => {
            tracing::warn!(%error, "the container engine does not answer");
            "the container engine does not answer".to_owned()
        }
    }
}

#[cfg(test)]
#[path = "docker_tests.rs"]
mod tests;
