//! Logs, traces and metrics of a process.

mod calls;
mod jobs;
mod logs;
pub mod meters;
mod metrics;
mod propagation;
mod traces;

use std::sync::{Mutex, PoisonError};

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::filter::{EnvFilter, FilterExt, FilterFn, LevelFilter};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

pub use calls::{
    CallMetrics, CallMetricsLayer, ClientCall, RouteLabel, UNMATCHED, grpc_code, grpc_status, http_method, is_grpc,
    rpc_method,
};
pub use jobs::{job, job_ended};
pub use meters::{Counters, Gauges, Held, Histograms};
pub use metrics::{Pool, metrics_text, watch_pools};
pub use propagation::{current_traceparent, inject, is_recorded, set_parent, set_parent_from, traceparent};

/// What to log and where to send traces.
#[derive(Clone, Debug)]
pub struct TelemetryConfig {
    /// Which events are logged, as in `info,aegis_catalog=debug`.
    pub filter: String,
    /// Logs as JSON, one object a line, instead of text.
    pub json: bool,
    /// The OTLP collector for traces (gRPC, `http://host:4317`); none are recorded without.
    pub otlp_endpoint: Option<String>,
    /// The share of the traces that begin here which are recorded, 0 to 1.
    pub trace_share: f64,
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
                && let Err(e) = tracer.shutdown_with_timeout(traces::EXPORT_TIMEOUT)
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
    let tracer = traces::provider(config.otlp_endpoint.as_deref(), config.trace_share, resource.clone())?;
    let meter = metrics::provider(resource, &config.service).map_err(TelemetryError::Metrics)?;

    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    opentelemetry::global::set_meter_provider(meter.clone());
    opentelemetry::global::set_tracer_provider(tracer.clone());
    // A line that is logged says where it belongs, also where only warnings are.
    let spans = FilterFn::new(|metadata| metadata.is_span() && traces::is_ours(metadata));
    let spans = spans.with_max_level_hint(LevelFilter::INFO);
    let lines = logs::Lines::new(config.json).with_filter(filter.or(spans));
    // A test harness may have set a subscriber of its own; it then keeps it.
    let _ = tracing_subscriber::registry().with(traces::layer(&tracer)).with(lines).try_init();
    *done = true;
    Ok(Telemetry { tracer: Some(tracer), meter: Some(meter) })
}
