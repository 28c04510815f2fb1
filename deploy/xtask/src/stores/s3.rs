//! S3: a real server in this process over a temporary folder, unless one is named.

use std::fs;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::Scratch;
use crate::{ports, ui};

const REGION: &str = "us-east-1";
const BUCKET: &str = "aegis";

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
    // Runs the server while it is held; none if the server is not ours.
    _runtime: Option<Runtime>,
}

impl S3 {
    pub(super) fn up(scratch: &Scratch) -> Result<Self> {
        let since = Instant::now();
        let (store, how) = match setting("AEGIS_UP_S3_ENDPOINT") {
            Some(endpoint) => (Self::named(endpoint)?, "named by AEGIS_UP_S3_ENDPOINT"),
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
            _runtime: None,
        })
    }

    fn start(scratch: &Scratch) -> Result<Self> {
        let folder = scratch.folder("s3", None)?;
        fs::create_dir_all(folder.join(BUCKET))?;
        let access_key_id = format!("AEGIS{}", ports::random_hex(8)?.to_uppercase());
        let secret_access_key = ports::random_hex(20)?;
        let files = FileSystem::new(&folder).map_err(|error| anyhow!("S3 folder: {error:?}"))?;
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(access_key_id.clone(), secret_access_key.clone()));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("s3").enable_all().build()?;
        let port = ports::free()?;
        let listener = runtime.block_on(TcpListener::bind(ports::local(port)))?;
        runtime.spawn(serve(listener, builder.build()));
        Ok(Self {
            endpoint: format!("http://127.0.0.1:{port}"),
            region: REGION.to_owned(),
            bucket: BUCKET.to_owned(),
            access_key_id,
            secret_access_key,
            _runtime: Some(runtime),
        })
    }
}

async fn serve(listener: TcpListener, service: S3Service) {
    let http = Builder::new(TokioExecutor::new());
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            // Out of file handles, most likely: others will close theirs.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
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
