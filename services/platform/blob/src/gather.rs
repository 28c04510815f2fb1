//! Chunks on their way to a store, put together without copying them.

use bytes::{Bytes, BytesMut};

/// Smaller chunks are copied together: a client that sends single bytes must not cost a buffer for each.
const SMALL: usize = 16 * 1024;
const TOGETHER: usize = 64 * 1024;

/// Chunks in their order.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    chunks: Vec<Bytes>,
    small: BytesMut,
    len: usize,
}

impl Gather {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn push(&mut self, chunk: Bytes) {
        self.len += chunk.len();
        if chunk.len() >= SMALL {
            self.close();
            self.chunks.push(chunk);
        } else if !chunk.is_empty() {
            if self.small.len() + chunk.len() > TOGETHER {
                self.close();
            }
            if self.small.is_empty() {
                self.small.reserve(TOGETHER);
            }
            self.small.extend_from_slice(&chunk);
        }
    }

    /// All of them; it is empty then.
    pub(crate) fn take(&mut self) -> Vec<Bytes> {
        self.close();
        self.len = 0;
        std::mem::take(&mut self.chunks)
    }

    fn close(&mut self) {
        if !self.small.is_empty() {
            self.chunks.push(std::mem::take(&mut self.small).freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_keep_their_order_and_small_ones_come_together() {
        let mut gather = Gather::default();
        let mut sent = Vec::new();
        for n in 0..2000_usize {
            let len = if n % 500 == 0 { SMALL } else { n % 90 };
            let chunk = vec![n as u8; len];
            sent.extend_from_slice(&chunk);
            gather.push(chunk.into());
        }
        assert_eq!(gather.len(), sent.len());
        let chunks = gather.take();
        assert!(chunks.len() < 20, "{}", chunks.len());
        assert_eq!(chunks.concat(), sent);
        assert_eq!((gather.len(), gather.take().len()), (0, 0));
    }
}
