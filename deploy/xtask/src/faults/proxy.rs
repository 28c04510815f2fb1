//! A loopback proxy in front of each store and role: through it, all that goes there can be made slow.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::ports;

/// What is passed on at once; with a delay, that is the bandwidth too.
const PIECE: usize = 32 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    /// Whether it listens: a connection to a server that is away is refused, not taken and dropped.
    open: bool,
    delay: Duration,
}

/// One of them. It listens as long as it is kept.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where it leads.
    pub behind: SocketAddr,
    state: watch::Sender<State>,
}

impl Proxy {
    /// One that leads to `behind`; begins to listen at once.
    pub fn new(behind: SocketAddr) -> Result<Proxy> {
        let address = ports::local(ports::free()?);
        let state = watch::Sender::new(State { open: true, delay: Duration::ZERO });
        tokio::spawn(listen(address, behind, state.subscribe()));
        Ok(Proxy { address, behind, state })
    }

    /// Connections are refused, or taken again.
    pub fn open(&self, open: bool) {
        self.state.send_modify(|state| state.open = open);
    }

    /// Each piece that passes takes so much longer, either way.
    pub fn delay(&self, delay: Duration) {
        self.state.send_modify(|state| state.delay = delay);
    }

    /// This text with the proxy's address in place of the server's.
    pub fn in_place(&self, text: &str) -> Result<String> {
        let (theirs, ours) = (self.behind.to_string(), self.address.to_string());
        let with_name = format!("localhost:{}", self.behind.port());
        let changed = text.replace(&theirs, &ours).replace(&with_name, &ours);
        (changed != text).then_some(changed).with_context(|| format!("{theirs} is not where a store is said to be"))
    }
}

async fn listen(address: SocketAddr, behind: SocketAddr, mut state: watch::Receiver<State>) {
    loop {
        if state.wait_for(|state| state.open).await.is_err() {
            return;
        }
        let Ok(listener) = TcpListener::bind(address).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                closed = state.wait_for(|state| !state.open) => match closed {
                    Ok(_) => break,
                    Err(_) => return,
                },
            };
            match accepted {
                Ok((client, _)) => {
                    tokio::spawn(lead(client, behind, state.clone()));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }
}

async fn lead(client: TcpStream, behind: SocketAddr, state: watch::Receiver<State>) {
    let Ok(server) = TcpStream::connect(behind).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let there = tokio::spawn(pass(from_client, to_server, state.clone()));
    // A side that has ended may still be answered; one that broke is broken for both.
    if pass(from_server, to_client, state).await.is_err() {
        there.abort();
    }
    let _ = tokio::time::timeout(Duration::from_secs(1), there).await;
}

async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    state: watch::Receiver<State>,
) -> std::io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let read = from.read(&mut piece).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        let delay = state.borrow().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        to.write_all(&piece[..read]).await?;
    }
}
