//! Captured files and recorded sessions: taken in from sensors, read by administrators.

use std::time::Duration;

use aegis_auth::{OpCtx, Role};
use aegis_blob::{BlobError, BlobMeta, BlobWriter};
use aegis_db::now;
use aegis_error::{Code, Failure, Fields};
use aegis_events::Audit;
use bytes::Bytes;
use chrono::{DateTime, SubsecRound, Utc};
use futures::{
    Stream, StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use ring::digest::{Context, SHA256};
use serde_json::json;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::App;
use crate::{
    domain::{
        artifact::{clean, is_decky, is_hex, is_stored_as, stored_as},
        event::address,
    },
    error::Error,
    store::artifacts::{self, Artifact},
};

/// Largest file, bytes.
const MAX_SIZE: u64 = 64 * 1024 * 1024;
/// What all files together may take, bytes: attackers bring them.
const MAX_TOTAL: i64 = 32 * 1024 * 1024 * 1024;
/// Largest message, bytes.
const MAX_CHUNK: usize = 1024 * 1024;
/// Longest that a sensor may take for one.
const MAX_TIME: Duration = Duration::from_secs(10 * 60);
/// Bytes of a message to a reader.
const CHUNK: usize = 256 * 1024;

/// What is to be taken in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Header {
    pub(crate) kind: String,
    pub(crate) decky: String,
    pub(crate) service: String,
    pub(crate) attacker_ip: String,
    pub(crate) session_id: String,
    pub(crate) captured_at: Option<DateTime<Utc>>,
    pub(crate) name: String,
    pub(crate) sha256: String,
    pub(crate) size: u64,
}

/// Bytes on their way to a reader.
pub(crate) type Chunks = BoxStream<'static, Result<Bytes, Error>>;

impl App {
    /// Takes a file in; the same one again is there once. What it is stored as. Sensors.
    pub(crate) async fn put_artifact(
        &self,
        ctx: &OpCtx,
        header: Header,
        chunks: impl Stream<Item = Result<Bytes, Failure>>,
    ) -> Result<String, Error> {
        ctx.require(&[Role::Sensor])?;
        let size = header.size;
        let artifact = check(header)?;
        let key = artifact.blob_key();
        let known = artifacts::get(&self.db, &artifact.decky, &artifact.stored_as).await?.is_some();
        let stored = match self.blobs.size(&key).await {
            Ok(stored) => stored == Some(size),
            Err(error) => return Err(error.into()),
        };
        if !known && artifacts::bytes(&self.db).await?.saturating_add(artifact.size) > MAX_TOTAL {
            return Err(Failure::new(Code::StorageFull, "captured files take as much room as they may").into());
        }
        if stored {
            receive(None, chunks, &artifact.sha256, size).await?;
        } else {
            // Never opened by a browser: see where it is read.
            let meta = BlobMeta { file_name: clean(&artifact.name), content_type: "application/octet-stream".into() };
            let mut writer = self.blobs.writer(&key, &meta).await?;
            match receive(Some(&mut writer), chunks, &artifact.sha256, size).await {
                Ok(()) => writer.finish().await?,
                Err(error) => {
                    let _ = writer.abort().await;
                    return Err(error);
                }
            }
        }
        if !known {
            let mut tx = self.db.begin().await?;
            artifacts::insert(&mut tx, &artifact).await?;
            tx.commit().await?;
        }
        Ok(artifact.stored_as)
    }

    /// The bytes of a captured file; each download is recorded. Administrators.
    pub(crate) async fn read_artifact(
        &self,
        ctx: &OpCtx,
        decky: &str,
        stored_as: &str,
    ) -> Result<(Artifact, Chunks), Error> {
        ctx.require(&[Role::Admin])?;
        let mut fields = Fields::default();
        fields.check(is_decky(decky), "decky", "must be the name of a decky");
        let problem = "must be `<time>_<first 12 hex of sha256>_<name>`";
        fields.check(is_stored_as(stored_as), "stored_as", problem);
        fields.finish()?;
        let found = artifacts::get(&self.db, decky, stored_as).await?;
        let artifact = found.ok_or_else(|| Failure::not_found("artifact", stored_as))?;
        let chunks = self.bytes_of(&artifact).await?.ok_or_else(|| Failure::not_found("artifact", stored_as))?;
        let mut tx = self.db.begin().await?;
        let audit = Audit {
            action: "download_artifact",
            entity_type: "artifact",
            entity_id: artifact.id.to_string(),
            details: json!({ "decky": decky, "stored_as": stored_as, "sha256": artifact.sha256 }),
        };
        self.outbox.audit(&mut tx, ctx, audit).await?;
        tx.commit().await?;
        Ok((artifact, chunks))
    }

