//! The rules of the catalogue, free of databases, transports and clocks.

pub mod actors;
pub mod import;
pub mod knowledge;
pub mod search;
pub mod starter;
pub mod status;
pub mod technique;
pub mod template;
