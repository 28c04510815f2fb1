//! One connection of an attacker: its stream with its limits, what is told of it, what is kept of it.

mod capture;
mod record;
mod stream;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use aegis_proto::deception::v1::Event;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    outlet::{Outlet, Report, timestamp},
    persona::Persona,
};

pub use capture::Capture;
pub use record::Recorder;
pub use stream::Stream;
pub(crate) use stream::{Limits, Traffic, close, watch};

/// Longest text of an event, bytes.
const MAX_TEXT: usize = 4096;
/// Most fields of an event.
const MAX_FIELDS: usize = 32;
/// Longest name of a field, bytes.
const MAX_KEY: usize = 64;
/// Events of one connection; the rest is counted.
const MAX_EVENTS: u32 = 20_000;

/// What happens on decoys. The names on the wire are these in snake case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "their meaning is their name")]
pub enum EventType {
    Connect,
    Disconnect,
    AuthAttempt,
    AuthSuccess,
    AuthFail,
    Command,
    Request,
    Query,
    DownloadAttempt,
    FileCaptured,
    TlsClientHello,
    Publish,
    Subscribe,
    MailFrom,
    RcptTo,
    MessageAccepted,
    Scan,
    Unknown,
}

impl EventType {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            EventType::Connect => "connect",
            EventType::Disconnect => "disconnect",
            EventType::AuthAttempt => "auth_attempt",
            EventType::AuthSuccess => "auth_success",
            EventType::AuthFail => "auth_fail",
            EventType::Command => "command",
            EventType::Request => "request",
            EventType::Query => "query",
            EventType::DownloadAttempt => "download_attempt",
            EventType::FileCaptured => "file_captured",
            EventType::TlsClientHello => "tls_client_hello",
            EventType::Publish => "publish",
            EventType::Subscribe => "subscribe",
            EventType::MailFrom => "mail_from",
            EventType::RcptTo => "rcpt_to",
            EventType::MessageAccepted => "message_accepted",
            EventType::Scan => "scan",
            EventType::Unknown => "unknown",
        }
    }

    /// Whether it is about who the client says that it is.
    fn is_auth(self) -> bool {
        matches!(self, EventType::AuthAttempt | EventType::AuthSuccess | EventType::AuthFail)
    }
}

/// One connection. Cheap to clone.
#[derive(Clone)]
pub struct Session(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) id: Uuid,
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) persona: Arc<Persona>,
    pub(crate) service: Arc<str>,
    pub(crate) outlet: Outlet,
    pub(crate) traffic: Arc<Traffic>,
    learned: Mutex<BTreeMap<&'static str, String>>,
    told: AtomicU32,
    captured: capture::Budget,
    recording: Mutex<Option<record::Recording>>,
    ended: AtomicBool,
}

impl Session {
    /// A connection begins: tells of it.
    pub(crate) fn begin(
        outlet: &Outlet,
        persona: &Arc<Persona>,
        service: &Arc<str>,
        (peer, local): (SocketAddr, SocketAddr),
        limits: &Limits,
    ) -> Session {
        let session = Session(Arc::new(Inner {
            id: Uuid::now_v7(),
            peer,
            local,
            persona: persona.clone(),
            service: service.clone(),
            outlet: outlet.clone(),
            traffic: Arc::new(Traffic::new(limits)),
            learned: Mutex::default(),
            told: AtomicU32::new(0),
            captured: capture::Budget::default(),
            recording: Mutex::default(),
            ended: AtomicBool::new(false),
        }));
        outlet.state().open.fetch_add(1, Ordering::Relaxed);
        session.emit(
            EventType::Connect,
            format!("connection from {}", peer.ip()),
            &[("dst_port", &local.port().to_string())],
        );
        session
    }

    /// The connection is over: tells of it, once.
    pub(crate) fn end(&self) {
        let inner = &self.0;
        if inner.ended.swap(true, Ordering::AcqRel) {
            return;
        }
        inner.outlet.state().open.fetch_sub(1, Ordering::Relaxed);
        self.end_recording();
        let traffic = &inner.traffic;
        if traffic.bytes_in() == 0 {
            self.emit(EventType::Scan, "connection without a byte", &[("kind", "empty_connection")]);
        }
        let (duration, bytes_in, bytes_out) =
            (traffic.age_ms().to_string(), traffic.bytes_in().to_string(), traffic.bytes_out().to_string());
        let told = inner.told.load(Ordering::Relaxed);
        let untold = told.saturating_sub(MAX_EVENTS).to_string();
        let mut fields = vec![
            ("duration_ms", duration.as_str()),
            ("bytes_in", bytes_in.as_str()),
            ("bytes_out", bytes_out.as_str()),
        ];
        if told > MAX_EVENTS {
            fields.push(("untold_events", untold.as_str()));
        }
        self.tell(EventType::Disconnect, "connection ended".to_owned(), &fields);
    }

