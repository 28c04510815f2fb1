//! How many calls, how long they took and how they ended: of routes, and of RPCs on both sides.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use http::{Extensions, HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::meters::{CALLS, Counters, Gauges, Held, Histograms};

const ROUTE: &[&str] = &["http_request_method", "http_route"];
const ROUTE_STATUS: &[&str] = &["http_request_method", "http_route", "http_response_status_code"];
const RPC: &[&str] = &["rpc_method"];
const RPC_STATUS: &[&str] = &["rpc_method", "rpc_response_status_code"];

static HTTP_SECONDS: Histograms =
    Histograms::new("http_server_request_duration_seconds", "Time to the head of the answer of a route.", ROUTE, CALLS);
static HTTP_TOTAL: Counters =
    Counters::new("http_server_requests_total", "Requests of a route by how they ended.", ROUTE_STATUS);
static HTTP_ACTIVE: Gauges = Gauges::new("http_server_active_requests", "Requests that have no answer yet.", &[]);
static SERVER_SECONDS: Histograms = Histograms::new(
    "rpc_server_call_duration_seconds",
    "Time to the head of the answer of a method of this process.",
    RPC,
    CALLS,
);
static SERVER_TOTAL: Counters =
    Counters::new("rpc_server_calls_total", "Calls of a method of this process by how they ended.", RPC_STATUS);
static CLIENT_SECONDS: Histograms = Histograms::new(
    "rpc_client_call_duration_seconds",
    "Time to the head of the answer of a method of another process, repetitions included.",
    RPC,
    CALLS,
);
static CLIENT_TOTAL: Counters =
    Counters::new("rpc_client_calls_total", "Calls of a method of another process by how they ended.", RPC_STATUS);
static CLIENT_RETRIES: Counters =
    Counters::new("rpc_client_retries_total", "Calls of another process that were repeated.", RPC);

/// The label of a call that no route matched: its path is the caller's invention.
pub const UNMATCHED: &str = "unmatched";
const CANCELLED: &str = "cancelled";
const FAILED: &str = "error";
const GRPC_CANCELLED: usize = 1;
const GRPC_UNKNOWN: usize = 2;
const GRPC_UNIMPLEMENTED: usize = 12;

/// The statuses of gRPC by their numbers.
const GRPC_STATUSES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Names the route of a request: one of few, never an id.
pub type RouteLabel = fn(&Uri, &Extensions) -> String;

/// The name of a gRPC status, such as `NOT_FOUND`.
pub fn grpc_status(code: i32) -> &'static str {
    let known = usize::try_from(code).ok().and_then(|code| GRPC_STATUSES.get(code));
    known.copied().unwrap_or(GRPC_STATUSES[GRPC_UNKNOWN])
}

/// The method of a gRPC path as it is written in labels and spans, such as `aegis.testing.v1.TestingService/GetTest`;
/// cut, should a stranger have made a long one up.
pub fn rpc_method(path: &str) -> &str {
    const LONGEST: usize = 128;
    let method = path.strip_prefix('/').unwrap_or(path);
    // The path of a URI has no other characters than those of ASCII.
    method.get(..LONGEST).unwrap_or(method)
}

/// The name of a request's method: one of few.
pub fn http_method(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] = ["GET", "POST", "PATCH", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("_OTHER")
}

/// What kind of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Http,
    Server,
    Client,
}

/// Measures the calls of a service.
#[derive(Clone, Copy, Debug)]
pub struct CallMetricsLayer {
    kind: Kind,
    route: RouteLabel,
}

impl CallMetricsLayer {
    /// Measures requests, whose routes `route` names: from the matched path in the extensions, say.
    pub fn http(route: RouteLabel) -> Self {
        Self { kind: Kind::Http, route }
    }

    /// Measures gRPC calls, whose methods `route` names: [`rpc_method`] of the path, if there is such a method, else
    /// [`UNMATCHED`].
    pub fn rpc(route: RouteLabel) -> Self {
        Self { kind: Kind::Server, route }
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
            method: http_method(request.method()),
            route: (self.layer.route)(request.uri(), request.extensions()),
            started: Instant::now(),
            ended: false,
            active: (self.layer.kind == Kind::Http).then(|| HTTP_ACTIVE.hold(&[])),
        };
        Measured { inner: self.inner.call(request), call }
    }
}

/// One call; dropped before its end, it counts as cancelled.
struct Call {
    kind: Kind,
    method: &'static str,
    route: String,
    started: Instant,
    ended: bool,
    active: Option<Held>,
}

impl Call {
    fn end(&mut self, status: &str) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.active = None;
        let seconds = self.started.elapsed().as_secs_f64();
        let route = self.route.as_str();
        match self.kind {
            Kind::Http => {
                HTTP_SECONDS.observe(&[self.method, route], seconds);
                HTTP_TOTAL.inc(&[self.method, route, status]);
            }
            Kind::Server => {
                // A method that is not there may have any name.
                let route = if status == GRPC_STATUSES[GRPC_UNIMPLEMENTED] { UNMATCHED } else { route };
                SERVER_SECONDS.observe(&[route], seconds);
                SERVER_TOTAL.inc(&[route, status]);
            }
            Kind::Client => {
                CLIENT_SECONDS.observe(&[route], seconds);
                CLIENT_TOTAL.inc(&[route, status]);
            }
        }
    }

    fn cancelled(&self) -> &'static str {
        if self.kind == Kind::Http { CANCELLED } else { GRPC_STATUSES[GRPC_CANCELLED] }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(self.cancelled());
    }
}

/// A call of another process; dropped before its end, it counts as cancelled.
pub struct ClientCall(Call);

impl ClientCall {
    /// Of the method of this path.
    pub fn begin(path: &str) -> ClientCall {
        let route = rpc_method(path).to_owned();
        let started = Instant::now();
        ClientCall(Call { kind: Kind::Client, method: "", route, started, ended: false, active: None })
    }

    /// It is tried once more.
    pub fn repeated(&self) {
        CLIENT_RETRIES.inc(&[self.0.route.as_str()]);
    }

    /// It was answered, or failed, with this gRPC status.
    pub fn end(mut self, code: i32) {
        CLIENT_RETRIES.add(&[self.0.route.as_str()], 0);
        self.0.end(grpc_status(code));
    }
}

/// The gRPC status in the head of an answer; one without any has gone well so far.
pub fn grpc_code(headers: &HeaderMap) -> i32 {
    let status = headers.get("grpc-status").and_then(|status| status.to_str().ok());
    status.map_or(0, |status| status.parse().unwrap_or(GRPC_UNKNOWN as i32))
}

/// Whether the head of a request or of an answer is one of gRPC.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

fn outcome<'a>(status: &'a StatusCode, headers: &HeaderMap) -> &'a str {
    if is_grpc(headers) { grpc_status(grpc_code(headers)) } else { status.as_str() }
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
                this.call.end(outcome(&http, response.headers()));
            }
            Err(_) => this.call.end(FAILED),
        }
        Poll::Ready(result)
    }
}
