//! What tags events besides our own rules: Sigma rules of the catalogue, and what several events show together.

use std::{convert::Infallible, time::Duration};

use aegis_auth::Background;
use aegis_events::{Event as _, Handler};
use aegis_proto::{catalog::v1::knowledge_service_client::KnowledgeServiceClient, events::v1::KnowledgeChanged};
use chrono::TimeDelta;
use tokio::sync::Notify;
use tonic::body::Body;
use uuid::Uuid;

use super::{
    attackers::{Scene, event},
    *,
};
use crate::{
    app::{follow::Follower, logs::Filter, observations::TaggingRule, sigma::Catalogue},
    domain::{event::Raw, sigma::Text},
    events::Events,
    store::{
        self,
        observations::Row as Observation,
        sigma::{Row, State},
    },
};

const IP: &str = "203.0.113.9";

/// A rule that tags the command `key` with a technique.
fn rule(key: &str, version: i64, technique: &str) -> Row {
    let content = format!(
        "title: Looks for {key}\ndescription: Nobody needs {key}.\ntags: [attack.{technique}]\n\
         logsource:\n  category: process_creation\n  product: linux\n\
         detection:\n  s:\n    CommandLine|contains: {key}\n  condition: s\n"
    );
    let name = format!("Looks for {key}");
    let text = Text { key: format!("custom:{key}"), name, author: "Ana".into(), licence: "DRL 1.1".into(), content };
    Row { id: Uuid::from_u128(7), version, text }
}

/// What the catalogue says from now on.
async fn say(app: &App, rows: &[Row]) -> bool {
    let wanted = store::sigma::state(&app.db).await.unwrap().wanted;
    let mut tx = app.db.begin().await.unwrap();
    let changed = store::sigma::replace(&mut tx, wanted, rows).await.unwrap();
    tx.commit().await.unwrap();
    app.renew_sigma().await.unwrap();
    changed
}

fn command(at: i64, text: &str) -> (i64, Raw) {
    event(IP, at, "web-01", "ssh", "command", &[("command", text), ("cwd", "/root")])
}

/// What the attacker showed, by technique.
async fn shown(app: &App) -> Vec<Observation> {
    let mut rows = Vec::new();
    for observed in store::observations::all(&app.db).await.unwrap() {
        rows.extend(store::observations::of_technique(&app.db, &observed.technique, 100, 0).await.unwrap().0);
    }
    rows
}

async fn of(app: &App, technique: &str) -> Option<(i64, Vec<String>)> {
    let found = shown(app).await.into_iter().find(|row| row.technique == technique)?;
    Some((found.count, found.rules.0.into_iter().collect()))
}

fn listed(app: &App, id: &str) -> Option<TaggingRule> {
    app.list_tagging_rules(&admin()).unwrap().into_iter().find(|rule| rule.id == id)
}

#[tokio::test]
async fn sigma_rules_tag_events_and_are_named_as_the_reason() {
    for test in stores().await {
        let mut scene = Scene::new(&test.db);
        let app = Arc::clone(&scene.app);
        scene.tell(vec![command(0, "frobnicate before")]).await;
        let broken = Row {
            text: Text { key: "custom:broken".into(), content: "title: [".into(), ..Text::default() },
            ..rule("broken", 1, "t1001")
        };
        assert!(say(&app, &[broken, rule("frobnicate", 1, "t1480.001")]).await);
        scene.tell(vec![command(1, "cd /; frobnicate --all"), command(2, "true")]).await;

        let page = app.list_logs(&admin(), &Filter::default(), 50, "", 0).await.unwrap();
        let tagged: Vec<_> = page.logs.iter().map(|log| (log.id, log.techniques.contains("T1480.001"))).collect();
        assert_eq!(tagged, [(3, false), (2, true), (1, false)], "{}", test.name);
        let (count, rules) = of(&app, "T1480.001").await.unwrap();
        assert_eq!((count, rules), (1, vec!["custom:frobnicate".to_owned()]), "{}", test.name);
        let rule_shown = listed(&app, "custom:frobnicate").unwrap();
        assert_eq!((rule_shown.source, rule_shown.author.as_str()), ("sigma", "Ana"));
        assert_eq!((rule_shown.reason.as_str(), rule_shown.problem.as_str()), ("Nobody needs frobnicate.", ""));
        assert!(listed(&app, "custom:broken").unwrap().problem.contains("YAML"));
        assert_eq!(listed(&app, "password-sprayed").unwrap().techniques, ["T1110.003"]);

        // Another process, or this one after a restart, has them without asking anybody.
        let (other, _folder) = app_with(&test.db, Config::default());
        other.renew_sigma().await.unwrap();
        assert!(listed(&other, "custom:frobnicate").is_some(), "{}", test.name);

        // A new version is a change, and one that is gone; the same again is none.
        assert!(say(&app, &[rule("frobnicate", 2, "t1490")]).await, "{}", test.name);
        assert!(!say(&app, &[rule("frobnicate", 2, "t1490")]).await, "{}", test.name);
        other.renew_sigma().await.unwrap();
        assert_eq!(listed(&other, "custom:frobnicate").unwrap().techniques, ["T1490"], "{}", test.name);
        assert!(say(&app, &[]).await, "{}", test.name);
        scene.tell(vec![command(3, "frobnicate after")]).await;
        assert_eq!((of(&app, "T1490").await, of(&app, "T1480.001").await.unwrap().0), (None, 1), "{}", test.name);
        test.close().await;
    }
}

