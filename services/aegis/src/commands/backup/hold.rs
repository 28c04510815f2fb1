//! Files of the data folder that stay while they are backed up, even when the product removes them meanwhile: second
//! names (hard links) in a folder of the backup's own. They take no space. A file that is appended to grows under both.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{archive, workplace};

/// The files below a folder: held, copied, or as they lie.
pub struct Held {
    from: PathBuf,
    /// Where the second names, or the copies, are.
    into: PathBuf,
    /// Why there are none: they lie as they are, then.
    refused: Option<io::Error>,
    /// There are copies.
    copied: bool,
}

/// A file that is to be backed up.
pub struct Found {
    /// Below its folder, with `/` between its parts.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
}

impl Held {
    /// Those below `from`; `into` is a folder of the backup's own.
    pub fn new(from: PathBuf, into: PathBuf) -> Held {
        Held { from, into, refused: None, copied: false }
    }

    /// Gives second names to all that have none yet. Called before the moment of the backup, this keeps what is removed
    /// after it; called again behind it, it finds what was added before.
    pub fn hold(&mut self) -> Result<()> {
        if self.refused.is_some() || self.copied {
            return Ok(());
        }
        walk(&self.from, &mut |found| {
            let target = self.into.join(&found.name);
            match link(&found.path, &target) {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(true),
                // Removed just now: nothing names it any more.
                Err(error) if error.kind() == ErrorKind::NotFound && !found.path.exists() => Ok(true),
                Err(error) if has_no_links(&error) => {
                    self.refused = Some(error);
                    Ok(false)
                }
                Err(error) => Err(error).with_context(|| format!("cannot hold {}", found.path.display())),
            }
        })
    }

    /// Copies what cannot be held, up to `most` bytes of each: for a folder that is small. Called before the moment of the
    /// backup; nothing is added behind it, as some of it would be newer than the rest of the backup.
    pub fn copy_refused(&mut self, most: u64) -> Result<()> {
        if self.refused.is_none() {
            return Ok(());
        }
        // Some may have second names already: what is written there would be written into the files themselves.
        match fs::remove_dir_all(&self.into) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot clear {}", self.into.display()));
            }
            _ => {}
        }
        walk(&self.from, &mut |found| {
            let target = self.into.join(&found.name);
            copy(&found.path, &target, most).with_context(|| format!("cannot copy {}", found.path.display()))?;
            Ok(true)
        })?;
        (self.refused, self.copied) = (None, true);
        Ok(())
    }

    /// Whether there is such a file for the backup.
    pub fn has(&self, name: &str) -> bool {
        self.root().join(name).is_file()
    }

    fn root(&self) -> &Path {
        if self.refused.is_none() { &self.into } else { &self.from }
    }

    /// What may be missing from the backup, where files cannot be held.
    pub fn gap(&self) -> Option<String> {
        let why = self.refused.as_ref()?;
        Some(format!(
            "files of {} that the product removed while this was made: they cannot be held there ({why}), and a row of \
             the backup may name them",
            self.from.display()
        ))
    }

    /// Calls `each` for every file; false ends it.
    pub fn each(&self, each: &mut dyn FnMut(Found) -> Result<bool>) -> Result<()> {
        walk(self.root(), each)
    }
}

/// Another file system, one without such names, or one that lets us give none to files of somebody else.
fn has_no_links(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::CrossesDevices | ErrorKind::Unsupported | ErrorKind::PermissionDenied | ErrorKind::TooManyLinks
    )
}

fn copy(from: &Path, to: &Path, most: u64) -> Result<()> {
    let file = match File::open(from) {
        // Removed just now.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
        workplace::ensure_room(folder, file.metadata()?.len().min(most))?;
    }
    let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    io::copy(&mut file.take(most), &mut copy)?;
    Ok(())
}

fn link(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if let Some(folder) = to.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::hard_link(from, to)
        }
        other => other,
    }
}

/// Goes through the plain files below a folder that have names of ours; what is being written has none.
pub fn walk(root: &Path, each: &mut dyn FnMut(Found) -> Result<bool>) -> Result<()> {
    let mut folders = vec![(root.to_owned(), String::new())];
    while let Some((folder, name)) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            // Never made, or removed just now because it was empty.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", folder.display())),
        };
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot read {}", folder.display()))?;
            let (Ok(own), Ok(kind)) = (entry.file_name().into_string(), entry.file_type()) else { continue };
            if !archive::is_plain(&own) {
                continue;
            }
            let name = if name.is_empty() { own } else { format!("{name}/{own}") };
            if kind.is_dir() {
                folders.push((entry.path(), name));
            } else if kind.is_file() && !each(Found { name, path: entry.path() })? {
                return Ok(());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn names(held: &Held) -> Vec<String> {
        let mut names = Vec::new();
        held.each(&mut |found| {
            names.push(found.name);
            Ok(true)
        })
        .unwrap();
        names
    }

    #[test]
    fn what_is_removed_is_held_and_told_where_it_cannot_be() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("blobs");
        fs::create_dir_all(data.join("evidence")).unwrap();
        let write = || fs::write(data.join("evidence/one"), b"proof").unwrap();
        write();
        let mut held = Held::new(data.clone(), folder.path().join("held"));
        held.hold().unwrap();
        fs::remove_file(data.join("evidence/one")).unwrap();
        held.hold().unwrap();
        assert_eq!(names(&held), ["evidence/one"]);
        assert_eq!(held.gap(), None);

        // Second names do not reach over to another file system.
        write();
        let Ok(other) = tempfile::tempdir_in("/dev/shm") else { return println!("skipped: there is no /dev/shm") };
        let device = |path: &Path| fs::metadata(path).unwrap().dev();
        if device(other.path()) == device(&data) {
            return println!("skipped: /dev/shm is no file system of its own");
        }
        let mut held = Held::new(data.clone(), other.path().join("held"));
        held.hold().unwrap();
        held.hold().unwrap();
        assert_eq!(names(&held), ["evidence/one"]);
        let gap = held.gap().expect("it is told");
        assert!(gap.contains(&data.display().to_string()), "{gap}");
        assert!(held.has("evidence/one") && !held.has("evidence/two"));
    }

    #[test]
    fn what_cannot_be_held_is_copied_before_it_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("sensor");
        fs::create_dir_all(data.join("buffer")).unwrap();
        for name in ["1.events", "2.events"] {
            fs::write(data.join("buffer").join(name), b"events").unwrap();
        }
        let mut held = Held::new(data.clone(), folder.path().join("held"));
        held.hold().unwrap();
        held.copy_refused(100).unwrap();
        assert!(!held.copied, "what is held is not copied, too");
        // Refused behind the first: its second name must not be written through.
        held.refused = Some(ErrorKind::PermissionDenied.into());
        held.copy_refused(4).unwrap();
        assert_eq!(held.gap(), None);
        assert_eq!(fs::read(data.join("buffer/1.events")).unwrap(), b"events");
        fs::remove_file(data.join("buffer/1.events")).unwrap();
        fs::write(data.join("buffer/3.events"), b"later").unwrap();
        held.hold().unwrap();
        let mut names = names(&held);
        names.sort();
        assert_eq!(names, ["buffer/1.events", "buffer/2.events"]);
        assert_eq!(fs::read(folder.path().join("held/buffer/1.events")).unwrap(), b"even");
    }
}
