//! Answers as Docker's daemon writes them.

use chrono::Utc;
use serde_json::{Value, json};

use super::machine::Machine;
use crate::decoys::http::{
    build::{Answer, date},
    wire::Request,
};

/// What is said where no route leads.
const PAGE_NOT_FOUND: &[u8] = b"{\"message\":\"page not found\"}\n";

/// An answer.
pub(super) struct Reply {
    pub(super) status: u16,
    content_type: &'static str,
    body: Vec<u8>,
    extra: Vec<(&'static str, String)>,
    /// The connection becomes that of a program, which says this first.
    pub(super) attached: Option<String>,
    upgraded: bool,
    streamed: bool,
}

impl Reply {
    fn new(status: u16, content_type: &'static str, body: impl Into<Vec<u8>>) -> Reply {
        let body = body.into();
        Reply { status, content_type, body, extra: Vec::new(), attached: None, upgraded: false, streamed: false }
    }

    pub(super) fn json(status: u16, value: &Value) -> Reply {
        Reply::new(status, "application/json", format!("{value}\n"))
    }

    pub(super) fn error(status: u16, message: String) -> Reply {
        Reply::json(status, &json!({ "message": message }))
    }

    pub(super) fn no_container(id: &str) -> Reply {
        Reply::error(404, format!("No such container: {id}"))
    }

    pub(super) fn empty(status: u16) -> Reply {
        Reply::new(status, "", String::new())
    }

    /// JSON whose fields are in the order of the engine's own structures.
    pub(super) fn ordered(text: String) -> Reply {
        Reply::new(200, "application/json", text + "\n")
    }

    pub(super) fn stream(lines: String) -> Reply {
        Reply { streamed: true, ..Reply::new(200, "application/json", lines) }
    }

    /// Output of a program, in frames.
    pub(super) fn output(text: &str) -> Reply {
        Reply { streamed: true, ..Reply::new(200, "application/vnd.docker.raw-stream", frame(text)) }
    }

    pub(super) fn ping() -> Reply {
        let mut reply = Reply::new(200, "text/plain; charset=utf-8", "OK");
        reply.extra = vec![
            ("Builder-Version", "1".to_owned()),
            ("Cache-Control", "no-cache, no-store, must-revalidate".to_owned()),
            ("Pragma", "no-cache".to_owned()),
            ("Swarm", "inactive".to_owned()),
        ];
        reply
    }

    pub(super) fn attached(request: &Request, output: String) -> Reply {
        let upgraded = request.field("upgrade").is_some();
        let status = if upgraded { 101 } else { 200 };
        Reply {
            attached: Some(output),
            upgraded,
            ..Reply::new(status, "application/vnd.docker.raw-stream", String::new())
        }
    }

    /// As it goes out: Go sorts the headers, and puts the date and the length after them.
    pub(super) fn bytes(&self, machine: &Machine, request: &Request) -> Vec<u8> {
        let reason = match self.status {
            101 => "UPGRADED",
            200 => "OK",
            201 => "Created",
            204 => "No Content",
            304 => "Not Modified",
            400 => "Bad Request",
            404 => "Not Found",
            409 => "Conflict",
            503 => "Service Unavailable",
            _ => "Internal Server Error",
        };
        if self.attached.is_some() {
            let mut out = Answer::new(self.status, reason);
            out.field("Content-Type", self.content_type);
            if self.upgraded {
                out.field("Connection", "Upgrade").field("Upgrade", "tcp");
            }
            return out.end();
        }
        let mut fields = self.extra.clone();
        // What no route leads to is answered before anything that knows the version.
        let routed = self.body != PAGE_NOT_FOUND;
        if routed {
            fields.push(("Api-Version", machine.api.to_owned()));
            fields.push(("Docker-Experimental", "false".to_owned()));
            fields.push(("Ostype", "linux".to_owned()));
            fields.push(("Server", format!("Docker/{} (linux)", machine.version)));
        }
        if !self.content_type.is_empty() {
            fields.push(("Content-Type", self.content_type.to_owned()));
        }
        fields.sort_by_key(|(name, _)| *name);
        let mut out = Answer::new(self.status, reason);
        out.fields(&fields).field("Date", &date(Utc::now()));
        let chunked = self.streamed && request.minor == 1;
        let bodiless = matches!(self.status, 204 | 304);
        if !bodiless && !self.streamed {
            out.field("Content-Length", &self.body.len().to_string());
        }
        if !request.keeps() && request.minor == 1 {
            out.field("Connection", "close");
        }
        if chunked {
            out.field("Transfer-Encoding", "chunked");
        }
        let mut bytes = out.end();
        // Go answers in the version that it was asked in.
        if request.minor == 0
            && let Some(minor) = bytes.get_mut(7)
        {
            *minor = b'0';
        }
        if request.method == "HEAD" || bodiless {
            return bytes;
        }
        if !chunked {
            bytes.extend_from_slice(&self.body);
            return bytes;
        }
        if !self.body.is_empty() {
            bytes.extend_from_slice(format!("{:x}\r\n", self.body.len()).as_bytes());
            bytes.extend_from_slice(&self.body);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        bytes
    }
}

/// What Go's server says to what is no request: the whole of it in the first line, too.
pub(super) fn bad(text: &str) -> Vec<u8> {
    format!("HTTP/1.1 {text}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n{text}")
        .into_bytes()
}

/// Output of a program as Docker sends it: where it comes from, how long it is, what it is.
pub(super) fn frame(text: &str) -> Vec<u8> {
    if text.is_empty() {
        return Vec::new();
    }
    let mut bytes = vec![1, 0, 0, 0];
    bytes.extend_from_slice(&u32::try_from(text.len()).unwrap_or(0).to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
    bytes
}
