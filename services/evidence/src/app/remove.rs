//! Taking evidence away: one file with a reason, or all of a test that is gone.

use aegis_auth::{OpCtx, Role};
use aegis_db::{Tx, now};
use aegis_error::{Failure, Fields};
use aegis_events::Audit;
use aegis_proto::events::v1::{Actor, EvidenceRemoved};
use chrono::{DateTime, Utc};
use serde_json::json;
use uuid::Uuid;

use super::{App, VALIDATED};
use crate::{
    error::Error,
    store::{self, Evidence, uploads},
};

/// Longest reason, characters.
const MAX_REASON: usize = 1_000;
/// Who removes what others brought.
const REMOVERS: &[Role] = &[Role::Admin, Role::RedLead, Role::BlueLead];
/// Evidence never changes, so there is one version of it.
const VERSION: i64 = 1;
/// Rows of one statement.
const BATCH: i64 = 200;

impl App {
    /// Removes a file for good: its row, event and audit record in one transaction, which also notes its blob for
    /// removal. Who brought it, leads and administrators; not once the test is validated.
    ///
    /// The file is hidden before the test is looked at for the last time: of a test that was validated with a file to be
    /// seen, the file stays.
    pub(crate) async fn remove(&self, ctx: &OpCtx, id: &str, reason: &str) -> Result<(), Error> {
        let who = ctx.require(super::upload::UPLOADERS)?;
        let mut fields = Fields::default();
        fields.text("reason", reason, 1, MAX_REASON);
        fields.check(reason.is_empty() || !reason.trim().is_empty(), "reason", "must not be blank");
        fields.check(id.parse::<Uuid>().is_ok(), "id", "must be a UUID");
        fields.finish()?;
        let evidence = self.find(id).await?;
        if evidence.uploaded_by != who.user_id && !REMOVERS.contains(&who.role) {
            return Err(Failure::forbidden("only who brought it, leads and administrators may remove evidence").into());
        }
        ctx.expect_version(VERSION)?;
        if self.test(ctx, evidence.test_id).await?.state == VALIDATED {
            return Err(Error::Closed);
        }

        let at = now();
        let mut tx = self.db.begin().await?;
        if !store::hide(&mut tx, evidence.id, at).await? {
            return Err(Failure::not_found("evidence", evidence.id).into());
        }
        tx.commit_relaxed().await?;
        if let Err(error) = self.remove_hidden(ctx, &evidence, reason, at).await {
            self.show_again(evidence.id, at).await;
            return Err(error);
        }
        // What cannot be removed now is housekeeping's.
        self.discard(evidence.id, &evidence.blob_key()).await;
        Ok(())
    }

    /// Removes a file that nobody sees any more, unless its test was validated before it was hidden.
    async fn remove_hidden(
        &self,
        ctx: &OpCtx,
        evidence: &Evidence,
        reason: &str,
        at: DateTime<Utc>,
    ) -> Result<(), Error> {
        if self.test(ctx, evidence.test_id).await?.state == VALIDATED {
            return Err(Error::Closed);
        }
        let mut tx = self.db.begin().await?;
        // As whoever takes away all files of a test at the same moment does.
        store::hold_test(&mut tx, evidence.test_id).await?;
        if !store::remove(&mut tx, evidence.id, at).await? {
            return Err(Failure::not_found("evidence", evidence.id).into());
        }
        uploads::leave(&mut tx, &[(evidence.test_id, evidence.id)]).await?;
        let subject = evidence.id.to_string();
        self.outbox.publish(&mut tx, ctx, &subject, &removed(evidence, reason)).await?;
        let mut details = evidence.facts();
        details["reason"] = json!(reason);
        details["uploaded_by"] = json!(evidence.uploaded_by);
        details["uploaded_by_username"] = json!(evidence.uploaded_by_username);
        let audit = Audit { action: "remove_evidence", entity_type: "evidence", entity_id: subject, details };
        self.outbox.audit(&mut tx, ctx, audit).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Shows a file again that is not removed after all. Where that fails, housekeeping does it.
    async fn show_again(&self, id: Uuid, at: DateTime<Utc>) {
        let shown: Result<(), Error> = async {
            let mut tx = self.db.begin().await?;
            store::show(&mut tx, id, at).await?;
            tx.commit_relaxed().await?;
            Ok(())
        }
        .await;
        if let Err(error) = shown {
            tracing::warn!(%error, evidence = %id, "a file that stays will be seen again later");
        }
    }

    /// Takes away all evidence of a test that is gone, in the transaction that hears of it. None comes after.
    pub(crate) async fn remove_all(&self, tx: &mut Tx, actor: &Actor, test_id: Uuid) -> Result<(), Error> {
        store::delete_test(tx, test_id).await?;
        loop {
            let gone = store::remove_of_test(tx, test_id, BATCH).await?;
            if gone.is_empty() {
                break;
            }
            let blobs: Vec<_> = gone.iter().map(|one| (one.test_id, one.id)).collect();
            uploads::leave(tx, &blobs).await?;
            let reason = "its test was deleted";
            let events: Vec<_> = gone.iter().map(|one| (one.id.to_string(), removed(one, reason))).collect();
            self.outbox.publish_all_as(tx, actor, &events).await?;
            let audits = gone.iter().map(|one| {
                let mut details = one.facts();
                details["reason"] = json!(reason);
                Audit { action: "remove_evidence", entity_type: "evidence", entity_id: one.id.to_string(), details }
            });
            self.outbox.audit_all_as(tx, actor, audits.collect()).await?;
        }
        Ok(())
    }
}

fn removed(evidence: &Evidence, reason: &str) -> EvidenceRemoved {
    EvidenceRemoved {
        evidence_id: evidence.id.to_string(),
        test_id: evidence.test_id.to_string(),
        file_name: evidence.file_name.clone(),
        sha256: evidence.sha256.clone(),
        reason: reason.to_owned(),
    }
}
