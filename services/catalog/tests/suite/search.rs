//! Searching over everything.

use std::{collections::HashSet, time::Instant};

use sqlx::migrate::Migrator;

use super::{
    knowledge::{link, record, template},
    *,
};

impl World {
    async fn search(&self, request: pb::SearchRequest) -> pb::SearchResponse {
        self.knowledge(Role::Viewer).search(request).await.unwrap().into_inner()
    }

    /// The keys of what is found, the best first.
    async fn found(&self, query: &str, kinds: &[&str]) -> Vec<String> {
        let request = pb::SearchRequest {
            query: query.into(),
            kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
            page_size: 100,
            ..Default::default()
        };
        self.search(request).await.hits.into_iter().map(|hit| hit.key).collect()
    }
}

fn described(kind: &str, key: &str, name: &str, description: &str) -> pb::KnowledgeRecord {
    pb::KnowledgeRecord { description: Some(description.into()), ..record(kind, key, name) }
}

async fn fill(world: &World) {
    let text = "It reads quirkware credentials and moves on; quirkware again.";
    let records = vec![
        described("software", "S9001", "Quirkware", "A tool."),
        described("software", "S9002", "Quirkware Loader", "Loads."),
        pb::KnowledgeRecord {
            aliases: vec!["Quirkware".into()],
            ..described("threat_actor", "G9001", "Odd Owl", "Who.")
        },
        pb::KnowledgeRecord {
            aliases: vec!["A Quirkware Crew".into()],
            ..described("threat_actor", "G9002", "Crew", "")
        },
        described("campaign", "C9001", "Night", text),
        described("campaign", "C9002", "Day", "Somebody once spoke of quirkware in passing, and of much else besides."),
        pb::KnowledgeRecord { revoked: true, ..described("software", "S9003", "Quirkware Old", text) },
        described("control", "nist_800_53:AC-2(1)", "Account Management", "See CVE-2024-12345 and C:\\Temp\\evil.dll"),
        described("control", "nist_800_53:AC-2", "Account Management", ""),
        described("defence", "D3-CAF", "Café Überwachung", "naïve"),
        described("detection_rule", "sigma:77", "NEAR OR AND NOT", "the operators' words: body:x \"quoted\" 100%_sure"),
    ];
    let links = vec![link(("software", "S9001"), "uses", ("technique", "T1059"))];
    world.bring("other", records, links, vec![template("quirk-1", "Run quirkware", "T1059")]).await;
}

#[tokio::test]
async fn exact_ids_come_first_then_names_then_texts() {
    for world in World::all().await {
        fill(&world).await;
        assert_eq!(
            world.found("Quirkware", &[]).await,
            // Exact name and alias by kind; then what begins with it; then names that have it; then texts.
            ["G9001", "S9001", "S9002", "G9002", "quirk-1", "C9001", "C9002"]
        );
        assert_eq!(world.found("quirk", &["campaign", "software"]).await, ["S9001", "S9002", "C9001", "C9002"]);
        assert_eq!(world.found("loader quirkware", &[]).await, ["S9002"], "all words, in any order");
        assert_eq!(world.found("quirkware nonsense", &[]).await, [""; 0]);
        assert_eq!(world.found("t1059.001", &["technique"]).await[0], "T1059.001");
        let commands = world.found("T1059", &["technique"]).await;
        assert_eq!(commands[..3], ["T1059", "T1059.001", "T1059.002"]);
        assert_eq!(
            world.found("AC-2", &["control"]).await,
            ["nist_800_53:AC-2", "nist_800_53:AC-2(1)"],
            "part of an id"
        );
        assert_eq!(world.found("nist_800_53:ac-2(1)", &[]).await, ["nist_800_53:AC-2(1)"]);
        assert_eq!(world.found("CVE-2024-1234", &[]).await, ["nist_800_53:AC-2(1)"]);
        assert_eq!(world.found("CVE-2024-2345", &[]).await, [""; 0]);
        assert_eq!(world.found("evil.dll", &[]).await, ["nist_800_53:AC-2(1)"]);
        assert_eq!(world.found("cafe uberwachung", &[]).await, ["D3-CAF"], "accents do not matter");
        assert_eq!(world.found("café", &[]).await, ["D3-CAF"]);
        // What is revoked is there by its id only.
        assert_eq!(world.found("S9003", &[]).await, ["S9003"]);
        assert_eq!(world.found("quirkware old", &[]).await, [""; 0]);
        world.close().await;
    }
}

