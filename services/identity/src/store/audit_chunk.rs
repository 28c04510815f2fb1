//! Reading the audit trail record by record, fast and in bounded pieces.

use aegis_db::{Db, Error, Result, SqliteDb, read};
use futures::TryStreamExt;
use sqlx::Row;

use crate::domain::chain::{CHUNK_RECORDS, Chunk, Stored};

/// Records of one value.
const PACK: i64 = 500;

/// The first records after a position and up to another, in order: as many as a chunk takes.
pub(crate) async fn chunk(db: &Db, after: i64, to: i64) -> Result<Chunk> {
    if let Db::Sqlite(sqlite) = db
        && let Some(chunk) = packed(sqlite, after, to).await?
    {
        return Ok(chunk);
    }
    row_by_row(db, after, to).await
}

/// The records in one value. Each row of SQLite wakes a thread, and each of its columns is copied: so read, a chain
/// takes several times as long as walking it does.
///
/// Nothing where one is missing, or where the value cannot be divided; see [`Chunk::unpack`].
async fn packed(sqlite: &SqliteDb, after: i64, to: i64) -> Result<Option<Chunk>> {
    let to = to.min(after.saturating_add(PACK));
    // Concatenation keeps every byte, zeros too, and calls the result text: hence the cast.
    let (rows, whole, value): (i64, Option<i64>, Option<Vec<u8>>) = sqlx::query_as(
        "SELECT COUNT(*), SUM(octet_length(hash) = 32), CAST(group_concat(concat(hash, record, action, char(31),
             entity_type, char(31), at_us, char(31), hex(user_id), char(31)), '') AS BLOB)
         FROM audit_record WHERE seq > $1 AND seq <= $2",
    )
    .bind(after)
    .bind(to)
    .fetch_one(&sqlite.read)
    .await?;
    if rows != to.saturating_sub(after) || whole.unwrap_or(0) != rows {
        return Ok(None);
    }
    let chunk = tokio::task::spawn_blocking(move || Chunk::unpack(after + 1, value.unwrap_or_default()));
    let chunk = chunk.await.map_err(|failed| Error::Disk(std::io::Error::other(failed)))?;
    Ok(chunk.filter(|chunk| usize::try_from(rows).is_ok_and(|rows| rows == chunk.len())))
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
