//! `aegis doctor` finds a sound product sound, and says what is wrong with one that is not.

use std::{collections::HashMap, os::unix::fs::PermissionsExt, process::Command, time::Duration};

use serde_json::Value;

use crate::{
    backup::{ended, text},
    harness::{Mode, Product, eventually, free_port},
};

/// What it found, and its exit code.
pub struct Found {
    code: Option<i32>,
    report: Value,
}

impl Found {
    /// What it finds with the settings of this command.
    pub async fn of(mut command: Command) -> Found {
        command.arg("--json").arg("doctor");
        let output = ended(command).await;
        let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output)));
        Found { code: output.status.code(), report }
    }

    fn checks(&self) -> &Vec<Value> {
        self.report["checks"].as_array().expect("checks")
    }

    /// The levels of an area, in order.
    fn levels(&self, area: &str) -> Vec<&str> {
        let of_area = self.checks().iter().filter(|check| check["area"] == area);
        of_area.map(|check| check["level"].as_str().unwrap()).collect()
    }

    /// Something of this level is told of an area, with these words.
    #[track_caller]
    pub fn says(&self, area: &str, level: &str, words: &str) {
        let found = self.checks().iter().any(|check| {
            check["area"] == area
                && check["level"] == level
                && format!("{} {}", check["what"], check["advice"]).contains(words)
        });
        assert!(found, "no {level} of {area} with {words:?}: {:#}", self.report);
    }
}

pub async fn scenario(product: &mut Product) {
    let address = product.base.trim_start_matches("http://").to_owned();
    let doctor = |change: &dyn Fn(&mut Command)| {
        let mut command = product.command(&[]);
        command.env("AEGIS_LISTEN", &address);
        change(&mut command);
        Found::of(command)
    };
    // Sound: nothing is wrong, everything was looked at. What is on its way may take a moment.
    let found = eventually("all is well", Duration::from_secs(30), || async {
        let found = doctor(&|_| {}).await;
        if found.code == Some(0) { Ok(found) } else { Err(found.report.to_string()) }
    })
    .await;
    let areas: &[&str] = match product.mode {
        Mode::Embedded => {
            &["settings", "system", "data folder", "database", "audit trail", "keys", "files", "product", "pages"]
        }
        Mode::Processes => &[
            "settings",
            "system",
            "data folder",
            "database",
            "audit trail",
            "keys",
            "broker",
            "cache",
            "files",
            "service",
            "product",
        ],
    };
    for area in areas {
        assert!(found.levels(area).contains(&"ok"), "{area}: {:#}", found.report);
    }
    assert!(found.report["seconds"].as_f64().unwrap() < 60.0);
    found.says("product", "ok", "version");
    let shown = ended(product.command(&["doctor"])).await;
    assert!(text(&shown).contains("audit trail"), "{}", text(&shown));

    match product.mode {
        Mode::Embedded => embedded(product, &address).await,
        Mode::Processes => processes(product, &address).await,
    }
    product.assert_alive();
}

