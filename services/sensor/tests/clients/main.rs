//! Decoys and the clients that people use: each test talks to a decoy with a real one, and is skipped where that is not
//! installed.

mod binary;
mod common;
mod remote;
mod text;
