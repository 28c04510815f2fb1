//! The process's metrics, as Prometheus reads them.

use std::fmt::Write;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::TextEncoder;

use crate::meters::Gauges;

static BUILD: Gauges =
    Gauges::new("aegis_build_info", "Which version this is; always 1.", &["version", "service_name"]);
static CONNECTIONS: Gauges = Gauges::new(
    "db_client_connection_count",
    "Connections of a database pool that are in use, and that wait to be.",
    &["pool", "state"],
);
static MOST_CONNECTIONS: Gauges =
    Gauges::new("db_client_connection_max", "Connections that a database pool may have.", &["pool"]);

static STARTED: LazyLock<f64> = LazyLock::new(|| {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |d| d.as_secs_f64())
});

/// The state of a pool of connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its name, such as `testing read`.
    pub name: String,
    /// Connections that somebody has.
    pub used: usize,
    /// Connections that nobody has.
    pub idle: usize,
    /// Connections that it may have.
    pub max: usize,
}

type Look = Box<dyn Fn() -> Vec<Pool> + Send + Sync>;

static POOLS: Mutex<Vec<Look>> = Mutex::new(Vec::new());

/// Has pools measured whenever the metrics are read.
pub fn watch_pools(look: impl Fn() -> Vec<Pool> + Send + Sync + 'static) {
    POOLS.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(look));
}

/// Meters of OpenTelemetry that end up in the same registry as everything else.
pub(crate) fn provider(resource: Resource, service: &str) -> Result<SdkMeterProvider, String> {
    LazyLock::force(&STARTED);
    BUILD.set(&[env!("CARGO_PKG_VERSION"), service], 1.0);
    let exporter = opentelemetry_prometheus::exporter()
        .with_registry(prometheus::default_registry().clone())
        .build()
        .map_err(|e| e.to_string())?;
    Ok(SdkMeterProvider::builder().with_resource(resource).with_reader(exporter).build())
}

/// All metrics of the process in Prometheus's text format.
pub fn metrics_text() -> String {
    for pool in POOLS.lock().unwrap_or_else(PoisonError::into_inner).iter().flat_map(|look| look()) {
        CONNECTIONS.set(&[&pool.name, "used"], pool.used as f64);
        CONNECTIONS.set(&[&pool.name, "idle"], pool.idle as f64);
        MOST_CONNECTIONS.set(&[&pool.name], pool.max as f64);
    }
    let mut text = String::new();
    if let Err(e) = TextEncoder::new().encode_utf8(&prometheus::gather(), &mut text) {
        tracing::warn!(error = %e, "metrics could not be written");
    }
    let mut add = |name: &str, kind: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            // Writing to a string does not fail.
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
        }
    };
    let (gauge, counter) = ("gauge", "counter");
    add("process_start_time_seconds", gauge, "Start of the process, seconds since the Unix epoch.", Some(*STARTED));
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    add("process_resident_memory_bytes", gauge, "Resident memory.", kib(&status, "VmRSS:"));
    add("process_virtual_memory_bytes", gauge, "Virtual memory.", kib(&status, "VmSize:"));
    add("process_threads", gauge, "Threads.", number(&status, "Threads:"));
    add("process_cpu_seconds_total", counter, "Time on processors, of the user and of the system.", cpu_seconds());
    let open = std::fs::read_dir("/proc/self/fd").ok().map(|all| all.count().saturating_sub(1) as f64);
    add("process_open_fds", gauge, "File descriptors that are open.", open);
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    add("process_max_fds", gauge, "File descriptors that may be open.", number(&limits, "Max open files"));
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        let metrics = runtime.metrics();
        let alive = metrics.num_alive_tasks() as f64;
        add("tokio_alive_tasks", gauge, "Tasks of the runtime.", Some(alive));
        let waiting = metrics.global_queue_depth() as f64;
        add("tokio_global_queue_depth", gauge, "Tasks that wait for a thread.", Some(waiting));
    }
    text
}

/// The first number of the line that begins with `name`.
fn number(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The same of a line in kibibytes. From `status`, not `statm`, whose unit is a page of unknown size.
fn kib(text: &str, name: &str) -> Option<f64> {
    number(text, name).map(|kib| kib * 1024.0)
}

/// Time on processors. In `stat` it stands in ticks, of which Linux shows programs a hundred a second on every machine.
fn cpu_seconds() -> Option<f64> {
    const TICKS: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field, the name in parentheses, may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / TICKS)
}
