//! What every request passes: one layer around all routes (request id, limits, panics, security headers) and one
//! around the routes that need a token.

use std::{
    net::SocketAddr,
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use aegis_auth::{REQUEST_ID_HEADER, Role};
use aegis_error::{Code, Failure};
use aegis_proto::identity::v1::RedeemStreamTicketRequest;
use aegis_telemetry::UNMATCHED;
use axum::{
    extract::{ConnectInfo, MatchedPath, OriginalUri, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures::FutureExt;
use http::{
    Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri,
    header::{AUTHORIZATION, USER_AGENT},
    uri::PathAndQuery,
};
use tower_http::compression::{CompressionLayer, predicate::SizeAbove};
use tracing::{Instrument, Level, field::Empty};
use uuid::Uuid;

use crate::{
    conditions::{self, Known},
    error::{Problem, Told, reworded},
    extract::{Caller, Visitor},
    headers, hosts, routes,
    state::Gateway,
};

const REQUEST_ID: HeaderName = HeaderName::from_static(REQUEST_ID_HEADER);
/// The same id under the name that the API's conventions spell.
const PLAIN_REQUEST_ID: HeaderName = HeaderName::from_static("request_id");
/// The trace that the answer belongs to, for whoever looks for the cause of it.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Headers that the processes of the product use among themselves.
const INTERNAL_PREFIX: &str = "x-aegis-";
const FORWARDED_FOR: &str = "x-forwarded-for";
/// How a ticket for a stream begins.
const TICKET_PREFIX: &str = "aegis_st_";
/// How long an upload may take.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(60 * 60);
/// How long it may take to hash a file again.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// How long a sync may take that is waited for.
const SYNC_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// How long it may take to purge all logs.
const PURGE_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// The layer around all routes.
pub async fn edge(State(gateway): State<Gateway>, mut request: Request, next: Next) -> Response {
    let request_id = request_id(request.headers());
    strip_internal(request.headers_mut());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or(UNMATCHED, MatchedPath::as_str);
    let limit = time_limit(&gateway, request.method(), route);
    let known = Known::of(request.method(), request.headers());
    let visitor = visitor(&gateway, &request, request_id.clone(), Instant::now() + limit);
    request.extensions_mut().insert(visitor);

    let change = (!request.method().is_safe()).then(|| gateway.hot.change());
    let id = request_id.to_str().unwrap_or_default();
    let method = aegis_telemetry::http_method(request.method());
    let span = tracing::info_span!(
        "request",
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
        otel.status_code = Empty,
        request_id = id,
        user.id = Empty,
    );
    aegis_telemetry::set_parent_from(&span, request.headers());
    let asked = hosts::check(gateway.deps.config.hosts.as_deref(), request.uri(), request.headers());
    let run = async {
        match asked {
            Ok(()) => next.run(request).await,
            Err(failure) => Problem(failure).into_response(),
        }
    };
    let run = AssertUnwindSafe(run).catch_unwind().instrument(span.clone());
    let mut response = match tokio::time::timeout(limit, run).await {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => span.in_scope(|| panicked(panic.as_ref(), id)),
        Err(_) => {
            let failure = Failure::new(Code::Timeout, "the request took longer than it may");
            Problem(failure).into_response()
        }
    };
    drop(change);

    let status = response.status();
    if (status.is_client_error() || status.is_server_error()) && response.extensions().get::<Told>().is_none() {
        response = reworded(response);
    }
    let told = response.extensions().get::<Told>();
    if told.is_some_and(|told| told.code == Code::Validation) && routes::answers_422(route) {
        *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    }
    response = known.answer(response);
    let status = response.status();
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
    if tracing::enabled!(Level::DEBUG) {
        span.in_scope(|| tracing::debug!(status = status.as_u16(), "answered"));
    }
    let headers = response.headers_mut();
    if let Ok(trace) = HeaderValue::try_from(aegis_telemetry::traceparent(&span))
        && !trace.is_empty()
    {
        headers.insert(TRACEPARENT, trace);
    }
    headers.insert(PLAIN_REQUEST_ID, request_id.clone());
    headers.insert(REQUEST_ID, request_id);
    headers::secure(headers, gateway.deps.config.https);
    response
}

/// The layer around the routes that need a token: verifies the bearer and leaves the [`Caller`] for the handler.
/// Runs before anything of the request is read.
pub async fn authenticate(State(gateway): State<Gateway>, mut request: Request, next: Next) -> Response {
    let Some(bearer) = request.headers().get(AUTHORIZATION).cloned() else {
        return refused("a bearer token is needed: sign in at POST /api/v1/auth/login");
    };
    let Some(token) = token(&bearer) else {
        return refused("the Authorization header must be: Bearer <token>");
    };
    match gateway.deps.verifier.verify(token).await {
        Ok(principal) => {
            if !principal.user_id.is_nil() {
                tracing::Span::current().record("user.id", tracing::field::display(principal.user_id));
            }
            let Some(visitor) = request.extensions_mut().remove::<Visitor>() else {
                return Problem::internal("a request came past the edge").into_response();
            };
            let route = request.extensions().get::<MatchedPath>().map_or(UNMATCHED, MatchedPath::as_str);
            // What is kept here is given to whoever is signed in: a sensor must not even come so far.
            if principal.role == Role::Sensor && route != routes::INGEST {
                return Problem(Failure::forbidden("a sensor's key is good for POST /api/v1/ingest/{format} only"))
                    .into_response();
            }
            let conditions = match conditions::of(request.method(), route, request.headers()) {
                Ok(conditions) => conditions,
                Err(failure) => return Problem(failure).into_response(),
            };
            let caller = Caller { principal, token: token.to_owned(), visitor, conditions };
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(failure) => Problem(failure).into_response(),
    }
}

/// [`authenticate`] for event streams: what opens the stream may stand in the query too, because a browser's
/// EventSource sends no headers: `token` (an access token or a ticket) or `ticket`. It goes no further than this.
pub async fn authenticate_stream(State(gateway): State<Gateway>, mut request: Request, next: Next) -> Response {
    let secret = take_secret(&mut request);
    if let Some(secret) = secret
        && !request.headers().contains_key(AUTHORIZATION)
    {
        let visitor = request.extensions().get::<Visitor>().cloned();
        let token = match visitor {
            Some(visitor) if secret.starts_with(TICKET_PREFIX) => redeem(&gateway, &visitor, secret).await,
            _ => Ok(secret),
        };
        let bearer = token.map(|token| HeaderValue::try_from(format!("Bearer {token}")));
        match bearer {
            Ok(Ok(mut bearer)) => {
                bearer.set_sensitive(true);
                request.headers_mut().insert(AUTHORIZATION, bearer);
            }
            Ok(Err(_)) => return refused("the token cannot be read"),
            Err(problem) => return problem.into_response(),
        }
    }
    authenticate(State(gateway), request, next).await
}

/// Takes the parameters out of the query that open a stream; answers the first of them.
fn take_secret(request: &mut Request) -> Option<String> {
    let query = request.uri().query().unwrap_or_default();
    let mut secret = None;
    let mut others = form_urlencoded::Serializer::new(String::new());
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match name.as_ref() {
            "token" | "ticket" => {
                secret.get_or_insert_with(|| value.trim().to_owned());
            }
            _ => {
                others.append_pair(&name, &value);
            }
        }
    }
    let others = others.finish();
    let mut parts = request.uri().clone().into_parts();
    let path = request.uri().path();
    let rest = if others.is_empty() { path.to_owned() } else { format!("{path}?{others}") };
    parts.path_and_query = PathAndQuery::try_from(rest).ok();
    // Made of an address that was one; were it none, the secret would have to go nevertheless.
    let uri = Uri::from_parts(parts).unwrap_or_default();
    *request.uri_mut() = uri.clone();
    request.extensions_mut().insert(OriginalUri(uri));
    secret.filter(|secret| !secret.is_empty())
}

async fn redeem(gateway: &Gateway, visitor: &Visitor, ticket: String) -> Result<String, Problem> {
    let request = visitor.ctx().outgoing(RedeemStreamTicketRequest { ticket });
    Ok(gateway.deps.identity.clone().redeem_stream_ticket(request).await?.into_inner().access_token)
}

/// Compression for the routes that answer long lists, for clients that ask for it.
pub fn compression() -> CompressionLayer<SizeAbove> {
    CompressionLayer::new().gzip(true).compress_when(SizeAbove::new(1024))
}

/// The label of a request in the metrics.
pub fn route_label(_: &Uri, extensions: &Extensions) -> String {
    extensions.get::<MatchedPath>().map_or(UNMATCHED, MatchedPath::as_str).to_owned()
}

fn refused(message: &'static str) -> Response {
    Problem(Failure::new(Code::Unauthenticated, message)).into_response()
}

fn token(bearer: &HeaderValue) -> Option<&str> {
    let (scheme, token) = bearer.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The client's own id where it is harmless in logs and headers, else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let harmless = |id: &&HeaderValue| {
        (1..=64).contains(&id.len())
            && id.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    };
    headers.get(REQUEST_ID).filter(harmless).cloned().unwrap_or_else(|| {
        let mut buffer = Uuid::encode_buffer();
        let id = Uuid::now_v7().simple().encode_lower(&mut buffer);
        HeaderValue::from_str(id).unwrap_or(HeaderValue::from_static("unknown"))
    })
}

fn strip_internal(headers: &mut HeaderMap) {
    let internal = |name: &&HeaderName| name.as_str().starts_with(INTERNAL_PREFIX);
    while let Some(name) = headers.keys().find(internal).cloned() {
        headers.remove(name);
    }
}

fn time_limit(gateway: &Gateway, method: &Method, route: &str) -> Duration {
    match route {
        routes::UPLOAD if *method == Method::POST => UPLOAD_TIMEOUT,
        routes::INGEST => UPLOAD_TIMEOUT,
        routes::REINIT => PURGE_TIMEOUT,
        routes::VERIFY => VERIFY_TIMEOUT,
        routes::SYNC | routes::SYNC_MITRE | routes::SCAN => SYNC_TIMEOUT,
        _ => gateway.deps.config.request_timeout,
    }
}

fn visitor(gateway: &Gateway, request: &Request, request_id: HeaderValue, deadline: Instant) -> Visitor {
    let headers = request.headers();
    let forwarded = gateway.deps.config.trust_proxy.then(|| headers.get_all(FORWARDED_FOR).iter().next_back());
    Visitor {
        peer: request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip()),
        forwarded: forwarded.flatten().cloned(),
        user_agent: headers.get(USER_AGENT).cloned(),
        request_id,
        deadline,
    }
}

fn panicked(panic: &(dyn std::any::Any + Send), request_id: &str) -> Response {
    let what = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(request_id, what = what.unwrap_or_default(), "a handler panicked");
    Problem(Failure::new(
        Code::Internal,
        "something went wrong on our side; the log has the cause under this request id",
    ))
    .into_response()
}
