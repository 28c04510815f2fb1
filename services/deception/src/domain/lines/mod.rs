//! Lines of other honeypots, as events.

mod cowrie;
mod opencanary;
mod syslog;

use serde_json::{Map, Value};

use super::event::Raw;

/// Longest line, bytes.
pub(crate) const MAX_LINE: usize = 64 * 1024;

/// Whose lines they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// JSON lines of Cowrie.
    Cowrie,
    /// JSON lines of OpenCanary.
    OpenCanary,
    /// RFC 5424.
    Syslog,
}

impl Format {
    /// The names of all.
    pub(crate) const NAMES: [&str; 3] = ["cowrie", "opencanary", "syslog"];

    pub(crate) fn parse(name: &str) -> Option<Format> {
        match name {
            "cowrie" => Some(Format::Cowrie),
            "opencanary" => Some(Format::OpenCanary),
            "syslog" => Some(Format::Syslog),
            _ => None,
        }
    }
}

/// Reads lines one after the other; what one says can be of use for the next.
pub(crate) struct Reader {
    format: Format,
    cowrie: cowrie::Sessions,
}

impl Reader {
    pub(crate) fn new(format: Format) -> Self {
        Reader { format, cowrie: cowrie::Sessions::default() }
    }

    /// The event of a line, or why there is none.
    pub(crate) fn read(&mut self, line: &str) -> Result<Raw, String> {
        match self.format {
            Format::Cowrie => cowrie::read(line, &mut self.cowrie),
            Format::OpenCanary => opencanary::read(line),
            Format::Syslog => syslog::read(line),
        }
    }
}

/// Bytes as a text; those that are no UTF-8 as `\xNN`.
pub(crate) fn text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

fn object(line: &str) -> Result<Map<String, Value>, String> {
    match serde_json::from_str(line) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("is not a JSON object".to_owned()),
        Err(error) => Err(format!("is not JSON: {error}")),
    }
}

/// A value as a text; nothing for `null`, empty texts and what has parts.
fn scalar(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) if text.is_empty() => None,
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn port(value: Option<&Value>) -> u32 {
    scalar(value).and_then(|text| text.parse().ok()).unwrap_or(0)
}
