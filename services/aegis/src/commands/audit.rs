//! `aegis audit …`: straight on identity's database, which may be a copy, or on an exported file.

use std::{
    fs::File,
    io::{BufReader, IsTerminal},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use aegis_db::Db;
use aegis_identity::admin::{self, Export, Progress};
use anyhow::{Context, Result, bail};
use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::{
    fs::OpenOptions,
    io::{AsyncWrite, AsyncWriteExt},
};

use crate::{cli::AuditCommand, commands::migrate, output::Output, roles::Role, settings::Settings};

/// How often the bar is drawn anew.
const TICK: Duration = Duration::from_millis(100);

/// Runs it; 1 when the chain is broken.
pub async fn run(settings: &Settings, command: AuditCommand, output: Output) -> Result<ExitCode> {
    match command {
        AuditCommand::Verify { file: Some(file), complete } => verify_file(file, complete, output).await,
        AuditCommand::Verify { file: None, .. } => {
            let db = migrate::up_to_date(settings, Role::Identity).await?;
            let result = verify(&db, output).await;
            db.close().await;
            result
        }
        AuditCommand::Export { from, to, out } => {
            let db = migrate::up_to_date(settings, Role::Identity).await?;
            let result = export(&db, from, to, out, output).await;
            db.close().await;
            result
        }
    }
}

async fn verify(db: &Db, output: Output) -> Result<ExitCode> {
    let began = Instant::now();
    let bar = bar(output, "{pos:>10} of {len} records [{bar:40.green}] {per_sec}")?;
    let progress = Progress::default();
    let mut tick = tokio::time::interval(TICK);
    let walk = admin::verify_audit(db, &progress);
    tokio::pin!(walk);
    let verdict = loop {
        tokio::select! {
            verdict = &mut walk => break verdict,
            _ = tick.tick() => {
                let (done, total) = progress.get();
                bar.set_length(total.unsigned_abs());
                bar.set_position(done.unsigned_abs());
            }
        }
    };
    bar.finish_and_clear();
    let verdict = verdict?;
    let pace = Pace::of(verdict.records, began);
    if output.json {
        let (seq, reason) = verdict.broken.as_ref().map(|found| (found.seq, found.reason)).unzip();
        println!(
            "{}",
            serde_json::json!({
                "valid": verdict.broken.is_none(), "records": verdict.records, "first_broken_seq": seq,
                "reason": reason, "head": verdict.head, "pruned_through_seq": verdict.pruned_through,
                "seconds": pace.seconds, "records_per_second": pace.per_second,
            })
        );
    }
    if let Some(found) = verdict.broken {
        output.error(&format!("the chain breaks at record {}: {}", found.seq, found.reason));
        return Ok(ExitCode::from(1));
    }
    let since = match verdict.pruned_through {
        0 => String::new(),
        through => format!(" (the first {through} were removed by age)"),
    };
    output.done(&format!("{} records, unbroken{since}, {pace}", verdict.records));
    if !output.json {
        println!("  head {}", verdict.head);
    }
    Ok(ExitCode::SUCCESS)
}

async fn verify_file(path: PathBuf, complete: bool, output: Output) -> Result<ExitCode> {
    let began = Instant::now();
    let file = File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let bar = bar(output, "{bytes:>10} of {total_bytes} [{bar:40.green}] {bytes_per_sec}")?;
    bar.set_length(file.metadata().map_or(0, |data| data.len()));
    let lines = BufReader::with_capacity(256 * 1024, bar.wrap_read(file));
    let verdict = tokio::task::spawn_blocking(move || admin::verify_export(lines)).await?;
    bar.finish_and_clear();
    let verdict = verdict.with_context(|| format!("cannot read {}", path.display()))?;
    let pace = Pace::of(verdict.records, began);
    let gap = verdict.first_gap.filter(|_| complete);
    if output.json {
        let (line, found) = verdict.broken.as_ref().map(|(line, found)| (*line, found)).unzip();
        println!(
            "{}",
            serde_json::json!({
                "valid": found.is_none() && gap.is_none(), "records": verdict.records,
                "first_broken_line": line, "first_broken_seq": found.map(|found| found.seq).or(gap),
                "reason": found.map(|found| found.reason).or(gap.map(|_| "the record is missing")),
                "head": verdict.head, "first_seq": verdict.span.map(|span| span.0),
                "last_seq": verdict.span.map(|span| span.1), "gaps": verdict.gaps,
                "seconds": pace.seconds, "records_per_second": pace.per_second,
            })
        );
    }
    if let Some((line, found)) = verdict.broken {
        output.error(&format!("the file breaks at line {line}, record {}: {}", found.seq, found.reason));
        return Ok(ExitCode::from(1));
    }
    if let Some(seq) = gap {
        output.error(&format!("record {seq} is not in the file"));
        return Ok(ExitCode::from(1));
    }
    let span = verdict.span.map(|(first, last)| format!(", {first} to {last}")).unwrap_or_default();
    let gaps = match verdict.gaps {
        0 => "without a gap".to_owned(),
        gaps => format!("with {gaps} gaps, as an export with a filter has"),
    };
    output.done(&format!("{} records{span}, unbroken, {gaps}, {pace}", verdict.records));
    Ok(ExitCode::SUCCESS)
}

async fn export(
    db: &Db,
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
    out: Option<PathBuf>,
    output: Output,
) -> Result<ExitCode> {
    let began = Instant::now();
    let Some(path) = out else {
        let export = admin::export_audit(db, from, to).await?;
        copy(export, &mut tokio::io::stdout(), output).await.context("cannot write to standard output")?;
        return Ok(ExitCode::SUCCESS);
    };
    if path.exists() {
        bail!("{} exists already", path.display());
    }
    // Under its name it is whole.
    let part = PathBuf::from(format!("{}.part", path.display()));
    let written = to_file(db, from, to, &part, output).await;
    let written = match written {
        Ok(records) => tokio::fs::rename(&part, &path).await.map(|()| records).map_err(Into::into),
        Err(error) => Err(error),
    };
    let records = match written {
        Ok(records) => records,
        Err(error) => {
            // What is there of it is of no use, and may never have been there.
            let _ = tokio::fs::remove_file(&part).await;
            return Err(error.context(format!("cannot write {}", path.display())));
        }
    };
    let pace = Pace::of(records, began);
    if output.json {
        println!(
            "{}",
            serde_json::json!({ "records": records, "file": path.display().to_string(), "seconds": pace.seconds })
        );
    }
    output.done(&format!("{records} records in {}, {pace}", path.display()));
    Ok(ExitCode::SUCCESS)
}

async fn to_file(
    db: &Db,
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
    part: &Path,
    output: Output,
) -> Result<i64> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    // Who did what from where is for the operator alone.
    #[cfg(unix)]
    options.mode(0o600);
    let mut file = options.open(part).await?;
    let export = admin::export_audit(db, from, to).await?;
    let records = copy(export, &mut file, output).await?;
    file.sync_all().await?;
    Ok(records)
}

