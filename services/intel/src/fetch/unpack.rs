//! Opens a document unpacked: what it is packed with is told by its first bytes, and every unpacking has a bound.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use flate2::read::MultiGzDecoder;
use zip::ZipArchive;

use super::{Document, FetchError, FetchErrorKind, FetchLimits, folder};

const HEAD_BYTES: usize = 512;
/// Memory a Zstandard frame may ask for, as a power of two: 128 MiB, the format's own recommendation for decoders.
const ZSTD_WINDOW_LOG: u32 = 27;
const MAX_ENTRIES: usize = 200_000;
/// One entry's headers and long names.
pub(super) const MAX_TAR_HEADER_BYTES: u64 = 1024 * 1024;

/// How a document is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Not at all.
    Plain,
    /// Zstandard.
    Zstd,
    /// gzip.
    Gzip,
    /// A tar archive.
    Tar,
    /// A tar archive in Zstandard.
    TarZstd,
    /// A tar archive in gzip.
    TarGzip,
    /// A ZIP archive.
    Zip,
    /// A folder on this machine.
    Folder,
}

/// Tells the format by the first bytes, and by the name where old tar archives have no mark.
pub(super) fn detect(document: &Document, name: &str) -> Result<Format, FetchError> {
    let mut file = document.file()?;
    let outer = head(&mut file).map_err(|error| super::local::read_error(&document.label, error))?;
    let unsupported = |what: &str| {
        let message =
            format!("{} is packed with {what}, which is not supported: use zst, gz, tar or zip", document.label);
        Err(FetchError::new(FetchErrorKind::BadArchive, message))
    };
    let format = match outer.as_slice() {
        [0x28, 0xB5, 0x2F, 0xFD, ..] | [0x50..=0x5F, 0x2A, 0x4D, 0x18, ..] => Format::Zstd,
        [0x1F, 0x8B, ..] => Format::Gzip,
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => return Ok(Format::Zip),
        [b'B', b'Z', b'h', ..] => return unsupported("bzip2"),
        [0xFD, b'7', b'z', b'X', b'Z', 0, ..] => return unsupported("xz"),
        [b'7', b'z', 0xBC, 0xAF, ..] => return unsupported("7z"),
        [b'R', b'a', b'r', b'!', ..] => return unsupported("RAR"),
        head if is_tar(head) => return Ok(Format::Tar),
        // A header is padded with NUL, which no text document holds.
        head if name.to_ascii_lowercase().ends_with(".tar") && head.contains(&0) => {
            return Ok(Format::Tar);
        }
        _ => return Ok(Format::Plain),
    };
    file.rewind().map_err(|error| super::local::read_error(&document.label, error))?;
    let name = name.to_ascii_lowercase();
    let named_tar = [".tar.gz", ".tgz", ".tar.zst", ".tzst"].iter().any(|end| name.ends_with(end));
    // Damage is told by whoever reads it.
    let inner = decoder(file, format).and_then(|mut decoder| head(&mut decoder)).unwrap_or_default();
    let tar = is_tar(&inner) || (named_tar && inner.contains(&0));
    Ok(match (format, tar) {
        (Format::Zstd, true) => Format::TarZstd,
        (Format::Gzip, true) => Format::TarGzip,
        (format, _) => format,
    })
}

/// The name of what is packed in a file that is no archive.
pub(super) fn unpacked_name(name: &str) -> &str {
    let end = [".zst", ".gz"].iter().find(|end| name.to_ascii_lowercase().ends_with(*end));
    end.and_then(|end| name.get(..name.len() - end.len())).filter(|rest| !rest.is_empty()).unwrap_or(name)
}

fn is_tar(head: &[u8]) -> bool {
    head.get(257..262) == Some(b"ustar")
}

fn head(reader: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    reader.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    Ok(head)
}

