//! The process's metrics, as Prometheus reads them.

use std::fmt::Write;
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::TextEncoder;

static STARTED: LazyLock<f64> = LazyLock::new(|| {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |d| d.as_secs_f64())
});

/// Meters of OpenTelemetry that end up in the same registry as everything else.
pub(crate) fn provider(resource: Resource) -> Result<SdkMeterProvider, String> {
    LazyLock::force(&STARTED);
    let exporter = opentelemetry_prometheus::exporter()
        .with_registry(prometheus::default_registry().clone())
        .build()
        .map_err(|e| e.to_string())?;
    Ok(SdkMeterProvider::builder().with_resource(resource).with_reader(exporter).build())
}

/// All metrics of the process in Prometheus's text format.
pub fn metrics_text() -> String {
    let mut text = String::new();
    if let Err(e) = TextEncoder::new().encode_utf8(&prometheus::gather(), &mut text) {
        tracing::warn!(error = %e, "metrics could not be written");
    }
    gauge(&mut text, "process_start_time_seconds", "Start of the process, seconds since the Unix epoch.", *STARTED);
    if let Some((resident, virtual_size)) = memory() {
        gauge(&mut text, "process_resident_memory_bytes", "Resident memory.", resident);
        gauge(&mut text, "process_virtual_memory_bytes", "Virtual memory.", virtual_size);
    }
    text
}

fn gauge(text: &mut String, name: &str, help: &str, value: f64) {
    // Writing to a string does not fail.
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n");
}

/// Resident and virtual size; `status`, not `statm`, whose unit is a page of unknown size.
fn memory() -> Option<(f64, f64)> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let bytes = |name: &str| -> Option<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
        Some(kib * 1024.0)
    };
    Some((bytes("VmRSS:")?, bytes("VmSize:")?))
}
