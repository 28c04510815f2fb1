//! One module a command.

pub mod access;
pub mod audit;
pub mod backup;
pub mod doctor;
pub mod evidence;
pub mod health;
pub mod keys;
pub mod migrate;
pub mod rebuild;
pub mod restore;
pub mod sensor;
pub mod serve;
pub mod sync;
pub mod user;
