//! Who is notified, and what one may do with one's notifications.

use aegis_events::system_actor;
use aegis_proto::events::v1::TestChanged;

use super::*;

impl Bench {
    async fn change(&self, creator: &User, previous: &str, state: &str) {
        let test = TestChanged {
            test_id: Uuid::from_u128(9).to_string(),
            name: "Dump \0 LSASS".into(),
            mitre_id: "T1003.001".into(),
            created_by: creator.id.to_string(),
            previous_state: previous.into(),
            state: state.into(),
            ..TestChanged::default()
        };
        let mut tx = self.db.begin().await.unwrap();
        self.app.outbox.publish_as(&mut tx, system_actor("testing"), &test.test_id, &test).await.unwrap();
        tx.commit().await.unwrap();
        self.settle().await;
    }

    async fn kinds(&self, username: &str) -> Vec<String> {
        let ctx = self.sign_in(username, PASSWORD).await;
        let (rows, _, total) = self.app.list_notifications(&ctx, 0, "", 0, false).await.unwrap();
        assert_eq!(total, rows.len() as i64);
        rows.into_iter().map(|row| row.kind).collect()
    }
}

#[tokio::test]
async fn each_move_reaches_those_who_are_to_act() {
    each(async |bench| {
        let admin = bench.admin().await;
        let mut users = Vec::new();
        for (name, role) in [
            ("red", Role::RedTech),
            ("blue1", Role::BlueTech),
            ("blue2", Role::BlueTech),
            ("gone", Role::BlueTech),
            ("redlead", Role::RedLead),
            ("bluelead", Role::BlueLead),
            ("viewer", Role::Viewer),
        ] {
            users.push(bench.user(name, role).await);
        }
        bench.patch(&admin, users[3].id, active(false)).await.unwrap();
        let red = &users[0];
        bench.change(red, "", "draft").await;
        bench.change(red, "draft", "red_executing").await;
        bench.change(red, "red_executing", "red_executing").await;
        bench.change(red, "red_executing", "blue_evaluating").await;
        bench.change(red, "blue_evaluating", "in_review").await;
        bench.change(red, "in_review", "rejected").await;
        bench.change(red, "in_review", "validated").await;
        // A creator who is nobody here is no fault.
        bench.change(&User { id: Uuid::from_u128(1), ..red.clone() }, "in_review", "validated").await;

        assert_eq!(bench.kinds("red").await, ["validated", "rejected", "red_executing"]);
        assert_eq!(bench.kinds("blue1").await, ["blue_evaluating"]);
        assert_eq!(bench.kinds("blue2").await, ["blue_evaluating"]);
        assert_eq!(bench.kinds("redlead").await, ["in_review"]);
        assert_eq!(bench.kinds("bluelead").await, ["in_review"]);
        assert_eq!(bench.kinds("viewer").await, [""; 0]);
        assert_eq!(bench.kinds("admin").await, [""; 0]);
        assert_eq!(bench.number("SELECT COUNT(*) FROM notification").await, 7);
    })
    .await;
}

#[tokio::test]
async fn one_reads_and_marks_ones_own() {
    each(async |bench| {
        let viewer = bench.user("vera", Role::Viewer).await;
        let other = bench.user("otto", Role::Viewer).await;
        for _ in 0..3 {
            bench.change(&viewer, "draft", "red_executing").await;
        }
        bench.change(&other, "draft", "red_executing").await;
        let vera = bench.sign_in("vera", PASSWORD).await;
        assert_eq!(bench.app.count_unread(&vera).await.unwrap(), 3);
        let (page, next, total) = bench.app.list_notifications(&vera, 2, "", 0, false).await.unwrap();
        assert_eq!((page.len(), total), (2, 3));
        assert_eq!(page[0].title, "Execution began: Dump  LSASS");
        assert_eq!((page[0].entity_type.as_str(), page[0].is_read), ("test", false));
        let (rest, end, _) = bench.app.list_notifications(&vera, 2, &next, 0, false).await.unwrap();
        assert_eq!((rest.len(), end.as_str()), (1, ""));
        assert!(page[0].created_at >= page[1].created_at && page[1].created_at >= rest[0].created_at);

        let id = page[0].id.to_string();
        for _ in 0..2 {
            assert!(bench.app.mark_read(&vera, &id).await.unwrap().is_read);
        }
        assert_eq!(bench.app.count_unread(&vera).await.unwrap(), 2);
        let (unread, _, total) = bench.app.list_notifications(&vera, 0, "", 0, true).await.unwrap();
        assert_eq!((unread.len(), total), (2, 2));
        let otto = bench.sign_in("otto", PASSWORD).await;
        assert_eq!(failure(bench.app.mark_read(&otto, &id).await).code(), Code::NotFound);
        assert_eq!(failure(bench.app.mark_read(&vera, "7").await).code(), Code::Validation);
        assert_eq!(bench.app.mark_all_read(&vera).await.unwrap(), 2);
        assert_eq!(bench.app.mark_all_read(&vera).await.unwrap(), 0);
        assert_eq!(bench.app.count_unread(&vera).await.unwrap(), 0);
        assert_eq!(bench.app.count_unread(&otto).await.unwrap(), 1);
        let refused = bench.app.list_notifications(&vera, 101, "", 0, false).await;
        assert_eq!(failure(refused).code(), Code::Validation);

        let trail = bench.trail().await;
        let marks = trail.iter().filter(|r| r.entry.action.starts_with("mark_")).count();
        assert_eq!(marks, 2, "what changed nothing is not recorded");
    })
    .await;
}
