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

/// A statement on one line, as the database reads it: what a string goes on with after a line's end follows it.
fn on_one_line(text: &str) -> String {
    text.replace("\\\n", " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What of a source depends on columns that it does not name. PostgreSQL refuses such a statement on connections that
/// have prepared it (`cached plan must not change result type`) as soon as a newer version has added a column, and no
/// database takes a row that has a value less than its table has columns.
fn unnamed(text: &str) -> Vec<String> {
    const AROUND: usize = 60;
    let text = on_one_line(text);
    let mut found = Vec::new();
    let mut find = |needle: &str, bad: &dyn Fn(&str, &str) -> bool| {
        for (at, _) in text.match_indices(needle) {
            let (before, after) = (&text[..at], &text[at + needle.len()..]);
            if bad(before, after) {
                found.push(text[at..].chars().take(AROUND).collect());
            }
        }
    };
    // Of a list of columns in brackets, or beside such a list, it names them.
    find("SELECT * FROM ", &|before, after| !after.starts_with('(') && !before.ends_with('('));
    find("RETURNING *", &|_, after| !after.starts_with(')'));
    find("INSERT INTO ", &|_, after| {
        let columns =
            after.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || "_.\"{}".contains(c)).trim_start();
        ["VALUES", "SELECT", "DEFAULT VALUES"].iter().any(|word| columns.starts_with(word))
    });
    found
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
        faults.extend(unnamed(own).into_iter().map(|statement| format!("{}: {statement}", file.display())));
    }
    assert!(faults.is_empty(), "a newer version adds a column, and these fail:\n  {}", faults.join("\n  "));
}

/// The newest migration that was written before versions ran side by side.
const FIRST: u32 = 152;

/// What of a migration takes something away from the version before it, which still runs.
fn contracts(sql: &str) -> Vec<String> {
    let bare: Vec<&str> = sql.lines().map(|line| line.split("--").next().unwrap_or_default()).collect();
    let text = on_one_line(&bare.join("\n")).to_uppercase();
    let statements = text.split(';').map(str::trim);
    let takes = |statement: &str| {
        let words = ["DROP TABLE ", "DROP COLUMN ", " RENAME ", " SET NOT NULL", " ALTER COLUMN ", "TRUNCATE "];
        let storage = statement.contains(" SET STORAGE ") || statement.contains(" SET DEFAULT ");
        let needed =
            statement.contains(" ADD COLUMN ") && statement.contains(" NOT NULL") && !statement.contains(" DEFAULT ");
        (words.iter().any(|word| statement.contains(word)) && !storage) || needed
    };
    statements.filter(|statement| takes(statement)).map(str::to_owned).collect()
}

#[test]
fn migrations_only_add() {
    let services = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../services");
    let mut seen = 0;
    let mut faults = Vec::new();
    for service in fs::read_dir(&services).unwrap().map(|entry| entry.unwrap().path()) {
        for dialect in ["sqlite", "postgres"] {
            let Ok(folder) = fs::read_dir(service.join("migrations").join(dialect)) else { continue };
            for file in folder.map(|entry| entry.unwrap().path()) {
                seen += 1;
                let name = file.file_name().unwrap().to_string_lossy().into_owned();
                let number: u32 = name.split('_').next().unwrap().parse().unwrap();
                // What a release no longer needs goes in one of the next, in a file that says so.
                if number > FIRST && !name.ends_with("_contract.sql") {
                    let told = contracts(&fs::read_to_string(&file).unwrap());
                    faults.extend(told.into_iter().map(|statement| format!("{}: {statement}", file.display())));
                }
            }
        }
    }
    assert!(seen > 60, "the migrations are somewhere else: {seen}");
    assert!(faults.is_empty(), "the version before, which still runs, needs it:\n  {}", faults.join("\n  "));
}

#[test]
fn the_rules_tell_good_statements_from_bad_ones() {
    for bad in [
        "\"SELECT * FROM users WHERE id = $1\"",
        "\"SELECT * \\\n   FROM users\"",
        "\"DELETE FROM users RETURNING *\"",
        "\"INSERT INTO users VALUES ($1)\"",
        "\"INSERT INTO users \\\n SELECT id FROM others\"",
    ] {
        assert_eq!(unnamed(bad).len(), 1, "{bad}");
    }
    for good in [
        "SELECT * FROM (SELECT id FROM users)",
        "UPDATE tally SET n = 1 RETURNING *) INSERT INTO other",
        "SELECT COUNT(*) FROM users",
        "INSERT INTO users (id) VALUES ($1)",
        "INSERT INTO users \\\n (id) SELECT id FROM others",
    ] {
        assert_eq!(unnamed(good), Vec::<String>::new(), "{good}");
    }
    assert_eq!(contracts("ALTER TABLE a ADD COLUMN b BIGINT NOT NULL;\n-- x\nDROP TABLE c;").len(), 2);
    assert!(contracts("ALTER TABLE a ADD COLUMN b BIGINT NOT NULL DEFAULT 0; -- DROP TABLE c;").is_empty());
}
