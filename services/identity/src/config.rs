//! Settings of the service. The composition root fills them from the product's configuration.

use std::time::Duration;

use aegis_error::{Failure, Fields};
use rand::{RngExt, distr::Alphanumeric};
use secrecy::{ExposeSecret, SecretString};

/// A token never lives longer, whatever is configured. Revocations of a user are kept this long, so that they
/// outlive tokens that were issued under another setting.
pub const MAX_TOKEN_LIFETIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// The shortest secret that processes of the product may share.
const MIN_SECRET: usize = 16;

/// Settings of identity.
#[derive(Clone, Debug)]
pub struct Config {
    /// Password of the `admin` made at the first start; random where there is none. Means nothing later.
    pub admin_password: Option<SecretString>,
    /// What a process of the product shows to get a token for background work; at least 16 characters.
    pub service_secret: SecretString,
    /// How long an access token holds; one minute to seven days.
    pub token_lifetime: Duration,
    /// Fewest characters of a new password; 8 to 64.
    pub password_min_length: usize,
    /// How many failed logins are too many.
    pub login_limits: LoginLimits,
    /// Days that audit records are kept; 30 or more, or 0 for ever.
    pub audit_retention_days: u32,
    /// Passwords that are hashed at the same time; each takes 19 MiB.
    pub hashing_workers: usize,
    /// Streams of notifications that one user may have open at one process.
    pub notification_streams_per_user: usize,
    /// Streams of notifications that may be open at one process.
    pub notification_streams: usize,
}

/// After how many failures within the window the next login is refused unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginLimits {
    /// How long a failure counts.
    pub window: Duration,
    /// For one username from one address.
    pub per_username_and_address: u64,
    /// For one address.
    pub per_address: u64,
    /// For one username.
    pub per_username: u64,
}

impl Default for LoginLimits {
    fn default() -> Self {
        LoginLimits {
            window: Duration::from_secs(5 * 60),
            per_username_and_address: 10,
            per_address: 100,
            per_username: 100,
        }
    }
}

impl Default for Config {
    /// The service secret is random: nobody knows it until one is set.
    fn default() -> Self {
        let secret: String = rand::rng().sample_iter(Alphanumeric).take(43).map(char::from).collect();
        Config {
            admin_password: None,
            service_secret: secret.into(),
            token_lifetime: Duration::from_secs(12 * 60 * 60),
            password_min_length: 8,
            login_limits: LoginLimits::default(),
            audit_retention_days: 0,
            hashing_workers: half_the_cores(),
            notification_streams_per_user: 10,
            notification_streams: 5000,
        }
    }
}

/// Hashing is heavy on caches and memory too: half of the machine stays for everything else.
fn half_the_cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() / 2).clamp(1, 64)
}

impl Config {
    /// Names everything that is wrong with the settings.
    pub fn check(&self) -> Result<(), Failure> {
        let mut fields = Fields::default();
        fields.check(
            self.service_secret.expose_secret().len() >= MIN_SECRET,
            "service_secret",
            "must have at least 16 characters",
        );
        fields.check(
            (Duration::from_secs(60)..=MAX_TOKEN_LIFETIME).contains(&self.token_lifetime),
            "token_lifetime",
            "must be one minute to seven days",
        );
        fields.check((8..=64).contains(&self.password_min_length), "password_min_length", "must be 8 to 64");
        fields.check(
            matches!(self.audit_retention_days, 0 | 30..=36500),
            "audit_retention_days",
            "must be 0 (for ever) or 30 to 36500",
        );
        fields.check((1..=64).contains(&self.hashing_workers), "hashing_workers", "must be 1 to 64");
        for (field, streams) in [
            ("notification_streams_per_user", self.notification_streams_per_user),
            ("notification_streams", self.notification_streams),
        ] {
            fields.check((1..=100_000).contains(&streams), field, "must be 1 to 100000");
        }
        let limits = &self.login_limits;
        fields.check(!limits.window.is_zero(), "login_limits.window", "must be more than nothing");
        for (field, limit) in [
            ("login_limits.per_username_and_address", limits.per_username_and_address),
            ("login_limits.per_address", limits.per_address),
            ("login_limits.per_username", limits.per_username),
        ] {
            fields.check(limit > 0, field, "must be 1 or more");
        }
        fields.finish()
    }
}
