//! The folder that holds blobs: how they are written, removed, walked through and tidied up.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use object_store::local::LocalFileSystem;

use crate::{BlobError, Entry, key};

/// Has the form of a staging file, so that no listing shows it.
const PROBE: &str = ".probe#0";
/// What may wait in the system's memory before the disk is told to begin: the end of a large file then waits for
/// little.
const WRITE_BACK: u64 = 64 * 1024 * 1024;
/// Staging files of one key at the same time.
const MAX_STAGED: u32 = 100;
/// Names of one folder that are held at once while it is walked through; a larger folder is read several times.
const MAX_NAMES: usize = 20_000;

pub(crate) fn open(path: &Path) -> Result<(LocalFileSystem, PathBuf), BlobError> {
    let probe = || {
        std::fs::create_dir_all(path)?;
        let file = path.join(PROBE);
        std::fs::write(&file, b"probe")?;
        std::fs::remove_file(&file)?;
        path.canonicalize()
    };
    let root = probe().map_err(failed)?;
    let store = LocalFileSystem::new_with_prefix(&root).map_err(crate::read::failed)?;
    Ok((store, root))
}

pub(crate) async fn ping(root: &Path) -> Result<(), BlobError> {
    match tokio::fs::metadata(root).await {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(failed(io::ErrorKind::NotADirectory.into())),
        Err(e) => Err(failed(e)),
    }
}

/// Runs what waits for the disk where waiting is allowed.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, BlobError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| BlobError::Unavailable(Box::new(e)))?.map_err(failed)
}

/// A file being written beside its place. Dropped before [`Staged::publish`], it is removed.
#[derive(Debug)]
pub(crate) struct Staged {
    root: PathBuf,
    target: PathBuf,
    staging: PathBuf,
    file: File,
    unsynced: u64,
    /// Held while the disk is told to begin; what went wrong with that. The system tells it only once.
    write_back: Arc<Mutex<Option<io::Error>>>,
    published: bool,
}

