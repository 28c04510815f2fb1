//! HTTP/1 as servers read it: requests with a bound on every part, and what can be wrong with them.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::decoys::lines::{Buffered, Held, Line, readable};

/// As the servers that we play have it: a line of 8 KiB, a head of 32 KiB.
const LINE: usize = 8190;
const HEAD: usize = 32 * 1024;
const FIELDS: usize = 100;
/// What is kept of a body.
pub(crate) const BODY: usize = 1024 * 1024;

/// What is kept of a body however much other connections hold.
const SHORT: usize = 4096;

/// How strict a server is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Whether it answers the first byte that cannot begin a request, without waiting for the line.
    pub(crate) eager: bool,
    /// Whether it takes a request line without a version, as HTTP/0.9 had it.
    pub(crate) simple: bool,
    /// Bodies longer than this are refused unread.
    pub(crate) body: u64,
}

/// A request.
#[derive(Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// As it was sent; bytes that are no text are escaped.
    pub(crate) target: String,
    /// 0 or 1, of HTTP/1.x.
    pub(crate) minor: u8,
    /// Names in lower case.
    pub(crate) fields: Vec<(String, String)>,
    /// What is kept of it.
    pub(crate) body: Vec<u8>,
    /// How long it was.
    pub(crate) length: u64,
    pub(crate) held: Held,
}

impl Request {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// Without query and without scheme and host, decoded, without dots; none when it climbs out of the root.
    pub(crate) fn path(&self) -> Option<String> {
        let mut target = self.target.as_str();
        for scheme in ["http://", "https://"] {
            if let Some(rest) = target.strip_prefix(scheme) {
                target = rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/");
            }
        }
        let raw = target.split(['?', '#']).next().unwrap_or_default();
        let decoded = percent_encoding::percent_decode_str(raw).decode_utf8_lossy().into_owned();
        let mut parts: Vec<&str> = Vec::new();
        for part in decoded.split('/').skip(1) {
            match part {
                "." => {}
                ".." => {
                    if parts.last() == Some(&"") {
                        parts.pop();
                    }
                    parts.pop()?;
                }
                part => {
                    // Slashes that follow one another are one.
                    if parts.last() == Some(&"") {
                        parts.pop();
                    }
                    parts.push(part);
                }
            }
        }
        Some(format!("/{}", parts.join("/")))
    }

    /// What follows the question mark.
    pub(crate) fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    /// The host that is asked for, without its port.
    pub(crate) fn host(&self) -> Option<&str> {
        let host = self.field("host")?;
        if host.starts_with('[') {
            return host.find(']').and_then(|end| host.get(..=end));
        }
        host.split(':').next()
    }

    /// Whether the connection is to stay open after the answer.
    pub(crate) fn keeps(&self) -> bool {
        let wish = self.field("connection").unwrap_or_default().to_ascii_lowercase();
        if self.minor == 0 { wish.contains("keep-alive") } else { !wish.contains("close") }
    }

    /// Pairs of a form: of the query, or of a body of `application/x-www-form-urlencoded`.
    pub(crate) fn form(text: &[u8]) -> Vec<(String, String)> {
        let decode = |part: &[u8]| {
            let plain: Vec<u8> = part.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
            readable(&percent_encoding::percent_decode(&plain).collect::<Vec<u8>>(), 4096)
        };
        text.split(|byte| *byte == b'&')
            .take(FIELDS)
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let mut sides = pair.splitn(2, |byte| *byte == b'=');
                (decode(sides.next().unwrap_or_default()), decode(sides.next().unwrap_or_default()))
            })
            .collect()
    }
}

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    /// It is no request.
    Malformed,
    /// Its verb cannot be one.
    Verb,
    /// Its target cannot be one.
    Target,
    /// HTTP of another time.
    Version,
    LineTooLong,
    FieldTooLong,
    Field,
    NoHost,
    /// A transfer coding that is none.
    Coding,
    Length,
    BodyTooLarge,
}

/// What came.
#[derive(Debug)]
pub(crate) enum Incoming {
    Request(Request),
    /// HTTP/0.9: only what is asked for.
    Simple(String),
    /// What is wrong, what there was of the request, and its first bytes.
    Bad(Problem, Request, String),
    /// The client left; what it sent that was no line.
    End(Vec<u8>),
}

