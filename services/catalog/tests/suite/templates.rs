//! Templates.

use super::*;

fn new() -> pb::CreateTemplateRequest {
    pb::CreateTemplateRequest {
        name: "Ours".into(),
        mitre_technique_id: "T1059.001".into(),
        suggested_remediation: Some("Patch".into()),
        ..Default::default()
    }
}

#[tokio::test]
async fn templates_are_listed_made_and_switched() {
    for world in World::all().await {
        world.published().await;
        let mut viewer = world.templates(Role::Viewer);
        let mut admin = world.templates(Role::Admin);
        let all = viewer.list_templates(pb::ListTemplatesRequest::default()).await.unwrap().into_inner();
        assert_eq!((all.templates.len(), all.total_size), (48, 48));
        assert!(all.templates.iter().all(|t| t.source == "aegis" && t.is_active && t.attack_procedure.is_some()));

        let made = admin.create_template(new()).await.unwrap().into_inner().template.unwrap();
        assert_eq!(
            (made.source.as_str(), made.source_id == made.id, made.severity.as_str()),
            ("custom", true, "medium")
        );
        let twin = admin.create_template(new()).await.unwrap().into_inner().template.unwrap();
        assert_ne!(made.id, twin.id, "a name is not a key");
        let got = viewer.get_template(pb::GetTemplateRequest { id: made.id.clone() }).await.unwrap().into_inner();
        assert_eq!(got.template, Some(made.clone()));

        let off = admin.toggle_template_active(pb::ToggleTemplateActiveRequest { id: made.id.clone() }).await;
        assert!(!off.unwrap().into_inner().template.unwrap().is_active);
        let stats = admin.get_template_stats(pb::GetTemplateStatsRequest {}).await.unwrap().into_inner();
        assert_eq!((stats.total, stats.active, stats.inactive), (50, 49, 1));
        assert_eq!((stats.by_source["aegis"], stats.by_source["custom"]), (48, 2));
        assert_eq!((stats.by_platform.values().sum::<i64>(), stats.by_platform["any"]), (50, 2));

        let ask = pb::ListTemplatesRequest::default;
        for (request, expected) in [
            (pb::ListTemplatesRequest { source: Some("custom".into()), ..ask() }, 2),
            (pb::ListTemplatesRequest { source: Some("custom".into()), is_active: Some(true), ..ask() }, 1),
            (pb::ListTemplatesRequest { is_active: Some(false), ..ask() }, 1),
            (pb::ListTemplatesRequest { mitre_technique_id: Some("t1595.001".into()), ..ask() }, 1),
            (pb::ListTemplatesRequest { search: Some("PING sweep".into()), ..ask() }, 1),
            (pb::ListTemplatesRequest { platform: Some("Plan9".into()), ..ask() }, 0),
            (pb::ListTemplatesRequest { page_size: 7, skip: 45, ..ask() }, 5),
        ] {
            let found = viewer.list_templates(request.clone()).await.unwrap().into_inner();
            assert_eq!(found.templates.len(), expected, "{request:?}");
        }
        let linux = pb::ListTemplatesRequest { platform: Some("Linux".into()), severity: Some("low".into()), ..ask() };
        let linux = viewer.list_templates(linux).await.unwrap().into_inner().templates;
        assert!(!linux.is_empty());
        assert!(linux.iter().all(|t| t.platform.as_deref() == Some("linux") && t.severity == "low"));

        let trail: Vec<_> = audited(&world.published().await).into_iter().map(|(action, ..)| action).collect();
        assert_eq!(trail, ["create_template", "create_template", "toggle_template"]);
        world.close().await;
    }
}

