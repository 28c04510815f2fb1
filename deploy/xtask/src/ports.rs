//! Free ports, and simple probes of what listens on them.

use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::BuildHasher as _;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// Below the range from which systems draw ports for outgoing connections, so that none is taken
/// between the choice and its use.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

static NEXT: LazyLock<Mutex<u16>> = LazyLock::new(|| {
    // A random start keeps two runs at the same time apart.
    let start = RandomState::new().hash_one(std::process::id()) % u64::from(COUNT);
    Mutex::new(u16::try_from(start).unwrap_or(0))
});

/// A port on the loopback address that nobody uses and that was not given out before.
pub fn free() -> Result<u16> {
    for _ in 0..COUNT {
        let port = {
            let mut next = NEXT.lock().map_err(|_| anyhow::anyhow!("port list lost"))?;
            *next = (*next + 1) % COUNT;
            FIRST + *next
        };
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port between {FIRST} and {}", FIRST + COUNT)
}

/// Sends `request` to a local port and gives the first bytes of the answer.
pub fn ask(address: SocketAddr, request: &[u8]) -> Result<Vec<u8>> {
    let patience = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.write_all(request)?;
    let mut answer = [0_u8; 64];
    let read = stream.read(&mut answer)?;
    Ok(answer[..read].to_vec())
}

/// The loopback address with `port`.
pub fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Whether `GET path` answers 200.
pub fn http_ok(address: SocketAddr, path: &str) -> bool {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    ask(address, request.as_bytes()).is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200"))
}

/// `bytes` random bytes as hexadecimal digits.
pub fn random_hex(bytes: usize) -> Result<String> {
    let mut random = vec![0_u8; bytes];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut random)).context("cannot read /dev/urandom")?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}
