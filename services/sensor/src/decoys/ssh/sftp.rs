//! sftp: the files of the believable machine, as sftp-server shows them.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, Utc};
use russh::{Channel, server::Msg};
use russh_sftp::{
    protocol::{Attrs, Data, File, FileAttributes, Handle, Name, OpenFlags, Packet, Status, StatusCode, Version},
    server::{Config, Handler, StatusReply},
};
use tokio::io::AsyncReadExt;

use crate::{
    session::{Capture, EventType, Session, escaped},
    shell::{
        Machine,
        vfs::{Errno, Kind, Meta, Vfs, name},
    },
};

/// Open files and folders of one session.
const MAX_HANDLES: usize = 100;
/// Most of one read.
const MAX_READ: u32 = 255 << 10;
/// Entries of one answer to readdir.
const MAX_NAMES: usize = 100;

/// Serves the subsystem on a channel until the client leaves.
pub async fn serve(channel: Channel<Msg>, session: &Session, machine: &Arc<Machine>, user: &str) {
    let mut files = machine.files(session.peer().ip());
    let user = files.login(user);
    files.uid = user.uid;
    let handler = Sftp { files, home: user.home, session: session.clone(), open: HashMap::new(), next: 0 };
    // The library's own loop never ends on some faults; a pipe that ends when the channel does keeps it bounded.
    let (inside, outside) = tokio::io::duplex(256 << 10);
    russh_sftp::server::run_with_config(inside, handler, Config { max_client_packet_len: 256 << 10 }).await;
    let (mut pipe_read, mut pipe_write) = tokio::io::split(outside);
    let (mut read, write) = channel.split();
    let mut out = Box::pin(write.make_writer());
    let inward = async {
        while let Some(message) = read.wait().await {
            match message {
                russh::ChannelMsg::Data { data } => {
                    let passed_on = tokio::io::AsyncWriteExt::write_all(&mut pipe_write, &data).await;
                    if passed_on.is_err() {
                        break;
                    }
                }
                russh::ChannelMsg::Eof | russh::ChannelMsg::Close => break,
                _ => {}
            }
        }
        let _ = tokio::io::AsyncWriteExt::shutdown(&mut pipe_write).await;
    };
    let outward = async {
        let mut buffer = vec![0; 32 << 10];
        while let Ok(count) = pipe_read.read(&mut buffer).await {
            let part = buffer.get(..count).unwrap_or_default();
            if count == 0 || tokio::io::AsyncWriteExt::write_all(&mut out, part).await.is_err() {
                break;
            }
        }
    };
    tokio::join!(inward, outward);
    let _ = write.exit_status(0).await;
    let _ = write.eof().await;
    let _ = write.close().await;
}

#[allow(clippy::large_enum_variant, reason = "a few at a time, and most are files")]
enum Open {
    Folder(Vec<File>),
    File { path: String, append: bool, capture: Option<Capture>, captured: u64, written: bool },
}

struct Sftp {
    files: Vfs,
    home: String,
    session: Session,
    open: HashMap<String, Open>,
    next: u32,
}

fn failure(errno: Errno) -> StatusReply {
    match errno {
        Errno::NoEntry | Errno::NotFolder | Errno::Loop => StatusReply::new(StatusCode::NoSuchFile),
        Errno::Denied | Errno::NotPermitted => StatusReply::new(StatusCode::PermissionDenied),
        _ => StatusReply::new(StatusCode::Failure),
    }
    .with_language_tag("")
}

fn ok(id: u32) -> Status {
    Status { id, status_code: StatusCode::Ok, error_message: "Success".to_owned(), language_tag: String::new() }
}

fn attributes(meta: &Meta) -> FileAttributes {
    let time = u32::try_from(meta.mtime).unwrap_or(0);
    FileAttributes {
        size: Some(meta.size),
        uid: Some(meta.uid),
        gid: Some(meta.gid),
        permissions: Some(meta.full_mode()),
        atime: Some(time),
        mtime: Some(time),
        ..FileAttributes::default()
    }
}

