//! All the SQL of the service.

pub(crate) mod api_keys;
pub(crate) mod audit;
pub(crate) mod audit_chunk;
pub(crate) mod dialect;
pub(crate) mod keys;
pub(crate) mod notifications;
pub(crate) mod preferences;
pub(crate) mod revocations;
pub(crate) mod users;
