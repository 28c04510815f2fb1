//! A database of the version before: it is migrated, still right, and asks for what it did not know.

use std::borrow::Cow;

use aegis_db::{Migrations, on};
use sqlx::migrate::Migrator;
use tokio_util::sync::CancellationToken;

use super::*;

/// The migrations of the version before.
fn older() -> Migrations {
    let cut = |migrator: &Migrator| -> &'static Migrator {
        let old: Vec<_> = migrator.iter().filter(|migration| migration.version < 120).cloned().collect();
        Box::leak(Box::new(Migrator { migrations: Cow::Owned(old), ..Migrator::DEFAULT }))
    };
    let now = crate::migrations();
    Migrations { postgres: cut(now.postgres), sqlite: cut(now.sqlite) }
}

#[tokio::test]
async fn a_database_of_the_version_before_is_brought_up_to_date() {
    for store in databases(NAME, &[aegis_events::migrations(), older()]).await {
        let mut tx = store.db.begin().await.unwrap();
        let at = aegis_db::now();
        let (technique, test) = (Uuid::from_u128(1), Uuid::from_u128(11));
        on!(tx, |c| sqlx::query(
            "INSERT INTO technique (id, mitre_id, name, status, active, deleted, platforms, version, taken_at) \
             VALUES ($1, 'T0001', 'One', 'validated', TRUE, FALSE, $2, 3, $3)"
        )
        .bind(technique)
        .bind(Json(vec!["linux"]))
        .bind(at)
        .execute(c)
        .await
        .map(|_| ()))
        .unwrap();
        on!(tx, |c| sqlx::query(
            "INSERT INTO technique_tactic (technique_id, tactic) VALUES ($1, 'impact'), ($1, 'execution')"
        )
        .bind(technique)
        .execute(c)
        .await
        .map(|_| ()))
        .unwrap();
        on!(tx, |c| sqlx::query(
            "INSERT INTO test_fact (test_id, version, state, deleted, taken_at) VALUES ($1, 5, 'validated', FALSE, $2)"
        )
        .bind(test)
        .bind(at)
        .execute(c)
        .await
        .map(|_| ()))
        .unwrap();
        on!(tx, |c| sqlx::query("UPDATE test_count SET n = 1 WHERE state = 'validated'").execute(c).await.map(|_| ()))
            .unwrap();
        on!(tx, |c| sqlx::query("UPDATE meta SET as_of = $1").bind(at).execute(c).await.map(|_| ())).unwrap();
        tx.commit().await.unwrap();

        store.db.migrate(&[aegis_events::migrations(), crate::migrations()]).await.unwrap();
        let world = World::default();
        {
            let mut owned = world.0.lock().unwrap();
            owned.techniques = vec![facts(1, "validated", &["execution", "impact"], 3)];
            owned.tests = vec![projection::validated(11, 5, 1, "detected", 4)];
            owned.known = vec![knowledge::record("detection_rule", "sigma:1", &["T0001"])];
        }
        let app = app_of(&store.db, &world);
        // Before anything is asked, what was there is still told.
        assert_eq!(coverage(&app).await.validated, 1);
        assert_eq!(tactics(&app).await.tactics.len(), 2);
        assert_eq!(app.matrix().await.unwrap().techniques[0].tests.detected, 0);

        let stop = CancellationToken::new();
        let pulling = tokio::spawn({
            let (app, stop) = (Arc::clone(&app), stop.clone());
            async move { app.keep_pulling(stop).await }
        });
        let done = async {
            loop {
                let matrix = app.matrix().await.unwrap();
                if matrix.techniques[0].tests.detected == 1 && matrix.knowledge.rules.len() == 1 {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), done).await.expect("it asks by itself");
        stop.cancel();
        pulling.await.unwrap();
        store.close().await;
    }
}

#[tokio::test]
async fn a_new_database_has_nothing_to_ask_but_what_is_known() {
    for store in stores().await {
        assert!(!crate::store::rebuild_due(&store.db).await.unwrap());
        assert_eq!(crate::store::knowledge::due(&store.db).await.unwrap().len(), 6);
        store.close().await;
    }
}
