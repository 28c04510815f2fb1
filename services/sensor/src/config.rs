//! What a sensor is told when it starts.

use std::{path::PathBuf, time::Duration};

use aegis_rpc::ClientTls;
use secrecy::SecretString;
use tokio::sync::watch;

/// All that it needs.
#[derive(Clone, Debug)]
pub struct Config {
    /// As people call it.
    pub name: String,
    /// Where the deception service is, such as `http://127.0.0.1:8000`.
    pub deception_url: String,
    /// How it is believed there, and what it is shown, where the address is `https`.
    pub tls: ClientTls,
    /// Its own folder: what waits to be handed in, and what it hosted last.
    pub folder: PathBuf,
    /// The token that it hands events in with; another one replaces it when it is about to end.
    pub token: watch::Receiver<Option<SecretString>>,
    /// What may wait on the disk, bytes; 16 MiB or more.
    pub buffer_bytes: u64,
    /// Connections that may be open.
    pub connections: u32,
    /// Connections of one address that may be open.
    pub connections_per_address: u32,
    /// A connection on which nobody says anything ends after this.
    pub idle: Duration,
    /// A connection ends after this.
    pub total: Duration,
    /// What one connection may send, bytes.
    pub bytes_per_connection: u64,
}

impl Config {
    /// The limits that hold where nothing else is said.
    pub fn new(deception_url: String, folder: PathBuf, token: watch::Receiver<Option<SecretString>>) -> Self {
        Config {
            name: "sensor".to_owned(),
            deception_url,
            tls: ClientTls::default(),
            folder,
            token,
            buffer_bytes: 1024 * 1024 * 1024,
            connections: 20_000,
            connections_per_address: 512,
            idle: Duration::from_secs(300),
            total: Duration::from_secs(2 * 3600),
            bytes_per_connection: 256 * 1024 * 1024,
        }
    }
}
