//! One running `aegis`.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use super::watchdog;

/// A debug build on a busy machine may take its time.
const START: Duration = Duration::from_secs(60);
const LISTENING: &str = "listening on ";

/// The binary under test, with nothing of the developer's own settings in its environment.
pub fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aegis"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("AEGIS_") || name.starts_with("OTEL_") || name == "DECNET_DEVELOPER" {
            command.env_remove(name.as_ref());
        }
    }
    command.stdin(Stdio::null());
    command
}

/// A port that nobody listens on, below the range from which outgoing connections draw theirs.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 12_000;
    const COUNT: u16 = 8_000;
    // Two runs at a time begin apart.
    let start = (std::process::id() % u32::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let offset = (start + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, FIRST + offset)).is_ok() {
            return FIRST + offset;
        }
    }
    panic!("no free port");
}

/// A process with its output in files. Ended hard when dropped.
pub struct Process {
    pub name: String,
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Process {
    /// Starts `command`; its output goes into `logs`.
    pub fn spawn(name: &str, mut command: Command, logs: &Path) -> Process {
        let (out, err) = (logs.join(format!("{name}.out")), logs.join(format!("{name}.err")));
        let child = command
            .stdout(File::create(&out).expect("a log"))
            .stderr(File::options().create(true).append(true).open(&err).expect("a log"))
            .spawn()
            .unwrap_or_else(|e| panic!("{name} starts: {e}"));
        watchdog::process(child.id());
        Process { name: name.to_owned(), child, out, err }
    }

    /// Waits until it says where it listens, and gives that address.
    pub async fn listening(&mut self) -> String {
        let since = Instant::now();
        loop {
            let text = self.stdout();
            // A whole line: the rest of it may still come.
            let line = text.split_inclusive('\n').find(|line| line.starts_with(LISTENING) && line.ends_with('\n'));
            if let Some(line) = line {
                let url = line.trim().trim_start_matches(LISTENING);
                return url.split_once("://").map_or(url, |(_, address)| address).to_owned();
            }
            if let Some(status) = self.child.try_wait().expect("a status") {
                panic!("{} ended by itself ({status}){}", self.name, self.last_lines());
            }
            assert!(since.elapsed() < START, "{} does not listen{}", self.name, self.last_lines());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What it printed.
    pub fn stdout(&self) -> String {
        fs::read_to_string(&self.out).unwrap_or_default()
    }

    /// What it logged.
    pub fn stderr(&self) -> String {
        fs::read_to_string(&self.err).unwrap_or_default()
    }

    /// The end of its log, for messages.
    pub fn last_lines(&self) -> String {
        let text = format!("{}{}", self.stdout(), self.stderr());
        let lines: Vec<&str> = text.lines().collect();
        format!("; its last lines:\n    {}", lines[lines.len().saturating_sub(20)..].join("\n    "))
    }

    pub fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// kill -9, and waits for the end.
    pub fn kill9(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        watchdog::gone(self.child.id());
    }

    /// Has it read its files again (SIGHUP).
    pub fn hang_up(&self) {
        rustix::process::kill_process(self.pid(), rustix::process::Signal::HUP).expect("the process takes signals");
    }

    fn pid(&self) -> rustix::process::Pid {
        i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a pid")
    }

    /// Asks it to stop (SIGTERM) and gives its exit status.
    pub async fn terminate(&mut self) -> ExitStatus {
        rustix::process::kill_process(self.pid(), rustix::process::Signal::TERM).expect("the process takes signals");
        let since = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a status") {
                watchdog::gone(self.child.id());
                return status;
            }
            assert!(since.elapsed() < START, "{} does not stop{}", self.name, self.last_lines());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
    }
}
