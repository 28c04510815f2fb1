//! Redis as the deckies' systems have it: keys in memory, everything told, nothing of it run.

mod admin;
mod collections;
mod commands;
mod data;
mod info;
mod keys;
mod resp;

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;

use self::{
    keys::Keys,
    resp::{Incoming, Reply},
};
use super::{Options, credentials::Credentials, lines::Buffered};
use crate::{
    persona::{Os, Persona},
    protocol::{Protocol, Server},
    session::{EventType, Session, Stream, escaped},
};

/// What is tried most on Redis.
const COMMON: [(&str, &str); 10] = [
    ("default", "123456"),
    ("default", "redis"),
    ("default", "foobared"),
    ("default", "password"),
    ("default", "root"),
    ("default", "admin"),
    ("default", "redis123"),
    ("default", "12345678"),
    ("default", "123123"),
    ("default", "test"),
];
/// Values from this length on are kept as files: what is dropped into cron tables and module files.
const FILE: usize = 1024;
/// Commands between MULTI and EXEC.
const QUEUED: usize = 256;
/// What they may be in all, and the longest name of a channel.
const QUEUED_BYTES: usize = 256 * 1024;
const CHANNEL: usize = 1024;

struct Redis {
    persona: Arc<Persona>,
    version: &'static str,
    /// None for a server without a password.
    credentials: Option<Credentials>,
    shared: Mutex<Option<Shared>>,
    clients: AtomicU64,
    connections: AtomicU64,
    commands: AtomicU64,
}

/// What all clients see.
struct Shared {
    keys: Keys,
    /// Settings that were changed.
    config: BTreeMap<String, String>,
    /// Host and port that it was told to copy from.
    copies: Option<(String, String)>,
    saved: i64,
}

/// One client.
struct Client {
    id: u64,
    database: usize,
    known: bool,
    name: String,
    queue: Option<Vec<Vec<Vec<u8>>>>,
    /// Channels that it listens to.
    channels: Vec<Vec<u8>>,
    ends: bool,
}

/// Redis.
pub(crate) fn server(persona: &Arc<Persona>, options: &Options) -> Result<Server, String> {
    let version = match persona.os {
        Os::Debian12 => "7.0.15",
        Os::Debian11 | Os::Ubuntu2204 => "6.0.16",
        Os::Ubuntu2004 => "5.0.7",
        Os::Rocky9 => "6.2.7",
        Os::CentOs7 | Os::BusyBox => "3.2.12",
        Os::FreeBsd13 => "7.0.11",
        Os::WindowsServer2019 | Os::Windows10 => "5.0.14.1",
    };
    // Half of them ask for a password: a network where each one is open is none.
    let open = match (
        options.get("open").map(|open| open.trim()),
        options.contains_key("auth") || options.contains_key("credentials"),
    ) {
        (Some("true"), _) => true,
        (Some("false"), _) | (None, true) => false,
        (None, false) => persona.number("redis open", 2) == 0,
        (Some(other), _) => return Err(format!("open must be true or false, not {other}")),
    };
    let credentials = if open { None } else { Some(Credentials::new(persona, "redis", options, &COMMON)?) };
    Ok(Server::Connections(Arc::new(Redis {
        version,
        credentials,
        shared: Mutex::new(None),
        clients: AtomicU64::new(0),
        connections: AtomicU64::new(20 + persona.number("redis connections", 4000)),
        commands: AtomicU64::new(50_000 + persona.number("redis commands", 9_000_000)),
        persona: persona.clone(),
    })))
}

#[async_trait]
impl Protocol for Redis {
    async fn serve(self: Arc<Self>, stream: Stream, session: Session) -> io::Result<()> {
        let clients = Counted::new(&self.clients);
        let mut conn = Buffered::new(stream);
        let mut client = Client {
            id: self.connections.fetch_add(1, Ordering::Relaxed),
            database: 0,
            known: self.credentials.is_none(),
            name: String::new(),
            queue: None,
            channels: Vec::new(),
            ends: false,
        };
        let mut reply = Reply::default();
        while !client.ends {
            match resp::command(&mut conn, client.known).await? {
                Incoming::Command(parts) if parts.is_empty() => {}
                Incoming::Command(parts) => {
                    self.commands.fetch_add(1, Ordering::Relaxed);
                    self.told(&parts, &client, &session);
                    self.kept(&parts, &client, &session).await;
                    self.run(&parts, &mut client, &session, &mut reply);
                    if reply.over() {
                        break;
                    }
                    if !reply.bytes.is_empty() {
                        conn.write(&reply.bytes).await?;
                        reply.bytes = Vec::new();
                    }
                }
                Incoming::Broken(error) => {
                    let seen = escaped(conn.unread(), 256);
                    session.emit(EventType::Scan, "no command of Redis", &[("kind", "malformed"), ("detail", &seen)]);
                    reply.error(&error);
                    conn.write(&reply.bytes).await?;
                    break;
                }
                Incoming::End(rest) => {
                    if !rest.is_empty() {
                        session.emit(EventType::Unknown, "no command of Redis", &[("data", &escaped(&rest, 512))]);
                    }
                    break;
                }
            }
        }
        drop(clients);
        conn.close().await;
        Ok(())
    }
}