async fn embedded(product: &Product, address: &str) {
    // Nothing runs at another address: that is no fault of the data, which is looked at beside whoever has it.
    let mut command = product.command(&[]);
    command.env("AEGIS_LISTEN", format!("127.0.0.1:{}", free_port()));
    let found = Found::of(command).await;
    assert_eq!(found.code, Some(0), "{:#}", found.report);
    found.says("product", "note", "does not run here");

    // A folder of its own, made by a product that was ended: sound without one.
    let data = product.folder().join("doctor");
    let _ = std::fs::remove_dir_all(&data);
    let with = |arguments: &[&str]| {
        let mut command = product.command(arguments);
        command.env("AEGIS_DATA_DIR", &data).env("AEGIS_LISTEN", format!("127.0.0.1:{}", free_port()));
        command
    };
    let found = Found::of(with(&[])).await;
    assert_eq!(found.code, Some(1), "{:#}", found.report);
    found.says("data folder", "problem", "AEGIS_DATA_DIR");
    assert!(!data.exists(), "looking made the folder");
    let migrated = ended(with(&["migrate"])).await;
    assert!(migrated.status.success(), "{}", text(&migrated));
    let before = names(&data);
    let found = Found::of(with(&[])).await;
    // Nobody was ever there: the first start makes a key.
    found.says("keys", "problem", "no key");
    found.says("database", "ok", "up to date");
    assert_eq!(before, names(&data), "looking changed the folder");

    // Everything that can be wrong at once.
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(data.join("identity.db"), std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::create_dir(data.join(".backup")).unwrap();
    let change = |file: &str, sql: &'static str| {
        let url = format!("sqlite://{}", data.join(file).display());
        async move {
            use sqlx::{Connection, Executor};
            let mut database = sqlx::SqliteConnection::connect(&url).await.unwrap();
            database.execute(sql).await.unwrap();
            database.close().await.unwrap();
        }
    };
    change("catalog.db", "DELETE FROM _sqlx_migrations WHERE version = 140").await;
    change(
        "testing.db",
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (990, 'of the future', TRUE, x'00', 0)",
    )
    .await;
    change(
        "analytics.db",
        "INSERT INTO dead_letter (id, kind, body, reason, at)
         VALUES ('1', 'testing.test.changed', x'00', 'cannot be read', '2026-01-01T00:00:00+00:00')",
    )
    .await;
    change(
        "evidence.db",
        "INSERT INTO outbox (id, kind, body, at) VALUES ('1', 'evidence.file.added', x'00', '2026-01-01T00:00:00+00:00')",
    )
    .await;
    std::fs::write(data.join("intel.db"), b"no database at all, but long enough to be looked at").unwrap();
    std::fs::remove_file(data.join("deception.db")).unwrap();
    let found = Found::of(with(&[])).await;
    assert_eq!(found.code, Some(1), "{:#}", found.report);
    found.says("data folder", "warning", "chmod 700");
    found.says("data folder", "problem", "others may read the databases");
    found.says("data folder", "warning", "a backup was cut off");
    found.says("pages", "problem", "not sound");
    found.says("database", "warning", "are missing");
    found.says("database", "note", "990");
    found.says("database", "warning", "cannot be read");
    found.says("database", "warning", "wait to be passed on");
    found.says("database", "problem", "cannot be read");
    found.says("database", "problem", "is not there");
    let _ = std::fs::remove_dir_all(&data);
    let _ = address;
}

fn names(folder: &std::path::Path) -> HashMap<String, u64> {
    let entry = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.unwrap();
        (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len())
    };
    std::fs::read_dir(folder).unwrap().map(entry).collect()
}

async fn processes(product: &mut Product, address: &str) {
    // Nobody is at the addresses that the settings name.
    let mut command = product.command(&[]);
    let nowhere = free_port();
    command.env("AEGIS_LISTEN", address).env("AEGIS_CATALOG_URL", format!("http://127.0.0.1:{nowhere}"));
    command.env("AEGIS_BROKER_URL", format!("amqp://guest:s3cr3t-word@127.0.0.1:{nowhere}"));
    command.env("AEGIS_CACHE_URL", format!("redis://:s3cr3t-word@127.0.0.1:{nowhere}"));
    command.env("AEGIS_DATABASE_URL", format!("postgres://aegis:s3cr3t-word@127.0.0.1:{nowhere}/aegis"));
    command.env("AEGIS_S3_ENDPOINT", format!("http://127.0.0.1:{nowhere}"));
    let found = Found::of(command).await;
    assert_eq!(found.code, Some(3), "{:#}", found.report);
    for area in ["service", "broker", "cache", "database", "files"] {
        assert!(found.levels(area).contains(&"unreachable"), "{area}: {:#}", found.report);
    }
    assert!(!found.report.to_string().contains("s3cr3t-word"), "a password is shown: {:#}", found.report);

    // One role is gone: its queue has no reader, its address no answer.
    product.kill9("analytics");
    let found = eventually("the broker notices", Duration::from_secs(30), || async {
        let mut command = product.command(&[]);
        command.env("AEGIS_LISTEN", address);
        let found = Found::of(command).await;
        match found.levels("broker").contains(&"problem") {
            true => Ok(found),
            false => Err(found.report.to_string()),
        }
    })
    .await;
    assert_eq!(found.code, Some(3), "{:#}", found.report);
    found.says("broker", "problem", "start analytics");
    found.says("service", "unreachable", "AEGIS_ANALYTICS_URL");
    product.ensure_running().await;
}
