//! What a commit means: on the disk, seen by readers, all or nothing; one writer at a time without errors.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use aegis_db::{Db, DbOptions, on, read};

async fn database(folder: &std::path::Path) -> Db {
    let db = Db::sqlite(&folder.join("one.db"), &DbOptions::default()).await.unwrap();
    let mut tx = db.begin().await.unwrap();
    on!(tx, |c| sqlx::query("CREATE TABLE row (n BIGINT NOT NULL)").execute(c).await.map(|_| ())).unwrap();
    tx.commit().await.unwrap();
    db
}

async fn count(db: &Db) -> i64 {
    read!(db, |pool| sqlx::query_scalar("SELECT COUNT(*) FROM row").fetch_one(pool).await).unwrap()
}

#[tokio::test]
async fn many_writers_at_once_all_get_through_and_each_hook_runs_once() {
    let folder = tempfile::tempdir().unwrap();
    let db = database(folder.path()).await;
    let hooks = Arc::new(AtomicU32::new(0));
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..64_i64 {
        let (db, hooks) = (db.clone(), Arc::clone(&hooks));
        writers.spawn(async move {
            let mut tx = db.begin().await.unwrap();
            on!(tx, |c| sqlx::query("INSERT INTO row (n) VALUES ($1)").bind(n).execute(c).await.map(|_| ())).unwrap();
            tx.on_commit(move || {
                hooks.fetch_add(1, Ordering::SeqCst);
            });
            if n % 2 == 0 { tx.commit().await.unwrap() } else { tx.rollback().await.unwrap() }
        });
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    assert_eq!(count(&db).await, 32);
    assert_eq!(hooks.load(Ordering::SeqCst), 32);
}

#[tokio::test]
async fn a_full_disk_is_told_and_forgotten_when_there_is_room_again() {
    let folder = tempfile::tempdir().unwrap();
    let db = database(folder.path()).await;
    for end in ["drop", "rollback", "commit"] {
        let mut tx = db.begin().await.unwrap();
        // Of this connection: no page more than there is.
        on!(tx, |c| sqlx::query("PRAGMA max_page_count = 1").execute(c).await.map(|_| ())).unwrap();
        let large = "CREATE TABLE large AS SELECT zeroblob(1000000) AS bytes";
        let full = on!(tx, |c| sqlx::query(large).execute(c).await.map(|_| ()));
        assert!(full.is_err_and(|error| aegis_db::Error::from(error).is_full()), "{end}");
        match end {
            "drop" => drop(tx),
            "rollback" => drop(tx.rollback().await),
            _ => drop(tx.commit().await),
        }
        for _ in 0..2 {
            let mut tx = db.begin().await.unwrap();
            on!(tx, |c| sqlx::query("INSERT INTO row (n) VALUES (1)").execute(c).await.map(|_| ())).unwrap();
            tx.commit().await.unwrap();
        }
    }
    assert_eq!(count(&db).await, 6);
}

#[tokio::test]
async fn a_transaction_that_is_dropped_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let db = database(folder.path()).await;
    {
        let mut tx = db.begin().await.unwrap();
        on!(tx, |c| sqlx::query("INSERT INTO row (n) VALUES (1)").execute(c).await.map(|_| ())).unwrap();
    }
    assert_eq!(count(&db).await, 0);
    // The writer is free again.
    db.begin().await.unwrap().commit().await.unwrap();
}

#[tokio::test]
async fn readers_cannot_write() {
    let folder = tempfile::tempdir().unwrap();
    let db = database(folder.path()).await;
    let written = read!(&db, |pool| sqlx::query("INSERT INTO row (n) VALUES (1)").execute(pool).await.map(|_| ()));
    assert!(written.is_err());
}