async fn copy(mut export: Export, out: &mut (impl AsyncWrite + Unpin), output: Output) -> Result<i64> {
    let bar = bar(output, "{pos:>10} of {len} records [{bar:40.green}] {per_sec}")?;
    bar.set_length(export.left().unsigned_abs());
    let mut records = 0;
    while let Some(part) = export.next().await? {
        out.write_all(&part.lines).await?;
        records += part.records;
        bar.inc(part.looked_at.unsigned_abs());
    }
    out.flush().await?;
    bar.finish_and_clear();
    Ok(records)
}

/// A bar on standard error, if somebody sees it.
fn bar(output: Output, template: &str) -> Result<ProgressBar> {
    if output.json || !std::io::stderr().is_terminal() {
        return Ok(ProgressBar::hidden());
    }
    Ok(ProgressBar::new(1).with_style(ProgressStyle::with_template(template)?))
}

/// How long it took.
struct Pace {
    seconds: f64,
    per_second: f64,
}

impl Pace {
    fn of(records: i64, began: Instant) -> Pace {
        let seconds = began.elapsed().as_secs_f64();
        Pace { seconds, per_second: (records as f64 / seconds.max(1e-9)).round() }
    }
}

impl std::fmt::Display for Pace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} s, {:.0} records/s", self.seconds, self.per_second)
    }
}

/// Where a range begins: a time, or the first moment of a day.
pub fn since(text: &str) -> Result<DateTime<Utc>, String> {
    moment(text, TimeDelta::zero())
}

/// Where a range ends: a time, or the last moment of a day.
pub fn until(text: &str) -> Result<DateTime<Utc>, String> {
    moment(text, TimeDelta::days(1) - TimeDelta::microseconds(1))
}

fn moment(text: &str, of_day: TimeDelta) -> Result<DateTime<Utc>, String> {
    if let Ok(moment) = DateTime::parse_from_rfc3339(text) {
        return Ok(moment.to_utc());
    }
    NaiveDate::parse_from_str(text, "%Y-%m-%d")
        .ok()
        .and_then(|day| day.and_time(NaiveTime::MIN).and_utc().checked_add_signed(of_day))
        .ok_or_else(|| "must be a day (2026-01-31) or a time (2026-01-31T12:00:00Z)".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_meant_whole() {
        assert_eq!(since("2026-01-31").unwrap().to_rfc3339(), "2026-01-31T00:00:00+00:00");
        assert_eq!(until("2026-01-31").unwrap().to_rfc3339(), "2026-01-31T23:59:59.999999+00:00");
        assert_eq!(until("2026-01-31T12:00:00+02:00").unwrap().to_rfc3339(), "2026-01-31T10:00:00+00:00");
        assert!(since("yesterday").is_err());
        assert!(until("+262143-01-01").is_err());
    }
}