impl Sftp {
    /// A path as the client means it; on Windows with its drive.
    fn path(&self, path: &str) -> String {
        if !self.files.windows() {
            return path.to_owned();
        }
        let path = path.replace('\\', "/");
        let trimmed = path.trim_start_matches('/');
        match trimmed.get(..2) {
            Some(drive) if drive.eq_ignore_ascii_case("c:") => {
                format!("/{}", trimmed.get(2..).unwrap_or("").trim_start_matches('/'))
            }
            _ => path,
        }
    }

    fn told(&self, what: &str, path: &str) {
        let command = format!("sftp {what} {}", escaped(path.as_bytes(), 1024));
        self.session.emit(
            EventType::Command,
            command.clone(),
            &[("command", &command), ("cwd", &self.home), ("exit_code", "0")],
        );
    }

    fn handle(&mut self, open: Open, id: u32) -> Result<Handle, StatusReply> {
        if self.open.len() >= MAX_HANDLES {
            return Err(StatusReply::new(StatusCode::Failure));
        }
        // As sftp-server counts them: four bytes.
        let handle = String::from_utf8_lossy(&self.next.to_be_bytes().map(|byte| byte & 0x7f)).into_owned();
        self.next += 1;
        self.open.insert(handle.clone(), open);
        Ok(Handle { id, handle })
    }

    fn attributes_of(&self, id: u32, path: &str, follow: bool) -> Result<Attrs, StatusReply> {
        let (_, meta) = self.files.stat(&self.home, &self.path(path), follow).map_err(failure)?;
        Ok(Attrs { id, attrs: attributes(&meta) })
    }

    fn change(&self, id: u32, path: &str, attrs: &FileAttributes) -> Result<Status, StatusReply> {
        if let Some(size) = attrs.size {
            self.files.truncate(&self.home, path, size).map_err(failure)?;
        }
        self.files
            .change(&self.home, path, |meta| {
                if let Some(mode) = attrs.permissions {
                    meta.mode = mode & 0o7777;
                }
                if let Some(time) = attrs.mtime {
                    meta.mtime = i64::from(time);
                }
            })
            .map_err(failure)?;
        Ok(ok(id))
    }
}

/// A line of `ls -l` as sftp-server gives it.
fn long_name(files: &Vfs, name: &str, meta: &Meta) -> String {
    let time = DateTime::<Utc>::from_timestamp(meta.mtime, 0).unwrap_or_default();
    let recent = (Utc::now() - time).num_days() < 182;
    let stamp = time.format(if recent { "%b %e %H:%M" } else { "%b %e  %Y" });
    let links = if meta.is_folder() { 2 } else { 1 };
    format!(
        "{} {links:>4} {:<8} {:<8} {:>8} {stamp} {name}",
        meta.mode_text(),
        files.user_name(meta.uid),
        files.group_name(meta.gid),
        meta.size
    )
}

impl Handler for Sftp {
    type Error = StatusReply;

    fn unimplemented(&self) -> Self::Error {
        StatusReply::new(StatusCode::OpUnsupported)
    }

    async fn init(&mut self, _: u32, _: HashMap<String, String>) -> Result<Version, Self::Error> {
        let mut version = Version::new();
        for (name, value) in [
            ("posix-rename@openssh.com", "1"),
            ("statvfs@openssh.com", "2"),
            ("fstatvfs@openssh.com", "2"),
            ("hardlink@openssh.com", "1"),
            ("fsync@openssh.com", "1"),
        ] {
            version.extensions.insert(name.to_owned(), value.to_owned());
        }
        Ok(version)
    }

    async fn open(
        &mut self,
        id: u32,
        filename: String,
        flags: OpenFlags,
        attrs: FileAttributes,
    ) -> Result<Handle, Self::Error> {
        let wanted = self.path(&filename);
        self.files.settle(&self.home, &wanted).await;
        let found = self.files.stat(&self.home, &wanted, true);
        let writes = flags.contains(OpenFlags::WRITE) || flags.contains(OpenFlags::APPEND);
        let path = match found {
            Ok(_) if flags.contains(OpenFlags::EXCLUDE) => return Err(failure(Errno::Exists)),
            Ok((_, meta)) if meta.is_folder() => return Err(failure(Errno::IsFolder)),
            Ok((path, _)) if !writes => {
                self.files.read_at(&path, 0, 1).map_err(failure)?;
                self.told("get", &path);
                path
            }
            Ok((path, _)) => {
                if flags.contains(OpenFlags::TRUNCATE) {
                    self.files.truncate("/", &path, 0).map_err(failure)?;
                } else {
                    self.files.write("/", &path, Some(0), b"").map_err(failure)?;
                }
                path
            }
            Err(Errno::NoEntry) if writes && flags.contains(OpenFlags::CREATE) => {
                let path = self.files.truncate(&self.home, &wanted, 0).map_err(failure)?;
                if let Some(mode) = attrs.permissions {
                    let _ = self.files.change("/", &path, |meta| meta.mode = mode & 0o777);
                }
                path
            }
            Err(errno) => return Err(failure(errno)),
        };
        let mut capture = None;
        if writes {
            self.told("put", &path);
            capture = self.session.capture(name(&path)).await;
        }
        let append = flags.contains(OpenFlags::APPEND);
        self.handle(Open::File { path, append, capture, captured: 0, written: false }, id)
    }

