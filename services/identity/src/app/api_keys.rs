//! Keys for machines: one's own, or anybody's for administrators.

use aegis_auth::{Bearer, OpCtx, Principal, Revocation, Role};
use aegis_db::{now, page};
use aegis_error::{Code, Failure, Fields};
use aegis_events::Audit;
use chrono::{DateTime, TimeDelta, Utc};
use secrecy::SecretString;
use serde_json::json;
use uuid::Uuid;

use crate::{
    domain::{
        api_key::{self, ApiKey, MAX_KEYS},
        user::User,
    },
    error::Error,
    store,
};

use super::{App, users::parse_id};

/// That a key is used is noted no more often than this.
const TOUCH_PAUSE: TimeDelta = TimeDelta::seconds(60);
/// Keys that ended longer ago are forgotten; the audit trail knows them still.
pub(super) const KEEP_ENDED: TimeDelta = TimeDelta::days(90);

impl App {
    /// Makes a key; answers it with its text, which nobody sees again. For oneself (not viewers, who write nothing)
    /// and for administrators. A key makes no keys: it would outlive its own end.
    pub(crate) async fn create_api_key(
        &self,
        ctx: &OpCtx,
        user_id: &str,
        name: &str,
        role: Option<&str>,
        expires_at: Option<DateTime<Utc>>,
    ) -> Result<(ApiKey, SecretString), Error> {
        let owner = self.owner_to_change(ctx, user_id).await?;
        let at = now();
        let mut fields = Fields::default();
        let (role, expires_at) = api_key::check(&mut fields, name, role, owner.role, expires_at, at);
        fields.finish()?;
        let text = api_key::generate();
        let hash = api_key::hash(secrecy::ExposeSecret::expose_secret(&text))
            .ok_or_else(|| Failure::internal("a new key does not look like one"))?;
        let key = ApiKey {
            id: Uuid::now_v7(),
            user_id: owner.id,
            name: name.to_owned(),
            role,
            prefix: api_key::prefix(&text),
            created_at: at,
            expires_at,
            revoked_at: None,
            last_used_at: None,
        };
        let mut tx = self.db.begin().await?;
        // Locked, so that its role is still what was checked and no two requests pass the limit together.
        let row = store::dialect::lock_user(&mut tx, owner.id).await?.ok_or(Error::NoSuchUser(owner.id))?;
        if row.user()?.role != owner.role {
            return Err(Error::LostRace);
        }
        if store::api_keys::count_holding(&mut tx, owner.id, at).await? >= MAX_KEYS {
            return Err(Error::TooManyApiKeys);
        }
        store::api_keys::insert(&mut tx, &key, &hash).await?;
        let audit = Audit {
            action: "create_api_key",
            entity_type: "api_key",
            entity_id: key.id.to_string(),
            details: json!({ "username": owner.username, "after": facts(&key) }),
        };
        self.outbox.audit(&mut tx, ctx, audit).await?;
        tx.commit().await?;
        Ok((key, text))
    }

    /// A page of a user's keys, newest first; the token of the next one; how many there are. One's own, or anybody's
    /// for administrators.
    pub(crate) async fn list_api_keys(
        &self,
        ctx: &OpCtx,
        user_id: &str,
        page_size: i32,
        page_token: &str,
        skip: i32,
    ) -> Result<(Vec<ApiKey>, String, i64), Error> {
        let owner = self.owner(ctx, user_id).await?;
        let limit = page::size(page_size, 1000, 5000)?;
        let offset = page::offset(page_token, skip)?;
        let (keys, total) = store::api_keys::list(&self.db, owner.id, limit, offset).await?;
        let next = page::next_offset(offset, keys.len(), total);
        Ok((keys, next, total))
    }

    /// One key. One's own, or anybody's for administrators.
    pub(crate) async fn get_api_key(&self, ctx: &OpCtx, user_id: &str, id: &str) -> Result<ApiKey, Error> {
        let owner = self.owner(ctx, user_id).await?;
        let id = parse_id("key_id", id)?;
        store::api_keys::find(&self.db, id, owner.id).await?.ok_or(Error::NoSuchApiKey(id))
    }

