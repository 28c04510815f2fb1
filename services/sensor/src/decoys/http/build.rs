//! The web servers that deckies run: their headers in their order, their error pages, what they refuse.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};

use super::wire::Rules;
use crate::{
    decoys::Options,
    persona::{Os, Persona},
};

/// A web server of one build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Build {
    /// With what it calls itself.
    Nginx(&'static str),
    /// With what it calls itself, and whether its distribution compresses text.
    Apache(&'static str, bool),
    /// Internet Information Services 10 behind HTTP.sys.
    Iis,
    Lighttpd(&'static str),
}

/// How a page was made: servers treat that differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A file, last changed then.
    File(DateTime<Utc>),
    /// By a program behind the server.
    Script,
    /// By the server itself.
    Own,
}

/// An answer before the server's own headers.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) kind: Kind,
    pub(crate) content_type: &'static str,
    pub(crate) body: Vec<u8>,
    pub(crate) location: Option<String>,
    pub(crate) extra: Vec<(&'static str, String)>,
}

/// What the answer depends on besides the page.
#[derive(Clone, Debug, Default)]
pub(crate) struct How {
    /// As the client asked for it, else the server's own name.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) minor: u8,
    pub(crate) head: bool,
    /// Whether the connection stays open.
    pub(crate) keep: bool,
    /// Whether the client said that it wants that.
    pub(crate) asked: bool,
    /// How many requests the connection may still have.
    pub(crate) left: u32,
}

impl Build {
    /// What this decky runs: the option `server` of the service (nginx, apache, iis or lighttpd), else what its system
    /// and its seed give; http and https of a decky run the same.
    pub(crate) fn of(persona: &Persona, options: &Options) -> Result<Build, String> {
        let (nginx, apache) = match persona.os {
            Os::Debian12 => ("nginx/1.22.1", "Apache/2.4.62 (Debian)"),
            Os::Debian11 => ("nginx/1.18.0", "Apache/2.4.56 (Debian)"),
            Os::Ubuntu2204 => ("nginx/1.18.0 (Ubuntu)", "Apache/2.4.52 (Ubuntu)"),
            Os::Ubuntu2004 => ("nginx/1.18.0 (Ubuntu)", "Apache/2.4.41 (Ubuntu)"),
            Os::Rocky9 => ("nginx/1.20.1", "Apache/2.4.57 (Rocky Linux)"),
            Os::CentOs7 => ("nginx/1.20.1", "Apache/2.4.6 (CentOS)"),
            Os::FreeBsd13 => ("nginx/1.24.0", "Apache/2.4.57 (FreeBSD)"),
            Os::WindowsServer2019 | Os::Windows10 => ("nginx/1.24.0", "Apache/2.4.58 (Win64)"),
            Os::BusyBox => ("nginx/1.12.2", "Apache/2.2.34 (Unix)"),
        };
        let nginx = Build::Nginx(nginx);
        let apache =
            Build::Apache(apache, matches!(persona.os, Os::Debian12 | Os::Debian11 | Os::Ubuntu2204 | Os::Ubuntu2004));
        let lighttpd = Build::Lighttpd("lighttpd/1.4.53");
        match options.get("server").map(|name| name.trim()) {
            Some("nginx") => Ok(nginx),
            Some("apache") => Ok(apache),
            Some("iis") => Ok(Build::Iis),
            Some("lighttpd") => Ok(lighttpd),
            Some(other) => Err(format!("server must be nginx, apache, iis or lighttpd, not {other}")),
            None => Ok(match persona.os {
                Os::WindowsServer2019 | Os::Windows10 => Build::Iis,
                Os::BusyBox => lighttpd,
                _ => persona.pick("web server", &[nginx, apache]).copied().unwrap_or(nginx),
            }),
        }
    }

    pub(crate) fn rules(self) -> Rules {
        Rules {
            eager: matches!(self, Build::Nginx(_)),
            simple: !matches!(self, Build::Iis),
            // What nginx and IIS take by default; Apache has no bound, and reads what is thrown away here.
            body: match self {
                Build::Nginx(_) => 1024 * 1024,
                Build::Iis => 30_000_000,
                Build::Apache(..) | Build::Lighttpd(_) => 1 << 30,
            },
        }
    }

    /// How long it keeps a connection open that says nothing.
    pub(crate) fn keep_alive(self) -> u64 {
        match self {
            Build::Nginx(_) => 65,
            Build::Apache(..) | Build::Lighttpd(_) => 5,
            Build::Iis => 120,
        }
    }

    fn etag(self, modified: DateTime<Utc>, length: usize) -> String {
        match self {
            Build::Nginx(_) => format!("\"{:x}-{length:x}\"", modified.timestamp()),
            Build::Apache(..) => format!("\"{length:x}-{:x}\"", modified.timestamp_micros()),
            // Hundreds of nanoseconds since 1601.
            Build::Iis => format!("\"{:x}:0\"", (modified.timestamp() + 11_644_473_600).wrapping_mul(10_000_000)),
            Build::Lighttpd(_) => format!("\"{}\"", modified.timestamp().wrapping_mul(2_654_435_761) & 0xffff_ffff),
        }
    }

    /// Whether the client has the file already, or wants a part of it.
    pub(crate) fn conditional(self, mut page: Page, field: impl Fn(&str) -> Option<String>) -> Page {
        let Kind::File(modified) = page.kind else {
            return page;
        };
        if page.status != 200 {
            return page;
        }
        let known = match field("if-none-match") {
            Some(tags) => tags.contains(&self.etag(modified, page.body.len())),
            None => field("if-modified-since").is_some_and(|time| time == date(modified)),
        };
        if known {
            page.extra.push(("ETag", self.etag(modified, page.body.len())));
            page.status = 304;
            return page;
        }
        let whole = page.body.len();
        let range = field("range").and_then(|range| range.strip_prefix("bytes=").map(str::to_owned));
        let range = range.and_then(|range| {
            let (from, to) = range.split_once('-')?;
            let (from, to): (Option<usize>, Option<usize>) = (from.parse().ok(), to.parse().ok());
            match (from, to) {
                (Some(from), to) => Some((from, to.unwrap_or(whole).min(whole.saturating_sub(1)))),
                (None, Some(last)) => Some((whole.saturating_sub(last), whole.saturating_sub(1))),
                _ => None,
            }
        });
        if let Some((from, to)) = range
            && let Some(part) = page.body.get(from..to.saturating_add(1)).filter(|part| !part.is_empty())
        {
            page.extra.push(("ETag", self.etag(modified, whole)));
            page.extra.push(("Content-Range", format!("bytes {from}-{to}/{whole}")));
            page.body = part.to_vec();
            page.status = 206;
        }
        page
    }

    /// The answer as it goes out.
    pub(crate) fn render(self, mut page: Page, how: &How) -> Vec<u8> {
        let status = page.status;
        let bodiless = status == 304;
        let length = page.body.len();
        let modified = match page.kind {
            Kind::File(modified) => Some(modified),
            _ => None,
        };
        let etag = match page.extra.iter().position(|(name, _)| *name == "ETag") {
            Some(at) => Some(page.extra.remove(at).1),
            None => modified.map(|modified| self.etag(modified, length)),
        };
        let modified = modified.map(date);
        let now = date(Utc::now());
        let mut out = Answer::new(status, self.reason(status));
        let mut chunked = false;
        match self {
            Build::Nginx(name) => {
                out.field("Server", name).field("Date", &now);
                chunked = page.kind == Kind::Script && how.minor == 1 && !how.head;
                if !bodiless {
                    out.field("Content-Type", page.content_type);
                    if page.kind != Kind::Script {
                        out.field("Content-Length", &length.to_string());
                    }
                }
                out.optional("Last-Modified", modified.as_deref()).optional("Location", page.location.as_deref());
                if chunked {
                    out.field("Transfer-Encoding", "chunked");
                }
                out.field("Connection", if how.keep { "keep-alive" } else { "close" });
                out.optional("ETag", etag.as_deref()).fields(&page.extra);
                if status == 200 && modified.is_some() {
                    out.field("Accept-Ranges", "bytes");
                }
            }
            Build::Apache(name, compresses) => {
                out.field("Date", &now).field("Server", name);
                out.optional("Last-Modified", modified.as_deref().filter(|_| !bodiless))
                    .optional("ETag", etag.as_deref());
                if modified.is_some() && !bodiless {
                    out.field("Accept-Ranges", "bytes");
                }
                let ranged =
                    page.extra.iter().position(|(name, _)| *name == "Content-Range").map(|at| page.extra.remove(at));
                out.fields(&page.extra).optional("Location", page.location.as_deref());
                if !bodiless {
                    out.field("Content-Length", &length.to_string());
                }
                if let Some((name, value)) = ranged {
                    out.field(name, &value);
                }
                if compresses && status == 200 && page.content_type.starts_with("text/") {
                    out.field("Vary", "Accept-Encoding");
                }
                if !how.keep {
                    out.field("Connection", "close");
                } else if how.asked {
                    out.field("Keep-Alive", &format!("timeout=5, max={}", how.left)).field("Connection", "Keep-Alive");
                }
                if !bodiless {
                    out.field("Content-Type", page.content_type);
                }
            }
            Build::Iis => {
                if !bodiless {
                    out.field("Content-Type", page.content_type);
                }
                out.optional("Location", page.location.as_deref());
                if !bodiless {
                    out.optional("Last-Modified", modified.as_deref());
                }
                if modified.is_some() {
                    out.field("Accept-Ranges", "bytes");
                }
                out.optional("ETag", etag.as_deref()).field("Server", "Microsoft-IIS/10.0").fields(&page.extra);
                out.field("X-Powered-By", "ASP.NET").field("Date", &now);
                if !how.keep {
                    out.field("Connection", "close");
                }
                if !bodiless {
                    out.field("Content-Length", &length.to_string());
                }
            }
            Build::Lighttpd(name) => {
                out.optional("Location", page.location.as_deref());
                if !bodiless {
                    out.field("Content-Type", page.content_type);
                }
                out.optional("ETag", etag.as_deref()).optional("Last-Modified", modified.as_deref());
                if modified.is_some() {
                    out.field("Accept-Ranges", "bytes");
                }
                out.fields(&page.extra);
                if !bodiless {
                    out.field("Content-Length", &length.to_string());
                }
                if !how.keep {
                    out.field("Connection", "close");
                }
                out.field("Date", &now).field("Server", name);
            }
        }
        let mut bytes = out.end();
        if how.head || bodiless {
            return bytes;
        }
        if chunked {
            bytes.extend_from_slice(format!("{length:x}\r\n").as_bytes());
            bytes.extend_from_slice(&page.body);
            bytes.extend_from_slice(b"\r\n0\r\n\r\n");
        } else {
            bytes.extend_from_slice(&page.body);
        }
        bytes
    }
}

/// The lines of an answer.
pub(crate) struct Answer(String);

impl Answer {
    pub(crate) fn new(status: u16, reason: &str) -> Answer {
        Answer(format!("HTTP/1.1 {status} {reason}\r\n"))
    }

    pub(crate) fn field(&mut self, name: &str, value: &str) -> &mut Answer {
        let _ = write!(self.0, "{name}: {}\r\n", value.replace(['\r', '\n'], " "));
        self
    }

    pub(crate) fn optional(&mut self, name: &str, value: Option<&str>) -> &mut Answer {
        match value {
            Some(value) => self.field(name, value),
            None => self,
        }
    }

    pub(crate) fn fields(&mut self, fields: &[(&'static str, String)]) -> &mut Answer {
        for (name, value) in fields {
            self.field(name, value);
        }
        self
    }

    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.push_str("\r\n");
        self.0.into_bytes()
    }
}

/// As HTTP writes times.
pub(crate) fn date(time: DateTime<Utc>) -> String {
    time.format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_in_the_order_of_the_server() {
        let how = How { host: "a".into(), port: 80, minor: 1, ..How::default() };
        let names = |build: Build| -> Vec<String> {
            let page = Page {
                status: 200,
                kind: Kind::File(DateTime::UNIX_EPOCH),
                content_type: "text/html",
                body: b"x".to_vec(),
                location: None,
                extra: Vec::new(),
            };
            let bytes = String::from_utf8(build.render(page, &how)).unwrap();
            bytes.lines().skip(1).filter_map(|line| Some(line.split_once(": ")?.0.to_owned())).collect()
        };
        assert_eq!(
            names(Build::Nginx("nginx/1.22.1")).join(" "),
            "Server Date Content-Type Content-Length Last-Modified Connection ETag Accept-Ranges"
        );
        assert_eq!(
            names(Build::Apache("Apache/2.4.57 (Rocky Linux)", false)).join(" "),
            "Date Server Last-Modified ETag Accept-Ranges Content-Length Connection Content-Type"
        );
        assert_eq!(
            names(Build::Iis).join(" "),
            "Content-Type Last-Modified Accept-Ranges ETag Server X-Powered-By Date Connection Content-Length"
        );
    }
}
