//! What a backup is: a tar archive of plain files, compressed with zstd. First comes what it is of ([`Head`]), last the
//! list of its files with their sizes and hashes; one without its list was cut off.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Read, Seek, Write},
    path::Path,
};

use anyhow::{Context, Result, bail, ensure};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    roles::Role,
    stores::{self, SECRET},
};

/// Grows when an older program could not read it any more.
pub const FORMAT: u32 = 1;
/// The first file: what the backup is of.
const HEAD: &str = "aegis-backup.json";
/// The last file: all others, one a line.
const LIST: &str = "files.jsonl";
/// The folder of the databases in an archive.
const DATABASES: &str = "databases";
/// The folders of files, by the same names as in the data folder.
const FOLDERS: [&str; 2] = ["blobs", "sensor"];

/// Longest name, bytes.
const MAX_NAME: usize = 700;
/// Longest part of a name between slashes.
const MAX_SEGMENT: usize = 255;
/// Largest head, and longest line of the list, bytes.
const MAX_HEAD: u64 = 64 * 1024;
/// How the archive is compressed: fast.
const COMPRESSION: i32 = 3;
/// What is read at once.
const CHUNK: usize = 256 * 1024;
/// 2^this is the most that unpacking holds in memory.
const WINDOW: u32 = 27;

/// What a backup is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// [`FORMAT`] of the program that made it.
    pub format: u32,
    /// The program's version.
    pub version: String,
    /// The moment that it shows.
    pub created_at: DateTime<Utc>,
    /// The migrations of each service's database.
    pub databases: BTreeMap<String, Vec<i64>>,
}

/// A line of the list.
#[derive(Serialize, Deserialize)]
struct Line {
    path: String,
    size: u64,
    sha256: String,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Databases.
    pub databases: u64,
    /// Evidence, artifacts, and what the sensor keeps.
    pub files: u64,
    /// Bytes of all of it, unpacked.
    pub bytes: u64,
}

impl Sum {
    fn add(&mut self, name: &str, size: u64) {
        match name.split_once('/') {
            Some((DATABASES, _)) => self.databases += 1,
            Some(_) => self.files += 1,
            None => {}
        }
        self.bytes += size;
    }
}

/// The name of a service's database in an archive.
pub fn database_name(role: Role) -> String {
    format!("{DATABASES}/{role}.db")
}

/// Where a file of an archive belongs in the data folder; nothing where it belongs nowhere.
///
/// The names that there can be are counted up, so that no archive can name anything else.
pub fn place(name: &str) -> Option<String> {
    if name.len() > MAX_NAME {
        return None;
    }
    if name == SECRET {
        return Some(name.to_owned());
    }
    let (folder, rest) = name.split_once('/')?;
    if folder == DATABASES {
        let role = Role::SERVICES.into_iter().find(|role| rest == format!("{role}.db"))?;
        return Some(format!("{role}.db"));
    }
    (FOLDERS.contains(&folder) && rest.split('/').all(is_plain)).then(|| name.to_owned())
}

/// Whether a part of a name is one that we write.
pub fn is_plain(segment: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !segment.is_empty()
        && segment.len() <= MAX_SEGMENT
        && !matches!(segment, "." | "..")
        && segment.chars().all(allowed)
}

/// Writes an archive.
pub struct Writer {
    tar: tar::Builder<zstd::Encoder<'static, BufWriter<File>>>,
    list: BufWriter<File>,
    sum: Sum,
    mtime: u64,
}

impl Writer {
    /// Into `file`; `list` is a file for the list meanwhile, which can be read, too.
    pub fn new(file: File, list: File, head: &Head) -> Result<Writer> {
        let mut encoder = zstd::Encoder::new(BufWriter::with_capacity(CHUNK, file), COMPRESSION)?;
        encoder.include_checksum(true)?;
        let mut tar = tar::Builder::new(encoder);
        let mtime = u64::try_from(head.created_at.timestamp()).unwrap_or(0);
        let text = serde_json::to_vec_pretty(head)?;
        tar.append_data(&mut header(text.len() as u64, mtime), HEAD, text.as_slice())?;
        Ok(Writer { tar, list: BufWriter::new(list), sum: Sum::default(), mtime })
    }

