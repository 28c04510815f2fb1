//! What is known of techniques: lists, records, links, counts, and what people change of it.

use aegis_auth::{Conditions, IfMatch};
use aegis_proto::catalog::v1::{import_knowledge_request::Part, knowledge_service_client::KnowledgeServiceClient};

use super::*;

pub type Knowledge = KnowledgeServiceClient<InterceptedService<Routes, As>>;

impl World {
    pub fn knowledge(&self, role: Role) -> Knowledge {
        KnowledgeServiceClient::with_interceptor(self.routes.clone(), As(ctx(role, role.as_str())))
            .max_decoding_message_size(aegis_rpc::MAX_MESSAGE)
    }

    fn knowledge_having_read(&self, version: i64) -> Knowledge {
        let conditions = Conditions { if_match: Some(IfMatch::Versions(vec![version])), idempotency_key: None };
        let caller = As(ctx(Role::BlueLead, "ada").under(conditions));
        KnowledgeServiceClient::with_interceptor(self.routes.clone(), caller)
    }

    /// Brings in what a source says.
    pub async fn bring(
        &self,
        source: &str,
        records: Vec<pb::KnowledgeRecord>,
        links: Vec<pb::LinkRecord>,
        templates: Vec<pb::TemplateRecord>,
    ) {
        let header = pb::ImportHeader { source: source.into(), partial: true, ..Default::default() };
        let mut parts = vec![Part::Header(header)];
        for batch in records.chunks(500) {
            parts.push(Part::Knowledge(pb::KnowledgeBatch { records: batch.to_vec() }));
        }
        parts.push(Part::Templates(pb::TemplateBatch { templates }));
        parts.push(Part::Links(pb::LinkBatch { links }));
        parts.push(Part::Commit(true));
        let parts: Vec<_> = parts.into_iter().map(|part| pb::ImportKnowledgeRequest { part: Some(part) }).collect();
        let mut client = self.catalog(Role::Service).max_decoding_message_size(aegis_rpc::MAX_MESSAGE);
        client.import_knowledge(futures::stream::iter(parts)).await.unwrap();
    }
}

pub fn record(kind: &str, key: &str, name: &str) -> pb::KnowledgeRecord {
    let mut content_hash = format!("{kind}{key}{name}").into_bytes();
    content_hash.resize(32, 7);
    pb::KnowledgeRecord {
        kind: kind.into(),
        key: key.into(),
        source_id: format!("id-{key}"),
        name: name.into(),
        description: Some(format!("What {name} is.")),
        attributes_json: r#"{"of":"it"}"#.into(),
        content_hash,
        ..Default::default()
    }
}

pub fn link(from: (&str, &str), relation: &str, to: (&str, &str)) -> pb::LinkRecord {
    pb::LinkRecord {
        from_kind: from.0.into(),
        from_key: from.1.into(),
        relation: relation.into(),
        to_kind: to.0.into(),
        to_key: to.1.into(),
        description: Some(format!("{} {relation} {}", from.1, to.1)),
        references_json: r#"[{"source_name":"A report"}]"#.into(),
    }
}

pub fn template(source_id: &str, name: &str, technique: &str) -> pb::TemplateRecord {
    let mut content_hash = source_id.as_bytes().to_vec();
    content_hash.resize(32, 7);
    pb::TemplateRecord {
        source_id: source_id.into(),
        name: name.into(),
        mitre_technique_id: technique.into(),
        severity: "high".into(),
        details_json: "{}".into(),
        content_hash,
        ..Default::default()
    }
}

