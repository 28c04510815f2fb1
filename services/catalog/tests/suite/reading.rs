//! Lists, single techniques, the export.

use std::collections::HashSet;

use super::*;

fn ids(techniques: &[pb::Technique]) -> Vec<&str> {
    techniques.iter().map(|t| t.mitre_id.as_str()).collect()
}

#[tokio::test]
async fn filters_find_what_they_name() {
    for world in World::all().await {
        let ask = pb::ListTechniquesRequest::default;
        let by_tactic = world.list(pb::ListTechniquesRequest { tactic: Some("Initial Access".into()), ..ask() }).await;
        assert!(!by_tactic.is_empty() && by_tactic.iter().all(|t| t.tactics.iter().any(|x| x == "initial-access")));
        // A technique of several tactics is found in each, by others than its first too.
        assert!(by_tactic.iter().any(|t| t.tactic != "initial-access"));
        assert!(world.list(pb::ListTechniquesRequest { tactic: Some("nonsense".into()), ..ask() }).await.is_empty());

        let macos = world.list(pb::ListTechniquesRequest { platform: Some("MACOS".into()), ..ask() }).await;
        assert!(!macos.is_empty() && macos.iter().all(|t| t.platforms.iter().any(|x| x == "macos")));
        let subs = world.list(pb::ListTechniquesRequest { is_subtechnique: Some(true), ..ask() }).await;
        let tops = world.list(pb::ListTechniquesRequest { is_subtechnique: Some(false), ..ask() }).await;
        assert_eq!((subs.len() + tops.len(), subs.iter().all(|t| t.parent_mitre_id.is_some())), (691, true));
        assert!(world.list(pb::ListTechniquesRequest { domain: Some("ics".into()), ..ask() }).await.is_empty());
        assert!(world.list(pb::ListTechniquesRequest { review_required: Some(true), ..ask() }).await.is_empty());

        let change = pb::UpdateTechniqueRequest {
            mitre_id: "T1059".into(),
            status_global: Some("partial".into()),
            description: Some("100%_sure about \\ this".into()),
            ..Default::default()
        };
        world.admin().update_technique(change).await.unwrap();
        let partial = world.list(pb::ListTechniquesRequest { status: Some("partial".into()), ..ask() }).await;
        assert_eq!(ids(&partial), ["T1059"]);
        assert_eq!(partial[0].description, None, "lists leave descriptions out");
        let both = pb::ListTechniquesRequest { status: Some("partial".into()), tactic: Some("impact".into()), ..ask() };
        assert!(world.list(both).await.is_empty());

        for (term, first) in [("t1059", "T1059"), (" T1059.001 ", "T1059.001"), ("PowerShell Profile", "T1546.013")] {
            let found = world.list(pb::ListTechniquesRequest { search: Some(term.into()), ..ask() }).await;
            assert_eq!(found.first().map(|t| t.mitre_id.as_str()), Some(first), "{term}");
        }
        for (term, found) in [("100%_sure", 1), ("about \\ this", 1), ("1__%", 0), ("%", 1), ("' OR 1=1 --", 0)] {
            let list = world.list(pb::ListTechniquesRequest { search: Some(term.into()), ..ask() }).await;
            assert_eq!(list.len(), found, "{term}");
        }
        world.close().await;
    }
}

#[tokio::test]
async fn wrong_filters_and_pages_are_named() {
    for world in World::all().await {
        let mut viewer = world.catalog(Role::Viewer);
        let request = pb::ListTechniquesRequest {
            status: Some("done".into()),
            domain: Some("moon".into()),
            search: Some("x".repeat(500)),
            ..Default::default()
        };
        let (code, fields) = refusal(viewer.list_techniques(request).await);
        assert_eq!((code, fields), (Code::Validation, vec!["search".into(), "status".into(), "domain".into()]));
        for request in [
            pb::ListTechniquesRequest { page_size: 5_001, ..Default::default() },
            pb::ListTechniquesRequest { page_size: -1, ..Default::default() },
            pb::ListTechniquesRequest { skip: -1, ..Default::default() },
            pb::ListTechniquesRequest { page_token: "rubbish".into(), ..Default::default() },
        ] {
            assert_eq!(refusal(viewer.list_techniques(request).await).0, Code::Validation);
        }
        world.close().await;
    }
}

#[tokio::test]
async fn pages_join_to_the_whole() {
    for world in World::all().await {
        let mut viewer = world.catalog(Role::Viewer);
        let (mut seen, mut token, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let request = pb::ListTechniquesRequest { page_size: 200, page_token: token, ..Default::default() };
            let page = viewer.list_techniques(request).await.unwrap().into_inner();
            assert_eq!(page.total_size, 691);
            seen.extend(page.techniques.into_iter().map(|t| t.mitre_id));
            (token, pages) = (page.next_page_token, pages + 1);
            if token.is_empty() {
                break;
            }
        }
        assert_eq!((seen.len(), pages, seen.iter().collect::<HashSet<_>>().len()), (691, 4, 691));
        let request = pb::ListTechniquesRequest { page_size: 10, skip: 690, ..Default::default() };
        let last = viewer.list_techniques(request).await.unwrap().into_inner();
        assert_eq!((last.techniques.len(), last.total_size, last.next_page_token.as_str()), (1, 691, ""));
        let request = pb::ListTechniquesRequest { page_size: 10, skip: 10_000, ..Default::default() };
        let past = viewer.list_techniques(request).await.unwrap().into_inner();
        assert_eq!((past.techniques.len(), past.total_size), (0, 691));

        let mut export =
            world.catalog(Role::Service).export_techniques(pb::ExportTechniquesRequest {}).await.unwrap().into_inner();
        let (mut exported, mut sizes) = (Vec::new(), Vec::new());
        while let Some(part) = export.message().await.unwrap() {
            sizes.push(part.techniques.len());
            exported.extend(part.techniques.into_iter().map(|t| t.id));
        }
        assert_eq!(sizes, [500, 191]);
        assert!(exported.is_sorted());
        world.close().await;
    }
}

#[tokio::test]
async fn one_technique_by_either_id() {
    for world in World::all().await {
        let mut viewer = world.catalog(Role::Viewer);
        let technique = get(&mut viewer, "t1059.001").await.unwrap();
        let by_id = pb::GetTechniqueRequest { key: Some(Key::Id(technique.id.clone())) };
        assert_eq!(viewer.get_technique(by_id).await.unwrap().into_inner().technique, Some(technique));
        assert_eq!(refusal(get(&mut viewer, "T9999").await).0, Code::NotFound);
        assert_eq!(refusal(get(&mut viewer, "../etc").await).0, Code::NotFound);
        assert_eq!(refusal(get(&mut viewer, "").await).0, Code::Validation);
        let wrong = pb::GetTechniqueRequest { key: Some(Key::Id("1".into())) };
        assert_eq!(refusal(viewer.get_technique(wrong).await), (Code::Validation, vec!["id".into()]));
        let unknown = pb::GetTechniqueRequest { key: Some(Key::Id(uuid::Uuid::now_v7().to_string())) };
        assert_eq!(refusal(viewer.get_technique(unknown).await).0, Code::NotFound);
        world.close().await;
    }
}
