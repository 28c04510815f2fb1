//! `IdentityService`.

use aegis_auth::{News, OpCtx, Revocation};
use aegis_proto::identity::v1::{self as pb, identity_service_server::IdentityService};
use secrecy::{ExposeSecret, SecretString};
use tonic::{Request, Response, Status};

use crate::{
    app::{NewUser, SignedDocument, SignedIn, TICKET_LIFETIME, Token, UserPatch, UserQuery},
    domain::user::User,
};

use super::{Rpc, timestamp};

#[tonic::async_trait]
impl IdentityService for Rpc {
    async fn login(&self, request: Request<pb::LoginRequest>) -> Result<Response<pb::LoginResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let pb::LoginRequest { username, password } = request.into_inner();
        let password = SecretString::from(password);
        self.answer(
            &ctx,
            "Login",
            self.0.login(&ctx, &username, &password),
            |SignedIn { token, must_change_password }| pb::LoginResponse {
                expires_in: seconds(&token),
                access_token: token.text,
                must_change_password,
            },
        )
        .await
    }

    async fn logout(&self, request: Request<pb::LogoutRequest>) -> Result<Response<pb::LogoutResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        self.answer(&ctx, "Logout", self.0.logout(&ctx), |()| pb::LogoutResponse {}).await
    }

    async fn get_me(&self, request: Request<pb::GetMeRequest>) -> Result<Response<pb::GetMeResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        self.answer(&ctx, "GetMe", self.0.me(&ctx), |user| pb::GetMeResponse { user: Some(message(user)) }).await
    }

    async fn change_password(
        &self,
        request: Request<pb::ChangePasswordRequest>,
    ) -> Result<Response<pb::ChangePasswordResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let pb::ChangePasswordRequest { old_password, new_password } = request.into_inner();
        let (old, new) = (SecretString::from(old_password), SecretString::from(new_password));
        self.answer(
            &ctx,
            "ChangePassword",
            self.0.change_password(&ctx, &old, &new),
            |()| pb::ChangePasswordResponse {},
        )
        .await
    }

    async fn list_users(
        &self,
        request: Request<pb::ListUsersRequest>,
    ) -> Result<Response<pb::ListUsersResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let pb::ListUsersRequest { page_size, page_token, skip, search, role, is_active } = request.into_inner();
        let result = self.0.list_users(&ctx, page_size, &page_token, skip, UserQuery { search, role, is_active });
        self.answer(&ctx, "ListUsers", result, |(users, next_page_token, total_size)| pb::ListUsersResponse {
            users: users.into_iter().map(message).collect(),
            next_page_token,
            total_size,
        })
        .await
    }

    async fn get_user(&self, request: Request<pb::GetUserRequest>) -> Result<Response<pb::GetUserResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let id = request.into_inner().id;
        self.answer(&ctx, "GetUser", self.0.get_user(&ctx, &id), |user| pb::GetUserResponse {
            user: Some(message(user)),
        })
        .await
    }

    async fn create_user(
        &self,
        request: Request<pb::CreateUserRequest>,
    ) -> Result<Response<pb::CreateUserResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let pb::CreateUserRequest { username, email, password, role, must_change_password } = request.into_inner();
        let new = NewUser { username, email, password: password.into(), role, must_change_password };
        self.answer(&ctx, "CreateUser", self.0.create_user(&ctx, new), |user| pb::CreateUserResponse {
            user: Some(message(user)),
        })
        .await
    }

    async fn update_user(
        &self,
        request: Request<pb::UpdateUserRequest>,
    ) -> Result<Response<pb::UpdateUserResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let pb::UpdateUserRequest {
            id,
            email,
            clear_email,
            role,
            is_active,
            password,
            must_change_password,
            refuse_own_role,
        } = request.into_inner();
        let password = password.map(SecretString::from);
        let patch = UserPatch { email, clear_email, role, is_active, password, must_change_password, refuse_own_role };
        self.answer(&ctx, "UpdateUser", self.0.update_user(&ctx, &id, patch), |user| pb::UpdateUserResponse {
            user: Some(message(user)),
        })
        .await
    }

    async fn delete_user(
        &self,
        request: Request<pb::DeleteUserRequest>,
    ) -> Result<Response<pb::DeleteUserResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let id = request.into_inner().id;
        self.answer(&ctx, "DeleteUser", self.0.delete_user(&ctx, &id), |()| pb::DeleteUserResponse {}).await
    }

    async fn create_stream_ticket(
        &self,
        request: Request<pb::CreateStreamTicketRequest>,
    ) -> Result<Response<pb::CreateStreamTicketResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        self.answer(&ctx, "CreateStreamTicket", self.0.create_stream_ticket(&ctx), |ticket| {
            pb::CreateStreamTicketResponse {
                ticket: ticket.expose_secret().to_owned(),
                expires_in: i64::try_from(TICKET_LIFETIME.as_secs()).unwrap_or(i64::MAX),
            }
        })
        .await
    }

    async fn redeem_stream_ticket(
        &self,
        request: Request<pb::RedeemStreamTicketRequest>,
    ) -> Result<Response<pb::RedeemStreamTicketResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let ticket = SecretString::from(request.into_inner().ticket);
        self.answer(&ctx, "RedeemStreamTicket", self.0.redeem_stream_ticket(&ticket), |token| {
            pb::RedeemStreamTicketResponse { access_token: token.text }
        })
        .await
    }

    async fn resolve_api_key(
        &self,
        request: Request<pb::ResolveApiKeyRequest>,
    ) -> Result<Response<pb::ResolveApiKeyResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let key = SecretString::from(request.into_inner().key);
        let result = self.0.resolve_api_key(key.expose_secret());
        self.answer(&ctx, "ResolveApiKey", result, super::api_key::resolved).await
    }

    async fn get_jwks(&self, request: Request<pb::GetJwksRequest>) -> Result<Response<pb::GetJwksResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        self.answer(&ctx, "GetJwks", self.0.jwks(), |jwks_json| pb::GetJwksResponse { jwks_json }).await
    }

    async fn list_revocations(
        &self,
        request: Request<pb::ListRevocationsRequest>,
    ) -> Result<Response<pb::ListRevocationsResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let after = request.into_inner().after;
        self.answer(&ctx, "ListRevocations", self.0.news(after), |News { revocations, cursor, key_ids }| {
            let revocations = revocations.into_iter().map(revocation).collect();
            pb::ListRevocationsResponse { revocations, cursor, key_ids }
        })
        .await
    }

    async fn issue_service_token(
        &self,
        request: Request<pb::IssueServiceTokenRequest>,
    ) -> Result<Response<pb::IssueServiceTokenResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let pb::IssueServiceTokenRequest { service, secret } = request.into_inner();
        let secret = SecretString::from(secret);
        self.answer(&ctx, "IssueServiceToken", self.0.issue_service_token(&ctx, &service, &secret), |token| {
            pb::IssueServiceTokenResponse { expires_in: seconds(&token), access_token: token.text }
        })
        .await
    }

    async fn sign_document(
        &self,
        request: Request<pb::SignDocumentRequest>,
    ) -> Result<Response<pb::SignDocumentResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let pb::SignDocumentRequest { payload, kind } = request.into_inner();
        let signed = self.0.sign_document(&ctx, &payload, &kind);
        self.answer(&ctx, "SignDocument", signed, |SignedDocument { protected, signature, jwk_json }| {
            pb::SignDocumentResponse { protected, signature, jwk_json }
        })
        .await
    }
}

fn seconds(token: &Token) -> i64 {
    i64::try_from(token.expires_in.as_secs()).unwrap_or(i64::MAX)
}

fn message(user: User) -> pb::User {
    pb::User {
        id: user.id.to_string(),
        username: user.username,
        email: user.email,
        role: user.role.to_string(),
        is_active: user.is_active,
        must_change_password: user.must_change_password,
        created_at: Some(timestamp(user.created_at)),
        updated_at: Some(timestamp(user.updated_at)),
        last_login_at: user.last_login_at.map(timestamp),
        version: user.version,
    }
}

fn revocation(revocation: Revocation) -> pb::Revocation {
    match revocation {
        Revocation::Token { jti, expires_at } => pb::Revocation {
            jti: jti.to_string(),
            expires_at: Some(timestamp(expires_at)),
            ..pb::Revocation::default()
        },
        Revocation::User { user_id, min_epoch, expires_at } => pb::Revocation {
            user_id: user_id.to_string(),
            min_epoch,
            expires_at: Some(timestamp(expires_at)),
            ..pb::Revocation::default()
        },
    }
}
