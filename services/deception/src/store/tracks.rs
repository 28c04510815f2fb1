//! The SQL of what is remembered of attackers to see patterns.

use aegis_db::{Db, Result, Tx, on, read};
use sqlx::{QueryBuilder, types::Json};
use uuid::Uuid;

use crate::domain::patterns::Track;

/// Rows of one statement.
const ROWS: usize = 500;
/// Rows that are forgotten at once.
const FORGOTTEN: i64 = 10_000;

/// What is remembered of these attackers.
pub(crate) async fn of_attackers(db: &Db, ids: &[Uuid]) -> Result<Vec<(Uuid, Track)>> {
    let mut tracks = Vec::new();
    for ids in ids.chunks(ROWS) {
        let some: Vec<(Uuid, Json<Track>)> = read!(db, |pool| {
            let mut query = QueryBuilder::new("SELECT attacker_id, track FROM attacker_track WHERE attacker_id IN (");
            let mut list = query.separated(", ");
            for id in ids {
                list.push_bind(*id);
            }
            query.push(")");
            query.build_query_as().persistent(ids.len() == ROWS).fetch_all(pool).await
        })?;
        tracks.extend(some.into_iter().map(|(id, track)| (id, track.0)));
    }
    Ok(tracks)
}

/// Writes tracks as they are, each with the moment of the last event.
pub(crate) async fn put(tx: &mut Tx, tracks: &[(Uuid, i64, &Track)]) -> Result<()> {
    for tracks in tracks.chunks(ROWS) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new("INSERT INTO attacker_track (attacker_id, last_at, track) ");
            query.push_values(tracks, |mut into, (id, at, track)| {
                into.push_bind(*id).push_bind(*at).push_bind(Json(*track));
            });
            // Old logs may come after new ones.
            query.push(
                " ON CONFLICT (attacker_id) DO UPDATE SET track = excluded.track, last_at = \
                 CASE WHEN excluded.last_at > attacker_track.last_at THEN excluded.last_at \
                 ELSE attacker_track.last_at END",
            );
            query.build().persistent(tracks.len() == ROWS).execute(c).await.map(|_| ())
        })?;
    }
    Ok(())
}

/// Forgets those of whom nothing was seen since then; the longest unseen first.
pub(crate) async fn forget(tx: &mut Tx, since: i64) -> Result<()> {
    const SQL: &str = "DELETE FROM attacker_track WHERE attacker_id IN \
         (SELECT attacker_id FROM attacker_track WHERE last_at < $1 ORDER BY last_at LIMIT $2)";
    on!(tx, |c| sqlx::query(SQL).bind(since).bind(FORGOTTEN).execute(c).await.map(|_| ()))?;
    Ok(())
}

/// Forgets everybody.
pub(crate) async fn purge(tx: &mut Tx) -> Result<()> {
    on!(tx, |c| sqlx::query("DELETE FROM attacker_track").execute(c).await.map(|_| ()))?;
    Ok(())
}
