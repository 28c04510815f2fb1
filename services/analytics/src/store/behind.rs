//! The SQL of the tests that a status rests on.

use std::cmp::Reverse;

use aegis_db::{Db, Result, read};
use chrono::{DateTime, Utc};
use sqlx::QueryBuilder;
use uuid::Uuid;

/// Techniques of one statement: each is a branch of it.
const CHUNK: usize = 100;

/// A validated test with a result.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub(crate) struct Behind {
    pub(crate) technique_id: Uuid,
    pub(crate) test_id: Uuid,
    pub(crate) name: String,
    pub(crate) detection_result: String,
    pub(crate) validated_at: Option<DateTime<Utc>>,
}

/// The newest validated tests with a result of each of these techniques, at most `each`, the newest first.
///
/// A branch for each technique, so that of a technique with thousands of tests only those are read.
pub(crate) async fn newest(db: &Db, techniques: &[Uuid], each: i64) -> Result<Vec<Behind>> {
    let mut all = Vec::new();
    for chunk in techniques.chunks(CHUNK) {
        let rows: Vec<Behind> = read!(db, |pool| {
            let mut query = QueryBuilder::new("");
            for (n, technique) in chunk.iter().enumerate() {
                query.push(if n > 0 { " UNION ALL SELECT * FROM (" } else { "SELECT * FROM (" });
                query.push(
                    "SELECT technique_id, test_id, COALESCE(name, '') AS name, \
                     COALESCE(detection_result, '') AS detection_result, validated_at FROM test_fact \
                     WHERE verdict IS NOT NULL AND technique_id = ",
                );
                query.push_bind(*technique);
                query.push(" ORDER BY validated_at DESC, test_id DESC LIMIT ").push_bind(each);
                // PostgreSQL wants a name.
                query.push(format_args!(") AS t{n}"));
            }
            query.build_query_as().persistent(false).fetch_all(pool).await
        })?;
        all.extend(rows);
    }
    // The order of a whole union is not that of its branches.
    all.sort_by_key(|test| Reverse((test.validated_at, test.test_id)));
    Ok(all)
}