    /// Ends a key everywhere. Ending it again changes nothing.
    pub(crate) async fn revoke_api_key(&self, ctx: &OpCtx, user_id: &str, id: &str) -> Result<(), Error> {
        let owner = self.owner_to_change(ctx, user_id).await?;
        let id = parse_id("key_id", id)?;
        let mut tx = self.db.begin().await?;
        let Some(key) = store::api_keys::revoke(&mut tx, id, owner.id, now()).await? else {
            tx.rollback().await?;
            return match store::api_keys::find(&self.db, id, owner.id).await? {
                Some(key) => Ok(ctx.expect_version(key.version())?),
                None => Err(Error::NoSuchApiKey(id)),
            };
        };
        ctx.expect_version(ApiKey { revoked_at: None, ..key.clone() }.version())?;
        let audit = Audit {
            action: "revoke_api_key",
            entity_type: "api_key",
            entity_id: id.to_string(),
            details: json!({ "username": owner.username, "before": facts(&key), "after": { "revoked_at": key.revoked_at } }),
        };
        self.outbox.audit(&mut tx, ctx, audit).await?;
        let revocation = Revocation::Token { jti: id, expires_at: key.expires_at };
        store::revocations::insert(&mut tx, &revocation).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Whom a key stands for. For every process; whoever has the key may know as much.
    pub(crate) async fn resolve_api_key(&self, key: &str) -> Result<Principal, Error> {
        let refused = |message| Err(Failure::new(Code::Unauthenticated, message).into());
        let found = match api_key::hash(key) {
            Some(hash) => store::api_keys::by_hash(&self.db, &hash).await?,
            None => None,
        };
        let at = now();
        let (key, owner) = match found {
            None => return refused("the API key does not hold"),
            Some((key, _)) if key.revoked_at.is_some() => return refused("the API key has been revoked"),
            Some((key, _)) if key.expires_at <= at => return refused("the API key has expired"),
            Some((_, owner)) if !owner.is_active => return refused("the owner of the API key is disabled"),
            Some(found) => found,
        };
        let Some(role) = api_key::effective(key.role, owner.role) else {
            return refused("the owner of the API key is no administrator any more");
        };
        if key.last_used_at.is_none_or(|used| used + TOUCH_PAUSE <= at) {
            let mut tx = self.db.begin().await?;
            store::api_keys::touch(&mut tx, key.id, at).await?;
            tx.commit_relaxed().await?;
        }
        Ok(Principal {
            user_id: owner.id,
            username: owner.username,
            role,
            jti: key.id,
            epoch: owner.token_epoch,
            expires_at: key.expires_at,
            must_change_password: owner.must_change_password,
            bearer: Bearer::ApiKey,
        })
    }

    /// The user, for itself and for administrators.
    async fn owner(&self, ctx: &OpCtx, user_id: &str) -> Result<User, Error> {
        let caller = ctx.user()?;
        let id = parse_id("id", user_id)?;
        if caller.user_id != id {
            ctx.require(&[Role::Admin])?;
        }
        let row = store::users::by_id(&self.db, id).await?.ok_or(Error::NoSuchUser(id))?;
        Ok(row.user()?)
    }

    async fn owner_to_change(&self, ctx: &OpCtx, user_id: &str) -> Result<User, Error> {
        let caller = ctx.user()?;
        if caller.bearer == Bearer::ApiKey {
            return Err(Failure::forbidden("an API key cannot make or end API keys; sign in").into());
        }
        if caller.role == Role::Viewer {
            return Err(Failure::forbidden("a viewer reads; an administrator can make an API key for you").into());
        }
        self.owner(ctx, user_id).await
    }
}

fn facts(key: &ApiKey) -> serde_json::Value {
    json!({ "name": key.name, "role": key.role.as_str(), "prefix": key.prefix, "expires_at": key.expires_at })
}
