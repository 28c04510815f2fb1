//! What people change.

use serde_json::json;

use super::*;

fn new(mitre_id: &str) -> pb::CreateTechniqueRequest {
    pb::CreateTechniqueRequest {
        mitre_id: mitre_id.into(),
        name: "Ours".into(),
        description: Some("Text".into()),
        tactics: vec!["impact".into(), "Initial Access".into(), "impact".into()],
        platforms: vec!["Windows".into(), "windows".into(), "Mainframe".into()],
        domain: String::new(),
    }
}

#[tokio::test]
async fn an_administrator_makes_techniques() {
    for world in World::all().await {
        world.published().await;
        let made = world.admin().create_technique(new("T9001.002")).await.unwrap().into_inner().technique.unwrap();
        assert_eq!(made.tactics, ["impact", "initial-access"]);
        assert_eq!(
            (made.tactic.as_str(), made.domain.as_str(), made.source.as_str()),
            ("impact", "enterprise", "custom")
        );
        assert_eq!(made.platforms, ["windows", "mainframe"]);
        assert_eq!((made.is_subtechnique, made.parent_mitre_id.as_deref(), made.version), (true, Some("T9001"), 1));
        assert_eq!(world.technique("T9001.002").await, made);
        let events = world.published().await;
        assert_eq!(techniques_changed(&events)[0].techniques[0].mitre_id, "T9001.002");
        let (action, entity, details) = audited(&events).remove(0);
        assert_eq!((action.as_str(), entity.as_str()), ("create_technique", made.id.as_str()));
        assert_eq!(details["after"]["name"], "Ours");
        let found = pb::ListTechniquesRequest { platform: Some("mainframe".into()), ..Default::default() };
        assert_eq!(world.list(found).await.len(), 1);

        assert_eq!(refusal(world.admin().create_technique(new("T9001.002")).await).0, Code::Duplicate);
        assert_eq!(refusal(world.admin().create_technique(new("T1059")).await).0, Code::Duplicate);
        let bad = pb::CreateTechniqueRequest {
            mitre_id: "1059".into(),
            name: " ".into(),
            description: Some("x".repeat(100_001)),
            tactics: vec!["nonsense".into()],
            platforms: vec!["p".repeat(65)],
            domain: String::new(),
        };
        let (code, fields) = refusal(world.admin().create_technique(bad).await);
        assert_eq!(code, Code::Validation);
        assert_eq!(fields, ["mitre_id", "name", "description", "platforms", "tactics"]);
        let elsewhere = pb::CreateTechniqueRequest { domain: "moon".into(), ..new("T9002") };
        assert_eq!(refusal(world.admin().create_technique(elsewhere).await).1, ["domain"]);
        let empty = pb::CreateTechniqueRequest { tactics: vec![], ..new("T9002") };
        assert_eq!(refusal(world.admin().create_technique(empty).await).1, ["tactics"]);
        assert!(world.published().await.is_empty());

        for role in [Role::Viewer, Role::RedTech, Role::RedLead, Role::Service] {
            assert_eq!(refusal(world.catalog(role).create_technique(new("T9003")).await).0, Code::Forbidden);
        }
        let refused = audited(&world.published().await);
        assert!(
            refused.len() == 4
                && refused.iter().all(|(action, entity, _)| action == "access_denied" && entity == "CreateTechnique")
        );
        world.close().await;
    }
}

