//! Evidence files: what is known of them, whether they are still what was brought. Bytes in are in [`upload`], bytes
//! out in [`download`].

mod download;
pub(crate) mod range;
mod upload;

pub use download::attachment;

use aegis_proto::{
    evidence::v1::{
        self as proto, GetEvidenceRequest, GetManifestRequest, GetStoreReportRequest, ListEvidenceRequest,
        RemoveEvidenceRequest, VerifyEvidenceRequest,
    },
    testing::v1::GetTestRequest,
};
use axum::{
    body::Body,
    extract::{DefaultBodyLimit, State},
    response::Response,
};
use chrono::{DateTime, Utc};
use http::{
    HeaderMap, HeaderValue,
    header::{CONTENT_DISPOSITION, CONTENT_TYPE, HOST},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouterExt},
    routes,
};

use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Id, LongQuery, Query},
    openapi::responses::{Conflict, NotFound},
    state::Gateway,
    values::{EvidenceStatus, Team, time, time_always},
};

/// Evidence never changes; only the link in its answer does.
const VERSION: i64 = 1;

/// Routes that need no token: a signed link is the right to read.
pub fn public() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new().routes(routes!(download::download_evidence))
}

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    // An upload counts its own bytes.
    OpenApiRouter::new()
        .routes(routes!(upload::upload_evidence).layer(DefaultBodyLimit::disable()))
        .routes(routes!(list_evidence))
        .routes(routes!(get_manifest))
        .routes(routes!(get_evidence, remove_evidence))
        .routes(routes!(verify_evidence))
        .routes(routes!(get_evidence_store))
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

/// Why a file goes.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Removal {
    /// Why, in a sentence; kept in the audit trail and in the test's timeline.
    #[param(min_length = 1, max_length = 1000, example = "Shows a customer's password")]
    reason: String,
}

/// What became of a file's bytes.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0190b7a2-8000-7e21-b0aa-5d6c7b8a9f01", "status": "intact",
    "expected_sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "expected_size": 4,
    "actual_sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "actual_size": 4,
    "checked_at": "2024-01-01T00:00:00Z"
}))]
pub struct EvidenceVerification {
    #[schema(value_type = Uuid)]
    id: String,
    #[schema(value_type = EvidenceStatus)]
    status: String,
    /// As it was brought.
    expected_sha256: String,
    expected_size: i64,
    /// As it is stored now; null where it is missing.
    actual_sha256: Option<String>,
    actual_size: Option<i64>,
    checked_at: DateTime<Utc>,
}

/// What the last look at the whole store found.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "checked_at": "2024-01-01T00:00:00Z", "files": 1204, "bytes": 734003200, "collected": 1, "collected_bytes": 4096,
    "broken": [{
        "id": "0190b7a2-8000-7e21-b0aa-5d6c7b8a9f01", "test_id": "0190b7a2-6a00-7b1d-8c55-0f3a9d2b7c01",
        "file_name": "screenshot.png", "expected_size": 4, "actual_size": null
    }],
    "broken_total": 1
}))]
pub struct EvidenceStore {
    /// Null before the first look has ended.
    checked_at: Option<DateTime<Utc>>,
    files: i64,
    bytes: i64,
    /// Stored files that nothing named, removed by that look.
    collected: i64,
    collected_bytes: i64,
    /// Evidence whose bytes are gone or of another length; the first 100.
    broken: Vec<BrokenEvidence>,
    broken_total: i64,
}

/// Evidence whose bytes are gone or of another length.
#[derive(Serialize, ToSchema)]
pub struct BrokenEvidence {
    #[schema(value_type = Uuid)]
    id: String,
    #[schema(value_type = Uuid)]
    test_id: String,
    file_name: String,
    expected_size: i64,
    /// Null where there is nothing.
    actual_size: Option<i64>,
}

impl From<proto::BrokenEvidence> for BrokenEvidence {
    fn from(broken: proto::BrokenEvidence) -> BrokenEvidence {
        let proto::BrokenEvidence { id, test_id, file_name, expected_size, actual_size } = broken;
        BrokenEvidence { id, test_id, file_name, expected_size, actual_size }
    }
}

/// A test's files as they were brought, signed: a JWS (RFC 7515) in its flattened JSON form.
#[derive(ToSchema)]
#[allow(dead_code, reason = "the service writes it; this is its schema")]
#[schema(example = json!({
    "payload": "eyJ2ZXJzaW9uIjoxfQ", "protected": "eyJhbGciOiJFZERTQSIsInR5cCI6ImFlZ2lzLWV2aWRlbmNlLW1hbmlmZXN0In0",
    "signature": "c2lnbmF0dXJl", "header": {"jwk": {"kty": "OKP", "crv": "Ed25519", "x": "a2V5"}},
    "manifest": {"version": 1, "files": []}
}))]
pub struct SignedManifest {
    /// The manifest, in base64url.
    payload: String,
    /// `alg`, `kid` and `typ` (`aegis-evidence-manifest`) of the signature, in base64url.
    protected: String,
    signature: String,
    /// `jwk`: the public key that signed, also at `/.well-known/jwks.json` as long as it holds.
    #[schema(value_type = Object)]
    header: Value,
    /// The manifest as it stands in `payload`, for people.
    #[schema(value_type = Object)]
    manifest: Value,
}

