//! A backup is made while the product is worked with, restored elsewhere, and is the product of one moment: what was
//! answered before is there and whole, and the parts agree. Embedded with `aegis backup`; PostgreSQL and S3 with their
//! own tools, as deploy/BACKUP.md says.

mod postgres;

use std::{
    collections::HashMap,
    os::unix::fs::PermissionsExt,
    process::{Command, Output},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rand::RngExt;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    doctor::Found,
    harness::{Api, Mode, Process, Product, eventually, form, free_port, send},
};

/// Tests with evidence that are there before the backup begins, and that come while it is made.
const BEFORE: usize = 12;
/// Who works meanwhile.
const WRITERS: usize = 3;
/// The longest that things take to come about on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was answered: tests whose file was taken in.
type Answered = Arc<Mutex<Vec<String>>>;

pub async fn scenario(product: &mut Product) {
    let red = product.user("red_tech", "backup-red").await;
    let admin = product.admin().await;
    let me = red.get("/auth/me").await.json(200)["id"].as_str().unwrap().to_owned();
    let technique = admin.get("/techniques/T1546").await.json(200)["id"].as_str().unwrap().to_owned();
    let (answered, stop) = (Answered::default(), Arc::new(AtomicBool::new(false)));
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| tokio::spawn(write(red.clone(), technique.clone(), answered.clone(), stop.clone())))
        .collect();
    let reached = async |count: usize| {
        eventually("the writers go on", PATIENCE, || async {
            let now = answered.lock().unwrap().len();
            if now >= count { Ok(now) } else { Err(format!("{now} of {count}")) }
        })
        .await
    };
    reached(BEFORE).await;
    let before = answered.lock().unwrap().clone();
    // What lies in the broker at the moment of a dump is not in it: deploy/BACKUP.md says what that means.
    eventually("the audit trail has what was answered", PATIENCE, || async {
        let made = trail(&admin).await;
        before.iter().find(|id| !made.contains_key(*id)).map_or(Ok(()), |id| Err(id.clone()))
    })
    .await;
    let restored = match product.mode {
        Mode::Embedded => embedded(product).await,
        Mode::Processes => postgres::copy(product).await,
    };
    let during = answered.lock().unwrap().len();
    // It goes on behind the backup, which knows nothing of that.
    reached(during + 3).await;
    stop.store(true, Ordering::SeqCst);
    for writer in writers {
        writer.await.expect("a writer was refused");
    }
    let after = answered.lock().unwrap().clone();
    if let Some(command) = restored {
        compare(product, command, &me, &before, &after).await;
    }
    product.assert_alive();
}

