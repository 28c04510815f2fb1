//! An event reaches every consumer once: also when it is delivered again, when a consumer fails, and over RabbitMQ.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use aegis_db::{Db, DbOptions, Tx, on, read};
use aegis_error::Failure;
use aegis_events::{Audit, Bus, Consumer, Handler, Outbox, Subscription, decode, system_actor};
use aegis_proto::events::v1::{AuditRecorded, Envelope};
use async_trait::async_trait;
use serde_json::json;
use tokio_util::sync::CancellationToken;

const COUNTER: Subscription = Subscription { consumer: "events-test", kinds: &["audit.recorded"] };

/// Writes what it hears into a table, and fails so often first.
struct Counter {
    failures: AtomicU32,
}

#[async_trait]
impl Handler for Counter {
    async fn handle(&self, tx: &mut Tx, event: &Envelope) -> Result<(), Failure> {
        let audit: AuditRecorded = decode(event)?;
        on!(tx, |c| sqlx::query("INSERT INTO heard (action) VALUES ($1)")
            .bind(&audit.action)
            .execute(c)
            .await
            .map(|_| ()))
        .map_err(aegis_db::Error::from)?;
        if audit.action == "poison" {
            return Err(Failure::invalid("action", "cannot be taken in"));
        }
        let left = self.failures.load(Ordering::SeqCst);
        if left > 0 {
            self.failures.store(left - 1, Ordering::SeqCst);
            return Err(Failure::unavailable("the test"));
        }
        Ok(())
    }
}

async fn database(folder: &Path, name: &str) -> Db {
    let db = Db::sqlite(&folder.join(name), &DbOptions::default()).await.unwrap();
    db.migrate(&[aegis_events::migrations()]).await.unwrap();
    let mut tx = db.begin().await.unwrap();
    on!(tx, |c| sqlx::query("CREATE TABLE heard (action TEXT)").execute(c).await.map(|_| ())).unwrap();
    tx.commit().await.unwrap();
    db
}

async fn say(db: &Db, outbox: &Outbox, actions: &[&str]) {
    let mut tx = db.begin().await.unwrap();
    for action in actions {
        let audit = Audit { action, entity_type: "thing", entity_id: "1".into(), details: json!({}) };
        outbox.audit_as(&mut tx, system_actor("test"), audit, true).await.unwrap();
    }
    tx.commit().await.unwrap();
}

async fn heard(db: &Db) -> Vec<String> {
    read!(db, |pool| sqlx::query_scalar("SELECT action FROM heard ORDER BY rowid").fetch_all(pool).await).unwrap()
}

async fn count(db: &Db, sql: &'static str) -> i64 {
    read!(db, |pool| sqlx::query_scalar(sql).fetch_one(pool).await).unwrap()
}

/// Polls until the outbox is empty.
async fn drained(db: &Db) {
    for _ in 0..2000 {
        if count(db, "SELECT COUNT(*) FROM outbox").await == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the outbox was never empty");
}

#[tokio::test]
async fn inside_one_process_each_event_is_taken_in_once_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (database(folder.path(), "from.db").await, database(folder.path(), "to.db").await);
    let bus = Bus::local();
    let _delivery =
        bus.subscribe(Consumer::new(COUNTER, to.clone(), Arc::new(Counter { failures: AtomicU32::new(3) })));
    let outbox = Outbox::new("test");
    let stop = CancellationToken::new();

    // Committed while nothing relays, as before a crash.
    say(&from, &outbox, &["one", "two"]).await;
    let before: Vec<(String, Vec<u8>)> =
        read!(&from, |pool| sqlx::query_as("SELECT kind, body FROM outbox ORDER BY seq").fetch_all(pool).await)
            .unwrap();

    let relay = tokio::spawn(outbox.clone().relay(from.clone(), bus.clone(), stop.clone()));
    say(&from, &outbox, &["three", "poison", "four"]).await;
    drained(&from).await;
    assert_eq!(heard(&to).await, ["one", "two", "three", "four"]);
    assert_eq!(count(&to, "SELECT COUNT(*) FROM dead_letter").await, 1);

    // The process ended after the delivery and before the row went: it is delivered again.
    let mut tx = from.begin().await.unwrap();
    for (i, (kind, body)) in before.into_iter().enumerate() {
        on!(tx, |c| sqlx::query("INSERT INTO outbox (id, kind, body, at) VALUES ($1, $2, $3, $4)")
            .bind(format!("again-{i}"))
            .bind(&kind)
            .bind(&body)
            .bind(aegis_db::now())
            .execute(c)
            .await
            .map(|_| ()))
        .unwrap();
    }
    tx.commit().await.unwrap();
    say(&from, &outbox, &["five"]).await;
    drained(&from).await;
    assert_eq!(heard(&to).await, ["one", "two", "three", "four", "five"]);

    stop.cancel();
    relay.await.unwrap();
}

#[tokio::test]
async fn a_change_that_is_rolled_back_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let db = database(folder.path(), "one.db").await;
    let outbox = Outbox::new("test");
    let mut tx = db.begin().await.unwrap();
    let audit = Audit { action: "never", entity_type: "thing", entity_id: "1".into(), details: json!({}) };
    outbox.audit_as(&mut tx, system_actor("test"), audit, true).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(count(&db, "SELECT COUNT(*) FROM outbox").await, 0);
}

#[tokio::test]
async fn a_broker_that_takes_the_connection_and_says_nothing_is_asked_again() {
    let folder = tempfile::tempdir().unwrap();
    let db = database(folder.path(), "to.db").await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bus = Bus::rabbit(&format!("amqp://{}", listener.local_addr().unwrap()), vec![COUNTER], None);
    let delivery = bus.subscribe(Consumer::new(COUNTER, db, Arc::new(Counter { failures: AtomicU32::new(0) })));
    let stop = CancellationToken::new();
    let consumer = tokio::spawn(delivery.run(stop.clone()));
    // The first stays open, and no byte comes on it.
    let _silent = listener.accept().await.unwrap();
    listener.accept().await.unwrap();
    stop.cancel();
    consumer.await.unwrap();
}

#[tokio::test]
async fn over_rabbitmq_a_consumer_that_starts_later_still_hears_all() {
    let Ok(url) = std::env::var("AEGIS_TEST_RABBITMQ_URL") else {
        println!("skipped: AEGIS_TEST_RABBITMQ_URL is not set (cargo xtask test sets it)");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (database(folder.path(), "from.db").await, database(folder.path(), "to.db").await);
    let bus = Bus::rabbit(&url, vec![COUNTER], None);
    let outbox = Outbox::new("test");
    let stop = CancellationToken::new();
    let relay = tokio::spawn(outbox.clone().relay(from.clone(), bus.clone(), stop.clone()));
    say(&from, &outbox, &["one", "two"]).await;
    drained(&from).await;

    let delivery = bus.subscribe(Consumer::new(COUNTER, to.clone(), Arc::new(Counter { failures: AtomicU32::new(1) })));
    let consumer = tokio::spawn(delivery.run(stop.clone()));
    say(&from, &outbox, &["three"]).await;
    for _ in 0..2000 {
        if heard(&to).await.len() == 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(heard(&to).await, ["one", "two", "three"]);
    stop.cancel();
    relay.await.unwrap();
    consumer.await.unwrap();
}