#[tokio::test]
async fn a_hit_shows_the_words_around_it() {
    for world in World::all().await {
        fill(&world).await;
        let answer = world.search(pb::SearchRequest { query: "quirkware".into(), ..Default::default() }).await;
        let of = |key: &str| answer.hits.iter().find(|hit| hit.key == key).unwrap();
        assert_eq!(of("C9001").excerpt, "It reads quirkware credentials and moves on; quirkware again.");
        assert_eq!((of("S9001").excerpt.as_str(), of("S9001").source.as_str()), ("", "other"));
        assert_eq!((of("quirk-1").kind.as_str(), of("quirk-1").name.as_str()), ("template", "Run quirkware"));
        assert_eq!(answer.total_size, 7);
        world.close().await;
    }
}

#[tokio::test]
async fn punctuation_is_no_operator() {
    for world in World::all().await {
        fill(&world).await;
        for query in [
            "\"",
            "*",
            "NEAR(",
            "NEAR(quirkware zz, 2)",
            "OR",
            "quirkware OR zzz",
            "-",
            "-quirkware zzz",
            ":",
            "name:zzz",
            "'",
            "' OR 1=1 --",
            "quirkware*zzz",
            "\\",
            "(",
            ")",
            "^",
            "{body} : zzz",
            "a:*b",
            "<->",
            "!zzz",
            "&",
            "|",
            "%",
            "_",
            "\u{e000}software",
            "'':*",
            "\t\n zzz \n",
            "😀",
            "\u{301}",
            "ﬁ",
            "İ",
            "日本語",
        ] {
            let request = pb::SearchRequest { query: query.into(), ..Default::default() };
            let answer = world.knowledge(Role::Viewer).search(request).await;
            assert!(answer.is_ok(), "{query:?}: {answer:?}");
        }
        assert_eq!(world.found("near(or", &["detection_rule"]).await, ["sigma:77"]);
        assert_eq!(world.found("\"not -or\" and", &["detection_rule"]).await, ["sigma:77"]);
        assert_eq!(world.found("body:x", &["detection_rule"]).await, ["sigma:77"]);
        assert_eq!(world.found("100%_sure", &["detection_rule"]).await, ["sigma:77"]);
        assert_eq!(world.found("operators' words", &["detection_rule"]).await, ["sigma:77"]);
        let mut viewer = world.knowledge(Role::Viewer);
        for (query, kinds, field) in [
            ("", vec![], "query"),
            ("   ", vec![], "query"),
            ("nul\0", vec![], "query"),
            (&*"x".repeat(201), vec![], "query"),
            ("x", vec!["moon".to_owned()], "kinds"),
            ("x", vec!["software".to_owned(); 99], "kinds"),
        ] {
            let request = pb::SearchRequest { query: query.into(), kinds, ..Default::default() };
            assert_eq!(refusal(viewer.search(request).await), (Code::Validation, vec![field.into()]), "{query:?}");
        }
        let long = pb::SearchRequest { query: "x".into(), page_size: 101, ..Default::default() };
        assert_eq!(refusal(viewer.search(long).await).1, ["limit"]);
        world.close().await;
    }
}

#[tokio::test]
async fn pages_join_to_the_whole_beyond_what_is_ranked() {
    for world in World::all().await {
        let records = |prefix: &str, name: &str, count: usize| -> Vec<_> {
            (0..count)
                .map(|n| {
                    described("control", &format!("{prefix}{n:04}"), &format!("{name} {n}"), "every zyzzyva counts")
                })
                .collect()
        };
        world.bring("other", records("x", "Zyzzyva", 700), vec![], vec![]).await;
        world.bring("more", records("y", "Other", 800), vec![], vec![]).await;
        for query in ["zyzzyva", "zy"] {
            // A short word is the beginning of a word of names only.
            let expected = if query == "zy" { 700 } else { 1_500 };
            let (mut seen, mut token) = (Vec::new(), String::new());
            loop {
                let request =
                    pb::SearchRequest { query: query.into(), page_size: 100, page_token: token, ..Default::default() };
                let page = world.search(request).await;
                assert_eq!(page.total_size, expected, "{query}");
                seen.extend(page.hits.into_iter().map(|hit| hit.key));
                token = page.next_page_token;
                if token.is_empty() {
                    break;
                }
            }
            assert_eq!(seen.len() as i64, expected);
            assert_eq!(seen.iter().collect::<HashSet<_>>().len() as i64, expected, "none twice");
            assert!(seen[..300].iter().all(|key| key.starts_with('x')), "names before texts");
        }
        let past = pb::SearchRequest { query: "zyzzyva".into(), skip: 2_000, ..Default::default() };
        let past = world.search(past).await;
        assert_eq!((past.hits.len(), past.total_size), (0, 1_500));
        world.close().await;
    }
}

