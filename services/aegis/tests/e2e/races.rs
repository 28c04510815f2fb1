//! The same request from many at the same moment: one success, clear refusals for the rest.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::json;

use crate::harness::{Answer, PASSWORD, Product, form, send};

const AT_ONCE: usize = 8;

pub async fn scenario(product: &mut Product) {
    let admin = product.admin().await;
    let red = product.someone("red_tech").await;
    let lead = product.someone("red_lead").await;
    let technique = admin.get("/techniques/T1190").await.json(200)["id"].clone();
    let body = json!({"technique_id": technique, "name": "Wanted by many"});
    let test = red.post("/tests", &body).await.json(201)["id"].as_str().unwrap().to_owned();

    let path = format!("/tests/{test}/start-execution");
    let answers = together(|_| red.request(Method::POST, &path)).await;
    winners(&answers, 200, &[400, 409]);
    let timeline = red.get(&format!("/tests/{test}/timeline")).await.json(200);
    let moves = timeline.as_array().unwrap().iter().filter(|entry| entry["kind"] == "transition").count();
    assert_eq!(moves, 1, "{timeline}");

    // Different changes of one test: none is lost, each is answered.
    let path = format!("/tests/{test}/red");
    let answers =
        together(|n| red.request(Method::PATCH, &path).json(&json!({"red_summary": format!("by {n}")}))).await;
    let done = answers.iter().filter(|answer| answer.status == 200).count();
    assert!(done >= 1 && answers.iter().all(|answer| matches!(answer.status, 200 | 409)), "{}", told(&answers));
    let timeline = red.get(&format!("/tests/{test}/timeline")).await.json(200);
    let edits = timeline.as_array().unwrap().iter().filter(|entry| entry["kind"] == "edit").count();
    assert_eq!(edits, done, "{timeline}");

    let path = format!("/tests/{test}/evidence");
    let bytes = vec![7; 300_000];
    let answers = together(|_| red.request(Method::POST, &path).multipart(form("same.bin", bytes.clone(), &[]))).await;
    winners(&answers, 201, &[409]);
    assert_eq!(red.total(&path).await, 1);

    let name = format!("wanted-{}", std::process::id());
    let body = json!({"username": name, "password": PASSWORD, "role": "viewer"});
    let answers = together(|_| admin.request(Method::POST, "/users").json(&body)).await;
    winners(&answers, 201, &[409]);

    // Flags and votes that everyone repeats stay one.
    for _ in 0..2 {
        together(|_| lead.request(Method::PATCH, "/techniques/T1190/review")).await.iter().for_each(|answer| {
            assert!(matches!(answer.status, 200 | 409), "{answer}");
        });
    }
    assert_eq!(admin.get("/techniques/T1190").await.json(200)["review_required"], false);
    assert_eq!(admin.get("/audit-logs/verify").await.json(200)["valid"], true);
    product.assert_alive();
}

async fn together(request: impl Fn(usize) -> reqwest::RequestBuilder) -> Vec<Answer> {
    futures::future::join_all((0..AT_ONCE).map(|n| send(request(n)))).await
}

#[track_caller]
fn winners(answers: &[Answer], won: u16, lost: &[u16]) {
    let good = answers.iter().filter(|answer| answer.status == won).count();
    let fits = answers.iter().all(|answer| answer.status == won || lost.contains(&answer.status));
    assert!(good == 1 && fits, "{}", told(answers));
}

fn told(answers: &[Answer]) -> String {
    let mut counts: BTreeMap<u16, usize> = BTreeMap::new();
    for answer in answers {
        *counts.entry(answer.status).or_default() += 1;
    }
    format!("{counts:?}\n{}", answers.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}
