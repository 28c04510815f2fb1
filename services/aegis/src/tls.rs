//! TLS of this process: what its socket shows, whom it believes, and files that are read again when they change.

mod load;
mod pin;
#[cfg(test)]
mod tests;
mod watch;

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};

use aegis_rpc::ClientTls;
use anyhow::{Context, Result};
use rustls::{ClientConfig, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::{roles::Role, settings::Settings};

pub use load::Validity;
use load::{Believed, Pair, Source};
pub use pin::onlooker;
use watch::Part;
pub use watch::watch;

/// What the socket works by. A new connection takes what holds then.
pub struct Server(RwLock<Arc<ServerConfig>>);

impl Server {
    /// For one handshake.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }

    fn replace(&self, config: ServerConfig) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }
}

/// TLS of a process.
#[derive(Clone)]
pub struct Tls {
    /// Of the socket; not set: it speaks plain HTTP.
    pub server: Option<Arc<Server>>,
    /// Towards other roles.
    pub peers: ClientTls,
    /// Whether calls of services need a certificate of a peer.
    pub demanded: bool,
    files: Files,
    /// The files as they were read, by what they are used for.
    parts: Vec<Part>,
}

/// The files that the settings name.
#[derive(Clone, Default)]
struct Files {
    /// What the socket shows.
    socket: Option<Pair>,
    /// The peers' CA, where they show certificates.
    peer_ca: Option<Source>,
    /// What is shown to peers.
    peer: Option<Pair>,
    /// Believed besides the public roots.
    ca: Option<Source>,
}

impl Tls {
    /// Reads the files of a process of these roles.
    pub fn load(settings: &Settings, roles: &[Role]) -> Result<Tls> {
        Tls::of(Files::of(settings, roles))
    }

    /// Reads what a process needs that calls others and has no socket.
    pub fn of_caller(settings: &Settings) -> Result<Tls> {
        Tls::of(Files { socket: None, ..Files::of(settings, &[]) })
    }

    fn of(files: Files) -> Result<Tls> {
        let mut socket = Part::new(watch::SOCKET, files.of_server());
        let mut peers = Part::new(watch::PEERS, files.of_client());
        let server = match files.server()? {
            None => None,
            Some((config, validity)) => {
                socket.uses(Some(validity));
                Some(Arc::new(Server(RwLock::new(Arc::new(config)))))
            }
        };
        let (config, validity) = files.client()?;
        peers.uses(validity);
        let demanded = files.peer_ca.is_some() && server.is_some();
        let parts = [socket, peers].into_iter().filter(|part| !part.sources().is_empty()).collect();
        Ok(Tls { server, peers: ClientTls::new(config), demanded, files, parts })
    }

    /// The folders of all files; they are read again.
    pub fn folders(&self) -> Vec<PathBuf> {
        let folders = self.parts.iter().flat_map(Part::sources).filter_map(|source| source.path.parent());
        let mut folders: Vec<PathBuf> =
            folders.map(|folder| if folder.as_os_str().is_empty() { ".".into() } else { folder.into() }).collect();
        folders.sort_unstable();
        folders.dedup();
        folders
    }
}

impl Files {
    fn of(settings: &Settings, roles: &[Role]) -> Files {
        let source = |setting, path: &Option<PathBuf>| path.clone().map(|path| Source { setting, path });
        let pair = |certificate: Option<Source>, key: Option<Source>| {
            certificate.zip(key).map(|(certificate, key)| Pair { certificate, key })
        };
        let public = pair(
            source("AEGIS_TLS_CERT_FILE", &settings.tls_cert_file),
            source("AEGIS_TLS_KEY_FILE", &settings.tls_key_file),
        );
        let peer = pair(
            source("AEGIS_PEER_CERT_FILE", &settings.peer_cert_file),
            source("AEGIS_PEER_KEY_FILE", &settings.peer_key_file),
        );
        // Where people and browsers come, the certificate is the one that they know.
        let socket = match roles.contains(&Role::Gateway) {
            true => public,
            false => peer.clone().or(public),
        };
        Files {
            socket,
            peer,
            peer_ca: source("AEGIS_PEER_CA_FILE", &settings.peer_ca_file),
            ca: source("AEGIS_CA_FILE", &settings.ca_file),
        }
    }

    /// Those that [`Files::server`] reads.
    fn of_server(&self) -> Vec<Source> {
        match &self.socket {
            Some(pair) => pair.sources().into_iter().chain(self.peer_ca.clone()).collect(),
            None => Vec::new(),
        }
    }

    /// Those that [`Files::client`] reads.
    fn of_client(&self) -> Vec<Source> {
        let roots = self.peer_ca.clone().or_else(|| self.ca.clone());
        self.peer.iter().flat_map(Pair::sources).chain(roots).collect()
    }

    fn server(&self) -> Result<Option<(ServerConfig, Validity)>> {
        let Some(pair) = &self.socket else { return Ok(None) };
        let shown = pair.load()?;
        let validity = shown.validity;
        Ok(Some((load::server(shown, self.peer_ca.as_ref())?, validity)))
    }

    fn client(&self) -> Result<(ClientConfig, Option<Validity>)> {
        let shown = self.peer.as_ref().map(Pair::load).transpose()?;
        let validity = shown.as_ref().map(|shown| shown.validity);
        let believed = match &self.peer_ca {
            Some(ca) => Believed::Only(ca),
            None => Believed::Public(self.ca.as_ref()),
        };
        Ok((load::client(believed, shown)?, validity))
    }
}

/// How a command reaches other roles.
pub fn peers(settings: &Settings) -> Result<ClientTls> {
    Ok(ClientTls::new(Files::of(settings, &[]).client()?.0))
}

/// How a command reaches the product that runs on this machine by the same settings; nothing where that speaks plain
/// HTTP.
pub fn here(settings: &Settings) -> Result<Option<ClientConfig>> {
    let mut pinned = Vec::new();
    // What runs may be any role, or all.
    for roles in [&[Role::Gateway][..], &[]] {
        if let Some(pair) = Files::of(settings, roles).socket {
            pinned.extend(load::certificates(&pair.certificate)?.into_iter().take(1));
        }
    }
    if pinned.is_empty() {
        return Ok(None);
    }
    let shown = Files::of(settings, &[]).peer.as_ref().map(Pair::load).transpose()?;
    pin::client(pinned, shown).map(Some).context("TLS cannot be set up")
}

/// The certificates of `AEGIS_CA_FILE` as they stand in the file, for clients of stores.
pub fn more_roots(settings: &Settings) -> Result<Option<Vec<u8>>> {
    let Some(path) = settings.ca_file.clone() else { return Ok(None) };
    let source = Source { setting: "AEGIS_CA_FILE", path };
    load::certificates(&source)?;
    source.read().map(Some)
}
