//! Starting and stopping: the first start as a newcomer sees it, and settings that cannot work.

use std::{
    net::TcpListener,
    process::{Command, Output},
    time::Duration,
};

use serde_json::json;
use tempfile::TempDir;

use crate::harness::{Api, PASSWORD, Process, binary, free_port};

fn embedded(folder: &TempDir, arguments: &[&str]) -> Command {
    let mut command = binary();
    command.args(arguments).env("AEGIS_DATA_DIR", folder.path().join("data")).env("AEGIS_LISTEN", "127.0.0.1:0");
    command
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs to the end, which must come by itself.
async fn ended(command: Command) -> Output {
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true);
    tokio::time::timeout(Duration::from_secs(60), command.output()).await.expect("it stops by itself").expect("it runs")
}

#[tokio::test]
async fn the_first_start_tells_a_newcomer_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Process::spawn("first", embedded(&folder, &[]), folder.path());
    let address = process.listening().await;
    let told = process.stdout();
    let password = told.lines().find_map(|line| line.trim().strip_prefix("password")).expect("a password is printed");
    let password = password.split_whitespace().next().unwrap().to_owned();
    assert!(told.contains("admin") && told.contains("/docs"), "{told}");
    assert!(!process.stderr().contains(&password), "the password is in the log");

    // It works, and only for a new password.
    let nobody = Api::new(&format!("http://{address}"), None);
    let login = json!({"username": "admin", "password": password});
    let token = nobody.post("/auth/login", &login).await.json(200);
    assert_eq!(token["must_change_password"], true);
    let admin = nobody.with_token(token["access_token"].as_str().unwrap());
    admin.get("/techniques").await.error(403, "PASSWORD_CHANGE_REQUIRED");
    let change = json!({"old_password": password, "new_password": PASSWORD});
    admin.post("/auth/change-password", &change).await.json(200);
    let token = nobody.post("/auth/login", &json!({"username": "admin", "password": PASSWORD})).await.json(200);
    let admin = nobody.with_token(token["access_token"].as_str().unwrap());

    // Useful before any sync and without a network.
    assert!(admin.total("/techniques").await > 600);
    assert!(admin.total("/test-templates").await >= 24);
    assert!(!admin.get("/tactics").await.json(200).as_array().unwrap().is_empty());
    let powershell = admin.get("/techniques/T1059.001").await.json(200);
    assert_eq!(powershell["name"], "PowerShell");

    // The other commands work beside it.
    let healthy = ended({
        let mut command = embedded(&folder, &["health"]);
        command.env("AEGIS_LISTEN", &address);
        command
    })
    .await;
    assert!(healthy.status.success(), "{}", text(&healthy));
    let verified = ended({
        let mut command = embedded(&folder, &["audit", "verify"]);
        command.env("AEGIS_LISTEN", &address);
        command
    })
    .await;
    assert!(verified.status.success(), "{}", text(&verified));
    assert!(text(&verified).contains("unbroken"), "{}", text(&verified));
    let file = folder.path().join("audit.jsonl");
    for arguments in [&["audit", "export", "--out"][..], &["audit", "verify", "--complete", "--file"]] {
        let mut command = embedded(&folder, arguments);
        command.arg(&file).env("AEGIS_LISTEN", &address);
        let output = ended(command).await;
        assert!(output.status.success(), "{}", text(&output));
    }
    let mut again = embedded(&folder, &["audit", "export", "--out"]);
    again.arg(&file);
    let again = ended(again).await;
    assert!(again.status.code() == Some(1) && text(&again).contains("exists already"), "{}", text(&again));

    // It stops when asked, and the second start says nothing of a password.
    assert!(process.terminate().await.success(), "{}", process.last_lines());
    let mut process = Process::spawn("second", embedded(&folder, &[]), folder.path());
    let address = process.listening().await;
    assert!(!process.stdout().contains("password"), "{}", process.stdout());
    let nobody = Api::new(&format!("http://{address}"), None);
    nobody.post("/auth/login", &json!({"username": "admin", "password": PASSWORD})).await.json(200);
    process.kill9();
    let unhealthy = ended({
        let mut command = embedded(&folder, &["health"]);
        command.env("AEGIS_LISTEN", &address);
        command
    })
    .await;
    assert_eq!(unhealthy.status.code(), Some(3), "{}", text(&unhealthy));
}

