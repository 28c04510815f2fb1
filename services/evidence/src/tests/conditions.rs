//! Uploads with an `Idempotency-Key`: the same file is brought once.

use std::sync::Arc;

use aegis_auth::{Conditions, IdempotencyKey, Role};
use aegis_error::{Code, Failure};
use aegis_events::IdempotencyLayer;
use aegis_proto::evidence::v1::{
    self as pb, UploadHeader, evidence_service_client::EvidenceServiceClient,
    evidence_service_server::EvidenceServiceServer, upload_evidence_request::Part,
};
use aegis_testkit::ctx;
use futures::future::join_all;
use tonic::body::Body;
use tower::{Layer, ServiceExt};

use super::{World, content, file, header, upload, worlds};
use crate::rpc::Rpc;

async fn keyed(world: &World, key: &str, parts: Vec<Part>) -> Result<pb::Evidence, Failure> {
    let key = IdempotencyKey::new(key.as_bytes()).ok();
    let ctx = ctx(Role::RedTech, "rita").under(Conditions { if_match: None, idempotency_key: key });
    let once = IdempotencyLayer::new(world.test.db.clone(), &"secret".to_owned().into());
    let server = once.layer(EvidenceServiceServer::new(Rpc::new(Arc::clone(&world.app))));
    let server = server.map_request(move |mut request: http::Request<Body>| {
        request.extensions_mut().insert(ctx.clone());
        request
    });
    upload(EvidenceServiceClient::new(aegis_rpc::local(server)), parts).await
}

#[tokio::test]
async fn the_same_upload_again_gets_the_first_answer() {
    for world in worlds().await {
        // Open for the first upload, closed ever after.
        let test = world.tests.add(&["draft", "draft", "validated"]);
        let bytes = content(300_000);
        let first = keyed(&world, "k", file(header(test, "a.txt"), &bytes)).await.unwrap();
        assert_eq!(keyed(&world, "k", file(header(test, "a.txt"), &bytes)).await.unwrap(), first);
        let others = [
            file(header(test, "b.txt"), &bytes),
            file(header(test, "a.txt"), &bytes[1..]),
            file(UploadHeader { notes: Some("n".into()), ..header(test, "a.txt") }, &bytes),
        ];
        for other in others {
            assert_eq!(keyed(&world, "k", other).await.unwrap_err().code(), Code::Unprocessable);
        }
        // What is no file gets no answer that is not its own.
        let cut = vec![Part::Header(header(test, "a.txt")), Part::Chunk(bytes.clone().into())];
        assert_eq!(keyed(&world, "k", cut).await.unwrap_err().code(), Code::Validation);
        // Another key is another upload.
        let refused = keyed(&world, "l", file(header(test, "a.txt"), &bytes)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidState);
        assert_eq!(world.left().await, (0, 1, 1));
        world.close().await;
    }
}

#[tokio::test]
async fn many_at_once_are_one_file_and_one_answer() {
    for world in worlds().await {
        let test = world.tests.add(&["draft"]);
        let bytes = content(300_000);
        let answers = join_all((0..4).map(|_| keyed(&world, "k", file(header(test, "a.txt"), &bytes)))).await;
        for answer in &answers {
            assert_eq!(answer.as_ref().unwrap(), answers[0].as_ref().unwrap());
        }
        assert_eq!(world.left().await, (0, 1, 1));
        // Under another key the bytes are there already.
        let copy = keyed(&world, "l", file(header(test, "a.txt"), &bytes)).await.unwrap_err();
        assert_eq!((copy.code(), copy.get("id")), (Code::Duplicate, Some(answers[0].as_ref().unwrap().id.as_str())));
        assert_eq!(world.audit().await.len(), 1);
        world.close().await;
    }
}
