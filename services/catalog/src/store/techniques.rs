//! Techniques as rows: one at a time and in bulk.

use std::collections::HashSet;

use aegis_db::{Db, Result, Tx, on, read};
use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, QueryBuilder, types::Json};
use uuid::Uuid;

use super::{MAX_BINDS, dialect, unknown_text};
use crate::domain::{
    status::Status,
    technique::{Domain, PersonSet, Source, Technique},
};

/// The columns that lists show. Each one costs SQLite's driver two allocations a row.
macro_rules! brief {
    () => {
        "id, mitre_id, domain, name, url, is_subtechnique, parent_mitre_id, attack_version, platforms, tactics, \
         status_computed, status_override, review_required, last_reviewed_at, revoked, revoked_by, deprecated, source, \
         version, created_at, updated_at"
    };
}
pub(super) const COLUMNS: &str =
    concat!(brief!(), ", description, last_reviewed_by, stix_id, content_hash, person_set");
/// For answers of many: descriptions are most of the bytes.
pub(super) const BRIEF: &str = brief!();
/// For writing, and how many they are.
const INSERT: &str = "INSERT INTO technique (id, mitre_id, domain, name, description, url, is_subtechnique, \
     parent_mitre_id, attack_version, platforms, tactics, status_computed, status_override, review_required, \
     last_reviewed_at, last_reviewed_by, revoked, revoked_by, deprecated, source, stix_id, content_hash, person_set, \
     version, created_at, updated_at) ";
const COLUMN_COUNT: usize = 26;
const UPSERT: &str = " ON CONFLICT (id) DO UPDATE SET mitre_id = excluded.mitre_id, name = excluded.name, \
     description = excluded.description, url = excluded.url, is_subtechnique = excluded.is_subtechnique, \
     parent_mitre_id = excluded.parent_mitre_id, attack_version = excluded.attack_version, \
     platforms = excluded.platforms, tactics = excluded.tactics, status_computed = excluded.status_computed, \
     status_override = excluded.status_override, review_required = excluded.review_required, \
     last_reviewed_at = excluded.last_reviewed_at, last_reviewed_by = excluded.last_reviewed_by, \
     revoked = excluded.revoked, revoked_by = excluded.revoked_by, deprecated = excluded.deprecated, \
     source = excluded.source, stix_id = excluded.stix_id, content_hash = excluded.content_hash, \
     person_set = excluded.person_set, version = excluded.version, updated_at = excluded.updated_at \
     WHERE technique.version < excluded.version";

