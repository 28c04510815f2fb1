//! What happened on a decoy, in one shape whoever tells of it.

use std::{net::IpAddr, sync::OnceLock};

use chrono::{DateTime, TimeDelta, Utc};
use ring::digest::{SHA256, digest};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::Value;
use uuid::Uuid;

/// All types of events. What is told under another name is `unknown`.
pub(crate) const EVENT_TYPES: [&str; 18] = [
    "connect",
    "disconnect",
    "auth_attempt",
    "auth_success",
    "auth_fail",
    "command",
    "request",
    "query",
    "download_attempt",
    "file_captured",
    "tls_client_hello",
    "publish",
    "subscribe",
    "mail_from",
    "rcpt_to",
    "message_accepted",
    "scan",
    "unknown",
];

/// Longest message and longest value of a field, bytes.
pub(crate) const MAX_TEXT: usize = 4_096;
/// Most fields of an event.
const MAX_FIELDS: usize = 64;
/// Longest name of a field, bytes.
const MAX_KEY: usize = 64;
/// Longest JSON text of fields that is looked at, bytes.
const MAX_JSON: usize = 512 * 1024;
/// Longest name of a decky.
const MAX_DECKY: usize = 63;
/// Longest name of a service.
const MAX_SERVICE: usize = 32;
/// Longest id of a session.
const MAX_SESSION: usize = 64;
/// How far ahead the clock of a sensor may be.
const MAX_AHEAD: TimeDelta = TimeDelta::days(1);

/// An event that is sound: within all bounds, and of a shape that both databases keep.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// The same for the same event told again.
    pub(crate) id: Uuid,
    /// When it happened, in microseconds.
    pub(crate) at: DateTime<Utc>,
    pub(crate) decky: String,
    pub(crate) service: String,
    /// One of [`EVENT_TYPES`].
    pub(crate) event_type: &'static str,
    /// As `IpAddr` writes it; `0.0.0.0` where it is not known.
    pub(crate) attacker_ip: String,
    pub(crate) attacker_port: u16,
    /// Of the connection; may be empty.
    pub(crate) session_id: String,
    pub(crate) msg: String,
    pub(crate) fields: Fields,
    /// ATT&CK ids that it shows, with spaces between them.
    pub(crate) techniques: String,
}

/// An event that is stored.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    /// Grows with each event that is stored, without gaps until a purge.
    pub(crate) id: i64,
    pub(crate) event: Event,
}

impl std::ops::Deref for Log {
    type Target = Event;

    fn deref(&self) -> &Event {
        &self.event
    }
}

impl Event {
    /// ATT&CK ids that it shows.
    pub(crate) fn techniques(&self) -> impl Iterator<Item = &str> {
        self.techniques.split_ascii_whitespace()
    }

    /// A field's text.
    pub(crate) fn field(&self, key: &str) -> Option<&str> {
        self.fields.get(key)
    }

    /// What the event takes in memory, about.
    pub(crate) fn weight(&self) -> usize {
        // The fields are there twice once somebody has looked at them.
        400 + self.msg.len() + 2 * self.fields.json.len()
    }
}

#[cfg(test)]
impl Event {
    /// One of that type on a service, with these fields as JSON.
    pub(crate) fn example(event_type: &str, service: &str, fields: &str) -> Self {
        Event {
            id: Uuid::nil(),
            at: DateTime::UNIX_EPOCH,
            decky: "web-01".into(),
            service: service.into(),
            event_type: EVENT_TYPES.into_iter().find(|known| *known == event_type).unwrap(),
            attacker_ip: "203.0.113.9".into(),
            attacker_port: 40_000,
            session_id: String::new(),
            msg: String::new(),
            fields: Fields::stored(fields.into()),
            techniques: String::new(),
        }
    }
}

/// A flat JSON object of texts, read when somebody asks for a field.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields {
    json: String,
    pairs: OnceLock<Vec<(String, String)>>,
}

impl Fields {
    /// From the text as it is stored.
    pub(crate) fn stored(json: String) -> Self {
        Fields { json, pairs: OnceLock::new() }
    }

    /// The JSON text.
    pub(crate) fn json(&self) -> &str {
        if self.json.is_empty() { "{}" } else { &self.json }
    }

    /// All names and texts, in their order.
    pub(crate) fn pairs(&self) -> &[(String, String)] {
        self.pairs.get_or_init(|| read(&self.json).map(|read| read.pairs).unwrap_or_default())
    }

