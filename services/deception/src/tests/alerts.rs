//! Which alerts are raised, what they group, and who raises none.

use aegis_auth::{Conditions, IfMatch};
use aegis_error::{Code, Failure};
use aegis_proto::{
    deception::v1::{self as pb, alert_service_client::AlertServiceClient, alert_service_server::AlertServiceServer},
    events::v1::AlertRaised,
};
use aegis_rpc::RpcService;
use tonic::body::Body;
use tower::ServiceExt;

use super::{
    attackers::{Scene, event},
    *,
};
use crate::{domain::alert::FLOOD, rpc::Rpc};

fn client(scene: &Scene, ctx: OpCtx) -> AlertServiceClient<RpcService> {
    let server = AlertServiceServer::new(Rpc::new(Arc::clone(&scene.app)));
    AlertServiceClient::new(aegis_rpc::local(server.map_request(move |mut request: http::Request<Body>| {
        request.extensions_mut().insert(ctx.clone());
        request
    })))
}

/// All alerts, oldest first.
async fn alerts(scene: &Scene) -> Vec<pb::Alert> {
    let request = pb::ListAlertsRequest { page_size: 1_000, ..Default::default() };
    let mut alerts = client(scene, ctx(Role::Viewer, "vera")).list_alerts(request).await.unwrap().into_inner().alerts;
    alerts.reverse();
    alerts
}

/// Kind, events and deckies of all alerts, oldest first.
async fn kinds(scene: &Scene) -> Vec<(String, i64, usize)> {
    alerts(scene).await.into_iter().map(|alert| (alert.kind, alert.count, alert.deckies.len())).collect()
}

fn kind(name: &str, count: i64, deckies: usize) -> (String, i64, usize) {
    (name.to_owned(), count, deckies)
}

