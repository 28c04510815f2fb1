//! The outbox: events written in the transaction of the change. The relay brings them to the bus.

use std::sync::Arc;

use aegis_auth::OpCtx;
use aegis_db::{Db, Tx, now, on};
use aegis_error::{Code, Failure};
use aegis_proto::events::v1::{Actor, AuditRecorded, Envelope};
use chrono::{DateTime, Utc};
use prost::Message;
use sqlx::QueryBuilder;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::{Claim, Event, envelope};

/// Rows of one statement, each with four values.
const INSERT_ROWS: usize = 500;

/// A service's outbox. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Outbox {
    pub(crate) source: &'static str,
    pub(crate) wake: Arc<Notify>,
}

/// One line of the audit trail.
#[derive(Clone, Debug)]
pub struct Audit<'a> {
    /// Verb and noun, such as `create_technique`.
    pub action: &'a str,
    /// Such as `technique`.
    pub entity_type: &'a str,
    /// Id of the entity; may be empty.
    pub entity_id: String,
    /// JSON object: what happened, with `before` and `after` of the changed fields. Never secrets.
    pub details: serde_json::Value,
}

/// An event that is about to be written.
struct NewRow {
    id: String,
    kind: &'static str,
    body: Vec<u8>,
    at: DateTime<Utc>,
}

impl Outbox {
    /// The outbox of the service `source`.
    pub fn new(source: &'static str) -> Self {
        Outbox { source, wake: Arc::new(Notify::new()) }
    }

    /// Binds the transaction to the conditions under which `ctx` asks for the change of `entity_id`: its `If-Match`
    /// must have been looked at ([`OpCtx::expect_version`]), and its `Idempotency-Key` is used up with the change.
    ///
    /// [`Outbox::publish`] and [`Outbox::audit`] do that by themselves; a change without either calls this.
    pub async fn claim(&self, tx: &mut Tx, ctx: &OpCtx, entity_id: &str) -> aegis_db::Result<()> {
        ctx.precondition_was_looked_at()?;
        match Claim::of(ctx) {
            Some(claim) => claim.take(tx, entity_id).await,
            None => Ok(()),
        }
    }

    /// Writes an event that `ctx` caused into the transaction.
    pub async fn publish<E: Event>(&self, tx: &mut Tx, ctx: &OpCtx, subject: &str, event: &E) -> aegis_db::Result<()> {
        self.claim(tx, ctx, subject).await?;
        self.publish_as(tx, envelope::actor(ctx), subject, event).await
    }

    /// Writes an event that `actor` caused into the transaction.
    pub async fn publish_as<E: Event>(
        &self,
        tx: &mut Tx,
        actor: Actor,
        subject: &str,
        event: &E,
    ) -> aegis_db::Result<()> {
        let row = self.row(actor, subject, event, trace(tx));
        self.write(tx, std::slice::from_ref(&row)).await
    }

    /// Writes events that `actor` caused into the transaction, in their order, each with its subject. For changes of
    /// many entities at once; the caller calls [`Outbox::claim`] for all of them.
    pub async fn publish_all_as<E: Event>(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        events: &[(String, E)],
    ) -> aegis_db::Result<()> {
        let trace = trace(tx);
        let row = |(subject, event): &(String, E)| self.row(actor.clone(), subject, event, trace.clone());
        let rows: Vec<NewRow> = events.iter().map(row).collect();
        self.write(tx, &rows).await
    }

    fn row<E: Event>(&self, actor: Actor, subject: &str, event: &E, traceparent: String) -> NewRow {
        let at = now();
        let id = Uuid::now_v7().to_string();
        let body = Envelope {
            id: id.clone(),
            r#type: E::KIND.to_owned(),
            source: self.source.to_owned(),
            subject: subject.to_owned(),
            actor: Some(actor),
            time: Some(prost_types::Timestamp {
                seconds: at.timestamp(),
                nanos: i32::try_from(at.timestamp_subsec_nanos()).unwrap_or(0),
            }),
            traceparent,
            data: event.encode_to_vec(),
        }
        .encode_to_vec();
        NewRow { id, kind: E::KIND, body, at }
    }

