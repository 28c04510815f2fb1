//! What an attacker changes.

use std::sync::{Arc, atomic::Ordering};

use chrono::Utc;

use super::{
    ALL, Change, Data, Errno, Kind, MAX_ALL, MAX_BYTES, MAX_CHANGES, MAX_PATH, Meta, Overlay, Result, Vfs, parent,
};

impl Vfs {
    fn special(path: &str) -> Option<Result<()>> {
        match path {
            "/dev/null" | "/dev/zero" | "/dev/tty" | "/dev/stdout" | "/dev/stderr" | "/dev/random" | "/dev/urandom" => {
                Some(Ok(()))
            }
            "/dev/full" => Some(Err(Errno::NoSpace)),
            _ if path.starts_with("/proc/") || path.starts_with("/sys/") => Some(Err(Errno::Denied)),
            _ => None,
        }
    }

    fn parent_writable(&self, overlay: &Overlay, path: &str) -> Result<()> {
        let parent = parent(path);
        let (meta, _) = self.node(overlay, parent).ok_or(Errno::NoEntry)?;
        if !meta.is_folder() {
            return Err(Errno::NotFolder);
        }
        if !self.allowed(&meta, 3) || path.starts_with("/proc") || path.starts_with("/sys") {
            return Err(Errno::Denied);
        }
        if overlay.changes.len() >= MAX_CHANGES {
            return Err(Errno::NoSpace);
        }
        Ok(())
    }

    fn put(&self, overlay: &mut Overlay, path: &str, meta: Meta, data: Data) {
        let opaque = match overlay.changes.get(path) {
            Some(Change::Gone) => true,
            Some(Change::Node { opaque, .. }) => *opaque,
            None => false,
        };
        self.forget(overlay, path);
        overlay.changes.insert(path.to_owned(), Change::Node { meta, data, opaque });
    }

    fn forget(&self, overlay: &mut Overlay, path: &str) {
        if let Some(Change::Node { data: Data::Bytes(bytes), .. }) = overlay.changes.remove(path) {
            overlay.bytes = overlay.bytes.saturating_sub(bytes.len());
            ALL.fetch_sub(bytes.len(), Ordering::Relaxed);
        }
    }

    /// Writes into a file at an offset (`None` for its end), making it when it is not there. What is too much to keep
    /// only counts.
    pub fn write(&self, cwd: &str, path: &str, offset: Option<u64>, bytes: &[u8]) -> Result<()> {
        let path = self.resolve(cwd, path, true)?;
        if let Some(result) = Vfs::special(&path) {
            return result;
        }
        let mut overlay = self.changes();
        let (mut meta, data) = match self.node(&overlay, &path) {
            Some((meta, _)) if meta.is_folder() => return Err(Errno::IsFolder),
            Some((meta, _)) if !self.allowed(&meta, 2) => return Err(Errno::Denied),
            Some((Meta { kind: Kind::Device(..), .. }, _)) => return Ok(()),
            Some(node) => node,
            None => {
                self.parent_writable(&overlay, &path)?;
                let meta = Meta { kind: Kind::File, mode: 0o644, uid: self.uid, gid: self.uid, size: 0, mtime: 0 };
                (meta, Data::Bytes(Arc::default()))
            }
        };
        if !overlay.changes.contains_key(&path) && overlay.changes.len() >= MAX_CHANGES {
            return Err(Errno::NoSpace);
        }
        let mut content = match data {
            Data::Bytes(bytes) => {
                // Taken out of the overlay first, so that a file that grows is not copied each time.
                self.forget(&mut overlay, &path);
                overlay
                    .changes
                    .insert(path.clone(), Change::Node { meta: meta.clone(), data: Data::Base, opaque: true });
                Arc::try_unwrap(bytes).unwrap_or_else(|shared| shared.to_vec())
            }
            Data::Base => {
                let entry = self.base(&path);
                drop(overlay);
                let content = entry.map(|entry| entry.read(self, &path, 0, 1 << 20)).unwrap_or_default();
                overlay = self.changes();
                content
            }
        };
        let at = offset.unwrap_or(meta.size);
        let end = at.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        let room = MAX_BYTES.saturating_sub(overlay.bytes).min(MAX_ALL.saturating_sub(ALL.load(Ordering::Relaxed)));
        if let (Ok(from), Ok(to)) = (usize::try_from(at), usize::try_from(end))
            && to <= room
        {
            if content.len() < to {
                content.resize(to, 0);
            }
            if let Some(place) = content.get_mut(from..to) {
                place.copy_from_slice(bytes);
            }
        }
        content.truncate(room);
        meta.size = meta.size.max(end);
        meta.mtime = Utc::now().timestamp();
        overlay.bytes += content.len();
        ALL.fetch_add(content.len(), Ordering::Relaxed);
        overlay.changes.insert(path, Change::Node { meta, data: Data::Bytes(Arc::new(content)), opaque: true });
        Ok(())
    }

