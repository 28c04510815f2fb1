//! The ports of a decky: connections and datagrams are let in, served, and told of.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::FutureExt;
use socket2::{Domain, Protocol as IpProtocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinHandle,
    time::MissedTickBehavior,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    limits::Gate,
    outlet::Outlet,
    persona::Persona,
    protocol::{Datagrams, Protocol, Server},
    session::{EventType, Limits, Session, Stream, watch},
    sweeps::Sweeps,
};

/// Connections that wait for being taken.
const BACKLOG: i32 = 1024;
/// How long to wait when none can be taken, for want of file descriptors, say.
const PAUSE: Duration = Duration::from_millis(100);
/// What a connection that lasted too long has to end itself.
const GRACE: Duration = Duration::from_secs(5);
/// Largest datagram that is read, bytes.
const MAX_DATAGRAM: usize = 8 * 1024;
/// Senders of datagrams that one port remembers.
const MAX_SENDERS: usize = 1024;
/// A sender of datagrams is gone when it was silent for this long.
const SENDER_SILENCE: Duration = Duration::from_secs(60);
/// Datagrams of one sender that are answered in a second.
const ANSWERS_A_SECOND: u32 = 100;
/// An answer is never longer than this many times the question.
const MAX_AMPLIFICATION: usize = 4;

/// What all ports share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Hosting {
    pub(crate) outlet: Outlet,
    pub(crate) gate: Gate,
    pub(crate) sweeps: Sweeps,
    pub(crate) limits: Limits,
    /// Connections that are open; they go on when their port is closed.
    pub(crate) connections: TaskTracker,
    /// Ends them too.
    pub(crate) stop: CancellationToken,
}

/// One service of one decky, on a port.
pub(crate) struct Port {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    closed: CancellationToken,
    served: Option<JoinHandle<()>>,
}

