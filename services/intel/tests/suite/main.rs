//! The whole service over its gRPC interface, on every database, with a catalog that only counts.
#![allow(clippy::unwrap_used)] // a test fails by panicking, also in its helpers

mod conditions;
mod rules;
mod sources;
mod syncs;
mod world;
