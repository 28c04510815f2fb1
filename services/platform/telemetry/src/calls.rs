//! How many calls, how long they took and how they ended.

use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use http::{Extensions, HeaderMap, Request, Response, StatusCode, Uri, header};
use pin_project_lite::pin_project;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts};
use tower::{Layer, Service};

/// From half a millisecond, a call inside the process, to ten seconds, the usual deadline.
const BUCKETS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
const LABELS: [&str; 3] = ["kind", "path", "status"];

/// The label of a call that no route matched: its path is the caller's invention.
const UNMATCHED: &str = "unmatched";
const CANCELLED: &str = "cancelled";
const FAILED: &str = "error";
const GRPC_OK: &str = "0";
const GRPC_UNIMPLEMENTED: &str = "12";

/// Names the route of a request: one of few, never an id.
pub type RouteLabel = fn(&Uri, &Extensions) -> String;

struct Calls {
    seconds: HistogramVec,
    total: IntCounterVec,
}

// Used directly, not through OpenTelemetry: this is on the path of every call.
static CALLS: LazyLock<Option<Calls>> = LazyLock::new(|| match register() {
    Ok(calls) => Some(calls),
    Err(e) => {
        tracing::error!(error = %e, "calls are not measured");
        None
    }
});

fn register() -> prometheus::Result<Calls> {
    let name = "aegis_call_duration_seconds";
    let help = "Time to the head of the response.";
    let seconds = HistogramOpts::new(name, help).buckets(BUCKETS.to_vec());
    let seconds = HistogramVec::new(seconds, &LABELS)?;
    let total = Opts::new("aegis_calls_total", "Calls by how they ended.");
    let total = IntCounterVec::new(total, &LABELS)?;
    prometheus::register(Box::new(seconds.clone()))?;
    prometheus::register(Box::new(total.clone()))?;
    Ok(Calls { seconds, total })
}

/// Measures the calls of a service.
#[derive(Clone, Copy, Debug)]
pub struct CallMetricsLayer {
    kind: &'static str,
    route: RouteLabel,
}

impl CallMetricsLayer {
    /// Measures calls of this kind (`rest`, `grpc`, …), with the path as the route: right for gRPC,
    /// whose paths are the methods.
    pub fn new(kind: &'static str) -> Self {
        Self { kind, route: |uri, _| uri.path().to_owned() }
    }

    /// Names routes with this function instead, from the matched path in the extensions, say.
    #[must_use]
    pub fn with_route(self, route: RouteLabel) -> Self {
        Self { route, ..self }
    }
}

impl<S> Layer<S> for CallMetricsLayer {
    type Service = CallMetrics<S>;

    fn layer(&self, inner: S) -> CallMetrics<S> {
        CallMetrics { inner, layer: *self }
    }
}

/// A service whose calls are measured.
#[derive(Clone, Debug)]
pub struct CallMetrics<S> {
    inner: S,
    layer: CallMetricsLayer,
}

impl<S, B, R> Service<Request<B>> for CallMetrics<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Measured<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let call = Call {
            kind: self.layer.kind,
            path: (self.layer.route)(request.uri(), request.extensions()),
            started: Instant::now(),
            ended: false,
        };
        Measured { inner: self.inner.call(request), call }
    }
}

/// One call; dropped before its end, it counts as cancelled.
struct Call {
    kind: &'static str,
    path: String,
    started: Instant,
    ended: bool,
}

impl Call {
    fn end(&mut self, status: &str, matched: bool) {
        if self.ended {
            return;
        }
        self.ended = true;
        if let Some(calls) = CALLS.as_ref() {
            let path = if matched { &self.path } else { UNMATCHED };
            let labels = [self.kind, path, status];
            let seconds = self.started.elapsed().as_secs_f64();
            calls.seconds.with_label_values(&labels).observe(seconds);
            calls.total.with_label_values(&labels).inc();
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(CANCELLED, true);
    }
}

/// The status as a label, and whether the path named something that exists.
fn outcome<'a>(status: &'a StatusCode, headers: &'a HeaderMap) -> (&'a str, bool) {
    if is_grpc(headers) {
        let status = headers.get("grpc-status");
        let status = status.and_then(|s| s.to_str().ok()).unwrap_or(GRPC_OK);
        return (status, status != GRPC_UNIMPLEMENTED);
    }
    (status.as_str(), true)
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

pin_project! {
    /// The future of [`CallMetrics`].
    pub struct Measured<F> {
        #[pin]
        inner: F,
        call: Call,
    }
}

impl<F, R, E> Future for Measured<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let result = ready!(this.inner.poll(cx));
        match &result {
            Ok(response) => {
                let http = response.status();
                let (status, matched) = outcome(&http, response.headers());
                this.call.end(status, matched);
            }
            Err(_) => this.call.end(FAILED, true),
        }
        Poll::Ready(result)
    }
}
