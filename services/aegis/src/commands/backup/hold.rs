//! Files of the data folder that stay while they are backed up, even when the product removes them meanwhile: second
//! names (hard links) in a folder of the backup's own. They take no space. A file that is appended to grows under both.

use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::archive;

/// The files below a folder, held or as they lie.
pub struct Held {
    from: PathBuf,
    /// Where the second names are; none where the file system has none.
    held: Option<PathBuf>,
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
        Held { from, held: Some(into) }
    }

    /// Gives second names to all that have none yet. Called before the moment of the backup, this keeps what is removed
    /// after it; called again behind it, it finds what was added before.
    pub fn hold(&mut self) -> Result<()> {
        let Some(into) = &self.held else { return Ok(()) };
        let mut impossible = false;
        walk(&self.from, &mut |found| {
            let target = into.join(&found.name);
            let linked = link(&found.path, &target);
            match linked {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(true),
                // Removed just now: nothing names it any more.
                Err(error) if error.kind() == ErrorKind::NotFound && !found.path.exists() => Ok(true),
                Err(error) if has_no_links(&error) => {
                    impossible = true;
                    Ok(false)
                }
                Err(error) => Err(error).with_context(|| format!("cannot hold {}", found.path.display())),
            }
        })?;
        if impossible {
            self.held = None;
        }
        Ok(())
    }

    /// Calls `each` for every file; false ends it.
    pub fn each(&self, each: &mut dyn FnMut(Found) -> Result<bool>) -> Result<()> {
        walk(self.held.as_ref().unwrap_or(&self.from), each)
    }
}

/// Another file system, one without such names, or one that lets us give none to files of somebody else.
fn has_no_links(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::CrossesDevices | ErrorKind::Unsupported | ErrorKind::PermissionDenied | ErrorKind::TooManyLinks
    )
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
