//! The store of evidence and artifacts: something is put, read and removed, and what rows name is there.

use std::time::{Duration, Instant};

use aegis_blob::{BlobError, BlobMeta};
use aegis_db::{Db, read};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use uuid::Uuid;

use super::{
    Findings, databases,
    report::{Finding, Level, sentence, span},
};
use crate::{commands::backup::named, roles::Role, settings::Settings, stores};

/// Rows of a service whose files are looked for: the newest ones.
const ROWS: i64 = 20;
/// Files that are asked for at the same time.
const AT_ONCE: usize = 8;
/// How long rows and their files are waited for: less than a check has, so that a slow one is not told as one that is away.
const PATIENCE: Duration = Duration::from_millis(2500);

/// What is put.
const TEXT: &[u8] = b"aegis doctor was here; this can be removed";

/// What it is called.
pub(super) fn place(settings: &Settings) -> String {
    match &settings.blob_url {
        Some(_) => "bucket".to_owned(),
        None => "folder".to_owned(),
    }
}

/// Looks at it.
pub(super) async fn check(settings: &Settings) -> Findings {
    let advice = match settings.blob_url {
        Some(_) => "check AEGIS_BLOB_URL and the AEGIS_S3_ settings, and that the key may put, get, list and delete",
        None => "the folder blobs in the data folder has to be writable",
    };
    if settings.blob_url.is_none() && !settings.data_dir.join("blobs").is_dir() {
        return vec![Finding::new(Level::Note, "there is no folder of files yet: the first start makes it")];
    }
    let began = Instant::now();
    let finding = match probe(settings).await {
        Ok(()) => Finding::ok(format!("a file was put, read and removed in {}", span(began.elapsed().as_secs_f64()))),
        Err(error) => {
            let away = settings.blob_url.is_some()
                && error.chain().any(|cause| matches!(cause.downcast_ref(), Some(BlobError::Unavailable(_))));
            let level = if away { Level::Unreachable } else { Level::Problem };
            Finding::new(level, sentence(error.as_ref())).advice(advice)
        }
    };
    vec![finding]
}

async fn probe(settings: &Settings) -> anyhow::Result<()> {
    let blobs = stores::blobs(settings)?;
    let key = format!("doctor/{}", Uuid::now_v7());
    let mut writer = blobs.writer(&key, &BlobMeta::default()).await?;
    writer.write(Bytes::from_static(TEXT)).await?;
    writer.finish().await?;
    let read = async {
        let (_, mut bytes) = blobs.read(&key, None).await?;
        let mut all = Vec::new();
        while let Some(part) = bytes.try_next().await? {
            all.extend_from_slice(&part);
        }
        Ok::<_, BlobError>(all)
    };
    let read = read.await;
    blobs.delete(&key).await?;
    anyhow::ensure!(read? == TEXT, "what was put is not what is read");
    Ok(())
}

/// Looks whether the files that the newest rows name are there, as whole as the rows say.
pub(super) async fn of_rows(settings: &Settings) -> Findings {
    let (evidence, artifacts) = tokio::join!(of_role(settings, Role::Evidence), of_role(settings, Role::Deception));
    [evidence, artifacts].into_iter().flatten().collect()
}

async fn of_role(settings: &Settings, role: Role) -> Option<Finding> {
    let Ok(Some((named, lost))) = tokio::time::timeout(PATIENCE, lost(settings, role)).await else {
        // What keeps it from being looked at is told where the database and the store are.
        return Some(Finding::new(Level::Note, format!("not looked at: files that rows of {role} name")));
    };
    let Some((first, _)) = lost.first() else {
        return (named > 0).then(|| Finding::ok(format!("those of the newest {named} rows of {role} are there")));
    };
    let what =
        format!("{} of those of the newest {named} rows of {role} are missing or cut off: {first} …", lost.len());
    let advice = match settings.blob_url {
        Some(_) => "is AEGIS_BLOB_URL the right bucket? Else copy them from your backup of it",
        None => "copy them from a backup: `aegis restore` into another folder makes its folder blobs",
    };
    Some(Finding::new(Level::Problem, what).advice(advice))
}

/// How many rows were looked at, and the files of them that are not there; nothing where that cannot be said.
async fn lost(settings: &Settings, role: Role) -> Option<(usize, Vec<(String, i64)>)> {
    let named = rows(settings, role).await?;
    let mut lost = missing(settings, &named).await.ok()?;
    if !lost.is_empty() {
        // A file goes after its row: one whose row is not there any more was removed while we looked.
        let still = rows(settings, role).await?;
        lost.retain(|file| still.contains(file));
    }
    Some((named.len(), lost))
}

