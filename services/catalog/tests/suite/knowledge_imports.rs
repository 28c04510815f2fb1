//! Records, links and templates of a document meet the catalogue.

use std::{collections::BTreeMap, time::Instant};

use aegis_proto::catalog::v1::import_knowledge_request::Part;

use super::{
    imports::{header as matrix_header, message, record as technique, send, tactics},
    *,
};

fn hash(text: &str) -> Vec<u8> {
    let mut hash: Vec<u8> = text.bytes().rev().take(32).collect();
    hash.resize(32, 0);
    hash
}

fn record(kind: &str, key: &str, name: &str) -> pb::KnowledgeRecord {
    pb::KnowledgeRecord {
        kind: kind.into(),
        key: key.into(),
        source_id: format!("id of {key}"),
        name: name.into(),
        description: Some(format!("About {name}")),
        platforms: vec!["windows".into(), "linux".into()],
        attributes_json: r#"{"author":"somebody"}"#.into(),
        content_hash: hash(&format!("{key}{name}")),
        ..Default::default()
    }
}

fn rule(key: &str, name: &str) -> pb::KnowledgeRecord {
    pb::KnowledgeRecord { severity: Some("high".into()), ..record("detection_rule", key, name) }
}

fn actor(key: &str, name: &str, aliases: &[&str]) -> pb::KnowledgeRecord {
    pb::KnowledgeRecord {
        aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
        content_hash: hash(&format!("{key}{name}{}", aliases.concat())),
        ..record("threat_actor", key, name)
    }
}

fn link(from: (&str, &str), relation: &str, to: (&str, &str), text: &str) -> pb::LinkRecord {
    pb::LinkRecord {
        from_kind: from.0.into(),
        from_key: from.1.into(),
        relation: relation.into(),
        to_kind: to.0.into(),
        to_key: to.1.into(),
        description: Some(text.into()),
        references_json: r#"[{"source_name":"us"}]"#.into(),
    }
}

fn detects(rule: &str, mitre_id: &str) -> pb::LinkRecord {
    link(("detection_rule", rule), "detects", ("technique", mitre_id), "")
}

fn template(source_id: &str, mitre_id: &str, name: &str) -> pb::TemplateRecord {
    pb::TemplateRecord {
        source_id: source_id.into(),
        name: name.into(),
        mitre_technique_id: mitre_id.into(),
        platforms: vec!["macos".into(), "linux".into()],
        severity: "medium".into(),
        attack_procedure: Some("Do it".into()),
        details_json: r#"{"executor":{"name":"sh"}}"#.into(),
        content_hash: hash(&format!("{source_id}{mitre_id}{name}")),
        ..Default::default()
    }
}

fn source(source: &str) -> pb::ImportHeader {
    pb::ImportHeader { source: source.into(), origin: source.into(), ..Default::default() }
}

fn attack(domain: &str) -> pb::ImportHeader {
    let origin = format!("mitre_attack_{domain}");
    pb::ImportHeader { domain: domain.into(), origin, partial: false, ..matrix_header(false) }
}

#[derive(Clone, Default)]
struct Doc {
    techniques: Vec<pb::TechniqueRecord>,
    records: Vec<pb::KnowledgeRecord>,
    links: Vec<pb::LinkRecord>,
    templates: Vec<pb::TemplateRecord>,
}

fn parts(header: pb::ImportHeader, doc: Doc) -> Vec<pb::ImportKnowledgeRequest> {
    let mut parts = vec![message(Part::Header(header))];
    if !doc.techniques.is_empty() {
        parts.push(message(Part::Tactics(pb::TacticBatch { tactics: tactics() })));
        parts.push(message(Part::Techniques(pb::TechniqueBatch { techniques: doc.techniques })));
    }
    for records in doc.records.chunks(2_000) {
        parts.push(message(Part::Knowledge(pb::KnowledgeBatch { records: records.to_vec() })));
    }
    for links in doc.links.chunks(5_000) {
        parts.push(message(Part::Links(pb::LinkBatch { links: links.to_vec() })));
    }
    parts.push(message(Part::Templates(pb::TemplateBatch { templates: doc.templates })));
    parts.push(message(Part::Commit(true)));
    parts
}

async fn import(world: &World, header: pb::ImportHeader, doc: Doc) -> pb::ImportKnowledgeResponse {
    send(world, parts(header, doc)).await.unwrap()
}

