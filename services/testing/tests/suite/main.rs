//! The service through its gRPC face, on each database, with a catalogue that knows a handful of techniques.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, also in its helpers"
)]

mod catalog;
mod conditions;
mod create;
mod edits;
mod lists;
mod records;
mod workflow;
mod world;
