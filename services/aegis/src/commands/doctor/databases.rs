//! The databases of the services: whether they answer, what version their tables have, what waits in them, and whether
//! our role there may do no more than it has to.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use aegis_db::{Db, now, read};
use aegis_error::{Code, Failure};
use aegis_identity::admin;
use chrono::{DateTime, Utc};
use indicatif::HumanBytes;
use rusqlite::ErrorCode;
use secrecy::ExposeSecret;

use super::{
    Findings,
    report::{Finding, Level, sentence, span},
    services::clock,
};
use crate::{commands::backup::cut, roles::Role, settings::Settings, stores, tls};

/// Events that wait are counted up to this.
const COUNTED: i64 = 100_000;
/// An event waits for no longer where all is well, seconds.
const WAITS: f64 = 60.0;
/// A log of SQLite that has grown so far is held by somebody, bytes.
const LONG_LOG: u64 = 512 * 1024 * 1024;
/// Records of the audit trail that are looked at.
const TAIL: i64 = 10_000;
/// For how long the pages of a database are looked at.
const PAGES: Duration = Duration::from_secs(10);
/// A key that signs for longer should be changed, days.
const OLD_KEY: i64 = 400;

/// Looks at the database of a service.
pub(super) async fn check(settings: &Settings, role: Role) -> Findings {
    let began = Instant::now();
    let db = match open(settings, role).await {
        Ok(db) => db,
        Err(finding) => return vec![*finding],
    };
    let mut findings = match look(settings, role, &db, began).await {
        Ok(findings) => findings,
        Err(error) => vec![broken(settings, role, &error)],
    };
    if settings.database_url.is_none() {
        findings.extend(log(&settings.data_dir, role));
    }
    db.close().await;
    findings
}

/// Opens it for reading, without making anything.
pub(super) async fn open(settings: &Settings, role: Role) -> Result<Db, Box<Finding>> {
    match &settings.database_url {
        Some(url) => {
            let url = url.expose_secret().replace("{service}", role.as_str());
            let unread = |error: aegis_db::Error| {
                Box::new(Finding::new(Level::Problem, sentence(&error)).advice("check AEGIS_DATABASE_URL"))
            };
            let roots = tls::more_roots(settings)
                .map_err(|error| Box::new(Finding::new(Level::Problem, format!("{error:#}"))))?;
            Db::look_postgres(&url, role.as_str(), roots).map_err(unread)
        }
        None => {
            let path = settings.data_dir.join(format!("{role}.db"));
            if !path.is_file() {
                let finding = Finding::new(Level::Problem, "is not there");
                return Err(Box::new(finding.advice("start Aegis, or `aegis migrate`, which makes it")));
            }
            Db::look(&path).await.map_err(|error| Box::new(broken(settings, role, &error)))
        }
    }
}

/// What a query that failed says of the database.
fn broken(settings: &Settings, role: Role, error: &aegis_db::Error) -> Finding {
    let text = sentence(error);
    if settings.database_url.is_none() {
        return Finding::new(Level::Problem, format!("cannot be read: {text}"))
            .advice("does the file belong to somebody else? One that is damaged comes back with `aegis restore`");
    }
    let code = match error {
        aegis_db::Error::Sqlx(sqlx::Error::Database(told)) => told.code().map(|code| code.into_owned()),
        _ => None,
    };
    match code.as_deref() {
        Some("28P01" | "28000") => Finding::new(Level::Problem, format!("does not let {role} in: {text}"))
            .advice("are the role and the password in AEGIS_DATABASE_URL right, and does pg_hba.conf let it in?"),
        Some("3D000") => {
            Finding::new(Level::Problem, text).advice("make the database, or name the right one in AEGIS_DATABASE_URL")
        }
        Some("42P01" | "3F000") => {
            Finding::new(Level::Problem, "has no tables yet").advice(format!("`aegis migrate {role}`, or start {role}"))
        }
        Some(_) if !error.is_unavailable() => Finding::new(Level::Problem, text),
        _ => Finding::new(Level::Unreachable, format!("does not answer: {text}"))
            .advice("is PostgreSQL running, and is AEGIS_DATABASE_URL right?"),
    }
}

