//! Which ATT&CK techniques attackers show on decoys, and why that is said.

use aegis_proto::{
    catalog::v1::{GetTechniqueRequest, get_technique_request::Key},
    deception::v1::{self as proto, ListAttackerTechniquesRequest, ListObservationsRequest, ListTaggingRulesRequest},
};
use axum::extract::State;
use chrono::{DateTime, Utc};
use http::Uri;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouterExt},
    routes,
};

use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Id, Name, Query, page},
    middleware::compression,
    openapi::responses::NotFound,
    state::Gateway,
    values::{TaggingSource, filled, time_always},
};

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(list_observations).layer(compression()))
        .routes(routes!(list_attacker_techniques))
        .routes(routes!(list_tagging_rules).layer(compression()))
}

/// An attacker who showed a technique.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "mitre_id": "T1082", "attacker_uuid": "0190b7a2-a000-7c4d-b222-2d3e4f5a6b09", "attacker_ip": "203.0.113.9",
    "count": 2, "first_seen": "2024-01-01T02:22:56Z", "last_seen": "2024-01-01T02:25:19Z", "deckies": ["decky-03"],
    "services": ["ssh"], "rules": ["system-information"], "last_log_id": 1423, "last_msg": "uname -a"
}))]
pub struct Observation {
    mitre_id: String,
    #[schema(value_type = Uuid)]
    attacker_uuid: String,
    attacker_ip: String,
    #[serde(flatten)]
    seen: Seen,
}

/// A technique that an attacker showed.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "mitre_id": "T1082", "count": 2, "first_seen": "2024-01-01T02:22:56Z", "last_seen": "2024-01-01T02:25:19Z",
    "deckies": ["decky-03"], "services": ["ssh"], "rules": ["system-information"], "last_log_id": 1423,
    "last_msg": "uname -a"
}))]
pub struct AttackerTechnique {
    mitre_id: String,
    #[serde(flatten)]
    seen: Seen,
}

/// When, where and why a technique was seen.
#[derive(Serialize, ToSchema)]
pub struct Seen {
    /// Events that showed it.
    count: i64,
    first_seen: DateTime<Utc>,
    last_seen: DateTime<Utc>,
    deckies: Vec<String>,
    services: Vec<String>,
    /// Ids of the rules that said so; `GET /tagging-rules` has their reasons.
    rules: Vec<String>,
    /// The newest event that showed it; null where it was purged.
    last_log_id: Option<i64>,
    last_msg: Option<String>,
}

impl Observation {
    fn new(seen: proto::Observation) -> Observation {
        Observation {
            mitre_id: seen.mitre_id.clone(),
            attacker_uuid: seen.attacker_uuid.clone(),
            attacker_ip: seen.attacker_ip.clone(),
            seen: seen.into(),
        }
    }
}

impl From<proto::Observation> for Seen {
    fn from(seen: proto::Observation) -> Seen {
        Seen {
            count: seen.count,
            first_seen: time_always(seen.first_seen),
            last_seen: time_always(seen.last_seen),
            deckies: seen.deckies,
            services: seen.services,
            rules: seen.rules,
            last_log_id: Some(seen.last_log_id).filter(|id| *id > 0),
            last_msg: filled(seen.last_msg),
        }
    }
}

/// What tags events.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "system-information", "mitre_ids": ["T1082"], "source": "builtin",
    "reason": "uname, lscpu, dmesg and the like ask which system this is", "name": null, "author": null,
    "licence": null, "problem": null
}))]
pub struct TaggingRule {
    id: String,
    /// ATT&CK ids of what such an event shows.
    mitre_ids: Vec<String>,
    #[schema(value_type = TaggingSource)]
    source: String,
    /// Why such an event shows it.
    reason: String,
    /// Title of a rule of the catalogue.
    name: Option<String>,
    /// Who wrote a rule of the catalogue.
    author: Option<String>,
    /// Licence of a rule of the catalogue.
    licence: Option<String>,
    /// Why a rule of the catalogue tags nothing, though it is for what decoys see; null where it is in use.
    problem: Option<String>,
}

/// Part of a list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListObservations {
    /// Rows at most.
    #[param(minimum = 1, maximum = 5000, default = 1000)]
    limit: Option<u32>,
    /// Rows to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
}

