//! Answers of unary methods, read to their end so that they can be kept, and made again from what was kept.

use std::convert::Infallible;

use aegis_error::Failure;
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, header::CONTENT_TYPE, response::Parts};
use http_body_util::{BodyExt, Full};
use tonic::{Code, Status, body::Body};

use super::store::Kept;

/// A frame begins with a flag (compressed) and the length of its message.
const PREFIX: usize = 5;
/// A longer answer is not kept.
const MAX_KEPT: usize = 1024 * 1024;

/// An answer that was read.
pub(super) struct Answer {
    head: Parts,
    body: Bytes,
    trailers: Option<HeaderMap>,
    status: Status,
}

impl Answer {
    /// Reads the whole answer of a unary method.
    pub async fn read(response: Response<Body>) -> Result<Answer, Status> {
        let (head, body) = response.into_parts();
        let collected = body.collect().await?;
        let trailers = collected.trailers().cloned();
        let body = collected.to_bytes();
        let status = [Some(&head.headers), trailers.as_ref()].into_iter().flatten().find_map(Status::from_header_map);
        let status = status.unwrap_or_else(|| Status::internal("a method ended without a status"));
        Ok(Answer { head, body, trailers, status })
    }

    /// Why it failed, if it did.
    pub fn failure(&self) -> Option<Failure> {
        let status = &self.status;
        (status.code() != Code::Ok).then(|| {
            Status::with_details(status.code(), status.message(), Bytes::copy_from_slice(status.details())).into()
        })
    }

    /// What to keep of it; nothing where it cannot be given again as it is.
    pub fn kept(&self) -> Option<Kept> {
        let bytes = match self.status.code() {
            Code::Ok => {
                let (prefix, message) = self.body.split_at_checked(PREFIX)?;
                let length = u32::try_from(message.len()).ok()?.to_be_bytes();
                (prefix.first() == Some(&0) && prefix.get(1..) == Some(&length[..])).then_some(message)?
            }
            _ => self.status.details(),
        };
        (bytes.len() <= MAX_KEPT).then(|| Kept {
            code: self.status.code(),
            message: self.status.message().to_owned(),
            bytes: bytes.to_vec(),
        })
    }

    /// The answer as it came.
    pub fn into_response(self) -> Response<Body> {
        let body = match self.trailers {
            Some(trailers) => with_trailers(self.body, trailers),
            None => Body::new(Full::new(self.body)),
        };
        Response::from_parts(self.head, body)
    }
}

/// The answer that was kept.
pub(super) fn again(kept: Kept) -> Response<Body> {
    if kept.code != Code::Ok {
        return Status::with_details(kept.code, kept.message, kept.bytes.into()).into_http();
    }
    let Ok(length) = u32::try_from(kept.bytes.len()) else {
        return Status::internal("an answer that was kept is too long").into_http();
    };
    let mut frame = BytesMut::with_capacity(PREFIX + kept.bytes.len());
    frame.put_u8(0);
    frame.put_u32(length);
    frame.put_slice(&kept.bytes);
    let mut trailers = HeaderMap::new();
    trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("0"));
    let mut response = Response::new(with_trailers(frame.freeze(), trailers));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

fn with_trailers(body: Bytes, trailers: HeaderMap) -> Body {
    Body::new(Full::new(body).with_trailers(async move { Some(Ok::<_, Infallible>(trailers)) }))
}
