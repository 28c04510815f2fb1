//! Lists of techniques.

use aegis_db::{Db, Result, contains_pattern, read};
use sqlx::{Database, Encode, QueryBuilder, Type};
use uuid::Uuid;

use super::techniques::{BRIEF, Row, techniques};
use crate::domain::{
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
    /// Lower case; in id, name or description.
    pub search: Option<String>,
    /// Sub-techniques or techniques.
    pub is_subtechnique: Option<bool>,
}

fn conditions<DB>(query: &mut QueryBuilder<DB>, filter: &Filter)
where
    DB: Database,
    for<'q> String: Encode<'q, DB> + Type<DB>,
    for<'q> &'q str: Encode<'q, DB> + Type<DB>,
    for<'q> bool: Encode<'q, DB> + Type<DB>,
{
    query.push(" FROM technique WHERE 1 = 1");
    if !filter.include_revoked {
        query.push(" AND revoked = FALSE AND deprecated = FALSE");
    }
    if let Some(tactic) = &filter.tactic {
        query.push(" AND id IN (SELECT technique_id FROM technique_tactic WHERE tactic = ");
        query.push_bind(tactic.clone()).push(")");
    }
    if let Some(platform) = &filter.platform {
        query.push(" AND id IN (SELECT technique_id FROM technique_platform WHERE platform = ");
        query.push_bind(platform.clone()).push(")");
    }
    if let Some(status) = filter.status {
        query.push(" AND COALESCE(status_override, status_computed) = ").push_bind(status.as_str());
    }
    if let Some(flag) = filter.review_required {
        query.push(" AND review_required = ").push_bind(flag);
    }
    if let Some(flag) = filter.is_subtechnique {
        query.push(" AND is_subtechnique = ").push_bind(flag);
    }
    if let Some(domain) = filter.domain {
        query.push(" AND domain = ").push_bind(domain.as_str());
    }
    if let Some(search) = &filter.search {
        let pattern = contains_pattern(search);
        query.push(" AND (LOWER(mitre_id) LIKE ").push_bind(pattern.clone());
        query.push(" ESCAPE '\\' OR LOWER(name) LIKE ").push_bind(pattern.clone());
        query.push(" ESCAPE '\\' OR LOWER(description) LIKE ").push_bind(pattern).push(" ESCAPE '\\')");
    }
}

/// A page of techniques in the order of their ids (of a search: the exact id, then ids, then names, then the rest)
/// without descriptions, and how many there are in all.
pub(crate) async fn list(db: &Db, filter: &Filter, limit: i64, offset: i64) -> Result<(Vec<Technique>, i64)> {
    let rows: Vec<Row> = read!(db, |pool| {
        let mut query = QueryBuilder::new(format!("SELECT {BRIEF}"));
        conditions(&mut query, filter);
        query.push(" ORDER BY ");
        if let Some(search) = &filter.search {
            let pattern = contains_pattern(search);
            query.push("CASE WHEN LOWER(mitre_id) = ").push_bind(search.clone());
            query.push(" THEN 0 WHEN LOWER(mitre_id) LIKE ").push_bind(pattern.clone());
            query.push(" ESCAPE '\\' THEN 1 WHEN LOWER(name) LIKE ").push_bind(pattern);
            query.push(" ESCAPE '\\' THEN 2 ELSE 3 END, ");
        }
        query.push("mitre_id, domain LIMIT ").push_bind(limit).push(" OFFSET ").push_bind(offset);
        query.build_query_as().fetch_all(pool).await
    })?;
    let shown = i64::try_from(rows.len()).unwrap_or(i64::MAX);
    let total = if shown < limit && (shown > 0 || offset == 0) {
        offset + shown
    } else {
        read!(db, |pool| {
            let mut query = QueryBuilder::new("SELECT COUNT(*)");
            conditions(&mut query, filter);
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
