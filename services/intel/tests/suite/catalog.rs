//! A catalog that counts what it is sent, and lists its templates.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use aegis_error::Failure;
use aegis_proto::catalog::v1::{
    self as catalog, ImportCounts, ImportHeader, ImportKnowledgeRequest, ImportKnowledgeResponse, TechniqueChange,
    catalog_service_server::CatalogService, import_knowledge_request::Part, template_service_server::TemplateService,
};
use futures::stream;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};

/// What one import brought.
#[derive(Debug, Default, Clone)]
pub struct Import {
    pub header: ImportHeader,
    pub techniques: Vec<catalog::TechniqueRecord>,
    pub tactics: Vec<catalog::TacticRecord>,
    pub templates: Vec<catalog::TemplateRecord>,
    pub records: Vec<catalog::KnowledgeRecord>,
    pub links: Vec<catalog::LinkRecord>,
    pub largest_batch: usize,
    pub token: String,
    pub committed: bool,
}

/// Counts as the catalog does, by content, and keeps nothing else.
pub struct FakeCatalog {
    pub imports: Mutex<Vec<Import>>,
    known: Mutex<HashMap<String, Vec<u8>>>,
    /// An import takes a permit before it answers.
    pub gate: Semaphore,
    /// What the next import fails with.
    pub failure: Mutex<Option<Failure>>,
}

impl FakeCatalog {
    pub fn new() -> Self {
        FakeCatalog {
            imports: Mutex::default(),
            known: Mutex::default(),
            gate: Semaphore::new(1000),
            failure: Mutex::default(),
        }
    }

    /// Holds all imports until permits are added.
    pub async fn close_gate(&self) {
        self.gate.acquire_many(1000).await.unwrap().forget();
    }

    pub fn imports(&self) -> Vec<Import> {
        self.imports.lock().unwrap().clone()
    }

    /// What would become of the records, by kind; they are known afterwards unless it is a dry run.
    fn count(&self, import: &Import) -> HashMap<String, ImportCounts> {
        let mut known = self.known.lock().unwrap();
        let mut counts: HashMap<String, ImportCounts> = HashMap::new();
        let mut seen = HashMap::new();
        let mut add = |kind: &str, key: &str, hash: &[u8], revoked: bool, deprecated: bool| {
            let counts = counts.entry(kind.to_owned()).or_default();
            let key = format!("{kind} {key}");
            match known.get(&key) {
                None => counts.created += 1,
                Some(before) if before == hash => counts.unchanged += 1,
                Some(_) => counts.updated += 1,
            }
            counts.revoked += i64::from(revoked);
            counts.deprecated += i64::from(deprecated);
            assert!(seen.insert(key.clone(), hash.to_vec()).is_none(), "{key} comes twice");
        };
        for record in &import.techniques {
            add("technique", &record.stix_id, &record.content_hash, record.revoked, record.deprecated);
        }
        for record in &import.tactics {
            add("tactic", &record.stix_id, record.name.as_bytes(), false, record.deprecated);
        }
        for record in &import.templates {
            assert_eq!(record.content_hash.len(), 32);
            let key = format!("{} {}", import.header.source, record.source_id);
            add("template", &key, &record.content_hash, false, false);
        }
        for record in &import.records {
            assert_eq!(record.content_hash.len(), 32);
            add(&record.kind, &record.key, &record.content_hash, record.revoked, record.deprecated);
        }
        for link in &import.links {
            let key = format!(
                "{} {} {} {} {} {}",
                import.header.origin, link.from_kind, link.from_key, link.relation, link.to_kind, link.to_key
            );
            let said = format!("{:?} {}", link.description, link.references_json);
            add("link", &key, said.as_bytes(), false, false);
        }
        if !import.header.dry_run {
            known.extend(seen);
        }
        counts
    }

    /// The templates of all imports, as the catalog would list them.
    fn templates(&self) -> Vec<catalog::Template> {
        let imports = self.imports.lock().unwrap();
        let all = imports.iter().filter(|import| !import.header.dry_run).flat_map(|import| {
            import.templates.iter().cloned().map(|template| catalog::Template {
                name: template.name,
                description: template.description,
                source: import.header.source.clone(),
                source_id: template.source_id,
                mitre_technique_id: template.mitre_technique_id,
                platform: template.platforms.first().cloned(),
                severity: template.severity,
                attack_procedure: template.attack_procedure,
                cleanup_procedure: template.cleanup_procedure,
                platforms: template.platforms,
                details_json: template.details_json,
                ..catalog::Template::default()
            })
        });
        all.collect()
    }
}

pub struct Server(pub Arc<FakeCatalog>);

type Answer<T> = Result<Response<T>, Status>;

fn unused<T>() -> Answer<T> {
    Err(Status::unimplemented("not what intel asks for"))
}

