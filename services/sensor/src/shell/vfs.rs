//! The files of a machine as one attacker sees them: what the machine has, and over it what the attacker changed.

mod change;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{Family, Machine, User, accounts, content, person, tree};

/// Contents that one attacker can keep on one machine; of what is more only the size is known.
const MAX_BYTES: usize = 8 << 20;
/// Contents of all attackers on all machines.
const MAX_ALL: usize = 192 << 20;
/// Changes that one attacker can make on one machine.
const MAX_CHANGES: usize = 4096;
/// Longest path.
const MAX_PATH: usize = 4096;
/// Most parts of a path, and links that are followed.
const MAX_PARTS: usize = 64;
const MAX_LINKS: usize = 16;

/// Bytes that all overlays keep.
static ALL: AtomicUsize = AtomicUsize::new(0);

/// Why something could not be done with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "their meaning is their text")]
pub enum Errno {
    NoEntry,
    Denied,
    NotPermitted,
    NotFolder,
    IsFolder,
    Exists,
    NotEmpty,
    Invalid,
    Loop,
    NoSpace,
    TooLong,
}

impl Errno {
    /// As libc says it.
    pub fn text(self) -> &'static str {
        match self {
            Errno::NoEntry => "No such file or directory",
            Errno::Denied => "Permission denied",
            Errno::NotPermitted => "Operation not permitted",
            Errno::NotFolder => "Not a directory",
            Errno::IsFolder => "Is a directory",
            Errno::Exists => "File exists",
            Errno::NotEmpty => "Directory not empty",
            Errno::Invalid => "Invalid argument",
            Errno::Loop => "Too many levels of symbolic links",
            Errno::NoSpace => "No space left on device",
            Errno::TooLong => "File name too long",
        }
    }
}

/// What a path is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link and where it leads.
    Link(String),
    /// A device with its numbers.
    Device(u32, u32),
}

/// What is known of a path.
#[derive(Clone, Debug)]
pub struct Meta {
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// When it was changed last, seconds since 1970.
    pub mtime: i64,
}

impl Meta {
    /// Whether it is a folder.
    pub fn is_folder(&self) -> bool {
        self.kind == Kind::Folder
    }

    /// Mode with the type, as stat has it.
    pub fn full_mode(&self) -> u32 {
        self.mode
            | match self.kind {
                Kind::File => 0o100_000,
                Kind::Folder => 0o040_000,
                Kind::Link(_) => 0o120_000,
                Kind::Device(..) => 0o020_000,
            }
    }

    /// As `ls -l` begins its line.
    pub fn mode_text(&self) -> String {
        let mut text = String::with_capacity(10);
        text.push(match self.kind {
            Kind::File => '-',
            Kind::Folder => 'd',
            Kind::Link(_) => 'l',
            Kind::Device(8 | 252..=254, _) => 'b',
            Kind::Device(..) => 'c',
        });
        for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
            let bits = self.mode >> shift;
            text.push(if bits & 4 != 0 { 'r' } else { '-' });
            text.push(if bits & 2 != 0 { 'w' } else { '-' });
            text.push(match (bits & 1 != 0, self.mode & special != 0) {
                (true, true) => letter,
                (false, true) => letter.to_ascii_uppercase(),
                (true, false) => 'x',
                (false, false) => '-',
            });
        }
        text
    }
}

/// What an attacker changed on a machine.
#[derive(Default)]
pub struct Overlay {
    changes: BTreeMap<String, Change>,
    bytes: usize,
    users: Vec<User>,
}

