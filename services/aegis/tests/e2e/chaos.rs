//! Sixteen people make moves at random while processes and the broker are killed and started again. In the end states,
//! timelines, notifications, the audit trail and the figures are those of a model that is told what was accepted.

pub mod client;
pub mod compare;
pub mod model;

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use chrono::{SecondsFormat, Utc};
use futures::future::{join_all, select_all};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::harness::{Mode, PASSWORD, Product, Stores};
use client::{Game, Person};
use model::Role;

/// Techniques that no other scenario has tests of; none is of a tactic whose figures one counts.
const TECHNIQUES: [&str; 12] =
    ["T1012", "T1018", "T1027", "T1033", "T1036", "T1040", "T1041", "T1049", "T1057", "T1068", "T1070", "T1485"];
/// Tests that are made at the beginning, besides their retests.
const TESTS: usize = 150;
/// Sixteen.
const PEOPLE: [(Role, usize); 5] =
    [(Role::RedTech, 4), (Role::BlueTech, 3), (Role::RedLead, 3), (Role::BlueLead, 3), (Role::Admin, 3)];
/// How long all of it may take that a busy machine decides.
const PATIENCE: Duration = Duration::from_secs(300);

/// What is killed together.
const BROKER: &str = "broker";

pub async fn scenario(product: &mut Product) {
    let named = std::env::var("AEGIS_E2E_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = named.unwrap_or_else(rand::random);
    println!("{:?}: AEGIS_E2E_SEED={seed} asks for the same again", product.mode);
    let since = Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true);
    let admin = product.admin().await;
    let people = people(product).await;
    let mut techniques = Vec::new();
    for mitre_id in TECHNIQUES {
        let technique = admin.get(&format!("/techniques/{mitre_id}")).await.json(200);
        techniques.push(technique["id"].as_str().unwrap().to_owned());
    }

    let began = Instant::now();
    let game = Arc::new(Game::new(people, techniques, TESTS));
    let players: Vec<_> = (0..game.people.len())
        .map(|me| {
            let random = StdRng::seed_from_u64(seed.wrapping_add(1 + me as u64));
            tokio::spawn(client::play(Arc::clone(&game), me, random))
        })
        .collect();
    let players = select_all(players);
    tokio::pin!(players);
    let kills = tokio::select! {
        kills = chaos(product, &game, StdRng::seed_from_u64(seed)) => kills,
        (ended, ..) = &mut players => panic!("a client gave up: {ended:?}"),
    };
    game.stop.store(true, Ordering::SeqCst);
    let (first, _, rest) = players.await;
    for ended in [first].into_iter().chain(join_all(rest).await) {
        ended.expect("a client's requests were answered as they should");
    }
    println!(
        "{:?}: {} accepted, {} refused, {} sent again; {kills} kills in {:.1} s",
        product.mode,
        game.accepted.load(Ordering::SeqCst),
        game.refused.load(Ordering::SeqCst),
        game.repeated.load(Ordering::SeqCst),
        began.elapsed().as_secs_f64(),
    );
    compare::all(&admin, &game, &TECHNIQUES, &since).await;
    println!("{:?}: equal to the model after {:.1} s", product.mode, began.elapsed().as_secs_f64());

    // Whoever is told of other scenarios' tests is one less.
    for person in &game.people {
        let gone = crate::harness::send(admin.request(reqwest::Method::DELETE, &format!("/users/{}", person.id))).await;
        assert_eq!(gone.status, 204, "{gone}");
        product.forget(&person.username);
    }
    product.assert_alive();
}

async fn people(product: &mut Product) -> Vec<Person> {
    let mut people = Vec::new();
    for (role, count) in PEOPLE {
        for number in 1..=count {
            let username = format!("chaos-{}-{number}", role.name().replace('_', "-"));
            let api = product.user(role.name(), &username).await;
            let id = api.get("/auth/me").await.json(200)["id"].as_str().unwrap().to_owned();
            people.push(Person { username, id, role, api });
        }
    }
    assert!(people.len() == 16 && !PASSWORD.is_empty());
    people
}

/// Kills and starts again until enough was accepted; gives how often it killed.
async fn chaos(product: &mut Product, game: &Game, mut random: StdRng) -> usize {
    let (goal, mut kills) = match product.mode {
        Mode::Embedded => (800, vec![vec!["aegis"]; 4]),
        Mode::Processes => {
            let one = ["testing", "catalog", "identity", "analytics", "evidence", "gateway"];
            let two = [["testing", "analytics"], ["catalog", "evidence"], ["identity", "gateway"]];
            let mut kills: Vec<Vec<&str>> = one.map(|victim| vec![victim]).into();
            kills.extend(two.map(Vec::from));
            if Stores::broker().is_some() {
                // With it away, changes go on; and a process that is killed then starts without it.
                kills.push(vec![BROKER]);
                kills.push(vec![BROKER, "testing"]);
                kills.push(vec![BROKER, "catalog", "identity", "gateway"]);
            } else {
                println!("nothing names the broker's process: it is not killed");
            }
            (2_000, kills)
        }
    };
    for last in (1..kills.len()).rev() {
        kills.swap(last, random.random_range(0..=last));
    }
    let since = Instant::now();
    let mut killed = 0;
    // Spread over the moves. How long a start takes is the machine's matter: who is too far ahead waits for the next.
    let after = |kills_made: usize| goal * kills_made as u64 / (kills.len() as u64 + 1);
    for (number, victims) in kills.iter().enumerate() {
        let from = after(number);
        game.limit.store(after(number + 2), Ordering::SeqCst);
        while game.accepted.load(Ordering::SeqCst) < from {
            assert!(since.elapsed() < PATIENCE, "the clients do not go on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..300))).await;
        for victim in victims {
            match *victim {
                BROKER => Stores::kill_broker(),
                name => product.kill9(name),
            }
            killed += 1;
            tokio::time::sleep(Duration::from_millis(random.random_range(0..50))).await;
        }
        // The clients meet it dead.
        tokio::time::sleep(Duration::from_millis(random.random_range(0..400))).await;
        product.ensure_running().await;
    }
    game.limit.store(goal, Ordering::SeqCst);
    while game.accepted.load(Ordering::SeqCst) < goal {
        assert!(since.elapsed() < PATIENCE, "the clients do not go on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    killed
}
