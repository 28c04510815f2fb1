//! A connection with a small buffer: lines and exact pieces of what a client sends, each with a bound.

use std::{
    fmt::Write as _,
    io,
    sync::atomic::{AtomicUsize, Ordering},
};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// What is read at once, and all that an idle connection keeps.
const CHUNK: usize = 4096;

/// What all connections together may hold of things larger than a line: bodies of requests, values.
const HELD: usize = 64 * 1024 * 1024;

static HOLDING: AtomicUsize = AtomicUsize::new(0);

/// A part of what all connections together may hold, until it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Held(usize);

impl Held {
    /// So much more; false when all of them hold too much already.
    pub(crate) fn more(&mut self, bytes: usize) -> bool {
        if HOLDING.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) > HELD {
            HOLDING.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.0 = self.0.saturating_add(bytes);
        true
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HOLDING.fetch_sub(self.0, Ordering::Relaxed);
    }
}

/// A line of a client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Without its end.
    Whole(Vec<u8>),
    /// Longer than it may be; it is still there, unread.
    TooLong,
    /// The client left; what it sent before that.
    End(Vec<u8>),
}

/// A connection with what was read and not yet used.
pub(crate) struct Buffered<S> {
    inner: S,
    buffer: Vec<u8>,
    at: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Buffered<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { inner, buffer: Vec::new(), at: 0 }
    }

    /// The connection and what nobody has used.
    pub(crate) fn into_parts(self) -> (S, Vec<u8>) {
        let rest = self.buffer.get(self.at..).unwrap_or_default().to_vec();
        (self.inner, rest)
    }

    /// What was read and not yet used.
    pub(crate) fn unread(&self) -> &[u8] {
        self.buffer.get(self.at..).unwrap_or_default()
    }

    /// Some of it was used.
    pub(crate) fn used(&mut self, bytes: usize) {
        self.at = self.at.saturating_add(bytes).min(self.buffer.len());
        if self.at == self.buffer.len() {
            self.at = 0;
            self.buffer.clear();
            if self.buffer.capacity() > CHUNK {
                self.buffer = Vec::new();
            }
        }
    }

    /// Reads more; false when the client left.
    pub(crate) async fn more(&mut self) -> io::Result<bool> {
        if self.at > 0 {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        self.buffer.reserve(CHUNK.saturating_sub(self.buffer.len()).max(CHUNK / 4));
        Ok(self.inner.read_buf(&mut self.buffer).await? > 0)
    }

    /// The next line, of at most `most` bytes.
    pub(crate) async fn line(&mut self, most: usize) -> io::Result<Line> {
        let mut looked = 0;
        loop {
            let unread = self.unread();
            if let Some(end) = unread.iter().skip(looked).position(|byte| *byte == b'\n').map(|at| at + looked) {
                if end > most {
                    return Ok(Line::TooLong);
                }
                let mut line = unread.get(..end).unwrap_or_default().to_vec();
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                self.used(end + 1);
                return Ok(Line::Whole(line));
            }
            looked = unread.len();
            if looked > most {
                return Ok(Line::TooLong);
            }
            if !self.more().await? {
                let rest = self.unread().to_vec();
                self.used(rest.len());
                return Ok(Line::End(rest));
            }
        }
    }

    /// Throws away what is there up to the end of the line; false when the client left before it.
    pub(crate) async fn skip_line(&mut self) -> io::Result<bool> {
        loop {
            let unread = self.unread();
            if let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
                self.used(end + 1);
                return Ok(true);
            }
            let all = unread.len();
            self.used(all);
            if !self.more().await? {
                return Ok(false);
            }
        }
    }

    /// Exactly so many bytes. The caller has bounded the number.
    pub(crate) async fn exactly(&mut self, bytes: usize) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        while all.len() < bytes {
            if self.unread().is_empty() && !self.more().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let missing = bytes - all.len();
            let part = self.unread().get(..missing).unwrap_or(self.unread()).to_vec();
            self.used(part.len());
            all.extend_from_slice(&part);
        }
        Ok(all)
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.inner.write_all(bytes).await?;
        self.inner.flush().await
    }

    /// Ends the connection so that the client gets the last answer: what it still sends is read, for a moment.
    pub(crate) async fn close(&mut self) {
        let _ = self.inner.shutdown().await;
        let all = self.unread().len();
        self.used(all);
        let _ = tokio::time::timeout(std::time::Duration::from_secs(2), async {
            let mut left = 256;
            while left > 0 && matches!(self.more().await, Ok(true)) {
                let all = self.unread().len();
                self.used(all);
                left -= 1;
            }
        })
        .await;
    }
}

/// Bytes of a client as text: what is no UTF-8 and no printable sign becomes `\xNN`, at most `most` bytes of them.
pub(crate) fn readable(bytes: &[u8], most: usize) -> String {
    let bytes = bytes.get(..most).unwrap_or(bytes);
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for sign in chunk.valid().chars() {
            if sign.is_control() && !matches!(sign, '\n' | '\r' | '\t') {
                let mut code = [0; 4];
                for byte in sign.encode_utf8(&mut code).bytes() {
                    let _ = write!(text, "\\x{byte:02x}");
                }
            } else {
                text.push(sign);
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_have_a_bound() {
        let (mut client, server) = tokio::io::duplex(64);
        let task = tokio::spawn(async move {
            client.write_all(b"one\r\ntwo\n").await.unwrap();
            client.write_all(&[b'x'; 9000]).await.unwrap();
            client.write_all(b"\nlast").await.unwrap();
        });
        let mut buffered = Buffered::new(server);
        assert_eq!(buffered.line(100).await.unwrap(), Line::Whole(b"one".to_vec()));
        assert_eq!(buffered.line(100).await.unwrap(), Line::Whole(b"two".to_vec()));
        assert_eq!(buffered.line(8192).await.unwrap(), Line::TooLong);
        assert!(buffered.skip_line().await.unwrap());
        assert_eq!(buffered.line(100).await.unwrap(), Line::End(b"last".to_vec()));
        task.await.unwrap();
    }

    #[test]
    fn bytes_are_shown() {
        assert_eq!(readable(b"a\xffb\x00\xc3\xa4", 100), "a\\xffb\\x00ä");
        assert_eq!(readable(b"abcdef", 3), "abc");
    }
}
