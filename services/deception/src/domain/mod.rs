//! What is true of decoys and attackers without a database or a clock.

pub(crate) mod alert;
pub(crate) mod archetypes;
pub(crate) mod artifact;
pub(crate) mod behavior;
pub(crate) mod bits;
pub(crate) mod event;
pub(crate) mod facts;
pub(crate) mod fingerprint;
pub(crate) mod fleet;
pub(crate) mod index;
pub(crate) mod ini;
pub(crate) mod lines;
pub(crate) mod names;
pub(crate) mod patterns;
pub(crate) mod phases;
pub(crate) mod profile;
pub(crate) mod search;
pub(crate) mod settings;
pub(crate) mod sigma;
pub(crate) mod tagging;
pub(crate) mod tools;
