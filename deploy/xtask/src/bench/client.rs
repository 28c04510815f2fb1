//! One HTTP/1.1 connection that stays open, and a closed loop over many.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, StatusCode,
    body::Bytes,
    client::conn::http1::{self, SendRequest},
    header::{AUTHORIZATION, CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// A connection, with the token that it sends.
pub struct Client {
    address: String,
    token: Option<String>,
    connection: SendRequest<Full<Bytes>>,
}

impl Client {
    /// Connects.
    pub async fn connect(address: &str, token: Option<String>) -> Result<Client> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        let (connection, driver) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            // The end of the connection is seen by the next request.
            let _ = driver.await;
        });
        Ok(Client { address: address.to_owned(), token, connection })
    }

    /// One more connection for the same user.
    pub async fn another(&self) -> Result<Client> {
        Client::connect(&self.address, self.token.clone()).await
    }

    /// Sends this token from now on.
    pub fn set_token(&mut self, token: Option<String>) {
        self.token = token;
    }

    /// Where it is connected to.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The token that it sends.
    pub fn token(&self) -> Option<String> {
        self.token.clone()
    }

    async fn call(&mut self, method: Method, path: &str, body: Option<&Value>) -> Result<(StatusCode, Bytes)> {
        let mut request = Request::builder().method(method).uri(path).header(HOST, &self.address);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let bytes = match body {
            Some(body) => {
                request = request.header(CONTENT_TYPE, "application/json");
                Bytes::from(serde_json::to_vec(body)?)
            }
            None => Bytes::new(),
        };
        self.connection.ready().await?;
        let answer = self.connection.send_request(request.body(Full::new(bytes))?).await?;
        let status = answer.status();
        Ok((status, answer.into_body().collect().await?.to_bytes()))
    }

    /// The bytes of a page.
    pub async fn get_bytes(&mut self, path: &str) -> Result<Bytes> {
        let (status, bytes) = self.call(Method::GET, path, None).await?;
        if status != StatusCode::OK {
            bail!("GET {path} answered {status}: {}", String::from_utf8_lossy(&bytes));
        }
        Ok(bytes)
    }

    /// Reads a page that is too large to keep; gives its bytes and its lines.
    pub async fn drain(&mut self, path: &str) -> Result<(u64, u64)> {
        let mut request = Request::get(path).header(HOST, &self.address);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        self.connection.ready().await?;
        let answer = self.connection.send_request(request.body(Full::default())?).await?;
        if answer.status() != StatusCode::OK {
            bail!("GET {path} answered {}", answer.status());
        }
        let mut body = answer.into_body();
        let (mut bytes, mut lines) = (0, 0);
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            bytes += data.len() as u64;
            lines += data.iter().filter(|byte| **byte == b'\n').count() as u64;
        }
        Ok((bytes, lines))
    }

    /// The JSON of a page.
    pub async fn get(&mut self, path: &str) -> Result<Value> {
        Ok(serde_json::from_slice(&self.get_bytes(path).await?)?)
    }

    /// Sends and wants this status.
    pub async fn send(&mut self, method: &str, path: &str, body: Option<&Value>, want: u16) -> Result<Value> {
        let (status, bytes) = self.call(method.parse()?, path, body).await?;
        if status.as_u16() != want {
            bail!("{method} {path} answered {status}, not {want}: {}", String::from_utf8_lossy(&bytes));
        }
        Ok(serde_json::from_slice(&bytes)?)
    }
}

/// Requests a second of so many connections, each asking again as soon as it has its answer.
pub async fn rate(
    address: &str,
    path: &'static str,
    token: Option<String>,
    connections: usize,
    load: Duration,
) -> Result<f64> {
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(Client::connect(address, token.clone()).await?);
    }
    let began = Instant::now();
    let mut loops = tokio::task::JoinSet::new();
    for mut client in clients {
        loops.spawn(async move {
            let mut count = 0_u64;
            while began.elapsed() < load {
                client.get_bytes(path).await?;
                count += 1;
            }
            anyhow::Ok(count)
        });
    }
    let mut total = 0;
    while let Some(count) = loops.join_next().await {
        total += count??;
    }
    Ok(total as f64 / began.elapsed().as_secs_f64())
}
