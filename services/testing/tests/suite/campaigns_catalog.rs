//! What the catalogue says of threat actors: a small one, a large one and a revoked one.

use aegis_error::Failure;
use aegis_proto::catalog::v1::{knowledge_service_client::KnowledgeServiceClient, knowledge_service_server::*, *};
use aegis_rpc::RpcService;
use futures::{Stream, StreamExt};
use std::pin::Pin;
use tonic::{Request, Response, Status};

use crate::catalog::{DUMPING, POWERSHELL, TEMPLATE, belongs};

/// Uses four techniques that count.
pub const BEAR: &str = "01900000-0000-7000-8000-0000000000b1";
/// Uses a thousand.
pub const HYDRA: &str = "01900000-0000-7000-8000-0000000000b2";
/// Revoked by the bear.
pub const CUB: &str = "01900000-0000-7000-8000-0000000000b3";
/// Uses nothing.
pub const SLEEPER: &str = "01900000-0000-7000-8000-0000000000b4";

pub const DUMP: &str = "01900000-0000-7000-8000-0000000000a4";
pub const SHELL: &str = "01900000-0000-7000-8000-0000000000a3";

/// Each technique of the large actor has a template, but each tenth.
pub const MANY: u32 = 1_000;

struct Knowing;

type Answer<T> = Result<Response<T>, Status>;

fn actors() -> [Knowledge; 4] {
    let actor = |id: &str, key: &str, name: &str| Knowledge {
        id: id.into(),
        kind: "threat_actor".into(),
        key: key.into(),
        name: name.into(),
        ..Knowledge::default()
    };
    [
        actor(BEAR, "G0016", "Bear"),
        actor(HYDRA, "G0999", "Hydra"),
        Knowledge { revoked: true, revoked_by: Some("G0016".into()), ..actor(CUB, "G0001", "Cub") },
        actor(SLEEPER, "G0002", "Sleeper"),
    ]
}

pub fn list_techniques(request: ListTechniquesRequest) -> ListTechniquesResponse {
    let technique = |id: String, mitre_id: &str, name: &str, domain: &str, tactic: &str| Technique {
        id,
        mitre_id: mitre_id.into(),
        name: name.into(),
        domain: domain.into(),
        tactic: tactic.into(),
        tactics: vec![tactic.into()],
        ..Technique::default()
    };
    let known = |n: u32| format!("01900000-0000-7000-8000-00000001{n:04}");
    let mut techniques = vec![
        technique(DUMPING.into(), "T1003", "OS Credential Dumping", "enterprise", "credential-access"),
        technique(known(1), "T1059", "Command and Scripting Interpreter", "enterprise", "execution"),
        technique(POWERSHELL.into(), "T1059.001", "PowerShell", "enterprise", "execution"),
        Technique { revoked: true, ..technique(known(2), "T1086", "PowerShell", "enterprise", "execution") },
        technique(known(3), "T1566", "Phishing", "enterprise", "initial-access"),
        technique(known(4), "T1990", "Nobody's", "enterprise", "initial-access"),
    ];
    techniques.extend((0..MANY).map(|n| {
        let id = format!("01900000-0000-7000-8000-00000002{n:04}");
        let tactic = if n % 2 == 0 { "execution" } else { "initial-access" };
        technique(id, &format!("T{}", 5000 + n), &format!("Technique {n}"), "enterprise", tactic)
    }));
    // In pages, as the real one may.
    let offset: usize = request.page_token.parse().unwrap_or(0);
    let total = techniques.len();
    let page: Vec<_> = techniques.into_iter().skip(offset).take(600).collect();
    let end = offset + page.len();
    let next_page_token = if end < total { end.to_string() } else { String::new() };
    ListTechniquesResponse { techniques: page, next_page_token, total_size: i64::try_from(total).unwrap() }
}

pub fn list_tactics() -> ListTacticsResponse {
    let tactic = |(short_name, position): (&str, i32)| Tactic {
        short_name: short_name.into(),
        domain: "enterprise".into(),
        position,
        ..Tactic::default()
    };
    let tactics = [("initial-access", 0), ("execution", 1), ("credential-access", 2)].map(tactic);
    ListTacticsResponse { tactics: tactics.into() }
}

