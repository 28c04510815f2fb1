//! Evidence files: their metadata and their bytes out. Bytes in are in [`upload`].

mod upload;

use aegis_proto::evidence::v1::{
    self as proto, DownloadEvidenceRequest, GetEvidenceRequest, ListEvidenceRequest, download_evidence_response::Part,
};
use axum::{
    body::Body,
    extract::{DefaultBodyLimit, State},
    response::Response,
};
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use http::{
    HeaderMap, HeaderValue,
    header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, HOST},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouterExt},
    routes,
};
use uuid::Uuid;

use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Id, Query, Visitor},
    openapi::responses::NotFound,
    state::Gateway,
    values::{Team, time, time_always},
};

/// What RFC 5987 lets stand in an extended value besides letters and digits.
const NOT_ATTR_CHAR: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// Evidence never changes; only the link in its answer does.
const VERSION: i64 = 1;

/// Routes that need no token: a signed link is the right to read.
pub fn public() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new().routes(routes!(download_evidence))
}

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    // An upload counts its own bytes.
    OpenApiRouter::new()
        .routes(routes!(upload::upload_evidence).layer(DefaultBodyLimit::disable()))
        .routes(routes!(list_evidence))
        .routes(routes!(get_evidence))
}

/// A file that proves what a test showed.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0190b7a2-8000-7e21-b0aa-5d6c7b8a9f01", "test_id": "0190b7a2-6a00-7b1d-8c55-0f3a9d2b7c01",
    "file_name": "screenshot.png",
    "sha256_hash": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "size_bytes": 4,
    "team": "red", "notes": null, "uploaded_by": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a99",
    "uploaded_by_username": "ana", "uploaded_at": "2024-01-01T00:00:00Z",
    "download_url": "https://aegis.example.com/api/v1/evidence/0190b7a2-8000-7e21-b0aa-5d6c7b8a9f01/download?expires=1",
    "download_url_expires_at": "2024-01-01T00:15:00Z"
}))]
pub struct Evidence {
    #[schema(value_type = Uuid)]
    id: String,
    #[schema(value_type = Uuid)]
    test_id: String,
    file_name: String,
    /// Lower-case hex.
    sha256_hash: String,
    size_bytes: i64,
    #[schema(value_type = Option<Team>)]
    team: Option<String>,
    notes: Option<String>,
    #[schema(value_type = Uuid)]
    uploaded_by: String,
    uploaded_by_username: String,
    uploaded_at: DateTime<Utc>,
    /// Signed; whoever has it may read the file until it expires.
    download_url: String,
    download_url_expires_at: Option<DateTime<Utc>>,
}

/// Makes links absolute.
pub struct Links {
    base: String,
}

impl Links {
    /// Where the client of this request reaches the gateway.
    pub fn of(gateway: &Gateway, headers: &HeaderMap) -> Links {
        let config = &gateway.deps.config;
        if let Some(url) = &config.public_url {
            return Links { base: url.trim_end_matches('/').to_owned() };
        }
        let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
        let https = config.trust_proxy && text("x-forwarded-proto") == Some("https");
        let host = text(HOST.as_str()).filter(|host| host.parse::<http::uri::Authority>().is_ok());
        let base = match host {
            Some(host) => format!("{}://{host}", if https { "https" } else { "http" }),
            None => String::new(),
        };
        Links { base }
    }

    /// The file with a link that works from anywhere.
    pub fn evidence(&self, file: proto::Evidence) -> Evidence {
        let link = if file.download_url.starts_with('/') {
            format!("{}{}", self.base, file.download_url)
        } else {
            file.download_url
        };
        Evidence {
            id: file.id,
            test_id: file.test_id,
            file_name: file.file_name,
            sha256_hash: file.sha256_hash,
            size_bytes: file.size_bytes,
            team: file.team,
            notes: file.notes,
            uploaded_by: file.uploaded_by,
            uploaded_by_username: file.uploaded_by_username,
            uploaded_at: time_always(file.uploaded_at),
            download_url: link,
            download_url_expires_at: time(file.download_url_expires_at),
        }
    }
}

/// Part of a list of evidence.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListFiles {
    /// Rows at most.
    #[param(minimum = 1, maximum = 1000, default = 1000)]
    limit: Option<u32>,
    /// Rows to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
}

/// The signature of a link, as `download_url` has it.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Signed {
    /// Unix seconds.
    expires: u32,
    /// The user for whom the link was made.
    user: Uuid,
    signature: String,
}

