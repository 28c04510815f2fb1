//! The shell itself: runs what was typed, in the machine that is made up.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};

use super::{
    Family, Machine, User,
    expand::{from_bytes, to_bytes},
    parse::Node,
    tty::{Ask, Read, Terminal},
    vfs::Vfs,
};
use crate::session::Session;

/// Deepest nesting of calls, substitutions and scripts.
pub(super) const MAX_DEPTH: usize = 12;
/// Bytes that one line can show.
const MAX_SHOWN: usize = 4 << 20;
/// Bytes that go through a pipe.
pub(super) const MAX_PIPE: usize = 2 << 20;
/// Variables, functions and aliases.
pub(super) const MAX_NAMES: usize = 512;

/// Where a command's output goes.
#[derive(Clone)]
pub(super) enum Sink {
    Out,
    Err,
    Null,
    Buffer(Arc<Mutex<Vec<u8>>>),
    File(String),
}

/// Where its input comes from.
#[derive(Clone)]
pub(super) enum Source {
    Terminal,
    Bytes(Arc<Mutex<(Vec<u8>, usize)>>),
}

impl Source {
    pub(super) fn bytes(bytes: Vec<u8>) -> Source {
        Source::Bytes(Arc::new(Mutex::new((bytes, 0))))
    }
}

/// Input and outputs of a command.
#[derive(Clone)]
pub(super) struct Io {
    pub(super) input: Source,
    pub(super) out: Sink,
    pub(super) err: Sink,
}

/// What ends more than one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Break(u32),
    Continue(u32),
    Return,
    Exit,
    /// Ctrl-C, or too much.
    Stop,
}

/// A shell that another one was started in, as by `su`.
pub(super) struct Outer {
    user: User,
    uid: u32,
    cwd: String,
    variables: BTreeMap<String, (String, bool)>,
}

/// How somebody is logged in.
#[derive(Clone, Debug)]
pub struct Login {
    /// Such as `pts/0`.
    pub tty: String,
    /// The address that they came from.
    pub from: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// A shell of one session.
pub struct Shell {
    pub(super) files: Vfs,
    pub(super) session: Session,
    pub(super) user: User,
    pub(super) cwd: String,
    pub(super) variables: BTreeMap<String, (String, bool)>,
    pub(super) functions: HashMap<String, Arc<Node>>,
    pub(super) aliases: BTreeMap<String, String>,
    pub(super) positional: Vec<String>,
    pub(super) name: String,
    pub(super) status: i32,
    pub(super) history: Vec<String>,
    pub(super) terminal: Terminal,
    pub(super) login: Login,
    pub(super) pid: u64,
    pub(super) flow: Option<Flow>,
    pending: Vec<(bool, Vec<u8>)>,
    pub(super) shown: usize,
    /// Files that the line wrote by redirections.
    pub(super) written: Vec<String>,
    /// Files that were handed in, with their sizes then.
    pub(super) kept: Vec<(String, u64)>,
    pub(super) steps: u32,
    pub(super) depth: usize,
    pub(super) outer: Vec<Outer>,
    pub(super) background: u64,
    /// The shell's own name in its messages.
    pub(super) dialect: &'static str,
}

impl Shell {
    /// A shell of this user, who has just logged in.
    pub fn new(machine: &Arc<Machine>, session: &Session, username: &str, terminal: Terminal) -> Shell {
        let mut files = machine.files(session.peer().ip());
        let user = files.login(username);
        files.uid = user.uid;
        let family = machine.facts().family;
        let dialect = match (family, user.shell.rsplit('/').next()) {
            (Family::BusyBox, _) => "sh",
            (_, Some("csh" | "tcsh")) => "csh",
            (_, Some("sh")) => "sh",
            _ => "bash",
        };
        let mut shell = Shell {
            cwd: if files.stat("/", &user.home, true).is_ok() { user.home.clone() } else { "/".to_owned() },
            variables: BTreeMap::new(),
            functions: HashMap::new(),
            aliases: BTreeMap::new(),
            positional: Vec::new(),
            name: format!("-{dialect}"),
            status: 0,
            history: Vec::new(),
            login: Login {
                tty: format!("pts/{}", session.id().as_u128() % 2),
                from: session.peer().ip().to_string(),
                at: Utc::now(),
            },
            pid: super::content::newest_pid(machine) + u64::from(session.peer().port() % 50),
            flow: None,
            pending: Vec::new(),
            shown: 0,
            written: Vec::new(),
            kept: Vec::new(),
            steps: 0,
            depth: 0,
            outer: Vec::new(),
            background: 0,
            dialect,
            files,
            session: session.clone(),
            user,
            terminal,
        };
        shell.environment();
        shell.load_history();
        shell
    }

    /// The terminal that it is on.
    pub fn terminal(&mut self) -> &mut Terminal {
        &mut self.terminal
    }

