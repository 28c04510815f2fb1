//! For the fuzzer: what clients send besides what the services read: headers, queries, bodies, parts of bodies. Nothing
//! of it may make one fail.

use std::time::{Duration, Instant};

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Multipart, Request},
};
use chrono::{DateTime, Utc};
use futures::{StreamExt, executor::block_on};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{ACCEPT, CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE},
};
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    accept, conditions,
    extract::{Query, Visitor, object},
    routes::evidence::range,
    sse,
    values::{Change, set},
};

/// A target by its name.
pub type Target = (&'static str, fn(&[u8]));

/// Each by its name.
pub const TARGETS: &[Target] =
    &[("request_headers", request_headers), ("query", query), ("json_body", json_body), ("multipart", multipart)];

/// Headers, one a line, in a fixed order; a line that can be no header is left out.
fn request_headers(data: &[u8]) {
    const NAMES: [HeaderName; 8] = [
        RANGE,
        IF_RANGE,
        IF_MATCH,
        IF_NONE_MATCH,
        ACCEPT,
        HeaderName::from_static("idempotency-key"),
        HeaderName::from_static("last-event-id"),
        HeaderName::from_static("x-forwarded-for"),
    ];
    let mut headers = HeaderMap::new();
    for (name, line) in NAMES.into_iter().cycle().zip(data.split(|byte| *byte == b'\n').take(16)) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(name, value);
        }
    }
    let _ = (range::wanted(&headers), range::of_another(&headers, "\"ab\""));
    for method in [Method::GET, Method::POST, Method::PATCH] {
        let _ = conditions::of(&method, "/api/v1/tests/{id}", &headers);
        let _ = conditions::Known::of(&method, &headers);
    }
    let _ = accept::prefers(&headers, "text/csv", "application/json");
    let _ = sse::last_event_id(&headers, None);
    let visitor = Visitor {
        peer: None,
        forwarded: headers.get("x-forwarded-for").cloned(),
        user_agent: headers.get(ACCEPT).cloned(),
        request_id: HeaderValue::from_static("r1"),
        deadline: Instant::now() + Duration::from_secs(1),
    };
    let origin = visitor.origin();
    assert!(origin.address.len() <= 64 && origin.user_agent.chars().count() <= 256, "{origin:?}");
}

/// Of each kind of field one, as the bodies of the routes have them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it is read, and that is all")]
struct Fields {
    name: String,
    id: Option<Uuid>,
    at: Option<DateTime<Utc>>,
    count: Option<u32>,
    weight: Option<f64>,
    list: Option<Vec<String>>,
    #[serde(default, deserialize_with = "set")]
    set: Option<String>,
    #[serde(default)]
    change: Change<String>,
    below: Option<Box<Fields>>,
}

fn json_body(data: &[u8]) {
    let _ = object::<Fields>(data);
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it is read, and that is all")]
struct Filter {
    search: Option<String>,
    limit: Option<u32>,
    at: Option<DateTime<Utc>>,
    flag: Option<bool>,
}

fn query(data: &[u8]) {
    let uri = format!("/?{}", String::from_utf8_lossy(data));
    let Ok(request) = Request::get(uri).body(Body::empty()) else { return };
    let (mut parts, _) = request.into_parts();
    let _ = block_on(Query::<Filter>::from_request_parts(&mut parts, &()));
}

/// A boundary, a line break, a body.
fn multipart(data: &[u8]) {
    let (boundary, body) = data.split_at(data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len()));
    let kind = [b"multipart/form-data; boundary=", boundary].concat();
    let Ok(kind) = HeaderValue::from_bytes(&kind) else { return };
    let pieces: Vec<_> = body.get(1..).unwrap_or_default().chunks(64).map(<[u8]>::to_vec).collect();
    let pieces = futures::stream::iter(pieces).map(Ok::<_, std::convert::Infallible>);
    let Ok(request) = Request::post("/").header(CONTENT_TYPE, kind).body(Body::from_stream(pieces)) else { return };
    block_on(async {
        let Ok(mut parts) = Multipart::from_request(request, &()).await else { return };
        while let Ok(Some(mut part)) = parts.next_field().await {
            let _ = (part.name().map(str::len), part.file_name().map(str::len));
            while let Ok(Some(_)) = part.chunk().await {}
        }
    });
}
