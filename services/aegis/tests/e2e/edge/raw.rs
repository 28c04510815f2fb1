//! Bytes as no client would send them.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// So long a connection may take to end that has to.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Sends `bytes`, as far as they are taken, and reads what comes until the other side hangs up.
pub async fn exchange(address: &str, bytes: &[u8]) -> String {
    let stream = TcpStream::connect(address).await.expect("a connection");
    let (mut from, mut to) = stream.into_split();
    let mut answer = Vec::new();
    let both = async {
        tokio::join!(
            async {
                // It may be hung up on in the middle.
                let _ = to.write_all(bytes).await;
            },
            async {
                let _ = from.read_to_end(&mut answer).await;
            },
        )
    };
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
    tokio::time::timeout(PATIENCE, both).await.unwrap_or_else(|_| panic!("the connection stays open after {shown:?}"));
    String::from_utf8_lossy(&answer).into_owned()
}

/// The answers in what was read, by their status lines.
pub fn statuses(text: &str) -> Vec<u16> {
    let parts = text.split("HTTP/1.1 ").skip(1);
    parts.filter_map(|part| part.get(..3)?.parse().ok()).collect()
}

/// Lets this process have as many connections as the system allows; how many that is.
pub fn room() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(files).unwrap_or(usize::MAX).saturating_sub(300)
}
