//! What holds for the fleet as a whole.

use std::sync::Arc;

use aegis_auth::{Conditions, IfMatch, OpCtx, Role};
use aegis_error::{Code, Failure};
use aegis_proto::deception::v1::{
    FleetSettings, GetFleetSettingsRequest, SetDeploymentLimitRequest, SetGlobalMutationIntervalRequest,
    fleet_settings_service_client::FleetSettingsServiceClient,
    fleet_settings_service_server::FleetSettingsServiceServer,
};
use aegis_rpc::RpcService;
use aegis_testkit::ctx;
use serde_json::{Value, json};
use tonic::body::Body;
use tower::ServiceExt;

use super::{admin, app, audited, stores};
use crate::{app::App, rpc::Rpc};

/// A client whose calls come from `ctx`.
fn client(app: &Arc<App>, ctx: OpCtx) -> FleetSettingsServiceClient<RpcService> {
    let server = FleetSettingsServiceServer::new(Rpc::new(Arc::clone(app)));
    FleetSettingsServiceClient::new(aegis_rpc::local(server.map_request(move |mut request: http::Request<Body>| {
        request.extensions_mut().insert(ctx.clone());
        request
    })))
}

async fn get(app: &Arc<App>, ctx: OpCtx) -> FleetSettings {
    client(app, ctx).get_fleet_settings(GetFleetSettingsRequest {}).await.unwrap().into_inner().settings.unwrap()
}

async fn set_limit(app: &Arc<App>, ctx: OpCtx, deployment_limit: i32) -> Result<FleetSettings, Failure> {
    let answer = client(app, ctx).set_deployment_limit(SetDeploymentLimitRequest { deployment_limit }).await?;
    Ok(answer.into_inner().settings.unwrap())
}

async fn set_interval(app: &Arc<App>, ctx: OpCtx, interval: &str) -> Result<FleetSettings, Failure> {
    let request = SetGlobalMutationIntervalRequest { global_mutation_interval: interval.into() };
    Ok(client(app, ctx).set_global_mutation_interval(request).await?.into_inner().settings.unwrap())
}

#[tokio::test]
async fn a_new_fleet_has_the_defaults_for_everyone() {
    for test in stores().await {
        let (app, _files) = app(&test.db);
        for role in [Role::Viewer, Role::RedTech, Role::BlueLead, Role::Admin] {
            let settings = get(&app, ctx(role, "someone")).await;
            assert_eq!((settings.deployment_limit, settings.version), (10, 1), "{}", test.name);
            assert_eq!(settings.global_mutation_interval, "30m", "{}", test.name);
            assert!(settings.updated_at.is_some_and(|at| at.seconds > 1_700_000_000), "{}", test.name);
        }
        test.close().await;
    }
}

#[tokio::test]
async fn a_change_is_kept_and_recorded_once() {
    for test in stores().await {
        let (app, _files) = app(&test.db);
        let settings = set_limit(&app, admin(), 25).await.unwrap();
        assert_eq!((settings.deployment_limit, settings.version), (25, 2), "{}", test.name);
        let settings = set_interval(&app, admin(), "1Y").await.unwrap();
        assert_eq!((settings.global_mutation_interval.as_str(), settings.version), ("1Y", 3), "{}", test.name);
        assert_eq!(get(&app, admin()).await, settings, "{}", test.name);
        // What holds already is no change.
        assert_eq!(set_limit(&app, admin(), 25).await.unwrap(), settings, "{}", test.name);

        let records = audited(&test.db).await;
        let details: Vec<Value> = records.iter().map(|r| serde_json::from_str(&r.details_json).unwrap()).collect();
        assert_eq!(
            details,
            [
                json!({"before": {"deployment_limit": 10}, "after": {"deployment_limit": 25}}),
                json!({"before": {"global_mutation_interval": "30m"}, "after": {"global_mutation_interval": "1Y"}}),
            ],
            "{}",
            test.name
        );
        assert!(records.iter().all(|r| r.action == "update_fleet_settings" && r.success), "{records:?}");
        test.close().await;
    }
}

