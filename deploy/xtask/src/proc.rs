//! Child processes: each in its own process group, stopped for certain, with its log at hand.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::signal::unix::{SignalKind, signal};

use crate::guard;

const POLL: Duration = Duration::from_millis(50);

static SIGNALS: AtomicU32 = AtomicU32::new(0);

/// The developer (or the system) asked this program to stop.
#[derive(Debug)]
pub struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Notes SIGINT, SIGTERM and SIGHUP for [`check`]; the second one exits at once and leaves the rest to the
/// watchdog.
pub fn watch_signals() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate, mut hangup) = {
        let _context = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?)
    };
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
                if SIGNALS.fetch_add(1, Ordering::SeqCst) > 0 {
                    std::process::exit(130);
                }
            }
        });
    })?;
    Ok(())
}

/// Fails with [`Interrupted`] once a signal came.
pub fn check() -> Result<()> {
    if SIGNALS.load(Ordering::SeqCst) > 0 {
        return Err(Interrupted.into());
    }
    Ok(())
}

/// Waits a little, less if a signal comes.
pub fn pause() -> Result<()> {
    check()?;
    std::thread::sleep(POLL);
    check()
}

/// A server that runs in the background, in a process group of its own, with its output in a file.
#[derive(Debug)]
pub struct Proc {
    name: String,
    child: Child,
    log: PathBuf,
    stop: Signal,
    stopping: bool,
}

impl Proc {
    /// Starts `command`. `stop` is the signal that asks it to end.
    pub fn spawn(name: &str, command: &mut Command, log: &Path, stop: Signal) -> Result<Self> {
        let output = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        Self::spawn_into(name, command, log, output, stop)
    }

    /// As [`Proc::spawn`], after what its log has already.
    pub fn spawn_again(name: &str, command: &mut Command, log: &Path, stop: Signal) -> Result<Self> {
        let output =
            File::options().append(true).open(log).with_context(|| format!("cannot write {}", log.display()))?;
        Self::spawn_into(name, command, log, output, stop)
    }

    fn spawn_into(name: &str, command: &mut Command, log: &Path, output: File, stop: Signal) -> Result<Self> {
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {name} ({})", command.get_program().display()))?;
        guard::group(child.id());
        Ok(Self { name: name.to_owned(), child, log: log.to_owned(), stop, stopping: false })
    }

    /// The process's number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process runs.
    pub fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The process's name, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Fails, with the last lines of the log, if the process has ended.
    pub fn check_alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                bail!("{} ended by itself ({}){}", self.name, describe(status), self.last_lines())
            }
        }
    }

    /// The end of the log, with a heading that says whose it is.
    pub fn last_lines(&self) -> String {
        const LINES: usize = 20;
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        if lines.is_empty() {
            return "; its log is empty".to_owned();
        }
        let tail = lines[lines.len().saturating_sub(LINES)..].join("\n    ");
        format!("; last lines of {}:\n    {tail}", self.log.display())
    }

    /// Waits until the process has ended by itself. Fails if a signal comes.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            pause()?;
        }
    }

    /// Asks the process to end, and does not wait.
    pub fn begin_stop(&mut self) {
        if !self.stopping {
            self.stopping = true;
            signal_group(&self.child, self.stop);
        }
    }

    fn finish_stop(&mut self) {
        const GRACE: Duration = Duration::from_secs(15);
        self.begin_stop();
        let since = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && since.elapsed() < GRACE {
            std::thread::sleep(POLL);
        }
        // Also what the process itself may have left in its group.
        signal_group(&self.child, Signal::KILL);
        let _ = self.child.wait();
        guard::gone(self.child.id());
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        self.finish_stop();
    }
}

fn signal_group(child: &Child, signal: Signal) {
    if let Some(group) = pid(child) {
        // An empty group is what is wanted, so a failure is none.
        let _ = kill_process_group(group, signal);
    }
}

fn pid(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "for an unknown reason".to_owned(),
    }
}