    async fn close(&mut self, id: u32, handle: String) -> Result<Status, Self::Error> {
        match self.open.remove(&handle) {
            Some(Open::File { path, capture: Some(capture), written: true, .. }) => {
                let _ = capture.finish(&path).await;
                Ok(ok(id))
            }
            Some(_) => Ok(ok(id)),
            None => Err(StatusReply::new(StatusCode::Failure)),
        }
    }

    async fn read(&mut self, id: u32, handle: String, offset: u64, len: u32) -> Result<Data, Self::Error> {
        let Some(Open::File { path, .. }) = self.open.get(&handle) else {
            return Err(StatusReply::new(StatusCode::Failure));
        };
        let most = usize::try_from(len.min(MAX_READ)).unwrap_or(0);
        let data = self.files.read_at(path, offset, most).map_err(failure)?;
        if data.is_empty() {
            return Err(StatusReply::new(StatusCode::Eof).with_message("End of file").with_language_tag(""));
        }
        Ok(Data { id, data })
    }

    async fn write(&mut self, id: u32, handle: String, offset: u64, data: Vec<u8>) -> Result<Status, Self::Error> {
        let Some(Open::File { path, append, capture, captured, written }) = self.open.get_mut(&handle) else {
            return Err(StatusReply::new(StatusCode::Failure));
        };
        let place = if *append { None } else { Some(offset) };
        self.files.write("/", path, place, &data).map_err(failure)?;
        *written = true;
        // A file is kept as it comes; clients write from the beginning to the end.
        if let Some(capture) = capture
            && (offset == *captured || *append)
        {
            *captured += u64::try_from(data.len()).unwrap_or(0);
            let _ = capture.write(&data).await;
        }
        Ok(ok(id))
    }

    async fn lstat(&mut self, id: u32, path: String) -> Result<Attrs, Self::Error> {
        self.attributes_of(id, &path, false)
    }

    async fn stat(&mut self, id: u32, path: String) -> Result<Attrs, Self::Error> {
        self.attributes_of(id, &path, true)
    }

    async fn fstat(&mut self, id: u32, handle: String) -> Result<Attrs, Self::Error> {
        let Some(Open::File { path, .. }) = self.open.get(&handle) else {
            return Err(StatusReply::new(StatusCode::Failure));
        };
        let (_, meta) = self.files.stat("/", path, true).map_err(failure)?;
        Ok(Attrs { id, attrs: attributes(&meta) })
    }

    async fn setstat(&mut self, id: u32, path: String, attrs: FileAttributes) -> Result<Status, Self::Error> {
        self.change(id, &self.path(&path), &attrs)
    }

    async fn fsetstat(&mut self, id: u32, handle: String, attrs: FileAttributes) -> Result<Status, Self::Error> {
        let Some(Open::File { path, .. }) = self.open.get(&handle) else {
            return Err(StatusReply::new(StatusCode::Failure));
        };
        self.change(id, path, &attrs)
    }

    async fn opendir(&mut self, id: u32, path: String) -> Result<Handle, Self::Error> {
        let path = self.path(&path);
        let list = self.files.list(&self.home, &path).map_err(failure)?;
        let real = self.files.resolve(&self.home, &path, true).map_err(failure)?;
        self.told("ls", &real);
        let mut entries = Vec::with_capacity(list.len() + 2);
        for special in [".", ".."] {
            if let Ok((_, meta)) = self.files.stat(&real, special, true) {
                entries.push((special.to_owned(), meta));
            }
        }
        entries.extend(list);
        let files = entries
            .into_iter()
            .rev()
            .map(|(name, meta)| File {
                longname: long_name(&self.files, &name, &meta),
                attrs: attributes(&meta),
                filename: name,
            })
            .collect();
        self.handle(Open::Folder(files), id)
    }

