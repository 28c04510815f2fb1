//! The main job, end to end: from the first login to a validated technique, on real ATT&CK where it is there.

use std::{path::Path, time::Duration};

use rand::RngExt;
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::harness::{Api, PASSWORD, Product, eventually, rows, send};

const PATIENCE: Duration = Duration::from_secs(5);
const TECHNIQUE: &str = "T1059.001";

/// The people of the story.
struct Team {
    admin: Api,
    red_tech: Api,
    blue_tech: Api,
    red_lead: Api,
    blue_lead: Api,
}

pub async fn scenario(product: &mut Product) {
    signing_in(product).await;
    let team = people(product).await;
    match aegis_testkit::data_dir() {
        Some(data) => {
            syncs(&team, &data).await;
            figures_of_18_1(&team).await;
        }
        None => println!("the syncs are left out"),
    }
    reading(&team).await;
    let before = Figures::read(&team.admin).await;
    let test = workflow(&team).await;
    outcome(&team, &test, &before).await;
    trail(&team, &test).await;
    product.assert_alive();
}

/// Step 1: form and JSON, a new password, the end of the old token.
async fn signing_in(product: &mut Product) {
    let old = product.admin_password.clone();
    let nobody = product.anonymous();
    // Other fields of the OAuth2 password form are ignored.
    let form = [("grant_type", "password"), ("username", "admin"), ("password", &old), ("scope", "")];
    let by_form = send(nobody.request(Method::POST, "/auth/login").form(&form)).await.json(200);
    assert_eq!(by_form["token_type"], "bearer");
    assert_eq!(by_form["must_change_password"], false);
    assert_eq!(by_form["expires_in"], 12 * 3600);
    let by_json = nobody.post("/auth/login", &json!({"username": "admin", "password": old})).await.json(200);
    let admin = nobody.with_token(by_json["access_token"].as_str().unwrap());

    let me = admin.get("/auth/me").await.json(200);
    assert_eq!(me["username"], "admin");
    assert_eq!(me["role"], "admin");
    assert_eq!(me["is_active"], true);

    let new = format!("second-{old}");
    let wrong = json!({"old_password": "not-the-password", "new_password": new});
    assert!(matches!(admin.post("/auth/change-password", &wrong).await.status, 401 | 403));
    for bad in ["short", "admin", "password"] {
        let body = json!({"old_password": old, "new_password": bad});
        admin.post("/auth/change-password", &body).await.error(422, "VALIDATION_ERROR");
    }
    let changed = admin.post("/auth/change-password", &json!({"old_password": old, "new_password": new})).await;
    changed.json(200);
    product.forget("admin");
    product.admin_password = new;

    admin.get("/auth/me").await.error(401, "UNAUTHENTICATED");
    let old_login = nobody.post("/auth/login", &json!({"username": "admin", "password": old})).await;
    old_login.error(401, "INVALID_CREDENTIALS");
    let admin = product.admin().await;
    let again = admin.get("/auth/me").await.json(200);
    assert_eq!(again["id"], me["id"]);
}

/// Step 2: the four users.
async fn people(product: &mut Product) -> Team {
    let admin = product.admin().await;
    for role in ["red_tech", "blue_tech", "red_lead", "blue_lead"] {
        let name = format!("story-{role}");
        let body =
            json!({"username": name, "email": format!("{role}@example.com"), "password": PASSWORD, "role": role});
        let made = admin.post("/users", &body).await;
        let user = made.json(201);
        assert_eq!(user["role"], role);
        assert_eq!(user["email"], format!("{role}@example.com"));
        assert!(user.get("password").is_none() && user.get("password_hash").is_none());
        assert!(made.header("location").ends_with(user["id"].as_str().unwrap()), "{made}");
        admin.post("/users", &body).await.error(409, "DUPLICATE");
    }
    let team = Team {
        red_tech: product.login("story-red_tech", PASSWORD).await,
        blue_tech: product.login("story-blue_tech", PASSWORD).await,
        red_lead: product.login("story-red_lead", PASSWORD).await,
        blue_lead: product.login("story-blue_lead", PASSWORD).await,
        admin,
    };
    team.red_tech
        .post("/users", &json!({"username": "x", "password": PASSWORD, "role": "admin"}))
        .await
        .error(403, "FORBIDDEN");
    team
}

