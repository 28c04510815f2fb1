//! The socket of a process: connections of HTTP/1.1 and HTTP/2, and their orderly end.

use std::{io, net::SocketAddr, pin::pin, time::Duration};

use aegis_runtime::Shutdown;
use axum::{Router, extract::ConnectInfo, http::Request};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

/// Calls that may run at the same time on one connection. Another process of the product has one connection for all
/// its calls, and each open event stream is a call that stays: with the usual 200, streams would shut out the rest.
const MAX_CALLS: u32 = 10_000;
/// How long to wait when no connection can be taken, for want of file descriptors, say.
const PAUSE: Duration = Duration::from_millis(500);

/// Listens until the process is to stop; requests that run are finished. Event streams end by themselves then.
pub async fn listen(listener: TcpListener, router: Router, shutdown: Shutdown) -> io::Result<()> {
    let stop = shutdown.token();
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((socket, peer)) => {
                connections.spawn(serve(socket, peer, router.clone(), stop.clone()));
            }
            Err(error) if is_of_the_client(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "no connection can be taken; trying again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
    Ok(())
}

/// It left before it was let in.
fn is_of_the_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn serve(socket: TcpStream, peer: SocketAddr, router: Router, stop: CancellationToken) {
    // An event that is pushed must not wait for the one before to be acknowledged.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "small packets of this connection may wait");
    }
    let service = router.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        request
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http2()
        .max_concurrent_streams(MAX_CALLS)
        .initial_stream_window_size(aegis_rpc::STREAM_WINDOW)
        .initial_connection_window_size(aegis_rpc::REQUESTS_WINDOW)
        .max_frame_size(aegis_rpc::MAX_FRAME);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(socket), TowerToHyperService::new(service));
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::trace!(error, "a connection did not end in good order");
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::{
        response::sse::{Event, Sse},
        routing::get,
    };
    use futures::{StreamExt, stream};

    use super::*;

    /// A stream of one event that stays open until the process is to stop.
    fn router(stop: CancellationToken) -> Router {
        let handler = move || {
            let stop = stop.clone();
            async move {
                let end = async move {
                    stop.cancelled().await;
                    Ok::<_, Infallible>(Event::default().data("end"))
                };
                let first = stream::once(async { Ok(Event::default().data("first")) });
                Sse::new(first.chain(stream::once(end)))
            }
        };
        Router::new().route("/", get(handler))
    }

    fn client(http2: bool) -> reqwest::Client {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder().no_proxy();
        let builder = if http2 { builder.http2_prior_knowledge() } else { builder };
        builder.build().unwrap()
    }

    #[tokio::test]
    async fn open_streams_do_not_hold_the_end_up_and_hear_of_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let shutdown = Shutdown::new();
        let server = tokio::spawn(listen(listener, router(shutdown.token()), shutdown.clone()));
        let mut streams = Vec::new();
        for http2 in [false, true] {
            let mut answer = client(http2).get(&url).send().await.unwrap();
            assert_eq!(answer.chunk().await.unwrap().unwrap(), "data: first\n\n");
            streams.push(answer);
        }
        shutdown.cancel();
        for answer in streams {
            assert_eq!(answer.text().await.unwrap(), "data: end\n\n");
        }
        server.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn many_streams_leave_room_for_calls_on_the_same_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let shutdown = Shutdown::new();
        let server = tokio::spawn(listen(listener, router(shutdown.token()), shutdown.clone()));
        let client = client(true);
        let mut streams = Vec::new();
        for _ in 0..300 {
            streams.push(client.get(&url).send().await.unwrap());
        }
        assert_eq!(client.get(format!("{url}nothing")).send().await.unwrap().status(), 404);
        shutdown.cancel();
        drop(streams);
        server.await.unwrap().unwrap();
    }
}
