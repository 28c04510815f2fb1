//! Reading what clients send, byte by byte: every length is checked before it is believed.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// The most that is read at once into new memory, whatever length the client names.
const STEP: usize = 4_096;

/// The message broke the protocol.
pub(super) fn broken(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Bytes of a message that are taken from the front.
#[derive(Clone, Copy)]
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl<'a> Bytes<'a> {
    /// That many.
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// An array of them.
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    /// One.
    pub(super) fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Two, the highest first.
    pub(super) fn be16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// Four, the highest first.
    pub(super) fn be32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// Two, the lowest first.
    pub(super) fn le16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    /// Four, the lowest first.
    pub(super) fn le32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// Up to a zero, which is taken too.
    pub(super) fn until_zero(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let taken = self.take(end)?;
        self.byte()?;
        Some(taken)
    }

    /// All that is left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// Whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Reads exactly that many bytes; memory grows with what came, not with what was announced.
pub(super) async fn read_exactly<R: AsyncRead + Unpin>(reader: &mut R, count: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(count.min(STEP));
    while bytes.len() < count {
        let begin = bytes.len();
        bytes.resize(count.min(begin + STEP.max(begin)), 0);
        let Some(new) = bytes.get_mut(begin..) else { return Err(broken("length")) };
        reader.read_exact(new).await?;
    }
    Ok(bytes)
}

/// A text of bytes; what is no UTF-8, and what would disturb a terminal, is written as `\xNN`.
pub(super) fn text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() && !matches!(c, '\n' | '\t') {
                let mut utf8 = [0; 4];
                for byte in c.encode_utf8(&mut utf8).bytes() {
                    text.push_str(&format!("\\x{byte:02x}"));
                }
            } else {
                text.push(c);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// The beginning of a text, of at most that many bytes.
pub(super) fn cut(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn memory_grows_with_what_came() {
        let mut short: &[u8] = &[1, 2, 3];
        assert!(read_exactly(&mut short, 1 << 40).await.is_err());
        let long = vec![7; 10_000];
        assert_eq!(read_exactly(&mut long.as_slice(), 10_000).await.unwrap(), long);
    }

    #[test]
    fn texts_are_harmless() {
        assert_eq!(text(b"a\xff\x1b[0m\n"), "a\\xff\\x1b[0m\n");
        assert_eq!(cut("aä", 2), "a");
    }
}