/// Step 3: one version of ATT&CK, then the next over it.
async fn syncs(team: &Team, data: &Path) {
    let old = data.join("attack/enterprise-attack-17.1.json.zst");
    let counts = sync(&team.admin, &old).await;
    let sum = ["new", "updated", "unchanged"].iter().map(|name| counts[name].as_u64().unwrap()).sum::<u64>();
    assert_eq!(sum, 823, "{counts}");
    assert_eq!(counts["revoked"], 132, "{counts}");
    assert_eq!(counts["deprecated"], 12, "{counts}");
    assert_eq!(team.admin.total("/techniques").await, 679);
    assert_eq!(team.admin.total("/techniques?include_revoked=true").await, 823);
    team.admin.get("/techniques/T1680").await.error(404, "NOT_FOUND");
    let flagged_before = team.admin.total("/techniques?review_required=true").await;

    let new = data.join("attack/enterprise-attack-18.1.json.zst");
    let counts = sync(&team.admin, &new).await;
    assert_eq!(counts["new"], 12, "{counts}");
    assert_eq!(counts["updated"], 823, "{counts}");
    assert_eq!(counts["unchanged"], 0, "{counts}");
    assert_eq!(team.admin.total("/techniques").await, 691);
    assert_eq!(team.admin.total("/techniques?include_revoked=true").await, 835);
    let flagged = team.admin.total("/techniques?review_required=true").await;
    assert_eq!(flagged, 679, "every active technique that changed is flagged; before: {flagged_before}");

    let same = sync(&team.admin, &new).await;
    assert_eq!((&same["new"], &same["updated"], &same["unchanged"]), (&json!(0), &json!(0), &json!(835)), "{same}");

    let source = source(&team.admin).await;
    assert_eq!(source["last_status"], "succeeded");
    assert_eq!(source["upstream_version"], "18.1");
    assert!(source["last_error"].is_null());
}

async fn source(admin: &Api) -> Value {
    let sources = admin.get("/data-sources").await.json(200);
    let rows = sources.as_array().unwrap();
    rows.iter().find(|row| row["name"] == "mitre_attack_enterprise").expect("the source is there").clone()
}

/// Points the source at a file, syncs it in the background and waits for the job; gives its counts.
async fn sync(admin: &Api, file: &Path) -> Value {
    let file = std::fs::canonicalize(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let url = format!("file://{}", file.display());
    let id = source(admin).await["id"].as_str().unwrap().to_owned();
    let row = admin.patch(&format!("/data-sources/{id}"), &json!({"url": url})).await.json(200);
    assert_eq!(row["url"], url);
    let started = admin.act(&format!("/data-sources/{id}/sync?async=true")).await;
    let job = started.json(202);
    let job_path = format!("/system/jobs/{}", job["id"].as_str().unwrap());
    let job = eventually("the sync ends", Duration::from_secs(120), || async {
        let job = admin.get(&job_path).await.json(200);
        if job["status"] == "running" { Err(job.to_string()) } else { Ok(job) }
    })
    .await;
    assert_eq!(job["status"], "succeeded", "{job}");
    assert_eq!(job["percentage"].as_f64(), Some(100.0), "{job}");
    job["counts"].clone()
}

/// The catalogue after the sync, as an independent script counted it.
async fn figures_of_18_1(team: &Team) {
    const BY_TACTIC: [(&str, u64); 14] = [
        ("collection", 41),
        ("command-and-control", 45),
        ("credential-access", 67),
        ("defense-evasion", 215),
        ("discovery", 49),
        ("execution", 46),
        ("exfiltration", 19),
        ("impact", 33),
        ("initial-access", 22),
        ("lateral-movement", 23),
        ("persistence", 126),
        ("privilege-escalation", 109),
        ("reconnaissance", 45),
        ("resource-development", 47),
    ];
    for (tactic, count) in BY_TACTIC {
        assert_eq!(team.red_tech.total(&format!("/techniques?tactic={tactic}")).await, count, "{tactic}");
    }
    let rows = eventually("coverage counts the new catalogue", PATIENCE, || async {
        let summary = team.red_tech.get("/metrics/summary").await.json(200);
        if summary["total_techniques"] != 691 {
            return Err(summary.to_string());
        }
        Ok(team.red_tech.get("/metrics/by-tactic").await.json(200))
    })
    .await;
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), BY_TACTIC.len());
    for (tactic, count) in BY_TACTIC {
        let row = rows.iter().find(|row| row["tactic"] == tactic).unwrap_or_else(|| panic!("no {tactic}"));
        assert_eq!(row["total"], count, "{row}");
    }
}