/// Two actors, software, a rule of a publisher and one of a person, a countermeasure, controls.
async fn fill(world: &World) {
    let bear = pb::KnowledgeRecord {
        aliases: vec!["Cozy Bear".into(), "The Dukes".into()],
        country: Some("RU".into()),
        motivation: Some("espionage".into()),
        ..record("threat_actor", "G0016", "APT29")
    };
    let gone = pb::KnowledgeRecord {
        revoked: true,
        revoked_by: Some("G0016".into()),
        ..record("threat_actor", "G0099", "Old Bear")
    };
    let tool = pb::KnowledgeRecord { platforms: vec!["windows".into()], ..record("software", "S0002", "Mimikatz") };
    let links = vec![
        link(("threat_actor", "G0016"), "uses", ("technique", "T1059.001")),
        link(("threat_actor", "G0016"), "uses", ("technique", "T1003")),
        link(("threat_actor", "G0016"), "uses", ("software", "S0002")),
        link(("threat_actor", "G0099"), "uses", ("technique", "T1059.001")),
        link(("software", "S0002"), "uses", ("technique", "T1059.001")),
        link(("software", "S0002"), "uses", ("technique", "T9999")),
        link(("mitigation", "M1049"), "mitigates", ("technique", "T1059.001")),
    ];
    world.bring("other", vec![bear, gone, tool, record("mitigation", "M1049", "Antivirus")], links, vec![]).await;
    let rule = |key: &str, name: &str, severity: &str| pb::KnowledgeRecord {
        severity: Some(severity.into()),
        status: Some("stable".into()),
        content: Some("title: A rule".into()),
        ..record("detection_rule", key, name)
    };
    let detects = |key: &str| link(("detection_rule", key), "detects", ("technique", "T1059.001"));
    let rules = vec![rule("sigma:1", "Zebra", "low"), rule("sigma:2", "Ape", "critical")];
    world.bring("sigma", rules, vec![detects("sigma:1"), detects("sigma:2")], vec![]).await;
    world.bring("custom", vec![rule("custom:1", "Ours", "medium")], vec![detects("custom:1")], vec![]).await;
    let counters = link(("defence", "D3-NTA"), "counters", ("technique", "T1059.001"));
    world.bring("d3fend", vec![record("defence", "D3-NTA", "Network Traffic Analysis")], vec![counters], vec![]).await;
    let control = |key: &str, framework: &str| pb::KnowledgeRecord {
        collection: Some(framework.into()),
        ..record("control", key, &format!("Control {key}"))
    };
    let maps = |key: &str| link(("control", key), "maps_to", ("technique", "T1059.001"));
    let controls = vec![control("nist_800_53:AC-2(1)", "nist_800_53"), control("kev:CVE-2024-1", "kev")];
    let templates = vec![template("one", "Run it", "T1059.001"), template("two", "Run it again", "T1059.001")];
    world.bring("mappings", controls, vec![maps("nist_800_53:AC-2(1)"), maps("kev:CVE-2024-1")], templates).await;
}

fn ask(kind: &str) -> pb::ListKnowledgeRequest {
    pb::ListKnowledgeRequest { kind: kind.into(), ..Default::default() }
}

async fn keys(world: &World, request: pb::ListKnowledgeRequest) -> Vec<String> {
    let page = world.knowledge(Role::Viewer).list_knowledge(request).await.unwrap().into_inner();
    assert_eq!(page.total_size, page.records.len() as i64);
    page.records.into_iter().map(|record| record.key).collect()
}

