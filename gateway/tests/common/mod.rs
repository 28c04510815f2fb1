//! A gateway over services that are not there, for what the gateway does by itself.
#![allow(dead_code)] // each test uses a part
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking, also in its helpers

pub mod recorder;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use aegis_auth::{AUDIENCE, Claims, ISSUER, KeySource, News, Principal, Role, Verifier};
use aegis_error::{Code, Failure};
use aegis_gateway::{Config, Deps};
use aegis_proto::{
    analytics::v1::{
        analytics_service_client::AnalyticsServiceClient, compliance_service_client::ComplianceServiceClient,
        operational_service_client::OperationalServiceClient, score_service_client::ScoreServiceClient,
        snapshot_service_client::SnapshotServiceClient,
    },
    catalog::v1::{
        catalog_service_client::CatalogServiceClient, knowledge_service_client::KnowledgeServiceClient,
        template_service_client::TemplateServiceClient,
    },
    deception::v1::{
        alert_service_client::AlertServiceClient, attacker_service_client::AttackerServiceClient,
        fleet_service_client::FleetServiceClient, fleet_settings_service_client::FleetSettingsServiceClient,
        intake_service_client::IntakeServiceClient, log_service_client::LogServiceClient,
        observation_service_client::ObservationServiceClient,
    },
    evidence::v1::evidence_service_client::EvidenceServiceClient,
    identity::v1::{
        api_key_service_client::ApiKeyServiceClient, audit_service_client::AuditServiceClient,
        identity_service_client::IdentityServiceClient, notification_service_client::NotificationServiceClient,
    },
    intel::v1::{
        intel_service_client::IntelServiceClient, scan_service_client::ScanServiceClient,
        scheduler_service_client::SchedulerServiceClient, upload_service_client::UploadServiceClient,
    },
    testing::v1::{campaign_service_client::CampaignServiceClient, testing_service_client::TestingServiceClient},
};
use aegis_rpc::RpcService;
use aegis_runtime::{Check, Readiness, Shutdown};
use axum::{Router, body::Body, extract::ConnectInfo};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::Utc;
use ed25519_dalek::{SigningKey, pkcs8::EncodePrivateKey};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tonic::Status;
use tower::{ServiceExt, service_fn, util::BoxCloneSyncService};
use uuid::Uuid;

/// The path of a method that panics, one that never answers, one that refuses; every other is unavailable.
const PANICS: &str = "/aegis.identity.v1.IdentityService/GetMe";
const HANGS: &str = "/aegis.identity.v1.IdentityService/ListUsers";
const REFUSES: &str = "/aegis.catalog.v1.CatalogService/ListTactics";

/// Gateway and what reached the services.
pub struct Fixture {
    pub router: Router,
    pub calls: Arc<Mutex<Vec<(String, HeaderMap)>>>,
    key: EncodingKey,
}

struct Keys(String);

#[async_trait::async_trait]
impl KeySource for Keys {
    async fn jwks(&self) -> Result<String, Failure> {
        Ok(self.0.clone())
    }

    async fn news(&self, after: i64) -> Result<News, Failure> {
        Ok(News { cursor: after, ..News::default() })
    }

    async fn api_key(&self, _: &str) -> Result<Principal, Failure> {
        Err(Failure::new(Code::Unauthenticated, "no such key"))
    }
}

/// An answer, read to its end.
pub struct Got {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Got {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("no JSON: {}", String::from_utf8_lossy(&self.body)))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The fields that a validation error names.
    pub fn fields(&self) -> Vec<String> {
        assert_eq!(self.json()["code"], "VALIDATION_ERROR", "{}", self.json());
        let errors = self.json()["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().map(|error| error["field"].as_str().unwrap().to_owned()).collect()
    }
}

impl Fixture {
    pub fn new() -> Fixture {
        Fixture::with(Config { request_timeout: Duration::from_millis(300), ..Config::default() }, None)
    }

    pub fn with(config: Config, evidence: Option<RpcService>) -> Fixture {
        Fixture::over(config, evidence, None)
    }

    /// Over a service for tests, campaigns, what is known, all figures and the decoys that answers.
    pub fn of_tests(testing: RpcService) -> Fixture {
        Fixture::over(Config::default(), None, Some(testing))
    }

