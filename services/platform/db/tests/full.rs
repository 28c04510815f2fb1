//! A full disk: every transaction is told so, and none is begun on a connection that waits for the end of another.
#![allow(clippy::unwrap_used)] // a test fails by panicking, also in its helpers

use aegis_db::{Db, DbOptions, on};

/// Writes more than there is room for.
async fn too_much(db: &Db) -> aegis_db::Result<()> {
    let mut tx = db.begin().await?;
    // Room for nothing more, as on a disk that is full. It holds for this connection.
    on!(tx, |c| sqlx::query("PRAGMA max_page_count = 1").execute(c).await.map(|_| ()))?;
    on!(tx, |c| sqlx::query("INSERT INTO kept (what) VALUES (zeroblob(100000))").execute(c).await.map(|_| ()))?;
    tx.commit().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_told_as_one_and_is_over_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::sqlite(&folder.path().join("full.db"), &DbOptions::default()).await.unwrap();
    let mut tx = db.begin().await.unwrap();
    on!(tx, |c| sqlx::query("CREATE TABLE kept (what BLOB)").execute(c).await.map(|_| ())).unwrap();
    tx.commit().await.unwrap();
    let writers: Vec<_> = (0..8)
        .map(|_| {
            let db = db.clone();
            tokio::spawn(async move {
                for _ in 0..20 {
                    let error = too_much(&db).await.unwrap_err();
                    assert!(error.is_full(), "{error}");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    // The room is back: a new connection has it.
    let mut tx = db.begin().await.unwrap();
    on!(tx, |c| sqlx::query("INSERT INTO kept (what) VALUES (zeroblob(100000))").execute(c).await.map(|_| ())).unwrap();
    tx.commit().await.unwrap();
    db.close().await;
}
