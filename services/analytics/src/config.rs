//! The settings of this service.

/// What the composition root can set.
#[derive(Clone, Debug)]
pub struct Config {
    /// Scheduled snapshots that are kept: the newest. Weekly, 160 are three years.
    pub snapshots_kept: u32,
}

impl Default for Config {
    fn default() -> Self {
        Config { snapshots_kept: 160 }
    }
}
