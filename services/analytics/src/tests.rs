//! The projection on both databases: by events, by rebuilding, through the bus.

mod pipeline;

use std::{sync::Arc, time::Duration};

use aegis_auth::{OpCtx, Origin, Role};
use aegis_db::{Db, read};
use aegis_error::{Code, Failure};
use aegis_events::{Bus, Event, Handler, Outbox};
use aegis_proto::{
    analytics::v1::{
        Coverage, GetRebuildStartRequest, GetSummaryRequest, GetSummaryResponse, GetTestPipelineRequest,
        ListTacticCoverageRequest, ListTacticCoverageResponse, ProjectedTechnique, RebuildProjectionRequest,
        analytics_service_client::AnalyticsServiceClient, analytics_service_server::AnalyticsServiceServer,
    },
    events::v1::{Envelope, TechniqueFacts, TechniquesChanged},
};
use aegis_testkit::{TestDb, ctx, databases};
use futures::stream;
use prost::Message;
use sqlx::types::Json;
use tonic::body::Body;
use tower::ServiceExt;
use uuid::Uuid;

use crate::{
    App, NAME,
    app::Batch,
    events::{self, Projector},
    rpc::Rpc,
};

async fn stores() -> Vec<TestDb> {
    databases(NAME, &[aegis_events::migrations(), crate::migrations()]).await
}

fn app(db: &Db) -> Arc<App> {
    Arc::new(App::new(db.clone(), Outbox::new(NAME)))
}

/// A client whose calls come from `ctx`.
fn client(app: &Arc<App>, ctx: OpCtx) -> AnalyticsServiceClient<aegis_rpc::RpcService> {
    let server = AnalyticsServiceServer::new(Rpc::new(Arc::clone(app)));
    AnalyticsServiceClient::new(aegis_rpc::local(server.map_request(move |mut request: http::Request<Body>| {
        request.extensions_mut().insert(ctx.clone());
        request
    })))
}

async fn summary(app: &Arc<App>) -> GetSummaryResponse {
    client(app, ctx(Role::Viewer, "vera")).get_summary(GetSummaryRequest {}).await.unwrap().into_inner()
}

async fn tactics(app: &Arc<App>) -> ListTacticCoverageResponse {
    let mut client = client(app, ctx(Role::Viewer, "vera"));
    client.list_tactic_coverage(ListTacticCoverageRequest {}).await.unwrap().into_inner()
}

fn facts(n: u128, status: &str, tactics: &[&str], version: i64) -> TechniqueFacts {
    TechniqueFacts {
        id: Uuid::from_u128(n).to_string(),
        mitre_id: format!("T{n:04}"),
        name: format!("Technique {n}"),
        tactics: tactics.iter().map(|t| (*t).to_owned()).collect(),
        platforms: vec!["linux".into(), "windows".into()],
        domain: "enterprise".into(),
        status: status.into(),
        version,
        ..TechniqueFacts::default()
    }
}

fn exported(facts: &TechniqueFacts) -> ProjectedTechnique {
    ProjectedTechnique {
        id: facts.id.clone(),
        mitre_id: facts.mitre_id.clone(),
        name: facts.name.clone(),
        tactics: facts.tactics.clone(),
        platforms: facts.platforms.clone(),
        status: facts.status.clone(),
        active: !facts.revoked && !facts.deprecated,
        version: facts.version,
    }
}

fn batch(facts: &TechniqueFacts) -> Batch {
    let techniques = vec![exported(facts)];
    events::from_export(RebuildProjectionRequest { techniques, ..Default::default() }).unwrap()
}

