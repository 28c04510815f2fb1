//! The SQL of reports over tests: what was made when, pages, and the records of an export.

use aegis_db::{Db, Result, read};
use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::domain::{
    csv::{self, COLUMNS, Kind, SEPARATOR},
    pipeline::State,
    results::{Breakdown, Filter, Hours},
};

/// Records of an export that are read at once, unless they are long.
const RECORDS: i64 = 2048;
/// So many bytes end a part of an export.
const PART: usize = 2 << 20;

/// A test in a report.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct ReportRow {
    pub(crate) test_id: Uuid,
    pub(crate) name: Option<String>,
    pub(crate) technique_id: Option<Uuid>,
    pub(crate) mitre_id: Option<String>,
    pub(crate) technique_name: Option<String>,
    pub(crate) state: String,
    pub(crate) detection_result: Option<String>,
    pub(crate) attack_success: Option<bool>,
    pub(crate) platform: Option<String>,
    pub(crate) created_by: Option<Uuid>,
    pub(crate) created_by_username: Option<String>,
    pub(crate) created_at: Option<DateTime<Utc>>,
    pub(crate) updated_at: Option<DateTime<Utc>>,
    pub(crate) executed_at: Option<DateTime<Utc>>,
    pub(crate) detected_at: Option<DateTime<Utc>>,
    pub(crate) validated_at: Option<DateTime<Utc>>,
    pub(crate) remediation_status: Option<String>,
    pub(crate) remediation_assignee: Option<Uuid>,
    pub(crate) remediation_due_date: Option<DateTime<Utc>>,
    pub(crate) remediation_completed_at: Option<DateTime<Utc>>,
    pub(crate) remediation_steps: Option<String>,
}

const ROW: &str = "SELECT test_id, name, technique_id, mitre_id, technique_name, state, detection_result, \
     attack_success, platform, created_by, created_by_username, created_at, updated_at, executed_at, detected_at, \
     validated_at, remediation_status, remediation_assignee, remediation_due_date, remediation_completed_at, \
     remediation_steps";

/// Tests in the order of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum List {
    /// Newest first.
    Results(Filter),
    /// With a remediation that is due once, by that date, then newest first.
    Dated(Option<&'static str>),
    /// With a remediation that is never due, newest first.
    Undated(Option<&'static str>),
}

/// A place in a list: the due date where the list is by it, when a test was made, its id.
pub(crate) type Key = (Option<DateTime<Utc>>, DateTime<Utc>, Uuid);

impl ReportRow {
    /// Its place in a list.
    pub(crate) fn key(&self, list: &List) -> Option<Key> {
        let due = matches!(list, List::Dated(_)).then_some(self.remediation_due_date).flatten();
        Some((due, self.created_at?, self.test_id))
    }
}

/// How many remediations there are.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Remediations {
    pub(crate) remediation_status: String,
    pub(crate) n: i64,
    /// With a due date.
    pub(crate) dated: i64,
    /// The due date has passed.
    pub(crate) passed: i64,
}

