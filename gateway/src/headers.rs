//! The headers that keep a browser from doing with an answer what it is not meant for.

use std::sync::Arc;

use aegis_error::Failure;
use axum::{
    Router,
    extract::Request,
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
        X_FRAME_OPTIONS,
    },
};

use crate::{error::Problem, hosts};

/// An answer of JSON is no page: nothing in it may run, and no page may frame it.
const NO_PAGE: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
/// A year; this name alone, for what is below or above it may be somebody else's.
const ALWAYS_TLS: HeaderValue = HeaderValue::from_static("max-age=31536000");
const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");
/// No page here needs any of them.
const NO_DEVICES: HeaderValue = HeaderValue::from_static(
    "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), serial=(), usb=()",
);
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const SAME_ORIGIN: HeaderValue = HeaderValue::from_static("same-origin");

/// Adds them; a policy of its own and a cache of its own stay. `https`: browsers are to come over TLS for ever.
pub fn secure(headers: &mut HeaderMap, https: bool) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(PERMISSIONS_POLICY, NO_DEVICES);
    // Other sites' pages cannot take an answer in as a picture or a script; CORS, where it is open, is not bound by it.
    headers.insert(RESOURCE_POLICY, SAME_ORIGIN);
    headers.insert(OPENER_POLICY, SAME_ORIGIN);
    if https {
        headers.insert(STRICT_TRANSPORT_SECURITY, ALWAYS_TLS);
    }
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(NO_PAGE);
    // Answers are for who asked, and true now.
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

/// Routes that are not the gateway's, such as probes and metrics, with the names it listens to (see [`crate::Config`])
/// and the headers of its answers.
pub fn guarded(router: Router, hosts: Option<Vec<String>>, https: bool) -> Router {
    let hosts: Option<Arc<[String]>> = hosts.map(Arc::from);
    router.layer(from_fn(move |request: Request, next: Next| {
        let refused = hosts::check(hosts.as_deref(), request.uri(), request.headers());
        answer(refused, https, request, next)
    }))
}

async fn answer(refused: Result<(), Failure>, https: bool, request: Request, next: Next) -> Response {
    let mut response = match refused {
        Ok(()) => next.run(request).await,
        Err(failure) => Problem(failure).into_response(),
    };
    secure(response.headers_mut(), https);
    response
}
