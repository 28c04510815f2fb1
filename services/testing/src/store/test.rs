//! Tests: read, locked for a change, written, listed.

use aegis_db::{Db, Result, Tx, on, read};
use chrono::{DateTime, Utc};
use sqlx::{Database, Encode, QueryBuilder, Type};
use uuid::Uuid;

use super::{dialect, page_of};
use crate::domain::workflow::{Side, State, Vote};

/// A test as it is stored. Each `*_source` says how a time came in: typed, imported or stamped.
#[allow(missing_docs, reason = "the fields are those of the API's Test, described there")]
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct Test {
    pub id: Uuid,
    pub technique_id: Uuid,
    pub mitre_id: String,
    pub technique_name: String,
    pub name: String,
    pub description: Option<String>,
    pub platform: Option<String>,
    pub procedure_text: Option<String>,
    pub tool_used: Option<String>,
    pub template_id: Option<Uuid>,
    #[sqlx(try_from = "String")]
    pub state: State,
    pub created_by: Uuid,
    pub created_by_username: String,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub execution_date: Option<DateTime<Utc>>,
    pub executed_by: Option<Uuid>,
    pub attack_success: Option<bool>,
    pub red_summary: Option<String>,
    pub executed_at: Option<DateTime<Utc>>,
    pub executed_at_source: Option<String>,
    pub detection_result: Option<String>,
    pub blue_summary: Option<String>,
    pub detected_at: Option<DateTime<Utc>>,
    pub detected_at_source: Option<String>,
    pub responded_at: Option<DateTime<Utc>>,
    pub responded_at_source: Option<String>,
    pub contained_at: Option<DateTime<Utc>>,
    pub contained_at_source: Option<String>,
    #[sqlx(try_from = "String")]
    pub red_validation_status: Vote,
    pub red_validation_notes: Option<String>,
    pub red_validated_by: Option<Uuid>,
    pub red_validated_at: Option<DateTime<Utc>>,
    #[sqlx(try_from = "String")]
    pub blue_validation_status: Vote,
    pub blue_validation_notes: Option<String>,
    pub blue_validated_by: Option<Uuid>,
    pub blue_validated_at: Option<DateTime<Utc>>,
    pub validated_at: Option<DateTime<Utc>>,
    pub remediation_steps: Option<String>,
    pub remediation_status: Option<String>,
    pub remediation_assignee: Option<Uuid>,
    pub remediation_completed_at: Option<DateTime<Utc>>,
    pub retest_of: Option<Uuid>,
    pub chain_id: Uuid,
    pub version: i64,
}

macro_rules! columns {
    () => {
        "id, technique_id, mitre_id, technique_name, name, description, platform, procedure_text, tool_used, \
         template_id, state, created_by, created_by_username, created_at, updated_at, execution_date, executed_by, \
         attack_success, red_summary, executed_at, executed_at_source, detection_result, blue_summary, detected_at, \
         detected_at_source, responded_at, responded_at_source, contained_at, contained_at_source, \
         red_validation_status, red_validation_notes, red_validated_by, red_validated_at, \
         blue_validation_status, blue_validation_notes, blue_validated_by, blue_validated_at, validated_at, \
         remediation_steps, remediation_status, remediation_assignee, remediation_completed_at, retest_of, \
         chain_id, version"
    };
}

const SELECT: &str = concat!("SELECT ", columns!(), " FROM test");
const GET: &str = concat!("SELECT ", columns!(), " FROM test WHERE id = $1");
const GET_LOCKED: &str = concat!("SELECT ", columns!(), " FROM test WHERE id = $1 FOR UPDATE");

const INSERT: &str = concat!(
    "INSERT INTO test (",
    columns!(),
    ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, \
     $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, $40, $41, $42, $43, $44, \
     $45)"
);

/// Everything that a change can touch; `$1` is the id, `$2` the version that was read.
const UPDATE: &str = "UPDATE test SET name = $3, description = $4, platform = $5, procedure_text = $6, tool_used = $7, \
     state = $8, updated_at = $9, execution_date = $10, executed_by = $11, attack_success = $12, red_summary = $13, \
     executed_at = $14, executed_at_source = $15, detection_result = $16, blue_summary = $17, detected_at = $18, \
     detected_at_source = $19, responded_at = $20, responded_at_source = $21, contained_at = $22, \
     contained_at_source = $23, red_validation_status = $24, red_validation_notes = $25, red_validated_by = $26, \
     red_validated_at = $27, blue_validation_status = $28, blue_validation_notes = $29, blue_validated_by = $30, \
     blue_validated_at = $31, validated_at = $32, remediation_steps = $33, remediation_status = $34, \
     remediation_assignee = $35, remediation_completed_at = $36, version = $37 WHERE id = $1 AND version = $2";

