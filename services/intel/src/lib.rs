//! Knowledge from outside: fetches what its publishers release, reads it, and hands it to the services that own it.

pub mod domain;
pub mod fetch;
