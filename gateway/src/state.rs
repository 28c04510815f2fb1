//! What the handlers share.

use std::{ops::Deref, sync::Arc, time::Duration};

use aegis_auth::Verifier;
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
use aegis_rpc::{MAX_MESSAGE, RpcService};
use aegis_runtime::Readiness;
use tokio_util::sync::CancellationToken;

use crate::{hot::Hot, routes::deception::Live};

/// What the gateway stands on.
pub struct Deps {
    /// Users and tokens.
    pub identity: IdentityServiceClient<RpcService>,
    /// API keys.
    pub api_keys: ApiKeyServiceClient<RpcService>,
    /// Notifications.
    pub notifications: NotificationServiceClient<RpcService>,
    /// The audit trail.
    pub audit: AuditServiceClient<RpcService>,
    /// Techniques and tactics.
    pub catalog: CatalogServiceClient<RpcService>,
    /// Test templates.
    pub templates: TemplateServiceClient<RpcService>,
    /// What is known of techniques.
    pub knowledge: KnowledgeServiceClient<RpcService>,
    /// Tests.
    pub testing: TestingServiceClient<RpcService>,
    /// Campaigns of tests.
    pub campaigns: CampaignServiceClient<RpcService>,
    /// Evidence files.
    pub evidence: EvidenceServiceClient<RpcService>,
    /// Data sources and their syncs.
    pub intel: IntelServiceClient<RpcService>,
    /// Files of rules and templates.
    pub uploads: UploadServiceClient<RpcService>,
    /// What runs by itself.
    pub scheduler: SchedulerServiceClient<RpcService>,
    /// What is new in the world.
    pub scan: ScanServiceClient<RpcService>,
    /// Coverage figures.
    pub analytics: AnalyticsServiceClient<RpcService>,
    /// Scores and their weights.
    pub scores: ScoreServiceClient<RpcService>,
    /// Coverage as it was.
    pub snapshots: SnapshotServiceClient<RpcService>,
    /// Controls of frameworks.
    pub compliance: ComplianceServiceClient<RpcService>,
    /// Figures over tests.
    pub operational: OperationalServiceClient<RpcService>,
    /// What holds for the fleet of decoys.
    pub fleet: FleetSettingsServiceClient<RpcService>,
    /// The deckies and what hosts them.
    pub deckies: FleetServiceClient<RpcService>,
    /// What happens on decoys.
    pub logs: LogServiceClient<RpcService>,
    /// Where events of others come in.
    pub intake: IntakeServiceClient<RpcService>,
    /// Who touches decoys.
    pub attackers: AttackerServiceClient<RpcService>,
    /// What techniques they show.
    pub observations: ObservationServiceClient<RpcService>,
    /// What somebody should hear of.
    pub alerts: AlertServiceClient<RpcService>,
    /// Verifies bearers.
    pub verifier: Verifier,
    /// Answers `/health`.
    pub readiness: Readiness,
    /// Cancelled when the process is to stop: streams that are open end then.
    pub stop: CancellationToken,
    /// Limits.
    pub config: Config,
}

/// Limits of the gateway.
#[derive(Clone, Debug)]
pub struct Config {
    /// Largest JSON or form body, bytes.
    pub max_json_bytes: usize,
    /// Largest multipart body of an upload, bytes; a little more than the largest file.
    pub max_upload_bytes: u64,
    /// How long a request may take that is neither an upload nor a sync.
    pub request_timeout: Duration,
    /// Behind one reverse proxy of ours: `X-Forwarded-For` and `X-Forwarded-Proto` are honoured.
    pub trust_proxy: bool,
    /// Where clients reach the gateway, for absolute links; the request's own host without.
    pub public_url: Option<String>,
    /// Developer mode: administrators are told of it in `GET /config`.
    pub developer: bool,
    /// Names under which the product may be asked, besides addresses and localhost; any without.
    pub hosts: Option<Vec<String>>,
    /// Origins whose pages may use the API from a browser.
    pub cors_origins: Vec<String>,
    /// Browsers reach the product over TLS, and are to do so for ever.
    pub https: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            max_json_bytes: 1024 * 1024,
            max_upload_bytes: 1024 * 1024 * 1024 + 1024 * 1024,
            request_timeout: Duration::from_secs(30),
            trust_proxy: false,
            public_url: None,
            developer: false,
            hosts: None,
            cors_origins: Vec::new(),
            https: false,
        }
    }
}

/// The state of every handler. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Gateway(Arc<Shared>);

/// See [`Gateway`].
pub(crate) struct Shared {
    pub deps: Deps,
    pub hot: Hot,
    /// Events for all who watch them.
    pub live: Live,
}

impl Gateway {
    pub fn new(mut deps: Deps) -> Self {
        deps.identity = deps.identity.max_decoding_message_size(MAX_MESSAGE);
        deps.api_keys = deps.api_keys.max_decoding_message_size(MAX_MESSAGE);
        deps.notifications = deps.notifications.max_decoding_message_size(MAX_MESSAGE);
        deps.audit = deps.audit.max_decoding_message_size(MAX_MESSAGE);
        deps.catalog = deps.catalog.max_decoding_message_size(MAX_MESSAGE);
        deps.templates = deps.templates.max_decoding_message_size(MAX_MESSAGE);
        deps.knowledge = deps.knowledge.max_decoding_message_size(MAX_MESSAGE);
        deps.testing = deps.testing.max_decoding_message_size(MAX_MESSAGE);
        deps.campaigns = deps.campaigns.max_decoding_message_size(MAX_MESSAGE);
        deps.evidence = deps.evidence.max_decoding_message_size(MAX_MESSAGE);
        deps.intel = deps.intel.max_decoding_message_size(MAX_MESSAGE);
        deps.uploads = deps.uploads.max_decoding_message_size(MAX_MESSAGE);
        deps.scheduler = deps.scheduler.max_decoding_message_size(MAX_MESSAGE);
        deps.scan = deps.scan.max_decoding_message_size(MAX_MESSAGE);
        deps.analytics = deps.analytics.max_decoding_message_size(MAX_MESSAGE);
        deps.scores = deps.scores.max_decoding_message_size(MAX_MESSAGE);
        deps.snapshots = deps.snapshots.max_decoding_message_size(MAX_MESSAGE);
        deps.compliance = deps.compliance.max_decoding_message_size(MAX_MESSAGE);
        deps.operational = deps.operational.max_decoding_message_size(MAX_MESSAGE);
        deps.fleet = deps.fleet.max_decoding_message_size(MAX_MESSAGE);
        deps.deckies = deps.deckies.max_decoding_message_size(MAX_MESSAGE);
        deps.logs = deps.logs.max_decoding_message_size(MAX_MESSAGE);
        deps.intake = deps.intake.max_decoding_message_size(MAX_MESSAGE);
        deps.attackers = deps.attackers.max_decoding_message_size(MAX_MESSAGE);
        deps.observations = deps.observations.max_decoding_message_size(MAX_MESSAGE);
        deps.alerts = deps.alerts.max_decoding_message_size(MAX_MESSAGE);
        Gateway(Arc::new(Shared { deps, hot: Hot::default(), live: Live::default() }))
    }

    /// Takes over what was revoked just now, so that it holds at this gateway when the request is answered. The
    /// others ask twice a second.
    pub async fn refresh_revocations(&self) {
        if let Err(failure) = self.deps.verifier.refresh().await {
            tracing::warn!(%failure, "identity does not say what was revoked; the next round will");
        }
    }
}

impl Deref for Gateway {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}