/// Step 4: list, filter, read.
async fn reading(team: &Team) {
    let someone = &team.blue_tech;
    let page = someone.get("/techniques?limit=3&offset=2").await;
    let rows = page.json(200);
    assert_eq!(rows.as_array().unwrap().len(), 3);
    assert!(page.total() > 600, "{page}");
    for field in ["id", "mitre_id", "name", "tactic", "status_global"] {
        assert!(rows[0][field].is_string(), "{field}: {page}");
    }
    let ids = |rows: &Value| -> Vec<String> {
        rows.as_array().unwrap().iter().map(|row| row["mitre_id"].as_str().unwrap().to_owned()).collect()
    };
    let next = someone.get("/techniques?limit=3&offset=5").await.json(200);
    assert!(ids(&rows).iter().all(|id| !ids(&next).contains(id)), "two pages overlap");

    let execution = someone.get("/techniques?tactic=execution&limit=5000").await.json(200);
    assert!(ids(&execution).contains(&TECHNIQUE.to_owned()));
    assert_eq!(someone.total("/techniques?tactic=no-such-tactic").await, 0);
    assert_eq!(someone.total("/techniques?tactic=execution&status=validated").await, 0);
    someone.get("/techniques?status=splendid").await.error(400, "VALIDATION_ERROR");

    let technique = someone.get(&format!("/techniques/{TECHNIQUE}")).await.json(200);
    assert_eq!(technique["name"], "PowerShell");
    assert_eq!(technique["tactic"], "execution");
    assert_eq!(technique["is_subtechnique"], true);
    assert_eq!(technique["parent_mitre_id"], "T1059");
    assert_eq!(technique["platforms"], json!(["windows"]));
    assert_eq!(technique["status_global"], "not_evaluated");
    assert_eq!(technique["tests"], json!([]));
    someone.get("/techniques/T9999").await.error(404, "NOT_FOUND");
}

