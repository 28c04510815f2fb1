//! Two processes of every role at once: what only one may do is done by one, what all must know all know, and losing any
//! one of them in the middle of work loses nothing.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::{SecondsFormat, Utc};
use futures::future::{join_all, select_all};
use rand::{SeedableRng, rngs::StdRng};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use crate::{
    carriers::Carriers,
    chaos::{
        client::{self, Game, Person},
        compare,
        model::Role,
    },
    harness::{Api, Product, eventually, plain},
    notifications,
};

/// What a slow machine may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Techniques that no other scenario has tests of.
const TECHNIQUES: [&str; 5] = ["T1046", "T1016", "T1007", "T1124", "T1217"];
/// Tests that are made while processes are killed, besides their retests.
const TESTS: usize = 60;
const PEOPLE: [(Role, &str); 8] = [
    (Role::RedTech, "replica-red-1"),
    (Role::RedTech, "replica-red-2"),
    (Role::BlueTech, "replica-blue-1"),
    (Role::BlueTech, "replica-blue-2"),
    (Role::RedLead, "replica-red-lead"),
    (Role::BlueLead, "replica-blue-lead"),
    (Role::Admin, "replica-admin-1"),
    (Role::Admin, "replica-admin-2"),
];
/// Accepted requests between two kills.
const PACE: u64 = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_of_every_role() {
    let Some(mut product) = crate::harness::processes().await else { return };
    let began = Instant::now();
    product.set_replicas(true).await;
    println!("two of each are ready after {:.1} s", began.elapsed().as_secs_f64());
    scenario(&mut product).await;
    product.set_replicas(false).await;
}

/// One gateway and the other, with the same token or none.
struct Both {
    one: Api,
    other: Api,
}

impl Both {
    fn of(product: &Product, api: &Api) -> Both {
        let at = |name: &str| api.at(&product.address_of(name));
        Both { one: at("gateway"), other: at("gateway-2") }
    }

    fn each(&self) -> [&Api; 2] {
        [&self.one, &self.other]
    }
}

async fn scenario(product: &mut Product) {
    let admin = product.admin().await;
    let both = Both::of(product, &admin);
    spread(product, &both).await;
    one_leads(&both).await;
    revoked_everywhere(product, &both).await;
    counted_together(product).await;
    told_elsewhere(product, &both).await;
    sensors_and_decoys(product, &both).await;
    one_less_of_each(product, &admin).await;
    product.assert_alive();
}

/// Both processes of a role answer.
async fn spread(product: &Product, both: &Both) {
    for _ in 0..30 {
        for api in both.each() {
            api.get("/tests?limit=1").await.json(200);
        }
    }
    for name in ["testing", "testing-2"] {
        let metrics = both.one.get(&format!("{}/metrics", product.address_of(name))).await;
        let calls = metrics.text().lines().filter(|line| line.contains("ListTests")).any(|line| {
            line.rsplit(' ').next().and_then(|number| number.parse::<f64>().ok()).is_some_and(|number| number > 5.0)
        });
        assert!(calls, "{name} was not asked:\n{}", metrics.text());
    }
}