    /// Files as its user sees them.
    pub fn files(&self) -> &Vfs {
        &self.files
    }

    /// The folder that it is in.
    pub fn cwd(&self) -> &str {
        &self.cwd
    }

    /// The connection that it belongs to.
    pub fn session(&self) -> &Session {
        &self.session
    }

    fn environment(&mut self) {
        let family = self.machine().facts().family;
        let path = match family {
            Family::BusyBox => "/bin:/sbin:/usr/bin:/usr/sbin",
            Family::Bsd => "/sbin:/bin:/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin",
            Family::RedHat => "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
            _ if self.user.uid == 0 => "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            _ => "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games",
        };
        let user = self.user.clone();
        let (peer, local) = (self.session.peer(), self.session.local());
        for (name, value) in [
            ("HOME", user.home.clone()),
            ("LOGNAME", user.name.clone()),
            ("USER", user.name.clone()),
            ("SHELL", user.shell.clone()),
            ("PATH", path.to_owned()),
            ("PWD", self.cwd.clone()),
        ] {
            self.variables.insert(name.to_owned(), (value, true));
        }
        if local.port() != 23 {
            let client = format!("{} {} {}", peer.ip(), peer.port(), local.port());
            self.variables.insert("SSH_CLIENT".to_owned(), (client, true));
            let connection = format!("{} {} {} {}", peer.ip(), peer.port(), self.machine().persona().ip, local.port());
            self.variables.insert("SSH_CONNECTION".to_owned(), (connection, true));
        }
        if self.terminal.tty {
            self.variables.insert("TERM".to_owned(), ("xterm-256color".to_owned(), true));
            self.variables.insert("SHLVL".to_owned(), ("1".to_owned(), true));
            if local.port() != 23 {
                self.variables.insert("SSH_TTY".to_owned(), (format!("/dev/{}", self.login.tty), true));
            }
            if family == Family::Debian && self.dialect == "bash" {
                self.aliases.insert("ls".to_owned(), "ls --color=auto".to_owned());
                self.aliases.insert("ll".to_owned(), "ls -l".to_owned());
            }
        }
        if matches!(family, Family::Debian | Family::RedHat) {
            self.variables.insert("LANG".to_owned(), ("en_US.UTF-8".to_owned(), true));
        }
        self.variables.insert("HISTFILE".to_owned(), (format!("{}/.bash_history", user.home), false));
    }

    fn load_history(&mut self) {
        let path = format!("{}/.bash_history", self.user.home);
        if let Ok(bytes) = self.files.read("/", &path, 64 << 10) {
            self.history = from_bytes(&bytes).lines().map(str::to_owned).collect();
        }
    }

    pub(super) fn machine(&self) -> &Arc<Machine> {
        self.files.machine()
    }

    /// A variable that the client sent along.
    pub fn set_environment(&mut self, name: &str, value: &str) {
        if self.variables.len() < MAX_NAMES && name.len() < 64 && value.len() < 1024 {
            self.variables.insert(name.to_owned(), (value.to_owned(), true));
        }
    }

    pub(super) fn set(&mut self, name: &str, value: &str) {
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return;
        }
        if let Some(known) = self.variables.get_mut(name) {
            known.0 = value.chars().take(64 << 10).collect();
        } else if self.variables.len() < MAX_NAMES {
            self.variables.insert(name.to_owned(), (value.chars().take(64 << 10).collect(), false));
        }
    }

    pub(super) fn variable_text(&self, name: &str) -> Option<String> {
        Some(match name {
            "?" => self.status.to_string(),
            "$" => self.pid.to_string(),
            "!" => return (self.background > 0).then(|| self.background.to_string()),
            "#" => self.positional.len().to_string(),
            "@" | "*" => self.positional.join(" "),
            "-" => "himBHs".to_owned(),
            "0" => self.name.trim_end_matches(": line 1").to_owned(),
            "UID" | "EUID" => self.user.uid.to_string(),
            "HOSTNAME" => self.machine().persona().hostname.clone(),
            "RANDOM" => rand::random_range(0..32768_u32).to_string(),
            "SECONDS" => (Utc::now() - self.login.at).num_seconds().to_string(),
            "PPID" => (self.pid - 1).to_string(),
            "BASH_VERSION" if self.dialect == "bash" => self.machine().facts().shell.to_owned(),
            "BASH" if self.dialect == "bash" => "/bin/bash".to_owned(),
            "OSTYPE" if self.dialect == "bash" => "linux-gnu".to_owned(),
            "MACHTYPE" if self.dialect == "bash" => "x86_64-pc-linux-gnu".to_owned(),
            "IFS" => " \t\n".to_owned(),
            "PS1" if self.terminal.tty => "\\u@\\h:\\w\\$ ".to_owned(),
            _ => {
                if let Ok(number) = name.parse::<usize>() {
                    return self.positional.get(number.wrapping_sub(1)).cloned();
                }
                return self.variables.get(name).map(|(value, _)| value.clone());
            }
        })
    }

