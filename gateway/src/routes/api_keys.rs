//! API keys: for machines that act in a user's name.

use aegis_proto::identity::v1::{
    self as proto, CreateApiKeyRequest, GetApiKeyRequest, ListApiKeysRequest, RevokeApiKeyRequest,
};
use axum::extract::State;
use chrono::{DateTime, Utc};
use http::StatusCode;
use prost_types::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Id, Ids, Json, Query, page},
    openapi::responses::{Conflict, NotFound},
    state::Gateway,
    values::{KeyRole, time, time_always},
};

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new().routes(routes!(list_api_keys, create_api_key)).routes(routes!(get_api_key, revoke_api_key))
}

/// An API key, without its text.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a12", "user_id": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a11",
    "name": "nightly export", "role": "viewer", "prefix": "aegis_key_Q3v9Zk", "created_at": "2024-01-01T00:00:00Z",
    "expires_at": "2024-03-31T00:00:00Z", "revoked_at": null, "last_used_at": "2024-01-02T08:30:00Z"
}))]
pub struct ApiKey {
    #[schema(value_type = Uuid)]
    id: String,
    /// Its owner.
    #[schema(value_type = Uuid)]
    user_id: String,
    name: String,
    /// What it may do; only what a viewer may, where its owner has lost this role since.
    #[schema(value_type = KeyRole)]
    role: String,
    /// The first characters of its text.
    prefix: String,
    created_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    revoked_at: Option<DateTime<Utc>>,
    /// To the minute.
    last_used_at: Option<DateTime<Utc>>,
}

impl From<proto::ApiKey> for ApiKey {
    fn from(key: proto::ApiKey) -> ApiKey {
        ApiKey {
            id: key.id,
            user_id: key.user_id,
            name: key.name,
            role: key.role,
            prefix: key.prefix,
            created_at: time_always(key.created_at),
            expires_at: time_always(key.expires_at),
            revoked_at: time(key.revoked_at),
            last_used_at: time(key.last_used_at),
        }
    }
}

/// A new API key with its text, which no other answer has.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a12", "user_id": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a11",
    "name": "nightly export", "role": "viewer", "prefix": "aegis_key_Q3v9Zk", "created_at": "2024-01-01T00:00:00Z",
    "expires_at": "2024-03-31T00:00:00Z", "revoked_at": null, "last_used_at": null,
    "key": "aegis_key_Q3v9ZkE0b1mQ4X3s1f5vJ8a2n6T7y9w0c2R4u6I8o0p"
}))]
pub struct NewApiKey {
    #[serde(flatten)]
    api_key: ApiKey,
    /// To be sent as `Authorization: Bearer …`. Keep it: it is stored as a hash.
    key: String,
}

/// An API key to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "nightly export", "role": "viewer", "expires_in_days": 90}))]
pub struct ApiKeyWish {
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// The owner's role or `viewer` (the default); an administrator's key may have any, also `sensor`.
    #[serde(default)]
    role: Option<KeyRole>,
    /// When it ends: 90 days from now without, 366 at most.
    #[serde(default)]
    expires_at: Option<DateTime<Utc>>,
    /// The same in days.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 366)]
    expires_in_days: Option<u32>,
}

/// Part of a list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListApiKeys {
    /// Rows at most.
    #[param(minimum = 1, maximum = 5000, default = 1000)]
    limit: Option<u32>,
    /// Rows to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
}

/// List a user's API keys
///
/// One's own; anybody's for administrators. Newest first, revoked and expired ones too.
#[utoipa::path(get, path = "/api/v1/users/{id}/api-keys", tag = "Users",
    params(("id" = Uuid, Path, description = "User"), ListApiKeys),
    responses((status = 200, description = "API keys", body = [ApiKey]), (status = 404, response = NotFound)))]
