//! What was found, for a person and for machines.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anstream::println;
use owo_colors::OwoColorize;
use serde::Serialize;

use crate::{output::Output, settings::Settings};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// Works, and will not do so for ever.
    Warning,
    /// Wrong.
    Problem,
    /// Something that the settings name does not answer.
    Unreachable,
}

/// One thing that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    area: &'static str,
    subject: String,
    level: Level,
    what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Finding {
    /// Something of this level; area and subject are given by who asked.
    pub fn new(level: Level, what: impl Into<String>) -> Finding {
        Finding { area: "", subject: String::new(), level, what: what.into(), advice: None }
    }

    /// All is well.
    pub fn ok(what: impl Into<String>) -> Finding {
        Finding::new(Level::Ok, what)
    }

    /// What to do about it.
    pub fn advice(self, advice: impl Into<String>) -> Finding {
        Finding { advice: Some(advice.into()), ..self }
    }

    /// Of something within what is looked at.
    pub fn about(self, subject: impl Into<String>) -> Finding {
        Finding { subject: subject.into(), ..self }
    }

    /// Where it was found.
    pub fn of(self, area: &'static str, subject: &str) -> Finding {
        let subject = if self.subject.is_empty() { subject.to_owned() } else { self.subject };
        Finding { area, subject, ..self }
    }
}

/// All that was found.
pub struct Report {
    /// In the order of the checks.
    pub findings: Vec<Finding>,
    /// When the first check began.
    pub began: Instant,
}

impl Report {
    fn worst(&self) -> Level {
        self.findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
    }

    fn count(&self, level: Level) -> usize {
        self.findings.iter().filter(|finding| finding.level == level).count()
    }

    fn code(&self) -> u8 {
        match self.worst() {
            Level::Ok | Level::Note | Level::Warning => 0,
            Level::Problem => 1,
            Level::Unreachable => 3,
        }
    }

    /// As the command line states it.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code())
    }

    /// Prints it.
    pub fn tell(&self, settings: &Settings, output: Output) {
        let seconds = Duration::as_secs_f64(&self.began.elapsed());
        if output.json {
            println!(
                "{}",
                serde_json::json!({
                    "version": env!("CARGO_PKG_VERSION"),
                    "embedded": settings.database_url.is_none(),
                    "worst": self.worst(), "exit_code": self.code(), "checks": self.findings, "seconds": seconds,
                })
            );
            return;
        }
        let mut last = ("", "");
        for finding in &self.findings {
            let here = (finding.area, finding.subject.as_str());
            let (area, subject) = if here == last { ("", "") } else { here };
            let area = if area == last.0 { "" } else { area };
            last = here;
            let place = format!("{area:<12} {subject:<14}");
            let what = &finding.what;
            match finding.level {
                Level::Ok => println!("{} {place} {what}", "✓".green()),
                Level::Note => println!("{} {place} {}", "·".blue(), what.dimmed()),
                Level::Warning => println!("{} {place} {}", "!".yellow().bold(), what.yellow()),
                Level::Problem | Level::Unreachable => println!("{} {place} {}", "✗".red().bold(), what.red()),
            }
            if let Some(advice) = &finding.advice {
                println!("  {:<27} → {advice}", "");
            }
        }
        let problems = self.count(Level::Problem) + self.count(Level::Unreachable);
        let many = |count: usize, one: &str, more: &str| format!("{count} {}", if count == 1 { one } else { more });
        let sum = format!(
            "{}, {}, {seconds:.1} s",
            many(problems, "problem", "problems"),
            many(self.count(Level::Warning), "warning", "warnings")
        );
        println!();
        match self.worst() {
            Level::Ok | Level::Note => println!("{} {sum}", "All is well:".green().bold()),
            Level::Warning => println!("{} {sum}", "It works:".yellow().bold()),
            Level::Problem | Level::Unreachable => println!("{} {sum}", "Something is wrong:".red().bold()),
        }
    }
}

/// A span of time, for people.
pub fn span(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} minutes", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} hours", s / 3600.0),
        s => format!("{:.0} days", s / 86_400.0),
    }
}

/// An error and its causes in one line, without the words of those that say the same.
pub fn sentence(error: &(dyn std::error::Error + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut cause = Some(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
        cause = error.source();
    }
    parts.join(": ")
}
