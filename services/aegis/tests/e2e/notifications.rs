//! Notifications as a client sees them: the list, the preferences, and the live stream.

use std::time::Duration;

use reqwest::{Method, header};
use serde_json::{Value, json};

use crate::harness::{Api, PASSWORD, Product, send};

/// What a slow machine may take; what is measured is measured elsewhere.
const PATIENCE: Duration = Duration::from_secs(30);
const STREAM: &str = "/notifications/stream";

pub async fn scenario(product: &mut Product) {
    let admin = product.admin().await;
    let author = person(product, &admin, "red_tech", "note-author").await;
    let stranger = person(product, &admin, "viewer", "note-stranger").await;

    let mut stream = open(author.request(Method::GET, STREAM)).await;
    let mut others = open(stranger.request(Method::GET, STREAM)).await;
    assert_eq!(stream.next().await.name, "unread_count");
    assert_eq!(others.next().await.data, json!({"unread_count": 0}));

    let test = start(&admin, &author, "Told at once").await;
    let told = stream.named("notification").await;
    assert_eq!((&told.data["kind"], &told.data["entity_id"]), (&json!("red_executing"), &json!(test)));
    assert_eq!(stream.named("unread_count").await.data["unread_count"], 1);
    let listed = author.get("/notifications?limit=1").await;
    assert_eq!((listed.total(), &listed.json(200)[0]), (1, &told.data));

    one_of_them(&author, &stranger, &told.data).await;
    assert_eq!(stream.named("unread_count").await.data["unread_count"], 0);

    // What came while nobody listened comes when one is back.
    drop(stream);
    let second = start(&admin, &author, "Told later").await;
    until_unread(&author, 1).await;
    let resumed = author.request(Method::GET, STREAM).header("Last-Event-ID", &told.id);
    let mut stream = open(resumed).await;
    let missed = stream.named("notification").await;
    assert_eq!(missed.data["entity_id"], json!(second));
    let by_query = author.request(Method::GET, &format!("{STREAM}?lastEventId={}", missed.id));
    let mut current = open(by_query).await;
    assert_eq!(current.next().await.data, json!({"unread_count": 1}));

    let witness = person(product, &admin, "red_tech", "note-witness").await;
    preferences(&admin, &author, &witness).await;
    refusals(product, &author).await;
    tickets(&author).await;
    limit(&witness).await;

    // Signing out ends the streams of the token, and no others.
    author.act("/auth/logout").await.json(200);
    for mut stream in [stream, current] {
        let end = stream.named("end").await;
        assert_eq!(end.data["code"], "UNAUTHENTICATED");
        assert!(stream.ended().await);
    }
    product.forget("note-author");
    let author = product.login("note-author", PASSWORD).await;
    start(&admin, &author, "Told to one").await;
    // The stranger's stream is still open, and nothing of all this was for it.
    until_unread(&author, 2).await;
    stranger.act("/auth/logout").await.json(200);
    assert_eq!(others.next().await.name, "end");
    product.forget("note-stranger");
    product.assert_alive();
}

/// Someone with a token that no other scenario uses.
async fn person(product: &mut Product, admin: &Api, role: &str, username: &str) -> Api {
    let body = json!({"username": username, "password": PASSWORD, "role": role});
    admin.post("/users", &body).await.json(201);
    product.login(username, PASSWORD).await
}

/// A test of the author whose execution has begun.
async fn start(admin: &Api, author: &Api, name: &str) -> String {
    let technique = admin.get("/techniques/T1190").await.json(200)["id"].clone();
    let body = json!({"technique_id": technique, "name": name});
    let test = author.post("/tests", &body).await.json(201)["id"].as_str().unwrap().to_owned();
    author.act(&format!("/tests/{test}/start-execution")).await.json(200);
    test
}

async fn one_of_them(owner: &Api, stranger: &Api, notification: &Value) {
    let path = format!("/notifications/{}", notification["id"].as_str().unwrap());
    let read = owner.get(&path).await;
    assert_eq!(&read.json(200), notification);
    let tag = read.header("etag");
    stranger.get(&path).await.error(404, "NOT_FOUND");
    stranger.patch(&format!("{path}/read"), &json!({})).await.error(404, "NOT_FOUND");
    let mark = |tag: &str| send(owner.request(Method::PATCH, &format!("{path}/read")).header(header::IF_MATCH, tag));
    assert_eq!(mark(&tag).await.json(200)["is_read"], true);
    mark(&tag).await.error(412, "PRECONDITION_FAILED");
}

async fn preferences(admin: &Api, author: &Api, witness: &Api) {
    let path = "/notifications/preferences";
    let read = author.get(path).await;
    assert_eq!(read.json(200)["kinds"]["red_executing"], true);
    let changed = author.patch(path, &json!({"kinds": {"red_executing": false}})).await.json(200);
    assert_eq!((&changed["mute_own_actions"], &changed["kinds"]["red_executing"]), (&json!(false), &json!(false)));
    let refused = author.patch(path, &json!({"kinds": {"gossip": false}})).await;
    assert_eq!(refused.error(400, "VALIDATION_ERROR")["errors"][0]["field"], "kinds.gossip");
    let stale = author.request(Method::PATCH, path).header(header::IF_MATCH, read.header("etag"));
    send(stale.json(&json!({"mute_own_actions": true}))).await.error(412, "PRECONDITION_FAILED");

    let before = author.total("/notifications").await;
    start(admin, author, "Told to nobody").await;
    // What is wanted counts when the event arrives. Events arrive in their order: those before this one are through.
    start(admin, witness, "Told to the witness").await;
    until_unread(witness, 1).await;
    let changed = author.patch(path, &json!({"kinds": null, "mute_own_actions": true})).await.json(200);
    assert_eq!((&changed["mute_own_actions"], &changed["kinds"]["red_executing"]), (&json!(true), &json!(true)));
    start(admin, author, "Told to nobody either").await;
    start(admin, witness, "Told to the witness again").await;
    until_unread(witness, 2).await;
    author.patch(path, &json!({"mute_own_actions": null})).await.json(200);
    let last = start(admin, author, "Told again").await;
    until_unread(author, 2).await;
    assert_eq!(author.total("/notifications").await, before + 1);
    let newest = author.get("/notifications?limit=1").await.json(200)[0].clone();
    assert_eq!(newest["entity_id"], json!(last));
    let path = format!("/notifications/{}/read", newest["id"].as_str().unwrap());
    author.patch(&path, &json!({})).await.json(200);
}

