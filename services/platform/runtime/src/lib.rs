//! What every process needs around its services: settings, an orderly stop, readiness.

pub mod config;
mod fields;
mod readiness;
mod service;
mod shutdown;

pub use config::{ConfigError, load};
pub use readiness::{Check, Readiness, Report};
pub use service::{Service, Task};
pub use shutdown::{Shutdown, signals};
