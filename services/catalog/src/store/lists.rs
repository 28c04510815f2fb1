//! Lists of techniques.

use aegis_db::{Db, Result, contains_pattern, read};
use sqlx::{Database, Encode, QueryBuilder, Type};
use uuid::Uuid;

use super::{
    search::Ask,
    techniques::{BRIEF, Row, techniques},
};
use crate::domain::{
    search::{TECHNIQUE, Words},
    status::Status,
    technique::{Domain, Technique},
};

/// Which techniques; what is `None` is not asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    /// Short name.
    pub tactic: Option<String>,
    /// The status that everyone sees.
    pub status: Option<Status>,
    /// Flagged for review.
    pub review_required: Option<bool>,
    /// Revoked and deprecated ones too.
    pub include_revoked: bool,
    /// Matrix.
    pub domain: Option<Domain>,
    /// Lower case.
    pub platform: Option<String>,
    /// Lower case; as it stands in id or name, or its words anywhere.
    pub search: Option<String>,
    /// Sub-techniques or techniques.
    pub is_subtechnique: Option<bool>,
    /// Whether it goes down. `None`: the best first in a search, else by id.
    pub sort: Option<(Sort, bool)>,
}

/// What techniques are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    MitreId,
    Name,
    Updated,
    Status,
}

/// The conditions of a list. `ranked` is whether there is a table of what has the words.
fn conditions<DB>(query: &mut QueryBuilder<DB>, filter: &Filter, ranked: bool)
where
    DB: Database,
    for<'q> String: Encode<'q, DB> + Type<DB>,
    for<'q> &'q str: Encode<'q, DB> + Type<DB>,
    for<'q> bool: Encode<'q, DB> + Type<DB>,
{
    query.push(" FROM technique t");
    if ranked {
        query.push(" LEFT JOIN ranked r ON r.entry_id = t.id");
    }
    query.push(" WHERE 1 = 1");
    if !filter.include_revoked {
        query.push(" AND t.revoked = FALSE AND t.deprecated = FALSE");
    }
    if let Some(tactic) = &filter.tactic {
        query.push(" AND t.id IN (SELECT technique_id FROM technique_tactic WHERE tactic = ");
        query.push_bind(tactic.clone()).push(")");
    }
    if let Some(platform) = &filter.platform {
        query.push(" AND t.id IN (SELECT technique_id FROM technique_platform WHERE platform = ");
        query.push_bind(platform.clone()).push(")");
    }
    if let Some(status) = filter.status {
        query.push(" AND COALESCE(t.status_override, t.status_computed) = ").push_bind(status.as_str());
    }
    if let Some(flag) = filter.review_required {
        query.push(" AND t.review_required = ").push_bind(flag);
    }
    if let Some(flag) = filter.is_subtechnique {
        query.push(" AND t.is_subtechnique = ").push_bind(flag);
    }
    if let Some(domain) = filter.domain {
        query.push(" AND t.domain = ").push_bind(domain.as_str());
    }
    if let Some(search) = &filter.search {
        // A matrix is small: a part of a name is found too, and what is not active has no words sorted in.
        let pattern = contains_pattern(search);
        query.push(if ranked { " AND (r.tier IS NOT NULL OR " } else { " AND (" });
        query.push("LOWER(t.mitre_id) LIKE ").push_bind(pattern.clone());
        query.push(" ESCAPE '\\' OR LOWER(t.name) LIKE ").push_bind(pattern.clone());
        query.push(" ESCAPE '\\' OR ").push(if ranked { "(t.revoked OR t.deprecated) AND " } else { "" });
        query.push("LOWER(t.description) LIKE ").push_bind(pattern).push(" ESCAPE '\\')");
    }
}

fn push_order<DB: Database>(query: &mut QueryBuilder<DB>, filter: &Filter, ranked: bool) {
    query.push(" ORDER BY ");
    let down = match filter.sort {
        // What has the search in the middle of a word of its name comes before what has it in its text.
        None if ranked => {
            query.push("CASE WHEN r.tier IS NULL THEN 4.5 ELSE r.tier END, r.score, t.mitre_id, t.domain");
            return;
        }
        None | Some((Sort::MitreId, false)) => "",
        Some((Sort::MitreId, true)) => " DESC",
        Some((sort, down)) => {
            query.push(match sort {
                Sort::Name => "t.name",
                Sort::Updated => "t.updated_at",
                // From what nothing is known of to what is validated.
                Sort::Status | Sort::MitreId => STATUS,
            });
            query.push(if down { " DESC, " } else { ", " });
            ""
        }
    };
    query.push("t.mitre_id").push(down).push(", t.domain").push(down);
}

const STATUS: &str = "CASE COALESCE(t.status_override, t.status_computed) WHEN 'not_evaluated' THEN 0 \
     WHEN 'in_progress' THEN 1 WHEN 'not_covered' THEN 2 WHEN 'partial' THEN 3 ELSE 4 END";

/// A page of techniques in the order of their ids (of a search: the exact id, then ids, then names, then the rest)
/// without descriptions, and how many there are in all.
pub(crate) async fn list(db: &Db, filter: &Filter, limit: i64, offset: i64) -> Result<(Vec<Technique>, i64)> {
    let words = filter.search.as_deref().and_then(Words::parse);
    let ask = words.as_ref().map(|words| Ask::all_of(db, words, &[TECHNIQUE]));
    let rows: Vec<Row> = read!(db, |pool| {
        let mut query = QueryBuilder::new("");
        if let Some(ask) = ask {
            ask.push_ranked(&mut query);
        }
        query.push("SELECT ").push(BRIEF);
        conditions(&mut query, filter, ask.is_some());
        push_order(&mut query, filter, ask.is_some());
        query.push(" LIMIT ").push_bind(limit).push(" OFFSET ").push_bind(offset);
        query.build_query_as().fetch_all(pool).await
    })?;
    let shown = i64::try_from(rows.len()).unwrap_or(i64::MAX);
    let total = if shown < limit && (shown > 0 || offset == 0) {
        offset + shown
    } else {
        read!(db, |pool| {
            let mut query = QueryBuilder::new("");
            if let Some(ask) = ask {
                ask.push_ranked(&mut query);
            }
            query.push("SELECT COUNT(*)");
            conditions(&mut query, filter, ask.is_some());
            query.build_query_scalar::<i64>().fetch_one(pool).await
        })?
    };
    Ok((techniques(rows)?, total))
}

/// The techniques after an id, in the order of ids, without descriptions.
pub(crate) async fn after(db: &Db, id: Uuid, limit: i64) -> Result<Vec<Technique>> {
    let rows: Vec<Row> = read!(db, |pool| {
        let mut query = QueryBuilder::new(format!("SELECT {BRIEF} FROM technique WHERE id > "));
        query.push_bind(id).push(" ORDER BY id LIMIT ").push_bind(limit);
        query.build_query_as().fetch_all(pool).await
    })?;
    techniques(rows)
}