    /// Adds a file of `size` bytes.
    pub fn add(&mut self, name: &str, size: u64, data: impl Read, mut tick: impl FnMut(u64)) -> Result<()> {
        ensure!(place(name).is_some(), "{name} has no place in a backup");
        let mut data = Hashed { inner: data.take(size), hash: Sha256::new(), read: 0, tick: &mut tick };
        self.tar.append_data(&mut header(size, self.mtime), name, &mut data)?;
        ensure!(data.read == size, "{name} became shorter while it was read");
        let line = Line { path: name.to_owned(), size, sha256: hex::encode(data.hash.finalize()) };
        serde_json::to_writer(&mut self.list, &line)?;
        self.list.write_all(b"\n")?;
        self.sum.add(name, size);
        Ok(())
    }

    /// Ends it; what is in it, and the file, all of which is on the disk.
    pub fn finish(mut self) -> Result<(Sum, File)> {
        let mut list = self.list.into_inner().map_err(io::IntoInnerError::into_error)?;
        let size = list.stream_position()?;
        list.rewind()?;
        self.tar.append_data(&mut header(size, self.mtime), LIST, list.take(size))?;
        let file = self.tar.into_inner()?.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok((self.sum, file))
    }
}

fn header(size: u64, mtime: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o600);
    header.set_mtime(mtime);
    header
}

/// Hashes what is read through it.
struct Hashed<'a, R> {
    inner: R,
    hash: Sha256,
    read: u64,
    tick: &'a mut dyn FnMut(u64),
}

impl<R: Read> Read for Hashed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        self.read += read as u64;
        (self.tick)(read as u64);
        Ok(read)
    }
}

/// Takes the files of an archive.
pub trait Taker {
    /// What it is of; before the first file.
    fn begin(&mut self, head: &Head) -> Result<()>;
    /// A file, whose name [`place`] knows; where its bytes go, if anywhere.
    fn file(&mut self, name: &str, size: u64) -> Result<Option<File>>;
}

/// Reads an archive from its beginning to its end and hands its files to `taker`. When this has not failed, the archive
/// is whole, and every file is what was backed up. It may come from anybody: what is in it is believed only so far.
pub fn read(input: impl Read, taker: &mut dyn Taker) -> Result<(Head, Sum)> {
    const CUT_OFF: &str = "the archive is cut off or damaged";
    let mut decoder = zstd::Decoder::new(input).context(CUT_OFF)?.single_frame();
    decoder.window_log_max(WINDOW)?;
    let mut archive = tar::Archive::new(decoder);
    let (mut head, mut sum, mut listed) = (None, Sum::default(), false);
    // Databases that are still to come.
    let mut awaited: BTreeSet<String> = BTreeSet::new();
    // A few bytes of each file's line, in their order: names and hashes of a million files would be much to hold.
    let mut lines: Vec<[u8; 16]> = Vec::new();
    let mut long_name: Option<String> = None;
    let mut buffer = vec![0; CHUNK];
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry.context(CUT_OFF)?;
        let (kind, size) = (entry.header().entry_type(), entry.size());
        if kind.is_gnu_longname() {
            ensure!(long_name.is_none() && size <= MAX_NAME as u64 + 1, "the archive has a name that is too long");
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).context(CUT_OFF)?;
            let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
            bytes.truncate(end);
            long_name = Some(String::from_utf8(bytes).context("the archive has a name that cannot be read")?);
            continue;
        }
        let name = match long_name.take() {
            Some(name) => name,
            None => String::from_utf8(entry.header().path_bytes().into_owned())
                .context("the archive has a name that cannot be read")?,
        };
        ensure!(kind.is_file(), "the archive has {name:?}, which is no plain file");
        ensure!(!listed, "the archive has {name:?} behind its end");
        if head.is_none() {
            ensure!(name == HEAD && size <= MAX_HEAD, "this is no backup of Aegis");
            let mut text = Vec::new();
            entry.read_to_end(&mut text).context(CUT_OFF)?;
            let read = whole_head(&text)?;
            taker.begin(&read)?;
            ensure_complete(&read)?;
            awaited = Role::SERVICES.into_iter().map(database_name).collect();
            head = Some(read);
            continue;
        }
        if name == LIST {
            check_list(entry, &lines)?;
            listed = true;
            continue;
        }
        ensure!(place(&name).is_some(), "the archive has {name:?}, which belongs to no backup");
        awaited.remove(&name);
        let file = taker.file(&name, size)?;
        let sha256 = copy(&mut entry, size, file, &mut buffer)
            .with_context(|| format!("{name}: {CUT_OFF}, or cannot be written"))?;
        sum.add(&name, size);
        lines.push(digest(&Line { path: name, size, sha256 })?);
    }
    // To the end, where the checksum of the whole is.
    let behind = io::copy(&mut archive.into_inner().take(MAX_HEAD), &mut io::sink()).context(CUT_OFF)?;
    ensure!(listed && behind < MAX_HEAD, CUT_OFF);
    if let Some(name) = awaited.first() {
        bail!("{name} is not in the backup");
    }
    match head {
        Some(head) => Ok((head, sum)),
        None => bail!("this is no backup of Aegis"),
    }
}

