//! Tests: read, locked for a change, written.

use aegis_db::{Db, Result, Tx, on, read};
use chrono::{DateTime, Utc};
use sqlx::{Database, Encode, QueryBuilder, Type};
use uuid::Uuid;

use super::dialect;
use crate::domain::workflow::{Progress, State, Voice, Vote, Written};

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
    pub red_assignee: Option<Uuid>,
    pub blue_assignee: Option<Uuid>,
    pub remediation_due_date: Option<DateTime<Utc>>,
    pub red_submitted_at: Option<DateTime<Utc>>,
    pub blue_submitted_at: Option<DateTime<Utc>>,
}

impl Test {
    /// What the workflow decides of it.
    pub fn progress(&self) -> Progress {
        Progress {
            state: self.state,
            execution_date: self.execution_date,
            executed_by: self.executed_by,
            red_submitted_at: self.red_submitted_at,
            blue_submitted_at: self.blue_submitted_at,
            red: Voice {
                vote: self.red_validation_status,
                notes: self.red_validation_notes.clone(),
                by: self.red_validated_by,
                at: self.red_validated_at,
            },
            blue: Voice {
                vote: self.blue_validation_status,
                notes: self.blue_validation_notes.clone(),
                by: self.blue_validated_by,
                at: self.blue_validated_at,
            },
            validated_at: self.validated_at,
            detection_result: self.detection_result.clone(),
        }
    }

    /// The same test as far as that.
    pub fn with_progress(&self, progress: Progress) -> Test {
        let Progress {
            state,
            execution_date,
            executed_by,
            red_submitted_at,
            blue_submitted_at,
            red,
            blue,
            validated_at,
            detection_result,
        } = progress;
        Test {
            state,
            execution_date,
            executed_by,
            red_submitted_at,
            blue_submitted_at,
            red_validation_status: red.vote,
            red_validation_notes: red.notes,
            red_validated_by: red.by,
            red_validated_at: red.at,
            blue_validation_status: blue.vote,
            blue_validation_notes: blue.notes,
            blue_validated_by: blue.by,
            blue_validated_at: blue.at,
            validated_at,
            detection_result,
            ..self.clone()
        }
    }

    /// What its sides have written down.
    pub fn written(&self) -> Written {
        let there = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.trim().is_empty());
        Written {
            attack_success: self.attack_success.is_some(),
            red_summary: there(&self.red_summary),
            detection_result: self.detection_result.is_some(),
            blue_summary: there(&self.blue_summary),
        }
    }
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
         chain_id, version, red_assignee, blue_assignee, remediation_due_date, red_submitted_at, blue_submitted_at"
    };
}
pub(super) use columns;

const GET: &str = concat!("SELECT ", columns!(), " FROM test WHERE id = $1");
const SELECT: &str = concat!("SELECT ", columns!(), " FROM test");
const INSERT: &str = concat!("INSERT INTO test (", columns!(), ") ");
const CHAIN: &str = concat!("SELECT ", columns!(), " FROM test WHERE chain_id = $1 ORDER BY created_at, id LIMIT $2");
// The lock of a change, which lets rows that point at this one be written.
const GET_LOCKED: &str = concat!("SELECT ", columns!(), " FROM test WHERE id = $1 FOR NO KEY UPDATE");

/// Rows of one statement, each with 50 values: SQLite takes 32,766 of them.
const INSERT_ROWS: usize = 200;

