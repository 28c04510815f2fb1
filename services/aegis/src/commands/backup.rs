//! `aegis backup`: all of the embedded product in one file, while it runs.

pub mod archive;
pub mod cut;
mod hold;
pub mod named;
pub mod workplace;

use std::{
    fs::{self, File},
    io::{BufReader, ErrorKind, IsTerminal, Read},
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use tempfile::NamedTempFile;

use crate::{cli::BackupArgs, output::Output, settings::Settings, stores::SECRET};
use archive::{FORMAT, Head, Sum, Taker, Writer};
use hold::{Found, Held};
use workplace::Workplace;

/// The folder of a backup that runs, in the data folder.
pub const WORKPLACE: &str = ".backup";
/// What a sensor holds while it runs.
const LOCK: &str = "lock";
/// Largest file of a sensor that is copied, bytes: larger than any that it keeps.
const MAX_SENSOR_FILE: u64 = 256 * 1024 * 1024;

/// A backup that was made.
struct Made {
    head: Head,
    sum: Sum,
    /// How long nobody could write.
    held: Duration,
    /// What is missing, or may be because it could not be held.
    gaps: Vec<String>,
}

/// Makes a backup, or looks whether one is whole.
pub async fn run(settings: &Settings, args: BackupArgs, output: Output) -> Result<ExitCode> {
    let settings = settings.clone();
    let work = move || match args.verify {
        true => verify(&args.file, output),
        false => make(&settings, &args.file, output),
    };
    tokio::task::spawn_blocking(work).await?.map(|()| ExitCode::SUCCESS)
}

/// What a backup of these settings leaves out, which has to be kept in another way.
fn left_out(settings: &Settings) -> Vec<String> {
    let mut missing = Vec::new();
    if settings.blob_url.is_some() {
        missing.push(
            "evidence and artifacts: they are in the bucket of AEGIS_BLOB_URL (deploy/BACKUP.md says how)".to_owned(),
        );
    }
    if settings.service_secret.is_some() {
        missing.push(
            "the service secret: it is yours (AEGIS_SERVICE_SECRET), and links that were given out need it".to_owned(),
        );
    }
    missing
}

fn make(settings: &Settings, path: &Path, output: Output) -> Result<()> {
    ensure!(
        settings.database_url.is_none(),
        "the data is in PostgreSQL (AEGIS_DATABASE_URL), which has its own tools: deploy/BACKUP.md says how"
    );
    let began = Instant::now();
    let data = &settings.data_dir;
    ensure!(
        !cut::files(data).is_empty(),
        "there is nothing in {} to back up: is AEGIS_DATA_DIR the product's?",
        data.display()
    );
    if path.exists() {
        bail!("{} exists already", path.display());
    }
    let made = (|| {
        let workplace = Workplace::open(&data.join(WORKPLACE), "another backup runs")?;
        // Under its name it is whole.
        let part = part_of(path)?;
        let made = write(settings, &workplace, part.as_file(), output)?;
        publish(part, path)?;
        workplace.remove();
        Ok::<_, anyhow::Error>(made)
    })();
    let Made { head, sum, held, gaps } = made.with_context(|| format!("no backup was made in {}", path.display()))?;
    let size = fs::metadata(path).map_or(0, |meta| meta.len());
    let mut missing = left_out(settings);
    missing.extend(gaps);
    if output.json {
        println!(
            "{}",
            serde_json::json!({
                "file": path.display().to_string(), "bytes": size, "unpacked_bytes": sum.bytes,
                "databases": sum.databases, "files": sum.files, "created_at": head.created_at,
                "version": head.version, "held_ms": held.as_millis() as u64,
                "seconds": began.elapsed().as_secs_f64(), "holds_secrets": true, "left_out": missing,
            })
        );
        return Ok(());
    }
    output.done(&format!(
        "{}: {}, {} (unpacked {}), {:.1} s",
        path.display(),
        contents(&sum),
        HumanBytes(size),
        HumanBytes(sum.bytes),
        began.elapsed().as_secs_f64()
    ));
    println!("  shows     {}; changes waited {} ms for that", head.created_at.to_rfc3339(), held.as_millis());
    println!("  secrets   it holds all of them: the keys that sign, the service secret, the users' password hashes.");
    println!("            Only its owner may read it (0600): keep it so, and encrypt it where it goes.");
    for missing in missing {
        println!("  without   {missing}");
    }
    println!("  check     aegis backup --verify {}", path.display());
    println!("  restore   aegis --data-dir NEW-FOLDER restore {}", path.display());
    Ok(())
}

/// How much there is, in words.
pub fn contents(sum: &Sum) -> String {
    let databases = if sum.databases == 1 { "database" } else { "databases" };
    let files = if sum.files == 1 { "file" } else { "files" };
    format!("{} {databases}, {} {files}", sum.databases, sum.files)
}

/// A file beside `to` that only its owner can read, under a name that nobody else has; removed unless it is published.
fn part_of(to: &Path) -> Result<NamedTempFile> {
    let mut prefix = to.file_name().with_context(|| format!("{} is no name of a file", to.display()))?.to_owned();
    prefix.push(".");
    let part = tempfile::Builder::new().prefix(&prefix).suffix(".part").tempfile_in(folder_of(to));
    part.with_context(|| format!("cannot write beside {}", to.display()))
}

/// Gives the file its name, unless somebody has that meanwhile.
fn publish(part: NamedTempFile, to: &Path) -> Result<()> {
    match part.persist_noclobber(to) {
        Ok(_) => {}
        // A file system that can refuse no name: a look at it has to do.
        Err(refused) if refused.error.kind() != ErrorKind::AlreadyExists && !to.exists() => {
            refused.file.persist(to).map_err(|refused| refused.error)?;
        }
        Err(refused) => return Err(refused.error).with_context(|| format!("cannot make {}", to.display())),
    }
    File::open(folder_of(to))?.sync_all()?;
    Ok(())
}

fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn write(settings: &Settings, workplace: &Workplace, file: &File, output: Output) -> Result<Made> {
    let data = &settings.data_dir;
    // Files lie in the data folder only where the settings name no bucket.
    let blobs = settings.blob_url.is_none().then(|| data.join("blobs"));
    let mut blobs = blobs.map(|from| Held::new(from, workplace.path().join("blobs")));
    let mut sensor = Held::new(settings.sensor_folder(), workplace.path().join("held"));
    blobs.iter_mut().chain([&mut sensor]).try_for_each(Held::hold)?;
    // Before the moment: events that are handed in behind it, and dropped then, would be in neither.
    sensor.copy_refused(MAX_SENSOR_FILE)?;
    let cut = cut::take(data)?;
    // Rows of that moment name files that were there before it: those that came since the first look are held now.
    blobs.iter_mut().chain([&mut sensor]).try_for_each(Held::hold)?;

    let mut total: u64 = cut.databases.iter().map(|snapshot| snapshot.bytes).sum();
    if let Some(blobs) = &blobs {
        blobs.each(&mut |found| {
            total += fs::metadata(&found.path).map_or(0, |meta| meta.len());
            Ok(true)
        })?;
    }
    let bar = bar(output, total)?;

    let head = Head {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        created_at: cut.at,
        databases: cut.databases.iter().map(|one| (one.role.to_string(), one.migrations.clone())).collect(),
    };
    archive::ensure_complete(&head)
        .with_context(|| format!("{} is not whole (`aegis doctor` says what to do)", data.display()))?;
    let list = workplace.file("list")?;
    let mut writer = Writer::new(file.try_clone()?, list, &head)?;
    let copy = workplace.path().join("copy.db");
    let mut gaps = Vec::new();
    for snapshot in cut.databases {
        let role = snapshot.role;
        if let Some(blobs) = &blobs {
            // A file that came when its folder had been looked through, and was removed before the second look.
            gaps.extend(named::lacking(role, snapshot.connection(), |name| blobs.has(name))?);
        }
        workplace::ensure_room(workplace.path(), snapshot.bytes)?;
        snapshot.copy(&copy)?;
        add(&mut writer, &archive::database_name(role), &copy, &bar)?;
        fs::remove_file(&copy)?;
    }
    let secret = data.join(SECRET);
    if settings.service_secret.is_none() && secret.exists() {
        add(&mut writer, SECRET, &secret, &bar)?;
    }
    if let Some(blobs) = &blobs {
        blobs.each(&mut |found| {
            match add(&mut writer, &format!("blobs/{}", found.name), &found.path, &bar) {
                // Not held, and removed just now.
                Err(error) if is_gone(&error) => Ok(true),
                other => other.map(|()| true),
            }
        })?;
    }
    add_sensor(&mut writer, &sensor, workplace, &bar)?;
    bar.set_message("finishing");
    let (sum, _file) = writer.finish()?;
    bar.finish_and_clear();
    gaps.extend(blobs.iter().chain([&sensor]).filter_map(Held::gap));
    Ok(Made { head, sum, held: cut.held, gaps })
}

/// What a sensor keeps: events that it has not handed in yet, and who it is. It writes meanwhile, so each file is copied
/// first; an event at the end that is not whole is left out by the sensor when it starts. What it has handed in since
/// the moment of the backup is in here still, and what it hands in twice is taken once.
fn add_sensor(writer: &mut Writer, sensor: &Held, workplace: &Workplace, bar: &ProgressBar) -> Result<()> {
    sensor.each(&mut |Found { name, path }| {
        if name == LOCK {
            return Ok(true);
        }
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        workplace::ensure_room(workplace.path(), file.metadata()?.len().min(MAX_SENSOR_FILE))?;
        let mut copy = workplace.file("copy")?;
        let size = std::io::copy(&mut file.take(MAX_SENSOR_FILE), &mut copy)?;
        drop(copy);
        let copy = File::open(workplace.path().join("copy"))?;
        writer.add(&format!("sensor/{name}"), size, copy, |read| bar.inc(read))?;
        Ok(true)
    })
}

fn add(writer: &mut Writer, name: &str, path: &Path, bar: &ProgressBar) -> Result<()> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let size = file.metadata()?.len();
    bar.set_message(name.split('/').next().unwrap_or_default().to_owned());
    writer.add(name, size, BufReader::with_capacity(256 * 1024, file), |read| bar.inc(read))
}

