//! Reads the files of a document one after the other: the entries of an archive, the files of a folder, or the one that
//! it is itself.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read};

use zip::ZipArchive;

use super::unpack::{
    Bounded, BoundedRef, Format, MAX_TAR_HEADER_BYTES, Metered, Names, check_zip_directory, damaged, decoder,
};
use super::{Document, FetchError, FetchErrorKind, FetchLimits, folder};

/// Bytes that are looked at of what an archive says of itself.
const MAX_COMMENT_BYTES: u64 = 4096;

/// Takes the files of a document.
pub trait Visitor {
    /// What a file may fail with; the rest of the document is not read then.
    type Error: From<FetchError>;

    /// Whether the file is read at all. A document that is one file is not asked for.
    fn wants(&self, path: &str) -> bool;

    /// Takes one file, by its path inside the document.
    fn file(&mut self, path: &str, bytes: &[u8]) -> Result<(), Self::Error>;
}

/// What is known of a document after its files were read.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Visited {
    /// Files that were taken.
    pub files: usize,
    /// The revision of the repository that an archive was made of, where it says so.
    pub revision: Option<String>,
}

/// Hands over all files that are wanted, in the order of the archive or by their names. Blocking.
///
/// One file and all unpacked bytes together are bounded, those of files that nobody wants too. An archive with an entry
/// that leads out of it is refused; links and devices are ignored. A document without any file that is wanted is an error.
pub fn each<V: Visitor>(document: &Document, limits: &FetchLimits, visitor: &mut V) -> Result<Visited, V::Error> {
    let mut walk = Walk {
        limits,
        left: limits.max_unpacked_bytes,
        names: Names::default(),
        visited: Visited::default(),
        buffer: Vec::new(),
    };
    match document.format {
        Format::Folder => {
            for file in folder::files(document, limits)? {
                match file.format {
                    Format::Tar | Format::TarZstd | Format::TarGzip | Format::Zip => {
                        walk.archive(&file, visitor)?;
                    }
                    _ if visitor.wants(&file.name) => walk.single(&file, visitor)?,
                    _ => walk.names.see(&file.name, &document.label)?,
                }
            }
        }
        Format::Tar | Format::TarZstd | Format::TarGzip | Format::Zip => walk.archive(document, visitor)?,
        Format::Plain | Format::Zstd | Format::Gzip => walk.single(document, visitor)?,
    }
    match walk.visited.files {
        0 => Err(walk.names.none_wanted(&document.label).into()),
        _ => Ok(walk.visited),
    }
}

struct Walk<'a> {
    limits: &'a FetchLimits,
    /// Unpacked bytes that may still come.
    left: u64,
    names: Names,
    visited: Visited,
    buffer: Vec<u8>,
}

