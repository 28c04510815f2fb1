//! Rules of evidence: names, sides, links, parts of files, manifests.

mod file_name;
mod link;
pub(crate) mod manifest;
pub(crate) mod range;
mod team;

pub(crate) use file_name::clean;
pub use link::LinkError;
pub(crate) use link::LinkSigner;
pub(crate) use team::{TEAMS, default_team, may_claim};
