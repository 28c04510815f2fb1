//! Services of other processes: connections that are made when they are needed, calls spread over all processes of a
//! role, and second tries where nothing can happen twice.

use std::sync::Arc;

use aegis_telemetry::ClientCall;
use http::{Request, Response};
use tonic::{Code, Status, body::Body};
use tower::util::BoxCloneSyncService;
use tracing::{Instrument, field::Empty};

use crate::{
    ClientTls, RpcService,
    addresses::{AddressError, parse},
    kept::Kept,
    pool::{self, Failed, Pool, choose},
    watch,
};

/// Tries of one call, the first included, where there is one process. Each more is a try more, up to [`MOST_TRIES`].
const TRIES: usize = 3;
const MOST_TRIES: usize = 6;

/// The service behind these URLs as a client's transport: `http://host:port`, several with commas between them, and
/// a host may be a name with several addresses, which is looked up again and again.
///
/// Calls go to the processes that say that they serve (gRPC health), of two at random to the one that has fewer; if
/// none says so, to any. A call that never left is sent to another process. Methods whose names begin with Get,
/// List, Count, Verify, Search or Pick change nothing and are also tried again when the service is unavailable;
/// others are not, because the first try may have arrived.
pub fn remote(urls: &str) -> Result<RpcService, AddressError> {
    remote_over(urls, &ClientTls::default())
}

/// As [`remote`]; what is `https` is verified as this says, in place of by the roots that browsers know.
pub fn remote_over(urls: &str, tls: &ClientTls) -> Result<RpcService, AddressError> {
    let pool = Pool::new(parse(urls)?, tls.clone())?;
    let pool = Arc::new(pool);
    if pool.changes() {
        tokio::spawn(watch::watch(Arc::downgrade(&pool)));
    }
    Ok(BoxCloneSyncService::new(tower::service_fn(move |request| call(Arc::clone(&pool), request))))
}

async fn call(pool: Arc<Pool>, mut request: Request<Body>) -> Result<Response<Body>, Status> {
    request.extensions_mut().clear();
    let path = request.uri().path();
    let method = aegis_telemetry::rpc_method(path);
    let span = tracing::info_span!(
        "call",
        otel.name = method,
        otel.kind = "client",
        rpc.system.name = "grpc",
        rpc.method = method,
        rpc.response.status_code = Empty,
        otel.status_code = Empty,
        tries = Empty,
    );
    let measured = ClientCall::begin(path);
    span.in_scope(|| aegis_telemetry::inject(request.headers_mut()));
    let result = try_all(pool, request, &measured).instrument(span.clone()).await;
    let code = match &result {
        Ok(answer) => aegis_telemetry::grpc_code(answer.headers()),
        Err(status) => status.code() as i32,
    };
    measured.end(code);
    crate::ended(&span, code, &[]);
    result
}

async fn try_all(pool: Arc<Pool>, request: Request<Body>, measured: &ClientCall) -> Result<Response<Body>, Status> {
    let mut request = Kept::new(request)?;
    let read = is_read(request.path());
    let mut tried = Vec::new();
    loop {
        let peers = pool.known().await;
        let Some(peer) = choose(&peers, &tried) else {
            return Err(Status::unavailable("the service is not reachable: no address is known"));
        };
        let Some(again) = request.request() else {
            return Err(Status::unavailable("the service is not reachable"));
        };
        let result = peer.send(again).await;
        let again = match &result {
            Ok(answer) => {
                pool.answers(&peer);
                read && is_unavailable(answer)
            }
            Err(failed) => {
                pool.fails(&peer, failed);
                match failed {
                    Failed::Unsent(_) => true,
                    Failed::Broken(_) => read,
                    Failed::Late(_) => false,
                }
            }
        };
        tried.push(peer);
        if !again || !request.is_whole() || tried.len() >= (TRIES + peers.len() - 1).min(MOST_TRIES) {
            return result.map_err(Failed::into_status);
        }
        measured.repeated();
        tracing::Span::current().record("tries", tried.len() + 1);
        // Another one may be asked at once.
        if tried.len() >= peers.len() {
            tokio::time::sleep(pool::pause(u32::try_from(tried.len()).unwrap_or(1))).await;
        }
    }
}

fn is_unavailable(answer: &Response<Body>) -> bool {
    Status::from_header_map(answer.headers()).is_some_and(|status| status.code() == Code::Unavailable)
}

fn is_read(path: &str) -> bool {
    let method = path.rsplit('/').next().unwrap_or_default();
    ["Get", "List", "Count", "Verify", "Search", "Pick"].iter().any(|prefix| method.starts_with(prefix))
}

#[cfg(test)]
mod tests;
