//! Who is notified, what one may do with one's notifications, and what one wants to hear of.

use std::collections::BTreeMap;

use aegis_auth::{Conditions, IfMatch};
use aegis_db::Migrations;
use aegis_events::{Event, system_actor};
use aegis_proto::events::v1::{AlertRaised, CampaignChanged, TestChanged, TestCommented};
use sqlx::migrate::Migrator;

use crate::app::PreferencesPatch;

use super::*;

impl Bench {
    /// A test of `creator` comes to another state, by nobody's hand.
    pub(super) async fn change(&self, creator: &User, previous: &str, state: &str) {
        self.change_by(None, creator, previous, state).await;
    }

    /// A test of `creator` comes to another state.
    pub(super) async fn change_by(&self, actor: Option<&OpCtx>, creator: &User, previous: &str, state: &str) {
        let test = TestChanged {
            test_id: Uuid::from_u128(9).to_string(),
            name: "Dump \0 LSASS".into(),
            mitre_id: "T1003.001".into(),
            created_by: creator.id.to_string(),
            previous_state: previous.into(),
            state: state.into(),
            ..TestChanged::default()
        };
        self.happens(actor, &test.test_id, &test).await;
    }

    /// An event of another service, in order with what is in the outbox.
    async fn happens(&self, actor: Option<&OpCtx>, subject: &str, event: &impl Event) {
        let mut tx = self.db.begin().await.unwrap();
        match actor {
            Some(ctx) => self.app.outbox.publish(&mut tx, ctx, subject, event).await.unwrap(),
            None => self.app.outbox.publish_as(&mut tx, system_actor("testing"), subject, event).await.unwrap(),
        }
        tx.commit().await.unwrap();
        self.settle().await;
    }

