//! RabbitMQ: a private node with a port mapper of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::process::Signal;

use super::{Scratch, Server, Source, keeper::Keeper};
use crate::proc::{self, Account, Proc};
use crate::{ports, ui};

/// The paths of the server's start script and of Erlang's port mapper.
pub struct Programs {
    server: PathBuf,
    epmd: PathBuf,
}

/// The RabbitMQ of this machine.
pub fn find() -> Option<Programs> {
    // Not Debian's wrapper of the same name: that one insists on the system's own folders.
    let packaged = PathBuf::from("/usr/lib/rabbitmq/bin/rabbitmq-server");
    let server = if packaged.is_file() { packaged } else { proc::find_program("rabbitmq-server", &["/usr/sbin"])? };
    let epmd = proc::find_program("epmd", &["/usr/bin", "/usr/lib/erlang/bin"])?;
    Some(Programs { server, epmd })
}

pub(super) fn up(source: Source<Programs>, scratch: &Scratch, logs: &Path) -> Result<Server> {
    let since = Instant::now();
    let (server, place, how) = match source {
        Source::Named(url) => {
            let place = super::postgres::place(&url, 5672);
            (Server::elsewhere(url), place, "named by AEGIS_UP_RABBITMQ_URL")
        }
        Source::Compose(port) => (Server::elsewhere(url(port)), local(port), "in a container"),
        Source::Local(programs) => {
            ui::step("rabbitmq", "starting, this takes a while");
            let (port, node, epmd) = start(&programs, scratch, logs)?;
            let server = Server { url: url(port), keeper: Some(node), procs: vec![epmd] };
            (server, local(port), "local programs")
        }
    };
    ui::done("rabbitmq", &format!("{place}, {how}"), since);
    Ok(server)
}

fn start(programs: &Programs, scratch: &Scratch, logs: &Path) -> Result<(u16, Keeper, Proc)> {
    let account = Account::for_server("rabbitmq")?;
    let folder = scratch.folder("rabbitmq", account)?;
    let file = |name: &str, text: &str| -> Result<PathBuf> {
        let path = folder.join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400))?;
        Account::own(account, &path)?;
        Ok(path)
    };
    file(".erlang.cookie", &ports::random_hex(16)?)?;
    let plugins = file("enabled_plugins", "[].\n")?;
    // Empty, so that what is set for the system's own node does not reach this one.
    let environment = file("rabbitmq-env.conf", "")?;
    let config = file("rabbitmq.conf", "disk_free_limit.absolute = 50MB\n")?;
    let (port, distribution, mapper) = (ports::free()?, ports::free()?, ports::free()?);
    let command = |program: &Path| {
        let mut command = Command::new(program);
        Account::apply(account, &mut command)
            .current_dir(&folder)
            .env("HOME", &folder)
            .env("ERL_EPMD_PORT", mapper.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1");
        command
    };

    // Started here and not by the node, which would leave it running as a daemon.
    let mut epmd = Proc::spawn(
        "epmd",
        command(&programs.epmd).args(["-port", &mapper.to_string(), "-address", "127.0.0.1"]),
        &logs.join("epmd.log"),
        Signal::TERM,
    )?;
    proc::wait_until(&mut epmd, Duration::from_secs(10), || {
        // A request for the list of names (length 1, 'n').
        ports::ask(ports::local(mapper), &[0, 1, b'n']).is_ok_and(|answer| !answer.is_empty())
    })?;

    let mut node = command(&programs.server);
    node.env("RABBITMQ_NODENAME", format!("aegis-{}@localhost", ports::random_hex(4)?))
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_PORT", port.to_string())
        .env("RABBITMQ_DIST_PORT", distribution.to_string())
        .env("RABBITMQ_MNESIA_BASE", folder.join("data"))
        .env("RABBITMQ_LOG_BASE", folder.join("log"))
        .env("RABBITMQ_LOGS", "-")
        .env("RABBITMQ_SCHEMA_DIR", folder.join("schema"))
        .env("RABBITMQ_GENERATED_CONFIG_DIR", folder.join("config"))
        .env("RABBITMQ_PID_FILE", folder.join("pid"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", plugins)
        .env("RABBITMQ_CONF_ENV_FILE", environment)
        .env("RABBITMQ_CONFIG_FILE", config)
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}")
        // Makes the start script become the node, rather than watch over it.
        .env("RUNNING_UNDER_SYSTEMD", "true")
        .env_remove("NOTIFY_SOCKET");
    let log = logs.join("rabbitmq.log");
    let mut running = Proc::spawn("rabbitmq", &mut node, &log, Signal::TERM)?;
    proc::wait_until(&mut running, Duration::from_secs(120), || {
        // The protocol's greeting; the first frame back is a method frame (1).
        ports::ask(ports::local(port), b"AMQP\x00\x00\x09\x01").is_ok_and(|answer| answer.first() == Some(&1))
    })?;
    let again = move || Proc::spawn_again("rabbitmq", &mut node, &log, Signal::TERM);
    // Beside the node's own folder, which only its account can read.
    let keeper = Keeper::new(running, again, logs.join("rabbitmq.pid"))?;
    Ok((port, keeper, epmd))
}

fn url(port: u16) -> String {
    format!("amqp://guest:guest@127.0.0.1:{port}")
}

fn local(port: u16) -> String {
    format!("127.0.0.1:{port}")
}
