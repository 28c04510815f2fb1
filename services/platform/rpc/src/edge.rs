//! What a transport would give to a call inside one process, and what both kinds of server need: an end at the
//! deadline and INTERNAL for a panic. The call runs in the caller's task, so it ends when the caller leaves.

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::{FutureExt, future::BoxFuture};
use http::{Request, Response};
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service, ServiceExt, util::BoxCloneSyncService};
use tracing::field::Empty;

use crate::RpcService;

/// A call that names no deadline has this one. Streams (uploads, exports) are bounded by their own limits: the
/// deadline is for the answer's head.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(30);
/// As the auth crate spells it.
const REQUEST_ID: &str = "x-request-id";
/// The statuses that are the server's own fault: its span has failed then.
const OF_THE_SERVER: [Code; 6] =
    [Code::Unknown, Code::DeadlineExceeded, Code::Unimplemented, Code::Internal, Code::Unavailable, Code::DataLoss];

/// Puts [`Edge`] around a server.
#[derive(Clone, Copy, Debug, Default)]
pub struct EdgeLayer;

impl<S> Layer<S> for EdgeLayer {
    type Service = Edge<S>;

    fn layer(&self, inner: S) -> Edge<S> {
        Edge { inner }
    }
}

/// See [`EdgeLayer`].
#[derive(Clone, Debug)]
pub struct Edge<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for Edge<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let deadline = request
            .headers()
            .get("grpc-timeout")
            .and_then(|v| v.to_str().ok())
            .and_then(parse_timeout)
            .unwrap_or(DEFAULT_DEADLINE);
        // For layers further in, which pass on what is left of it.
        request.extensions_mut().insert(Instant::now() + deadline);
        let path = request.uri().path().to_owned();
        let method = aegis_telemetry::rpc_method(&path);
        let span = tracing::info_span!(
            "rpc",
            otel.name = method,
            otel.kind = "server",
            rpc.system.name = "grpc",
            rpc.method = method,
            rpc.response.status_code = Empty,
            otel.status_code = Empty,
            request_id = request_id(&request),
            user.id = Empty,
        );
        aegis_telemetry::set_parent_from(&span, request.headers());
        Box::pin(async move {
            let call = AssertUnwindSafe(async move { inner.call(request).await }).catch_unwind();
            let call = tracing::Instrument::instrument(call, span.clone());
            let answer = match tokio::time::timeout(deadline, call).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(panic)) => {
                    let what = panic
                        .downcast_ref::<&str>()
                        .map(|s| (*s).to_owned())
                        .or_else(|| panic.downcast_ref::<String>().cloned())
                        .unwrap_or_default();
                    span.in_scope(|| tracing::error!(path, what, "a handler panicked"));
                    Ok(Status::internal("a fault in the service").into_http())
                }
                Err(_) => Ok(Status::deadline_exceeded("the deadline passed").into_http()),
            };
            if let Ok(answer) = &answer {
                crate::ended(&span, aegis_telemetry::grpc_code(answer.headers()), &OF_THE_SERVER);
            }
            answer
        })
    }
}

/// The id of the request that a call belongs to, if it is one that may stand in a log.
fn request_id<B>(request: &Request<B>) -> Option<&str> {
    let id = request.headers().get(REQUEST_ID)?.to_str().ok()?;
    (id.len() <= 64).then_some(id)
}

/// A service of this process as a client's transport. The request loses its extensions, as on a wire.
pub fn local<S>(server: S) -> RpcService
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    let edge = EdgeLayer.layer(server);
    BoxCloneSyncService::new(
        edge.map_request(|mut request: Request<Body>| {
            request.extensions_mut().clear();
            aegis_telemetry::inject(request.headers_mut());
            request
        })
        .map_err(|never: Infallible| match never {}),
    )
}

/// Reads a `grpc-timeout` value: at most eight digits and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(n.checked_mul(3600)?),
        "M" => Duration::from_secs(n.checked_mul(60)?),
        "S" => Duration::from_secs(n),
        "m" => Duration::from_millis(n),
        "u" => Duration::from_micros(n),
        "n" => Duration::from_nanos(n),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(timeout: &str) -> Request<Body> {
        let mut request = Request::new(Body::empty());
        request.headers_mut().insert("grpc-timeout", timeout.parse().unwrap());
        request
    }

    #[tokio::test]
    async fn a_panic_is_internal_and_the_caller_lives() {
        let server = tower::service_fn(|_: Request<Body>| async {
            if true {
                panic!("on purpose");
            }
            Ok::<_, Infallible>(Response::new(Body::empty()))
        });
        let answer = local(server).oneshot(request("5S")).await.unwrap();
        assert_eq!(Status::from_header_map(answer.headers()).unwrap().code(), tonic::Code::Internal);
    }

    #[tokio::test]
    async fn a_call_ends_at_its_deadline() {
        let server = tower::service_fn(|_: Request<Body>| async {
            std::future::pending::<()>().await;
            Ok::<_, Infallible>(Response::new(Body::empty()))
        });
        let answer = local(server).oneshot(request("20m")).await.unwrap();
        assert_eq!(Status::from_header_map(answer.headers()).unwrap().code(), tonic::Code::DeadlineExceeded);
    }

    #[test]
    fn timeouts_are_read_as_the_grpc_specification_says() {
        assert_eq!(parse_timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse_timeout("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(parse_timeout("123456789S"), None);
        assert_eq!(parse_timeout("S"), None);
    }
}