impl Drop for Overlay {
    fn drop(&mut self) {
        ALL.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

enum Change {
    Gone,
    Node { meta: Meta, data: Data, opaque: bool },
}

/// What is in a file.
#[derive(Clone)]
enum Data {
    /// What the machine has at this path.
    Base,
    /// These bytes; the size can be more.
    Bytes(Arc<Vec<u8>>),
}

/// Files as one attacker sees them, under one user id.
#[derive(Clone)]
pub struct Vfs {
    machine: Arc<Machine>,
    overlay: Arc<Mutex<Overlay>>,
    /// Who looks.
    pub uid: u32,
}

type Result<T> = std::result::Result<T, Errno>;

impl Vfs {
    pub(super) fn new(machine: Arc<Machine>, overlay: Arc<Mutex<Overlay>>) -> Vfs {
        Vfs { machine, overlay, uid: 0 }
    }

    /// The machine.
    pub fn machine(&self) -> &Arc<Machine> {
        &self.machine
    }

    fn changes(&self) -> MutexGuard<'_, Overlay> {
        self.overlay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All accounts, with those that this attacker's logins showed to exist.
    pub fn users(&self) -> Vec<User> {
        let mut users = self.machine.users().to_vec();
        users.extend(self.changes().users.iter().cloned());
        users
    }

    /// The account of this name.
    pub fn user(&self, name: &str) -> Option<User> {
        let users = self.users();
        if self.windows() {
            return users.into_iter().find(|user| user.name.eq_ignore_ascii_case(name));
        }
        accounts::by_name(&self.machine, &users, name)
    }

    /// The name of a user id.
    pub fn user_name(&self, uid: u32) -> String {
        accounts::by_uid(&self.machine, &self.users(), uid).map_or_else(|| uid.to_string(), |user| user.name)
    }

    /// The name of a group id.
    pub fn group_name(&self, gid: u32) -> String {
        accounts::group_name(&self.machine, &self.users(), gid).unwrap_or_else(|| gid.to_string())
    }

    /// The account of somebody who logged in: one that was not known is there from now on.
    pub fn login(&self, name: &str) -> User {
        if let Some(user) = self.user(name) {
            return user;
        }
        let facts = self.machine.facts();
        let mut name: String =
            name.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).take(32).collect();
        if name.is_empty() {
            name = "user".to_owned();
        }
        let users = self.users();
        let last = users.iter().map(|user| user.uid).filter(|uid| *uid < 60_000).max().unwrap_or(0);
        let mut uid = (last + 1).max(facts.first_uid);
        // What the system or a daemon brought may have it already.
        while accounts::by_uid(&self.machine, &users, uid).is_some() {
            uid += 1;
        }
        let user = person(facts, &name, "", uid);
        let mut overlay = self.changes();
        if overlay.users.len() < 32 && !overlay.users.iter().any(|known| known.name == user.name) {
            overlay.users.push(user.clone());
            let made = self.machine.installed_at().timestamp();
            overlay.changes.insert(
                user.home.clone(),
                Change::Node {
                    meta: Meta {
                        kind: Kind::Folder,
                        mode: 0o755,
                        uid: user.uid,
                        gid: user.uid,
                        size: 4096,
                        mtime: made + 600,
                    },
                    data: Data::Base,
                    opaque: false,
                },
            );
        }
        user
    }

    /// Whether names are equal without regard to case.
    pub fn windows(&self) -> bool {
        self.machine.facts().family == Family::Windows
    }

    fn base(&self, path: &str) -> Option<tree::Entry> {
        self.machine.own().get(path).or_else(|| tree::base(self.machine.persona().os).get(path)).cloned()
    }

    /// What is at this exact path, links not followed.
    fn node(&self, overlay: &Overlay, path: &str) -> Option<(Meta, Data)> {
        match overlay.changes.get(path) {
            Some(Change::Gone) => None,
            Some(Change::Node { meta, data, .. }) => Some((meta.clone(), data.clone())),
            None => {
                if hidden(overlay, path) {
                    return None;
                }
                let entry = self.base(path)?;
                Some((entry.meta(&self.machine, &overlay.users, path), Data::Base))
            }
        }
    }

    fn allowed(&self, meta: &Meta, bits: u32) -> bool {
        if self.uid == 0 || self.windows() {
            return true;
        }
        let mode = if meta.uid == self.uid {
            meta.mode >> 6
        } else if meta.gid == self.uid {
            meta.mode >> 3
        } else {
            meta.mode
        };
        mode & bits == bits
    }

    /// The path that this leads to, with links followed: up to the last part, and that too when `follow`. The last part
    /// need not be there.
    pub fn resolve(&self, cwd: &str, path: &str, follow: bool) -> Result<String> {
        if path.len() > MAX_PATH {
            return Err(Errno::TooLong);
        }
        let overlay = self.changes();
        let mut todo: Vec<String> = split(path);
        let mut done: Vec<String> = if path.starts_with('/') { Vec::new() } else { split(cwd) };
        todo.reverse();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            if todo.len() + done.len() > MAX_PARTS {
                return Err(Errno::TooLong);
            }
            match part.as_str() {
                "." => continue,
                ".." => {
                    done.pop();
                    continue;
                }
                _ => {}
            }
            if part.len() > 255 {
                return Err(Errno::TooLong);
            }
            let folder = join(&done);
            match self.node(&overlay, &folder) {
                None => return Err(Errno::NoEntry),
                Some((meta, _)) if !meta.is_folder() => return Err(Errno::NotFolder),
                Some((meta, _)) if !self.allowed(&meta, 1) => return Err(Errno::Denied),
                Some(_) => {}
            }
            let part = if self.windows() {
                self.names(&overlay, &folder).into_iter().find(|name| name.eq_ignore_ascii_case(&part)).unwrap_or(part)
            } else {
                part
            };
            done.push(part);
            let here = join(&done);
            if !todo.is_empty() || follow {
                if let Some((Meta { kind: Kind::Link(target), .. }, _)) = self.node(&overlay, &here) {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Errno::Loop);
                    }
                    done.pop();
                    if target.starts_with('/') {
                        done.clear();
                    }
                    todo.extend(split(&target).into_iter().rev());
                } else if !todo.is_empty() && self.node(&overlay, &here).is_none() {
                    return Err(Errno::NoEntry);
                }
            }
        }
        let whole = join(&done);
        if path.ends_with('/')
            && let Some((meta, _)) = self.node(&overlay, &whole)
            && !meta.is_folder()
        {
            return Err(Errno::NotFolder);
        }
        Ok(whole)
    }

    /// What is at a path.
    pub fn stat(&self, cwd: &str, path: &str, follow: bool) -> Result<(String, Meta)> {
        let path = self.resolve(cwd, path, follow)?;
        let node = self.node(&self.changes(), &path).ok_or(Errno::NoEntry)?;
        Ok((path, node.0))
    }

    fn names(&self, overlay: &Overlay, folder: &str) -> BTreeSet<String> {
        let prefix = if folder == "/" { "/".to_owned() } else { format!("{folder}/") };
        let mut names = BTreeSet::new();
        let opaque = hidden(overlay, folder)
            || matches!(overlay.changes.get(folder), Some(Change::Gone | Change::Node { opaque: true, .. }));
        if !opaque {
            for tree in [self.machine.own().entries(), tree::base(self.machine.persona().os).entries()] {
                for path in
                    tree.range(prefix.clone()..).map(|(path, _)| path).take_while(|path| path.starts_with(&prefix))
                {
                    if let Some(rest) = path.get(prefix.len()..)
                        && !rest.is_empty()
                        && !rest.contains('/')
                    {
                        names.insert(rest.to_owned());
                    }
                }
            }
        }
        for (path, change) in overlay.changes.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix))
        {
            let Some(rest) = path.get(prefix.len()..) else { continue };
            if rest.is_empty() || rest.contains('/') {
                continue;
            }
            match change {
                Change::Gone => names.remove(rest),
                Change::Node { .. } => names.insert(rest.to_owned()),
            };
        }
        names
    }

    /// What is in a folder, by name.
    pub fn list(&self, cwd: &str, path: &str) -> Result<Vec<(String, Meta)>> {
        let path = self.resolve(cwd, path, true)?;
        let overlay = self.changes();
        let (meta, _) = self.node(&overlay, &path).ok_or(Errno::NoEntry)?;
        if !meta.is_folder() {
            return Err(Errno::NotFolder);
        }
        if !self.allowed(&meta, 4) {
            return Err(Errno::Denied);
        }
        let prefix = if path == "/" { "/".to_owned() } else { format!("{path}/") };
        Ok(self
            .names(&overlay, &path)
            .into_iter()
            .filter_map(|name| {
                let (meta, _) = self.node(&overlay, &format!("{prefix}{name}"))?;
                Some((name, meta))
            })
            .collect())
    }

    /// Waits until what is at this path can be read: to be called before it is read or copied, where that can wait.
    pub async fn settle(&self, cwd: &str, path: &str) {
        if let Ok(path) = self.resolve(cwd, path, true) {
            content::settle(&self.machine, &path).await;
        }
    }

    /// What is in a file, up to so many bytes.
    pub fn read(&self, cwd: &str, path: &str, most: usize) -> Result<Vec<u8>> {
        let path = self.resolve(cwd, path, true)?;
        self.read_at(&path, 0, most)
    }

    /// A part of a file.
    pub fn read_at(&self, path: &str, offset: u64, most: usize) -> Result<Vec<u8>> {
        let (meta, data) = self.node(&self.changes(), path).ok_or(Errno::NoEntry)?;
        if meta.is_folder() {
            return Err(Errno::IsFolder);
        }
        if !self.allowed(&meta, 4) {
            return Err(Errno::Denied);
        }
        match data {
            Data::Base => {
                let entry = self.base(path).ok_or(Errno::NoEntry)?;
                Ok(entry.read(self, path, offset, most))
            }
            Data::Bytes(bytes) => {
                let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                let kept = bytes.get(from..).unwrap_or_default();
                let mut part = kept.get(..most.min(kept.len())).unwrap_or_default().to_vec();
                // What was too much to keep reads as zeros.
                let whole = usize::try_from(meta.size.saturating_sub(offset)).unwrap_or(usize::MAX).min(most);
                part.resize(whole.max(part.len()), 0);
                Ok(part)
            }
        }
    }

    /// Whether a file is as the machine had it from the beginning.
    pub fn pristine(&self, path: &str) -> bool {
        matches!(self.node(&self.changes(), path), Some((_, Data::Base)))
    }
}

/// Whether what the machine has at this path is out of sight because something above it was removed or replaced.
fn hidden(overlay: &Overlay, path: &str) -> bool {
    if overlay.changes.is_empty() {
        return false;
    }
    let mut above = parent(path);
    loop {
        if let Some(Change::Gone | Change::Node { opaque: true, .. }) = overlay.changes.get(above) {
            return true;
        }
        if above == "/" {
            return false;
        }
        above = parent(above);
    }
}

/// The folder that a path is in.
pub fn parent(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(at) => path.get(..at).unwrap_or("/"),
    }
}

/// The last part of a path.
pub fn name(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or("")
}

fn split(path: &str) -> Vec<String> {
    path.split('/').filter(|part| !part.is_empty()).take(MAX_PARTS + 1).map(str::to_owned).collect()
}

fn join(parts: &[String]) -> String {
    if parts.is_empty() { "/".to_owned() } else { format!("/{}", parts.join("/")) }
}
