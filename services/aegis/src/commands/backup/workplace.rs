//! A folder of a command's own: one command at a time has it, and what an earlier one left is cleared away.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use indicatif::HumanBytes;
use rustix::fs::{Mode, OFlags};

/// What stays free on the disk: with a full one the product refuses every change.
pub const RESERVE: u64 = 64 * 1024 * 1024;

/// The folder. Emptied and removed when dropped; a killed command leaves it to the next.
#[derive(Debug)]
pub struct Workplace {
    path: PathBuf,
    // The lock goes with it.
    folder: File,
}

impl Workplace {
    /// Makes it, or takes over what a command that was killed has left. `taken` says who may have it.
    pub fn open(path: &Path, taken: &str) -> Result<Workplace> {
        let cannot = || format!("cannot make the folder {}", path.display());
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error).with_context(cannot),
            _ => {}
        }
        let folder = open_folder(path)
            .with_context(|| format!("cannot use {}: it has to be a folder of this command's own", path.display()))?;
        // The product's user may write where this lies, and must not choose what root empties.
        let (owner, own) = (folder.metadata().with_context(cannot)?.uid(), rustix::process::geteuid().as_raw());
        ensure!(
            owner == own,
            "{} belongs to user {owner}, and this runs as {own}: see what it is, then remove it",
            path.display()
        );
        match folder.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("{taken}: it has {}", path.display()),
            Err(TryLockError::Error(error)) => return Err(error).with_context(cannot),
        }
        let workplace = Workplace { path: path.to_owned(), folder };
        workplace.empty().with_context(|| format!("cannot clear {}", path.display()))?;
        Ok(workplace)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A new file in it, or one made empty, that only its owner can read.
    pub fn file(&self, name: &str) -> Result<File> {
        let path = self.path.join(name);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&path);
        file.with_context(|| format!("cannot write {}", path.display()))
    }

    /// Flushes all that was written into it.
    pub fn sync(&self) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        rustix::fs::syncfs(&self.folder)?;
        self.folder.sync_all()
    }

    /// Removes it now.
    pub fn remove(self) {}

    fn empty(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => fs::remove_dir_all(entry.path())?,
                false => fs::remove_file(entry.path())?,
            }
        }
        Ok(())
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path)
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(%error, folder = %self.path.display(), "a folder could not be removed");
        }
    }
}

/// Opens a folder that is no link.
fn open_folder(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

/// Whether a command that was killed has left the folder behind: it is there, and nobody has it.
pub fn is_left(path: &Path) -> bool {
    open_folder(path).is_ok_and(|folder| folder.try_lock_shared().is_ok())
}

/// What is free on the disk of a folder, bytes.
pub fn free(folder: &Path) -> Result<u64> {
    let disk = rustix::fs::statvfs(folder).with_context(|| format!("cannot look at {}", folder.display()))?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Fails unless the disk of a folder has room for so many bytes and the reserve.
pub fn ensure_room(folder: &Path, bytes: u64) -> Result<()> {
    let free = free(folder)?;
    ensure!(
        bytes.saturating_add(RESERVE) <= free,
        "the disk of {} has {} free: a copy of {} is made there for a while, and {} stay free",
        folder.display(),
        HumanBytes(free),
        HumanBytes(bytes),
        HumanBytes(RESERVE)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ours_is_not_emptied() {
        let folder = tempfile::tempdir().unwrap();
        let theirs = folder.path().join("theirs");
        fs::create_dir(&theirs).unwrap();
        fs::write(theirs.join("file"), b"kept").unwrap();
        let path = folder.path().join(".restore");
        std::os::unix::fs::symlink(&theirs, &path).unwrap();
        let refused = Workplace::open(&path, "another runs").unwrap_err();
        assert!(format!("{refused:#}").contains("own"), "{refused:#}");
        assert_eq!(fs::read(theirs.join("file")).unwrap(), b"kept");
        if !rustix::process::geteuid().is_root() {
            return println!("skipped: only root can give a folder to somebody else");
        }
        std::os::unix::fs::lchown(&theirs, Some(12_345), Some(12_345)).unwrap();
        let refused = Workplace::open(&theirs, "another runs").unwrap_err();
        assert!(format!("{refused:#}").contains("belongs to user 12345"), "{refused:#}");
        assert_eq!(fs::read(theirs.join("file")).unwrap(), b"kept");
    }

    #[test]
    fn what_was_left_is_told_from_what_is_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".backup");
        assert!(!is_left(&path));
        let workplace = Workplace::open(&path, "another runs").unwrap();
        assert!(!is_left(&path));
        workplace.remove();
        assert!(!is_left(&path));
        fs::create_dir(&path).unwrap();
        fs::write(path.join("left"), b"removed elsewhere").unwrap();
        assert!(is_left(&path));
        // The next command takes it over, and clears it.
        let workplace = Workplace::open(&path, "another runs").unwrap();
        assert_eq!(fs::read_dir(workplace.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_copy_that_would_fill_the_disk_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        ensure_room(folder.path(), 0).unwrap();
        let refused = ensure_room(folder.path(), u64::MAX - RESERVE).unwrap_err();
        assert!(format!("{refused:#}").contains("stay free"), "{refused:#}");
    }
}
