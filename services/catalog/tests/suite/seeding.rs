//! The starter content.

use std::time::Instant;

use aegis_proto::catalog::v1 as pb;

use super::*;

#[tokio::test]
async fn an_empty_catalogue_is_filled_once() {
    for home in homes().await {
        let begun = Instant::now();
        let world = World::on(home).await;
        println!("built in {} ms", begun.elapsed().as_millis());
        let events = world.published().await;
        let sizes: Vec<_> = techniques_changed(&events).iter().map(|event| event.techniques.len()).collect();
        assert_eq!(sizes, [500, 191]);
        let (action, _, details) = audited(&events).remove(0);
        assert_eq!(action, "seed_catalogue");
        assert_eq!(details, serde_json::json!({ "techniques": 691, "tactics": 14, "templates": 48 }));

        let listed = world.list(pb::ListTechniquesRequest::default()).await;
        assert_eq!(listed.len(), 691);
        assert!(listed.is_sorted_by(|a, b| a.mitre_id < b.mitre_id));
        assert!(
            listed.iter().all(|t| t.source == "starter" && t.status_global == "not_evaluated" && !t.review_required)
        );
        let technique = world.technique("T1059.001").await;
        assert_eq!((technique.name.as_str(), technique.tactic.as_str()), ("PowerShell", "execution"));
        assert_eq!(
            (technique.platforms.as_slice(), technique.parent_mitre_id.as_deref()),
            (&["windows".to_owned()][..], Some("T1059"))
        );
        assert_eq!(technique.url.as_deref(), Some("https://attack.mitre.org/techniques/T1059/001/"));

        let mut viewer = world.catalog(Role::Viewer);
        let tactics = viewer.list_tactics(pb::ListTacticsRequest::default()).await.unwrap().into_inner().tactics;
        assert_eq!(tactics.len(), 14);
        assert_eq!((tactics[0].short_name.as_str(), tactics[13].short_name.as_str()), ("reconnaissance", "impact"));

        // The next start finds it full.
        let world = World::on(world.home).await;
        assert!(world.published().await.is_empty());
        world.close().await;
    }
}

#[tokio::test]
async fn replicas_that_start_together_fill_it_once() {
    for home in homes().await {
        let outbox = Outbox::new(aegis_catalog::NAME);
        let starts = (0..4).map(|_| aegis_catalog::seed(&home.db, &outbox));
        for result in futures::future::join_all(starts).await {
            result.unwrap();
        }
        let world = World::on(home).await;
        assert_eq!(audited(&world.published().await).len(), 1);
        assert_eq!(world.list(pb::ListTechniquesRequest::default()).await.len(), 691);
        world.close().await;
    }
}