impl Walk<'_> {
    fn single<V: Visitor>(&mut self, document: &Document, visitor: &mut V) -> Result<(), V::Error> {
        let label = document.label.as_str();
        let decoder = decoder(document.file()?, document.format).map_err(|error| damaged(label, error))?;
        let mut bounded = self.bounded(decoder);
        let read = self.read(&mut bounded, label, &document.name);
        self.left = bounded.left;
        read?;
        self.take(&document.name, visitor)
    }

    fn archive<V: Visitor>(&mut self, document: &Document, visitor: &mut V) -> Result<(), V::Error> {
        let label = document.label.as_str();
        let file = document.file()?;
        if document.format == Format::Zip {
            return self.zip(file, label, visitor);
        }
        let decoder = decoder(file, document.format).map_err(|error| damaged(label, error))?;
        let mut bounded = self.bounded(decoder);
        let read = self.tar(&mut bounded, label, visitor);
        self.left = bounded.left;
        read
    }

    fn tar<V: Visitor>(&mut self, reader: &mut Bounded, label: &str, visitor: &mut V) -> Result<(), V::Error> {
        // Bounds the names that the archive reads into memory.
        let allowance = Cell::new(0);
        let mut archive = tar::Archive::new(Metered { inner: reader, allowance: &allowance });
        let mut entries = archive.entries().map_err(|error| damaged(label, error))?;
        loop {
            allowance.set(MAX_TAR_HEADER_BYTES);
            let mut entry = match entries.next() {
                None => return Ok(()),
                Some(entry) => entry.map_err(|error| damaged(label, error))?,
            };
            let kind = entry.header().entry_type();
            if kind.is_pax_global_extensions() {
                let mut said = Vec::new();
                (&mut entry).take(MAX_COMMENT_BYTES).read_to_end(&mut said).map_err(|error| damaged(label, error))?;
                let said = String::from_utf8_lossy(&said);
                let comment = said.lines().find_map(|line| line.split_once(" comment=").map(|(_, comment)| comment));
                self.revision(comment.unwrap_or_default());
                continue;
            }
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            self.names.see(&name, label)?;
            allowance.set(u64::MAX);
            let path = name.strip_prefix("./").unwrap_or(&name);
            if (kind.is_file() || kind.is_contiguous()) && visitor.wants(path) {
                let size = entry.size();
                self.read(&mut entry, label, path)?;
                if self.buffer.len() as u64 != size {
                    let cut = io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends inside a file");
                    return Err(damaged(label, cut).into());
                }
                self.take(path, visitor)?;
            } else {
                io::copy(&mut entry, &mut io::sink()).map_err(|error| damaged(label, error))?;
            }
        }
    }

    fn zip<V: Visitor>(&mut self, mut file: File, label: &str, visitor: &mut V) -> Result<(), V::Error> {
        check_zip_directory(&mut file, label)?;
        let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|error| damaged(label, error))?;
        let comment = String::from_utf8_lossy(archive.comment()).into_owned();
        self.revision(&comment);
        for index in 0..archive.len() {
            let entry = archive.by_index_raw(index).map_err(|error| damaged(label, error))?;
            let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
            self.names.see(&name, label)?;
            if !entry.is_file() || entry.is_symlink() || !visitor.wants(&name) {
                continue;
            }
            if entry.encrypted() {
                let message = format!("{label} is protected with a password: take one that is not");
                return Err(FetchError::new(FetchErrorKind::BadArchive, message).into());
            }
            drop(entry);
            let entry = archive.by_index(index).map_err(|error| damaged(label, error))?;
            let mut bounded = BoundedRef { inner: entry, left: self.left, limit: self.limits.max_unpacked_bytes };
            let read = self.read(&mut bounded, label, &name);
            self.left = bounded.left;
            read?;
            self.take(&name, visitor)?;
        }
        Ok(())
    }

    fn bounded(&self, inner: Box<dyn Read + Send>) -> Bounded {
        BoundedRef { inner, left: self.left, limit: self.limits.max_unpacked_bytes }
    }

    /// One file, whole, into the buffer.
    fn read(&mut self, reader: &mut dyn Read, label: &str, path: &str) -> Result<(), FetchError> {
        self.buffer.clear();
        let max = self.limits.max_file_bytes;
        reader.take(max.saturating_add(1)).read_to_end(&mut self.buffer).map_err(|error| damaged(label, error))?;
        if self.buffer.len() as u64 > max {
            let message = format!("{label}: the file {path} is larger than the {max} bytes that are allowed");
            return Err(FetchError::new(FetchErrorKind::TooLarge, message));
        }
        Ok(())
    }

    fn take<V: Visitor>(&mut self, path: &str, visitor: &mut V) -> Result<(), V::Error> {
        self.visited.files += 1;
        visitor.file(path, &self.buffer)
    }

    /// What Git writes into the archives that it makes.
    fn revision(&mut self, comment: &str) {
        let comment = comment.trim();
        if self.visited.revision.is_none()
            && (7..=64).contains(&comment.len())
            && comment.bytes().all(|byte| byte.is_ascii_hexdigit())
        {
            self.visited.revision = Some(comment.to_owned());
        }
    }
}
