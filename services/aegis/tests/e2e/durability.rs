//! kill -9 at any moment: nothing that was answered 2xx is lost, nothing happened twice.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use rand::RngExt;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Api, Mode, Product, eventually, form, try_send};

/// One technique a client, so that each is decided by the tests of one.
const TECHNIQUES: [&str; 4] = ["T1078", "T1110", "T1566", "T1021"];
/// 2xx answers between two kills.
const PACE: u64 = 14;
/// How long a client waits for an answer of a process that may be dead.
const IMPATIENCE: Duration = Duration::from_secs(10);

/// What a client does to a test, in this order.
const STEPS: [&str; 8] = [
    "start_execution",
    "update_red",
    "upload_evidence",
    "submit_red",
    "update_blue",
    "submit_blue",
    "vote_red",
    "vote_blue",
];

/// The people that the clients act as.
#[derive(Clone)]
struct Team {
    red_tech: Api,
    blue_tech: Api,
    red_lead: Api,
    blue_lead: Api,
}

/// What one client was answered about one test.
struct Record {
    id: String,
    name: String,
    /// Steps that were answered 2xx.
    done: usize,
    /// Whether the next one was sent and not answered.
    unsure: bool,
    /// The file, once its upload was sent.
    bytes: Vec<u8>,
}

#[derive(Default)]
struct Journal {
    records: Vec<Record>,
    /// Names of tests whose creation was not answered.
    unsure: Vec<String>,
}

