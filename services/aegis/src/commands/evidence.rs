//! `aegis evidence …`: without the product, on files alone.

mod folder;
mod manifest;

use std::{io::IsTerminal, process::ExitCode, time::Duration};

use anstream::{eprintln, println};
use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use owo_colors::OwoColorize;
use serde_json::{Value, json};

use crate::{
    cli::{EvidenceCommand, EvidenceVerifyArgs},
    output::Output,
};

use folder::{Found, Status};
use manifest::Manifest;

/// How often the bar is drawn anew.
const TICK: Duration = Duration::from_millis(100);

/// Runs it; 1 when anything is not as it was.
pub fn run(command: &EvidenceCommand, output: Output) -> Result<ExitCode> {
    let EvidenceCommand::Verify(args) = command;
    let report = verify(args, output)?;
    if output.json {
        println!("{}", report.json());
    } else {
        report.print(output);
    }
    Ok(if report.good() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// What was found.
struct Report {
    manifest: Manifest,
    /// The key is one of those that the person trusts; `None` where none were named.
    trusted: Option<bool>,
    found: Found,
}

/// Looks at everything. An error is a manifest that proves nothing.
fn verify(args: &EvidenceVerifyArgs, output: Output) -> Result<Report> {
    let manifest = Manifest::open(&args.manifest)?;
    if let Some(jwks) = &args.jwks {
        manifest.signed_by_one_of(jwks)?;
    }
    let own = [Some(&args.manifest), args.jwks.as_ref()];
    let own: Vec<_> = own.into_iter().flatten().filter_map(|path| path.canonicalize().ok()).collect();
    let bar = bar(output)?;
    let found = folder::compare(&manifest.files, &args.folder, &own, &bar);
    bar.finish_and_clear();
    Ok(Report { trusted: args.jwks.is_some().then_some(true), manifest, found: found? })
}

/// A bar on standard error, if somebody sees it.
fn bar(output: Output) -> Result<ProgressBar> {
    if output.json || !std::io::stderr().is_terminal() {
        return Ok(ProgressBar::hidden());
    }
    let style = ProgressStyle::with_template("{bytes:>10} of {total_bytes} [{bar:40.green}] {bytes_per_sec} {msg}")?;
    let bar = ProgressBar::new(0).with_style(style);
    bar.enable_steady_tick(TICK);
    Ok(bar)
}

impl Report {
    /// Every file is there as it was.
    fn good(&self) -> bool {
        self.found.files.iter().all(|file| file.status == Status::Ok)
    }

    fn count(&self, status: Status) -> usize {
        self.found.files.iter().filter(|file| file.status == status).count()
    }

    fn json(&self) -> Value {
        let files = self.found.files.iter().zip(&self.manifest.files).map(|(checked, file)| {
            json!({
                "id": file.id, "file_name": file.file_name, "status": checked.status.name(),
                "found_as": checked.found_as, "problem": checked.problem, "sha256": file.sha256,
            })
        });
        json!({
            "valid": self.good(), "test": { "id": self.manifest.test.id, "name": self.manifest.test.name },
            "key": { "thumbprint": self.manifest.thumbprint, "trusted": self.trusted },
            "ok": self.count(Status::Ok), "altered": self.count(Status::Altered),
            "missing": self.count(Status::Missing), "files": files.collect::<Vec<_>>(), "extra": self.found.extra,
        })
    }

    fn print(&self, output: Output) {
        for (checked, file) in self.found.files.iter().zip(&self.manifest.files) {
            let name = shown(&file.file_name);
            let other = checked.found_as.as_ref().filter(|found| **found != file.file_name);
            let place = other.map(|found| format!(", here {}", shown(found))).unwrap_or_default();
            match checked.status {
                Status::Ok => println!("{} {name}{place}", "✓".green()),
                status => {
                    println!("{} {name}{place}: {} ({})", "✗".red().bold(), status.name().red(), checked.problem);
                }
            }
        }
        for name in &self.found.extra {
            println!("{} {}: not in the manifest, which says nothing of it", "?".yellow(), shown(name));
        }
        if self.found.unnamed > 0 {
            println!("{} and {} more that are not in the manifest", "?".yellow(), self.found.unnamed);
        }
        match self.trusted {
            Some(_) => output.done("the signature holds, by a key of the file that you gave"),
            None => {
                output.done("the signature holds");
                eprintln!(
                    "{} whose key it is was not checked: compare its thumbprint {}\n  with the product's, or give \
                     the product's keys with --jwks (they are at /.well-known/jwks.json)",
                    "note:".yellow().bold(),
                    self.manifest.thumbprint,
                );
            }
        }
        let all = self.found.files.len();
        if self.good() {
            let test = shown(&self.manifest.test.name);
            output.done(&format!("all {all} files of the test '{test}' are as they were brought"));
            return;
        }
        let (altered, missing) = (self.count(Status::Altered), self.count(Status::Missing));
        output.error(&format!(
            "{altered} altered and {missing} missing of {all} files: download them again from the test, and ask \
             GET /api/v1/evidence/{{id}}/verify whether the product's own copies are intact"
        ));
    }
}

/// A file's name as a terminal may show it: nothing in it moves the cursor or turns text around.
fn shown(name: &str) -> String {
    let mut shown = String::with_capacity(name.len());
    for c in name.chars() {
        if c.is_control() || misleads(c) { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    shown
}

fn misleads(c: char) -> bool {
    matches!(c,
        '\u{061C}' | '\u{200B}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{2069}'
        | '\u{FEFF}')
}

#[cfg(test)]
mod tests;
