//! A backup comes back as it was; one that is cut off, altered or made by somebody else changes nothing.

use std::{
    collections::BTreeMap,
    io::Write,
    os::unix::{ffi::OsStringExt, fs::PermissionsExt},
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::EntryType;
use tempfile::TempDir;

use super::*;
use crate::{
    cli::BackupArgs,
    commands::{backup, migrate},
};

const QUIET: Output = Output { json: true };
const BLOB: &str = "evidence/0190/one";

/// Files of an archive, and the words with which it is refused.
type Hostile<'a> = (&'a [(&'a str, EntryType, &'a [u8])], &'a str);

/// A data folder as the product makes it, with a file of evidence and a sensor's.
struct Data {
    folder: TempDir,
    settings: Settings,
}

impl Data {
    async fn new() -> Data {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let settings = Settings { data_dir: data.clone(), ..Settings::default() };
        stores::service_secret(&settings).unwrap();
        for role in Role::SERVICES {
            migrate::up_to_date(&settings, role).await.unwrap().close().await;
        }
        let blob = data.join("blobs").join(BLOB);
        fs::create_dir_all(blob.parent().unwrap()).unwrap();
        fs::write(&blob, b"proof").unwrap();
        // A write that was cut off is nothing.
        fs::write(data.join("blobs/half#1"), b"x").unwrap();
        fs::create_dir_all(data.join("sensor/buffer")).unwrap();
        fs::write(data.join("sensor/buffer/0001"), b"event").unwrap();
        fs::write(data.join("sensor/lock"), b"").unwrap();
        Data { folder, settings }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn backup(&self, name: &str) -> PathBuf {
        let file = self.path(name);
        backup::run(&self.settings, BackupArgs { file: file.clone(), verify: false }, QUIET).await.unwrap();
        file
    }

    /// Restores into a folder beside it.
    async fn restore(&self, file: &Path, into: &str, force: bool) -> Result<PathBuf> {
        let folder = self.path(into);
        let settings = Settings { data_dir: folder.clone(), ..Settings::default() };
        run(&settings, RestoreArgs { file: file.to_owned(), force }, QUIET).await?;
        Ok(folder)
    }

    /// It is refused, with these words, and nothing is there that was not.
    async fn refused(&self, bytes: &[u8], words: &str) {
        let file = self.path("bad");
        fs::write(&file, bytes).unwrap();
        let verified = backup::run(&self.settings, BackupArgs { file: file.clone(), verify: true }, QUIET).await;
        let error = format!("{:#}", self.restore(&file, "never", false).await.expect_err(words));
        assert!(error.contains(words), "{words}: {error}");
        let names: Vec<String> = self.names();
        assert!(!names.iter().any(|name| name.contains("never")), "{words}: {names:?}");
        // What only shows when it is opened passes the look at the file.
        assert!(verified.is_err() || words.contains("newer") || words.contains("database") || words.contains("twice"));
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

fn whole_head(databases: &[Role]) -> Value {
    let databases: BTreeMap<String, Vec<i64>> =
        databases.iter().map(|role| (role.to_string(), archive::known_migrations(*role))).collect();
    json!({"format": 1, "version": "0.1.0", "created_at": "2026-01-01T00:00:00Z", "databases": databases})
}

/// An archive as anybody could make it: no name and no kind of entry is refused here.
fn archive_of(files: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
    for (name, kind, data) in files {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(data.len() as u64);
        header.set_entry_type(*kind);
        if matches!(kind, EntryType::Symlink | EntryType::Link) {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_cksum();
        tar.append(&header, *data).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

fn list(files: &[(&str, &[u8])]) -> Vec<u8> {
    let line = |(name, data): &(&str, &[u8])| {
        format!(
            "{{\"path\":\"{name}\",\"size\":{},\"sha256\":\"{}\"}}\n",
            data.len(),
            hex::encode(Sha256::digest(data))
        )
    };
    files.iter().map(line).collect::<String>().into_bytes()
}

#[tokio::test]
async fn a_backup_comes_back_as_it_was() {
    let data = Data::new().await;
    let file = data.backup("one.tar.zst").await;
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    backup::run(&data.settings, BackupArgs { file: file.clone(), verify: true }, QUIET).await.unwrap();
    // Nothing else is left, there or here.
    assert!(!data.settings.data_dir.join(".backup").exists());
    assert!(!data.names().iter().any(|name| name.contains("part")));
    // A name that is taken is not written over.
    let again = backup::run(&data.settings, BackupArgs { file: file.clone(), verify: false }, QUIET).await;
    assert!(format!("{:#}", again.unwrap_err()).contains("exists already"));

    let restored = data.restore(&file, "deep/er/restored", false).await.unwrap();
    assert_eq!(fs::metadata(&restored).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::read(restored.join("blobs").join(BLOB)).unwrap(), b"proof");
    assert_eq!(fs::read(restored.join("sensor/buffer/0001")).unwrap(), b"event");
    assert!(!restored.join("blobs/half#1").exists() && !restored.join("sensor/lock").exists());
    let secret = |folder: &Path| fs::read_to_string(folder.join(stores::SECRET)).unwrap();
    assert_eq!(secret(&restored), secret(&data.settings.data_dir));
    assert_eq!(fs::metadata(restored.join(stores::SECRET)).unwrap().permissions().mode() & 0o777, 0o600);
    let settings = Settings { data_dir: restored.clone(), ..Settings::default() };
    for role in Role::SERVICES {
        migrate::up_to_date(&settings, role).await.unwrap().close().await;
    }

    // Not over what is there, unless that is wanted: then it is put aside.
    let refused = data.restore(&file, "deep/er/restored", false).await.unwrap_err();
    assert!(format!("{refused:#}").contains("not empty"), "{refused:#}");
    fs::write(restored.join("mine"), b"kept").unwrap();
    data.restore(&file, "deep/er/restored", true).await.unwrap();
    assert!(!restored.join("mine").exists());
    let aside = fs::read_dir(data.path("deep/er")).unwrap().map(|entry| entry.unwrap().path());
    let aside = aside.filter(|path| path.to_string_lossy().contains("restored.before-")).collect::<Vec<_>>();
    assert_eq!(aside.len(), 1, "{aside:?}");
    // What was put aside can be started as well.
    assert!(!aside[0].join(stores::RESTORING).exists() && !restored.join(stores::RESTORING).exists());
    assert_eq!(fs::read(aside[0].join("mine")).unwrap(), b"kept");

    // Nor while somebody has it.
    let db = migrate::up_to_date(&settings, Role::Catalog).await.unwrap();
    let refused = data.restore(&file, "deep/er/restored", true).await.unwrap_err();
    assert!(format!("{refused:#}").contains("stop it first"), "{refused:#}");
    db.close().await;
    data.restore(&file, "deep/er/restored", true).await.unwrap();
}

#[tokio::test]
async fn a_folder_that_cannot_be_renamed_is_filled_in_place() {
    let data = Data::new().await;
    let file = data.backup("one.tar.zst").await;
    fs::create_dir(data.path("real")).unwrap();
    std::os::unix::fs::symlink(data.path("real"), data.path("volume")).unwrap();
    let volume = data.restore(&file, "volume", false).await.unwrap();
    assert!(fs::symlink_metadata(&volume).unwrap().is_symlink());
    assert_eq!(fs::read(data.path("real").join("blobs").join(BLOB)).unwrap(), b"proof");
    assert!(!volume.join(WORKPLACE).exists() && !volume.join(stores::RESTORING).exists());

    // Cut off in the middle: nothing starts there, and the same command ends it.
    fs::write(volume.join(stores::RESTORING), b"").unwrap();
    fs::remove_file(volume.join("identity.db")).unwrap();
    let settings = Settings { data_dir: volume.clone(), ..Settings::default() };
    let refused = migrate::up_to_date(&settings, Role::Identity).await.unwrap_err();
    assert!(format!("{refused:#}").contains("cut off"), "{refused:#}");
    data.restore(&file, "volume", false).await.unwrap();
    migrate::up_to_date(&settings, Role::Identity).await.unwrap().close().await;

    fs::write(volume.join("mine"), b"kept").unwrap();
    data.restore(&file, "volume", true).await.unwrap();
    assert_eq!(fs::read(aside(&volume).join("mine")).unwrap(), b"kept");
}

/// Where the last restore into a folder that cannot be renamed has put what was there.
fn aside(volume: &Path) -> PathBuf {
    let paths = fs::read_dir(volume).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> =
        paths.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("before-restore-")).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[tokio::test]
async fn what_a_restore_that_was_cut_off_had_not_put_aside_is_kept() {
    let data = Data::new().await;
    let file = data.backup("one.tar.zst").await;
    let volume = data.path("real");
    fs::create_dir(&volume).unwrap();
    std::os::unix::fs::symlink(&volume, data.path("volume")).unwrap();
    // Cut off while it put aside: one is aside, others are not, among them one whose name is no text.
    let odd = OsString::from_vec(vec![b'o', 0xff]);
    fs::write(volume.join(stores::RESTORING), b"").unwrap();
    fs::create_dir_all(volume.join("before-restore-first")).unwrap();
    fs::write(volume.join("before-restore-first/identity.db"), b"old users").unwrap();
    fs::write(volume.join("catalog.db"), b"old techniques").unwrap();
    fs::write(volume.join(stores::SECRET), b"old secret").unwrap();
    fs::write(volume.join(&odd), b"odd").unwrap();
    fs::create_dir_all(volume.join("blobs/evidence")).unwrap();
    fs::write(volume.join("blobs/evidence/old"), b"old proof").unwrap();

    // What was agreed to once is not asked again.
    data.restore(&file, "volume", false).await.unwrap();
    let old = aside(&volume);
    let kept = |name: &str| fs::read(old.join(name)).unwrap();
    assert_eq!(kept("before-restore-first/identity.db"), b"old users");
    assert_eq!(kept("catalog.db"), b"old techniques");
    assert_eq!(kept(stores::SECRET), b"old secret");
    assert_eq!(kept("blobs/evidence/old"), b"old proof");
    assert_eq!(fs::read(old.join(&odd)).unwrap(), b"odd");
    assert!(!volume.join(stores::RESTORING).exists() && !volume.join("blobs/evidence/old").exists());
    assert_eq!(fs::read(volume.join("blobs").join(BLOB)).unwrap(), b"proof");
    let settings = Settings { data_dir: volume.clone(), ..Settings::default() };
    migrate::up_to_date(&settings, Role::Catalog).await.unwrap().close().await;

    // Two in one second do not share a folder.
    for _ in 0..3 {
        data.restore(&file, "volume", true).await.unwrap();
    }
    aside(&volume);
}

#[tokio::test]
async fn an_archive_that_is_cut_off_or_altered_changes_nothing() {
    let data = Data::new().await;
    let file = data.backup("one.tar.zst").await;
    let good = fs::read(&file).unwrap();
    for end in [0, 3, 100, good.len() / 2, good.len() - 1] {
        data.refused(&good[..end], "bad is not good").await;
    }
    for at in [200, good.len() / 3, good.len() / 2, good.len() - 8] {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        data.refused(&bad, "bad is not good").await;
    }
    // Altered inside, and compressed again by somebody who knows how.
    let plain = zstd::decode_all(good.as_slice()).unwrap();
    let at = plain.windows(5).position(|part| part == b"proof").unwrap();
    let mut bad = plain.clone();
    bad[at] = b'P';
    data.refused(&zstd::encode_all(bad.as_slice(), 1).unwrap(), "not what was backed up").await;
    data.refused(&zstd::encode_all(&plain[..plain.len() / 2], 1).unwrap(), "cut off").await;
    // The list itself left out.
    let end = plain.windows(11).position(|part| part == b"files.jsonl").unwrap();
    let mut bad = plain[..end].to_vec();
    bad.resize(end + 1024, 0);
    data.refused(&zstd::encode_all(bad.as_slice(), 1).unwrap(), "cut off").await;
    data.refused(b"a text, and no archive at all", "bad is not good").await;
}

#[tokio::test]
async fn a_hostile_archive_is_refused() {
    let data = Data::new().await;
    let head = serde_json::to_vec(&whole_head(&Role::SERVICES)).unwrap();
    let head = ("aegis-backup.json", EntryType::Regular, head.as_slice());
    let file = EntryType::Regular;
    let long = "x".repeat(5000);
    let cases: &[Hostile<'_>] = &[
        (&[], "cut off"),
        (&[("blobs/a", file, b"x")], "no backup of Aegis"),
        (&[head], "cut off"),
        (&[head, ("../../never", file, b"x")], "belongs to no backup"),
        (&[head, ("/tmp/never", file, b"x")], "belongs to no backup"),
        (&[head, ("blobs/../../never", file, b"x")], "belongs to no backup"),
        (&[head, ("blobs//never", file, b"x")], "belongs to no backup"),
        (&[head, ("blobs/a\\..\\never", file, b"x")], "belongs to no backup"),
        (&[head, ("settings.toml", file, b"x")], "belongs to no backup"),
        (&[head, ("databases/other.db", file, b"x")], "belongs to no backup"),
        (&[head, ("blobs/a", EntryType::Symlink, b"")], "no plain file"),
        (&[head, ("blobs/a", EntryType::Link, b"")], "no plain file"),
        (&[head, ("blobs/a", EntryType::Directory, b"")], "no plain file"),
        (&[head, ("blobs/a", EntryType::Char, b"")], "no plain file"),
        (&[head, ("blobs/a", EntryType::GNUSparse, b"x")], "no plain file"),
        (&[head, ("blobs/a", EntryType::XHeader, b"20 path=../never....\n")], "no plain file"),
        (&[head, ("././@LongLink", EntryType::GNULongName, long.as_bytes())], "too long"),
        (&[head, ("././@LongLink", EntryType::GNULongName, b"../never\0"), ("a", file, b"x")], "belongs to no backup"),
        (&[head, ("blobs/a", file, b"x"), ("files.jsonl", file, b"")], "does not name"),
        (&[head, ("files.jsonl", file, b""), ("blobs/a", file, b"x")], "behind its end"),
        (&[head, ("blobs/a", file, b"x"), ("files.jsonl", file, b"{\"path\":\"blobs/b\"}\n")], "damaged"),
    ];
    for (files, words) in cases {
        data.refused(&archive_of(files), words).await;
    }

    let twice: [(&str, &[u8]); 2] = [("blobs/a", b"x"), ("blobs/a", b"y")];
    let names = list(&twice);
    let bytes = archive_of(&[head, ("blobs/a", file, b"x"), ("blobs/a", file, b"y"), ("files.jsonl", file, &names)]);
    data.refused(&bytes, "twice").await;
    // What is well named and no database.
    let databases = Role::SERVICES.map(archive::database_name);
    let databases = databases.each_ref().map(|name| (name.as_str(), b"no database at all".as_slice()));
    let names = list(&databases);
    let mut files = vec![head];
    files.extend(databases.map(|(name, data)| (name, file, data)));
    files.push(("files.jsonl", file, &names));
    data.refused(&archive_of(&files), "the database of identity is not good").await;
    // Without a database that its head tells of.
    let names = list(&databases[..6]);
    let mut files = vec![head];
    files.extend(databases[..6].iter().map(|(name, data)| (*name, file, *data)));
    files.push(("files.jsonl", file, &names));
    data.refused(&archive_of(&files), "databases/deception.db is not in the backup").await;
    // Whole, and of a product that lacks one.
    let partial = serde_json::to_vec(&whole_head(&Role::SERVICES[1..])).unwrap();
    let bytes = archive_of(&[("aegis-backup.json", file, &partial), ("files.jsonl", file, b"")]);
    data.refused(&bytes, "no database of identity").await;

    // A file that says that it is larger than any disk.
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_path("aegis-backup.json").unwrap();
    header.set_size(head.2.len() as u64);
    header.set_cksum();
    encoder.write_all(header.as_bytes()).unwrap();
    encoder.write_all(head.2).unwrap();
    encoder.write_all(&vec![0; head.2.len().next_multiple_of(512) - head.2.len()]).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_path("blobs/a").unwrap();
    header.set_size(1 << 60);
    header.set_cksum();
    encoder.write_all(header.as_bytes()).unwrap();
    data.refused(&encoder.finish().unwrap(), "the disk has").await;

    // Of a form of the future.
    let future = serde_json::to_vec(&json!({"format": 2, "version": "9.0.0\u{1b}[31m", "new": true})).unwrap();
    let bytes = archive_of(&[("aegis-backup.json", file, &future)]);
    data.refused(&bytes, "in a form that this version").await;
}

#[tokio::test]
async fn a_product_that_lacks_a_database_is_not_backed_up() {
    let data = Data::new().await;
    fs::remove_file(data.settings.data_dir.join("identity.db")).unwrap();
    let file = data.path("one.tar.zst");
    let refused = backup::run(&data.settings, BackupArgs { file: file.clone(), verify: false }, QUIET).await;
    let refused = format!("{:#}", refused.unwrap_err());
    assert!(refused.contains("no database of identity"), "{refused}");
    assert!(!data.settings.data_dir.join(".backup").exists() && data.names() == ["data"], "{:?}", data.names());
}

#[tokio::test]
async fn what_started_before_the_mark_keeps_its_folder() {
    let data = Data::new().await;
    let folder = &data.settings.data_dir;
    let target = Target::look(folder).unwrap();
    let db = migrate::up_to_date(&data.settings, Role::Catalog).await.unwrap();
    let refused = target.mark().unwrap_err();
    assert!(format!("{refused:#}").contains("stop it first"), "{refused:#}");
    assert!(!folder.join(stores::RESTORING).exists());
    db.close().await;
    target.mark().unwrap();
    let refused = migrate::up_to_date(&data.settings, Role::Catalog).await.unwrap_err();
    assert!(format!("{refused:#}").contains("cut off"), "{refused:#}");
    // A mark that was there before stays: what it stands for is half.
    Target::look(folder).unwrap().unmark(folder);
    assert!(folder.join(stores::RESTORING).exists());
    target.unmark(folder);
    assert!(!folder.join(stores::RESTORING).exists());

    // What root opens is not chosen by others.
    let theirs = data.path("theirs");
    fs::write(&theirs, b"kept").unwrap();
    std::os::unix::fs::symlink(&theirs, folder.join(stores::RESTORING)).unwrap();
    target.mark().unwrap_err();
    assert_eq!(fs::read(&theirs).unwrap(), b"kept");
}

#[test]
fn folders_exchange_their_names() {
    let home = tempfile::tempdir().unwrap();
    let [new, old, aside] = ["new", "old", "aside"].map(|name| home.path().join(name));
    for folder in [&new, &old] {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("was"), folder.as_os_str().as_encoded_bytes()).unwrap();
    }
    let was = |folder: &Path| fs::read(folder.join("was")).unwrap();
    let of = |folder: &Path| folder.as_os_str().as_encoded_bytes().to_vec();
    exchange(&new, &old, &aside).unwrap();
    assert!(was(&old) == of(&new) && was(&aside) == of(&old) && !new.exists());
    // What cannot be leaves all as it was.
    fs::create_dir(&new).unwrap();
    exchange(&new, &old, &aside).unwrap_err();
    exchange(&new, &home.path().join("never"), &home.path().join("other")).unwrap_err();
    assert!(new.exists() && was(&old) == of(&new) && was(&aside) == of(&old));
}

/// Opens a database of a data folder as anybody could.
fn tinker(folder: &Path, role: Role, sql: &str) {
    let database = Connection::open(folder.join(format!("{role}.db"))).unwrap();
    database.execute_batch(sql).unwrap();
}

#[tokio::test]
async fn an_older_backup_is_brought_up_to_date_and_a_newer_one_is_refused() {
    let data = Data::new().await;
    let folder = &data.settings.data_dir;
    // As a version before the API keys has left it.
    let newest = "DROP TABLE api_key; DELETE FROM _sqlx_migrations WHERE version = 130;";
    tinker(folder, Role::Identity, newest);
    let older = data.backup("older").await;
    let restored = data.restore(&older, "of-older", false).await.unwrap();
    let settings = Settings { data_dir: restored.clone(), ..Settings::default() };
    migrate::up_to_date(&settings, Role::Identity).await.unwrap().close().await;
    tinker(&restored, Role::Identity, "SELECT COUNT(*) FROM api_key;");

    migrate::up_to_date(&data.settings, Role::Identity).await.unwrap().close().await;
    tinker(
        folder,
        Role::Catalog,
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (990, 'of the future', TRUE, x'00', 0);",
    );
    let newer = data.backup("newer").await;
    data.refused(&fs::read(&newer).unwrap(), "of a newer version").await;
    // Its head is not all that is believed.
    let plain = zstd::decode_all(fs::read(&newer).unwrap().as_slice()).unwrap();
    let at = plain.windows(3).position(|part| part == b"990").unwrap();
    let mut lied = plain;
    lied[at..at + 3].copy_from_slice(b"110");
    data.refused(&zstd::encode_all(lied.as_slice(), 1).unwrap(), "of a newer version").await;
}
