//! The body of a request: kept where it is whole at once, so that it can be sent again.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use futures::{FutureExt, StreamExt, stream};
use http::{Request, request::Parts};
use http_body_util::{BodyExt, BodyStream, Full, StreamBody};
use hyper::body::Frame;
use tonic::{Status, body::Body};

/// A body larger than this is not kept for a second try.
const MAX_KEPT: usize = 1024 * 1024;

/// A request that is sent once or more.
pub(crate) struct Kept {
    head: Parts,
    body: Source,
}

enum Source {
    Whole(Bytes),
    /// Still coming, or too large; gone after the first try.
    Once(Option<Body>),
}

impl Kept {
    /// Takes what is there of the body without waiting. A single message is all there; of a stream, more is to come.
    pub(crate) fn new(request: Request<Body>) -> Result<Kept, Status> {
        let (head, mut body) = request.into_parts();
        let mut parts: VecDeque<Bytes> = VecDeque::new();
        let mut size = 0;
        let last = loop {
            if size > MAX_KEPT {
                break None;
            }
            match body.frame().now_or_never() {
                Some(None) => return Ok(Kept { head, body: Source::Whole(joined(parts)) }),
                Some(Some(frame)) => match frame?.into_data() {
                    Ok(data) => {
                        size += data.len();
                        parts.push_back(data);
                    }
                    // Trailers: no client of ours has any.
                    Err(other) => break Some(other),
                },
                None => break None,
            }
        };
        let begun = stream::iter(parts.into_iter().map(Frame::data).chain(last).map(Ok::<_, Status>));
        let whole = Body::new(StreamBody::new(begun.chain(BodyStream::new(body))));
        Ok(Kept { head, body: Source::Once(Some(whole)) })
    }

    /// Whether there is another try after this one.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self.body, Source::Whole(_))
    }

    pub(crate) fn path(&self) -> &str {
        self.head.uri.path()
    }

    /// The request; nothing where the body is gone.
    pub(crate) fn request(&mut self) -> Option<Request<Body>> {
        let body = match &mut self.body {
            Source::Whole(bytes) => Body::new(Full::new(bytes.clone()).map_err(|never| match never {})),
            Source::Once(body) => body.take()?,
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.head.method.clone();
        *request.uri_mut() = self.head.uri.clone();
        *request.version_mut() = self.head.version;
        *request.headers_mut() = self.head.headers.clone();
        Some(request)
    }
}

fn joined(mut parts: VecDeque<Bytes>) -> Bytes {
    if parts.len() < 2 {
        return parts.pop_front().unwrap_or_default();
    }
    let mut all = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
    parts.iter().for_each(|part| all.extend_from_slice(part));
    all.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(kept: &mut Kept) -> Option<Bytes> {
        Some(kept.request()?.into_body().collect().await.unwrap().to_bytes())
    }

    fn streamed(parts: impl futures::Stream<Item = &'static str> + Send + 'static) -> Kept {
        let frames = parts.map(|part| Ok::<_, Status>(Frame::data(Bytes::from(part))));
        Kept::new(Request::new(Body::new(StreamBody::new(frames)))).unwrap()
    }

    #[tokio::test]
    async fn a_single_message_can_be_sent_again() {
        let mut kept = streamed(stream::iter(["one ", "message"]));
        assert!(kept.is_whole());
        assert_eq!(read(&mut kept).await.unwrap(), "one message");
        assert_eq!(read(&mut kept).await.unwrap(), "one message");
    }

    #[tokio::test]
    async fn a_stream_goes_through_once_and_is_not_waited_for() {
        let later = stream::once(async {
            tokio::task::yield_now().await;
            "second"
        });
        let mut kept = streamed(stream::iter(["first "]).chain(later));
        assert!(!kept.is_whole());
        assert_eq!(read(&mut kept).await.unwrap(), "first second");
        assert!(read(&mut kept).await.is_none());
    }

    #[tokio::test]
    async fn what_is_too_large_is_not_kept() {
        const PART: &str = "0123456789abcdef";
        let mut kept = streamed(stream::repeat(PART).take(MAX_KEPT / PART.len() + 9));
        assert!(!kept.is_whole());
        assert_eq!(read(&mut kept).await.unwrap().len(), MAX_KEPT + 9 * PART.len());
    }
}
