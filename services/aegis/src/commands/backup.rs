//! `aegis backup`: all of the embedded product in one file, while it runs.

pub mod archive;
pub mod cut;
mod hold;
pub mod workplace;

use std::{
    fs::{self, File, OpenOptions},
    io::{BufReader, ErrorKind, IsTerminal, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use crate::{cli::BackupArgs, output::Output, settings::Settings, stores::SECRET};
use archive::{FORMAT, Head, Sum, Taker, Writer};
use hold::{Found, Held};
use workplace::Workplace;

/// The folder of a backup that runs, in the data folder.
const WORKPLACE: &str = ".backup";
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
    /// What may be missing because it could not be held.
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
        let part = Part::create(path)?;
        let made = write(settings, &workplace, part, output)?;
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

/// The file under its temporary name; removed unless it is finished.
struct Part {
    path: PathBuf,
    to: PathBuf,
    file: Option<File>,
}

impl Part {
    fn create(to: &Path) -> Result<Part> {
        let mut name = to.as_os_str().to_owned();
        name.push(".part");
        let path = PathBuf::from(name);
        // One that was left behind may be readable by others.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", path.display()));
            }
            _ => {}
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Part { path, to: to.to_owned(), file: Some(file) })
    }

    fn finish(mut self) -> Result<()> {
        fs::rename(&self.path, &self.to).with_context(|| format!("cannot make {}", self.to.display()))?;
        self.path = PathBuf::new();
        let folder = self.to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()?;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn write(settings: &Settings, workplace: &Workplace, mut part: Part, output: Output) -> Result<Made> {
    let data = &settings.data_dir;
    // Files lie in the data folder only where the settings name no bucket.
    let blobs = settings.blob_url.is_none().then(|| data.join("blobs"));
    let mut blobs = blobs.map(|from| Held::new(from, workplace.path().join("blobs")));
    let mut sensor = Held::new(settings.sensor_folder(), workplace.path().join("held"));
    let mut hold = || blobs.iter_mut().chain([&mut sensor]).try_for_each(Held::hold);
    hold()?;
    let cut = cut::take(data)?;
    // Rows of that moment name files that were there before it: those that came since the first look are held now.
    hold()?;

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
    let file = part.file.take().context("the file is open once")?;
    let list = workplace.file("list")?;
    let mut writer = Writer::new(file, list, &head)?;
    let copy = workplace.path().join("copy.db");
    for snapshot in cut.databases {
        let role = snapshot.role;
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
    part.finish()?;
    bar.finish_and_clear();
    let gaps = blobs.iter().chain([&sensor]).filter_map(Held::gap).collect();
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
