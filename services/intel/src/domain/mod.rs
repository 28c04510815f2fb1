//! What the publishers' documents mean, and the rules of syncs: pure, no network and no database.

pub mod compliance;
pub(crate) mod counts;
pub mod d3fend;
pub mod feeds;
pub(crate) mod jitter;
pub(crate) mod json;
pub mod kev;
pub mod knowledge;
pub(crate) mod matching;
pub mod misp;
pub mod rules;
pub(crate) mod source;
pub mod stix;
pub mod templates;
#[cfg(test)]
pub(crate) mod testing;
pub mod upload;
pub(crate) mod yaml;
