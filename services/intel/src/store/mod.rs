//! All SQL.

pub(crate) mod dialect;
pub(crate) mod job;
pub(crate) mod source;
