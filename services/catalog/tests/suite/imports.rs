//! A publisher's document meets the catalogue.

use std::time::Instant;

use aegis_proto::catalog::v1::import_knowledge_request::Part;

use super::*;

pub(crate) fn record(mitre_id: &str) -> pb::TechniqueRecord {
    let mut content_hash = mitre_id.as_bytes().to_vec();
    content_hash.resize(32, 7);
    pb::TechniqueRecord {
        stix_id: format!("attack-pattern--{mitre_id}"),
        mitre_id: mitre_id.into(),
        name: format!("Published {mitre_id}"),
        description: Some("As published".repeat(50)),
        tactics: vec!["execution".into(), "stealth".into()],
        platforms: vec!["Linux".into()],
        is_subtechnique: mitre_id.contains('.'),
        parent_mitre_id: mitre_id.split_once('.').map(|(parent, _)| parent.into()),
        attack_version: Some("2.0".into()),
        url: Some(format!("https://attack.mitre.org/techniques/{mitre_id}/")),
        revoked: false,
        deprecated: false,
        revoked_by: None,
        content_hash,
    }
}

fn tactic(mitre_id: &str, short_name: &str, position: i32) -> pb::TacticRecord {
    pb::TacticRecord {
        stix_id: format!("x-mitre-tactic--{mitre_id}"),
        mitre_id: mitre_id.into(),
        short_name: short_name.into(),
        name: short_name.to_uppercase(),
        position,
        deprecated: false,
    }
}

pub(crate) fn tactics() -> Vec<pb::TacticRecord> {
    vec![tactic("TA0002", "execution", 0), tactic("TA0005", "stealth", 1)]
}

pub(crate) fn message(part: Part) -> pb::ImportKnowledgeRequest {
    pb::ImportKnowledgeRequest { part: Some(part) }
}

pub(crate) fn header(dry_run: bool) -> pb::ImportHeader {
    pb::ImportHeader {
        source: "mitre_attack".into(),
        domain: "enterprise".into(),
        upstream_version: "18.1".into(),
        dry_run,
        ..Default::default()
    }
}

pub(crate) fn document(
    header: pb::ImportHeader,
    techniques: Vec<pb::TechniqueRecord>,
    tactics: Vec<pb::TacticRecord>,
) -> Vec<pb::ImportKnowledgeRequest> {
    let mut parts = vec![message(Part::Header(header)), message(Part::Tactics(pb::TacticBatch { tactics }))];
    for batch in techniques.chunks(300) {
        parts.push(message(Part::Techniques(pb::TechniqueBatch { techniques: batch.to_vec() })));
    }
    parts.push(message(Part::Commit(true)));
    parts
}

pub(crate) async fn send(
    world: &World,
    parts: Vec<pb::ImportKnowledgeRequest>,
) -> Result<pb::ImportKnowledgeResponse, Status> {
    let mut client = world.catalog(Role::Service).max_decoding_message_size(aegis_rpc::MAX_MESSAGE);
    client.import_knowledge(futures::stream::iter(parts)).await.map(|answer| answer.into_inner())
}

/// (created, updated, unchanged, vanished, removed) of the techniques.
async fn import(world: &World, techniques: Vec<pb::TechniqueRecord>) -> (i64, i64, i64, i64, i64) {
    let c = send(world, document(header(false), techniques, tactics())).await.unwrap().techniques.unwrap();
    (c.created, c.updated, c.unchanged, c.vanished, c.removed)
}

