//! Redis: a private server that keeps nothing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::process::Signal;

use super::{Scratch, Server, Source, keeper::Keeper};
use crate::proc::{self, Proc};
use crate::{ports, ui};

/// The server's path.
pub struct Programs(PathBuf);

/// A server of this machine that speaks Redis' protocol.
pub fn find() -> Option<Programs> {
    ["redis-server", "valkey-server"]
        .iter()
        .find_map(|name| proc::find_program(name, &["/usr/bin", "/usr/sbin"]))
        .map(Programs)
}

pub(super) fn up(source: Source<Programs>, scratch: &Scratch, logs: &Path, kept: bool) -> Result<Server> {
    let since = Instant::now();
    let (server, place, how) = match source {
        Source::Named(url) => {
            let place = super::postgres::place(&url, 6379);
            (Server::elsewhere(url), place, "named by AEGIS_UP_REDIS_URL")
        }
        Source::Compose(port) => (Server::elsewhere(url(port)), local(port), "in a container"),
        Source::Local(programs) => {
            let port = ports::free()?;
            let folder = scratch.folder("redis", None)?;
            let mut command = Command::new(programs.0);
            command
                .args(["--save", "", "--appendonly", "no", "--bind", "127.0.0.1", "--port"])
                .arg(port.to_string())
                .arg("--dir")
                .arg(&folder)
                .current_dir(&folder);
            let log = logs.join("redis.log");
            let mut process = Proc::spawn("redis", &mut command, &log, Signal::TERM)?;
            proc::wait_until(&mut process, Duration::from_secs(30), || {
                ports::ask(ports::local(port), b"PING\r\n").is_ok_and(|answer| answer.starts_with(b"+PONG"))
            })?;
            let mut server = Server::elsewhere(url(port));
            if kept {
                let again = move || Proc::spawn_again("redis", &mut command, &log, Signal::TERM);
                server.keeper = Some(Keeper::new(process, again, logs.join("redis.pid"))?);
            } else {
                server.procs.push(process);
            }
            (server, local(port), "local programs")
        }
    };
    ui::done("redis", &format!("{place}, {how}"), since);
    Ok(server)
}

fn url(port: u16) -> String {
    format!("redis://127.0.0.1:{port}")
}

fn local(port: u16) -> String {
    format!("127.0.0.1:{port}")
}