async fn look(settings: &Settings, role: Role, db: &Db, began: Instant) -> aegis_db::Result<Findings> {
    let mut findings = Vec::new();
    db.ping().await?;
    findings.push(Finding::ok(format!("answers in {}", span(began.elapsed().as_secs_f64()))));
    if let Db::Postgres(pool) = db {
        findings.extend(rights(pool, role).await?);
        if role == Role::Identity {
            findings.extend(server(pool, settings).await?);
        }
    }
    let tables = tables(db, role).await?;
    let usable = tables.is_some();
    findings.extend(tables.unwrap_or_else(|| {
        vec![
            Finding::new(Level::Problem, "has no tables yet")
                .advice(format!("`aegis migrate {role}`, or start {role}")),
        ]
    }));
    if usable {
        findings.extend(waiting(db, role).await?);
        if role == Role::Intel {
            findings.extend(jobs(db).await?);
        }
    }
    Ok(findings)
}

/// The migrations that were applied, against those that we have; nothing where there are no tables at all.
async fn tables(db: &Db, role: Role) -> aegis_db::Result<Option<Findings>> {
    const APPLIED: &str = "SELECT version, success, checksum FROM _sqlx_migrations";
    let exists: i64 = match db {
        Db::Postgres(pool) => {
            sqlx::query_scalar("SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = current_schema() AND table_name = '_sqlx_migrations'")
                .fetch_one(pool)
                .await?
        }
        Db::Sqlite(sqlite) => {
            sqlx::query_scalar("SELECT COUNT(*) FROM sqlite_schema WHERE name = '_sqlx_migrations'")
                .fetch_one(&sqlite.read)
                .await?
        }
    };
    if exists == 0 {
        return Ok(None);
    }
    let applied: Vec<(i64, bool, Vec<u8>)> = read!(db, |pool| sqlx::query_as(APPLIED).fetch_all(pool).await)?;
    let known: BTreeMap<i64, Vec<u8>> = stores::migrations(role)
        .iter()
        .flat_map(|set| set.of(db))
        .map(|one| (one.version, one.checksum.into_owned()))
        .collect();
    Ok(Some(judge(&applied, &known, role)))
}

fn judge(applied: &[(i64, bool, Vec<u8>)], known: &BTreeMap<i64, Vec<u8>>, role: Role) -> Findings {
    let mut findings = Vec::new();
    let half: Vec<i64> = applied.iter().filter(|one| !one.1).map(|one| one.0).collect();
    if !half.is_empty() {
        findings.push(
            Finding::new(Level::Problem, format!("migrations ended half way: {half:?}"))
                .advice("look into the log of who ran them; restore a backup if the tables are not whole"),
        );
    }
    let other = applied.iter().filter(|one| known.get(&one.0).is_some_and(|checksum| *checksum != one.2));
    let other: Vec<i64> = other.map(|one| one.0).collect();
    if !other.is_empty() {
        findings.push(
            Finding::new(Level::Problem, format!("was made by another program: its migrations {other:?} are not ours"))
                .advice("check AEGIS_DATABASE_URL or AEGIS_DATA_DIR: nothing starts on it"),
        );
    }
    let missing: Vec<i64> =
        known.keys().filter(|version| !applied.iter().any(|one| one.0 == **version)).copied().collect();
    if !missing.is_empty() {
        findings.push(
            Finding::new(Level::Warning, format!("its tables are older than this version: {missing:?} are missing"))
                .advice(format!("`aegis migrate {role}`; the next start does it, too")),
        );
    }
    let newer: Vec<i64> = applied.iter().filter(|one| !known.contains_key(&one.0)).map(|one| one.0).collect();
    if !newer.is_empty() {
        findings.push(Finding::new(
            Level::Note,
            format!("a newer version has brought its tables further: {newer:?}; this one works with them"),
        ));
    }
    if findings.is_empty() {
        let newest = known.keys().next_back().copied().unwrap_or(0);
        findings.push(Finding::ok(format!("its tables are up to date ({newest:04})")));
    }
    findings
}

/// Events that wait to be passed on, and those that nobody could take in.
async fn waiting(db: &Db, role: Role) -> aegis_db::Result<Findings> {
    let mut findings = Vec::new();
    let waiting = aegis_events::waiting(db).await?;
    if let Some(oldest) = waiting.oldest {
        let age = (now() - oldest).num_milliseconds() as f64 / 1e3;
        let what = format!("{} events wait to be passed on, the first for {}", counted(waiting.unpublished), span(age));
        if age > WAITS {
            findings.push(
                Finding::new(Level::Warning, what)
                    .advice(format!("they are passed on when {role} runs and the broker is well; nothing is lost")),
            );
        }
    }
    if waiting.dead > 0 {
        let (kind, reason): (String, String) =
            read!(db, |pool| sqlx::query_as("SELECT kind, reason FROM dead_letter ORDER BY at DESC LIMIT 1")
                .fetch_one(pool)
                .await)?;
        let reason: String = reason.chars().filter(|c| !c.is_control()).take(160).collect();
        let dead = counted(waiting.dead);
        findings.push(
            Finding::new(Level::Warning, format!("{dead} events could not be taken in; the newest ({kind}): {reason}"))
                .advice(format!(
                    "they are kept in the table dead_letter of {role}; mend the cause, then `aegis rebuild` makes \
                     projections whole"
                )),
        );
    }
    Ok(findings)
}

