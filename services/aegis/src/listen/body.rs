//! The body of a request, which must not stand still for ever. Calls of services may: their streams are open for as
//! long as somebody listens, and have deadlines and limits of their own.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{body::Body, http::Request};
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

/// A request whose body ends with an error when no part of it comes for as long as `patience`.
pub fn bounded(request: Request<Incoming>, patience: Duration) -> Request<Body> {
    let is_grpc = aegis_telemetry::is_grpc(request.headers());
    request.map(|body| match is_grpc || body.is_end_stream() {
        true => Body::new(body),
        false => Body::new(Bounded { body, patience, pause: None, waits: false }),
    })
}

struct Bounded {
    body: Incoming,
    patience: Duration,
    /// Made when it is first needed, which small requests never do.
    pause: Option<Pin<Box<Sleep>>>,
    waits: bool,
}

impl http_body::Body for Bounded {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.waits = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)));
        }
        let until = Instant::now() + this.patience;
        let pause = match &mut this.pause {
            Some(pause) => {
                if !this.waits {
                    pause.as_mut().reset(until);
                }
                pause
            }
            none => none.insert(Box::pin(tokio::time::sleep_until(until))),
        };
        this.waits = true;
        match pause.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Some(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "no part of the request came for a long time",
            )))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
