//! The product and the floor as processes of their own.

use std::{
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use axum::{Router, http::header, routing::get};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use super::{client::Client, home::Home};

/// Of `admin`, in a data folder that lives as long as the run.
pub const PASSWORD: &str = "bench-9-Walrus-rides";
/// A process that is not ready by then never is.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often memory is looked at.
const SAMPLE: Duration = Duration::from_millis(20);

/// What is said before the address of a process that listens.
const HTTP: &str = "listening on http://";
/// The same of the bare SSH server.
pub const SSH: &str = "listening on ssh://";

/// A line of a process's `/proc/<pid>/status`, in megabytes of a million bytes.
pub fn memory_mb(pid: u32, line: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib: f64 = status
        .lines()
        .find_map(|row| row.strip_prefix(line)?.strip_prefix(':')?.trim().strip_suffix(" kB"))
        .context("the system does not tell the memory of a process")?
        .parse()?;
    Ok(kib * 1024.0 / 1e6)
}

/// Seconds of a processor that a process has used up to now.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    /// The unit in which Linux tells them, on every machine.
    const TICKS: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name before them may have anything in it.
    let (_, fields) = stat.rsplit_once(')').context("the system does not tell the time of a process")?;
    let ticks = |at: usize| fields.split_whitespace().nth(at).and_then(|field| field.parse::<f64>().ok());
    let (user, system) = ticks(11).zip(ticks(12)).context("the system does not tell the time of a process")?;
    Ok((user + system) / TICKS)
}

/// The process that was started by another one with this among its arguments.
pub fn child_of(parent: u32, argument: &str) -> Result<u32> {
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // It may have ended meanwhile.
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let of = read("status").lines().find_map(|row| row.strip_prefix("PPid:")?.trim().parse::<u32>().ok());
        if of == Some(parent) && read("cmdline").split('\0').any(|word| word == argument) {
            return Ok(pid);
        }
    }
    bail!("the product has no process `{argument}`")
}

/// A running product.
pub struct Product {
    child: Child,
    /// Where it listens.
    pub address: String,
}

impl Product {
    /// Starts it; says how long it took to be ready.
    pub async fn start(home: &Home) -> Result<(Product, Duration)> {
        let mut command = Command::new(home.bin());
        command
            .envs(home.settings())
            .env("AEGIS_LISTEN", "127.0.0.1:0")
            .env("AEGIS_ADMIN_PASSWORD", PASSWORD)
            // All who ask are at one address here.
            .env("AEGIS_CONNECTIONS_PER_ADDRESS", "0")
            .env("AEGIS_LOG", "error");
        let began = Instant::now();
        let (child, address) = start(command, HTTP).await?;
        Ok((Product { child, address }, began.elapsed()))
    }

    /// A connection with a fresh token.
    pub async fn login(&self, username: &str, password: &str) -> Result<Client> {
        let mut client = Client::connect(&self.address, None).await?;
        let body = json!({ "username": username, "password": password });
        let answer = client.send("POST", "/api/v1/auth/login", Some(&body), 200).await?;
        let token = answer["access_token"].as_str().context("login gave no token")?;
        Client::connect(&self.address, Some(token.to_owned())).await
    }

    /// The number of its process.
    pub fn pid(&self) -> Result<u32> {
        self.child.id().context("the product has ended")
    }

    /// A line of `/proc/<pid>/status`, in megabytes of a million bytes.
    pub fn memory_mb(&self, line: &str) -> Result<f64> {
        memory_mb(self.pid()?, line)
    }

    /// Waits until it does nothing of its own any more: what follows from an import, say, is no part of what comes next.
    pub async fn quiet(&self) -> Result<()> {
        const LOOK: Duration = Duration::from_secs(1);
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            let before = cpu_seconds(self.pid()?)?;
            tokio::time::sleep(LOOK).await;
            if cpu_seconds(self.pid()?)? - before < 0.05 {
                return Ok(());
            }
        }
        bail!("the product is still busy with itself after {} s", PATIENCE.as_secs())
    }

    /// Does `work`, and tells the most memory, in megabytes, that the product had allocated meanwhile; the pages of its
    /// program do not count.
    pub async fn peak_mb<T>(&self, work: impl Future<Output = Result<T>>) -> Result<(T, f64)> {
        let mut most = 0.0_f64;
        let watched = async {
            loop {
                most = most.max(self.memory_mb("RssAnon")?);
                tokio::time::sleep(SAMPLE).await;
            }
        };
        let done = tokio::select! {
            done = work => done?,
            failed = watched => return failed,
        };
        Ok((done, most))
    }

    /// Runs a command of the product's program beside it; gives what it printed as JSON.
    pub async fn command(&self, home: &Home, arguments: &[&str]) -> Result<Value> {
        let output = Command::new(home.bin())
            .args(arguments)
            .arg("--json")
            .envs(home.settings())
            .env("AEGIS_LISTEN", &self.address)
            .env("AEGIS_LOG", "error")
            .output()
            .await?;
        if !output.status.success() {
            bail!("aegis {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        let last = output.stdout.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty());
        Ok(serde_json::from_slice(last.unwrap_or(b"null"))?)
    }

    /// Ends it in good order.
    pub async fn stop(mut self) -> Result<()> {
        terminate(&mut self.child).await
    }
}

/// A bare axum route that answers the same bytes from memory, or a bare SSH server.
pub struct Floor {
    child: Child,
    /// Where it listens.
    pub address: String,
    _body: Option<tempfile::NamedTempFile>,
}

impl Floor {
    /// Starts it.
    pub async fn start(body: &[u8]) -> Result<Floor> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), body)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("floor").arg(file.path());
        let (child, address) = start(command, HTTP).await?;
        Ok(Floor { child, address, _body: Some(file) })
    }

    /// Starts the SSH server.
    pub async fn ssh() -> Result<Floor> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("floor");
        let (child, address) = start(command, SSH).await?;
        Ok(Floor { child, address, _body: None })
    }

    /// The number of its process.
    pub fn pid(&self) -> Result<u32> {
        self.child.id().context("the floor has ended")
    }

    /// Ends it.
    pub async fn stop(mut self) -> Result<()> {
        self.child.kill().await.context("cannot end the floor")
    }
}

/// Serves the file's bytes until the process ends.
pub async fn serve_floor(body: PathBuf) -> Result<()> {
    let body = axum::body::Bytes::from(tokio::fs::read(body).await?);
    let answer = move || std::future::ready(([(header::CONTENT_TYPE, "application/json")], body.clone()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, Router::new().route("/", get(answer))).await?;
    Ok(())
}

async fn start(mut command: Command, says: &str) -> Result<(Child, String)> {
    let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().context("cannot start the process")?;
    let stdout = child.stdout.take().context("the process has no output")?;
    let mut lines = BufReader::new(stdout).lines();
    let ready = async {
        while let Some(line) = lines.next_line().await? {
            if let Some(address) = line.strip_prefix(says) {
                return anyhow::Ok(address.to_owned());
            }
        }
        bail!("the process ended before it listened")
    };
    let address = tokio::time::timeout(PATIENCE, ready).await.context("the process was not ready in time")??;
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok((child, address))
}

async fn terminate(child: &mut Child) -> Result<()> {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw) {
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    }
    tokio::time::timeout(PATIENCE, child.wait()).await.context("the process did not end")??;
    Ok(())
}