#[tokio::test]
async fn a_document_replaces_the_starter_matrix_and_the_next_is_compared() {
    for world in World::all().await {
        let starter = world.technique("T1059").await;
        let made = pb::CreateTechniqueRequest {
            mitre_id: "T9001".into(),
            name: "Ours".into(),
            tactics: vec!["execution".into()],
            ..Default::default()
        };
        world.admin().create_technique(made).await.unwrap();
        let overridden = pb::UpdateTechniqueRequest {
            mitre_id: "T1001".into(),
            status_global: Some("partial".into()),
            ..Default::default()
        };
        world.admin().update_technique(overridden).await.unwrap();
        world.published().await;

        let first = vec![record("T1059"), record("T1059.001"), record("T8001")];
        let answer = send(&world, document(header(true), first.clone(), tactics())).await.unwrap();
        let dry = answer.techniques.unwrap();
        assert_eq!((dry.created, dry.removed, dry.vanished), (3, 688, 1));
        assert_eq!((answer.tactics.unwrap().created, answer.tactics.unwrap().removed), (2, 12));
        assert!(world.published().await.is_empty(), "a dry run only counts");
        assert_eq!(world.technique("T1059").await, starter);

        assert_eq!(import(&world, first.clone()).await, (3, 0, 0, 1, 688));
        let events = world.published().await;
        let changed = techniques_changed(&events);
        assert!(changed.iter().all(|event| event.techniques.len() <= 500));
        let facts: Vec<_> = changed.into_iter().flat_map(|event| event.techniques).collect();
        assert_eq!((facts.len(), facts.iter().filter(|f| f.deleted).count()), (692, 688));
        let (action, entity, details) = audited(&events).remove(0);
        assert_eq!((action.as_str(), entity.as_str()), ("sync_techniques", "mitre_attack:enterprise"));
        assert_eq!(details["techniques"]["removed"], 688);
        let taken = world.technique("T1059").await;
        assert_eq!(
            (taken.id, taken.name.as_str(), taken.source.as_str()),
            (starter.id, "Published T1059", "mitre_attack")
        );
        assert_eq!((taken.version, taken.review_required, taken.description.is_some()), (2, false, true));
        let listed = world.list(pb::ListTechniquesRequest::default()).await;
        let ids: Vec<_> = listed.iter().map(|t| t.mitre_id.as_str()).collect();
        assert_eq!(ids, ["T1059", "T1059.001", "T8001", "T9001"], "the overridden starter row is kept, deprecated");
        let kept = world.technique("T1001").await;
        assert_eq!((kept.deprecated, kept.status_global.as_str()), (true, "partial"));
        let by_tactic = pb::ListTechniquesRequest { tactic: Some("stealth".into()), ..Default::default() };
        assert_eq!(world.list(by_tactic).await.len(), 3);
        let columns = world.catalog(Role::Viewer).list_tactics(pb::ListTacticsRequest::default()).await.unwrap();
        let columns: Vec<_> = columns.into_inner().tactics.into_iter().map(|t| (t.short_name, t.position)).collect();
        assert_eq!(columns, [("execution".to_owned(), 0), ("stealth".to_owned(), 1)]);

        assert_eq!(import(&world, first).await, (0, 0, 3, 0, 0));
        assert!(world.published().await.is_empty(), "the same again changes nothing");
        assert_eq!(world.technique("T1059").await.version, 2);

        // The next version: one changed, one revoked, one gone, one new.
        let mut changed = record("T1059");
        changed.name = "Renamed".into();
        changed.content_hash[0] ^= 1;
        let mut revoked = record("T1059.001");
        (revoked.revoked, revoked.revoked_by) = (true, Some("T8002".into()));
        revoked.content_hash[0] ^= 1;
        let second = vec![changed, revoked, record("T8002")];
        assert_eq!(import(&world, second.clone()).await, (1, 2, 0, 1, 0));
        let flagged =
            pb::ListTechniquesRequest { review_required: Some(true), include_revoked: true, ..Default::default() };
        let flagged: Vec<_> =
            world.list(flagged).await.into_iter().map(|t| (t.mitre_id, t.revoked, t.deprecated)).collect();
        let expected =
            [("T1001", false, true), ("T1059", false, false), ("T1059.001", true, false), ("T8001", false, true)];
        assert_eq!(flagged, expected.map(|(id, r, d)| (id.to_owned(), r, d)));
        let revoked = world.technique("T1059.001").await;
        assert_eq!((revoked.revoked_by.as_deref(), revoked.successor.as_deref()), (Some("T8002"), Some("T8002")));
        assert_eq!(world.technique("T8002").await.replaces, ["T1059.001"]);
        assert_eq!(world.list(pb::ListTechniquesRequest::default()).await.len(), 3);

        // A review stands until the next change, and what vanished can come back.
        world.admin().review_technique(pb::ReviewTechniqueRequest { mitre_id: "T1059".into() }).await.unwrap();
        assert_eq!(import(&world, [second.clone(), vec![record("T8001")]].concat()).await, (0, 1, 3, 0, 0));
        let technique = world.technique("T1059").await;
        assert!(!technique.review_required && technique.last_reviewed_at.is_some());
        assert!(!world.technique("T8001").await.deprecated);
        // The technique that an administrator made is published at last: its name is kept.
        assert_eq!(import(&world, [second, vec![record("T8001"), record("T9001")]].concat()).await, (1, 0, 4, 0, 0));
        let adopted = world.technique("T9001").await;
        assert_eq!(
            (adopted.name.as_str(), adopted.source.as_str(), adopted.platforms[0].as_str()),
            ("Ours", "mitre_attack", "linux")
        );
        world.close().await;
    }
}