pub async fn scenario(product: &mut Product) {
    let team = Team {
        red_tech: product.user("red_tech", "durable-red").await,
        blue_tech: product.user("blue_tech", "durable-blue").await,
        red_lead: product.user("red_lead", "durable-red-lead").await,
        blue_lead: product.user("blue_lead", "durable-blue-lead").await,
    };
    let admin = product.admin().await;
    let (answered, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut clients = Vec::new();
    for mitre_id in TECHNIQUES {
        let technique = admin.get(&format!("/techniques/{mitre_id}")).await.json(200);
        let technique = technique["id"].as_str().unwrap().to_owned();
        clients.push(tokio::spawn(client(team.clone(), technique, answered.clone(), stop.clone())));
    }

    let kills: &[&[&str]] = match product.mode {
        Mode::Embedded => &[&["aegis"], &["aegis"], &["aegis"], &["aegis"]],
        Mode::Processes => &[
            &["testing"],
            &["catalog"],
            &["identity"],
            &["evidence"],
            &["analytics"],
            &["gateway"],
            &["gateway", "testing", "identity", "catalog", "analytics", "deception", "evidence", "intel"],
        ],
    };
    for victims in kills {
        progress(&answered).await;
        for victim in *victims {
            product.kill9(victim);
        }
        // The clients meet it dead.
        tokio::time::sleep(Duration::from_millis(100)).await;
        product.ensure_running().await;
    }
    progress(&answered).await;
    stop.store(true, Ordering::SeqCst);
    let mut journals = Vec::new();
    for client in clients {
        journals.push(client.await.expect("a client's requests were refused"));
    }
    let tests: usize = journals.iter().map(|journal| journal.records.len()).sum();
    println!("{} answers about {tests} tests, {} kills", answered.load(Ordering::SeqCst), kills.len());

    let applied = everything_answered_is_there(&team, &journals).await;
    audit(&admin, &journals, &applied).await;
    notifications(&team, &applied).await;
    statuses(&admin, &journals, &applied).await;
    product.assert_alive();
}

/// Waits until the clients were answered some more.
async fn progress(answered: &AtomicU64) {
    let from = answered.load(Ordering::SeqCst);
    eventually("the clients go on", Duration::from_secs(60), || async {
        let now = answered.load(Ordering::SeqCst);
        if now >= from + PACE { Ok(()) } else { Err(format!("{} answers since", now - from)) }
    })
    .await;
}

/// Makes tests and walks them to their end; where an answer fails to come, leaves the test and takes a new one.
async fn client(team: Team, technique: String, answered: Arc<AtomicU64>, stop: Arc<AtomicBool>) -> Journal {
    let mut journal = Journal::default();
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        number += 1;
        let name = format!("durable {technique} {number}");
        let body = json!({"technique_id": technique, "name": name, "platform": "linux"});
        let Some(made) = tried(team.red_tech.request(Method::POST, "/tests").json(&body), 201).await else {
            journal.unsure.push(name);
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        answered.fetch_add(1, Ordering::SeqCst);
        let mut bytes = vec![0; 20_000];
        rand::rng().fill(&mut bytes[..]);
        let id = made.value()["id"].as_str().unwrap().to_owned();
        let mut record = Record { id, name, done: 0, unsure: false, bytes };
        for step in STEPS {
            if stop.load(Ordering::SeqCst) {
                break;
            }
            if tried(request(&team, step, &record), if step == "upload_evidence" { 201 } else { 200 }).await.is_none() {
                record.unsure = true;
                break;
            }
            record.done += 1;
            answered.fetch_add(1, Ordering::SeqCst);
        }
        journal.records.push(record);
    }
    journal
}

fn request(team: &Team, step: &str, record: &Record) -> reqwest::RequestBuilder {
    let path = |rest: &str| format!("/tests/{}/{rest}", record.id);
    match step {
        "start_execution" => team.red_tech.request(Method::POST, &path("start-execution")),
        "update_red" => {
            let body = json!({"attack_success": true, "red_summary": record.name});
            team.red_tech.request(Method::PATCH, &path("red")).json(&body)
        }
        "upload_evidence" => team.red_tech.request(Method::POST, &path("evidence")).multipart(form(
            "proof.bin",
            record.bytes.clone(),
            &[("team", "red")],
        )),
        "submit_red" => team.red_tech.request(Method::POST, &path("submit-red")),
        "update_blue" => {
            let body = json!({"detection_result": "detected", "blue_summary": record.name});
            team.blue_tech.request(Method::PATCH, &path("blue")).json(&body)
        }
        "submit_blue" => team.blue_tech.request(Method::POST, &path("submit-blue")),
        "vote_red" => {
            let body = json!({"red_validation_status": "approved"});
            team.red_lead.request(Method::POST, &path("validate-red")).json(&body)
        }
        "vote_blue" => {
            let body = json!({"blue_validation_status": "approved"});
            team.blue_lead.request(Method::POST, &path("validate-blue")).json(&body)
        }
        other => panic!("no step {other}"),
    }
}

/// The answer, if there is one and it is no fault of a dead process. Any other refusal is a fault of the product.
async fn tried(request: reqwest::RequestBuilder, expected: u16) -> Option<Answer> {
    let answer = try_send(request.timeout(IMPATIENCE)).await.ok()?;
    if matches!(answer.status, 502..=504) {
        return None;
    }
    assert_eq!(answer.status, expected, "{answer}");
    Some(answer)
}

/// State, timeline and files of every test agree with what was answered. Gives how many steps each test took.
async fn everything_answered_is_there(team: &Team, journals: &[Journal]) -> HashMap<String, usize> {
    let mut applied = HashMap::new();
    for record in journals.iter().flat_map(|journal| &journal.records) {
        let test = team.red_tech.get(&format!("/tests/{}", record.id)).await.json(200);
        assert_eq!(test["name"], record.name.as_str());
        let timeline = team.red_tech.get(&format!("/tests/{}/timeline", record.id)).await.json(200);
        let mut possible = vec![record.done];
        if record.unsure {
            possible.push(record.done + 1);
        }
        // What was not answered has happened whole or not at all.
        let steps = possible.iter().copied().find(|steps| fits(&test, &timeline, *steps, &record.bytes));
        let steps = steps.unwrap_or_else(|| {
            panic!("answered {:?}, unsure {}: {test:#} {timeline:#}", &STEPS[..record.done], record.unsure)
        });
        applied.insert(record.id.clone(), steps);
        if steps > 2 {
            let url = test["evidences"][0]["download_url"].as_str().unwrap();
            let url = url::Url::parse(&team.red_tech.base).unwrap().join(url).unwrap();
            let file = Api::new(&team.red_tech.base, None).get(url.as_str()).await;
            assert!(file.body == record.bytes, "other bytes came back: {file}");
        }
    }
    // No test was made twice, and none that nobody asked for.
    let mine = team.red_tech.get("/auth/me").await.json(200)["id"].as_str().unwrap().to_owned();
    let rows = team.red_tech.all(&format!("/tests?created_by={mine}")).await;
    let mut names: Vec<&str> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all, "a test was made twice");
    for journal in journals {
        for record in &journal.records {
            assert!(names.binary_search(&record.name.as_str()).is_ok(), "{} is lost", record.name);
        }
    }
    let known: usize = journals.iter().map(|journal| journal.records.len() + journal.unsure.len()).sum();
    assert!(all <= known, "{all} tests of {known} that were asked for");
    applied
}

/// Whether a test looks as it must after so many of the steps.
fn fits(test: &Value, timeline: &Value, steps: usize, bytes: &[u8]) -> bool {
    let taken = |step: &str| STEPS[..steps].contains(&step);
    let state = match () {
        () if taken("vote_blue") => "validated",
        () if taken("submit_blue") => "in_review",
        () if taken("submit_red") => "blue_evaluating",
        () if taken("start_execution") => "red_executing",
        () => "draft",
    };
    let files = test["evidences"].as_array().map_or(0, Vec::len);
    let sizes_fit = files == 0 || test["evidences"][0]["size_bytes"].as_u64() == Some(bytes.len() as u64);
    let kinds: Vec<&str> = timeline.as_array().unwrap().iter().map(|entry| entry["kind"].as_str().unwrap()).collect();
    let count = |kind: &str| kinds.iter().filter(|k| **k == kind).count();
    let number = |names: &[&str]| names.iter().filter(|name| taken(name)).count();
    // A validation is a vote and a transition.
    let transitions = number(&["start_execution", "submit_red", "submit_blue", "vote_blue"]);
    test["state"] == state
        && files == number(&["upload_evidence"])
        && sizes_fit
        && count("created") == 1
        && count("transition") == transitions
        && count("edit") == number(&["update_red", "update_blue"])
        && count("vote") == number(&["vote_red", "vote_blue"])
}

