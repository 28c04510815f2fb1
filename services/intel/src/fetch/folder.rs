//! Documents that are folders on this machine: all their files, those in folders of theirs too.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::unpack::{self, Format};
use super::{Content, Document, FetchError, FetchErrorKind, FetchLimits, local};

/// Files and folders of one document at most.
const MAX_FILES: usize = 200_000;
/// Folders inside one another.
const MAX_DEPTH: usize = 32;

/// Its files by their names, numbers in their order. Links to folders are not followed, and what is off limits is not
/// opened.
pub(super) fn files(document: &Document, limits: &FetchLimits) -> Result<Vec<Document>, FetchError> {
    let Content::Original(root) = &document.content else {
        return Err(FetchError::new(FetchErrorKind::Local, "the folder is not on this machine"));
    };
    let label = document.label.trim_end_matches('/');
    let mut found = Vec::new();
    Walk { label, off_limits: local::off_limits(limits), found: &mut found }.folder(root, "", 0)?;
    found.sort_by_cached_key(|(name, _)| natural(name));
    let mut files = Vec::with_capacity(found.len());
    for (name, path) in found {
        let label = format!("{label}/{name}");
        let size = std::fs::metadata(&path).map_err(|error| local::read_error(&label, error))?.len();
        if size == 0 {
            continue;
        }
        local::check_size(size, limits.max_download_bytes, &label)?;
        let mut file = Document {
            content: Content::Original(path),
            name: name.clone(),
            label,
            format: Format::Plain,
            etag: None,
            size,
        };
        // One that cannot be read is told when it is wanted: a folder may hold anything.
        file.format = unpack::detect(&file, &name).unwrap_or(Format::Plain);
        if matches!(file.format, Format::Zstd | Format::Gzip) {
            file.name = unpack::unpacked_name(&name).to_owned();
        }
        files.push(file);
    }
    Ok(files)
}

/// Opens the last of the files that are wanted, which is the newest where names end with versions.
pub(super) fn open(
    document: &Document,
    wanted: &dyn Fn(&str) -> bool,
    limits: &FetchLimits,
) -> Result<Box<dyn Read + Send>, FetchError> {
    let files = files(document, limits)?;
    for file in files.iter().rev() {
        let archive = matches!(file.format, Format::Tar | Format::TarZstd | Format::TarGzip | Format::Zip);
        if !archive && !wanted(&file.name) {
            continue;
        }
        match unpack::open(file, wanted, limits) {
            Err(error) if archive && error.kind() == FetchErrorKind::NotFound => {}
            opened => return opened,
        }
    }
    let message = format!("{} does not hold the document: it holds {} other files", document.label, files.len());
    Err(FetchError::new(FetchErrorKind::NotFound, message))
}

struct Walk<'a> {
    label: &'a str,
    off_limits: Vec<PathBuf>,
    /// Names inside the document, and where the files are.
    found: &'a mut Vec<(String, PathBuf)>,
}

impl Walk<'_> {
    /// `folder` has no links in it; `inside` is its name inside the document.
    fn folder(&mut self, folder: &Path, inside: &str, depth: usize) -> Result<(), FetchError> {
        let failed = |error| local::read_error(self.label, error);
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let failed = |error| local::read_error(self.label, error);
            let entry = entry.map_err(failed)?;
            let kind = entry.file_type().map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // Of editors and of Git.
            if name.starts_with('.') {
                continue;
            }
            let name = if inside.is_empty() { name } else { format!("{inside}/{name}") };
            if self.found.len() >= MAX_FILES || depth > MAX_DEPTH {
                let message =
                    format!("{} has more than {MAX_FILES} files or {MAX_DEPTH} folders inside one another", self.label);
                return Err(FetchError::new(FetchErrorKind::TooLarge, message));
            }
            let path = entry.path();
            if kind.is_dir() {
                if !local::is_in(&path, &self.off_limits) {
                    self.folder(&path, &name, depth + 1)?;
                }
            } else if kind.is_file() {
                self.found.push((name, path));
            } else if kind.is_symlink() {
                // One that leads nowhere, or that may not be followed, is as if it were not there.
                if let Ok(target) = path.canonicalize()
                    && target.is_file()
                    && !local::is_in(&target, &self.off_limits)
                {
                    self.found.push((name, target));
                }
            }
        }
        Ok(())
    }
}

/// A key that sorts `v9` before `v18`.
fn natural(name: &str) -> Vec<(String, u64)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (text, after) = rest.split_at(digits);
        let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let (number, after) = after.split_at(end);
        parts.push((text.to_owned(), number.parse().unwrap_or(u64::MAX)));
        rest = after;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::natural;

    #[test]
    fn versions_are_in_their_order() {
        let mut names = ["attack-18.1.json", "attack-9.0.json", "attack-18.10.json", "a/x", "attack-17.1.json"];
        names.sort_by_cached_key(|name| natural(name));
        assert_eq!(names, ["a/x", "attack-9.0.json", "attack-17.1.json", "attack-18.1.json", "attack-18.10.json"]);
    }
}
