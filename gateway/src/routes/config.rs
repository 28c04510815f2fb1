//! What holds for the fleet of decoys, and the users as the deception half shows them.

use aegis_error::{Failure, Fields};
use aegis_proto::{
    deception::v1::{GetFleetSettingsRequest, SetDeploymentLimitRequest, SetGlobalMutationIntervalRequest},
    identity::v1::{self as identity, DeleteUserRequest, ListUsersRequest, UpdateUserRequest},
};
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Id, Json},
    openapi::responses::{Conflict, NotFound, RateLimited},
    state::Gateway,
    values::Role,
};

/// Users that `GET /config` shows at most; `GET /users` has pages.
const MAX_USERS: i32 = 5000;

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(get_config))
        .routes(routes!(set_deployment_limit))
        .routes(routes!(set_global_mutation_interval))
        .routes(routes!(create_config_user))
        .routes(routes!(delete_config_user))
        .routes(routes!(set_config_user_role))
        .routes(routes!(reset_config_user_password))
}

/// The configuration, as far as the caller may see it.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "role": "admin", "deployment_limit": 10, "global_mutation_interval": "30m",
    "users": [{
        "uuid": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a11", "username": "admin", "role": "admin",
        "must_change_password": false
    }]
}))]
pub struct ConfigResponse {
    /// The caller's own.
    #[schema(value_type = Role)]
    role: &'static str,
    /// Most deckies at a time.
    deployment_limit: i32,
    /// How often a decky changes its services that has no interval of its own.
    global_mutation_interval: String,
    /// For administrators: the users by name, the first 5,000. `GET /users` has all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    users: Option<Vec<UserResponse>>,
    /// For administrators, and only where the product was started in developer mode: `true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    developer_mode: Option<bool>,
}

/// A user, as the deception half shows it.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "uuid": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a11", "username": "alice", "role": "viewer", "must_change_password": true
}))]
pub struct UserResponse {
    #[schema(value_type = Uuid)]
    uuid: String,
    username: String,
    #[schema(value_type = Role)]
    role: String,
    /// The password must be changed before anything else.
    must_change_password: bool,
}

impl From<identity::User> for UserResponse {
    fn from(user: identity::User) -> UserResponse {
        UserResponse {
            uuid: user.id,
            username: user.username,
            role: user.role,
            must_change_password: user.must_change_password,
        }
    }
}

/// A new limit.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"deployment_limit": 25}))]
pub struct DeploymentLimitRequest {
    /// Most deckies at a time.
    #[schema(minimum = 1, maximum = 500)]
    deployment_limit: i32,
}

/// The limit that now holds.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"message": "Deployment limit updated", "deployment_limit": 25}))]
pub struct DeploymentLimitResponse {
    message: &'static str,
    deployment_limit: i32,
}

/// A new interval.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"global_mutation_interval": "1d"}))]
pub struct GlobalMutationIntervalRequest {
    /// A number and m (minutes), d (days), M (months of the calendar), y or Y (years); at most 100 years.
    #[schema(pattern = r"^[1-9]\d*[mdMyY]$")]
    global_mutation_interval: String,
}

/// The interval that now holds.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"message": "Global mutation interval updated", "global_mutation_interval": "1d"}))]
pub struct GlobalMutationIntervalResponse {
    message: &'static str,
    global_mutation_interval: String,
}

/// A new user.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"username": "alice", "password": "initialpass1", "role": "viewer"}))]
pub struct CreateUserRequest {
    username: String,
    /// 8 (configurable) to 128 characters, not the username, none of the few hundred worst.
    #[schema(format = Password)]
    password: String,
    role: Role,
}

/// A new role.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"role": "admin"}))]
pub struct UpdateUserRoleRequest {
    role: Role,
}

/// A new password for somebody.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"new_password": "newpass1234"}))]
pub struct ResetUserPasswordRequest {
    /// 8 (configurable) to 128 characters, not the username, none of the few hundred worst.
    #[schema(format = Password)]
    new_password: String,
}

/// Read the configuration
///
/// Administrators see the users too, and whether the product runs in developer mode (`AEGIS_DEVELOPER` or
/// `DECNET_DEVELOPER` at its start). The version in the `ETag` is that of the two settings, for `If-Match` where they
/// are set.
#[utoipa::path(get, path = "/api/v1/config", tag = "Configuration",
    responses((status = 200, description = "The configuration", body = ConfigResponse)))]
