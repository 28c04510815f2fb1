//! Puts the roles of this process together: databases, bus, services, clients, and the one address they answer on.

use std::{collections::HashMap, future::Future, time::Duration};

use aegis_auth::{AuthLayer, Background, Verifier};
use aegis_blob::Blobs;
use aegis_cache::Cache;
use aegis_db::Db;
use aegis_error::Failure;
use aegis_events::{Bus, IdempotencyLayer};
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
use aegis_rpc::{ClientTls, MAX_MESSAGE, RpcService};
use aegis_runtime::{Check, Readiness, Service, Shutdown, Task};
use aegis_telemetry::CallMetricsLayer;
use anyhow::{Context, Result};
use axum::Router;
use secrecy::{ExposeSecret, SecretString};
use tonic::service::Routes;
use tower::Layer;

use crate::{
    commands::migrate,
    edge, figures,
    keys::{Identity, Tokens},
    roles::Role,
    settings::Settings,
    stores,
    tls::Tls,
};

/// How often a process asks identity what no longer holds.
const REVOCATION_POLL: Duration = Duration::from_millis(500);

/// The roles of this process, running but not listening.
pub struct Product {
    /// REST, pages, gRPC, probes and metrics.
    pub router: Router,
    /// What a sensor calls, and nothing else.
    pub door: Router,
    /// Ends all background work.
    pub shutdown: Shutdown,
    /// The generated password of `admin`, at the very first start.
    pub initial_password: Option<SecretString>,
    /// The clients, for commands that run in this process.
    pub clients: Clients,
    /// Contexts for work on behalf of the command line.
    pub background: Background,
    /// Tokens for the sensor.
    pub tokens: Tokens,
    databases: Vec<Db>,
}