/// List a test's evidence
///
/// Oldest first; `X-Total-Count` has the number of all. At most 1,000 files a test.
#[utoipa::path(get, path = "/api/v1/tests/{id}/evidence", tag = "Evidence",
    params(("id" = Uuid, Path, description = "Test"), ListFiles),
    responses((status = 200, description = "Files", body = [Evidence]), (status = 404, response = NotFound)))]
async fn list_evidence(
    State(gateway): State<Gateway>,
    caller: Caller,
    id: Id,
    Query(query): Query<ListFiles>,
    headers: HeaderMap,
) -> Result<Answer, Problem> {
    let (limit, offset) = crate::extract::page(query.limit, query.offset, 1000, 1000)?;
    let request = ListEvidenceRequest { test_id: id.to_string(), page_size: 1000, page_token: String::new() };
    let answer = gateway.deps.evidence.clone().list_evidence(caller.ctx().outgoing(request)).await?.into_inner();
    let links = Links::of(&gateway, &headers);
    let files = answer.evidence.into_iter().skip(offset as usize).take(limit as usize);
    Answer::list(&files.map(|file| links.evidence(file)).collect::<Vec<_>>(), answer.total_size)
}

/// Read evidence metadata
///
/// With a fresh signed link to the bytes.
#[utoipa::path(get, path = "/api/v1/evidence/{id}", tag = "Evidence",
    params(("id" = Uuid, Path, description = "Evidence")),
    responses((status = 200, description = "The file", body = Evidence), (status = 404, response = NotFound)))]
async fn get_evidence(
    State(gateway): State<Gateway>,
    caller: Caller,
    id: Id,
    headers: HeaderMap,
) -> Result<Answer, Problem> {
    let request = GetEvidenceRequest { id: id.to_string() };
    let answer = gateway.deps.evidence.clone().get_evidence(caller.ctx().outgoing(request)).await?.into_inner();
    let file = answer.evidence.ok_or_else(Problem::empty)?;
    Answer::entity(VERSION, &Links::of(&gateway, &headers).evidence(file))
}

/// Download an evidence file
///
/// With the link of `download_url`; no token. Always an attachment of no particular type: evidence may be malware.
#[utoipa::path(get, path = "/api/v1/evidence/{id}/download", tag = "Evidence",
    params(("id" = Uuid, Path, description = "Evidence"), Signed),
    responses(
        (status = 200, description = "The bytes", body = String, content_type = "application/octet-stream",
            headers(("Content-Disposition" = String, description = "attachment, with the file's name")),
            example = json!("the bytes of the file")),
        (status = 403, response = crate::openapi::responses::Forbidden),
        (status = 404, response = NotFound),
    ))]
async fn download_evidence(
    State(gateway): State<Gateway>,
    visitor: Visitor,
    id: Id,
    Query(signed): Query<Signed>,
) -> Result<Response, Problem> {
    let request = DownloadEvidenceRequest {
        id: id.to_string(),
        expires: i64::from(signed.expires),
        user_id: signed.user.to_string(),
        signature: signed.signature,
    };
    let mut parts =
        gateway.deps.evidence.clone().download_evidence(visitor.ctx().outgoing(request)).await?.into_inner();
    let head = match parts.message().await?.and_then(|message| message.part) {
        Some(Part::Head(head)) => head,
        _ => return Err(Problem::internal("a download began without its head")),
    };
    let bytes = parts.map_err(std::io::Error::other).filter_map(|message| async {
        match message {
            Ok(message) => match message.part {
                Some(Part::Chunk(chunk)) => Some(Ok(chunk)),
                _ => None,
            },
            // Ends the connection, so that the client does not take a part for the whole.
            Err(error) => Some(Err(error)),
        }
    });
    let mut response = Response::new(Body::from_stream(bytes));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(head.size_bytes));
    headers.insert(CONTENT_DISPOSITION, attachment(&head.file_name));
    Ok(response)
}

/// An attachment of this name, in plain ASCII for old clients and in full for others (RFC 6266).
fn attachment(name: &str) -> HeaderValue {
    let plain: String = name
        .chars()
        .map(|c| if c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '%') || c == ' ' { c } else { '_' })
        .collect();
    let full = utf8_percent_encode(name, NOT_ATTR_CHAR);
    HeaderValue::from_str(&format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{full}"))
        .unwrap_or(HeaderValue::from_static("attachment"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_cannot_leave_its_header() {
        assert_eq!(
            attachment("Übersicht \"1\"\r\n.png"),
            "attachment; filename=\"_bersicht _1___.png\"; \
             filename*=UTF-8''%C3%9Cbersicht%20%221%22%0D%0A.png"
        );
    }
}
