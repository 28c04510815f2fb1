//! The way of deploy/BACKUP.md: the database with `pg_dump`, the bucket object by object, then both elsewhere.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use aegis_blob::{BlobMeta, Blobs, S3Options};
use futures::TryStreamExt;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::{ended, text};
use crate::harness::Product;

/// Fixed: what an earlier run left behind is replaced.
const DATABASE: &str = "aegis_e2e_restored";

/// Copies database and bucket while the product runs; how to start one process on the copies.
pub async fn copy(product: &Product) -> Option<Command> {
    let Some(programs) = programs() else {
        println!("skipped: no pg_dump here");
        return None;
    };
    let settings = product.command(&[]);
    let setting = |name: &str| {
        let value = settings.get_envs().find(|(known, _)| *known == name).and_then(|(_, value)| value);
        value.map(|value| value.to_string_lossy().into_owned()).expect(name)
    };
    let admin = std::env::var("AEGIS_TEST_POSTGRES_URL").expect("a server");
    let of = |database: &str| {
        let mut url = url::Url::parse(&admin).expect("a URL");
        url.set_path(database);
        url
    };
    let urls = setting("AEGIS_DATABASE_URL");
    let source = url::Url::parse(&urls.replace("{service}", "identity")).expect("a URL");
    let source = source.path().trim_start_matches('/').to_owned();

    // All schemas at one moment, while everybody writes.
    let dump = product.folder().join("aegis.dump");
    let mut command = Command::new(programs.join("pg_dump"));
    command.args(["--format=custom", "--serializable-deferrable", "--no-password", "--file"]);
    command.arg(&dump).arg(of(&source).as_str());
    let dumped = ended(command).await;
    assert!(dumped.status.success(), "{}", text(&dumped));
    // Then the bucket: what a row of the dump names was there before it.
    let blob_url = setting("AEGIS_BLOB_URL");
    let copy_url = format!("{blob_url}-restored");
    let options = S3Options {
        endpoint: Some(setting("AEGIS_S3_ENDPOINT")),
        region: Some(setting("AEGIS_S3_REGION")),
        access_key_id: Some(setting("AEGIS_S3_ACCESS_KEY_ID").into()),
        secret_access_key: Some(setting("AEGIS_S3_SECRET_ACCESS_KEY").into()),
        allow_http: true,
        ..S3Options::default()
    };
    let objects = bucket(&blob_url, &copy_url, &options).await;
    println!("dumped {} bytes, copied {objects} objects", std::fs::metadata(&dump).map_or(0, |meta| meta.len()));

    let mut server = PgConnection::connect(&admin).await.expect("a server");
    for statement in [format!("DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)"), format!("CREATE DATABASE {DATABASE}")]
    {
        server.execute(AssertSqlSafe(statement)).await.expect("a database");
    }
    server.close().await.expect("the connection closes");
    let mut command = Command::new(programs.join("pg_restore"));
    command.args(["--exit-on-error", "--no-password", "--jobs=2", "--dbname"]).arg(of(DATABASE).as_str()).arg(&dump);
    let restored = ended(command).await;
    assert!(restored.status.success(), "{}", text(&restored));

    // One process is enough to look at it, with a broker of its own: none.
    let mut command = product.command(&[]);
    // The name of the database is also the beginning of its roles' names.
    let (server, _) = urls.rsplit_once('/').expect("a database");
    command.env("AEGIS_DATABASE_URL", format!("{server}/{DATABASE}"));
    command.env("AEGIS_BLOB_URL", copy_url).env_remove("AEGIS_BROKER_URL");
    command.env("AEGIS_DATABASE_CONNECTIONS", "3");
    for role in ["IDENTITY", "CATALOG", "TESTING", "EVIDENCE", "INTEL", "ANALYTICS", "DECEPTION"] {
        command.env_remove(format!("AEGIS_{role}_URL"));
    }
    Some(command)
}

/// The newest `pg_dump` of this machine, which has to be as new as the server.
fn programs() -> Option<PathBuf> {
    let version = |path: &Path| -> Option<u32> { path.file_name()?.to_str()?.parse().ok() };
    let installed = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten().map(|entry| entry.path());
    let newest = installed.filter(|path| path.join("bin/pg_dump").is_file()).max_by_key(|path| version(path))?;
    Some(newest.join("bin"))
}

async fn bucket(from: &str, to: &str, options: &S3Options) -> usize {
    let (from, to) = (Blobs::s3(from, options).expect("a bucket"), Blobs::s3(to, options).expect("a bucket"));
    let keys: Vec<(String, u64)> = from.list("").try_collect().await.expect("a list");
    for (key, _) in &keys {
        // Removed since.
        let Ok((_, mut bytes)) = from.read(key, None).await else { continue };
        let mut writer = to.writer(key, &BlobMeta::default()).await.expect("an object");
        while let Some(part) = bytes.try_next().await.expect("bytes") {
            writer.write(part).await.expect("bytes");
        }
        writer.finish().await.expect("an object");
    }
    keys.len()
}
