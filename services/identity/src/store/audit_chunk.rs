//! Reading the audit trail record by record, fast and in bounded pieces.

use aegis_db::{Db, Error, Result, read};
use futures::TryStreamExt;
use sqlx::Row;
use uuid::Uuid;

use crate::domain::{
    audit::Parts,
    chain::{CHUNK_RECORDS, Chunk, Stored},
};

/// Records that are read at once.
const PACK: i64 = 2000;

/// Every column in one value; see [`Chunk::unpack`]. Concatenation keeps every byte, zeros too, and calls the result
/// text: hence the cast.
const SQLITE: &str = "SELECT COUNT(*) AS rows, SUM(octet_length(hash) = 32) AS whole,
        CAST(group_concat(concat(hash, record, action, char(31), entity_type, char(31), at_us, char(31),
            hex(user_id), char(31)), '') AS BLOB) AS packed
    FROM audit_record WHERE seq > $1 AND seq <= $2";
/// Each column in one value.
const POSTGRES: &str = "SELECT COUNT(*) AS rows, COUNT(*) FILTER (WHERE octet_length(hash) = 32) AS whole,
        string_agg(hash, '') AS hashes, string_agg(record, '') AS records, array_agg(at_us) AS times,
        array_agg(user_id) AS user_ids, array_agg(action) AS actions, array_agg(entity_type) AS entity_types
    FROM (SELECT * FROM audit_record WHERE seq > $1 AND seq <= $2 ORDER BY seq) AS piece";

/// The first records after a position and up to another, in order: as many as a chunk takes.
pub(crate) async fn chunk(db: &Db, after: i64, to: i64) -> Result<Chunk> {
    match packed(db, after, to.min(after.saturating_add(PACK))).await? {
        Some(chunk) => Ok(chunk),
        None => row_by_row(db, after, to).await,
    }
}

/// The records in a few values: each row costs a message, on SQLite also the waking of a thread and a copy of each
/// column. Row by row, a chain takes several times as long to read as to walk.
///
/// Nothing where one is missing, or where they cannot be told apart.
async fn packed(db: &Db, after: i64, to: i64) -> Result<Option<Chunk>> {
    let wanted = to.saturating_sub(after);
    let unpacked = match db {
        Db::Sqlite(sqlite) => {
            let (rows, whole, packed): (i64, Option<i64>, Option<Vec<u8>>) =
                sqlx::query_as(SQLITE).bind(after).bind(to).fetch_one(&sqlite.read).await?;
            if rows != wanted || whole != Some(rows) {
                return Ok(None);
            }
            tokio::task::spawn_blocking(move || Chunk::unpack(after + 1, packed?)).await
        }
        Db::Postgres(pool) => {
            let columns: Columns = sqlx::query_as(POSTGRES).bind(after).bind(to).fetch_one(pool).await?;
            if columns.rows != wanted || columns.whole != wanted {
                return Ok(None);
            }
            tokio::task::spawn_blocking(move || columns.chunk(after + 1)).await
        }
    };
    let chunk = unpacked.map_err(|failed| Error::Disk(std::io::Error::other(failed)))?;
    Ok(chunk.filter(|chunk| usize::try_from(wanted).is_ok_and(|wanted| wanted == chunk.len())))
}

#[derive(sqlx::FromRow)]
struct Columns {
    rows: i64,
    whole: i64,
    hashes: Option<Vec<u8>>,
    records: Option<Vec<u8>>,
    times: Option<Vec<i64>>,
    user_ids: Option<Vec<Option<Uuid>>>,
    actions: Option<Vec<String>>,
    entity_types: Option<Vec<String>>,
}

impl Columns {
    /// The rows from a position on, if the records can be told apart.
    fn chunk(self, first: i64) -> Option<Chunk> {
        let (hashes, records) = (self.hashes?, self.records?);
        let mut rest = records.as_slice();
        let columns =
            self.times?.into_iter().zip(self.user_ids?).zip(self.actions?.into_iter().zip(self.entity_types?));
        let mut chunk = Chunk::default();
        for (seq, (hash, ((at_us, user_id), (action, entity_type)))) in (first..).zip(hashes.chunks(32).zip(columns)) {
            let (record, after) = rest.split_at_checked(Parts::first(rest)?.1)?;
            rest = after;
            chunk.push(Stored { seq, user_id, action: &action, entity_type: &entity_type, at_us, record, hash });
        }
        rest.is_empty().then_some(chunk)
    }
}

async fn row_by_row(db: &Db, after: i64, to: i64) -> Result<Chunk> {
    let mut chunk = Chunk::default();
    read!(db, |pool| {
        let mut rows = sqlx::query(
            "SELECT seq, user_id, action, entity_type, at_us, record, hash FROM audit_record
             WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3",
        )
        .bind(after)
        .bind(to)
        .bind(i64::try_from(CHUNK_RECORDS).unwrap_or(i64::MAX))
        .fetch(pool);
        while let Some(row) = rows.try_next().await? {
            let seq: i64 = row.try_get(0)?;
            let stored = (|| -> sqlx::Result<Stored<'_>> {
                Ok(Stored {
                    seq,
                    user_id: row.try_get(1)?,
                    action: row.try_get(2)?,
                    entity_type: row.try_get(3)?,
                    at_us: row.try_get(4)?,
                    record: row.try_get(5)?,
                    hash: row.try_get(6)?,
                })
            })();
            match stored {
                Ok(stored) => chunk.push(stored),
                // SQLite takes ids of any length and texts of any bytes: somebody wrote one past the product.
                Err(_) => chunk.unreadable(),
            }
            if chunk.is_full() {
                break;
            }
        }
    });
    Ok(chunk)
}
