//! The folder that holds blobs.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use object_store::local::LocalFileSystem;

use crate::BlobError;

/// Has the form of a staging file, so that no listing shows it.
const PROBE: &str = ".probe#0";

pub(crate) fn open(path: &Path) -> Result<(LocalFileSystem, PathBuf), BlobError> {
    let probe = || {
        std::fs::create_dir_all(path)?;
        let file = path.join(PROBE);
        std::fs::write(&file, b"probe")?;
        std::fs::remove_file(&file)?;
        path.canonicalize()
    };
    let root = probe().map_err(failed)?;
    let store = LocalFileSystem::new_with_prefix(&root).map_err(crate::read::failed)?.with_fsync(true);
    Ok((store, root))
}

pub(crate) async fn ping(root: &Path) -> Result<(), BlobError> {
    match tokio::fs::metadata(root).await {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(failed(io::ErrorKind::NotADirectory.into())),
        Err(e) => Err(failed(e)),
    }
}

pub(crate) async fn sweep(root: PathBuf, older_than: Duration) -> Result<u64, BlobError> {
    tokio::task::spawn_blocking(move || sweep_blocking(&root, older_than))
        .await
        .map_err(|e| BlobError::Unavailable(Box::new(e)))?
        .map_err(failed)
}

fn sweep_blocking(root: &Path, older_than: Duration) -> io::Result<u64> {
    let now = SystemTime::now();
    let mut removed = 0;
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
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

fn failed(e: io::Error) -> BlobError {
    match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => BlobError::Full,
        _ => BlobError::Unavailable(Box::new(e)),
    }
}
