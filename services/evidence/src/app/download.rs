//! Reading a file by its signed link.

use aegis_auth::OpCtx;
use aegis_error::Failure;
use aegis_events::Audit;
use aegis_proto::events::v1::Actor;
use bytes::Bytes;
use chrono::Utc;
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use uuid::Uuid;

use super::App;
use crate::{
    domain::LinkError,
    error::Error,
    store::{self, Evidence},
};

/// Bytes of one message.
const CHUNK: usize = 64 * 1024;

/// A file and its bytes.
pub(crate) struct Download {
    pub(crate) evidence: Evidence,
    pub(crate) bytes: BoxStream<'static, Result<Bytes, Error>>,
}

impl App {
    /// The bytes of a file, for whoever has a link that holds. Recorded before the first byte.
    pub(crate) async fn download(
        &self,
        ctx: &OpCtx,
        id: &str,
        user: &str,
        expires: i64,
        signature: &str,
    ) -> Result<Download, Error> {
        let id = id.parse::<Uuid>().map_err(|_| Failure::invalid("id", "must be a UUID"))?;
        let user = user.parse::<Uuid>().map_err(|_| LinkError::Altered)?;
        self.signer.verify(id, user, expires, signature, Utc::now().timestamp())?;
        let evidence = store::get(&self.db, id).await?.ok_or_else(|| Failure::not_found("evidence", id))?;
        let (size, bytes) = match self.blobs.read(&evidence.blob_key(), None).await {
            Err(aegis_blob::BlobError::NotFound) => return Err(Error::Damaged { id }),
            other => other?,
        };
        if i64::try_from(size) != Ok(evidence.size_bytes) {
            return Err(Error::Damaged { id });
        }
        let audit = Audit {
            action: "download_evidence",
            entity_type: "evidence",
            entity_id: id.to_string(),
            details: evidence.facts(),
        };
        let mut tx = self.db.begin().await?;
        self.outbox.audit_as(&mut tx, holder(ctx, user), audit, true).await?;
        tx.commit().await?;
        let bytes = bytes.map_err(Error::from).map_ok(|chunk| stream::iter(split(chunk).map(Ok))).try_flatten();
        Ok(Download { evidence, bytes: bytes.boxed() })
    }
}

/// Who downloads: the one for whom the link was made, at the address that uses it.
fn holder(ctx: &OpCtx, user: Uuid) -> Actor {
    let origin = ctx.origin();
    // The link says whose it is by id alone; the name is known where the same user is also signed in.
    let known = ctx.anyone().filter(|principal| principal.user_id == user);
    Actor {
        user_id: if user.is_nil() { String::new() } else { user.to_string() },
        username: known.map(|principal| principal.username.clone()).unwrap_or_default(),
        role: known.map(|principal| principal.role.to_string()).unwrap_or_default(),
        address: origin.address.clone(),
        user_agent: origin.user_agent.clone(),
        request_id: origin.request_id.clone(),
    }
}

fn split(mut bytes: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || (!bytes.is_empty()).then(|| bytes.split_to(bytes.len().min(CHUNK))))
}
