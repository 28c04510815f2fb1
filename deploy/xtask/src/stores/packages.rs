//! Servers that are missing, installed from the distribution's packages.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::{guard, proc, ui};

/// Whether this machine lets us install packages.
pub fn available() -> bool {
    proc::is_root() && proc::find_program("apt-get", &[]).is_some()
}

/// The clients with which tests talk to decoys, and the packages that have them.
const CLIENTS: [(&str, &str); 13] = [
    ("ssh", "openssh-client"),
    ("sshpass", "sshpass"),
    ("curl", "curl"),
    ("lftp", "lftp"),
    ("redis-cli", "redis-tools"),
    ("psql", "postgresql-client"),
    ("mysql", "default-mysql-client"),
    ("ldapsearch", "ldap-utils"),
    ("mosquitto_pub", "mosquitto-clients"),
    ("snmpget", "snmp"),
    ("nmap", "nmap"),
    ("hydra", "hydra"),
    ("openssl", "openssl"),
];

/// Installs the clients that are missing, where that can be done: tests leave out those that are not there, and say so.
pub fn clients() -> Result<()> {
    let missing = CLIENTS.iter().filter(|(program, _)| proc::find_program(program, &[]).is_none());
    let missing: Vec<&str> = missing.map(|(_, package)| *package).collect();
    if missing.is_empty() || !available() {
        return Ok(());
    }
    if let Err(error) = install(&missing) {
        ui::error(&format!("decoys are tested without {}: {error:#}", missing.join(", ")));
    }
    proc::check()
}

/// Installs `packages` and keeps their servers from starting by themselves.
pub fn install(packages: &[&str]) -> Result<()> {
    let since = Instant::now();
    let names = packages.join(" ");
    ui::step("packages", &format!("apt-get install {names}"));
    let _policy = NoAutostart::set()?;
    proc::run_ok(apt_get().args(["update", "-q"])).context("apt-get update")?;
    proc::run_ok(apt_get().args(["install", "-q", "-y", "--no-install-recommends"]).args(packages))
        .context("apt-get install")?;
    ui::done("packages", &format!("{names} installed"), since);
    Ok(())
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
    command
}

/// A policy file that forbids packages to start services while they are installed.
struct NoAutostart {
    ours: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl NoAutostart {
    fn set() -> Result<Self> {
        let ours = !Path::new(POLICY).exists();
        if ours {
            // Left behind it would keep every later package from starting its services.
            guard::folder(Path::new(POLICY));
            fs::write(POLICY, "#!/bin/sh\nexit 101\n")
                .and_then(|()| fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755)))
                .with_context(|| format!("cannot write {POLICY}"))?;
        }
        Ok(Self { ours })
    }
}

impl Drop for NoAutostart {
    fn drop(&mut self) {
        if self.ours {
            let _ = fs::remove_file(POLICY);
        }
    }
}