    async fn write(&self, tx: &mut Tx, rows: &[NewRow]) -> aegis_db::Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        for rows in rows.chunks(INSERT_ROWS) {
            on!(tx, |c| {
                let mut query = QueryBuilder::new("INSERT INTO outbox (id, kind, body, at) ");
                query.push_values(rows, |mut values, row| {
                    values.push_bind(&row.id);
                    values.push_bind(row.kind);
                    values.push_bind(&row.body);
                    values.push_bind(row.at);
                });
                query.build().persistent(rows.len() == 1).execute(c).await.map(|_| ())
            })?;
        }
        let wake = Arc::clone(&self.wake);
        tx.on_commit(move || wake.notify_one());
        Ok(())
    }

    /// Writes a line of the audit trail into the transaction of the change.
    pub async fn audit(&self, tx: &mut Tx, ctx: &OpCtx, audit: Audit<'_>) -> aegis_db::Result<()> {
        self.claim(tx, ctx, &audit.entity_id).await?;
        self.audit_as(tx, envelope::actor(ctx), audit, true).await
    }

    /// Writes a line of the audit trail for an actor who is not the caller, or for something that was refused.
    pub async fn audit_as(&self, tx: &mut Tx, actor: Actor, audit: Audit<'_>, success: bool) -> aegis_db::Result<()> {
        let entity_id = audit.entity_id.clone();
        self.publish_as(tx, actor, &entity_id, &recorded(audit, success)).await
    }

    /// Writes lines of the audit trail for what `actor` did to many entities at once.
    pub async fn audit_all_as(&self, tx: &mut Tx, actor: &Actor, audits: Vec<Audit<'_>>) -> aegis_db::Result<()> {
        let events: Vec<_> = audits.into_iter().map(|audit| (audit.entity_id.clone(), recorded(audit, true))).collect();
        self.publish_all_as(tx, actor, &events).await
    }

    /// Passes a result on, and puts a refusal (403) into the audit trail on the way. Every method of a service
    /// answers through this.
    pub async fn audited<T, E: Into<Failure>>(
        &self,
        db: &Db,
        ctx: &OpCtx,
        method: &str,
        result: Result<T, E>,
    ) -> Result<T, tonic::Status> {
        let failure = match result {
            Ok(value) => return Ok(value),
            Err(error) => error.into(),
        };
        if matches!(failure.code(), Code::Forbidden | Code::PasswordChangeRequired)
            && let Err(error) = self.record_refusal(db, ctx, method, &failure).await
        {
            tracing::error!(%error, method, "a refusal could not be put into the audit trail");
        }
        Err(failure.into())
    }

    async fn record_refusal(&self, db: &Db, ctx: &OpCtx, method: &str, failure: &Failure) -> aegis_db::Result<()> {
        let mut tx = db.begin().await?;
        let audit = Audit {
            action: "access_denied",
            entity_type: "method",
            entity_id: method.to_owned(),
            details: serde_json::json!({ "reason": failure.message(), "code": failure.code().name() }),
        };
        self.audit_as(&mut tx, envelope::actor(ctx), audit, false).await?;
        tx.commit().await
    }
}

/// What an event comes after: the transaction that it is written in, or what that is a part of.
fn trace(tx: &Tx) -> String {
    match aegis_telemetry::traceparent(tx.span()) {
        trace if trace.is_empty() => aegis_telemetry::current_traceparent(),
        trace => trace,
    }
}

fn recorded(audit: Audit<'_>, success: bool) -> AuditRecorded {
    AuditRecorded {
        action: audit.action.to_owned(),
        entity_type: audit.entity_type.to_owned(),
        entity_id: audit.entity_id,
        details_json: audit.details.to_string(),
        success,
    }
}