/// How each service is reached from this process.
#[derive(Clone, Default)]
pub struct Clients(HashMap<&'static str, RpcService>);

impl Clients {
    /// Clients for services of other processes.
    pub fn remote(urls: &[(Role, &str, &ClientTls)]) -> Result<Clients> {
        let mut clients = Clients::default();
        for (role, url, tls) in urls {
            let service = aegis_rpc::remote_over(url, tls)
                .with_context(|| format!("the address of {role} cannot be read: {url}"))?;
            clients.0.insert(role.as_str(), service);
        }
        Ok(clients)
    }

    fn service(&self, role: Role) -> Result<RpcService> {
        self.0.get(role.as_str()).cloned().with_context(|| format!("{role} was not built before it was needed"))
    }

    /// Users and tokens.
    pub fn identity(&self) -> Result<IdentityServiceClient<RpcService>> {
        Ok(IdentityServiceClient::new(self.service(Role::Identity)?))
    }

    /// Techniques.
    pub fn catalog(&self) -> Result<CatalogServiceClient<RpcService>> {
        Ok(CatalogServiceClient::new(self.service(Role::Catalog)?).max_decoding_message_size(MAX_MESSAGE))
    }

    /// Tests.
    pub fn testing(&self) -> Result<TestingServiceClient<RpcService>> {
        Ok(TestingServiceClient::new(self.service(Role::Testing)?).max_decoding_message_size(MAX_MESSAGE))
    }

    /// Data sources and syncs.
    pub fn intel(&self) -> Result<IntelServiceClient<RpcService>> {
        Ok(IntelServiceClient::new(self.service(Role::Intel)?))
    }

    /// Coverage.
    pub fn analytics(&self) -> Result<AnalyticsServiceClient<RpcService>> {
        Ok(AnalyticsServiceClient::new(self.service(Role::Analytics)?).max_decoding_message_size(MAX_MESSAGE))
    }
}

/// What is being put together.
struct Builder<'a> {
    settings: &'a Settings,
    secret: SecretString,
    bus: Bus,
    identity: Identity,
    verifier: Verifier,
    shutdown: Shutdown,
    clients: Clients,
    grpc: Vec<(&'static str, RpcService)>,
    tasks: Vec<Task>,
    checks: Vec<Check>,
    databases: HashMap<Role, Db>,
}

impl Product {
    /// Builds and starts the roles, which reach others over `tls`. Databases are brought up to date first.
    pub async fn start(settings: &Settings, roles: &[Role], tls: &Tls) -> Result<Product> {
        settings.check_roles(roles)?;
        let secret = stores::service_secret(settings)?;
        let identity = Identity::default();
        let mut builder = Builder {
            settings,
            secret: secret.clone(),
            bus: stores::bus(settings)?,
            verifier: Verifier::new(std::sync::Arc::new(identity.clone())),
            identity: identity.clone(),
            shutdown: Shutdown::new(),
            clients: Clients::default(),
            grpc: Vec::new(),
            tasks: Vec::new(),
            checks: Vec::new(),
            databases: HashMap::new(),
        };
        for role in Role::SERVICES {
            if let Some(url) = settings.peer(role).filter(|_| !roles.contains(&role)) {
                let service = aegis_rpc::remote_over(url, &tls.peers)
                    .with_context(|| format!("the address of {role} cannot be read: {url}"))?;
                builder.clients.0.insert(role.as_str(), service);
            }
        }
        let initial_password = builder.services(roles).await?;
        identity.set(builder.clients.identity()?);
        if settings.broker_url.is_some() {
            let bus = builder.bus.clone();
            // Changes go on without it: what they cause waits in the outbox.
            let ping = move || {
                let bus = bus.clone();
                async move { bus.ping().await }
            };
            builder.checks.push(check("broker", ping).optional());
        }
        builder.finish(roles, initial_password, tls.demanded)
    }

    /// Ends all background work, in good order.
    pub async fn stop(self, patience: Duration) -> bool {
        let ended = self.shutdown.drain(patience).await;
        for db in &self.databases {
            db.close().await;
        }
        ended && !self.shutdown.failed()
    }
}

impl Builder<'_> {
    async fn services(&mut self, roles: &[Role]) -> Result<Option<SecretString>> {
        let settings = self.settings;
        let mut initial_password = None;
        // In the order of who calls whom.
        if roles.contains(&Role::Identity) {
            let db = self.database(Role::Identity).await?;
            let built = aegis_identity::build(aegis_identity::Deps {
                db,
                bus: self.bus.clone(),
                cache: self.cache()?,
                config: aegis_identity::Config {
                    admin_password: settings.admin_password.clone(),
                    service_secret: self.secret.clone(),
                    token_lifetime: Duration::from_secs(u64::from(settings.token_hours) * 3600),
                    password_min_length: settings.password_min_length as usize,
                    audit_retention_days: settings.audit_retention_days,
                    login_limits: aegis_identity::LoginLimits {
                        window: Duration::from_secs(settings.login_window_seconds.into()),
                        per_username_and_address: settings.login_failures.into(),
                        per_address: settings.login_failures_per_address.into(),
                        per_username: settings.login_failures_per_username.into(),
                    },
                    notification_streams_per_user: settings.notification_streams_per_user as usize,
                    notification_streams: settings.notification_streams as usize,
                    ..aegis_identity::Config::default()
                },
            })
            .await
            .map_err(|failure| started(Role::Identity, failure))?;
            initial_password = built.initial_password;
            self.add(Role::Identity, built.service, aegis_identity::PUBLIC_METHODS);
        }
        if roles.contains(&Role::Catalog) {
            let db = self.database(Role::Catalog).await?;
            let service = aegis_catalog::build(aegis_catalog::Deps { db, bus: self.bus.clone() })
                .await
                .map_err(|failure| started(Role::Catalog, failure))?;
            self.add(Role::Catalog, service, aegis_catalog::PUBLIC_METHODS);
        }
        if roles.contains(&Role::Deception) {
            let db = self.database(Role::Deception).await?;
            let blobs = stores::blobs(settings)?;
            let service = aegis_deception::build(aegis_deception::Deps {
                db,
                bus: self.bus.clone(),
                blobs,
                knowledge: KnowledgeServiceClient::new(self.clients.service(Role::Catalog)?)
                    .max_decoding_message_size(MAX_MESSAGE),
                background: self.identity.background("deception", self.secret.clone()),
                config: settings.deception(),
            })
            .await
            .map_err(|failure| started(Role::Deception, failure))?;
            self.add(Role::Deception, service, aegis_deception::PUBLIC_METHODS);
        }
        if roles.contains(&Role::Testing) {
            let db = self.database(Role::Testing).await?;
            let service = aegis_testing::build(aegis_testing::Deps {
                db,
                bus: self.bus.clone(),
                catalog: self.clients.catalog()?,
                templates: TemplateServiceClient::new(self.clients.service(Role::Catalog)?),
                knowledge: KnowledgeServiceClient::new(self.clients.service(Role::Catalog)?),
                identity: self.clients.identity()?,
                background: self.identity.background("testing", self.secret.clone()),
                config: aegis_testing::Config { require_results: settings.workflow_require_results },
            })
            .await
            .map_err(|failure| started(Role::Testing, failure))?;
            self.add(Role::Testing, service, aegis_testing::PUBLIC_METHODS);
        }
        if roles.contains(&Role::Evidence) {
            let db = self.database(Role::Evidence).await?;
            let blobs = stores::blobs(settings)?;
            self.checks.push(blob_check(&blobs));
            let service = aegis_evidence::build(aegis_evidence::Deps {
                db,
                bus: self.bus.clone(),
                blobs,
                testing: self.clients.testing()?,
                identity: self.clients.identity()?,
                background: self.identity.background("evidence", self.secret.clone()),
                config: aegis_evidence::Config {
                    max_bytes: settings.max_evidence_bytes,
                    link_lifetime: Duration::from_secs(u64::from(settings.evidence_link_minutes) * 60),
                    // A key of its own: what signs links opens nothing else.
                    link_secret: format!("evidence-link:{}", self.secret.expose_secret()).into(),
                    public_path: "/api/v1/evidence".into(),
                    ..aegis_evidence::Config::default()
                },
            })
            .await
            .map_err(|failure| started(Role::Evidence, failure))?;
            self.add(Role::Evidence, service, aegis_evidence::PUBLIC_METHODS);
        }
        if roles.contains(&Role::Analytics) {
            let db = self.database(Role::Analytics).await?;
            let service = aegis_analytics::build(aegis_analytics::Deps {
                db,
                bus: self.bus.clone(),
                catalog: self.clients.catalog()?,
                knowledge: KnowledgeServiceClient::new(self.clients.service(Role::Catalog)?)
                    .max_decoding_message_size(MAX_MESSAGE),
                testing: self.clients.testing()?,
                observations: ObservationServiceClient::new(self.clients.service(Role::Deception)?),
                background: self.identity.background("analytics", self.secret.clone()),
                config: settings.analytics(),
            })
            .await
            .map_err(|failure| started(Role::Analytics, failure))?;
            self.add(Role::Analytics, service, aegis_analytics::PUBLIC_METHODS);
        }
        if roles.contains(&Role::Intel) {
            let db = self.database(Role::Intel).await?;
            let service = aegis_intel::build(aegis_intel::Deps {
                db,
                bus: self.bus.clone(),
                catalog: self.clients.catalog()?,
                knowledge: KnowledgeServiceClient::new(self.clients.service(Role::Catalog)?)
                    .max_decoding_message_size(MAX_MESSAGE),
                templates: TemplateServiceClient::new(self.clients.service(Role::Catalog)?)
                    .max_decoding_message_size(MAX_MESSAGE),
                snapshots: SnapshotServiceClient::new(self.clients.service(Role::Analytics)?),
                background: self.identity.background("intel", self.secret.clone()),
                config: settings.intel(),
            })
            .await
            .map_err(|failure| started(Role::Intel, failure))?;
            self.add(Role::Intel, service, aegis_intel::PUBLIC_METHODS);
        }
        Ok(initial_password)
    }

    async fn database(&mut self, role: Role) -> Result<Db> {
        let db = migrate::up_to_date(self.settings, role).await?;
        self.databases.insert(role, db.clone());
        figures::watch_pools(role, db.clone());
        Ok(db)
    }

    fn cache(&mut self) -> Result<Cache> {
        let cache = stores::cache(self.settings)?;
        let probe = cache.clone();
        let ping = move || {
            let cache = probe.clone();
            async move { cache.ping().await.map_err(Failure::internal) }
        };
        self.checks.push(check("cache", ping).optional());
        Ok(cache)
    }

    fn add(&mut self, role: Role, service: Service, public: &[&'static str]) {
        let wrapped = self.wrap(service.routes, public, self.databases.get(&role));
        self.clients.0.insert(role.as_str(), wrapped.clone());
        self.grpc.push((role.as_str(), wrapped));
        self.tasks.extend(service.tasks);
        self.checks.extend(service.readiness);
    }

    /// What stands around every service, in the order that a call meets it: deadline and panics, metrics,
    /// authentication, and around what changes a database its idempotency keys.
    fn wrap(&self, routes: Routes, public: &[&'static str], db: Option<&Db>) -> RpcService {
        let (calls, auth) = (CallMetricsLayer::rpc(figures::method), AuthLayer::new(self.verifier.clone(), public));
        match db {
            Some(db) => {
                let once = IdempotencyLayer::new(db.clone(), &self.secret);
                aegis_rpc::local(calls.layer(auth.layer(once.layer(routes.prepare()))))
            }
            None => aegis_rpc::local(calls.layer(auth.layer(routes.prepare()))),
        }
    }

    fn finish(mut self, roles: &[Role], initial_password: Option<SecretString>, certified: bool) -> Result<Product> {
        let readiness = Readiness::new(self.shutdown.clone(), std::mem::take(&mut self.checks));
        let (health, reflection) = edge::introspection(&self.shutdown, readiness.clone(), roles)?;
        let health = self.wrap(Routes::new(health), edge::HEALTH_METHODS, None);
        let reflection = self.wrap(reflection, &[], None);
        self.grpc.push(("health", health));
        self.grpc.push(("reflection", reflection));
        let rest = if roles.contains(&Role::Gateway) { Some(self.gateway(readiness.clone())?) } else { None };
        let hosts = self.settings.hosts().filter(|_| roles.contains(&Role::Gateway));
        let probes = aegis_gateway::guarded(edge::probes(readiness), hosts, self.settings.is_https());
        let grpc = std::mem::take(&mut self.grpc);
        let door = edge::door(&grpc);
        let router = edge::router(rest, probes, grpc, certified);

        let verifier = self.verifier.clone();
        self.shutdown.spawn("revocations", {
            let shutdown = self.shutdown.clone();
            async move {
                loop {
                    if let Err(failure) = aegis_telemetry::job("revocations", verifier.refresh()).await {
                        tracing::warn!(%failure, "identity does not say what was revoked; trying again");
                    }
                    tokio::select! {
                        () = tokio::time::sleep(REVOCATION_POLL) => {}
                        () = shutdown.cancelled() => return,
                    }
                }
            }
        });
        for task in self.tasks {
            task.spawn(&self.shutdown);
        }
        Ok(Product {
            router,
            door,
            shutdown: self.shutdown,
            initial_password,
            background: self.identity.background("cli", self.secret.clone()),
            tokens: self.identity.tokens("sensor", self.secret.clone()),
            clients: self.clients,
            databases: self.databases.into_values().collect(),
        })
    }

    fn gateway(&self, readiness: Readiness) -> Result<Router> {
        let identity = self.clients.service(Role::Identity)?;
        let deception = self.clients.service(Role::Deception)?;
        Ok(aegis_gateway::router(aegis_gateway::Deps {
            identity: IdentityServiceClient::new(identity.clone()),
            api_keys: ApiKeyServiceClient::new(identity.clone()),
            notifications: NotificationServiceClient::new(identity.clone()),
            audit: AuditServiceClient::new(identity),
            catalog: self.clients.catalog()?,
            templates: TemplateServiceClient::new(self.clients.service(Role::Catalog)?)
                .max_decoding_message_size(MAX_MESSAGE),
            knowledge: KnowledgeServiceClient::new(self.clients.service(Role::Catalog)?),
            testing: self.clients.testing()?,
            campaigns: CampaignServiceClient::new(self.clients.service(Role::Testing)?),
            evidence: EvidenceServiceClient::new(self.clients.service(Role::Evidence)?),
            intel: self.clients.intel()?,
            uploads: UploadServiceClient::new(self.clients.service(Role::Intel)?),
            scheduler: SchedulerServiceClient::new(self.clients.service(Role::Intel)?),
            scan: ScanServiceClient::new(self.clients.service(Role::Intel)?),
            analytics: self.clients.analytics()?,
            scores: ScoreServiceClient::new(self.clients.service(Role::Analytics)?),
            snapshots: SnapshotServiceClient::new(self.clients.service(Role::Analytics)?),
            compliance: ComplianceServiceClient::new(self.clients.service(Role::Analytics)?),
            operational: OperationalServiceClient::new(self.clients.service(Role::Analytics)?),
            fleet: FleetSettingsServiceClient::new(deception.clone()),
            deckies: FleetServiceClient::new(deception.clone()),
            logs: LogServiceClient::new(deception.clone()),
            intake: IntakeServiceClient::new(deception.clone()),
            attackers: AttackerServiceClient::new(deception.clone()),
            observations: ObservationServiceClient::new(deception.clone()),
            alerts: AlertServiceClient::new(deception),
            verifier: self.verifier.clone(),
            readiness,
            stop: self.shutdown.token(),
            config: aegis_gateway::Config {
                max_upload_bytes: self.settings.max_evidence_bytes.saturating_add(1024 * 1024),
                trust_proxy: self.settings.trust_proxy,
                public_url: self.settings.public_url.clone(),
                hosts: self.settings.hosts(),
                cors_origins: self.settings.cors_origins.clone(),
                https: self.settings.is_https(),
                developer: self.settings.developer,
                ..aegis_gateway::Config::default()
            },
        }))
    }
}

fn started(role: Role, failure: Failure) -> anyhow::Error {
    anyhow::Error::new(failure).context(format!("{role} cannot start"))
}

fn check<F, Fut>(name: &'static str, ping: F) -> Check
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Failure>> + Send + 'static,
{
    Check::new(name, move || {
        let answer = ping();
        async move {
            answer.await.map_err(|failure| {
                tracing::warn!(%failure, name, "a dependency does not answer");
                // The page is public: it names the part, not the cause.
                "does not answer".to_owned()
            })
        }
    })
}

fn blob_check(blobs: &Blobs) -> Check {
    let blobs = blobs.clone();
    let ping = move || {
        let blobs = blobs.clone();
        async move { blobs.ping().await.map_err(Failure::internal) }
    };
    // What is known of files can be read without them.
    check("files", ping).optional()
}
