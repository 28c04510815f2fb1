//! The whole service over its gRPC interface, on every database, with a catalog that only counts.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod catalog;
mod conditions;
mod faults;
mod jobs;
mod mirror;
mod real;
mod rules;
mod scan;
mod scan_world;
mod scheduler;
mod sources;
mod syncs;
mod uploads;
mod world;
