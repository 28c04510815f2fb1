//! The service through its gRPC face, on each database, with a catalogue that knows a handful of techniques.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, also in its helpers"
)]

mod bad_input;
mod bulk;
mod campaigns;
mod campaigns_catalog;
mod campaigns_generate;
mod campaigns_places;
mod campaigns_runs;
mod campaigns_schedules;
mod campaigns_world;
mod catalog;
mod comments;
mod conditions;
mod create;
mod deletes;
mod edits;
mod identity;
mod lists;
mod races;
mod records;
mod retests;
mod submitted;
mod workflow;
mod world;