/// Steps 5 and 6: a test from draft to validated, with its evidence.
async fn workflow(team: &Team) -> String {
    let technique = team.red_tech.get(&format!("/techniques/{TECHNIQUE}")).await.json(200);
    let body = json!({
        "technique_id": technique["id"], "name": "Encoded PowerShell", "description": "As in the story",
        "platform": "windows", "procedure_text": "powershell -enc …", "tool_used": "Atomic Red Team",
    });
    for wrong in [&team.blue_tech, &team.red_lead, &team.blue_lead] {
        wrong.post("/tests", &body).await.error(403, "FORBIDDEN");
    }
    let made = team.red_tech.post("/tests", &body).await;
    let test = made.json(201);
    assert_eq!(test["state"], "draft");
    assert_eq!(test["platform"], "windows");
    let id = test["id"].as_str().unwrap().to_owned();
    assert!(made.header("location").ends_with(&id), "{made}");
    let path = |rest: &str| format!("/tests/{id}{rest}");

    // The wrong move, with the body of the reference to the letter.
    let wrong = team.admin.post(&path("/validate"), &json!({"result": "detected"})).await;
    assert_eq!(
        wrong.json(400),
        json!({"detail": {
            "message": "Cannot transition from 'draft' to 'validated'. Valid transitions: ['red_executing']",
            "code": "INVALID_TRANSITION",
            "current_state": "draft",
            "target_state": "validated",
            "valid_transitions": ["red_executing"],
        }})
    );
    team.blue_tech.act(&path("/start-execution")).await.error(403, "FORBIDDEN");
    let step = team.red_tech.act(&path("/start-execution")).await.json(200);
    assert_eq!(step["state"], "red_executing");
    assert!(step["execution_date"].is_string());
    let twice = team.red_tech.act(&path("/start-execution")).await.json(400);
    assert_eq!(twice["detail"]["code"], "INVALID_TRANSITION");
    assert_eq!(twice["detail"]["valid_transitions"], json!(["blue_evaluating"]));

    let red = json!({"attack_success": true, "red_summary": "It ran.", "executed_at": "2025-11-01T10:00:00Z"});
    team.blue_tech.patch(&path("/red"), &red).await.error(403, "FORBIDDEN");
    let step = team.red_tech.patch(&path("/red"), &red).await.json(200);
    assert_eq!(step["red_summary"], "It ran.");
    assert_eq!(step["executed_at"], "2025-11-01T10:00:00Z");
    evidence(team, &id).await;
    team.red_tech.act(&path("/submit-blue")).await.error(403, "FORBIDDEN");
    assert_eq!(team.red_tech.act(&path("/submit-red")).await.json(200)["state"], "blue_evaluating");

    let blue = json!({"detection_result": "detected", "blue_summary": "The alert came.", "detected_at": "2025-11-01T10:05:00Z"});
    team.red_tech.patch(&path("/blue"), &blue).await.error(403, "FORBIDDEN");
    team.blue_tech.patch(&path("/blue"), &blue).await.json(200);
    assert_eq!(team.blue_tech.act(&path("/submit-blue")).await.json(200)["state"], "in_review");

    let red_vote = json!({"red_validation_status": "approved", "red_validation_notes": "Well run"});
    let blue_vote = json!({"blue_validation_status": "approved"});
    team.blue_lead.post(&path("/validate-red"), &red_vote).await.error(403, "FORBIDDEN");
    team.red_tech.post(&path("/validate-red"), &red_vote).await.error(403, "FORBIDDEN");
    let step = team.red_lead.post(&path("/validate-red"), &red_vote).await.json(200);
    assert_eq!((&step["state"], &step["red_validation_status"]), (&json!("in_review"), &json!("approved")));
    let step = team.blue_lead.post(&path("/validate-blue"), &blue_vote).await.json(200);
    assert_eq!(step["state"], "validated");
    assert_eq!(step["detection_result"], "detected");
    let late = team.red_tech.upload(&path("/evidence"), "late.txt", b"late".to_vec(), &[]).await;
    assert!(matches!(late.status, 400 | 409), "a validated test takes no evidence: {late}");
    id
}

/// Step 6: upload, and the same bytes back by the presigned link.
async fn evidence(team: &Team, test: &str) {
    let mut bytes = vec![0_u8; 1_500_000];
    rand::rng().fill(&mut bytes[..]);
    let path = format!("/tests/{test}/evidence");
    let fields = [("team", "red"), ("notes", "A screenshot")];
    // Names keep their Unicode and lose their paths.
    let made = team.red_tech.upload(&path, "../../Büro/schärfe 1.png", bytes.clone(), &fields).await;
    let file = made.json(201);
    assert_eq!(file["file_name"], "schärfe 1.png");
    assert_eq!(file["sha256_hash"], hex::encode(Sha256::digest(&bytes)));
    assert_eq!(file["test_id"], test);
    let id = file["id"].as_str().unwrap();

    let file = team.blue_tech.get(&format!("/evidence/{id}")).await.json(200);
    let link = file["download_url"].as_str().unwrap();
    let nobody = Api::new(&team.admin.base, None);
    let url = url::Url::parse(&team.admin.base).unwrap().join(link).unwrap();
    let download = nobody.get(url.as_str()).await;
    assert_eq!(download.status, 200, "the link is the right to read");
    assert!(download.body == bytes, "other bytes came back");
    assert!(download.header("content-disposition").starts_with("attachment"), "{:?}", download.headers);

    let mut forged = url.clone();
    let pairs: Vec<(String, String)> = url
        .query_pairs()
        .map(|(name, value)| {
            let signature = name.to_lowercase().contains("signature");
            (name.into_owned(), if signature { value.chars().rev().collect() } else { value.into_owned() })
        })
        .collect();
    forged.query_pairs_mut().clear().extend_pairs(&pairs);
    assert_ne!(forged, url);
    let refused = nobody.get(forged.as_str()).await;
    assert!((400..500).contains(&refused.status), "a forged link answers {}", refused.status);

    let again = team.red_tech.upload(&path, "copy.png", bytes, &[]).await;
    assert_eq!(again.error(409, "DUPLICATE")["context"]["id"], id);
    let test = team.red_tech.get(&format!("/tests/{test}")).await.json(200);
    let rows = test["evidences"].as_array().unwrap_or_else(|| panic!("no evidences: {test}"));
    assert_eq!(rows.len(), 1, "{test}");
    assert_eq!(rows[0]["id"], id);
}