async fn refusals(product: &Product, author: &Api) {
    let nobody = product.anonymous();
    nobody.get(STREAM).await.error(401, "UNAUTHENTICATED");
    nobody.get(&format!("{STREAM}?token=x.y.z")).await.error(401, "UNAUTHENTICATED");
    author.get(&format!("{STREAM}?lastEventId=x")).await.error(400, "VALIDATION_ERROR");

    let admin = author.with_token(&token(&nobody, "admin", &product.admin_password).await);
    let body = json!({
        "username": "note-flagged", "password": PASSWORD, "role": "viewer", "must_change_password": true
    });
    admin.post("/users", &body).await.json(201);
    let flagged = author.with_token(&token(&nobody, "note-flagged", PASSWORD).await);
    flagged.get(STREAM).await.error(403, "PASSWORD_CHANGE_REQUIRED");
}

async fn token(nobody: &Api, username: &str, password: &str) -> String {
    let answer = nobody.post("/auth/login", &json!({"username": username, "password": password})).await.json(200);
    answer["access_token"].as_str().unwrap().to_owned()
}

/// A ticket opens one stream. So does the token itself, in the query.
async fn tickets(author: &Api) {
    let nobody = Api::new(&author.base, None);
    let ticket = author.act("/auth/stream-ticket").await.json(200)["ticket"].as_str().unwrap().to_owned();
    let path = format!("{STREAM}?ticket={ticket}");
    let mut stream = open(nobody.request(Method::GET, &path)).await;
    assert_eq!(stream.next().await.name, "unread_count");
    nobody.get(&path).await.error(401, "UNAUTHENTICATED");
    let token = author.token.clone().unwrap();
    let mut stream = open(nobody.request(Method::GET, &format!("{STREAM}?token={token}"))).await;
    assert_eq!(stream.next().await.name, "unread_count");
}

/// A user has ten streams; what a client leaves is free again, in all processes that it went through.
async fn limit(api: &Api) {
    let mut streams = Vec::new();
    for _ in 0..10 {
        streams.push(open(api.request(Method::GET, STREAM)).await);
    }
    let refused = api.get(STREAM).await;
    refused.error(429, "RATE_LIMITED");
    assert!(!refused.header("retry-after").is_empty());
    streams.clear();
    let mut held = Vec::new();
    for _ in 0..10 {
        let again = crate::harness::eventually("a stream is free again", PATIENCE, || async {
            let answer = api.request(Method::GET, STREAM).send().await.unwrap();
            if answer.status() == 200 { Ok(answer) } else { Err(answer.status().to_string()) }
        });
        held.push(again.await);
    }
}

async fn until_unread(api: &Api, count: i64) {
    crate::harness::eventually(&format!("{count} unread"), PATIENCE, || async {
        let answer = api.get("/notifications/unread-count").await.json(200);
        if answer["unread_count"] == count { Ok(()) } else { Err(answer.to_string()) }
    })
    .await;
}

/// One event of a stream.
#[derive(Debug)]
pub struct Told {
    pub id: String,
    pub name: String,
    pub data: Value,
}

/// An open stream.
pub struct Stream {
    answer: reqwest::Response,
    text: String,
}

pub async fn open(request: reqwest::RequestBuilder) -> Stream {
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "text/event-stream");
    assert_eq!(answer.headers()[header::CACHE_CONTROL], "no-store");
    assert_eq!(answer.headers()["x-accel-buffering"], "no");
    let mut stream = Stream { answer, text: String::new() };
    assert_eq!(stream.block().await.unwrap(), "retry: 2000");
    stream
}

impl Stream {
    /// What comes before the next empty line; nothing at the end.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(block);
            }
            let chunk = tokio::time::timeout(PATIENCE, self.answer.chunk()).await.expect("an event").unwrap()?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The next event that is no comment.
    pub async fn next(&mut self) -> Told {
        loop {
            let block = self.block().await.expect("the stream goes on");
            let field = |name: &str| {
                let line = block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
                line.map(|text| text.trim_start().to_owned())
            };
            if let Some(name) = field("event") {
                let data = serde_json::from_str(&field("data").unwrap_or_default()).unwrap();
                return Told { id: field("id").unwrap_or_default(), name, data };
            }
            assert!(block.starts_with(':'), "{block}");
        }
    }

    /// The next event of this name.
    pub async fn named(&mut self, name: &str) -> Told {
        loop {
            let told = self.next().await;
            if told.name == name {
                return told;
            }
            assert_ne!(told.name, "end", "{told:?}");
        }
    }

    async fn ended(&mut self) -> bool {
        self.block().await.is_none()
    }
}
