//! `aegis restore`: a backup becomes a data folder.
//!
//! It is unpacked beside the folder, looked through, flushed, and only then takes its place: both folders exchange their
//! names in one step. On a file system that cannot do so the old folder is renamed first and the new one then; in between
//! there is none. Where the folder cannot be renamed (it is the root of a file system, such as a container's volume) the
//! backup is unpacked inside, and the few names are changed one by one. All of it is done under a mark in the old folder
//! that keeps a product from starting there.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use chrono::Utc;
use indicatif::HumanBytes;
use rusqlite::Connection;
use rustix::{
    fs::{CWD, Mode, OFlags, RenameFlags, renameat_with},
    io::Errno,
};

use super::backup::{
    archive::{self, Head, Sum, Taker},
    bar, contents, cut,
    workplace::{RESERVE, Workplace, free},
};
use crate::{cli::RestoreArgs, output::Output, roles::Role, settings::Settings, stores};

/// The folder in which a backup is unpacked.
const WORKPLACE: &str = ".restore";

/// Restores a backup into the data folder of these settings.
pub async fn run(settings: &Settings, args: RestoreArgs, output: Output) -> Result<ExitCode> {
    let settings = settings.clone();
    tokio::task::spawn_blocking(move || restore(&settings, &args, output)).await?.map(|()| ExitCode::SUCCESS)
}

fn restore(settings: &Settings, args: &RestoreArgs, output: Output) -> Result<()> {
    ensure!(
        settings.database_url.is_none(),
        "the data is in PostgreSQL (AEGIS_DATABASE_URL), which has its own tools: deploy/BACKUP.md says how"
    );
    let began = Instant::now();
    let target = Target::look(&settings.data_dir)?;
    ensure!(
        target.old.is_empty() || target.unfinished || args.force,
        "{} is not empty: choose another folder (--data-dir), or --force, which puts what is there aside",
        target.folder.display()
    );
    target.ensure_free()?;
    let file = archive::open(&args.file)?;
    let bar = bar(output, file.metadata().map_or(0, |meta| meta.len()))?;

    let (workplace, staging) = target.workplace()?;
    let mut unpack = Unpack { into: staging.clone(), free: free(&staging)?, seen: 0 };
    let restored = (|| {
        let read = archive::read(bar.wrap_read(file), &mut unpack);
        bar.finish_and_clear();
        let (head, sum) = read.with_context(|| format!("{} is not good; nothing was changed", args.file.display()))?;
        check(&staging, &head)?;
        target.give(&staging).context("cannot give the files to the owner of the folder")?;
        workplace.sync().context("cannot write to the disk")?;
        // Somebody may have started one meanwhile.
        target.ensure_free()?;
        Ok::<_, anyhow::Error>((head, sum))
    })();
    let (head, sum) = restored?;
    let aside = target.swap(workplace, &staging)?;
    told(settings, &head, &sum, aside.as_deref(), began, output);
    Ok(())
}

fn told(settings: &Settings, head: &Head, sum: &Sum, aside: Option<&Path>, began: Instant, output: Output) {
    let folder = settings.data_dir.display();
    let seconds = began.elapsed().as_secs_f64();
    if output.json {
        println!(
            "{}",
            serde_json::json!({
                "folder": folder.to_string(), "created_at": head.created_at, "version": head.version,
                "databases": sum.databases, "files": sum.files, "bytes": sum.bytes, "seconds": seconds,
                "put_aside": aside.map(|path| path.display().to_string()),
            })
        );
        return;
    }
    let size = HumanBytes(sum.bytes);
    output.done(&format!("{folder} is restored: {}, {size}, {seconds:.1} s", contents(sum)));
    println!("  shows     {}, made by Aegis {}", head.created_at.to_rfc3339(), archive::shown(&head.version));
    if let Some(aside) = aside {
        println!("  aside     what was there before is in {}", aside.display());
    }
    println!("  next      start Aegis; older tables are brought up to date by that. Then: aegis audit verify");
}

/// Writes the files of an archive below a folder.
struct Unpack {
    into: PathBuf,
    free: u64,
    seen: u64,
}

impl Taker for Unpack {
    fn begin(&mut self, head: &Head) -> Result<()> {
        refuse_newer(&archive::newer(head), &head.version)
    }

    fn file(&mut self, name: &str, size: u64) -> Result<Option<File>> {
        let place = archive::place(name).with_context(|| format!("{name:?} belongs to no backup"))?;
        self.seen = self.seen.saturating_add(size);
        ensure!(
            self.seen.saturating_add(RESERVE) <= self.free,
            "the disk has {} free, and the backup has more than {}",
            HumanBytes(self.free),
            HumanBytes(self.seen)
        );
        let path = self.into.join(place);
        if let Some(folder) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        match file {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => bail!("the archive has {name:?} twice"),
            file => Ok(Some(file.with_context(|| format!("cannot write {}", path.display()))?)),
        }
    }
}