    /// An event that stays in the outbox.
    async fn unsent(&self, test: &TestChanged) {
        let mut tx = self.db.begin().await.unwrap();
        self.app.outbox.publish_as(&mut tx, system_actor("testing"), &test.test_id, test).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Takes the outbox's rows away.
    async fn outbox(&self) -> Vec<(String, String, Vec<u8>)> {
        let rows = read!(&self.db, |pool| sqlx::query_as("SELECT id, kind, body FROM outbox ORDER BY seq")
            .fetch_all(pool)
            .await)
        .unwrap();
        self.run("DELETE FROM outbox").await;
        rows
    }

    /// Brings rows of the outbox to their consumer.
    async fn deliver(&self, rows: &[(String, String, Vec<u8>)]) {
        let mut tx = self.db.begin().await.unwrap();
        for (id, kind, body) in rows {
            on!(tx, |c| sqlx::query("INSERT INTO outbox (id, kind, body, at) VALUES ($1, $2, $3, $4)")
                .bind(id)
                .bind(kind)
                .bind(body)
                .bind(aegis_db::now())
                .execute(c)
                .await
                .map(|_| ()))
            .unwrap();
        }
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

fn wants(kinds: &[(&str, bool)]) -> PreferencesPatch {
    let kinds = kinds.iter().map(|(kind, wanted)| ((*kind).to_owned(), *wanted)).collect();
    PreferencesPatch { kinds, ..PreferencesPatch::default() }
}

fn at_version(ctx: &OpCtx, version: i64) -> OpCtx {
    let if_match = Some(IfMatch::Versions(vec![version]));
    ctx.clone().under(Conditions { if_match, idempotency_key: None })
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
        // The author of a move hears of it too.
        let author = bench.sign_in("red", PASSWORD).await;
        bench.change(red, "", "draft").await;
        bench.change_by(Some(&author), red, "draft", "red_executing").await;
        bench.change(red, "red_executing", "red_executing").await;
        bench.change(red, "red_executing", "blue_evaluating").await;
        bench.change_by(Some(&bench.sign_in("redlead", PASSWORD).await), red, "blue_evaluating", "in_review").await;
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
        assert_eq!(bench.number("SELECT MAX(seq) FROM notification").await, 7);
    })
    .await;
}

#[tokio::test]
async fn alerts_of_decoys_reach_those_who_defend_and_want_them() {
    each(async |bench| {
        bench.admin().await;
        for (name, role) in [
            ("red", Role::RedTech),
            ("blue", Role::BlueTech),
            ("deaf", Role::BlueTech),
            ("redlead", Role::RedLead),
            ("bluelead", Role::BlueLead),
            ("viewer", Role::Viewer),
        ] {
            bench.user(name, role).await;
        }
        let deaf = bench.sign_in("deaf", PASSWORD).await;
        bench.app.update_notification_preferences(&deaf, wants(&[("first_contact", false)])).await.unwrap();
        let alert = |kind: &str| AlertRaised {
            alert_id: Uuid::from_u128(12).to_string(),
            kind: kind.into(),
            attacker_ip: "203.0.113.9".into(),
            title: "First contact: 203.0.113.9".into(),
            message: "203.0.113.9 was never seen before: it came to web-01 (ssh).".into(),
        };
        for kind in ["first_contact", "credential_works", "something new"] {
            bench.happens(None, "", &alert(kind)).await;
        }
        for name in ["admin", "blue", "bluelead"] {
            assert_eq!(bench.kinds(name).await, ["credential_works", "first_contact"], "{name}");
        }
        assert_eq!(bench.kinds("deaf").await, ["credential_works"]);
        for name in ["red", "redlead", "viewer"] {
            assert_eq!(bench.kinds(name).await, [""; 0], "{name}");
        }
        let (rows, ..) = bench.app.list_notifications(&deaf, 0, "", 0, false).await.unwrap();
        assert_eq!((rows[0].entity_type.as_str(), rows[0].entity_id.parse()), ("alert", Ok(Uuid::from_u128(12))));
        assert_eq!(rows[0].title, "A credential works on a decoy: 203.0.113.9");
        assert_eq!(rows[0].message, "203.0.113.9 was never seen before: it came to web-01 (ssh).");
    })
    .await;
}

#[tokio::test]
async fn what_a_change_did_besides_reaches_those_whose_business_it_is() {
    each(async |bench| {
        let red = bench.user("red", Role::RedTech).await;
        let blue = bench.user("blue", Role::BlueTech).await;
        let lead = bench.user("lead", Role::RedLead).await;
        bench.user("bluelead", Role::BlueLead).await;
        let leader = bench.sign_in("lead", PASSWORD).await;
        let test = |state: &str, previous: &str, notes: &[&str]| TestChanged {
            test_id: Uuid::from_u128(9).to_string(),
            name: "Dump LSASS".into(),
            mitre_id: "T1003.001".into(),
            created_by: red.id.to_string(),
            previous_state: previous.into(),
            state: state.into(),
            detection_result: "not_detected".into(),
            previous_result: "detected".into(),
            remediation_assignee: blue.id.to_string(),
            notes: notes.iter().map(|note| (*note).to_owned()).collect(),
            ..TestChanged::default()
        };
        let happens = async |test: TestChanged| bench.happens(Some(&leader), &test.test_id, &test).await;
        happens(test("validated", "in_review", &["regression"])).await;
        happens(test("validated", "validated", &["remediation_assigned"])).await;
        happens(test("validated", "validated", &["retest_created"])).await;
        happens(TestChanged { deleted: true, ..test("validated", "validated", &["regression"]) }).await;

        let comment = TestCommented {
            test_id: Uuid::from_u128(9).to_string(),
            name: "Dump LSASS".into(),
            entry_id: Uuid::from_u128(10).to_string(),
            // One of them is nobody here, one is named twice, one is no id.
            concerned: [red.id, blue.id, blue.id, Uuid::from_u128(77)]
                .iter()
                .map(Uuid::to_string)
                .chain(["x".into()])
                .collect(),
        };
        bench.happens(Some(&leader), &comment.test_id, &comment).await;

        let campaign = |change: &str, creator: &User| CampaignChanged {
            campaign_id: Uuid::from_u128(11).to_string(),
            name: "APT29".into(),
            created_by: creator.id.to_string(),
            change: change.into(),
            created_tests: 1,
            ..CampaignChanged::default()
        };
        for (change, creator) in [("ran", &blue), ("generated", &blue), ("run_failed", &lead), ("run_failed", &blue)] {
            bench.happens(None, "", &campaign(change, creator)).await;
        }

        assert_eq!(bench.kinds("red").await, ["comment", "retest_created", "validated"]);
        assert_eq!(
            bench.kinds("blue").await,
            ["campaign_run_failed", "campaign_run", "comment", "remediation_assigned"]
        );
        // Whoever is meant twice gets one.
        assert_eq!(bench.kinds("lead").await, ["campaign_run_failed", "campaign_run_failed", "regression"]);
        assert_eq!(bench.kinds("bluelead").await, ["campaign_run_failed", "campaign_run_failed", "regression"]);
        assert_eq!(bench.kinds("admin").await, [""; 0]);

        let ctx = bench.sign_in("blue", PASSWORD).await;
        let (rows, _, _) = bench.app.list_notifications(&ctx, 0, "", 0, false).await.unwrap();
        assert_eq!((rows[1].entity_type.as_str(), &rows[1].entity_id), ("campaign", &Uuid::from_u128(11).to_string()));
        assert_eq!(rows[1].message, "Your campaign \"APT29\" ran and made 1 test.");
        assert_eq!(rows[2].message, "lead commented on the test \"Dump LSASS\".");
        assert_eq!((rows[2].entity_type.as_str(), &rows[2].entity_id), ("test", &Uuid::from_u128(9).to_string()));
    })
    .await;
}

#[tokio::test]
async fn an_event_that_comes_again_is_told_once() {
    each(async |bench| {
        let red = bench.user("red", Role::RedTech).await;
        bench.user("blue1", Role::BlueTech).await;
        bench.user("blue2", Role::BlueTech).await;
        bench.settle().await;
        // Events of ten tests, each delivered three times, in chunks that are cut elsewhere each time and out of order.
        for n in 0..10_u128 {
            for (version, previous, state) in [
                (2, "draft", "red_executing"),
                (3, "red_executing", "blue_evaluating"),
                (4, "blue_evaluating", "in_review"),
            ] {
                let test = TestChanged {
                    test_id: Uuid::from_u128(n).to_string(),
                    version,
                    created_by: red.id.to_string(),
                    previous_state: previous.into(),
                    state: state.into(),
                    ..TestChanged::default()
                };
                bench.unsent(&test).await;
            }
        }
        let events = bench.outbox().await;
        assert_eq!(events.len(), 30);
        for step in [7, 11, 13] {
            // A step that shares no factor with 30 visits each of them once.
            let again: Vec<_> = (0..30).map(|n| events[n * step % 30].clone()).collect();
            for chunk in again.chunks(step) {
                bench.deliver(chunk).await;
            }
        }
        assert_eq!(bench.number("SELECT COUNT(*) FROM notification").await, 30);
        assert_eq!(bench.number("SELECT COUNT(*) FROM notification WHERE kind = 'blue_evaluating'").await, 20);
        assert_eq!(bench.number("SELECT MAX(seq) FROM notification").await, 30);
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
        assert_eq!(bench.app.get_notification(&vera, &id).await.unwrap(), page[0]);
        assert_eq!(failure(bench.app.mark_read(&at_version(&vera, 2), &id).await).code(), Code::PreconditionFailed);
        assert!(bench.app.mark_read(&at_version(&vera, 1), &id).await.unwrap().is_read);
        for _ in 0..2 {
            assert!(bench.app.mark_read(&vera, &id).await.unwrap().is_read);
        }
        assert_eq!(failure(bench.app.mark_read(&at_version(&vera, 1), &id).await).code(), Code::PreconditionFailed);
        assert_eq!(bench.app.get_notification(&vera, &id).await.unwrap().version(), 2);
        assert_eq!(bench.app.count_unread(&vera).await.unwrap(), 2);
        let (unread, _, total) = bench.app.list_notifications(&vera, 0, "", 0, true).await.unwrap();
        assert_eq!((unread.len(), total), (2, 2));
        let otto = bench.sign_in("otto", PASSWORD).await;
        assert_eq!(failure(bench.app.mark_read(&otto, &id).await).code(), Code::NotFound);
        assert_eq!(failure(bench.app.get_notification(&otto, &id).await).code(), Code::NotFound);
        assert_eq!(failure(bench.app.get_notification(&vera, &Uuid::nil().to_string()).await).code(), Code::NotFound);
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

#[tokio::test]
async fn one_says_what_one_wants_to_hear_of() {
    each(async |bench| {
        let red = bench.user("red", Role::RedTech).await;
        let ctx = bench.sign_in("red", PASSWORD).await;
        let other = bench.user("lead", Role::RedLead).await;
        let lead = bench.sign_in("lead", PASSWORD).await;

        let found = bench.app.notification_preferences(&ctx).await.unwrap();
        assert_eq!((found.mute_own_actions, found.version), (false, 0));
        let names = [
            "blue_evaluating",
            "campaign_run",
            "campaign_run_failed",
            "comment",
            "credential_works",
            "file_captured",
            "first_contact",
            "in_review",
            "red_executing",
            "regression",
            "rejected",
            "remediation_assigned",
            "retest_created",
            "traversal",
            "validated",
        ];
        assert_eq!(found.kinds(), BTreeMap::from(names.map(|name| (name, true))));

        let patch = PreferencesPatch { mute_own_actions: Some(true), ..wants(&[("rejected", false)]) };
        let changed = bench.app.update_notification_preferences(&at_version(&ctx, 0), patch).await.unwrap();
        assert_eq!((changed.mute_own_actions, changed.version, changed.kinds()["rejected"]), (true, 1, false));
        assert_eq!(bench.app.notification_preferences(&ctx).await.unwrap(), changed);
        // The same again is no change, and what is absent stays.
        let same = bench.app.update_notification_preferences(&ctx, wants(&[("rejected", false)])).await.unwrap();
        assert_eq!(same, changed);
        let stale = bench.app.update_notification_preferences(&at_version(&ctx, 0), wants(&[])).await;
        assert_eq!(failure(stale).code(), Code::PreconditionFailed);
        let unknown =
            bench.app.update_notification_preferences(&ctx, wants(&[("x'; --", true), ("rejected", true)])).await;
        let unknown = failure(unknown);
        assert_eq!((unknown.code(), unknown.fields()[0].field.as_str()), (Code::Validation, "kinds.x'; --"));
        assert_eq!(bench.app.notification_preferences(&ctx).await.unwrap(), changed, "a refusal changes nothing");

        // Its own move, a move that it does not want to hear of, and one that it does.
        bench.change_by(Some(&ctx), &red, "draft", "red_executing").await;
        bench.change_by(Some(&lead), &red, "in_review", "rejected").await;
        bench.change_by(Some(&lead), &red, "in_review", "validated").await;
        assert_eq!(bench.kinds("red").await, ["validated"]);
        // One person's wishes are no other's.
        bench.change_by(Some(&lead), &other, "in_review", "rejected").await;
        bench.change_by(Some(&lead), &other, "blue_evaluating", "in_review").await;
        assert_eq!(bench.kinds("lead").await, ["in_review", "rejected"]);

        let reset = PreferencesPatch {
            reset_mute_own_actions: true,
            reset_kinds: vec!["rejected".into()],
            ..wants(&[("validated", false)])
        };
        let changed = bench.app.update_notification_preferences(&ctx, reset).await.unwrap();
        assert_eq!((changed.mute_own_actions, changed.version), (false, 2));
        assert_eq!((changed.kinds()["rejected"], changed.kinds()["validated"]), (true, false));
        let all = PreferencesPatch { reset_all_kinds: true, ..PreferencesPatch::default() };
        let changed = bench.app.update_notification_preferences(&ctx, all).await.unwrap();
        assert!(changed.choices.is_empty());
        bench.change_by(Some(&ctx), &red, "in_review", "validated").await;
        assert_eq!(bench.kinds("red").await, ["validated", "validated"]);

        let trail = bench.trail().await;
        let records: Vec<_> =
            trail.iter().filter(|record| record.entry.action == "update_notification_preferences").collect();
        assert_eq!(records.len(), 3);
        let details: serde_json::Value = serde_json::from_str(&records[0].entry.details).unwrap();
        assert_eq!(
            (&details["before"], &details["after"]),
            (
                &serde_json::json!({ "mute_own_actions": false, "kinds.rejected": true }),
                &serde_json::json!({ "mute_own_actions": true, "kinds.rejected": false })
            )
        );

        let service = Principal { role: Role::Service, user_id: Uuid::nil(), ..ctx.anyone().unwrap().clone() };
        let service = as_principal(service, "token".into());
        let refused = bench.app.update_notification_preferences(&service, wants(&[("rejected", false)])).await;
        assert_eq!(failure(refused).code(), Code::Forbidden);
    })
    .await;
}

#[tokio::test]
async fn what_is_old_goes() {
    each(async |bench| {
        let red = bench.user("red", Role::RedTech).await;
        for _ in 0..4 {
            bench.change(&red, "in_review", "validated").await;
        }
        let year = "UPDATE notification SET created_at = '2001-01-01T00:00:00+00:00' WHERE seq = 1";
        bench.run(year).await;
        for (seq, days, read) in [(2, 100, true), (3, 100, false), (4, 80, true)] {
            let at = aegis_db::now() - chrono::TimeDelta::days(days);
            let mut tx = bench.db.begin().await.unwrap();
            on!(tx, |c| sqlx::query("UPDATE notification SET created_at = $1, is_read = $2 WHERE seq = $3")
                .bind(at)
                .bind(read)
                .bind(i64::from(seq))
                .execute(c)
                .await
                .map(|_| ()))
            .unwrap();
            tx.commit().await.unwrap();
        }
        bench.app.purge().await.unwrap();
        assert_eq!(bench.number("SELECT COUNT(*) FROM notification").await, 2);
        assert_eq!(bench.number("SELECT COUNT(*) FROM notification WHERE seq IN (3, 4)").await, 2);
    })
    .await;
}

/// The migrations up to a version.
fn until(version: i64) -> Migrations {
    let cut = |migrator: &'static Migrator| -> &'static Migrator {
        let some = migrator.iter().filter(|m| m.version <= version).cloned().collect();
        Box::leak(Box::new(Migrator::with_migrations(some)))
    };
    let all = crate::migrations();
    Migrations { postgres: cut(all.postgres), sqlite: cut(all.sqlite) }
}

#[tokio::test]
async fn notifications_of_before_get_positions() {
    for home in databases("identity", &[aegis_events::migrations(), until(119)]).await {
        println!("on {}", home.name);
        let user = Uuid::from_u128(7);
        let mut tx = home.db.begin().await.unwrap();
        on!(tx, |c| sqlx::query(
            "INSERT INTO users (id, username, username_key, role, password_hash, is_active, must_change_password,
                 token_epoch, version, created_at, updated_at)
             VALUES ($1, 'ana', 'ana', 'viewer', '', TRUE, FALSE, 1, 1, $2, $2)"
        )
        .bind(user)
        .bind(aegis_db::now())
        .execute(c)
        .await
        .map(|_| ()))
        .unwrap();
        for n in 0..5_i64 {
            // The later the id, the earlier it happened.
            let at = aegis_db::now() - chrono::TimeDelta::hours(n);
            on!(tx, |c| sqlx::query(
                "INSERT INTO notification (id, user_id, kind, title, message, entity_type, entity_id, is_read, created_at)
                 VALUES ($1, $2, 'rejected', '', '', 'test', '', FALSE, $3)"
            )
            .bind(Uuid::now_v7())
            .bind(user)
            .bind(at)
            .execute(c)
            .await
            .map(|_| ()))
            .unwrap();
        }
        tx.commit().await.unwrap();
        home.db.migrate(&[aegis_events::migrations(), crate::migrations()]).await.unwrap();
        let positions: Vec<i64> =
            read!(&home.db, |pool| sqlx::query_scalar("SELECT seq FROM notification ORDER BY created_at")
                .fetch_all(pool)
                .await)
            .unwrap();
        assert_eq!(positions, [1, 2, 3, 4, 5]);
        let head: i64 =
            read!(&home.db, |pool| sqlx::query_scalar("SELECT seq FROM notification_head").fetch_one(pool).await)
                .unwrap();
        assert_eq!(head, 5);
        home.close().await;
    }
}
