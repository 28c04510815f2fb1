//! Changes under conditions: of the version that was read, and of being made once.

use aegis_auth::{Conditions, IdempotencyKey, IfMatch, Role};
use aegis_error::{Code, Failure};
use aegis_events::IdempotencyLayer;
use aegis_proto::intel::v1::{UpdateDataSourceRequest, intel_service_client::IntelServiceClient};
use aegis_rpc::RpcService;
use tonic::{body::Body, codegen::http};
use tower::{Layer, ServiceExt};

use crate::world::*;

/// An administrator's client whose calls are made under these conditions.
fn under(world: &World, if_match: Option<i64>, key: Option<&str>) -> IntelServiceClient<RpcService> {
    let ctx = aegis_testkit::ctx(Role::Admin, "ada").under(Conditions {
        if_match: if_match.map(|version| IfMatch::Versions(vec![version])),
        idempotency_key: key.map(|key| IdempotencyKey::new(key.as_bytes()).unwrap()),
    });
    let once = IdempotencyLayer::new(world.base.db.clone(), &"secret".to_owned().into());
    let server = once.layer(world.service.routes.clone().prepare());
    IntelServiceClient::new(aegis_rpc::local(server.map_request(move |mut request: http::Request<Body>| {
        request.extensions_mut().insert(ctx.clone());
        request
    })))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_change_is_made_of_an_older_version() {
    for world in World::all().await {
        let url = world.file("one.json", &bundle("1.0", "One"));
        world.point(&url).await;
        let before = world.source().await;
        let stale = Some(before.version - 1);
        let edit = |version| {
            let mut client = under(&world, version, None);
            let request = UpdateDataSourceRequest {
                id: ENTERPRISE.to_owned(),
                enabled: Some(false),
                ..UpdateDataSourceRequest::default()
            };
            async move { client.update_data_source(request).await.map_err(Failure::from) }
        };
        assert_eq!(edit(stale).await.unwrap_err().code(), Code::PreconditionFailed);
        let refused = start(under(&world, stale, None), true, None).await.unwrap_err();
        assert_eq!(refused.code(), Code::PreconditionFailed);
        assert_eq!(world.source().await, before);
        start(under(&world, Some(before.version), None), true, None).await.unwrap();
        // What the sync left is a change.
        assert_eq!(edit(Some(before.version)).await.unwrap_err().code(), Code::PreconditionFailed);
        let after = edit(Some(world.source().await.version)).await.unwrap().into_inner().data_source.unwrap();
        assert!(!after.enabled);
        world.base.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_that_is_asked_for_twice_runs_once() {
    for world in World::all().await {
        let url = world.file("one.json", &bundle("1.0", "One"));
        world.point(&url).await;
        let ask = |key, wait| start(under(&world, None, Some(key)), wait, None);
        // Both at once: one runs, the other hears its end.
        let (one, other) = tokio::join!(ask("a", true), ask("a", true));
        assert_eq!(one.unwrap(), other.unwrap());
        let first = ask("b", false).await.unwrap();
        world.ended(&first.id).await;
        assert_eq!(ask("b", false).await.unwrap(), first);
        assert_eq!(ask("b", true).await.unwrap_err().code(), Code::Unprocessable);
        assert_eq!(world.catalog.imports().len(), 2);

        // A sync that failed has been made: its failure is the answer.
        let broken = world.file("broken.json", b"{");
        world.point(&broken).await;
        let failed = ask("c", true).await.unwrap_err();
        world.point(&url).await;
        let again = ask("c", true).await.unwrap_err();
        assert_eq!((again.code(), again.message()), (failed.code(), failed.message()));
        assert_eq!(again.get("job_id"), failed.get("job_id"));
        assert!(failed.get("job_id").is_some());
        // A sync that could not begin has not.
        world.catalog.gate.forget_permits(1000);
        let running = ask("d", false).await.unwrap();
        assert_eq!(ask("e", false).await.unwrap_err().code(), Code::Conflict);
        world.catalog.gate.add_permits(1000);
        world.ended(&running.id).await;
        assert_ne!(ask("e", false).await.unwrap().id, running.id);
        world.base.close().await;
    }
}
