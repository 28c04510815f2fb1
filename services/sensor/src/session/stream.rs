//! The connection itself: counted, and ended when it lasts too long, says nothing for too long or sends too much.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Sleep,
};

use crate::outlet::Outlet;

/// How long a connection waits when what it tells could not be kept.
const CONGESTION_PAUSE: Duration = Duration::from_millis(20);

/// Limits of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Neither side says anything for this long.
    pub(crate) idle: Duration,
    /// From the first to the last byte.
    pub(crate) total: Duration,
    /// What the client may send, bytes.
    pub(crate) bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { idle: Duration::from_secs(300), total: Duration::from_secs(3600), bytes: 64 * 1024 * 1024 }
    }
}

/// What went over a connection, and what may.
#[derive(Debug)]
pub(crate) struct Traffic {
    began: Instant,
    began_at: DateTime<Utc>,
    /// Milliseconds from the beginning.
    last: AtomicU64,
    idle: AtomicU64,
    total: AtomicU64,
    bytes: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    over: AtomicBool,
}

impl Traffic {
    pub(crate) fn new(limits: &Limits) -> Self {
        Traffic {
            began: Instant::now(),
            began_at: Utc::now(),
            last: AtomicU64::new(0),
            idle: AtomicU64::new(millis(limits.idle)),
            total: AtomicU64::new(millis(limits.total)),
            bytes: AtomicU64::new(limits.bytes),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            over: AtomicBool::new(false),
        }
    }

    pub(crate) fn began_at(&self) -> DateTime<Utc> {
        self.began_at
    }

    pub(crate) fn age_ms(&self) -> u64 {
        millis(self.began.elapsed())
    }

    pub(crate) fn bytes_in(&self) -> u64 {
        self.bytes_in.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes_out(&self) -> u64 {
        self.bytes_out.load(Ordering::Relaxed)
    }

    /// Counts what came; whether it may.
    pub(crate) fn received(&self, bytes: usize) -> bool {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.last.store(self.age_ms(), Ordering::Relaxed);
        let before = self.bytes_in.fetch_add(bytes, Ordering::Relaxed);
        before.saturating_add(bytes) <= self.bytes.load(Ordering::Relaxed)
    }

    /// Counts what went.
    pub(crate) fn sent(&self, bytes: usize) {
        self.last.store(self.age_ms(), Ordering::Relaxed);
        self.bytes_out.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How long it may still be as it is; none when it is over.
    fn left(&self) -> Option<Duration> {
        let now = self.age_ms();
        let idle_end = self.last.load(Ordering::Relaxed).saturating_add(self.idle.load(Ordering::Relaxed));
        let end = idle_end.min(self.total.load(Ordering::Relaxed));
        match end.saturating_sub(now) {
            0 => None,
            left => Some(Duration::from_millis(left)),
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Waits until the connection has lasted too long, and ends it: whoever reads or writes hears of it, in whatever task.
pub(crate) async fn watch(tcp: Arc<TcpStream>, traffic: Arc<Traffic>) {
    // At most a second, so that a limit that is made shorter holds.
    while let Some(left) = traffic.left() {
        tokio::time::sleep(left.clamp(Duration::from_millis(10), Duration::from_secs(5))).await;
    }
    traffic.over.store(true, Ordering::Release);
    close(&tcp);
}

/// Ends a connection that others hold.
pub(crate) fn close(tcp: &TcpStream) {
    // It may be closed already.
    let _ = SockRef::from(tcp).shutdown(std::net::Shutdown::Both);
}

/// The connection itself, with its limits on time and size.
pub struct Stream {
    tcp: Arc<TcpStream>,
    traffic: Arc<Traffic>,
    outlet: Outlet,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Stream {
    pub(crate) fn new(tcp: Arc<TcpStream>, traffic: Arc<Traffic>, outlet: Outlet) -> Self {
        Stream { tcp, traffic, outlet, pause: None }
    }

    /// From now on, both sides may be silent for at most this long.
    pub fn limit_idle(&self, idle: Duration) {
        self.traffic.idle.store(millis(idle), Ordering::Relaxed);
    }

    /// The connection may last at most this long from now on.
    pub fn limit_total(&self, total: Duration) {
        self.traffic.total.store(self.traffic.age_ms().saturating_add(millis(total)), Ordering::Relaxed);
    }

    /// What the client may send in all, bytes.
    pub fn limit_bytes(&self, bytes: u64) {
        self.traffic.bytes.store(bytes, Ordering::Relaxed);
    }

    /// Waits for bytes and copies them without taking them; 0 at the end. A second call gives the same, and more if more
    /// came: it does not wait for more than it gave before.
    pub async fn peek(&self, bytes: &mut [u8]) -> io::Result<usize> {
        self.tcp.peek(bytes).await
    }

    fn check(&self) -> io::Result<()> {
        match self.traffic.over.load(Ordering::Acquire) {
            true => Err(io::Error::new(io::ErrorKind::TimedOut, "the connection lasted too long")),
            false => Ok(()),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            self.check()?;
            if let Some(pause) = self.pause.as_mut() {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            if self.outlet.congested() {
                self.pause = Some(Box::pin(tokio::time::sleep(CONGESTION_PAUSE)));
                continue;
            }
            ready!(self.tcp.poll_read_ready(cx))?;
            match self.tcp.try_read(buf.initialize_unfilled()) {
                Ok(read) => {
                    buf.advance(read);
                    self.check()?;
                    if !self.traffic.received(read) {
                        return Poll::Ready(Err(io::Error::other("the client sent too much")));
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            self.check()?;
            ready!(self.tcp.poll_write_ready(cx))?;
            match self.tcp.try_write(bytes) {
                Ok(written) => {
                    self.traffic.sent(written);
                    return Poll::Ready(Ok(written));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.tcp).shutdown(std::net::Shutdown::Write))
    }
}
