//! Signing in and out, one's own account, and the keys that verify tokens.

use aegis_proto::identity::v1::{
    ChangePasswordRequest, CreateStreamTicketRequest, GetJwksRequest, GetMeRequest, LoginRequest, LogoutRequest,
};
use axum::extract::State;
use http::header::CACHE_CONTROL;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::users::User;
use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, FormOrJson, Json, Visitor},
    openapi::responses::RateLimited,
    state::Gateway,
};

/// Routes that need no token.
pub fn public() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new().routes(routes!(login)).routes(routes!(get_jwks))
}

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(logout))
        .routes(routes!(get_me))
        .routes(routes!(change_password))
        .routes(routes!(create_stream_ticket))
}

/// A username and its password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"username": "admin", "password": "correct horse battery"}))]
pub struct Login {
    username: String,
    #[schema(format = Password)]
    password: String,
}

/// The OAuth2 password form. Its other fields (`grant_type`, `scope`, `client_id` …) are taken and ignored.
#[derive(Deserialize, ToSchema)]
#[schema(example = json!({"username": "admin", "password": "correct horse battery"}))]
pub struct LoginForm {
    username: String,
    #[schema(format = Password)]
    password: String,
}

impl From<LoginForm> for Login {
    fn from(form: LoginForm) -> Login {
        Login { username: form.username, password: form.password }
    }
}

/// An access token.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "access_token": "eyJhbGciOiJFZERTQSJ9.e30.c2lnbmF0dXJl", "token_type": "bearer",
    "must_change_password": false, "expires_in": 43200
}))]
pub struct Token {
    /// To be sent as `Authorization: Bearer …`.
    access_token: String,
    /// Always `bearer`.
    token_type: &'static str,
    /// The password must be changed before anything else.
    must_change_password: bool,
    /// Seconds until the token expires.
    expires_in: i64,
}

/// A new password for oneself.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"old_password": "correct horse battery", "new_password": "staple of the day 42"}))]
pub struct ChangePassword {
    #[schema(format = Password)]
    old_password: String,
    /// 8 (configurable) to 128 characters, not the username, none of the few hundred worst.
    #[schema(format = Password)]
    new_password: String,
}

/// A ticket for one event stream.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"ticket": "aegis_st_6wXr0mZ1u0nJ3Jm0q2sZkqk2m8r8h1l0b6H1b0s3x2E", "expires_in": 60}))]
pub struct StreamTicket {
    /// To be sent as `?ticket=…` to a stream, once.
    ticket: String,
    /// Seconds until it expires.
    expires_in: i64,
}

/// What was done.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"message": "Password updated successfully"}))]
pub struct Message {
    /// A sentence.
    pub message: &'static str,
}

/// A JSON Web Key Set (RFC 7517).
#[derive(ToSchema)]
#[allow(dead_code, reason = "identity makes the document; this is its schema")]
#[schema(example = json!({"keys": [{
    "kty": "OKP", "crv": "Ed25519", "kid": "2024-01", "alg": "EdDSA", "use": "sig",
    "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
}]}))]
pub struct Jwks {
    /// Ed25519 keys (RFC 8037).
    keys: Vec<serde_json::Value>,
}

/// Sign in
///
/// Exchanges a username and password for an access token. Takes the OAuth2 password form or the same in JSON. After
/// too many failures from one address, or for one username, the answer is 429 for a while.
#[utoipa::path(post, path = "/api/v1/auth/login", tag = "Authentication",
    request_body(content((LoginForm = "application/x-www-form-urlencoded"), (Login = "application/json"))),
    responses(
        (status = 200, description = "Signed in", body = Token),
        (status = 401, response = crate::openapi::responses::Unauthorized),
        (status = 429, response = RateLimited),
    ))]
async fn login(
    State(gateway): State<Gateway>,
    visitor: Visitor,
    FormOrJson(login, ..): FormOrJson<LoginForm, Login>,
) -> Result<Answer, Problem> {
    let request = LoginRequest { username: login.username, password: login.password };
    let token = gateway.deps.identity.clone().login(visitor.ctx().outgoing(request)).await?.into_inner();
    Answer::json(&Token {
        access_token: token.access_token,
        token_type: "bearer",
        must_change_password: token.must_change_password,
        expires_in: token.expires_in,
    })
}

/// Sign out
///
/// Ends the token that the request carries, at once and everywhere.
#[utoipa::path(post, path = "/api/v1/auth/logout", tag = "Authentication",
    responses((status = 200, description = "Signed out", body = Message, example = json!({"message": "Logged out"}))))]
async fn logout(State(gateway): State<Gateway>, caller: Caller) -> Result<Answer, Problem> {
    gateway.deps.identity.clone().logout(caller.ctx().outgoing(LogoutRequest {})).await?;
    gateway.refresh_revocations().await;
    Answer::json(&Message { message: "Logged out" })
}

/// Who am I
#[utoipa::path(get, path = "/api/v1/auth/me", tag = "Authentication",
    responses((status = 200, description = "The caller", body = User)))]
async fn get_me(State(gateway): State<Gateway>, caller: Caller) -> Result<Answer, Problem> {
    let answer = gateway.deps.identity.clone().get_me(caller.ctx().outgoing(GetMeRequest {})).await?.into_inner();
    super::users::entity(answer.user)
}

/// Change one's own password
///
/// Ends all tokens of the caller, this one too: sign in again afterwards.
#[utoipa::path(post, path = "/api/v1/auth/change-password", tag = "Authentication",
    request_body = ChangePassword,
    responses(
        (status = 200, description = "Changed", body = Message),
        (status = 429, response = RateLimited),
    ))]
async fn change_password(
    State(gateway): State<Gateway>,
    caller: Caller,
    Json(body): Json<ChangePassword>,
) -> Result<Answer, Problem> {
    let request = ChangePasswordRequest { old_password: body.old_password, new_password: body.new_password };
    gateway.deps.identity.clone().change_password(caller.ctx().outgoing(request)).await?;
    gateway.refresh_revocations().await;
    Answer::json(&Message { message: "Password updated successfully" })
}

/// Get a ticket for a stream
///
/// For clients that cannot send headers, such as a browser's EventSource: open the stream with `?ticket=…` within a
/// minute. The ticket works once, reads streams and nothing else; the stream ends when the token ends with which the
/// ticket was got.
#[utoipa::path(post, path = "/api/v1/auth/stream-ticket", tag = "Authentication",
    responses((status = 200, description = "The ticket", body = StreamTicket)))]
async fn create_stream_ticket(State(gateway): State<Gateway>, caller: Caller) -> Result<Answer, Problem> {
    let request = caller.ctx().outgoing(CreateStreamTicketRequest {});
    let answer = gateway.deps.identity.clone().create_stream_ticket(request).await?.into_inner();
    Answer::json(&StreamTicket { ticket: answer.ticket, expires_in: answer.expires_in })
}

/// Public keys
///
/// The keys that verify access tokens. Keep them for five minutes; a token with an unknown `kid` is a reason to ask
/// again.
#[utoipa::path(get, path = "/.well-known/jwks.json", tag = "Authentication",
    responses((status = 200, description = "The key set", body = Jwks)))]
async fn get_jwks(State(gateway): State<Gateway>, visitor: Visitor) -> Result<Answer, Problem> {
    let answer = gateway.deps.identity.clone().get_jwks(visitor.ctx().outgoing(GetJwksRequest {})).await?.into_inner();
    let keys: serde_json::Value = serde_json::from_str(&answer.jwks_json).map_err(Problem::internal)?;
    Ok(Answer::json(&keys)?.with(CACHE_CONTROL, "public, max-age=300"))
}
