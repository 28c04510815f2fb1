//! The first start: a key to sign with and an administrator.

use aegis_auth::Role;
use aegis_db::now;
use aegis_error::Fields;
use aegis_events::{Audit, system_actor};
use rand::RngExt;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use uuid::Uuid;

use crate::{
    domain::user::{MAX_PASSWORD, User, check_password},
    error::Error,
    store,
};

use super::{App, users::facts};

/// The first administrator's name.
const ADMIN: &str = "admin";
/// Characters of a password that we make up, without those that are taken for each other.
const ALPHABET: &[u8] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
/// How many of them.
const RANDOM_LENGTH: usize = 20;

/// A password that nobody has chosen.
pub(crate) fn random_password() -> SecretString {
    let mut rng = rand::rng();
    let text: String = (0..RANDOM_LENGTH).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())])).collect();
    text.into()
}

impl App {
    /// Makes what the first start needs. Answers the administrator's password where it was made up here and now.
    pub(crate) async fn set_up(&self) -> Result<Option<SecretString>, Error> {
        self.tokens.ensure_key(&self.outbox).await?;
        if store::users::exist(&self.db).await? {
            return Ok(None);
        }
        let given = self.config.admin_password.clone();
        if let Some(password) = &given {
            self.check_given(password)?;
        }
        let password = given.clone().unwrap_or_else(random_password);
        let hash = self.hasher.enter().await?.hash(&password).await?;
        let at = now();
        let admin = User {
            id: Uuid::now_v7(),
            username: ADMIN.to_owned(),
            email: None,
            role: Role::Admin,
            is_active: true,
            must_change_password: given.is_none(),
            token_epoch: 1,
            version: 1,
            created_at: at,
            updated_at: at,
            last_login_at: None,
        };
        let mut tx = self.db.begin().await?;
        // Another replica may have been faster; its password is then the one that was printed.
        if store::users::any(&mut tx).await? || !store::users::insert(&mut tx, &admin, &hash).await? {
            tx.rollback().await?;
            return Ok(None);
        }
        let audit = Audit {
            action: "create_user",
            entity_type: "user",
            entity_id: admin.id.to_string(),
            details: json!({ "username": ADMIN, "reason": "first start", "after": facts(&admin) }),
        };
        self.outbox.audit_as(&mut tx, system_actor(crate::NAME), audit, true).await?;
        tx.commit().await?;
        Ok(if given.is_none() { Some(password) } else { None })
    }

    /// The operator's own choice is refused only where it could not be typed at a login or is shorter than any
    /// password may be; that it is a bad one is said in the log.
    fn check_given(&self, password: &SecretString) -> Result<(), Error> {
        let text = password.expose_secret();
        let min = self.config.password_min_length;
        let mut fields = Fields::default();
        fields.check(
            (min..=MAX_PASSWORD).contains(&text.chars().count()),
            "admin_password",
            &format!("must have {min} to {MAX_PASSWORD} characters"),
        );
        fields.finish()?;
        let mut weak = Fields::default();
        check_password(&mut weak, "admin_password", text, ADMIN, min);
        if let Err(failure) = weak.finish() {
            tracing::warn!(reason = failure.message(), "the administrator's password from the settings is weak");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_passwords_are_long_and_differ() {
        let (a, b) = (random_password(), random_password());
        assert_eq!(a.expose_secret().len(), RANDOM_LENGTH);
        assert_ne!(a.expose_secret(), b.expose_secret());
    }
}