/// ` INDEXED BY …` where that is how the database is told which index to walk: SQLite has no statistics of a new
/// database; PostgreSQL finds its way by its own.
pub(super) fn indexed(db: &Db, by: &'static str) -> &'static str {
    match db {
        Db::Sqlite(_) => by,
        Db::Postgres(_) => "",
    }
}

/// A value in a statement.
enum Arg {
    Id(Uuid),
    Text(&'static str),
    Time(DateTime<Utc>),
    Number(i64),
}

/// SQL put together of constants, and its values.
struct Statement {
    sql: String,
    args: Vec<Arg>,
}

macro_rules! bound {
    ($query:expr, $args:expr) => {{
        let mut query = $query;
        for arg in $args {
            query = match arg {
                Arg::Id(id) => query.bind(id),
                Arg::Text(text) => query.bind(text),
                Arg::Time(at) => query.bind(at),
                Arg::Number(n) => query.bind(n),
            };
        }
        query
    }};
}

impl Statement {
    fn new(sql: impl Into<String>) -> Self {
        Statement { sql: sql.into(), args: Vec::new() }
    }

    fn push(&mut self, sql: &str) {
        self.sql.push_str(sql);
    }

    fn bind(&mut self, before: &str, arg: Arg, after: &str) {
        self.args.push(arg);
        self.sql.push_str(before);
        self.sql.push('$');
        self.sql.push_str(&self.args.len().to_string());
        self.sql.push_str(after);
    }

    fn newer_than(&mut self, key: &Key) {
        self.bind("(created_at, test_id) < (", Arg::Time(key.1), "");
        self.bind(", ", Arg::Id(key.2), ")");
    }

    /// Adds all from `FROM` on.
    fn list(&mut self, db: &Db, list: &List, after: Option<&Key>, rows: i64, skip: i64) {
        self.push(" FROM test_fact");
        match list {
            List::Results(filter) => self.results(db, filter, after),
            List::Dated(status) => self.remediations(db, *status, true, after),
            List::Undated(status) => self.remediations(db, *status, false, after),
        }
        self.bind(" LIMIT ", Arg::Number(rows), "");
        self.bind(" OFFSET ", Arg::Number(skip), "");
    }

    fn results(&mut self, db: &Db, filter: &Filter, after: Option<&Key>) {
        let (by, state) = match filter.state {
            Some(state) => (" INDEXED BY test_fact_state", Some(state.as_str())),
            None => (" INDEXED BY test_fact_created", None),
        };
        self.push(indexed(db, by));
        self.push(" WHERE deleted = FALSE AND created_at IS NOT NULL");
        if let Some(state) = state {
            self.bind(" AND state = ", Arg::Text(state), "");
        }
        if let Some(from) = filter.from {
            self.bind(" AND created_at >= ", Arg::Time(from), "");
        }
        match (after, filter.to) {
            // What comes after it is before the end as well.
            (Some(key), _) => {
                self.push(" AND ");
                self.newer_than(key);
            }
            (None, Some(to)) => self.bind(" AND created_at < ", Arg::Time(to), ""),
            (None, None) => {}
        }
        self.push(" ORDER BY created_at DESC, test_id DESC");
    }

    fn remediations(&mut self, db: &Db, status: Option<&'static str>, dated: bool, after: Option<&Key>) {
        self.push(indexed(
            db,
            match status {
                Some(_) => " INDEXED BY test_fact_remediation_status",
                None => " INDEXED BY test_fact_remediation",
            },
        ));
        self.push(" WHERE deleted = FALSE AND remediation_status IS NOT NULL");
        if let Some(status) = status {
            self.bind(" AND remediation_status = ", Arg::Text(status), "");
        }
        if !dated {
            self.push(" AND remediation_due_date IS NULL");
            if let Some(key) = after {
                self.push(" AND ");
                self.newer_than(key);
            }
            self.push(" ORDER BY created_at DESC, test_id DESC");
            return;
        }
        match after {
            Some(key @ (Some(due), ..)) => {
                // The first condition is what the index is entered by.
                self.bind(" AND remediation_due_date >= ", Arg::Time(*due), "");
                self.bind(" AND (remediation_due_date > ", Arg::Time(*due), " OR ");
                self.newer_than(key);
                self.push(")");
            }
            _ => self.push(" AND remediation_due_date IS NOT NULL"),
        }
        self.push(" ORDER BY remediation_due_date, created_at DESC, test_id DESC");
    }
}

/// A page of a list.
pub(crate) async fn page(db: &Db, list: &List, after: Option<&Key>, rows: i64, skip: i64) -> Result<Vec<ReportRow>> {
    let mut statement = Statement::new(ROW);
    statement.list(db, list, after, rows, skip);
    let Statement { sql, args } = statement;
    Ok(read!(db, |pool| bound!(sqlx::query_as(AssertSqlSafe(sql)), args).fetch_all(pool).await)?)
}

/// The last that were changed, newest first.
pub(crate) async fn recent(db: &Db, rows: i64) -> Result<Vec<ReportRow>> {
    let by = indexed(db, " INDEXED BY test_fact_updated");
    let sql = format!(
        "{ROW} FROM test_fact{by} WHERE deleted = FALSE AND updated_at IS NOT NULL \
         ORDER BY updated_at DESC, test_id DESC LIMIT $1"
    );
    Ok(read!(db, |pool| sqlx::query_as(AssertSqlSafe(sql)).bind(rows).fetch_all(pool).await)?)
}

/// Writes the next part of an export, and answers where the one after it begins; none where the list has ended.
pub(crate) async fn export(db: &Db, list: &List, after: Option<&Key>, out: &mut Vec<u8>) -> Result<Option<Key>> {
    let mut statement = Statement::new(record(db));
    statement.list(db, list, after, RECORDS, 0);
    let Statement { sql, args } = statement;
    let start = out.len();
    let (mut n, mut last) = (0, String::new());
    read!(db, |pool| {
        let mut records = bound!(sqlx::query_scalar::<_, String>(AssertSqlSafe(sql)), args).fetch(pool);
        while let Some(record) = records.try_next().await? {
            csv::line(out, &record);
            n += 1;
            last = record;
            if out.len() - start > PART {
                // Long ones: there may be more.
                n = RECORDS;
                break;
            }
        }
        Ok::<_, sqlx::Error>(())
    })?;
    if n < RECORDS {
        return Ok(None);
    }
    // Without a place to go on from, the rest would be missing and nobody would know.
    let place = key_of(&last, matches!(list, List::Dated(_)));
    Ok(Some(place.ok_or_else(|| sqlx::Error::Decode("a record has no place in its list".into()))?))
}

/// Selects one text a test: a value for each column costs twice as much on the way out of the database, and what is
/// null is empty here without being asked for.
fn record(db: &Db) -> String {
    let postgres = matches!(db, Db::Postgres(_));
    let separator = format!("{}({})", if postgres { "chr" } else { "char" }, u32::from(SEPARATOR));
    let mut sql = String::from("SELECT concat(");
    for (n, (column, kind)) in COLUMNS.into_iter().enumerate() {
        if n > 0 {
            sql.push_str(&format!(", {separator}, "));
        }
        let column = if column == "id" { "test_id" } else { column };
        sql.push_str(&match kind {
            Kind::Id if !postgres => format!("hex({column})"),
            Kind::Text => format!("replace({column}, {separator}, ' ')"),
            Kind::Id | Kind::Time | Kind::Flag | Kind::Name => column.to_owned(),
        });
    }
    sql.push(')');
    sql
}

/// The place of a record.
fn key_of(record: &str, dated: bool) -> Option<Key> {
    let moment = |column| {
        let mut text = Vec::new();
        csv::time(&mut text, csv::field(record, column)?);
        let text = String::from_utf8(text).ok()?;
        DateTime::parse_from_rfc3339(&text).ok().map(|at| at.to_utc())
    };
    let due = if dated { Some(moment("remediation_due_date")?) } else { None };
    Some((due, moment("created_at")?, Uuid::try_parse(csv::field(record, "id")?).ok()?))
}

/// How many tests were made in which hour, by state and result.
pub(crate) async fn hours(db: &Db) -> Result<Hours> {
    let hour = match db {
        Db::Sqlite(_) => "unixepoch(created_at) / 3600",
        Db::Postgres(_) => "CAST(floor(EXTRACT(EPOCH FROM created_at) / 3600) AS BIGINT)",
    };
    let by = indexed(db, " INDEXED BY test_fact_created");
    let sql = format!(
        "SELECT {hour} AS hour, state, detection_result, COUNT(*) FROM test_fact{by} \
         WHERE deleted = FALSE AND created_at IS NOT NULL GROUP BY 1, 2, 3"
    );
    let mut hours = Hours::default();
    read!(db, |pool| {
        let mut rows = sqlx::query_as::<_, (i64, String, Option<String>, i64)>(AssertSqlSafe(sql)).fetch(pool);
        while let Some((hour, state, result, n)) = rows.try_next().await? {
            if let Some(state) = State::parse(&state) {
                hours.add(hour, state, result.as_deref(), n);
            }
        }
        Ok::<_, sqlx::Error>(())
    })?;
    Ok(hours)
}

/// How many tests were made between two moments, by state and result.
pub(crate) async fn between(db: &Db, from: DateTime<Utc>, to: DateTime<Utc>) -> Result<Breakdown> {
    let by = indexed(db, " INDEXED BY test_fact_created");
    let sql = format!(
        "SELECT state, detection_result, COUNT(*) FROM test_fact{by} \
         WHERE deleted = FALSE AND created_at IS NOT NULL AND created_at >= $1 AND created_at < $2 \
         GROUP BY state, detection_result"
    );
    let rows: Vec<(String, Option<String>, i64)> =
        read!(db, |pool| sqlx::query_as(AssertSqlSafe(sql)).bind(from).bind(to).fetch_all(pool).await)?;
    let mut all = Breakdown::default();
    for (state, result, n) in rows {
        if let Some(state) = State::parse(&state) {
            all.add(state, result.as_deref(), n);
        }
    }
    Ok(all)
}

/// How many remediations have which status, and how many of them were due before `now`.
pub(crate) async fn remediations(db: &Db, now: DateTime<Utc>) -> Result<Vec<Remediations>> {
    let by = indexed(db, " INDEXED BY test_fact_remediation_status");
    let sql = format!(
        "SELECT remediation_status, COUNT(*) AS n, COUNT(remediation_due_date) AS dated, \
         COUNT(CASE WHEN remediation_due_date < $1 THEN 1 END) AS passed FROM test_fact{by} \
         WHERE deleted = FALSE AND remediation_status IS NOT NULL GROUP BY remediation_status"
    );
    Ok(read!(db, |pool| sqlx::query_as(AssertSqlSafe(sql)).bind(now).fetch_all(pool).await)?)
}

/// How SQLite walks a list: the statement and the steps.
#[cfg(test)]
pub(crate) async fn explained(db: &Db, list: &List, after: Option<&Key>) -> (String, Vec<String>) {
    let mut statement = Statement::new(format!("EXPLAIN QUERY PLAN {ROW}"));
    statement.list(db, list, after, 10, 0);
    let Statement { sql, args } = statement;
    let rows: Vec<(i64, i64, i64, String)> =
        read!(db, |pool| bound!(sqlx::query_as(AssertSqlSafe(sql.clone())), args).fetch_all(pool).await)
            .unwrap_or_default();
    (sql, rows.into_iter().map(|row| row.3).collect())
}
