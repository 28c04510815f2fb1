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
