//! Logs, traces and metrics of a process.

mod calls;
mod metrics;
mod propagation;

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Subscriber;
use tracing_subscriber::filter::{EnvFilter, FilterFn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

pub use calls::{CallMetrics, CallMetricsLayer, RouteLabel};
pub use metrics::metrics_text;
pub use propagation::{current_traceparent, inject, set_parent, set_parent_from};

/// How long a batch of spans may take, and how long the last one at the end.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(3);

/// What the transports of the exporter do must not be exported again, without end.
const NOT_EXPORTED: [&str; 6] = ["h2", "hyper", "hyper_util", "opentelemetry", "tonic", "tower"];

/// What to log and where to send traces.
#[derive(Clone, Debug)]
pub struct TelemetryConfig {
    /// Which events and spans, as in `info,aegis_catalog=debug`.
    pub filter: String,
    /// Logs as JSON, one object a line, instead of text.
    pub json: bool,
    /// The OTLP collector for traces (gRPC, `http://host:4317`); none are recorded without.
    pub otlp_endpoint: Option<String>,
    /// The name of this process in traces and metrics.
    pub service: String,
}

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter does not parse.
    #[error("the log filter is invalid: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// The collector's address is no `http://` one, or the exporter refuses it.
    #[error("the OTLP endpoint cannot be used: {0}")]
    Otlp(String),
    /// The metrics cannot be registered.
    #[error("metrics cannot be set up: {0}")]
    Metrics(String),
}

/// What [`init`] has started, to be ended with [`shutdown`](Self::shutdown).
#[derive(Debug, Default)]
#[must_use = "spans that are not flushed are lost"]
pub struct Telemetry {
    tracer: Option<SdkTracerProvider>,
    meter: Option<SdkMeterProvider>,
}

impl Telemetry {
    /// Sends what has not been sent yet, waiting a few seconds at most.
    pub async fn shutdown(self) {
        // The exporter blocks its caller; its connection needs this runtime's threads meanwhile.
        let flush = tokio::task::spawn_blocking(move || {
            if let Some(tracer) = self.tracer
                && let Err(e) = tracer.shutdown_with_timeout(EXPORT_TIMEOUT)
            {
                tracing::warn!(error = %e, "traces could not be flushed");
            }
            if let Some(meter) = self.meter
                && let Err(e) = meter.shutdown()
            {
                tracing::debug!(error = %e, "metrics could not be shut down");
            }
        });
        let _ = flush.await;
    }
}

/// Sets up logging to standard error, metrics and, with an endpoint, traces; for the whole process.
///
/// With an endpoint it must be called inside the Tokio runtime. A second call does nothing.
pub fn init(config: &TelemetryConfig) -> Result<Telemetry, TelemetryError> {
    static DONE: Mutex<bool> = Mutex::new(false);
    let mut done = DONE.lock().unwrap_or_else(PoisonError::into_inner);
    if *done {
        return Ok(Telemetry::default());
    }

    let filter = EnvFilter::try_new(&config.filter)?;
    let resource = Resource::builder().with_service_name(config.service.clone()).build();
    let tracer = match &config.otlp_endpoint {
        Some(endpoint) => Some(tracer(endpoint, resource.clone())?),
        None => None,
    };
    let meter = metrics::provider(resource).map_err(TelemetryError::Metrics)?;

    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    opentelemetry::global::set_meter_provider(meter.clone());
    if let Some(provider) = &tracer {
        opentelemetry::global::set_tracer_provider(provider.clone());
    }
    let export = tracer.as_ref().map(|provider| {
        let exported = FilterFn::new(|meta| {
            let root = meta.target().split("::").next().unwrap_or_default();
            !NOT_EXPORTED.contains(&root)
        });
        tracing_opentelemetry::layer().with_tracer(provider.tracer("aegis")).with_filter(exported)
    });
    // A test harness may have set a subscriber of its own; it then keeps it.
    let _ = tracing_subscriber::registry().with(export).with(log_layer(config.json)).with(filter).try_init();
    *done = true;
    Ok(Telemetry { tracer, meter: Some(meter) })
}

fn log_layer<S>(json: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    if json {
        return layer.json().flatten_event(true).boxed();
    }
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    layer.with_ansi(colours).boxed()
}

fn tracer(endpoint: &str, resource: Resource) -> Result<SdkTracerProvider, TelemetryError> {
    let refused = |why: &str| TelemetryError::Otlp(format!("{endpoint}: {why}"));
    let uri: http::Uri = endpoint.parse().map_err(|_| refused("no address"))?;
    if uri.scheme_str() != Some("http") {
        return Err(refused("http://host:port expected"));
    }
    if tokio::runtime::Handle::try_current().is_err() {
        return Err(refused("the exporter needs a runtime"));
    }
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(EXPORT_TIMEOUT)
        .build()
        .map_err(|e| refused(&e.to_string()))?;
    Ok(SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build())
}
