//! Reports as JSON and as CSV; no cell of a CSV is a formula.

use reqwest::Method;
use serde_json::json;

use super::{PATIENCE, STEADY, Team, list, text};
use crate::{
    conventions::fresh,
    harness::{Answer, eventually, send},
};

/// The header and the rows of a CSV.
#[track_caller]
fn table(answer: &Answer) -> (Vec<String>, Vec<Vec<String>>) {
    assert_eq!(answer.status, 200, "{answer}");
    assert!(answer.header("content-type").starts_with("text/csv"), "{answer}");
    assert!(answer.header("content-disposition").contains("attachment"), "{answer}");
    super::as_of(answer);
    let mut rows = parsed(&answer.text());
    assert!(!rows.is_empty(), "a CSV has a header");
    let header = rows.remove(0);
    for row in &rows {
        assert_eq!(row.len(), header.len(), "{row:?}");
        for cell in row {
            assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r']), "a formula: {cell:?}");
        }
    }
    (header, rows)
}

/// Cells with quotes, separators and line ends in them.
fn parsed(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut cell, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                cell.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut cell)),
            '\r' if !quoted => {}
            '\n' if !quoted => {
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            _ => cell.push(letter),
        }
    }
    assert!(!quoted && cell.is_empty() && row.is_empty(), "the last line has no end");
    rows
}

/// Names that a spreadsheet would run come out as texts, in both CSVs of tests; everything else as it was typed.
pub async fn defused(team: &Team) {
    let mark = fresh();
    let names = [
        format!("=HYPERLINK(\"http://example.org\";\"{mark}\")"),
        format!("+1 {mark}"),
        format!("-1 {mark}"),
        format!("@SUM {mark}"),
        format!("plain, \"quoted\" {mark} = 1"),
    ];
    let mut tests = Vec::new();
    for name in &names {
        tests.push(team.draft_named(STEADY, Some("linux"), name).await);
    }
    let steps = format!("=cmd|' /C calc'!A0 {mark}\nthen \"this\", and that");
    let path = format!("/tests/{}/remediation", tests[0]);
    team.blue_lead.patch(&path, &json!({"remediation_steps": steps, "remediation_status": "pending"})).await.json(200);
    let (header, rows) = eventually("the export has them", PATIENCE, || async {
        let (header, rows) = table(&team.viewer.get("/reports/test-results.csv?state=draft").await);
        let found = rows.iter().filter(|row| row.iter().any(|cell| cell.contains(&mark))).count();
        if found == names.len() { Ok((header, rows)) } else { Err(format!("{found} rows")) }
    })
    .await;
    let column = |name: &str| header.iter().position(|column| column == name).unwrap_or_else(|| panic!("{header:?}"));
    let (id, name) = (column("id"), column("name"));
    for (test, typed) in tests.iter().zip(&names) {
        let row = rows.iter().find(|row| row[id] == *test).expect("the row");
        let expected = if typed.starts_with("plain") { typed.clone() } else { format!("'{typed}") };
        assert_eq!(row[name], expected);
    }
    let (header, rows) = eventually("the remediation is reported", PATIENCE, || async {
        let (header, rows) = table(&team.viewer.get("/reports/remediation-status.csv?status=pending").await);
        let there = rows.iter().any(|row| row.iter().any(|cell| cell.contains(&mark)));
        if there { Ok((header, rows)) } else { Err(format!("{} rows", rows.len())) }
    })
    .await;
    let at = header.iter().position(|column| column == "remediation_steps").unwrap_or_else(|| panic!("{header:?}"));
    assert!(rows.iter().any(|row| row[at] == format!("'{steps}")), "{rows:?}");

    // The JSON has the same tests, as they were typed.
    let report = team.get("/reports/remediation-status?status=pending&limit=1000").await;
    let mine = list(&report["tests"]).iter().find(|row| row["id"] == tests[0].as_str()).expect("the test");
    assert_eq!((text(&mine["remediation_steps"]), text(&mine["name"])), (steps.as_str(), names[0].as_str()));
    // By what the client accepts, the same CSV.
    for path in ["/reports/test-results", "/reports/remediation-status", "/reports/coverage-summary"] {
        let asked = team.viewer.request(Method::GET, path).header("accept", "text/csv");
        let (_, rows) = table(&send(asked).await);
        assert!(!rows.is_empty(), "{path}");
    }
    coverage(team).await;
    for bad in ["state=lost", "date_from=yesterday", "limit=1001"] {
        team.viewer.get(&format!("/reports/test-results?{bad}")).await.error(400, "VALIDATION_ERROR");
    }
    team.viewer.get("/reports/test-results.csv?state=lost").await.error(400, "VALIDATION_ERROR");
    team.viewer.get("/reports/remediation-status?status=lost").await.error(400, "VALIDATION_ERROR");
    // So that no other scenario finds them.
    let body = json!({"ids": tests, "delete": true});
    team.admin.post("/tests/bulk", &body).await.json(200);
}

