//! A session in a shell: prompts, lines, and what is told of each.

use super::{
    Family, cmd,
    expand::told,
    parse::{Fault, parse},
    run::{Flow, Io, Shell, Sink, Source},
    tty::{Ask, Read},
};
use crate::session::{EventType, Session};

/// Files that one session hands in from its shell.
const MAX_KEPT: usize = 32;

/// Tells of a command when it is done, or when the session ends in it.
struct Told<'a> {
    session: &'a Session,
    command: String,
    cwd: String,
    status: Option<i32>,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        let status = self.status.map(|status| status.to_string()).unwrap_or_default();
        self.session.emit(
            EventType::Command,
            format!("command: {}", self.command),
            &[("command", &self.command), ("cwd", &self.cwd), ("exit_code", &status)],
        );
    }
}

impl Shell {
    fn prompt(&self) -> String {
        let home = &self.user.home;
        let host = self.machine().persona().hostname.split('.').next().unwrap_or("").to_owned();
        let mark = if self.user.uid == 0 { '#' } else { '$' };
        let tilde = if self.cwd == *home {
            "~".to_owned()
        } else if let Some(rest) = self.cwd.strip_prefix(&format!("{home}/")) {
            format!("~/{rest}")
        } else {
            self.cwd.clone()
        };
        let name = &self.user.name;
        match self.machine().facts().family {
            Family::Debian if self.dialect == "bash" && self.user.uid != 0 && self.machine().facts().id == "ubuntu" => {
                format!("\x1b[01;32m{name}@{host}\x1b[00m:\x1b[01;34m{tilde}\x1b[00m$ ")
            }
            Family::Debian if self.dialect == "bash" => format!("{name}@{host}:{tilde}{mark} "),
            Family::RedHat => {
                let folder = if tilde.starts_with('~') && tilde.len() == 1 { "~" } else { super::vfs::name(&self.cwd) };
                format!("[{name}@{host} {}]{mark} ", if folder.is_empty() { "/" } else { folder })
            }
            Family::Bsd if self.dialect == "csh" => format!("{name}@{host}:{tilde} {mark} "),
            _ => format!("{mark} "),
        }
    }

    /// What is shown after a login.
    async fn greeting(&mut self) {
        let text = cmd::greeting(self);
        let _ = self.terminal.write(text.as_bytes()).await;
    }

    /// Talks until the client leaves. The exit status.
    pub async fn interact(&mut self) -> i32 {
        if self.files.windows() {
            return super::windows::interact(self).await;
        }
        if self.terminal.tty {
            self.greeting().await;
        }
        loop {
            let prompt = self.prompt();
            let (files, cwd, path) =
                (self.files.clone(), self.cwd.clone(), self.variable_text("PATH").unwrap_or_default());
            let complete = move |before: &str| cmd::complete(&files, &cwd, &path, before);
            let history = self.history.clone();
            let ask = Ask { prompt: &prompt, echo: true, history: &history, complete: Some(&complete) };
            let mut line = match self.terminal.read_line(&ask).await {
                Read::Line(line) => line,
                Read::Interrupt => {
                    self.status = 130;
                    continue;
                }
                Read::End => {
                    let word = if self.outer.is_empty() && self.dialect != "sh" { "logout\n" } else { "exit\n" };
                    if self.terminal.tty && !self.terminal.ended() {
                        let _ = self.terminal.write(word.as_bytes()).await;
                    }
                    if self.terminal.ended() || !self.leave() {
                        return self.status;
                    }
                    continue;
                }
            };
            // Quotes and blocks that are open go on in the next lines.
            while line.len() < 64 << 10 && matches!(parse(&line), Err(Fault::Incomplete)) {
                match self.terminal.read_line(&Ask { prompt: "> ", echo: true, history: &[], complete: None }).await {
                    Read::Line(more) => {
                        line.push('\n');
                        line.push_str(&more);
                    }
                    Read::Interrupt => {
                        line.clear();
                        self.status = 130;
                    }
                    Read::End => break,
                }
            }
            if line.trim().is_empty() {
                continue;
            }
            if self.history.len() >= 500 {
                self.history.remove(0);
            }
            if self.history.last() != Some(&line) {
                self.history.push(line.clone());
            }
            self.run_line(&line).await;
            if self.flow == Some(Flow::Exit) {
                self.flow = None;
                if !self.leave() {
                    return self.status;
                }
            }
            if self.terminal.ended() && self.terminal.tty {
                return self.status;
            }
            self.flow = None;
        }
    }

    /// Runs one command as `ssh host command` does. The exit status.
    pub async fn execute(&mut self, command: &str) -> i32 {
        // From 5.1 on bash tells the line.
        let lines = self.dialect == "bash" && !matches!(self.machine().facts().version_id, "20.04" | "7");
        self.name = if lines { "bash: line 1".to_owned() } else { self.dialect.to_owned() };
        if self.files.windows() {
            return super::windows::execute(self, command).await;
        }
        self.run_line(command).await;
        // What came over the input into a file, as `cat > file` does, is kept.
        for path in std::mem::take(&mut self.written) {
            self.keep(&path).await;
        }
        self.status
    }

    /// Hands in a file that the attacker made, once for each of its sizes.
    pub(super) async fn keep(&mut self, path: &str) {
        let Ok((real, meta)) = self.files.stat("/", path, true) else { return };
        if meta.size == 0 || self.kept.len() >= MAX_KEPT || self.files.pristine(&real) {
            return;
        }
        let entry = (real, meta.size);
        if self.kept.contains(&entry) {
            return;
        }
        let bytes = self.files.read_at(&entry.0, 0, 8 << 20).unwrap_or_default();
        if let Some(mut capture) = self.session.capture(super::vfs::name(&entry.0)).await {
            let _ = capture.write(&bytes).await;
            let _ = capture.finish(&entry.0).await;
        }
        self.kept.push(entry);
    }

    async fn run_line(&mut self, line: &str) {
        self.steps = 0;
        self.shown = 0;
        self.flow = None;
        let session = self.session.clone();
        let mut event = Told { session: &session, command: told(line), cwd: told(&self.cwd), status: None };
        let io = Io { input: Source::Terminal, out: Sink::Out, err: Sink::Err };
        match parse(line) {
            Ok(node) => {
                self.status = self.run(&node, &io).await;
                if self.flow == Some(Flow::Stop) {
                    self.status = 130;
                }
            }
            Err(fault) => {
                let text = self.syntax(&fault, line);
                self.complain(&io, &text);
                self.status = 2;
            }
        }
        self.flush().await;
        event.status = Some(self.status);
    }

    pub(super) fn syntax(&self, fault: &Fault, line: &str) -> String {
        let name = self.name.clone();
        match (fault, self.dialect) {
            (Fault::Unexpected(token), "bash") => {
                let mut text = format!("{name}: syntax error near unexpected token `{token}'\n");
                if !self.terminal.tty {
                    text = format!(
                        "bash: -c: line 1: syntax error near unexpected token `{token}'\nbash: -c: line 1: `{line}'\n"
                    );
                }
                text
            }
            (Fault::Unexpected(token), _) => format!("{name}: syntax error: unexpected \"{token}\"\n"),
            (Fault::Incomplete, "bash") => format!("{name}: syntax error: unexpected end of file\n"),
            (Fault::Incomplete, _) => format!("{name}: syntax error: unterminated quoted string\n"),
        }
    }
}
