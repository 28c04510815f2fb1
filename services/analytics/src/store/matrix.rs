//! The SQL that reads the matrix: all of it, or what has changed since.

use std::collections::{BTreeSet, HashMap};

use aegis_db::{Result, Tx, on};
use chrono::{DateTime, Utc};
use sqlx::types::Json;
use uuid::Uuid;

use crate::domain::{
    Status,
    matrix::{MatrixTechnique, Verdicts},
};

/// Tells whether something has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Stamp {
    pub(crate) as_of: Option<DateTime<Utc>>,
    pub(crate) knowledge_revision: i64,
    pub(crate) observed_revision: i64,
    /// Rows may have gone when this has changed; else rows only come and change.
    pub(crate) epoch: i64,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    mitre_id: String,
    name: String,
    domain: String,
    tactics: Json<Vec<String>>,
    platforms: Json<Vec<String>>,
    parent_mitre_id: Option<String>,
    status: String,
    active: bool,
    deleted: bool,
    revoked_by: Option<String>,
    n: Option<i64>,
    validated: Option<i64>,
    detected: Option<i64>,
    partially_detected: Option<i64>,
    not_detected: Option<i64>,
    last_validated_at: Option<DateTime<Utc>>,
}

/// The ids of what was taken in after a moment: of techniques, and of those whose tests count otherwise.
macro_rules! changed {
    () => {
        "(SELECT id FROM technique WHERE taken_at > $1 \
         UNION SELECT technique_id FROM technique_tests WHERE taken_at > $1)"
    };
}

macro_rules! techniques {
    () => {
        "SELECT t.id, t.mitre_id, t.name, t.domain, t.tactics, t.platforms, t.parent_mitre_id, t.status, t.active, \
         t.deleted, t.revoked_by, v.n, v.validated, v.detected, v.partially_detected, v.not_detected, \
         v.last_validated_at FROM technique t LEFT JOIN technique_tests v ON v.technique_id = t.id WHERE "
    };
}

/// When the projection last took something in, and what else tells of a change.
pub(crate) async fn stamp(tx: &mut Tx) -> Result<Stamp> {
    Ok(on!(tx, |c| sqlx::query_as("SELECT as_of, knowledge_revision, observed_revision, epoch FROM meta")
        .fetch_one(c)
        .await)?)
}

/// Techniques with what their tests say, in no order: all, or those that have changed after a moment; of those that are
/// gone since only the ids. Which release of ATT&CK they are of is not known here.
pub(crate) async fn techniques(tx: &mut Tx, after: Option<DateTime<Utc>>) -> Result<(Vec<MatrixTechnique>, Vec<Uuid>)> {
    let rows: Vec<Row> = on!(tx, |c| match after {
        Some(after) => sqlx::query_as(concat!(techniques!(), "t.id IN ", changed!())).bind(after).fetch_all(c).await,
        None => sqlx::query_as(concat!(techniques!(), "t.deleted = FALSE")).fetch_all(c).await,
    })?;
    let platforms: Vec<(Uuid, String)> = on!(tx, |c| match after {
        Some(after) => {
            let query = sqlx::query_as(concat!(
                "SELECT technique_id, platform FROM technique_platform WHERE n > 0 AND technique_id IN ",
                changed!()
            ));
            query.bind(after).fetch_all(c).await
        }
        None => sqlx::query_as("SELECT technique_id, platform FROM technique_platform WHERE n > 0").fetch_all(c).await,
    })?;
    let mut tested: HashMap<Uuid, BTreeSet<String>> = HashMap::new();
    for (technique, platform) in platforms {
        tested.entry(technique).or_default().insert(platform);
    }
    let mut gone = Vec::new();
    let mut techniques = Vec::with_capacity(rows.len());
    for row in rows {
        if row.deleted {
            gone.push(row.id);
            continue;
        }
        let platforms = tested.remove(&row.id).unwrap_or_default();
        techniques.push(technique(row, platforms));
    }
    Ok((techniques, gone))
}

fn technique(row: Row, platforms: BTreeSet<String>) -> MatrixTechnique {
    MatrixTechnique {
        id: row.id,
        mitre_id: row.mitre_id.into(),
        name: row.name,
        domain: row.domain,
        tactics: row.tactics.0,
        platforms: row.platforms.0,
        parent_mitre_id: row.parent_mitre_id,
        // Only names of statuses are ever written.
        status: Status::parse(&row.status).unwrap_or(Status::NotEvaluated),
        active: row.active,
        revoked_by: row.revoked_by,
        attack_version: None,
        tests: Verdicts {
            all: row.n.unwrap_or(0),
            validated: row.validated.unwrap_or(0),
            detected: row.detected.unwrap_or(0),
            partially_detected: row.partially_detected.unwrap_or(0),
            not_detected: row.not_detected.unwrap_or(0),
            last_validated_at: row.last_validated_at,
            platforms,
        },
    }
}