fn is_gone(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::NotFound)
}

/// A bar on standard error, if somebody sees it.
pub fn bar(output: Output, total: u64) -> Result<ProgressBar> {
    if output.json || !std::io::stderr().is_terminal() {
        return Ok(ProgressBar::hidden());
    }
    let style = "{bytes:>10} of {total_bytes} [{bar:40.green}] {bytes_per_sec} {msg}";
    Ok(ProgressBar::new(total).with_style(ProgressStyle::with_template(style)?))
}

/// Reads an archive from end to end and keeps nothing of it.
struct Nowhere;

impl Taker for Nowhere {
    fn begin(&mut self, _: &Head) -> Result<()> {
        Ok(())
    }

    fn file(&mut self, _: &str, _: u64) -> Result<Option<File>> {
        Ok(None)
    }
}

fn verify(path: &Path, output: Output) -> Result<()> {
    let began = Instant::now();
    let file = archive::open(path)?;
    let bar = bar(output, file.metadata().map_or(0, |meta| meta.len()))?;
    let read = archive::read(bar.wrap_read(file), &mut Nowhere);
    bar.finish_and_clear();
    let (head, sum) = read.with_context(|| format!("{} is not good", path.display()))?;
    let newer = archive::newer(&head);
    if output.json {
        println!(
            "{}",
            serde_json::json!({
                "file": path.display().to_string(), "valid": true, "version": head.version,
                "created_at": head.created_at, "databases": sum.databases, "files": sum.files,
                "unpacked_bytes": sum.bytes, "of_a_newer_version": !newer.is_empty(),
                "seconds": began.elapsed().as_secs_f64(),
            })
        );
        return Ok(());
    }
    output.done(&format!(
        "{} is whole: {}, {} unpacked, {:.1} s",
        path.display(),
        contents(&sum),
        HumanBytes(sum.bytes),
        began.elapsed().as_secs_f64()
    ));
    println!("  shows     {}, made by Aegis {}", head.created_at.to_rfc3339(), archive::shown(&head.version));
    if !newer.is_empty() {
        println!(
            "  note      its tables are newer than this version ({}): restore it with that one or a newer",
            newer.join(", ")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn two_backups_to_one_name_leave_each_other_alone() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("one.tar.zst");
        let (first, second, third) = (part_of(&to).unwrap(), part_of(&to).unwrap(), part_of(&to).unwrap());
        assert_ne!(first.path(), second.path());
        assert_eq!(first.as_file().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(first.path(), b"first").unwrap();
        publish(first, &to).unwrap();
        let refused = publish(second, &to).unwrap_err();
        assert!(format!("{refused:#}").contains("cannot make"), "{refused:#}");
        drop(third);
        assert_eq!(fs::read(&to).unwrap(), b"first");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "what was not published is gone");
    }
}
