//! What tests of the scan stand on: a catalog of a few names, the service, and a web server with feeds.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use aegis_auth::{Background, Role};
use aegis_db::{Db, read};
use aegis_error::Failure;
use aegis_events::Bus;
use aegis_intel::{Config, Deps, build};
use aegis_proto::{
    analytics::v1::snapshot_service_client::SnapshotServiceClient,
    catalog::v1::{
        self as catalog, Name,
        catalog_service_client::CatalogServiceClient,
        knowledge_service_client::KnowledgeServiceClient,
        knowledge_service_server::{KnowledgeService, KnowledgeServiceServer},
        template_service_client::TemplateServiceClient,
    },
    events::v1::{AuditRecorded, Envelope},
    intel::v1::{
        CreateFeedRequest, Feed, Item, ListFeedsRequest, ListItemsRequest, RunScanRequest, RunScanResponse,
        StartSyncRequest, UpdateDataSourceRequest, intel_service_client::IntelServiceClient,
        scan_service_client::ScanServiceClient,
    },
};
use aegis_rpc::RpcService;
use aegis_runtime::Service;
use aegis_testkit::{TestDb, ctx, databases};
use futures::stream;
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tonic::{Request, Response, Status, body::Body, codegen::http};
use tower::ServiceExt;

/// Knows a few names, and which techniques are flagged.
#[derive(Default)]
pub struct FakeKnowledge {
    pub flagged: Mutex<BTreeMap<String, String>>,
    pub failure: Mutex<Option<Failure>>,
}

struct Server(Arc<FakeKnowledge>);

type Answer<T> = Result<Response<T>, Status>;

fn unused<T>() -> Answer<T> {
    Err(Status::unimplemented("not what a scan asks for"))
}

fn name(kind: &str, key: &str, name: &str, aliases: &[&str], techniques: &[&str]) -> Name {
    let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    Name {
        kind: kind.to_owned(),
        key: key.to_owned(),
        name: name.to_owned(),
        aliases: owned(aliases),
        mitre_technique_ids: owned(techniques),
    }
}

#[tonic::async_trait]
impl KnowledgeService for Server {
    type ListNamesStream = stream::Iter<std::vec::IntoIter<Result<catalog::ListNamesResponse, Status>>>;

    async fn list_names(&self, request: Request<catalog::ListNamesRequest>) -> Answer<Self::ListNamesStream> {
        assert_eq!(request.metadata().get("authorization").unwrap(), "Bearer service-token");
        assert_eq!(request.get_ref().kinds, ["technique", "threat_actor", "software", "control"]);
        let techniques = vec![
            name("technique", "T1059.001", "PowerShell", &[], &[]),
            name("technique", "T1190", "Exploit Public-Facing Application", &[], &[]),
            name("technique", "T1486", "Data Encrypted for Impact", &[], &[]),
        ];
        let others = vec![
            name("threat_actor", "G0016", "APT29", &["Cozy Bear"], &[]),
            name("software", "S0154", "Cobalt Strike", &[], &["T1059.001"]),
            name("control", "kev:CVE-2021-44228", "Log4Shell", &[], &["T1190"]),
        ];
        let pages = [techniques, others].map(|names| Ok(catalog::ListNamesResponse { names }));
        Ok(Response::new(stream::iter(Vec::from(pages))))
    }

    type ExportKnowledgeStream = stream::Iter<std::vec::IntoIter<Result<catalog::ExportKnowledgeResponse, Status>>>;

    async fn export_knowledge(
        &self,
        _: Request<catalog::ExportKnowledgeRequest>,
    ) -> Answer<Self::ExportKnowledgeStream> {
        unused()
    }

    type ExportRulesStream = stream::Iter<std::vec::IntoIter<Result<catalog::ExportRulesResponse, Status>>>;

    async fn export_rules(&self, _: Request<catalog::ExportRulesRequest>) -> Answer<Self::ExportRulesStream> {
        unused()
    }

