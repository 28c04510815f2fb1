//! A request with an `Idempotency-Key` changes something once, whatever happens in between; a change whose `If-Match`
//! nobody looked at is not written. On both databases.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, also in its helpers"
)]

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use aegis_auth::{Conditions, IdempotencyKey, IfMatch, OpCtx, Origin, Principal, Role};
use aegis_db::{Db, now, on, read};
use aegis_error::{Code, Failure};
use aegis_events::{Audit, Claim, IdempotencyLayer, Outbox};
use aegis_testkit::{TestDb, ctx, principal};
use bytes::{BufMut, Bytes, BytesMut};
use chrono::TimeDelta;
use futures::future::{BoxFuture, join_all};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::json;
use tokio::sync::Notify;
use tonic::{Status, body::Body};
use tower::{Layer, Service, ServiceExt, service_fn, util::BoxCloneSyncService};

const CREATE: &str = "/aegis.testing.v1.TestingService/CreateTest";
const LIST: &str = "/aegis.testing.v1.TestingService/ListTests";
const UPLOAD: &str = "/aegis.evidence.v1.EvidenceService/UploadEvidence";
const SECRET: &str = "/aegis.identity.v1.ApiKeyService/CreateApiKey";

/// A service that makes things, and what it did.
#[derive(Clone)]
struct World {
    db: Db,
    outbox: Outbox,
    calls: Arc<AtomicU32>,
    /// What a slow request waits for after its change.
    go: Arc<Notify>,
}

type Server = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// A request with a key.
struct Ask {
    path: &'static str,
    key: Option<&'static str>,
    body: &'static str,
    who: Principal,
    deadline: Option<Instant>,
}

fn ask(key: &'static str, body: &'static str) -> Ask {
    Ask { path: CREATE, key: Some(key), body, who: principal(Role::RedTech, "ana"), deadline: None }
}

impl World {
    fn new(db: Db) -> World {
        World { db, outbox: Outbox::new("test"), calls: Arc::default(), go: Arc::default() }
    }

    fn server(&self) -> Server {
        let world = self.clone();
        let service = service_fn(move |request: Request<Body>| {
            let world = world.clone();
            async move {
                world.calls.fetch_add(1, Ordering::SeqCst);
                let ctx = request.extensions().get::<OpCtx>().unwrap().clone();
                let command = request.into_body().collect().await.unwrap().to_bytes();
                let command = String::from_utf8(command.to_vec()).unwrap();
                Ok(match world.run(&ctx, &command).await {
                    Ok(text) => success(&text),
                    Err(failure) => Status::from(failure).into_http(),
                })
            }
        });
        BoxCloneSyncService::new(IdempotencyLayer::new(self.db.clone(), &"the secret".to_owned().into()).layer(service))
    }

    /// `make NAME`, with what is to happen around it.
    async fn run(&self, ctx: &OpCtx, command: &str) -> Result<String, Failure> {
        let (what, name) = command.split_once(' ').unwrap();
        match what {
            "nothing" => return Ok(format!("nothing, {}", self.calls.load(Ordering::SeqCst))),
            "refuse" => return Err(Failure::forbidden("no")),
            "stream" => {
                let claim = Claim::of(ctx).unwrap();
                claim.is_about(&["a file", name]);
                if claim.is_repeat() {
                    return Err(Claim::taken());
                }
            }
            _ => {}
        }
        let mut tx = self.db.begin().await?;
        let sql = "INSERT INTO thing (name) VALUES ($1)";
        on!(tx, |c| sqlx::query(sql).bind(name).execute(c).await.map(|_| ())).map_err(aegis_db::Error::from)?;
        let audit = Audit { action: "make", entity_type: "thing", entity_id: name.to_owned(), details: json!({}) };
        self.outbox.audit(&mut tx, ctx, audit.clone()).await?;
        if what == "undo" && self.calls.load(Ordering::SeqCst) == 1 {
            return Err(Failure::unavailable("the test"));
        }
        // A second line in the same transaction.
        self.outbox.audit(&mut tx, ctx, audit).await?;
        tx.commit().await?;
        match what {
            "slow" => self.go.notified().await,
            "lose" => return Err(Failure::internal("the answer is lost")),
            "fail" => return Err(Failure::new(Code::Unprocessable, "made, and of no use").with("job_id", name)),
            _ => {}
        }
        Ok(format!("{name}, call {}", self.calls.load(Ordering::SeqCst)))
    }

