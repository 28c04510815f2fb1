//! `ApiKeyService`.

use aegis_auth::{OpCtx, Principal};
use aegis_error::Failure;
use aegis_proto::identity::v1::{self as pb, api_key_service_server::ApiKeyService};
use chrono::TimeDelta;
use secrecy::ExposeSecret;
use tonic::{Request, Response, Status};

use crate::domain::api_key::ApiKey;

use super::{Rpc, date, timestamp};

#[tonic::async_trait]
impl ApiKeyService for Rpc {
    async fn create_api_key(
        &self,
        request: Request<pb::CreateApiKeyRequest>,
    ) -> Result<Response<pb::CreateApiKeyResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let pb::CreateApiKeyRequest { user_id, name, role, expires_at, expires_in_days } = request.into_inner();
        let result = async {
            let expires_at = match (date("expires_at", expires_at)?, expires_in_days) {
                (Some(_), Some(_)) => {
                    return Err(Failure::invalid("expires_in_days", "must not be given with expires_at").into());
                }
                (None, Some(days)) if (1..=366).contains(&days) => {
                    Some(aegis_db::now() + TimeDelta::days(i64::from(days)))
                }
                (None, Some(_)) => return Err(Failure::invalid("expires_in_days", "must be 1 to 366").into()),
                (at, None) => at,
            };
            self.0.create_api_key(&ctx, &user_id, &name, role.as_deref(), expires_at).await
        };
        self.answer(&ctx, "CreateApiKey", result, |(key, text)| pb::CreateApiKeyResponse {
            api_key: Some(message(key)),
            secret_key: text.expose_secret().to_owned(),
        })
        .await
    }

    async fn list_api_keys(
        &self,
        request: Request<pb::ListApiKeysRequest>,
    ) -> Result<Response<pb::ListApiKeysResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let pb::ListApiKeysRequest { user_id, page_size, page_token, skip } = request.into_inner();
        let result = self.0.list_api_keys(&ctx, &user_id, page_size, &page_token, skip);
        self.answer(&ctx, "ListApiKeys", result, |(keys, next_page_token, total_size)| pb::ListApiKeysResponse {
            api_keys: keys.into_iter().map(message).collect(),
            next_page_token,
            total_size,
        })
        .await
    }

    async fn get_api_key(
        &self,
        request: Request<pb::GetApiKeyRequest>,
    ) -> Result<Response<pb::GetApiKeyResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let pb::GetApiKeyRequest { user_id, id } = request.into_inner();
        self.answer(&ctx, "GetApiKey", self.0.get_api_key(&ctx, &user_id, &id), |key| pb::GetApiKeyResponse {
            api_key: Some(message(key)),
        })
        .await
    }

    async fn revoke_api_key(
        &self,
        request: Request<pb::RevokeApiKeyRequest>,
    ) -> Result<Response<pb::RevokeApiKeyResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let pb::RevokeApiKeyRequest { user_id, id } = request.into_inner();
        self.answer(&ctx, "RevokeApiKey", self.0.revoke_api_key(&ctx, &user_id, &id), |()| pb::RevokeApiKeyResponse {})
            .await
    }
}

/// Whom a key stands for.
pub(super) fn resolved(principal: Principal) -> pb::ResolveApiKeyResponse {
    pb::ResolveApiKeyResponse {
        key_id: principal.jti.to_string(),
        user_id: principal.user_id.to_string(),
        username: principal.username,
        role: principal.role.to_string(),
        epoch: principal.epoch,
        expires_at: Some(timestamp(principal.expires_at)),
        must_change_password: principal.must_change_password,
    }
}

fn message(key: ApiKey) -> pb::ApiKey {
    let version = key.version();
    pb::ApiKey {
        id: key.id.to_string(),
        user_id: key.user_id.to_string(),
        name: key.name,
        role: key.role.to_string(),
        prefix: key.prefix,
        created_at: Some(timestamp(key.created_at)),
        expires_at: Some(timestamp(key.expires_at)),
        revoked_at: key.revoked_at.map(timestamp),
        last_used_at: key.last_used_at.map(timestamp),
        version,
    }
}
