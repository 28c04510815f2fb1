//! Coverage as events and rebuilds make it, and who may ask for it.

use std::time::Duration;

use aegis_auth::Origin;
use aegis_error::Code;
use aegis_events::Bus;
use aegis_proto::analytics::v1::GetTestPipelineRequest;

use super::*;

#[tokio::test]
async fn an_empty_projection_has_no_coverage() {
    for test in stores().await {
        let app = app(&test.db);
        let summary = summary(&app).await;
        assert_eq!(summary.coverage, Some(Coverage::default()));
        assert_eq!(summary.coverage_percentage, 0.0);
        assert_eq!(summary.as_of, None);
        assert_eq!(tactics(&app).await.tactics, []);
        test.close().await;
    }
}

/// A newer version of the catalogue may have more of them, in one event with what is known.
#[tokio::test]
async fn statuses_of_the_future_are_left_alone() {
    for test in stores().await {
        let app = app(&test.db);
        take_in(&app, &[facts(1, "partial", &["execution"], 1), facts(2, "foreseen", &["execution"], 1)])
            .await
            .unwrap();
        assert_eq!(summary(&app).await.coverage.unwrap().partial, 1);
        take_in(&app, &[facts(1, "foreseen", &["execution"], 2)]).await.unwrap();
        assert_eq!(summary(&app).await.coverage.unwrap().partial, 1);
        take_in(&app, &[facts(1, "validated", &["execution"], 3)]).await.unwrap();
        assert_eq!(summary(&app).await.coverage.unwrap().validated, 1);
        test.close().await;
    }
}

#[tokio::test]
async fn coverage_follows_events_at_once() {
    for test in stores().await {
        let app = app(&test.db);
        take_in(
            &app,
            &[
                facts(1, "validated", &["execution", "persistence"], 1),
                facts(2, "partial", &["execution"], 1),
                facts(3, "not_evaluated", &["defense-evasion"], 1),
                TechniqueFacts { revoked: true, ..facts(4, "validated", &["execution"], 1) },
                TechniqueFacts { deprecated: true, ..facts(5, "validated", &["execution"], 1) },
            ],
        )
        .await
        .unwrap();
        let summary = summary(&app).await;
        assert_eq!(
            summary.coverage,
            Some(Coverage { total: 3, validated: 1, partial: 1, not_evaluated: 1, ..Coverage::default() })
        );
        assert_eq!(summary.coverage_percentage, 66.7);
        assert!(summary.as_of.is_some());

        let answer = tactics(&app).await;
        let names: Vec<_> = answer.tactics.iter().map(|t| t.tactic.as_str()).collect();
        assert_eq!(names, ["defense-evasion", "execution", "persistence"]);
        assert_eq!(
            answer.tactics[1].coverage,
            Some(Coverage { total: 2, validated: 1, partial: 1, ..Coverage::default() })
        );
        assert_eq!(answer.as_of, summary.as_of);

        // A reader after the commit sees the change, whatever is held in memory.
        take_in(&app, &[facts(3, "in_progress", &["stealth"], 2)]).await.unwrap();
        assert_eq!(coverage(&app).await.in_progress, 1);
        let answer = tactics(&app).await;
        let names: Vec<_> = answer.tactics.iter().map(|t| t.tactic.as_str()).collect();
        assert_eq!(names, ["execution", "persistence", "stealth"]);
        test.close().await;
    }
}

#[tokio::test]
async fn the_highest_version_wins_and_deleted_stays_deleted() {
    for test in stores().await {
        let app = app(&test.db);
        take_in(&app, &[facts(1, "validated", &["execution"], 5), facts(2, "partial", &["execution"], 3)])
            .await
            .unwrap();
        let before = dump(&test.db).await;
        take_in(&app, &[facts(1, "not_covered", &["impact"], 4), facts(1, "not_covered", &["impact"], 5)])
            .await
            .unwrap();
        assert_eq!(dump(&test.db).await, before, "{}: an old version changes nothing", test.name);
        assert_eq!(coverage(&app).await.total, 2);

        let gone = TechniqueFacts { deleted: true, status: String::new(), ..facts(2, "", &["execution"], 4) };
        take_in(&app, &[gone]).await.unwrap();
        take_in(&app, &[facts(2, "partial", &["execution"], 3)]).await.unwrap();
        assert_eq!(dump(&test.db).await.techniques.len(), 1);
        assert_eq!(coverage(&app).await.total, 1);

        // In one event, too, and however often a technique or a tactic is named.
        take_in(&app, &[facts(3, "partial", &["b", "a", "b"], 2), facts(3, "validated", &["c"], 1)]).await.unwrap();
        assert_eq!(coverage(&app).await.partial, 1);
        let matrix = app.matrix().await.unwrap();
        let third = matrix.find("T0003").unwrap();
        assert_eq!((third.tactics.join(" "), third.platforms.join(" ")), ("b a".into(), "linux windows".into()));
        test.close().await;
    }
}

