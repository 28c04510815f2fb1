//! What the developer sees: coloured progress lines on standard error.

use std::time::Instant;

use anstream::eprintln;
use owo_colors::OwoColorize as _;

/// Something begins.
pub fn step(name: &str, text: &str) {
    eprintln!("{} {} {text}", "→".cyan().bold(), format!("{name:<11}").bold());
}

/// Something is done; says how long it took.
pub fn done(name: &str, text: &str, since: Instant) {
    let took = format!("{:.1} s", since.elapsed().as_secs_f64());
    eprintln!("{} {} {text} {}", "✓".green().bold(), format!("{name:<11}").bold(), took.dimmed());
}

/// Something worth knowing that is no fault.
pub fn note(text: &str) {
    eprintln!("{} {text}", "·".yellow().bold());
}

/// Why the command fails.
pub fn error(text: &str) {
    eprintln!("{} {text}", "error:".red().bold());
}