#[tokio::test]
async fn a_change_of_rules_is_asked_for_and_what_was_asked_before_it_is_not_the_last_word() {
    for test in stores().await {
        let (app, _folder) = app(&test.db);
        let told = async |kinds: &[&str]| {
            let changed = KnowledgeChanged { kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect() };
            let envelope = Envelope {
                r#type: KnowledgeChanged::KIND.into(),
                data: changed.encode_to_vec(),
                ..Envelope::default()
            };
            let mut tx = test.db.begin().await.unwrap();
            Events(Arc::clone(&app)).handle(&mut tx, &envelope).await.unwrap();
            tx.commit().await.unwrap();
        };
        let before = store::sigma::state(&test.db).await.unwrap();
        assert_eq!(before, State { wanted: 1, taken: 0, generation: 0 }, "{}", test.name);
        told(&["control", "defence"]).await;
        assert_eq!(store::sigma::state(&test.db).await.unwrap(), before, "{}", test.name);
        told(&["control", "detection_rule"]).await;
        assert_eq!(store::sigma::state(&test.db).await.unwrap().wanted, 2, "{}", test.name);
        assert!(say(&app, &[rule("frobnicate", 1, "t1490")]).await);
        // Somebody asked before the change, and comes later.
        let mut tx = test.db.begin().await.unwrap();
        assert!(!store::sigma::replace(&mut tx, 1, &[]).await.unwrap(), "{}", test.name);
        tx.commit().await.unwrap();
        let after = store::sigma::state(&test.db).await.unwrap();
        assert_eq!(after, State { wanted: 2, taken: 2, generation: 1 }, "{}", test.name);
        app.renew_sigma().await.unwrap();
        assert!(listed(&app, "custom:frobnicate").is_some(), "{}", test.name);
        test.close().await;
    }
}

fn login(at: i64, decky: &str, kind: &str, user: &str, password: &str) -> (i64, Raw) {
    event(IP, at, decky, "ssh", kind, &[("username", user), ("password", password), ("method", "password")])
}

#[tokio::test]
async fn what_several_events_show_counts_once_whoever_follows() {
    for test in stores().await {
        let mut scene = Scene::new(&test.db);
        for n in 0..4 {
            scene.tell(vec![login(n, "web-01", "auth_fail", &format!("user{n}"), "Winter2026!")]).await;
        }
        // Another process goes on, with nothing in mind.
        store::follow::end_lease(&test.db).await.unwrap();
        scene.follower = Follower::new();
        let more = (4..20).map(|n| login(n, "web-01", "auth_fail", &format!("user{n}"), "Winter2026!"));
        scene.tell(more.collect()).await;
        let app = Arc::clone(&scene.app);
        let sprayed = Some((1, vec!["password-sprayed".to_owned()]));
        assert_eq!(of(&app, "T1110.003").await, sprayed, "{}", test.name);
        assert_eq!(of(&app, "T1110.004").await, None, "{}", test.name);
        let (procedure, _) = app.observed_procedure(&admin(), "T1110.003").await.unwrap();
        assert_eq!(procedure, "ssh: try the same password for 6 user names or more\n", "{}", test.name);

        scene.tell(vec![login(30, "web-01", "auth_success", "root", "toor")]).await;
        scene.tell(vec![login(40, "db-01", "auth_success", "root", "toor")]).await;
        let moved = of(&app, "T1021.004").await.unwrap();
        assert!(moved.1.contains(&"credential-reused-by-ssh".to_owned()), "{moved:?} on {}", test.name);
        assert!(of(&app, "T1078").await.unwrap().1.contains(&"credential-reused".to_owned()), "{}", test.name);

        // Derived anew from the same logs it is the same.
        let by_technique = async || -> Vec<_> {
            let rows = shown(&app).await.into_iter();
            rows.map(|row| (row.technique, row.count, row.rules.0)).collect()
        };
        let stepwise = by_technique().await;
        store::follow::rebuild(&test.db).await.unwrap();
        store::follow::end_lease(&test.db).await.unwrap();
        scene.follower = Follower::new();
        scene.follow().await;
        assert_eq!(by_technique().await, stepwise, "{}", test.name);
        let profile = store::attackers::by_ips(&test.db, &[IP.to_owned()]).await.unwrap().remove(0);
        assert!(profile.shown.techniques.iter().any(|technique| technique == "T1110.003"), "{}", test.name);

        // Of those who are not seen any more nothing is remembered.
        assert_eq!(store::tracks::of_attackers(&test.db, &[profile.id]).await.unwrap().len(), 1, "{}", test.name);
        let mut tx = test.db.begin().await.unwrap();
        store::tracks::forget(&mut tx, scene.start.timestamp_micros() + 100_000_000).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(store::tracks::of_attackers(&test.db, &[profile.id]).await.unwrap(), [], "{}", test.name);
        test.close().await;
    }
}