/// What was told to others.
async fn raised(db: &Db) -> Vec<AlertRaised> {
    let events = sent(db).await.into_iter().filter(|event| event.r#type == "deception.alert.raised");
    events.map(|event| AlertRaised::decode(event.data.as_slice()).unwrap()).collect()
}

fn new(network: &str) -> pb::CreateApprovedScannerRequest {
    pb::CreateApprovedScannerRequest { name: "nightly".into(), network: network.into(), ..Default::default() }
}

const LOGIN: &[(&str, &str)] = &[("username", "root"), ("password", "123456")];

#[tokio::test]
async fn a_scan_is_one_alert() {
    for test in stores().await {
        let mut scene = Scene::new(&test.db);
        for wave in 0..5 {
            let touch = |place: i64| {
                let kind = ["connect", "scan", "request", "disconnect"][place as usize % 4];
                event("203.0.113.9", wave * 60 + place, &format!("d-{place}"), "http", kind, &[])
            };
            scene.tell((0..40).map(touch).collect()).await;
        }
        assert_eq!(kinds(&scene).await, [kind("first_contact", 200, 40)], "{}", test.name);
        let told = raised(&test.db).await;
        assert_eq!(told.len(), 1, "{}", test.name);
        assert_eq!((told[0].kind.as_str(), told[0].attacker_ip.as_str()), ("first_contact", "203.0.113.9"));
        assert_eq!(told[0].alert_id, alerts(&scene).await[0].id);
        // The same attacker, hours later, is no first contact.
        scene.tell(vec![event("203.0.113.9", 20_000, "d-1", "http", "connect", &[])]).await;
        assert_eq!(kinds(&scene).await, [kind("first_contact", 200, 40)], "{}", test.name);
        test.close().await;
    }
}

#[tokio::test]
async fn what_is_done_raises_an_alert_of_its_kind_and_groups_until_it_is_quiet() {
    for test in stores().await {
        let mut scene = Scene::new(&test.db);
        let file: &[(&str, &str)] = &[("name", "x\u{1b}.sh"), ("sha256", "abcd")];
        let ip = "203.0.113.9";
        scene
            .tell(vec![event(ip, 0, "a", "ssh", "connect", &[]), event(ip, 1, "a", "ssh", "auth_success", LOGIN)])
            .await;
        scene.tell(vec![event(ip, 2, "a", "ssh", "file_captured", file)]).await;
        scene.tell(vec![event(ip, 3, "b", "ssh", "auth_success", LOGIN)]).await;
        let expected = [
            kind("first_contact", 4, 2),
            kind("credential_works", 2, 2),
            kind("file_captured", 1, 1),
            kind("traversal", 1, 1),
        ];
        assert_eq!(kinds(&scene).await, expected, "{}", test.name);
        let messages: Vec<String> = raised(&test.db).await.into_iter().map(|alert| alert.message).collect();
        assert_eq!(
            messages,
            [
                "203.0.113.9 was never seen before: it came to a (ssh). 2 events on 1 decky so far.",
                "203.0.113.9 logged in to ssh on a as \"root\".",
                "203.0.113.9 left the file \"x\u{fffd}.sh\" (SHA-256 abcd) on a.",
                "203.0.113.9 acted on a and went on to b (ssh).",
            ],
            "{}",
            test.name
        );
        // An hour without one has to pass before the next is another alert.
        scene.tell(vec![event(ip, 3_600, "b", "ssh", "auth_success", LOGIN)]).await;
        scene.tell(vec![event(ip, 7_201, "b", "ssh", "auth_success", LOGIN)]).await;
        let now = kinds(&scene).await;
        assert_eq!(
            (&now[1], &now[4]),
            (&kind("credential_works", 3, 2), &kind("credential_works", 1, 1)),
            "{}",
            test.name
        );
        assert_eq!((now.len(), raised(&test.db).await.len()), (5, 5), "{}", test.name);
        test.close().await;
    }
}

#[tokio::test]
async fn very_many_attackers_at_once_share_an_alert() {
    for test in stores().await {
        let mut scene = Scene::new(&test.db);
        let many = |from: usize, to: usize| {
            let touch = |place: usize| event(&format!("2001:db8::{place:x}"), 1, "a", "ssh", "connect", &[]);
            (from..to).map(touch).collect::<Vec<_>>()
        };
        scene.tell(many(0, FLOOD + 10)).await;
        let first = alerts(&scene).await;
        assert_eq!((first.len(), first[FLOOD].count), (FLOOD + 1, 10), "{}", test.name);
        scene.tell(many(FLOOD - 1, FLOOD + 20)).await;
        let alerts = alerts(&scene).await;
        assert_eq!((alerts.len(), raised(&test.db).await.len()), (FLOOD + 1, FLOOD + 1), "{}", test.name);
        let shared = &alerts[FLOOD];
        assert_eq!((shared.attacker_ip.as_str(), shared.count), ("", 30), "{}", test.name);
        assert!(shared.message.contains(" 20 attackers. 30 events on 1 decky so far."), "{}", shared.message);
        test.close().await;
    }
}

#[tokio::test]
async fn an_approved_scanner_raises_none() {
    for test in stores().await {
        let mut scene = Scene::new(&test.db);
        let mut admin = client(&scene, admin());
        let at = |seconds: i64| Some(crate::rpc::timestamp(scene.start + chrono::TimeDelta::seconds(seconds)));
        let request = pb::CreateApprovedScannerRequest {
            ports: vec![40_000],
            starts_at: at(0),
            ends_at: at(100),
            ..new("203.0.113.9/24")
        };
        let created = admin.create_approved_scanner(request).await.unwrap().into_inner().scanner.unwrap();
        assert_eq!((created.network.as_str(), created.created_by.as_str()), ("203.0.113.0/24", "ada"));

        let scan = |ip: &str, from: i64| {
            (from..from + 3)
                .map(|at| event(ip, at, &format!("d-{at}"), "ssh", "auth_success", LOGIN))
                .collect::<Vec<_>>()
        };
        scene.tell(scan("203.0.113.9", 0)).await;
        assert_eq!(kinds(&scene).await, [], "{}", test.name);
        // It has its profile all the same.
        assert_eq!(scene.ips("", "", "").await, ["203.0.113.9"], "{}", test.name);
        scene.tell(scan("203.0.114.9", 0)).await;
        assert_eq!(kinds(&scene).await.len(), 3, "{}", test.name);
        let other_port = scan("203.0.113.10", 0)
            .into_iter()
            .map(|(at, raw)| (at, crate::domain::event::Raw { attacker_port: 40_001, ..raw }));
        scene.tell(other_port.collect()).await;
        assert_eq!(kinds(&scene).await.len(), 6, "{}", test.name);
        scene.tell(scan("203.0.113.9", 100)).await;
        assert_eq!(kinds(&scene).await.len(), 9, "{}", test.name);

        let listed =
            admin.list_approved_scanners(pb::ListApprovedScannersRequest::default()).await.unwrap().into_inner();
        assert_eq!((listed.scanners, listed.total_size), (vec![created.clone()], 1), "{}", test.name);
        let delete = pb::DeleteApprovedScannerRequest { id: created.id };
        let stale = Conditions { if_match: Some(IfMatch::Versions(vec![7])), idempotency_key: None };
        let refused = client(&scene, super::admin().under(stale)).delete_approved_scanner(delete.clone()).await;
        assert_eq!(Failure::from(refused.unwrap_err()).code(), Code::PreconditionFailed, "{}", test.name);
        admin.delete_approved_scanner(delete.clone()).await.unwrap();
        let again = admin.delete_approved_scanner(delete).await;
        assert_eq!(Failure::from(again.unwrap_err()).code(), Code::NotFound, "{}", test.name);
        scene.tell(scan("203.0.113.77", 50)).await;
        assert_eq!(kinds(&scene).await.len(), 12, "{}", test.name);
        let actions: Vec<String> = audited(&test.db).await.into_iter().map(|record| record.action).collect();
        assert_eq!(actions, ["create_approved_scanner", "delete_approved_scanner"], "{}", test.name);
        test.close().await;
    }
}

#[tokio::test]
async fn only_administrators_approve_and_what_is_wrong_is_told() {
    for test in stores().await {
        let scene = Scene::new(&test.db);
        for role in [Role::Viewer, Role::RedTech, Role::BlueTech, Role::RedLead, Role::BlueLead] {
            let mut client = client(&scene, ctx(role, "v"));
            let long_ago = Some(prost_types::Timestamp { seconds: i64::MIN, nanos: 0 });
            for request in [
                new("10.0.0.0/8"),
                new("nowhere"),
                pb::CreateApprovedScannerRequest { ends_at: long_ago, ..new("10.0.0.0/8") },
            ] {
                let failure = Failure::from(client.create_approved_scanner(request).await.unwrap_err());
                assert_eq!(failure.code(), Code::Forbidden, "{failure}");
            }
            let delete = pb::DeleteApprovedScannerRequest { id: uuid::Uuid::now_v7().to_string() };
            assert_eq!(
                Failure::from(client.delete_approved_scanner(delete).await.unwrap_err()).code(),
                Code::Forbidden
            );
        }
        let mut admin = client(&scene, admin());
        let bad = pb::CreateApprovedScannerRequest { name: String::new(), ports: vec![0], ..new("nowhere") };
        let failure = Failure::from(admin.create_approved_scanner(bad).await.unwrap_err());
        let wrong: Vec<_> = failure.fields().iter().map(|field| field.field.as_str()).collect();
        assert_eq!((failure.code(), wrong), (Code::Validation, vec!["name", "network", "ports"]));
        assert_eq!(scene.app.list_approved_scanners(&super::admin(), 0, "", 0).await.unwrap().2, 0);
        test.close().await;
    }
}