#[tonic::async_trait]
impl CatalogService for Server {
    async fn import_knowledge(
        &self,
        request: Request<Streaming<ImportKnowledgeRequest>>,
    ) -> Answer<ImportKnowledgeResponse> {
        let token = request.metadata().get("authorization");
        let mut import =
            Import { token: token.map(|t| t.to_str().unwrap().to_owned()).unwrap_or_default(), ..Import::default() };
        let mut messages = request.into_inner();
        while let Some(message) = messages.message().await? {
            assert!(!import.committed, "the commit is the last message");
            match message.part.unwrap() {
                Part::Header(header) => import.header = header,
                Part::Techniques(batch) => {
                    import.largest_batch = import.largest_batch.max(batch.techniques.len());
                    import.techniques.extend(batch.techniques);
                }
                Part::Tactics(batch) => import.tactics.extend(batch.tactics),
                Part::Templates(batch) => import.templates.extend(batch.templates),
                Part::Knowledge(batch) => import.records.extend(batch.records),
                Part::Links(batch) => import.links.extend(batch.links),
                Part::Commit(commit) => import.committed = commit,
            }
        }
        self.0.imports.lock().unwrap().push(import.clone());
        self.0.gate.acquire().await.unwrap().forget();
        if let Some(failure) = self.0.failure.lock().unwrap().take() {
            return Err(failure.into());
        }
        let kinds = self.0.count(&import);
        let changes = import.techniques.iter().filter(|technique| technique.revoked);
        Ok(Response::new(ImportKnowledgeResponse {
            techniques: kinds.get("technique").copied(),
            tactics: kinds.get("tactic").copied(),
            kinds,
            changes: changes
                .take(3)
                .map(|technique| TechniqueChange {
                    mitre_id: technique.mitre_id.clone(),
                    name: technique.name.clone(),
                    change: "revoked".to_owned(),
                    revoked_by: technique.revoked_by.clone(),
                    tests: 2,
                    ..TechniqueChange::default()
                })
                .collect(),
            links_unknown: 0,
        }))
    }

    async fn list_techniques(
        &self,
        _: Request<catalog::ListTechniquesRequest>,
    ) -> Answer<catalog::ListTechniquesResponse> {
        let imports = self.0.imports();
        let techniques = imports.iter().flat_map(|import| &import.techniques).map(|technique| catalog::Technique {
            mitre_id: technique.mitre_id.clone(),
            name: technique.name.clone(),
            ..catalog::Technique::default()
        });
        let techniques: Vec<_> = techniques.collect();
        let total_size = techniques.len() as i64;
        Ok(Response::new(catalog::ListTechniquesResponse { techniques, total_size, ..Default::default() }))
    }
    async fn get_technique(&self, _: Request<catalog::GetTechniqueRequest>) -> Answer<catalog::GetTechniqueResponse> {
        unused()
    }
    async fn create_technique(
        &self,
        _: Request<catalog::CreateTechniqueRequest>,
    ) -> Answer<catalog::CreateTechniqueResponse> {
        unused()
    }
    async fn update_technique(
        &self,
        _: Request<catalog::UpdateTechniqueRequest>,
    ) -> Answer<catalog::UpdateTechniqueResponse> {
        unused()
    }
    async fn review_technique(
        &self,
        _: Request<catalog::ReviewTechniqueRequest>,
    ) -> Answer<catalog::ReviewTechniqueResponse> {
        unused()
    }
    async fn list_tactics(&self, _: Request<catalog::ListTacticsRequest>) -> Answer<catalog::ListTacticsResponse> {
        unused()
    }
    type ExportTechniquesStream = stream::Empty<Result<catalog::ExportTechniquesResponse, Status>>;
    async fn export_techniques(
        &self,
        _: Request<catalog::ExportTechniquesRequest>,
    ) -> Answer<Self::ExportTechniquesStream> {
        unused()
    }
    async fn get_rebuild_start(
        &self,
        _: Request<catalog::GetRebuildStartRequest>,
    ) -> Answer<catalog::GetRebuildStartResponse> {
        unused()
    }
    async fn rebuild_statuses(
        &self,
        _: Request<Streaming<catalog::RebuildStatusesRequest>>,
    ) -> Answer<catalog::RebuildStatusesResponse> {
        unused()
    }
}

#[tonic::async_trait]
impl TemplateService for Server {
    async fn list_templates(
        &self,
        request: Request<catalog::ListTemplatesRequest>,
    ) -> Answer<catalog::ListTemplatesResponse> {
        let request = request.into_inner();
        let mut templates = self.0.templates();
        templates.retain(|template| {
            request.source.as_ref().is_none_or(|source| *source == template.source)
                && request.mitre_technique_id.as_ref().is_none_or(|id| *id == template.mitre_technique_id)
        });
        let total_size = templates.len() as i64;
        let from: usize = request.page_token.parse().unwrap_or(0);
        let to = templates.len().min(from + request.page_size as usize);
        let next_page_token = if to < templates.len() { to.to_string() } else { String::new() };
        let templates = templates[from..to].to_vec();
        Ok(Response::new(catalog::ListTemplatesResponse { templates, next_page_token, total_size }))
    }
    async fn pick_templates(
        &self,
        _: Request<catalog::PickTemplatesRequest>,
    ) -> Answer<catalog::PickTemplatesResponse> {
        unused()
    }

    async fn get_template(&self, _: Request<catalog::GetTemplateRequest>) -> Answer<catalog::GetTemplateResponse> {
        unused()
    }
    async fn create_template(
        &self,
        _: Request<catalog::CreateTemplateRequest>,
    ) -> Answer<catalog::CreateTemplateResponse> {
        unused()
    }
    async fn get_template_stats(
        &self,
        _: Request<catalog::GetTemplateStatsRequest>,
    ) -> Answer<catalog::GetTemplateStatsResponse> {
        unused()
    }
    async fn toggle_template_active(
        &self,
        _: Request<catalog::ToggleTemplateActiveRequest>,
    ) -> Answer<catalog::ToggleTemplateActiveResponse> {
        unused()
    }
}
