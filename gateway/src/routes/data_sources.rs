//! Where knowledge comes from. Administrators only.

use aegis_proto::intel::v1::{
    self as proto, GetDataSourceRequest, ListDataSourcesRequest, StartSyncRequest, UpdateDataSourceRequest,
};
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::system::{Job, SyncQuery, SyncResult, started, synced};
use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Json, Name, Query, page},
    openapi::responses::{Conflict, NotFound, SourceUnreachable, TooLarge, Unprocessable},
    state::Gateway,
    values::{Change, JobStatus, json, set, time, time_always},
};

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(list_data_sources))
        .routes(routes!(get_data_source, update_data_source))
        .routes(routes!(sync_data_source))
}

/// A source of knowledge.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0190b7a2-b000-7d5e-8333-3e4f5a6b7c01", "name": "mitre_attack_enterprise", "kind": "mitre_attack",
    "url": "https://example.com/enterprise-attack.json", "companion_url": null, "enabled": true, "schedule": null,
    "last_sync_at": "2024-01-01T00:00:00Z", "last_status": "succeeded", "last_error": null,
    "last_counts": {"new": 5, "updated": 10}, "upstream_version": "18.1", "updated_at": "2024-01-01T00:00:00Z"
}))]
pub struct DataSource {
    #[schema(value_type = Uuid)]
    id: String,
    name: String,
    kind: String,
    /// https:, http: or file:
    url: String,
    /// The second document of a source that needs two.
    companion_url: Option<String>,
    enabled: bool,
    /// A cron expression; null for by hand only.
    schedule: Option<String>,
    last_sync_at: Option<DateTime<Utc>>,
    #[schema(value_type = Option<JobStatus>)]
    last_status: Option<String>,
    last_error: Option<String>,
    /// Counts of the last sync.
    #[schema(value_type = Option<Object>)]
    last_counts: serde_json::Value,
    /// The publisher's version of what was last brought in.
    upstream_version: Option<String>,
    updated_at: DateTime<Utc>,
}

impl From<proto::DataSource> for DataSource {
    fn from(source: proto::DataSource) -> DataSource {
        DataSource {
            id: source.id,
            name: source.name,
            kind: source.kind,
            url: source.url,
            companion_url: source.companion_url,
            enabled: source.enabled,
            schedule: source.schedule,
            last_sync_at: time(source.last_sync_at),
            last_status: source.last_status,
            last_error: source.last_error,
            last_counts: json(&source.last_counts_json),
            upstream_version: source.upstream_version,
            updated_at: time_always(source.updated_at),
        }
    }
}

/// Part of the list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListDataSources {
    /// Rows at most.
    #[param(minimum = 1, maximum = 5000, default = 1000)]
    limit: Option<u32>,
    /// Rows to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
}

/// Changes of a data source; what is absent is left alone.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"url": "file:///srv/mirror/enterprise-attack.json.zst", "enabled": true}))]
pub struct DataSourceChanges {
    /// https:, http: or file:; `.zst`, `.gz`, `.tar.zst`, `.tar.gz` and `.zip` are read as they are.
    #[serde(default, deserialize_with = "set")]
    #[schema(value_type = String, required = false)]
    url: Option<String>,
    /// The second document of a source that needs two: D3FEND's mappings beside its ontology, the texts of NIST's
    /// controls beside their mappings. `{id}` in it stands for each technique.
    #[serde(default, deserialize_with = "set")]
    #[schema(value_type = String, required = false)]
    companion_url: Option<String>,
    #[serde(default, deserialize_with = "set")]
    #[schema(value_type = bool, required = false)]
    enabled: Option<bool>,
    /// A cron expression; `null` for by hand only.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    schedule: Change<String>,
}

/// List data sources
///
/// Administrators only.
#[utoipa::path(get, path = "/api/v1/data-sources", tag = "Data sources", params(ListDataSources),
    extensions(("x-roles" = json!(["admin"]))),
    responses((status = 200, description = "Data sources", body = [DataSource])))]
