//! Reading a file, or a part of it, by its signed link.

use aegis_auth::OpCtx;
use aegis_blob::BlobError;
use aegis_error::{Code, Failure};
use aegis_events::Audit;
use aegis_proto::{events::v1::Actor, identity::v1::GetUserRequest};
use bytes::Bytes;
use chrono::Utc;
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use uuid::Uuid;

use super::App;
use crate::{
    domain::{
        LinkError,
        range::{self, Part},
    },
    error::Error,
    store::{self, Evidence},
};

/// Bytes of one message.
const CHUNK: usize = 256 * 1024;

/// A signed link, as it was shown.
pub(crate) struct Shown {
    pub(crate) id: String,
    pub(crate) user: String,
    pub(crate) expires: i64,
    pub(crate) signature: String,
}

/// A file and the bytes that were asked for.
pub(crate) struct Download {
    pub(crate) evidence: Evidence,
    /// Where the bytes begin.
    pub(crate) offset: u64,
    /// How many they are.
    pub(crate) length: u64,
    pub(crate) bytes: BoxStream<'static, Result<Bytes, Error>>,
}

impl App {
    /// The bytes of a file, for whoever has a link that holds. Recorded before the first byte.
    pub(crate) async fn download(&self, ctx: &OpCtx, link: &Shown, part: Option<Part>) -> Result<Download, Error> {
        let id = link.id.parse::<Uuid>().map_err(|_| Failure::invalid("id", "must be a UUID"))?;
        let user = link.user.parse::<Uuid>().map_err(|_| LinkError::Altered)?;
        self.signer.verify(id, user, link.expires, &link.signature, Utc::now().timestamp())?;
        self.check_holder(user).await?;
        let evidence = store::get(&self.db, id).await?.ok_or_else(|| Failure::not_found("evidence", id))?;
        let size = u64::try_from(evidence.size_bytes).map_err(Failure::internal)?;
        let range = match part {
            Some(part) => range::resolve(part, size).ok_or(Error::NoSuchPart { size })?,
            None => 0..size,
        };
        let wanted = Some(range.clone()).filter(|range| !range.is_empty());
        let (stored, bytes) = match self.blobs.read(&evidence.blob_key(), wanted).await {
            // The part is in the file as it was brought, so the file is not that any more.
            Err(BlobError::NotFound | BlobError::Invalid(_)) => return Err(Error::Damaged { id }),
            other => other?,
        };
        if stored != size {
            return Err(Error::Damaged { id });
        }
        self.record(ctx, user, link.expires, &evidence, range.start).await?;
        let bytes = bytes.map_err(Error::from).map_ok(|chunk| stream::iter(split(chunk).map(Ok))).try_flatten();
        Ok(Download { evidence, offset: range.start, length: range.end - range.start, bytes: bytes.boxed() })
    }

    /// Whoever is no longer let in reads nothing by links made before.
    async fn check_holder(&self, user: Uuid) -> Result<(), Error> {
        // The link of a process, which has no account.
        if user.is_nil() {
            return Ok(());
        }
        let own = self.background.ctx().await?;
        let answer = self.identity.clone().get_user(own.outgoing(GetUserRequest { id: user.to_string() })).await;
        match answer.map_err(Failure::from) {
            Ok(answer) if answer.get_ref().user.as_ref().is_some_and(|user| user.is_active) => Ok(()),
            Ok(_) => Err(LinkError::Holder.into()),
            Err(failure) if failure.code() == Code::NotFound => Err(LinkError::Holder.into()),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Each request that begins at the first byte is a download of its own; one that begins further on goes on with
    /// one, if there was one with the same link not long ago.
    async fn record(&self, ctx: &OpCtx, user: Uuid, expires: i64, evidence: &Evidence, from: u64) -> Result<(), Error> {
        let link = (evidence.id, user, expires);
        if from > 0 && self.downloads.contains_key(&link) {
            return Ok(());
        }
        let audit = Audit {
            action: "download_evidence",
            entity_type: "evidence",
            entity_id: evidence.id.to_string(),
            details: evidence.facts(),
        };
        let mut tx = self.db.begin().await?;
        self.outbox.audit_as(&mut tx, holder(ctx, user), audit, true).await?;
        tx.commit().await?;
        self.downloads.insert(link, ());
        Ok(())
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
