//! A folder of a command's own: one command at a time has it, and what an earlier one left is cleared away.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

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
        let folder = File::open(path).with_context(cannot)?;
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