/// List a test's evidence
///
/// Oldest first; `X-Total-Count` has the number of all. At most 1,000 files a test. A test that was deleted has none: 404.
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
    let (mut files, mut tests) = (gateway.deps.evidence.clone(), gateway.deps.testing.clone());
    // Evidence hears later that a test is gone, and never of one that was not.
    let (_, answer) = tokio::try_join!(
        tests.get_test(caller.ctx().outgoing(GetTestRequest { id: id.to_string() })),
        files.list_evidence(caller.ctx().outgoing(request)),
    )?;
    let answer = answer.into_inner();
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

/// Remove evidence
///
/// For good; who, why and the file's hash stay in the audit trail and in the test's timeline. Who brought the file,
/// leads and administrators; not once the test is validated (409, also when that happens at the same moment: then the
/// file stays).
#[utoipa::path(delete, path = "/api/v1/evidence/{id}", tag = "Evidence",
    params(("id" = Uuid, Path, description = "Evidence"), Removal),
    extensions(("x-roles" = json!(["admin", "red_lead", "blue_lead"])), ("x-also" = json!("creator"))),
    responses(
        (status = 204, description = "Removed"),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
    ))]
async fn remove_evidence(
    State(gateway): State<Gateway>,
    caller: Caller,
    id: Id,
    LongQuery(query): LongQuery<Removal>,
) -> Result<Answer, Problem> {
    let request = RemoveEvidenceRequest { id: id.to_string(), reason: query.reason };
    gateway.deps.evidence.clone().remove_evidence(caller.ctx().outgoing(request)).await?;
    Ok(Answer::nothing())
}

/// Verify evidence
///
/// Reads the stored bytes and hashes them again; `altered` and `missing` are answers, not errors.
#[utoipa::path(get, path = "/api/v1/evidence/{id}/verify", tag = "Evidence",
    params(("id" = Uuid, Path, description = "Evidence")),
    responses(
        (status = 200, description = "What became of the bytes", body = EvidenceVerification),
        (status = 404, response = NotFound),
    ))]
async fn verify_evidence(State(gateway): State<Gateway>, caller: Caller, id: Id) -> Result<Answer, Problem> {
    let request = VerifyEvidenceRequest { id: id.to_string() };
    let found = gateway.deps.evidence.clone().verify_evidence(caller.ctx().outgoing(request)).await?.into_inner();
    Answer::json(&EvidenceVerification {
        id: found.id,
        status: found.status,
        expected_sha256: found.expected_sha256,
        expected_size: found.expected_size,
        actual_sha256: found.actual_sha256,
        actual_size: found.actual_size,
        checked_at: time_always(found.checked_at),
    })
}

/// Read a test's evidence manifest
///
/// Names, sizes and hashes of all files of the test, and who brought each when, signed with the key that signs
/// tokens. `aegis evidence verify` checks it and a folder of files against it, without a network.
#[utoipa::path(get, path = "/api/v1/tests/{id}/evidence/manifest", tag = "Evidence",
    params(("id" = Uuid, Path, description = "Test")),
    responses(
        (status = 200, description = "The manifest", body = SignedManifest,
            headers(("Content-Disposition" = String, description = "attachment, `evidence-manifest-<test>.json`"))),
        (status = 404, response = NotFound),
    ))]
async fn get_manifest(State(gateway): State<Gateway>, caller: Caller, id: Id) -> Result<Response, Problem> {
    let request = GetManifestRequest { test_id: id.to_string() };
    let answer = gateway.deps.evidence.clone().get_manifest(caller.ctx().outgoing(request)).await?.into_inner();
    // As the service wrote it: what is signed is not read and written again on its way.
    let mut response = Response::new(Body::from(answer.manifest_json));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_DISPOSITION, attachment(&format!("evidence-manifest-{id}.json")));
    Ok(response)
}

/// Read the state of the evidence store
///
/// What the last look at all stored files found; the product looks by itself. Administrators.
#[utoipa::path(get, path = "/api/v1/system/evidence-store", tag = "System",
    extensions(("x-roles" = json!(["admin"]))),
    responses((status = 200, description = "What was found", body = EvidenceStore)))]
async fn get_evidence_store(State(gateway): State<Gateway>, caller: Caller) -> Result<Answer, Problem> {
    let request = caller.ctx().outgoing(GetStoreReportRequest {});
    let report = gateway.deps.evidence.clone().get_store_report(request).await?.into_inner();
    Answer::json(&EvidenceStore {
        checked_at: time(report.checked_at),
        files: report.files,
        bytes: report.bytes,
        collected: report.collected,
        collected_bytes: report.collected_bytes,
        broken: report.broken.into_iter().map(Into::into).collect(),
        broken_total: report.broken_total,
    })
}
