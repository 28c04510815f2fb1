//! One client of FTP.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};

use super::{Ftp, build::Build, data::Passive};
use crate::{
    session::{EventType, Session, Stream, escaped},
    shell::vfs::{Kind, Meta, Vfs, name},
};

/// Longest command; servers end there too.
const MAX_LINE: usize = 4096;
/// Logins that fail before the connection is ended.
const MAX_TRIES: u32 = 3;
/// How long a transfer may stand still.
const STALL: Duration = Duration::from_secs(60);
/// Largest upload.
const MAX_UPLOAD: u64 = 64 << 20;

/// A client and how far it is.
pub struct Client {
    ftp: Arc<Ftp>,
    stream: BufReader<Stream>,
    session: Session,
    files: Vfs,
    user: String,
    named: bool,
    logged_in: bool,
    anonymous: bool,
    failures: u32,
    /// The folder of the machine that is the client's root.
    root: String,
    cwd: String,
    passive: Option<Passive>,
    rename: Option<String>,
    restart: u64,
}

/// A command as it came.
struct Command {
    verb: String,
    rest: String,
}

impl Client {
    /// A client that has just connected.
    pub fn new(ftp: Arc<Ftp>, stream: Stream, session: Session) -> Client {
        let files = ftp.machine.files(session.peer().ip());
        Client {
            ftp,
            stream: BufReader::with_capacity(1024, stream),
            session,
            files,
            user: String::new(),
            named: false,
            logged_in: false,
            anonymous: false,
            failures: 0,
            root: String::new(),
            cwd: "/".to_owned(),
            passive: None,
            rename: None,
            restart: 0,
        }
    }

    fn build(&self) -> Build {
        self.ftp.build
    }

    /// Talks until either is done.
    pub async fn serve(mut self) -> io::Result<()> {
        let address = self.ftp.machine.persona().ip.to_string();
        let greeting = self.build().greeting(&format!("::ffff:{address}"));
        self.say(&greeting).await?;
        while let Some(command) = self.command().await? {
            if command.verb.is_empty() {
                let text = self.build().unknown("");
                self.say(&text).await?;
                continue;
            }
            if !self.handle(&command).await? {
                break;
            }
        }
        self.stream.get_mut().shutdown().await
    }

    async fn say(&mut self, line: &str) -> io::Result<()> {
        let stream = self.stream.get_mut();
        stream.write_all(format!("{line}\r\n").as_bytes()).await?;
        stream.flush().await
    }