#[tokio::test]
async fn domains_do_not_touch_each_other() {
    for world in World::all().await {
        let mobile = pb::ImportHeader { domain: "mobile".into(), ..header(false) };
        let answer = send(&world, document(mobile, vec![record("T1059"), record("T1400")], tactics())).await.unwrap();
        assert_eq!(answer.techniques.unwrap().created, 2);
        assert_eq!(world.list(pb::ListTechniquesRequest::default()).await.len(), 693);
        assert_eq!(world.technique("T1059").await.domain, "enterprise", "preferred where several have the id");
        assert_eq!(world.technique("T1400").await.domain, "mobile");
        let mut viewer = world.catalog(Role::Viewer);
        let columns = viewer.list_tactics(pb::ListTacticsRequest { domain: Some("mobile".into()) }).await;
        assert_eq!(columns.unwrap().into_inner().tactics.len(), 2);
        world.close().await;
    }
}

#[tokio::test]
async fn what_is_not_whole_or_not_right_changes_nothing() {
    for world in World::all().await {
        world.published().await;
        let good = document(header(false), vec![record("T1059")], tactics());
        let mut no_commit = good.clone();
        no_commit.pop();
        let mut two_headers = good.clone();
        two_headers.insert(1, good[0].clone());
        let no_techniques = document(header(false), vec![], tactics());
        let mut bad = record("T10");
        bad.content_hash.clear();
        bad.name.clear();
        for (parts, code, fields) in [
            (vec![], Code::Unprocessable, vec![]),
            (no_commit, Code::Unprocessable, vec![]),
            (no_techniques, Code::Unprocessable, vec![]),
            (good[1..].to_vec(), Code::Validation, vec!["part"]),
            (two_headers, Code::Validation, vec!["part"]),
            (
                document(header(false), vec![record("T1059"), bad], tactics()),
                Code::Validation,
                vec!["techniques[1].mitre_id", "techniques[1].name", "techniques[1].content_hash"],
            ),
            (
                document(header(false), vec![record("T1059"), record("T1059")], tactics()),
                Code::Validation,
                vec!["techniques[1].mitre_id", "techniques[1].stix_id"],
            ),
            (
                document(
                    pb::ImportHeader { source: "rumour".into(), domain: "moon".into(), ..header(false) },
                    vec![record("T1059")],
                    vec![],
                ),
                Code::Validation,
                vec!["source", "domain"],
            ),
        ] {
            let (got, named) = refusal(send(&world, parts).await);
            assert_eq!((got, named.iter().map(String::as_str).collect::<Vec<_>>()), (code, fields));
        }
        assert!(world.published().await.is_empty());
        assert_eq!(world.list(pb::ListTechniquesRequest::default()).await.len(), 691);
        let mut lead = world.catalog(Role::RedLead);
        assert_eq!(refusal(lead.import_knowledge(futures::stream::iter(good)).await).0, Code::Forbidden);
        world.close().await;
    }
}

#[tokio::test]
async fn a_document_of_the_real_size_and_one_too_large() {
    for world in World::all().await {
        let all = |count: usize| {
            (0..count).map(|n| record(&format!("T{:04}.{:03}", n / 999 + 1, n % 999))).collect::<Vec<_>>()
        };
        world.published().await;
        for round in ["new", "the same", "changed"] {
            let mut records = all(1_300);
            if round == "changed" {
                records.iter_mut().for_each(|r| r.content_hash[0] ^= 1);
            }
            let begun = Instant::now();
            let counts = import(&world, records).await;
            println!("1,300 techniques, {round}: {} ms", begun.elapsed().as_millis());
            match round {
                "new" => assert_eq!(counts, (1_300, 0, 0, 0, 691)),
                "the same" => assert_eq!(counts, (0, 0, 1_300, 0, 0)),
                _ => assert_eq!(counts, (0, 1_300, 0, 0, 0)),
            }
        }
        let sizes: Vec<_> = techniques_changed(&world.published().await).iter().map(|e| e.techniques.len()).collect();
        assert_eq!(sizes, [500, 500, 500, 491, 500, 500, 300]);
        let (code, _) = refusal(send(&world, document(header(false), all(20_301), vec![])).await);
        assert_eq!(code, Code::TooLarge);
        world.close().await;
    }
}

