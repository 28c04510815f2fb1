//! Test templates.

use std::collections::BTreeMap;

use aegis_error::Failure;
use aegis_proto::catalog::v1::{
    self as proto, CreateTemplateRequest, GetTemplateRequest, GetTemplateStatsRequest, ListTemplatesRequest,
    ToggleTemplateActiveRequest,
};
use aegis_proto::intel::v1::ExportTemplatesRequest;
use axum::{
    body::Body,
    extract::{DefaultBodyLimit, Request, State},
    response::Response,
};
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use http::{
    HeaderValue,
    header::{CONTENT_DISPOSITION, CONTENT_TYPE},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouterExt},
    routes,
};

use super::uploads::{ImportQuery, ImportResult, imported, messages};
use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Id, Json, Query, page},
    middleware::compression,
    openapi::responses::{Conflict, NotFound, TooLarge, Unprocessable},
    state::Gateway,
    values::{Severity, json, time_always},
};

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(list_templates).layer(compression()))
        .routes(routes!(create_template))
        .routes(routes!(import_templates).layer(DefaultBodyLimit::disable()))
        .routes(routes!(export_templates))
        .routes(routes!(get_template_stats))
        .routes(routes!(get_template))
        .routes(routes!(toggle_template_active))
}

/// A ready-made test procedure.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0190b7a2-7000-7a4b-8d11-9e2f3c4d5e01", "name": "Encoded PowerShell command", "description": "What it shows",
    "source": "aegis", "source_id": "powershell-encoded", "mitre_technique_id": "T1059.001", "platform": "windows",
    "platforms": ["windows"], "severity": "medium", "attack_procedure": "Step by step …",
    "tool_suggested": "PowerShell", "suggested_remediation": "Log script blocks", "expected_detection": "Event 4104",
    "cleanup_procedure": null, "details": {}, "is_active": true, "vanished": false, "created_at": "2024-01-01T00:00:00Z", "updated_at": "2024-01-01T00:00:00Z"
}))]
pub struct Template {
    #[schema(value_type = Uuid)]
    id: String,
    name: String,
    description: Option<String>,
    /// custom | aegis | atomic_red_team | caldera | lolbas
    source: String,
    /// The template's id at its source.
    source_id: String,
    /// ATT&CK id.
    mitre_technique_id: String,
    /// The first of its platforms.
    platform: Option<String>,
    platforms: Vec<String>,
    #[schema(value_type = Severity)]
    severity: String,
    attack_procedure: Option<String>,
    tool_suggested: Option<String>,
    suggested_remediation: Option<String>,
    expected_detection: Option<String>,
    cleanup_procedure: Option<String>,
    /// What its own format has besides: executor, arguments, dependencies.
    #[schema(value_type = Object)]
    details: Value,
    is_active: bool,
    /// Its source no longer has it.
    vanished: bool,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<proto::Template> for Template {
    fn from(t: proto::Template) -> Template {
        Template {
            id: t.id,
            name: t.name,
            description: t.description,
            source: t.source,
            source_id: t.source_id,
            mitre_technique_id: t.mitre_technique_id,
            platform: t.platform,
            platforms: t.platforms,
            severity: t.severity,
            attack_procedure: t.attack_procedure,
            tool_suggested: t.tool_suggested,
            suggested_remediation: t.suggested_remediation,
            expected_detection: t.expected_detection,
            cleanup_procedure: t.cleanup_procedure,
            details: Some(json(&t.details_json)).filter(Value::is_object).unwrap_or_else(|| json("{}")),
            is_active: t.is_active,
            vanished: t.vanished,
            created_at: time_always(t.created_at),
            updated_at: time_always(t.updated_at),
        }
    }
}

/// Figures of the template catalogue.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "total": 40, "active": 38, "inactive": 2, "by_source": {"aegis": 39, "custom": 1},
    "by_platform": {"windows": 20, "linux": 20}
}))]
pub struct TemplateStats {
    total: i64,
    active: i64,
    inactive: i64,
    by_source: BTreeMap<String, i64>,
    by_platform: BTreeMap<String, i64>,
}

/// Filters of templates; all given ones must hold.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListTemplates {
    #[param(example = "aegis")]
    source: Option<String>,
    #[param(example = "windows")]
    platform: Option<String>,
    #[param(inline)]
    severity: Option<Severity>,
    /// Words of the name, the technique, the description or the procedure; the best come first.
    #[param(example = "powershell")]
    search: Option<String>,
    /// ATT&CK id.
    #[param(example = "T1059.001")]
    mitre_technique_id: Option<String>,
    is_active: Option<bool>,
    /// `mitre_technique_id`, `name`, `severity` or `updated_at`; with a `-` before it the other way round.
    #[param(example = "name")]
    sort: Option<String>,
    /// Rows at most.
    #[param(minimum = 1, maximum = 5000, default = 1000)]
    limit: Option<u32>,
    /// Rows to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
}

