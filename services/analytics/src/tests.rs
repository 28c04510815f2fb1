//! The projection on both databases: by events, by rebuilding, through the bus. And what other tests stand on.

mod coverage;
mod knowledge;
mod owners;
mod pipeline;
mod projection;
mod upgrade;

use std::sync::Arc;

use aegis_auth::{OpCtx, Role};
use aegis_db::{Db, read};
use aegis_error::Failure;
use aegis_events::{Event, Handler, Outbox};
use aegis_proto::{
    analytics::v1::{
        Coverage, GetSummaryRequest, GetSummaryResponse, ListTacticCoverageRequest, ListTacticCoverageResponse,
        RebuildProjectionRequest, RebuildProjectionResponse, analytics_service_client::AnalyticsServiceClient,
        analytics_service_server::AnalyticsServiceServer,
    },
    catalog::v1::KnownRecord,
    events::v1::{Envelope, TechniqueFacts, TechniquesChanged, TestChanged},
};
use aegis_testkit::{TestDb, ctx, databases};
use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use sqlx::types::Json;
use tonic::body::Body;
use tower::ServiceExt;
use uuid::Uuid;

use crate::{Config, NAME, app::App, domain::matrix::MatrixTechnique, events::Projector, rpc::Rpc};
use owners::World;

pub(crate) async fn stores() -> Vec<TestDb> {
    databases(NAME, &[aegis_events::migrations(), crate::migrations()]).await
}

/// On owners that have nothing.
pub(crate) fn app(db: &Db) -> Arc<App> {
    app_of(db, &World::default())
}

