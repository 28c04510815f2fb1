//! Packets of the protocol of MySQL: a length, a number, bytes.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::decoys::wire::{Bytes, broken, read_exactly};

/// The longest packet that is taken; what `@@max_allowed_packet` says.
pub(super) const LONGEST: usize = 1 << 20;

/// A connection in packets.
pub(super) struct Packets<S> {
    pub(super) stream: S,
    pub(super) number: u8,
    out: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Packets<S> {
    pub(super) fn new(stream: S) -> Packets<S> {
        Packets { stream, number: 0, out: Vec::new() }
    }

    /// The next packet; none when it is longer than is taken.
    pub(super) async fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut header = [0; 4];
        self.stream.read_exact(&mut header).await?;
        let [a, b, c, number] = header;
        self.number = number.wrapping_add(1);
        let length = usize::try_from(u32::from_le_bytes([a, b, c, 0])).map_err(io::Error::other)?;
        if length > LONGEST {
            return Ok(None);
        }
        read_exactly(&mut self.stream, length).await.map(Some)
    }

    /// A packet more to send. Packets are sent when there are many, and at `flush`.
    pub(super) async fn write(&mut self, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
        let [a, b, c, over] = length.to_le_bytes();
        if over != 0 || payload.len() >= 0x00ff_ffff {
            return Err(broken("a packet of ours is too long"));
        }
        self.out.extend([a, b, c, self.number]);
        self.number = self.number.wrapping_add(1);
        self.out.extend_from_slice(payload);
        if self.out.len() > 16 << 10 { self.flush().await } else { Ok(()) }
    }

    pub(super) async fn flush(&mut self) -> io::Result<()> {
        let out = std::mem::take(&mut self.out);
        self.stream.write_all(&out).await?;
        self.stream.flush().await
    }
}

/// A number in one to nine bytes.
pub(super) fn put_number(out: &mut Vec<u8>, number: u64) {
    match number {
        0..=250 => out.extend(u8::try_from(number)),
        251..=0xffff => {
            out.push(0xfc);
            out.extend(number.to_le_bytes().iter().take(2));
        }
        0x1_0000..=0x00ff_ffff => {
            out.push(0xfd);
            out.extend(number.to_le_bytes().iter().take(3));
        }
        _ => {
            out.push(0xfe);
            out.extend(number.to_le_bytes());
        }
    }
}

/// Bytes with their length.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, u64::try_from(bytes.len()).unwrap_or(0));
    out.extend_from_slice(bytes);
}

/// A number as `put_number` writes it.
pub(super) fn number(bytes: &mut Bytes<'_>) -> Option<u64> {
    Some(match bytes.byte()? {
        first @ 0..=250 => u64::from(first),
        0xfc => u64::from(bytes.le16()?),
        0xfd => {
            let [a, b, c] = bytes.array()?;
            u64::from(u32::from_le_bytes([a, b, c, 0]))
        }
        0xfe => u64::from_le_bytes(bytes.array()?),
        _ => return None,
    })
}

/// Bytes with their length.
pub(super) fn sized<'a>(bytes: &mut Bytes<'a>) -> Option<&'a [u8]> {
    let length = number(bytes)?;
    bytes.take(usize::try_from(length).ok()?)
}
