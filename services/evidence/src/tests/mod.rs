//! The service over its real stores, with a stand-in for the service of tests.

mod conditions;
mod housekeeping;
mod identity;
mod integrity;
mod links;
mod look;
mod ranges;
mod remove;
mod testing;
mod upload;

use std::sync::Arc;

use aegis_auth::{OpCtx, Origin, Role};
use aegis_blob::{Blobs, S3Options};
use aegis_db::{Db, read};
use aegis_error::Failure;
use aegis_events::{Bus, Event, Outbox};
use aegis_proto::{
    events::v1::{Actor, AuditRecorded, Envelope},
    evidence::v1::{
        self as pb, GetEvidenceRequest, UploadEvidenceRequest, UploadHeader,
        evidence_service_client::EvidenceServiceClient, evidence_service_server::EvidenceServiceServer,
        upload_evidence_request::Part,
    },
};
use aegis_rpc::RpcService;
use aegis_testkit::{TestDb, ctx, databases};
use bytes::Bytes;
use futures::{StreamExt, stream};
use prost::Message;
use secrecy::SecretString;
use tempfile::TempDir;
use tonic::body::Body;
use tower::ServiceExt;
use uuid::Uuid;

use crate::{App, Config, Deps, NAME, rpc::Rpc};
use identity::Users;
use testing::Tests;

pub(crate) const CHUNK: usize = 256 * 1024;
pub(crate) const LIMIT: u64 = 4 * CHUNK as u64;

/// One service on one database.
pub(crate) struct World {
    pub(crate) test: TestDb,
    pub(crate) tests: Tests,
    pub(crate) users: Users,
    pub(crate) blobs: Blobs,
    pub(crate) app: Arc<App>,
    pub(crate) folder: TempDir,
}

pub(crate) async fn worlds() -> Vec<World> {
    let migrations = [aegis_events::migrations(), crate::migrations()];
    databases(NAME, &migrations).await.into_iter().map(World::new).collect()
}

/// The same, and one over a bucket where the environment names one.
pub(crate) async fn stores() -> Vec<World> {
    let mut all = worlds().await;
    let migrations = [aegis_events::migrations(), crate::migrations()];
    if let (Some(blobs), Some(test)) = (bucket(), databases(NAME, &migrations).await.into_iter().next()) {
        all.push(World::over(test, tempfile::tempdir().unwrap(), blobs));
    }
    all
}

/// A place of its own in the bucket that the environment names.
fn bucket() -> Option<Blobs> {
    let setting = |name: &str| std::env::var(format!("AEGIS_TEST_S3_{name}")).ok();
    let Some(url) = setting("URL") else {
        println!("skipped on S3: AEGIS_TEST_S3_URL is not set");
        return None;
    };
    let options = S3Options {
        endpoint: setting("ENDPOINT"),
        access_key_id: setting("ACCESS_KEY_ID").map(SecretString::from),
        secret_access_key: setting("SECRET_ACCESS_KEY").map(SecretString::from),
        ..S3Options::default()
    };
    Some(Blobs::s3(&format!("{}/run-{}", url.trim_end_matches('/'), Uuid::now_v7()), &options).unwrap())
}

