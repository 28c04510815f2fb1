//! The sessions of an attacker, and what was recorded of them.

use aegis_proto::deception::v1::{self as proto, ListAttackerSessionsRequest, ReadRecordingRequest};
use axum::{body::Body, extract::State, response::Response};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use http::{
    HeaderValue,
    header::{CONTENT_DISPOSITION, CONTENT_TYPE},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Id, Names, Query, page},
    openapi::responses::NotFound,
    routes::evidence::attachment,
    state::Gateway,
    values::{filled, time, time_always},
};

/// What is escaped in a part of a path.
const NOT_PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');
/// Longest id of a session, bytes.
const MAX_ID: usize = 128;

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new().routes(routes!(list_attacker_sessions)).routes(routes!(get_recording))
}

/// A connection of an attacker to a service.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0190b7a2-a000-7c4d-b222-2d3e4f5a6b01", "decky": "decky-03", "service": "ssh",
    "started_at": "2024-01-01T02:20:01Z", "ended_at": "2024-01-01T02:25:19Z", "event_count": 12, "command_count": 7,
    "username": "root",
    "recording_url": "/api/v1/attackers/0190b7a2-a000-7c4d-b222-2d3e4f5a6b09/sessions/0190b7a2-a000-7c4d-b222-2d3e4f5a6b01/recording"
}))]
pub struct AttackerSession {
    id: String,
    decky: String,
    service: String,
    started_at: DateTime<Utc>,
    /// Null while it is open, or where its end was not seen.
    ended_at: Option<DateTime<Utc>>,
    event_count: i64,
    command_count: i64,
    /// Who logged in; null for nobody.
    username: Option<String>,
    /// Where its recording is; null where there is none.
    recording_url: Option<String>,
}

impl AttackerSession {
    fn new(attacker: Uuid, session: proto::Session) -> AttackerSession {
        // An id of another honeypot may have anything in it.
        let part = utf8_percent_encode(&session.id, NOT_PLAIN);
        let url = session.recorded.then(|| format!("/api/v1/attackers/{attacker}/sessions/{part}/recording"));
        AttackerSession {
            recording_url: url,
            id: session.id,
            decky: session.decky,
            service: session.service,
            started_at: time_always(session.started_at),
            ended_at: time(session.ended_at),
            event_count: session.event_count,
            command_count: session.command_count,
            username: filled(session.username),
        }
    }
}

/// A page of sessions.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"total": 1, "limit": 50, "offset": 0, "data": [{
    "id": "0190b7a2-a000-7c4d-b222-2d3e4f5a6b01", "decky": "decky-03", "service": "ssh",
    "started_at": "2024-01-01T02:20:01Z", "ended_at": null, "event_count": 2, "command_count": 0, "username": null,
    "recording_url": null
}]}))]
pub struct SessionsResponse {
    /// All of the attacker.
    total: i64,
    limit: i32,
    offset: i32,
    data: Vec<AttackerSession>,
}

/// Part of the list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListSessions {
    /// Rows at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// Rows to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
}

/// List an attacker's sessions
///
/// Newest first.
#[utoipa::path(get, path = "/api/v1/attackers/{uuid}/sessions", tag = "Attackers",
    params(("uuid" = Uuid, Path, description = "Attacker"), ListSessions),
    responses(
        (status = 200, description = "A page of sessions", body = SessionsResponse),
        (status = 404, response = NotFound),
    ))]
async fn list_attacker_sessions(
    State(gateway): State<Gateway>,
    caller: Caller,
    id: Id,
    Query(query): Query<ListSessions>,
) -> Result<Answer, Problem> {
    let (limit, offset) = page(query.limit, query.offset, 50, 200)?;
    let request =
        ListAttackerSessionsRequest { uuid: id.to_string(), page_size: limit, page_token: String::new(), skip: offset };
    let request = caller.ctx().outgoing(request);
    let answer = gateway.deps.attackers.clone().list_attacker_sessions(request).await?.into_inner();
    let data = answer.sessions.into_iter().map(|session| AttackerSession::new(id.0, session)).collect();
    Answer::json(&SessionsResponse { total: answer.total_size, limit, offset, data })
}

/// Read the recording of a session
///
/// What the attacker saw and typed, as asciicast v2: `asciinema play` shows it. An attachment: the bytes are the
/// attacker's, and a terminal does what they say.
#[utoipa::path(get, path = "/api/v1/attackers/{uuid}/sessions/{id}/recording", tag = "Attackers",
    params(
        ("uuid" = Uuid, Path, description = "Attacker"),
        ("id" = String, Path, description = "Session", example = "0190b7a2-a000-7c4d-b222-2d3e4f5a6b01"),
    ),
    responses(
        (status = 200, description = "The recording", body = String, content_type = "application/x-asciicast",
            headers(("Content-Disposition" = String, description = "attachment, with the session's id as its name")),
            example = json!("{\"version\":2,\"width\":80,\"height\":24}\n[0.2,\"o\",\"$ \"]\n")),
        (status = 404, response = NotFound),
    ))]
async fn get_recording(
    State(gateway): State<Gateway>,
    caller: Caller,
    Names(attacker, session): Names,
) -> Result<Response, Problem> {
    let Ok(attacker) = Uuid::try_parse(&attacker) else {
        return Err(Problem::invalid("uuid", "must be a UUID"));
    };
    if !(1..=MAX_ID).contains(&session.len()) {
        return Err(Problem::invalid("id", format!("must have 1 to {MAX_ID} bytes")));
    }
    let harmless: String =
        session.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    let name = attachment(&format!("{harmless}.cast"));
    let request = ReadRecordingRequest { uuid: attacker.to_string(), session_id: session };
    let request = caller.ctx().outgoing(request);
    let mut parts = gateway.deps.attackers.clone().read_recording(request).await?.into_inner();
    // What goes wrong before there is a byte is an answer of its own.
    let first = parts.message().await?.map(|part| Ok(Bytes::from(part.chunk)));
    let rest = parts.map_ok(|part| Bytes::from(part.chunk)).map_err(std::io::Error::other);
    let mut response = Response::new(Body::from_stream(stream::iter(first).chain(rest)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-asciicast"));
    headers.insert(CONTENT_DISPOSITION, name);
    Ok(response)
}
