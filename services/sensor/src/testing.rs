//! A decky with one service on a loopback port, and what it told: for tests of protocols with real clients.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use aegis_sensor::{decoys, persona::Os, session::EventType, testing};
//!
//! let persona = testing::persona(Os::Debian12);
//! let server = decoys::server("redis", &persona, &Default::default()).map_err(std::io::Error::other)?;
//! let decoy = testing::Decoy::start(persona, "redis", server)?;
//! // … a real client talks to decoy.address() …
//! let queries = decoy.told(EventType::Query, 1).await; // waits until it was told, at most 10 s
//! assert_eq!(queries[0].fields["query"], "INFO");
//! let files = decoy.captured().await; // (name, bytes) of what was captured
//! let cast = decoy.recording().await; // asciicast of sessions that ended
//! # Ok(()) }
//! ```

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use chrono::{TimeDelta, Utc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    limits::Gate,
    listen::{self, Hosting, Port},
    outlet::{self, Report},
    persona::{Os, Persona},
    protocol::Server,
    session::{EventType, Limits},
    sweeps::Sweeps,
};

/// How long a test waits for what has to come.
const PATIENCE: Duration = Duration::from_secs(10);

/// A decky of this family; the same at each call.
pub fn persona(os: Os) -> Arc<Persona> {
    persona_of(os, 7)
}

/// Another decky for each `seed`.
pub fn persona_of(os: Os, seed: u8) -> Arc<Persona> {
    Arc::new(Persona {
        id: Uuid::from_bytes([seed; 16]),
        name: format!("decky-{seed:02}"),
        ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        hostname: format!("srv-{seed:02}"),
        archetype: "linux-server".to_owned(),
        os,
        booted_at: Utc::now() - TimeDelta::days(41),
        mac: format!("52:54:00:12:34:{seed:02x}"),
        services: Arc::default(),
        seed: [seed; 32],
    })
}

/// Something that was told.
#[derive(Clone, Debug)]
pub struct Told {
    /// As on the wire, such as `auth_fail`.
    pub event_type: String,
    /// In words.
    pub msg: String,
    /// Its fields.
    pub fields: BTreeMap<String, String>,
    /// Of the connection.
    pub session: String,
}

#[derive(Default)]
struct Heard {
    events: Vec<Told>,
    captured: Vec<(String, Vec<u8>)>,
    recording: HashMap<Uuid, Vec<u8>>,
    ended: Vec<String>,
}

/// One service that listens.
pub struct Decoy {
    port: Port,
    heard: Arc<Mutex<Heard>>,
    folder: PathBuf,
    stop: CancellationToken,
}

impl Decoy {
    /// Starts it on a free port of the loopback address.
    pub fn start(persona: Arc<Persona>, service: &str, server: Server) -> io::Result<Decoy> {
        let limits = Limits { idle: Duration::from_secs(30), total: Duration::from_secs(120), ..Limits::default() };
        Decoy::start_with(persona, service, server, limits)
    }

    pub(crate) fn start_with(
        persona: Arc<Persona>,
        service: &str,
        server: Server,
        limits: Limits,
    ) -> io::Result<Decoy> {
        let folder = std::env::temp_dir().join(format!("aegis-decoy-{}", Uuid::now_v7()));
        std::fs::create_dir_all(&folder)?;
        let (outlet, mut reports) = outlet::outlet(folder.clone());
        let heard: Arc<Mutex<Heard>> = Arc::default();
        let to = heard.clone();
        tokio::spawn(async move {
            while let Some(reports) = reports.next(64).await {
                for report in reports {
                    hear(&to, report).await;
                }
            }
        });
        let stop = CancellationToken::new();
        let hosting = Hosting {
            outlet,
            gate: Gate::new(10_000, 20_000),
            sweeps: Sweeps::default(),
            limits,
            connections: TaskTracker::new(),
            stop: stop.clone(),
        };
        let address = SocketAddr::new(persona.ip, 0);
        let port = listen::open(&hosting, address, &persona, service, server)?;
        Ok(Decoy { port, heard, folder, stop })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address
    }

    /// All that it told so far.
    pub fn events(&self) -> Vec<Told> {
        lock(&self.heard).events.clone()
    }

    /// What it told of this kind, as soon as there are `count` of it; fewer when they do not come within 10 s.
    pub async fn told(&self, event_type: EventType, count: usize) -> Vec<Told> {
        let wanted = |heard: &Heard| {
            heard.events.iter().filter(|told| told.event_type == event_type.as_str()).cloned().collect::<Vec<_>>()
        };
        self.until(|heard| wanted(heard).len() >= count).await;
        wanted(&lock(&self.heard))
    }

    /// Names and bytes of captured files, as soon as there is one.
    pub async fn captured(&self) -> Vec<(String, Vec<u8>)> {
        self.until(|heard| !heard.captured.is_empty()).await;
        lock(&self.heard).captured.clone()
    }

    /// The recording of a session that ended, as soon as there is one; empty when there is none.
    pub async fn recording(&self) -> String {
        self.until(|heard| !heard.ended.is_empty()).await;
        lock(&self.heard).ended.first().cloned().unwrap_or_default()
    }

    async fn until(&self, good: impl Fn(&Heard) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !good(&lock(&self.heard)) && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Decoy {
    fn drop(&mut self) {
        self.stop.cancel();
        // A folder that stays is one in the temporary folder.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

async fn hear(heard: &Mutex<Heard>, report: Report) {
    match report {
        Report::Event(event) => lock(heard).events.push(Told {
            event_type: event.event_type,
            msg: event.msg,
            fields: serde_json::from_str(&event.fields_json).unwrap_or_default(),
            session: event.session_id,
        }),
        Report::Captured { header, path } => {
            let bytes = tokio::fs::read(path).await.unwrap_or_default();
            lock(heard).captured.push((header.name, bytes));
        }
        Report::Recorded { session, bytes, .. } => {
            lock(heard).recording.entry(session).or_default().extend(bytes);
        }
        Report::RecordingEnded { session } => {
            let mut heard = lock(heard);
            let bytes = heard.recording.remove(&session).unwrap_or_default();
            heard.ended.push(String::from_utf8_lossy(&bytes).into_owned());
        }
    }
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}
