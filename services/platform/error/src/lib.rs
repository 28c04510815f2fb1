//! Error codes, the one table code ↔ gRPC status ↔ HTTP status, and the failure that carries a code over the wire.

mod code;
mod failure;

pub use code::Code;
pub use failure::{Failure, FieldError, Fields};
