//! SHA-256 of bytes as they pass: on a thread of its own, beside whatever else happens to them.

use aegis_error::Failure;
use bytes::Bytes;
use ring::digest::{Context, SHA256};
use tokio::task::JoinHandle;

use crate::error::Error;

/// What is hashed at once: a way to another thread and back costs little beside it.
const BATCH: usize = 512 * 1024;

/// Hashes one batch while the next one is gathered. Keeps the bytes as they are, uncopied.
pub(super) struct Hasher {
    gathered: Vec<Bytes>,
    len: usize,
    /// `None` only while a batch is hashed.
    context: Option<Context>,
    hashing: Option<JoinHandle<Context>>,
}

impl Hasher {
    pub(super) fn new() -> Self {
        Hasher { gathered: Vec::new(), len: 0, context: Some(Context::new(&SHA256)), hashing: None }
    }

    /// Adds bytes, waiting where they come faster than they can be hashed.
    pub(super) async fn update(&mut self, chunk: Bytes) -> Result<(), Error> {
        self.len += chunk.len();
        self.gathered.push(chunk);
        if self.len >= BATCH {
            self.hash_gathered().await?;
        }
        Ok(())
    }

    /// The hash, in lower-case hex.
    pub(super) async fn finish(mut self) -> Result<String, Error> {
        self.hash_gathered().await?;
        let context = self.ready().await?;
        Ok(hex::encode(context.finish()))
    }

    async fn hash_gathered(&mut self) -> Result<(), Error> {
        let mut context = self.ready().await?;
        let batch = std::mem::take(&mut self.gathered);
        self.len = 0;
        self.hashing = Some(tokio::task::spawn_blocking(move || {
            for chunk in batch {
                context.update(&chunk);
            }
            context
        }));
        Ok(())
    }

    async fn ready(&mut self) -> Result<Context, Error> {
        if let Some(hashing) = &mut self.hashing {
            let hashed = hashing.await;
            self.hashing = None;
            self.context = Some(hashed.map_err(Failure::internal)?);
        }
        Ok(self.context.take().ok_or_else(|| Failure::internal("a hash was lost"))?)
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    #[tokio::test]
    async fn it_is_the_hash_of_the_standard() {
        for (size, chunk) in [(0, 1), (1, 1), (3 * BATCH + 17, 100_000), (2 * BATCH, BATCH)] {
            let bytes = Bytes::from(crate::tests::content(size));
            let mut hasher = Hasher::new();
            for part in bytes.chunks(chunk) {
                hasher.update(bytes.slice_ref(part)).await.unwrap();
            }
            assert_eq!(hasher.finish().await.unwrap(), hex::encode(Sha256::digest(&bytes)));
        }
    }
}
