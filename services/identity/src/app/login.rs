//! Signing in and out, one's own password, and tokens for background work.

use aegis_auth::{Bearer, News, OpCtx, Revocation};
use aegis_db::now;
use aegis_error::{Code, Failure, Fields};
use aegis_events::{Audit, system_actor};
use aegis_proto::events::v1::Actor;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{
    domain::{
        audit::clean,
        user::{MAX_PASSWORD, MAX_USERNAME, User, check_password, is_username},
    },
    error::Error,
    store,
};

use super::{App, actor_from, end_tokens, tokens::Token};

/// The most revocations of one answer.
const MAX_REVOCATIONS: i64 = 10_000;

/// The answer to a login.
pub(crate) struct SignedIn {
    pub(crate) token: Token,
    pub(crate) must_change_password: bool,
}

impl App {
    /// Exchanges a username and password for a token. For everybody.
    ///
    /// An unknown user, a wrong password and a disabled account look the same and take as long.
    pub(crate) async fn login(&self, ctx: &OpCtx, username: &str, password: &SecretString) -> Result<SignedIn, Error> {
        let attempt = self.throttle.login(username, &ctx.origin().address);
        self.throttle.check(&attempt).await?;
        let slot = self.hasher.enter().await?;
        // Those who were in the queue before may have used the tries up.
        self.throttle.check(&attempt).await?;
        let row = if is_username(username) { store::users::by_username(&self.db, username).await? } else { None };
        let hash = row.as_ref().filter(|_| !too_long(password)).map(|row| row.password_hash.clone());
        let right = slot.verify(password, hash).await?;
        let user = row.map(|row| row.user()).transpose()?;
        let reason = match &user {
            None => "unknown user",
            Some(_) if !right => "wrong password",
            Some(user) if !user.is_active => "disabled",
            Some(user) => match self.signed_in(ctx, user).await? {
                Some(signed_in) => return Ok(signed_in),
                None => "changed during the login",
            },
        };
        self.throttle.failed(&attempt).await;
        drop(slot);
        let entity_id = user.map(|user| user.id.to_string()).unwrap_or_default();
        let audit =
            Audit { action: "login_failed", entity_type: "user", entity_id, details: json!({ "reason": reason }) };
        self.record(actor_from(ctx, clean(username, MAX_USERNAME)), audit, false).await?;
        Err(Error::WrongCredentials)
    }

    /// The token, unless the user was changed after its password was looked at.
    async fn signed_in(&self, ctx: &OpCtx, user: &User) -> Result<Option<SignedIn>, Error> {
        let token = self.tokens.issue(user).await?;
        let mut tx = self.db.begin().await?;
        if !store::users::touch_login(&mut tx, user.id, user.token_epoch, now()).await? {
            tx.rollback().await?;
            return Ok(None);
        }
        let actor = Actor {
            user_id: user.id.to_string(),
            role: user.role.to_string(),
            ..actor_from(ctx, user.username.clone())
        };
        let audit = Audit {
            action: "login",
            entity_type: "user",
            entity_id: user.id.to_string(),
            details: json!({ "token_id": token.jti }),
        };
        self.outbox.audit_as(&mut tx, actor, audit, true).await?;
        tx.commit().await?;
        Ok(Some(SignedIn { token, must_change_password: user.must_change_password }))
    }

    /// Ends the caller's token. For everybody who is signed in, also before a password that must be changed.
    pub(crate) async fn logout(&self, ctx: &OpCtx) -> Result<(), Error> {
        let principal = ctx.signed_in()?;
        if principal.bearer == Bearer::ApiKey {
            return Err(Failure::forbidden("an API key is not signed out but revoked").into());
        }
        let mut tx = self.db.begin().await?;
        let audit = Audit {
            action: "logout",
            entity_type: "user",
            entity_id: principal.user_id.to_string(),
            details: json!({ "token_id": principal.jti }),
        };
        self.outbox.audit(&mut tx, ctx, audit).await?;
        let revocation = Revocation::Token { jti: principal.jti, expires_at: principal.expires_at };
        store::revocations::insert(&mut tx, &revocation).await?;
        tx.commit().await?;
        Ok(())
    }

    /// The caller. For everybody who is signed in, also before a password that must be changed.
    pub(crate) async fn me(&self, ctx: &OpCtx) -> Result<User, Error> {
        let id = ctx.signed_in()?.user_id;
        let row = store::users::by_id(&self.db, id).await?.ok_or(Error::NoSuchUser(id))?;
        Ok(row.user()?)
    }