/// Coverage before the test.
struct Figures {
    summary: Value,
    execution: Value,
}

impl Figures {
    async fn read(who: &Api) -> Figures {
        let summary = who.get("/metrics/summary").await.json(200);
        let rows = who.get("/metrics/by-tactic").await.json(200);
        let execution = rows.as_array().unwrap().iter().find(|row| row["tactic"] == "execution").unwrap().clone();
        Figures { summary, execution }
    }
}

/// Step 7: the technique, the figures, the notifications of each side.
async fn outcome(team: &Team, test: &str, before: &Figures) {
    let path = format!("/techniques/{TECHNIQUE}");
    let technique = eventually("the technique is validated", PATIENCE, || async {
        let technique = team.admin.get(&path).await.json(200);
        if technique["status_global"] == "validated" {
            Ok(technique)
        } else {
            Err(technique["status_global"].to_string())
        }
    })
    .await;
    assert_eq!(technique["tests"].as_array().unwrap().len(), 1);
    assert_eq!(technique["tests"][0]["id"], test);
    assert_eq!(technique["status_overridden"], false);
    let listed = team.admin.get("/techniques?tactic=execution&status=validated").await.json(200);
    assert!(listed.as_array().unwrap().iter().any(|row| row["mitre_id"] == TECHNIQUE));

    let count = |figures: &Value, name: &str| figures[name].as_i64().unwrap_or_else(|| panic!("{name}: {figures}"));
    let after = eventually("the figures changed", PATIENCE, || async {
        let after = Figures::read(&team.admin).await;
        let grown = count(&after.summary, "validated") == count(&before.summary, "validated") + 1;
        if grown { Ok(after) } else { Err(after.summary.to_string()) }
    })
    .await;
    let (summary, total) = (&after.summary, count(&after.summary, "total_techniques"));
    assert_eq!(count(summary, "not_evaluated"), count(&before.summary, "not_evaluated") - 1);
    assert_eq!(count(summary, "in_progress"), count(&before.summary, "in_progress"));
    assert_eq!(total, count(&before.summary, "total_techniques"));
    let covered = (count(summary, "validated") + count(summary, "partial")) as f64 / total as f64 * 100.0;
    assert_eq!(summary["coverage_percentage"].as_f64(), Some((covered * 10.0).round() / 10.0), "{summary}");
    assert_eq!(count(&after.execution, "validated"), count(&before.execution, "validated") + 1);
    assert_eq!(count(&after.execution, "total"), count(&before.execution, "total"));

    for (who, kinds) in [
        (&team.red_tech, &["red_executing", "validated"][..]),
        (&team.blue_tech, &["blue_evaluating"]),
        (&team.red_lead, &["in_review"]),
        (&team.blue_lead, &["in_review"]),
    ] {
        notifications(who, test, kinds).await;
    }
}

async fn notifications(who: &Api, test: &str, kinds: &[&str]) {
    let rows = eventually("the notifications came", PATIENCE, || async {
        let all = who.get("/notifications?limit=100").await.json(200);
        let rows: Vec<Value> = rows(&all).into_iter().filter(|row| row["entity_id"] == test).collect();
        if rows.len() < kinds.len() { Err(all.to_string()) } else { Ok(rows) }
    })
    .await;
    let mut got: Vec<&str> = rows.iter().map(|row| row["kind"].as_str().unwrap()).collect();
    // Newest first.
    got.reverse();
    assert_eq!(got, kinds);
    let unread = async || who.get("/notifications/unread-count").await.json(200)["unread_count"].as_u64().unwrap();
    let before = unread().await;
    assert!(before >= kinds.len() as u64);
    let id = rows[0]["id"].as_str().unwrap();
    let read = who.patch(&format!("/notifications/{id}/read"), &json!({})).await.json(200);
    assert_eq!(read["is_read"], true);
    assert_eq!(unread().await, before - 1);
    who.act("/notifications/read-all").await.json(200);
    assert_eq!(unread().await, 0);
}