pub(super) fn decoder(file: File, format: Format) -> io::Result<Box<dyn Read + Send>> {
    Ok(match format {
        Format::Zstd | Format::TarZstd => {
            let mut decoder = zstd::Decoder::new(file)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
        Format::Gzip | Format::TarGzip => Box::new(MultiGzDecoder::new(BufReader::with_capacity(64 * 1024, file))),
        Format::Plain | Format::Tar | Format::Zip | Format::Folder => {
            Box::new(BufReader::with_capacity(64 * 1024, file))
        }
    })
}

/// Opens the unpacked bytes of a single document, or of the first entry of an archive whose name is `wanted`. Blocking.
///
/// Past `max_unpacked_bytes` reading fails. An archive with an entry that leads out of it is refused; links are ignored.
pub fn open(
    document: &Document,
    wanted: &dyn Fn(&str) -> bool,
    limits: &FetchLimits,
) -> Result<Box<dyn Read + Send>, FetchError> {
    if document.format == Format::Folder {
        return folder::open(document, wanted, limits);
    }
    let label = document.label.as_str();
    let file = document.file()?;
    if document.format == Format::Zip {
        return zip_entry(file, label, wanted, limits);
    }
    let decoder = decoder(file, document.format).map_err(|error| damaged(label, error))?;
    let bounded = Bounded::new(decoder, limits.max_unpacked_bytes);
    match document.format {
        Format::Tar | Format::TarZstd | Format::TarGzip => tar_entry(bounded, label, wanted),
        _ => Ok(Box::new(bounded)),
    }
}

pub(super) fn damaged(label: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> FetchError {
    let error = error.into();
    let too_large = error.downcast_ref::<io::Error>().is_some_and(is_too_large);
    if too_large {
        return FetchError::new(FetchErrorKind::TooLarge, format!("{label}: {error}"));
    }
    let message = format!("{label} cannot be unpacked ({error}): it is damaged or was cut; fetch it again");
    FetchError::new(FetchErrorKind::BadArchive, message).because(error)
}

/// The names seen, for the message that none was wanted.
#[derive(Default)]
pub(super) struct Names {
    first: Vec<String>,
    count: usize,
}

impl Names {
    pub(super) fn see(&mut self, name: &str, label: &str) -> Result<(), FetchError> {
        self.count += 1;
        if self.count > MAX_ENTRIES {
            let message = format!("{label} has more than {MAX_ENTRIES} entries");
            return Err(FetchError::new(FetchErrorKind::TooLarge, message));
        }
        let shown = || name.chars().filter(|c| !c.is_control()).take(80).collect::<String>();
        if leads_out(name) {
            let message =
                format!("{label} has the entry `{}`, which leads out of the archive: it is not opened", shown());
            return Err(FetchError::new(FetchErrorKind::BadArchive, message));
        }
        if self.first.len() < 3 {
            self.first.push(shown());
        }
        Ok(())
    }

    pub(super) fn none_wanted(self, label: &str) -> FetchError {
        let held = match self.first.is_empty() {
            true => "nothing".to_owned(),
            false => format!("{} entries such as {}", self.count, self.first.join(", ")),
        };
        let message = format!("{label} does not hold the document: it holds {held}. Check the data source's url");
        FetchError::new(FetchErrorKind::NotFound, message)
    }
}

/// Nothing is written under an entry's name, but an archive with such names was made to do harm.
fn leads_out(name: &str) -> bool {
    let drive = name.as_bytes().get(1) == Some(&b':') && name.as_bytes()[0].is_ascii_alphabetic();
    name.starts_with(['/', '\\']) || drive || name.contains('\0') || name.split(['/', '\\']).any(|part| part == "..")
}

fn tar_entry(
    mut reader: Bounded,
    label: &str,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<Box<dyn Read + Send>, FetchError> {
    // The archive reads headers block by block and nothing beyond, so that after the wanted entry's
    // header the reader stands at its first byte and outlives the archive.
    let size = seek_tar_entry(&mut reader, label, wanted)?;
    Ok(Box::new(Exact { inner: reader, left: size }))
}

/// Leaves the reader at the wanted entry's first byte and tells the entry's length.
fn seek_tar_entry(reader: &mut Bounded, label: &str, wanted: &dyn Fn(&str) -> bool) -> Result<u64, FetchError> {
    // Bounds the names that the archive reads into memory.
    let allowance = Cell::new(0);
    let mut names = Names::default();
    let mut archive = tar::Archive::new(Metered { inner: reader, allowance: &allowance });
    let mut entries = archive.entries().map_err(|error| damaged(label, error))?;
    loop {
        allowance.set(MAX_TAR_HEADER_BYTES);
        let mut entry = match entries.next() {
            None => return Err(names.none_wanted(label)),
            Some(entry) => entry.map_err(|error| damaged(label, error))?,
        };
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            continue;
        }
        names.see(&name, label)?;
        if (kind.is_file() || kind.is_contiguous()) && wanted(name.strip_prefix("./").unwrap_or(&name)) {
            return Ok(entry.size());
        }
        allowance.set(u64::MAX);
        io::copy(&mut entry, &mut io::sink()).map_err(|error| damaged(label, error))?;
    }
}

fn zip_entry(
    mut file: File,
    label: &str,
    wanted: &dyn Fn(&str) -> bool,
    limits: &FetchLimits,
) -> Result<Box<dyn Read + Send>, FetchError> {
    check_zip_directory(&mut file, label)?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|error| damaged(label, error))?;
    let mut names = Names::default();
    let mut found = None;
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(|error| damaged(label, error))?;
        let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
        names.see(&name, label)?;
        if found.is_none() && entry.is_file() && !entry.is_symlink() && wanted(&name) {
            if entry.encrypted() {
                let message = format!("{label} is protected with a password: point the data source at one that is not");
                return Err(FetchError::new(FetchErrorKind::BadArchive, message));
            }
            found = Some(index);
        }
    }
    let Some(index) = found else {
        return Err(names.none_wanted(label));
    };
    // An entry's reader borrows the archive; a file of our own does not, and its checksum is verified by then.
    let spool_error = |error: io::Error| {
        let message = "the document cannot be unpacked: check the space in the folder for temporary files";
        FetchError::new(FetchErrorKind::Local, message).because(error)
    };
    let mut spool = match &limits.spool_dir {
        Some(folder) => tempfile::tempfile_in(folder),
        None => tempfile::tempfile(),
    }
    .map_err(spool_error)?;
    let entry = archive.by_index(index).map_err(|error| damaged(label, error))?;
    let mut entry = BoundedRef { inner: entry, left: limits.max_unpacked_bytes, limit: limits.max_unpacked_bytes };
    io::copy(&mut entry, &mut spool).map_err(|error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => spool_error(error),
        _ => damaged(label, error),
    })?;
    spool.rewind().map_err(spool_error)?;
    Ok(Box::new(BufReader::with_capacity(64 * 1024, spool)))
}

