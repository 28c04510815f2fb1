//! Runs what was parsed: pipes, redirections, loops, calls.

use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;

use super::{
    cmd,
    expand::{fits, from_bytes, to_bytes, told},
    parse::{Node, Redirect, Way, Word, parse},
    run::{Flow, Io, MAX_DEPTH, MAX_NAMES, MAX_PIPE, Shell, Sink, Source},
    vfs::Errno,
};
use crate::session::EventType;

/// Commands that one line can lead to.
const MAX_STEPS: u32 = 20_000;

impl Shell {
    /// The output of a command, for `$(…)`.
    pub(super) fn substitute<'a>(&'a mut self, source: &'a str) -> BoxFuture<'a, String> {
        Box::pin(async move {
            let buffer = Arc::new(Mutex::new(Vec::new()));
            let io = Io { input: Source::bytes(Vec::new()), out: Sink::Buffer(buffer.clone()), err: Sink::Err };
            self.status = self.run_script(source, &io, true).await;
            let bytes = std::mem::take(&mut *buffer.lock().unwrap_or_else(PoisonError::into_inner));
            from_bytes(&bytes).trim_end_matches('\n').to_owned()
        })
    }

    /// Runs a text; in a shell of its own when `apart`.
    pub(super) fn run_script<'a>(&'a mut self, source: &'a str, io: &'a Io, apart: bool) -> BoxFuture<'a, i32> {
        Box::pin(async move {
            if self.depth >= MAX_DEPTH {
                let text = format!("{}: fork: retry: Resource temporarily unavailable\n", self.dialect);
                self.complain(io, &text);
                return 254;
            }
            let node = match parse(source) {
                Ok(node) => node,
                Err(fault) => {
                    let text = self.syntax(&fault, source.lines().next().unwrap_or(""));
                    self.complain(io, &text);
                    return 2;
                }
            };
            self.depth += 1;
            let kept = apart.then(|| (self.variables.clone(), self.cwd.clone(), self.positional.clone()));
            let status = self.run(&node, io).await;
            if let Some((variables, cwd, positional)) = kept {
                self.variables = variables;
                self.cwd = cwd;
                self.positional = positional;
                if self.flow == Some(Flow::Exit) {
                    self.flow = None;
                }
            }
            self.depth -= 1;
            status
        })
    }

    pub(super) fn run<'a>(&'a mut self, node: &'a Node, io: &'a Io) -> BoxFuture<'a, i32> {
        Box::pin(async move {
            if self.flow.is_some() {
                return self.status;
            }
            match node {
                Node::Sequence(nodes) => {
                    let mut status = 0;
                    for (node, background) in nodes {
                        if *background {
                            self.pid += 1;
                            self.background = self.pid;
                            if self.terminal.tty && self.depth == 0 {
                                let text = format!("[1] {}\n", self.background);
                                self.complain(io, &text);
                            }
                            let quiet = Io { input: Source::bytes(Vec::new()), ..io.clone() };
                            self.run(node, &quiet).await;
                            status = 0;
                        } else {
                            status = self.run(node, io).await;
                        }
                        if self.flow.is_some() {
                            return self.status;
                        }
                        self.status = status;
                    }
                    status
                }
                Node::And(left, right) => match self.run(left, io).await {
                    0 => {
                        self.status = 0;
                        self.run(right, io).await
                    }
                    status => status,
                },
                Node::Or(left, right) => match self.run(left, io).await {
                    0 => 0,
                    status => {
                        self.status = status;
                        self.run(right, io).await
                    }
                },
                Node::Pipeline(nodes, negate) => {
                    let status = self.pipe(nodes, io).await;
                    if *negate { i32::from(status == 0) } else { status }
                }
                Node::Group(node, apart, redirects) => {
                    let Some(io) = self.redirect(redirects, io).await else { return 1 };
                    let kept = apart.then(|| (self.variables.clone(), self.cwd.clone()));
                    let status = self.run(node, &io).await;
                    if let Some((variables, cwd)) = kept {
                        self.variables = variables;
                        self.cwd = cwd;
                        if self.flow == Some(Flow::Exit) {
                            self.flow = None;
                        }
                    }
                    status
                }
                Node::If(arms, other, redirects) => {
                    let Some(io) = self.redirect(redirects, io).await else { return 1 };
                    for (condition, body) in arms {
                        if self.run(condition, &io).await == 0 && self.flow.is_none() {
                            return self.run(body, &io).await;
                        }
                    }
                    match other {
                        Some(other) => self.run(other, &io).await,
                        None => 0,
                    }
                }
                Node::While(condition, body, until, redirects) => {
                    let Some(io) = self.redirect(redirects, io).await else { return 1 };
                    let mut status = 0;
                    while (self.run(condition, &io).await == 0) != *until && self.flow.is_none() {
                        status = self.run(body, &io).await;
                        if self.looped() || self.tired() {
                            break;
                        }
                    }
                    status
                }
                Node::For(name, words, body, redirects) => {
                    let Some(io) = self.redirect(redirects, io).await else { return 1 };
                    let words = match words {
                        Some(words) => self.expand_words(words).await,
                        None => self.positional.clone(),
                    };
                    let mut status = 0;
                    for word in words {
                        self.set(name, &word);
                        status = self.run(body, &io).await;
                        if self.looped() || self.tired() {
                            break;
                        }
                    }
                    status
                }
                Node::Case(word, arms) => {
                    let word = self.expand_one(word).await;
                    for (patterns, body) in arms {
                        for pattern in patterns {
                            let pattern = self.expand_pattern(pattern).await;
                            if fits(&pattern, &word) {
                                return self.run(body, io).await;
                            }
                        }
                    }
                    0
                }
                Node::Function(name, body) => {
                    if self.functions.len() < MAX_NAMES {
                        self.functions.insert(name.clone(), body.clone());
                    }
                    0
                }
                Node::Simple { assignments, words, redirects } => self.simple(assignments, words, redirects, io).await,
            }
        })
    }

    /// After a round of a loop: whether the loop is over.
    fn looped(&mut self) -> bool {
        match self.flow {
            Some(Flow::Break(more)) => {
                self.flow = (more > 1).then(|| Flow::Break(more - 1));
                true
            }
            Some(Flow::Continue(more)) if more <= 1 => {
                self.flow = None;
                false
            }
            Some(Flow::Continue(more)) => {
                self.flow = Some(Flow::Continue(more - 1));
                true
            }
            Some(_) => true,
            None => false,
        }
    }

    /// Counts; true when one line has led to too much.
    fn tired(&mut self) -> bool {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            self.flow = Some(Flow::Stop);
        }
        self.flow == Some(Flow::Stop)
    }

    async fn pipe(&mut self, nodes: &[Node], io: &Io) -> i32 {
        let mut input = io.input.clone();
        let mut status = 0;
        for (n, node) in nodes.iter().enumerate() {
            let last = n + 1 == nodes.len();
            let buffer = Arc::new(Mutex::new(Vec::new()));
            let out = if last { io.out.clone() } else { Sink::Buffer(buffer.clone()) };
            let part = Io { input: input.clone(), out, err: io.err.clone() };
            status = if nodes.len() > 1 {
                let (variables, cwd) = (self.variables.clone(), self.cwd.clone());
                let status = self.run(node, &part).await;
                self.variables = variables;
                self.cwd = cwd;
                if self.flow == Some(Flow::Exit) {
                    self.flow = None;
                }
                status
            } else {
                self.run(node, &part).await
            };
            let bytes = std::mem::take(&mut *buffer.lock().unwrap_or_else(PoisonError::into_inner));
            input = Source::bytes(bytes);
        }
        status
    }

    async fn redirect(&mut self, redirects: &[Redirect], io: &Io) -> Option<Io> {
        let mut io = io.clone();
        for redirect in redirects {
            let target = self.expand_one(&redirect.target).await;
            if redirect.way != Way::Here {
                self.files.settle(&self.cwd, &target).await;
            }
            let result = match redirect.way {
                Way::Here => {
                    io.input = Source::bytes(to_bytes(&target));
                    Ok(())
                }
                Way::In => match target.strip_prefix("/dev/tcp/").or_else(|| target.strip_prefix("/dev/udp/")) {
                    Some(address) => self.dial(&target, address, &io),
                    None => self.files.read(&self.cwd, &target, MAX_PIPE).map(|bytes| io.input = Source::bytes(bytes)),
                },
                Way::Duplicate if target == "-" => Ok(()),
                Way::Duplicate if matches!(target.as_str(), "0" | "1" | "2") => {
                    let sink = if target == "2" { io.err.clone() } else { io.out.clone() };
                    match redirect.fd {
                        1 => io.out = sink,
                        2 => io.err = sink,
                        _ => {}
                    }
                    Ok(())
                }
                Way::Out | Way::Append | Way::Both | Way::Duplicate => {
                    match target.strip_prefix("/dev/tcp/").or_else(|| target.strip_prefix("/dev/udp/")) {
                        Some(address) if self.dialect == "bash" => self.dial(&target, address, &io),
                        _ => self.open(&target, redirect.way == Way::Append).map(|sink| {
                            match (redirect.way, redirect.fd) {
                                (Way::Both | Way::Duplicate, _) => {
                                    io.out = sink.clone();
                                    io.err = sink;
                                }
                                (_, 2) => io.err = sink,
                                (_, 0 | 1) => io.out = sink,
                                _ => {}
                            }
                        }),
                    }
                }
            };
            if let Err(errno) = result {
                let text = match self.dialect {
                    "bash" => format!("{}: {target}: {}\n", self.name, errno.text()),
                    _ if redirect.way == Way::In => format!("{}: can't open {target}: no such file\n", self.name),
                    _ => format!("{}: can't create {target}: {}\n", self.name, errno.text()),
                };
                self.complain(&io, &text);
                return None;
            }
        }
        Some(io)
    }

    /// A connection that a redirection asks for: told of, never made.
    fn dial(&mut self, target: &str, address: &str, io: &Io) -> Result<(), Errno> {
        self.session.emit(
            EventType::DownloadAttempt,
            format!("connection out by the shell: {}", told(target)),
            &[
                ("url", &told(&format!("tcp://{}", address.replacen('/', ":", 1)))),
                ("tool", self.dialect),
                ("command", &told(target)),
            ],
        );
        let text = format!("{}: connect: No route to host\n", self.name);
        self.complain(io, &text);
        Err(Errno::NoEntry)
    }

    fn open(&mut self, target: &str, append: bool) -> Result<Sink, Errno> {
        match target {
            "/dev/null" => return Ok(Sink::Null),
            "/dev/stdout" | "/dev/tty" | "/dev/fd/1" => return Ok(Sink::Out),
            "/dev/stderr" | "/dev/fd/2" => return Ok(Sink::Err),
            "" => return Err(Errno::NoEntry),
            _ => {}
        }
        let path = if append && self.files.stat(&self.cwd, target, true).is_ok() {
            self.files.write(&self.cwd, target, None, b"")?;
            self.files.resolve(&self.cwd, target, true)?
        } else {
            self.files.truncate(&self.cwd, target, 0)?
        };
        if self.written.len() < 64 && !self.written.contains(&path) {
            self.written.push(path.clone());
        }
        Ok(Sink::File(path))
    }

    async fn simple(&mut self, assignments: &[(String, Word)], words: &[Word], redirects: &[Redirect], io: &Io) -> i32 {
        if self.tired() {
            return 130;
        }
        let mut argv = self.expand_words(words).await;
        let Some(io) = self.redirect(redirects, io).await else { return 1 };
        let mut kept = Vec::new();
        let mut status = if words.is_empty() { self.status * i32::from(!assignments.is_empty()) } else { 0 };
        for (name, value) in assignments {
            status = 0;
            let value = self.expand_one(value).await;
            if !argv.is_empty() {
                kept.push((name.clone(), self.variables.get(name).cloned()));
            }
            self.set(name, &value);
        }
        let Some(first) = argv.first().cloned() else { return status };
        if let Some(alias) = self.aliases.get(&first).cloned()
            && let Some((_, rest)) = argv.split_first()
        {
            argv = alias.split_whitespace().map(str::to_owned).chain(rest.iter().cloned()).collect();
        }
        status = self.call(&argv, &io).await;
        for (name, value) in kept {
            match value {
                Some(value) => self.variables.insert(name, value),
                None => self.variables.remove(&name),
            };
        }
        if matches!(io.out, Sink::Out) {
            self.flush().await;
        }
        status
    }

    /// Runs a command with its arguments.
    pub(super) fn call<'a>(&'a mut self, argv: &'a [String], io: &'a Io) -> BoxFuture<'a, i32> {
        Box::pin(async move {
            let Some(name) = argv.first() else { return 0 };
            if let Some(body) = self.functions.get(name).cloned() {
                if self.depth >= MAX_DEPTH {
                    return 254;
                }
                self.depth += 1;
                let kept = std::mem::replace(&mut self.positional, argv.get(1..).unwrap_or_default().to_vec());
                let status = self.run(&body, io).await;
                self.positional = kept;
                self.depth -= 1;
                if self.flow == Some(Flow::Return) {
                    self.flow = None;
                    return self.status;
                }
                return status;
            }
            cmd::call(self, argv, io).await
        })
    }
}
