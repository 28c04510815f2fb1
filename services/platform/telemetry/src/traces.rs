//! Which spans are recorded, and where they go.

use std::time::Duration;

use opentelemetry::trace::{Link, SpanKind, TraceId, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SamplingDecision, SamplingResult, SdkTracerProvider, ShouldSample};
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{FilterFn, LevelFilter};
use tracing_subscriber::layer::Layer;
use tracing_subscriber::registry::LookupSpan;

use crate::TelemetryError;

/// How long a batch of spans may take, and how long the last one at the end.
pub(crate) const EXPORT_TIMEOUT: Duration = Duration::from_secs(3);
/// Our crates. What the transports of the exporter do must not be exported again, without end.
const OURS: &str = "aegis";
/// Spans that begin no trace: background work that goes on for as long as the process does, and what looks in all the
/// time. What they call belongs to no trace either, unless it begins one.
const NO_ROOTS: [&str; 4] = ["task", "attached sensor", "grpc.health.", "grpc.reflection."];

/// A recorder of spans that gives them ids and, with a collector, sends it that share of all traces which begin here.
/// Of a trace that began elsewhere its beginning decides.
pub(crate) fn provider(
    endpoint: Option<&str>,
    share: f64,
    resource: Resource,
) -> Result<SdkTracerProvider, TelemetryError> {
    let Some(endpoint) = endpoint else {
        // Spans have ids, for logs and for other processes, and are kept nowhere.
        return Ok(SdkTracerProvider::builder().with_resource(resource).with_sampler(Sampler::AlwaysOff).build());
    };
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
    let sampler = Sampler::parent_based(Roots(Sampler::TraceIdRatioBased(share)));
    Ok(SdkTracerProvider::builder().with_resource(resource).with_sampler(sampler).with_batch_exporter(exporter).build())
}

/// The layer that makes spans of `tracing` spans of the recorder. It does not depend on what is logged.
pub(crate) fn layer<S>(provider: &SdkTracerProvider) -> impl Layer<S> + Send + Sync + use<S>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let ours = FilterFn::new(is_ours).with_max_level_hint(LevelFilter::INFO);
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(OURS))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_filter(ours)
}

pub(crate) fn is_ours(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::INFO && metadata.target().starts_with(OURS)
}

/// Decides about spans that begin a trace.
#[derive(Clone, Debug)]
struct Roots(Sampler);

impl ShouldSample for Roots {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let mut result = self.0.should_sample(parent, trace, name, kind, attributes, links);
        if NO_ROOTS.iter().any(|no_root| name.starts_with(no_root)) {
            result.decision = SamplingDecision::Drop;
        }
        result
    }
}
