//! A small HTTP client: a connection a request, so that nothing of an earlier one is in the way.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// No answer of the product takes longer: the gateway ends a request after thirty seconds.
pub const LIMIT: Duration = Duration::from_secs(33);

/// Somebody who asks.
#[derive(Clone, Debug)]
pub struct Client {
    /// Where the gateway is.
    pub address: SocketAddr,
    /// What it shows.
    pub token: Option<String>,
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Ask {
    method: &'static str,
    path: String,
    body: Bytes,
    headers: Vec<(&'static str, String)>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Ask {
    /// Without a body. A path that does not begin with `/api` or `//` is below `/api/v1`.
    pub fn new(method: &'static str, path: impl Into<String>) -> Ask {
        let path = path.into();
        let path = match path.strip_prefix("//") {
            Some(rest) => format!("/{rest}"),
            None if path.starts_with("/api/") => path,
            None => format!("/api/v1{path}"),
        };
        Ask { method, path, body: Bytes::new(), headers: Vec::new() }
    }

    /// A GET.
    pub fn get(path: impl Into<String>) -> Ask {
        Ask::new("GET", path)
    }

    /// A POST of JSON.
    pub fn post(path: impl Into<String>, body: &Value) -> Ask {
        Ask::new("POST", path).with("application/json", body.to_string())
    }

    /// With this body.
    pub fn with(mut self, kind: &str, body: impl Into<Bytes>) -> Ask {
        self.body = body.into();
        self.headers.push(("content-type", kind.to_owned()));
        self
    }

    /// With a header more.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Ask {
        self.headers.push((name, value.into()));
        self
    }

    /// A file as a browser sends it.
    pub fn upload(path: impl Into<String>, name: &str, file: &[u8]) -> Ask {
        const EDGE: &str = "faults-4f1c9a7e2b";
        let mut body = format!(
            "--{EDGE}\r\nContent-Disposition: form-data; name=\"team\"\r\n\r\nred\r\n--{EDGE}\r\nContent-Disposition: \
             form-data; name=\"file\"; filename=\"{name}\"\r\nContent-Type: application/octet-stream\r\n\r\n"
        )
        .into_bytes();
        body.extend_from_slice(file);
        body.extend_from_slice(format!("\r\n--{EDGE}--\r\n").as_bytes());
        Ask::new("POST", path).with(&format!("multipart/form-data; boundary={EDGE}"), body)
    }
}

impl Reply {
    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The beginning of the body.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).chars().take(300).collect()
    }

    /// A header, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl Client {
    /// The same with another token.
    pub fn with_token(&self, token: &str) -> Client {
        Client { address: self.address, token: Some(token.to_owned()) }
    }

    /// The whole answer, and how long it took. An error is no answer.
    pub async fn ask(&self, ask: &Ask) -> (Result<Reply>, Duration) {
        let since = Instant::now();
        let reply = async {
            let answer = self.head(ask).await?;
            let (head, body) = answer.into_parts();
            let body = body.collect().await?.to_bytes();
            anyhow::Ok(Reply { status: head.status.as_u16(), headers: head.headers, body })
        };
        let reply = tokio::time::timeout(LIMIT, reply).await;
        (reply.unwrap_or_else(|_| Err(anyhow!("none within {} s", LIMIT.as_secs()))), since.elapsed())
    }

    /// The head of the answer; the body is still to be read.
    pub async fn head(&self, ask: &Ask) -> Result<Response<Incoming>> {
        send(self.address, ask, self.token.as_deref()).await
    }

    /// The JSON of an answer that must be 2xx.
    pub async fn must(&self, ask: &Ask) -> Result<Value> {
        let reply = self.ask(ask).await.0.with_context(|| format!("{} {}", ask.method, ask.path))?;
        if !(200..300).contains(&reply.status) {
            return Err(anyhow!("{} {} answered {}: {}", ask.method, ask.path, reply.status, reply.text()));
        }
        Ok(reply.json())
    }

    /// What a link leads to: a whole URL, which needs no token, or a path here.
    pub async fn follow(&self, link: &str) -> Result<Reply> {
        let (address, path) = match link.strip_prefix("http://") {
            Some(rest) => {
                let (host, path) = rest.split_once('/').context("a link has no path")?;
                (host.parse()?, format!("/{path}"))
            }
            None => (self.address, link.to_owned()),
        };
        let ask = Ask { method: "GET", path, body: Bytes::new(), headers: Vec::new() };
        let answer = tokio::time::timeout(LIMIT, async {
            let (head, body) = send(address, &ask, None).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            anyhow::Ok(Reply { status: head.status.as_u16(), headers: head.headers, body })
        });
        answer.await.context("a link is not answered")?
    }
}

async fn send(address: SocketAddr, ask: &Ask, token: Option<&str>) -> Result<Response<Incoming>> {
    let stream = TcpStream::connect(address).await.context("cannot connect")?;
    stream.set_nodelay(true)?;
    let (mut connection, driver) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        // Its end is seen by the request.
        let _ = driver.await;
    });
    let mut request = Request::builder().method(ask.method).uri(&ask.path).header(HOST, address.to_string());
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    for (name, value) in &ask.headers {
        request = request.header(*name, value);
    }
    Ok(connection.send_request(request.body(Full::new(ask.body.clone()))?).await?)
}