    /// The recording of a session, as asciicast v2; none where it was not recorded. Who may is up to the caller.
    pub(crate) async fn recording(&self, session_id: &str) -> Result<Option<Chunks>, Error> {
        match artifacts::recording(&self.db, session_id).await? {
            Some(artifact) => self.bytes_of(&artifact).await,
            None => Ok(None),
        }
    }

    async fn bytes_of(&self, artifact: &Artifact) -> Result<Option<Chunks>, Error> {
        match self.blobs.read(&artifact.blob_key(), None).await {
            Ok((_, bytes)) => {
                let split = bytes.map_err(Error::from).map_ok(|chunk| stream::iter(split(chunk).map(Ok))).try_flatten();
                Ok(Some(split.boxed()))
            }
            Err(BlobError::NotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

fn split(mut bytes: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || (!bytes.is_empty()).then(|| bytes.split_to(bytes.len().min(CHUNK))))
}

fn check(header: Header) -> Result<Artifact, Failure> {
    let mut fields = Fields::default();
    fields.one_of("kind", &header.kind, &["file", "recording"]);
    fields.check(is_decky(&header.decky), "decky", "must be the name of a decky");
    fields.check(header.sha256.len() == 64 && is_hex(&header.sha256), "sha256", "must have 64 hex digits");
    fields.check(header.size <= MAX_SIZE, "size", "must be at most 64 MiB");
    fields.check(header.captured_at.is_some(), "captured_at", "must be a time");
    fields.check(header.service.len() <= 64, "service", "must have at most 64 bytes");
    fields.check(header.session_id.len() <= 64, "session_id", "must have at most 64 bytes");
    fields.finish()?;
    let captured_at = header.captured_at.unwrap_or_else(now).trunc_subsecs(6);
    let plain = |text: String| text.replace('\0', "");
    Ok(Artifact {
        id: Uuid::now_v7(),
        stored_as: stored_as(captured_at, &header.sha256, &header.name),
        kind: header.kind,
        decky: header.decky,
        service: plain(header.service),
        attacker_ip: address(&header.attacker_ip).unwrap_or_default(),
        session_id: plain(header.session_id),
        name: plain(header.name.chars().take(255).collect()),
        sha256: header.sha256,
        size: i64::try_from(header.size).unwrap_or(i64::MAX),
        captured_at,
        created_at: now(),
    })
}

/// Reads all bytes, which must be what the header says, and writes them where they are wanted.
async fn receive(
    mut writer: Option<&mut BlobWriter>,
    chunks: impl Stream<Item = Result<Bytes, Failure>>,
    sha256: &str,
    size: u64,
) -> Result<(), Error> {
    let until = Instant::now() + MAX_TIME;
    let mut chunks = std::pin::pin!(chunks);
    let (mut hash, mut got) = (Context::new(&SHA256), 0_u64);
    loop {
        let next = timeout_at(until, chunks.next()).await;
        let Some(chunk) = next.map_err(|_| Failure::new(Code::Timeout, "it took too long; nothing was kept"))? else {
            break;
        };
        let chunk = chunk?;
        got += chunk.len() as u64;
        if chunk.len() > MAX_CHUNK || got > size {
            return Err(Failure::invalid("size", "must be that of the bytes that follow").into());
        }
        hash.update(&chunk);
        if let Some(writer) = writer.as_mut() {
            writer.write(chunk).await?;
        }
    }
    if got != size {
        return Err(Failure::invalid("size", "must be that of the bytes that follow").into());
    }
    if hex::encode(hash.finish()) != sha256 {
        return Err(Failure::invalid("sha256", "must be that of the bytes that follow").into());
    }
    Ok(())
}
