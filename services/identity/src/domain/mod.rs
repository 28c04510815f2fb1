//! Rules without I/O: users and their passwords, the chain of the audit trail, who is notified of what.

pub(crate) mod audit;
pub(crate) mod notice;
pub(crate) mod user;