async fn get_config(State(gateway): State<Gateway>, caller: Caller) -> Result<Answer, Problem> {
    let ctx = caller.ctx();
    let mut fleet = gateway.deps.fleet.clone();
    let settings = fleet.get_fleet_settings(ctx.outgoing(GetFleetSettingsRequest {}));
    let role = caller.principal.role;
    let (settings, users) = if role == aegis_auth::Role::Admin {
        let mut people = gateway.deps.identity.clone();
        let request = ListUsersRequest { page_size: MAX_USERS, ..ListUsersRequest::default() };
        let (settings, users) = tokio::try_join!(settings, people.list_users(ctx.outgoing(request)))?;
        let users = users.into_inner().users.into_iter().map(UserResponse::from).collect();
        (settings, Some(users))
    } else {
        (settings.await?, None)
    };
    let settings = settings.into_inner().settings.ok_or_else(Problem::empty)?;
    let config = ConfigResponse {
        role: role.as_str(),
        deployment_limit: settings.deployment_limit,
        global_mutation_interval: settings.global_mutation_interval,
        developer_mode: (users.is_some() && gateway.deps.config.developer).then_some(true),
        users,
    };
    Answer::entity(settings.version, &config)
}

/// Set the deployment limit
///
/// Administrators only. Deckies that are deployed already stay, also where the new limit is lower.
#[utoipa::path(put, path = "/api/v1/config/deployment-limit", tag = "Configuration",
    request_body = DeploymentLimitRequest,
    extensions(("x-roles" = json!(["admin"]))),
    responses((status = 200, description = "Set", body = DeploymentLimitResponse)))]
async fn set_deployment_limit(
    State(gateway): State<Gateway>,
    caller: Caller,
    Json(body): Json<DeploymentLimitRequest>,
) -> Result<Answer, Problem> {
    let request = SetDeploymentLimitRequest { deployment_limit: body.deployment_limit };
    let mut fleet = gateway.deps.fleet.clone();
    let answer = fleet.set_deployment_limit(caller.ctx().outgoing(request)).await?.into_inner();
    let settings = answer.settings.ok_or_else(Problem::empty)?;
    let set =
        DeploymentLimitResponse { message: "Deployment limit updated", deployment_limit: settings.deployment_limit };
    Answer::entity(settings.version, &set)
}

/// Set the mutation interval of the fleet
///
/// Administrators only. It holds for the deckies that have no interval of their own.
#[utoipa::path(put, path = "/api/v1/config/global-mutation-interval", tag = "Configuration",
    request_body = GlobalMutationIntervalRequest,
    extensions(("x-roles" = json!(["admin"]))),
    responses((status = 200, description = "Set", body = GlobalMutationIntervalResponse)))]
async fn set_global_mutation_interval(
    State(gateway): State<Gateway>,
    caller: Caller,
    Json(body): Json<GlobalMutationIntervalRequest>,
) -> Result<Answer, Problem> {
    let request = SetGlobalMutationIntervalRequest { global_mutation_interval: body.global_mutation_interval };
    let mut fleet = gateway.deps.fleet.clone();
    let answer = fleet.set_global_mutation_interval(caller.ctx().outgoing(request)).await?.into_inner();
    let settings = answer.settings.ok_or_else(Problem::empty)?;
    let set = GlobalMutationIntervalResponse {
        message: "Global mutation interval updated",
        global_mutation_interval: settings.global_mutation_interval,
    };
    Answer::entity(settings.version, &set)
}

/// Create a user who has to change the password
///
/// Administrators only. The same users as those of `/users`, where a new one is flagged only if the request asks.
#[utoipa::path(post, path = "/api/v1/config/users", tag = "Configuration", request_body = CreateUserRequest,
    extensions(("x-roles" = json!(["admin"]))),
    responses(
        (status = 201, description = "Created", body = UserResponse),
        (status = 409, response = Conflict),
        (status = 429, response = RateLimited),
    ))]
async fn create_config_user(
    State(gateway): State<Gateway>,
    caller: Caller,
    Json(body): Json<CreateUserRequest>,
) -> Result<Answer, Problem> {
    let request = identity::CreateUserRequest {
        username: body.username,
        email: None,
        password: body.password,
        role: body.role.into(),
        must_change_password: true,
    };
    let answer = gateway.deps.identity.clone().create_user(caller.ctx().outgoing(request)).await?.into_inner();
    let user = answer.user.ok_or_else(Problem::empty)?;
    let (version, user) = (user.version, UserResponse::from(user));
    Ok(Answer::created(&format!("/api/v1/users/{}", user.uuid), &user)?.versioned(version))
}

