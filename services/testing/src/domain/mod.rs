//! What holds for tests whatever stores and calls there are.

pub mod campaign;
pub mod permissions;
pub mod workflow;
