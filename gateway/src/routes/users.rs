//! Users. Administrators only.

use aegis_proto::identity::v1::{
    self as proto, CreateUserRequest, DeleteUserRequest, GetUserRequest, ListUsersRequest, UpdateUserRequest,
};
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Id, Json, Query, page},
    openapi::responses::{Conflict, NotFound, RateLimited},
    state::Gateway,
    values::{Change, Role, set, time, time_always},
};

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new().routes(routes!(list_users, create_user)).routes(routes!(get_user, update_user, delete_user))
}

/// A user.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a11", "username": "ana", "email": "ana@example.com", "role": "red_tech",
    "is_active": true, "must_change_password": false, "created_at": "2024-01-01T00:00:00Z",
    "updated_at": "2024-01-01T00:00:00Z", "last_login_at": "2024-01-02T08:30:00Z"
}))]
pub struct User {
    #[schema(value_type = Uuid)]
    id: String,
    username: String,
    email: Option<String>,
    #[schema(value_type = Role)]
    role: String,
    /// A user that is not active cannot sign in.
    is_active: bool,
    /// The password must be changed before anything else.
    must_change_password: bool,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    last_login_at: Option<DateTime<Utc>>,
}

impl From<proto::User> for User {
    fn from(user: proto::User) -> User {
        User {
            id: user.id,
            username: user.username,
            email: user.email,
            role: user.role,
            is_active: user.is_active,
            must_change_password: user.must_change_password,
            created_at: time_always(user.created_at),
            updated_at: time_always(user.updated_at),
            last_login_at: time(user.last_login_at),
        }
    }
}

/// Part of a list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListUsers {
    /// Rows at most.
    #[param(minimum = 1, maximum = 5000, default = 1000)]
    limit: Option<u32>,
    /// Rows to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
    /// Anywhere in the username or the email address, in whatever case.
    #[param(min_length = 1, max_length = 200)]
    search: Option<String>,
    /// Users of this role.
    role: Option<Role>,
    /// Only those who can sign in (`true`), or who cannot (`false`).
    is_active: Option<bool>,
}

/// A new user.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "username": "newuser", "email": "user@example.com", "password": "a long enough one", "role": "red_tech"
}))]
pub struct NewUser {
    username: String,
    #[serde(default)]
    email: Option<String>,
    /// 8 (configurable) to 128 characters, not the username, none of the few hundred worst.
    #[schema(format = Password)]
    password: String,
    role: Role,
    /// Whether the user has to choose a password of its own first.
    #[serde(default)]
    must_change_password: bool,
}

/// Changes of a user; what is absent is left alone.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"email": "new@example.com", "role": "blue_tech", "is_active": false}))]
pub struct UserChanges {
    /// `null` removes it.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    email: Change<String>,
    #[serde(default, deserialize_with = "set")]
    #[schema(value_type = Role, required = false)]
    role: Option<Role>,
    #[serde(default, deserialize_with = "set")]
    #[schema(value_type = bool, required = false)]
    is_active: Option<bool>,
    #[serde(default, deserialize_with = "set")]
    #[schema(value_type = String, format = Password, required = false)]
    password: Option<String>,
    #[serde(default, deserialize_with = "set")]
    #[schema(value_type = bool, required = false)]
    must_change_password: Option<bool>,
}

/// The answer with this user.
pub(super) fn entity(user: Option<proto::User>) -> Result<Answer, Problem> {
    let user = user.ok_or_else(Problem::empty)?;
    Answer::entity(user.version, &User::from(user))
}

/// List users
///
/// Administrators only. By username; `X-Total-Count` has the number of all.
#[utoipa::path(get, path = "/api/v1/users", tag = "Users", params(ListUsers),
    extensions(("x-roles" = json!(["admin"]))),
    responses((status = 200, description = "Users", body = [User])))]