/// A template of one's own.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "name": "Encoded PowerShell command", "mitre_technique_id": "T1059.001", "platform": "windows",
    "severity": "medium", "attack_procedure": "Step by step …", "suggested_remediation": "Log script blocks"
}))]
pub struct NewTemplate {
    name: String,
    #[serde(default)]
    description: Option<String>,
    /// ATT&CK id.
    mitre_technique_id: String,
    #[serde(default)]
    platform: Option<String>,
    /// `medium` if absent.
    #[serde(default)]
    #[schema(value_type = Option<Severity>)]
    severity: Option<Severity>,
    #[serde(default)]
    attack_procedure: Option<String>,
    #[serde(default)]
    tool_suggested: Option<String>,
    #[serde(default)]
    suggested_remediation: Option<String>,
    #[serde(default)]
    expected_detection: Option<String>,
    #[serde(default)]
    cleanup_procedure: Option<String>,
}

/// The answer with this template.
fn entity(template: Option<proto::Template>) -> Result<Answer, Problem> {
    let template = template.ok_or_else(Problem::empty)?;
    Answer::entity(template.version, &Template::from(template))
}

/// List templates
///
/// `X-Total-Count` has the number of all that fit.
#[utoipa::path(get, path = "/api/v1/test-templates", tag = "Test templates", params(ListTemplates),
    responses((status = 200, description = "Templates", body = [Template])))]
async fn list_templates(
    State(gateway): State<Gateway>,
    caller: Caller,
    Query(query): Query<ListTemplates>,
) -> Result<Answer, Problem> {
    let (page_size, skip) = page(query.limit, query.offset, 1000, 5000)?;
    let request = ListTemplatesRequest {
        page_size,
        skip,
        page_token: String::new(),
        source: query.source,
        platform: query.platform,
        severity: query.severity.map(String::from),
        search: query.search,
        mitre_technique_id: query.mitre_technique_id,
        is_active: query.is_active,
        sort: query.sort.unwrap_or_default(),
    };
    let answer = gateway.deps.templates.clone().list_templates(caller.ctx().outgoing(request)).await?.into_inner();
    let templates: Vec<Template> = answer.templates.into_iter().map(Template::from).collect();
    Answer::list(&templates, answer.total_size)
}

/// Create a template
///
/// Administrators only. Its source is `custom`.
#[utoipa::path(post, path = "/api/v1/test-templates", tag = "Test templates", request_body = NewTemplate,
    extensions(("x-roles" = json!(["admin"]))),
    responses(
        (status = 201, description = "Created", body = Template),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
    ))]
async fn create_template(
    State(gateway): State<Gateway>,
    caller: Caller,
    Json(body): Json<NewTemplate>,
) -> Result<Answer, Problem> {
    let request = CreateTemplateRequest {
        name: body.name,
        description: body.description,
        mitre_technique_id: body.mitre_technique_id,
        platform: body.platform,
        severity: body.severity.map(String::from).unwrap_or_default(),
        attack_procedure: body.attack_procedure,
        tool_suggested: body.tool_suggested,
        suggested_remediation: body.suggested_remediation,
        expected_detection: body.expected_detection,
        cleanup_procedure: body.cleanup_procedure,
    };
    let answer = gateway.deps.templates.clone().create_template(caller.ctx().outgoing(request)).await?.into_inner();
    let template = answer.template.ok_or_else(Problem::empty)?;
    let location = format!("/api/v1/test-templates/{}", template.id);
    let version = template.version;
    Ok(Answer::created(&location, &Template::from(template))?.versioned(version))
}

/// Which templates to take out.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ExportTemplates {
    /// ATT&CK id of the technique.
    #[param(example = "T1059.001")]
    mitre_technique_id: String,
    /// Only those of this source.
    #[param(example = "custom")]
    source: Option<String>,
}

/// Bring in templates
///
/// Administrators only. The body is a file in Atomic Red Team's own YAML or an archive of them (zip, tar, tar.gz,
/// tar.zst), as it is. A single file with a problem changes nothing and is 422, each problem with its line; of an
/// archive the good files are taken and the others are told. A template with the GUID of one that was brought in
/// before takes its place. Their source is `custom`.
#[utoipa::path(post, path = "/api/v1/test-templates/import", tag = "Test templates", params(ImportQuery),
    request_body(content = String, content_type = "application/yaml", example = "attack_technique: T1059.001\n…"),
    extensions(("x-roles" = json!(["admin"]))),
    responses(
        (status = 201, description = "Brought in", body = ImportResult),
        (status = 200, description = "What would come of it, with dry_run", body = ImportResult),
        (status = 413, response = TooLarge),
        (status = 422, response = Unprocessable),
    ))]
