//! Whole documents, made of names that somebody chose to do harm.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking, also in its helpers

use aegis_render::{Actor, Change, Counts, Matrix, Metric, Part, Point, Report, Status, Tactic, Technique, html, svg};
use chrono::DateTime;

const HOSTILE: &str = "</title></svg><script>alert(1)</script><img src=x onerror='x()'>\"&amp;\u{0}\u{b}\u{202e}]]>";
const METRICS: [Metric; 5] = [Metric::Status, Metric::Score, Metric::DetectionRules, Metric::Observed, Metric::Change];

fn technique(id: &str, parent: Option<&str>, status: Status) -> Technique {
    Technique {
        id: id.to_owned(),
        name: format!("{HOSTILE} {id}"),
        tactics: vec!["impact".into()],
        parent: parent.map(str::to_owned),
        status,
        score: 12.5,
        detection_rules: 1_234,
        threat_actors: 3,
        validated_tests: 1,
        tests: 2,
        observed: 20_000,
        change: Some(Change::Worsened),
        previous_status: Some(Status::Validated),
        previous_score: Some(90.0),
    }
}

fn matrix(techniques: Vec<Technique>) -> Matrix {
    let counts = Counts { total: techniques.len() as i64, not_covered: techniques.len() as i64, ..Counts::default() };
    let tactic = |short: &str| Tactic { short_name: short.into(), name: HOSTILE.into(), counts, ..Tactic::default() };
    Matrix {
        title: HOSTILE.into(),
        scope: HOSTILE.into(),
        tactics: vec![tactic("impact"), tactic("none")],
        techniques,
        counts,
        coverage_percentage: 0.0,
        score: Some(12.5),
        attack_version: HOSTILE.into(),
        compared_with: Some(HOSTILE.into()),
        as_of: DateTime::from_timestamp(1_700_000_000, 0),
    }
}

fn report(matrix: Matrix) -> Report {
    let at = |day: i64| DateTime::from_timestamp(1_700_000_000 + day * 86_400, 0).unwrap();
    let point = |day| Point { at: at(day), score: Some(10.0), coverage_percentage: 5.0, snapshot: true };
    Report {
        filtered: false,
        parts: vec![Part { name: HOSTILE.into(), weight: 40.0, points: 4.0, advice: HOSTILE.into() }],
        history: vec![point(0), point(7)],
        history_of: HOSTILE.into(),
        actor: Some(Actor {
            name: HOSTILE.into(),
            key: HOSTILE.into(),
            score: Some(1.0),
            techniques: vec!["T1001".into()],
            covered: 0,
            partial: 0,
            uncovered: 1,
        }),
        matrix,
    }
}

fn some() -> Vec<Technique> {
    vec![
        technique("T1001", None, Status::NotCovered),
        technique("T1001.001", Some("T1001"), Status::Validated),
        technique(HOSTILE, None, Status::NotEvaluated),
        technique("T1002.é", Some("T1001"), Status::Partial),
    ]
}

/// Every element is closed, but for those that HTML never closes; nothing runs.
fn sound(document: &str) {
    let open = document.matches("<script").count() + document.matches("<img").count();
    assert_eq!(open, 0, "something of a name became an element");
    assert!(!document.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'));
    assert!(!document.contains("NaN") && !document.contains("inf "));
    let mut elements = Vec::new();
    for tag in document.split('<').skip(1) {
        let (head, _) = tag.split_once('>').unwrap();
        // What stands between quotes is a text.
        let names: String = head.split('"').step_by(2).collect();
        assert!(!names.contains(" src=") && !names.contains(" href=") && !names.contains(" on"), "{head}");
        let name = head.split([' ', '\n']).next().unwrap();
        match name.strip_prefix('/') {
            Some(name) => assert_eq!(elements.pop(), Some(name), "an element ends that is not open"),
            None if name.starts_with(['?', '!']) || matches!(name, "meta" | "br") => {}
            None => elements.push(name),
        }
    }
    assert!(elements.is_empty(), "open: {elements:?}");
}

#[test]
fn names_stay_texts_in_pictures() {
    for metric in METRICS {
        let picture = svg(&matrix(some()), metric);
        sound(&picture);
        assert!(picture.ends_with("</svg>\n") && picture.contains("&lt;script&gt;"));
    }
}

#[test]
fn names_stay_texts_in_pages() {
    let page = html(&report(matrix(some())));
    sound(&page);
    for outside in ["<link", "url(http", "@import"] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn an_empty_catalogue_can_be_shown() {
    let empty = Matrix { tactics: Vec::new(), score: None, as_of: None, ..matrix(Vec::new()) };
    for metric in METRICS {
        sound(&svg(&empty, metric));
    }
    let page = html(&Report { parts: Vec::new(), history: Vec::new(), actor: None, ..report(empty) });
    sound(&page);
}

#[test]
fn what_was_not_evaluated_has_no_score_and_what_is_counted_has() {
    let technique = technique("T1001", None, Status::NotEvaluated);
    assert_eq!((Metric::Status.score(&technique), Metric::Score.score(&technique)), (None, None));
    assert_eq!(Metric::DetectionRules.score(&technique), Some(1_234));
    assert_eq!(Metric::Observed.score(&technique), Some(20_000));
}

#[test]
fn the_largest_gaps_are_what_most_actors_use_and_what_decoys_saw() {
    let with = |id: &str, actors, observed, status, score| Technique {
        threat_actors: actors,
        observed,
        score,
        ..technique(id, None, status)
    };
    let matrix = matrix(vec![
        with("T1001", 50, 0, Status::Validated, 10.0),
        with("T1002", 20, 0, Status::NotCovered, 50.0),
        with("T1003", 2, 1, Status::NotEvaluated, 0.0),
        with("T1004", 15, 0, Status::NotEvaluated, 0.0),
    ]);
    let order: Vec<&str> = matrix.gaps(10).iter().map(|gap| gap.technique.id.as_str()).collect();
    assert_eq!(order, ["T1004", "T1003", "T1002"]);
    assert_eq!(matrix.gaps(1).len(), 1);
}
