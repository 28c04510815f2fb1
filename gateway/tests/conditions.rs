//! Conditional and repeated requests at the gateway: what goes on to the services, and what is refused before.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking, also in its helpers

mod common;

use axum::body::Body;
use common::{Fixture, Got, request};
use http::StatusCode;

const TEST: &str = "/api/v1/tests/018f0000-0000-7000-8000-000000000000";

/// Method, path and headers; what the service is told of `If-Match` and of `Idempotency-Key`.
type Asked =
    (&'static str, String, &'static [(&'static str, &'static str)], Option<&'static str>, Option<&'static str>);

async fn ask(fixture: &Fixture, method: &str, path: &str, headers: &[(&str, &str)]) -> Got {
    let mut request = fixture.signed(method, path).header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = if method == "GET" { Body::empty() } else { Body::from("{}") };
    fixture.send(request.body(body).unwrap()).await
}

#[tokio::test]
async fn conditions_go_to_the_service_as_the_gateway_read_them() {
    let fixture = Fixture::new();
    let forged = [("x-aegis-if-match", "*"), ("x-aegis-idempotency-key", "forged")];
    let asked: [Asked; 6] = [
        ("POST", format!("{TEST}/reopen"), &[("idempotency-key", "one-try")], None, Some("one-try")),
        ("POST", format!("{TEST}/reopen"), &[("if-match", "\"3-0123456789abcdef\"")], Some("3"), None),
        ("PATCH", TEST.into(), &[("if-match", "*"), ("idempotency-key", "not here")], Some("*"), None),
        ("PATCH", TEST.into(), &[("if-match", "W/\"3-0123456789abcdef\", \"of-another\"")], Some(""), None),
        ("PATCH", TEST.into(), &[], None, None),
        ("GET", TEST.into(), &[("if-match", "no list"), ("idempotency-key", "k")], None, None),
    ];
    for (method, path, headers, if_match, key) in asked {
        fixture.calls.lock().unwrap().clear();
        let headers: Vec<_> = headers.iter().chain(&forged).copied().collect();
        let got = ask(&fixture, method, &path, &headers).await;
        assert_eq!(got.status, StatusCode::SERVICE_UNAVAILABLE, "{method} {headers:?}");
        let (_, sent) = fixture.calls.lock().unwrap()[0].clone();
        let text = |name: &str| sent.get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(text("x-aegis-if-match").as_deref(), if_match, "{method} {headers:?}");
        assert_eq!(text("x-aegis-idempotency-key").as_deref(), key, "{method} {headers:?}");
    }
}

#[tokio::test]
async fn conditions_that_cannot_be_read_are_refused_by_name_before_any_call() {
    let fixture = Fixture::new();
    let many = ["\"1-0123456789abcdef\""; 65].join(", ");
    let bad: [(&str, String, &str, &str, &str); 7] = [
        ("PATCH", TEST.into(), "if-match", "3", "If-Match"),
        ("PATCH", TEST.into(), "if-match", "\"3", "If-Match"),
        ("PATCH", TEST.into(), "if-match", &many, "If-Match"),
        ("POST", "/api/v1/tests".into(), "if-match", "*", "If-Match"),
        ("POST", format!("{TEST}/reopen"), "idempotency-key", "", "Idempotency-Key"),
        ("POST", format!("{TEST}/reopen"), "idempotency-key", "two words", "Idempotency-Key"),
        ("POST", format!("{TEST}/reopen"), "idempotency-key", &"k".repeat(256), "Idempotency-Key"),
    ];
    for (method, path, name, value, field) in bad {
        let got = ask(&fixture, method, &path, &[(name, value)]).await;
        assert_eq!(got.status, StatusCode::BAD_REQUEST, "{name}: {value}");
        assert_eq!(got.fields(), [field], "{name}: {value}");
        // Who is asking comes first.
        let stranger = request(method, &path).header(name, value).body(Body::empty()).unwrap();
        assert_eq!(fixture.send(stranger).await.status, StatusCode::UNAUTHORIZED);
    }
    assert!(fixture.calls.lock().unwrap().is_empty());
}
