//! Old events go, and what is left is as it was.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    logs::{fill, filter, found},
    *,
};
use crate::{
    app::{
        follow::{Follower, Step},
        logs::Filter,
    },
    store::{self, attackers::Kind},
};

/// Events of a run.
const RUN: i64 = 65_536;

async fn removed(app: &App) -> i64 {
    app.remove_old_events(&CancellationToken::new()).await.unwrap()
}

/// Waits until so many runs are stored.
async fn stored(app: &Arc<App>, runs: usize) {
    while store::runs::after(&app.db, -1).await.unwrap().len() < runs {
        app.live.catch_up().await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn number(db: &Db, sql: &'static str) -> i64 {
    read!(db, |pool| sqlx::query_scalar(sql).fetch_one(pool).await).unwrap()
}

/// Commands that are listed with an attacker of the first events.
async fn commands(app: &App) -> Vec<i64> {
    let id: Vec<Uuid> = read!(&app.db, |pool| sqlx::query_scalar("SELECT id FROM attacker WHERE ip = '198.51.100.2'")
        .fetch_all(pool)
        .await)
    .unwrap();
    store::attackers::logs(&app.db, id[0], Kind::Command, "", 10, 0).await.unwrap()
}

#[tokio::test]
async fn more_than_is_kept_goes_from_the_oldest_on() {
    for test in stores().await {
        let (app, _folder) = app_with(&test.db, Config { events_kept: 70_000, ..Config::default() });
        // Another process, which knows of the events before they go.
        let (elsewhere, _other) = super::app(&test.db);
        fill(&app, 200).await;
        while Follower::new().step(&app).await.unwrap() != Step::Done {
            store::follow::end_lease(&test.db).await.unwrap();
        }
        assert_eq!(commands(&app).await, [103, 3], "{}", test.name);
        fill(&app, 139_800).await;
        stored(&app, 2).await;
        assert_eq!(found(&elsewhere, &filter("event:connect"), 1, 0).await.1, 10_000, "{}", test.name);

        // Nothing goes of which nothing was derived yet.
        assert_eq!(removed(&app).await, 0, "{}", test.name);
        store::follow::set_position(&test.db, 140_000).await.unwrap();
        assert_eq!(removed(&app).await, RUN, "{}", test.name);
        assert_eq!(removed(&app).await, 0, "{}", test.name);
        let left = 140_000 - RUN;
        for app in [&app, &elsewhere] {
            assert_eq!(found(app, &Filter::default(), 1, 0).await, (vec![140_000], left), "{}", test.name);
            assert_eq!(found(app, &Filter::default(), 1, 74_463).await.0, [RUN + 1], "{}", test.name);
            // The 60,000th has gone, the 70,000th is there; each says its number, and the first 200 came before.
            assert_eq!(found(app, &filter("x59998.sh"), 1, 0).await, (vec![], 0), "{}", test.name);
            assert_eq!(found(app, &filter("x69998.sh"), 1, 0).await, (vec![70_199], 1), "{}", test.name);
            let histogram = app.log_histogram(&admin(), &Filter::default(), 60).await.unwrap();
            assert_eq!(histogram.iter().map(|bucket| bucket.count).sum::<i64>(), left, "{}", test.name);
        }
        assert_eq!(number(&test.db, "SELECT COUNT(*) FROM log").await, left, "{}", test.name);
        assert_eq!(number(&test.db, "SELECT COUNT(*) FROM log_minute WHERE count <= 0").await, 0, "{}", test.name);
        assert_eq!(number(&test.db, "SELECT COUNT(*) FROM log_term").await, 256, "{}", test.name);
        assert_eq!(commands(&app).await, [0; 0], "{}", test.name);
        // Who they were stays known.
        assert_eq!(number(&test.db, "SELECT COUNT(*) FROM attacker").await, 100, "{}", test.name);

        // What comes later follows, and the next run is written behind those that are left.
        fill(&elsewhere, 60_000).await;
        for app in [&app, &elsewhere] {
            stored(app, 2).await;
            assert_eq!(found(app, &Filter::default(), 1, 0).await, (vec![200_000], left + 60_000), "{}", test.name);
        }
        // Started anew it is the same.
        let (again, _folder) = super::app(&test.db);
        assert_eq!(found(&again, &filter("x69998.sh"), 1, 0).await, (vec![70_199], 1), "{}", test.name);
        test.close().await;
    }
}

#[tokio::test]
async fn what_came_in_long_ago_goes_also_after_a_cut() {
    for test in stores().await {
        let config = |days| Config { event_retention_days: days, events_kept: 0, ..Config::default() };
        let (app, _folder) = app_with(&test.db, config(30));
        fill(&app, 131_073).await;
        stored(&app, 2).await;
        store::follow::set_position(&test.db, 131_073).await.unwrap();
        // They say that they happened whenever; they came in just now.
        assert_eq!(removed(&app).await, 0, "{}", test.name);
        let mut tx = test.db.begin().await.unwrap();
        let long_ago = (aegis_db::now() - chrono::TimeDelta::days(31)).timestamp_micros();
        aegis_db::on!(&mut tx, |c| sqlx::query("UPDATE log_run SET written_at = $1")
            .bind(long_ago)
            .execute(c)
            .await
            .map(|_| ()))
        .unwrap();
        tx.commit().await.unwrap();
        let (all, _other) = app_with(&test.db, config(0));
        assert_eq!(removed(&all).await, 0, "{}", test.name);

        // Two look at the same moment, and one of them is cut off before the rows are gone.
        let (run, _) = store::runs::oldest(&test.db).await.unwrap().unwrap();
        assert!(app.let_go(run).await.unwrap(), "{}", test.name);
        assert!(!all.let_go(run).await.unwrap(), "{}", test.name);
        assert_eq!(number(&test.db, "SELECT COUNT(*) FROM log").await, 131_073, "{}", test.name);
        assert_eq!(found(&all, &Filter::default(), 1, 0).await.1, 131_073 - RUN, "{}", test.name);
        // The newest run stays, however old.
        assert_eq!(removed(&app).await, 0, "{}", test.name);
        assert_eq!(number(&test.db, "SELECT COUNT(*) FROM log").await, 131_073 - RUN, "{}", test.name);
        test.close().await;
    }
}