/// How many, for people.
fn counted(events: i64) -> String {
    if events >= COUNTED { format!("{COUNTED} or more") } else { events.to_string() }
}

/// Scheduled work whose newest run has failed.
async fn jobs(db: &Db) -> aegis_db::Result<Findings> {
    let failed: Vec<(String, Option<String>, DateTime<Utc>)> = read!(db, |pool| sqlx::query_as(
        "SELECT r.job_id, r.error, r.started_at FROM scheduled_run r
         WHERE r.status = 'failed' AND NOT EXISTS (
             SELECT 1 FROM scheduled_run n
             WHERE n.job_id = r.job_id AND n.started_at > r.started_at AND n.status <> 'running')
         ORDER BY r.started_at DESC LIMIT 20"
    )
    .fetch_all(pool)
    .await)?;
    let told = failed.into_iter().map(|(job, error, at)| {
        let error: String = error.unwrap_or_default().chars().filter(|c| !c.is_control()).take(160).collect();
        let ago = span((now() - at).num_milliseconds() as f64 / 1e3);
        Finding::new(Level::Warning, format!("the job {job} failed {ago} ago: {error}"))
            .advice("it is tried again when it is due; GET /api/v1/system/scheduler-status says when")
    });
    Ok(told.collect())
}

/// What our role may do in PostgreSQL beyond what it has to.
async fn rights(pool: &sqlx::PgPool, role: Role) -> aegis_db::Result<Findings> {
    let mut findings = Vec::new();
    let began = now();
    let at: DateTime<Utc> = sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(pool).await?;
    let middle = began + (now() - began) / 2;
    findings.extend(clock((at - middle).num_milliseconds() as f64 / 1e3, "the database"));
    let (own, attributes): (String, Vec<bool>) = sqlx::query_as(
        "SELECT rolname::text, ARRAY[rolsuper, rolcreaterole, rolcreatedb, rolbypassrls, rolreplication]
         FROM pg_roles WHERE rolname = current_user",
    )
    .fetch_one(pool)
    .await?;
    let names = ["superuser", "may make roles", "may make databases", "passes row security", "may replicate"];
    let held: Vec<&str> = names.into_iter().zip(&attributes).filter(|(_, held)| **held).map(|(name, _)| name).collect();
    if !held.is_empty() {
        findings.push(
            Finding::new(Level::Warning, format!("its role {own} is more than it has to be: {}", held.join(", ")))
                .advice(format!("ALTER ROLE {own} NOSUPERUSER NOCREATEROLE NOCREATEDB NOBYPASSRLS NOREPLICATION")),
        );
        return Ok(findings);
    }
    let schemas: Vec<String> = Role::SERVICES.iter().filter(|other| **other != role).map(ToString::to_string).collect();
    let seen: Vec<String> = sqlx::query_scalar(
        "SELECT nspname::text FROM pg_namespace WHERE nspname = ANY($1) AND has_schema_privilege(oid, 'USAGE')",
    )
    .bind(&schemas)
    .fetch_all(pool)
    .await?;
    findings.push(match seen.is_empty() {
        true => Finding::ok(format!("its role {own} reaches its own tables alone")),
        false => Finding::new(Level::Warning, format!("its role {own} may look into {}", seen.join(", ")))
            .advice("give each service a role of its own, as deploy/BACKUP.md and `cargo xtask up` do"),
    });
    Ok(findings)
}