#[derive(sqlx::FromRow)]
pub(super) struct Row {
    id: Uuid,
    mitre_id: String,
    domain: String,
    name: String,
    #[sqlx(default)]
    description: Option<String>,
    url: Option<String>,
    is_subtechnique: bool,
    parent_mitre_id: Option<String>,
    attack_version: Option<String>,
    platforms: Json<Vec<String>>,
    tactics: Json<Vec<String>>,
    status_computed: String,
    status_override: Option<String>,
    review_required: bool,
    last_reviewed_at: Option<DateTime<Utc>>,
    #[sqlx(default)]
    last_reviewed_by: Option<String>,
    revoked: bool,
    revoked_by: Option<String>,
    deprecated: bool,
    source: String,
    #[sqlx(default)]
    stix_id: Option<String>,
    #[sqlx(default)]
    content_hash: Option<Vec<u8>>,
    #[sqlx(default)]
    person_set: i64,
    version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl TryFrom<Row> for Technique {
    type Error = aegis_db::Error;

    fn try_from(row: Row) -> Result<Technique> {
        let status = |column: &str, text: &str| Status::parse(text).ok_or_else(|| unknown_text(column, text));
        Ok(Technique {
            domain: Domain::parse(&row.domain).ok_or_else(|| unknown_text("domain", &row.domain))?,
            source: Source::parse(&row.source).ok_or_else(|| unknown_text("source", &row.source))?,
            status_computed: status("status_computed", &row.status_computed)?,
            status_override: row.status_override.as_deref().map(|s| status("status_override", s)).transpose()?,
            id: row.id,
            mitre_id: row.mitre_id,
            name: row.name,
            description: row.description,
            url: row.url,
            is_subtechnique: row.is_subtechnique,
            parent_mitre_id: row.parent_mitre_id,
            attack_version: row.attack_version,
            platforms: row.platforms.0,
            tactics: row.tactics.0,
            review_required: row.review_required,
            last_reviewed_at: row.last_reviewed_at,
            last_reviewed_by: row.last_reviewed_by,
            revoked: row.revoked,
            revoked_by: row.revoked_by,
            deprecated: row.deprecated,
            stix_id: row.stix_id,
            content_hash: row.content_hash,
            person_set: PersonSet::from_bits(row.person_set),
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

pub(super) fn techniques(rows: Vec<Row>) -> Result<Vec<Technique>> {
    rows.into_iter().map(Technique::try_from).collect()
}

/// An id that several matrices use is the enterprise technique's.
const BY_MITRE_ID: &str = " FROM technique WHERE mitre_id = $1 \
     ORDER BY CASE domain WHEN 'enterprise' THEN 0 WHEN 'mobile' THEN 1 ELSE 2 END LIMIT 1";

/// The technique with an ATT&CK id.
pub(crate) async fn by_mitre_id(db: &Db, mitre_id: &str) -> Result<Option<Technique>> {
    let sql = format!("SELECT {COLUMNS}{BY_MITRE_ID}");
    let row = read!(db, |pool| sqlx::query_as::<_, Row>(AssertSqlSafe(sql)).bind(mitre_id).fetch_optional(pool).await)?;
    row.map(Technique::try_from).transpose()
}

/// The technique with an id of ours.
pub(crate) async fn by_id(db: &Db, id: Uuid) -> Result<Option<Technique>> {
    let sql = format!("SELECT {COLUMNS} FROM technique WHERE id = $1");
    let row = read!(db, |pool| sqlx::query_as::<_, Row>(AssertSqlSafe(sql)).bind(id).fetch_optional(pool).await)?;
    row.map(Technique::try_from).transpose()
}

/// The technique with an ATT&CK id, held until the end of the transaction.
pub(crate) async fn lock_by_mitre_id(tx: &mut Tx, mitre_id: &str) -> Result<Option<Technique>> {
    let sql = format!("SELECT {COLUMNS}{BY_MITRE_ID}{}", dialect::for_update(tx));
    let row = on!(tx, |c| sqlx::query_as::<_, Row>(AssertSqlSafe(sql)).bind(mitre_id).fetch_optional(c).await)?;
    row.map(Technique::try_from).transpose()
}

/// The technique with an id of ours, held until the end of the transaction.
pub(crate) async fn lock_by_id(tx: &mut Tx, id: Uuid) -> Result<Option<Technique>> {
    let sql = format!("SELECT {COLUMNS} FROM technique WHERE id = $1{}", dialect::for_update(tx));
    let row = on!(tx, |c| sqlx::query_as::<_, Row>(AssertSqlSafe(sql)).bind(id).fetch_optional(c).await)?;
    row.map(Technique::try_from).transpose()
}

/// The status of a technique that its tests gave it last.
pub(crate) async fn computed_status(tx: &mut Tx, id: Uuid) -> Result<Option<Status>> {
    let name: Option<String> = on!(tx, |c| sqlx::query_scalar("SELECT status_computed FROM technique WHERE id = $1")
        .bind(id)
        .fetch_optional(c)
        .await)?;
    Ok(name.map(|name| Status::parse(&name).unwrap_or_default()))
}

/// All techniques of a domain, held until the end of the transaction.
pub(crate) async fn lock_domain(tx: &mut Tx, domain: Domain) -> Result<Vec<Technique>> {
    let sql = format!("SELECT {COLUMNS} FROM technique WHERE domain = $1 ORDER BY id{}", dialect::for_update(tx));
    let rows: Vec<Row> = on!(tx, |c| sqlx::query_as(AssertSqlSafe(sql)).bind(domain.as_str()).fetch_all(c).await)?;
    techniques(rows)
}

/// All techniques without their descriptions, held until the end of the transaction.
pub(crate) async fn lock_all(tx: &mut Tx) -> Result<Vec<Technique>> {
    let sql = format!("SELECT {BRIEF} FROM technique ORDER BY id{}", dialect::for_update(tx));
    let rows: Vec<Row> = on!(tx, |c| sqlx::query_as(AssertSqlSafe(sql)).fetch_all(c).await)?;
    techniques(rows)
}

/// Starter techniques that a test points at.
pub(crate) async fn tested_starters(tx: &mut Tx) -> Result<HashSet<Uuid>> {
    let ids: Vec<Uuid> = on!(tx, |c| sqlx::query_scalar(
        "SELECT DISTINCT f.technique_id FROM test_fact f JOIN technique t ON t.id = f.technique_id \
         WHERE t.source = 'starter' AND f.deleted = FALSE"
    )
    .fetch_all(c)
    .await)?;
    Ok(ids.into_iter().collect())
}

/// The ATT&CK ids that are known.
pub(crate) async fn names(tx: &mut Tx) -> Result<Vec<String>> {
    Ok(on!(tx, |c| sqlx::query_scalar("SELECT DISTINCT mitre_id FROM technique").fetch_all(c).await)?)
}

/// Which revoked techniques of a domain lead to one, and where a chain of successors can end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Succession {
    /// Those that it replaces, directly or in the end, by id.
    pub replaces: Vec<String>,
    /// The end of the chain that begins with it, where that is a technique that is known and not revoked.
    pub successor: Option<String>,
}

/// What a technique replaces, and what replaces it in the end.
pub(crate) async fn succession(db: &Db, technique: &Technique) -> Result<Succession> {
    // What leads round in a circle is found once.
    let replaces: Vec<String> = read!(db, |pool| sqlx::query_scalar(
        "WITH RECURSIVE old (mitre_id) AS (\
         SELECT mitre_id FROM technique WHERE revoked_by = $1 AND domain = $2 AND revoked = TRUE \
         UNION SELECT t.mitre_id FROM old JOIN technique t ON t.revoked_by = old.mitre_id AND t.domain = $2 \
         AND t.revoked = TRUE) SELECT mitre_id FROM old WHERE mitre_id <> $1 ORDER BY mitre_id LIMIT 1000"
    )
    .bind(&technique.mitre_id)
    .bind(technique.domain.as_str())
    .fetch_all(pool)
    .await)?;
    let successor = match (&technique.revoked_by, technique.revoked) {
        (Some(next), true) => read!(db, |pool| sqlx::query_scalar(
            "WITH RECURSIVE new (mitre_id, next, revoked) AS (\
             SELECT mitre_id, revoked_by, revoked FROM technique WHERE mitre_id = $1 AND domain = $2 \
             UNION SELECT t.mitre_id, t.revoked_by, t.revoked FROM new JOIN technique t ON t.mitre_id = new.next \
             AND t.domain = $2 AND new.revoked = TRUE) SELECT mitre_id FROM new WHERE revoked = FALSE LIMIT 1"
        )
        .bind(next)
        .bind(technique.domain.as_str())
        .fetch_optional(pool)
        .await)?,
        _ => None,
    };
    Ok(Succession { replaces, successor })
}

/// Whether there is any technique.
pub(crate) async fn any(tx: &mut Tx) -> Result<bool> {
    let one: Option<i32> = on!(tx, |c| sqlx::query_scalar("SELECT 1 FROM technique LIMIT 1").fetch_optional(c).await)?;
    Ok(one.is_some())
}

/// Writes techniques, new and changed, with what filters need of them.
pub(crate) async fn write(tx: &mut Tx, rows: &[Technique]) -> Result<()> {
    for chunk in rows.chunks(MAX_BINDS / COLUMN_COUNT) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new(INSERT);
            query.push_values(chunk, |mut row, t| {
                row.push_bind(t.id)
                    .push_bind(&t.mitre_id)
                    .push_bind(t.domain.as_str())
                    .push_bind(&t.name)
                    .push_bind(&t.description)
                    .push_bind(&t.url)
                    .push_bind(t.is_subtechnique)
                    .push_bind(&t.parent_mitre_id)
                    .push_bind(&t.attack_version)
                    .push_bind(Json(&t.platforms))
                    .push_bind(Json(&t.tactics))
                    .push_bind(t.status_computed.as_str())
                    .push_bind(t.status_override.map(Status::as_str))
                    .push_bind(t.review_required)
                    .push_bind(t.last_reviewed_at)
                    .push_bind(&t.last_reviewed_by)
                    .push_bind(t.revoked)
                    .push_bind(&t.revoked_by)
                    .push_bind(t.deprecated)
                    .push_bind(t.source.as_str())
                    .push_bind(&t.stix_id)
                    .push_bind(&t.content_hash)
                    .push_bind(t.person_set.bits())
                    .push_bind(t.version)
                    .push_bind(t.created_at)
                    .push_bind(t.updated_at);
            });
            query.push(UPSERT);
            // Each is different: not worth a place among the prepared ones.
            query.build().persistent(false).execute(c).await.map(|_| ())
        })?;
    }
    let replaced: Vec<Uuid> = rows.iter().filter(|t| t.version > 1).map(|t| t.id).collect();
    for table in ["technique_tactic WHERE technique_id", "technique_platform WHERE technique_id"] {
        delete(tx, table, &replaced).await?;
    }
    index(tx, rows).await
}

/// The tables that are filtered by.
async fn index(tx: &mut Tx, rows: &[Technique]) -> Result<()> {
    let tactics: Vec<(Uuid, &str, i64)> = rows
        .iter()
        .flat_map(|t| t.tactics.iter().zip(0_i64..).map(|(tactic, ordinal)| (t.id, tactic.as_str(), ordinal)))
        .collect();
    for chunk in tactics.chunks(MAX_BINDS / 3) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new("INSERT INTO technique_tactic (technique_id, tactic, ordinal) ");
            query.push_values(chunk, |mut row, (id, tactic, ordinal)| {
                row.push_bind(*id).push_bind(*tactic).push_bind(*ordinal);
            });
            query.push(" ON CONFLICT DO NOTHING");
            query.build().persistent(false).execute(c).await.map(|_| ())
        })?;
    }
    let platforms: Vec<(Uuid, String)> =
        rows.iter().flat_map(|t| t.platforms.iter().map(|platform| (t.id, platform.to_lowercase()))).collect();
    for chunk in platforms.chunks(MAX_BINDS / 2) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new("INSERT INTO technique_platform (technique_id, platform) ");
            query.push_values(chunk, |mut row, (id, platform)| {
                row.push_bind(*id).push_bind(platform);
            });
            query.push(" ON CONFLICT DO NOTHING");
            query.build().persistent(false).execute(c).await.map(|_| ())
        })?;
    }
    Ok(())
}