/// (created, updated, unchanged, vanished) of a kind; zeros where nothing is said of it.
fn of(answer: &pb::ImportKnowledgeResponse, kind: &str) -> (i64, i64, i64, i64) {
    let c = answer.kinds.get(kind).cloned().unwrap_or_default();
    (c.created, c.updated, c.unchanged, c.vanished)
}

#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
struct Row {
    key: String,
    name: String,
    source: String,
    deprecated: bool,
    revoked_by: Option<String>,
    country: Option<String>,
    implemented: bool,
    version: i64,
}

/// The rows of a kind, by key.
async fn rows(world: &World, kind: &str) -> BTreeMap<String, Row> {
    let rows: Vec<Row> = read!(&world.home.db, |pool| {
        sqlx::query_as(
        "SELECT key, name, source, deprecated, revoked_by, country, implemented, version FROM knowledge WHERE kind = $1"
    )
    .bind(kind)
    .fetch_all(pool)
    .await
    })
    .unwrap();
    rows.into_iter().map(|row| (row.key.clone(), row)).collect()
}

async fn count(world: &World, sql: &'static str) -> i64 {
    read!(&world.home.db, |pool| sqlx::query_scalar(sql).fetch_one(pool).await).unwrap()
}

async fn execute(world: &World, sql: &'static str) {
    let mut tx = world.home.db.begin().await.unwrap();
    on!(tx, |c| sqlx::query(sql).execute(c).await.map(|_| ())).unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_document_is_compared_with_what_its_origin_brought_before() {
    for world in World::all().await {
        world.published().await;
        let first = Doc {
            records: vec![rule("sigma:1", "One"), rule("sigma:2", "Two"), rule("sigma:3", "Three")],
            links: vec![detects("sigma:1", "T1059"), detects("sigma:2", "T1059"), detects("sigma:3", "T7777.001")],
            ..Doc::default()
        };
        let dry = pb::ImportHeader { dry_run: true, ..source("sigma") };
        let answer = import(&world, dry, first.clone()).await;
        assert_eq!((of(&answer, "detection_rule"), of(&answer, "link")), ((3, 0, 0, 0), (3, 0, 0, 0)));
        assert!(rows(&world, "detection_rule").await.is_empty() && world.published().await.is_empty());

        let answer = import(&world, source("sigma"), first.clone()).await;
        assert_eq!((of(&answer, "detection_rule"), of(&answer, "link")), ((3, 0, 0, 0), (3, 0, 0, 0)));
        assert_eq!((answer.links_unknown, answer.kinds.len(), answer.changes.len()), (1, 2, 0));
        let trail = audited(&world.published().await);
        assert_eq!((trail.len(), trail[0].0.as_str(), trail[0].1.as_str()), (1, "import_knowledge", "sigma"));
        assert_eq!(trail[0].2["kinds"]["link"]["created"], 3);
        let platforms = "SELECT COUNT(*) FROM knowledge_platform WHERE platform = 'linux'";
        assert_eq!(count(&world, platforms).await, 3);

        // The same again touches nothing.
        let before = rows(&world, "detection_rule").await;
        let answer = import(&world, source("sigma"), first.clone()).await;
        assert_eq!((of(&answer, "detection_rule"), of(&answer, "link")), ((0, 0, 3, 0), (0, 0, 3, 0)));
        assert_eq!(rows(&world, "detection_rule").await, before);
        assert!(world.published().await.is_empty());

        // One changed, one gone, one new; a link has other words.
        let mut second = first.clone();
        second.records[0] = rule("sigma:1", "One, renamed");
        second.records[1] = rule("sigma:4", "Four");
        second.links[0].description = Some("Other words".into());
        second.links[1] = detects("sigma:4", "T1059");
        let answer = import(&world, source("sigma"), second).await;
        assert_eq!((of(&answer, "detection_rule"), of(&answer, "link")), ((1, 1, 1, 1), (1, 1, 1, 1)));
        let now = rows(&world, "detection_rule").await;
        assert_eq!((now["sigma:1"].name.as_str(), now["sigma:1"].version), ("One, renamed", 2));
        assert_eq!((now["sigma:2"].deprecated, now["sigma:2"].version), (true, 2));
        assert_eq!(now["sigma:3"], before["sigma:3"]);
        assert_eq!(count(&world, "SELECT COUNT(*) FROM link").await, 3);

        // What is gone stays gone, and comes back.
        let answer = import(&world, source("sigma"), first.clone()).await;
        assert_eq!((of(&answer, "detection_rule"), of(&answer, "link")), ((0, 2, 1, 1), (1, 1, 1, 1)));
        let now = rows(&world, "detection_rule").await;
        assert_eq!((now["sigma:2"].deprecated, now["sigma:2"].version), (false, 3));
        assert!(now["sigma:4"].deprecated);

        // The technique that a rule names comes at last; nothing is to be done of the rule.
        import(&world, attack("enterprise"), Doc { techniques: vec![technique("T7777.001")], ..Doc::default() }).await;
        let answer = import(&world, source("sigma"), first).await;
        assert_eq!((of(&answer, "link"), answer.links_unknown), ((0, 0, 3, 0), 2));
        world.close().await;
    }
}

#[tokio::test]
async fn a_partial_document_takes_nothing_away() {
    for world in World::all().await {
        let header = || pb::ImportHeader { partial: true, ..source("custom") };
        let doc = |key: &str, name: &str, mitre_ids: &[&str]| Doc {
            records: vec![rule(key, name)],
            links: mitre_ids.iter().map(|id| detects(key, id)).collect(),
            templates: vec![template(key, "T1059", name)],
            ..Doc::default()
        };
        import(&world, header(), doc("custom:1", "One", &["T1059", "T1003"])).await;
        let answer = import(&world, header(), doc("custom:2", "Two", &["T1059"])).await;
        assert_eq!(
            (of(&answer, "detection_rule"), of(&answer, "link"), of(&answer, "template")),
            ((1, 0, 0, 0), (1, 0, 0, 0), (1, 0, 0, 0))
        );
        // A rule that comes again brings all its links.
        let answer = import(&world, header(), doc("custom:1", "One more", &["T1059"])).await;
        assert_eq!((of(&answer, "detection_rule"), of(&answer, "link")), ((0, 1, 0, 0), (0, 0, 1, 1)));
        let now = rows(&world, "detection_rule").await;
        assert!(now.len() == 2 && now.values().all(|row| !row.deprecated));
        assert_eq!(count(&world, "SELECT COUNT(*) FROM link").await, 2);
        // One that comes again without any has none.
        let answer = import(&world, header(), doc("custom:1", "Alone", &[])).await;
        assert_eq!((of(&answer, "detection_rule"), of(&answer, "link")), ((0, 1, 0, 0), (0, 0, 0, 1)));
        assert_eq!(count(&world, "SELECT COUNT(*) FROM link").await, 1);
        world.close().await;
    }
}

#[tokio::test]
async fn an_object_of_two_domains_is_one_row_as_long_as_one_has_it() {
    for world in World::all().await {
        let doc = |names: &[(&str, &str, &str)], technique_id: &str| Doc {
            techniques: vec![technique(technique_id)],
            records: names.iter().map(|(kind, key, name)| record(kind, key, name)).collect(),
            links: vec![link(("threat_actor", "G0007"), "uses", ("technique", technique_id), "It uses it.")],
            ..Doc::default()
        };
        let mobile =
            doc(&[("threat_actor", "G0007", "APT28 of mobile"), ("software", "S0001", "Tool of mobile")], "T1400");
        let enterprise = doc(&[("threat_actor", "G0007", "APT28"), ("software", "S0001", "Tool")], "T1059");
        import(&world, attack("mobile"), mobile.clone()).await;
        let answer = import(&world, attack("enterprise"), enterprise.clone()).await;
        assert_eq!((of(&answer, "threat_actor"), of(&answer, "software")), ((0, 1, 0, 0), (0, 1, 0, 0)));
        let names = async || {
            let (actors, software) = (rows(&world, "threat_actor").await, rows(&world, "software").await);
            let of = |row: &Row| (row.name.clone(), row.deprecated);
            (of(&actors["G0007"]), of(&software["S0001"]))
        };
        let shown = |actor: &str, tool: &str, gone| ((actor.to_owned(), gone), (tool.to_owned(), gone));
        assert_eq!(names().await, shown("APT28", "Tool", false));
        assert_eq!(count(&world, "SELECT COUNT(*) FROM link").await, 2);

        // Mobile changes below it, and is shown when enterprise no longer has it.
        let mut changed = mobile.clone();
        changed.records[0] = record("threat_actor", "G0007", "APT28 again");
        changed.records[1] = record("software", "S0001", "Tool again");
        let before = (rows(&world, "threat_actor").await, rows(&world, "software").await);
        let answer = import(&world, attack("mobile"), changed).await;
        assert_eq!((of(&answer, "threat_actor"), of(&answer, "software")), ((0, 1, 0, 0), (0, 1, 0, 0)));
        assert_eq!((rows(&world, "threat_actor").await, rows(&world, "software").await), before);
        let answer =
            import(&world, attack("enterprise"), Doc { techniques: vec![technique("T1059")], ..Doc::default() }).await;
        assert_eq!((of(&answer, "threat_actor"), of(&answer, "link")), ((0, 0, 0, 1), (0, 0, 0, 1)));
        assert_eq!(names().await, shown("APT28 again", "Tool again", false));
        import(&world, attack("mobile"), Doc { techniques: vec![technique("T1400")], ..Doc::default() }).await;
        assert_eq!(names().await, shown("APT28 again", "Tool again", true));
        import(&world, attack("enterprise"), enterprise).await;
        assert_eq!(names().await, shown("APT28", "Tool", false));
        world.close().await;
    }
}

#[tokio::test]
async fn actors_of_two_publishers_are_merged_whoever_comes_first() {
    let groups = Doc {
        techniques: vec![technique("T1059")],
        records: vec![
            actor("G0016", "APT29", &["Cozy Bear"]),
            actor("G0007", "APT28", &["Shared"]),
            actor("G0001", "Axiom", &[]),
        ],
        ..Doc::default()
    };
    let country =
        |country: &str, actor: pb::KnowledgeRecord| pb::KnowledgeRecord { country: Some(country.into()), ..actor };
    let misp = Doc {
        records: vec![
            country("RU", actor("misp:1", "COZY-BEAR", &["Yttrium"])),
            country("RU", actor("misp:2", "Two", &["shared"])),
            country("CN", actor("misp:3", "Three", &["shared"])),
        ],
        ..Doc::default()
    };
    let mut seen = Vec::new();
    for misp_first in [true, false] {
        for world in World::all().await {
            let mut order = [(source("misp_threat_actors"), misp.clone()), (attack("enterprise"), groups.clone())];
            if !misp_first {
                order.reverse();
            }
            for (header, doc) in order.clone() {
                let answer = import(&world, header, doc.clone()).await;
                assert_eq!(of(&answer, "threat_actor"), (doc.records.len() as i64, 0, 0, 0));
            }
            let now = rows(&world, "threat_actor").await;
            assert_eq!(now.len(), 6);
            assert_eq!(now["G0016"].country.as_deref(), Some("RU"));
            assert_eq!((now["misp:1"].deprecated, now["misp:1"].revoked_by.as_deref()), (true, Some("G0016")));
            assert_eq!((now["misp:2"].deprecated, now["misp:2"].source.as_str()), (false, "misp_threat_actors"));
            assert_eq!(now["G0007"].country, None);
            world.published().await;
            for (header, doc) in order {
                let answer = import(&world, header, doc.clone()).await;
                assert_eq!(of(&answer, "threat_actor"), (0, 0, doc.records.len() as i64, 0));
            }
            assert!(world.published().await.is_empty());
            let content: Vec<_> = now.values().map(|row| Row { version: 0, ..row.clone() }).collect();
            seen.push(content);

            // The group loses the name: both are on their own again, and together again with it.
            let mut renamed = groups.clone();
            renamed.records[0] = actor("G0016", "APT29", &[]);
            import(&world, attack("enterprise"), renamed).await;
            let apart = rows(&world, "threat_actor").await;
            assert_eq!((apart["misp:1"].deprecated, apart["misp:1"].revoked_by.as_deref()), (false, None));
            assert_eq!(apart["G0016"].country, None);
            import(&world, attack("enterprise"), groups.clone()).await;
            assert_eq!(rows(&world, "threat_actor").await["G0016"].country.as_deref(), Some("RU"));
            world.close().await;
        }
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "the order does not matter");
}

#[tokio::test]
async fn templates_come_go_and_come_back_as_a_person_left_them() {
    for world in World::all().await {
        let atomic = || source("atomic_red_team");
        let doc = Doc {
            templates: vec![template("a", "T1059", "Same name"), template("b", "T1059", "Same name")],
            ..Doc::default()
        };
        let answer = import(&world, atomic(), doc.clone()).await;
        assert_eq!(of(&answer, "template"), (2, 0, 0, 0));
        let mut viewer = world.templates(Role::Viewer);
        let mut admin = world.templates(Role::Admin);
        let mut list = async |platform: Option<&str>| {
            let request = pb::ListTemplatesRequest {
                source: Some("atomic_red_team".into()),
                platform: platform.map(str::to_owned),
                ..Default::default()
            };
            viewer.list_templates(request).await.unwrap().into_inner().templates
        };
        let all = list(None).await;
        assert_eq!(list(Some("linux")).await, all, "every platform is one to be found by");
        assert_eq!(list(Some("windows")).await, []);
        let b = all.iter().find(|t| t.source_id == "b").unwrap().clone();
        assert_eq!((b.platform.as_deref(), b.platforms.len(), b.version), (Some("macos"), 2, 1));
        let details: serde_json::Value = serde_json::from_str(&b.details_json).unwrap();
        assert_eq!(details["executor"]["name"], "sh");
        let toggle = pb::ToggleTemplateActiveRequest { id: b.id.clone() };
        admin.toggle_template_active(toggle).await.unwrap();

        let one = Doc { templates: vec![doc.templates[0].clone()], ..Doc::default() };
        let answer = import(&world, atomic(), one.clone()).await;
        assert_eq!(of(&answer, "template"), (0, 0, 1, 1));
        assert_eq!(list(None).await.len(), 1);
        let stats = admin.get_template_stats(pb::GetTemplateStatsRequest {}).await.unwrap().into_inner();
        assert_eq!((stats.active, stats.inactive, stats.by_source["atomic_red_team"]), (49, 1, 2));
        let gone = admin.get_template(pb::GetTemplateRequest { id: b.id.clone() }).await.unwrap().into_inner();
        assert!(gone.template.unwrap().vanished);
        assert_eq!(of(&import(&world, atomic(), one).await, "template"), (0, 0, 1, 0), "it is gone once");

        // A GUID can move to another technique.
        let mut moved = doc.clone();
        moved.templates[1] = template("b", "T1003", "Moved");
        assert_eq!(of(&import(&world, atomic(), moved.clone()).await, "template"), (0, 1, 1, 0));
        let back = admin.get_template(pb::GetTemplateRequest { id: b.id.clone() }).await.unwrap().into_inner();
        let back = back.template.unwrap();
        assert_eq!((back.vanished, back.is_active, back.mitre_technique_id.as_str()), (false, false, "T1003"));
        assert_eq!((back.version, back.created_at == b.created_at), (4, true));
        world.published().await;
        assert_eq!(of(&import(&world, atomic(), moved).await, "template"), (0, 0, 2, 0));
        assert!(world.published().await.is_empty());
        // Another source's templates are none of its business.
        let other = Doc { templates: vec![template("a", "T1059", "Other")], ..Doc::default() };
        assert_eq!(of(&import(&world, source("caldera"), other).await, "template"), (1, 0, 0, 0));
        assert_eq!(list(None).await.len(), 2);
        world.close().await;
    }
}

#[tokio::test]
async fn what_a_person_set_stays() {
    for world in World::all().await {
        let doc = |name: &str| Doc { records: vec![record("defence", "D3-NTA", name)], ..Doc::default() };
        import(&world, source("d3fend"), doc("Analysis")).await;
        execute(&world, "UPDATE knowledge SET implemented = TRUE, version = version + 1").await;
        import(&world, source("d3fend"), doc("Traffic Analysis")).await;
        let row = rows(&world, "defence").await.remove("D3-NTA").unwrap();
        assert_eq!((row.name.as_str(), row.implemented, row.version), ("Traffic Analysis", true, 3));
        world.close().await;
    }
}

#[tokio::test]
async fn a_document_that_is_cut_or_wrong_changes_nothing() {
    for world in World::all().await {
        world.published().await;
        let good = Doc {
            records: vec![rule("sigma:1", "One")],
            links: vec![detects("sigma:1", "T1059")],
            templates: vec![template("a", "T1059", "A")],
            ..Doc::default()
        };
        let mut cut = parts(source("sigma"), good.clone());
        cut.pop();
        let mut twice = good.clone();
        twice.records.push(rule("sigma:1", "Two"));
        twice.links.push(link(("detection_rule", "sigma:1"), "detects", ("technique", "T1059"), "Other words"));
        twice.templates.push(template("a", "T1003", "B"));
        let mut wrong = good.clone();
        wrong.records[0].kind = "rumour".into();
        wrong.records[0].attributes_json = "[]".into();
        wrong.records[0].severity = Some("bad".into());
        wrong.links[0].relation = "likes".into();
        wrong.links[0].references_json = "{}".into();
        wrong.templates[0].mitre_technique_id = "execution".into();
        wrong.templates[0].details_json = "{".into();
        let matrix = Doc { techniques: vec![technique("T1059")], ..good.clone() };
        for (parts, code, fields) in [
            (cut, Code::Unprocessable, vec![]),
            (parts(source("sigma"), Doc::default()), Code::Unprocessable, vec![]),
            (parts(attack("enterprise"), good.clone()), Code::Unprocessable, vec![]),
            (parts(source("sigma"), matrix), Code::Validation, vec!["source", "domain"]),
            (parts(source("No name"), good.clone()), Code::Validation, vec!["source", "origin"]),
            (
                parts(source("sigma"), twice),
                Code::Validation,
                vec!["templates[1].source_id", "knowledge[1].key", "links[1].to_key"],
            ),
            (
                parts(source("sigma"), wrong),
                Code::Validation,
                vec![
                    "templates[0].mitre_technique_id",
                    "templates[0].details_json",
                    "knowledge[0].kind",
                    "knowledge[0].severity",
                    "knowledge[0].attributes_json",
                    "links[0].relation",
                    "links[0].references_json",
                ],
            ),
        ] {
            let (got, named) = refusal(send(&world, parts).await);
            assert_eq!((got, named.iter().map(String::as_str).collect::<Vec<_>>()), (code, fields));
        }
        assert!(world.published().await.is_empty());
        let left = "SELECT (SELECT COUNT(*) FROM knowledge) + (SELECT COUNT(*) FROM link) \
             + (SELECT COUNT(*) FROM knowledge_origin)";
        assert_eq!(count(&world, left).await, 0);
        world.close().await;
    }
}

#[tokio::test]
async fn a_document_of_the_size_of_a_whole_matrix() {
    for world in World::all().await {
        let text = "It was seen to do this, and that, and more (Citation: Somebody 2025). ".repeat(5);
        let ids: Vec<String> = (0..835).map(|n| format!("T{:04}.{:03}", n / 999 + 1, n % 999)).collect();
        let kinds = ["software", "mitigation", "detection_strategy", "analytic"];
        let mut doc = Doc { techniques: ids.iter().map(|id| technique(id)).collect(), ..Doc::default() };
        for n in 0..3_000 {
            let mut record = record(kinds[n % 4], &format!("K{n:04}"), &format!("Name {n}"));
            record.description = Some(text.clone());
            doc.records.push(record);
        }
        doc.records.extend((0..187).map(|n| actor(&format!("G{n:04}"), &format!("Group {n}"), &["Alias", "Other"])));
        for n in 0..20_000 {
            let from = format!("K{:04}", n % 3_000);
            doc.links.push(link((kinds[n % 4], &from), "uses", ("technique", &ids[n / 24]), &text));
        }
        for round in ["new", "the same", "changed"] {
            if round == "changed" {
                doc.records.iter_mut().for_each(|r| r.content_hash[0] ^= 1);
                doc.links.iter_mut().for_each(|l| l.description = Some("Other words".into()));
            }
            let parts = parts(attack("enterprise"), doc.clone());
            let begun = Instant::now();
            let answer = send(&world, parts).await.unwrap();
            println!("a whole matrix, {round}: {} ms", begun.elapsed().as_millis());
            match round {
                "new" => {
                    assert_eq!((of(&answer, "software"), of(&answer, "link")), ((750, 0, 0, 0), (20_000, 0, 0, 0)))
                }
                "the same" => {
                    assert_eq!((of(&answer, "software"), of(&answer, "link")), ((0, 0, 750, 0), (0, 0, 20_000, 0)));
                }
                _ => assert_eq!((of(&answer, "software"), of(&answer, "link")), ((0, 750, 0, 0), (0, 20_000, 0, 0))),
            }
        }
        world.close().await;
    }
}
