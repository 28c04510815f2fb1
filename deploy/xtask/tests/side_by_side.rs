//! What two versions need that run side by side: no statement depends on columns that it does not name.
#![allow(clippy::unwrap_used)] // a test fails by panicking, also in its helpers

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            // What tests ask, and what decoys answer, runs on no table of ours that another version has.
            if !matches!(name.as_str(), "tests" | "decoys" | "target") {
                sources(&path, found);
            }
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            found.push(path);
        }
    }
}

/// Every column of a table, in a statement whose result is read. PostgreSQL refuses such a statement on connections that
/// have prepared it (`cached plan must not change result type`) as soon as a newer version has added a column.
fn asks_for_all(line: &str) -> bool {
    let star = ["SELECT * FROM ", "RETURNING *"].iter().any(|text| line.contains(text));
    // Of a list of columns in brackets.
    star && !line.contains("SELECT * FROM (") && !line.contains("(SELECT * FROM ") && !line.contains("RETURNING *)")
}

#[test]
fn statements_name_their_columns() {
    let services = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../services");
    let mut files = Vec::new();
    sources(&services, &mut files);
    assert!(files.len() > 100, "the sources are somewhere else");
    let mut faults = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        // Tests in the file itself come last.
        let own = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        for (number, line) in own.lines().enumerate().filter(|(_, line)| asks_for_all(line)) {
            faults.push(format!("{}:{}: {}", file.display(), number + 1, line.trim()));
        }
    }
    assert!(faults.is_empty(), "a newer version adds a column, and these fail:\n  {}", faults.join("\n  "));
}

#[test]
fn the_rule_tells_good_statements_from_bad_ones() {
    assert!(asks_for_all("\"SELECT * FROM users WHERE id = $1\""));
    assert!(asks_for_all("\"DELETE FROM users RETURNING *\""));
    assert!(!asks_for_all("SELECT * FROM (SELECT id FROM users)"));
    assert!(!asks_for_all("UPDATE tally SET n = 1 RETURNING *) INSERT INTO other"));
    assert!(!asks_for_all("SELECT COUNT(*) FROM users"));
}
