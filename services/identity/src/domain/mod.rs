//! Rules without I/O: users and their passwords, API keys, the chain of the audit trail, who is notified of what.

pub(crate) mod api_key;
pub(crate) mod audit;
pub(crate) mod chain;
pub(crate) mod export;
pub(crate) mod lanes;
pub(crate) mod notice;
pub(crate) mod user;
