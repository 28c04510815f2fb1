//! The processes: whether they answer, whether they are ready, what they are, and what they say of themselves.

use std::time::{Duration, Instant};

use aegis_rpc::ClientTls;
use anyhow::{Context, Result};
use axum::http::Uri;
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::{
    Findings, certificate,
    metrics::Metrics,
    report::{Finding, Level, sentence, span},
};
use crate::{commands::health::Here, roles::Role, settings::Settings, tls};

/// How long a single request waits.
const PATIENCE: Duration = Duration::from_millis(2500);
/// Clocks that differ by more make times hard to compare, seconds; a second is lost in the header.
const CLOCK: f64 = 3.0;
/// Clocks that differ by more make tokens fail.
const CLOCK_WRONG: f64 = 30.0;
/// An event that has waited for longer waits for something that is broken, seconds.
const WAITS: f64 = 30.0;
/// Events of decoys that are stored and not derived from, from which on that is told.
const FOLLOWS: f64 = 10_000.0;

/// For how long the first event of an outbox has waited, and the label with its service.
const OLDEST: (&str, &str) = ("aegis_outbox_oldest_event_age_seconds", "service_name");
/// How late the newest event was taken in, and the label with who did.
const LATE: (&str, &str) = ("aegis_consumer_last_lag_seconds", "consumer");

/// What a process told.
struct Told {
    url: String,
    ready: bool,
    checks: Map<String, Value>,
    clock: Option<f64>,
    metrics: String,
}

/// Looks at the processes of a role. There may be several, with commas between their addresses.
pub(super) async fn peer(settings: &Settings, role: Role, urls: &str) -> Findings {
    let tls = match tls::peers(settings) {
        Ok(tls) => tls,
        Err(error) => return vec![Finding::new(Level::Problem, format!("{error:#}"))],
    };
    let tls = &tls;
    let each = urls.split(',').map(str::trim).filter(|url| !url.is_empty()).map(|url| async move {
        let about =
            |finding: Finding| if urls.contains(',') { finding.about(format!("{role} {url}")) } else { finding };
        one(role, url, tls).await.into_iter().map(about).collect::<Findings>()
    });
    futures::future::join_all(each).await.into_iter().flatten().collect()
}

async fn one(role: Role, url: &str, tls: &ClientTls) -> Findings {
    let (serving, told, ends) = tokio::join!(serving(role, url, tls), ask(url), certificate_of(url));
    let mut findings = vec![serving];
    findings.extend(ends);
    match told {
        Ok(told) => findings.extend(judge(&told)),
        // It is reachable or not as the call above says; over mutual TLS these pages need a certificate.
        Err(error) => findings.push(Finding::new(Level::Note, format!("its version is not known: {error}"))),
    }
    findings
}

/// The standard health of gRPC, over the way that other processes take.
async fn serving(role: Role, url: &str, tls: &ClientTls) -> Finding {
    let service = match aegis_rpc::remote_over(url, tls) {
        Ok(service) => service,
        Err(error) => return Finding::new(Level::Problem, format!("its address cannot be read: {}", sentence(&error))),
    };
    let mut client = HealthClient::new(service);
    let mut request = tonic::Request::new(HealthCheckRequest { service: format!("aegis.{role}") });
    request.set_timeout(PATIENCE);
    let began = Instant::now();
    match tokio::time::timeout(PATIENCE, client.check(request)).await {
        Ok(Ok(answer)) if answer.get_ref().status() == ServingStatus::Serving => {
            Finding::ok(format!("serves; answers in {}", span(began.elapsed().as_secs_f64())))
        }
        Ok(Ok(_)) => Finding::new(Level::Problem, "answers, and is not ready").advice("look into its log"),
        Ok(Err(status)) if status.code() == tonic::Code::NotFound => {
            Finding::new(Level::Problem, format!("another process answers at {url}, without the role {role}"))
                .advice(format!("check AEGIS_{}_URL", role.as_str().to_uppercase()))
        }
        Ok(Err(status)) => away(role, url, status.message()),
        Err(_) => away(role, url, "no answer in time"),
    }
}

fn away(role: Role, url: &str, why: &str) -> Finding {
    Finding::new(Level::Unreachable, format!("does not answer at {url}: {why}"))
        .advice(format!("start it, look into its log, or check AEGIS_{}_URL", role.as_str().to_uppercase()))
}

async fn certificate_of(url: &str) -> Option<Finding> {
    let url: Uri = url.parse().ok()?;
    if url.scheme_str() != Some("https") {
        return None;
    }
    Some(certificate::check(url.host()?, url.port_u16().unwrap_or(443)).await)
}

/// Where the product of these settings listens.
pub(super) fn here(settings: &Settings) -> String {
    settings.listen.clone()
}