#[tokio::test]
async fn an_administrator_changes_techniques() {
    for world in World::all().await {
        let before = world.technique("T1059").await;
        world.published().await;
        let nothing = pb::UpdateTechniqueRequest {
            mitre_id: "T1059".into(),
            name: Some(before.name.clone()),
            clear_status_global: true,
            ..Default::default()
        };
        let same = world.admin().update_technique(nothing).await.unwrap().into_inner().technique.unwrap();
        assert_eq!(same, before);
        assert!(world.published().await.is_empty());

        let change = pb::UpdateTechniqueRequest {
            mitre_id: "t1059".into(),
            name: Some("Renamed".into()),
            description: Some("Why".into()),
            tactics: Some(pb::StringList { values: vec!["impact".into()] }),
            platforms: Some(pb::StringList { values: vec!["Mainframe".into()] }),
            status_global: Some("validated".into()),
            ..Default::default()
        };
        let after = world.admin().update_technique(change).await.unwrap().into_inner().technique.unwrap();
        assert_eq!(after.version, before.version + 1);
        assert_eq!((after.status_global.as_str(), after.status_overridden), ("validated", true));
        // The next read has it, though the read before may be remembered.
        assert_eq!(world.technique("T1059").await, after);
        let events = world.published().await;
        let facts = &techniques_changed(&events)[0].techniques[0];
        assert_eq!((facts.status.as_str(), facts.version), ("validated", after.version));
        let (action, _, details) = audited(&events).remove(0);
        assert_eq!(action, "update_technique");
        assert_eq!(details["before"]["name"], json!(before.name));
        assert_eq!(details["after"]["name"], json!("Renamed"));
        assert_eq!(details["before"]["status_global"], json!("not_evaluated"));
        assert!(details["before"].get("review_required").is_none(), "only what changed");
        for (tactic, platform, expected) in [("impact", "mainframe", 1), ("execution", "mainframe", 0)] {
            let request = pb::ListTechniquesRequest {
                tactic: Some(tactic.into()),
                platform: Some(platform.into()),
                ..Default::default()
            };
            assert_eq!(world.list(request).await.len(), expected);
        }

        let cleared = pb::UpdateTechniqueRequest {
            mitre_id: "T1059".into(),
            clear_description: true,
            clear_status_global: true,
            ..Default::default()
        };
        let cleared = world.admin().update_technique(cleared).await.unwrap().into_inner().technique.unwrap();
        assert_eq!((cleared.status_global.as_str(), cleared.status_overridden), ("not_evaluated", false));
        assert_eq!((cleared.description, cleared.name.as_str()), (None, "Renamed"));

        let bad = pb::UpdateTechniqueRequest {
            mitre_id: "T1059".into(),
            name: Some(String::new()),
            description: Some("x".into()),
            clear_description: true,
            tactics: Some(pb::StringList { values: vec![] }),
            platforms: Some(pb::StringList { values: vec![String::new()] }),
            status_global: Some("done".into()),
            ..Default::default()
        };
        let (code, fields) = refusal(world.admin().update_technique(bad).await);
        assert_eq!(code, Code::Validation);
        assert_eq!(fields, ["name", "description", "platforms", "status_global", "tactics"]);
        let unknown = pb::UpdateTechniqueRequest { mitre_id: "T9999".into(), ..Default::default() };
        assert_eq!(refusal(world.admin().update_technique(unknown.clone()).await).0, Code::NotFound);
        for role in [Role::Viewer, Role::BlueLead, Role::Service] {
            assert_eq!(refusal(world.catalog(role).update_technique(unknown.clone()).await).0, Code::Forbidden);
        }
        world.close().await;
    }
}

#[tokio::test]
async fn a_lead_reviews() {
    for world in World::all().await {
        world.published().await;
        let request = pb::ReviewTechniqueRequest { mitre_id: "T1059".into() };
        for role in [Role::RedLead, Role::BlueLead, Role::Admin] {
            let reviewed =
                world.catalog(role).review_technique(request.clone()).await.unwrap().into_inner().technique.unwrap();
            assert!(reviewed.last_reviewed_at.is_some() && !reviewed.review_required);
        }
        let trail = audited(&world.published().await);
        assert_eq!(trail.iter().map(|(action, ..)| action.as_str()).collect::<Vec<_>>(), ["review_technique"; 3]);
        assert_eq!(trail[0].2["after"]["last_reviewed_by"], "red_lead");
        for role in [Role::Viewer, Role::RedTech, Role::BlueTech] {
            assert_eq!(refusal(world.catalog(role).review_technique(request.clone()).await).0, Code::Forbidden);
        }
        world.close().await;
    }
}

#[tokio::test]
async fn changes_at_the_same_moment_are_all_kept() {
    for world in World::all().await {
        let change = |n: usize| {
            let mut admin = world.admin();
            async move {
                let name = Some(format!("Name {n}"));
                admin
                    .update_technique(pb::UpdateTechniqueRequest {
                        mitre_id: "T1059".into(),
                        name,
                        ..Default::default()
                    })
                    .await
            }
        };
        let results = futures::future::join_all((0..8).map(change)).await;
        let mut versions: Vec<i64> =
            results.into_iter().map(|r| r.unwrap().into_inner().technique.unwrap().version).collect();
        versions.sort_unstable();
        assert_eq!(versions, (2..10).collect::<Vec<i64>>());
        assert_eq!(world.technique("T1059").await.version, 9);
        world.close().await;
    }
}