fn envelope(techniques: &[TechniqueFacts]) -> Envelope {
    let data = TechniquesChanged { techniques: techniques.to_vec() }.encode_to_vec();
    Envelope { id: Uuid::now_v7().to_string(), r#type: TechniquesChanged::KIND.into(), data, ..Envelope::default() }
}

async fn take_in(app: &App, techniques: &[TechniqueFacts]) -> Result<(), Failure> {
    let mut tx = app.db.begin().await?;
    Projector::new(app.coverage().clone()).handle(&mut tx, &envelope(techniques)).await?;
    tx.commit_relaxed().await?;
    Ok(())
}

async fn rebuild(app: &Arc<App>, ctx: &OpCtx, batches: Vec<Vec<ProjectedTechnique>>) -> Result<i64, Failure> {
    let batches = batches.into_iter().map(|techniques| RebuildProjectionRequest { techniques, ..Default::default() });
    let answer = client(app, ctx.clone()).rebuild_projection(stream::iter(batches)).await?;
    Ok(answer.into_inner().techniques)
}

async fn coverage(app: &Arc<App>) -> Coverage {
    summary(app).await.coverage.unwrap()
}

type Row = (Uuid, String, String, String, bool, Json<Vec<String>>, i64);

/// Everything that the projection knows.
async fn dump(db: &Db) -> (Vec<Row>, Vec<(Uuid, String)>) {
    let techniques = read!(db, |pool| {
        sqlx::query_as(
        "SELECT id, mitre_id, name, status, active, platforms, version FROM technique WHERE deleted = FALSE ORDER BY id"
    )
    .fetch_all(pool)
    .await
    })
    .unwrap();
    let mut tactics: Vec<(Uuid, String)> =
        read!(db, |pool| sqlx::query_as("SELECT technique_id, tactic FROM technique_tactic").fetch_all(pool).await)
            .unwrap();
    tactics.sort();
    (techniques, tactics)
}

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

        let gone = TechniqueFacts { deleted: true, status: String::new(), ..facts(2, "", &["execution"], 4) };
        take_in(&app, &[gone]).await.unwrap();
        take_in(&app, &[facts(2, "partial", &["execution"], 3)]).await.unwrap();
        let (techniques, tactics) = dump(&test.db).await;
        assert_eq!(techniques.len(), 1);
        assert_eq!(tactics.len(), 1);
        assert_eq!(coverage(&app).await.total, 1);

        // In one event, too, and however often a technique or a tactic is named.
        take_in(&app, &[facts(3, "partial", &["a", "b", "a"], 2), facts(3, "validated", &["c"], 1)]).await.unwrap();
        assert_eq!(coverage(&app).await.partial, 1);
        assert_eq!(dump(&test.db).await.1.len(), 3);
        test.close().await;
    }
}

#[tokio::test]
async fn a_rebuilt_projection_equals_the_incremental_one() {
    for test in stores().await {
        let app = app(&test.db);
        let statuses = ["validated", "partial", "not_covered", "in_progress", "not_evaluated"];
        let tactics = ["execution", "persistence", "impact", "stealth"];
        let mut all: Vec<TechniqueFacts> = (1..=1200)
            .map(|n: usize| {
                let mut one = facts(n as u128, statuses[n % 5], &tactics[..=n % 4], (n % 7) as i64 + 1);
                one.revoked = n.is_multiple_of(11);
                one
            })
            .collect();
        for event in all.chunks(500) {
            take_in(&app, event).await.unwrap();
        }
        // Some change, some go.
        for one in all.iter_mut().step_by(3) {
            one.version += 1;
            one.status = "validated".into();
            one.tactics = vec!["discovery".into()];
        }
        let changed: Vec<_> = all.iter().step_by(3).cloned().collect();
        take_in(&app, &changed).await.unwrap();
        let gone = all.split_off(1100).into_iter();
        let gone: Vec<_> = gone.map(|one| TechniqueFacts { deleted: true, version: one.version + 1, ..one }).collect();
        take_in(&app, &gone).await.unwrap();

        let incremental = dump(&test.db).await;
        let summary = coverage(&app).await;
        assert_eq!(incremental.0.len(), 1100);

        let batches: Vec<Vec<_>> = all.chunks(400).map(|batch| batch.iter().map(exported).collect()).collect();
        let admin = ctx(Role::Admin, "ada");
        assert_eq!(rebuild(&app, &admin, batches.clone()).await.unwrap(), 1100);
        assert_eq!(dump(&test.db).await, incremental, "{}", test.name);
        assert_eq!(coverage(&app).await, summary);

        // Also when what was there is wrong, as after a restored backup.
        take_in(&app, &[facts(1, "partial", &["impact"], 900), facts(9000, "partial", &["impact"], 1)]).await.unwrap();
        rebuild(&app, &ctx(Role::Service, "system:aegis"), batches).await.unwrap();
        assert_eq!(dump(&test.db).await, incremental, "{}", test.name);
        rebuild(&app, &admin, Vec::new()).await.unwrap();
        assert_eq!(coverage(&app).await, Coverage::default());
        test.close().await;
    }
}

