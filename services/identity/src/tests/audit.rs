//! The chain under many writers, forgery and redelivery; filters.

use aegis_db::Tx;
use aegis_events::Audit;
use aegis_events::Handler;
use aegis_proto::events::v1::{Actor, AuditRecorded, Envelope};
use chrono::{DateTime, TimeDelta, Utc};
use prost::Message;
use serde_json::json;

use super::*;

const USER: Uuid = Uuid::from_u128(0x1234);

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
        Intake.handle(&mut tx, envelope).await.unwrap();
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
        let verdict = bench.app.walk_audit().await.unwrap();
        assert_eq!((verdict.records, verdict.broken), (150, None));
        assert_eq!(bench.number("SELECT MAX(seq) FROM audit_log").await, 150);
    })
    .await;
}

#[tokio::test]
async fn forgery_is_found_where_it_begins() {
    let forgeries = [
        ("UPDATE audit_log SET username = 'eve' WHERE seq = 3", 3, "changed after"),
        ("UPDATE audit_log SET details = '{}' WHERE seq = 1", 1, "changed after"),
        ("UPDATE audit_log SET success = FALSE WHERE seq = 6", 6, "changed after"),
        ("DELETE FROM audit_log WHERE seq = 2", 2, "missing"),
        ("DELETE FROM audit_log WHERE seq = 6", 6, "missing"),
        ("DELETE FROM audit_log", 1, "missing"),
        ("UPDATE audit_log SET prev_hash = hash WHERE seq = 4", 4, "does not follow"),
        ("UPDATE audit_head SET hash = 'f'", 6, "last record"),
    ];
    for home in fresh().await {
        println!("on {}", home.name);
        let bench = Bench::new(&home.db, config()).await;
        bench.run("DELETE FROM outbox").await;
        let batch: Vec<_> = (0..6).map(|_| envelope("move", "test", Utc::now())).collect();
        take_in(&bench, &batch).await;
        assert_eq!(bench.app.walk_audit().await.unwrap().broken, None);
        bench.run("CREATE TABLE kept_log AS SELECT * FROM audit_log").await;
        bench.run("CREATE TABLE kept_head AS SELECT * FROM audit_head").await;
        for (sql, seq, reason) in forgeries {
            bench.run(sql).await;
            let broken = bench.app.walk_audit().await.unwrap().broken.expect(sql);
            assert_eq!(broken.seq, seq, "{sql}");
            assert!(broken.reason.contains(reason), "{sql}: {}", broken.reason);
            bench.run("DELETE FROM audit_log").await;
            bench.run("INSERT INTO audit_log SELECT * FROM kept_log").await;
            bench.run("DELETE FROM audit_head").await;
            bench.run("INSERT INTO audit_head SELECT * FROM kept_head").await;
        }
        assert_eq!(bench.app.walk_audit().await.unwrap().broken, None);
        home.close().await;
    }
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
        let before = bench.number("SELECT COUNT(*) FROM audit_log").await;
        assert!(before >= 1);
        // The process ended between passing on and forgetting.
        bench.run("INSERT INTO outbox (id, kind, body, at) SELECT id, kind, body, at FROM kept").await;
        bench.settle().await;
        assert_eq!(bench.number("SELECT COUNT(*) FROM audit_log").await, before);
        assert_eq!(bench.app.walk_audit().await.unwrap().broken, None);
    })
    .await;
}

impl Bench {
    fn admin_ctx(&self) -> OpCtx {
        aegis_testkit::ctx(Role::Admin, "root")
    }

    async fn listed(&self, query: AuditQuery) -> (Vec<i64>, i64) {
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
        let action = |a: &str| AuditQuery { action: Some(a.into()), ..query() };
        assert_eq!(bench.listed(action("create_test")).await, (vec![3, 1], 2));
        assert_eq!(bench.listed(action("nothing")).await, (vec![], 0));
        let kind = AuditQuery { entity_type: Some("test".into()), start_date: Some(day(1)), ..query() };
        assert_eq!(bench.listed(kind).await, (vec![3, 1], 2));
        let until = AuditQuery { end_date: Some(day(2) + TimeDelta::seconds(1)), ..query() };
        assert_eq!(bench.listed(until).await, (vec![2, 1, 4], 3));
        let user = |id: Uuid| AuditQuery { user_id: Some(id.to_string()), ..query() };
        assert_eq!(bench.listed(user(USER)).await.1, 4);
        assert_eq!(bench.listed(user(Uuid::nil())).await.1, 0);
        assert_eq!(bench.listed(AuditQuery { page_size: 2, skip: 1, ..query() }).await, (vec![2, 1], 4));

        let ctx = bench.admin_ctx();
        let first = AuditQuery { page_size: 3, ..query() };
        let (_, next, _) = bench.app.list_audit(&ctx, first).await.unwrap();
        let rest = AuditQuery { page_size: 3, page_token: next, ..query() };
        assert_eq!(bench.listed(rest).await, (vec![4], 4));
        let bad = AuditQuery {
            user_id: Some("x".into()),
            action: Some(String::new()),
            start_date: Some(day(2)),
            end_date: Some(day(1)),
            ..query()
        };
        let refused = failure(bench.app.list_audit(&ctx, bad).await);
        let fields: Vec<_> = refused.fields().iter().map(|f| f.field.as_str()).collect();
        assert_eq!(fields, ["user_id", "action", "end_date"]);
        let big = AuditQuery { page_size: 101, ..query() };
        assert_eq!(failure(bench.app.list_audit(&ctx, big).await).code(), Code::Validation);

        assert_eq!(bench.app.audit_actions(&ctx).await.unwrap(), ["create_technique", "create_test", "delete_test"]);
        assert_eq!(bench.app.audit_entity_types(&ctx).await.unwrap(), ["technique", "test"]);
    })
    .await;
}
