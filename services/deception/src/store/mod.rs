//! All the SQL of deception.

pub(crate) mod alerts;
pub(crate) mod artifacts;
pub(crate) mod attackers;
pub(crate) mod bounty;
pub(crate) mod fleet;
pub(crate) mod follow;
pub(crate) mod logs;
pub(crate) mod observations;
pub(crate) mod runs;
pub(crate) mod sensors;
pub(crate) mod sessions;
pub(crate) mod settings;
pub(crate) mod sigma;
pub(crate) mod tracks;