    /// Over services that answer, where they are given: for evidence, and for all that [`Fixture::of_tests`] names.
    pub fn over(config: Config, evidence: Option<RpcService>, testing: Option<RpcService>) -> Fixture {
        let secret = SigningKey::from_bytes(&[7; 32]);
        let public = BASE64_URL_SAFE_NO_PAD.encode(secret.verifying_key().as_bytes());
        let jwks = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k", "alg": "EdDSA", "x": public}]});
        let calls: Arc<Mutex<Vec<(String, HeaderMap)>>> = Arc::default();
        let log = Arc::clone(&calls);
        let service: RpcService = BoxCloneSyncService::new(service_fn(move |request: Request<tonic::body::Body>| {
            let path = request.uri().path().to_owned();
            log.lock().unwrap().push((path.clone(), request.headers().clone()));
            async move {
                match path.as_str() {
                    PANICS => panic!("on purpose"),
                    HANGS => std::future::pending().await,
                    REFUSES => {
                        let failure = Failure::invalid("domain", "must be something else");
                        Ok::<Response<_>, Status>(Status::from(failure).into_http())
                    }
                    _ => Err(Status::unavailable("nobody is there")),
                }
            }
        }));
        let shutdown = Shutdown::new();
        let checks = vec![Check::new("catalog", || async { Err("does not answer".to_owned()) })];
        let router = aegis_gateway::router(Deps {
            identity: IdentityServiceClient::new(service.clone()),
            api_keys: ApiKeyServiceClient::new(service.clone()),
            notifications: NotificationServiceClient::new(service.clone()),
            audit: AuditServiceClient::new(service.clone()),
            catalog: CatalogServiceClient::new(service.clone()),
            templates: TemplateServiceClient::new(service.clone()),
            knowledge: KnowledgeServiceClient::new(testing.clone().unwrap_or_else(|| service.clone())),
            testing: TestingServiceClient::new(testing.clone().unwrap_or_else(|| service.clone())),
            campaigns: CampaignServiceClient::new(testing.clone().unwrap_or_else(|| service.clone())),
            evidence: EvidenceServiceClient::new(evidence.unwrap_or_else(|| service.clone())),
            intel: IntelServiceClient::new(service.clone()),
            uploads: UploadServiceClient::new(service.clone()),
            scheduler: SchedulerServiceClient::new(service.clone()),
            scan: ScanServiceClient::new(service.clone()),
            analytics: AnalyticsServiceClient::new(testing.clone().unwrap_or_else(|| service.clone())),
            scores: ScoreServiceClient::new(testing.clone().unwrap_or_else(|| service.clone())),
            snapshots: SnapshotServiceClient::new(testing.clone().unwrap_or_else(|| service.clone())),
            compliance: ComplianceServiceClient::new(testing.clone().unwrap_or_else(|| service.clone())),
            operational: OperationalServiceClient::new(testing.clone().unwrap_or_else(|| service.clone())),
            fleet: FleetSettingsServiceClient::new(testing.clone().unwrap_or_else(|| service.clone())),
            deckies: FleetServiceClient::new(testing.clone().unwrap_or_else(|| service.clone())),
            logs: LogServiceClient::new(testing.clone().unwrap_or_else(|| service.clone())),
            intake: IntakeServiceClient::new(testing.clone().unwrap_or_else(|| service.clone())),
            attackers: AttackerServiceClient::new(testing.clone().unwrap_or_else(|| service.clone())),
            observations: ObservationServiceClient::new(testing.clone().unwrap_or_else(|| service.clone())),
            alerts: AlertServiceClient::new(testing.unwrap_or(service)),
            verifier: Verifier::new(Arc::new(Keys(jwks.to_string()))),
            stop: shutdown.token(),
            readiness: Readiness::new(shutdown, checks),
            config,
        });
        let key = EncodingKey::from_ed_der(secret.to_pkcs8_der().unwrap().as_bytes());
        Fixture { router, calls, key }
    }

    pub fn token(&self) -> String {
        self.token_of(Role::Admin)
    }

    pub fn token_of(&self, role: Role) -> String {
        let now = Utc::now().timestamp();
        let claims = Claims {
            iss: ISSUER.into(),
            aud: AUDIENCE.into(),
            sub: Uuid::now_v7(),
            name: "ana".into(),
            role,
            jti: Uuid::now_v7(),
            iat: now,
            exp: now + 600,
            epoch: 1,
            pwd: false,
        };
        let header = Header { kid: Some("k".into()), ..Header::new(Algorithm::EdDSA) };
        jsonwebtoken::encode(&header, &claims, &self.key).unwrap()
    }

    /// A request with a good token.
    pub fn signed(&self, method: &str, path: &str) -> http::request::Builder {
        request(method, path).header("authorization", format!("Bearer {}", self.token()))
    }

    pub async fn send(&self, request: Request<Body>) -> Got {
        let (head, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Got { status: head.status, headers: head.headers, body }
    }

    pub async fn post(&self, path: &str, body: &str) -> Got {
        self.with_body("POST", path, body).await
    }

    pub async fn put(&self, path: &str, body: &str) -> Got {
        self.with_body("PUT", path, body).await
    }

    pub async fn patch(&self, path: &str, body: &str) -> Got {
        self.with_body("PATCH", path, body).await
    }

    pub async fn delete(&self, path: &str) -> Got {
        self.send(self.signed("DELETE", path).body(Body::empty()).unwrap()).await
    }

    async fn with_body(&self, method: &str, path: &str, body: &str) -> Got {
        let request = self.signed(method, path).header("content-type", "application/json");
        self.send(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    pub async fn get(&self, path: &str) -> Got {
        self.send(self.signed("GET", path).body(Body::empty()).unwrap()).await
    }
}

pub fn request(method: &str, path: &str) -> http::request::Builder {
    let peer: SocketAddr = "192.0.2.7:4711".parse().unwrap();
    Request::builder().method(method).uri(path).extension(ConnectInfo(peer))
}
