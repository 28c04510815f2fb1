//! The keys that sign tokens: changing them without anybody being logged out.

use aegis_auth::OpCtx;
use aegis_db::now;
use aegis_events::Audit;
use chrono::TimeDelta;
use serde_json::json;

use crate::{config::MAX_TOKEN_LIFETIME, error::Error, store, store::keys::KeyRow};

use super::{App, tokens};

/// A key that was replaced this long ago signs nowhere any more.
const WIPE_AFTER: TimeDelta = TimeDelta::minutes(5);

impl App {
    /// Makes a new key on behalf of `ctx`, which somebody has already found to be allowed to.
    ///
    /// The old one verifies until the last token that it signed has expired. One that is `compromised` ends at once,
    /// as do all others, and with them every token: everybody signs in again.
    pub(crate) async fn rotate_keys(&self, ctx: &OpCtx, compromised: bool) -> Result<String, Error> {
        let before = store::keys::current(&self.db).await?.map(|key| key.kid);
        let mut tx = self.db.begin().await?;
        let at = now();
        if compromised {
            store::keys::retire(&mut tx, at).await?;
        } else {
            let lifetime = TimeDelta::from_std(MAX_TOKEN_LIFETIME).unwrap_or(TimeDelta::MAX);
            // The old key signs a little longer, until everybody has the new one.
            store::keys::retire_newest(&mut tx, at + lifetime + tokens::KEY_LEAD * 2).await?;
        }
        let kid = tokens::add_key(&mut tx).await?.ok_or(Error::LostRace)?;
        let audit = Audit {
            action: "rotate_signing_key",
            entity_type: "signing_key",
            entity_id: kid.clone(),
            details: json!({ "compromised": compromised, "before": { "kid": before }, "after": { "kid": kid } }),
        };
        self.outbox.audit(&mut tx, ctx, audit).await?;
        tx.commit().await?;
        Ok(kid)
    }

    /// The keys, newest first.
    pub(crate) async fn list_keys(&self) -> Result<Vec<KeyRow>, Error> {
        Ok(store::keys::list(&self.db).await?)
    }

    /// Removes the private halves of keys that were replaced.
    pub(crate) async fn wipe_keys(&self) -> Result<u64, Error> {
        let mut tx = self.db.begin().await?;
        let wiped = store::keys::wipe(&mut tx, now() - WIPE_AFTER).await?;
        tx.commit_relaxed().await?;
        Ok(wiped)
    }
}