async fn list_data_sources(
    State(gateway): State<Gateway>,
    caller: Caller,
    Query(query): Query<ListDataSources>,
) -> Result<Answer, Problem> {
    let (limit, offset) = page(query.limit, query.offset, 1000, 5000)?;
    let request = ListDataSourcesRequest { page_size: 1000, page_token: String::new() };
    let answer = gateway.deps.intel.clone().list_data_sources(caller.ctx().outgoing(request)).await?.into_inner();
    let sources = answer.data_sources.into_iter().skip(offset as usize).take(limit as usize);
    Answer::list(&sources.map(DataSource::from).collect::<Vec<_>>(), answer.total_size)
}

/// The answer with this data source.
fn entity(source: Option<proto::DataSource>) -> Result<Answer, Problem> {
    let source = source.ok_or_else(Problem::empty)?;
    Answer::entity(source.version, &DataSource::from(source))
}

/// Read a data source
///
/// Administrators only.
#[utoipa::path(get, path = "/api/v1/data-sources/{id}", tag = "Data sources",
    params(("id" = String, Path, description = "UUID or name", example = "mitre_attack_enterprise")),
    extensions(("x-roles" = json!(["admin"]))),
    responses(
        (status = 200, description = "The data source", body = DataSource),
        (status = 404, response = NotFound),
    ))]
async fn get_data_source(State(gateway): State<Gateway>, caller: Caller, Name(id): Name) -> Result<Answer, Problem> {
    let request = caller.ctx().outgoing(GetDataSourceRequest { id });
    entity(gateway.deps.intel.clone().get_data_source(request).await?.into_inner().data_source)
}

/// Change a data source
///
/// Administrators only: its URL (a mirror, a file), its schedule, whether it is enabled.
#[utoipa::path(patch, path = "/api/v1/data-sources/{id}", tag = "Data sources", request_body = DataSourceChanges,
    params(("id" = String, Path, description = "UUID or name", example = "mitre_attack_enterprise")),
    extensions(("x-roles" = json!(["admin"]))),
    responses(
        (status = 200, description = "Changed", body = DataSource),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
    ))]
async fn update_data_source(
    State(gateway): State<Gateway>,
    caller: Caller,
    Name(id): Name,
    Json(body): Json<DataSourceChanges>,
) -> Result<Answer, Problem> {
    let (schedule, clear_schedule) = body.schedule.parts();
    let request = UpdateDataSourceRequest {
        id,
        url: body.url,
        enabled: body.enabled,
        schedule,
        clear_schedule,
        companion_url: body.companion_url,
    };
    let answer = gateway.deps.intel.clone().update_data_source(caller.ctx().outgoing(request)).await?.into_inner();
    entity(answer.data_source)
}

/// Sync a data source
///
/// Administrators only. Answers when it has ended, ten minutes at most; with `async=true` at once, with a job to
/// poll. With `dry_run=true` nothing is changed, and the job says what would be: new, changed, revoked with successor,
/// and which tests and templates that touches. One sync of a source at a time (409). A document that cannot be read
/// changes nothing and is 422; so is one that lacks more than half of what the source brought before (of 100 records or
/// more), unless `force=true` says that this is right.
#[utoipa::path(post, path = "/api/v1/data-sources/{id}/sync", tag = "Data sources",
    params(("id" = String, Path, description = "UUID or name", example = "mitre_attack_enterprise"), SyncQuery),
    extensions(("x-roles" = json!(["admin"]))),
    responses(
        (status = 200, description = "Synced", body = SyncResult),
        (status = 202, description = "Started; Location is the job", body = Job),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
        (status = 413, response = TooLarge),
        (status = 422, response = Unprocessable),
        (status = 424, response = SourceUnreachable),
    ))]
async fn sync_data_source(
    State(gateway): State<Gateway>,
    caller: Caller,
    Name(id): Name,
    Query(query): Query<SyncQuery>,
) -> Result<Answer, Problem> {
    let wait = !query.background();
    let (dry_run, force) = (query.dry_run(), query.force());
    let request = StartSyncRequest { source_id: id, wait, dry_run, force, ..StartSyncRequest::default() };
    let answer = gateway.deps.intel.clone().start_sync(caller.ctx().outgoing(request)).await?.into_inner();
    let job = answer.job.ok_or_else(Problem::empty)?;
    if wait {
        let message = match job.dry_run {
            true => format!("{} sync tried out, nothing was changed", job.source_name),
            false => format!("{} sync completed", job.source_name),
        };
        return synced(&gateway, &caller, job, message).await;
    }
    started(job)
}
