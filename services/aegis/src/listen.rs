//! The socket of a process: connections of HTTP/1.1 and HTTP/2, over TLS or not, what each of them may take, and their
//! orderly end.
//!
//! A stranger may open connections, so everything that one can hold is bounded: how many there are, how long a request
//! may take to arrive, how long an answer may take to leave, and what HTTP/2 keeps for a client that cancels all it
//! asks. Other processes of the product have one connection for all their calls; a socket that only they reach lets
//! them have more on it.

mod answer;
mod body;
mod figures;
mod house;
#[cfg(test)]
mod tests;
mod watch;
mod watched;

use std::{future::Future, io, net::SocketAddr, pin::Pin, pin::pin, sync::Arc, time::Duration};

use aegis_runtime::Shutdown;
use axum::Router;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};

use crate::tls::Server;

use answer::Front;
use house::{House, Place};
pub use house::{Limits, room};
use watch::{Ending, Watch};
use watched::{Protocol, Watched};

/// Calls that may run at the same time on one connection of another process, which has one for all its calls: each open
/// event stream is a call that stays, and with the usual 200, streams would shut out the rest.
const CALLS_OF_A_PEER: u32 = 10_000;
/// The same where anybody may connect. A browser asks for a page's parts at once, and has its streams beside.
const CALLS_OF_A_STRANGER: u32 = 256;
/// What is taken of all requests on one connection before they are read, bytes, where anybody may connect.
const WINDOW_OF_A_STRANGER: u32 = 4 * aegis_rpc::STREAM_WINDOW;
/// Longest head of a request, bytes.
const MAX_HEAD: usize = 32 * 1024;
/// Streams that a client may have opened and given up before anybody has seen them. More are an attack.
const GIVEN_UP: usize = 64;
/// How often HTTP/2 asks whether the other side is still there, and how long it waits.
const PING: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(20));
/// A client may be gone without a word: the system asks for it when nothing passes, and gives up what is not
/// acknowledged for that long.
const PROBE: Duration = Duration::from_secs(60);
/// How long to wait when no connection can be taken, for want of file descriptors, say.
const PAUSE: Duration = Duration::from_millis(500);

/// What is behind the address.
pub struct Socket {
    /// Not set: plain HTTP.
    pub tls: Option<Arc<Server>>,
    /// Anybody may connect; else only other processes of the product do.
    pub strangers: bool,
    /// What connections may take.
    pub limits: Limits,
}

/// Who asks, as the connection shows it; with every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// It has shown a certificate of the product's own CA.
    pub certified: bool,
}