/// How often the audit trail tells of the creation of each test.
async fn trail(admin: &Api) -> HashMap<String, usize> {
    let mut made: HashMap<String, usize> = HashMap::new();
    for row in admin.all("/audit-logs?action=create_test").await {
        *made.entry(row["entity_id"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    made
}

/// Makes tests, each with a file, until `stop`.
async fn write(red: Api, technique: String, answered: Answered, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::SeqCst) {
        let body = json!({"technique_id": technique, "name": "to be backed up", "platform": "linux"});
        let test = red.post("/tests", &body).await.json(201);
        let id = test["id"].as_str().unwrap().to_owned();
        let mut bytes = vec![0; 30_000];
        rand::rng().fill(&mut bytes[..]);
        let path = format!("/tests/{id}/evidence");
        send(red.request(Method::POST, &path).multipart(form("proof.bin", bytes, &[]))).await.json(201);
        answered.lock().unwrap().push(id);
    }
}

pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs it to its end, beside the writers.
pub async fn ended(command: Command) -> Output {
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true);
    let shown = format!("{command:?}");
    tokio::time::timeout(Duration::from_secs(180), command.output()).await.expect(&shown).expect(&shown)
}

/// Backs up and restores with the product's own commands; how to start what came of it.
async fn embedded(product: &Product) -> Option<Command> {
    let home = product.folder().join("backup");
    std::fs::create_dir_all(&home).unwrap();
    let file = home.join("aegis.tar.zst");
    let _ = std::fs::remove_file(&file);
    let with_file = |arguments: &[&str]| {
        let mut command = product.command(arguments);
        command.arg(&file);
        command
    };
    let made = ended(with_file(&["--json", "backup"])).await;
    assert!(made.status.success(), "{}", text(&made));
    let told: Value = serde_json::from_slice(&made.stdout).expect("JSON");
    println!("backup: {told}");
    assert_eq!((told["databases"].as_u64(), told["holds_secrets"].as_bool()), (Some(7), Some(true)), "{told}");
    assert!(told["files"].as_u64().unwrap() >= BEFORE as u64, "{told}");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let verified = ended(with_file(&["backup", "--verify"])).await;
    assert!(verified.status.success() && text(&verified).contains("is whole"), "{}", text(&verified));

    // Not into the folder of the product that runs, whatever is asked for.
    for arguments in [&["restore"][..], &["restore", "--force"]] {
        let refused = ended(with_file(arguments)).await;
        assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    }
    let data = home.join("restored");
    let _ = std::fs::remove_dir_all(&data);
    let mut restore = with_file(&["restore"]);
    restore.env("AEGIS_DATA_DIR", &data);
    let restored = ended(restore).await;
    assert!(restored.status.success(), "{}", text(&restored));
    // The doctor looks for the files of rows, and misses them.
    let doctor = || {
        let mut command = product.command(&[]);
        command.env("AEGIS_DATA_DIR", &data).env("AEGIS_LISTEN", format!("127.0.0.1:{}", free_port()));
        Found::of(command)
    };
    let files = "rows of evidence are";
    doctor().await.says("files", "ok", files);
    std::fs::rename(data.join("blobs"), data.join("elsewhere")).unwrap();
    doctor().await.says("files", "problem", files);
    std::fs::rename(data.join("elsewhere"), data.join("blobs")).unwrap();
    let mut command = product.command(&[]);
    command.env("AEGIS_DATA_DIR", &data);
    Some(command)
}

/// Starts what was restored, and looks whether it is the product of one moment.
async fn compare(product: &mut Product, mut command: Command, me: &str, before: &[String], after: &[String]) {
    // The decoys and schedules stay with the product that goes on.
    command.env("AEGIS_SENSOR", "false").env("AEGIS_SCHEDULER_ENABLED", "false");
    command.env("AEGIS_LISTEN", format!("127.0.0.1:{}", free_port()));
    let settings: Vec<_> =
        command.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect();
    let again = |arguments: &[&str]| {
        let mut command = crate::harness::binary();
        command.args(arguments).envs(settings.iter().cloned());
        command
    };
    let mut process = Process::spawn("restored", command, product.folder());
    let base = format!("http://{}", process.listening().await);
    let nobody = Api::new(&base, None);
    // Who could sign in can, and who was signed in is.
    let login = json!({"username": "admin", "password": product.admin_password});
    let token = eventually("it answers", PATIENCE, || async {
        let answer = nobody.post("/auth/login", &login).await;
        if answer.status == 200 { Ok(answer.value()) } else { Err(answer.to_string()) }
    })
    .await;
    let there = nobody.with_token(token["access_token"].as_str().unwrap());
    let here = product.admin().await;
    nobody.with_token(here.token.as_deref().unwrap()).get("/auth/me").await.json(200);

    let names =
        |rows: Vec<Value>| rows.iter().map(|row| row["username"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(there.all("/users").await), names(here.all("/users").await));

    // Every test that was answered before is there; none that nobody made; each file is what was brought.
    let rows = there.all(&format!("/tests?created_by={me}")).await;
    let restored: Vec<&str> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
    for id in before {
        assert!(restored.contains(&id.as_str()), "test {id} is lost");
    }
    let late = restored.iter().filter(|id| !after.iter().any(|known| known == *id)).count();
    // Each writer may have made one whose file it had not brought when it was over.
    assert!(late <= WRITERS, "{late} tests that nobody was told of");
    let mut files = 0;
    for id in &restored {
        let evidence = there.all(&format!("/tests/{id}/evidence")).await;
        assert!(evidence.len() <= 1 && (evidence.len() == 1 || !before.iter().any(|known| known == id)), "{id}");
        for file in evidence {
            let checked = there.get(&format!("/evidence/{}/verify", file["id"].as_str().unwrap())).await.json(200);
            assert_eq!(checked["status"], "intact", "{checked}");
            files += 1;
        }
    }
    println!("restored {} tests of {}, {files} files", restored.len(), after.len());

    // One record of each in a trail that is whole, once what was on its way has come.
    let expected: Vec<&str> = match product.mode {
        Mode::Embedded => restored.clone(),
        Mode::Processes => before.iter().map(String::as_str).collect(),
    };
    eventually("the audit trail has each test", PATIENCE, || async {
        let made = trail(&there).await;
        expected.iter().find(|id| !made.contains_key(**id)).map_or(Ok(()), |id| Err((*id).to_owned()))
    })
    .await;
    assert!(trail(&there).await.values().all(|times| *times == 1), "a record came twice");
    let verdict = there.get("/audit-logs/verify").await.json(200);
    assert_eq!(verdict["valid"], true, "{verdict}");
    // No record of a test that is not there.
    for row in there.all(&format!("/audit-logs?action=create_test&user_id={me}")).await {
        let id = row["entity_id"].as_str().unwrap();
        assert!(restored.contains(&id), "the trail knows of {id}");
    }
    if product.mode == Mode::Processes {
        for projection in ["statuses", "analytics"] {
            let rebuilt = ended(again(&["rebuild", projection])).await;
            assert!(rebuilt.status.success(), "{}", text(&rebuilt));
        }
    }
    eventually("the figures agree with the catalogue", PATIENCE, || async {
        let summary = there.get("/metrics/summary").await.json(200);
        for status in ["validated", "partial", "not_covered", "in_progress", "not_evaluated"] {
            let listed = there.total(&format!("/techniques?status={status}")).await;
            if summary[status] != listed {
                return Err(format!("{listed} techniques are {status}: {summary}"));
            }
        }
        Ok(())
    })
    .await;
    // It goes on as if nothing had been.
    let technique = there.get("/techniques/T1546").await.json(200)["id"].as_str().unwrap().to_owned();
    there.post("/tests", &json!({"technique_id": technique, "name": "after", "platform": "linux"})).await.json(201);
    assert!(process.terminate().await.success(), "{}", process.last_lines());
}