/// The test with that id.
pub async fn get(db: &Db, id: Uuid) -> Result<Option<Test>> {
    Ok(read!(db, |pool| sqlx::query_as(GET).bind(id).fetch_optional(pool).await)?)
}

/// The test with that id, held until the transaction ends.
pub async fn get_for_update(tx: &mut Tx, id: Uuid) -> Result<Option<Test>> {
    let sql = dialect::locking(tx, GET, GET_LOCKED);
    Ok(on!(tx, |c| sqlx::query_as(sql).bind(id).fetch_optional(c).await)?)
}

/// Whether there is a test with that id.
pub async fn exists(tx: &mut Tx, id: Uuid) -> Result<bool> {
    let found: Option<i32> =
        on!(tx, |c| sqlx::query_scalar("SELECT 1 FROM test WHERE id = $1").bind(id).fetch_optional(c).await)?;
    Ok(found.is_some())
}

/// Adds a test.
pub async fn insert(tx: &mut Tx, test: &Test) -> Result<()> {
    on!(tx, |c| sqlx::query(INSERT)
        .bind(test.id)
        .bind(test.technique_id)
        .bind(&test.mitre_id)
        .bind(&test.technique_name)
        .bind(&test.name)
        .bind(&test.description)
        .bind(&test.platform)
        .bind(&test.procedure_text)
        .bind(&test.tool_used)
        .bind(test.template_id)
        .bind(test.state.as_str())
        .bind(test.created_by)
        .bind(&test.created_by_username)
        .bind(test.created_at)
        .bind(test.updated_at)
        .bind(test.execution_date)
        .bind(test.executed_by)
        .bind(test.attack_success)
        .bind(&test.red_summary)
        .bind(test.executed_at)
        .bind(&test.executed_at_source)
        .bind(&test.detection_result)
        .bind(&test.blue_summary)
        .bind(test.detected_at)
        .bind(&test.detected_at_source)
        .bind(test.responded_at)
        .bind(&test.responded_at_source)
        .bind(test.contained_at)
        .bind(&test.contained_at_source)
        .bind(test.red_validation_status.as_str())
        .bind(&test.red_validation_notes)
        .bind(test.red_validated_by)
        .bind(test.red_validated_at)
        .bind(test.blue_validation_status.as_str())
        .bind(&test.blue_validation_notes)
        .bind(test.blue_validated_by)
        .bind(test.blue_validated_at)
        .bind(test.validated_at)
        .bind(&test.remediation_steps)
        .bind(&test.remediation_status)
        .bind(test.remediation_assignee)
        .bind(test.remediation_completed_at)
        .bind(test.retest_of)
        .bind(test.chain_id)
        .bind(test.version)
        .execute(c)
        .await
        .map(|_| ()))?;
    Ok(())
}