#[tokio::test]
async fn lists_have_filters_orders_and_pages() {
    for world in World::all().await {
        fill(&world).await;
        let rules = || ask("detection_rule");
        let cases: Vec<(pb::ListKnowledgeRequest, &[&str])> = vec![
            (ask("threat_actor"), &["G0016"]),
            (pb::ListKnowledgeRequest { include_revoked: true, ..ask("threat_actor") }, &["G0016", "G0099"]),
            (pb::ListKnowledgeRequest { country: Some("ru".into()), ..ask("threat_actor") }, &["G0016"]),
            (pb::ListKnowledgeRequest { country: Some("CN".into()), ..ask("threat_actor") }, &[]),
            (pb::ListKnowledgeRequest { motivation: Some("Espion".into()), ..ask("threat_actor") }, &["G0016"]),
            (pb::ListKnowledgeRequest { motivation: Some("%".into()), ..ask("threat_actor") }, &[]),
            (pb::ListKnowledgeRequest { mitre_technique_id: Some("t1003".into()), ..ask("threat_actor") }, &["G0016"]),
            (pb::ListKnowledgeRequest { platform: Some("Windows".into()), ..ask("software") }, &["S0002"]),
            (pb::ListKnowledgeRequest { platform: Some("linux".into()), ..ask("software") }, &[]),
            (rules(), &["custom:1", "sigma:1", "sigma:2"]),
            (pb::ListKnowledgeRequest { sort: "-key".into(), ..rules() }, &["sigma:2", "sigma:1", "custom:1"]),
            (pb::ListKnowledgeRequest { sort: "name".into(), ..rules() }, &["sigma:2", "custom:1", "sigma:1"]),
            (pb::ListKnowledgeRequest { sort: "-severity".into(), ..rules() }, &["sigma:2", "custom:1", "sigma:1"]),
            (pb::ListKnowledgeRequest { sort: "severity".into(), ..rules() }, &["sigma:1", "custom:1", "sigma:2"]),
            (pb::ListKnowledgeRequest { source: Some("sigma".into()), ..rules() }, &["sigma:1", "sigma:2"]),
            (pb::ListKnowledgeRequest { severity: Some("low".into()), ..rules() }, &["sigma:1"]),
            (
                pb::ListKnowledgeRequest { status: Some("stable".into()), search: Some("zeb".into()), ..rules() },
                &["sigma:1"],
            ),
            (pb::ListKnowledgeRequest { collection: Some("kev".into()), ..ask("control") }, &["kev:CVE-2024-1"]),
            (pb::ListKnowledgeRequest { search: Some("dukes".into()), ..ask("threat_actor") }, &["G0016"]),
            (pb::ListKnowledgeRequest { search: Some("bear".into()), ..ask("threat_actor") }, &["G0016"]),
            (
                pb::ListKnowledgeRequest { search: Some("bear".into()), include_revoked: true, ..ask("threat_actor") },
                &["G0016", "G0099"],
            ),
            (pb::ListKnowledgeRequest { search: Some("AC-2(1)".into()), ..ask("control") }, &["nist_800_53:AC-2(1)"]),
            (pb::ListKnowledgeRequest { search: Some("(\"".into()), ..ask("control") }, &[]),
            (pb::ListKnowledgeRequest { implemented: Some(true), ..ask("defence") }, &[]),
        ];
        for (request, expected) in cases {
            assert_eq!(keys(&world, request.clone()).await, expected, "{request:?}");
        }

        let mut viewer = world.knowledge(Role::Viewer);
        let actor = viewer.list_knowledge(ask("threat_actor")).await.unwrap().into_inner().records.remove(0);
        assert_eq!((actor.description, actor.content, actor.aliases.len()), (None, None, 2));
        assert_eq!(actor.mitre_technique_ids, ["T1003", "T1059.001"]);
        let (mut seen, mut token) = (Vec::new(), String::new());
        loop {
            let request = pb::ListKnowledgeRequest { page_size: 2, page_token: token, ..rules() };
            let page = viewer.list_knowledge(request).await.unwrap().into_inner();
            assert_eq!(page.total_size, 3);
            seen.extend(page.records.into_iter().map(|record| record.key));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(seen, ["custom:1", "sigma:1", "sigma:2"]);

        for (request, field) in [
            (ask("technique"), "kind"),
            (ask(""), "kind"),
            (pb::ListKnowledgeRequest { sort: "content".into(), ..rules() }, "sort"),
            (pb::ListKnowledgeRequest { sort: "-".into(), ..rules() }, "sort"),
            (pb::ListKnowledgeRequest { severity: Some("bad".into()), ..rules() }, "severity"),
            (pb::ListKnowledgeRequest { search: Some("x".repeat(201)), ..rules() }, "search"),
            (pb::ListKnowledgeRequest { page_size: 5_001, ..rules() }, "limit"),
        ] {
            let (code, fields) = refusal(viewer.list_knowledge(request).await);
            assert_eq!((code, fields), (Code::Validation, vec![field.to_owned()]));
        }
        world.close().await;
    }
}

#[tokio::test]
async fn a_record_is_found_by_either_id() {
    for world in World::all().await {
        fill(&world).await;
        let mut viewer = world.knowledge(Role::Viewer);
        let mut get = async |kind: &str, id: &str| {
            let request = pb::GetKnowledgeRequest { kind: kind.into(), id: id.into() };
            viewer.get_knowledge(request).await.map(|answer| answer.into_inner().record.unwrap())
        };
        let rule = get("detection_rule", "sigma:2").await.unwrap();
        assert_eq!((rule.name.as_str(), rule.content.as_deref()), ("Ape", Some("title: A rule")));
        assert_eq!(rule.description.as_deref(), Some("What Ape is."));
        assert_eq!(rule.mitre_technique_ids, ["T1059.001"]);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&rule.attributes_json).unwrap()["of"], "it");
        assert_eq!(get("detection_rule", &rule.id).await.unwrap(), rule);
        assert_eq!(get("control", "NIST_800_53:ac-2(1)").await.unwrap().key, "nist_800_53:AC-2(1)");
        assert!(get("threat_actor", "G0099").await.unwrap().revoked, "by its key, though it is revoked");
        for (kind, id) in [("software", "sigma:2"), ("software", rule.id.as_str()), ("software", "' OR 1=1 --")] {
            assert_eq!(refusal(get(kind, id).await).0, Code::NotFound, "{id}");
        }
        assert_eq!(refusal(get("software", "").await).1, ["id"]);
        assert_eq!(refusal(get("nothing", "").await).1, ["kind", "id"]);
        world.close().await;
    }
}