pub fn pick_templates(request: PickTemplatesRequest) -> PickTemplatesResponse {
    let template = |id: String, mitre_id: &str, name: &str, platform: Option<&str>| Template {
        id,
        name: name.into(),
        mitre_technique_id: mitre_id.into(),
        platform: platform.map(str::to_owned),
        description: Some(format!("What {name} does")),
        attack_procedure: Some(format!("Do {name}")),
        tool_suggested: Some("tool".into()),
        suggested_remediation: Some("Mend it".into()),
        is_active: true,
        ..Template::default()
    };
    let of = |mitre_id: &str| match mitre_id {
        "T1003" => vec![template(DUMP.into(), mitre_id, "Dump", None)],
        "T1059.001" => vec![
            template(TEMPLATE.into(), mitre_id, "Encoded command", Some("Windows")),
            template(SHELL.into(), mitre_id, "Shell", Some("linux")),
        ],
        many => match many[1..].parse::<u32>() {
            Ok(n) if (5000..5000 + MANY).contains(&n) && n % 10 != 0 => {
                let id = format!("01900000-0000-7000-8000-00000003{:04}", n - 5000);
                vec![template(id, mitre_id, &format!("Template of {many}"), Some("windows"))]
            }
            _ => Vec::new(),
        },
    };
    assert!(request.mitre_ids.len() <= 2_000);
    let most = usize::try_from(request.per_technique.max(1)).unwrap();
    let wanted = |template: &Template| match (&request.platform, &template.platform) {
        (Some(wanted), Some(has)) => wanted.eq_ignore_ascii_case(has),
        _ => true,
    };
    let templates = request.mitre_ids.iter().flat_map(|id| of(id).into_iter().filter(wanted).take(most)).collect();
    PickTemplatesResponse { templates }
}

#[tonic::async_trait]
impl KnowledgeService for Knowing {
    async fn get_knowledge(&self, request: Request<GetKnowledgeRequest>) -> Answer<GetKnowledgeResponse> {
        let GetKnowledgeRequest { kind, id } = belongs(request)?;
        let found = actors().into_iter().find(|actor| actor.kind == kind && (actor.id == id || actor.key == id));
        match found {
            Some(record) => Ok(Response::new(GetKnowledgeResponse { record: Some(record) })),
            None => Err(Failure::not_found("record", "?").into()),
        }
    }

    async fn list_links(&self, request: Request<ListLinksRequest>) -> Answer<ListLinksResponse> {
        let request = belongs(request)?;
        let link = |key: String, relation: &str, outgoing: bool| Link {
            relation: relation.into(),
            outgoing,
            kind: "technique".into(),
            key,
            ..Link::default()
        };
        let mut links = Vec::new();
        match (request.key.as_str(), request.page_token.as_str()) {
            ("G0016", "") => {
                links.extend(["T1003", "T1059.001", "T1086"].map(|id| link(id.into(), "uses", true)));
                links.push(link("T1990".into(), "has", true));
                let next_page_token = "2".into();
                return Ok(Response::new(ListLinksResponse { links, next_page_token, total_size: 6 }));
            }
            // One is said by two sources; the last is not known.
            ("G0016", _) => {
                links.extend(["T1003", "T1566", "T1059", "T9999"].map(|id| link(id.into(), "uses", true)));
            }
            ("G0999", _) => links.extend((0..MANY).map(|n| link(format!("T{}", 5000 + n), "uses", true))),
            _ => {}
        }
        Ok(Response::new(ListLinksResponse { links, next_page_token: String::new(), total_size: 6 }))
    }

    async fn list_knowledge(&self, _: Request<ListKnowledgeRequest>) -> Answer<ListKnowledgeResponse> {
        Err(Status::unimplemented(""))
    }
    async fn get_technique_knowledge(
        &self,
        _: Request<GetTechniqueKnowledgeRequest>,
    ) -> Answer<GetTechniqueKnowledgeResponse> {
        Err(Status::unimplemented(""))
    }
    async fn update_defence(&self, _: Request<UpdateDefenceRequest>) -> Answer<UpdateDefenceResponse> {
        Err(Status::unimplemented(""))
    }
    async fn delete_rule(&self, _: Request<DeleteRuleRequest>) -> Answer<DeleteRuleResponse> {
        Err(Status::unimplemented(""))
    }
    async fn search(&self, _: Request<SearchRequest>) -> Answer<SearchResponse> {
        Err(Status::unimplemented(""))
    }
    type ListNamesStream = Pin<Box<dyn Stream<Item = Result<ListNamesResponse, Status>> + Send>>;
    async fn list_names(&self, _: Request<ListNamesRequest>) -> Answer<Self::ListNamesStream> {
        Ok(Response::new(futures::stream::empty().boxed()))
    }
    type ExportKnowledgeStream = Pin<Box<dyn Stream<Item = Result<ExportKnowledgeResponse, Status>> + Send>>;
    async fn export_knowledge(&self, _: Request<ExportKnowledgeRequest>) -> Answer<Self::ExportKnowledgeStream> {
        Err(Status::unimplemented(""))
    }
    type ExportRulesStream = Pin<Box<dyn Stream<Item = Result<ExportRulesResponse, Status>> + Send>>;
    async fn export_rules(&self, _: Request<ExportRulesRequest>) -> Answer<Self::ExportRulesStream> {
        Err(Status::unimplemented(""))
    }
    async fn flag_techniques(&self, _: Request<FlagTechniquesRequest>) -> Answer<FlagTechniquesResponse> {
        Err(Status::unimplemented(""))
    }
}

pub fn knowledge_client() -> KnowledgeServiceClient<RpcService> {
    KnowledgeServiceClient::new(aegis_rpc::local(KnowledgeServiceServer::new(Knowing)))
}
