//! Users: names, addresses, passwords, and what a change means for their tokens.

use std::{collections::HashSet, sync::LazyLock};

use aegis_auth::Role;
use aegis_error::Fields;
use chrono::{DateTime, Utc};
use uuid::Uuid;

/// Most characters of a username.
pub(crate) const MAX_USERNAME: usize = 64;
/// Most characters of a password.
pub(crate) const MAX_PASSWORD: usize = 128;
/// Most characters of an email address.
const MAX_EMAIL: usize = 254;

/// Passwords that everybody tries first, in lower case.
static WORST: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| include_str!("../../worst-passwords.txt").lines().filter(|line| !line.is_empty()).collect());

/// A person who may sign in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Id.
    pub id: Uuid,
    /// As it was typed when the user was made.
    pub username: String,
    /// Address, if known.
    pub email: Option<String>,
    /// Role.
    pub role: Role,
    /// A user who is not cannot sign in.
    pub is_active: bool,
    /// Nothing but a change of the password is allowed.
    pub must_change_password: bool,
    /// Tokens of an older epoch have ended.
    pub token_epoch: i64,
    /// Increases by one with every change.
    pub version: i64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// When it last signed in.
    pub last_login_at: Option<DateTime<Utc>>,
}

impl User {
    /// Whether the product can be administered by this user.
    pub(crate) fn is_active_admin(&self) -> bool {
        self.is_active && self.role == Role::Admin
    }

    /// Whether the tokens that `before` had must end, now that the user is this one.
    pub(crate) fn ends_tokens_of(&self, before: &User) -> bool {
        self.role != before.role
            || self.is_active != before.is_active
            // A token says whether the password must be changed: an old one would not.
            || (self.must_change_password && !before.must_change_password)
    }
}

/// The form in which usernames are compared.
pub(crate) fn username_key(username: &str) -> String {
    username.to_lowercase()
}

/// Whether the text can be a username: letters, digits and `._@-`, the first a letter or digit, 1 to 64.
pub(crate) fn is_username(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= MAX_USERNAME
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"._@-".contains(b))
}

/// Notes what is wrong with a new username.
pub(crate) fn check_username(fields: &mut Fields, username: &str) {
    fields.check(
        is_username(username),
        "username",
        "must have 1 to 64 letters, digits or . _ @ -, the first a letter or digit",
    );
}

/// Notes what is wrong with an email address. Only what no address can be is refused.
pub(crate) fn check_email(fields: &mut Fields, email: &str) {
    let plausible = email.len() <= MAX_EMAIL
        && !email.chars().any(|c| c.is_whitespace() || c.is_control())
        && email.rsplit_once('@').is_some_and(|(local, domain)| {
            !local.is_empty() && !domain.is_empty() && !domain.starts_with('.') && !domain.ends_with('.')
        });
    fields.check(plausible, "email", "must be an email address of at most 254 characters");
}

/// Notes a role that no person can have.
pub(crate) fn check_role(fields: &mut Fields, role: &str) -> Option<Role> {
    let parsed = role.parse().ok();
    fields.check(parsed.is_some(), "role", &format!("must be one of {}", Role::NAMES.join(", ")));
    parsed
}

/// Notes what is wrong with a new password.
pub(crate) fn check_password(fields: &mut Fields, field: &str, password: &str, username: &str, min: usize) {
    let length = password.chars().count();
    let lower = password.to_lowercase();
    if !(min..=MAX_PASSWORD).contains(&length) {
        fields.add(field, format!("must have {min} to {MAX_PASSWORD} characters"));
    } else if lower == username_key(username) {
        fields.add(field, "must not be the username");
    } else if WORST.contains(lower.as_str()) {
        fields.add(field, "is among the passwords that everybody tries first; choose another");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(check: impl FnOnce(&mut Fields)) -> Option<String> {
        let mut fields = Fields::default();
        check(&mut fields);
        fields.finish().err().map(|failure| failure.message().to_owned())
    }

    #[test]
    fn usernames_are_plain_and_bounded() {
        for good in ["a", "A9", "red.team-1@example_x", &"x".repeat(64)] {
            assert!(is_username(good), "{good}");
        }
        for bad in ["", ".a", "@a", "-a", "a b", "a\0", "é", "a/b", "a'b", &"x".repeat(65)] {
            assert!(!is_username(bad), "{bad:?}");
        }
    }

    #[test]
    fn emails_are_plausible() {
        for good in ["a@b", "first.last+tag@example.org", "ü@exämple.org", "\"a@b\"@c.d"] {
            assert_eq!(problem(|f| check_email(f, good)), None, "{good}");
        }
        let long = format!("{}@b", "a".repeat(253));
        for bad in ["", "a", "@b", "a@", "a b@c", "a@.b", "a@b.", "a@b\n", &long] {
            assert!(problem(|f| check_email(f, bad)).is_some(), "{bad:?}");
        }
    }

    #[test]
    fn the_list_of_worst_passwords_is_in_order() {
        assert!(WORST.len() >= 300);
        assert!(WORST.iter().all(|p| p.to_lowercase() == **p && p.trim() == *p));
    }

    #[test]
    fn new_passwords_have_a_length_and_are_not_obvious() {
        let check = |password: &str| problem(|f| check_password(f, "password", password, "Alice.Smith", 8));
        assert_eq!(check("correct horse"), None);
        assert_eq!(check(&"é".repeat(128)), None);
        for bad in ["", "seven77", &"é".repeat(129), "alice.SMITH", "Password123", "QWERTYUIOP"] {
            let problem = check(bad).unwrap();
            assert!(problem.starts_with("password: "), "{problem}");
            assert!(bad.is_empty() || !problem.contains(bad), "{problem}");
        }
    }

    #[test]
    fn only_people_have_roles_to_give() {
        assert_eq!(problem(|f| assert_eq!(check_role(f, "blue_lead"), Some(Role::BlueLead))), None);
        for bad in ["service", "Admin", ""] {
            assert!(problem(|f| assert_eq!(check_role(f, bad), None)).is_some());
        }
    }
}