/// Everything that a change can touch; `$1` is the id, `$2` the version that was read.
const UPDATE: &str = "UPDATE test SET name = $3, description = $4, platform = $5, procedure_text = $6, tool_used = $7, \
     state = $8, updated_at = $9, execution_date = $10, executed_by = $11, attack_success = $12, red_summary = $13, \
     executed_at = $14, executed_at_source = $15, detection_result = $16, blue_summary = $17, detected_at = $18, \
     detected_at_source = $19, responded_at = $20, responded_at_source = $21, contained_at = $22, \
     contained_at_source = $23, red_validation_status = $24, red_validation_notes = $25, red_validated_by = $26, \
     red_validated_at = $27, blue_validation_status = $28, blue_validation_notes = $29, blue_validated_by = $30, \
     blue_validated_at = $31, validated_at = $32, remediation_steps = $33, remediation_status = $34, \
     remediation_assignee = $35, remediation_completed_at = $36, version = $37, \
     red_assignee = $38, blue_assignee = $39, remediation_due_date = $40, retest_of = $41, \
     red_submitted_at = $42, blue_submitted_at = $43 WHERE id = $1 AND version = $2";

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

/// Adds tests.
pub async fn insert(tx: &mut Tx, tests: &[Test]) -> Result<()> {
    for tests in tests.chunks(INSERT_ROWS) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new(INSERT);
            query.push_values(tests, |mut row, test| {
                row.push_bind(test.id);
                row.push_bind(test.technique_id);
                row.push_bind(&test.mitre_id);
                row.push_bind(&test.technique_name);
                row.push_bind(&test.name);
                row.push_bind(&test.description);
                row.push_bind(&test.platform);
                row.push_bind(&test.procedure_text);
                row.push_bind(&test.tool_used);
                row.push_bind(test.template_id);
                row.push_bind(test.state.as_str());
                row.push_bind(test.created_by);
                row.push_bind(&test.created_by_username);
                row.push_bind(test.created_at);
                row.push_bind(test.updated_at);
                row.push_bind(test.execution_date);
                row.push_bind(test.executed_by);
                row.push_bind(test.attack_success);
                row.push_bind(&test.red_summary);
                row.push_bind(test.executed_at);
                row.push_bind(&test.executed_at_source);
                row.push_bind(&test.detection_result);
                row.push_bind(&test.blue_summary);
                row.push_bind(test.detected_at);
                row.push_bind(&test.detected_at_source);
                row.push_bind(test.responded_at);
                row.push_bind(&test.responded_at_source);
                row.push_bind(test.contained_at);
                row.push_bind(&test.contained_at_source);
                row.push_bind(test.red_validation_status.as_str());
                row.push_bind(&test.red_validation_notes);
                row.push_bind(test.red_validated_by);
                row.push_bind(test.red_validated_at);
                row.push_bind(test.blue_validation_status.as_str());
                row.push_bind(&test.blue_validation_notes);
                row.push_bind(test.blue_validated_by);
                row.push_bind(test.blue_validated_at);
                row.push_bind(test.validated_at);
                row.push_bind(&test.remediation_steps);
                row.push_bind(&test.remediation_status);
                row.push_bind(test.remediation_assignee);
                row.push_bind(test.remediation_completed_at);
                row.push_bind(test.retest_of);
                row.push_bind(test.chain_id);
                row.push_bind(test.version);
                row.push_bind(test.red_assignee);
                row.push_bind(test.blue_assignee);
                row.push_bind(test.remediation_due_date);
                row.push_bind(test.red_submitted_at);
                row.push_bind(test.blue_submitted_at);
            });
            // Only the two sizes that come again are worth being remembered.
            let again = tests.len() == 1 || tests.len() == INSERT_ROWS;
            query.build().persistent(again).execute(c).await.map(|_| ())
        })?;
    }
    Ok(())
}