fn app_of(db: &Db, world: &World) -> Arc<App> {
    Arc::new(App::new(db.clone(), Outbox::new(NAME), world.owners(), Config::default()))
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

async fn coverage(app: &Arc<App>) -> Coverage {
    summary(app).await.coverage.unwrap()
}

async fn tactics(app: &Arc<App>) -> ListTacticCoverageResponse {
    let mut client = client(app, ctx(Role::Viewer, "vera"));
    client.list_tactic_coverage(ListTacticCoverageRequest {}).await.unwrap().into_inner()
}

/// All that a rebuild tells.
async fn rebuild(app: &Arc<App>, ctx: &OpCtx) -> Result<Vec<RebuildProjectionResponse>, Failure> {
    let mut client = client(app, ctx.clone());
    let request = ctx.outgoing(RebuildProjectionRequest {});
    Ok(client.rebuild_projection(request).await?.into_inner().try_collect().await?)
}

/// As an administrator whose calls the owners let in.
async fn rebuilt(app: &Arc<App>) -> RebuildProjectionResponse {
    let last = rebuild(app, &admin()).await.unwrap().pop().unwrap();
    assert!(last.done);
    last
}

fn admin() -> OpCtx {
    with_token(Role::Admin, "ada")
}

/// What a request of such a user is, with the token that it goes on with.
fn with_token(role: Role, username: &str) -> OpCtx {
    let principal = ctx(role, username).signed_in().unwrap().clone();
    OpCtx::new(Some(principal), Some("a token".to_owned()), aegis_auth::Origin::default(), None)
}

pub(crate) fn facts(n: u128, status: &str, tactics: &[&str], version: i64) -> TechniqueFacts {
    TechniqueFacts {
        id: Uuid::from_u128(n).to_string(),
        mitre_id: format!("T{n:04}"),
        name: format!("Technique {n}"),
        tactics: tactics.iter().map(|t| (*t).to_owned()).collect(),
        platforms: vec!["Linux".into(), "windows".into()],
        domain: "enterprise".into(),
        status: status.into(),
        version,
        ..TechniqueFacts::default()
    }
}

fn projector(app: &App) -> Projector {
    Projector::new(app.coverage().clone(), app.pulls().clone())
}

fn envelope<E: Event>(id: String, event: &E) -> Envelope {
    Envelope { id, r#type: E::KIND.into(), data: event.encode_to_vec(), ..Envelope::default() }
}

/// Brings techniques straight to the projector, in one event.
pub(crate) async fn take_in(app: &App, techniques: &[TechniqueFacts]) -> Result<(), Failure> {
    let mut tx = app.db.begin().await?;
    let event = TechniquesChanged { techniques: techniques.to_vec() };
    projector(app).handle(&mut tx, &envelope(Uuid::now_v7().to_string(), &event)).await?;
    tx.commit_relaxed().await?;
    Ok(())
}

/// Brings tests straight to the projector, several events in a transaction, some alone and some together.
pub(crate) async fn hear(app: &App, tests: &[TestChanged]) -> Result<(), Failure> {
    let projector = projector(app);
    for some in tests.chunks(64) {
        let events: Vec<Envelope> =
            some.iter().map(|test| envelope(format!("{} {}", test.test_id, test.version), test)).collect();
        let mut tx = app.db.begin().await?;
        let (mut rest, mut many) = (events.as_slice(), 1);
        while let Some((first, others)) = rest.split_at_checked(many.min(rest.len())).filter(|_| !rest.is_empty()) {
            match first {
                [event] => projector.handle(&mut tx, event).await?,
                events => projector.take_tests(&mut tx, &events.iter().collect::<Vec<_>>()).await?,
            }
            (rest, many) = (others, many * 3);
        }
        tx.commit_relaxed().await?;
    }
    Ok(())
}

/// Makes this be all that is known of techniques.
#[allow(dead_code, reason = "for the tests of scores and the like")]
pub(crate) async fn know(app: &App, records: Vec<KnownRecord>) {
    let world = World::default();
    world.0.lock().unwrap().known = records;
    let other = app_of(&app.db, &world);
    let marks = crate::store::knowledge::marks(&app.db).await.unwrap();
    other.pull_known(&admin(), &marks).await.unwrap();
    let mut tx = app.db.begin().await.unwrap();
    app.coverage().renew_on_commit(&mut tx);
    tx.commit_relaxed().await.unwrap();
}

type Fact = (Uuid, i64, String, i64, Option<i64>, bool);
/// Kind, key, name, techniques, implemented.
type Record = (String, String, String, Json<Vec<String>>, bool);
type Counts = (Uuid, i64, i64, i64, i64, i64, Option<DateTime<Utc>>);

/// Everything that the projection knows, but when it came.
#[derive(Debug, PartialEq)]
struct Dump {
    techniques: Vec<MatrixTechnique>,
    tests: Vec<Fact>,
    counts: Vec<Counts>,
    platforms: Vec<(Uuid, String, i64)>,
    states: Vec<(String, i64)>,
    known: Vec<Record>,
}

async fn dump(db: &Db) -> Dump {
    let mut tx = db.begin_read().await.unwrap();
    let (mut techniques, _) = crate::store::matrix::techniques(&mut tx, None).await.unwrap();
    techniques.sort_by_key(|technique| technique.id);
    tx.rollback().await.unwrap();
    Dump {
        techniques,
        tests: read!(db, |pool| sqlx::query_as(
            "SELECT test_id, version, state, digest, verdict, head FROM test_fact WHERE deleted = FALSE ORDER BY test_id"
        )
        .fetch_all(pool)
        .await)
        .unwrap(),
        counts: read!(db, |pool| sqlx::query_as(
            "SELECT technique_id, n, validated, detected, partially_detected, not_detected, last_validated_at \
             FROM technique_tests WHERE n <> 0 ORDER BY technique_id"
        )
        .fetch_all(pool)
        .await)
        .unwrap(),
        platforms: read!(db, |pool| sqlx::query_as(
            "SELECT technique_id, platform, n FROM technique_platform WHERE n <> 0 ORDER BY technique_id, platform"
        )
        .fetch_all(pool)
        .await)
        .unwrap(),
        states: read!(db, |pool| sqlx::query_as("SELECT state, n FROM test_count ORDER BY state")
            .fetch_all(pool)
            .await)
        .unwrap(),
        known: read!(db, |pool| sqlx::query_as(
            "SELECT kind, key, name, techniques, implemented FROM known ORDER BY kind, key"
        )
        .fetch_all(pool)
        .await)
        .unwrap(),
    }
}

/// A small generator, so that a failure can be run again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.roll(from.len())]
    }

    fn shuffle<T>(&mut self, all: &mut [T]) {
        for i in (1..all.len()).rev() {
            all.swap(i, self.roll(i + 1));
        }
    }
}
