//! MongoDB: logging in by SCRAM, the commands of drivers and of people over small databases.

mod bson;
mod build;
mod commands;
mod store;

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI32, Ordering},
    },
};

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    Options,
    credentials::Credentials,
    scram::{Kind, Scram, Verifiers},
    wire::{Bytes, broken, cut, read_exactly, text},
};
use crate::{
    fingerprint::md5_hex,
    persona::Persona,
    protocol::{Protocol, Server},
    session::{EventType, Session, Stream},
};
use bson::{Bson, Doc};
use build::Build;
use commands::{Client, bad, good};

/// What is tried on such servers most.
const COMMON: [(&str, &str); 8] = [
    ("admin", "admin"),
    ("root", "root"),
    ("admin", "123456"),
    ("root", "123456"),
    ("mongo", "mongo"),
    ("admin", "password"),
    ("root", "example"),
    ("mongoadmin", "secret"),
];
/// The longest message that is taken.
const LONGEST: usize = 1 << 20;

/// What is said to browsers.
const HTTP: &[u8] =
    b"HTTP/1.0 200 OK\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 85\r\n\r\nIt looks \
    like you are trying to access MongoDB over HTTP on the native driver port.\r\n";

const REPLY: u32 = 1;
const QUERY: u32 = 2_004;
const MESSAGE: u32 = 2_013;

/// One decky's server.
pub(super) struct Mongo {
    persona: Arc<Persona>,
    credentials: Credentials,
    /// Whether it wants a login, which it does not at first.
    guarded: bool,
    verifiers: Verifiers,
    store: Mutex<Option<store::Store>>,
    connections: AtomicI32,
}

/// The server of a decky.
pub(super) fn server(persona: &Arc<Persona>, options: &Options) -> Result<Server, String> {
    let credentials = Credentials::new(persona, "mongodb", options, &COMMON)?;
    let guarded = (options.contains_key("auth") || options.contains_key("credentials")) && !credentials.any();
    let first = i32::try_from(persona.number("mongodb connections", 2_000)).unwrap_or(0) + 5;
    Ok(Server::Connections(Arc::new(Mongo {
        persona: persona.clone(),
        credentials,
        guarded,
        verifiers: Verifiers::default(),
        store: Mutex::new(None),
        connections: AtomicI32::new(first),
    })))
}

#[async_trait]
impl Protocol for Mongo {
    async fn serve(self: Arc<Self>, mut stream: Stream, session: Session) -> io::Result<()> {
        let mut client = Client {
            of: &self,
            build: Build::of(self.persona.os),
            number: self.connections.fetch_add(1, Ordering::Relaxed),
            peer: (session.peer().ip(), session.peer().port()),
            scram: None,
            skips: false,
            user: None,
        };
        let mut answered = 0_u32;
        loop {
            let mut header = [0; 16];
            stream.read_exact(&mut header).await?;
            if answered == 0 && header.starts_with(b"GET ") {
                session.emit(EventType::Scan, "HTTP", &[("kind", "http_method"), ("detail", &text(&header))]);
                // The rest of it is read, else the answer would be lost with the connection.
                let mut rest = [0; 2_048];
                let _ = tokio::time::timeout(std::time::Duration::from_secs(1), stream.read(&mut rest)).await;
                stream.write_all(HTTP).await?;
                return stream.shutdown().await;
            }
            let mut head = Bytes(&header);
            let (length, request) = (head.le32().unwrap_or(0), head.le32().unwrap_or(0));
            let (_, code) = (head.le32(), head.le32().unwrap_or(0));
            let length = usize::try_from(length).ok().and_then(|length| length.checked_sub(16));
            let Some(length) = length.filter(|length| *length <= LONGEST) else {
                if answered == 0 {
                    session.emit(
                        EventType::Scan,
                        "no MongoDB message",
                        &[("kind", "malformed"), ("data", &text(&header))],
                    );
                }
                return Err(broken("length"));
            };
            let body = read_exactly(&mut stream, length).await?;
            let Some(answer) = client.answer(code, &body, &session).await else {
                if answered == 0 {
                    session.emit(EventType::Scan, "no MongoDB message", &[("kind", "malformed")]);
                }
                return Err(broken("message"));
            };
            answered = answered.wrapping_add(1);
            if answer.is_empty() {
                continue;
            }
            let kind = if code == QUERY { REPLY } else { MESSAGE };
            let mut out = Vec::with_capacity(answer.len() + 16);
            let length = u32::try_from(answer.len() + 16).unwrap_or(0);
            for number in [length, answered, request, kind] {
                out.extend(number.to_le_bytes());
            }
            out.extend(answer);
            stream.write_all(&out).await?;
            stream.flush().await?;
        }
    }
}

