//! A service of another process: a lazy connection, and retries of reads that met UNAVAILABLE.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tonic::{
    Code, Status,
    body::Body,
    transport::{Channel, Endpoint},
};
use tower::{Service, ServiceExt, util::BoxCloneSyncService};

use crate::{ANSWERS_WINDOW, MAX_FRAME, RpcService, STREAM_WINDOW};

/// Tries of one read, the first included.
const TRIES: u32 = 3;
/// A request body larger than this is not kept for a second try.
const MAX_KEPT: usize = 1024 * 1024;

/// A service behind a URL as a client's transport. Connects with the first call and again after a loss.
///
/// Methods whose names begin with Get, List, Count or Verify change nothing and are tried again when the service
/// is unavailable; others are not, because the first try may have arrived.
pub fn remote(url: &str) -> Result<RpcService, tonic::transport::Error> {
    let channel = Endpoint::from_shared(url.to_owned())?
        .connect_timeout(Duration::from_secs(2))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(ANSWERS_WINDOW)
        .max_frame_size(MAX_FRAME)
        .connect_lazy();
    Ok(BoxCloneSyncService::new(tower::service_fn(move |request| call(channel.clone(), request))))
}

async fn call(channel: Channel, mut request: Request<Body>) -> Result<Response<Body>, Status> {
    request.extensions_mut().clear();
    aegis_telemetry::inject(request.headers_mut());
    if !is_read(request.uri().path()) {
        return send(channel, request).await;
    }
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let mut tries = 1;
    loop {
        let mut again = Request::new(body_of(body.clone()));
        *again.method_mut() = head.method.clone();
        *again.uri_mut() = head.uri.clone();
        *again.version_mut() = head.version;
        *again.headers_mut() = head.headers.clone();
        let result = send(channel.clone(), again).await;
        let unavailable = match &result {
            Ok(answer) => Status::from_header_map(answer.headers()).is_some_and(|s| s.code() == Code::Unavailable),
            Err(status) => status.code() == Code::Unavailable,
        };
        if !unavailable || tries == TRIES || body.len() > MAX_KEPT {
            return result;
        }
        let jitter = rand::random_range(20..80);
        tokio::time::sleep(Duration::from_millis(jitter * u64::from(tries))).await;
        tries += 1;
    }
}

async fn send(channel: Channel, request: Request<Body>) -> Result<Response<Body>, Status> {
    let mut channel = channel;
    let ready = channel.ready().await.map_err(unreachable)?;
    ready.call(request).await.map_err(unreachable)
}

fn unreachable(error: tonic::transport::Error) -> Status {
    let mut status = Status::unavailable("the service is not reachable");
    status.set_source(std::sync::Arc::new(error));
    status
}

fn body_of(bytes: Bytes) -> Body {
    Body::new(Full::new(bytes).map_err(|never| match never {}))
}

fn is_read(path: &str) -> bool {
    let method = path.rsplit('/').next().unwrap_or_default();
    ["Get", "List", "Count", "Verify"].iter().any(|prefix| method.starts_with(prefix))
}
