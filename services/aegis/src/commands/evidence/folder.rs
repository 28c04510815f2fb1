//! The files of a folder against those that a manifest names.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use indicatif::ProgressBar;
use sha2::{Digest, Sha256};

use super::manifest::Listed;

/// Bytes that are read at once.
const BLOCK: usize = 1024 * 1024;
/// Most entries of a folder that are looked at.
const MAX_ENTRIES: usize = 1_000_000;
/// Most files that are named which the manifest has not.
const MAX_EXTRA: usize = 100;

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// One of each file of the manifest, in its order.
    pub files: Vec<Checked>,
    /// Files of the folder that it does not name, the first hundred.
    pub extra: Vec<String>,
    /// How many more of those there are.
    pub unnamed: usize,
}

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    pub status: Status,
    /// Under which name.
    pub found_as: Option<String>,
    /// What is wrong; empty where nothing is.
    pub problem: String,
}

/// See [`Checked`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Its bytes are those that were brought.
    Ok,
    /// There is a file of its name with other bytes.
    Altered,
    /// There is none.
    Missing,
}

impl Status {
    /// As it is told.
    pub fn name(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Altered => "altered",
            Status::Missing => "missing",
        }
    }
}

impl Checked {
    fn ok(name: &str) -> Checked {
        Checked { status: Status::Ok, found_as: Some(name.to_owned()), problem: String::new() }
    }

    fn altered(name: &str, problem: String) -> Checked {
        Checked { status: Status::Altered, found_as: Some(name.to_owned()), problem }
    }

    fn missing(problem: &str) -> Checked {
        Checked { status: Status::Missing, found_as: None, problem: problem.to_owned() }
    }
}

/// Looks for every file of the manifest in the folder itself, not below it. By its name; where the manifest names
/// several files alike, which cannot lie side by side under that name, by their hashes. `own` are files that may lie
/// there besides: the manifest, say.
pub fn compare(listed: &[Listed], folder: &Path, own: &[PathBuf], bar: &ProgressBar) -> Result<Found> {
    let mut here = Folder::open(folder, own)?;
    let mut alike: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, file) in listed.iter().enumerate() {
        alike.entry(&file.file_name).or_default().push(at);
    }
    bar.set_length(listed.iter().map(|file| file.size_bytes).sum());
    let mut checked = vec![Checked::missing(""); listed.len()];
    // Names that are clear come first: their files are no candidates for the others.
    for at in alike.values().filter(|all| all.len() == 1).flatten() {
        checked[*at] = here.by_name(&listed[*at], bar)?;
    }
    for all in alike.values().filter(|all| all.len() > 1) {
        for at in all {
            checked[*at] = here.by_hash(&listed[*at], bar)?;
        }
        // A file of that name which is none of them was one of them.
        let name = listed[all[0]].file_name.as_str();
        let lost = all.iter().find(|at| checked[**at].status == Status::Missing);
        if let Some(at) = lost.filter(|_| here.take(name)) {
            checked[*at] = Checked::altered(name, "its bytes are those of no file of this name".to_owned());
        }
    }
    let mut extra = here.rest();
    let unnamed = extra.len().saturating_sub(MAX_EXTRA);
    extra.truncate(MAX_EXTRA);
    Ok(Found { files: checked, extra, unnamed })
}

/// What lies in a folder.
struct Folder {
    path: PathBuf,
    /// Names of files, with their sizes.
    files: BTreeMap<String, u64>,
    /// Names of all else.
    others: HashSet<String>,
    /// Files that are accounted for.
    taken: HashSet<String>,
    /// Hashes that were made already.
    hashes: HashMap<String, String>,
}

impl Folder {
    fn open(path: &Path, own: &[PathBuf]) -> Result<Folder> {
        let cannot = || format!("cannot read the folder {}: give the folder with the files", path.display());
        let entries = fs::read_dir(path).with_context(cannot)?;
        let (mut files, mut others) = (BTreeMap::new(), HashSet::new());
        for (count, entry) in entries.enumerate() {
            ensure!(count < MAX_ENTRIES, "{} has more than {MAX_ENTRIES} files", path.display());
            let entry = entry.with_context(cannot)?;
            // A name that is not UTF-8 is none that a manifest has.
            let name = entry.file_name().to_string_lossy().into_owned();
            // Not through links: they lead anywhere, and pipes and devices have no end.
            let meta = entry.metadata().with_context(cannot)?;
            if !meta.is_file() {
                others.insert(name);
            } else if !entry.path().canonicalize().is_ok_and(|real| own.contains(&real)) {
                files.insert(name, meta.len());
            }
        }
        Ok(Folder { path: path.to_owned(), files, others, taken: HashSet::new(), hashes: HashMap::new() })
    }

    /// Accounts for a file, if it is there and free.
    fn take(&mut self, name: &str) -> bool {
        self.files.contains_key(name) && self.taken.insert(name.to_owned())
    }

    fn by_name(&mut self, file: &Listed, bar: &ProgressBar) -> Result<Checked> {
        let name = file.file_name.as_str();
        let Some(size) = self.files.get(name).copied() else {
            bar.inc(file.size_bytes);
            let other = self.others.contains(name);
            return Ok(Checked::missing(if other {
                "what has its name is no file"
            } else {
                "it is not in the folder"
            }));
        };
        self.take(name);
        if size != file.size_bytes {
            bar.inc(file.size_bytes);
            return Ok(Checked::altered(name, format!("it has {size} bytes, not {}", file.size_bytes)));
        }
        match self.hash(name, bar)? == file.sha256 {
            true => Ok(Checked::ok(name)),
            false => Ok(Checked::altered(name, "its bytes are others".to_owned())),
        }
    }

    fn by_hash(&mut self, file: &Listed, bar: &ProgressBar) -> Result<Checked> {
        let free = |(name, size): &(&String, &u64)| **size == file.size_bytes && !self.taken.contains(*name);
        let candidates: Vec<String> = self.files.iter().filter(free).map(|(name, _)| name.clone()).collect();
        for name in candidates {
            if self.hash(&name, bar)? == file.sha256 {
                self.take(&name);
                return Ok(Checked::ok(&name));
            }
        }
        Ok(Checked::missing("several files have its name, and none in the folder has its bytes"))
    }

    /// The hash of a file, made once.
    fn hash(&mut self, name: &str, bar: &ProgressBar) -> Result<String> {
        if let Some(hash) = self.hashes.get(name) {
            return Ok(hash.clone());
        }
        bar.set_message(super::shown(name));
        let hash = hash(&self.path.join(name), bar).with_context(|| format!("cannot read {}", super::shown(name)))?;
        self.hashes.insert(name.to_owned(), hash.clone());
        Ok(hash)
    }

    /// Files that nobody accounted for.
    fn rest(self) -> Vec<String> {
        self.files.into_keys().filter(|name| !self.taken.contains(name)).collect()
    }
}

fn hash(path: &Path, bar: &ProgressBar) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut block = vec![0; BLOCK];
    loop {
        let read = file.read(&mut block)?;
        if read == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        hash.update(&block[..read]);
        bar.inc(read as u64);
    }
}