/// Writes a test over what it was before. False when it is no longer of that version.
pub async fn update(tx: &mut Tx, before: &Test, test: &Test) -> Result<bool> {
    let rows = on!(tx, |c| sqlx::query(UPDATE)
        .bind(test.id)
        .bind(before.version)
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
        .bind(test.red_assignee)
        .bind(test.blue_assignee)
        .bind(test.remediation_due_date)
        .bind(test.retest_of)
        .bind(test.red_submitted_at)
        .bind(test.blue_submitted_at)
        .execute(c)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Removes tests that the transaction holds, with their timelines.
pub async fn delete(tx: &mut Tx, tests: &[Test]) -> Result<()> {
    on!(tx, |c| {
        let ids: Vec<Uuid> = tests.iter().map(|test| test.id).collect();
        let mut query = QueryBuilder::new("DELETE FROM test");
        among(&mut query, " WHERE id IN (", &ids);
        query.build().persistent(tests.len() == 1).execute(c).await.map(|_| ())
    })?;
    Ok(())
}

/// The tests with these ids that there are, in the order of ids, held until the transaction ends. Everyone who holds
/// several takes them in this order, so that nobody waits for each other.
pub async fn get_many_for_update(tx: &mut Tx, ids: &[Uuid]) -> Result<Vec<Test>> {
    let lock = dialect::locking(tx, "", " FOR NO KEY UPDATE");
    Ok(on!(tx, |c| {
        let mut query = QueryBuilder::new(SELECT);
        among(&mut query, " WHERE id IN (", ids).push(" ORDER BY id").push(lock);
        query.build_query_as::<Test>().persistent(ids.len() == 1).fetch_all(c).await
    })?)
}

/// Makes whoever adds to or takes from the chains of these tests wait for the end of the transaction. To be called
/// before a row is held. Answers the ids of the tests' retests, which are settled from then on.
pub async fn hold_chains(tx: &mut Tx, ids: &[Uuid]) -> Result<Vec<Uuid>> {
    // A test stays in the chain that it was made in.
    let chains: Vec<Uuid> = on!(tx, |c| {
        let mut query = QueryBuilder::new("SELECT DISTINCT chain_id FROM test");
        among(&mut query, " WHERE id IN (", ids);
        query.build_query_scalar().persistent(ids.len() == 1).fetch_all(c).await
    })?;
    dialect::hold(tx, &chains).await?;
    Ok(on!(tx, |c| {
        let mut query = QueryBuilder::new("SELECT id FROM test");
        among(&mut query, " WHERE retest_of IN (", ids);
        query.build_query_scalar().persistent(ids.len() == 1).fetch_all(c).await
    })?)
}

fn among<'q, DB>(query: &'q mut QueryBuilder<DB>, condition: &'static str, ids: &[Uuid]) -> &'q mut QueryBuilder<DB>
where
    DB: Database,
    Uuid: for<'e> Encode<'e, DB> + Type<DB>,
{
    query.push(condition);
    let mut list = query.separated(", ");
    for id in ids {
        list.push_bind(*id);
    }
    query.push(")")
}

/// The ids of a chain's tests, newest first.
pub async fn chain_ids(tx: &mut Tx, chain_id: Uuid, limit: i64) -> Result<Vec<Uuid>> {
    const IDS: &str = "SELECT id FROM test WHERE chain_id = $1 ORDER BY created_at DESC, id DESC LIMIT $2";
    Ok(on!(tx, |c| sqlx::query_scalar(IDS).bind(chain_id).bind(limit).fetch_all(c).await)?)
}

/// The tests of a chain, oldest first.
pub async fn chain(db: &Db, chain_id: Uuid, limit: i64) -> Result<Vec<Test>> {
    Ok(read!(db, |pool| sqlx::query_as(CHAIN).bind(chain_id).bind(limit).fetch_all(pool).await)?)
}

/// The detection result of the newest validated test before this one in its chain that has one.
pub async fn result_before(tx: &mut Tx, test: &Test) -> Result<Option<String>> {
    const RESULT: &str = "SELECT detection_result FROM test WHERE chain_id = $1 AND (created_at, id) < ($2, $3) \
         AND state = 'validated' AND detection_result IS NOT NULL ORDER BY created_at DESC, id DESC LIMIT 1";
    Ok(on!(tx, |c| sqlx::query_scalar(RESULT)
        .bind(test.chain_id)
        .bind(test.created_at)
        .bind(test.id)
        .fetch_optional(c)
        .await)?)
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