/// Looks at what runs at the address of these settings.
pub(super) async fn product(settings: &Settings) -> Findings {
    let here = match Here::of(settings) {
        Ok(here) => here,
        Err(error) => return vec![Finding::new(Level::Problem, format!("{error:#}"))],
    };
    let began = Utc::now();
    let Some(answer) = here.get("/readyz").await else {
        let what = format!("nothing answers at {}: Aegis does not run here", here.likely());
        return vec![
            Finding::new(Level::Note, what).advice("start it; if it does run, AEGIS_LISTEN is not the same for both"),
        ];
    };
    let url = here.likely().to_owned();
    let metrics = async { here.get("/metrics").await?.error_for_status().ok()?.text().await.ok() };
    let parts = async { here.get("/health").await?.json::<Value>().await.ok() };
    let (told, parts) = tokio::join!(
        async {
            let metrics = metrics.await.unwrap_or_default();
            read(url, began, answer, metrics).await
        },
        parts
    );
    let told = match told {
        Ok(told) => told,
        Err(_) => {
            let what = format!("something else than Aegis answers at {}", here.likely());
            return vec![Finding::new(Level::Problem, what).advice("check AEGIS_LISTEN")];
        }
    };
    let mut findings = judge(&told);
    findings.extend(figures(&Metrics(&told.metrics)));
    findings.extend(parts.iter().flat_map(failing));
    findings
}

/// What the figures of a product say.
fn figures(metrics: &Metrics<'_>) -> Findings {
    let mut findings = Findings::new();
    if let Some((service, age)) = metrics.worst(OLDEST.0, OLDEST.1)
        && age > WAITS
    {
        findings.push(
            Finding::new(Level::Problem, format!("an event of {service} has waited for {} to be passed on", span(age)))
                .advice("look at the broker, and into the log for `events wait in the outbox`"),
        );
    }
    if let Some((consumer, lag)) = metrics.worst(LATE.0, LATE.1)
        && lag > WAITS
    {
        findings.push(
            Finding::new(Level::Warning, format!("{consumer} took its newest event in {} late", span(lag)))
                .advice("if that stays, look at its load and its database, or start another replica"),
        );
    }
    if let Some(lag) = metrics.highest("aegis_deception_follower_lag_events") {
        findings.push(match lag > FOLLOWS {
            true => Finding::new(Level::Warning, format!("attackers and alerts are {lag:.0} events behind the decoys"))
                .advice("if that grows, look at the load of deception and its database"),
            false => Finding::ok(format!("attackers and alerts are {lag:.0} events behind the decoys")),
        });
    }
    if let Some(attached) = metrics.highest("aegis_deception_sensors_attached") {
        findings.push(match attached {
            0.0 => Finding::new(Level::Note, "no sensor is attached: decoys can be neither deployed nor met"),
            attached => Finding::ok(format!("sensors attached: {attached:.0}")),
        });
    }
    findings
}

/// What `/health` of a gateway says of the parts.
fn failing(told: &Value) -> Findings {
    let Some(components) = told["components"].as_object() else { return Findings::new() };
    let level = if told["status"] == "degraded" { Level::Warning } else { Level::Problem };
    let failing = components.iter().filter(|(_, component)| component["status"] != "ok");
    failing
        .map(|(name, component)| {
            let detail = component["detail"].as_str().unwrap_or("fails");
            Finding::new(level, format!("{name}: {detail}")).advice("look into the log of deception and its sensors")
        })
        .collect()
}

fn client() -> reqwest::Result<reqwest::Client> {
    // Only looked at, and told nothing.
    reqwest::Client::builder().timeout(PATIENCE).no_proxy().tls_danger_accept_invalid_certs(true).build()
}

async fn ask(url: &str) -> Result<Told> {
    let client = client()?;
    let began = Utc::now();
    let answer = client.get(format!("{url}/readyz")).send().await?;
    let metrics = async { client.get(format!("{url}/metrics")).send().await?.error_for_status()?.text().await };
    let metrics = metrics.await.unwrap_or_default();
    read(url.to_owned(), began, answer, metrics).await
}

/// What a process says with its answer to a request that began then.
async fn read(url: String, began: DateTime<Utc>, answer: reqwest::Response, metrics: String) -> Result<Told> {
    let clock = answer.headers().get("date").and_then(|date| date.to_str().ok()).and_then(|date| {
        let theirs: DateTime<Utc> = DateTime::parse_from_rfc2822(date).ok()?.to_utc();
        // The header has whole seconds: on average half a one is lost.
        Some((theirs - began).num_milliseconds() as f64 / 1e3 + 0.5)
    });
    let (ready, checks) = readiness(&answer.json().await?).context("this is no answer of Aegis")?;
    Ok(Told { url, ready, checks, clock, metrics })
}

/// What `/readyz` says, if it is ours: others answer in JSON, too.
fn readiness(answer: &Value) -> Option<(bool, Map<String, Value>)> {
    Some((answer.get("ready")?.as_bool()?, answer.get("checks")?.as_object()?.clone()))
}