#[tokio::test]
async fn what_people_change_is_found_as_it_is_now() {
    for world in World::all().await {
        let change = pb::UpdateTechniqueRequest {
            mitre_id: "T1059".into(),
            name: Some("Renamed Interpreter".into()),
            description: Some("with a peculiarity".into()),
            ..Default::default()
        };
        world.admin().update_technique(change).await.unwrap();
        assert_eq!(world.found("renamed inter", &[]).await, ["T1059"]);
        assert_eq!(world.found("peculiarity", &[]).await, ["T1059"]);
        let made = pb::CreateTemplateRequest {
            name: "Curious template".into(),
            mitre_technique_id: "T1059".into(),
            ..Default::default()
        };
        let made = world.templates(Role::Admin).create_template(made).await.unwrap().into_inner().template.unwrap();
        assert_eq!(world.found("curious", &[]).await, std::slice::from_ref(&made.id));
        let toggle = pb::ToggleTemplateActiveRequest { id: made.id.clone() };
        world.templates(Role::Admin).toggle_template_active(toggle.clone()).await.unwrap();
        assert_eq!(world.found("curious", &[]).await, [""; 0]);
        assert_eq!(world.found(&made.id, &[]).await, std::slice::from_ref(&made.id));
        world.templates(Role::Admin).toggle_template_active(toggle).await.unwrap();
        assert_eq!(world.found("curious", &[]).await, std::slice::from_ref(&made.id));

        let ask = pb::ListTemplatesRequest::default;
        let bad = |t: &pb::Template| {
            ["informational", "low", "medium", "high", "critical"].iter().position(|s| *s == t.severity)
        };
        for sort in ["-updated_at", "-name", "severity"] {
            let request = pb::ListTemplatesRequest { sort: sort.into(), ..ask() };
            let listed = world.templates(Role::Viewer).list_templates(request).await.unwrap().into_inner().templates;
            let in_order = match sort {
                "-updated_at" => listed[0].name == "Curious template",
                "-name" => listed.windows(2).all(|two| two[0].name >= two[1].name),
                _ => listed.windows(2).all(|two| bad(&two[0]) <= bad(&two[1])) && bad(&listed[0]) < bad(&listed[48]),
            };
            assert!(in_order, "{sort}");
        }
        let ask = pb::ListTechniquesRequest::default;
        let by_name = world.list(pb::ListTechniquesRequest { sort: "name".into(), ..ask() }).await;
        assert!(by_name.windows(2).all(|two| two[0].name <= two[1].name) && by_name.len() == 691);
        let newest = world.list(pb::ListTechniquesRequest { sort: "-updated_at".into(), ..ask() }).await;
        assert_eq!(newest[0].mitre_id, "T1059");
        let down = world.list(pb::ListTechniquesRequest { sort: "-mitre_id".into(), ..ask() }).await;
        assert!(down.windows(2).all(|two| two[0].mitre_id > two[1].mitre_id));
        let wrong = pb::ListTechniquesRequest { sort: "tactic".into(), ..ask() };
        assert_eq!(refusal(world.catalog(Role::Viewer).list_techniques(wrong).await).1, ["sort"]);
        world.close().await;
    }
}

/// The migrations before the one that makes the search, kept for the life of the process as migrations are.
fn migrations_before() -> aegis_db::Migrations {
    let before = |all: &'static Migrator| -> &'static Migrator {
        Box::leak(Box::new(Migrator::with_migrations(all.iter().filter(|m| m.version < 120).cloned().collect())))
    };
    let all = aegis_catalog::migrations();
    aegis_db::Migrations { postgres: before(all.postgres), sqlite: before(all.sqlite) }
}

#[tokio::test]
async fn what_was_there_before_the_search_is_found() {
    for home in databases("catalog", &[aegis_events::migrations(), migrations_before()]).await {
        let mut tx = home.db.begin().await.unwrap();
        let now = aegis_db::now();
        for (mitre_id, name, revoked) in [("T9001", "Ünder the Stairs", false), ("T9002", "Long Gone", true)] {
            on!(tx, |c| sqlx::query(
                "INSERT INTO technique (id, mitre_id, domain, name, description, is_subtechnique, platforms, tactics, \
                 status_computed, review_required, revoked, deprecated, source, person_set, version, created_at, \
                 updated_at) VALUES ($1, $2, 'enterprise', $3, 'It creaks: a café''s cellar.door', FALSE, $4, $4, \
                 'not_evaluated', FALSE, $5, FALSE, 'custom', 0, 1, $6, $6)"
            )
            .bind(uuid::Uuid::now_v7())
            .bind(mitre_id)
            .bind(name)
            .bind(sqlx::types::Json(Vec::<String>::new()))
            .bind(revoked)
            .bind(now)
            .execute(c)
            .await
            .map(|_| ()))
            .unwrap();
        }
        tx.commit().await.unwrap();
        home.db.migrate(&[aegis_events::migrations(), aegis_catalog::migrations()]).await.unwrap();
        let world = World::on(home).await;
        for query in ["T9001", "creaks", "cafe", "door", "under stairs", "cellar.door"] {
            assert_eq!(world.found(query, &["technique"]).await, ["T9001"], "{query}");
        }
        assert_eq!(world.found("T9002", &[]).await, ["T9002"]);
        assert_eq!(world.found("long gone", &["technique"]).await, [""; 0]);
        world.close().await;
    }
}

