//! When each side handed a test on, and what projections hear of a test.

use aegis_db::{Conn, on};
use aegis_proto::testing::v1::*;
use prost_types::Timestamp;

use crate::world::*;

/// What the migration that brought the columns does to the tests that there are.
fn backfill(conn: &Conn<'_>) -> String {
    let text = match conn {
        Conn::Sqlite(_) => include_str!("../../migrations/sqlite/0140_submitted.sql"),
        Conn::Postgres(_) => include_str!("../../migrations/postgres/0140_submitted.sql"),
    };
    text.split_once("UPDATE").map(|(_, rest)| format!("UPDATE{rest}")).unwrap()
}

#[tokio::test]
async fn each_side_has_its_time_until_the_test_is_reopened() {
    for world in worlds().await {
        let id = world.draft().await.id;
        let started = world.go(RED_TECH, &id, "start_execution").await.unwrap();
        assert_eq!((started.red_submitted_at, started.blue_submitted_at), (None, None));
        let red = world.go(RED_TECH, &id, "submit_red").await.unwrap();
        assert!(red.red_submitted_at.is_some() && red.blue_submitted_at.is_none());
        let blue = world.go(BLUE_TECH, &id, "submit_blue").await.unwrap();
        assert!(blue.red_submitted_at == red.red_submitted_at && blue.blue_submitted_at.is_some());
        assert_eq!(world.get(&id).await, blue);
        let exported = world.by(ADMIN).export_tests(ExportTestsRequest {}).await.unwrap().into_inner().message().await;
        assert_eq!(exported.unwrap().unwrap().tests, std::slice::from_ref(&blue));

        // A test from before there were the columns has what its timeline says.
        let mut tx = world.db.begin().await.unwrap();
        on!(tx, |c| sqlx::query("UPDATE test SET red_submitted_at = NULL, blue_submitted_at = NULL")
            .execute(c)
            .await
            .map(|_| ()))
        .unwrap();
        let sql = backfill(&tx.conn());
        on!(tx, |c| sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(c).await.map(|_| ())).unwrap();
        tx.commit().await.unwrap();
        let again = world.get(&id).await;
        let seconds = |at: &Option<Timestamp>| at.as_ref().unwrap().seconds;
        assert!(seconds(&again.red_submitted_at) - seconds(&red.red_submitted_at) <= 1);
        assert!(seconds(&again.blue_submitted_at) >= seconds(&again.red_submitted_at));

        world.vote(RED_LEAD, &id, "red", false).await.unwrap();
        let reopened = world.go(RED_LEAD, &id, "reopen").await.unwrap();
        assert_eq!((reopened.red_submitted_at, reopened.blue_submitted_at), (None, None));
        let told = world.changes().await.pop().unwrap();
        assert_eq!((told.red_submitted_at, told.blue_submitted_at), (None, None));
        world.close().await;
    }
}

#[tokio::test]
async fn an_event_says_all_that_projections_need() {
    for world in worlds().await {
        let id = world.draft().await.id;
        let at = |seconds: i64| Some(Timestamp { seconds: 1_700_000_000 + seconds, nanos: 0 });
        world.go(RED_TECH, &id, "start_execution").await.unwrap();
        let attack = UpdateRedRequest {
            id: id.clone(),
            attack_success: Some(false),
            executed_at: at(0),
            ..UpdateRedRequest::default()
        };
        world.by(RED_TECH).update_red(attack).await.unwrap();
        world.go(RED_TECH, &id, "submit_red").await.unwrap();
        let found = UpdateBlueRequest {
            id: id.clone(),
            detection_result: Some("detected".into()),
            detected_at: at(60),
            responded_at: at(120),
            contained_at: at(180),
            ..UpdateBlueRequest::default()
        };
        world.by(BLUE_TECH).update_blue(found).await.unwrap();
        world.go(BLUE_TECH, &id, "submit_blue").await.unwrap();
        let mend = UpdateRemediationRequest {
            id: id.clone(),
            remediation_steps: Some("Turn it on".into()),
            remediation_status: Some("in_progress".into()),
            remediation_due_date: at(600),
            ..UpdateRemediationRequest::default()
        };
        world.by(BLUE_LEAD).update_remediation(mend).await.unwrap();
        world.vote(RED_LEAD, &id, "red", true).await.unwrap();
        let test = world.vote(BLUE_LEAD, &id, "blue", true).await.unwrap();
        let told = world.changes().await.pop().unwrap();
        assert_eq!(
            (told.updated_at, told.execution_date, told.red_submitted_at, told.blue_submitted_at),
            (test.updated_at, test.execution_date, test.red_submitted_at, test.blue_submitted_at)
        );
        assert!(told.execution_date.is_some() && told.red_submitted_at.is_some() && told.blue_submitted_at.is_some());
        assert_eq!((told.executed_at, told.detected_at), (at(0), at(60)));
        assert_eq!((told.responded_at, told.contained_at, told.remediation_due_date), (at(120), at(180), at(600)));
        assert_eq!(
            (told.red_validation_status.as_str(), told.blue_validation_status.as_str()),
            ("approved", "approved")
        );
        assert_eq!((told.red_validated_at, told.blue_validated_at), (test.red_validated_at, test.blue_validated_at));
        assert_eq!((told.created_by_username.as_str(), told.technique_name.as_str()), ("rita", "PowerShell"));
        assert_eq!((told.remediation_steps.as_str(), told.attack_success), ("Turn it on", Some(false)));
        world.close().await;
    }
}
