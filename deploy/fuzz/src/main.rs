//! One program for all targets: AEGIS_FUZZ_TARGET says which. libFuzzer brings `main`.
#![no_main]

mod targets;

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use targets::Target;

static TARGET: OnceLock<Target> = OnceLock::new();

/// The target that the environment names; the names of all, where it names none.
fn chosen() -> Target {
    let name = std::env::var("AEGIS_FUZZ_TARGET").unwrap_or_default();
    if let Some((_, target)) = targets::all().find(|(known, _)| *known == name) {
        return target;
    }
    for (name, _) in targets::all() {
        println!("{name}");
    }
    std::process::exit(if name.is_empty() { 0 } else { 2 });
}

fuzz_target!(
    init: {
        let _ = rustls::crypto::ring::default_provider().install_default();
        TARGET.get_or_init(chosen);
    },
    |data: &[u8]| {
        TARGET.get_or_init(chosen)(data);
    }
);