async fn list_api_keys(
    State(gateway): State<Gateway>,
    caller: Caller,
    id: Id,
    Query(query): Query<ListApiKeys>,
) -> Result<Answer, Problem> {
    let (page_size, skip) = page(query.limit, query.offset, 1000, 5000)?;
    let request = ListApiKeysRequest { user_id: id.to_string(), page_size, skip, page_token: String::new() };
    let answer = gateway.deps.api_keys.clone().list_api_keys(caller.ctx().outgoing(request)).await?.into_inner();
    let keys: Vec<ApiKey> = answer.api_keys.into_iter().map(ApiKey::from).collect();
    Answer::list(&keys, answer.total_size)
}

/// Make an API key
///
/// For oneself, unless one is a viewer or shows an API key; for anybody if one is an administrator. The answer is the
/// only one that has the key's text. Fifty keys of a user may hold at the same time.
#[utoipa::path(post, path = "/api/v1/users/{id}/api-keys", tag = "Users",
    params(("id" = Uuid, Path, description = "User")), request_body = ApiKeyWish,
    responses(
        (status = 201, description = "The key", body = NewApiKey),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
    ))]
async fn create_api_key(
    State(gateway): State<Gateway>,
    caller: Caller,
    id: Id,
    Json(body): Json<ApiKeyWish>,
) -> Result<Answer, Problem> {
    let request = CreateApiKeyRequest {
        user_id: id.to_string(),
        name: body.name,
        role: body.role.map(String::from),
        expires_at: body.expires_at.map(|at| Timestamp {
            seconds: at.timestamp(),
            nanos: i32::try_from(at.timestamp_subsec_nanos()).unwrap_or(0),
        }),
        // Days are counted by the service: the same request must be the same message each time.
        expires_in_days: body.expires_in_days,
    };
    let answer = gateway.deps.api_keys.clone().create_api_key(caller.ctx().outgoing(request)).await?.into_inner();
    let api_key = answer.api_key.ok_or_else(Problem::empty)?;
    let (version, api_key) = (api_key.version, ApiKey::from(api_key));
    let location = format!("/api/v1/users/{id}/api-keys/{}", api_key.id);
    Ok(Answer::created(&location, &NewApiKey { api_key, key: answer.secret_key })?.versioned(version))
}

/// Read an API key
///
/// One's own; anybody's for administrators.
#[utoipa::path(get, path = "/api/v1/users/{id}/api-keys/{key_id}", tag = "Users",
    params(("id" = Uuid, Path, description = "User"), ("key_id" = Uuid, Path, description = "API key")),
    responses((status = 200, description = "The key", body = ApiKey), (status = 404, response = NotFound)))]
async fn get_api_key(State(gateway): State<Gateway>, caller: Caller, Ids(user_id, id): Ids) -> Result<Answer, Problem> {
    let request = GetApiKeyRequest { user_id: user_id.to_string(), id: id.to_string() };
    let answer = gateway.deps.api_keys.clone().get_api_key(caller.ctx().outgoing(request)).await?.into_inner();
    let api_key = answer.api_key.ok_or_else(Problem::empty)?;
    Answer::entity(api_key.version, &ApiKey::from(api_key))
}

/// Revoke an API key
///
/// Ends it everywhere, for good. For oneself, unless one is a viewer or shows an API key; for anybody if one is an
/// administrator.
#[utoipa::path(delete, path = "/api/v1/users/{id}/api-keys/{key_id}", tag = "Users",
    params(("id" = Uuid, Path, description = "User"), ("key_id" = Uuid, Path, description = "API key")),
    responses((status = 204, description = "Revoked"), (status = 404, response = NotFound)))]
async fn revoke_api_key(
    State(gateway): State<Gateway>,
    caller: Caller,
    Ids(user_id, id): Ids,
) -> Result<StatusCode, Problem> {
    let request = RevokeApiKeyRequest { user_id: user_id.to_string(), id: id.to_string() };
    gateway.deps.api_keys.clone().revoke_api_key(caller.ctx().outgoing(request)).await?;
    gateway.refresh_revocations().await;
    Ok(StatusCode::NO_CONTENT)
}
