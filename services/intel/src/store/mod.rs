//! All SQL.

pub(crate) mod dialect;
pub(crate) mod feed;
pub(crate) mod item;
pub(crate) mod job;
pub(crate) mod kev;
pub(crate) mod schedule;
pub(crate) mod source;
