//! What came of each case, as a table or as JSON.

use std::fs;
use std::time::{Duration, Instant};

use anstream::println;
use owo_colors::OwoColorize as _;
use serde_json::json;

use super::SETTLED;
use super::cases::Case;
use super::counted::{self, Counts};
use super::journal::Journal;
use super::probes::RECOVERY;
use super::site::Site;
use super::world::World;
use crate::ui;

/// One that happened a second time has come by then.
const LATE: Duration = Duration::from_secs(2);
/// What all cases together are called.
const ALL: &str = "all";

/// What came of one case.
#[derive(Debug)]
pub struct Row {
    what: (String, String),
    skipped: Option<&'static str>,
    confirmed: u64,
    refused: u64,
    slowest: (&'static str, Duration),
    recovered: Option<Duration>,
    settled: Duration,
    lost: usize,
    doubled: usize,
    /// Everything that should not have been.
    pub wrong: Vec<String>,
}

impl Row {
    /// Of a case that was gone through.
    pub fn new(journal: &Journal, recovered: Result<Duration, String>, counts: Counts) -> Row {
        let mut wrong: Vec<String> = Vec::new();
        for (what, times) in &journal.wrong {
            wrong.push(if *times > 1 { format!("{what} ({times} times)") } else { what.clone() });
        }
        match &recovered {
            Ok(took) if *took > RECOVERY => {
                wrong.push(format!("it took {:.1} s until all was well", took.as_secs_f64()))
            }
            Ok(_) => {}
            Err(why) => wrong.push(format!("all is not well again: {why}")),
        }
        let mut row = Row {
            confirmed: journal.kinds.values().map(|kind| kind.good).sum(),
            refused: journal.refused(),
            slowest: journal.slowest(),
            recovered: recovered.ok(),
            ..Row::of((journal.case.target.to_string(), journal.case.fault.to_string()), wrong)
        };
        row.add(counts);
        row
    }

    /// What was counted, maybe not for the first time.
    pub fn add(&mut self, counts: Counts) {
        self.settled = self.settled.max(counts.settled);
        self.lost += counts.lost.len();
        self.doubled += counts.doubled.len();
        self.wrong.extend(counts.lost.into_iter().map(|what| format!("lost: {what}")));
        self.wrong.extend(counts.doubled.into_iter().map(|what| format!("doubled: {what}")));
    }

    /// Whether it was not tried.
    pub fn is_skipped(&self) -> bool {
        self.skipped.is_some()
    }

    fn is_case(&self) -> bool {
        self.what.0 != ALL
    }

    /// Of one that cannot be tried here.
    pub fn skipped(case: Case, why: &'static str) -> Row {
        Row { skipped: Some(why), ..Row::of((case.target.to_string(), case.fault.to_string()), Vec::new()) }
    }

    fn of(what: (String, String), wrong: Vec<String>) -> Row {
        Row {
            what,
            skipped: None,
            confirmed: 0,
            refused: 0,
            slowest: Default::default(),
            recovered: None,
            settled: Duration::ZERO,
            lost: 0,
            doubled: 0,
            wrong,
        }
    }

    fn verdict(&self) -> &'static str {
        match (self.skipped, self.wrong.is_empty()) {
            (Some(_), _) => "skipped",
            (None, true) => "good",
            (None, false) => "WRONG",
        }
    }
}

/// What is looked at once all cases are through: all that was confirmed in any of them, which no later fault may have
/// taken or doubled, the chain of the audit trail, and panics in the logs.
pub async fn last_row(site: &Site, world: &World, journals: &[Journal]) -> Row {
    tokio::time::sleep(LATE).await;
    let mut row = Row::of((ALL.to_owned(), "again".to_owned()), Vec::new());
    row.confirmed = journals.iter().flat_map(|journal| journal.kinds.values()).map(|kind| kind.good).sum();
    row.add(counted::compare(site, journals, SETTLED).await);
    if let Err(error) = counted::chain(site).await {
        row.wrong.push(format!("{error:#}"));
    }
    for entry in fs::read_dir(&world.logs).into_iter().flatten().flatten() {
        let text = fs::read(entry.path()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        for line in text.lines().filter(|line| line.contains("panicked")).take(3) {
            row.wrong.push(format!("{}: {line}", entry.file_name().to_string_lossy()));
        }
    }
    row
}

/// Said as soon as it is known.
pub fn progress(row: &Row) {
    let name = format!("{}:{}", row.what.0, row.what.1);
    if let Some(why) = row.skipped {
        return ui::note(&format!("{name} is skipped: {why}"));
    }
    let recovered = row.recovered.map_or("never".to_owned(), |took| format!("{:.1} s", took.as_secs_f64()));
    let line = if row.is_case() {
        format!("{name:<22} {:>5} confirmed, {:>4} refused, well after {recovered}", row.confirmed, row.refused)
    } else {
        format!("{name:<22} {:>5} confirmed, counted in {:.1} s", row.confirmed, row.settled.as_secs_f64())
    };
    if row.wrong.is_empty() {
        anstream::eprintln!("{} {line}", "✓".green().bold());
    } else {
        anstream::eprintln!("{} {line}", "✗".red().bold());
        for what in row.wrong.iter().take(12) {
            anstream::eprintln!("    {what}");
        }
        if row.wrong.len() > 12 {
            anstream::eprintln!("    and {} more", row.wrong.len() - 12);
        }
    }
}

/// All of it.
pub fn print(rows: &[Row], as_json: bool, since: Instant) {
    if as_json {
        let rows: Vec<_> = rows
            .iter()
            .map(|row| {
                json!({
                    "target": row.what.0, "fault": row.what.1, "verdict": row.verdict().to_lowercase(),
                    "skipped": row.skipped, "confirmed": row.confirmed, "refused": row.refused,
                    "slowest_ms": millis(row.slowest.1), "slowest": row.slowest.0,
                    "recovered_ms": row.recovered.map(millis), "settled_ms": millis(row.settled),
                    "lost": row.lost, "doubled": row.doubled, "wrong": row.wrong,
                })
            })
            .collect();
        println!("{}", json!({ "cases": rows, "seconds": since.elapsed().as_secs() }));
        return;
    }
    println!(
        "{:<11} {:<8} {:>9} {:>7} {:>22} {:>9} {:>9} {:>5} {:>7}  verdict",
        "target", "fault", "confirmed", "refused", "slowest answer", "recovered", "settled", "lost", "doubled"
    );
    for row in rows {
        let seconds = |took: Duration| format!("{:.1} s", took.as_secs_f64());
        let slowest = format!("{} ({})", seconds(row.slowest.1), row.slowest.0);
        let line = format!(
            "{:<11} {:<8} {:>9} {:>7} {slowest:>22} {:>9} {:>9} {:>5} {:>7}",
            row.what.0,
            row.what.1,
            row.confirmed,
            row.refused,
            row.recovered.map_or("-".to_owned(), seconds),
            seconds(row.settled),
            row.lost,
            row.doubled,
        );
        match row.verdict() {
            "good" => println!("{line}  {}", "good".green()),
            "WRONG" => println!("{line}  {}", "WRONG".red().bold()),
            other => println!("{line}  {other}: {}", row.skipped.unwrap_or_default()),
        }
    }
    let cases = rows.iter().filter(|row| row.is_case()).count();
    println!("{cases} cases in {} s", since.elapsed().as_secs());
}

fn millis(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}
