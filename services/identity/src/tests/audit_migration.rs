//! The audit trail of an older version keeps its records, its hashes and its proof.

use aegis_db::Migrations;
use chrono::DateTime;
use sqlx::migrate::Migrator;

use super::*;
use crate::domain::audit::{self, Entry, NO_HASH};

/// The tables as they were before the trail was laid out anew.
fn before() -> Migrations {
    let old = |all: &Migrator| -> &'static Migrator {
        let old = all.iter().filter(|migration| migration.version < 110).cloned().collect();
        Box::leak(Box::new(Migrator::with_migrations(old)))
    };
    let all = crate::migrations();
    Migrations { postgres: old(all.postgres), sqlite: old(all.sqlite) }
}

fn entries() -> Vec<Entry> {
    let times = [
        1_700_000_000_123_456,
        1_700_000_000_123_000,
        1_700_000_000_000_000,
        1_700_000_000_000_001,
        1_700_000_000_100_000,
        0,
        -1,
        -1_500_000,
        253_402_300_799_999_999,
    ];
    let entry = |(n, at): (usize, i64)| Entry {
        id: Uuid::now_v7(),
        user_id: (n % 2 == 0).then(|| Uuid::from_u128(n as u128)),
        username: ["", "ana", "ünï'cödé\"\\"][n % 3].into(),
        action: "create_technique".into(),
        entity_type: ["technique", ""][n % 2].into(),
        entity_id: ["", "e-1", "\u{1f600}"][n % 3].into(),
        at: DateTime::from_timestamp_micros(at).unwrap(),
        details: ["{}", r#"{"a":"ü\u0000"}"#, "{\n \"b\": 1.50}"][n % 3].into(),
        success: n % 4 != 0,
        address: ["192.0.2.1", "2001:db8::1", ""][n % 3].into(),
        user_agent: "x".repeat(n * 30),
        request_id: "r".into(),
        source: "catalog".into(),
    };
    times.into_iter().enumerate().map(entry).collect()
}

/// Writes the entries as the version before did.
async fn fill(db: &Db, entries: &[Entry]) {
    let mut tx = db.begin().await.unwrap();
    let mut prev_hash = NO_HASH;
    for (n, e) in entries.iter().enumerate() {
        let seq = n as i64 + 1;
        let hash = audit::hash(&prev_hash, seq, &e.encode());
        on!(tx, |c| sqlx::query(
            "INSERT INTO audit_log (seq, id, user_id, username, action, entity_type, entity_id, at, details, success,
                 address, user_agent, request_id, source, prev_hash, hash)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)"
        )
        .bind(seq)
        .bind(e.id)
        .bind(e.user_id)
        .bind(&e.username)
        .bind(&e.action)
        .bind(&e.entity_type)
        .bind(&e.entity_id)
        .bind(e.at)
        .bind(&e.details)
        .bind(e.success)
        .bind(&e.address)
        .bind(&e.user_agent)
        .bind(&e.request_id)
        .bind(&e.source)
        .bind(hex::encode(prev_hash))
        .bind(hex::encode(hash))
        .execute(c)
        .await
        .map(|_| ()))
        .unwrap();
        prev_hash = hash;
    }
    on!(tx, |c| sqlx::query("UPDATE audit_head SET seq = $1, hash = $2")
        .bind(entries.len() as i64)
        .bind(hex::encode(prev_hash))
        .execute(c)
        .await
        .map(|_| ()))
    .unwrap();
    tx.commit().await.unwrap();
}

/// Fills the old tables, damages them, and brings them up to date.
async fn migrated(damage: &[&'static str], test: impl AsyncFn(Bench, Vec<Entry>)) {
    for home in databases("identity", &[aegis_events::migrations(), before()]).await {
        println!("on {}", home.name);
        let entries = entries();
        fill(&home.db, &entries).await;
        let mut tx = home.db.begin().await.unwrap();
        for sql in damage {
            on!(tx, |c| sqlx::query(*sql).execute(c).await.map(|_| ())).unwrap();
        }
        tx.commit().await.unwrap();
        home.db.migrate(&[aegis_events::migrations(), crate::migrations()]).await.unwrap();
        test(Bench::new(&home.db, config()).await, entries).await;
        home.close().await;
    }
}

#[tokio::test]
async fn an_old_trail_is_taken_over_byte_for_byte() {
    migrated(&[], async |bench, entries| {
        let verdict = bench.walked().await;
        assert_eq!((verdict.records, verdict.broken), (entries.len() as i64, None));
        // What happened since goes on behind it.
        bench.settle().await;
        let verdict = bench.walked().await;
        assert!(verdict.records > entries.len() as i64);
        assert_eq!(verdict.broken, None);
        let trail = bench.trail().await;
        for (record, entry) in trail.iter().zip(&entries) {
            assert_eq!(record.entry, *entry);
        }
    })
    .await;
}

#[tokio::test]
async fn what_was_forged_before_is_found_after() {
    for (damage, seq) in [
        ("UPDATE audit_log SET username = 'eve' WHERE seq = 3", 3),
        ("UPDATE audit_log SET details = '{}' WHERE seq = 2", 2),
        ("UPDATE audit_log SET hash = 'no hash' WHERE seq = 4", 4),
        ("DELETE FROM audit_log WHERE seq = 5", 5),
        ("UPDATE audit_head SET hash = 'f'", 9),
    ] {
        migrated(&[damage], async |bench, _| {
            assert_eq!(bench.walked().await.broken.expect(damage).seq, seq, "{damage}");
        })
        .await;
    }
}