    // What commands show.

    pub(super) fn emit(&mut self, sink: &Sink, bytes: &[u8]) {
        match sink {
            Sink::Out | Sink::Err => {
                let room = MAX_SHOWN.saturating_sub(self.shown);
                let part = bytes.get(..bytes.len().min(room)).unwrap_or_default();
                if part.len() < bytes.len() {
                    self.flow = Some(Flow::Stop);
                }
                self.shown += part.len();
                let error = matches!(sink, Sink::Err);
                match self.pending.last_mut() {
                    Some((same, held)) if *same == error => held.extend_from_slice(part),
                    _ => self.pending.push((error, part.to_vec())),
                }
            }
            Sink::Null => {}
            Sink::Buffer(buffer) => {
                let mut buffer = buffer.lock().unwrap_or_else(PoisonError::into_inner);
                let room = MAX_PIPE.saturating_sub(buffer.len());
                buffer.extend_from_slice(bytes.get(..bytes.len().min(room)).unwrap_or_default());
            }
            Sink::File(path) => {
                let _ = self.files.write("/", path, None, bytes);
            }
        }
    }

    pub(super) fn say(&mut self, io: &Io, text: &str) {
        self.emit(&io.out, &to_bytes(text));
    }

    pub(super) fn complain(&mut self, io: &Io, text: &str) {
        self.emit(&io.err, &to_bytes(text));
    }

    /// Shows what commands have said so far.
    pub(super) async fn flush(&mut self) {
        for (error, bytes) in std::mem::take(&mut self.pending) {
            let written =
                if error { self.terminal.write_error(&bytes).await } else { self.terminal.write(&bytes).await };
            if written.is_err() {
                self.flow = Some(Flow::Stop);
                return;
            }
        }
    }

    /// All of the input of a command.
    pub(super) async fn read_input(&mut self, io: &Io) -> Vec<u8> {
        match &io.input {
            Source::Bytes(bytes) => {
                let mut bytes = bytes.lock().unwrap_or_else(PoisonError::into_inner);
                let at = bytes.1.min(bytes.0.len());
                bytes.1 = bytes.0.len();
                bytes.0.get(at..).unwrap_or_default().to_vec()
            }
            Source::Terminal => {
                self.flush().await;
                match self.terminal.read_all(MAX_PIPE).await {
                    Some(bytes) => bytes,
                    None => {
                        self.flow = Some(Flow::Stop);
                        Vec::new()
                    }
                }
            }
        }
    }

    /// The next line of the input of a command.
    pub(super) async fn read_input_line(&mut self, io: &Io, prompt: &str, echo: bool) -> Option<String> {
        match &io.input {
            Source::Bytes(bytes) => {
                let mut bytes = bytes.lock().unwrap_or_else(PoisonError::into_inner);
                let rest = bytes.0.get(bytes.1..)?;
                if rest.is_empty() {
                    return None;
                }
                let end = rest.iter().position(|byte| *byte == b'\n');
                let line = from_bytes(rest.get(..end.unwrap_or(rest.len())).unwrap_or_default());
                bytes.1 += end.map_or(rest.len(), |end| end + 1);
                Some(line)
            }
            Source::Terminal => {
                self.flush().await;
                match self.terminal.read_line(&Ask { prompt, echo, history: &[], complete: None }).await {
                    Read::Line(line) => Some(line),
                    Read::End => None,
                    Read::Interrupt => {
                        self.flow = Some(Flow::Stop);
                        None
                    }
                }
            }
        }
    }

    /// Waits; true when it was interrupted.
    pub(super) async fn wait(&mut self, time: Duration) -> bool {
        self.flush().await;
        let interrupted = self.terminal.wait(time).await;
        if interrupted {
            self.flow = Some(Flow::Stop);
        }
        interrupted
    }

    // Shells in shells.

    /// Begins a shell of somebody else in this one.
    pub(super) fn enter(&mut self, user: User, login: bool) {
        if self.outer.len() >= MAX_DEPTH {
            return;
        }
        self.outer.push(Outer {
            user: self.user.clone(),
            uid: self.files.uid,
            cwd: self.cwd.clone(),
            variables: self.variables.clone(),
        });
        self.files.uid = user.uid;
        self.user = user;
        if login {
            self.cwd = self.user.home.clone();
        }
        self.environment();
    }

    /// Back to the shell that this one was begun in; false when there is none.
    pub(super) fn leave(&mut self) -> bool {
        let Some(outer) = self.outer.pop() else { return false };
        self.user = outer.user;
        self.files.uid = outer.uid;
        self.cwd = outer.cwd;
        self.variables = outer.variables;
        true
    }
}
