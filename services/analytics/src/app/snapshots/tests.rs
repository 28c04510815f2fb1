//! Snapshots and the history of scores on every database, through their calls.

use std::sync::Arc;

use aegis_db::read;
use aegis_proto::{
    analytics::v1::{self as pb, score_service_server::ScoreService, snapshot_service_server::SnapshotService},
    events::v1::TechniqueFacts,
};
use aegis_testkit::ctx;

use super::*;
use crate::{
    app::scores::{
        Ask,
        tests::{admin, asked, validated, viewer},
    },
    rpc::{Rpc, timestamp},
    tests::{app, facts, hear, stores, take_in},
};

async fn take(rpc: &Rpc, name: &str) -> pb::Snapshot {
    let request = pb::CreateSnapshotRequest { name: name.into(), description: Some("Before the audit".into()) };
    let red = ctx(Role::RedTech, "rita");
    rpc.create_snapshot(asked(&red, request)).await.unwrap().into_inner().snapshot.unwrap()
}

async fn history(rpc: &Rpc, period: &str) -> Vec<pb::ScorePoint> {
    let request = pb::GetScoreHistoryRequest { period: period.into() };
    rpc.get_score_history(asked(&viewer(), request)).await.unwrap().into_inner().points
}

#[tokio::test]
async fn a_snapshot_stays_as_it_was_and_is_compared_with_what_came() {
    for store in stores().await {
        let app = app(&store.db);
        let rpc = Rpc::new(Arc::clone(&app));
        let before = [
            facts(1, "not_evaluated", &["execution"], 1),
            facts(2, "validated", &["execution"], 1),
            facts(3, "partial", &["persistence"], 1),
            facts(4, "partial", &["persistence"], 1),
            facts(5, "not_evaluated", &["persistence"], 1),
        ];
        take_in(&app, &before).await.unwrap();
        let a = take(&rpc, " Before ").await;
        assert_eq!((a.name.as_str(), a.kind.as_str(), a.created_by_username.as_str()), ("Before", "manual", "rita"));
        assert_eq!((a.coverage.unwrap().total, a.coverage_percentage, a.score), (5, 60.0, Some(0.0)));
        assert_eq!(a.weights.unwrap().tests, 40.0);

        let after = [
            facts(1, "validated", &["execution"], 2),
            facts(2, "not_covered", &["execution"], 2),
            TechniqueFacts { revoked: true, revoked_by: "T0006".into(), ..facts(3, "partial", &["persistence"], 2) },
            TechniqueFacts { deprecated: true, ..facts(4, "partial", &["persistence"], 2) },
            facts(6, "not_evaluated", &["stealth"], 1),
            facts(7, "in_progress", &["stealth"], 1),
        ];
        take_in(&app, &after).await.unwrap();
        hear(&app, &[validated(11, 1, "detected", "linux", 0)]).await.unwrap();
        let b = take(&rpc, "").await;
        assert!(b.name.starts_with("Coverage of 20"), "{}", b.name);

        let got = pb::GetSnapshotRequest { id: a.id.clone() };
        let got = rpc.get_snapshot(asked(&viewer(), got)).await.unwrap().into_inner();
        assert_eq!(got.snapshot.as_ref(), Some(&a));
        let states: Vec<_> = got.techniques.iter().map(|t| (t.mitre_id.as_str(), t.status.as_str())).collect();
        assert_eq!(
            states,
            [
                ("T0001", "not_evaluated"),
                ("T0002", "validated"),
                ("T0003", "partial"),
                ("T0004", "partial"),
                ("T0005", "not_evaluated")
            ]
        );

        let request = pb::CompareSnapshotsRequest { a: a.id.clone(), b: b.id.clone() };
        let compared = rpc.compare_snapshots(asked(&viewer(), request)).await.unwrap().into_inner();
        let ids = |list: &[pb::TechniqueChange]| list.iter().map(|change| change.mitre_id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&compared.improved), ["T0001"]);
        assert_eq!(ids(&compared.worsened), ["T0002"]);
        assert_eq!(ids(&compared.added), ["T0007"]);
        assert_eq!(ids(&compared.removed), ["T0004"]);
        assert_eq!(compared.unchanged, 1);
        let remapped = &compared.remapped[0];
        assert_eq!((remapped.mitre_id.as_str(), remapped.previous_mitre_id.as_deref()), ("T0006", Some("T0003")));
        assert_eq!(
            (remapped.status_a.as_deref(), remapped.status_b.as_deref()),
            (Some("partial"), Some("not_evaluated"))
        );
        // 40 + 15 + half of 10, over five; from three of five to one of five.
        assert_eq!((compared.score_change, compared.coverage_change), (Some(12.0), -40.0));

        let viewed = app.view(&viewer(), Ask { compare: Some(a.id.clone()), ..Ask::default() }).await.unwrap();
        let changes: Vec<_> = viewed.view.cells.iter().map(|cell| cell.changed.unwrap().kind.as_str()).collect();
        assert_eq!(changes, ["improved", "worsened", "unchanged", "remapped", "added"]);
        assert_eq!(viewed.snapshot_name, "Before");

        let request = pb::CompareSnapshotsRequest { a: "x".into(), b: String::new() };
        let failure = Failure::from(rpc.compare_snapshots(asked(&viewer(), request)).await.unwrap_err());
        assert_eq!(failure.fields().iter().map(|wrong| wrong.field.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        store.close().await;
    }
}

#[tokio::test]
async fn who_may_what_and_what_is_gone_is_gone() {
    for store in stores().await {
        let app = app(&store.db);
        let rpc = Rpc::new(Arc::clone(&app));
        take_in(&app, &[facts(1, "validated", &["execution"], 1)]).await.unwrap();
        let refused = rpc.create_snapshot(asked(&viewer(), Default::default())).await.unwrap_err();
        assert_eq!(Failure::from(refused).code(), Code::Forbidden);
        for (name, description, field) in [
            ("x".repeat(201), None, "name"),
            ("a\0b".into(), None, "name"),
            (String::new(), Some("x".repeat(5_001)), "description"),
        ] {
            let request = pb::CreateSnapshotRequest { name, description };
            let failure = Failure::from(rpc.create_snapshot(asked(&admin(), request)).await.unwrap_err());
            assert_eq!(failure.fields()[0].field, field);
        }
        let (one, two) = (take(&rpc, "One").await, take(&rpc, "Two").await);
        let points = history(&rpc, "").await;
        assert_eq!(
            points.iter().map(|p| (p.kind.as_str(), p.snapshot_id.as_str())).collect::<Vec<_>>(),
            [("snapshot", one.id.as_str()), ("snapshot", two.id.as_str())]
        );
        assert_eq!((points[0].score, points[0].tactics[0].tactic.as_str()), (Some(0.0), "execution"));

        let delete = pb::DeleteSnapshotRequest { id: one.id.clone() };
        let refused = rpc.delete_snapshot(asked(&ctx(Role::RedLead, "lena"), delete.clone())).await.unwrap_err();
        assert_eq!(Failure::from(refused).code(), Code::Forbidden);
        rpc.delete_snapshot(asked(&admin(), delete.clone())).await.unwrap();
        assert_eq!(
            Failure::from(rpc.delete_snapshot(asked(&admin(), delete)).await.unwrap_err()).code(),
            Code::NotFound
        );
        let get = pb::GetSnapshotRequest { id: one.id };
        assert_eq!(Failure::from(rpc.get_snapshot(asked(&viewer(), get)).await.unwrap_err()).code(), Code::NotFound);
        assert_eq!(history(&rpc, "30d").await.len(), 1);
        let left: i64 =
            read!(&store.db, |pool| sqlx::query_scalar("SELECT COUNT(*) FROM snapshot_state").fetch_one(pool).await)
                .unwrap();
        assert_eq!(left, 1);
        let list = rpc.list_snapshots(asked(&viewer(), Default::default())).await.unwrap().into_inner();
        assert_eq!((list.snapshots, list.total_size), (vec![two], 1));
        let wrong = pb::GetScoreHistoryRequest { period: "2y".into() };
        let failure = Failure::from(rpc.get_score_history(asked(&viewer(), wrong)).await.unwrap_err());
        assert_eq!(failure.fields()[0].field, "period");
        store.close().await;
    }
}

#[tokio::test]
async fn what_is_due_is_taken_once_and_old_ones_go() {
    for store in stores().await {
        let app = app(&store.db);
        let rpc = Rpc::new(Arc::clone(&app));
        take_in(&app, &[facts(1, "validated", &["execution"], 1)]).await.unwrap();
        let scheduler = ctx(Role::Service, "system:intel");
        let manual = take(&rpc, "By hand").await;
        let due = |weeks: i64| now() - TimeDelta::weeks(weeks);
        let request = |due| pb::TakeScheduledSnapshotRequest { due: Some(timestamp(due)) };

        let at = due(0);
        let (a, b) = tokio::join!(
            rpc.take_scheduled_snapshot(asked(&scheduler, request(at))),
            rpc.take_scheduled_snapshot(asked(&scheduler, request(at))),
        );
        let (a, b) = (a.unwrap().into_inner(), b.unwrap().into_inner());
        assert_eq!(a.snapshot, b.snapshot);
        assert!(a.created != b.created);
        let points = history(&rpc, "1y").await;
        assert_eq!(points.iter().map(|p| p.kind.as_str()).collect::<Vec<_>>(), ["snapshot", "weekly"]);
        assert_eq!(points[1].snapshot_id, a.snapshot.unwrap().id);

        // 160 are kept: the oldest of 162 go, what people took stays, and the history too.
        for week in 1..=161 {
            let taken = app.take_scheduled(&scheduler, Some(due(week))).await.unwrap();
            assert_eq!((taken.created, taken.removed), (true, i64::from(week >= 160)));
        }
        let kept: Vec<(String, i64)> =
            read!(&store.db, |pool| sqlx::query_as("SELECT kind, COUNT(*) FROM snapshot GROUP BY kind ORDER BY kind")
                .fetch_all(pool)
                .await)
            .unwrap();
        assert_eq!(kept, [("manual".to_owned(), 1), ("scheduled".to_owned(), 160)]);
        let points = history(&rpc, "1y").await;
        assert_eq!((points.len(), points.iter().filter(|p| p.snapshot_id.is_empty()).count()), (163, 2));
        let get = pb::GetSnapshotRequest { id: manual.id };
        rpc.get_snapshot(asked(&viewer(), get)).await.unwrap();

        for (who, due, code) in [
            (ctx(Role::RedLead, "lena"), Some(timestamp(at)), Code::Forbidden),
            (scheduler.clone(), None, Code::Validation),
            (scheduler.clone(), Some(timestamp(due(-1))), Code::Validation),
        ] {
            let request = pb::TakeScheduledSnapshotRequest { due };
            let refused = rpc.take_scheduled_snapshot(asked(&who, request)).await.unwrap_err();
            assert_eq!(Failure::from(refused).code(), code);
        }
        store.close().await;
    }
}
