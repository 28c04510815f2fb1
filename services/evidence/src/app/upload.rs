//! Bringing a file: checked, streamed to the store, hashed on the way, and only then known.

use std::{pin::Pin, time::Duration};

use aegis_auth::{OpCtx, Principal, Role};
use aegis_blob::{BlobMeta, BlobWriter};
use aegis_db::{Tx, now};
use aegis_error::{Failure, Fields};
use aegis_events::{Audit, Claim};
use aegis_proto::events::v1::EvidenceAdded;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::{App, Linked, MAX_FILES, hash::Hasher};
use crate::{
    domain,
    error::Error,
    store::{self, Evidence, uploads},
};

/// Longest upload. Housekeeping takes what is twice as old for left behind.
pub(super) const MAX_TIME: Duration = Duration::from_secs(60 * 60);
/// Largest chunk, bytes.
const MAX_CHUNK: usize = 256 * 1024;
/// Longest notes, characters.
const MAX_NOTES: usize = 2_000;
/// Whatever it is, a browser must save it and not open it.
const CONTENT_TYPE: &str = "application/octet-stream";
/// Who may bring files.
pub(super) const UPLOADERS: &[Role] = &[Role::Admin, Role::RedTech, Role::BlueTech, Role::RedLead, Role::BlueLead];

/// One message of an upload: a header, then chunks, then the finish.
#[derive(Debug)]
pub(crate) enum Part {
    Header(Header),
    Chunk(Bytes),
    Finish,
}

/// What a file is.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    pub(crate) test_id: String,
    pub(crate) file_name: String,
    pub(crate) team: Option<String>,
    pub(crate) notes: Option<String>,
}

/// A header that was checked.
struct About {
    test_id: Uuid,
    file_name: String,
    team: Option<String>,
    notes: Option<String>,
}

struct Written {
    sha256: String,
    size: u64,
}

impl App {
    /// Takes a file in. Either the file, its row, its event and its audit record are all there, or nothing is.
    pub(crate) async fn upload(
        &self,
        ctx: &OpCtx,
        parts: impl Stream<Item = Result<Part, Failure>>,
    ) -> Result<Linked, Error> {
        let who = ctx.require(UPLOADERS)?;
        let mut parts = Parts { stream: std::pin::pin!(parts), until: Instant::now() + MAX_TIME };
        let Some(Part::Header(header)) = parts.next().await? else {
            return Err(Failure::invalid("header", "must be the first message").into());
        };
        let about = check(header, who.role)?;
        if let Some(claim) = Claim::of(ctx).filter(|claim| claim.is_repeat()) {
            // Its first answer is its answer, whatever has become of the test; only what it says counts.
            let written = receive(None, &mut parts, self.config.max_bytes).await?;
            about.tell(claim, &written);
            return Err(Claim::taken().into());
        }
        self.check_test(ctx, about.test_id).await?;
        if store::count_of_test(&self.db, about.test_id).await? >= MAX_FILES {
            return Err(Error::TooMany);
        }

        let id = Uuid::now_v7();
        let key = store::blob_key(about.test_id, id);
        // Before the first byte is stored: a blob that nothing names could never be found again.
        let mut tx = self.db.begin().await?;
        uploads::begin_upload(&mut tx, id, &key, now()).await?;
        tx.commit().await?;

        match self.store(ctx, who, about, id, &key, &mut parts).await {
            Ok((tx, linked)) => {
                // Whether a commit that fails took place is not known: housekeeping finds out.
                tx.commit().await?;
                Ok(linked)
            }
            Err(error) => {
                self.discard(id, &key).await;
                Err(error)
            }
        }
    }

    /// Everything up to the commit.
    async fn store<S: Stream<Item = Result<Part, Failure>>>(
        &self,
        ctx: &OpCtx,
        who: &Principal,
        about: About,
        id: Uuid,
        key: &str,
        parts: &mut Parts<'_, S>,
    ) -> Result<(Tx, Linked), Error> {
        let meta = BlobMeta { file_name: about.file_name.clone(), content_type: CONTENT_TYPE.to_owned() };
        let mut writer = self.blobs.writer(key, &meta).await?;
        let written = match receive(Some(&mut writer), parts, self.config.max_bytes).await {
            Ok(written) => written,
            Err(error) => {
                if let Err(error) = writer.abort().await {
                    tracing::warn!(%error, key, "an upload that failed could not be given up");
                }
                return Err(error);
            }
        };
        writer.finish().await?;
        if let Some(claim) = Claim::of(ctx) {
            about.tell(claim, &written);
        }

        let evidence = Evidence {
            id,
            test_id: about.test_id,
            file_name: about.file_name,
            sha256: written.sha256,
            size_bytes: i64::try_from(written.size).unwrap_or(i64::MAX),
            team: about.team,
            notes: about.notes,
            uploaded_by: who.user_id,
            uploaded_by_username: who.username.clone(),
            uploaded_at: now(),
        };
        let link = self.link(&evidence, who.user_id).await?;
        // Once more: the test may have been validated while the bytes came.
        self.check_test(ctx, evidence.test_id).await?;

        let mut tx = self.db.begin().await?;
        if !uploads::end_upload(&mut tx, id).await? {
            return Err(Error::TooSlow);
        }
        // And the last time: held, so that its end comes before all of this or after it.
        if store::hold_test(&mut tx, evidence.test_id).await? {
            return Err(Failure::not_found("test", evidence.test_id).into());
        }
        // Before a copy of the bytes is looked for: the same upload may have brought it just now.
        self.outbox.claim(&mut tx, ctx, &id.to_string()).await?;
        if let Some(first) = store::insert(&mut tx, &evidence).await? {
            tx.rollback().await?;
            return Err(Error::Duplicate { first });
        }
        if store::count_held(&mut tx, evidence.test_id).await? > MAX_FILES {
            tx.rollback().await?;
            return Err(Error::TooMany);
        }
        let subject = id.to_string();
        let event = EvidenceAdded {
            evidence_id: subject.clone(),
            test_id: evidence.test_id.to_string(),
            file_name: evidence.file_name.clone(),
            sha256: evidence.sha256.clone(),
            size_bytes: evidence.size_bytes,
            team: evidence.team.clone().unwrap_or_default(),
        };
        self.outbox.publish(&mut tx, ctx, &subject, &event).await?;
        let audit =
            Audit { action: "upload_evidence", entity_type: "evidence", entity_id: subject, details: evidence.facts() };
        self.outbox.audit(&mut tx, ctx, audit).await?;
        Ok((tx, Linked { evidence, link }))
    }

