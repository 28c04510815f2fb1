//! A stand-in for identity: everybody is let in but two, and it knows nothing else.

use std::{sync::Arc, time::Duration};

use aegis_auth::Background;
use aegis_error::Failure;
use aegis_proto::identity::v1::{
    identity_service_client::IdentityServiceClient,
    identity_service_server::{IdentityService, IdentityServiceServer},
    *,
};
use aegis_rpc::RpcService;
use tonic::{Request, Response, Status};

/// The name of one who may no longer sign in.
pub const DISABLED: &str = "dora";
/// The name of one who was deleted.
pub const DELETED: &str = "dirk";

struct Users;

pub fn client() -> IdentityServiceClient<RpcService> {
    IdentityServiceClient::new(aegis_rpc::local(IdentityServiceServer::new(Users)))
}

pub fn background() -> Background {
    let token = || Box::pin(async { Ok(("the service's own".to_owned(), Duration::from_secs(300))) }) as _;
    Background::new(Arc::new(token))
}

macro_rules! absent {
    ($($method:ident($request:ident) -> $answer:ident;)*) => {
        #[tonic::async_trait]
        impl IdentityService for Users {
            async fn get_user(&self, request: Request<GetUserRequest>) -> Result<Response<GetUserResponse>, Status> {
                assert_eq!(request.metadata().get("authorization").unwrap(), "Bearer the service's own");
                let id = request.into_inner().id;
                if id == aegis_testkit::user_id(DELETED).to_string() {
                    return Err(Failure::not_found("user", id).into());
                }
                let is_active = id != aegis_testkit::user_id(DISABLED).to_string();
                Ok(Response::new(GetUserResponse { user: Some(User { id, is_active, ..User::default() }) }))
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
    sign_document(SignDocumentRequest) -> SignDocumentResponse;
}