fn whole_head(text: &[u8]) -> Result<Head> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
        version: String,
    }
    let Format { format, version } = serde_json::from_slice(text).context("this is no backup of Aegis")?;
    ensure!(
        format <= FORMAT,
        "the backup is of Aegis {}, in a form that this version ({}) does not know: use that one or a newer",
        shown(&version),
        env!("CARGO_PKG_VERSION")
    );
    serde_json::from_slice(text).context("the head of the archive is damaged")
}

/// A text of an archive, for people.
pub fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(40).collect()
}

fn copy(entry: &mut impl Read, size: u64, mut file: Option<File>, buffer: &mut [u8]) -> io::Result<String> {
    let (mut hash, mut read) = (Sha256::new(), 0);
    loop {
        let count = entry.read(buffer)?;
        if count == 0 {
            break;
        }
        hash.update(&buffer[..count]);
        read += count as u64;
        if let Some(file) = &mut file {
            file.write_all(&buffer[..count])?;
        }
    }
    if read != size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(hex::encode(hash.finalize()))
}

/// Compares the list with what was read, line by line.
fn check_list(list: impl Read, lines: &[[u8; 16]]) -> Result<()> {
    let mut list = BufReader::with_capacity(CHUNK, list);
    let mut expected = lines.iter();
    loop {
        let mut text = Vec::new();
        let read =
            (&mut list).take(MAX_HEAD).read_until(b'\n', &mut text).context("the archive is cut off or damaged")?;
        if read == 0 {
            ensure!(expected.next().is_none(), "the archive has files that its list does not name");
            return Ok(());
        }
        let line: Line = serde_json::from_slice(&text).context("the list of the archive is damaged")?;
        match expected.next() {
            Some(was) if *was == digest(&line)? => {}
            Some(_) => {
                bail!("{} is not what was backed up: the archive is altered or damaged", line.path.escape_debug())
            }
            None => bail!("{} is missing from the archive", line.path.escape_debug()),
        }
    }
}

fn digest(line: &Line) -> Result<[u8; 16]> {
    let hash = Sha256::digest(serde_json::to_vec(line)?);
    let mut short = [0; 16];
    short.copy_from_slice(&hash[..16]);
    Ok(short)
}

/// Fails unless there is a database of every service: a product without one is none. All versions so far have had all.
pub fn ensure_complete(head: &Head) -> Result<()> {
    let lacking = Role::SERVICES.into_iter().map(Role::as_str).filter(|role| !head.databases.contains_key(*role));
    let lacking: Vec<&str> = lacking.collect();
    ensure!(lacking.is_empty(), "there is no database of {}", lacking.join(", "));
    Ok(())
}

/// The migrations of a backup that this program does not know, by service.
pub fn newer(head: &Head) -> Vec<String> {
    let unknown = |(service, versions): (&String, &Vec<i64>)| {
        let role = Role::SERVICES.into_iter().find(|role| role.as_str() == service)?;
        let known = known_migrations(role);
        versions.iter().any(|version| !known.contains(version)).then(|| service.clone())
    };
    head.databases.iter().filter_map(unknown).collect()
}

/// The versions of the migrations that this program has for a SQLite database.
pub fn known_migrations(role: Role) -> Vec<i64> {
    stores::migrations(role).iter().flat_map(|set| set.sqlite.iter().map(|one| one.version)).collect()
}

/// Opens an archive.
pub fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("cannot read {}", path.display()))
}