    async fn things(&self) -> i64 {
        self.count("SELECT COUNT(*) FROM thing").await
    }

    async fn count(&self, sql: &'static str) -> i64 {
        read!(&self.db, |pool| sqlx::query_scalar(sql).fetch_one(pool).await).unwrap()
    }

    async fn write(&self, sql: &'static str) {
        let mut tx = self.db.begin().await.unwrap();
        on!(tx, |c| sqlx::query(sql).execute(c).await.map(|_| ())).unwrap();
        tx.commit().await.unwrap();
    }
}

fn success(text: &str) -> Response<Body> {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(text.len()).unwrap());
    frame.put_slice(text.as_bytes());
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    let body = Full::new(frame.freeze()).with_trailers(async move { Some(Ok(trailers)) });
    let mut response = Response::new(Body::new(body));
    response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    response
}

/// The answer: the text of a success, or why not.
fn send(server: &Server, ask: Ask) -> BoxFuture<'static, Result<String, Failure>> {
    let conditions =
        Conditions { if_match: None, idempotency_key: ask.key.map(|key| IdempotencyKey::new(key.as_bytes()).unwrap()) };
    let ctx = OpCtx::new(Some(ask.who), None, Origin::default(), ask.deadline).under(conditions);
    let body = Body::new(Full::new(Bytes::from_static(ask.body.as_bytes())));
    let mut request = Request::new(body);
    *request.uri_mut() = ask.path.parse().unwrap();
    request.extensions_mut().insert(ctx);
    let mut server = server.clone();
    Box::pin(async move {
        let response = server.ready().await.unwrap().call(request).await.unwrap();
        let headers = response.headers().clone();
        if let Some(status) = Status::from_header_map(&headers) {
            return Err(status.into());
        }
        assert_eq!(headers["content-type"], "application/grpc");
        let collected = response.into_body().collect().await.unwrap();
        assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
        let bytes = collected.to_bytes();
        assert_eq!(usize::try_from(u32::from_be_bytes(bytes[1..5].try_into().unwrap())).unwrap(), bytes.len() - 5);
        Ok(String::from_utf8(bytes[5..].to_vec()).unwrap())
    })
}

async fn databases() -> Vec<TestDb> {
    let databases = aegis_testkit::databases("events", &[aegis_events::migrations()]).await;
    for test in &databases {
        World::new(test.db.clone()).write("CREATE TABLE thing (name TEXT)").await;
    }
    databases
}

#[tokio::test]
async fn the_same_request_again_gets_the_first_answer() {
    for test in databases().await {
        let world = World::new(test.db.clone());
        let server = world.server();
        let first = send(&server, ask("k", "make one")).await.unwrap();
        assert_eq!(first, "one, call 1");
        for _ in 0..2 {
            assert_eq!(send(&server, ask("k", "make one")).await.unwrap(), first);
        }
        assert_eq!((world.things().await, world.calls.load(Ordering::SeqCst)), (1, 1), "{}", test.name);

        let other = send(&server, ask("k", "make two")).await.unwrap_err();
        assert_eq!(other.code(), Code::Unprocessable);
        assert!(other.message().contains("Idempotency-Key"));
        // Somebody else's key, another key, another method, none: other requests.
        let bob = Ask { who: principal(Role::RedTech, "bob"), ..ask("k", "make one") };
        let elsewhere = Ask { path: SECRET, ..ask("k", "make one") };
        let plain = || Ask { key: None, ..ask("k", "make one") };
        let lesser = Ask { who: principal(Role::Viewer, "ana"), ..ask("k", "make one") };
        for one in [bob, lesser, ask("l", "make one"), elsewhere, plain(), plain()] {
            send(&server, one).await.unwrap();
        }
        assert_eq!(world.things().await, 7);
        // What only reads has nothing to remember.
        let list = || Ask { path: LIST, ..ask("k", "nothing x") };
        assert_ne!(send(&server, list()).await.unwrap(), send(&server, list()).await.unwrap());
        test.close().await;
    }
}