    /// Of the session: UUIDv7.
    pub fn id(&self) -> Uuid {
        self.0.id
    }

    /// The attacker's address.
    pub fn peer(&self) -> SocketAddr {
        self.0.peer
    }

    /// Where the attacker connected to.
    pub fn local(&self) -> SocketAddr {
        self.0.local
    }

    /// Who the decky plays.
    pub fn persona(&self) -> &Arc<Persona> {
        &self.0.persona
    }

    /// Tells of something that happened. Never waits; texts are cut at 4,096 bytes, fields at 32.
    pub fn emit(&self, event_type: EventType, msg: impl Into<String>, fields: &[(&str, &str)]) {
        if self.0.told.fetch_add(1, Ordering::Relaxed) < MAX_EVENTS {
            self.tell(event_type, msg.into(), fields);
        }
    }

    fn tell(&self, event_type: EventType, msg: String, fields: &[(&str, &str)]) {
        let mut all: BTreeMap<Cow<'_, str>, Cow<'_, str>> = BTreeMap::new();
        for (key, value) in fields.iter().take(MAX_FIELDS) {
            all.insert(text(key, MAX_KEY), text(value, MAX_TEXT));
        }
        if event_type.is_auth() || event_type == EventType::Disconnect {
            let learned = self.0.learned.lock().unwrap_or_else(PoisonError::into_inner);
            for (key, value) in learned.iter() {
                if all.len() >= MAX_FIELDS {
                    break;
                }
                all.entry(Cow::Borrowed(*key)).or_insert_with(|| Cow::Owned(value.clone()));
            }
        }
        let event = Event {
            id: Uuid::now_v7().as_bytes().to_vec(),
            timestamp: Some(timestamp(Utc::now())),
            decky: self.0.persona.name.clone(),
            service: self.0.service.to_string(),
            event_type: event_type.as_str().to_owned(),
            attacker_ip: plain(self.0.peer).to_string(),
            attacker_port: self.0.peer.port().into(),
            session_id: self.0.id.to_string(),
            msg: text(&msg, MAX_TEXT).into_owned(),
            // Texts in a map: nothing of it can fail.
            fields_json: serde_json::to_string(&all).unwrap_or_else(|_| "{}".to_owned()),
        };
        self.0.outlet.send(Report::Event(Box::new(event)));
    }

    /// Something that is known of the client from now on, such as `hassh` or `client_banner`: each later auth event and
    /// the disconnect carry it.
    pub fn learn(&self, key: &'static str, value: impl Into<String>) {
        let value = text(&value.into(), MAX_TEXT).into_owned();
        let mut learned = self.0.learned.lock().unwrap_or_else(PoisonError::into_inner);
        if learned.len() < MAX_FIELDS || learned.contains_key(key) {
            learned.insert(key, value);
        }
    }

    /// What was learned of the client, for protocols that decide by it.
    pub fn learned(&self, key: &str) -> Option<String> {
        self.0.learned.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Begins to keep a file that the attacker brings; `name` as the attacker has it. None when it may bring no more.
    pub async fn capture(&self, name: &str) -> Option<Capture> {
        Capture::begin(self, name).await
    }

    /// Begins to record what is shown and typed; once for a session, a second one goes on with the first.
    pub fn record(&self, width: u16, height: u16) -> Recorder {
        record::begin(self, width, height)
    }

    fn end_recording(&self) {
        let recording = self.0.recording.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(recording) = recording {
            recording.end(self);
        }
    }

    /// When it began.
    pub fn began_at(&self) -> DateTime<Utc> {
        self.0.traffic.began_at()
    }
}

/// The address without IPv6's way to write IPv4.
pub(crate) fn plain(address: SocketAddr) -> std::net::IpAddr {
    address.ip().to_canonical()
}

/// A text of an attacker as events carry it: of bounded length, and without the NUL that databases refuse.
fn text(text: &str, max: usize) -> Cow<'_, str> {
    let cut = match text.len() <= max {
        true => text,
        false => text.get(..text.floor_char_boundary(max)).unwrap_or_default(),
    };
    match cut.contains('\0') {
        true => Cow::Owned(cut.replace('\0', "\\x00")),
        false => Cow::Borrowed(cut),
    }
}

/// Bytes of an attacker as a text: what is no UTF-8 becomes `\xNN`, at most `max` bytes of input are looked at.
pub fn escaped(bytes: &[u8], max: usize) -> String {
    let bytes = bytes.get(..max.min(bytes.len())).unwrap_or_default();
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\0' => out.push_str("\\x00"),
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

#[cfg(test)]
mod tests;
