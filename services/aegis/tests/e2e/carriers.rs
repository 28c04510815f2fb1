//! Files and events that are handed in while processes are killed: what was confirmed is there once, and to be read.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use reqwest::{Method, RequestBuilder};
use serde_json::json;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::{
    conventions::IDEMPOTENCY_KEY,
    harness::{Api, eventually, form, try_send},
};

/// How long one waits for an answer of a process that may be dead.
const IMPATIENCE: Duration = Duration::from_secs(10);
/// How long one goes on asking, and what a slow machine may take afterwards.
const PATIENCE: Duration = Duration::from_secs(90);
/// Between two that are handed in.
const REST: Duration = Duration::from_millis(150);
/// Events of one hand.
const EVENTS: u64 = 5;

/// Those who hand in.
pub struct Carriers {
    stop: Arc<AtomicBool>,
    files: JoinHandle<u64>,
    events: JoinHandle<u64>,
    done: Arc<[AtomicU64; 2]>,
    test: String,
    session: String,
}

fn file(number: u64) -> (String, Vec<u8>) {
    (format!("carried-{number}.bin"), format!("what file {number} says; ").repeat(500).into_bytes())
}

/// Asks until it is answered, with the same key: it is done once.
async fn confirmed(status: u16, request: impl Fn() -> RequestBuilder) {
    let (key, since) = (Uuid::now_v7().to_string(), Instant::now());
    loop {
        let why = match try_send(request().header(IDEMPOTENCY_KEY, &key).timeout(IMPATIENCE)).await {
            Ok(answer) if answer.status == status => return,
            // Its answer went with the process that had it.
            Ok(answer) if answer.text().contains("was carried out") => return,
            Ok(answer) => {
                assert!(matches!(answer.status, 409 | 502..=504), "{answer}");
                answer.to_string()
            }
            Err(error) => error.to_string(),
        };
        assert!(since.elapsed() < PATIENCE, "no answer for {PATIENCE:?}; the last: {why}");
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
}

impl Carriers {
    /// Begins; `red` makes a test for the files, `admin` brings the events.
    pub async fn begin(red: &Api, admin: &Api, technique_id: &str) -> Carriers {
        let body = json!({"technique_id": technique_id, "name": "files while processes die"});
        let test = red.post("/tests", &body).await.json(201)["id"].as_str().expect("an id").to_owned();
        let session = Uuid::now_v7().simple().to_string();
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let files = tokio::spawn({
            let (stop, done, red, path) = (Arc::clone(&stop), Arc::clone(&done), red.clone(), evidence(&test));
            async move {
                let mut number = 0;
                while !stop.load(Ordering::SeqCst) {
                    let (name, bytes) = file(number);
                    confirmed(201, || red.request(Method::POST, &path).multipart(form(&name, bytes.clone(), &[])))
                        .await;
                    number += 1;
                    done[0].store(number, Ordering::SeqCst);
                    tokio::time::sleep(REST).await;
                }
                number
            }
        });
        let events = tokio::spawn({
            let (stop, done, admin, session) = (Arc::clone(&stop), Arc::clone(&done), admin.clone(), session.clone());
            async move {
                let mut number = 0;
                while !stop.load(Ordering::SeqCst) {
                    let lines: String =
                        (number..number + EVENTS).map(|number| format!("{}\n", line(&session, number))).collect();
                    let bring = || {
                        let request = admin.request(Method::POST, "/ingest/cowrie");
                        request.header("content-type", "application/x-ndjson").body(lines.clone())
                    };
                    confirmed(200, bring).await;
                    number += EVENTS;
                    done[1].store(number, Ordering::SeqCst);
                    tokio::time::sleep(REST).await;
                }
                number
            }
        });
        Carriers { stop, files, events, done, test, session }
    }

    /// Returns once both have handed in something more, whatever is dead.
    pub async fn go_on(&self) {
        let now = || self.done.each_ref().map(|done| done.load(Ordering::SeqCst));
        let before = now();
        eventually("files and events are handed in", PATIENCE, || async {
            let now = now();
            if now[0] > before[0] && now[1] > before[1] { Ok(()) } else { Err(format!("{before:?}, now {now:?}")) }
        })
        .await;
    }

    /// Ends, and looks for everything that was confirmed.
    pub async fn all_is_there(self, red: &Api, admin: &Api) {
        self.stop.store(true, Ordering::SeqCst);
        let files = self.files.await.expect("files are taken in");
        let events = self.events.await.expect("events are taken in");
        let rows = red.all(&evidence(&self.test)).await;
        assert_eq!(rows.len() as u64, files, "a file that is lost, or there twice");
        for number in 0..files {
            let (name, bytes) = file(number);
            let row = rows.iter().find(|row| row["file_name"] == json!(name));
            let id = row.and_then(|row| row["id"].as_str()).unwrap_or_else(|| panic!("{name} is lost: {rows:?}"));
            let shown = red.get(&format!("/evidence/{id}")).await.json(200);
            // To the gateway, or to the store itself.
            let link =
                url::Url::parse(&red.base).expect("an address").join(shown["download_url"].as_str().unwrap_or(""));
            let read = Api::new(&red.base, None).get(link.expect("a link").as_str()).await;
            assert!(read.status == 200 && read.body == bytes, "{name}: {}", read.status);
        }
        // What others are told of a file: the test's history has each once.
        eventually("the history tells of every file", PATIENCE, || async {
            let told = red.all(&format!("/tests/{}/timeline", self.test)).await;
            let told = told.iter().filter(|entry| entry["kind"] == "evidence").count() as u64;
            if told == files { Ok(()) } else { Err(format!("{told} of {files}")) }
        })
        .await;
        let logs = format!("/logs?search=session:{}", self.session);
        assert_eq!(admin.get(&logs).await.json(200)["total"], json!(events), "an event that is lost, or there twice");
        eventually("the attacker is known by all of them", PATIENCE, || async {
            let page = admin.get("/attackers?search=attacker:198.51.100.66").await.json(200);
            if page["data"][0]["event_count"] == json!(events) { Ok(()) } else { Err(page.to_string()) }
        })
        .await;
        println!("{files} files and {events} events were confirmed, and are there once");
    }
}

fn evidence(test: &str) -> String {
    format!("/tests/{test}/evidence")
}

fn line(session: &str, number: u64) -> serde_json::Value {
    json!({
        "eventid": "cowrie.command.input", "timestamp": format!("2024-01-01T00:00:00.{number:06}Z"),
        "sensor": "carried", "session": session, "src_ip": "198.51.100.66", "input": format!("echo {number}"),
        "message": format!("CMD: echo {number}")
    })
}