/// The head of the next request.
pub(crate) async fn head<S>(conn: &mut Buffered<S>, rules: Rules) -> io::Result<Incoming>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut empty = 0;
    let first = loop {
        while conn.unread().is_empty() {
            if !conn.more().await? {
                return Ok(Incoming::End(Vec::new()));
            }
        }
        let begins = conn.unread().first().copied().unwrap_or_default();
        if rules.eager && !(begins.is_ascii_uppercase() || matches!(begins, b'_' | b'-' | b'\r' | b'\n')) {
            return Ok(bad(Problem::Malformed, Request::default(), conn.unread()));
        }
        match conn.line(LINE).await? {
            Line::Whole(line) if line.is_empty() && empty < 4 => empty += 1,
            Line::Whole(line) => break line,
            Line::TooLong => {
                let seen = readable(conn.unread(), 512);
                let line = conn.unread().get(..LINE).unwrap_or_default().to_vec();
                let begun = request_line(&line).unwrap_or_else(|(_, begun)| *begun);
                return Ok(Incoming::Bad(Problem::LineTooLong, begun, seen));
            }
            Line::End(rest) => return Ok(Incoming::End(rest)),
        }
    };
    let mut request = match request_line(&first) {
        Ok(request) if request.minor == 9 => {
            return Ok(if rules.simple && request.method == "GET" {
                Incoming::Simple(request.target)
            } else {
                bad(Problem::Malformed, request, &first)
            });
        }
        Ok(request) => request,
        Err((problem, begun)) => return Ok(bad(problem, *begun, &first)),
    };
    let mut size = first.len();
    loop {
        let line = match conn.line(LINE).await? {
            Line::Whole(line) => line,
            Line::TooLong => return Ok(bad(Problem::FieldTooLong, request, &first)),
            Line::End(_) => return Ok(Incoming::End(first)),
        };
        if line.is_empty() {
            break;
        }
        size += line.len();
        if size > HEAD || request.fields.len() >= FIELDS {
            return Ok(bad(Problem::FieldTooLong, request, &first));
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':').filter(|at| *at > 0) else {
            return Ok(bad(Problem::Field, request, &first));
        };
        let (name, value) = line.split_at_checked(colon).unwrap_or_default();
        if !name.iter().all(|byte| byte.is_ascii_graphic()) {
            return Ok(bad(Problem::Field, request, &first));
        }
        let name = readable(name, LINE).to_ascii_lowercase();
        request.fields.push((name, readable(value.get(1..).unwrap_or_default().trim_ascii(), LINE)));
    }
    if request.minor == 1 && request.field("host").is_none() {
        return Ok(bad(Problem::NoHost, request, &first));
    }
    if let Some(coding) = request.field("transfer-encoding")
        && !coding.eq_ignore_ascii_case("chunked")
    {
        return Ok(bad(Problem::Coding, request, &first));
    }
    if let Some(length) = request.field("content-length") {
        if length.is_empty() || length.len() > 18 || !length.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(bad(Problem::Length, request, &first));
        }
        request.length = length.parse().unwrap_or(u64::MAX);
        if request.length > rules.body {
            return Ok(bad(Problem::BodyTooLarge, request, &first));
        }
    }
    Ok(Incoming::Request(request))
}

fn bad(problem: Problem, request: Request, seen: &[u8]) -> Incoming {
    Incoming::Bad(problem, request, readable(seen, 512))
}

/// A request from its first line; `minor` 9 when it names no version.
fn request_line(line: &[u8]) -> Result<Request, (Problem, Box<Request>)> {
    let mut parts = line.splitn(2, |byte| *byte == b' ');
    let method = parts.next().unwrap_or_default();
    let rest = parts.next().unwrap_or_default().trim_ascii();
    let mut request = Request { method: readable(method, 64), minor: 9, ..Request::default() };
    if method.is_empty() || !method.iter().all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'-' | b'_')) {
        return Err((Problem::Verb, Box::new(request)));
    }
    let (target, version) = match rest.iter().rposition(|byte| *byte == b' ') {
        Some(at) => (rest.get(..at).unwrap_or_default().trim_ascii_end(), rest.get(at + 1..).unwrap_or_default()),
        None => (rest, &b""[..]),
    };
    request.target = readable(target, LINE);
    if target.is_empty() {
        return Err((Problem::Malformed, Box::new(request)));
    }
    match version {
        b"" => {}
        b"HTTP/1.1" => request.minor = 1,
        b"HTTP/1.0" => request.minor = 0,
        other if other.starts_with(b"HTTP/") => return Err((Problem::Version, Box::new(request))),
        _ => return Err((Problem::Malformed, Box::new(request))),
    }
    let connect = request.method == "CONNECT" || target == b"*";
    let known = target.starts_with(b"/") || target.starts_with(b"http://") || target.starts_with(b"https://");
    if !known && !connect {
        return Err((Problem::Target, Box::new(request)));
    }
    Ok(request)
}

