//! What the command line does to users, keys and the audit trail, straight on the database: for who can open it, no token is needed.
//!
//! Each change is an event of the outbox like any other; it reaches the audit trail when the service runs.

mod audit;

use std::sync::Arc;

use aegis_auth::{OpCtx, Origin, Principal, Role};
use aegis_cache::Cache;
use aegis_db::{Db, now};
use aegis_error::Failure;
use chrono::TimeDelta;
use secrecy::SecretString;
use uuid::Uuid;

use crate::{
    Config,
    app::{App, NewUser, UserPatch, random_password},
    domain::user::User,
    error::Error,
    store::{self, keys::KeyRow, users::Filter},
};

pub use audit::{
    ChainVerdict, Export, ExportPart, FileVerdict, Progress, export_audit, verify_audit, verify_audit_tail,
    verify_export,
};

/// Users of one answer.
const PAGE: i64 = 5000;

/// A user after a change, and the password where one was made up.
pub struct Changed {
    /// The user.
    pub user: User,
    /// To be shown once.
    pub password: Option<SecretString>,
}

/// All users in the order of their names, 5,000 at most.
pub async fn list_users(db: &Db) -> Result<Vec<User>, Failure> {
    Ok(store::users::list(db, &Filter::default(), PAGE, 0).await?.0)
}

/// Makes a user. Without a password one is made up, and has to be changed at the first login.
pub async fn create_user(
    db: &Db,
    username: &str,
    role: &str,
    email: Option<String>,
    password: Option<SecretString>,
) -> Result<Changed, Failure> {
    let made_up = password.is_none().then(random_password);
    let new = NewUser {
        username: username.to_owned(),
        email,
        password: password.or_else(|| made_up.clone()).unwrap_or_default(),
        role: role.to_owned(),
        must_change_password: made_up.is_some(),
    };
    let user = app(db).add_user(&ctx(), new).await?;
    Ok(Changed { user, password: made_up })
}

/// Gives a user a new password, which has to be changed at the next login, and ends its tokens. Without a password
/// one is made up.
pub async fn reset_password(db: &Db, username: &str, new: Option<SecretString>) -> Result<Changed, Failure> {
    let made_up = new.is_none().then(random_password);
    let patch = UserPatch {
        password: new.or_else(|| made_up.clone()),
        must_change_password: Some(true),
        ..UserPatch::default()
    };
    let user = change(db, username, patch).await?;
    Ok(Changed { user, password: made_up })
}

/// Lets a user sign in, or no longer.
pub async fn set_active(db: &Db, username: &str, is_active: bool) -> Result<User, Failure> {
    change(db, username, UserPatch { is_active: Some(is_active), ..UserPatch::default() }).await
}

/// Makes a new key to sign tokens with; answers its id. The old ones verify until what they signed has expired, or,
/// where they are `compromised`, no longer: then everybody signs in again.
pub async fn rotate_keys(db: &Db, compromised: bool) -> Result<String, Failure> {
    Ok(app(db).rotate_keys(&ctx(), compromised).await?)
}

/// The keys that sign and verify tokens, and those that did; newest first.
pub async fn list_keys(db: &Db) -> Result<Vec<KeyRow>, Failure> {
    Ok(app(db).list_keys().await?)
}

async fn change(db: &Db, username: &str, patch: UserPatch) -> Result<User, Failure> {
    let row = store::users::by_username(db, username).await?;
    let user = row.map(|row| row.user()).transpose()?;
    let id = user.map(|user| user.id).ok_or_else(|| Error::NoSuchUsername(username.chars().take(64).collect()))?;
    Ok(app(db).change_user(&ctx(), id, patch).await?)
}

fn app(db: &Db) -> Arc<App> {
    App::new(db.clone(), Cache::memory(), Config::default())
}

fn ctx() -> OpCtx {
    let principal = Principal {
        user_id: Uuid::nil(),
        username: "system:cli".to_owned(),
        role: Role::Service,
        jti: Uuid::nil(),
        epoch: 0,
        expires_at: now() + TimeDelta::minutes(5),
        must_change_password: false,
        bearer: aegis_auth::Bearer::Token,
    };
    let origin = Origin { request_id: Uuid::now_v7().to_string(), ..Origin::default() };
    OpCtx::new(Some(principal), None, origin, None)
}
