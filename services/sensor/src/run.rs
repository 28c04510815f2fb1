//! The sensor as a whole: puts its parts together, and ends them in good order.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::DirBuilderExt,
    path::Path,
    time::Duration,
};

use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    buffer::Buffer,
    config::Config,
    control::{self, Attached},
    decoys,
    hosting::{Fleet, Make},
    intake,
    keep::{self, Spool},
    limits::Gate,
    link::Link,
    listen::Hosting,
    outlet::outlet,
    session::Limits,
    sweeps::Sweeps,
};

/// What connections have to end themselves when the sensor is to stop.
const PATIENCE: Duration = Duration::from_secs(3);

/// Makes the sensor's own folder, which nobody else can look into.
pub fn prepare(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Hosts what deception says until the process is to stop, and hands in what happens.
pub async fn run(config: Config, stop: CancellationToken) -> io::Result<()> {
    run_with(config, stop, decoys::server).await
}

async fn run_with(config: Config, stop: CancellationToken, make: Make) -> io::Result<()> {
    let folder = config.folder.clone();
    prepare(&folder)?;
    let _lock = lock(&folder)?;
    let sensor_id = own_id(&folder)?;
    let service = aegis_rpc::remote_over(&config.deception_url, &config.tls).map_err(io::Error::other)?;
    let link = Link::new(service, config.token.clone());

    let spool = Spool::open(&folder)?;
    let (buffer, writer) = Buffer::open(&folder.join("buffer"), config.buffer_bytes)?;
    let (outlet, reports) = outlet(spool.incoming());
    let state = outlet.state().clone();
    spool.recover(&state)?;

    let hosting = Hosting {
        outlet,
        gate: Gate::new(config.connections_per_address, config.connections),
        sweeps: Sweeps::default(),
        limits: Limits { idle: config.idle, total: config.total, bytes: config.bytes_per_connection },
        connections: TaskTracker::new(),
        stop: stop.clone(),
    };
    let connections = hosting.connections.clone();
    let fleet = Fleet::new(hosting, make);
    let assignments = watch::Sender::new(control::last(&folder));
    let (made, how) = watch::channel(control::Made::default());
    let attached = Attached {
        link: link.clone(),
        hello: Attached::hello(sensor_id, &config.name),
        buffer: buffer.clone(),
        state: state.clone(),
        folder,
        assignments: assignments.clone(),
    };

    let keeper = tokio::spawn(keep::run(reports, writer, spool.clone()));
    let tasks = TaskTracker::new();
    tasks.spawn(control::host(fleet, assignments.subscribe(), made, stop.clone()));
    tasks.spawn(attached.run(how, stop.clone()));
    tasks.spawn(intake::hand_in(link.clone(), sensor_id, buffer, stop.clone()));
    tasks.spawn(intake::put_artifacts(link, spool, state, stop.clone()));
    tasks.close();
    tracing::info!(sensor = %sensor_id, "the sensor runs");

    tokio::select! {
        () = stop.cancelled() => {}
        () = tasks.wait() => {}
    }
    connections.close();
    let ended = tokio::time::timeout(PATIENCE, async {
        tasks.wait().await;
        connections.wait().await;
        // Ends when nobody can tell anything any more.
        keeper.await
    });
    if ended.await.is_err() {
        tracing::warn!("some connections did not end in time");
    }
    Ok(())
}

/// Two processes on one folder would write over each other.
fn lock(folder: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(folder.join("lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(io::Error::other(format!("another sensor works in {}", folder.display()))),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// The id that it gave itself at its first start.
fn own_id(folder: &Path) -> io::Result<Uuid> {
    let path = folder.join("sensor-id");
    if let Ok(text) = std::fs::read_to_string(&path)
        && let Ok(id) = text.trim().parse()
    {
        return Ok(id);
    }
    let id = Uuid::now_v7();
    let new = folder.join("sensor-id.new");
    std::fs::write(&new, id.to_string())?;
    std::fs::rename(new, path)?;
    Ok(id)
}

#[cfg(test)]
mod tests;
