//! Every parser of what comes from outside, over its seeds and over what a moment's changes make of them.
//!
//! `cargo xtask fuzz` does the same for as long as wanted, guided by what the code has seen (deploy/fuzz).
#![allow(clippy::unwrap_used)] // a test fails by panicking, also in its helpers

mod change;
#[path = "../../../../deploy/fuzz/src/targets.rs"]
mod targets;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use change::Changes;
use targets::Target;

/// For each target; `AEGIS_TEST_FUZZ_MS` for another time.
const BUDGET: Duration = Duration::from_millis(300);
/// Inputs of one target, however fast it is.
const MOST: usize = 20_000;
/// A parser that takes longer over one input of some hundred bytes has a fault.
const TOO_LONG: Duration = Duration::from_secs(20);

static PANICS: AtomicUsize = AtomicUsize::new(0);

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/fuzz/seeds").join(target);
    let Ok(entries) = std::fs::read_dir(&folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Whether it took the input; a fault in a task of its own counts too.
fn takes(target: Target, input: &[u8]) -> bool {
    let before = PANICS.load(Ordering::SeqCst);
    let since = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| target(input)));
    result.is_ok() && PANICS.load(Ordering::SeqCst) == before && since.elapsed() < TOO_LONG
}

fn fuzz(name: &str, target: Target, budget: Duration) -> Result<usize, String> {
    let seeds = seeds(name);
    if seeds.is_empty() {
        return Err(format!("{name} has no seed: put one in deploy/fuzz/seeds/{name}"));
    }
    let refused = |input: &[u8]| {
        let path = std::env::temp_dir().join(format!("aegis-fuzz-{name}"));
        std::fs::write(&path, input).unwrap();
        Err(format!("{name} failed over {} bytes: {}", input.len(), path.display()))
    };
    for seed in &seeds {
        if !takes(target, seed) {
            return refused(seed);
        }
    }
    let mut changes = Changes::new(name, seeds);
    let (since, mut count) = (Instant::now(), 0);
    while since.elapsed() < budget && count < MOST {
        let input = changes.another();
        if !takes(target, &input) {
            return refused(&input);
        }
        count += 1;
    }
    Ok(count)
}

#[test]
fn whatever_comes_from_outside_is_taken_or_refused() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        told(panic);
    }));
    let budget = std::env::var("AEGIS_TEST_FUZZ_MS").ok().and_then(|text| text.parse().ok());
    let budget = budget.map_or(BUDGET, Duration::from_millis);
    let faults = Mutex::new(Vec::new());
    // One after the other: whose fault it was is to be known.
    for (name, target) in targets::all() {
        match fuzz(name, target, budget) {
            Ok(count) => println!("{name}: {count} inputs"),
            Err(fault) => faults.lock().unwrap_or_else(PoisonError::into_inner).push(fault),
        }
    }
    let faults = faults.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
