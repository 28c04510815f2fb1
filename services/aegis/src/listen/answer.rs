//! Hands requests to the router, and keeps count of those that run.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{Router, body::Body, extract::ConnectInfo, http::Request, response::Response, routing::future::RouteFuture};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::{body::Incoming, service::Service};
use pin_project_lite::pin_project;

use super::{Peer, body, watch::Watch};

/// What a connection asks.
#[derive(Clone)]
pub struct Front {
    router: Router,
    watch: Arc<Watch>,
    from: SocketAddr,
    peer: Peer,
    patience: Duration,
}

impl Front {
    /// Of this connection. The body of a request may stand still for as long as `patience`.
    pub fn new(router: Router, watch: Arc<Watch>, from: SocketAddr, peer: Peer, patience: Duration) -> Front {
        Front { router, watch, from, peer, patience }
    }
}

impl Service<Request<Incoming>> for Front {
    type Response = Response<Sent>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Answering {
        let running = Running::new(&self.watch);
        let mut request = body::bounded(request, self.patience);
        request.extensions_mut().insert(ConnectInfo(self.from));
        request.extensions_mut().insert(self.peer);
        // A router is always ready.
        let answer = tower::Service::call(&mut self.router.clone(), request);
        Answering { answer, running: Some(running) }
    }
}

/// A request that runs; to drop it is its end.
struct Running {
    watch: Arc<Watch>,
    answered: bool,
}

impl Running {
    fn new(watch: &Arc<Watch>) -> Running {
        watch.begins();
        Running { watch: Arc::clone(watch), answered: false }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.watch.ends(self.answered);
    }
}

pin_project! {
    /// The answer on its way.
    pub struct Answering {
        #[pin]
        answer: RouteFuture<Infallible>,
        running: Option<Running>,
    }
}

impl Future for Answering {
    type Output = Result<Response<Sent>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = ready!(this.answer.poll(cx))?;
        let mut running = this.running.take();
        if let Some(running) = &mut running {
            running.answered = true;
        }
        Poll::Ready(Ok(answer.map(|body| Sent { body, running, handed: false })))
    }
}

/// The body of an answer.
pub struct Sent {
    body: Body,
    running: Option<Running>,
    /// The part before is not known to be on its way.
    handed: bool,
}

impl Sent {
    fn moves(&mut self) {
        if std::mem::take(&mut self.handed)
            && let Some(running) = &self.running
        {
            running.watch.moves();
        }
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.moves();
    }
}

impl http_body::Body for Sent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        // Whoever asks for more has passed on what it had.
        self.moves();
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let (Some(Ok(_)), Some(running)) = (&frame, &self.running) {
            running.watch.hands();
            self.handed = true;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
