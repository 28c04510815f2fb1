//! What the publishers' documents mean, and the rules of syncs: pure, no network and no database.

pub(crate) mod counts;
pub(crate) mod schedule;
pub(crate) mod source;
pub mod stix;