#[tokio::test]
async fn only_administrators_change_and_refusals_are_recorded() {
    for test in stores().await {
        let (app, _files) = app(&test.db);
        let before = get(&app, admin()).await;
        for role in [Role::Viewer, Role::RedTech, Role::BlueTech, Role::RedLead, Role::BlueLead] {
            // Nobody learns from the error whether the value would have been good.
            for limit in [25, 0] {
                assert_eq!(set_limit(&app, ctx(role, "v"), limit).await.unwrap_err().code(), Code::Forbidden);
            }
            assert_eq!(set_interval(&app, ctx(role, "v"), "1d").await.unwrap_err().code(), Code::Forbidden);
        }
        assert_eq!(get(&app, admin()).await, before, "{}", test.name);
        let records = audited(&test.db).await;
        assert_eq!(records.len(), 15, "{}", test.name);
        assert!(records.iter().all(|r| r.action == "access_denied" && !r.success), "{records:?}");
        test.close().await;
    }
}

#[tokio::test]
async fn bad_values_name_their_field_and_change_nothing() {
    for test in stores().await {
        let (app, _files) = app(&test.db);
        let before = get(&app, admin()).await;
        for limit in [0, -1, 501, i32::MAX] {
            let failure = set_limit(&app, admin(), limit).await.unwrap_err();
            assert_eq!((failure.code(), failure.fields()[0].field.as_str()), (Code::Validation, "deployment_limit"));
        }
        for interval in ["", "30", "0m", "1h", "101y", "99999999999999999999d", "1d; DROP TABLE fleet_settings"] {
            let failure = set_interval(&app, admin(), interval).await.unwrap_err();
            assert_eq!(failure.code(), Code::Validation, "{interval}");
            assert_eq!(failure.fields()[0].field, "global_mutation_interval", "{interval}");
        }
        assert_eq!(get(&app, admin()).await, before, "{}", test.name);
        assert_eq!(audited(&test.db).await, [], "{}", test.name);
        test.close().await;
    }
}

#[tokio::test]
async fn a_change_of_an_older_version_is_refused() {
    for test in stores().await {
        let (app, _files) = app(&test.db);
        let seeing = |version: i64| {
            let if_match = Some(IfMatch::Versions(vec![version]));
            admin().under(Conditions { if_match, idempotency_key: None })
        };
        set_limit(&app, seeing(1), 20).await.unwrap();
        for limit in [30, 20] {
            let stale = set_limit(&app, seeing(1), limit).await.unwrap_err();
            assert_eq!((stale.code(), stale.get("version")), (Code::PreconditionFailed, Some("2")), "{}", test.name);
        }
        let stale = set_interval(&app, seeing(3), "1d").await.unwrap_err();
        assert_eq!(stale.code(), Code::PreconditionFailed, "{}", test.name);
        let settings = set_interval(&app, seeing(2), "1d").await.unwrap();
        assert_eq!((settings.deployment_limit, settings.version), (20, 3), "{}", test.name);
        test.close().await;
    }
}

#[tokio::test]
async fn changes_at_once_are_all_kept() {
    for test in stores().await {
        let (app, _files) = app(&test.db);
        let (one, two) = (admin(), ctx(Role::Admin, "ben"));
        let (limit, interval) = tokio::join!(set_limit(&app, one, 77), set_interval(&app, two, "2M"));
        let versions = [limit.unwrap().version, interval.unwrap().version];
        assert!(versions == [2, 3] || versions == [3, 2], "{versions:?}");
        let settings = get(&app, admin()).await;
        assert_eq!((settings.deployment_limit, settings.global_mutation_interval.as_str()), (77, "2M"));
        assert_eq!(audited(&test.db).await.len(), 2, "{}", test.name);
        test.close().await;
    }
}