/// Words as often as in a language: the first every few words, the last hardly ever.
struct Prose {
    words: Vec<String>,
    state: u64,
}

impl Prose {
    fn new() -> Prose {
        let common = [
            "the",
            "a",
            "of",
            "to",
            "and",
            "adversaries",
            "may",
            "windows",
            "process",
            "command",
            "network",
            "access",
            "system",
            "files",
            "credentials",
            "powershell",
            "remote",
            "services",
            "execution",
            "data",
        ];
        let mut words: Vec<String> = common.map(str::to_owned).to_vec();
        let syllables =
            ["ba", "co", "di", "fu", "gar", "hel", "in", "jo", "kr", "lo", "mi", "no", "pre", "qui", "ra", "st"];
        for n in words.len()..30_000 {
            let pick = |shift: usize| syllables[((n * 7_919) >> shift) % syllables.len()];
            words.push(format!("{}{}{}{n}", pick(0), pick(4), pick(8)));
        }
        Prose { words, state: 88_172_645_463_325_252 }
    }

    fn next(&mut self) -> f64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn text(&mut self, count: usize) -> String {
        let mut text = String::new();
        for _ in 0..count {
            let most = self.words.len() as f64;
            let rank = (most.powf(self.next()) - 1.0) as usize;
            text.push_str(&self.words[rank.min(self.words.len() - 1)]);
            text.push(' ');
        }
        text
    }
}

#[tokio::test]
#[ignore = "measures; says what it found"]
async fn how_long_a_search_takes_over_twenty_thousand() {
    let mut prose = Prose::new();
    let kinds = ["software", "threat_actor", "detection_rule", "control", "analytic"];
    let mut bytes = 0;
    let records: Vec<_> = (0..20_000)
        .map(|n| {
            let text = prose.text(170);
            bytes += text.len();
            pb::KnowledgeRecord {
                aliases: vec![prose.text(2), prose.text(1)],
                ..described(kinds[n % kinds.len()], &format!("X{n:05}"), prose.text(4).trim(), &text)
            }
        })
        .collect();
    for world in World::all().await {
        let begun = Instant::now();
        for batch in records.chunks(5_000) {
            world.bring("other", batch.to_vec(), vec![], vec![]).await;
        }
        println!("{}: {} records, {} MB in {:?}", world.home.name, records.len(), bytes >> 20, begun.elapsed());
        let list = pb::ListTechniquesRequest::default;
        let (mut all, mut techniques) = (Vec::new(), Vec::new());
        for query in [
            "a",
            "t",
            "co",
            "c2",
            "to",
            "the",
            "pow",
            "powershell",
            "windows process",
            "adversaries may",
            "X01234",
            "X012",
            "T1059.001",
            "remote services exec",
            "credential",
            "command-line",
            "galo",
            "no such thing",
            "data of the sys",
            "hel",
            "process 12",
            "bac",
        ] {
            let mut times: Vec<_> = Vec::new();
            let mut total = 0;
            for _ in 0..15 {
                let begun = Instant::now();
                let request = pb::SearchRequest { query: query.into(), ..Default::default() };
                total = world.search(request).await.total_size;
                times.push(begun.elapsed());
            }
            times.sort();
            println!("{:>24}: {total:>6} found, median {:?}, most {:?}", query, times[7], times[14]);
            all.extend(times);
        }
        for _ in 0..50 {
            let begun = Instant::now();
            assert_eq!(world.list(list()).await.len(), 691);
            techniques.push(begun.elapsed());
        }
        all.sort();
        techniques.sort();
        println!("{}: search p50 {:?} p95 {:?}", world.home.name, all[all.len() / 2], all[all.len() * 95 / 100]);
        println!("{}: all techniques p50 {:?} p95 {:?}", world.home.name, techniques[25], techniques[47]);
        world.close().await;
    }
}
