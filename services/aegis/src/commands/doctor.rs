//! `aegis doctor`: looks at an installation with the settings of its processes, and says what is wrong and what to do.
//!
//! Nothing is changed but for a file and a blob that come and go. Every check has its time, and all run side by side but
//! for the last, which reads whole databases.

mod broker;
mod cache;
mod certificate;
mod databases;
mod files;
mod folder;
mod metrics;
mod report;
mod services;
mod system;

use std::{
    io::IsTerminal,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;
use futures::future::{BoxFuture, FutureExt};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{output::Output, roles::Role, settings::Settings};
use report::{Finding, Level, Report};

/// The longest that a check may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a check finds.
type Findings = Vec<Finding>;
/// A check that is on its way: its name, and what it asks.
type Check<'a> = (&'static str, String, BoxFuture<'a, Findings>);

/// Looks at everything and tells.
pub async fn run(settings: &Settings, output: Output) -> Result<ExitCode> {
    let began = Instant::now();
    let bar = if output.json || !std::io::stderr().is_terminal() {
        ProgressBar::hidden()
    } else {
        ProgressBar::new_spinner().with_style(ProgressStyle::with_template("{spinner} looking  {elapsed}")?)
    };
    bar.enable_steady_tick(Duration::from_millis(100));
    let checks = checks(settings).into_iter().map(|(area, subject, check)| within(area, subject, check));
    let mut findings: Findings = futures::future::join_all(checks).await.into_iter().flatten().collect();
    let pages = databases::pages(settings).await;
    findings.extend(pages.into_iter().map(|finding| finding.of("pages", "SQLite files")));
    bar.finish_and_clear();
    let report = Report { findings, began };
    report.tell(settings, output);
    Ok(report.exit_code())
}

/// All that is looked at, in the order in which it is told.
fn checks(settings: &Settings) -> Vec<Check<'_>> {
    let mut checks: Vec<Check<'_>> = vec![
        ("settings", "settings".to_owned(), async { settings_in_effect(settings) }.boxed()),
        ("system", "this machine".to_owned(), system::check(settings).boxed()),
        ("data folder", settings.data_dir.display().to_string(), folder::check(settings).boxed()),
    ];
    for role in Role::SERVICES {
        checks.push(("database", role.to_string(), databases::check(settings, role).boxed()));
    }
    checks.push(("audit trail", "its newest records".to_owned(), databases::trail(settings).boxed()));
    checks.push(("keys", "keys that sign".to_owned(), databases::keys(settings).boxed()));
    if let Some(url) = &settings.broker_url {
        checks.push(("broker", "RabbitMQ".to_owned(), broker::check(settings, url).boxed()));
    }
    if let Some(url) = &settings.cache_url {
        checks.push(("cache", "Redis".to_owned(), cache::check(settings, url).boxed()));
    }
    checks.push(("files", files::place(settings), files::check(settings).boxed()));
    checks.push(("files", "of rows".to_owned(), files::of_rows(settings).boxed()));
    for role in Role::SERVICES {
        if let Some(url) = settings.peer(role) {
            checks.push(("service", role.to_string(), services::peer(settings, role, url).boxed()));
        }
    }
    checks.push(("product", services::here(settings), services::product(settings).boxed()));
    checks
}

async fn within(area: &'static str, subject: String, check: BoxFuture<'_, Findings>) -> Findings {
    match tokio::time::timeout(PATIENCE, check).await {
        Ok(findings) => findings.into_iter().map(|finding| finding.of(area, &subject)).collect(),
        Err(_) => {
            let what = format!("does not answer within {} s", PATIENCE.as_secs());
            let advice = "look at its load, and at the network between here and there";
            vec![Finding::new(Level::Unreachable, what).advice(advice).of(area, &subject)]
        }
    }
}

/// They were read and are sound, or this command would not have come so far.
fn settings_in_effect(settings: &Settings) -> Findings {
    let mode = match (&settings.database_url, &settings.broker_url) {
        (None, None) => "one process on embedded parts",
        (_, None) => "one process on PostgreSQL",
        _ => "many processes",
    };
    let mut findings = vec![Finding::ok(format!("sound; for {mode} (`aegis config` prints them)"))];
    if settings.developer {
        findings.push(
            Finding::new(Level::Warning, "developer mode is on: what would be too much is allowed")
                .advice("take AEGIS_DEVELOPER away"),
        );
    }
    if settings.trust_proxy {
        findings.push(Finding::new(
            Level::Note,
            "X-Forwarded-For is believed (AEGIS_TRUST_PROXY): right only behind a proxy that sets it anew",
        ));
    }
    if settings.broker_url.is_some() {
        let unnamed = Role::SERVICES.into_iter().filter(|role| settings.peer(*role).is_none());
        let unnamed: Vec<&str> = unnamed.map(Role::as_str).collect();
        if !unnamed.is_empty() {
            findings.push(Finding::new(
                Level::Note,
                format!("says not where {} are, so they are not looked at (AEGIS_<SERVICE>_URL)", unnamed.join(", ")),
            ));
        }
        if settings.service_secret.is_none() {
            findings.push(
                Finding::new(Level::Problem, "AEGIS_SERVICE_SECRET is not set; processes of one product share it")
                    .advice("set it, or AEGIS_SERVICE_SECRET_FILE, for this command as for the processes"),
            );
        }
    }
    findings
}