fn refuse_newer(newer: &[String], version: &str) -> Result<()> {
    ensure!(
        newer.is_empty(),
        "the backup is of a newer version (Aegis {}; this is {}), whose tables of {} this one does not know: restore it \
         with that version",
        archive::shown(version),
        env!("CARGO_PKG_VERSION"),
        newer.join(", ")
    );
    Ok(())
}

/// What was unpacked can be started.
fn check(folder: &Path, head: &Head) -> Result<()> {
    for role in Role::SERVICES {
        let path = folder.join(format!("{role}.db"));
        check_database(role, &path, &head.version).with_context(|| format!("the database of {role} is not good"))?;
    }
    let secret = folder.join(stores::SECRET);
    if secret.exists() {
        let text = fs::read_to_string(&secret).context("the service secret is not good")?;
        ensure!((32..=1024).contains(&text.trim().len()), "the service secret is not good");
    }
    Ok(())
}

fn check_database(role: Role, path: &Path, version: &str) -> Result<()> {
    let database = cut::open(path)?;
    // Nothing that stands in the file is run.
    database.execute_batch("PRAGMA trusted_schema = OFF")?;
    cut::sound(&database)?;
    let known = archive::known_migrations(role);
    let applied = cut::migrations(&database)?;
    let newer = applied.iter().any(|version| !known.contains(version));
    let own = [name(role)];
    refuse_newer(if newer { &own } else { &[] }, version)?;
    database.close().map_err(|(_, error)| error)?;
    Ok(())
}

fn name(role: Role) -> String {
    role.to_string()
}

/// The data folder that is to be.
struct Target {
    folder: PathBuf,
    /// What is in it.
    old: Vec<OsString>,
    /// A restore into it was cut off: nothing starts there, so that it is filled again without being asked.
    unfinished: bool,
    /// It cannot be renamed.
    fixed: bool,
}

