//! People at work: tests are made and walked through, files brought and read, comments written, decoys attacked, other
//! honeypots' lines handed in, and somebody listens to what is told.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use http_body_util::BodyExt as _;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::cases::{Case, Target};
use super::client::{Ask, Client, Reply};
use super::journal::{Journal, STEPS, Test, VERDICTS};
use super::site::{PASSWORD, Site};
use super::{counted, probes};
use crate::ports;

/// Who walk tests at the same time.
const WALKERS: usize = 3;
/// A change that is not confirmed by then never will be.
const PATIENCE: Duration = Duration::from_secs(75);
/// Before a change.
const PAUSE: Duration = Duration::from_millis(120);
/// Between two tries.
const AGAIN: Duration = Duration::from_millis(150);
/// Lines at a time.
const LINES: u64 = 5;

/// People at work.
pub struct Load {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    listener: JoinHandle<()>,
}

struct Shared {
    site: Site,
    case: Case,
    mark: String,
    stop: AtomicBool,
    stop_listening: AtomicBool,
    listens: AtomicBool,
    numbers: AtomicUsize,
    journal: Mutex<Journal>,
}

impl Load {
    /// Everybody begins.
    pub fn start(site: &Site, case: Case) -> Load {
        let mark = format!("m{}", ports::random_hex(5).unwrap_or_else(|_| "0".to_owned()));
        let shared = Arc::new(Shared {
            site: site.clone(),
            case,
            mark: mark.clone(),
            stop: AtomicBool::new(false),
            stop_listening: AtomicBool::new(false),
            listens: AtomicBool::new(false),
            numbers: AtomicUsize::new(0),
            journal: Mutex::new(Journal::new(case, mark, site.attacker.clone())),
        });
        let listener = tokio::spawn(listen(Arc::clone(&shared)));
        let mut workers: Vec<JoinHandle<()>> = Vec::new();
        for _ in 0..WALKERS {
            workers.push(tokio::spawn(walk(Arc::clone(&shared))));
        }
        workers.push(tokio::spawn(sign_in(Arc::clone(&shared))));
        workers.push(tokio::spawn(hand_in(Arc::clone(&shared))));
        if site.decoy.is_some() {
            workers.push(tokio::spawn(attack(Arc::clone(&shared))));
        }
        for (what, ask) in probes::routes(site) {
            workers.push(tokio::spawn(probe(Arc::clone(&shared), what, ask)));
        }
        Load { shared, workers, listener }
    }

    /// The fault begins now.
    pub fn tell_begin(&self) {
        self.shared.journal().begun = Some(Instant::now());
    }

    /// Everybody ends what was begun, once enough was done, and the listener has heard all; gives what was confirmed.
    pub async fn stop(self) -> Journal {
        let since = Instant::now();
        while self.shared.journal().missing().is_some() && since.elapsed() < super::SETTLED {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let missing = self.shared.journal().missing();
        if let Some(missing) = missing {
            self.shared.journal().wrong(format!("too little was done for this to say anything: {missing}"));
        }
        self.shared.stop.store(true, Ordering::SeqCst);
        for worker in self.workers {
            if worker.await.is_err() {
                self.shared.journal().wrong("the suite itself failed: a worker panicked");
            }
        }
        let since = Instant::now();
        let expected = counted::told(self.shared.journal().tests.iter(), counted::Who::Red).values().sum::<usize>();
        while self.shared.journal().streamed.len() < expected && since.elapsed() < super::SETTLED {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // One that comes a second time comes soon.
        tokio::time::sleep(Duration::from_millis(300)).await;
        self.shared.stop_listening.store(true, Ordering::SeqCst);
        let _ = self.listener.await;
        let empty = Journal::new(self.shared.case, String::new(), String::new());
        std::mem::replace(&mut *self.shared.journal(), empty)
    }
}

impl Shared {
    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::SeqCst)
    }

    async fn listened_to(&self) {
        while !self.listens.load(Ordering::SeqCst) && self.goes_on() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn once(&self, what: &'static str, client: &Client, ask: &Ask, good: &[u16]) -> Option<Reply> {
        let (reply, took) = client.ask(ask).await;
        self.journal().judge(what, reply, took, good)
    }

    /// Asks until it is confirmed, always with the same key.
    async fn confirmed(&self, what: &'static str, client: &Client, ask: Ask, good: &[u16]) -> Option<Reply> {
        let ask = ask.header("idempotency-key", ports::random_hex(16).ok()?);
        // People think.
        tokio::time::sleep(PAUSE).await;
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            if let Some(reply) = self.once(what, client, &ask, good).await {
                return Some(reply);
            }
            tokio::time::sleep(AGAIN).await;
        }
        self.journal().wrong(format!("{what} is not confirmed after {} s", PATIENCE.as_secs()));
        None
    }
}