#[tokio::test]
async fn a_request_that_changed_nothing_keeps_its_key_or_its_answer() {
    for test in databases().await {
        let world = World::new(test.db.clone());
        let server = world.server();
        // Refused: the key is free.
        assert_eq!(send(&server, ask("r", "refuse x")).await.unwrap_err().code(), Code::Forbidden);
        assert_eq!(send(&server, ask("r", "make x")).await.unwrap(), "x, call 2");
        // Undone: the key is free.
        world.calls.store(0, Ordering::SeqCst);
        assert_eq!(send(&server, ask("u", "undo y")).await.unwrap_err().code(), Code::Unavailable);
        assert_eq!(send(&server, ask("u", "undo y")).await.unwrap(), "y, call 2");
        assert_eq!(world.things().await, 2, "{}", test.name);
        // Nothing to do: that is the answer from now on.
        let first = send(&server, ask("n", "nothing z")).await.unwrap();
        assert_eq!(send(&server, ask("n", "nothing z")).await.unwrap(), first);
        assert_eq!(send(&server, ask("n", "nothing a")).await.unwrap_err().code(), Code::Unprocessable);
        test.close().await;
    }
}

#[tokio::test]
async fn many_at_once_are_one_change_and_one_answer() {
    for test in databases().await {
        let world = World::new(test.db.clone());
        // Two replicas.
        let servers = [world.server(), world.server()];
        let answers = join_all((0..8).map(|n| send(&servers[n % 2], ask("k", "make one")))).await;
        let first = answers[0].as_ref().unwrap();
        for answer in &answers {
            assert_eq!(answer.as_ref().unwrap(), first, "{}", test.name);
        }
        assert_eq!(world.things().await, 1, "{}", test.name);
        let lines = world.count("SELECT COUNT(*) FROM outbox").await;
        assert_eq!(lines, 2);
        test.close().await;
    }
}

#[tokio::test]
async fn a_repetition_waits_for_the_first_request_also_when_its_caller_left() {
    for test in databases().await {
        let world = World::new(test.db.clone());
        let server = world.server();
        let first = tokio::spawn(send(&server, ask("k", "slow one")));
        while world.things().await == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let second = tokio::spawn(send(&server, ask("k", "slow one")));
        // The caller goes away; its request does not.
        first.abort();
        tokio::time::sleep(Duration::from_millis(100)).await;
        world.go.notify_one();
        assert_eq!(second.await.unwrap().unwrap(), "one, call 1", "{}", test.name);
        assert_eq!(world.things().await, 1);
        test.close().await;
    }
}

#[tokio::test]
async fn a_change_whose_answer_was_lost_is_not_made_again() {
    for test in databases().await {
        let world = World::new(test.db.clone());
        let server = world.server();
        assert_eq!(send(&server, ask("k", "lose one")).await.unwrap_err().code(), Code::Internal);
        let deadline = Some(Instant::now() + Duration::from_millis(300));
        let again = send(&server, Ask { deadline, ..ask("k", "lose one") }).await.unwrap_err();
        assert_eq!((again.code(), again.get("id")), (Code::Conflict, Some("one")), "{}", test.name);
        assert_eq!(send(&server, ask("k", "lose two")).await.unwrap_err().code(), Code::Unprocessable);
        assert_eq!(world.things().await, 1);

        // What failed for good after its change gets the same failure, with all that it said.
        for _ in 0..2 {
            let failure = send(&server, ask("f", "fail two")).await.unwrap_err();
            assert_eq!((failure.code(), failure.get("job_id")), (Code::Unprocessable, Some("two")));
            assert_eq!(failure.message(), "made, and of no use");
        }
        assert_eq!(world.things().await, 2);
        test.close().await;
    }
}