    /// A field's text.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.pairs().iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Within all bounds, from what somebody sent.
    fn sound(raw: RawFields) -> Self {
        match raw {
            RawFields::Json(json) if json.len() <= MAX_JSON => match read(&json) {
                Some(Read { pairs, plain: true }) if pairs.len() <= MAX_FIELDS && pairs.iter().all(fits) => {
                    Fields { json, pairs: OnceLock::from(pairs) }
                }
                Some(Read { pairs, .. }) => Fields::of(pairs),
                None => Fields::default(),
            },
            RawFields::Json(_) => Fields::default(),
            RawFields::Pairs(pairs) => Fields::of(pairs),
        }
    }

    fn of(mut pairs: Vec<(String, String)>) -> Self {
        pairs.truncate(MAX_FIELDS);
        for (key, value) in &mut pairs {
            *key = key.chars().map(|c| if c.is_control() || c.is_whitespace() { '_' } else { c }).collect();
            cut(key, MAX_KEY);
            if key.is_empty() {
                key.push('_');
            }
            *value = text(std::mem::take(value));
        }
        let mut json = String::from("{");
        for (at, (key, value)) in pairs.iter().enumerate() {
            if at > 0 {
                json.push(',');
            }
            // Texts are always written.
            json.push_str(&serde_json::to_string(key).unwrap_or_default());
            json.push(':');
            json.push_str(&serde_json::to_string(value).unwrap_or_default());
        }
        json.push('}');
        Fields { json, pairs: OnceLock::from(pairs) }
    }
}

fn fits((key, value): &(String, String)) -> bool {
    !key.is_empty()
        && key.len() <= MAX_KEY
        && value.len() <= MAX_TEXT
        && !key.chars().any(|c| c.is_control() || c.is_whitespace())
        && !value.contains('\0')
}

/// An event as somebody sent it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Raw {
    pub(crate) id: Option<Uuid>,
    pub(crate) at: Option<DateTime<Utc>>,
    pub(crate) decky: String,
    pub(crate) service: String,
    pub(crate) event_type: String,
    pub(crate) attacker_ip: String,
    pub(crate) attacker_port: u32,
    pub(crate) session_id: String,
    pub(crate) msg: String,
    pub(crate) fields: RawFields,
}

/// Fields as somebody sent them.
#[derive(Clone, Debug)]
pub(crate) enum RawFields {
    /// A JSON text.
    Json(String),
    /// Names and texts.
    Pairs(Vec<(String, String)>),
}

impl Default for RawFields {
    fn default() -> Self {
        RawFields::Pairs(Vec::new())
    }
}

impl Raw {
    /// Brings it within all bounds: what is too long is cut, what is no time is `now`. An event is never refused for
    /// what an attacker brought into it. `origin` tells apart events that have no id of their own.
    pub(crate) fn sound(self, now: DateTime<Utc>, origin: &[u8]) -> Event {
        let at = self.at.filter(|at| *at <= now + MAX_AHEAD && at.timestamp() > 0).unwrap_or(now);
        let mut session_id = self.session_id;
        session_id.retain(|c| c.is_ascii_graphic());
        cut(&mut session_id, MAX_SESSION);
        Event {
            id: self.id.filter(|id| !id.is_nil()).unwrap_or_else(|| derived_id(self.at.unwrap_or_default(), origin)),
            at,
            decky: name(&self.decky, MAX_DECKY),
            service: name(&self.service, MAX_SERVICE),
            event_type: event_type(&self.event_type),
            attacker_ip: address(&self.attacker_ip).unwrap_or_else(|| "0.0.0.0".to_owned()),
            attacker_port: u16::try_from(self.attacker_port).unwrap_or(0),
            session_id,
            msg: text(self.msg),
            fields: Fields::sound(self.fields),
            techniques: String::new(),
        }
    }
}

/// The type of that name, or `unknown`.
pub(crate) fn event_type(name: &str) -> &'static str {
    EVENT_TYPES.into_iter().find(|known| *known == name).unwrap_or("unknown")
}

/// An address in the one spelling that is stored.
pub(crate) fn address(text: &str) -> Option<String> {
    let text = text.trim();
    let text = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    text.parse::<IpAddr>().ok().map(|ip| ip.to_canonical().to_string())
}

