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
    let answer = ready.call(request).await.map_err(unreachable)?;
    // What a service says of a call comes after the body; an error of the body itself is a connection that broke.
    Ok(answer.map(|body| Body::new(body.map_err(broken_off))))
}

fn broken_off(error: Status) -> Status {
    let mut status = Status::unavailable("the service ended while it answered");
    status.set_source(std::sync::Arc::new(error));
    status
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

#[cfg(test)]
mod tests {
    use tonic::transport::{Server, server::TcpIncoming};
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

    use super::*;

    #[tokio::test]
    async fn a_service_that_ends_while_it_answers_is_unavailable() {
        // Of its own, so that it goes with everything that it has open, as a process does that is killed.
        let service = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let incoming = {
            let _entered = service.enter();
            TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap()
        };
        let url = format!("http://{}", incoming.local_addr().unwrap());
        let (_reporter, health) = tonic_health::server::health_reporter();
        service.spawn(Server::builder().add_service(health).serve_with_incoming(incoming));

        let mut client = HealthClient::new(remote(&url).unwrap());
        let mut answer = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
        assert!(answer.message().await.unwrap().is_some());
        service.shutdown_background();
        let status = answer.message().await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status}");
    }
}
