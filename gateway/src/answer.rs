//! Answers that are not errors: JSON made once into bytes, with the few headers that routes add.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use http::{
    HeaderName, HeaderValue, StatusCode,
    header::{CONTENT_TYPE, ETAG, LOCATION},
};
use serde::Serialize;

use crate::{conditions, error::Problem};

/// How many entries there are without `limit` and `offset`.
pub const TOTAL_COUNT: HeaderName = HeaderName::from_static("x-total-count");
/// When the figures were last brought up to date.
pub const AS_OF: HeaderName = HeaderName::from_static("x-as-of");

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// An answer in JSON. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Answer {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
}

impl Answer {
    /// 200 with this value.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Answer, Problem> {
        let body = serde_json::to_vec(value).map_err(Problem::internal)?;
        Ok(Answer { status: StatusCode::OK, headers: Vec::new(), body: body.into() })
    }

    /// 200 with this text; it needs its `Content-Type`.
    pub fn text(body: impl Into<Bytes>) -> Answer {
        Answer { status: StatusCode::OK, headers: Vec::new(), body: body.into() }
    }

    /// 201 with this entity and where it is.
    pub fn created<T: Serialize>(location: &str, value: &T) -> Result<Answer, Problem> {
        Ok(Answer::json(value)?.status(StatusCode::CREATED).with(LOCATION, location))
    }

    /// 204: done, and nothing to tell.
    pub fn nothing() -> Answer {
        Answer { status: StatusCode::NO_CONTENT, headers: Vec::new(), body: Bytes::new() }
    }

    /// 200 with this entity, whose row has this version (0 where it has none), under its `ETag`.
    pub fn entity<T: Serialize + ?Sized>(version: i64, value: &T) -> Result<Answer, Problem> {
        Ok(Answer::json(value)?.versioned(version))
    }

    /// With the `ETag` of an entity of this version that is shown in the body.
    pub fn versioned(mut self, version: i64) -> Answer {
        self.headers.push((ETAG, conditions::etag(version, &self.body)));
        self
    }

    /// One page of a list, with the number of all entries.
    pub fn list<T: Serialize>(rows: &[T], total: i64) -> Result<Answer, Problem> {
        let mut answer = Answer::json(rows)?;
        answer.headers.push((TOTAL_COUNT, HeaderValue::from(total)));
        Ok(answer)
    }

    /// With another status.
    pub fn status(mut self, status: StatusCode) -> Answer {
        self.status = status;
        self
    }

    /// With a header; a text that no header can hold is left out.
    pub fn with(mut self, name: HeaderName, value: &str) -> Answer {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    /// With the moment for which the figures hold.
    pub fn dated(self, moment: Option<DateTime<Utc>>) -> Answer {
        match moment {
            Some(moment) => self.with(AS_OF, &moment.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
            None => self,
        }
    }

    /// Bytes of the body.
    pub fn size(&self) -> usize {
        self.body.len()
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if self.status != StatusCode::NO_CONTENT {
            headers.insert(CONTENT_TYPE, JSON);
        }
        for (name, value) in self.headers {
            headers.insert(name, value);
        }
        response
    }
}
