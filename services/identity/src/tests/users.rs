//! Users: what may be made and changed, by whom, and what races do.

use std::{sync::Arc, time::Duration};

use aegis_auth::Role;
use aegis_db::now;
use aegis_error::Code;
use aegis_testkit::ctx;

use crate::{
    admin,
    store::{self, notifications::Notification},
};

use super::*;

#[tokio::test]
async fn a_bad_user_is_refused_with_every_field_named() {
    each(async |bench| {
        let new = NewUser {
            username: "no spaces".into(),
            email: Some("nowhere".into()),
            password: "short".into(),
            role: "service".into(),
            must_change_password: false,
        };
        let refused = failure(bench.app.create_user(&bench.admin().await, new).await);
        assert_eq!(refused.code(), Code::Validation);
        let fields: Vec<_> = refused.fields().iter().map(|f| f.field.as_str()).collect();
        assert_eq!(fields, ["username", "email", "role", "password"]);
        assert_eq!(bench.number("SELECT COUNT(*) FROM users").await, 1);

        let admin = bench.admin().await;
        let user = bench.user("ana", Role::Viewer).await;
        let patch = UserPatch {
            email: Some("@".into()),
            clear_email: true,
            role: Some("root".into()),
            password: Some("ANA".into()),
            ..UserPatch::default()
        };
        let refused = failure(bench.patch(&admin, user.id, patch).await);
        assert_eq!(refused.fields().len(), 4, "{refused}");
        assert_eq!(bench.app.get_user(&admin, &user.id.to_string()).await.unwrap(), user);
    })
    .await;
}

#[tokio::test]
async fn names_are_taken_in_any_case_and_by_one_of_many() {
    each(async |bench| {
        bench.user("Ana", Role::Viewer).await;
        let admin = bench.admin().await;
        let new = |username: &str| NewUser {
            username: username.into(),
            email: None,
            password: PASSWORD.into(),
            role: "viewer".into(),
            must_change_password: false,
        };
        let refused = failure(bench.app.create_user(&admin, new("aNA")).await);
        assert_eq!(refused.code(), Code::Duplicate);
        assert!(refused.message().contains("aNA"), "{refused}");

        let tries = (0..8).map(|_| bench.app.create_user(&admin, new("bob")));
        let results = futures::future::join_all(tries).await;
        assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 1);
        for lost in results.into_iter().filter(Result::is_err) {
            assert_eq!(failure(lost).code(), Code::Duplicate);
        }
    })
    .await;
}

#[tokio::test]
async fn only_administrators_manage_users() {
    each(async |bench| {
        let admin = bench.admin().await;
        let user = bench.user("ana", Role::Viewer).await;
        let id = user.id.to_string();
        for role in Role::PEOPLE.into_iter().chain([Role::Service]).filter(|role| *role != Role::Admin) {
            let other = ctx(role, "somebody");
            assert_eq!(
                failure(bench.app.list_users(&other, 0, "", 0, UserQuery::default()).await).code(),
                Code::Forbidden
            );
            match role {
                // Services ask whether a user is still active.
                Role::Service => assert_eq!(bench.app.get_user(&other, &id).await.unwrap().id, user.id),
                _ => assert_eq!(failure(bench.app.get_user(&other, &id).await).code(), Code::Forbidden),
            }
            assert_eq!(failure(bench.patch(&other, user.id, active(false)).await).code(), Code::Forbidden);
            assert_eq!(failure(bench.app.verify_audit(&other).await).code(), Code::Forbidden);
            assert_eq!(failure(bench.app.list_audit(&other, AuditQuery::default()).await).code(), Code::Forbidden);
        }
        assert_eq!(failure(bench.app.get_user(&admin, "7").await).code(), Code::Validation);
        assert_eq!(failure(bench.app.get_user(&admin, &Uuid::nil().to_string()).await).code(), Code::NotFound);
        assert_eq!(failure(bench.patch(&admin, Uuid::nil(), active(false)).await).code(), Code::NotFound);
    })
    .await;
}

#[tokio::test]
async fn a_list_has_pages() {
    each(async |bench| {
        for name in ["carl", "Bea", "dora"] {
            bench.user(name, Role::Viewer).await;
        }
        let admin = bench.admin().await;
        let names = |users: &[User]| users.iter().map(|u| u.username.clone()).collect::<Vec<_>>();
        let (first, next, total) = bench.app.list_users(&admin, 3, "", 0, UserQuery::default()).await.unwrap();
        assert_eq!((names(&first), total), (vec!["admin".into(), "Bea".into(), "carl".into()], 4));
        let (second, end, _) = bench.app.list_users(&admin, 3, &next, 0, UserQuery::default()).await.unwrap();
        assert_eq!((names(&second), end.as_str()), (vec!["dora".into()], ""));
        assert_eq!(
            failure(bench.app.list_users(&admin, 5001, "", 0, UserQuery::default()).await).code(),
            Code::Validation
        );
        assert_eq!(
            failure(bench.app.list_users(&admin, 0, "x", 0, UserQuery::default()).await).code(),
            Code::Validation
        );
    })
    .await;
}

