//! The protocol of Redis: commands in, answers out, each with a bound.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::decoys::lines::{Buffered, Held, Line};

/// A command has at most so many parts …
const PARTS: usize = 16 * 1024;
/// … of this many bytes in all.
const BYTES: usize = 1024 * 1024;
/// An answer.
const ANSWER: usize = 8 * 1024 * 1024;
/// A line without lengths.
const INLINE: usize = 8 * 1024;

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    /// A command; it may be empty.
    Command(Vec<Vec<u8>>),
    /// It broke the protocol: this is said, and the connection ended.
    Broken(String),
    /// The client left; what it had begun.
    End(Vec<u8>),
}

/// The next command. Who has not logged in may send less.
pub(super) async fn command<S>(conn: &mut Buffered<S>, known: bool) -> io::Result<Incoming>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let broken = |text: &str| Ok(Incoming::Broken(format!("ERR Protocol error: {text}")));
    let line = match conn.line(INLINE).await? {
        Line::Whole(line) => line,
        Line::TooLong => return broken("too big inline request"),
        Line::End(rest) => return Ok(Incoming::End(rest)),
    };
    let Some(count) = line.strip_prefix(b"*") else {
        return match split(&line) {
            Some(parts) => Ok(Incoming::Command(parts)),
            None => broken("unbalanced quotes in request"),
        };
    };
    let Some(count) = number(count).filter(|count| *count <= 1024 * 1024) else {
        return broken("invalid multibulk length");
    };
    let count = usize::try_from(count).unwrap_or(0);
    if !known && count > 10 {
        return broken("unauthenticated multibulk length");
    }
    if count > PARTS {
        return broken("invalid multibulk length");
    }
    let (mut parts, mut size, mut held) = (Vec::new(), 0usize, Held::default());
    while parts.len() < count {
        let line = match conn.line(INLINE).await? {
            Line::Whole(line) => line,
            Line::TooLong => return broken("too big bulk count string"),
            Line::End(rest) => return Ok(Incoming::End(rest)),
        };
        let Some(length) = line.strip_prefix(b"$") else {
            let found = line.first().copied().map_or(' ', char::from);
            return broken(&format!("expected '$', got '{found}'"));
        };
        let Some(length) = number(length).and_then(|length| usize::try_from(length).ok()) else {
            return broken("invalid bulk length");
        };
        if !known && length > 16_384 {
            return broken("unauthenticated bulk length");
        }
        size = size.saturating_add(length);
        if size > BYTES {
            return broken("invalid bulk length");
        }
        // What many clients begin and do not end is bounded for all of them together.
        if length > INLINE && !held.more(length) {
            return broken("invalid bulk length");
        }
        let part = conn.exactly(length).await?;
        // The line's end is not looked at, as Redis does not.
        conn.exactly(2).await?;
        parts.push(part);
    }
    Ok(Incoming::Command(parts))
}

fn number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok().filter(|text| text.len() <= 20)?.parse().ok()
}

