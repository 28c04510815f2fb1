//! The service as its callers see it: behind its authentication layer, over gRPC.

use aegis_auth::AuthLayer;
use aegis_proto::identity::v1::{
    ChangePasswordRequest, CountUnreadRequest, GetJwksRequest, GetMeRequest, ListAuditLogsRequest,
    ListRevocationsRequest, ListUsersRequest, LoginRequest, LogoutRequest, audit_service_client::AuditServiceClient,
    identity_service_client::IdentityServiceClient, notification_service_client::NotificationServiceClient,
};
use aegis_rpc::{RpcService, local};
use aegis_runtime::Shutdown;
use secrecy::ExposeSecret;
use tonic::{Request, Status};
use tower::Layer;

use crate::{Built, Deps, PUBLIC_METHODS, build};

use aegis_auth::Revocation;

use super::*;

fn with<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

fn code<T: std::fmt::Debug>(result: Result<T, Status>) -> Code {
    Failure::from(result.unwrap_err()).code()
}

/// A verifier as another service has it.
struct Remote(IdentityServiceClient<RpcService>);

#[async_trait]
impl KeySource for Remote {
    async fn jwks(&self) -> Result<String, Failure> {
        Ok(self.0.clone().get_jwks(GetJwksRequest {}).await?.into_inner().jwks_json)
    }

    async fn news(&self, after: i64) -> Result<News, Failure> {
        let answer = self.0.clone().list_revocations(ListRevocationsRequest { after }).await?.into_inner();
        let revocations = answer.revocations.into_iter().map(|r| {
            let expires_at = r.expires_at.unwrap();
            let expires_at = chrono::DateTime::from_timestamp(expires_at.seconds, 0).unwrap();
            match r.jti.parse() {
                Ok(jti) => Revocation::Token { jti, expires_at },
                Err(_) => Revocation::User { user_id: r.user_id.parse().unwrap(), min_epoch: r.min_epoch, expires_at },
            }
        });
        Ok(News { revocations: revocations.collect(), cursor: answer.cursor, key_ids: answer.key_ids })
    }

    async fn api_key(&self, _: &str) -> Result<Principal, Failure> {
        Err(Failure::unavailable("no keys here"))
    }
}

#[tokio::test]
async fn a_newcomer_signs_in_changes_the_password_and_works() {
    for home in fresh().await {
        println!("on {}", home.name);
        let deps = Deps {
            db: home.db.clone(),
            bus: Bus::local(),
            cache: Cache::memory(),
            config: Config { admin_password: None, ..config() },
        };
        let Built { service, initial_password } = build(deps).await.unwrap();
        let initial = initial_password.unwrap().expose_secret().to_owned();
        let shutdown = Shutdown::new();
        for task in service.tasks {
            task.spawn(&shutdown);
        }
        // The verifier's own calls need no token, so it can stand behind the layer that it serves.
        let routes = service.routes.prepare();
        let unverified = Verifier::new(Arc::new(Nothing));
        let plain = local(AuthLayer::new(unverified, PUBLIC_METHODS).layer(routes.clone()));
        let verifier = Verifier::new(Arc::new(Remote(IdentityServiceClient::new(plain))));
        let edge = local(AuthLayer::new(verifier.clone(), PUBLIC_METHODS).layer(routes));
        let mut identity = IdentityServiceClient::new(edge.clone());
        let mut notifications = NotificationServiceClient::new(edge.clone());
        let mut audit = AuditServiceClient::new(edge);

        let login = |password: &str| LoginRequest { username: "admin".into(), password: password.into() };
        assert_eq!(code(identity.get_me(GetMeRequest {}).await), Code::Unauthenticated);
        let answer = identity.login(login(&initial)).await.unwrap().into_inner();
        assert!(answer.must_change_password);
        assert_eq!(answer.expires_in, 12 * 60 * 60);
        let token = answer.access_token;

        let me = identity.get_me(with(&token, GetMeRequest {})).await.unwrap().into_inner().user.unwrap();
        assert_eq!((me.username.as_str(), me.role.as_str()), ("admin", "admin"));
        let list = || ListUsersRequest::default();
        assert_eq!(code(identity.list_users(with(&token, list())).await), Code::PasswordChangeRequired);
        assert_eq!(
            code(notifications.count_unread(with(&token, CountUnreadRequest {})).await),
            Code::PasswordChangeRequired
        );
        let change = ChangePasswordRequest { old_password: initial, new_password: PASSWORD.into() };
        identity.change_password(with(&token, change)).await.unwrap();
        verifier.refresh().await.unwrap();
        assert_eq!(code(identity.list_users(with(&token, list())).await), Code::Unauthenticated);

        let token = identity.login(login(PASSWORD)).await.unwrap().into_inner().access_token;
        let users = identity.list_users(with(&token, list())).await.unwrap().into_inner();
        assert_eq!((users.users.len(), users.total_size), (1, 1));
        identity.logout(with(&token, LogoutRequest {})).await.unwrap();
        verifier.refresh().await.unwrap();
        assert_eq!(code(identity.get_me(with(&token, GetMeRequest {})).await), Code::Unauthenticated);

        // A stale token is no obstacle to signing in again.
        let token = identity.login(with(&token, login(PASSWORD))).await.unwrap().into_inner().access_token;
        let expected = [
            "login",
            "logout",
            "login",
            "change_password",
            "access_denied",
            "access_denied",
            "login",
            "create_user",
            "create_signing_key",
        ];
        let mut actions = Vec::new();
        while actions.len() < expected.len() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            let records = audit.list_audit_logs(with(&token, ListAuditLogsRequest::default())).await.unwrap();
            actions = records.into_inner().items.into_iter().map(|item| item.action).collect();
        }
        assert_eq!(actions, expected);
        for check in service.readiness {
            assert_eq!((check.probe)().await, Ok(()));
        }
        assert!(shutdown.drain(std::time::Duration::from_secs(20)).await);
        home.close().await;
    }
}

/// For callers of public methods alone.
struct Nothing;

#[async_trait]
impl KeySource for Nothing {
    async fn jwks(&self) -> Result<String, Failure> {
        Err(Failure::unavailable("nothing"))
    }

    async fn news(&self, _: i64) -> Result<News, Failure> {
        Err(Failure::unavailable("nothing"))
    }

    async fn api_key(&self, _: &str) -> Result<Principal, Failure> {
        Err(Failure::unavailable("nothing"))
    }
}

#[tokio::test]
async fn bad_settings_are_named_all_at_once() {
    let home = fresh().await.remove(0);
    let config = Config {
        service_secret: "short".into(),
        password_min_length: 4,
        hashing_workers: 0,
        token_lifetime: std::time::Duration::ZERO,
        ..config()
    };
    let deps = Deps { db: home.db.clone(), bus: Bus::local(), cache: Cache::memory(), config };
    let refused = failure(build(deps).await);
    assert_eq!(refused.fields().len(), 4, "{refused}");
    assert!(!format!("{refused:?}").contains("\"short\""));
}
