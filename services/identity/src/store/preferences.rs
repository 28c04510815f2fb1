//! What users want to be notified of.

use std::collections::BTreeMap;

use aegis_db::{Db, Result, Tx, on, read};
use uuid::Uuid;

use super::dialect;

/// What a user has decided; kinds that are not here follow their default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preferences {
    /// No notification of what the user did itself.
    pub mute_own_actions: bool,
    /// Kinds that the user decided on.
    pub choices: BTreeMap<String, bool>,
    /// 0 where nothing was ever decided.
    pub version: i64,
}

type Row = (bool, i64, Option<String>, Option<bool>);

const SELECT: &str = "SELECT p.mute_own_actions, p.version, c.kind, c.enabled
    FROM notification_preference p LEFT JOIN notification_choice c ON c.user_id = p.user_id
    WHERE p.user_id = $1";

fn preferences(rows: Vec<Row>) -> Preferences {
    let mut preferences = Preferences::default();
    for (mute_own_actions, version, kind, enabled) in rows {
        preferences.mute_own_actions = mute_own_actions;
        preferences.version = version;
        preferences.choices.extend(kind.zip(enabled));
    }
    preferences
}

/// A user's.
pub(crate) async fn of(db: &Db, user_id: Uuid) -> Result<Preferences> {
    Ok(preferences(read!(db, |pool| sqlx::query_as(SELECT).bind(user_id).fetch_all(pool).await)?))
}

/// A user's, locked until the transaction ends.
pub(crate) async fn lock(tx: &mut Tx, user_id: Uuid) -> Result<Preferences> {
    // There is a row to lock only when there is one.
    on!(tx, |c| sqlx::query(
        "INSERT INTO notification_preference (user_id, mute_own_actions, version) VALUES ($1, FALSE, 0)
         ON CONFLICT (user_id) DO NOTHING"
    )
    .bind(user_id)
    .execute(c)
    .await
    .map(|_| ()))?;
    dialect::lock_preference(tx, user_id).await?;
    Ok(preferences(on!(tx, |c| sqlx::query_as(SELECT).bind(user_id).fetch_all(c).await)?))
}

/// Writes a user's, which are locked.
pub(crate) async fn write(tx: &mut Tx, user_id: Uuid, preferences: &Preferences) -> Result<()> {
    on!(tx, |c| sqlx::query(
        "UPDATE notification_preference SET mute_own_actions = $1, version = $2 WHERE user_id = $3"
    )
    .bind(preferences.mute_own_actions)
    .bind(preferences.version)
    .bind(user_id)
    .execute(c)
    .await
    .map(|_| ()))?;
    on!(tx, |c| sqlx::query("DELETE FROM notification_choice WHERE user_id = $1")
        .bind(user_id)
        .execute(c)
        .await
        .map(|_| ()))?;
    if preferences.choices.is_empty() {
        return Ok(());
    }
    on!(tx, |c| {
        let mut query = sqlx::QueryBuilder::new("INSERT INTO notification_choice (user_id, kind, enabled) ");
        query.push_values(&preferences.choices, |mut row, (kind, enabled)| {
            row.push_bind(user_id).push_bind(kind.clone()).push_bind(*enabled);
        });
        query.build().execute(c).await.map(|_| ())
    })?;
    Ok(())
}
