//! The bytes of a connection, with an eye on how they come and go.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::watch::Watch;

/// How a client of HTTP/2 begins (RFC 9113, 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// A connection that is watched.
pub struct Watched<S> {
    stream: S,
    watch: Arc<Watch>,
    /// The first bytes, which were read to know the protocol, and how many of them there are and were given.
    first: [u8; PREFACE.len()],
    filled: usize,
    given: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Watched<S> {
    /// Nothing was read of it yet.
    pub fn new(stream: S, watch: Arc<Watch>) -> Watched<S> {
        Watched { stream, watch, first: [0; PREFACE.len()], filled: 0, given: 0 }
    }

    /// Reads just as much as is needed to know it.
    pub async fn protocol(&mut self) -> io::Result<Protocol> {
        while self.filled < PREFACE.len() {
            let read = poll_fn(|cx| self.fill(cx)).await?;
            if read == 0 && self.filled == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if read == 0 || self.first[..self.filled] != PREFACE[..self.filled] {
                return Ok(Protocol::Http1);
            }
        }
        self.watch.is_http2();
        Ok(Protocol::Http2)
    }

    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(&mut self.first[self.filled..]);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
        let read = buffer.filled().len();
        self.filled += read;
        Poll::Ready(Ok(read))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let first = &this.first[this.given..this.filled];
        if !first.is_empty() {
            let part = first.len().min(buffer.remaining());
            buffer.put_slice(&first[..part]);
            this.given += part;
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            this.watch.read();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> Watched<S> {
    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(bytes)) => self.watch.wrote(*bytes),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.watch.blocked(),
        }
        written
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        match &flushed {
            // Over TLS bytes may wait here.
            Poll::Ready(Ok(())) => self.watch.wrote(0),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.watch.blocked(),
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        if shut.is_pending() {
            self.watch.blocked();
        }
        shut
    }
}