    /// Makes a file empty, or makes an empty one. The path that it has.
    pub fn truncate(&self, cwd: &str, path: &str, size: u64) -> Result<String> {
        let path = self.resolve(cwd, path, true)?;
        if let Some(result) = Vfs::special(&path) {
            return result.map(|()| path);
        }
        let mut overlay = self.changes();
        let meta = match self.node(&overlay, &path) {
            Some((meta, _)) if meta.is_folder() => return Err(Errno::IsFolder),
            Some((meta, _)) if !self.allowed(&meta, 2) => return Err(Errno::Denied),
            Some((meta, data)) => {
                if size > 0 {
                    // Kept as far as it goes.
                    if let Data::Bytes(bytes) = data {
                        let kept = bytes.get(..usize::try_from(size).unwrap_or(usize::MAX).min(bytes.len()));
                        let kept = Arc::new(kept.unwrap_or_default().to_vec());
                        self.forget(&mut overlay, &path);
                        overlay.bytes += kept.len();
                        ALL.fetch_add(kept.len(), Ordering::Relaxed);
                        let meta = Meta { size, mtime: Utc::now().timestamp(), ..meta };
                        overlay
                            .changes
                            .insert(path.clone(), Change::Node { meta, data: Data::Bytes(kept), opaque: true });
                        return Ok(path);
                    }
                }
                meta
            }
            None => {
                self.parent_writable(&overlay, &path)?;
                Meta { kind: Kind::File, mode: 0o644, uid: self.uid, gid: self.uid, size: 0, mtime: 0 }
            }
        };
        let meta = Meta { size, mtime: Utc::now().timestamp(), ..meta };
        self.put(&mut overlay, &path, meta, Data::Bytes(Arc::default()));
        Ok(path)
    }

    /// Makes a folder.
    pub fn make_folder(&self, cwd: &str, path: &str, mode: u32) -> Result<()> {
        let path = self.resolve(cwd, path.trim_end_matches('/'), true)?;
        let mut overlay = self.changes();
        if self.node(&overlay, &path).is_some() {
            return Err(Errno::Exists);
        }
        self.parent_writable(&overlay, &path)?;
        let meta = Meta {
            kind: Kind::Folder,
            mode: mode & 0o7777,
            uid: self.uid,
            gid: self.uid,
            size: 4096,
            mtime: Utc::now().timestamp(),
        };
        self.put(&mut overlay, &path, meta, Data::Base);
        Ok(())
    }

    /// Makes a symbolic link.
    pub fn link(&self, cwd: &str, path: &str, target: &str) -> Result<()> {
        let path = self.resolve(cwd, path, false)?;
        let mut overlay = self.changes();
        if self.node(&overlay, &path).is_some() {
            return Err(Errno::Exists);
        }
        self.parent_writable(&overlay, &path)?;
        let meta = Meta {
            kind: Kind::Link(target.chars().take(MAX_PATH).collect()),
            mode: 0o777,
            uid: self.uid,
            gid: self.uid,
            size: u64::try_from(target.len()).unwrap_or(0),
            mtime: Utc::now().timestamp(),
        };
        self.put(&mut overlay, &path, meta, Data::Base);
        Ok(())
    }

