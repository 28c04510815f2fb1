//! What the catalogue knows besides: pulled when it is due, replaced as a whole, never older than what is here.

use aegis_events::{Consumer, Handler};
use aegis_proto::events::v1::KnowledgeChanged;

use super::*;
use crate::store;

pub(super) fn tactic(domain: &str, short_name: &str, position: i32) -> KnownRecord {
    let mut name = short_name.to_owned();
    name[..1].make_ascii_uppercase();
    KnownRecord {
        kind: "tactic".into(),
        key: format!("{domain}:{short_name}"),
        name,
        collection: domain.into(),
        position,
        attack_version: "18.1".into(),
        ..record("tactic", short_name, &[])
    }
}

pub(super) fn record(kind: &str, key: &str, techniques: &[&str]) -> KnownRecord {
    KnownRecord {
        kind: kind.into(),
        key: key.into(),
        id: Uuid::from_u128(key.bytes().fold(kind.len() as u128, |n, byte| n * 31 + u128::from(byte))).to_string(),
        name: key.to_uppercase(),
        mitre_technique_ids: techniques.iter().map(|id| (*id).to_owned()).collect(),
        ..KnownRecord::default()
    }
}

fn control(framework: &str, id: &str, parent: &str, techniques: &[&str]) -> KnownRecord {
    KnownRecord {
        collection: framework.into(),
        parent: parent.into(),
        family: "AC".into(),
        ..record("control", &format!("{framework}:{id}"), techniques)
    }
}

async fn mark(app: &App, kinds: &[&str]) {
    let mut tx = app.db.begin().await.unwrap();
    let event = KnowledgeChanged { kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect() };
    projector(app).handle(&mut tx, &envelope(Uuid::now_v7().to_string(), &event)).await.unwrap();
    tx.commit_relaxed().await.unwrap();
}

async fn pull(app: &App) -> usize {
    let due = store::knowledge::due(&app.db).await.unwrap();
    app.pull_known(&admin(), &due).await.unwrap()
}

#[tokio::test]
async fn everything_is_due_once_and_then_what_was_marked() {
    for test in stores().await {
        let world = World::default();
        world.0.lock().unwrap().known = vec![
            tactic("enterprise", "impact", 1),
            tactic("enterprise", "execution", 0),
            tactic("ics", "impact", 0),
            record("threat_actor", "G0002", &["T0001", "T0009"]),
            record("threat_actor", "G0001", &["T0001", "T0001"]),
            record("detection_rule", "sigma:1", &["T0001", "T0002"]),
            record("detection_rule", "sigma:2", &["T0001"]),
            record("defence", "D3-A", &["T0001"]),
            KnownRecord { implemented: true, ..record("defence", "D3-B", &["T0001"]) },
            KnownRecord { mapping_source: "CTID".into(), ..record("framework", "nist", &[]) },
            control("nist", "AC-10", "", &[]),
            control("nist", "AC-2(1)", "AC-2", &["T0002"]),
            control("nist", "AC-2", "", &["T0001", "T0002"]),
        ];
        let app = app_of(&test.db, &world);
        take_in(&app, &[facts(1, "validated", &["execution"], 1)]).await.unwrap();
        assert_eq!(app.matrix().await.unwrap().find("T0001").unwrap().attack_version, None);
        assert_eq!(pull(&app).await, 13);

        let matrix = app.matrix().await.unwrap();
        let known = &matrix.knowledge;
        let names: Vec<_> = known.tactics.iter().map(|t| format!("{} {} {}", t.domain, t.short_name, t.name)).collect();
        assert_eq!(names, ["enterprise execution Execution", "enterprise impact Impact", "ics impact Impact"]);
        assert_eq!(matrix.find("T0001").unwrap().attack_version.as_deref(), Some("18.1"));
        let actors: Vec<_> = known.actors.iter().map(|a| (a.key.as_str(), a.techniques.len())).collect();
        assert_eq!(actors, [("G0001", 1), ("G0002", 2)]);
        assert_eq!((known.users["T0001"], known.rules["T0001"], known.defences["T0001"]), (2, 2, (2, 1)));
        assert_eq!(known.frameworks[0].mapping_source, "CTID");
        let controls: Vec<_> = known.controls.iter().map(|c| (c.id.as_str(), c.parent.as_str())).collect();
        assert_eq!(controls, [("AC-2", ""), ("AC-2(1)", "AC-2"), ("AC-10", "")]);

        // Nothing is due, whatever the owner has by now; a mark is for its kind alone.
        world.0.lock().unwrap().known = vec![record("detection_rule", "sigma:2", &["T0005"])];
        assert_eq!(store::knowledge::due(&test.db).await.unwrap().len(), 0);
        mark(&app, &["detection_rule"]).await;
        assert_eq!(pull(&app).await, 1);
        let known = Arc::clone(&app.matrix().await.unwrap().knowledge);
        assert_eq!((known.rules.len(), known.rules["T0005"], known.users["T0001"]), (1, 1, 2));
        // What stays as it is is read by nobody again.
        mark(&app, &["detection_rule", "control"]).await;
        world.0.lock().unwrap().known.push(control("nist", "AC-10", "", &[]));
        let before = pull(&app).await;
        assert_eq!(before, 2);
        let again = Arc::clone(&app.matrix().await.unwrap().knowledge);
        assert_eq!(again.controls.len(), 1);
        mark(&app, &["control"]).await;
        pull(&app).await;
        assert!(Arc::ptr_eq(&again, &app.matrix().await.unwrap().knowledge));
        test.close().await;
    }
}

#[tokio::test]
async fn a_mark_during_a_pull_and_a_later_pull_of_another_replica_both_hold() {
    for test in stores().await {
        let world = World::default();
        let app = app_of(&test.db, &world);
        pull(&app).await;
        mark(&app, &["detection_rule"]).await;
        let early = store::knowledge::due(&test.db).await.unwrap();
        // While one replica has asked, there is something new, and another replica asks and is done first.
        mark(&app, &["detection_rule"]).await;
        let late = store::knowledge::due(&test.db).await.unwrap();
        world.0.lock().unwrap().known = vec![record("detection_rule", "new", &["T0001"])];
        app.pull_known(&admin(), &late).await.unwrap();
        world.0.lock().unwrap().known = vec![record("detection_rule", "old", &["T0001"])];
        app.pull_known(&admin(), &early).await.unwrap();
        assert_eq!(dump(&test.db).await.known[0].1, "new");
        assert_eq!(store::knowledge::due(&test.db).await.unwrap().len(), 0);
        // A mark that came after the question stays.
        let asked = store::knowledge::marks(&test.db).await.unwrap();
        mark(&app, &["detection_rule"]).await;
        app.pull_known(&admin(), &asked).await.unwrap();
        assert_eq!(store::knowledge::due(&test.db).await.unwrap().len(), 1);
        test.close().await;
    }
}

/// The handler only marks: what an owner answers, or whether it does, is none of the event's business.
#[tokio::test]
async fn an_event_about_knowledge_asks_nobody() {
    for test in stores().await {
        let app = app(&test.db);
        let bus = aegis_events::Bus::local();
        let _ = bus.subscribe(Consumer::new(crate::SUBSCRIPTION, test.db.clone(), Arc::new(projector(&app))));
        mark(&app, &["threat_actor", "never_heard_of", "threat_actor"]).await;
        assert_eq!(store::knowledge::due(&test.db).await.unwrap()["threat_actor"], 2);
        test.close().await;
    }
}