impl World {
    fn new(test: TestDb) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::folder(folder.path()).unwrap();
        World::over(test, folder, blobs)
    }

    fn over(test: TestDb, folder: TempDir, blobs: Blobs) -> Self {
        let (tests, users) = (Tests::default(), Users::default());
        let app = Arc::new(app(&test.db, &blobs, &tests, &users));
        World { test, tests, users, blobs, app, folder }
    }

    /// A client whose calls come from `ctx`.
    pub(crate) fn client(&self, ctx: OpCtx) -> EvidenceServiceClient<RpcService> {
        client(&self.app, ctx)
    }

    pub(crate) async fn get(&self, id: &str) -> pb::Evidence {
        let request = GetEvidenceRequest { id: id.to_owned() };
        self.client(ctx(Role::Viewer, "vera")).get_evidence(request).await.unwrap().into_inner().evidence.unwrap()
    }

    pub(crate) async fn upload(&self, ctx: OpCtx, parts: Vec<Part>) -> Result<pb::Evidence, Failure> {
        upload(self.client(ctx), parts).await
    }

    /// Uploads of which something is still known, files known, files stored.
    pub(crate) async fn left(&self) -> (i64, i64, usize) {
        let count = async |sql: &'static str| -> i64 {
            read!(&self.test.db, |pool| sqlx::query_scalar(sql).fetch_one(pool).await).unwrap()
        };
        assert_eq!(self.blobs.sweep(std::time::Duration::ZERO).await.unwrap(), 0, "no parts of a file stay");
        let stored = self.blobs.list("evidence").count().await;
        (count("SELECT COUNT(*) FROM upload").await, count("SELECT COUNT(*) FROM evidence").await, stored)
    }

    /// What went into the outbox, oldest first.
    pub(crate) async fn events(&self) -> Vec<Envelope> {
        let bodies: Vec<Vec<u8>> =
            read!(&self.test.db, |pool| sqlx::query_scalar("SELECT body FROM outbox ORDER BY seq")
                .fetch_all(pool)
                .await)
            .unwrap();
        bodies.iter().map(|body| Envelope::decode(body.as_slice()).unwrap()).collect()
    }

    /// The audit trail, oldest first.
    pub(crate) async fn audit(&self) -> Vec<(Actor, AuditRecorded)> {
        let events = self.events().await;
        let audits = events.into_iter().filter(|event| event.r#type == AuditRecorded::KIND);
        audits.map(|event| (event.actor.clone().unwrap(), aegis_events::decode(&event).unwrap())).collect()
    }

    pub(crate) async fn close(self) {
        self.test.close().await;
    }
}

pub(crate) fn app(db: &Db, blobs: &Blobs, tests: &Tests, users: &Users) -> App {
    let config = Config {
        max_bytes: LIMIT,
        link_secret: SecretString::from("a secret of the tests, long enough to sign links"),
        ..Config::default()
    };
    let deps = Deps {
        db: db.clone(),
        bus: Bus::local(),
        blobs: blobs.clone(),
        testing: tests.client(),
        identity: users.client(),
        background: users.background(),
        config,
    };
    App::new(deps, Outbox::new(NAME)).unwrap()
}

pub(crate) fn client(app: &Arc<App>, ctx: OpCtx) -> EvidenceServiceClient<RpcService> {
    let server = EvidenceServiceServer::new(Rpc::new(Arc::clone(app)));
    EvidenceServiceClient::new(aegis_rpc::local(server.map_request(move |mut request: http::Request<Body>| {
        request.extensions_mut().insert(ctx.clone());
        request
    })))
}

pub(crate) async fn upload(
    mut client: EvidenceServiceClient<RpcService>,
    parts: Vec<Part>,
) -> Result<pb::Evidence, Failure> {
    let messages = stream::iter(parts).map(|part| UploadEvidenceRequest { part: Some(part) });
    Ok(client.upload_evidence(messages).await?.into_inner().evidence.unwrap())
}

/// Someone with a link and no token.
pub(crate) fn nobody() -> OpCtx {
    OpCtx::new(None, None, Origin { address: "198.51.100.7".into(), ..Origin::default() }, None)
}

pub(crate) fn header(test: Uuid, name: &str) -> UploadHeader {
    UploadHeader { test_id: test.to_string(), file_name: name.into(), team: None, notes: None }
}

/// A whole file.
pub(crate) fn file(header: UploadHeader, content: &[u8]) -> Vec<Part> {
    let chunks = content.chunks(CHUNK).map(|chunk| Part::Chunk(Bytes::copy_from_slice(chunk)));
    std::iter::once(Part::Header(header)).chain(chunks).chain([Part::Finish(true)]).collect()
}

/// Bytes that do not repeat.
pub(crate) fn content(size: usize) -> Vec<u8> {
    (0..size as u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}