#[tokio::test]
async fn links_go_both_ways_and_a_technique_is_counted() {
    for world in World::all().await {
        fill(&world).await;
        let mut viewer = world.knowledge(Role::Viewer);
        let of =
            |kind: &str, key: &str| pb::ListLinksRequest { kind: kind.into(), key: key.into(), ..Default::default() };
        let mut links = async |request: pb::ListLinksRequest| viewer.list_links(request).await.unwrap().into_inner();
        let tool = links(of("software", "S0002")).await;
        let shown: Vec<_> =
            tool.links.iter().map(|l| (l.kind.as_str(), l.key.as_str(), l.outgoing, l.name.as_str())).collect();
        assert_eq!(
            shown,
            [
                ("technique", "T1059.001", true, "PowerShell"),
                ("technique", "T9999", true, ""),
                ("threat_actor", "G0016", false, "APT29"),
            ]
        );
        assert!(tool.links[1].id.is_empty() && !tool.links[0].id.is_empty());
        assert_eq!(tool.links[2].description.as_deref(), Some("G0016 uses S0002"));
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&tool.links[2].references_json).unwrap()[0]["source_name"],
            "A report"
        );
        let technique = links(of("technique", "t1059.001")).await;
        assert_eq!((technique.total_size, technique.links.len()), (9, 9), "without the actor that is revoked");
        let all = links(pb::ListLinksRequest { include_revoked: true, ..of("technique", "T1059.001") }).await;
        assert_eq!((all.total_size, all.links.last().unwrap().key.as_str()), (10, "G0099"), "what is active is first");
        let rules =
            links(pb::ListLinksRequest { other_kind: "detection_rule".into(), ..of("technique", "T1059.001") }).await;
        assert_eq!(rules.total_size, 3);
        let page = links(pb::ListLinksRequest { page_size: 4, skip: 4, ..of("technique", "T1059.001") }).await;
        assert_eq!((page.links.len(), page.total_size, &page.links[..]), (4, 9, &technique.links[4..8]));
        assert!(!page.next_page_token.is_empty());

        let mut viewer = world.knowledge(Role::Viewer);
        let counts = viewer
            .get_technique_knowledge(pb::GetTechniqueKnowledgeRequest { mitre_id: "t1059.001".into() })
            .await
            .unwrap()
            .into_inner()
            .counts;
        let counts: Vec<_> =
            counts.iter().map(|c| (c.kind.as_str(), c.source.as_str(), c.relation.as_str(), c.count)).collect();
        assert!(counts.contains(&("template", "mappings", "tests", 2)));
        let counts: Vec<_> = counts.into_iter().filter(|(kind, ..)| *kind != "template").collect();
        assert_eq!(
            counts,
            [
                ("control", "mappings", "maps_to", 2),
                ("defence", "d3fend", "counters", 1),
                ("detection_rule", "custom", "detects", 1),
                ("detection_rule", "sigma", "detects", 2),
                ("mitigation", "other", "mitigates", 1),
                ("software", "other", "uses", 1),
                ("threat_actor", "other", "uses", 1),
            ]
        );
        let unknown = pb::GetTechniqueKnowledgeRequest { mitre_id: "T9999".into() };
        assert_eq!(refusal(viewer.get_technique_knowledge(unknown).await).0, Code::NotFound);
        assert_eq!(refusal(viewer.list_links(of("technique", "T9998")).await).0, Code::NotFound);
        let wrong = pb::ListLinksRequest { other_kind: "moon".into(), ..of("template", "") };
        assert_eq!(refusal(viewer.list_links(wrong).await).1, ["kind", "other_kind", "key"]);
        world.close().await;
    }
}