/// Step 7: the audit trail of all of it, and the test's own timeline.
async fn trail(team: &Team, test: &str) {
    let timeline = team.blue_lead.get(&format!("/tests/{test}/timeline")).await.json(200);
    let kinds: Vec<String> = rows(&timeline).iter().map(|row| row["kind"].as_str().unwrap().to_owned()).collect();
    let count = |kind: &str| kinds.iter().filter(|k| *k == kind).count();
    assert_eq!(kinds[0], "created", "{timeline}");
    assert_eq!(count("vote"), 2, "{timeline}");
    assert_eq!(count("edit"), 2, "{timeline}");
    assert_eq!(count("transition"), 4, "{timeline}");

    // (who, what, what it is about, did it work, how often)
    let expected = [
        ("story-red_tech", "create_test", "test", true, 1),
        ("story-red_tech", "start_execution", "test", true, 1),
        ("story-red_tech", "submit_red", "test", true, 1),
        ("story-blue_tech", "submit_blue", "test", true, 1),
        ("story-red_lead", "vote_red", "test", true, 1),
        ("story-blue_lead", "vote_blue", "test", true, 1),
    ];
    let logs = eventually("every action is in the audit trail", PATIENCE, || async {
        let logs = team.admin.all("/audit-logs?entity_type=test").await;
        let logs: Vec<Value> = logs.into_iter().filter(|row| row["entity_id"] == test).collect();
        let seen = |who: &str, what: &str| {
            logs.iter().filter(|row| row["username"] == who && row["action"] == what && row["success"] == true).count()
        };
        match expected.iter().find(|(who, what, ..)| seen(who, what) == 0) {
            Some(missing) => Err(format!("no {missing:?} in {logs:#?}")),
            None => Ok(logs),
        }
    })
    .await;
    for (who, what, _, success, times) in expected {
        let rows: Vec<&Value> = logs
            .iter()
            .filter(|row| row["username"] == who && row["action"] == what && row["success"] == success)
            .collect();
        assert_eq!(rows.len(), times, "{who} {what}");
        assert!(rows[0]["address"].as_str().is_some_and(|address| address.contains("127.0.0.1")), "{}", rows[0]);
        assert!(rows[0]["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{}", rows[0]);
    }
    let actions = team.admin.get("/audit-logs/actions").await.json(200);
    for action in ["login", "change_password", "create_user", "create_test", "update_data_source"] {
        assert!(actions.as_array().unwrap().contains(&json!(action)), "no {action} in {actions}");
    }
    let refusals = team.admin.all("/audit-logs?start_date=2020-01-01").await;
    assert!(refusals.iter().any(|row| row["username"] == "story-blue_tech" && row["success"] == false), "no refusal");
    for row in &refusals {
        let text = row.to_string();
        assert!(!text.contains(PASSWORD), "a secret in the audit trail: {text}");
    }
    let uploads = team.admin.all("/audit-logs?action=upload_evidence").await;
    let uploads = uploads.iter().filter(|row| row["username"] == "story-red_tech" && row["success"] == true).count();
    assert_eq!(uploads, 1);
    // The gateway's own links tell of each download; a store's own link is told when it is given out.
    let mut reads = team.admin.all("/audit-logs?action=download_evidence").await;
    reads.extend(team.admin.all("/audit-logs?action=issue_evidence_link").await);
    assert!(!reads.is_empty(), "nobody read evidence");
    let verdict = team.admin.get("/audit-logs/verify").await.json(200);
    assert_eq!(verdict["valid"], true, "{verdict}");
    assert!(verdict["records"].as_u64().unwrap() >= refusals.len() as u64);
    team.red_lead.get("/audit-logs").await.error(403, "FORBIDDEN");
}