/// The coverage CSV has a row for each technique that the JSON has, with the filters too.
async fn coverage(team: &Team) {
    for query in ["", "?tactic=impact", "?platform=macos", "?tactic=impact&platform=linux"] {
        let report = team.get(&format!("/reports/coverage-summary{query}")).await;
        let (header, rows) = table(&team.viewer.get(&format!("/reports/coverage-csv{query}")).await);
        let column = header.iter().position(|column| column == "mitre_id").unwrap_or_else(|| panic!("{header:?}"));
        let expected: Vec<&str> = list(&report["techniques"]).iter().map(|row| text(&row["mitre_id"])).collect();
        let found: Vec<&str> = rows.iter().map(|row| row[column].as_str()).collect();
        assert_eq!(found, expected, "{query}");
        assert!(!found.is_empty(), "{query}");
        assert_eq!(report["summary"]["total_techniques"], expected.len(), "{query}");
    }
}

/// The report of the tests of [`super::figures::of_typed_times`], and parts of it.
pub async fn of_few(team: &Team) {
    let report = team.get("/reports/test-results").await;
    assert_eq!(report["total"], 7, "{report}");
    assert_eq!(report["by_state"]["validated"], 4, "{report}");
    assert_eq!(
        report["by_detection"],
        json!({"detected": 2, "partially_detected": 1, "not_detected": 1, "none": 3}),
        "{report}"
    );
    let all = team.viewer.get("/reports/test-results?limit=2&offset=1").await;
    assert_eq!(all.total(), 7, "{all}");
    assert_eq!(list(&all.json(200)["tests"]).len(), 2);
    let validated = team.get("/reports/test-results?state=validated").await;
    assert_eq!((&validated["total"], list(&validated["tests"]).len()), (&json!(4), 4), "{validated}");
    let moments: Vec<&str> = list(&report["tests"]).iter().map(|row| text(&row["created_at"])).collect();
    assert!(moments.is_sorted_by(|a, b| a >= b), "newest first: {moments:?}");
    // Both ends are in it; a day is whole.
    let [newest, oldest] = [moments[0], moments[6]];
    let day = &oldest[..10];
    for (query, count) in [
        (format!("date_from={newest}"), 1),
        (format!("date_to={oldest}"), 1),
        (format!("date_from={oldest}&date_to={newest}"), 7),
        (format!("date_from={day}&date_to={}", &newest[..10]), 7),
        ("date_to=2020-01-01T00:00:00Z".to_owned(), 0),
    ] {
        let report = team.get(&format!("/reports/test-results?{query}")).await;
        assert_eq!(report["total"], count, "{query}");
        let (_, rows) = table(&team.viewer.get(&format!("/reports/test-results.csv?{query}")).await);
        assert_eq!(rows.len(), count, "{query}");
    }
    let remediation = team.get("/reports/remediation-status").await;
    assert_eq!(
        (&remediation["total"], &remediation["by_status"]["completed"]),
        (&json!(1), &json!(1)),
        "{remediation}"
    );
    let (_, rows) = table(&team.viewer.get("/reports/remediation-status.csv").await);
    assert_eq!(rows.len(), 1);
}