    async fn command(&mut self) -> io::Result<Option<Command>> {
        let mut line = Vec::new();
        loop {
            let byte = match self.stream.read_u8().await {
                Ok(byte) => byte,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                Err(error) => return Err(error),
            };
            match byte {
                b'\n' => break,
                // Commands of telnet that clients put before ABOR.
                0xf0..=0xff => {}
                byte if line.len() < MAX_LINE => line.push(byte),
                _ => {
                    self.session.emit(
                        EventType::Scan,
                        "a line that is too long",
                        &[("kind", "malformed"), ("detail", "ftp line")],
                    );
                    self.say("500 Input line too long.").await?;
                    return Ok(None);
                }
            }
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        let line = escaped(&line, MAX_LINE);
        let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
        Ok(Some(Command { verb: verb.to_ascii_uppercase(), rest: rest.to_owned() }))
    }

    fn told(&self, command: &Command, code: &str) {
        let line = format!("{} {}", command.verb, command.rest);
        let line = line.trim_end();
        self.session.emit(
            EventType::Command,
            format!("command: {line}"),
            &[("command", line), ("cwd", &self.cwd), ("exit_code", code)],
        );
    }

    /// One command; false when it was the last.
    async fn handle(&mut self, command: &Command) -> io::Result<bool> {
        let build = self.build();
        let rest = command.rest.clone();
        match command.verb.as_str() {
            "USER" => {
                self.user = rest.chars().take(128).collect();
                self.named = true;
                self.logged_in = false;
                let anonymous = self.guest();
                let text = build.need_password(&self.user, anonymous);
                self.say(&text).await?;
            }
            "PASS" => return self.password(&rest).await,
            "QUIT" => {
                self.told(command, "221");
                self.say(build.goodbye()).await?;
                return Ok(false);
            }
            "FEAT" => self.say(&build.features()).await?,
            "SYST" if self.logged_in || !matches!(build, Build::Vsftpd(_)) => self.say(build.system()).await?,
            "NOOP" => self.say(&build.okay("NOOP")).await?,
            "AUTH" if !matches!(build, Build::Iis) => {
                let text = if self.logged_in { build.unknown("AUTH") } else { build.not_logged_in() };
                self.say(&text).await?;
            }
            "AUTH" => self.say("534 Local policy on server does not allow TLS secure connections.").await?,
            "HELP" if !matches!(build, Build::BusyBox) && self.logged_in => {
                self.say("214-The following commands are recognized.\r\n ABOR ALLO APPE CDUP CWD  DELE EPSV FEAT HELP LIST MDTM MKD  MODE NLST NOOP\r\n OPTS PASS PASV PWD  QUIT REIN REST RETR RMD  RNFR RNTO SIZE STAT STOR\r\n STRU SYST TYPE USER XCUP XCWD XMKD XPWD XRMD\r\n214 Help OK.").await?;
            }
            "GET" | "HEAD" | "POST" | "OPTIONS" => {
                self.session.emit(
                    EventType::Scan,
                    "HTTP to FTP",
                    &[("kind", "http_method"), ("detail", &command.verb)],
                );
                let text = if matches!(build, Build::Vsftpd(_)) {
                    build.not_logged_in()
                } else {
                    build.unknown(&command.verb)
                };
                self.say(&text).await?;
            }
            _ if !self.logged_in => {
                let text = build.not_logged_in();
                self.told(command, "530");
                self.say(&text).await?;
            }
            _ => return self.handle_logged_in(command).await,
        }
        Ok(true)
    }

    fn guest(&self) -> bool {
        self.user.eq_ignore_ascii_case("anonymous") || self.user.eq_ignore_ascii_case("ftp")
    }

    async fn password(&mut self, password: &str) -> io::Result<bool> {
        let build = self.build();
        if !self.named {
            self.say(build.user_first()).await?;
            return Ok(true);
        }
        let guest = self.guest() && self.ftp.anonymous;
        let accepted = guest || self.ftp.credentials.accepts(&self.user, password);
        let fields = [("username", self.user.as_str()), ("password", password), ("method", "password")];
        if !accepted {
            self.session.emit(EventType::AuthFail, format!("login failed for {}", self.user), &fields);
            tokio::time::sleep(Duration::from_millis(if matches!(build, Build::Vsftpd(_)) { 2900 } else { 900 })).await;
            self.failures += 1;
            self.named = false;
            let text = build.refused();
            self.say(&text).await?;
            return Ok(self.failures < MAX_TRIES);
        }
        self.session.emit(EventType::AuthSuccess, format!("{} logged in", self.user), &fields);
        self.logged_in = true;
        self.anonymous = guest;
        if guest || self.files.windows() {
            self.root = if self.files.windows() { "/inetpub/ftproot".to_owned() } else { "/srv/ftp".to_owned() };
            self.make_root();
            self.cwd = "/".to_owned();
        } else {
            let user = self.files.login(&self.user);
            self.files.uid = user.uid;
            self.root = String::new();
            self.cwd = user.home;
        }
        let text = build.logged_in(&self.user, guest);
        self.say(&text).await?;
        Ok(true)
    }

    /// The folder of guests is there.
    fn make_root(&self) {
        let mut path = String::new();
        for part in self.root.split('/').filter(|part| !part.is_empty()) {
            path = format!("{path}/{part}");
            let _ = self.files.make_folder("/", &path, 0o755);
        }
        let _ = self.files.make_folder("/", &format!("{path}/pub"), 0o755);
    }

    /// A path of the client as one of the machine. `..` cannot lead out of the client's root.
    fn path(&self, path: &str) -> String {
        let path = path.replace('\\', "/");
        let whole = if path.starts_with('/') { path } else { format!("{}/{path}", self.cwd) };
        let mut parts: Vec<&str> = Vec::new();
        for part in whole.split('/').filter(|part| !part.is_empty() && *part != ".").take(128) {
            if part == ".." {
                parts.pop();
            } else {
                parts.push(part);
            }
        }
        format!("{}/{}", self.root, parts.join("/"))
    }

    /// The same without the root.
    fn shown(&self, path: &str) -> String {
        let shown = path.strip_prefix(self.root.as_str()).unwrap_or(path);
        let shown = shown.trim_end_matches('/');
        if shown.is_empty() { "/".to_owned() } else { shown.to_owned() }
    }

    async fn handle_logged_in(&mut self, command: &Command) -> io::Result<bool> {
        let build = self.build();
        let rest = command.rest.as_str();
        let path = self.path(rest);
        let failed = |what: &str| build.no_file(rest, what);
        let answer = match command.verb.as_str() {
            "PWD" | "XPWD" => build.folder(&self.cwd),
            "CWD" | "XCWD" | "CDUP" | "XCUP" => {
                let path = if command.verb.ends_with("UP") { self.path("..") } else { path };
                match self.files.list("/", &path) {
                    Ok(_) => {
                        self.cwd = self.shown(&path);
                        build.changed(&command.verb, "Directory successfully changed.")
                    }
                    Err(_) => failed("Failed to change directory."),
                }
            }
            "TYPE" => build.okay(&format!("TYPE {}", rest.get(..1).unwrap_or("A").to_ascii_uppercase())),
            "MODE" | "STRU" => build.okay(&command.verb),
            "OPTS" => build.okay(&format!("OPTS {}", rest.to_ascii_uppercase())),
            "CLNT" | "ALLO" | "PBSZ" => build.okay(&command.verb),
            "REST" => {
                self.restart = rest.trim().parse().unwrap_or(0);
                format!("350 Restart position accepted ({}).", self.restart)
            }
            "PORT" | "EPRT" => {
                self.session.emit(
                    EventType::DownloadAttempt,
                    format!("a connection out was asked for by {} {rest}", command.verb),
                    &[
                        ("url", &format!("ftp-data:{rest}")),
                        ("tool", "ftp"),
                        ("command", &format!("{} {rest}", command.verb)),
                    ],
                );
                build.no_active().to_owned()
            }
            "PASV" | "EPSV" => self.passive(&command.verb).await,
            "SIZE" => match self.files.stat("/", &path, true) {
                Ok((_, meta)) if meta.kind == Kind::File => format!("213 {}", meta.size),
                _ => failed("Could not get file size."),
            },
            "MDTM" => match self.files.stat("/", &path, true) {
                Ok((_, meta)) if meta.kind == Kind::File => {
                    let time = DateTime::<Utc>::from_timestamp(meta.mtime, 0).unwrap_or_default();
                    format!("213 {}", time.format("%Y%m%d%H%M%S"))
                }
                _ => failed("Could not get file modification time."),
            },
            "DELE" if !self.anonymous => match self.files.remove("/", &path, false, false) {
                Ok(()) => build.changed("DELE", "Delete operation successful."),
                Err(_) => failed("Delete operation failed."),
            },
            "MKD" | "XMKD" if !self.anonymous => match self.files.make_folder("/", &path, 0o755) {
                Ok(()) => format!("257 \"{}\" created", self.shown(&path)),
                Err(_) => failed("Create directory operation failed."),
            },
            "RMD" | "XRMD" if !self.anonymous => match self.files.remove("/", &path, true, false) {
                Ok(()) => build.changed("RMD", "Remove directory operation successful."),
                Err(_) => failed("Remove directory operation failed."),
            },
            "RNFR" if !self.anonymous => match self.files.stat("/", &path, true) {
                Ok(_) => {
                    self.rename = Some(path);
                    "350 Ready for RNTO.".to_owned()
                }
                Err(_) => failed("RNFR command failed."),
            },
            "RNTO" if !self.anonymous => match self.rename.take() {
                None => "503 RNFR required first.".to_owned(),
                Some(from) => match self.files.rename("/", &from, &path) {
                    Ok(()) => build.changed("RNTO", "Rename successful."),
                    Err(_) => failed("Rename failed."),
                },
            },
            "SITE" if !self.anonymous => self.site(rest),
            "ABOR" => "225 No transfer to ABOR.".to_owned(),
            "STAT" => format!(
                "211-FTP server status:\r\n     Connected to {}\r\n     Logged in as {}\r\n     TYPE: ASCII\r\n211 End of status",
                self.session.peer().ip(),
                self.user
            ),
            "LIST" | "NLST" | "MLSD" => self.list(command).await?,
            "RETR" => self.retrieve(rest, &path).await?,
            "STOR" | "APPE" | "STOU" => self.store(command, &path).await?,
            "DELE" | "MKD" | "RMD" | "RNFR" | "RNTO" | "SITE" | "XMKD" | "XRMD" => failed("Permission denied."),
            verb => build.unknown(verb),
        };
        if !matches!(command.verb.as_str(), "TYPE" | "PASV" | "EPSV" | "OPTS" | "MODE" | "STRU" | "NOOP") {
            self.told(command, answer.get(..3).unwrap_or(""));
        }
        if !command.verb.starts_with("REST") && !answer.starts_with("227") && !answer.starts_with("229") {
            self.restart = 0;
        }
        self.say(&answer).await?;
        Ok(true)
    }

    fn site(&self, rest: &str) -> String {
        let mut words = rest.splitn(3, ' ');
        match (words.next().unwrap_or("").to_ascii_uppercase().as_str(), words.next(), words.next()) {
            ("CHMOD", Some(mode), Some(path)) => {
                let Ok(mode) = u32::from_str_radix(mode, 8) else { return "501 Bad CHMOD.".to_owned() };
                match self.files.change("/", &self.path(path), |meta| meta.mode = mode & 0o777) {
                    Ok(()) => "200 SITE CHMOD command ok.".to_owned(),
                    Err(_) => "550 SITE CHMOD command failed.".to_owned(),
                }
            }
            ("HELP", ..) => "214 CHMOD UMASK HELP".to_owned(),
            _ => "500 Unknown SITE command.".to_owned(),
        }
    }

    async fn passive(&mut self, verb: &str) -> String {
        // A second one takes the place of the first.
        self.passive = None;
        let local = self.session.local().ip();
        match Passive::bind(local).await {
            Err(_) => "421 Service not available, remote server has closed connection".to_owned(),
            Ok(passive) => {
                let port = passive.port();
                self.passive = Some(passive);
                match (verb, local) {
                    ("PASV", IpAddr::V4(address)) => self.build().passive(address.octets(), port),
                    ("PASV", IpAddr::V6(_)) => self.build().passive(Ipv4Addr::UNSPECIFIED.octets(), port),
                    _ => format!("229 Entering Extended Passive Mode (|||{port}|)"),
                }
            }
        }
    }

    /// The data connection, once its beginning was told; or what is said instead.
    async fn open(&mut self, begin: String) -> io::Result<Result<tokio::net::TcpStream, String>> {
        let Some(passive) = self.passive.take() else {
            return Ok(Err(match self.build() {
                Build::FileZilla => "503 Bad sequence of commands.".to_owned(),
                _ => "425 Use PORT or PASV first.".to_owned(),
            }));
        };
        self.say(&begin).await?;
        match passive.accept(self.session.peer().ip()).await {
            Ok(stream) => Ok(Ok(stream)),
            Err(_) => Ok(Err("425 Failed to establish connection.".to_owned())),
        }
    }

    async fn send(&mut self, mut stream: tokio::net::TcpStream, bytes: &[u8], listing: bool) -> String {
        for part in bytes.chunks(32 << 10) {
            match tokio::time::timeout(STALL, stream.write_all(part)).await {
                Ok(Ok(())) => {}
                _ => return "426 Failure writing network stream.".to_owned(),
            }
        }
        let _ = stream.shutdown().await;
        self.build().done(listing)
    }

    async fn list(&mut self, command: &Command) -> io::Result<String> {
        let wanted = command.rest.split(' ').filter(|word| !word.starts_with('-')).collect::<Vec<_>>().join(" ");
        let path = self.path(&wanted);
        let begin = self.build().opening("file list", None, true);
        let entries = match self.files.stat("/", &path, true) {
            Ok((_, meta)) if !meta.is_folder() => vec![(name(&path).to_owned(), meta)],
            Ok(_) => self.files.list("/", &path).unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        let mut text = String::new();
        for (name, meta) in entries {
            if name.starts_with('.') && !command.rest.contains("-a") && !command.rest.contains("-la") {
                continue;
            }
            let time = DateTime::<Utc>::from_timestamp(meta.mtime, 0).unwrap_or_default();
            text.push_str(&match command.verb.as_str() {
                "NLST" => name,
                "MLSD" => format!(
                    "type={};size={};modify={}; {name}",
                    if meta.is_folder() { "dir" } else { "file" },
                    meta.size,
                    time.format("%Y%m%d%H%M%S")
                ),
                _ => self.row(&name, &meta, time),
            });
            text.push_str("\r\n");
        }
        match self.open(begin).await? {
            Ok(stream) => Ok(self.send(stream, text.as_bytes(), true).await),
            Err(answer) => Ok(answer),
        }
    }

    fn row(&self, name: &str, meta: &Meta, time: DateTime<Utc>) -> String {
        if self.build() == Build::Iis {
            let size = if meta.is_folder() { "<DIR>         ".to_owned() } else { format!("{:>14}", meta.size) };
            return format!("{}       {size} {name}", time.format("%m-%d-%y  %I:%M%p"));
        }
        let recent = (Utc::now() - time).num_days() < 182;
        let stamp = time.format(if recent { "%b %d %H:%M" } else { "%b %d  %Y" });
        let links = if meta.is_folder() { 2 } else { 1 };
        match self.build() {
            Build::Vsftpd(_) => format!(
                "{} {links:>4} {:<8} {:<8} {:>8} {stamp} {name}",
                meta.mode_text(),
                meta.uid,
                meta.gid,
                meta.size
            ),
            Build::FileZilla => format!(
                "{} 1 ftp ftp {:>14} {stamp} {name}",
                if meta.is_folder() { "drwxr-xr-x" } else { "-rw-r--r--" },
                meta.size
            ),
            _ => format!(
                "{} {links:>3} {:<8} {:<8} {:>8} {stamp} {name}",
                meta.mode_text(),
                self.files.user_name(meta.uid),
                self.files.group_name(meta.gid),
                meta.size
            ),
        }
    }

    async fn retrieve(&mut self, rest: &str, path: &str) -> io::Result<String> {
        self.files.settle("/", path).await;
        let read =
            self.files.resolve("/", path, true).and_then(|path| self.files.read_at(&path, self.restart, 8 << 20));
        let Ok(bytes) = read else { return Ok(self.build().no_file(rest, "Failed to open file.")) };
        let begin = self.build().opening(rest, Some(u64::try_from(bytes.len()).unwrap_or(0)), false);
        match self.open(begin).await? {
            Ok(stream) => Ok(self.send(stream, &bytes, false).await),
            Err(answer) => Ok(answer),
        }
    }

    async fn store(&mut self, command: &Command, path: &str) -> io::Result<String> {
        let rest = command.rest.as_str();
        if self.anonymous {
            return Ok(match self.build() {
                Build::Vsftpd(_) => "550 Permission denied.".to_owned(),
                Build::Iis => "550 Access is denied. ".to_owned(),
                _ => format!("550 {rest}: Operation not permitted"),
            });
        }
        let append = command.verb == "APPE" || self.restart > 0;
        let made = if append {
            self.files.write("/", path, None, b"").map(|()| path.to_owned())
        } else {
            self.files.truncate("/", path, 0)
        };
        let Ok(path) = made else { return Ok(self.build().no_file(rest, "Could not create file.")) };
        let begin = self.build().opening(rest, None, false);
        let mut stream = match self.open(begin).await? {
            Ok(stream) => stream,
            Err(answer) => return Ok(answer),
        };
        let mut capture = self.session.capture(name(&path)).await;
        let mut buffer = vec![0; 16 << 10];
        let mut total = 0_u64;
        let answer = loop {
            match tokio::time::timeout(STALL, stream.read(&mut buffer)).await {
                Ok(Ok(0)) => break self.build().done(false),
                Ok(Ok(count)) => {
                    let part = buffer.get(..count).unwrap_or_default();
                    total += u64::try_from(count).unwrap_or(0);
                    if total > MAX_UPLOAD {
                        break "552 Requested file action aborted. Exceeded storage allocation.".to_owned();
                    }
                    let _ = self.files.write("/", &path, None, part);
                    if let Some(capture) = &mut capture {
                        let _ = capture.write(part).await;
                    }
                }
                _ => break "426 Failure reading network stream.".to_owned(),
            }
        };
        if let Some(capture) = capture {
            let _ = capture.finish(&self.shown(&path)).await;
        }
        Ok(answer)
    }
}
