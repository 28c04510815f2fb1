//! Documents that are files on this machine.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::{Content, Document, FetchError, FetchErrorKind, FetchLimits, unpack};

pub(super) async fn fetch(
    path: &Path,
    label: &str,
    limits: &FetchLimits,
    progress: &(dyn Fn(u64, Option<u64>) + Send + Sync),
) -> Result<Document, FetchError> {
    let (path, label, limits) = (path.to_owned(), label.to_owned(), limits.clone());
    let document = tokio::task::spawn_blocking(move || look(&path, label, &limits))
        .await
        .map_err(|error| FetchError::new(FetchErrorKind::Local, "the file could not be read").because(error))??;
    progress(document.size, Some(document.size));
    Ok(document)
}

fn look(typed: &Path, label: String, limits: &FetchLimits) -> Result<Document, FetchError> {
    let path = typed.canonicalize().map_err(|error| read_error(&label, error))?;
    let metadata = std::fs::metadata(&path).map_err(|error| read_error(&label, error))?;
    if is_in(&path, &off_limits(limits)) {
        let message = format!("{label} is where this product keeps its own data: check the data source's url");
        return Err(FetchError::new(FetchErrorKind::InvalidUrl, message));
    }
    if metadata.is_dir() {
        return Ok(Document {
            content: Content::Original(path),
            label,
            name: String::new(),
            format: unpack::Format::Folder,
            etag: None,
            size: 0,
        });
    }
    if !metadata.is_file() {
        let message = format!("{label} is no file but a device: check the data source's url");
        return Err(FetchError::new(FetchErrorKind::InvalidUrl, message));
    }
    check_size(metadata.len(), limits.max_download_bytes, &label)?;
    let name = typed.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut document = Document {
        content: Content::Original(path),
        label,
        name: unpack::unpacked_name(&name).to_owned(),
        format: unpack::Format::Plain,
        etag: None,
        size: metadata.len(),
    };
    document.format = unpack::detect(&document, &name)?;
    Ok(document)
}

/// The folders that documents are not read from, those that are there, with all links followed.
pub(super) fn off_limits(limits: &FetchLimits) -> Vec<PathBuf> {
    limits.off_limits.iter().filter_map(|folder| folder.canonicalize().ok()).collect()
}

/// Whether `path`, its links followed, is one of the folders or inside one.
pub(super) fn is_in(path: &Path, folders: &[PathBuf]) -> bool {
    folders.iter().any(|folder| path.starts_with(folder))
}

/// A document has at least one byte and at most `max`.
pub(super) fn check_size(size: u64, max: u64, label: &str) -> Result<(), FetchError> {
    if size == 0 {
        let message = format!("{label} is empty: check the data source's url");
        return Err(FetchError::new(FetchErrorKind::BadArchive, message));
    }
    if size > max {
        return Err(too_large(label, max));
    }
    Ok(())
}

pub(super) fn too_large(label: &str, max: u64) -> FetchError {
    let message = format!("{label} is larger than the {max} bytes that are allowed");
    FetchError::new(FetchErrorKind::TooLarge, message)
}

pub(super) fn read_error(label: &str, error: io::Error) -> FetchError {
    let (kind, message) = match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            (FetchErrorKind::NotFound, format!("{label} does not exist: check the data source's url"))
        }
        ErrorKind::PermissionDenied => (
            FetchErrorKind::Forbidden,
            format!("{label} may not be read: check the permissions of the file and its folders"),
        ),
        _ => (FetchErrorKind::Local, format!("{label} cannot be read: check the file")),
    };
    FetchError::new(kind, message).because(error)
}