/// Keys and sizes of the files of the newest rows; nothing where they cannot be read.
async fn rows(settings: &Settings, role: Role) -> Option<Vec<(String, i64)>> {
    let db = databases::open(settings, role).await.ok()?;
    let rows = match role {
        Role::Evidence => evidence(&db).await,
        _ => artifacts(&db).await,
    };
    db.close().await;
    rows.ok()
}

/// Keys of evidence are in the order of time.
async fn evidence(db: &Db) -> aegis_db::Result<Vec<(String, i64)>> {
    const SQL: &str =
        "SELECT test_id, id, size_bytes FROM evidence WHERE removing_at IS NULL ORDER BY id DESC LIMIT $1";
    let rows: Vec<(Uuid, Uuid, i64)> = read!(db, |pool| sqlx::query_as(SQL).bind(ROWS).fetch_all(pool).await)?;
    Ok(rows.into_iter().map(|(test_id, id, size)| (named::evidence(test_id, id), size)).collect())
}

async fn artifacts(db: &Db) -> aegis_db::Result<Vec<(String, i64)>> {
    const SQL: &str = "SELECT sha256, size FROM artifact ORDER BY id DESC LIMIT $1";
    let rows: Vec<(String, i64)> = read!(db, |pool| sqlx::query_as(SQL).bind(ROWS).fetch_all(pool).await)?;
    Ok(rows.into_iter().map(|(sha256, size)| (named::artifact(&sha256), size)).collect())
}

/// Those that the store does not have in that size.
async fn missing(settings: &Settings, named: &[(String, i64)]) -> anyhow::Result<Vec<(String, i64)>> {
    // Opening the store would make its folder.
    if settings.blob_url.is_none() && !settings.data_dir.join("blobs").is_dir() {
        return Ok(named.to_vec());
    }
    let blobs = stores::blobs(settings)?;
    let sizes = stream::iter(named.to_vec()).map(|(key, wanted)| {
        let blobs = blobs.clone();
        async move {
            let size = blobs.size(&key).await?;
            let whole = size.is_some_and(|size| i64::try_from(size) == Ok(wanted));
            Ok::<_, BlobError>((!whole).then_some((key, wanted)))
        }
    });
    let lost: Vec<_> = sizes.buffered(AT_ONCE).try_collect().await?;
    Ok(lost.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::migrate;

    #[tokio::test]
    async fn files_that_rows_name_and_that_are_not_there_are_a_problem() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { data_dir: folder.path().join("data"), ..Settings::default() };
        for role in [Role::Evidence, Role::Deception] {
            migrate::up_to_date(&settings, role).await.unwrap().close().await;
        }
        let told = async || serde_json::to_value(of_rows(&settings).await).unwrap();
        assert_eq!(told().await, serde_json::json!([]), "no rows name no files");
        let open = |role: Role| rusqlite::Connection::open(settings.data_dir.join(format!("{role}.db"))).unwrap();
        let (test, id) = (Uuid::now_v7(), Uuid::now_v7());
        open(Role::Evidence)
            .execute(
                "INSERT INTO evidence (id, test_id, file_name, sha256, size_bytes, uploaded_by, uploaded_by_username,
                 uploaded_at) VALUES (?1, ?2, 'proof', 'x', 5, x'00', 'red', '2026-01-01T00:00:00+00:00')",
                (id.as_bytes(), test.as_bytes()),
            )
            .unwrap();
        open(Role::Deception)
            .execute(
                "INSERT INTO artifact (id, kind, decky, stored_as, service, attacker_ip, session_id, name, sha256, size,
                 captured_at, created_at) VALUES (?1, 'upload', 'web', 'a', 'ssh', '192.0.2.1', 's', 'a', 'abcd', 3,
                 '2026-01-01T00:00:00+00:00', '2026-01-01T00:00:00+00:00')",
                [id.as_bytes()],
            )
            .unwrap();
        // A restore without its files: there is not even a folder, and looking makes none.
        let found = told().await;
        assert_eq!((&found[0]["level"], &found[1]["level"]), (&"problem".into(), &"problem".into()), "{found}");
        assert!(!settings.data_dir.join("blobs").exists());

        let put = |key: &str, bytes: &[u8]| {
            let path = settings.data_dir.join("blobs").join(key);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        put(&format!("evidence/{test}/{id}"), b"proof");
        put("artifacts/ab/abcd", b"abc");
        let found = told().await;
        assert_eq!((&found[0]["level"], &found[1]["level"]), (&"ok".into(), &"ok".into()), "{found}");
        put(&format!("evidence/{test}/{id}"), b"pro");
        let found = told().await;
        assert_eq!((&found[0]["level"], &found[1]["level"]), (&"problem".into(), &"ok".into()), "{found}");
        assert!(found[0]["what"].as_str().unwrap().contains(&id.to_string()), "{found}");
    }
}