    async fn flag_techniques(
        &self,
        request: Request<catalog::FlagTechniquesRequest>,
    ) -> Answer<catalog::FlagTechniquesResponse> {
        if let Some(failure) = self.0.failure.lock().unwrap().take() {
            return Err(failure.into());
        }
        let request = request.into_inner();
        let mut known = self.0.flagged.lock().unwrap();
        let mut flagged = 0;
        for id in request.mitre_ids {
            flagged += i64::from(known.insert(id, request.reason.clone()).is_none());
        }
        Ok(Response::new(catalog::FlagTechniquesResponse { flagged }))
    }

    async fn list_knowledge(
        &self,
        _: Request<catalog::ListKnowledgeRequest>,
    ) -> Answer<catalog::ListKnowledgeResponse> {
        unused()
    }
    async fn get_knowledge(&self, _: Request<catalog::GetKnowledgeRequest>) -> Answer<catalog::GetKnowledgeResponse> {
        unused()
    }
    async fn list_links(&self, _: Request<catalog::ListLinksRequest>) -> Answer<catalog::ListLinksResponse> {
        unused()
    }
    async fn get_technique_knowledge(
        &self,
        _: Request<catalog::GetTechniqueKnowledgeRequest>,
    ) -> Answer<catalog::GetTechniqueKnowledgeResponse> {
        unused()
    }
    async fn update_defence(
        &self,
        _: Request<catalog::UpdateDefenceRequest>,
    ) -> Answer<catalog::UpdateDefenceResponse> {
        unused()
    }
    async fn delete_rule(&self, _: Request<catalog::DeleteRuleRequest>) -> Answer<catalog::DeleteRuleResponse> {
        unused()
    }
    async fn search(&self, _: Request<catalog::SearchRequest>) -> Answer<catalog::SearchResponse> {
        unused()
    }
}

/// The service over these databases. Its scheduler is off unless its settings say otherwise.
pub async fn service(db: &Db, knowledge: &Arc<FakeKnowledge>, config: Config) -> Service {
    build(Deps {
        db: db.clone(),
        bus: Bus::local(),
        catalog: CatalogServiceClient::new(aegis_rpc::remote("http://127.0.0.1:1").unwrap()),
        knowledge: KnowledgeServiceClient::new(aegis_rpc::local(KnowledgeServiceServer::new(Server(Arc::clone(
            knowledge,
        ))))),
        templates: TemplateServiceClient::new(aegis_rpc::remote("http://127.0.0.1:1").unwrap()),
        snapshots: SnapshotServiceClient::new(aegis_rpc::remote("http://127.0.0.1:1").unwrap()),
        background: Background::new(Arc::new(|| {
            Box::pin(async { Ok(("service-token".to_owned(), Duration::from_secs(300))) })
        })),
        config,
    })
    .await
    .unwrap()
}

/// The way to a service for somebody of this role.
pub fn signed_in(service: &Service, role: Role) -> RpcService {
    let who = ctx(role, "ada");
    let signed_in = service.routes.clone().prepare().map_request(move |mut request: http::Request<Body>| {
        request.extensions_mut().insert(who.clone());
        request
    });
    aegis_rpc::local(signed_in)
}

/// Serves documents by their path, and 304 to whoever has one.
pub struct Site {
    pub address: String,
    documents: Arc<Mutex<HashMap<String, Vec<u8>>>>,
    answers: Arc<Mutex<Vec<String>>>,
}

impl Site {
    async fn start() -> Site {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let documents: Arc<Mutex<HashMap<String, Vec<u8>>>> = Arc::default();
        let answers: Arc<Mutex<Vec<String>>> = Arc::default();
        let (has, given) = (Arc::clone(&documents), Arc::clone(&answers));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (has, given) = (Arc::clone(&has), Arc::clone(&given));
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    while !request.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = stream.read_u8().await else { return };
                        request.push(byte);
                    }
                    let request = String::from_utf8(request).unwrap().to_ascii_lowercase();
                    let path = request.split(' ').nth(1).unwrap().to_owned();
                    let body = has.lock().unwrap().get(&path).cloned();
                    let etag = format!("\"{}\"", body.as_ref().map_or(0, |body| body.len()));
                    let (status, body) = match body {
                        None => ("404 Not Found", Vec::new()),
                        Some(_) if request.contains(&format!("if-none-match: {etag}")) => {
                            ("304 Not Modified", Vec::new())
                        }
                        Some(body) => ("200 OK", body),
                    };
                    given.lock().unwrap().push(format!("{path} {status}"));
                    let length = body.len();
                    let head = format!(
                        "HTTP/1.1 {status}\r\nConnection: close\r\nETag: {etag}\r\nContent-Length: {length}\r\n\r\n"
                    );
                    let _ = stream.write_all(head.as_bytes()).await;
                    let _ = stream.write_all(&body).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        Site { address, documents, answers }
    }

    pub fn serve(&self, path: &str, document: impl Into<Vec<u8>>) -> String {
        self.documents.lock().unwrap().insert(path.to_owned(), document.into());
        format!("{}{path}", self.address)
    }

    pub fn answers(&self) -> Vec<String> {
        let mut answers = std::mem::take(&mut *self.answers.lock().unwrap());
        answers.sort();
        answers
    }
}

