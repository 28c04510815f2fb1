//! Decoys and the clients that people use: each test talks to a decoy with a real one, and is skipped where that is not
//! installed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, also in its helpers"
)]

mod binary;
mod common;
mod remote;
mod text;