/// Delete a user
///
/// Administrators only. Ends the user's tokens at once; what it did stays in the audit trail, and its name can be
/// given again. Nobody can delete themselves (403), nor anyone the last active administrator (409).
#[utoipa::path(delete, path = "/api/v1/config/users/{user_uuid}", tag = "Configuration",
    params(("user_uuid" = Uuid, Path, description = "User")),
    extensions(("x-roles" = json!(["admin"]))),
    responses(
        (status = 204, description = "Deleted"),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
    ))]
async fn delete_config_user(State(gateway): State<Gateway>, caller: Caller, id: Id) -> Result<Answer, Problem> {
    let request = DeleteUserRequest { id: id.to_string() };
    gateway.deps.identity.clone().delete_user(caller.ctx().outgoing(request)).await?;
    gateway.refresh_revocations().await;
    Ok(Answer::nothing())
}

/// Change the role of a user
///
/// Administrators only. Another role ends the user's tokens at once. Nobody can change their own role (403), nor
/// anyone that of the last active administrator (409).
#[utoipa::path(put, path = "/api/v1/config/users/{user_uuid}/role", tag = "Configuration",
    params(("user_uuid" = Uuid, Path, description = "User")), request_body = UpdateUserRoleRequest,
    extensions(("x-roles" = json!(["admin"]))),
    responses(
        (status = 200, description = "Changed", body = UserResponse),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
    ))]
async fn set_config_user_role(
    State(gateway): State<Gateway>,
    caller: Caller,
    id: Id,
    Json(body): Json<UpdateUserRoleRequest>,
) -> Result<Answer, Problem> {
    let request = UpdateUserRequest {
        id: id.to_string(),
        role: Some(body.role.into()),
        refuse_own_role: true,
        ..UpdateUserRequest::default()
    };
    changed(&gateway, &caller, request).await
}

/// Reset the password of a user
///
/// Administrators only. Ends the user's tokens at once; the user has to change the password after signing in.
#[utoipa::path(put, path = "/api/v1/config/users/{user_uuid}/reset-password", tag = "Configuration",
    params(("user_uuid" = Uuid, Path, description = "User")), request_body = ResetUserPasswordRequest,
    extensions(("x-roles" = json!(["admin"]))),
    responses(
        (status = 200, description = "Reset", body = UserResponse),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
        (status = 429, response = RateLimited),
    ))]
async fn reset_config_user_password(
    State(gateway): State<Gateway>,
    caller: Caller,
    id: Id,
    Json(body): Json<ResetUserPasswordRequest>,
) -> Result<Answer, Problem> {
    let request = UpdateUserRequest {
        id: id.to_string(),
        password: Some(body.new_password),
        must_change_password: Some(true),
        ..UpdateUserRequest::default()
    };
    changed(&gateway, &caller, request).await
}

async fn changed(gateway: &Gateway, caller: &Caller, request: UpdateUserRequest) -> Result<Answer, Problem> {
    let answer = gateway.deps.identity.clone().update_user(caller.ctx().outgoing(request)).await;
    let answer = answer.map_err(|status| as_asked(status.into()))?.into_inner();
    gateway.refresh_revocations().await;
    let user = answer.user.ok_or_else(Problem::empty)?;
    Answer::entity(user.version, &UserResponse::from(user))
}

/// The failure with the field named as the request spells it, where identity spells it otherwise.
fn as_asked(failure: Failure) -> Failure {
    let mut fields = Fields::default();
    for error in failure.fields() {
        let field = if error.field == "password" { "new_password" } else { &error.field };
        fields.add(field, &error.problem);
    }
    fields.finish().err().unwrap_or(failure)
}

#[cfg(test)]
mod tests {
    use aegis_error::Code;

    use super::*;

    #[test]
    fn a_bad_password_is_named_as_the_request_spells_it() {
        let failure = as_asked(Failure::invalid("password", "is too short"));
        assert_eq!((failure.code(), failure.message()), (Code::Validation, "new_password: is too short"));
        let failure = as_asked(Failure::not_found("user", "7"));
        assert_eq!(failure.code(), Code::NotFound);
    }
}
