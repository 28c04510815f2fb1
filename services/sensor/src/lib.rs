//! The decoys' own servers: a process of its own that faces attackers and is trusted with nothing but handing events in.

#![recursion_limit = "256"] // Answers of engines are large `json!` texts.

mod buffer;
pub mod config;
pub mod contain;
mod control;
pub mod decoys;
pub mod fingerprint;
mod hosting;
mod intake;
mod keep;
mod limits;
mod link;
mod listen;
mod outlet;
pub mod persona;
pub mod protocol;
mod run;
pub mod session;
mod shell;
mod sweeps;
pub mod testing;

pub use config::Config;
pub use run::{prepare, run};