impl Redis {
    /// Whether it is of this version or later.
    fn since(&self, major: u32, minor: u32) -> bool {
        let mut parts = self.version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (major, minor)
    }

    fn with<T>(&self, act: impl FnOnce(&mut Shared) -> T) -> T {
        let mut shared: MutexGuard<'_, Option<Shared>> = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        act(shared.get_or_insert_with(|| Shared {
            keys: Keys::new(&self.persona),
            config: BTreeMap::new(),
            copies: None,
            saved: self.persona.booted_at.timestamp() + 2,
        }))
    }

    /// Tells of a command.
    fn told(&self, parts: &[Vec<u8>], client: &Client, session: &Session) {
        let name = verb(parts);
        if name == "AUTH" || (name == "HELLO" && parts.len() > 2) {
            return;
        }
        let query = shown(parts);
        session.emit(EventType::Query, query.clone(), &[("query", &query), ("database", &client.database.to_string())]);
        if matches!(name.as_str(), "SLAVEOF" | "REPLICAOF" | "MIGRATE") && parts.len() >= 3 && client.known {
            let text = |at: usize| parts.get(at).map(|part| escaped(part, 256)).unwrap_or_default();
            if !text(1).eq_ignore_ascii_case("no") {
                let url = format!("redis://{}:{}", text(1), text(2));
                let tool = name.to_ascii_lowercase();
                session.emit(
                    EventType::DownloadAttempt,
                    format!("told to copy from {url}"),
                    &[("url", &url), ("tool", &tool), ("command", &query)],
                );
            }
        }
    }

    /// Keeps long values: they are what is dropped.
    async fn kept(&self, parts: &[Vec<u8>], client: &Client, session: &Session) {
        let value = match (verb(parts).as_str(), client.known) {
            ("SET" | "GETSET" | "SETNX" | "APPEND" | "RPUSH" | "LPUSH", true) => parts.get(2),
            ("RESTORE" | "SETEX" | "HSET", true) => parts.get(3),
            ("EVAL" | "MODULE", true) => parts.get(1),
            _ => None,
        };
        if let Some(value) = value.filter(|value| value.len() >= FILE) {
            let name = parts.get(1).map(|name| escaped(name, 64)).unwrap_or_default();
            keep(session, &name, &format!("redis key {name}"), value).await;
        }
        // What a dump would write into a folder that the client chose.
        if matches!(verb(parts).as_str(), "SAVE" | "BGSAVE") && client.known {
            let found = self.with(|shared| {
                let (dir, file) = (shared.config.get("dir").cloned(), shared.config.get("dbfilename").cloned());
                (dir.is_some() || file.is_some()).then(|| (dir, file, shared.keys.dump(256 * 1024)))
            });
            if let Some((dir, file, content)) = found {
                let dir = dir.unwrap_or_else(|| info::DIR.to_owned());
                let file = file.unwrap_or_else(|| "dump.rdb".to_owned());
                keep(session, &file, &format!("{dir}/{file}"), &content).await;
            }
        }
    }
}

async fn keep(session: &Session, name: &str, path: &str, content: &[u8]) {
    if let Some(mut capture) = session.capture(name).await
        && capture.write(content).await.is_ok()
    {
        // A file that cannot be kept is no fault of the client's.
        let _ = capture.finish(path).await;
    }
}

/// The name of a command, in upper case.
fn verb(parts: &[Vec<u8>]) -> String {
    parts.first().map(|name| escaped(name, 128).to_ascii_uppercase()).unwrap_or_default()
}

/// A command as a person would type it.
fn shown(parts: &[Vec<u8>]) -> String {
    let mut text = String::new();
    for part in parts.iter().take(64) {
        if text.len() > 4096 {
            break;
        }
        if !text.is_empty() {
            text.push(' ');
        }
        let part = escaped(part, 4096);
        if part.is_empty() || part.contains(|sign: char| sign.is_whitespace() || sign == '"') {
            text.push_str(&format!("{part:?}"));
        } else {
            text.push_str(&part);
        }
    }
    text
}

/// One more, until it is dropped.
struct Counted<'a>(&'a AtomicU64);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Counted(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
