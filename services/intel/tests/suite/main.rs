//! The whole service over its gRPC interface, on every database, with a catalog that only counts.

mod rules;
mod sources;
mod syncs;
mod world;
