//! Users, as administrators see them.

use aegis_auth::{OpCtx, Role};
use aegis_db::{now, page};
use aegis_error::{Failure, Fields};
use aegis_events::Audit;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    domain::user::{User, check_email, check_password, check_role, check_username},
    error::Error,
    store::{self, users::Filter},
};

use super::{App, end_tokens};

/// Most characters of a search.
const MAX_SEARCH: usize = 200;

/// A user to be made.
pub(crate) struct NewUser {
    pub(crate) username: String,
    pub(crate) email: Option<String>,
    pub(crate) password: SecretString,
    pub(crate) role: String,
    pub(crate) must_change_password: bool,
}

/// A change of a user; what is absent stays.
#[derive(Default)]
pub(crate) struct UserPatch {
    pub(crate) email: Option<String>,
    pub(crate) clear_email: bool,
    pub(crate) role: Option<String>,
    pub(crate) is_active: Option<bool>,
    pub(crate) password: Option<SecretString>,
    pub(crate) must_change_password: Option<bool>,
    /// Who names its own id together with a role is refused before anything else is looked at.
    pub(crate) refuse_own_role: bool,
}

/// Which users are wanted.
#[derive(Default)]
pub(crate) struct UserQuery {
    pub(crate) search: Option<String>,
    pub(crate) role: Option<String>,
    pub(crate) is_active: Option<bool>,
}

impl App {
    /// A page of users in the order of their names; the token of the next one; how many there are. Administrators.
    pub(crate) async fn list_users(
        &self,
        ctx: &OpCtx,
        page_size: i32,
        page_token: &str,
        skip: i32,
        query: UserQuery,
    ) -> Result<(Vec<User>, String, i64), Error> {
        ctx.require(&[Role::Admin])?;
        let limit = page::size(page_size, 1000, 5000)?;
        let offset = page::offset(page_token, skip)?;
        let mut fields = Fields::default();
        if let Some(search) = &query.search {
            fields.text("search", search, 1, MAX_SEARCH);
        }
        let role = query.role.and_then(|role| check_role(&mut fields, &role));
        fields.finish()?;
        let filter = Filter { search: query.search, role, is_active: query.is_active };
        let (users, total) = store::users::list(&self.db, &filter, limit, offset).await?;
        let next = page::next_offset(offset, users.len(), total);
        Ok((users, next, total))
    }

    /// One user. Administrators; services, which ask whether it is still active.
    pub(crate) async fn get_user(&self, ctx: &OpCtx, id: &str) -> Result<User, Error> {
        ctx.require(&[Role::Admin, Role::Service])?;
        let id = parse_id("id", id)?;
        let row = store::users::by_id(&self.db, id).await?.ok_or(Error::NoSuchUser(id))?;
        Ok(row.user()?)
    }

    /// Makes a user. Administrators.
    pub(crate) async fn create_user(&self, ctx: &OpCtx, new: NewUser) -> Result<User, Error> {
        ctx.require(&[Role::Admin])?;
        self.add_user(ctx, new).await
    }

    /// Makes a user on behalf of `ctx`, which somebody has already found to be allowed to.
    pub(crate) async fn add_user(&self, ctx: &OpCtx, new: NewUser) -> Result<User, Error> {
        let mut fields = Fields::default();
        check_username(&mut fields, &new.username);
        if let Some(email) = &new.email {
            check_email(&mut fields, email);
        }
        let role = check_role(&mut fields, &new.role);
        let min = self.config.password_min_length;
        check_password(&mut fields, "password", new.password.expose_secret(), &new.username, min);
        fields.finish()?;
        let role = role.ok_or_else(|| Failure::invalid("role", "is missing"))?;

        if store::users::by_username(&self.db, &new.username).await?.is_some() {
            return Err(Error::UsernameTaken(new.username));
        }
        let hash = self.hasher.enter().await?.hash(&new.password).await?;
        let at = now();
        let user = User {
            id: Uuid::now_v7(),
            username: new.username,
            email: new.email,
            role,
            is_active: true,
            must_change_password: new.must_change_password,
            token_epoch: 1,
            version: 1,
            created_at: at,
            updated_at: at,
            last_login_at: None,
        };
        let mut tx = self.db.begin().await?;
        if !store::users::insert(&mut tx, &user, &hash).await? {
            return Err(Error::UsernameTaken(user.username));
        }
        let audit = Audit {
            action: "create_user",
            entity_type: "user",
            entity_id: user.id.to_string(),
            details: json!({ "username": user.username, "after": facts(&user) }),
        };
        self.outbox.audit(&mut tx, ctx, audit).await?;
        tx.commit().await?;
        Ok(user)
    }

    /// Changes a user. Administrators.
    pub(crate) async fn update_user(&self, ctx: &OpCtx, id: &str, patch: UserPatch) -> Result<User, Error> {
        ctx.require(&[Role::Admin])?;
        let id = parse_id("id", id)?;
        if patch.refuse_own_role && patch.role.is_some() && is_caller(ctx, id) {
            return Err(Error::OwnRole);
        }
        self.change_user(ctx, id, patch).await
    }