async fn list_users(
    State(gateway): State<Gateway>,
    caller: Caller,
    Query(query): Query<ListUsers>,
) -> Result<Answer, Problem> {
    let (page_size, skip) = page(query.limit, query.offset, 1000, 5000)?;
    let request = ListUsersRequest {
        page_size,
        skip,
        page_token: String::new(),
        search: query.search,
        role: query.role.map(String::from),
        is_active: query.is_active,
    };
    let answer = gateway.deps.identity.clone().list_users(caller.ctx().outgoing(request)).await?.into_inner();
    let users: Vec<User> = answer.users.into_iter().map(User::from).collect();
    Answer::list(&users, answer.total_size)
}

/// Read a user
///
/// Administrators only.
#[utoipa::path(get, path = "/api/v1/users/{id}", tag = "Users", params(("id" = Uuid, Path, description = "User")),
    extensions(("x-roles" = json!(["admin"]))),
    responses((status = 200, description = "The user", body = User), (status = 404, response = NotFound)))]
async fn get_user(State(gateway): State<Gateway>, caller: Caller, id: Id) -> Result<Answer, Problem> {
    let request = GetUserRequest { id: id.to_string() };
    let answer = gateway.deps.identity.clone().get_user(caller.ctx().outgoing(request)).await?.into_inner();
    entity(answer.user)
}

/// Create a user
///
/// Administrators only.
#[utoipa::path(post, path = "/api/v1/users", tag = "Users", request_body = NewUser,
    extensions(("x-roles" = json!(["admin"]))),
    responses(
        (status = 201, description = "Created", body = User),
        (status = 409, response = Conflict),
        (status = 429, response = RateLimited),
    ))]
async fn create_user(
    State(gateway): State<Gateway>,
    caller: Caller,
    Json(body): Json<NewUser>,
) -> Result<Answer, Problem> {
    let request = CreateUserRequest {
        username: body.username,
        email: body.email,
        password: body.password,
        role: body.role.into(),
        must_change_password: body.must_change_password,
    };
    let answer = gateway.deps.identity.clone().create_user(caller.ctx().outgoing(request)).await?.into_inner();
    let user = answer.user.ok_or_else(Problem::empty)?;
    let (version, location) = (user.version, format!("/api/v1/users/{}", user.id));
    Ok(Answer::created(&location, &User::from(user))?.versioned(version))
}

/// Change a user
///
/// Administrators only. A new role or password, or `is_active: false`, ends the user's tokens at once. The last
/// active administrator can be neither demoted nor disabled (409), nobody can demote or disable themselves (403).
#[utoipa::path(patch, path = "/api/v1/users/{id}", tag = "Users", params(("id" = Uuid, Path, description = "User")),
    request_body = UserChanges,
    extensions(("x-roles" = json!(["admin"]))),
    responses(
        (status = 200, description = "Changed", body = User),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
        (status = 429, response = RateLimited),
    ))]
async fn update_user(
    State(gateway): State<Gateway>,
    caller: Caller,
    id: Id,
    Json(body): Json<UserChanges>,
) -> Result<Answer, Problem> {
    let (email, clear_email) = body.email.parts();
    let request = UpdateUserRequest {
        id: id.to_string(),
        email,
        clear_email,
        role: body.role.map(String::from),
        is_active: body.is_active,
        password: body.password,
        must_change_password: body.must_change_password,
        refuse_own_role: false,
    };
    let answer = gateway.deps.identity.clone().update_user(caller.ctx().outgoing(request)).await?.into_inner();
    gateway.refresh_revocations().await;
    entity(answer.user)
}

/// Delete a user
///
/// Administrators only. Ends the user's tokens at once; what it did stays in the audit trail, and its name can be
/// given again. Nobody can delete themselves (403), nor anyone the last active administrator (409).
#[utoipa::path(delete, path = "/api/v1/users/{id}", tag = "Users", params(("id" = Uuid, Path, description = "User")),
    extensions(("x-roles" = json!(["admin"]))),
    responses(
        (status = 204, description = "Deleted"),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
    ))]
async fn delete_user(State(gateway): State<Gateway>, caller: Caller, id: Id) -> Result<Answer, Problem> {
    let request = DeleteUserRequest { id: id.to_string() };
    gateway.deps.identity.clone().delete_user(caller.ctx().outgoing(request)).await?;
    gateway.refresh_revocations().await;
    Ok(Answer::nothing())
}
