//! The files that rows name: where the bytes of evidence and of artifacts are.

use anyhow::Result;
use rusqlite::{Connection, Row};
use uuid::Uuid;

use crate::roles::Role;

/// Of those that a backup lacks, this many are told by name.
const TOLD: usize = 3;

/// The key of a file of evidence.
pub fn evidence(test_id: Uuid, id: Uuid) -> String {
    format!("evidence/{test_id}/{id}")
}

/// The key of a file that attackers brought.
pub fn artifact(sha256: &str) -> String {
    format!("artifacts/{}/{sha256}", sha256.get(..2).unwrap_or("00"))
}

/// What rows of a service's database name and a backup does not have, in words. `has` knows what it has.
pub fn lacking(role: Role, database: &Connection, has: impl Fn(&str) -> bool) -> Result<Option<String>> {
    // Files that are about to be removed as well: a product that starts with such a row shows it again.
    let (sql, key): (_, fn(&Row<'_>) -> rusqlite::Result<String>) = match role {
        Role::Evidence => ("SELECT test_id, id FROM evidence", |row| {
            Ok(evidence(Uuid::from_bytes(row.get(0)?), Uuid::from_bytes(row.get(1)?)))
        }),
        Role::Deception => ("SELECT DISTINCT sha256 FROM artifact", |row| Ok(artifact(&row.get::<_, String>(0)?))),
        _ => return Ok(None),
    };
    // Tables of a version that had no such files have no such rows.
    let Ok(mut query) = database.prepare(sql) else { return Ok(None) };
    let (mut count, mut told) = (0_u64, Vec::new());
    for name in query.query_map([], key)? {
        let name = name?;
        if has(&name) {
            continue;
        }
        count += 1;
        if told.len() < TOLD {
            told.push(name);
        }
    }
    let more = if count > told.len() as u64 { ", …" } else { "" };
    Ok((count > 0).then(|| {
        format!(
            "{count} files that rows of {role} name: they were removed while this was made, or were missing before \
             ({}{more})",
            told.join(", ")
        )
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{commands::migrate, settings::Settings};

    #[tokio::test]
    async fn files_of_rows_that_are_not_there_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { data_dir: folder.path().join("data"), ..Settings::default() };
        for role in [Role::Evidence, Role::Deception, Role::Catalog] {
            migrate::up_to_date(&settings, role).await.unwrap().close().await;
        }
        let open = |role: Role| Connection::open(settings.data_dir.join(format!("{role}.db"))).unwrap();
        let database = open(Role::Evidence);
        assert_eq!(lacking(Role::Evidence, &database, |_| false).unwrap(), None);
        let (test, ids) = (Uuid::now_v7(), [(); 5].map(|()| Uuid::now_v7()));
        for id in ids {
            database
                .execute(
                    "INSERT INTO evidence (id, test_id, file_name, sha256, size_bytes, uploaded_by, uploaded_by_username,
                     uploaded_at) VALUES (?1, ?2, 'proof', ?3, 5, x'00', 'red', '2026-01-01T00:00:00+00:00')",
                    (id.as_bytes(), test.as_bytes(), id.to_string()),
                )
                .unwrap();
        }
        let name = |at: usize| format!("evidence/{test}/{}", ids[at]);
        assert_eq!(lacking(Role::Evidence, &database, |_| true).unwrap(), None);
        let told = lacking(Role::Evidence, &database, |key| key != name(3)).unwrap().unwrap();
        assert!(told.starts_with("1 files that rows of evidence name") && told.contains(&name(3)), "{told}");
        let told = lacking(Role::Evidence, &database, |_| false).unwrap().unwrap();
        assert!(told.starts_with("5 files") && told.contains(", …"), "{told}");

        let database = open(Role::Deception);
        database
            .execute(
                "INSERT INTO artifact (id, kind, decky, stored_as, service, attacker_ip, session_id, name, sha256, size,
                 captured_at, created_at) VALUES (x'01', 'upload', 'web', 'a', 'ssh', '192.0.2.1', 's', 'a', 'abcd', 1,
                 '2026-01-01T00:00:00+00:00', '2026-01-01T00:00:00+00:00')",
                [],
            )
            .unwrap();
        let told = lacking(Role::Deception, &database, |_| false).unwrap().unwrap();
        assert!(told.contains("artifacts/ab/abcd"), "{told}");
        database.execute_batch("DROP TABLE artifact").unwrap();
        assert_eq!(lacking(Role::Deception, &database, |_| false).unwrap(), None);
        assert_eq!(lacking(Role::Catalog, &open(Role::Catalog), |_| false).unwrap(), None);
    }
}