/// One record an action in the audit trail, and a whole chain.
async fn audit(admin: &Api, journals: &[Journal], applied: &HashMap<String, usize>) {
    let mut expected: HashMap<(String, &str), usize> = HashMap::new();
    for (id, steps) in applied {
        expected.insert((id.clone(), "create_test"), 1);
        for step in STEPS[..*steps].iter().filter(|step| **step != "upload_evidence") {
            expected.insert((id.clone(), *step), 1);
        }
    }
    let counted = eventually("the audit trail has everything", Duration::from_secs(15), || async {
        let mut counted: HashMap<(String, String), Vec<Value>> = HashMap::new();
        for row in admin.all("/audit-logs?entity_type=test").await {
            if row["success"] == true {
                let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
                counted.entry((text("entity_id"), text("action"))).or_default().push(row);
            }
        }
        let missing = expected.keys().find(|(id, action)| !counted.contains_key(&(id.clone(), (*action).to_owned())));
        match missing {
            Some(missing) => Err(format!("no {missing:?}")),
            None => Ok(counted),
        }
    })
    .await;
    for ((id, action), rows) in &counted {
        let ours = applied.contains_key(id);
        let step = *action == "create_test" || STEPS.contains(&action.as_str());
        if ours && step {
            let expected = expected.get(&(id.clone(), action.as_str())).copied().unwrap_or(0);
            assert_eq!(rows.len(), expected, "{action} of {id}: {rows:#?}");
        }
    }
    let uploads = journals.iter().flat_map(|journal| &journal.records).filter(|r| applied[&r.id] > 2).count();
    let verdict = eventually("the uploads are in the audit trail", Duration::from_secs(15), || async {
        let rows = admin.all("/audit-logs?action=upload_evidence").await;
        let mine = rows.iter().filter(|row| row["username"] == "durable-red" && row["success"] == true).count();
        assert!(mine <= uploads, "{mine} uploads of {uploads} files");
        if mine < uploads {
            return Err(format!("{mine} of {uploads}"));
        }
        Ok(admin.get("/audit-logs/verify").await.json(200))
    })
    .await;
    assert_eq!(verdict["valid"], true, "{verdict}");
}

/// One notification a recipient and state.
async fn notifications(team: &Team, applied: &HashMap<String, usize>) {
    let reached = |step: &str| {
        let position = STEPS.iter().position(|s| *s == step).unwrap();
        applied.iter().filter(move |(_, steps)| **steps > position).map(|(id, _)| id.clone()).collect::<Vec<_>>()
    };
    for (who, kind, step) in [
        (&team.red_tech, "red_executing", "start_execution"),
        (&team.blue_tech, "blue_evaluating", "submit_red"),
        (&team.red_lead, "in_review", "submit_blue"),
        (&team.blue_lead, "in_review", "submit_blue"),
        (&team.red_tech, "validated", "vote_blue"),
    ] {
        let mut expected = reached(step);
        expected.sort();
        let got = eventually("the notifications came", Duration::from_secs(15), || async {
            let rows = who.all("/notifications").await;
            let mut got: Vec<String> = rows
                .iter()
                .filter(|row| row["kind"] == kind)
                .map(|row| row["entity_id"].as_str().unwrap().to_owned())
                .filter(|id| applied.contains_key(id))
                .collect();
            got.sort();
            if got.len() < expected.len() { Err(format!("{} of {}", got.len(), expected.len())) } else { Ok(got) }
        })
        .await;
        assert_eq!(got, expected, "{kind}");
    }
}

/// What the catalogue and the figures say follows from the tests.
async fn statuses(admin: &Api, journals: &[Journal], applied: &HashMap<String, usize>) {
    for (mitre_id, journal) in TECHNIQUES.iter().zip(journals) {
        // Every one of these tests was detected.
        let validated = journal.records.iter().any(|record| applied[&record.id] == STEPS.len());
        let expected = if validated { "validated" } else { "in_progress" };
        eventually(&format!("{mitre_id} is {expected}"), Duration::from_secs(15), || async {
            let technique = admin.get(&format!("/techniques/{mitre_id}")).await.json(200);
            let status = technique["status_global"].as_str().unwrap();
            if status == expected { Ok(()) } else { Err(status.to_owned()) }
        })
        .await;
    }
    eventually("the figures agree with the catalogue", Duration::from_secs(15), || async {
        let summary = admin.get("/metrics/summary").await.json(200);
        for status in ["validated", "partial", "not_covered", "in_progress", "not_evaluated"] {
            let listed = admin.total(&format!("/techniques?status={status}")).await;
            if summary[status] != listed {
                return Err(format!("{listed} techniques are {status}: {summary}"));
            }
        }
        Ok(())
    })
    .await;
}