#[tokio::test]
async fn what_an_event_shows_by_itself_and_with_others_counts_once() {
    for test in stores().await {
        let mut scene = Scene::new(&test.db);
        let touch = |(n, service): (i64, &str)| event(IP, n, "web-01", service, "connect", &[]);
        scene.tell((0..).zip(["ftp", "http", "redis", "telnet"]).map(touch).collect()).await;
        // A scan of its own, and the fifth service.
        scene.tell(vec![command(5, "nmap -sn 192.0.2.0/24")]).await;
        let app = Arc::clone(&scene.app);
        let (count, rules) = of(&app, "T1046").await.unwrap();
        assert_eq!((count, rules), (1, vec!["scan-from-inside".into(), "services-swept".into()]), "{}", test.name);
        let (_, observed) = app.observed_procedure(&admin(), "T1046").await.unwrap();
        assert_eq!(observed.map(|observed| (observed.count, observed.attackers)), Some((1, 1)), "{}", test.name);
        test.close().await;
    }
}

#[tokio::test]
async fn logs_that_are_old_when_they_are_taken_in_are_remembered() {
    for test in stores().await {
        let mut scene = Scene::new(&test.db);
        scene.start -= TimeDelta::days(30);
        let tries = |some: std::ops::Range<i64>| -> Vec<_> {
            some.map(|n| login(n, "web-01", "auth_fail", &format!("user{n}"), "Winter2026!")).collect()
        };
        scene.tell(tries(0..3)).await;
        store::follow::end_lease(&test.db).await.unwrap();
        scene.follower = Follower::new();
        scene.tell(tries(3..6)).await;
        let sprayed = Some((1, vec!["password-sprayed".to_owned()]));
        assert_eq!(of(&scene.app, "T1110.003").await, sprayed, "{}", test.name);

        // What comes late does not make the last event an older one.
        scene.tell(vec![login(-5_000, "web-01", "auth_fail", "ana", "x")]).await;
        let profile = store::attackers::by_ips(&test.db, &[IP.to_owned()]).await.unwrap().remove(0);
        let mut tx = test.db.begin().await.unwrap();
        store::tracks::forget(&mut tx, scene.start.timestamp_micros()).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(store::tracks::of_attackers(&test.db, &[profile.id]).await.unwrap().len(), 1, "{}", test.name);
        test.close().await;
    }
}

#[tokio::test]
async fn who_stops_does_not_wait_for_a_catalogue_that_is_slow() {
    for test in stores().await {
        let (app, _folder) = app(&test.db);
        let asked = Arc::new(Notify::new());
        let heard = Arc::clone(&asked);
        // It hears the question and never answers.
        let silent = tower::service_fn(move |_: http::Request<Body>| {
            heard.notify_one();
            std::future::pending::<Result<http::Response<Body>, Infallible>>()
        });
        let token = || Box::pin(async { Ok(("the service's own".to_owned(), Duration::from_secs(300))) }) as _;
        let catalogue = Catalogue {
            knowledge: KnowledgeServiceClient::new(aegis_rpc::local(silent)),
            background: Background::new(Arc::new(token)),
        };
        let kept = tokio::spawn(Arc::clone(&app).keep_sigma(catalogue, app.stop.clone()));
        asked.notified().await;
        app.stop.cancel();
        tokio::time::timeout(Duration::from_secs(20), kept).await.unwrap().unwrap();
        test.close().await;
    }
}