#[tokio::test]
async fn a_port_that_is_taken_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = embedded(&folder, &[]);
    command.env("AEGIS_LISTEN", taken.local_addr().unwrap().to_string());
    let output = ended(command).await;
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("AEGIS_LISTEN"), "{}", text(&output));
    assert!(!text(&output).contains("panicked"), "{}", text(&output));
}

#[tokio::test]
async fn a_database_that_does_not_answer_is_told() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&[][..], &["migrate"]] {
        let mut command = embedded(&folder, arguments);
        let url = format!("postgres://aegis_{{service}}:s3cr3t-word@127.0.0.1:{}/aegis", free_port());
        command.env("AEGIS_DATABASE_URL", url);
        let output = ended(command).await;
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        assert!(text(&output).contains("AEGIS_DATABASE_URL"), "{}", text(&output));
        assert!(!text(&output).contains("s3cr3t-word"), "the password is shown: {}", text(&output));
    }
}

#[tokio::test]
async fn settings_that_cannot_work_are_told_all_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = embedded(&folder, &[]);
    command.env("AEGIS_LISTN", "127.0.0.1:1").env("AEGIS_TOKEN_HOURS", "0").env("AEGIS_BROKER_URL", "http://x");
    let output = ended(command).await;
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    for name in ["AEGIS_LISTN", "AEGIS_TOKEN_HOURS", "AEGIS_BROKER_URL"] {
        // An unknown name may be told before the values are looked at.
        let told = text(&output).contains(name);
        assert!(told || name != "AEGIS_LISTN", "{name}: {}", text(&output));
    }
    let mut command = embedded(&folder, &[]);
    command.env("AEGIS_TOKEN_HOURS", "0").env("AEGIS_BROKER_URL", "http://x");
    let output = ended(command).await;
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    for name in ["AEGIS_TOKEN_HOURS", "AEGIS_BROKER_URL"] {
        assert!(text(&output).contains(name), "{name}: {}", text(&output));
    }
    // One role alone needs what all share.
    let output = ended(embedded(&folder, &["serve", "testing"])).await;
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    for name in ["AEGIS_BROKER_URL", "AEGIS_SERVICE_SECRET", "AEGIS_IDENTITY_URL", "AEGIS_CATALOG_URL"] {
        assert!(text(&output).contains(name), "{name}: {}", text(&output));
    }
    // A data folder that cannot be made.
    let mut command = embedded(&folder, &[]);
    let file = folder.path().join("a-file");
    std::fs::write(&file, "x").unwrap();
    command.env("AEGIS_DATA_DIR", file.join("data"));
    let output = ended(command).await;
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("AEGIS_DATA_DIR"), "{}", text(&output));
}

#[tokio::test]
async fn commands_explain_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let help = ended(embedded(&folder, &["--help"])).await;
    assert!(help.status.success() && text(&help).contains("Examples"), "{}", text(&help));
    let mut command = embedded(&folder, &["config"]);
    command.env("AEGIS_ADMIN_PASSWORD", "s3cr3t-word");
    let config = ended(command).await;
    assert!(config.status.success() && text(&config).contains("listen"), "{}", text(&config));
    assert!(!text(&config).contains("s3cr3t-word"), "{}", text(&config));
    let unknown = ended(embedded(&folder, &["frobnicate"])).await;
    assert_eq!(unknown.status.code(), Some(2));
    let document = ended(embedded(&folder, &["openapi"])).await;
    let document: serde_json::Value = serde_json::from_slice(&document.stdout).expect("JSON");
    assert!(document["paths"].as_object().is_some_and(|paths| paths.len() > 20));
}