/// An id that says the time, and is the same for the same origin.
pub(crate) fn derived_id(at: DateTime<Utc>, origin: &[u8]) -> Uuid {
    let hash = digest(&SHA256, origin);
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(hash.as_ref()) {
        *to = *from;
    }
    let millis = u64::try_from(at.timestamp_millis()).unwrap_or(0).to_be_bytes();
    for (to, from) in bytes.iter_mut().zip(&millis[2..]) {
        *to = *from;
    }
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// A name as deckies and services have it: small letters, digits, `-` and `_`.
fn name(text: &str, max: usize) -> String {
    let good = |c: char| if matches!(c, 'a'..='z' | '0'..='9' | '-' | '_') { c } else { '-' };
    let name: String = text.chars().take(max).map(|c| good(c.to_ascii_lowercase())).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "unknown".to_owned() } else { name.to_owned() }
}

/// A text that both databases keep, not too long.
fn text(mut text: String) -> String {
    cut(&mut text, MAX_TEXT);
    // PostgreSQL has no text with this in it.
    if text.contains('\0') {
        text = text.replace('\0', "\\x00");
        cut(&mut text, MAX_TEXT);
    }
    text
}

fn cut(text: &mut String, max: usize) {
    text.truncate(text.floor_char_boundary(max));
}

struct Read {
    pairs: Vec<(String, String)>,
    /// All values were texts.
    plain: bool,
}

fn read(json: &str) -> Option<Read> {
    if json.is_empty() || json == "{}" {
        return Some(Read { pairs: Vec::new(), plain: json == "{}" });
    }
    serde_json::from_str(json).ok()
}

impl<'de> Deserialize<'de> for Read {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Read;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Read, A::Error> {
                let mut read = Read { pairs: Vec::with_capacity(8), plain: true };
                while let Some((key, value)) = map.next_entry::<String, Value>()? {
                    let text = match value {
                        Value::String(text) => text,
                        other => {
                            read.plain = false;
                            other.to_string()
                        }
                    };
                    if read.pairs.len() < 4 * MAX_FIELDS {
                        read.pairs.push((key, text));
                    }
                }
                Ok(read)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    #[test]
    fn an_event_is_brought_within_bounds_and_never_refused() {
        let raw = Raw {
            decky: "Web Server!".into(),
            service: String::new(),
            event_type: "nonsense".into(),
            attacker_ip: "::ffff:192.0.2.7".into(),
            attacker_port: 70_000,
            session_id: "a b\nc".into(),
            msg: format!("\0{}", "ä".repeat(5_000)),
            fields: RawFields::Json(r#"{"a":"x","b":1,"c":{"d":[2]},"e":"\u0000"}"#.into()),
            ..Raw::default()
        };
        let event = raw.clone().sound(now(), b"line");
        assert_eq!(
            (event.decky.as_str(), event.service.as_str(), event.event_type),
            ("web-server", "unknown", "unknown")
        );
        assert_eq!(
            (event.attacker_ip.as_str(), event.attacker_port, event.session_id.as_str()),
            ("192.0.2.7", 0, "abc")
        );
        assert!(event.msg.starts_with("\\x00ä") && event.msg.len() <= MAX_TEXT);
        assert_eq!(event.fields.json(), r#"{"a":"x","b":"1","c":"{\"d\":[2]}","e":"\\x00"}"#);
        assert_eq!(event.field("c"), Some(r#"{"d":[2]}"#));
        assert_eq!((event.at, event.id), (now(), raw.sound(now(), b"line").id));
        let empty = Raw::default().sound(now(), b"other");
        assert_eq!((empty.fields.json(), empty.attacker_ip.as_str()), ("{}", "0.0.0.0"));
        assert_ne!(empty.id, event.id);
    }

    #[test]
    fn fields_that_are_sound_stay_as_they_are_and_others_have_limits() {
        let json = r#"{ "username" : "root", "password":"1 2" }"#;
        let fields = Fields::sound(RawFields::Json(json.into()));
        assert_eq!((fields.json(), fields.get("password")), (json, Some("1 2")));
        for bad in ["", "[]", "{", "null", &format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_JSON)), &"[".repeat(10_000)] {
            assert_eq!(Fields::sound(RawFields::Json(bad.into())).json(), "{}");
        }
        let many = (0..500).map(|n| (format!("k {n}"), "v".repeat(9_000))).collect();
        let many = Fields::sound(RawFields::Pairs(many));
        assert_eq!((many.pairs().len(), many.pairs()[1].0.as_str(), many.pairs()[1].1.len()), (64, "k_1", MAX_TEXT));
        assert_eq!(Fields::stored(many.json().into()).pairs(), many.pairs());
    }
}