impl Shared {
    fn was_hit(&self, path: String, answer: Result<()>, took: Duration) {
        let mut journal = self.journal();
        let kind = journal.kinds.entry("hit").or_default();
        kind.slowest = kind.slowest.max(took);
        match answer {
            Ok(()) => {
                kind.good += 1;
                journal.hits.push((path, Instant::now()));
            }
            Err(error) => {
                kind.refused += 1;
                if self.case.target != Target::Sensor {
                    journal.wrong(format!("a decoy does not answer: {error:#}"));
                }
            }
        }
    }
}

async fn walk(shared: Arc<Shared>) {
    shared.listened_to().await;
    while shared.goes_on() {
        let number = shared.numbers.fetch_add(1, Ordering::SeqCst);
        let Some(test) = create(&shared, number).await else { continue };
        // Each is noted with what was confirmed of it.
        let at = {
            let mut journal = shared.journal();
            journal.tests.push(test.clone());
            journal.tests.len() - 1
        };
        through(&shared, number, &test, at).await;
    }
}

async fn create(shared: &Shared, number: usize) -> Option<Test> {
    let site = &shared.site;
    // What is found wrong with a test once all cases are through says which case it is of.
    let name = format!("{} {}:{} {number}", shared.mark, shared.case.target, shared.case.fault);
    let verdict = VERDICTS[number % VERDICTS.len()];
    let (technique, technique_id) = &site.techniques[number % VERDICTS.len()];
    let body = json!({"technique_id": technique_id, "name": name, "platform": "linux"});
    let reply = shared.confirmed("create", &site.red.client, Ask::post("/tests", &body), &[201]).await?;
    let body = reply.json();
    let id = body["id"].as_str().or_else(|| body["context"]["id"].as_str())?.to_owned();
    let created_at = body["created_at"].as_str().unwrap_or_default().to_owned();
    let technique = technique.clone();
    Some(Test { id, name, technique, verdict, steps: 0, comments: 0, files: Vec::new(), created_at })
}

async fn through(shared: &Shared, number: usize, test: &Test, at: usize) {
    let site = &shared.site;
    let path = |rest: &str| format!("/tests/{}/{rest}", test.id);
    for (step, name) in STEPS.iter().enumerate() {
        if !shared.goes_on() {
            return;
        }
        let (who, body) = match *name {
            "submit-blue" => (&site.blue, json!({})),
            "validate" => (&site.admin, json!({"result": test.verdict.0})),
            _ => (&site.red, json!({})),
        };
        let ask = match *name {
            "validate" => Ask::post(path(name), &body),
            _ => Ask::new("POST", path(name)),
        };
        if shared.confirmed("move", &who.client, ask, &[200]).await.is_none() {
            return;
        }
        shared.journal().tests[at].steps = step + 1;
        if *name != "start-execution" || !shared.goes_on() {
            continue;
        }
        let comment = json!({"text": format!("{} seen {number}", shared.mark)});
        let ask = Ask::post(path("comments"), &comment);
        if shared.confirmed("comment", &site.blue.client, ask, &[201]).await.is_some() {
            shared.journal().tests[at].comments += 1;
        }
        if number.is_multiple_of(2) && shared.goes_on() {
            file(shared, number, &path("evidence"), at).await;
        }
    }
}

/// Brings a file, and reads it again.
async fn file(shared: &Shared, number: usize, path: &str, at: usize) {
    let bytes = format!("{} {number} ", shared.mark).repeat(2_000).into_bytes();
    let ask = Ask::upload(path, "proof.txt", &bytes);
    // The same bytes again are a duplicate: then they are there.
    let Some(reply) = shared.confirmed("upload", &shared.site.red.client, ask, &[201, 409]).await else { return };
    shared.journal().tests[at].files.push(bytes.clone());
    let Some(link) = reply.json()["download_url"].as_str().map(str::to_owned) else { return };
    let since = Instant::now();
    let answer = shared.site.red.client.follow(&link).await;
    // The store itself answers here, in its own words.
    if let Ok(reply) = &answer
        && reply.status == 200
        && reply.body != bytes
    {
        shared.journal().wrong("a file has other bytes than were brought");
    }
    let good = answer.is_ok_and(|reply| reply.status == 200);
    let mut journal = shared.journal();
    let kind = journal.kinds.entry("download").or_default();
    kind.slowest = kind.slowest.max(since.elapsed());
    kind.good += u64::from(good);
    kind.refused += u64::from(!good);
    if !good && !shared.case.may_refuse("download") {
        journal.wrong("a file cannot be read");
    }
}

