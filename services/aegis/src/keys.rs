//! Where verifiers and background work get keys, revocations and tokens: identity, here or over the network.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use aegis_auth::{Background, Bearer, KeySource, News, OpCtx, Origin, Principal, Revocation};
use aegis_error::Failure;
use aegis_proto::identity::v1::{
    GetJwksRequest, IssueServiceTokenRequest, ListRevocationsRequest, ResolveApiKeyRequest, ResolveApiKeyResponse,
    identity_service_client::IdentityServiceClient,
};
use aegis_rpc::RpcService;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

/// Identity's client, which is there only after identity was built, and identity is built behind a verifier.
#[derive(Clone, Default)]
pub struct Identity(Arc<OnceLock<IdentityServiceClient<RpcService>>>);

impl Identity {
    /// Says where identity is; once.
    pub fn set(&self, client: IdentityServiceClient<RpcService>) {
        // Only the composition sets it, once a process.
        let _ = self.0.set(client);
    }

    fn client(&self) -> Result<IdentityServiceClient<RpcService>, Failure> {
        self.0.get().cloned().ok_or_else(|| Failure::unavailable("identity"))
    }

    /// Contexts for background work of `service`.
    pub fn background(&self, service: &'static str, secret: SecretString) -> Background {
        let tokens = self.tokens(service, secret);
        Background::new(Arc::new(move || {
            let tokens = tokens.clone();
            Box::pin(async move { tokens.issue().await })
        }))
    }

    /// Tokens of `service`.
    pub fn tokens(&self, service: &'static str, secret: SecretString) -> Tokens {
        Tokens { identity: self.clone(), service, secret }
    }
}

/// Asks for tokens of one service.
#[derive(Clone)]
pub struct Tokens {
    identity: Identity,
    service: &'static str,
    secret: SecretString,
}

impl Tokens {
    /// A token, and how long it holds.
    pub async fn issue(&self) -> Result<(String, Duration), Failure> {
        let (service, secret) = (self.service.to_owned(), self.secret.expose_secret().to_owned());
        let request = anonymous().outgoing(IssueServiceTokenRequest { service, secret });
        let answer = self.identity.client()?.issue_service_token(request).await?.into_inner();
        let lasts = u64::try_from(answer.expires_in).unwrap_or(0);
        Ok((answer.access_token, Duration::from_secs(lasts)))
    }
}

fn anonymous() -> OpCtx {
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    OpCtx::new(None, None, Origin::default(), Some(deadline))
}

#[async_trait]
impl KeySource for Identity {
    async fn jwks(&self) -> Result<String, Failure> {
        let answer = self.client()?.get_jwks(anonymous().outgoing(GetJwksRequest {})).await?;
        Ok(answer.into_inner().jwks_json)
    }

    async fn news(&self, after: i64) -> Result<News, Failure> {
        let request = anonymous().outgoing(ListRevocationsRequest { after });
        let answer = self.client()?.list_revocations(request).await?.into_inner();
        let revocations = answer.revocations.into_iter().filter_map(revocation).collect();
        Ok(News { revocations, cursor: answer.cursor, key_ids: answer.key_ids })
    }

    async fn api_key(&self, key: &str) -> Result<Principal, Failure> {
        let request = anonymous().outgoing(ResolveApiKeyRequest { key: key.to_owned() });
        let answer = self.client()?.resolve_api_key(request).await?.into_inner();
        principal(answer).ok_or_else(|| Failure::internal("identity's answer about an API key cannot be read"))
    }
}

fn principal(answer: ResolveApiKeyResponse) -> Option<Principal> {
    Some(Principal {
        user_id: Uuid::parse_str(&answer.user_id).ok()?,
        username: answer.username,
        role: aegis_auth::Role::of_key(&answer.role)?,
        jti: Uuid::parse_str(&answer.key_id).ok()?,
        epoch: answer.epoch,
        expires_at: DateTime::from_timestamp(answer.expires_at?.seconds, 0)?,
        must_change_password: answer.must_change_password,
        bearer: Bearer::ApiKey,
    })
}

fn revocation(revocation: aegis_proto::identity::v1::Revocation) -> Option<Revocation> {
    let expires_at: DateTime<Utc> = DateTime::from_timestamp(revocation.expires_at?.seconds, 0)?;
    if revocation.jti.is_empty() {
        let user_id = Uuid::parse_str(&revocation.user_id).ok()?;
        return Some(Revocation::User { user_id, min_epoch: revocation.min_epoch, expires_at });
    }
    Some(Revocation::Token { jti: Uuid::parse_str(&revocation.jti).ok()?, expires_at })
}
