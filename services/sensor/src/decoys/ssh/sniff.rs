//! The connection below the SSH library: answers what is no SSH as sshd does, and reads what the client offers.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::{
    fingerprint,
    session::{EventType, Session, Stream},
};

/// Longest first line of a client.
const MAX_LINE: usize = 255;
/// Longest key exchange that is looked at.
const MAX_KEXINIT: usize = 32 << 10;
/// How long a client's key exchange is waited for: nearly all send it with their first line.
const GRACE: Duration = Duration::from_millis(150);

/// A connection whose identification lines are exchanged already: the library's own is swallowed, the client's is read
/// again.
pub struct Sniffed {
    stream: Stream,
    /// Read by us and not yet by the library.
    ahead: Vec<u8>,
    read: usize,
    /// Of the library's own line, still to be swallowed.
    swallow: usize,
    /// What the client said after its line, until its key exchange is whole.
    seen: Option<Vec<u8>>,
    /// The host keys that it takes, in its order, as soon as it has said so.
    host_keys: Vec<String>,
    session: Session,
}

impl Sniffed {
    /// Exchanges the identification lines; none when the client does not speak SSH 2.
    pub async fn greet(mut stream: Stream, banner: &str, session: &Session) -> io::Result<Option<Sniffed>> {
        let line = format!("{banner}\r\n");
        stream.write_all(line.as_bytes()).await?;
        stream.flush().await?;
        let mut first = Vec::new();
        let mut buffer = [0; 256];
        let end = loop {
            if let Some(end) = first.iter().position(|byte| *byte == b'\n') {
                break end;
            }
            if first.len() > MAX_LINE {
                break first.len();
            }
            let count = stream.read(&mut buffer).await?;
            if count == 0 {
                if first.is_empty() {
                    session.emit(
                        EventType::Scan,
                        "left before it said anything",
                        &[("kind", "empty_connection"), ("detail", "ssh")],
                    );
                }
                return Ok(None);
            }
            first.extend_from_slice(buffer.get(..count).unwrap_or_default());
        };
        let said = first.get(..end).unwrap_or_default();
        let said = said.strip_suffix(b"\r").unwrap_or(said);
        if !said.starts_with(b"SSH-2.0-") && !said.starts_with(b"SSH-1.99-") || said.len() > MAX_LINE - 2 {
            let told = crate::session::escaped(said, 512);
            session.emit(EventType::Unknown, "first line is no SSH", &[("data", &told)]);
            let kind = if said.starts_with(b"GET ") || said.starts_with(b"OPTIONS ") || said.starts_with(b"HEAD ") {
                "http_method"
            } else {
                "malformed"
            };
            session.emit(EventType::Scan, "no client of SSH", &[("kind", kind), ("detail", &told)]);
            // What sshd says to those who are none of its clients, and to those of the old protocol.
            let answer: &[u8] = if said.starts_with(b"SSH-") {
                b"Protocol major versions differ.\n"
            } else {
                b"Invalid SSH identification string.\r\n"
            };
            stream.write_all(answer).await?;
            stream.shutdown().await?;
            return Ok(None);
        }
        session.learn("client_banner", crate::session::escaped(said, 255));
        let rest = first.get(end + 1..).unwrap_or_default().to_vec();
        let mut sniffed = Sniffed {
            stream,
            ahead: first,
            read: 0,
            swallow: line.len(),
            seen: Some(Vec::new()),
            host_keys: Vec::new(),
            session: session.clone(),
        };
        sniffed.look(&rest);
        Ok(Some(sniffed))
    }

    /// Whether this client may come to have the RSA key among these host keys. It is read on until its key exchange is
    /// whole; of one that waits for ours first it is not known, so it may.
    pub async fn may_want_rsa(&mut self, ours: &[&str]) -> io::Result<bool> {
        let reading = async {
            let mut buffer = [0; 2048];
            // No more than a key exchange and what comes with it: then it is seen, or is none.
            while self.seen.is_some() {
                let count = self.stream.read(&mut buffer).await?;
                if count == 0 {
                    self.seen = None;
                }
                let new = buffer.get(..count).unwrap_or_default();
                self.ahead.extend_from_slice(new);
                self.look(new);
            }
            io::Result::Ok(())
        };
        match tokio::time::timeout(GRACE, reading).await {
            Ok(read) => read?,
            Err(_) => return Ok(true),
        }
        // The first of the client's that is one of ours, as RFC 4253 has it.
        let first = self.host_keys.iter().find(|name| ours.contains(&name.as_str()));
        Ok(first.is_some_and(|name| name.contains("rsa")))
    }

    /// Looks for the client's key exchange in what it says after its line.
    fn look(&mut self, bytes: &[u8]) {
        let Some(seen) = &mut self.seen else { return };
        seen.extend_from_slice(bytes.get(..bytes.len().min(MAX_KEXINIT)).unwrap_or_default());
        let Some((head, rest)) = seen.split_at_checked(5) else { return };
        let length = head.get(..4).and_then(|length| length.try_into().ok()).map_or(0, u32::from_be_bytes);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if !(12..=MAX_KEXINIT).contains(&length) {
            self.seen = None;
            return;
        }
        let padding = usize::from(head.get(4).copied().unwrap_or(0));
        if rest.len() + 1 < length {
            return;
        }
        if let Some(payload) = rest.get(..length.saturating_sub(1 + padding))
            && let Some((algorithms, hassh)) = fingerprint::hassh_of(payload)
        {
            self.session.learn("hassh", hassh);
            self.session.learn("hassh_algorithms", algorithms);
            self.host_keys = fingerprint::host_keys_of(payload).unwrap_or_default();
        }
        self.seen = None;
    }
}

impl AsyncRead for Sniffed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(ahead) = this.ahead.get(this.read..).filter(|ahead| !ahead.is_empty()) {
            let count = ahead.len().min(buf.remaining());
            buf.put_slice(ahead.get(..count).unwrap_or_default());
            this.read += count;
            if this.read == this.ahead.len() {
                this.ahead = Vec::new();
                this.read = 0;
            }
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        if this.seen.is_some() && matches!(polled, Poll::Ready(Ok(()))) {
            let new = buf.filled().get(before..).unwrap_or_default().to_vec();
            this.look(&new);
        }
        polled
    }
}

impl AsyncWrite for Sniffed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.swallow > 0 {
            let count = this.swallow.min(bytes.len());
            this.swallow -= count;
            return Poll::Ready(Ok(count));
        }
        Pin::new(&mut this.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
