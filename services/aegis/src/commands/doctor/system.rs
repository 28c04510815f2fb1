//! What this machine lets the product do.

use std::fs;

use rustix::{
    process::{Resource, getrlimit},
    thread::CapabilitySet,
};

use super::{
    Findings,
    report::{Finding, Level},
};
use crate::settings::Settings;

/// Files, connections among them, below which a process runs out soon.
const FEW_FILES: u64 = 4096;
/// The lowest of the usual ports that decoys want.
const LOWEST: u32 = 21;

/// Looks at it.
pub(super) async fn check(settings: &Settings) -> Findings {
    let mut findings = vec![open_files()];
    // Decoys of the product in one process are hosted here; others ask where they are.
    if settings.sensor && settings.broker_url.is_none() {
        findings.extend(sensor(settings));
    }
    findings
}

fn open_files() -> Finding {
    let limit = getrlimit(Resource::Nofile).current;
    match limit {
        Some(limit) if limit < FEW_FILES => Finding::new(Level::Warning, format!("a process may open {limit} files"))
            .advice(format!(
                "give it {FEW_FILES} or more: LimitNOFILE= of its unit, ulimits of its container, ulimit -n"
            )),
        Some(limit) => Finding::ok(format!("a process may open {limit} files")),
        None => Finding::ok("a process may open any number of files"),
    }
}

fn sensor(settings: &Settings) -> Findings {
    let offered = aegis_sensor::contain::offered();
    let mut findings = Vec::new();
    let landlock = match offered.landlock {
        "full" => Finding::ok("the sensor can be contained: files and connections (landlock)"),
        "partial" => {
            Finding::new(Level::Warning, "the kernel contains a sensor's files, not its connections (landlock)")
                .advice("Linux 6.7 or newer does; until then let a firewall hold the sensor")
        }
        _ => Finding::new(Level::Warning, "the kernel does not contain a sensor (landlock)")
            .advice("Linux 6.7 or newer with landlock among the `lsm=` does; until then host decoys elsewhere"),
    };
    findings.push(landlock);
    if !offered.seccomp {
        findings.push(
            Finding::new(Level::Warning, "the kernel does not limit a sensor's system calls (seccomp)")
                .advice("use a kernel with seccomp filters"),
        );
    }
    let from = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let from: u32 = from.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024);
    let may_bind =
        rustix::thread::capabilities(None).is_ok_and(|sets| sets.permitted.contains(CapabilitySet::NET_BIND_SERVICE));
    findings.push(match may_bind || from <= LOWEST {
        true => Finding::ok("decoys can have the usual ports"),
        false => Finding::new(
            Level::Note,
            format!(
                "ports below {from} need CAP_NET_BIND_SERVICE; decoys on loopback addresses are at the usual ports plus {}",
                settings.decky_port_offset
            ),
        ),
    });
    findings
}
