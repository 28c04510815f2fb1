//! The second connection of FTP: only ever one that the client makes, and only from the client's own address.

use std::{io, net::IpAddr, time::Duration};

use tokio::net::{TcpListener, TcpStream};

/// How long a client may take to come.
const PATIENCE: Duration = Duration::from_secs(30);
/// Passive ports are tried in this many places of their range.
const TRIES: u16 = 40;
/// First passive port and how many there are.
const FIRST: u16 = 49_200;
const COUNT: u16 = 8_000;

/// A port that waits for the client.
pub struct Passive {
    listener: TcpListener,
}

impl Passive {
    /// On the decky's address.
    pub async fn bind(address: IpAddr) -> io::Result<Passive> {
        let start = rand::random_range(0..COUNT);
        for step in 0..TRIES {
            let port = FIRST + (start + step * 37) % COUNT;
            match TcpListener::bind((address, port)).await {
                Ok(listener) => return Ok(Passive { listener }),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.listener.local_addr().map_or(0, |address| address.port())
    }

    /// The client's connection; those of others are dropped.
    pub async fn accept(self, client: IpAddr) -> io::Result<TcpStream> {
        let wait = async {
            loop {
                let (stream, peer) = self.listener.accept().await?;
                if peer.ip() == client {
                    return Ok(stream);
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}