/// Deletes techniques.
pub(crate) async fn remove(tx: &mut Tx, ids: &[Uuid]) -> Result<()> {
    delete(tx, "technique WHERE id", ids).await
}

async fn delete(tx: &mut Tx, what: &'static str, ids: &[Uuid]) -> Result<()> {
    for chunk in ids.chunks(MAX_BINDS) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new(format!("DELETE FROM {what} IN ("));
            let mut list = query.separated(", ");
            for id in chunk {
                list.push_bind(*id);
            }
            query.push(")");
            query.build().persistent(false).execute(c).await.map(|_| ())
        })?;
    }
    Ok(())
}

/// Writes one changed technique. False when somebody else changed it since it was read.
pub(crate) async fn update(tx: &mut Tx, t: &Technique) -> Result<bool> {
    let rows = on!(tx, |c| sqlx::query(
        "UPDATE technique SET name = $1, description = $2, platforms = $3, tactics = $4, status_override = $5, \
         review_required = $6, last_reviewed_at = $7, last_reviewed_by = $8, person_set = $9, version = $10, \
         updated_at = $11 WHERE id = $12 AND version = $13"
    )
    .bind(&t.name)
    .bind(&t.description)
    .bind(Json(&t.platforms))
    .bind(Json(&t.tactics))
    .bind(t.status_override.map(Status::as_str))
    .bind(t.review_required)
    .bind(t.last_reviewed_at)
    .bind(&t.last_reviewed_by)
    .bind(t.person_set.bits())
    .bind(t.version)
    .bind(t.updated_at)
    .bind(t.id)
    .bind(t.version - 1)
    .execute(c)
    .await
    .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Writes anew what filters need of a technique.
pub(crate) async fn reindex(tx: &mut Tx, technique: &Technique) -> Result<()> {
    for table in ["technique_tactic WHERE technique_id", "technique_platform WHERE technique_id"] {
        delete(tx, table, &[technique.id]).await?;
    }
    index(tx, std::slice::from_ref(technique)).await
}

/// Writes the computed status of techniques that were read and held in this transaction.
pub(crate) async fn set_status(tx: &mut Tx, status: Status, ids: &[Uuid], now: DateTime<Utc>) -> Result<()> {
    for chunk in ids.chunks(MAX_BINDS) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new("UPDATE technique SET status_computed = ");
            query.push_bind(status.as_str()).push(", version = version + 1, updated_at = ").push_bind(now);
            query.push(" WHERE id IN (");
            let mut list = query.separated(", ");
            for id in chunk {
                list.push_bind(*id);
            }
            query.push(")");
            query.build().persistent(chunk.len() == 1).execute(c).await.map(|_| ())
        })?;
    }
    Ok(())
}