#[tokio::test]
async fn a_change_keeps_what_is_absent_and_ends_tokens_where_it_must() {
    each(async |bench| {
        let admin = bench.admin().await;
        let user = bench.user("ana", Role::RedTech).await;

        let ana = bench.sign_in("ANA", PASSWORD).await;
        let email = UserPatch { email: Some("ana@example.org".into()), ..UserPatch::default() };
        let changed = bench.patch(&admin, user.id, email).await.unwrap();
        assert_eq!(changed.email.as_deref(), Some("ana@example.org"));
        assert_eq!((changed.role, changed.version, changed.token_epoch), (Role::RedTech, 2, 1));
        assert!(bench.holds(&ana).await);
        let same = bench.patch(&admin, user.id, role(Role::RedTech)).await.unwrap();
        assert_eq!(same.version, 2, "nothing changed");
        assert!(bench.holds(&ana).await);

        let changed = bench.patch(&admin, user.id, role(Role::BlueTech)).await.unwrap();
        assert_eq!((changed.role, changed.token_epoch), (Role::BlueTech, 2));
        assert!(!bench.holds(&ana).await);

        let ana = bench.sign_in("ana", PASSWORD).await;
        let flag = UserPatch { must_change_password: Some(true), ..UserPatch::default() };
        bench.patch(&admin, user.id, flag).await.unwrap();
        assert!(!bench.holds(&ana).await);

        let ana = bench.sign_in("ana", PASSWORD).await;
        assert_eq!(failure(ana.user()).code(), Code::PasswordChangeRequired);
        let password = UserPatch {
            password: Some("another-good-one".into()),
            must_change_password: Some(false),
            clear_email: true,
            ..UserPatch::default()
        };
        let changed = bench.patch(&admin, user.id, password).await.unwrap();
        assert_eq!(changed.email, None);
        assert!(!bench.holds(&ana).await);

        let ana = bench.sign_in("ana", "another-good-one").await;
        assert!(ana.user().is_ok());
        bench.patch(&admin, user.id, active(false)).await.unwrap();
        assert!(!bench.holds(&ana).await);

        let trail = bench.trail().await;
        let updates: Vec<_> = trail.iter().filter(|r| r.entry.action == "update_user").collect();
        assert_eq!(updates.len(), 5);
        assert_eq!(
            updates[1].entry.details,
            r#"{"after":{"role":"blue_tech"},"before":{"role":"red_tech"},"password_changed":false,"tokens_ended":true,"username":"ana"}"#
        );
        assert!(updates[3].entry.details.contains(r#""password_changed":true"#));
        for record in &trail {
            let details = &record.entry.details;
            assert!(!details.contains("argon2") && !details.contains(PASSWORD) && !details.contains("another-good"));
        }
    })
    .await;
}

#[tokio::test]
async fn the_last_administrator_stays_and_nobody_demotes_itself() {
    each(async |bench| {
        let admin = bench.admin().await;
        let own = admin.user().unwrap().user_id;
        for patch in [role(Role::Viewer), active(false)] {
            assert_eq!(failure(bench.patch(&admin, own, patch).await).code(), Code::Conflict);
        }
        assert_eq!(failure(admin::set_active(&bench.db, "admin", false).await).code(), Code::Conflict);

        let second = bench.user("second", Role::Admin).await;
        for patch in [role(Role::Viewer), active(false)] {
            assert_eq!(failure(bench.patch(&admin, own, patch).await).code(), Code::Forbidden);
        }
        // What takes nothing away is allowed.
        let email = UserPatch { email: Some("root@example.org".into()), ..role(Role::Admin) };
        bench.patch(&admin, own, email).await.unwrap();

        // One that is disabled does not count.
        bench.patch(&admin, second.id, active(false)).await.unwrap();
        assert_eq!(failure(bench.patch(&admin, own, active(false)).await).code(), Code::Conflict);
        bench.patch(&admin, second.id, active(true)).await.unwrap();
        let second = bench.sign_in("second", PASSWORD).await;
        bench.patch(&second, own, role(Role::Viewer)).await.unwrap();
        assert!(!bench.holds(&admin).await);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_is_being_notified_can_be_deleted() {
    each(async |bench| {
        let bench = Arc::new(bench);
        let admin = bench.admin().await;
        let ana = bench.user("ana", Role::RedTech).await;
        // The notification is written and not committed when the deletion begins.
        let mut rows = vec![Notification {
            id: Uuid::now_v7(),
            user_id: ana.id,
            kind: "test_rejected".into(),
            title: "Rejected".into(),
            message: String::new(),
            entity_type: "test".into(),
            entity_id: Uuid::nil().to_string(),
            is_read: false,
            created_at: now(),
            seq: 0,
        }];
        let mut tx = bench.db.begin().await.unwrap();
        store::notifications::insert(&mut tx, &mut rows).await.unwrap();
        let deletion = {
            let (bench, id) = (Arc::clone(&bench), ana.id.to_string());
            tokio::spawn(async move { bench.app.delete_user(&admin, &id).await.map_err(Failure::from) })
        };
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!deletion.is_finished(), "it waits for the notification");
        tx.commit().await.unwrap();
        deletion.await.unwrap().unwrap();
        assert_eq!(bench.number("SELECT COUNT(*) FROM notification").await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_administrators_who_demote_each_other_leave_one() {
    each(async |bench| {
        let bench = Arc::new(bench);
        for round in 0..8 {
            let (a, b) = (format!("a{round}"), format!("b{round}"));
            bench.user(&a, Role::Admin).await;
            bench.user(&b, Role::Admin).await;
            // Only the two are left.
            bench.run("UPDATE users SET is_active = FALSE WHERE username = 'admin'").await;
            let (a, b) = (bench.sign_in(&a, PASSWORD).await, bench.sign_in(&b, PASSWORD).await);
            let demote = |by: &OpCtx, of: &OpCtx| {
                let (bench, by, id) = (Arc::clone(&bench), by.clone(), of.user().unwrap().user_id);
                tokio::spawn(async move { bench.patch(&by, id, role(Role::RedTech)).await })
            };
            let (x, y) = tokio::join!(demote(&a, &b), demote(&b, &a));
            let (x, y) = (x.unwrap(), y.unwrap());
            assert_eq!(u8::from(x.is_ok()) + u8::from(y.is_ok()), 1, "{x:?} {y:?}");
            let lost = failure(if x.is_err() { x } else { y });
            assert_eq!(lost.code(), Code::Conflict, "{lost}");
            assert_eq!(bench.number("SELECT COUNT(*) FROM users WHERE role = 'admin' AND is_active").await, 1);
            bench.run("UPDATE users SET role = 'viewer' WHERE username <> 'admin'").await;
            bench.run("UPDATE users SET is_active = TRUE WHERE username = 'admin'").await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_deleted_user_is_gone_and_its_deeds_stay() {
    each(async |bench| {
        let admin = bench.admin().await;
        let own = admin.user().unwrap().user_id;
        let ana = bench.user("ana", Role::RedTech).await;
        let ctx = bench.sign_in("ana", PASSWORD).await;
        assert_eq!(failure(bench.app.delete_user(&ctx, &own.to_string()).await).code(), Code::Forbidden);
        assert_eq!(failure(bench.app.delete_user(&admin, &own.to_string()).await).code(), Code::Forbidden);
        assert_eq!(failure(bench.app.delete_user(&admin, &Uuid::nil().to_string()).await).code(), Code::NotFound);

        bench.app.delete_user(&admin, &ana.id.to_string()).await.unwrap();
        assert!(!bench.holds(&ctx).await);
        assert_eq!(failure(bench.app.get_user(&admin, &ana.id.to_string()).await).code(), Code::NotFound);
        let login = bench.app.login(&from("192.0.2.7"), "ana", &secret(PASSWORD)).await;
        assert_eq!(failure(login).code(), Code::InvalidCredentials);
        // The name is free; who takes it is somebody else.
        let again = bench.user("ana", Role::Viewer).await;
        assert_ne!(again.id, ana.id);
        assert!(bench.holds(&bench.sign_in("ana", PASSWORD).await).await && !bench.holds(&ctx).await);
        let trail = bench.trail().await;
        let deleted = trail.iter().find(|r| r.entry.action == "delete_user").unwrap();
        assert_eq!(deleted.entry.entity_id, ana.id.to_string());
        assert!(deleted.entry.details.contains(r#""username":"ana""#), "{}", deleted.entry.details);
        assert!(trail.iter().any(|r| r.entry.user_id == Some(ana.id) && r.entry.action == "login"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_administrators_who_delete_each_other_leave_one() {
    each(async |bench| {
        let bench = Arc::new(bench);
        bench.user("a", Role::Admin).await;
        bench.user("b", Role::Admin).await;
        let (a, b) = (bench.sign_in("a", PASSWORD).await, bench.sign_in("b", PASSWORD).await);
        bench.run("UPDATE users SET is_active = FALSE WHERE username = 'admin'").await;
        let delete = |by: &OpCtx, of: &OpCtx| {
            let (bench, by, id) = (Arc::clone(&bench), by.clone(), of.user().unwrap().user_id.to_string());
            tokio::spawn(async move { bench.app.delete_user(&by, &id).await.map_err(Failure::from) })
        };
        let (x, y) = tokio::join!(delete(&a, &b), delete(&b, &a));
        let (x, y) = (x.unwrap(), y.unwrap());
        assert_eq!(u8::from(x.is_ok()) + u8::from(y.is_ok()), 1, "{x:?} {y:?}");
        assert_eq!(failure(if x.is_err() { x } else { y }).code(), Code::Conflict);
    })
    .await;
}

#[tokio::test]
async fn users_are_found_by_name_address_role_and_state() {
    each(async |bench| {
        let admin = bench.admin().await;
        bench.user("Ana_Lead", Role::RedLead).await;
        let bob = bench.user("bob", Role::RedTech).await;
        let email = UserPatch { email: Some("Bob@Example.org".into()), ..active(false) };
        bench.patch(&admin, bob.id, email).await.unwrap();
        let found = async |search: Option<&str>, role: Option<&str>, is_active: Option<bool>| {
            let query = UserQuery { search: search.map(Into::into), role: role.map(Into::into), is_active };
            let (users, _, total) = bench.app.list_users(&admin, 0, "", 0, query).await.unwrap();
            assert_eq!(users.len() as i64, total);
            users.into_iter().map(|user| user.username).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(found(Some("LEAD"), None, None).await, "Ana_Lead");
        assert_eq!(found(Some("example"), None, None).await, "bob");
        assert_eq!(found(None, Some("red_tech"), None).await, "bob");
        assert_eq!(found(None, None, Some(true)).await, "admin Ana_Lead");
        assert_eq!(found(Some("a"), Some("red_lead"), Some(true)).await, "Ana_Lead");
        // Nothing in a search is anything but text.
        for text in ["%", "a%d", "\\", "' OR 1=1 --", "'; DROP TABLE users; --", "\"", "*", "[a-z]"] {
            assert_eq!(found(Some(text), None, None).await, "", "{text}");
        }
        assert_eq!(found(Some("_"), None, None).await, "Ana_Lead");
        let bad = UserQuery { search: Some("x".repeat(201)), role: Some("root".into()), is_active: None };
        assert_eq!(failure(bench.app.list_users(&admin, 0, "", 0, bad).await).fields().len(), 2);
    })
    .await;
}

#[tokio::test]
async fn who_sets_its_own_role_where_that_is_refused_hears_so_first() {
    each(async |bench| {
        let admin = bench.admin().await;
        let own = admin.user().unwrap().user_id;
        for name in ["viewer", "admin"] {
            let patch = UserPatch { role: Some(name.into()), refuse_own_role: true, ..UserPatch::default() };
            assert_eq!(failure(bench.patch(&admin, own, patch).await).code(), Code::Forbidden);
        }
    })
    .await;
}

#[tokio::test]
async fn the_command_line_manages_users() {
    each(async |bench| {
        let made = admin::create_user(&bench.db, "ops", "red_lead", None, None).await.unwrap();
        assert!(made.user.must_change_password);
        let password = made.password.unwrap();
        let signed_in = bench.app.login(&from("192.0.2.1"), "ops", &password).await.unwrap();
        assert!(signed_in.must_change_password);
        let given = admin::create_user(&bench.db, "eve", "viewer", None, Some(PASSWORD.into())).await.unwrap();
        assert!(given.password.is_none() && !given.user.must_change_password);
        let bad = admin::create_user(&bench.db, "mal", "viewer", None, Some("short".into())).await;
        assert_eq!(failure(bad).code(), Code::Validation);

        let reset = admin::reset_password(&bench.db, "OPS", Some("a-new-password".into())).await.unwrap();
        assert!(reset.user.must_change_password && reset.password.is_none());
        bench.sign_in("ops", "a-new-password").await;
        assert!(!admin::set_active(&bench.db, "ops", false).await.unwrap().is_active);
        assert_eq!(failure(admin::set_active(&bench.db, "none", false).await).code(), Code::NotFound);
        let names: Vec<_> = admin::list_users(&bench.db).await.unwrap().into_iter().map(|u| u.username).collect();
        assert_eq!(names, ["admin", "eve", "ops"]);

        let trail = bench.trail().await;
        let by_cli: Vec<_> = trail.iter().filter(|r| r.entry.username == "system:cli").collect();
        assert_eq!(by_cli.len(), 4);
        let verdict = admin::verify_audit(&bench.db, &admin::Progress::default()).await.unwrap();
        assert_eq!((verdict.records, verdict.broken), (trail.len() as i64, None));
    })
    .await;
}
