//! Detection rules: those of Sigma and Elastic, and those that people bring in.

use aegis_proto::catalog::v1::{self as proto, DeleteRuleRequest, ListKnowledgeRequest};
use axum::extract::{DefaultBodyLimit, Request, State};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouterExt},
    routes,
};

use super::{
    knowledge::{listed, record},
    uploads::{ImportQuery, ImportResult, imported, messages},
};
use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Name, Query, page},
    middleware::compression,
    openapi::responses::{Conflict, NotFound, TooLarge, Unprocessable},
    state::Gateway,
    values::{KnowledgeKind, Severity, json, time_always},
};

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    // What is brought in counts its own bytes.
    OpenApiRouter::new()
        .routes(routes!(list_detection_rules).layer(compression()))
        .routes(routes!(import_detection_rules).layer(DefaultBodyLimit::disable()))
        .routes(routes!(get_detection_rule, delete_detection_rule))
}

/// A rule that finds a technique.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0190b7a2-9000-7c3e-9d2a-3f6d1c0e8a03", "source": "custom", "source_id": "5b1a3f52-9a4f-4a54-9d0e-6f1f7f6f3c11",
    "title": "Encoded command line", "description": null, "severity": "medium", "status": "experimental",
    "mitre_technique_ids": ["T1059.001"], "platforms": ["windows"], "logsource": {"category": "process_creation"},
    "rule_format": "sigma", "content": null, "author": "Ana", "licence": null, "references": [], "false_positives": [],
    "deprecated": false, "created_at": "2024-01-01T00:00:00Z", "updated_at": "2024-01-01T00:00:00Z"
}))]
pub struct DetectionRule {
    #[schema(value_type = Uuid)]
    id: String,
    /// sigma | elastic | custom
    source: String,
    /// The rule's id at its source.
    source_id: String,
    title: String,
    /// Null in lists.
    description: Option<String>,
    #[schema(value_type = Option<Severity>)]
    severity: Option<String>,
    /// What its author says of it, such as stable.
    status: Option<String>,
    mitre_technique_ids: Vec<String>,
    platforms: Vec<String>,
    /// Of a Sigma rule: category, product, service.
    #[schema(value_type = Option<Object>)]
    logsource: Value,
    /// sigma | elastic
    rule_format: Option<String>,
    /// The rule's text as published; null in lists.
    content: Option<String>,
    author: Option<String>,
    licence: Option<String>,
    references: Vec<String>,
    false_positives: Vec<String>,
    /// Its source has withdrawn it or no longer has it.
    deprecated: bool,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<proto::Knowledge> for DetectionRule {
    fn from(record: proto::Knowledge) -> DetectionRule {
        let mut attributes = json(&record.attributes_json);
        let text = |name: &str| attributes[name].as_str().map(str::to_owned);
        let texts = |name: &str| match &attributes[name] {
            Value::String(text) => vec![text.clone()],
            Value::Array(rows) => rows.iter().filter_map(|row| row.as_str().map(str::to_owned)).collect(),
            _ => Vec::new(),
        };
        let author = texts("author").join(", ");
        DetectionRule {
            rule_format: text("rule_format"),
            author: Some(author).filter(|author| !author.is_empty()),
            licence: text("licence").or_else(|| text("license")),
            references: texts("references"),
            false_positives: texts("falsepositives"),
            logsource: attributes["logsource"].take(),
            id: record.id,
            source: record.source,
            source_id: record.source_id,
            title: record.name,
            description: record.description,
            severity: record.severity,
            status: record.status,
            mitre_technique_ids: record.mitre_technique_ids,
            platforms: record.platforms,
            content: record.content,
            deprecated: record.deprecated,
            created_at: time_always(record.created_at),
            updated_at: time_always(record.updated_at),
        }
    }
}

/// Filters of detection rules; all given ones must hold.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListDetectionRules {
    /// sigma | elastic | custom
    #[param(example = "sigma")]
    source: Option<String>,
    /// ATT&CK id.
    #[param(example = "T1059.001")]
    mitre_technique_id: Option<String>,
    #[param(inline)]
    severity: Option<Severity>,
    /// Words of its id, title or description; the best come first.
    #[param(example = "powershell")]
    search: Option<String>,
    /// What its author says of it.
    #[param(example = "stable")]
    status: Option<String>,
    #[param(example = "windows")]
    platform: Option<String>,
    /// Also those that their source has withdrawn.
    #[param(default = false)]
    include_deprecated: Option<bool>,
    /// `key`, `name`, `severity` or `updated_at`; with a `-` before it the other way round.
    #[param(example = "name")]
    sort: Option<String>,
    /// Rows at most.
    #[param(minimum = 1, maximum = 5000, default = 1000)]
    limit: Option<u32>,
    /// Rows to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
}