/// The reader keeps the whole directory in memory, so its length is looked at first.
pub(super) fn check_zip_directory(file: &mut File, label: &str) -> Result<(), FetchError> {
    let mut tail = Vec::new();
    let read = |file: &mut File, tail: &mut Vec<u8>| -> io::Result<()> {
        let length = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(length.saturating_sub(22 + 65_535)))?;
        file.take(22 + 65_535).read_to_end(tail)?;
        file.rewind()
    };
    read(file, &mut tail).map_err(|error| super::local::read_error(label, error))?;
    let end = tail.windows(4).rposition(|window| window == b"PK\x05\x06").and_then(|at| tail.get(at..at + 22));
    let Some(end) = end else {
        return Err(damaged(label, "the archive has no end".to_owned()));
    };
    if end[10..12] == [0xFF, 0xFF] {
        let message = format!("{label} has more than 65,534 entries");
        return Err(FetchError::new(FetchErrorKind::TooLarge, message));
    }
    Ok(())
}

pub(super) type Bounded = BoundedRef<Box<dyn Read + Send>>;

/// Fails where the bytes go on past the bound; a document of exactly that length is read whole.
pub(super) struct BoundedRef<R> {
    pub inner: R,
    pub left: u64,
    pub limit: u64,
}

impl Bounded {
    fn new(inner: Box<dyn Read + Send>, limit: u64) -> Self {
        Self { inner, left: limit, limit }
    }
}

impl<R: Read> Read for BoundedRef<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !buffer.is_empty() {
            return match self.inner.read(&mut [0])? {
                0 => Ok(0),
                _ => Err(io::Error::new(io::ErrorKind::FileTooLarge, TooLarge(self.limit))),
            };
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.inner.read(&mut buffer[..most])?;
        self.left -= read as u64;
        Ok(read)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("unpacked it is larger than the {0} bytes that are allowed")]
struct TooLarge(u64);

fn is_too_large(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<TooLarge>())
}

/// Exactly so many bytes: fewer is a cut archive.
struct Exact {
    inner: Bounded,
    left: u64,
}

impl Read for Exact {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.inner.read(&mut buffer[..most])?;
        if read == 0 && most > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends inside the document"));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

/// Reads no more than the allowance, which is renewed from outside.
pub(super) struct Metered<'a> {
    pub inner: &'a mut Bounded,
    pub allowance: &'a Cell<u64>,
}

impl Read for Metered<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        match self.allowance.get().checked_sub(read as u64) {
            Some(left) => self.allowance.set(left),
            None => return Err(io::Error::other("an entry's header is too long")),
        }
        Ok(read)
    }
}
