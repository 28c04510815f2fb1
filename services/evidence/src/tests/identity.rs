//! A stand-in for identity: it knows who is no longer let in, signs documents with a key of its own, and nothing else.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use aegis_auth::Background;
use aegis_error::Failure;
use aegis_proto::identity::v1::{
    identity_service_client::IdentityServiceClient,
    identity_service_server::{IdentityService, IdentityServiceServer},
    *,
};
use aegis_rpc::RpcService;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::{Signer, SigningKey};
use serde_json::json;
use tonic::{Request, Response, Status};
use uuid::Uuid;

/// What the tests sign with.
pub(crate) fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

/// What became of a user.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Disabled,
    Deleted,
}

/// See the module.
#[derive(Clone, Default)]
pub(crate) struct Users(Arc<Mutex<HashMap<String, Fate>>>);

impl Users {
    pub(crate) fn lose(&self, id: Uuid, fate: Fate) {
        self.0.lock().unwrap().insert(id.to_string(), fate);
    }

    pub(crate) fn client(&self) -> IdentityServiceClient<RpcService> {
        IdentityServiceClient::new(aegis_rpc::local(IdentityServiceServer::new(self.clone())))
    }

    pub(crate) fn background(&self) -> Background {
        let token = || Box::pin(async { Ok(("the service's own".to_owned(), Duration::from_secs(300))) }) as _;
        Background::new(Arc::new(token))
    }
}

fn is_own<T>(request: &Request<T>) {
    assert_eq!(request.metadata().get("authorization").unwrap(), "Bearer the service's own");
}

macro_rules! absent {
    ($($method:ident($request:ident) -> $answer:ident;)*) => {
        #[tonic::async_trait]
        impl IdentityService for Users {
            async fn get_user(&self, request: Request<GetUserRequest>) -> Result<Response<GetUserResponse>, Status> {
                is_own(&request);
                let id = request.into_inner().id;
                let fate = self.0.lock().unwrap().get(&id).copied();
                if fate == Some(Fate::Deleted) {
                    return Err(Failure::not_found("user", id).into());
                }
                let user = User { id, is_active: fate.is_none(), ..User::default() };
                Ok(Response::new(GetUserResponse { user: Some(user) }))
            }

            async fn sign_document(
                &self,
                request: Request<SignDocumentRequest>,
            ) -> Result<Response<SignDocumentResponse>, Status> {
                is_own(&request);
                let SignDocumentRequest { payload, kind } = request.into_inner();
                let header = json!({ "alg": "EdDSA", "kid": "tests", "typ": kind }).to_string();
                let protected = URL_SAFE_NO_PAD.encode(header);
                let message = format!("{protected}.{}", URL_SAFE_NO_PAD.encode(payload));
                let signature = URL_SAFE_NO_PAD.encode(key().sign(message.as_bytes()).to_bytes());
                let x = URL_SAFE_NO_PAD.encode(key().verifying_key().to_bytes());
                let jwk_json = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "tests", "x": x }).to_string();
                Ok(Response::new(SignDocumentResponse { protected, signature, jwk_json }))
            }

            $(async fn $method(&self, _: Request<$request>) -> Result<Response<$answer>, Status> {
                Err(Status::unimplemented("not in this stand-in"))
            })*
        }
    };
}

absent! {
    login(LoginRequest) -> LoginResponse;
    logout(LogoutRequest) -> LogoutResponse;
    get_me(GetMeRequest) -> GetMeResponse;
    change_password(ChangePasswordRequest) -> ChangePasswordResponse;
    list_users(ListUsersRequest) -> ListUsersResponse;
    create_user(CreateUserRequest) -> CreateUserResponse;
    update_user(UpdateUserRequest) -> UpdateUserResponse;
    delete_user(DeleteUserRequest) -> DeleteUserResponse;
    create_stream_ticket(CreateStreamTicketRequest) -> CreateStreamTicketResponse;
    redeem_stream_ticket(RedeemStreamTicketRequest) -> RedeemStreamTicketResponse;
    resolve_api_key(ResolveApiKeyRequest) -> ResolveApiKeyResponse;
    get_jwks(GetJwksRequest) -> GetJwksResponse;
    list_revocations(ListRevocationsRequest) -> ListRevocationsResponse;
    issue_service_token(IssueServiceTokenRequest) -> IssueServiceTokenResponse;
}