/// What holds of the server as a whole.
async fn server(pool: &sqlx::PgPool, settings: &Settings) -> aegis_db::Result<Findings> {
    let (version, replica, off, used, most): (String, bool, Vec<String>, i64, i64) = sqlx::query_as(
        "SELECT current_setting('server_version'), pg_is_in_recovery(),
                ARRAY(SELECT name::text FROM pg_settings
                      WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') AND setting = 'off' ORDER BY name),
                (SELECT COUNT(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
                CAST(current_setting('max_connections') AS BIGINT)",
    )
    .fetch_one(pool)
    .await?;
    let mut findings = vec![Finding::ok(format!("PostgreSQL {version}, {used} of {most} connections")).about("server")];
    if replica {
        findings.push(
            Finding::new(Level::Problem, "it is a standby, which takes no changes")
                .advice("name the primary in AEGIS_DATABASE_URL")
                .about("server"),
        );
    }
    if !off.is_empty() {
        findings.push(
            Finding::new(
                Level::Warning,
                format!("{} off: what was confirmed can be lost with the power", off.join(", ")),
            )
            .advice("switch it on for data that counts")
            .about("server"),
        );
    }
    let wanted = i64::from(settings.database_connections) * Role::SERVICES.len() as i64;
    if wanted > most || used * 10 > most * 9 {
        findings.push(
            Finding::new(
                Level::Warning,
                format!("{wanted} connections may be wanted by one replica of each role, of {most}"),
            )
            .advice("raise max_connections, or lower AEGIS_DATABASE_CONNECTIONS")
            .about("server"),
        );
    }
    Ok(findings)
}

/// The write-ahead log of a SQLite file.
fn log(folder: &Path, role: Role) -> Option<Finding> {
    let bytes = std::fs::metadata(folder.join(format!("{role}.db-wal"))).ok()?.len();
    (bytes > LONG_LOG).then(|| {
        Finding::new(Level::Warning, format!("its log has {}: something reads for very long", HumanBytes(bytes)))
            .advice("end what has the file open beside the product; a restart carries the log over")
    })
}

/// Looks at the pages of the SQLite files: what is damaged where no query comes by shows here.
pub(super) async fn pages(settings: &Settings) -> Findings {
    if settings.database_url.is_some() {
        return Findings::new();
    }
    let began = Instant::now();
    let files = cut::files(&settings.data_dir);
    let looks = files.iter().map(|(role, path)| async move {
        let finding = pages_of(path, PAGES).await?;
        Some(finding.about(role.as_str()))
    });
    let found: Findings = futures::future::join_all(looks).await.into_iter().flatten().collect();
    if found.is_empty() && !files.is_empty() {
        let took = span(began.elapsed().as_secs_f64());
        return vec![Finding::ok(format!("the pages of {} databases are sound ({took})", files.len()))];
    }
    found
}

/// What is wrong with the pages of a database, looked at for no longer than `patience`.
async fn pages_of(path: &Path, patience: Duration) -> Option<Finding> {
    let opened = cut::open(path).and_then(|database| {
        // Nothing that stands in the file is run.
        database.execute_batch("PRAGMA query_only = ON; PRAGMA trusted_schema = OFF")?;
        Ok(database)
    });
    let looked = match opened {
        Ok(database) => {
            let stop = database.get_interrupt_handle();
            let mut look = tokio::task::spawn_blocking(move || cut::sound(&database));
            let looked = match tokio::time::timeout(patience, &mut look).await {
                Ok(looked) => looked,
                // It closes its file in good order, too.
                Err(_) => {
                    stop.interrupt();
                    look.await
                }
            };
            looked.unwrap_or_else(|error| Err(error.into()))
        }
        Err(error) => Err(error),
    };
    let error = looked.err()?;
    let code = error.downcast_ref::<rusqlite::Error>().and_then(rusqlite::Error::sqlite_error_code);
    let finding = match code {
        Some(ErrorCode::OperationInterrupted) => {
            let what = format!("not all of its pages were looked at in {} s", patience.as_secs());
            Finding::new(Level::Note, what).advice("`aegis backup` looks at all of them, however long that takes")
        }
        _ if cut::is_busy(&error) => Finding::new(Level::Note, "its pages were not looked at: it is busy"),
        _ => Finding::new(Level::Problem, format!("its pages are not sound: {error:#}"))
            .advice("stop Aegis, keep a copy of the data folder, and restore the newest backup with `aegis restore`"),
    };
    Some(finding)
}

/// The newest records of the audit trail.
pub(super) async fn trail(settings: &Settings) -> Findings {
    let Ok(db) = open(settings, Role::Identity).await else { return unseen() };
    let began = Instant::now();
    let verdict = admin::verify_audit_tail(&db, TAIL).await;
    db.close().await;
    match verdict {
        Ok(verdict) => match verdict.broken {
            Some(found) => vec![
                Finding::new(Level::Problem, format!("the chain breaks at record {}: {}", found.seq, found.reason))
                    .advice(
                        "`aegis audit verify` walks all of it; somebody wrote past the product, or the disk is bad",
                    ),
            ],
            None => {
                let took = span(began.elapsed().as_secs_f64());
                vec![Finding::ok(format!("the newest {} records are unbroken ({took})", verdict.records))]
            }
        },
        Err(failure) => failed(&failure),
    }
}

/// The keys that sign tokens.
pub(super) async fn keys(settings: &Settings) -> Findings {
    let Ok(db) = open(settings, Role::Identity).await else { return unseen() };
    let keys = tokio::time::timeout(Duration::from_secs(2), admin::list_keys(&db)).await;
    db.close().await;
    let keys = match keys {
        Ok(Ok(keys)) => keys,
        Ok(Err(failure)) => return failed(&failure),
        Err(_) => return unseen(),
    };
    let signing: Vec<_> = keys.iter().filter(|key| key.retire_at.is_none()).collect();
    match signing.as_slice() {
        [] => vec![
            Finding::new(Level::Problem, "there is no key to sign tokens with")
                .advice("start identity, which makes one"),
        ],
        [key] => {
            let days = (now() - key.created_at).num_days();
            vec![match days > OLD_KEY {
                true => Finding::new(Level::Note, format!("the key {} has signed for {days} days", key.kid))
                    .advice("`aegis keys rotate`; nobody is logged out"),
                false => Finding::ok(format!("{} signs, {} verify", key.kid, keys.len())),
            }]
        }
        _ => vec![
            Finding::new(Level::Problem, "there are several keys that claim to sign").advice("`aegis keys rotate`"),
        ],
    }
}

/// What a failure says that a caller would not be told.
fn failed(failure: &Failure) -> Findings {
    let text = failure.to_string();
    let cause = text.strip_prefix(failure.message()).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(&text);
    let no_tables = cause.contains("does not exist") || cause.contains("no such table");
    match failure.code() == Code::Unavailable || no_tables {
        true => unseen(),
        false => vec![Finding::new(Level::Problem, cause.to_owned())],
    }
}

/// What is wrong is told where the database is looked at.
fn unseen() -> Findings {
    vec![Finding::new(Level::Note, "not looked at: the database of identity cannot be read")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_other_versions_are_told_from_broken_ones() {
        let known: BTreeMap<i64, Vec<u8>> = [(1, vec![1]), (100, vec![2]), (110, vec![3])].into();
        let levels = |applied: &[(i64, bool, Vec<u8>)]| {
            let told = serde_json::to_value(judge(applied, &known, Role::Catalog)).unwrap();
            told.as_array().unwrap().iter().map(|one| one["level"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let row = |version, checksum| (version, true, vec![checksum]);
        assert_eq!(levels(&[row(1, 1), row(100, 2), row(110, 3)]), ["ok"]);
        assert_eq!(levels(&[row(1, 1), row(100, 2)]), ["warning"]);
        assert_eq!(levels(&[row(1, 1), row(100, 2), row(110, 3), row(120, 4)]), ["note"]);
        assert_eq!(levels(&[row(1, 1), row(100, 9), row(110, 3)]), ["problem"]);
        assert_eq!(levels(&[row(1, 1), row(100, 2), (110, false, vec![3])]), ["problem"]);
    }

    #[tokio::test]
    async fn pages_that_are_damaged_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { data_dir: folder.path().to_owned(), ..Settings::default() };
        assert!(pages(&settings).await.is_empty());
        let path = folder.path().join("catalog.db");
        let database = rusqlite::Connection::open(&path).unwrap();
        database
            .execute_batch(
                "CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL);
                 WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
                 INSERT INTO note (id, text) SELECT i, hex(randomblob(100)) FROM n;",
            )
            .unwrap();
        database.close().unwrap();
        let told = serde_json::to_value(pages(&settings).await).unwrap();
        assert_eq!(told[0]["level"], "ok", "{told}");

        // In the middle, where opening and counting do not look.
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle..middle + 8192].fill(0xa5);
        std::fs::write(&path, bytes).unwrap();
        let told = serde_json::to_value(pages(&settings).await).unwrap();
        assert_eq!((&told[0]["level"], &told[0]["subject"]), (&"problem".into(), &"catalog".into()), "{told}");
        std::fs::write(&path, b"no database at all, but long enough to be looked at").unwrap();
        let told = serde_json::to_value(pages(&settings).await).unwrap();
        assert_eq!(told[0]["level"], "problem", "{told}");
    }
}