/// What holds of every process.
fn judge(told: &Told) -> Findings {
    let own = env!("CARGO_PKG_VERSION");
    let mut findings = Vec::new();
    let version = Metrics(&told.metrics).version();
    let shown = version.map(|version| format!(", version {version}")).unwrap_or_default();
    if told.ready {
        findings.push(Finding::ok(format!("ready at {}{shown}", told.url)));
    }
    for (name, state) in told.checks.iter().filter(|(_, state)| *state != "ok") {
        let state = state.as_str().unwrap_or("fails");
        let finding = match told.ready {
            // Something without which most works.
            true => Finding::new(Level::Warning, format!("goes on without {name}: {state}")),
            false => Finding::new(Level::Problem, format!("is not ready: {name} {state}")),
        };
        findings.push(finding.advice("see what this says of it, and look into the log"));
    }
    if let Some(version) = version.filter(|version| *version != own) {
        findings.push(Finding::new(Level::Note, format!("is version {version}, and this command is of {own}")));
    }
    findings.extend(told.clock.and_then(|apart| clock(apart, "the process")));
    findings
}

/// What is wrong with a clock that is so far from ours, seconds.
pub(super) fn clock(apart: f64, whose: &str) -> Option<Finding> {
    let way = if apart > 0.0 { "ahead of" } else { "behind" };
    let level = match apart.abs() {
        apart if apart > CLOCK_WRONG => Level::Problem,
        apart if apart > CLOCK => Level::Warning,
        _ => return None,
    };
    let what = format!("the clock of {whose} is {} {way} this machine's", span(apart.abs()));
    Some(Finding::new(level, what).advice("let both follow a time server (NTP): tokens and times depend on it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(told: &Value) -> Vec<&str> {
        told.as_array().unwrap().iter().map(|one| one["level"].as_str().unwrap()).collect()
    }

    #[test]
    fn what_is_not_ready_and_clocks_apart_are_told() {
        let answer = serde_json::json!({"ready": false, "checks": {"cache": "does not answer", "broker": "ok"}});
        let (ready, checks) = readiness(&answer).unwrap();
        let metrics = "aegis_build_info{service_name=\"aegis\",version=\"9.9.9\"} 1\n".to_owned();
        let told = Told { url: "http://x".into(), ready, checks, clock: Some(-40.0), metrics };
        let not_ready = serde_json::to_value(judge(&told)).unwrap();
        assert_eq!(levels(&not_ready), ["problem", "note", "problem"], "{not_ready}");
        assert!(not_ready[0]["what"].as_str().unwrap().contains("cache"), "{not_ready}");
        assert!(not_ready[2]["what"].as_str().unwrap().contains("40 s behind"), "{not_ready}");
        // What it can do without makes nothing wrong.
        let ready = serde_json::to_value(judge(&Told { ready: true, clock: None, ..told })).unwrap();
        assert_eq!(levels(&ready), ["ok", "warning", "note"], "{ready}");
        assert!(ready[1]["what"].as_str().unwrap().contains("goes on without cache"), "{ready}");
        assert!(clock(1.0, "it").is_none());
    }

    #[test]
    fn answers_of_others_are_not_believed() {
        for answer in [
            serde_json::json!({"detail": "Not Found"}),
            serde_json::json!({"ready": true}),
            serde_json::json!({"ready": "yes", "checks": {}}),
            serde_json::json!({"ready": true, "checks": []}),
            serde_json::json!({"status": "ok"}),
            serde_json::json!([1, 2]),
            serde_json::json!("ready"),
            serde_json::json!(1),
            Value::Null,
        ] {
            assert!(readiness(&answer).is_none(), "{answer}");
        }
    }

    #[test]
    fn events_that_wait_are_told_by_the_labels_that_figures_have() {
        let metrics = "aegis_outbox_oldest_event_age_seconds{service_name=\"identity\"} 0\n\
                       aegis_outbox_oldest_event_age_seconds{service_name=\"testing\"} 71.5\n\
                       aegis_consumer_last_lag_seconds{consumer=\"audit\"} 90\n";
        let told = serde_json::to_value(figures(&Metrics(metrics))).unwrap();
        assert_eq!(levels(&told), ["problem", "warning"], "{told}");
        assert!(told[0]["what"].as_str().unwrap().contains("testing"), "{told}");
        assert!(told[1]["what"].as_str().unwrap().contains("audit"), "{told}");

        // The table of all figures, which is held against the processes.
        let table = include_str!("../../../../../deploy/observability/METRICS.md");
        for (name, label) in [OLDEST, LATE] {
            let row = table.lines().find(|line| line.starts_with(&format!("| `{name}` |"))).expect(name);
            let labels = row.split('|').nth(3).unwrap();
            assert!(labels.contains(&format!("`{label}`")), "{row}");
        }
    }
}
