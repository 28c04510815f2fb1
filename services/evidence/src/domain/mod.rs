//! Rules of evidence: names, sides, links.

mod file_name;
mod link;
mod team;

pub(crate) use file_name::clean;
pub use link::LinkError;
pub(crate) use link::LinkSigner;
pub(crate) use team::{TEAMS, default_team, may_claim};
