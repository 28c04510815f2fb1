//! The service, hand-written bundles, and a small web server.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use aegis_auth::{Background, OpCtx, Role};
use aegis_db::{Db, read};
use aegis_error::Failure;
use aegis_events::{Bus, Event};
use aegis_intel::{Config, Deps, build, fetch::FetchLimits};
use aegis_proto::{
    analytics::v1::snapshot_service_client::SnapshotServiceClient,
    catalog::v1::{
        catalog_service_client::CatalogServiceClient, catalog_service_server::CatalogServiceServer,
        knowledge_service_client::KnowledgeServiceClient, template_service_client::TemplateServiceClient,
        template_service_server::TemplateServiceServer,
    },
    events::v1::Envelope,
    intel::v1::{
        DataSource, GetDataSourceRequest, GetJobRequest, Job, StartSyncRequest, UpdateDataSourceRequest,
        intel_service_client::IntelServiceClient,
    },
};
use aegis_rpc::RpcService;
use aegis_runtime::Service;
use aegis_testkit::{TestDb, ctx, databases};
use prost::Message;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tonic::{body::Body, codegen::http};
use tower::ServiceExt;

pub use crate::catalog::{FakeCatalog, Server};

pub const ENTERPRISE: &str = "mitre_attack_enterprise";

/// The service on one database, with its catalog.
pub struct World {
    pub base: TestDb,
    pub catalog: Arc<FakeCatalog>,
    pub service: Service,
    pub folder: tempfile::TempDir,
}

impl World {
    /// One for every database.
    pub async fn all() -> Vec<World> {
        // Of the whole process; a second test finds it there.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut all = Vec::new();
        for base in databases("intel", &[aegis_events::migrations(), aegis_intel::migrations()]).await {
            println!("on {}", base.name);
            let catalog = Arc::new(FakeCatalog::new());
            let service = replica(&base.db, &catalog).await;
            let folder = tempfile::tempdir().unwrap();
            all.push(World { base, catalog, service, folder });
        }
        all
    }

    pub fn client(&self, role: Role) -> IntelServiceClient<RpcService> {
        client(&self.service, ctx(role, "ada"))
    }

    pub fn admin(&self) -> IntelServiceClient<RpcService> {
        self.client(Role::Admin)
    }