/// The body of a request: the first of it is kept, the rest read and thrown away. False when it is no body.
pub(crate) async fn body<S>(conn: &mut Buffered<S>, request: &mut Request, rules: Rules) -> io::Result<bool>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let chunked = request.field("transfer-encoding").is_some();
    if (chunked || request.length > 0)
        && request.field("expect").is_some_and(|wish| wish.eq_ignore_ascii_case("100-continue"))
    {
        conn.write(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    if !chunked {
        let length = request.length;
        return part(conn, request, length).await.map(|()| true);
    }
    request.length = 0;
    loop {
        let Line::Whole(size) = conn.line(256).await? else {
            return Ok(false);
        };
        let digits = size.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let size = std::str::from_utf8(digits).ok().filter(|digits| digits.len() <= 15);
        let Some(size) = size.and_then(|digits| u64::from_str_radix(digits, 16).ok()) else {
            return Ok(false);
        };
        if size == 0 {
            break;
        }
        request.length = request.length.saturating_add(size);
        if request.length > rules.body {
            return Ok(false);
        }
        part(conn, request, size).await?;
        if conn.line(2).await? != Line::Whole(Vec::new()) {
            return Ok(false);
        }
    }
    for _ in 0..FIELDS {
        match conn.line(LINE).await? {
            Line::Whole(line) if line.is_empty() => return Ok(true),
            Line::Whole(_) => {}
            _ => return Ok(false),
        }
    }
    Ok(false)
}

async fn part<S>(conn: &mut Buffered<S>, request: &mut Request, bytes: u64) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut missing = bytes;
    while missing > 0 {
        if conn.unread().is_empty() && !conn.more().await? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let take = usize::try_from(missing).unwrap_or(usize::MAX).min(conn.unread().len());
        let room = BODY.saturating_sub(request.body.len()).min(take);
        // Of a short body the whole is kept in any case.
        let short = request.body.len() + room <= SHORT;
        if short || request.held.more(room) {
            request.body.extend_from_slice(conn.unread().get(..room).unwrap_or_default());
        }
        conn.used(take);
        missing = missing.saturating_sub(u64::try_from(take).unwrap_or(u64::MAX));
    }
    Ok(())
}

/// `&`, `<`, `>`, `"` and `'` as HTML has them.
pub(crate) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for sign in text.chars() {
        match sign {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            sign => safe.push(sign),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    const RULES: Rules = Rules { eager: true, simple: true, body: 1 << 20 };

    async fn read(bytes: &[u8]) -> Incoming {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let mut conn = Buffered::new(server);
        match head(&mut conn, RULES).await.unwrap() {
            Incoming::Request(mut request) => {
                let problem = !body(&mut conn, &mut request, RULES).await.unwrap();
                if problem {
                    Incoming::Bad(Problem::Coding, request, String::new())
                } else {
                    Incoming::Request(request)
                }
            }
            other => other,
        }
    }

    async fn problem(bytes: &[u8]) -> Problem {
        match read(bytes).await {
            Incoming::Bad(problem, ..) => problem,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn requests_are_read() {
        let Incoming::Request(request) =
            read(b"POST /a%20b/../c?x=1 HTTP/1.1\r\nHost: h:80\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n")
                .await
        else {
            panic!("no request");
        };
        assert_eq!(request.path().as_deref(), Some("/c"));
        assert_eq!((request.query(), request.host()), ("x=1", Some("h")));
        assert_eq!((request.body.as_slice(), request.length), (&b"abcde"[..], 5));
        assert!(request.keeps());
        assert_eq!(
            Request::form(b"user=a%40b&pass=c+d&x"),
            [("user".into(), "a@b".into()), ("pass".into(), "c d".into()), ("x".into(), String::new()),]
        );
    }

    #[tokio::test]
    async fn faults_are_told_apart() {
        assert_eq!(problem(b"\x16\x03\x01").await, Problem::Malformed);
        assert_eq!(problem(b"GARBAGE\r\n\r\n").await, Problem::Malformed);
        assert_eq!(problem(b"OPTIONS / RTSP/1.0\r\n\r\n").await, Problem::Malformed);
        assert_eq!(problem(b"GET / HTTP/3.0\r\n\r\n").await, Problem::Version);
        assert_eq!(problem(b"GET / HTTP/1.1\r\n\r\n").await, Problem::NoHost);
        assert_eq!(problem(b"GET none HTTP/1.1\r\nHost: a\r\n\r\n").await, Problem::Target);
        assert_eq!(problem(b"GET / HTTP/1.1\r\nHost: a\r\nBad\r\n\r\n").await, Problem::Field);
        assert_eq!(problem(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n").await, Problem::Length);
        assert_eq!(
            problem(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999\r\n\r\n").await,
            Problem::BodyTooLarge
        );
        assert_eq!(problem(format!("GET /{} HTTP/1.1\r\n", "a".repeat(9000)).as_bytes()).await, Problem::LineTooLong);
        assert_eq!(
            problem(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n").await,
            Problem::Coding
        );
        assert!(matches!(read(b"GET /\r\n").await, Incoming::Simple(target) if target == "/"));
    }

    #[test]
    fn a_path_does_not_climb_out() {
        let path = |target: &str| Request { target: target.into(), ..Request::default() }.path();
        assert_eq!(path("/../etc/passwd"), None);
        assert_eq!(path("/a/%2e%2e/%2e%2e/x"), None);
        assert_eq!(path("http://x.y/none?z"), Some("/none".into()));
        assert_eq!(path("/a//b/"), Some("/a/b/".into()));
        assert_eq!(path("//..//x"), None);
        assert_eq!(path("/a//../x"), Some("/x".into()));
    }
}