#[tokio::test]
async fn a_chain_of_successors_is_told_at_both_ends() {
    for world in World::all().await {
        let revoked = |id: &str, by: Option<&str>| pb::TechniqueRecord {
            revoked: true,
            revoked_by: by.map(str::to_owned),
            ..record(id)
        };
        let records = vec![
            revoked("T1150", Some("T1547.011")),
            revoked("T1547.011", Some("T1647")),
            record("T1647"),
            // One ends in a deprecated technique, one in nothing, one is not known, two lead round in a circle.
            revoked("T1001", Some("T1002")),
            pb::TechniqueRecord { deprecated: true, ..record("T1002") },
            revoked("T1003", Some("T1004")),
            revoked("T1004", None),
            revoked("T1005", Some("T9999")),
            revoked("T1006", Some("T1007")),
            revoked("T1007", Some("T1006")),
        ];
        import(&world, records).await;
        for (id, by, successor, replaces) in [
            ("T1150", Some("T1547.011"), Some("T1647"), vec![]),
            ("T1547.011", Some("T1647"), Some("T1647"), vec!["T1150"]),
            ("T1647", None, None, vec!["T1150", "T1547.011"]),
            ("T1001", Some("T1002"), Some("T1002"), vec![]),
            ("T1002", None, None, vec!["T1001"]),
            ("T1003", Some("T1004"), None, vec![]),
            ("T1005", Some("T9999"), None, vec![]),
            ("T1006", Some("T1007"), None, vec!["T1007"]),
        ] {
            let technique = world.technique(id).await;
            assert_eq!((technique.revoked_by.as_deref(), technique.successor.as_deref()), (by, successor), "{id}");
            assert_eq!(technique.replaces, replaces, "{id}");
        }
        world.close().await;
    }
}

#[tokio::test]
async fn what_an_upgrade_would_do_is_told_and_half_a_matrix_is_refused() {
    for world in World::all().await {
        let all: Vec<_> = (1..=60).map(|n| record(&format!("T8{n:03}"))).collect();
        assert_eq!(import(&world, all.clone()).await, (60, 0, 0, 0, 691));
        let tested = world.technique("T8003").await.id;
        let testing = world.testing().await;
        let test = aegis_proto::events::v1::TestChanged {
            test_id: uuid::Uuid::now_v7().to_string(),
            version: 1,
            technique_id: tested.clone(),
            state: "draft".into(),
            ..Default::default()
        };
        testing.publish(&[test]).await;
        let made =
            pb::CreateTemplateRequest { name: "Ours".into(), mitre_technique_id: "T8003".into(), ..Default::default() };
        world.templates(Role::Admin).create_template(made).await.unwrap();
        world.published().await;

        let mut next = all.clone();
        (next[2].revoked, next[2].revoked_by) = (true, Some("T8061".into()));
        next[3].deprecated = true;
        next[4].content_hash[0] ^= 1;
        next.remove(5);
        next.push(record("T8061"));
        let expected = [
            ("T8003", "revoked", Some("T8061"), 1, 1),
            ("T8004", "deprecated", None, 0, 0),
            ("T8006", "vanished", None, 0, 0),
            ("T8005", "changed", None, 0, 0),
            ("T8061", "new", None, 0, 0),
        ];
        for dry in [true, false] {
            let answer = send(&world, document(header(dry), next.clone(), tactics())).await.unwrap();
            let changes: Vec<_> = answer
                .changes
                .iter()
                .map(|c| (c.mitre_id.as_str(), c.change.as_str(), c.revoked_by.as_deref(), c.tests, c.templates))
                .collect();
            assert_eq!(changes, expected);
            assert_eq!(answer.changes[0].technique_id, tested);
            let c = answer.techniques.unwrap();
            assert_eq!((c.created, c.updated, c.unchanged, c.vanished), (1, 3, 56, 1));
            let events = world.published().await;
            assert_eq!(events.is_empty(), dry);
            if !dry {
                let (_, _, details) = audited(&events).remove(0);
                assert_eq!(
                    details["changed_techniques"],
                    serde_json::json!(["T8003", "T8004", "T8006", "T8005", "T8061"])
                );
            }
        }

        let few = document(header(false), all[..20].to_vec(), vec![]);
        let refused = Failure::from(send(&world, few).await.unwrap_err());
        assert_eq!(refused.code(), Code::Unprocessable);
        assert!(refused.to_string().contains("41 of 58 techniques as gone"), "{refused}");
        assert!(world.published().await.is_empty());
        let dry = send(&world, document(header(true), all[..20].to_vec(), vec![])).await.unwrap();
        assert!(dry.techniques.unwrap().vanished > 30);
        let partial = pb::ImportHeader { partial: true, ..header(false) };
        let answer = send(&world, document(partial, vec![record("T8070")], vec![])).await.unwrap();
        let c = answer.techniques.unwrap();
        assert_eq!((c.created, c.vanished), (1, 0));
        assert!(!world.technique("T8050").await.deprecated);
        world.close().await;
    }
}
