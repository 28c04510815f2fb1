//! Whether the stored bytes are still those that were brought.

use aegis_auth::OpCtx;
use aegis_blob::BlobError;
use aegis_db::now;
use aegis_error::Failure;
use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use uuid::Uuid;

use super::{App, hash::Hasher};
use crate::{
    error::Error,
    store::{self, Evidence},
};

/// Files that are verified at the same time: each takes a whole processor.
pub(super) const AT_ONCE: usize = 2;

/// What became of a file's bytes.
pub(crate) struct Verified {
    pub(crate) evidence: Evidence,
    /// The hash and the size of what is stored, if anything is.
    pub(crate) actual: Option<(String, i64)>,
    pub(crate) checked_at: DateTime<Utc>,
}

impl Verified {
    /// intact | altered | missing
    pub(crate) fn status(&self) -> &'static str {
        match &self.actual {
            None => "missing",
            Some((hash, size)) if *hash == self.evidence.sha256 && *size == self.evidence.size_bytes => "intact",
            Some(_) => "altered",
        }
    }
}

impl App {
    /// Reads the bytes of a file again; for everyone who is signed in.
    pub(crate) async fn verify(&self, ctx: &OpCtx, id: &str) -> Result<Verified, Error> {
        ctx.user()?;
        let evidence = self.find(id).await?;
        let _turn = self.verifying.acquire().await.map_err(Failure::internal)?;
        let actual = match self.blobs.read(&evidence.blob_key(), None).await {
            Err(BlobError::NotFound) => None,
            Err(error) => return Err(error.into()),
            Ok((_, mut bytes)) => {
                let (mut hasher, mut size) = (Hasher::new(), 0_i64);
                while let Some(chunk) = bytes.try_next().await? {
                    size = size.saturating_add(i64::try_from(chunk.len()).unwrap_or(i64::MAX));
                    hasher.update(chunk).await?;
                }
                Some((hasher.finish().await?, size))
            }
        };
        Ok(Verified { evidence, actual, checked_at: now() })
    }

    pub(super) async fn find(&self, id: &str) -> Result<Evidence, Error> {
        let id = id.parse::<Uuid>().map_err(|_| Failure::invalid("id", "must be a UUID"))?;
        Ok(store::get(&self.db, id).await?.ok_or_else(|| Failure::not_found("evidence", id))?)
    }
}