async fn import_templates(
    State(gateway): State<Gateway>,
    caller: Caller,
    Query(query): Query<ImportQuery>,
    request: Request,
) -> Result<Answer, Problem> {
    let dry_run = query.dry_run();
    let parts = messages(query, request, "templates.yaml").await?;
    let answer = gateway.deps.uploads.clone().import_templates(caller.ctx().outgoing(parts)).await?.into_inner();
    imported(answer, dry_run)
}

/// A document of Atomic Red Team.
#[derive(ToSchema)]
#[allow(dead_code, reason = "it describes what the service writes")]
pub struct AtomicDocument {
    attack_technique: String,
    display_name: String,
    /// Each as Atomic Red Team describes them.
    atomic_tests: Vec<Value>,
}

/// Take out templates
///
/// The templates of a technique as one document of Atomic Red Team's own YAML, which its tools read.
#[utoipa::path(get, path = "/api/v1/test-templates/export", tag = "Test templates", params(ExportTemplates),
    responses(
        (status = 200, description = "The document", body = AtomicDocument, content_type = "application/yaml",
            example = "attack_technique: T1059.001\n…"),
        (status = 404, response = NotFound),
    ))]
async fn export_templates(
    State(gateway): State<Gateway>,
    caller: Caller,
    Query(query): Query<ExportTemplates>,
) -> Result<Response, Problem> {
    let technique = query.mitre_technique_id;
    let request =
        ExportTemplatesRequest { mitre_technique_id: technique.clone(), source: query.source.unwrap_or_default() };
    let mut parts = gateway.deps.uploads.clone().export_templates(caller.ctx().outgoing(request)).await?.into_inner();
    let Some(first) = parts.message().await? else {
        return Err(Failure::not_found("templates of the technique", &technique).into());
    };
    let name = first.path.clone();
    let rest = parts.map_ok(|part| part.chunk).map_err(std::io::Error::other);
    let bytes = futures::stream::once(std::future::ready(Ok(first.chunk))).chain(rest);
    let mut response = Response::new(Body::from_stream(bytes));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/yaml"));
    let attachment = HeaderValue::from_str(&format!("attachment; filename=\"{name}\""));
    headers.insert(CONTENT_DISPOSITION, attachment.unwrap_or(HeaderValue::from_static("attachment")));
    Ok(response)
}

/// Figures of the template catalogue
///
/// Administrators only.
#[utoipa::path(get, path = "/api/v1/test-templates/stats", tag = "Test templates",
    extensions(("x-roles" = json!(["admin"]))),
    responses((status = 200, description = "The figures", body = TemplateStats)))]
async fn get_template_stats(State(gateway): State<Gateway>, caller: Caller) -> Result<Answer, Problem> {
    let request = caller.ctx().outgoing(GetTemplateStatsRequest {});
    let stats = gateway.deps.templates.clone().get_template_stats(request).await?.into_inner();
    Answer::json(&TemplateStats {
        total: stats.total,
        active: stats.active,
        inactive: stats.inactive,
        by_source: stats.by_source.into_iter().collect(),
        by_platform: stats.by_platform.into_iter().collect(),
    })
}

/// Read a template
#[utoipa::path(get, path = "/api/v1/test-templates/{id}", tag = "Test templates",
    params(("id" = Uuid, Path, description = "Template")),
    responses((status = 200, description = "The template", body = Template), (status = 404, response = NotFound)))]
async fn get_template(State(gateway): State<Gateway>, caller: Caller, id: Id) -> Result<Answer, Problem> {
    let request = GetTemplateRequest { id: id.to_string() };
    let answer = gateway.deps.templates.clone().get_template(caller.ctx().outgoing(request)).await?.into_inner();
    entity(answer.template)
}

/// Switch a template on or off
///
/// Administrators only.
#[utoipa::path(post, path = "/api/v1/test-templates/{id}/toggle-active", tag = "Test templates",
    params(("id" = Uuid, Path, description = "Template")),
    extensions(("x-roles" = json!(["admin"]))),
    responses(
        (status = 200, description = "The template", body = Template),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
    ))]
async fn toggle_template_active(State(gateway): State<Gateway>, caller: Caller, id: Id) -> Result<Answer, Problem> {
    let request = caller.ctx().outgoing(ToggleTemplateActiveRequest { id: id.to_string() });
    let answer = gateway.deps.templates.clone().toggle_template_active(request).await?.into_inner();
    entity(answer.template)
}