#[tokio::test]
async fn an_event_during_the_export_is_not_lost() {
    for test in stores().await {
        let app = app(&test.db);
        take_in(&app, &[facts(1, "not_evaluated", &["execution"], 1), facts(2, "partial", &["execution"], 1)])
            .await
            .unwrap();
        let during = Arc::clone(&app);
        let old = batch(&facts(1, "not_evaluated", &["execution"], 1));
        let batches = stream::once(async move {
            take_in(&during, &[facts(1, "validated", &["execution"], 2)]).await.unwrap();
            Ok(old)
        });
        app.rebuild(&ctx(Role::Admin, "ada"), batches).await.unwrap();
        assert_eq!(coverage(&app).await, Coverage { total: 1, validated: 1, ..Coverage::default() });
        test.close().await;
    }
}

#[tokio::test]
async fn what_cannot_be_read_changes_nothing() {
    for test in stores().await {
        let app = app(&test.db);
        let admin = ctx(Role::Admin, "ada");
        take_in(&app, &[facts(1, "validated", &["execution"], 1)]).await.unwrap();
        let before = dump(&test.db).await;

        let good = exported(&facts(2, "partial", &["execution"], 1));
        let bad_status = ProjectedTechnique { status: "done".into(), ..good.clone() };
        let bad_id = ProjectedTechnique { id: "T1059".into(), ..good.clone() };
        for bad in [bad_status, bad_id] {
            let failure = rebuild(&app, &admin, vec![vec![good.clone()], vec![bad]]).await.unwrap_err();
            assert_eq!(failure.code(), Code::Validation);
            assert_eq!(dump(&test.db).await, before);
        }
        let broken = stream::iter([
            Ok(events::from_export(RebuildProjectionRequest { techniques: vec![good.clone()], ..Default::default() })
                .unwrap()),
            Err(Failure::unavailable("the caller")),
        ]);
        app.rebuild(&admin, broken).await.unwrap_err();
        assert_eq!(dump(&test.db).await, before);
        let much = vec![vec![good.clone(); 10_000]; 6];
        assert_eq!(rebuild(&app, &admin, much).await.unwrap_err().code(), Code::TooLarge);
        assert_eq!(dump(&test.db).await, before);

        let failure = take_in(&app, &[facts(3, "done", &["execution"], 1)]).await.unwrap_err();
        assert_eq!(failure.code(), Code::Validation);
        assert_eq!(dump(&test.db).await, before);
        test.close().await;
    }
}

#[tokio::test]
async fn everyone_reads_and_few_rebuild() {
    for test in stores().await {
        let app = app(&test.db);
        for role in Role::PEOPLE {
            let ctx = ctx(role, role.as_str());
            let mut client = client(&app, ctx.clone());
            client.get_summary(GetSummaryRequest {}).await.unwrap();
            client.list_tactic_coverage(ListTacticCoverageRequest {}).await.unwrap();
            client.get_test_pipeline(GetTestPipelineRequest {}).await.unwrap();
            let result = rebuild(&app, &ctx, Vec::new()).await;
            let start = client.get_rebuild_start(GetRebuildStartRequest {}).await.map_err(Failure::from);
            match role {
                Role::Admin => assert_eq!((result.unwrap(), start.is_ok()), (0, true)),
                _ => {
                    assert_eq!(result.unwrap_err().code(), Code::Forbidden);
                    assert_eq!(start.unwrap_err().code(), Code::Forbidden);
                }
            }
        }
        let nobody = OpCtx::new(None, None, Origin::default(), None);
        let refused =
            [app.summary(&nobody).await.err(), app.tactics(&nobody).await.err(), app.pipeline(&nobody).await.err()];
        for failure in refused {
            assert_eq!(Failure::from(failure.unwrap()).code(), Code::Unauthenticated);
        }
        assert_eq!(rebuild(&app, &nobody, Vec::new()).await.unwrap_err().code(), Code::Unauthenticated);
        test.close().await;
    }
}

#[tokio::test]
async fn the_built_service_hears_the_bus() {
    for test in stores().await {
        let bus = Bus::local();
        let service = crate::build(crate::Deps { db: test.db.clone(), bus: bus.clone() }).await.unwrap();
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
        let mut tx = test.db.begin().await.unwrap();
        let event = TechniquesChanged { techniques: vec![facts(1, "validated", &["execution"], 1)] };
        outbox.publish(&mut tx, &ctx(Role::Admin, "ada"), "", &event).await.unwrap();
        tx.commit().await.unwrap();
        let seen = async {
            loop {
                let answer = client.get_summary(GetSummaryRequest {}).await.unwrap().into_inner();
                if answer.coverage_percentage == 100.0 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), seen).await.expect("the event arrives");
        assert!(shutdown.drain(Duration::from_secs(30)).await);
        test.close().await;
    }
}
