//! S3: a real server in this process over a temporary folder, unless one is named.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use rustix::process::Signal;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::{Scratch, keeper::Keeper};
use crate::proc::{self, Proc};
use crate::{ports, ui};

const REGION: &str = "us-east-1";
const BUCKET: &str = "aegis";
/// Variables of a store that is a process of its own.
const KEYS: [&str; 2] = ["AEGIS_UP_S3_ACCESS_KEY_ID", "AEGIS_UP_S3_SECRET_ACCESS_KEY"];

/// An S3 store and the keys to it.
#[derive(Debug)]
pub struct S3 {
    /// The server's URL.
    pub endpoint: String,
    /// The region that requests are signed for.
    pub region: String,
    /// The bucket, which exists.
    pub bucket: String,
    /// The access key's id.
    pub access_key_id: String,
    /// The access key's secret.
    pub secret_access_key: String,
    /// Where it is a process of its own, which is started again when it ends.
    pub(super) keeper: Option<Keeper>,
    // Runs the server while it is held; none if the server is not in this process.
    _runtime: Option<Runtime>,
}

impl S3 {
    pub(super) fn up(scratch: &Scratch, logs: &Path, kept: bool) -> Result<Self> {
        let since = Instant::now();
        let (store, how) = match setting("AEGIS_UP_S3_ENDPOINT") {
            Some(endpoint) => (Self::named(endpoint)?, "named by AEGIS_UP_S3_ENDPOINT"),
            None if kept => (Self::start_apart(scratch, logs)?, "a process of its own"),
            None => (Self::start(scratch)?, "in this process"),
        };
        ui::done("s3", &format!("{}, {how}", store.endpoint), since);
        Ok(store)
    }

    fn named(endpoint: String) -> Result<Self> {
        let needed = |name: &str| setting(name).with_context(|| format!("AEGIS_UP_S3_ENDPOINT needs {name} too"));
        Ok(Self {
            endpoint,
            region: setting("AEGIS_UP_S3_REGION").unwrap_or_else(|| REGION.to_owned()),
            bucket: setting("AEGIS_UP_S3_BUCKET").unwrap_or_else(|| BUCKET.to_owned()),
            access_key_id: needed("AEGIS_UP_S3_ACCESS_KEY_ID")?,
            secret_access_key: needed("AEGIS_UP_S3_SECRET_ACCESS_KEY")?,
            keeper: None,
            _runtime: None,
        })
    }

    fn start(scratch: &Scratch) -> Result<Self> {
        let (folder, port, keys) = (folder(scratch)?, ports::free()?, Keys::new()?);
        let service = service(&folder, &keys)?;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("s3").enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind(ports::local(port)))?;
        runtime.spawn(answer(listener, service));
        Ok(Self::local(port, keys, None, Some(runtime)))
    }

    /// This program once more, as nothing but the store.
    fn start_apart(scratch: &Scratch, logs: &Path) -> Result<Self> {
        let (folder, port, keys) = (folder(scratch)?, ports::free()?, Keys::new()?);
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("serve-s3").arg(&folder).arg(port.to_string());
        command.env(KEYS[0], &keys.id).env(KEYS[1], &keys.secret);
        let log = logs.join("s3.log");
        let mut running = Proc::spawn("s3", &mut command, &log, Signal::TERM)?;
        proc::wait_until(&mut running, Duration::from_secs(30), || {
            ports::ask(ports::local(port), b"GET / HTTP/1.1\r\nHost: s3\r\n\r\n").is_ok_and(|answer| !answer.is_empty())
        })?;
        let again = move || Proc::spawn_again("s3", &mut command, &log, Signal::TERM);
        let keeper = Keeper::new(running, again, logs.join("s3.pid"))?;
        Ok(Self::local(port, keys, Some(keeper), None))
    }

    fn local(port: u16, keys: Keys, keeper: Option<Keeper>, runtime: Option<Runtime>) -> Self {
        Self {
            endpoint: format!("http://127.0.0.1:{port}"),
            region: REGION.to_owned(),
            bucket: BUCKET.to_owned(),
            access_key_id: keys.id,
            secret_access_key: keys.secret,
            keeper,
            _runtime: runtime,
        }
    }
}

/// What opens the store.
struct Keys {
    id: String,
    secret: String,
}

impl Keys {
    fn new() -> Result<Self> {
        Ok(Self { id: format!("AEGIS{}", ports::random_hex(8)?.to_uppercase()), secret: ports::random_hex(20)? })
    }
}

fn folder(scratch: &Scratch) -> Result<PathBuf> {
    let folder = scratch.folder("s3", None)?;
    fs::create_dir_all(folder.join(BUCKET))?;
    Ok(folder)
}

fn service(folder: &Path, keys: &Keys) -> Result<S3Service> {
    let files = FileSystem::new(folder).map_err(|error| anyhow!("S3 folder: {error:?}"))?;
    let mut builder = S3ServiceBuilder::new(files);
    builder.set_auth(SimpleAuth::from_single(keys.id.clone(), keys.secret.clone()));
    Ok(builder.build())
}

/// The store as a process of its own, until it is told to stop. Its keys are in the environment.
pub fn serve(folder: &Path, port: u16) -> Result<u8> {
    let key = |name: &str| std::env::var(name).with_context(|| format!("{name} is not set"));
    let service = service(folder, &Keys { id: key(KEYS[0])?, secret: key(KEYS[1])? })?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(ports::local(port)).await?;
        tokio::spawn(answer(listener, service));
        while proc::check().is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    })?;
    // What is being answered is broken off.
    runtime.shutdown_background();
    Ok(0)
}

async fn answer(listener: TcpListener, service: S3Service) {
    let http = Builder::new(TokioExecutor::new());
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            // Out of file handles, most likely: others will close theirs.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let connection = http.serve_connection(TokioIo::new(socket), service.clone()).into_owned();
        // A client that goes away in the middle is no fault of the server.
        tokio::spawn(async move { drop(connection.await) });
    }
}

fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