impl Target {
    fn look(folder: &Path) -> Result<Target> {
        let parent = match folder.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            Some(_) => Path::new("."),
            None => bail!("{} cannot be a data folder", folder.display()),
        };
        let (mut old, mut unfinished) = (Vec::new(), false);
        let fixed = match fs::symlink_metadata(folder) {
            Ok(own) => {
                for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
                    old.push(entry?.file_name());
                }
                unfinished = old.iter().any(|name| name == stores::RESTORING);
                // The workplace of a restore, and what file systems bring along, is nobody's. What else one that was
                // cut off has left may be half of its backup, and may be what it had not put aside yet: all is kept.
                let nobodys = [WORKPLACE, "lost+found", stores::RESTORING];
                old.retain(|name| !nobodys.iter().any(|nobodys| name == nobodys));
                folder.file_name().is_none()
                    || own.is_symlink()
                    || own.dev() != fs::metadata(parent)?.dev()
                    || !can_write(parent)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
                false
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", folder.display())),
        };
        Ok(Target { folder: folder.to_owned(), old, unfinished, fixed })
    }

    /// Fails while a product, or a command beside it, has the folder.
    fn ensure_free(&self) -> Result<()> {
        let held = || format!("an Aegis runs in {}: stop it first", self.folder.display());
        for (_, path) in cut::files(&self.folder) {
            if is_held(&path) {
                bail!("{}", held());
            }
        }
        if let Ok(lock) = File::open(self.folder.join("sensor").join("lock"))
            && matches!(lock.try_lock(), Err(TryLockError::WouldBlock))
        {
            bail!("{}", held());
        }
        Ok(())
    }

    /// Where it is unpacked: the folder of the command, and the one in it that becomes the data folder.
    fn workplace(&self) -> Result<(Workplace, PathBuf)> {
        let path = match self.fixed {
            true => self.folder.join(WORKPLACE),
            false => beside(&self.folder, "restore"),
        };
        let workplace = Workplace::open(&path, "another restore runs")?;
        let staging = path.join("data");
        DirBuilder::new().mode(0o700).create(&staging)?;
        Ok((workplace, staging))
    }

    /// Gives what was unpacked to whom the folder belongs: root restores for a product that is not root.
    fn give(&self, staging: &Path) -> Result<()> {
        let (Ok(folder), Ok(ours)) = (fs::metadata(&self.folder), fs::metadata(staging)) else { return Ok(()) };
        if folder.uid() == ours.uid() && folder.gid() == ours.gid() {
            return Ok(());
        }
        let mut paths = vec![staging.to_owned()];
        while let Some(path) = paths.pop() {
            std::os::unix::fs::lchown(&path, Some(folder.uid()), Some(folder.gid()))?;
            if path.is_dir() {
                for entry in fs::read_dir(&path)? {
                    paths.push(entry?.path());
                }
            }
        }
        Ok(())
    }

    /// Puts what was there aside and the new in its place; says where the old is.
    fn swap(&self, workplace: Workplace, staging: &Path) -> Result<Option<PathBuf>> {
        let stamp = Utc::now().format("%Y%m%dT%H%M%S%.3fZ");
        let cannot = || format!("cannot put the backup into {}", self.folder.display());
        if self.fixed {
            let aside = self.folder.join(format!("before-restore-{stamp}"));
            return self.swap_inside(staging, &aside).with_context(cannot);
        }
        let parent = self.folder.parent().unwrap_or(&self.folder);
        if !self.folder.exists() {
            fs::rename(staging, &self.folder).with_context(cannot)?;
            drop(workplace);
            sync_folder(parent)?;
            return Ok(None);
        }
        self.mark()?;
        let aside = beside(&self.folder, &format!("before-{stamp}"));
        if let Err(error) = exchange(staging, &self.folder, &aside) {
            self.unmark(&self.folder);
            return Err(error).with_context(cannot);
        }
        drop(workplace);
        self.unmark(&aside);
        sync_folder(parent)?;
        // An empty folder is not worth keeping.
        Ok(fs::remove_dir(&aside).is_err().then_some(aside))
    }

    /// Marks the folder, so that nothing starts in it from here on, and fails where something has started before.
    fn mark(&self) -> Result<()> {
        let mark = self.folder.join(stores::RESTORING);
        // Whoever may write here must not choose what root opens.
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::open(&mark, flags, Mode::RUSR | Mode::WUSR);
        let file = file.with_context(|| format!("cannot write {}", mark.display()))?;
        File::from(file).sync_all()?;
        sync_folder(&self.folder)?;
        // A product that had looked for the mark before it was there has its databases open by now, or very soon.
        self.ensure_free().inspect_err(|_| self.unmark(&self.folder))
    }

    /// Takes the mark away again, unless it is of a restore that was cut off before: what that left is half.
    fn unmark(&self, folder: &Path) {
        if !self.unfinished
            && let Err(error) = fs::remove_file(folder.join(stores::RESTORING))
        {
            tracing::warn!(%error, folder = %folder.display(), "the mark of a restore could not be removed");
        }
    }

    fn swap_inside(&self, staging: &Path, aside: &Path) -> Result<Option<PathBuf>> {
        let mark = self.folder.join(stores::RESTORING);
        self.mark()?;
        // What came since the first look is put aside, too.
        let old = Target::look(&self.folder)?.old;
        if !old.is_empty() {
            DirBuilder::new().mode(0o700).create(aside)?;
        }
        for name in &old {
            let path = self.folder.join(name);
            fs::rename(&path, aside.join(name)).with_context(|| format!("cannot put {} aside", path.display()))?;
        }
        for entry in fs::read_dir(staging)? {
            let entry = entry?;
            fs::rename(entry.path(), self.folder.join(entry.file_name()))?;
        }
        sync_folder(&self.folder)?;
        fs::remove_file(&mark)?;
        sync_folder(&self.folder)?;
        Ok((!old.is_empty()).then(|| aside.to_owned()))
    }
}

/// Puts the folder `new` in the place of `old`, which is `aside` then. When it fails, `old` is where it was.
fn exchange(new: &Path, old: &Path, aside: &Path) -> io::Result<()> {
    // First out of the workplace: what is in there when a command is killed is cleared away, and that must never be the old.
    fs::rename(new, aside)?;
    let Err(refused) = renameat_with(CWD, aside, CWD, old, RenameFlags::EXCHANGE) else { return Ok(()) };
    fs::rename(aside, new)?;
    if !matches!(refused, Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) {
        return Err(refused.into());
    }
    fs::rename(old, aside)?;
    fs::rename(new, old).inspect_err(|_| {
        if let Err(error) = fs::rename(aside, old) {
            tracing::error!(%error, folder = %aside.display(), "the data folder could not be put back: it is here");
        }
    })
}

/// A hidden folder beside another, on the same file system.
fn beside(folder: &Path, what: &str) -> PathBuf {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    match what {
        "restore" => folder.with_file_name(format!(".{name}.restore")),
        what => folder.with_file_name(format!("{name}.{what}")),
    }
}

fn can_write(folder: &Path) -> bool {
    rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_ok()
}

fn sync_folder(folder: &Path) -> Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder)?.sync_all()?;
    Ok(())
}

/// Whether somebody has a database open: then it cannot be had alone. One that is damaged is nobody's.
fn is_held(path: &Path) -> bool {
    let alone = || -> Result<()> {
        let database: Connection = cut::open(path)?;
        database.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; ROLLBACK;")?;
        Ok(())
    };
    alone().is_err_and(|error| cut::is_busy(&error))
}

#[cfg(test)]
mod tests;
