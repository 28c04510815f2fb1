//! One search over techniques, templates and the whole knowledge base.

use aegis_error::Fields;
use aegis_proto::catalog::v1::{self as proto, SearchRequest};
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Query, page},
    state::Gateway,
    values::filled,
};

/// What can be searched for.
const KINDS: &[&str] = &[
    "technique",
    "template",
    "threat_actor",
    "software",
    "campaign",
    "mitigation",
    "detection_strategy",
    "analytic",
    "data_component",
    "asset",
    "detection_rule",
    "defence",
    "framework",
    "control",
];

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new().routes(routes!(search))
}

/// Something that was found.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "kind": "technique", "id": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a11", "key": "T1059.001", "name": "PowerShell",
    "source": "mitre_attack", "excerpt": null, "url": "/api/v1/techniques/T1059.001"
}))]
pub struct SearchHit {
    /// technique | template | a kind of the knowledge base
    kind: String,
    #[schema(value_type = Uuid)]
    id: String,
    /// Its ATT&CK id, or the key of its kind.
    key: String,
    name: String,
    source: String,
    /// The words around the hit, as plain text; null where its id or name was hit.
    excerpt: Option<String>,
    /// Where to read it.
    url: String,
}

impl From<proto::SearchHit> for SearchHit {
    fn from(hit: proto::SearchHit) -> SearchHit {
        let url = match hit.kind.as_str() {
            "technique" => format!("/api/v1/techniques/{}", hit.key),
            "template" => format!("/api/v1/test-templates/{}", hit.id),
            "threat_actor" => format!("/api/v1/threat-actors/{}", hit.id),
            "detection_rule" => format!("/api/v1/detection-rules/{}", hit.id),
            "defence" => format!("/api/v1/d3fend/{}", hit.id),
            kind => format!("/api/v1/knowledge/{kind}/{}", hit.id),
        };
        SearchHit {
            kind: hit.kind,
            id: hit.id,
            key: hit.key,
            name: hit.name,
            source: hit.source,
            excerpt: filled(hit.excerpt),
            url,
        }
    }
}

/// What to search for.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SearchQuery {
    /// Words; all of them must be there, the last one may be the beginning of one.
    #[param(example = "credential dump", min_length = 1, max_length = 200)]
    q: String,
    /// Kinds with commas between them: technique, template, threat_actor, software …
    #[param(example = "technique,software")]
    kind: Option<String>,
    /// Rows at most.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<u32>,
    /// Rows to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
}

/// Search everything
///
/// Exact ids come first, then names, then texts. `X-Total-Count` has the number of all that were found, 2,000 at most.
#[utoipa::path(get, path = "/api/v1/search", tag = "Knowledge", params(SearchQuery),
    responses((status = 200, description = "What was found, the best first", body = [SearchHit])))]
async fn search(
    State(gateway): State<Gateway>,
    caller: Caller,
    Query(query): Query<SearchQuery>,
) -> Result<Answer, Problem> {
    let (page_size, skip) = page(query.limit, query.offset, 20, 100)?;
    let kinds = query.kind.iter().flat_map(|kinds| kinds.split(',')).map(str::trim).filter(|kind| !kind.is_empty());
    let mut kinds: Vec<String> = kinds.map(str::to_owned).collect();
    kinds.sort_unstable();
    kinds.dedup();
    // The service has other names for these.
    let mut fields = Fields::default();
    fields.text("q", query.q.trim(), 1, 200);
    for kind in &kinds {
        fields.one_of("kind", kind, KINDS);
    }
    fields.finish()?;
    let request = SearchRequest { query: query.q, kinds, page_size, page_token: String::new(), skip };
    let answer = gateway.deps.knowledge.clone().search(caller.ctx().outgoing(request)).await?.into_inner();
    Answer::list(&answer.hits.into_iter().map(SearchHit::from).collect::<Vec<_>>(), answer.total_size)
}