/// Parts of a line as a person types it; none when a quote is open.
fn split(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut parts = Vec::new();
    let mut bytes = line.iter().copied().peekable();
    loop {
        while bytes.next_if(u8::is_ascii_whitespace).is_some() {}
        let Some(first) = bytes.peek().copied() else {
            return Some(parts);
        };
        let mut part = Vec::new();
        if first == b'"' || first == b'\'' {
            bytes.next();
            loop {
                match bytes.next()? {
                    byte if byte == first => break,
                    b'\\' if first == b'"' => match bytes.next()? {
                        b'n' => part.push(b'\n'),
                        b'r' => part.push(b'\r'),
                        b't' => part.push(b'\t'),
                        b'b' => part.push(8),
                        b'a' => part.push(7),
                        b'x' => {
                            let (high, low) = (hex(bytes.next()?)?, hex(bytes.next()?)?);
                            part.push(high << 4 | low);
                        }
                        byte => part.push(byte),
                    },
                    b'\\' if bytes.next_if_eq(&b'\'').is_some() => part.push(b'\''),
                    byte => part.push(byte),
                }
            }
            if bytes.peek().is_some_and(|byte| !byte.is_ascii_whitespace()) {
                return None;
            }
        } else {
            while let Some(byte) = bytes.next_if(|byte| !byte.is_ascii_whitespace()) {
                part.push(byte);
            }
        }
        parts.push(part);
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Answers, one after the other.
#[derive(Default)]
pub(super) struct Reply {
    pub(super) bytes: Vec<u8>,
    /// Whether the client asked for the third version of the protocol.
    pub(super) third: bool,
}

impl Reply {
    fn line(&mut self, kind: char, text: &str) {
        if self.over() {
            return;
        }
        self.bytes.push(u8::try_from(kind).unwrap_or(b'+'));
        self.bytes.extend_from_slice(text.replace(['\r', '\n'], " ").as_bytes());
        self.bytes.extend_from_slice(b"\r\n");
    }

    pub(super) fn ok(&mut self) {
        self.line('+', "OK");
    }

    pub(super) fn simple(&mut self, text: &str) {
        self.line('+', text);
    }

    pub(super) fn error(&mut self, text: &str) {
        self.line('-', text);
    }

    pub(super) fn number(&mut self, number: i64) {
        self.line(':', &number.to_string());
    }

    pub(super) fn count(&mut self, count: usize) {
        self.number(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(super) fn nil(&mut self) {
        self.bytes.extend_from_slice(if self.third { b"_\r\n" } else { b"$-1\r\n" });
    }

    /// Whether it is longer than an answer may be: the connection is ended then, as Redis does with clients that do not
    /// read.
    pub(super) fn over(&self) -> bool {
        self.bytes.len() > ANSWER
    }

    pub(super) fn text(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        if self.over() {
            return;
        }
        self.line('$', &bytes.len().to_string());
        self.bytes.extend_from_slice(bytes);
        self.bytes.extend_from_slice(b"\r\n");
    }

    pub(super) fn maybe(&mut self, bytes: Option<impl AsRef<[u8]>>) {
        match bytes {
            Some(bytes) => self.text(bytes),
            None => self.nil(),
        }
    }

    pub(super) fn array(&mut self, length: usize) {
        self.line('*', &length.to_string());
    }

    /// Pairs: a map in the third version, else one list of both.
    pub(super) fn map(&mut self, pairs: usize) {
        if self.third {
            self.line('%', &pairs.to_string());
        } else {
            self.array(pairs * 2);
        }
    }

    pub(super) fn texts<T: AsRef<[u8]>>(&mut self, texts: impl IntoIterator<Item = T>) {
        let texts: Vec<T> = texts.into_iter().collect();
        self.array(texts.len());
        for text in texts {
            self.text(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    async fn read(bytes: &[u8]) -> Incoming {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        command(&mut Buffered::new(server), true).await.unwrap()
    }

    fn parts(parts: &[&[u8]]) -> Incoming {
        Incoming::Command(parts.iter().map(|part| part.to_vec()).collect())
    }

    #[tokio::test]
    async fn commands_are_read() {
        assert_eq!(read(b"*2\r\n$3\r\nGET\r\n$2\r\n\r\n\r\n").await, parts(&[b"GET", b"\r\n"]));
        assert_eq!(read(b"set a \"b \\x41\\n\" 'c'\r\n").await, parts(&[b"set", b"a", b"b A\n", b"c"]));
        assert_eq!(read(b"\r\n").await, parts(&[]));
        assert_eq!(read(b"*-1\r\n").await, parts(&[]));
        let broken = |text: &str| Incoming::Broken(format!("ERR Protocol error: {text}"));
        assert_eq!(read(b"set \"a\r\n").await, broken("unbalanced quotes in request"));
        assert_eq!(read(b"*1\r\nabc\r\n").await, broken("expected '$', got 'a'"));
        assert_eq!(read(b"*1\r\n$-5\r\n").await, broken("invalid bulk length"));
        assert_eq!(read(b"*1\r\n$999999999\r\n").await, broken("invalid bulk length"));
        assert_eq!(read(b"*99999999\r\n").await, broken("invalid multibulk length"));
        assert_eq!(read(&[b'x'; 9000]).await, broken("too big inline request"));
    }
}