/// Whoever is asked, the same one leads the scheduler, and stays.
async fn one_leads(both: &Both) {
    let leader = |api: Api| async move {
        let status = api.get("/system/scheduler-status").await.json(200);
        status["leader"].as_str().map(str::to_owned).ok_or_else(|| status.to_string())
    };
    let first = eventually("somebody leads", PATIENCE, || leader(both.one.clone())).await;
    for _ in 0..10 {
        for api in both.each() {
            assert_eq!(leader(api.clone()).await.as_ref(), Ok(&first));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A token that ends at one gateway ends at the other.
async fn revoked_everywhere(product: &mut Product, both: &Both) {
    let user = product.user("viewer", "replica-viewer").await;
    let seen = Both::of(product, &user);
    for api in seen.each() {
        api.get("/tests?limit=1").await.json(200);
    }
    seen.one.act("/auth/logout").await.json(200);
    product.forget("replica-viewer");
    let since = Instant::now();
    for api in seen.each() {
        eventually("the token has ended", PATIENCE, || async {
            let answer = api.get("/tests?limit=1").await;
            if answer.status == 401 { Ok(()) } else { Err(answer.to_string()) }
        })
        .await;
    }
    println!("a token that was signed out is refused everywhere after {:.1} s", since.elapsed().as_secs_f64());
    // A disabled user too, whatever it was told before.
    let user = product.user("viewer", "replica-viewer").await;
    let seen = Both::of(product, &user);
    let id = seen.one.get("/auth/me").await.json(200)["id"].as_str().unwrap().to_owned();
    seen.other.get("/tests?limit=1").await.json(200);
    let gone = crate::harness::send(both.other.request(Method::DELETE, &format!("/users/{id}"))).await;
    assert_eq!(gone.status, 204, "{gone}");
    for api in seen.each() {
        eventually("the user's token has ended", PATIENCE, || async {
            let answer = api.get("/tests?limit=1").await;
            if answer.status == 401 { Ok(()) } else { Err(answer.to_string()) }
        })
        .await;
    }
    product.forget("replica-viewer");
}

/// Failed sign-ins count whichever gateway, and whichever identity, they came to.
async fn counted_together(product: &Product) {
    let both = Both::of(product, &product.anonymous());
    let wrong = json!({"username": "replica-nobody", "password": "not-the-password"});
    for number in 0..10 {
        both.each()[number % 2].post("/auth/login", &wrong).await.error(401, "INVALID_CREDENTIALS");
    }
    for api in both.each() {
        api.post("/auth/login", &wrong).await.error(429, "RATE_LIMITED");
    }
}

/// Who listens at one gateway hears what is done through the other.
async fn told_elsewhere(product: &mut Product, admin: &Both) {
    let red = product.user("red_tech", "replica-listener").await;
    let red = Both::of(product, &red);
    let mut stream = notifications::open(red.other.request(Method::GET, "/notifications/stream")).await;
    let mut here = notifications::open(red.one.request(Method::GET, "/notifications/stream")).await;
    let technique = admin.one.get("/techniques/T1190").await.json(200)["id"].clone();
    let body = json!({"technique_id": technique, "name": "told elsewhere"});
    let test = red.one.post("/tests", &body).await.json(201)["id"].as_str().unwrap().to_owned();
    red.one.act(&format!("/tests/{test}/start-execution")).await.json(200);
    for stream in [&mut stream, &mut here] {
        let told = stream.named("notification").await;
        assert_eq!((&told.data["kind"], &told.data["entity_id"]), (&json!("red_executing"), &json!(test)));
    }
    // What was changed through one is read through the other at once.
    let tag = red.other.get(&format!("/tests/{test}")).await.header("etag");
    assert_eq!(red.one.get(&format!("/tests/{test}")).await.header("etag"), tag);
    // A ticket of one is good at the other, once.
    let ticket = red.one.act("/auth/stream-ticket").await.json(200)["ticket"].as_str().unwrap().to_owned();
    let path = format!("/notifications/stream?ticket={ticket}");
    let nobody = Both::of(product, &product.anonymous());
    drop(notifications::open(nobody.other.request(Method::GET, &path)).await);
    nobody.one.get(&path).await.error(401, "UNAUTHENTICATED");
}

/// A sensor is attached to one process of deception; a deployment through either, and what its decoys see, is the same.
async fn sensors_and_decoys(product: &mut Product, both: &Both) {
    product.ensure_sensor().await;
    for (number, api) in both.each().into_iter().enumerate() {
        let name = format!("replica-{number}-{:06x}", rand::random::<u32>() >> 8);
        let [a, b] = rand::random::<[u8; 2]>().map(|part| part.clamp(2, 250));
        let ini = format!("[{name}]\nip = 127.66.{a}.{b}\nservices = http\n");
        api.post("/deckies/deploy", &json!({"ini_content": ini})).await.json(200);
        let decky = both.each()[1 - number].get(&format!("/deckies/{name}")).await.json(200);
        let address = decky["ports"]["http"].as_str().unwrap_or_else(|| panic!("{decky}")).to_owned();
        let request = plain().build().unwrap();
        request.get(format!("http://{address}/{name}")).send().await.unwrap();
        for api in both.each() {
            eventually("the request is logged once", PATIENCE, || async {
                let page = api.get(&format!("/logs?search=decky:{name}%20event:request")).await.json(200);
                if page["total"] == 1 { Ok(()) } else { Err(page.to_string()) }
            })
            .await;
        }
        let gone = crate::harness::send(api.request(Method::DELETE, &format!("/deckies/{name}"))).await;
        assert_eq!(gone.status, 204, "{gone}");
    }
}

/// One of each role is killed while people work; they go on with the others, and all is as it was accepted.
async fn one_less_of_each(product: &mut Product, admin: &Api) {
    let named = std::env::var("AEGIS_E2E_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = named.unwrap_or_else(rand::random);
    println!("AEGIS_E2E_SEED={seed} asks for the same again");
    let gateways = ["gateway", "gateway-2"].map(|name| product.address_of(name).replace("http://", ""));
    let base = balancer(gateways.map(|address| address.parse().unwrap())).await;
    // They are no part of the game, whose tests and records are all counted.
    let (red, brings) = (product.user("red_tech", "replica-carrier").await.at(&base), admin.at(&base));
    let elsewhere = admin.get("/techniques/T1190").await.json(200)["id"].as_str().unwrap().to_owned();
    let carriers = Carriers::begin(&red, &brings, &elsewhere).await;
    let since = Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true);
    let mut people = Vec::new();
    for (role, username) in PEOPLE {
        let api = product.user(role.name(), username).await;
        let id = api.get("/auth/me").await.json(200)["id"].as_str().unwrap().to_owned();
        people.push(Person { username: username.to_owned(), id, role, api: api.at(&base) });
    }
    let mut techniques = Vec::new();
    for mitre_id in TECHNIQUES {
        techniques
            .push(admin.get(&format!("/techniques/{mitre_id}")).await.json(200)["id"].as_str().unwrap().to_owned());
    }
    let game = Arc::new(Game::new(people, techniques, TESTS));
    game.limit.store(u64::MAX, Ordering::SeqCst);
    let players: Vec<_> = (0..game.people.len())
        .map(|me| {
            let random = StdRng::seed_from_u64(seed.wrapping_add(1 + me as u64));
            tokio::spawn(client::play(Arc::clone(&game), me, random))
        })
        .collect();
    let players = select_all(players);
    tokio::pin!(players);
    tokio::select! {
        () = kills(product, &game, &carriers) => {}
        (ended, ..) = &mut players => panic!("a client gave up: {ended:?}"),
    }
    game.stop.store(true, Ordering::SeqCst);
    let (first, _, rest) = players.await;
    for ended in [first].into_iter().chain(join_all(rest).await) {
        ended.expect("a client's requests were answered as they should");
    }
    println!(
        "{} accepted, {} refused, {} sent again",
        game.accepted.load(Ordering::SeqCst),
        game.refused.load(Ordering::SeqCst),
        game.repeated.load(Ordering::SeqCst),
    );
    carriers.all_is_there(&red, &brings).await;
    compare::all(admin, &game, &TECHNIQUES, &since).await;
    for person in &game.people {
        let gone = crate::harness::send(admin.request(Method::DELETE, &format!("/users/{}", person.id))).await;
        assert_eq!(gone.status, 204, "{gone}");
        product.forget(&person.username);
    }
}

/// Each role loses one process, and work goes on before it is back; the first of some, the second of others.
async fn kills(product: &mut Product, game: &Game, carriers: &Carriers) {
    for victims in
        [["testing", "catalog-2"], ["identity", "gateway-2"], ["analytics", "evidence-2"], ["deception", "intel-2"]]
    {
        goes_on(game, PACE).await;
        victims.into_iter().for_each(|victim| product.kill9(victim));
        let since = Instant::now();
        tokio::join!(goes_on(game, PACE), carriers.go_on());
        println!("without {victims:?} {PACE} more were accepted within {:.1} s", since.elapsed().as_secs_f64());
        product.ensure_running().await;
    }
    goes_on(game, PACE).await;
    // Whoever led, somebody leads.
    let base = product.address_of("gateway");
    let admin = product.admin().await.at(&base);
    eventually("somebody leads", PATIENCE, || async {
        let status: Value = admin.get("/system/scheduler-status").await.json(200);
        if status["running"] == true { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
}

async fn goes_on(game: &Game, more: u64) {
    let from = game.accepted.load(Ordering::SeqCst);
    eventually("people go on", PATIENCE, || async {
        let now = game.accepted.load(Ordering::SeqCst);
        if now >= from + more { Ok(()) } else { Err(format!("{} of {more}", now - from)) }
    })
    .await;
}

/// In front of the gateways, as a load balancer is: each connection goes to the next one that takes it.
async fn balancer(gateways: [SocketAddr; 2]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let next = Arc::new(AtomicUsize::new(0));
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let first = next.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                for turn in 0..2 {
                    if let Ok(mut gateway) = TcpStream::connect(gateways[(first + turn) % 2]).await {
                        let _ = (client.set_nodelay(true), gateway.set_nodelay(true));
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut gateway).await;
                        return;
                    }
                }
            });
        }
    });
    base
}