    /// Writes a file and gives its url.
    pub fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        file_url(&path)
    }

    pub async fn point(&self, url: &str) {
        let request = UpdateDataSourceRequest {
            id: ENTERPRISE.to_owned(),
            url: Some(url.to_owned()),
            ..UpdateDataSourceRequest::default()
        };
        self.admin().update_data_source(request).await.unwrap();
    }

    pub async fn sync(&self, url: Option<&str>) -> Result<Job, Failure> {
        start(self.admin(), true, url).await
    }

    /// A sync of any source, to its end.
    pub async fn order(&self, request: StartSyncRequest) -> Result<Job, Failure> {
        let request = StartSyncRequest { wait: true, ..request };
        let answer = self.admin().start_sync(request).await.map_err(Failure::from)?;
        Ok(answer.into_inner().job.unwrap())
    }

    pub async fn source(&self) -> DataSource {
        self.source_named(ENTERPRISE).await
    }

    pub async fn source_named(&self, name: &str) -> DataSource {
        let request = GetDataSourceRequest { id: name.to_owned() };
        let answer = self.admin().get_data_source(request).await.unwrap();
        answer.into_inner().data_source.unwrap()
    }

    pub async fn job(&self, id: &str) -> Job {
        let request = GetJobRequest { id: id.to_owned() };
        self.admin().get_job(request).await.unwrap().into_inner().job.unwrap()
    }

    /// The job after it ended.
    pub async fn ended(&self, id: &str) -> Job {
        loop {
            let job = self.job(id).await;
            if job.status != "running" {
                return job;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until the catalog has been sent so many imports.
    pub async fn imports(&self, count: usize) {
        while self.catalog.imports().len() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The events that were written, of one kind.
    pub async fn events<E: Event>(&self) -> Vec<(Envelope, E)> {
        let sql = "SELECT body FROM outbox ORDER BY seq";
        let bodies: Vec<Vec<u8>> = read!(&self.base.db, |pool| sqlx::query_scalar(sql).fetch_all(pool).await).unwrap();
        bodies
            .iter()
            .map(|body| Envelope::decode(body.as_slice()).unwrap())
            .filter(|envelope| envelope.r#type == E::KIND)
            .map(|envelope| {
                let event = E::decode(envelope.data.as_slice()).unwrap();
                (envelope, event)
            })
            .collect()
    }
}

/// Another process on the same database.
pub async fn replica(db: &Db, catalog: &Arc<FakeCatalog>) -> Service {
    replica_with(db, catalog, FetchLimits::default()).await
}

/// The same, with bounds of its own.
pub async fn replica_with(db: &Db, catalog: &Arc<FakeCatalog>, fetch: FetchLimits) -> Service {
    let server = CatalogServiceServer::new(Server(Arc::clone(catalog)));
    let server = server.max_decoding_message_size(aegis_rpc::MAX_MESSAGE);
    let templates = TemplateServiceServer::new(Server(Arc::clone(catalog)));
    build(Deps {
        db: db.clone(),
        bus: Bus::local(),
        catalog: CatalogServiceClient::new(aegis_rpc::local(server)),
        knowledge: KnowledgeServiceClient::new(aegis_rpc::remote("http://127.0.0.1:1").unwrap()),
        templates: TemplateServiceClient::new(aegis_rpc::local(templates))
            .max_decoding_message_size(aegis_rpc::MAX_MESSAGE),
        snapshots: SnapshotServiceClient::new(aegis_rpc::remote("http://127.0.0.1:1").unwrap()),
        background: Background::new(Arc::new(|| {
            Box::pin(async { Ok(("service-token".to_owned(), Duration::from_secs(300))) })
        })),
        config: Config { scheduler_enabled: false, fetch, ..Config::default() },
    })
    .await
    .unwrap()
}

/// A client that is already signed in.
pub fn client(service: &Service, ctx: OpCtx) -> IntelServiceClient<RpcService> {
    let signed_in = service.routes.clone().prepare().map_request(move |mut request: http::Request<Body>| {
        request.extensions_mut().insert(ctx.clone());
        request
    });
    IntelServiceClient::new(aegis_rpc::local(signed_in))
}

pub async fn start(mut client: IntelServiceClient<RpcService>, wait: bool, url: Option<&str>) -> Result<Job, Failure> {
    let request = StartSyncRequest {
        source_id: ENTERPRISE.to_owned(),
        wait,
        url: url.map(str::to_owned),
        ..StartSyncRequest::default()
    };
    let answer = client.start_sync(request).await.map_err(Failure::from)?;
    Ok(answer.into_inner().job.unwrap())
}

pub fn file_url(path: &Path) -> String {
    format!("file://{}", path.display())
}

pub fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn pattern(number: u32, mitre_id: &str, name: &str) -> Value {
    json!({
        "type": "attack-pattern",
        "id": format!("attack-pattern--{number}"),
        "name": name,
        "external_references": [
            {"source_name": "mitre-attack", "external_id": mitre_id, "url": format!("https://example.org/{mitre_id}")},
        ],
        "kill_chain_phases": [{"kill_chain_name": "mitre-attack", "phase_name": "execution"}],
        "x_mitre_platforms": ["Linux"],
        "x_mitre_domains": ["enterprise-attack"],
    })
}

/// Four techniques that can be read, one of them revoked, one that cannot be read, a tactic.
pub fn bundle(version: &str, name_of_the_first: &str) -> Vec<u8> {
    let mut revoked = pattern(4, "T1004", "Four");
    revoked["revoked"] = json!(true);
    let objects = json!([
        {
            "type": "x-mitre-collection", "id": "x-mitre-collection--1", "name": "Enterprise ATT&CK",
            "x_mitre_version": version,
        },
        {
            "type": "x-mitre-tactic", "id": "x-mitre-tactic--1", "name": "Execution", "x_mitre_shortname": "execution",
            "external_references": [{"source_name": "mitre-attack", "external_id": "TA0002"}],
        },
        {"type": "x-mitre-matrix", "id": "x-mitre-matrix--1", "name": "Enterprise ATT&CK", "tactic_refs": ["x-mitre-tactic--1"]},
        pattern(1, "T1001", name_of_the_first),
        pattern(2, "T1002", "Two"),
        pattern(3, "T1002.001", "Three"),
        revoked,
        {
            "type": "relationship", "id": "relationship--1", "relationship_type": "revoked-by",
            "source_ref": "attack-pattern--4", "target_ref": "attack-pattern--2",
        },
        pattern(5, "T1x", "Five"),
    ]);
    json!({"type": "bundle", "id": "bundle--1", "objects": objects}).to_string().into_bytes()
}

/// Serves one document under one ETag, and 304 to whoever has it; counts both.
pub struct WebServer {
    pub url: String,
    pub answers: Arc<Mutex<Vec<&'static str>>>,
}

impl WebServer {
    pub async fn start(document: Vec<u8>) -> WebServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/enterprise-attack.json", listener.local_addr().unwrap());
        let answers = Arc::new(Mutex::new(Vec::new()));
        let given = Arc::clone(&answers);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else {
                        break;
                    };
                    request.push(byte);
                }
                let request = String::from_utf8(request).unwrap().to_ascii_lowercase();
                let (status, body) = match request.contains("if-none-match: \"one\"") {
                    true => ("304 Not Modified", &[][..]),
                    false => ("200 OK", document.as_slice()),
                };
                given.lock().unwrap().push(status);
                let head = format!(
                    "HTTP/1.1 {status}\r\nConnection: close\r\nETag: \"one\"\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(head.as_bytes()).await;
                let _ = stream.write_all(body).await;
                let _ = stream.shutdown().await;
            }
        });
        WebServer { url, answers }
    }

    pub fn answers(&self) -> Vec<&'static str> {
        self.answers.lock().unwrap().clone()
    }
}