#[tokio::test]
async fn a_secret_is_given_once() {
    for test in databases().await {
        let world = World::new(test.db.clone());
        let server = world.server();
        let key = || Ask { path: SECRET, ..ask("k", "make machine") };
        send(&server, key()).await.unwrap();
        let again = send(&server, key()).await.unwrap_err();
        assert_eq!((again.code(), again.get("id")), (Code::Conflict, Some("machine")), "{}", test.name);
        assert_eq!(world.count("SELECT COUNT(*) FROM idempotency WHERE answer IS NOT NULL").await, 0);
        test.close().await;
    }
}

#[tokio::test]
async fn a_stream_is_the_same_when_it_says_the_same() {
    for test in databases().await {
        let world = World::new(test.db.clone());
        let server = world.server();
        let upload = |key, body| send(&server, Ask { path: UPLOAD, ..ask(key, body) });
        let first = upload("k", "stream one").await.unwrap();
        assert_eq!(upload("k", "stream one").await.unwrap(), first);
        assert_eq!(upload("k", "stream two").await.unwrap_err().code(), Code::Unprocessable);
        let answers = join_all((0..4).map(|_| upload("l", "stream three"))).await;
        assert!(answers.iter().all(|answer| answer.as_ref().unwrap() == answers[0].as_ref().unwrap()));
        assert_eq!(world.things().await, 2, "{}", test.name);
        // A fault of ours is told as one: without a fingerprint two streams cannot be told apart.
        assert_eq!(upload("m", "make four").await.unwrap_err().code(), Code::Internal);
        assert_eq!(world.things().await, 2);
        test.close().await;
    }
}

#[tokio::test]
async fn after_a_day_a_key_is_new() {
    for test in databases().await {
        let world = World::new(test.db.clone());
        let server = world.server();
        send(&server, ask("k", "make one")).await.unwrap();
        let at = now() - TimeDelta::hours(24) - TimeDelta::seconds(1);
        let mut tx = world.db.begin().await.unwrap();
        on!(tx, |c| sqlx::query("UPDATE idempotency SET at = $1").bind(at).execute(c).await.map(|_| ())).unwrap();
        tx.commit().await.unwrap();
        assert_eq!(send(&server, ask("k", "make two")).await.unwrap(), "two, call 2", "{}", test.name);
        assert_eq!(send(&server, ask("k", "make two")).await.unwrap(), "two, call 2");
        assert_eq!(world.count("SELECT COUNT(*) FROM idempotency").await, 1);
        test.close().await;
    }
}

#[tokio::test]
async fn who_must_change_the_password_gets_nothing_from_memory() {
    for test in databases().await {
        let world = World::new(test.db.clone());
        let server = world.server();
        send(&server, ask("k", "make one")).await.unwrap();
        // The service is asked, which would refuse; and what it would do twice it does not.
        let flagged = Principal { must_change_password: true, ..principal(Role::RedTech, "ana") };
        assert_eq!(send(&server, Ask { who: flagged, ..ask("k", "make one") }).await.unwrap(), "one, call 1");
        assert_eq!((world.things().await, world.calls.load(Ordering::SeqCst)), (1, 2), "{}", test.name);
        test.close().await;
    }
}

#[tokio::test]
async fn a_change_whose_if_match_nobody_looked_at_is_not_written() {
    for test in databases().await {
        let world = World::new(test.db.clone());
        let conditions = || Conditions { if_match: Some(IfMatch::Versions(vec![3])), idempotency_key: None };
        let blind = ctx(Role::RedTech, "ana").under(conditions());
        assert_eq!(world.run(&blind, "make one").await.unwrap_err().code(), Code::Internal);
        assert_eq!((world.things().await, world.count("SELECT COUNT(*) FROM outbox").await), (0, 0), "{}", test.name);
        let seeing = ctx(Role::RedTech, "ana").under(conditions());
        seeing.expect_version(3).unwrap();
        world.run(&seeing, "make one").await.unwrap();
        assert_eq!(world.things().await, 1);
        test.close().await;
    }
}