impl Port {
    /// Closes it; when this returns it can be bound again.
    pub(crate) async fn close(mut self) {
        self.closed.cancel();
        if let Some(served) = self.served.take() {
            // A task that failed has closed it too.
            let _ = served.await;
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

/// Binds a service; it is served until the port is dropped.
pub(crate) fn open(
    hosting: &Hosting,
    address: SocketAddr,
    persona: &Arc<Persona>,
    service: &str,
    server: Server,
) -> io::Result<Port> {
    let closed = hosting.stop.child_token();
    let service: Arc<str> = service.into();
    let (hosting, persona, token) = (hosting.clone(), persona.clone(), closed.clone());
    let (bound, served) = match server {
        Server::Connections(protocol) => {
            let socket = socket(address, Type::STREAM)?;
            socket.listen(BACKLOG)?;
            let listener = TcpListener::from_std(socket.into())?;
            let bound = listener.local_addr()?;
            let served = tokio::spawn(async move {
                tokio::select! {
                    () = accept(&listener, &hosting, &persona, &service, &protocol) => {}
                    () = token.cancelled() => {}
                }
            });
            (bound, served)
        }
        Server::Datagrams(datagrams) => {
            let socket = UdpSocket::from_std(socket(address, Type::DGRAM)?.into())?;
            let bound = socket.local_addr()?;
            (bound, tokio::spawn(receive(socket, hosting, persona, service, datagrams, token)))
        }
    };
    Ok(Port { address: bound, closed, served: Some(served) })
}

fn socket(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let ip = if kind == Type::STREAM { IpProtocol::TCP } else { IpProtocol::UDP };
    let socket = Socket::new(Domain::for_address(address), kind, Some(ip))?;
    if kind == Type::STREAM {
        // Open sessions of the service that was here before go on.
        socket.set_reuse_address(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

async fn accept(
    listener: &TcpListener,
    hosting: &Hosting,
    persona: &Arc<Persona>,
    service: &Arc<str>,
    protocol: &Arc<dyn Protocol>,
) {
    loop {
        let (tcp, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                use io::ErrorKind::{ConnectionAborted, ConnectionReset};
                if !matches!(error.kind(), ConnectionAborted | ConnectionReset) {
                    tracing::warn!(%error, service = &**service, "no connection can be taken; trying again");
                    tokio::time::sleep(PAUSE).await;
                }
                continue;
            }
        };
        // Too many: closed as a busy server closes them, and not told of, because that would be the flood itself.
        let Some(admitted) = hosting.gate.admit(peer.ip()) else { continue };
        let connection = connection(hosting.clone(), tcp, peer, persona.clone(), service.clone(), protocol.clone());
        hosting.connections.spawn(async move {
            connection.await;
            drop(admitted);
        });
    }
}

/// Serves one connection, from its first event to its last.
async fn connection(
    hosting: Hosting,
    tcp: TcpStream,
    peer: SocketAddr,
    persona: Arc<Persona>,
    service: Arc<str>,
    protocol: Arc<dyn Protocol>,
) {
    let Ok(local) = tcp.local_addr() else { return };
    // Small answers must not wait; a socket that refuses this is closed already.
    let _ = tcp.set_nodelay(true);
    let tcp = Arc::new(tcp);
    let session = begin(&hosting, &persona, &service, peer, local);
    let traffic = session.0.traffic.clone();
    let stream = Stream::new(tcp.clone(), traffic.clone(), hosting.outlet.clone());
    // A fault in one decoy is the end of one connection.
    let serve = AssertUnwindSafe(protocol.serve(stream, session.clone())).catch_unwind();
    let watched = async {
        tokio::select! {
            () = watch(tcp.clone(), traffic.clone()) => {}
            () = hosting.stop.cancelled() => crate::session::close(&tcp),
        }
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        served = serve => match served {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::trace!(%error, service = &*service, "a connection ended"),
            Err(_) => tracing::error!(service = &*service, session = %session.id(), "a decoy failed"),
        },
        () = watched => {}
    }
    session.end();
}

/// Tells of a new session, and of a sweep when it makes one of what its sender did.
fn begin(
    hosting: &Hosting,
    persona: &Arc<Persona>,
    service: &Arc<str>,
    peer: SocketAddr,
    local: SocketAddr,
) -> Session {
    let session = Session::begin(&hosting.outlet, persona, service, (peer, local), &hosting.limits);
    if hosting.sweeps.is_sweep(peer.ip().to_canonical(), local) {
        session.emit(EventType::Scan, "many services in a short time", &[("kind", "port_sweep")]);
    }
    session
}

/// A sender of datagrams.
struct Sender {
    session: Session,
    last: Instant,
    /// Of this second.
    second: Instant,
    answered: u32,
}

async fn receive(
    socket: UdpSocket,
    hosting: Hosting,
    persona: Arc<Persona>,
    service: Arc<str>,
    datagrams: Arc<dyn Datagrams>,
    closed: CancellationToken,
) {
    let Ok(local) = socket.local_addr() else { return };
    let mut senders: HashMap<SocketAddr, Sender> = HashMap::new();
    let mut sweep = tokio::time::interval(SENDER_SILENCE / 6);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            ready = socket.readable() => if ready.is_err() { tokio::time::sleep(PAUSE).await },
            _ = sweep.tick() => {
                senders.retain(|_, sender| {
                    let stays = sender.last.elapsed() < SENDER_SILENCE;
                    if !stays { sender.session.end() }
                    stays
                });
                continue;
            }
            () = closed.cancelled() => break,
        }
        let Some((datagram, peer)) = take(&socket) else { continue };
        if hosting.outlet.congested() {
            continue;
        }
        if !senders.contains_key(&peer) {
            if senders.len() >= MAX_SENDERS {
                forget_oldest(&mut senders);
            }
            let session = begin(&hosting, &persona, &service, peer, local);
            let now = Instant::now();
            senders.insert(peer, Sender { session, last: now, second: now, answered: 0 });
        }
        let Some(sender) = senders.get_mut(&peer) else { continue };
        sender.last = Instant::now();
        if sender.second.elapsed() >= Duration::from_secs(1) {
            (sender.second, sender.answered) = (sender.last, 0);
        }
        sender.answered += 1;
        let may = sender.session.0.traffic.received(datagram.len());
        if !may || sender.answered > ANSWERS_A_SECOND {
            continue;
        }
        let answer = AssertUnwindSafe(datagrams.answer(&datagram, &sender.session)).catch_unwind().await;
        match answer {
            Ok(Some(answer)) if answer.len() <= datagram.len().saturating_mul(MAX_AMPLIFICATION) => {
                // One that cannot be sent is one that was lost on the way.
                if let Ok(sent) = socket.send_to(&answer, peer).await {
                    sender.session.0.traffic.sent(sent);
                }
            }
            Ok(Some(_)) => tracing::debug!(service = &*service, "an answer would have amplified"),
            Ok(None) => {}
            Err(_) => tracing::error!(service = &*service, "a decoy failed"),
        }
    }
    for sender in senders.into_values() {
        sender.session.end();
    }
}

/// The next datagram. The room for it is on the stack, so that a port that waits holds none.
fn take(socket: &UdpSocket) -> Option<(Vec<u8>, SocketAddr)> {
    let mut room = [0; MAX_DATAGRAM];
    let (length, peer) = socket.try_recv_from(&mut room).ok()?;
    Some((room.get(..length)?.to_vec(), peer))
}

fn forget_oldest(senders: &mut HashMap<SocketAddr, Sender>) {
    let oldest = senders.iter().min_by_key(|(_, sender)| sender.last).map(|(peer, _)| *peer);
    if let Some(sender) = oldest.and_then(|peer| senders.remove(&peer)) {
        sender.session.end();
    }
}
