//! The settings of the service.

use std::time::Duration;

use aegis_error::{Failure, Fields};
use secrecy::{ExposeSecret, SecretString};

/// Shorter secrets could be guessed.
const MIN_SECRET: usize = 32;

/// The settings of the service; the composition root fills them.
#[derive(Clone, Debug)]
pub struct Config {
    /// Largest file, bytes.
    pub max_bytes: u64,
    /// How long a link holds. On S3 the store itself serves it, and goes on to do so when the user for whom it was made
    /// is disabled: keep it short.
    pub link_lifetime: Duration,
    /// Signs links; the same on every replica, at least 32 bytes. There is no default.
    pub link_secret: SecretString,
    /// Where the gateway serves evidence, without a slash at the end.
    pub public_path: String,
    /// How often the whole store is looked through: for blobs that nothing names, and for files whose blobs are gone.
    pub look_interval: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            max_bytes: 1024 * 1024 * 1024,
            link_lifetime: Duration::from_secs(15 * 60),
            link_secret: SecretString::default(),
            public_path: "/api/v1/evidence".to_owned(),
            look_interval: Duration::from_secs(6 * 60 * 60),
        }
    }
}

impl Config {
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let mut fields = Fields::default();
        fields.check(self.max_bytes > 0, "max_bytes", "must be 1 or more");
        fields.check(self.link_lifetime.as_secs() > 0, "link_lifetime", "must be a second or more");
        fields.check(self.look_interval.as_secs() > 0, "look_interval", "must be a second or more");
        let long = self.link_secret.expose_secret().len() >= MIN_SECRET;
        fields.check(long, "link_secret", "must have 32 bytes or more");
        fields.finish()
    }
}
