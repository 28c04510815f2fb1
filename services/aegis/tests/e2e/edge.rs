//! The socket as attackers, browsers and other processes meet it: what is slow, huge or broken, TLS, and certificates
//! between the processes. Each test has a product of its own.

mod attacks;
mod certificates;
mod http2;
mod peers;
mod raw;
mod tls;

use std::process::Command;

use tempfile::TempDir;

use crate::harness::binary;

/// The one-process product in this folder, on a port that it chooses; without a sensor.
fn embedded(folder: &TempDir) -> Command {
    let mut command = binary();
    command
        .env("AEGIS_DATA_DIR", folder.path().join("data"))
        .env("AEGIS_LISTEN", "127.0.0.1:0")
        .env("AEGIS_ADMIN_PASSWORD", crate::harness::PASSWORD)
        .env("AEGIS_SENSOR", "false")
        .env("AEGIS_LOG", "warn,aegis=info");
    command
}