/// The service on one database.
pub struct World {
    pub base: TestDb,
    pub knowledge: Arc<FakeKnowledge>,
    service: Service,
    pub site: Site,
}

impl World {
    pub async fn all() -> Vec<World> {
        // Of the whole process; a second test finds it there.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut all = Vec::new();
        for base in databases("intel", &[aegis_events::migrations(), aegis_intel::migrations()]).await {
            println!("on {}", base.name);
            let knowledge = Arc::default();
            let config = Config { scheduler_enabled: false, ..Config::default() };
            let service = service(&base.db, &knowledge, config).await;
            all.push(World { base, knowledge, service, site: Site::start().await });
        }
        all
    }

    pub fn client(&self, role: Role) -> ScanServiceClient<RpcService> {
        ScanServiceClient::new(signed_in(&self.service, role))
    }

    pub async fn feed(&self, name: &str, url: &str) -> Feed {
        let request = CreateFeedRequest { name: name.to_owned(), url: url.to_owned() };
        self.client(Role::Admin).create_feed(request).await.unwrap().into_inner().feed.unwrap()
    }

    pub async fn feeds(&self) -> Vec<Feed> {
        self.client(Role::Admin).list_feeds(ListFeedsRequest::default()).await.unwrap().into_inner().feeds
    }

    pub async fn scan(&self) -> Result<RunScanResponse, Failure> {
        let answer = self.client(Role::Admin).run_scan(RunScanRequest { wait: true }).await;
        answer.map(Response::into_inner).map_err(Failure::from)
    }

    pub async fn items(&self, request: ListItemsRequest) -> Vec<Item> {
        self.client(Role::Viewer).list_items(request).await.unwrap().into_inner().items
    }

    pub async fn everything(&self) -> Vec<Item> {
        self.items(ListItemsRequest { include_unmatched: true, ..ListItemsRequest::default() }).await
    }

    pub fn flagged(&self) -> BTreeMap<String, String> {
        self.knowledge.flagged.lock().unwrap().clone()
    }

    pub async fn audits(&self, action: &str) -> Vec<AuditRecorded> {
        let sql = "SELECT body FROM outbox ORDER BY seq";
        let bodies: Vec<Vec<u8>> = read!(&self.base.db, |pool| sqlx::query_scalar(sql).fetch_all(pool).await).unwrap();
        bodies
            .iter()
            .map(|body| Envelope::decode(body.as_slice()).unwrap())
            .filter(|envelope| envelope.r#type == "audit.recorded")
            .map(|envelope| AuditRecorded::decode(envelope.data.as_slice()).unwrap())
            .filter(|audit| audit.action == action)
            .collect()
    }

    pub async fn sync_kev(&self, document: &str) -> serde_json::Value {
        let url = self.site.serve("/kev.json", document);
        let mut intel = IntelServiceClient::new(signed_in(&self.service, Role::Admin));
        let request = UpdateDataSourceRequest { id: "kev".to_owned(), url: Some(url), ..Default::default() };
        intel.update_data_source(request).await.unwrap();
        let request = StartSyncRequest { source_id: "kev".to_owned(), wait: true, ..Default::default() };
        let job = intel.start_sync(request).await.unwrap().into_inner().job.unwrap();
        assert_eq!(job.status, "succeeded");
        serde_json::from_str(&job.counts_json).unwrap()
    }
}