impl Staged {
    pub(crate) fn create(root: &Path, key: &str) -> io::Result<Staged> {
        let target = root.join(key);
        let (Some(folder), Some(name)) = (target.parent(), target.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let name = name.to_string_lossy();
        for number in 1..=MAX_STAGED {
            let staging = folder.join(format!("{name}#{number}"));
            match OpenOptions::new().write(true).create_new(true).open(&staging) {
                Ok(file) => {
                    let (root, write_back) = (root.to_owned(), Arc::default());
                    return Ok(Staged { root, target, staging, file, unsynced: 0, write_back, published: false });
                }
                // Also when somebody has just taken the folder away because it was empty.
                Err(e) if e.kind() == io::ErrorKind::NotFound => make_folders(root, folder)?,
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    pub(crate) fn write(&mut self, chunks: &[Bytes]) -> io::Result<()> {
        for chunk in chunks {
            self.file.write_all(chunk)?;
            self.unsynced += chunk.len() as u64;
        }
        if self.unsynced >= WRITE_BACK && self.write_back.try_lock().is_ok() {
            self.unsynced = 0;
            let (file, write_back) = (self.file.try_clone()?, Arc::clone(&self.write_back));
            drop(tokio::task::spawn_blocking(move || {
                let mut failed = write_back.lock().unwrap_or_else(PoisonError::into_inner);
                if let Err(e) = file.sync_data() {
                    *failed = Some(e);
                }
            }));
        }
        Ok(())
    }

    /// Makes the file appear in its place, whole, and on the disk together with its name.
    pub(crate) fn publish(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        if let Some(failed) = self.write_back.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(failed);
        }
        std::fs::rename(&self.staging, &self.target)?;
        self.published = true;
        sync_folder(self.target.parent().unwrap_or(&self.root))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.published
            && let Err(error) = std::fs::remove_file(&self.staging)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "a file that was not finished could not be removed");
        }
    }
}

/// Makes a folder and those above it, but never the root: where that is gone (a disk that is not mounted), nothing may
/// be written in its stead.
fn make_folders(root: &Path, folder: &Path) -> io::Result<()> {
    if folder == root || !folder.starts_with(root) {
        return match root.is_dir() {
            true => Ok(()),
            false => Err(io::Error::new(io::ErrorKind::NotFound, "the folder of the store is gone")),
        };
    }
    if folder.is_dir() {
        return Ok(());
    }
    let above = folder.parent().unwrap_or(root);
    make_folders(root, above)?;
    match std::fs::create_dir(folder) {
        Ok(()) => sync_folder(above),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(e),
    }
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Removes a file, and the folders above it that it leaves empty.
pub(crate) fn delete(root: &Path, key: &str) -> io::Result<()> {
    let file = root.join(key);
    std::fs::remove_file(&file)?;
    let mut folder = file.parent();
    while let Some(empty) = folder.filter(|folder| *folder != root && folder.starts_with(root)) {
        // Fails where it is not empty, which ends this.
        if std::fs::remove_dir(empty).is_err() {
            break;
        }
        folder = empty.parent();
    }
    Ok(())
}

/// Goes through the files below a prefix in the order of their keys' segments, in bounded memory however many there
/// are.
#[derive(Debug)]
pub(crate) struct Walk {
    root: PathBuf,
    levels: Vec<Level>,
}

/// A folder on the way, and what of it comes next.
#[derive(Debug)]
struct Level {
    key: String,
    /// The next names, last first.
    names: Vec<Name>,
    /// There are more, behind this one.
    more_after: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
struct Name {
    text: String,
    folder: bool,
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        self.text.cmp(&other.text)
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Walk {
    /// `prefix` is a whole number of segments, or empty.
    pub(crate) fn new(root: PathBuf, prefix: &str) -> Walk {
        // Nothing is known of the first folder but that all of it is to come.
        let first = Level { key: prefix.to_owned(), names: Vec::new(), more_after: Some(String::new()) };
        Walk { root, levels: vec![first] }
    }

    /// Up to `wanted` files; fewer only at the end.
    pub(crate) fn next(&mut self, wanted: usize) -> io::Result<Vec<Entry>> {
        let mut found = Vec::new();
        if !self.root.is_dir() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the folder of the store is gone"));
        }
        while found.len() < wanted {
            let Some(level) = self.levels.last_mut() else { break };
            let Some(name) = level.names.pop() else {
                match level.more_after.take() {
                    Some(after) => level.read(&self.root, &after, MAX_NAMES)?,
                    None => drop(self.levels.pop()),
                }
                continue;
            };
            let key = match level.key.as_str() {
                "" => name.text,
                above => format!("{above}/{}", name.text),
            };
            // Somebody else's file in the folder is no blob.
            if key::check(&key).is_err() {
                continue;
            }
            if name.folder {
                self.levels.push(Level { key, names: Vec::new(), more_after: Some(String::new()) });
                continue;
            }
            // It may have been removed meanwhile.
            if let Ok(meta) = std::fs::metadata(self.root.join(&key)) {
                let modified = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                found.push(Entry { key, size: meta.len(), modified });
            }
        }
        Ok(found)
    }
}

impl Level {
    /// Reads the `most` first names behind `after`.
    fn read(&mut self, root: &Path, after: &str, most: usize) -> io::Result<()> {
        let entries = match std::fs::read_dir(root.join(&self.key)) {
            Ok(entries) => entries,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(()),
            Err(e) => return Err(e),
        };
        let mut first: BinaryHeap<Name> = BinaryHeap::new();
        let mut more = false;
        for entry in entries {
            let entry = entry?;
            // What is not UTF-8 is no key.
            let Ok(text) = entry.file_name().into_string() else { continue };
            if text.as_str() <= after {
                continue;
            }
            let Ok(kind) = entry.file_type() else { continue };
            first.push(Name { text, folder: kind.is_dir() });
            if first.len() > most {
                first.pop();
                more = true;
            }
        }
        self.names = first.into_sorted_vec();
        self.more_after = self.names.last().filter(|_| more).map(|name| name.text.clone());
        self.names.reverse();
        Ok(())
    }
}

pub(crate) fn sweep(root: &Path, older_than: Duration) -> io::Result<u64> {
    let now = SystemTime::now();
    let mut removed = 0;
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            // Removed meanwhile, because it was empty.
            Err(e) if e.kind() == io::ErrorKind::NotFound && folder != root => continue,
            Err(e) => return Err(e),
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if is_staging(&entry.file_name().to_string_lossy()) {
                let age = entry.metadata().and_then(|meta| meta.modified());
                // A write that ends meanwhile takes its file away: nothing to do then.
                let old = age.is_ok_and(|at| now.duration_since(at).is_ok_and(|d| d >= older_than));
                if old && std::fs::remove_file(entry.path()).is_ok() {
                    removed += 1;
                }
            }
        }
    }
    Ok(removed)
}

/// Staging files are named `<name>#<number>`; a key cannot have a `#`.
fn is_staging(name: &str) -> bool {
    name.rsplit_once('#').is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

pub(crate) fn failed(e: io::Error) -> BlobError {
    match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => BlobError::Full,
        _ => BlobError::Unavailable(Box::new(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_folder_is_read_in_order_and_in_pieces() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..50 {
            std::fs::write(dir.path().join(format!("{n:02}")), b"x").unwrap();
        }
        let mut level = Level { key: String::new(), names: Vec::new(), more_after: Some(String::new()) };
        let mut all = Vec::new();
        while let Some(after) = level.more_after.take() {
            level.read(dir.path(), &after, 7).unwrap();
            assert!(level.names.len() <= 7);
            all.extend(std::mem::take(&mut level.names).into_iter().rev().map(|name| name.text));
        }
        assert_eq!(all, (0..50).map(|n| format!("{n:02}")).collect::<Vec<_>>());
    }

    #[test]
    fn a_full_disk_is_told_at_the_write_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut staged = Staged::create(dir.path(), "a/b").unwrap();
        let Ok(full) = OpenOptions::new().write(true).open("/dev/full") else {
            eprintln!("skipped: no /dev/full here");
            return;
        };
        // The disk as a device that is always full.
        staged.file = full;
        let error = staged.write(&[Bytes::from_static(b"x")]).unwrap_err();
        assert!(matches!(failed(error), BlobError::Full));
        drop(staged);
        assert_eq!(std::fs::read_dir(dir.path().join("a")).unwrap().count(), 0);
    }
}