    /// Gives the caller a new password and ends all its tokens, this one too. For everybody who is signed in, also
    /// (and above all) before a password that must be changed.
    pub(crate) async fn change_password(
        &self,
        ctx: &OpCtx,
        old: &SecretString,
        new: &SecretString,
    ) -> Result<(), Error> {
        let principal = ctx.signed_in()?;
        if principal.bearer == Bearer::ApiKey {
            return Err(Failure::forbidden("an API key cannot change a password; sign in").into());
        }
        let id = principal.user_id;
        let row = store::users::by_id(&self.db, id).await?.ok_or(Error::NoSuchUser(id))?;
        let seen = row.user()?;
        let mut fields = Fields::default();
        let min = self.config.password_min_length;
        check_password(&mut fields, "new_password", new.expose_secret(), &seen.username, min);
        fields.check(new.expose_secret() != old.expose_secret(), "new_password", "must differ from the old one");
        fields.finish()?;

        let attempt = self.throttle.login(&seen.username, &ctx.origin().address);
        self.throttle.check(&attempt).await?;
        let slot = self.hasher.enter().await?;
        self.throttle.check(&attempt).await?;
        let hash = Some(row.password_hash).filter(|_| !too_long(old));
        let audit =
            |details| Audit { action: "change_password", entity_type: "user", entity_id: id.to_string(), details };
        if !slot.verify(old, hash).await? {
            self.throttle.failed(&attempt).await;
            drop(slot);
            let actor =
                Actor { user_id: id.to_string(), role: seen.role.to_string(), ..actor_from(ctx, seen.username) };
            self.record(actor, audit(json!({ "reason": "wrong old password" })), false).await?;
            return Err(Error::WrongOldPassword);
        }
        let hash = slot.hash(new).await?;
        drop(slot);

        let mut tx = self.db.begin().await?;
        let row = store::dialect::lock_user(&mut tx, id).await?.ok_or(Error::NoSuchUser(id))?;
        let mut user = row.user()?;
        if user.token_epoch != seen.token_epoch || !user.is_active {
            // The token with which this was asked has ended meanwhile.
            return Err(Failure::new(Code::Unauthenticated, "your account was changed; sign in again").into());
        }
        user.must_change_password = false;
        user.token_epoch += 1;
        user.version += 1;
        user.updated_at = now();
        if !store::users::update(&mut tx, &user, Some(&hash)).await? {
            return Err(Error::LostRace);
        }
        let details = json!({
            "tokens_ended": true,
            "before": { "must_change_password": seen.must_change_password },
            "after": { "must_change_password": false },
        });
        self.outbox.audit(&mut tx, ctx, audit(details)).await?;
        end_tokens(&mut tx, &user).await?;
        tx.commit().await?;
        Ok(())
    }

    /// A short-lived token for background work. For every process that knows the service secret.
    pub(crate) async fn issue_service_token(
        &self,
        ctx: &OpCtx,
        service: &str,
        secret: &SecretString,
    ) -> Result<Token, Error> {
        let plausible = (1..=32).contains(&service.len())
            && service.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !plausible {
            return Err(Failure::invalid("service", "must have 1 to 32 lower-case letters, digits or -").into());
        }
        // Hashes have one length, so that the comparison does not tell that of the secret.
        let hash = |secret: &SecretString| Sha256::digest(secret.expose_secret());
        if bool::from(hash(secret).ct_eq(&hash(&self.config.service_secret))) {
            return self.tokens.issue_service(service).await;
        }
        // Only wrong ones are held back: all processes may come from one address, and one that is set up wrongly
        // must not stop the others.
        let attempt = self.throttle.service(&ctx.origin().address);
        self.throttle.check(&attempt).await?;
        self.throttle.failed(&attempt).await;
        let audit = Audit {
            action: "issue_service_token_failed",
            entity_type: "service",
            entity_id: service.to_owned(),
            details: json!({ "reason": "wrong secret" }),
        };
        let origin = actor_from(ctx, String::new());
        let actor = Actor { username: system_actor(service).username, ..origin };
        self.record(actor, audit, false).await?;
        Err(Error::WrongServiceSecret)
    }

    /// The keys that verify tokens. For everybody.
    pub(crate) async fn jwks(&self) -> Result<String, Error> {
        self.tokens.jwks().await
    }

    /// What no longer holds, after a position, and which keys do. For everybody: it names ids alone.
    pub(crate) async fn news(&self, after: i64) -> Result<News, Error> {
        if after < 0 {
            return Err(Failure::invalid("after", "must be 0 or more").into());
        }
        let (revocations, cursor) = store::revocations::after(&self.db, after, now(), MAX_REVOCATIONS).await?;
        Ok(News { revocations, cursor, key_ids: self.tokens.key_ids().await? })
    }

    /// A line of the audit trail that stands alone.
    async fn record(&self, actor: Actor, audit: Audit<'_>, success: bool) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        self.outbox.audit_as(&mut tx, actor, audit, success).await?;
        tx.commit().await?;
        Ok(())
    }
}

fn too_long(password: &SecretString) -> bool {
    password.expose_secret().chars().nth(MAX_PASSWORD).is_some()
}
