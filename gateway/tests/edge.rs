//! What every request meets at the gateway: ids, tokens, limits, errors.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking, also in its helpers

mod common;

use aegis_gateway::Config;
use axum::body::Body;
use common::{Fixture, Got, request};
use http::StatusCode;

fn is_ours(got: &Got, status: StatusCode, code: &str) {
    assert_eq!(got.status, status, "{}", String::from_utf8_lossy(&got.body));
    assert_eq!(got.header("content-type"), "application/json");
    assert_eq!(got.json()["code"], code);
    assert!(got.json()["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
    has_headers(got);
}

fn has_headers(got: &Got) {
    assert!(!got.header("x-request-id").is_empty());
    assert_eq!(got.header("request_id"), got.header("x-request-id"));
    assert_eq!(got.header("x-content-type-options"), "nosniff");
    assert_eq!(got.header("referrer-policy"), "no-referrer");
    assert!(got.header("content-security-policy").contains("frame-ancestors 'none'"));
    assert_eq!(got.header("x-frame-options"), "DENY");
    assert!(got.header("permissions-policy").contains("camera=()"));
    assert_eq!(got.header("cross-origin-resource-policy"), "same-origin");
    assert_eq!(got.header("cross-origin-opener-policy"), "same-origin");
    assert!(!got.header("cache-control").is_empty());
    assert_eq!(got.header("server"), "");
}

#[tokio::test]
async fn unknown_paths_and_methods_are_told_in_our_form() {
    let fixture = Fixture::new();
    is_ours(&fixture.get("/api/v1/nothing").await, StatusCode::NOT_FOUND, "NOT_FOUND");
    let got = fixture.send(request("DELETE", "/api/v1/tactics").body(Body::empty()).unwrap()).await;
    is_ours(&got, StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED");
    assert_eq!(got.header("allow"), "GET,HEAD");
    is_ours(&fixture.get("/docs/nothing.js").await, StatusCode::NOT_FOUND, "NOT_FOUND");
}

#[tokio::test]
async fn a_harmless_request_id_is_kept_and_another_replaced() {
    let fixture = Fixture::new();
    let ask = |id: &str| request("GET", "/nothing").header("x-request-id", id).body(Body::empty()).unwrap();
    assert_eq!(fixture.send(ask("trace-1_a.b")).await.header("x-request-id"), "trace-1_a.b");
    for bad in ["a b", "a\"b", "é", &"x".repeat(65), ""] {
        let got = fixture.send(ask(bad)).await;
        let id = got.header("x-request-id");
        assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{bad:?} gave {id:?}");
    }
}

#[tokio::test]
async fn no_protected_route_answers_without_a_token_that_holds() {
    let fixture = Fixture::new();
    for route in aegis_gateway::routes() {
        if route.public {
            continue;
        }
        let path =
            route.path.replace("{id}", "no-uuid").replace("{user_uuid}", "no-uuid").replace("{mitre_id}", "T1059");
        for bearer in [None, Some("Basic YTpi"), Some("Bearer "), Some("Bearer x.y.z")] {
            let mut request = request(route.method.as_str(), &path).header("content-type", "text/plain");
            if let Some(bearer) = bearer {
                request = request.header("authorization", bearer);
            }
            let got = fixture.send(request.body(Body::from("{")).unwrap()).await;
            is_ours(&got, StatusCode::UNAUTHORIZED, "UNAUTHENTICATED");
            assert_eq!(got.header("www-authenticate"), "Bearer");
        }
    }
    assert!(fixture.calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_the_services_do_is_told_or_hidden() {
    let fixture = Fixture::new();
    is_ours(&fixture.get("/api/v1/auth/me").await, StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR");
    is_ours(&fixture.get("/api/v1/users").await, StatusCode::GATEWAY_TIMEOUT, "DEADLINE_EXCEEDED");
    let down = fixture.get("/api/v1/metrics/summary").await;
    is_ours(&down, StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE");
    assert_eq!(down.header("retry-after"), "2");
    let refused = fixture.get("/api/v1/tactics").await;
    is_ours(&refused, StatusCode::BAD_REQUEST, "VALIDATION_ERROR");
    assert_eq!(refused.fields(), ["domain"]);
}

#[tokio::test]
async fn routes_of_the_deception_reference_answer_422() {
    let fixture = Fixture::new();
    let config = "/api/v1/config";
    let nobody = format!("{config}/users/018f0000-0000-7000-8000-000000000000");
    let puts = [
        (format!("{config}/deployment-limit"), r#"{"deployment_limit": "25"}"#, "deployment_limit"),
        (format!("{config}/deployment-limit"), r#"{"deployment_limit": 2.5}"#, "deployment_limit"),
        (format!("{config}/deployment-limit"), r#"{"deployment_limit": 5000000000}"#, "deployment_limit"),
        (format!("{config}/deployment-limit"), r#"{"deployment_limit": 2, "x": 1}"#, "x"),
        (format!("{config}/global-mutation-interval"), "{}", "global_mutation_interval"),
        (format!("{config}/users/7/role"), r#"{"role": "admin"}"#, "user_uuid"),
        (format!("{nobody}/role"), r#"{"role": "king"}"#, "role"),
        (format!("{nobody}/reset-password"), r#"{"password": "long enough 1"}"#, "password"),
    ];
    for (path, body, field) in puts {
        let got = fixture.put(&path, body).await;
        is_ours(&got, StatusCode::UNPROCESSABLE_ENTITY, "VALIDATION_ERROR");
        assert_eq!(got.fields(), [field], "{path} {body}");
    }
    let posts = [
        ("/api/v1/auth/login", "{", "body"),
        ("/api/v1/auth/login", r#"{"username": "ana"}"#, "password"),
        ("/api/v1/auth/change-password", r#"{"old_password": 1}"#, "old_password"),
        ("/api/v1/config/users", r#"{"username": "a", "password": "b"}"#, "role"),
    ];
    for (path, body, field) in posts {
        let got = fixture.post(path, body).await;
        is_ours(&got, StatusCode::UNPROCESSABLE_ENTITY, "VALIDATION_ERROR");
        assert_eq!(got.fields(), [field], "{path} {body}");
    }
    let gone = fixture.send(fixture.signed("DELETE", "/api/v1/config/users/7").body(Body::empty()).unwrap()).await;
    is_ours(&gone, StatusCode::UNPROCESSABLE_ENTITY, "VALIDATION_ERROR");
    assert_eq!(gone.fields(), ["user_uuid"]);
    assert!(fixture.calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn bad_input_is_refused_by_field_before_any_call() {
    let fixture = Fixture::new();
    let bad = [
        ("/api/v1/users/7", "id"),
        ("/api/v1/users?limit=0", "limit"),
        ("/api/v1/users?limit=5001", "limit"),
        ("/api/v1/users?offset=-1", "offset"),
        ("/api/v1/tests?state=gone", "state"),
        ("/api/v1/tests?technique_id=T1059", "technique_id"),
        ("/api/v1/tests?sate=draft", "sate"),
        ("/api/v1/techniques?review_required=perhaps", "review_required"),
        ("/api/v1/techniques?search=a%00b", "search"),
        ("/api/v1/techniques/T1%0059", "mitre_id"),
        ("/api/v1/audit-logs?start_date=yesterday", "start_date"),
        ("/api/v1/audit-logs?end_date=2024-02-30", "end_date"),
        ("/api/v1/audit-logs?end_date=2024-01-31T25:00:00Z", "end_date"),
        ("/api/v1/audit-logs?limit=101", "limit"),
        ("/api/v1/audit-logs?limit=0", "limit"),
        ("/api/v1/audit-logs?user_id=%27%20OR%201=1", "user_id"),
        ("/api/v1/audit-logs/export?start_date=%00", "start_date"),
        ("/api/v1/audit-logs/export?user_id=ana", "user_id"),
        ("/api/v1/audit-logs/export?limit=5", "limit"),
    ];
    for (path, field) in bad {
        let got = fixture.get(path).await;
        is_ours(&got, StatusCode::BAD_REQUEST, "VALIDATION_ERROR");
        assert_eq!(got.fields(), [field], "{path}");
    }
    let bodies = [
        ("/api/v1/users", "", "body"),
        ("/api/v1/users", "{", "body"),
        ("/api/v1/users", "[]", "body"),
        ("/api/v1/users", "null", "body"),
        ("/api/v1/users", r#"{"username": "a", "password": "b"}"#, "role"),
        ("/api/v1/users", r#"{"username": "a", "password": "b", "role": "king"}"#, "role"),
        ("/api/v1/users", r#"{"username": "a", "password": "b", "role": "admin", "is_root": true}"#, "is_root"),
        ("/api/v1/tests", r#"{"technique_id": "T1059", "name": "n"}"#, "technique_id"),
        ("/api/v1/techniques", r#"{"mitre_id": "T1", "name": "n", "tactic": "a", "tactics": ["b"]}"#, "tactics"),
    ];
    for (path, body, field) in bodies {
        let got = fixture.post(path, body).await;
        is_ours(&got, StatusCode::BAD_REQUEST, "VALIDATION_ERROR");
        assert_eq!(got.fields(), [field], "{body}");
    }
    assert!(fixture.calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn bodies_have_a_type_and_an_end() {
    let fixture = Fixture::new();
    let text = fixture.signed("POST", "/api/v1/users").header("content-type", "text/plain");
    let got = fixture.send(text.body(Body::from("{}")).unwrap()).await;
    is_ours(&got, StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE");
    let large = format!(r#"{{"username": "{}"}}"#, "a".repeat(10 * 1024 * 1024));
    is_ours(&fixture.post("/api/v1/users", &large).await, StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE");
    // The same without a length told beforehand.
    let chunks = futures::stream::iter((0..200).map(|_| Ok::<_, std::io::Error>(vec![b' '; 64 * 1024])));
    let request = fixture.signed("POST", "/api/v1/users").header("content-type", "application/json");
    let got = fixture.send(request.body(Body::from_stream(chunks)).unwrap()).await;
    is_ours(&got, StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE");
}

#[tokio::test]
async fn login_takes_a_form_or_json() {
    let fixture = Fixture::new();
    let login = |kind: &str, body: &str| {
        let request = request("POST", "/api/v1/auth/login").header("content-type", kind);
        request.body(Body::from(body.to_owned())).unwrap()
    };
    let form = "application/x-www-form-urlencoded";
    // Nobody is there to answer, but the form was understood.
    let got = fixture.send(login(form, "grant_type=password&username=a&password=b&scope=")).await;
    is_ours(&got, StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE");
    let got = fixture.send(login("application/json; charset=utf-8", r#"{"username": "a", "password": "b"}"#)).await;
    is_ours(&got, StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE");
    assert_eq!(fixture.calls.lock().unwrap().len(), 2);
    assert_eq!(fixture.send(login(form, "username=a")).await.fields(), ["password"]);
    let json = r#"{"username": "a", "password": "b", "grant_type": "password"}"#;
    assert_eq!(fixture.send(login("application/json", json)).await.fields(), ["grant_type"]);
    let got = fixture.send(login("text/plain", "username=a&password=b")).await;
    is_ours(&got, StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE");
}

#[tokio::test]
async fn services_hear_who_asks_and_nothing_that_the_client_made_up() {
    let fixture = Fixture::new();
    let request = fixture
        .signed("GET", "/api/v1/notifications")
        .header("user-agent", "probe/1")
        .header("x-request-id", "r-1")
        .header("x-forwarded-for", "6.6.6.6")
        .header("x-aegis-client-address", "6.6.6.6");
    fixture.send(request.body(Body::empty()).unwrap()).await;
    let calls = fixture.calls.lock().unwrap().clone();
    let (_, headers) = &calls[0];
    assert_eq!(headers["x-aegis-client-address"], "192.0.2.7");
    assert_eq!(headers["x-aegis-client-agent"], "probe/1");
    assert_eq!(headers["x-request-id"], "r-1");
    assert!(headers.contains_key("grpc-timeout"));
    assert!(headers["authorization"].to_str().unwrap().starts_with("Bearer ey"));
    assert!(headers.iter().all(|(_, value)| value != "6.6.6.6"));
}

#[tokio::test]
async fn behind_a_proxy_the_address_is_the_one_the_proxy_saw() {
    let fixture = Fixture::with(Config { trust_proxy: true, ..Config::default() }, None);
    let request = fixture.signed("GET", "/api/v1/notifications").header("x-forwarded-for", "6.6.6.6, 198.51.100.3");
    fixture.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(fixture.calls.lock().unwrap()[0].1["x-aegis-client-address"], "198.51.100.3");
}

#[tokio::test]
async fn health_names_the_parts_and_is_503_when_one_fails() {
    let fixture = Fixture::new();
    for path in ["/health", "/api/v1/health"] {
        let got = fixture.send(request("GET", path).body(Body::empty()).unwrap()).await;
        assert_eq!(got.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(got.json()["status"], "unhealthy");
        assert_eq!(got.json()["components"]["process"]["status"], "ok");
        assert_eq!(got.json()["components"]["catalog"]["detail"], "does not answer");
        has_headers(&got);
    }
}

#[tokio::test]
async fn the_pages_load_nothing_from_elsewhere() {
    let fixture = Fixture::new();
    for path in ["/docs/", "/redoc"] {
        let got = fixture.send(request("GET", path).body(Body::empty()).unwrap()).await;
        assert_eq!(got.status, StatusCode::OK, "{path}");
        let page = String::from_utf8(got.body.clone()).unwrap();
        assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("\"//"), "{page}");
        assert!(got.header("content-security-policy").starts_with("default-src 'self'"));
        has_headers(&got);
    }
    let redirect = fixture.send(request("GET", "/docs").body(Body::empty()).unwrap()).await;
    assert_eq!(redirect.header("location"), "/docs/");
    let settings = fixture.send(request("GET", "/docs/swagger-initializer.js").body(Body::empty()).unwrap()).await;
    let settings = String::from_utf8(settings.body).unwrap();
    assert!(settings.contains("/openapi.json") && !settings.contains("https://"), "{settings}");
    let script = fixture.send(request("GET", "/redoc/redoc.standalone.js").body(Body::empty()).unwrap()).await;
    assert_eq!(script.header("content-encoding"), "gzip");
    let document = fixture.send(request("GET", "/openapi.json").body(Body::empty()).unwrap()).await;
    assert_eq!(document.json()["openapi"], "3.1.0");
}

#[tokio::test]
async fn pages_of_other_origins_are_kept_out() {
    let fixture = Fixture::new();
    let ask = request("GET", "/health").header("origin", "https://soc.example.com");
    let got = fixture.send(ask.body(Body::empty()).unwrap()).await;
    assert!(got.headers.keys().all(|name| !name.as_str().starts_with("access-control-")), "{:?}", got.headers);
    let got = fixture.send(preflight("/api/v1/users", "https://soc.example.com")).await;
    is_ours(&got, StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED");
    assert!(got.header("allow").contains("POST"), "{}", got.header("allow"));
    assert!(got.headers.keys().all(|name| !name.as_str().starts_with("access-control-")), "{:?}", got.headers);
}

fn preflight(path: &str, origin: &str) -> http::Request<Body> {
    let ask = request("OPTIONS", path).header("origin", origin);
    let ask = ask.header("access-control-request-method", "POST");
    ask.header("access-control-request-headers", "authorization,content-type").body(Body::empty()).unwrap()
}

#[tokio::test]
async fn pages_of_origins_that_are_named_are_let_in() {
    let origins = vec!["https://soc.example.com".to_owned(), "http://127.0.0.1:3000".to_owned()];
    let fixture = Fixture::with(Config { cors_origins: origins, ..Config::default() }, None);
    let got = fixture.send(preflight("/api/v1/users", "https://soc.example.com")).await;
    assert_eq!(got.status, StatusCode::OK);
    assert_eq!(got.header("access-control-allow-origin"), "https://soc.example.com");
    assert!(got.header("access-control-allow-methods").contains("PATCH"));
    assert!(got.header("access-control-allow-headers").contains("authorization"));
    assert_eq!(got.header("access-control-max-age"), "600");
    assert_eq!(got.header("access-control-allow-credentials"), "", "nothing here goes by cookies");
    assert!(got.header("vary").contains("origin"));
    has_headers(&got);
    // Also an error is for the page to read; the token is asked for as ever.
    let ask = request("GET", "/api/v1/users").header("origin", "http://127.0.0.1:3000");
    let got = fixture.send(ask.body(Body::empty()).unwrap()).await;
    is_ours(&got, StatusCode::UNAUTHORIZED, "UNAUTHENTICATED");
    assert_eq!(got.header("access-control-allow-origin"), "http://127.0.0.1:3000");
    assert!(got.header("access-control-expose-headers").contains("x-request-id"));
    for stranger in ["https://evil.example", "https://soc.example.com.evil.example", "http://soc.example.com", "null"] {
        let got = fixture.send(preflight("/api/v1/users", stranger)).await;
        assert_eq!(got.header("access-control-allow-origin"), "", "{stranger}");
    }
}

#[tokio::test]
async fn over_tls_browsers_are_told_to_stay_there() {
    let fixture = Fixture::new();
    assert_eq!(fixture.get("/health").await.header("strict-transport-security"), "");
    let fixture = Fixture::with(Config { https: true, ..Config::default() }, None);
    assert_eq!(fixture.get("/health").await.header("strict-transport-security"), "max-age=31536000");
}

#[tokio::test]
async fn under_a_strange_name_nothing_is_answered() {
    let fixture = Fixture::with(Config { hosts: Some(vec!["aegis.example.com".into()]), ..Config::default() }, None);
    let ask = |host: &str| request("GET", "/redoc").header("host", host).body(Body::empty()).unwrap();
    for host in ["aegis.example.com", "AEGIS.example.com:8443", "127.0.0.1:8000", "[::1]:8000", "localhost"] {
        assert_eq!(fixture.send(ask(host)).await.status, StatusCode::OK, "{host}");
    }
    let got = fixture.send(ask("evil.example")).await;
    is_ours(&got, StatusCode::FORBIDDEN, "FORBIDDEN");
    assert!(got.json()["detail"].as_str().unwrap().contains("AEGIS_ALLOWED_HOSTS"));
    let two = request("GET", "/health").header("host", "a").header("host", "b").body(Body::empty()).unwrap();
    is_ours(&Fixture::new().send(two).await, StatusCode::BAD_REQUEST, "VALIDATION_ERROR");
}

#[tokio::test]
async fn head_answers_as_get_does_without_a_body() {
    let fixture = Fixture::new();
    let head = fixture.send(request("HEAD", "/redoc").body(Body::empty()).unwrap()).await;
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
    has_headers(&head);
    for method in ["TRACE", "PROPFIND"] {
        let got = fixture.send(request(method, "/api/v1/tactics").body(Body::empty()).unwrap()).await;
        is_ours(&got, StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED");
        assert_eq!(got.header("allow"), "GET,HEAD");
    }
}