/// Listens until the process is to stop; requests that run are finished. Event streams end by themselves then.
pub async fn listen(listener: TcpListener, router: Router, shutdown: Shutdown, socket: Socket) -> io::Result<()> {
    let stop = shutdown.token();
    let connections = TaskTracker::new();
    let house = Arc::new(House::new(socket.limits, socket.strangers));
    let _keeper = AbortOnDropHandle::new(tokio::spawn(house::keep(Arc::clone(&house))));
    let socket = Arc::new(socket);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Who finds no room is hung up on: to say why would take room.
                if let Some(place) = house.enter(peer.ip()) {
                    let connection = Connection { peer, place, router: router.clone(), stop: stop.clone() };
                    connections.spawn(connection.run(stream, Arc::clone(&socket)));
                }
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

struct Connection {
    peer: SocketAddr,
    place: Place,
    router: Router,
    stop: CancellationToken,
}

impl Connection {
    async fn run(self, stream: TcpStream, socket: Arc<Socket>) {
        // An event that is pushed must not wait for the one before to be acknowledged.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "small packets of this connection may wait");
        }
        let probes = socket2::TcpKeepalive::new().with_time(PROBE).with_interval(PROBE / 4);
        let raw = socket2::SockRef::from(&stream);
        let set = raw.set_tcp_keepalive(&probes);
        #[cfg(target_os = "linux")]
        let set = set.and_then(|()| raw.set_tcp_user_timeout(Some(PROBE)));
        if let Err(error) = set {
            tracing::debug!(%error, "a client of this connection that is gone is noticed late");
        }
        let Some(tls) = &socket.tls else {
            return self.serve(stream, &socket, Peer { certified: false }).await;
        };
        let accepted = tls.acceptor().accept(stream);
        let accepted = tokio::select! {
            accepted = tokio::time::timeout(socket.limits.handshake, accepted) => accepted,
            () = self.stop.cancelled() => return,
        };
        match accepted {
            Ok(Ok(stream)) => {
                let certified = stream.get_ref().1.peer_certificates().is_some_and(|shown| !shown.is_empty());
                self.serve(stream, &socket, Peer { certified }).await;
            }
            Ok(Err(error)) => {
                figures::ended(Ending::Handshake);
                tracing::debug!(peer = %self.peer, %error, "no TLS came about");
            }
            Err(_) => figures::ended(Ending::Handshake),
        }
    }

    async fn serve<S>(self, stream: S, socket: &Socket, peer: Peer)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let watch = self.place.watch();
        let mut stream = Watched::new(stream, Arc::clone(&watch));
        // Of HTTP/2 only the first bytes tell, also over TLS: not everyone says so in the handshake.
        let protocol = tokio::select! {
            protocol = stream.protocol() => protocol,
            () = self.stop.cancelled() => return,
            ending = watch.ended() => return self.end(ending),
        };
        let front = Front::new(self.router.clone(), Arc::clone(&watch), self.peer, peer, socket.limits.body);
        match protocol {
            Ok(Protocol::Http1) => {
                let connection = http1_builder().serve_connection(TokioIo::new(stream), front);
                self.drive(&watch, connection, http1::Connection::graceful_shutdown).await;
            }
            Ok(Protocol::Http2) => {
                let connection = http2_builder(socket.strangers).serve_connection(TokioIo::new(stream), front);
                self.drive(&watch, connection, http2::Connection::graceful_shutdown).await;
            }
            Err(error) => tracing::trace!(%error, "a connection ended before it asked anything"),
        }
    }

    /// Runs it to its end, which it, the process or the watch may bring about.
    async fn drive<C>(&self, watch: &Watch, connection: C, finish: impl Fn(Pin<&mut C>))
    where
        C: Future<Output = hyper::Result<()>>,
    {
        let mut connection = pin!(connection);
        let mut finishing = false;
        let result = loop {
            tokio::select! {
                result = connection.as_mut() => break result,
                () = self.stop.cancelled(), if !finishing => {
                    finishing = true;
                    finish(connection.as_mut());
                }
                ending = watch.ended() => match ending {
                    Ending::Idle => {
                        if !finishing {
                            finishing = true;
                            figures::ended(ending);
                            finish(connection.as_mut());
                        }
                    }
                    // What runs on it ends with it.
                    ending => return self.end(ending),
                },
            }
        };
        if let Err(error) = result {
            tracing::trace!(error = &error as &dyn std::error::Error, "a connection did not end in good order");
        }
    }

    fn end(&self, ending: Ending) {
        figures::ended(ending);
        tracing::debug!(peer = %self.peer, why = ending.name(), "a connection is ended");
    }
}

fn http1_builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    // The time for the head is the watch's: here it would be that between two requests as well.
    builder.timer(TokioTimer::new()).header_read_timeout(None::<Duration>).max_header_size(MAX_HEAD);
    builder
}

fn http2_builder(strangers: bool) -> http2::Builder<TokioExecutor> {
    let (calls, window) = match strangers {
        true => (CALLS_OF_A_STRANGER, WINDOW_OF_A_STRANGER),
        false => (CALLS_OF_A_PEER, aegis_rpc::REQUESTS_WINDOW),
    };
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(calls)
        .max_pending_accept_reset_streams(GIVEN_UP)
        .initial_stream_window_size(aegis_rpc::STREAM_WINDOW)
        .initial_connection_window_size(window)
        .max_frame_size(aegis_rpc::MAX_FRAME)
        .max_header_list_size(MAX_HEAD as u32)
        .keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1);
    builder
}