#[tokio::test]
async fn leads_say_what_is_implemented() {
    for world in World::all().await {
        fill(&world).await;
        let request = |implemented: bool| pb::UpdateDefenceRequest { id: "D3-NTA".into(), implemented };
        assert_eq!(refusal(world.knowledge(Role::RedTech).update_defence(request(true)).await).0, Code::Forbidden);
        world.published().await;
        let changed = world.knowledge(Role::BlueLead).update_defence(request(true)).await.unwrap().into_inner();
        let changed = changed.record.unwrap();
        assert_eq!((changed.implemented, changed.version), (true, 2));
        assert_eq!(changed.mitre_technique_ids, ["T1059.001"]);
        let trail = audited(&world.published().await);
        assert_eq!((trail.len(), trail[0].0.as_str(), trail[0].1.as_str()), (1, "update_defence", changed.id.as_str()));
        assert_eq!(
            (&trail[0].2["before"]["implemented"], &trail[0].2["after"]["implemented"]),
            (&false.into(), &true.into())
        );
        world.knowledge(Role::Admin).update_defence(request(true)).await.unwrap();
        assert!(world.published().await.is_empty(), "the same again changes nothing");
        let stale = world.knowledge_having_read(1).update_defence(request(false)).await;
        assert_eq!(refusal(stale).0, Code::PreconditionFailed);
        let by_id = pb::UpdateDefenceRequest { id: changed.id.clone(), implemented: false };
        assert!(
            !world
                .knowledge_having_read(2)
                .update_defence(by_id)
                .await
                .unwrap()
                .into_inner()
                .record
                .unwrap()
                .implemented
        );
        let unknown = pb::UpdateDefenceRequest { id: "S0002".into(), implemented: true };
        assert_eq!(refusal(world.knowledge(Role::Admin).update_defence(unknown).await).0, Code::NotFound);
        world.close().await;
    }
}