/// Polls `ready` until it holds. Fails if `limit` passes, the process ends or a signal comes.
pub fn wait_until(process: &mut Proc, limit: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
    let since = Instant::now();
    loop {
        process.check_alive()?;
        if ready() {
            return Ok(());
        }
        if since.elapsed() > limit {
            bail!("{} is not ready after {} s{}", process.name, limit.as_secs(), process.last_lines());
        }
        pause()?;
    }
}

/// Runs a command whose output the developer sees, and gives its exit status. Ended on a signal.
pub fn run(command: &mut Command) -> Result<ExitStatus> {
    let child = command
        .process_group(0)
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    guard::group(child.id());
    let mut child = Foreground { child, group: true };
    loop {
        if let Some(status) = child.child.try_wait()? {
            return Ok(status);
        }
        pause()?;
    }
}

/// As [`run`], and any exit status but success is a failure.
pub fn run_ok(command: &mut Command) -> Result<()> {
    let status = run(command)?;
    if status.success() {
        return Ok(());
    }
    bail!("`{}` failed ({})", words(command), describe(status))
}

/// Runs a command on the developer's own terminal: Ctrl-C reaches it, and what it makes of it counts.
pub fn run_interactive(command: &mut Command) -> Result<ExitStatus> {
    let child = command.spawn().with_context(|| format!("cannot run {}", command.get_program().display()))?;
    let mut child = Foreground { child, group: false };
    let mut asked = false;
    loop {
        if let Some(status) = child.child.try_wait()? {
            return Ok(status);
        }
        if check().is_err() && !asked {
            asked = true;
            if let Some(pid) = pid(&child.child) {
                let _ = kill_process(pid, Signal::TERM);
            }
        }
        std::thread::sleep(POLL);
    }
}

/// Ends a command that is still running when its guard is dropped.
struct Foreground {
    child: Child,
    group: bool,
}

impl Drop for Foreground {
    fn drop(&mut self) {
        if self.group {
            if matches!(self.child.try_wait(), Ok(None)) {
                signal_group(&self.child, Signal::TERM);
                let since = Instant::now();
                while matches!(self.child.try_wait(), Ok(None)) && since.elapsed() < Duration::from_secs(10) {
                    std::thread::sleep(POLL);
                }
            }
            signal_group(&self.child, Signal::KILL);
            guard::gone(self.child.id());
        } else {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// Runs a short command with `input` and gives what it printed; its errors become ours.
pub fn output(command: &mut Command, input: &str) -> Result<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that does not read its input to the end says why in its status.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let program = Path::new(command.get_program()).display().to_string();
        let why = String::from_utf8_lossy(&output.stderr);
        bail!("{program} failed ({}): {}", describe(output.status), why.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn words(command: &Command) -> String {
    std::iter::once(command.get_program())
        .map(|program| Path::new(program).file_name().unwrap_or(program))
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

/// The program's path, if `PATH` or one of `more` has it.
pub fn find_program(name: &str, more: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(more.iter().map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// Whether this is root, whom some servers refuse.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A user of this machine.
#[derive(Debug, Clone, Copy)]
pub struct Account {
    uid: u32,
    gid: u32,
}

impl Account {
    /// The account `name` to run a server as, or none if this is not root and so cannot change.
    pub fn for_server(name: &str) -> Result<Option<Self>> {
        if !is_root() {
            return Ok(None);
        }
        let table = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
        table
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
            .find(|fields| fields.first() == Some(&name))
            .and_then(|fields| Some(Self { uid: fields.get(2)?.parse().ok()?, gid: fields.get(3)?.parse().ok()? }))
            .map(Some)
            .ok_or_else(|| anyhow!("there is no user `{name}`, whom the server has to run as"))
    }

    /// Makes `command` run as this account.
    pub fn apply(account: Option<Self>, command: &mut Command) -> &mut Command {
        match account {
            Some(account) => command.uid(account.uid).gid(account.gid),
            None => command,
        }
    }

    /// Gives `path` to this account.
    pub fn own(account: Option<Self>, path: &Path) -> Result<()> {
        if let Some(account) = account {
            std::os::unix::fs::chown(path, Some(account.uid), Some(account.gid))
                .with_context(|| format!("cannot give {} away", path.display()))?;
        }
        Ok(())
    }
}