impl Client<'_> {
    /// The answer to a message; empty when none is wanted, none when it is no message.
    async fn answer(&mut self, code: u32, body: &[u8], session: &Session) -> Option<Vec<u8>> {
        let mut bytes = Bytes(body);
        match code {
            QUERY => {
                bytes.le32()?;
                let namespace = text(bytes.until_zero()?);
                bytes.take(8)?;
                let doc = Doc::read(&mut bytes)?;
                // Old clients wrap what they ask.
                let doc = doc.doc("$query").or_else(|| doc.doc("query")).cloned().unwrap_or(doc);
                let (database, collection) = namespace.split_once('.')?;
                let doc = if collection == "$cmd" {
                    doc
                } else {
                    Doc::default().with("find", collection).with("filter", doc)
                };
                let answer = self.handle(database, &doc, collection == "$cmd", session).await;
                let docs: Vec<Doc> = match answer.doc("cursor").filter(|_| collection != "$cmd") {
                    Some(cursor) => cursor.docs("firstBatch").into_iter().cloned().collect(),
                    None => vec![answer],
                };
                let mut out = 8_u32.to_le_bytes().to_vec();
                out.extend([0; 12]);
                out.extend(u32::try_from(docs.len()).unwrap_or(0).to_le_bytes());
                docs.iter().for_each(|doc| doc.write(&mut out));
                Some(out)
            }
            MESSAGE => {
                let flags = bytes.le32()?;
                if flags & 1 != 0 {
                    bytes.0 = bytes.0.split_last_chunk::<4>()?.0;
                }
                let mut doc = Doc::default();
                while !bytes.is_empty() {
                    match bytes.byte()? {
                        0 => {
                            let body = Doc::read(&mut bytes)?;
                            let lists = std::mem::replace(&mut doc, body);
                            doc.0.extend(lists.0);
                        }
                        1 => {
                            let length = usize::try_from(bytes.le32()?).ok()?.checked_sub(4)?;
                            let mut list = Bytes(bytes.take(length)?);
                            let name = text(list.until_zero()?);
                            let mut docs = Vec::new();
                            while !list.is_empty() {
                                docs.push(Bson::Doc(Doc::read(&mut list)?));
                            }
                            doc.0.push((name, Bson::Array(docs)));
                        }
                        _ => return None,
                    }
                }
                let database = doc.text("$db").unwrap_or("test").to_owned();
                let answer = self.handle(&database, &doc, false, session).await;
                if flags & 2 != 0 {
                    return Some(Vec::new());
                }
                let mut out = vec![0; 5];
                answer.write(&mut out);
                Some(out)
            }
            _ => None,
        }
    }

    async fn handle(&mut self, database: &str, command: &Doc, legacy: bool, session: &Session) -> Doc {
        let name = command.0.first().map_or("", |(name, _)| name.as_str());
        if let Some(client) = command.doc("client") {
            let part = |path: &str| match client.path(path) {
                Some(Bson::Text(text)) => text.clone(),
                _ => String::new(),
            };
            let parts = [
                part("driver.name"),
                part("driver.version"),
                part("application.name"),
                part("os.name"),
                part("platform"),
            ];
            session.learn("client_banner", parts.join(" ").trim().to_owned());
        }
        match name {
            "saslStart" => return self.begin(database, command, session),
            "saslContinue" => return self.finish(database, command, session).await,
            "" | "hello" | "ismaster" | "isMaster" | "ping" | "endSessions" | "killCursors" => {}
            _ => {
                let quiet = ["lsid", "$db", "$readPreference", "$clusterTime"];
                let shown = Doc(command
                    .0
                    .iter()
                    .filter(|(name, _)| !quiet.contains(&name.as_str()))
                    .take(16)
                    .cloned()
                    .collect());
                let shown = shown.shown().to_string();
                let shown = cut(&shown, 4_096);
                let user = self.user.as_ref().map_or("", |(user, _)| user.as_str());
                let fields = [("query", shown), ("database", database), ("username", user), ("command", name)];
                session.emit(EventType::Query, format!("{name} on {}", cut(database, 64)), &fields);
            }
        }
        self.command(database, command, legacy)
    }

    fn begin(&mut self, database: &str, command: &Doc, session: &Session) -> Doc {
        let mechanism = command.text("mechanism").unwrap_or("");
        let Some(Bson::Binary(_, payload)) = command.get("payload") else {
            return bad(2, "BadValue", "payload must be binary");
        };
        let payload = text(payload);
        let sha1 = mechanism == "SCRAM-SHA-1";
        let kind = match mechanism {
            "SCRAM-SHA-1" => Kind {
                sha1: true,
                iterations: 10_000,
                secret: |user, password| md5_hex(format!("{user}:mongo:{password}").as_bytes()),
            },
            "SCRAM-SHA-256" => Kind { sha1: false, iterations: 15_000, secret: |_, password| password.to_owned() },
            "PLAIN" => {
                let mut parts = payload.split("\\x00");
                let (_, user, password) = (parts.next(), parts.next().unwrap_or(""), parts.next().unwrap_or(""));
                let fields = [("username", user), ("password", password), ("method", "PLAIN"), ("database", database)];
                session.emit(EventType::AuthFail, format!("{user} was refused"), &fields);
                return bad(
                    334,
                    "MechanismUnavailable",
                    "Received authentication for mechanism PLAIN which is not enabled",
                );
            }
            other => {
                return bad(
                    334,
                    "MechanismUnavailable",
                    format!("Received authentication for mechanism {} which is unknown or not enabled", cut(other, 64)),
                );
            }
        };
        let label = if sha1 { "mongodb sha1" } else { "mongodb" };
        let Some(scram) = Scram::begin(kind, &self.of.persona, label, &payload, None) else {
            return bad(18, "AuthenticationFailed", "Authentication failed.");
        };
        let challenge = scram.challenge().as_bytes().to_vec();
        self.scram = Some(scram);
        self.skips = command.path("options.skipEmptyExchange").and_then(Bson::whole).unwrap_or(0) != 0;
        good(Doc::default().with("conversationId", 1).with("done", false).with("payload", Bson::Binary(0, challenge)))
    }

    async fn finish(&mut self, database: &str, command: &Doc, session: &Session) -> Doc {
        let failed = || bad(18, "AuthenticationFailed", "Authentication failed.");
        let Some(scram) = self.scram.take() else {
            // The last, empty step of clients that do not skip it.
            return match &self.user {
                Some(_) => good(
                    Doc::default()
                        .with("conversationId", 1)
                        .with("done", true)
                        .with("payload", Bson::Binary(0, Vec::new())),
                ),
                None => bad(17, "ProtocolError", "No SASL session state found"),
            };
        };
        let Some(Bson::Binary(_, payload)) = command.get("payload") else { return failed() };
        let user = scram.user().to_owned();
        let credentials = &self.of.credentials;
        let own = credentials.pairs().iter().filter(|(known, _)| *known == user).map(|(_, password)| password.clone());
        let Ok(Some(proven)) = scram.finish(&text(payload), own.collect(), &self.of.verifiers).await else {
            return failed();
        };
        let mut fields = vec![("username", user.as_str()), ("method", scram.name()), ("database", database)];
        if let Some(password) = &proven.password {
            fields.push(("password", password));
        }
        if proven.password.as_ref().is_some_and(|password| credentials.accepts(&user, password)) {
            session.emit(EventType::AuthSuccess, format!("{user} logged in"), &fields);
            let last = {
                use base64::{Engine as _, prelude::BASE64_STANDARD};
                format!("v={}", BASE64_STANDARD.encode(&proven.signature)).into_bytes()
            };
            self.user = Some((user, database.to_owned()));
            return good(
                Doc::default()
                    .with("conversationId", 1)
                    .with("done", self.skips)
                    .with("payload", Bson::Binary(0, last)),
            );
        }
        session.emit(EventType::AuthFail, format!("{user} was refused"), &fields);
        failed()
    }
}