    async fn readdir(&mut self, id: u32, handle: String) -> Result<Name, Self::Error> {
        let Some(Open::Folder(rest)) = self.open.get_mut(&handle) else {
            return Err(StatusReply::new(StatusCode::Failure));
        };
        if rest.is_empty() {
            return Err(StatusReply::new(StatusCode::Eof).with_message("End of file").with_language_tag(""));
        }
        let mut files = rest.split_off(rest.len().saturating_sub(MAX_NAMES));
        files.reverse();
        Ok(Name { id, files })
    }

    async fn remove(&mut self, id: u32, filename: String) -> Result<Status, Self::Error> {
        let path = self.path(&filename);
        self.files.remove(&self.home, &path, false, false).map_err(failure)?;
        self.told("rm", &path);
        Ok(ok(id))
    }

    async fn mkdir(&mut self, id: u32, path: String, attrs: FileAttributes) -> Result<Status, Self::Error> {
        let path = self.path(&path);
        self.files.make_folder(&self.home, &path, attrs.permissions.unwrap_or(0o755) & 0o777).map_err(failure)?;
        self.told("mkdir", &path);
        Ok(ok(id))
    }

    async fn rmdir(&mut self, id: u32, path: String) -> Result<Status, Self::Error> {
        let path = self.path(&path);
        self.files.remove(&self.home, &path, true, false).map_err(failure)?;
        self.told("rmdir", &path);
        Ok(ok(id))
    }

    async fn realpath(&mut self, id: u32, path: String) -> Result<Name, Self::Error> {
        let path = self.path(&path);
        let wanted = if path.is_empty() { "." } else { &path };
        let real = self.files.resolve(&self.home, wanted, true).map_err(failure)?;
        let shown = if self.files.windows() { format!("/C:{real}") } else { real };
        Ok(Name {
            id,
            files: vec![File { longname: shown.clone(), filename: shown, attrs: FileAttributes::default() }],
        })
    }

    async fn rename(&mut self, id: u32, from: String, to: String) -> Result<Status, Self::Error> {
        let (from, to) = (self.path(&from), self.path(&to));
        self.files.rename(&self.home, &from, &to).map_err(failure)?;
        self.told("rename", &format!("{from} {to}"));
        Ok(ok(id))
    }

    async fn readlink(&mut self, id: u32, path: String) -> Result<Name, Self::Error> {
        match self.files.stat(&self.home, &self.path(&path), false).map_err(failure)? {
            (_, Meta { kind: Kind::Link(target), .. }) => Ok(Name {
                id,
                files: vec![File { longname: target.clone(), filename: target, attrs: FileAttributes::default() }],
            }),
            _ => Err(StatusReply::new(StatusCode::Failure)),
        }
    }

    async fn symlink(&mut self, id: u32, link: String, target: String) -> Result<Status, Self::Error> {
        // OpenSSH has the two the other way round than the draft: the first is where it leads.
        self.files.link(&self.home, &self.path(&target), &link).map_err(failure)?;
        Ok(ok(id))
    }

    async fn extended(&mut self, id: u32, request: String, data: Vec<u8>) -> Result<Packet, Self::Error> {
        if request != "posix-rename@openssh.com" {
            return Err(StatusReply::new(StatusCode::OpUnsupported));
        }
        let mut rest = data.as_slice();
        let mut text = || {
            let (length, more) = rest.split_at_checked(4)?;
            let length = usize::try_from(u32::from_be_bytes(length.try_into().ok()?)).ok()?;
            let (text, more) = more.split_at_checked(length)?;
            rest = more;
            Some(String::from_utf8_lossy(text).into_owned())
        };
        let (Some(from), Some(to)) = (text(), text()) else { return Err(StatusReply::new(StatusCode::BadMessage)) };
        self.rename(id, from, to).await.map(Packet::Status)
    }
}