#[tokio::test]
async fn wrong_templates_are_refused() {
    for world in World::all().await {
        let mut admin = world.templates(Role::Admin);
        let bad = pb::CreateTemplateRequest {
            name: String::new(),
            mitre_technique_id: "execution".into(),
            severity: "bad".into(),
            attack_procedure: Some("x".repeat(20_001)),
            ..Default::default()
        };
        let (code, fields) = refusal(admin.create_template(bad).await);
        assert_eq!(code, Code::Validation);
        assert_eq!(fields, ["name", "mitre_technique_id", "severity", "attack_procedure"]);
        let request = pb::ListTemplatesRequest { severity: Some("bad".into()), ..Default::default() };
        assert_eq!(refusal(admin.list_templates(request).await).1, ["severity"]);
        assert_eq!(refusal(admin.get_template(pb::GetTemplateRequest { id: "x".into() }).await).1, ["id"]);
        let unknown = uuid::Uuid::now_v7().to_string();
        assert_eq!(refusal(admin.get_template(pb::GetTemplateRequest { id: unknown.clone() }).await).0, Code::NotFound);
        let toggle = pb::ToggleTemplateActiveRequest { id: unknown };
        assert_eq!(refusal(admin.toggle_template_active(toggle.clone()).await).0, Code::NotFound);
        let mut lead = world.templates(Role::RedLead);
        assert_eq!(refusal(lead.create_template(new()).await).0, Code::Forbidden);
        assert_eq!(refusal(lead.toggle_template_active(toggle).await).0, Code::Forbidden);
        assert_eq!(refusal(lead.get_template_stats(pb::GetTemplateStatsRequest {}).await).0, Code::Forbidden);
        world.close().await;
    }
}

#[tokio::test]
async fn the_best_templates_of_techniques_are_picked() {
    for world in World::all().await {
        let mut admin = world.templates(Role::Admin);
        let mut make = async |name: &str, mitre_id: &str, platform: Option<&str>, source: &str| {
            let request = pb::CreateTemplateRequest {
                name: name.into(),
                mitre_technique_id: mitre_id.into(),
                platform: platform.map(str::to_owned),
                ..Default::default()
            };
            let made = admin.create_template(request).await.unwrap().into_inner().template.unwrap();
            let id = uuid::Uuid::parse_str(&made.id).unwrap();
            let mut tx = world.home.db.begin().await.unwrap();
            on!(tx, |c| sqlx::query("UPDATE template SET source = $1, vanished = $2 WHERE id = $3")
                .bind(source)
                .bind(name == "Vanished")
                .bind(id)
                .execute(c)
                .await
                .map(|_| ()))
            .unwrap();
            tx.commit().await.unwrap();
            made.id
        };
        make("Living off the land", "T0901", None, "lolbas").await;
        make("Ability", "T0901", Some("Linux"), "caldera").await;
        make("Atomic B", "T0901", Some("Windows"), "atomic_red_team").await;
        make("Atomic A", "T0901", Some("Windows"), "atomic_red_team").await;
        make("Product", "T0901", Some("macos"), "aegis").await;
        let off = make("Ours, off", "T0901", None, "custom").await;
        make("Vanished", "T0901", None, "custom").await;
        make("Ours", "T0901", Some("windows"), "custom").await;
        make("Other", "T0902.001", Some("linux"), "lolbas").await;
        admin.toggle_template_active(pb::ToggleTemplateActiveRequest { id: off }).await.unwrap();

        let mut viewer = world.templates(Role::Viewer);
        let mut pick = async |ids: &[&str], per_technique: i32, platform: Option<&str>| {
            let request = pb::PickTemplatesRequest {
                mitre_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
                per_technique,
                platform: platform.map(str::to_owned),
            };
            let picked = viewer.pick_templates(request).await.map_err(Failure::from)?.into_inner().templates;
            Ok::<_, Failure>(picked.into_iter().map(|template| template.name).collect::<Vec<_>>())
        };
        let all = ["Ours", "Product", "Atomic A", "Atomic B", "Ability", "Living off the land"];
        assert_eq!(pick(&["T0901"], 20, None).await.unwrap(), all);
        assert_eq!(pick(&["T0902.001", "T0901", "T0903"], 2, None).await.unwrap(), ["Other", "Ours", "Product"]);
        assert_eq!(pick(&["t0901"], 0, None).await.unwrap(), ["Ours"]);
        let linux = pick(&["T0901", "T0902.001"], 3, Some("Linux")).await.unwrap();
        assert_eq!(linux, ["Ability", "Living off the land", "Other"]);
        assert!(pick(&[], 1, None).await.unwrap().is_empty());

        let many: Vec<String> = (0..2_001).map(|n| format!("T{:04}", n % 9_999)).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(pick(&many[..2_000], 1, None).await.unwrap().iter().filter(|name| *name == "Ours").count(), 1);
        for (ids, per_technique) in [(&many[..], 1), (&["T1"][..], 1), (&["T0901"][..], 21), (&["T0901"][..], -1)] {
            assert_eq!(pick(ids, per_technique, None).await.unwrap_err().code(), Code::Validation);
        }
        world.close().await;
    }
}