    /// Removes a user with its notifications and API keys. Its name is free again; what it did stays in the audit
    /// trail. Administrators.
    pub(crate) async fn delete_user(&self, ctx: &OpCtx, id: &str) -> Result<(), Error> {
        ctx.require(&[Role::Admin])?;
        let id = parse_id("id", id)?;
        if is_caller(ctx, id) {
            return Err(Error::OwnDeletion);
        }
        let mut tx = self.db.begin().await?;
        let admins = store::dialect::lock_active_admins(&mut tx).await?;
        let row = store::dialect::lock_user(&mut tx, id).await?.ok_or(Error::NoSuchUser(id))?;
        let user = row.user()?;
        ctx.expect_version(user.version)?;
        if user.is_active_admin() && !admins.iter().any(|admin| *admin != id) {
            return Err(Error::LastAdmin);
        }
        let audit = Audit {
            action: "delete_user",
            entity_type: "user",
            entity_id: id.to_string(),
            details: json!({ "username": user.username, "before": facts(&user) }),
        };
        self.outbox.audit(&mut tx, ctx, audit).await?;
        store::users::delete(&mut tx, id).await?;
        end_tokens(&mut tx, &User { token_epoch: i64::MAX, ..user }).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Changes a user on behalf of `ctx`, which somebody has already found to be allowed to.
    ///
    /// A new role or password, and being disabled or flagged, end the user's tokens. The last active administrator
    /// stays one, and nobody takes that away from itself.
    pub(crate) async fn change_user(&self, ctx: &OpCtx, id: Uuid, patch: UserPatch) -> Result<User, Error> {
        let row = store::users::by_id(&self.db, id).await?.ok_or(Error::NoSuchUser(id))?;
        let username = row.user()?.username;
        let mut fields = Fields::default();
        if let Some(email) = &patch.email {
            check_email(&mut fields, email);
            fields.check(!patch.clear_email, "email", "cannot be set and cleared at once");
        }
        let role = patch.role.as_ref().and_then(|role| check_role(&mut fields, role));
        if let Some(password) = &patch.password {
            let min = self.config.password_min_length;
            check_password(&mut fields, "password", password.expose_secret(), &username, min);
        }
        fields.finish()?;
        let hash = match &patch.password {
            Some(password) => Some(self.hasher.enter().await?.hash(password).await?),
            None => None,
        };

        let mut tx = self.db.begin().await?;
        let admins = match role.is_some() || patch.is_active.is_some() {
            true => store::dialect::lock_active_admins(&mut tx).await?,
            false => Vec::new(),
        };
        let row = store::dialect::lock_user(&mut tx, id).await?.ok_or(Error::NoSuchUser(id))?;
        let before = row.user()?;
        ctx.expect_version(before.version)?;
        let mut user = before.clone();
        if patch.clear_email {
            user.email = None;
        }
        if patch.email.is_some() {
            user.email = patch.email;
        }
        user.role = role.unwrap_or(user.role);
        user.is_active = patch.is_active.unwrap_or(user.is_active);
        user.must_change_password = patch.must_change_password.unwrap_or(user.must_change_password);
        if user == before && hash.is_none() {
            tx.rollback().await?;
            return Ok(before);
        }
        if before.is_active_admin() && !user.is_active_admin() {
            if !admins.iter().any(|admin| *admin != id) {
                return Err(Error::LastAdmin);
            }
            if is_caller(ctx, id) {
                return Err(Error::OwnAccount);
            }
        }
        let ends_tokens = hash.is_some() || user.ends_tokens_of(&before);
        user.token_epoch += i64::from(ends_tokens);
        user.version += 1;
        user.updated_at = now();
        if !store::users::update(&mut tx, &user, hash.as_deref()).await? {
            return Err(Error::LostRace);
        }
        let audit = Audit {
            action: "update_user",
            entity_type: "user",
            entity_id: id.to_string(),
            details: changes(&before, &user, hash.is_some(), ends_tokens),
        };
        self.outbox.audit(&mut tx, ctx, audit).await?;
        if ends_tokens {
            end_tokens(&mut tx, &user).await?;
        }
        tx.commit().await?;
        Ok(user)
    }
}

fn is_caller(ctx: &OpCtx, id: Uuid) -> bool {
    ctx.anyone().is_some_and(|caller| caller.user_id == id)
}

/// An id in a request.
pub(super) fn parse_id(field: &str, text: &str) -> Result<Uuid, Failure> {
    text.parse().map_err(|_| Failure::invalid(field, "must be a UUID"))
}

/// What the audit trail keeps of a user.
pub(super) fn facts(user: &User) -> Map<String, Value> {
    let Value::Object(facts) = json!({
        "email": user.email,
        "role": user.role.as_str(),
        "is_active": user.is_active,
        "must_change_password": user.must_change_password,
    }) else {
        return Map::new();
    };
    facts
}

/// Before and after of the fields that changed. Of a password only that it did.
fn changes(before: &User, after: &User, password: bool, tokens_ended: bool) -> Value {
    let (mut was, mut is) = (facts(before), facts(after));
    let same: Vec<String> = was.iter().filter(|(k, v)| is.get(*k) == Some(v)).map(|(k, _)| k.clone()).collect();
    for key in same {
        was.remove(&key);
        is.remove(&key);
    }
    json!({
        "username": after.username,
        "before": was,
        "after": is,
        "password_changed": password,
        "tokens_ended": tokens_ended,
    })
}