    /// Removes a file, or an empty folder when `folder`, or all that is below when `all`.
    pub fn remove(&self, cwd: &str, path: &str, folder: bool, all: bool) -> Result<()> {
        let path = self.resolve(cwd, path, false)?;
        let mut overlay = self.changes();
        let (meta, _) = self.node(&overlay, &path).ok_or(Errno::NoEntry)?;
        if path == "/" {
            return Err(Errno::NotPermitted);
        }
        if meta.is_folder() {
            if !folder && !all {
                return Err(Errno::IsFolder);
            }
            if !all && !self.names(&overlay, &path).is_empty() {
                return Err(Errno::NotEmpty);
            }
        } else if folder && !all {
            return Err(Errno::NotFolder);
        }
        self.parent_writable(&overlay, &path)?;
        let below = format!("{path}/");
        let gone: Vec<String> = overlay
            .changes
            .range(below.clone()..)
            .map(|(path, _)| path.clone())
            .take_while(|path| path.starts_with(&below))
            .collect();
        for path in gone {
            self.forget(&mut overlay, &path);
        }
        self.forget(&mut overlay, &path);
        overlay.changes.insert(path, Change::Gone);
        Ok(())
    }

    /// Moves a file or folder.
    pub fn rename(&self, cwd: &str, from: &str, to: &str) -> Result<()> {
        let from = self.resolve(cwd, from, false)?;
        let to = self.resolve(cwd, to, false)?;
        if to.starts_with(&format!("{from}/")) {
            return Err(Errno::Invalid);
        }
        if from == to {
            return Ok(());
        }
        {
            let overlay = self.changes();
            let (meta, _) = self.node(&overlay, &from).ok_or(Errno::NoEntry)?;
            self.parent_writable(&overlay, &from)?;
            self.parent_writable(&overlay, &to)?;
            match self.node(&overlay, &to) {
                Some((there, _)) if there.is_folder() && !meta.is_folder() => return Err(Errno::IsFolder),
                Some((there, _)) if !there.is_folder() && meta.is_folder() => return Err(Errno::NotFolder),
                Some((there, _)) if there.is_folder() && !self.names(&overlay, &to).is_empty() => {
                    return Err(Errno::NotEmpty);
                }
                _ => {}
            }
        }
        self.copy_all(&from, &to, 0)?;
        self.remove("/", &from, false, true)
    }

    fn copy_all(&self, from: &str, to: &str, depth: usize) -> Result<()> {
        if depth > 16 {
            return Err(Errno::Loop);
        }
        let (meta, data) = self.node(&self.changes(), from).ok_or(Errno::NoEntry)?;
        let data = match (&meta.kind, data) {
            (Kind::File, Data::Base) => {
                let bytes = self.base(from).map(|entry| entry.read(self, from, 0, 1 << 20)).unwrap_or_default();
                Data::Bytes(Arc::new(bytes))
            }
            (_, data) => data,
        };
        let folder = meta.is_folder();
        {
            let mut overlay = self.changes();
            if overlay.changes.len() >= MAX_CHANGES {
                return Err(Errno::NoSpace);
            }
            if let Data::Bytes(bytes) = &data {
                overlay.bytes += bytes.len();
                ALL.fetch_add(bytes.len(), Ordering::Relaxed);
            }
            self.put(&mut overlay, to, meta, data);
        }
        if folder {
            let names = self.names(&self.changes(), from);
            for name in names {
                self.copy_all(&format!("{from}/{name}"), &format!("{to}/{name}"), depth + 1)?;
            }
        }
        Ok(())
    }

    /// Changes what is known of a path.
    pub fn change(&self, cwd: &str, path: &str, with: impl FnOnce(&mut Meta)) -> Result<()> {
        let path = self.resolve(cwd, path, true)?;
        let mut overlay = self.changes();
        let (mut meta, data) = self.node(&overlay, &path).ok_or(Errno::NoEntry)?;
        if path.starts_with("/proc") || path.starts_with("/sys") {
            return Err(Errno::NotPermitted);
        }
        if self.uid != 0 && meta.uid != self.uid && !self.windows() {
            return Err(Errno::NotPermitted);
        }
        if overlay.changes.len() >= MAX_CHANGES && !overlay.changes.contains_key(&path) {
            return Err(Errno::NoSpace);
        }
        let kept = match &data {
            Data::Bytes(bytes) => bytes.len(),
            Data::Base => 0,
        };
        with(&mut meta);
        overlay.bytes += kept;
        ALL.fetch_add(kept, Ordering::Relaxed);
        self.put(&mut overlay, &path, meta, data);
        Ok(())
    }
}
