//! What projections of other services hear and ask of what is known of techniques; documents that would take most of it
//! away.

use aegis_proto::{catalog::v1::import_knowledge_request::Part, events::v1::KnowledgeChanged};

use super::{
    imports::{document, header, message, record as technique, send, tactics},
    knowledge::{link, record, template},
    *,
};

/// Which kinds each event names.
fn told(published: &[Envelope]) -> Vec<Vec<String>> {
    let events = published.iter().filter(|event| event.r#type == KnowledgeChanged::KIND);
    events.map(|event| decode::<KnowledgeChanged>(event).unwrap().kinds).collect()
}

fn of(source: &str) -> pb::ImportHeader {
    pb::ImportHeader { source: source.into(), ..pb::ImportHeader::default() }
}

async fn bring(
    world: &World,
    header: pb::ImportHeader,
    records: &[pb::KnowledgeRecord],
    links: &[pb::LinkRecord],
) -> Result<pb::ImportKnowledgeResponse, Status> {
    let parts = vec![
        message(Part::Header(header)),
        message(Part::Knowledge(pb::KnowledgeBatch { records: records.to_vec() })),
        message(Part::Links(pb::LinkBatch { links: links.to_vec() })),
        message(Part::Commit(true)),
    ];
    send(world, parts).await
}

async fn export(world: &World, kinds: &[&str]) -> Vec<pb::KnownRecord> {
    let request = pb::ExportKnowledgeRequest { kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect() };
    let mut stream = world.knowledge(Role::Service).export_knowledge(request).await.unwrap().into_inner();
    let mut records = Vec::new();
    while let Some(part) = stream.message().await.unwrap() {
        assert!((1..=1_000).contains(&part.records.len()));
        records.extend(part.records);
    }
    records
}

#[tokio::test]
async fn one_event_says_which_kinds_have_changed() {
    for world in World::all().await {
        assert_eq!(told(&world.published().await), [["tactic"]], "the starter matrix");
        let rules = [record("detection_rule", "sigma:1", "One"), record("campaign", "C0001", "A campaign")];
        let links = [
            link(("detection_rule", "sigma:1"), "detects", ("technique", "T1059")),
            link(("control", "nist:AC-2"), "maps_to", ("technique", "T1059")),
            link(("software", "S0001"), "uses", ("technique", "T1059")),
            link(("threat_actor", "G0001"), "uses", ("software", "S0001")),
        ];
        bring(&world, pb::ImportHeader { dry_run: true, ..of("sigma") }, &rules, &links).await.unwrap();
        assert!(world.published().await.is_empty());
        bring(&world, of("sigma"), &rules, &links).await.unwrap();
        assert_eq!(told(&world.published().await), [["detection_rule", "control"]]);
        bring(&world, of("sigma"), &rules, &links).await.unwrap();
        assert!(world.published().await.is_empty(), "the same again");

        // Other words of a link change no projection; a link that is gone does.
        let mut worded = links.clone();
        worded[0].description = Some("other words".into());
        bring(&world, of("sigma"), &rules, &worded).await.unwrap();
        let events = world.published().await;
        assert_eq!((told(&events), audited(&events).len()), (Vec::<Vec<String>>::new(), 1));
        bring(&world, of("sigma"), &rules, &worded[..1]).await.unwrap();
        assert_eq!(told(&world.published().await), [["control"]]);
        bring(&world, of("sigma"), &rules[1..], &[]).await.unwrap();
        assert_eq!(told(&world.published().await), [["detection_rule"]], "both the rule and its link are gone");

        // What people do.
        let custom = pb::ImportHeader { partial: true, ..of("custom") };
        let own = [record("detection_rule", "custom:1", "Ours"), record("defence", "D3-NTA", "Analysis")];
        bring(&world, custom, &own, &[]).await.unwrap();
        assert_eq!(told(&world.published().await), [["detection_rule", "defence"]]);
        let mut lead = world.knowledge(Role::BlueLead);
        let implemented = || pb::UpdateDefenceRequest { id: "D3-NTA".into(), implemented: true };
        lead.update_defence(implemented()).await.unwrap();
        assert_eq!(told(&world.published().await), [["defence"]]);
        lead.update_defence(implemented()).await.unwrap();
        lead.delete_rule(pb::DeleteRuleRequest { id: "custom:1".into() }).await.unwrap();
        assert_eq!(told(&world.published().await), [["detection_rule"]]);
        world.close().await;
    }
}

#[tokio::test]
async fn an_export_has_all_that_is_active_by_kind_and_key() {
    for world in World::all().await {
        let attributes = |kind: &str, key: &str, attributes: &str| pb::KnowledgeRecord {
            attributes_json: attributes.into(),
            collection: (kind == "control").then(|| "nist".into()),
            ..record(kind, key, key)
        };
        let mut records = vec![
            attributes("framework", "nist", r#"{"version":"rev5","attack_version":"16.1","source":"CTID"}"#),
            attributes("framework", "plain", r#"{"version":5}"#),
            attributes("control", "nist:AC-2", r#"{"family":"AC"}"#),
            attributes("control", "nist:AC-2(1)", r#"{"family":"AC","parent":"AC-2"}"#),
            pb::KnowledgeRecord { aliases: vec!["Bear".into()], ..record("threat_actor", "G0016", "APT29") },
            pb::KnowledgeRecord { revoked: true, ..record("threat_actor", "G0099", "Gone") },
            pb::KnowledgeRecord { deprecated: true, ..record("defence", "D3-OLD", "Old") },
            record("defence", "D3-NTA", "Analysis"),
            record("software", "S0001", "Tool"),
        ];
        records.extend((0..1_001).map(|n| record("detection_rule", &format!("sigma:{n:04}"), "A rule")));
        let links = [
            link(("threat_actor", "G0016"), "uses", ("technique", "T1059.001")),
            link(("threat_actor", "G0016"), "uses", ("technique", "T1003")),
            link(("threat_actor", "G0016"), "uses", ("software", "S0001")),
            link(("control", "nist:AC-2"), "maps_to", ("technique", "T9999")),
            link(("defence", "D3-NTA"), "counters", ("technique", "T1003")),
            link(("detection_rule", "sigma:1000"), "detects", ("technique", "T1003")),
        ];
        bring(&world, of("all"), &records, &links).await.unwrap();
        // Another source says the same of the actor.
        bring(&world, pb::ImportHeader { partial: true, ..of("other") }, &[], &links[..1]).await.unwrap();
        let implemented = pb::UpdateDefenceRequest { id: "D3-NTA".into(), implemented: true };
        world.knowledge(Role::Admin).update_defence(implemented).await.unwrap();

        let all = export(&world, &[]).await;
        let count = |kind: &str| all.iter().filter(|known| known.kind == kind).count();
        let kinds = ["tactic", "threat_actor", "detection_rule", "defence", "framework", "control"];
        assert_eq!(kinds.map(count), [14, 1, 1_001, 1, 2, 2]);
        let mut order: Vec<&str> = all.iter().map(|known| known.kind.as_str()).collect();
        order.dedup();
        assert_eq!(order, kinds, "one kind after the other");
        let find = |key: &str| all.iter().find(|known| known.key == key).unwrap();
        let actor = find("G0016");
        assert_eq!((actor.name.as_str(), actor.aliases.as_slice()), ("APT29", ["Bear".to_owned()].as_slice()));
        assert_eq!(actor.mitre_technique_ids, ["T1003", "T1059.001"]);
        let framework = find("nist");
        assert_eq!(
            (framework.version.as_str(), framework.attack_version.as_str(), framework.mapping_source.as_str()),
            ("rev5", "16.1", "CTID")
        );
        assert_eq!((find("plain").version.as_str(), find("plain").mapping_source.as_str()), ("", "all"));
        let control = find("nist:AC-2(1)");
        assert_eq!(
            (control.collection.as_str(), control.family.as_str(), control.parent.as_str()),
            ("nist", "AC", "AC-2")
        );
        assert_eq!(find("nist:AC-2").mitre_technique_ids, ["T9999"], "known here or not");
        assert!(find("D3-NTA").implemented && find("D3-NTA").mitre_technique_ids == ["T1003"]);
        assert_eq!(find("sigma:1000").mitre_technique_ids, ["T1003"]);
        let tactic = find("enterprise:execution");
        assert_eq!((tactic.mitre_id.as_str(), tactic.collection.as_str()), ("TA0002", "enterprise"));
        assert_eq!(tactic.attack_version, "18.1", "of the starter matrix");

        assert_eq!(export(&world, &["defence", "control"]).await.len(), 3);
        let wrong = pb::ExportKnowledgeRequest { kinds: vec!["software".into()] };
        assert_eq!(refusal(world.knowledge(Role::Admin).export_knowledge(wrong).await.map(drop)).1, ["kinds"]);
        let asked = pb::ExportKnowledgeRequest::default();
        assert_eq!(refusal(world.knowledge(Role::RedLead).export_knowledge(asked).await.map(drop)).0, Code::Forbidden);
        world.close().await;
    }
}

#[tokio::test]
async fn the_release_of_a_matrix_is_in_events_and_exports() {
    for world in World::all().await {
        world.published().await;
        let mut parent = technique("T1059");
        let child = technique("T1059.001");
        let doc = |release: &str, all: &[pb::TechniqueRecord]| {
            let header = pb::ImportHeader { upstream_version: release.into(), ..header(false) };
            document(header, all.to_vec(), tactics())
        };
        send(&world, doc("17.1", &[parent.clone(), child.clone()])).await.unwrap();
        let events = world.published().await;
        assert_eq!(told(&events), [["tactic"]]);
        let facts = |events: &[Envelope]| {
            let all = techniques_changed(events).into_iter().flat_map(|event| event.techniques);
            all.filter(|facts| !facts.deleted).collect::<Vec<_>>()
        };
        let first = facts(&events);
        let of = |id: &str| first.iter().find(|facts| facts.mitre_id == id).unwrap();
        assert_eq!((of("T1059").parent_mitre_id.as_str(), of("T1059.001").parent_mitre_id.as_str()), ("", "T1059"));
        assert!(first.iter().all(|facts| facts.attack_version == "17.1" && facts.revoked_by.is_empty()));

        // The next one changes one technique; the matrix is of the new release all the same.
        (parent.revoked, parent.revoked_by) = (true, Some("T1060".into()));
        send(&world, doc("18.2", &[parent.clone(), child.clone()])).await.unwrap();
        let events = world.published().await;
        assert_eq!(told(&events), [["tactic"]]);
        let changed = facts(&events);
        assert_eq!(changed.len(), 1);
        assert_eq!((changed[0].revoked_by.as_str(), changed[0].attack_version.as_str()), ("T1060", "18.2"));
        let columns = export(&world, &["tactic"]).await;
        assert!(columns.len() == 2 && columns.iter().all(|tactic| tactic.attack_version == "18.2"));
        let mut stream =
            world.catalog(Role::Service).export_techniques(pb::ExportTechniquesRequest {}).await.unwrap().into_inner();
        let mut exported = Vec::new();
        while let Some(part) = stream.message().await.unwrap() {
            exported.extend(part.techniques.into_iter().filter(|t| t.domain == "enterprise"));
        }
        assert!(exported.len() >= 2 && exported.iter().all(|t| t.attack_release == "18.2"));
        send(&world, doc("18.2", &[parent, child])).await.unwrap();
        assert!(world.published().await.is_empty());
        world.close().await;
    }
}

#[tokio::test]
async fn a_document_that_lacks_most_of_what_was_there_is_refused_unless_it_is_forced() {
    for world in World::all().await {
        let rules: Vec<_> = (0..100).map(|n| record("detection_rule", &format!("sigma:{n}"), "A rule")).collect();
        bring(&world, of("sigma"), &rules, &[]).await.unwrap();
        let few: Vec<_> = rules[..99].to_vec();
        bring(&world, of("few"), &few, &[]).await.unwrap();
        let templates = |count: usize| {
            let templates = (0..count).map(|n| template(&format!("t{n}"), "A template", "T1059")).collect();
            vec![
                message(Part::Header(of("atomic"))),
                message(Part::Templates(pb::TemplateBatch { templates })),
                message(Part::Commit(true)),
            ]
        };
        send(&world, templates(100)).await.unwrap();
        world.published().await;

        for (answer, words) in [
            (bring(&world, of("sigma"), &rules[..49], &[]).await, "51 of 100 records as gone"),
            (send(&world, templates(49)).await, "51 of 100 templates as gone"),
        ] {
            let refused = Failure::from(answer.unwrap_err());
            assert_eq!(refused.code(), Code::Unprocessable);
            assert!(refused.to_string().contains(words) && refused.to_string().contains("force"), "{refused}");
        }
        assert!(world.published().await.is_empty(), "nothing was changed");
        let dry = pb::ImportHeader { dry_run: true, ..of("sigma") };
        assert_eq!(bring(&world, dry, &rules[..49], &[]).await.unwrap().kinds["detection_rule"].vanished, 51);
        // Half of them, and most of few, may go; so may all that a person says is to go.
        bring(&world, of("sigma"), &rules[..50], &[]).await.unwrap();
        bring(&world, of("few"), &few[..1], &[]).await.unwrap();
        bring(&world, of("sigma"), &rules[..1], &[]).await.unwrap();
        let mut forced = templates(1);
        forced[0] = message(Part::Header(pb::ImportHeader { force: true, ..of("atomic") }));
        let answer = send(&world, forced).await.unwrap();
        assert_eq!(answer.kinds["template"].vanished, 99);
        world.close().await;
    }
}

/// A rule with its text and what it is for.
fn rule(key: &str, format: &str, logsource: &str) -> pb::KnowledgeRecord {
    pb::KnowledgeRecord {
        content: Some(format!("title: {key}\n")),
        attributes_json: format!(
            r#"{{"rule_format":"{format}","logsource":{logsource},"author":"Ana","license":"DRL 1.1"}}"#
        ),
        ..record("detection_rule", key, "A rule")
    }
}

async fn texts(world: &World, sources: &[(&str, &str, &str)]) -> Vec<pb::RuleText> {
    let source = |(category, product, service): &(&str, &str, &str)| pb::LogSource {
        category: (*category).into(),
        product: (*product).into(),
        service: (*service).into(),
    };
    let log_sources = sources.iter().map(source).collect();
    let request = pb::ExportRulesRequest { rule_format: "sigma".into(), log_sources };
    let mut stream = world.knowledge(Role::Service).export_rules(request).await.unwrap().into_inner();
    let mut rules = Vec::new();
    while let Some(part) = stream.message().await.unwrap() {
        assert!(!part.rules.is_empty());
        rules.extend(part.rules);
    }
    rules
}

#[tokio::test]
async fn rules_are_exported_with_their_texts_for_the_events_that_somebody_has() {
    for world in World::all().await {
        let linux = r#"{"category":"process_creation","product":"Linux"}"#;
        let mut rules: Vec<_> = (0..205).map(|n| rule(&format!("sigma:{n:03}"), "sigma", linux)).collect();
        rules.push(rule("sigma:any", "sigma", r#"{"category":"process_creation"}"#));
        rules.push(rule("sigma:windows", "sigma", r#"{"category":"process_creation","product":"windows"}"#));
        rules.push(rule("sigma:web", "sigma", r#"{"category":"webserver"}"#));
        rules.push(rule("sigma:other", "elastic", linux));
        rules.push(pb::KnowledgeRecord { deprecated: true, ..rule("sigma:old", "sigma", linux) });
        rules.push(record("detection_rule", "sigma:empty", "No text"));
        bring(&world, of("sigma"), &rules, &[]).await.unwrap();
        let found = texts(&world, &[("process_creation", "linux", "")]).await;
        assert_eq!(found.len(), 206, "every page");
        let last = found.last().unwrap();
        assert_eq!((last.key.as_str(), last.source.as_str(), last.name.as_str()), ("sigma:any", "sigma", "A rule"));
        assert_eq!((last.author.as_str(), last.licence.as_str()), ("Ana", "DRL 1.1"));
        assert_eq!((last.content.as_str(), last.version), ("title: sigma:any\n", 1));
        assert_eq!(texts(&world, &[("webserver", "", ""), ("dns", "", "")]).await.len(), 1);
        assert_eq!(texts(&world, &[]).await.len(), 208);

        let many = pb::ExportRulesRequest { rule_format: String::new(), log_sources: vec![<_>::default(); 101] };
        let refused = refusal(world.knowledge(Role::Admin).export_rules(many.clone()).await.map(drop));
        assert_eq!(refused.1, ["rule_format", "log_sources"]);
        assert_eq!(refusal(world.knowledge(Role::RedLead).export_rules(many).await.map(drop)).0, Code::Forbidden);
        world.close().await;
    }
}
