//! What a person or a program reads from the command line.

use anstream::{eprintln, println};
use owo_colors::OwoColorize;

/// How to answer.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// For machines.
    pub json: bool,
}

impl Output {
    /// An error, on standard error.
    pub fn error(&self, message: &str) {
        if self.json {
            eprintln!("{}", serde_json::json!({ "error": message }));
        } else {
            eprintln!("{} {message}", "error:".red().bold());
        }
    }

    /// A good end.
    pub fn done(&self, message: &str) {
        if !self.json {
            println!("{} {message}", "✓".green().bold());
        }
    }

    /// One line of a list of things that are well or not.
    pub fn row(&self, good: bool, name: &str, state: &str) {
        if good {
            println!("{} {name:<20} {state}", "✓".green());
        } else {
            println!("{} {name:<20} {}", "✗".red().bold(), state.red());
        }
    }
}