    /// Removes a blob that no evidence names. What cannot be removed now is housekeeping's.
    pub(super) async fn discard(&self, id: Uuid, key: &str) {
        let removed: Result<(), Error> = async {
            self.blobs.delete(key).await?;
            let mut tx = self.db.begin().await?;
            uploads::forget(&mut tx, &[id]).await?;
            tx.commit_relaxed().await?;
            Ok(())
        }
        .await;
        if let Err(error) = removed {
            tracing::warn!(%error, key, "a blob that nothing needs will be removed later");
        }
    }
}

/// The messages of an upload, up to its time limit.
struct Parts<'a, S> {
    stream: Pin<&'a mut S>,
    until: Instant,
}

impl<S: Stream<Item = Result<Part, Failure>>> Parts<'_, S> {
    async fn next(&mut self) -> Result<Option<Part>, Error> {
        let part = timeout_at(self.until, self.stream.next()).await.map_err(|_| Error::TooSlow)?;
        Ok(part.transpose()?)
    }
}

impl About {
    /// What makes an upload the same as another.
    fn tell(&self, claim: &Claim, written: &Written) {
        let test = self.test_id.to_string();
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        claim.is_about(&[&test, &self.file_name, &text(&self.team), &text(&self.notes), &written.sha256]);
    }
}

/// Writes the bytes as they come, if they are wanted, and hashes them.
async fn receive<S: Stream<Item = Result<Part, Failure>>>(
    mut writer: Option<&mut BlobWriter>,
    parts: &mut Parts<'_, S>,
    limit: u64,
) -> Result<Written, Error> {
    let mut hasher = Hasher::new();
    let mut size = 0;
    loop {
        match parts.next().await? {
            Some(Part::Chunk(chunk)) => {
                if chunk.len() > MAX_CHUNK {
                    return Err(Failure::invalid("chunk", format!("must have at most {MAX_CHUNK} bytes")).into());
                }
                size += chunk.len() as u64;
                if size > limit {
                    return Err(Error::TooLarge { limit });
                }
                // Shared, not copied: hashed and written at the same time.
                hasher.update(chunk.clone()).await?;
                if let Some(writer) = writer.as_mut() {
                    writer.write(chunk).await?;
                }
            }
            Some(Part::Finish) => break,
            Some(Part::Header(_)) => return Err(Failure::invalid("header", "must come once").into()),
            None => return Err(Failure::invalid("file", "ended before its end; nothing was kept").into()),
        }
    }
    if parts.next().await?.is_some() {
        return Err(Failure::invalid("finish", "must be the last message").into());
    }
    if size == 0 {
        return Err(Failure::invalid("file", "must not be empty").into());
    }
    Ok(Written { sha256: hasher.finish().await?, size })
}

fn check(header: Header, role: Role) -> Result<About, Failure> {
    let mut fields = Fields::default();
    let test_id = header.test_id.parse::<Uuid>();
    fields.check(test_id.is_ok(), "test_id", "must be a UUID");
    if let Some(team) = &header.team {
        fields.one_of("team", team, domain::TEAMS);
    }
    let notes = header.notes.filter(|notes| !notes.is_empty());
    if let Some(notes) = &notes {
        fields.text("notes", notes, 0, MAX_NOTES);
    }
    fields.finish()?;
    if let Some(team) = &header.team
        && !domain::may_claim(role, team)
    {
        return Err(Failure::forbidden(format!("your role {role} may not bring evidence for the {team} team")));
    }
    Ok(About {
        test_id: test_id.unwrap_or_default(),
        file_name: domain::clean(&header.file_name),
        team: header.team.or_else(|| domain::default_team(role).map(str::to_owned)),
        notes,
    })
}
