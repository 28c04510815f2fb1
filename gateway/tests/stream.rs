//! How event streams are opened.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking, also in its helpers

mod common;

use aegis_gateway::Config;
use axum::body::Body;
use common::{Fixture, Got, request};
use http::{HeaderMap, StatusCode};

const STREAM: &str = "/api/v1/notifications/stream";
const WATCH: &str = "/aegis.identity.v1.NotificationService/WatchNotifications";
const REDEEM: &str = "/aegis.identity.v1.IdentityService/RedeemStreamTicket";

async fn ask(fixture: &Fixture, query: &str) -> Got {
    fixture.send(request("GET", &format!("{STREAM}{query}")).body(Body::empty()).unwrap()).await
}

fn calls(fixture: &Fixture, path: &str) -> Vec<HeaderMap> {
    let calls = fixture.calls.lock().unwrap();
    calls.iter().filter(|(called, _)| called == path).map(|(_, headers)| headers.clone()).collect()
}

#[tokio::test]
async fn a_stream_is_opened_by_header_or_by_query() {
    let fixture = Fixture::with(Config::default(), None);
    let token = fixture.token();
    // Nobody is behind the gateway here: 503 is as far as one gets.
    assert_eq!(fixture.get(STREAM).await.status, StatusCode::SERVICE_UNAVAILABLE);
    for query in [format!("?token={token}"), format!("?lastEventId=7&ticket={token}")] {
        assert_eq!(ask(&fixture, &query).await.status, StatusCode::SERVICE_UNAVAILABLE, "{query}");
    }
    let opened = calls(&fixture, WATCH);
    assert_eq!(opened.len(), 3);
    assert_eq!(opened[2]["authorization"], format!("Bearer {token}"));
    // A stream has no end to be met in time.
    assert!(opened.iter().all(|headers| !headers.contains_key("grpc-timeout")));

    for query in ["", "?token=", "?token=x.y.z", "?ticket=%00", "?lastEventId=7"] {
        let got = ask(&fixture, query).await;
        assert_eq!(got.status, StatusCode::UNAUTHORIZED, "{query}");
        assert_eq!(got.header("www-authenticate"), "Bearer");
    }
    // The header decides where there is one.
    let basic = request("GET", &format!("{STREAM}?token={token}")).header("authorization", "Basic YTpi");
    assert_eq!(fixture.send(basic.body(Body::empty()).unwrap()).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(calls(&fixture, WATCH).len(), 3);
    assert!(calls(&fixture, REDEEM).is_empty());
}

#[tokio::test]
async fn a_ticket_is_redeemed_before_anything_else() {
    let fixture = Fixture::with(Config::default(), None);
    for query in ["?ticket=aegis_st_abc", "?token=aegis_st_abc"] {
        assert_eq!(ask(&fixture, query).await.status, StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(calls(&fixture, REDEEM).len(), 2);
    assert!(calls(&fixture, WATCH).is_empty());
}

#[tokio::test]
async fn the_query_is_checked_without_its_secret() {
    let fixture = Fixture::with(Config::default(), None);
    let token = fixture.token();
    for (query, field) in [("lastEventId=x", "lastEventId"), ("lastEventId=-1", "lastEventId"), ("since=1", "since")] {
        let got = ask(&fixture, &format!("?token={token}&{query}")).await;
        assert_eq!(got.status, StatusCode::BAD_REQUEST, "{query}");
        assert_eq!(got.fields(), [field]);
        assert!(!String::from_utf8_lossy(&got.body).contains(&token));
    }
    // Elsewhere a token in the query is nothing.
    let got = fixture.get(&format!("/api/v1/notifications?token={token}")).await;
    assert_eq!(got.fields(), ["token"]);
}
