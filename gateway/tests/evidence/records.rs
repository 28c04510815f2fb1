//! What is known of evidence, and its removal.

use aegis_error::Failure;
use axum::body::Body;
use http::StatusCode;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::{
    MIB, Store, TEST,
    common::{Got, recorder::Recorder},
};

async fn remove(store: &Store, query: &str) -> Got {
    let fixture = store.fixture(MIB as u64);
    let request = fixture.signed("DELETE", &format!("/api/v1/evidence/{TEST}{query}"));
    fixture.send(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn a_file_is_removed_for_a_reason() {
    let longest = "証".repeat(1000);
    for reason in ["Shows a customer's password & more", "falsche Datei – 証拠", &longest] {
        let store = Store::default();
        let got = remove(&store, &format!("?reason={}", utf8_percent_encode(reason, NON_ALPHANUMERIC))).await;
        assert_eq!((got.status, got.body.len()), (StatusCode::NO_CONTENT, 0));
        assert_eq!(store.seen().removed, [(TEST.to_owned(), reason.to_owned())]);
    }
    for query in ["", "?", "?reason=a%00b", "?reason=a%0Ab", "?reason=a&reason=b"] {
        let store = Store::default();
        let got = remove(&store, query).await;
        assert_eq!(got.status, StatusCode::BAD_REQUEST, "{query}");
        assert_eq!(got.fields(), ["reason"], "{query}");
        assert!(store.seen().removed.is_empty());
    }
    let store = Store::default();
    let long = remove(&store, &format!("?reason={}", "x".repeat(4001))).await;
    assert_eq!((long.status, long.fields()), (StatusCode::BAD_REQUEST, vec!["reason".to_owned()]));
    assert_eq!(remove(&store, "?why=x").await.fields(), ["why"]);
    assert!(store.seen().removed.is_empty());
}

#[tokio::test]
async fn what_became_of_a_file_is_an_answer() {
    let got = Store::default().fixture(1).get(&format!("/api/v1/evidence/{TEST}/verify")).await;
    assert_eq!(got.status, StatusCode::OK);
    let found = got.json();
    assert_eq!((&found["id"], &found["status"]), (&TEST.into(), &"missing".into()));
    assert!(found["actual_sha256"].is_null() && found["actual_size"].is_null() && found["expected_size"] == 4);
}

#[tokio::test]
async fn a_manifest_is_handed_on_as_it_was_written() {
    let got = Store::default().fixture(1).get(&format!("/api/v1/tests/{TEST}/evidence/manifest")).await;
    assert_eq!(got.status, StatusCode::OK);
    assert_eq!(got.body, b"{ \"payload\":\"e30\",\"b\":1, \"a\":2 }");
    assert_eq!(got.header("content-type"), "application/json");
    let name = format!("evidence-manifest-{TEST}.json");
    assert_eq!(got.header("content-disposition"), format!("attachment; filename=\"{name}\"; filename*=UTF-8''{name}"));
}

#[tokio::test]
async fn the_state_of_the_store_is_told() {
    let got = Store::default().fixture(1).get("/api/v1/system/evidence-store").await;
    assert_eq!(got.status, StatusCode::OK);
    let report = got.json();
    assert!(report["checked_at"].is_null() && report["broken_total"] == 1);
    assert_eq!(report["broken"][0]["file_name"], "a.txt");
    assert!(report["broken"][0]["actual_size"].is_null());
}

#[tokio::test]
async fn files_are_listed_with_links_that_work_from_anywhere() {
    let fixture = Store::default().fixture(1);
    let path = format!("/api/v1/tests/{TEST}/evidence?limit=1&offset=1");
    let request = fixture.signed("GET", &path).header("host", "aegis.example.com").body(Body::empty()).unwrap();
    let got = fixture.send(request).await;
    assert_eq!((got.status, got.header("x-total-count")), (StatusCode::OK, "3"));
    assert_eq!(got.json().as_array().map(Vec::len), Some(1));
    assert_eq!(got.json()[0]["download_url"], "http://aegis.example.com/d");
    // The store's own link stays as it is signed.
    let file = fixture.get(&format!("/api/v1/evidence/{TEST}")).await;
    assert_eq!(file.json()["download_url"], "https://store.example.com/x?sig=1");
    assert!(!file.header("etag").is_empty());
}

#[tokio::test]
async fn a_test_that_is_not_there_has_no_list_of_files() {
    let tests = Recorder::default().refuses("GetTest", Failure::not_found("test", TEST));
    let got = Store::default().beside(1, &tests).get(&format!("/api/v1/tests/{TEST}/evidence")).await;
    assert_eq!((got.status, got.json()["code"].as_str()), (StatusCode::NOT_FOUND, Some("NOT_FOUND")));
}