/// Writes a test over the version `read`. False when it is no longer that version.
pub async fn update(tx: &mut Tx, read: i64, test: &Test) -> Result<bool> {
    let rows = on!(tx, |c| sqlx::query(UPDATE)
        .bind(test.id)
        .bind(read)
        .bind(&test.name)
        .bind(&test.description)
        .bind(&test.platform)
        .bind(&test.procedure_text)
        .bind(&test.tool_used)
        .bind(test.state.as_str())
        .bind(test.updated_at)
        .bind(test.execution_date)
        .bind(test.executed_by)
        .bind(test.attack_success)
        .bind(&test.red_summary)
        .bind(test.executed_at)
        .bind(&test.executed_at_source)
        .bind(&test.detection_result)
        .bind(&test.blue_summary)
        .bind(test.detected_at)
        .bind(&test.detected_at_source)
        .bind(test.responded_at)
        .bind(&test.responded_at_source)
        .bind(test.contained_at)
        .bind(&test.contained_at_source)
        .bind(test.red_validation_status.as_str())
        .bind(&test.red_validation_notes)
        .bind(test.red_validated_by)
        .bind(test.red_validated_at)
        .bind(test.blue_validation_status.as_str())
        .bind(&test.blue_validation_notes)
        .bind(test.blue_validated_by)
        .bind(test.blue_validated_at)
        .bind(test.validated_at)
        .bind(&test.remediation_steps)
        .bind(&test.remediation_status)
        .bind(test.remediation_assignee)
        .bind(test.remediation_completed_at)
        .bind(test.version)
        .execute(c)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Which tests a list is of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// In this state.
    pub state: Option<State>,
    /// Of this technique.
    pub technique_id: Option<Uuid>,
    /// On this platform.
    pub platform: Option<String>,
    /// Made by this user.
    pub created_by: Option<Uuid>,
    /// In review, and this side has not voted.
    pub pending: Option<Side>,
}

/// Tests, newest first, that come after `after`; and whether there are more.
pub async fn list(
    db: &Db,
    filter: &Filter,
    after: Option<(DateTime<Utc>, Uuid)>,
    skip: i64,
    limit: i64,
) -> Result<(Vec<Test>, bool)> {
    let rows = usize::try_from(limit).unwrap_or(0);
    Ok(read!(db, |pool| {
        let mut query = QueryBuilder::new(SELECT);
        filtered(&mut query, filter);
        if let Some((at, id)) = after {
            query.push(" AND (created_at, id) < (").push_bind(at).push(", ").push_bind(id).push(")");
        }
        query.push(" ORDER BY created_at DESC, id DESC LIMIT ").push_bind(limit + 1);
        query.push(" OFFSET ").push_bind(skip);
        page_of(query.build_query_as::<Test>().fetch(pool), rows, text_bytes).await
    })?)
}

/// How many tests there are.
pub async fn count(db: &Db, filter: &Filter) -> Result<i64> {
    Ok(read!(db, |pool| {
        let mut query = QueryBuilder::new("SELECT COUNT(*) FROM test");
        filtered(&mut query, filter);
        query.build_query_scalar().fetch_one(pool).await
    })?)
}

/// Tests in the order of their ids, after `after`; and whether there are more.
pub async fn export(db: &Db, after: Option<Uuid>, limit: i64) -> Result<(Vec<Test>, bool)> {
    const EXPORT: &str = concat!("SELECT ", columns!(), " FROM test WHERE id > $1 ORDER BY id LIMIT $2");
    let rows = usize::try_from(limit).unwrap_or(0);
    Ok(read!(db, |pool| {
        let found = sqlx::query_as::<_, Test>(EXPORT).bind(after.unwrap_or(Uuid::nil())).bind(limit + 1).fetch(pool);
        page_of(found, rows, text_bytes).await
    })?)
}

fn filtered<DB>(query: &mut QueryBuilder<DB>, filter: &Filter)
where
    DB: Database,
    Uuid: for<'q> Encode<'q, DB> + Type<DB>,
    String: for<'q> Encode<'q, DB> + Type<DB>,
{
    // So that every condition can begin with AND.
    query.push(" WHERE 1 = 1");
    if let Some(state) = filter.state {
        query.push(" AND state = ").push_bind(state.as_str().to_owned());
    }
    if let Some(id) = filter.technique_id {
        query.push(" AND technique_id = ").push_bind(id);
    }
    if let Some(platform) = &filter.platform {
        query.push(" AND platform = ").push_bind(platform.clone());
    }
    if let Some(id) = filter.created_by {
        query.push(" AND created_by = ").push_bind(id);
    }
    match filter.pending {
        Some(Side::Red) => query.push(" AND state = 'in_review' AND red_validation_status = 'pending'"),
        Some(Side::Blue) => query.push(" AND state = 'in_review' AND blue_validation_status = 'pending'"),
        None => query,
    };
}

/// About how much text a test holds.
pub fn text_bytes(test: &Test) -> usize {
    let texts = [
        &test.description,
        &test.procedure_text,
        &test.tool_used,
        &test.red_summary,
        &test.blue_summary,
        &test.red_validation_notes,
        &test.blue_validation_notes,
        &test.remediation_steps,
    ];
    // The rest of a row is short.
    1024 + test.name.len() + texts.into_iter().flatten().map(String::len).sum::<usize>()
}