async fn sign_in(shared: Arc<Shared>) {
    let visitor = &shared.site.visitor;
    let nobody = Client { address: visitor.client.address, token: None };
    let body = json!({"username": visitor.username, "password": PASSWORD});
    let mut number = 0;
    while shared.goes_on() {
        // The audit trail has it, so that each sign-in is known there.
        let agent = format!("{} {number}", shared.mark);
        number += 1;
        let ask = Ask::post("/auth/login", &body).header("user-agent", agent.clone());
        if let Some(reply) = shared.once("login", &nobody, &ask, &[200]).await {
            shared.journal().logins.push(agent);
            if reply.json()["access_token"].as_str().is_none() {
                shared.journal().wrong("a sign-in gave no token");
            }
        }
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
}

async fn hand_in(shared: Arc<Shared>) {
    let mut number = 0;
    while shared.goes_on() {
        let lines: String = (number..number + LINES)
            .map(|n| {
                let line = json!({
                    "eventid": "cowrie.login.failed", "username": format!("u{n}"), "password": shared.mark,
                    "src_ip": shared.site.attacker, "session": format!("s{n}"), "sensor": "trap", "message": "failed",
                    "timestamp": format!("2026-03-01T10:00:00.{:06}Z", n % 1_000_000),
                });
                format!("{line}\n")
            })
            .collect();
        let ask = Ask::new("POST", "/ingest/cowrie").with("application/x-ndjson", lines);
        let since = Instant::now();
        // Lines know themselves: handed in again, they are the same ones.
        loop {
            if let Some(reply) = shared.once("ingest", &shared.site.admin.client, &ask, &[200]).await {
                let body = reply.json();
                let taken = body["accepted"].as_u64().unwrap_or(0) + body["duplicate"].as_u64().unwrap_or(0);
                shared.journal().lines += taken;
                if taken != LINES {
                    shared.journal().wrong(format!("lines are refused: {body}"));
                }
                break;
            }
            if since.elapsed() > PATIENCE {
                shared.journal().wrong("lines are not taken in");
                break;
            }
            tokio::time::sleep(AGAIN).await;
        }
        number += LINES;
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

async fn attack(shared: Arc<Shared>) {
    let Some(decoy) = shared.site.decoy else { return };
    let mut number = 0;
    while shared.goes_on() {
        let path = format!("/{}x{number}x", shared.mark);
        number += 1;
        let since = Instant::now();
        let answer = hit(decoy, &path).await;
        shared.was_hit(path, answer, since.elapsed());
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// A decoy answers a request.
pub async fn hit(decoy: SocketAddr, path: &str) -> Result<()> {
    let answer = tokio::time::timeout(Duration::from_secs(30), async {
        let mut stream = TcpStream::connect(decoy).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {decoy}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        anyhow::Ok(answer)
    });
    let answer = answer.await.context("nothing within 30 s")??;
    if !answer.starts_with(b"HTTP/1.") {
        bail!("it said {} bytes that are no answer", answer.len());
    }
    Ok(())
}

async fn probe(shared: Arc<Shared>, what: &'static str, ask: Ask) {
    while shared.goes_on() {
        shared.once(what, &shared.site.admin.client, &ask, &[200]).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// Listens to what red is told, and goes on where it broke off.
async fn listen(shared: Arc<Shared>) {
    let mut last = String::new();
    while !shared.stop_listening.load(Ordering::SeqCst) {
        let mut ask = Ask::get("/notifications/stream");
        if !last.is_empty() {
            ask = ask.header("last-event-id", last.clone());
        }
        let since = Instant::now();
        let answer = tokio::time::timeout(super::client::LIMIT, shared.site.red.client.head(&ask)).await;
        match answer {
            Ok(Ok(answer)) if answer.status() == 200 => {
                read(&shared, answer.into_body(), &mut last).await;
            }
            Ok(Ok(answer)) => {
                let (head, body) = answer.into_parts();
                let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
                let reply = Reply { status: head.status.as_u16(), headers: head.headers, body };
                shared.journal().judge("stream", Ok(reply), since.elapsed(), &[200]);
            }
            Ok(Err(error)) => {
                shared.journal().judge("stream", Err(error), since.elapsed(), &[200]);
            }
            Err(_) => shared.journal().wrong("the stream has no answer"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Events are blocks of lines with an empty line between.
async fn read(shared: &Shared, mut body: hyper::body::Incoming, last: &mut String) {
    let mut text = String::new();
    while !shared.stop_listening.load(Ordering::SeqCst) {
        let frame = match tokio::time::timeout(Duration::from_millis(200), body.frame()).await {
            Err(_) => continue,
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(_)) | None) => return,
        };
        shared.listens.store(true, Ordering::SeqCst);
        if let Ok(data) = frame.into_data() {
            text.push_str(&String::from_utf8_lossy(&data));
        }
        while let Some((block, rest)) = text.split_once("\n\n") {
            let (block, rest) = (block.to_owned(), rest.to_owned());
            text = rest;
            let field = |name: &str| {
                let line = block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
                line.map(|text| text.trim_start().to_owned())
            };
            if let Some(id) = field("id") {
                *last = id;
            }
            if field("event").as_deref() != Some("notification") {
                continue;
            }
            let data: serde_json::Value = serde_json::from_str(&field("data").unwrap_or_default()).unwrap_or_default();
            let mut journal = shared.journal();
            // What a fault before this one left behind is none of this one's.
            let ours = journal.tests.iter().any(|test| data["entity_id"] == test.id.as_str());
            if ours && let Some(id) = data["id"].as_str() {
                journal.streamed.push(id.to_owned());
            }
        }
    }
}
