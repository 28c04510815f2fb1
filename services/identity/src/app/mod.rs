//! The use cases: who may do what, in which transaction, with which record in the audit trail.

mod api_keys;
mod audit;
mod export;
mod hashing;
mod keys;
mod login;
mod notifications;
mod preferences;
mod retention;
mod setup;
mod sign;
mod throttle;
mod tickets;
mod tokens;
mod users;
mod watch;

use std::{sync::Arc, time::Duration};

use aegis_auth::{OpCtx, Revocation};
use aegis_cache::Cache;
use aegis_db::{Db, Tx, now};
use aegis_events::Outbox;
use aegis_proto::events::v1::Actor;
use aegis_telemetry::job;
use chrono::TimeDelta;
use tokio_util::sync::CancellationToken;

use crate::{Config, config::MAX_TOKEN_LIFETIME, domain::user::User, store};

use hashing::Hasher;
use throttle::Throttle;
use tokens::Tokens;

pub use audit::Progress;
pub(crate) use audit::{AuditFilter, AuditQuery, Verdict, walk_audit_tail};
pub use export::{Export, ExportPart};
pub(crate) use login::SignedIn;
pub(crate) use notifications::{Cause, notify};
pub(crate) use preferences::PreferencesPatch;
pub(crate) use setup::random_password;
pub(crate) use sign::SignedDocument;
pub(crate) use tickets::LIFETIME as TICKET_LIFETIME;
pub(crate) use tokens::Token;
pub(crate) use users::{NewUser, UserPatch, UserQuery};
pub(crate) use watch::{Hub, Item};

/// How often what has expired is removed.
const HOUSEKEEPING: Duration = Duration::from_secs(60 * 60);

/// What every use case stands on.
pub(crate) struct App {
    pub(crate) db: Db,
    pub(crate) outbox: Outbox,
    pub(crate) hub: Hub,
    hasher: Hasher,
    throttle: Throttle,
    cache: Cache,
    tokens: Tokens,
    config: Config,
}

impl App {
    pub(crate) fn new(db: Db, cache: Cache, config: Config) -> Arc<App> {
        Arc::new(App {
            outbox: Outbox::new(crate::NAME),
            hub: Hub::new(&config),
            hasher: Hasher::new(config.hashing_workers),
            throttle: Throttle::new(cache.clone(), config.login_limits),
            cache,
            tokens: Tokens::new(db.clone(), config.token_lifetime),
            db,
            config,
        })
    }

    /// Removes what has expired, until `stop`.
    pub(crate) async fn housekeeping(self: Arc<Self>, stop: CancellationToken) {
        loop {
            if let Err(error) = job("identity_purge", self.purge()).await {
                tracing::warn!(%error, "expired revocations stay for now");
            }
            if let Err(error) = job("identity_wipe_keys", self.wipe_keys()).await {
                tracing::warn!(%error, "signing keys that were replaced stay for now");
            }
            if let Err(error) = job("identity_prune_audit", self.prune_audit(&stop)).await {
                tracing::warn!(%error, "old audit records stay for now");
            }
            tokio::select! {
                () = tokio::time::sleep(HOUSEKEEPING) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    pub(crate) async fn purge(&self) -> aegis_db::Result<u64> {
        let mut tx = self.db.begin().await?;
        let purged = store::revocations::purge(&mut tx, now()).await?;
        store::api_keys::purge(&mut tx, now() - api_keys::KEEP_ENDED).await?;
        tx.commit_relaxed().await?;
        self.purge_notifications().await?;
        Ok(purged)
    }
}

/// Ends all tokens of a user that are older than its present epoch.
async fn end_tokens(tx: &mut Tx, user: &User) -> aegis_db::Result<()> {
    let lifetime = TimeDelta::from_std(MAX_TOKEN_LIFETIME).unwrap_or(TimeDelta::MAX);
    let revocation = Revocation::User { user_id: user.id, min_epoch: user.token_epoch, expires_at: now() + lifetime };
    store::revocations::insert(tx, &revocation).await
}

/// Somebody who is not signed in, from where `ctx` comes.
fn actor_from(ctx: &OpCtx, username: String) -> Actor {
    let origin = ctx.origin();
    Actor {
        username,
        address: origin.address.clone(),
        user_agent: origin.user_agent.clone(),
        request_id: origin.request_id.clone(),
        ..Actor::default()
    }
}
