//! What holds for tests whatever stores and calls there are.

pub mod permissions;
pub mod workflow;