#[tokio::test]
async fn only_rules_of_people_are_deleted() {
    for world in World::all().await {
        fill(&world).await;
        world.published().await;
        let request = |id: &str| pb::DeleteRuleRequest { id: id.into() };
        let mut lead = world.knowledge(Role::RedLead);
        assert_eq!(refusal(world.knowledge(Role::BlueTech).delete_rule(request("custom:1")).await).0, Code::Forbidden);
        assert_eq!(refusal(lead.delete_rule(request("sigma:1")).await).0, Code::Conflict);
        assert_eq!(refusal(lead.delete_rule(request("S0002")).await).0, Code::NotFound);
        assert_eq!(
            refusal(world.knowledge_having_read(7).delete_rule(request("custom:1")).await).0,
            Code::PreconditionFailed
        );
        assert!(world.published().await.iter().all(|event| event.r#type == AuditRecorded::KIND));
        lead.delete_rule(request("custom:1")).await.unwrap();
        let trail = audited(&world.published().await);
        assert_eq!((trail.len(), trail[0].0.as_str()), (1, "delete_rule"));
        assert_eq!(trail[0].2["before"]["key"], "custom:1");
        assert_eq!(refusal(lead.delete_rule(request("custom:1")).await).0, Code::NotFound);
        assert_eq!(keys(&world, ask("detection_rule")).await, ["sigma:1", "sigma:2"]);
        let links = pb::ListLinksRequest {
            kind: "technique".into(),
            key: "T1059.001".into(),
            other_kind: "detection_rule".into(),
            ..Default::default()
        };
        assert_eq!(lead.list_links(links).await.unwrap().into_inner().total_size, 2);
        let search = pb::SearchRequest { query: "custom:1".into(), ..Default::default() };
        assert_eq!(lead.search(search).await.unwrap().into_inner().total_size, 0);
        world.close().await;
    }
}

#[tokio::test]
async fn names_come_with_what_they_stand_for() {
    for world in World::all().await {
        fill(&world).await;
        let many = (0..1_003).map(|n| record("campaign", &format!("C{n:04}"), &format!("Campaign {n}"))).collect();
        world.bring("many", many, vec![], vec![]).await;
        let kinds = |kinds: &[&str]| pb::ListNamesRequest { kinds: kinds.iter().map(|k| (*k).to_owned()).collect() };
        let mut service = world.knowledge(Role::Service);
        let asked = kinds(&["control", "software", "campaign", "asset", "threat_actor", "technique"]);
        let mut stream = service.list_names(asked).await.unwrap().into_inner();
        let (mut names, mut sizes) = (Vec::new(), Vec::new());
        while let Some(part) = stream.message().await.unwrap() {
            sizes.push(part.names.len());
            names.extend(part.names);
        }
        assert_eq!(sizes, [691, 1, 1, 1_000, 3, 2]);
        let of = |key: &str| names.iter().find(|name| name.key == key).unwrap();
        assert_eq!(of("G0016").aliases, ["Cozy Bear", "The Dukes"]);
        assert_eq!(of("S0002").mitre_technique_ids, ["T1059.001", "T9999"]);
        assert_eq!(of("kev:CVE-2024-1").mitre_technique_ids, ["T1059.001"]);
        assert!(of("nist_800_53:AC-2(1)").mitre_technique_ids.is_empty());
        assert!(!names.iter().any(|name| name.key == "G0099"), "revoked");
        assert_eq!(refusal(service.list_names(kinds(&[])).await).1, ["kinds"]);
        assert_eq!(refusal(service.list_names(kinds(&["template"])).await).1, ["kinds"]);
        assert_eq!(refusal(world.knowledge(Role::RedLead).list_names(kinds(&["asset"])).await).0, Code::Forbidden);
        world.close().await;
    }
}

#[tokio::test]
async fn techniques_are_flagged_once() {
    for world in World::all().await {
        world.published().await;
        let request = |ids: &[&str], reason: &str| pb::FlagTechniquesRequest {
            mitre_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            reason: reason.into(),
        };
        let mut service = world.knowledge(Role::Service);
        let before = world.technique("T1059").await;
        let flagged =
            service.flag_techniques(request(&["T1059", "T1003", "T9999", "T1059"], "named by CVE-2024-1")).await;
        assert_eq!(flagged.unwrap().into_inner().flagged, 2);
        let after = world.technique("T1059").await;
        assert!(after.review_required && after.version == before.version + 1);
        let events = world.published().await;
        let changed = techniques_changed(&events);
        assert_eq!((changed.len(), changed[0].techniques.len()), (1, 2));
        let trail = audited(&events);
        assert_eq!((trail.len(), trail[0].0.as_str()), (1, "flag_techniques"));
        assert_eq!((&trail[0].2["reason"], &trail[0].2["flagged"]), (&"named by CVE-2024-1".into(), &2.into()));
        let again = service.flag_techniques(request(&["T1059", "T1003"], "again")).await.unwrap();
        assert_eq!(again.into_inner().flagged, 0);
        assert!(world.published().await.is_empty());
        assert_eq!(service.flag_techniques(request(&[], "none")).await.unwrap().into_inner().flagged, 0);
        assert_eq!(refusal(service.flag_techniques(request(&["x"], "")).await).1, ["mitre_ids", "reason"]);
        let lead = world.knowledge(Role::RedLead).flag_techniques(request(&["T1059"], "mine")).await;
        assert_eq!(refusal(lead).0, Code::Forbidden);
        world.close().await;
    }
}