/// Part of a list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListTaggingRules {
    /// Rows at most.
    #[param(minimum = 1, maximum = 5000, default = 1000)]
    limit: Option<u32>,
    /// Rows to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
}

/// List who showed a technique
///
/// On decoys: one row for each attacker, the last seen first. A technique that nobody has shown has none; one that is
/// not in the matrix either is 404.
#[utoipa::path(get, path = "/api/v1/techniques/{mitre_id}/observations", tag = "Attackers",
    params(("mitre_id" = String, Path, description = "ATT&CK id", example = "T1082"), ListObservations),
    responses(
        (status = 200, description = "Observations", body = [Observation]),
        (status = 404, response = NotFound),
    ))]
async fn list_observations(
    State(gateway): State<Gateway>,
    caller: Caller,
    Name(mitre_id): Name,
    Query(query): Query<ListObservations>,
) -> Result<Answer, Problem> {
    let (page_size, skip) = page(query.limit, query.offset, 1000, 5000)?;
    let ctx = caller.ctx();
    let request = ListObservationsRequest { mitre_id: mitre_id.clone(), page_size, page_token: String::new(), skip };
    let answer = gateway.deps.observations.clone().list_observations(ctx.outgoing(request)).await?.into_inner();
    if answer.total_size == 0 {
        let request = ctx.outgoing(GetTechniqueRequest { key: Some(Key::MitreId(mitre_id)) });
        gateway.deps.catalog.clone().get_technique(request).await?;
    }
    let rows: Vec<Observation> = answer.observations.into_iter().map(Observation::new).collect();
    Answer::list(&rows, answer.total_size)
}

/// List an attacker's techniques
///
/// The most often shown first, each with the rules that said so.
#[utoipa::path(get, path = "/api/v1/attackers/{uuid}/techniques", tag = "Attackers",
    params(("uuid" = Uuid, Path, description = "Attacker")),
    responses(
        (status = 200, description = "Techniques", body = [AttackerTechnique]),
        (status = 404, response = NotFound),
    ))]
async fn list_attacker_techniques(State(gateway): State<Gateway>, caller: Caller, id: Id) -> Result<Answer, Problem> {
    let request = caller.ctx().outgoing(ListAttackerTechniquesRequest { uuid: id.to_string() });
    let answer = gateway.deps.observations.clone().list_attacker_techniques(request).await?.into_inner();
    let rows = answer.techniques.into_iter();
    let rows: Vec<AttackerTechnique> =
        rows.map(|seen| AttackerTechnique { mitre_id: seen.mitre_id.clone(), seen: seen.into() }).collect();
    Answer::list(&rows, rows.len() as i64)
}

/// List what tags events
///
/// Which events show which techniques, and why: our own rules, then what several events of one attacker show together
/// (such as one password tried for many names), then the catalogue's Sigma rules for what decoys see, by key. A rule's id
/// is what observations name; that of a Sigma rule is its key among `/detection-rules`.
#[utoipa::path(get, path = "/api/v1/tagging-rules", tag = "Attackers", params(ListTaggingRules),
    responses((status = 200, description = "Rules", body = [TaggingRule])))]
async fn list_tagging_rules(
    State(gateway): State<Gateway>,
    caller: Caller,
    uri: Uri,
    Query(query): Query<ListTaggingRules>,
) -> Result<Answer, Problem> {
    let (limit, offset) = page(query.limit, query.offset, 1000, 5000)?;
    let load = async {
        let request = caller.ctx().outgoing(ListTaggingRulesRequest {});
        let rules = gateway.deps.observations.clone().list_tagging_rules(request).await?.into_inner().rules;
        let total = rules.len() as i64;
        let rows = rules.into_iter().skip(offset as usize).take(limit as usize).map(|rule| TaggingRule {
            id: rule.id,
            mitre_ids: rule.mitre_ids,
            source: rule.source,
            reason: rule.reason,
            name: filled(rule.name),
            author: filled(rule.author),
            licence: filled(rule.licence),
            problem: filled(rule.problem),
        });
        Answer::list(&rows.collect::<Vec<_>>(), total)
    };
    gateway.hot.answer(&caller, &uri, load).await
}