/// List detection rules
///
/// Without their texts; `X-Total-Count` has the number of all that fit.
#[utoipa::path(get, path = "/api/v1/detection-rules", tag = "Detection rules", params(ListDetectionRules),
    responses((status = 200, description = "Rules", body = [DetectionRule])))]
async fn list_detection_rules(
    State(gateway): State<Gateway>,
    caller: Caller,
    Query(query): Query<ListDetectionRules>,
) -> Result<Answer, Problem> {
    let (page_size, skip) = page(query.limit, query.offset, 1000, 5000)?;
    let request = ListKnowledgeRequest {
        kind: KnowledgeKind::DetectionRule.into(),
        page_size,
        skip,
        search: query.search,
        source: query.source,
        mitre_technique_id: query.mitre_technique_id,
        severity: query.severity.map(String::from),
        status: query.status,
        platform: query.platform,
        include_revoked: query.include_deprecated.unwrap_or(false),
        sort: query.sort.unwrap_or_default(),
        ..ListKnowledgeRequest::default()
    };
    let (records, total) = listed(&gateway, &caller, request).await?;
    Answer::list(&records.into_iter().map(DetectionRule::from).collect::<Vec<_>>(), total)
}

/// Read a detection rule
///
/// With its text.
#[utoipa::path(get, path = "/api/v1/detection-rules/{id}", tag = "Detection rules",
    params(("id" = String, Path, description = "UUID, or source:id", example = "0190b7a2-9000-7c3e-9d2a-3f6d1c0e8a03")),
    responses((status = 200, description = "The rule", body = DetectionRule), (status = 404, response = NotFound)))]
async fn get_detection_rule(State(gateway): State<Gateway>, caller: Caller, Name(id): Name) -> Result<Answer, Problem> {
    let record = record(&gateway, &caller, KnowledgeKind::DetectionRule, id).await?;
    Answer::entity(record.version, &DetectionRule::from(record))
}

/// Bring in detection rules
///
/// The body is one Sigma file (YAML, of one rule or several) or an archive of them (zip, tar, tar.gz, tar.zst), as it
/// is; `filename` names it in the answer. A single file with a problem changes nothing and is 422, each problem with
/// its line; of an archive the good rules are taken and the others are told. A rule with the id of one that was
/// brought in before takes its place. Leads, blue techs and administrators.
#[utoipa::path(post, path = "/api/v1/detection-rules", tag = "Detection rules", params(ImportQuery),
    request_body(content = String, content_type = "application/yaml", example = "title: Encoded command line\n…"),
    extensions(("x-roles" = json!(["admin", "blue_tech", "red_lead", "blue_lead"]))),
    responses(
        (status = 201, description = "Brought in", body = ImportResult),
        (status = 200, description = "What would come of it, with dry_run", body = ImportResult),
        (status = 413, response = TooLarge),
        (status = 422, response = Unprocessable),
    ))]
async fn import_detection_rules(
    State(gateway): State<Gateway>,
    caller: Caller,
    Query(query): Query<ImportQuery>,
    request: Request,
) -> Result<Answer, Problem> {
    let dry_run = query.dry_run();
    let parts = messages(query, request, "rules.yml").await?;
    let answer = gateway.deps.uploads.clone().import_rules(caller.ctx().outgoing(parts)).await?.into_inner();
    imported(answer, dry_run)
}

/// Delete a detection rule
///
/// One that was brought in by a person; those of other sources are their publishers' (409). Leads and administrators.
#[utoipa::path(delete, path = "/api/v1/detection-rules/{id}", tag = "Detection rules",
    params(("id" = String, Path, description = "UUID, or source:id", example = "0190b7a2-9000-7c3e-9d2a-3f6d1c0e8a03")),
    extensions(("x-roles" = json!(["admin", "red_lead", "blue_lead"]))),
    responses(
        (status = 204, description = "Deleted"),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
    ))]
async fn delete_detection_rule(
    State(gateway): State<Gateway>,
    caller: Caller,
    Name(id): Name,
) -> Result<Answer, Problem> {
    gateway.deps.knowledge.clone().delete_rule(caller.ctx().outgoing(DeleteRuleRequest { id })).await?;
    Ok(Answer::nothing())
}
