//! Carries SQLite's write-ahead log over into the file, beside the writer.
//!
//! Left alone, the transaction that makes the log long enough carries it over before its commit returns, which takes tens
//! of milliseconds where the pages lie far apart; all who wait to write wait for it. Here that is done by a reader, which
//! holds nobody up. What remains for the writer, once the log is very long, is the last fraction of a second of it: only
//! then can the log begin anew.

use std::{sync::Weak, time::Duration};

use sqlx::SqlitePool;

use crate::durable::GroupSync;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(250);

/// Until the database is closed or dropped.
pub(crate) async fn run(read: SqlitePool, sync: Weak<GroupSync>) {
    loop {
        tokio::time::sleep(PAUSE).await;
        let Some(written) = sync.upgrade().map(|sync| sync.take_written()) else { return };
        if read.is_closed() {
            return;
        }
        if !written {
            continue;
        }
        // A reader may not change data, but it may do this. Passive: it waits for no one.
        if let Err(error) = sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&read).await
            && !read.is_closed()
        {
            tracing::debug!(%error, "the log is carried over later");
        }
    }
}