/// What is held in memory and brought up to date change by change is what a process that has just started reads.
#[tokio::test]
async fn what_is_held_in_memory_is_what_is_there() {
    for test in stores().await {
        let world = World::default();
        let app = app_of(&test.db, &world);
        let mut dice = Dice(11);
        for round in 1..40_i64 {
            let n = 1 + dice.roll(12) as u128;
            match dice.roll(4) {
                0 => {
                    let mut one = facts(n, dice.pick(&["validated", "partial"]), &["execution"], round);
                    one.deleted = dice.roll(4) == 0;
                    take_in(&app, &[one]).await.unwrap();
                }
                1 if round % 9 == 0 => {
                    rebuilt(&app).await;
                }
                _ => {
                    let result = dice.pick(&["detected", "not_detected", ""]);
                    let test = projection::validated(100 + n, round, n, result, round);
                    hear(&app, &[test]).await.unwrap();
                }
            }
            let held = app.matrix().await.unwrap();
            let fresh = self::app(&test.db).matrix().await.unwrap();
            assert_eq!(held.techniques, fresh.techniques, "round {round} on {}", test.name);
            assert_eq!(held.as_of, fresh.as_of);
        }
        test.close().await;
    }
}

#[tokio::test]
async fn everyone_reads_and_few_rebuild() {
    for test in stores().await {
        let app = app(&test.db);
        for role in Role::PEOPLE {
            let ctx = with_token(role, role.as_str());
            let mut client = client(&app, ctx.clone());
            client.get_summary(GetSummaryRequest {}).await.unwrap();
            client.list_tactic_coverage(ListTacticCoverageRequest {}).await.unwrap();
            client.get_test_pipeline(GetTestPipelineRequest {}).await.unwrap();
            let result = rebuild(&app, &ctx).await;
            match role {
                Role::Admin => assert!(result.unwrap().last().unwrap().done),
                _ => assert_eq!(result.unwrap_err().code(), Code::Forbidden),
            }
        }
        let nobody = OpCtx::new(None, None, Origin::default(), None);
        let refused = [app.coverage_now(&nobody).await.err(), app.pipeline(&nobody).await.err()];
        for failure in refused {
            assert_eq!(Failure::from(failure.unwrap()).code(), Code::Unauthenticated);
        }
        assert_eq!(rebuild(&app, &nobody).await.unwrap_err().code(), Code::Unauthenticated);
        test.close().await;
    }
}

#[tokio::test]
async fn the_built_service_hears_the_bus_and_asks_the_owners() {
    for test in stores().await {
        let bus = Bus::local();
        let world = World::default();
        let owners = world.owners();
        let deps = crate::Deps {
            db: test.db.clone(),
            bus: bus.clone(),
            catalog: owners.catalog,
            knowledge: owners.knowledge,
            testing: owners.testing,
            observations: owners.observations,
            background: owners.background,
            config: Config::default(),
        };
        let service = crate::build(deps).await.unwrap();
        let shutdown = aegis_runtime::Shutdown::new();
        for task in service.tasks {
            task.spawn(&shutdown);
        }
        let reader = ctx(Role::BlueTech, "bo");
        let routes = service.routes.map_request(move |mut request: http::Request<Body>| {
            request.extensions_mut().insert(reader.clone());
            request
        });
        let mut client = AnalyticsServiceClient::new(aegis_rpc::local(routes));
        assert_eq!(client.get_summary(GetSummaryRequest {}).await.unwrap().into_inner().coverage.unwrap().total, 0);

        // The outbox stands in for the catalogue's: the relay passes on what is in it.
        let outbox = Outbox::new("catalog");
        world.0.lock().unwrap().known = vec![knowledge::tactic("enterprise", "execution", 0)];
        let mut tx = test.db.begin().await.unwrap();
        let techniques = TechniquesChanged { techniques: vec![facts(1, "validated", &["execution"], 1)] };
        outbox.publish(&mut tx, &ctx(Role::Admin, "ada"), "", &techniques).await.unwrap();
        let known = aegis_proto::events::v1::KnowledgeChanged { kinds: vec!["tactic".into(), "new_kind".into()] };
        outbox.publish(&mut tx, &ctx(Role::Admin, "ada"), "", &known).await.unwrap();
        tx.commit().await.unwrap();
        let seen = async {
            loop {
                let request = aegis_proto::analytics::v1::GetMatrixRequest::default();
                let matrix = client.get_matrix(request).await.unwrap().into_inner();
                if matrix.coverage_percentage == 100.0 && matrix.tactics.iter().any(|t| t.name == "Execution") {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), seen).await.expect("the events arrive");
        assert!(shutdown.drain(Duration::from_secs(30)).await);
        test.close().await;
    }
}
