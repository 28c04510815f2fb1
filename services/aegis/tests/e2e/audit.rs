//! The audit trail as an administrator takes it away: exported whole and in part, and checked where no product runs.

use std::{path::PathBuf, process::Output, time::Duration};

use serde_json::{Value, json};

use crate::harness::{Api, Product, binary, eventually};

pub async fn scenario(product: &mut Product) {
    let admin = product.admin().await;
    let viewer = product.someone("viewer").await;
    for path in ["", "/actions", "/entity-types", "/verify", "/export"] {
        viewer.get(&format!("/audit-logs{path}")).await.error(403, "FORBIDDEN");
        product.anonymous().get(&format!("/audit-logs{path}")).await.error(401, "UNAUTHENTICATED");
    }
    admin.get("/audit-logs/export?start_date=yesterday").await.error_about(400, "VALIDATION_ERROR", "start_date");
    admin.get("/audit-logs/export?limit=1").await.error_about(400, "VALIDATION_ERROR", "limit");

    let name = "<b>Audited</b> '; DROP TABLE tests; --";
    let technique = admin.get("/techniques/T1190").await.json(200)["id"].clone();
    let test = admin.post("/tests", &json!({"technique_id": technique, "name": name})).await.json(201);
    let path = "/audit-logs?action=create_test&limit=1";
    eventually("the test is in the trail", Duration::from_secs(15), || async {
        let newest = admin.get(path).await.json(200)["items"][0].clone();
        if newest["entity_id"] == test["id"] { Ok(()) } else { Err(newest.to_string()) }
    })
    .await;

    // All of it, as the list has it.
    let file = product.folder().join("audit.jsonl");
    let lines = exported(&admin, "", &file).await;
    for (n, line) in lines.iter().enumerate() {
        assert_eq!(line["seq"], json!(n + 1));
    }
    let listed = admin.all("/audit-logs").await;
    let shown = listed.iter().find(|item| item["entity_id"] == test["id"]).unwrap();
    let line = lines.iter().find(|line| line["id"] == shown["id"]).unwrap();
    for (field, value) in line.as_object().unwrap().iter().filter(|(field, _)| *field != "timestamp") {
        assert_eq!(shown[field], *value, "{field}");
    }
    let verdict = told(&verify(&file, &["--complete"]).await, 0);
    assert_eq!((&verdict["valid"], &verdict["records"]), (&json!(true), &json!(lines.len())));

    // One letter changed, one line left out.
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replacen("<b>Audited", "<b>audited", 1)).unwrap();
    assert_eq!(told(&verify(&file, &[]).await, 1)["first_broken_line"], line["seq"]);
    let without: Vec<&str> = text.lines().enumerate().filter(|(n, _)| *n != 1).map(|(_, line)| line).collect();
    std::fs::write(&file, without.join("\n")).unwrap();
    assert_eq!(told(&verify(&file, &["--complete"]).await, 1)["first_broken_seq"], 2);

    // A part, and that both exports are records.
    let part = exported(&admin, "?entity_type=test&action=create_test", &file).await;
    assert!(!part.is_empty() && part.iter().all(|line| line["action"] == "create_test"));
    told(&verify(&file, &[]).await, 0);
    eventually("both exports are in the trail", Duration::from_secs(15), || async {
        let rows = admin.all("/audit-logs?action=export_audit_log").await;
        let part = rows.iter().any(|row| row["details"]["action"] == "create_test" && row["username"] == "admin");
        let all = rows.iter().any(|row| row["details"]["action"].is_null());
        if part && all { Ok(()) } else { Err(format!("{rows:?}")) }
    })
    .await;
    let verdict = admin.get("/audit-logs/verify").await.json(200);
    assert_eq!((&verdict["valid"], &verdict["pruned_through_seq"]), (&json!(true), &Value::Null));
    product.assert_alive();
}

/// An export, also as a file.
async fn exported(admin: &Api, query: &str, file: &PathBuf) -> Vec<Value> {
    let answer = admin.get(&format!("/audit-logs/export{query}")).await;
    assert_eq!(answer.status, 200, "{answer}");
    assert_eq!(answer.header("content-type"), "application/x-ndjson");
    assert!(answer.header("content-disposition").starts_with("attachment; filename=\"aegis-audit-"));
    std::fs::write(file, &answer.body).unwrap();
    answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn verify(file: &PathBuf, more: &[&str]) -> Output {
    let mut command = tokio::process::Command::from(binary());
    command.args(["--json", "audit", "verify", "--file"]).arg(file).args(more).kill_on_drop(true);
    command.output().await.unwrap()
}

#[track_caller]
fn told(output: &Output, code: i32) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(code), "{text}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(text.lines().next().unwrap()).unwrap()
}
