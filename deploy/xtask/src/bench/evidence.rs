//! Evidence: a gibibyte up and down against a bare axum handler over a file, and memory with eight at once.

use std::{
    convert::Infallible,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use axum::{
    Router,
    body::{Body as AxumBody, Bytes},
    extract::{Request as AxumRequest, State},
    http::StatusCode as AxumStatus,
    response::Response as AxumResponse,
    routing::get,
};
use http_body_util::BodyExt;
use hyper::{
    Request, Response,
    body::{Body, Frame, Incoming, SizeHint},
    client::conn::http1,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    fs::File,
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};
use tokio_util::io::ReaderStream;

use super::{
    client::Client,
    figures::Figures,
    home::{Ground, Home},
    product::{self, Product},
};

const MIB: u64 = 1024 * 1024;
/// Bytes of a file whose speed is measured.
const LARGE: u64 = 1024 * MIB;
/// Bytes of each file of those that come at once.
const SEVERAL: u64 = 256 * MIB;
/// How many come at once.
const AT_ONCE: usize = 8;
/// Times that each speed is measured, ours and the floor's in turn; the best of each counts.
const ROUNDS: usize = 2;
/// Bytes of the block that files are made of.
const BLOCK: usize = 256 * 1024;
/// What separates the parts of an upload.
const BOUNDARY: &str = "aegis-bench-boundary";

/// Measures all of it, with a product of its own: what others have done would be in its memory.
pub async fn measure(ground: &Ground, figures: &mut Figures) -> Result<()> {
    let home = Home::make(ground).await?;
    let folder = tempfile::tempdir()?;
    let (product, _) = Product::start(&home).await?;
    let admin = product.login("admin", product::PASSWORD).await?;
    let test = make_test(&admin).await?;
    let floor = Floor::start(folder.path().join("floor")).await?;
    // Idle is a product that has done each thing once.
    let small = up(&product.address, &admin, &test, 10 * MIB, 0).await?;
    down(&product.address, &small.path, 10 * MIB).await?;
    remove(&admin, &small.id).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;

    memory(&product, &admin, &test, figures).await?;
    speed(&product, &admin, &test, &floor, figures).await?;
    product.stop().await?;
    home.remove().await?;
    // Gigabytes; an error here is not to be overlooked.
    folder.close()?;
    Ok(())
}

/// One at a time, against the floor over the same connection type, client and file system.
async fn speed(product: &Product, admin: &Client, test: &str, floor: &Floor, figures: &mut Figures) -> Result<()> {
    let (mut ours, mut bare) = ([f64::MAX; 2], [f64::MAX; 2]);
    let best = |times: &mut [f64; 2], up: Duration, down: Duration| {
        *times = [times[0].min(up.as_secs_f64()), times[1].min(down.as_secs_f64())];
    };
    for round in 0..ROUNDS {
        let file = up(&product.address, admin, test, LARGE, 100 + round as u64).await?;
        let took = down(&product.address, &file.path, LARGE).await?;
        best(&mut ours, file.took, took);
        remove(admin, &file.id).await?;

        let began = Instant::now();
        let source = Source::new(Bytes::new(), LARGE, Bytes::new(), round as u64);
        let answer = send(&floor.address, Request::put("/file").header(HOST, &floor.address).body(source)?).await?;
        ensure!(answer.status().as_u16() == 204, "the floor answered {}", answer.status());
        let took = (began.elapsed(), down(&floor.address, "/file", LARGE).await?);
        best(&mut bare, took.0, took.1);
    }
    floor.clear()?;
    for (at, what) in ["up", "down"].into_iter().enumerate() {
        let rate = |times: &[f64; 2]| LARGE as f64 / 1e6 / times[at];
        figures.add(&format!("evidence of 1 GiB {what}"), rate(&ours), "MB/s", None);
        figures.add("  a bare axum handler over a file", rate(&bare), "MB/s", None);
        figures.add("  ratio", bare[at] / ours[at] * 100.0, "%", Some((">", 50.0)));
    }
    figures.add("  SHA-256 of as many bytes by itself", hashing(), "MB/s", None);
    figures.note("evidence up: both are on the disk (fsync) when they are answered; ours is hashed besides");
    Ok(())
}

/// How fast one processor hashes, MB/s: no upload that is hashed as it comes is faster.
fn hashing() -> f64 {
    let block = vec![0x5a_u8; BLOCK];
    let began = Instant::now();
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for _ in 0..LARGE / BLOCK as u64 {
        context.update(&block);
    }
    std::hint::black_box(context.finish());
    LARGE as f64 / 1e6 / began.elapsed().as_secs_f64()
}

/// Eight at once, first up, then down; the most that the product needs more than when it is idle.
async fn memory(product: &Product, admin: &Client, test: &str, figures: &mut Figures) -> Result<()> {
    let mut files = Vec::new();
    for phase in ["up", "down"] {
        let idle = product.memory_mb("RssAnon")?;
        let mut transfers = tokio::task::JoinSet::new();
        for n in 0..AT_ONCE {
            let (address, client, test) = (product.address.clone(), admin.another().await?, test.to_owned());
            let file: Option<Sent> = files.get(n).cloned();
            transfers.spawn(async move {
                match file {
                    None => up(&address, &client, &test, SEVERAL, 10 + n as u64).await,
                    Some(file) => down(&address, &file.path, SEVERAL).await.map(|_| file),
                }
            });
        }
        let done = async {
            let mut all = Vec::new();
            while let Some(file) = transfers.join_next().await {
                all.push(file??);
            }
            anyhow::Ok(all)
        };
        let peak;
        (files, peak) = product.peak_mb(done).await?;
        let name = format!("memory above idle, {AT_ONCE} files {phase} at once");
        figures.add(&name, peak - idle, "MB", Some(("<", 60.0)));
    }
    for file in files {
        remove(admin, &file.id).await?;
    }
    Ok(())
}

pub async fn make_test(admin: &Client) -> Result<String> {
    let mut client = admin.another().await?;
    let techniques = client.get("/api/v1/techniques?limit=1").await?;
    let technique = techniques[0]["id"].as_str().context("there is no technique")?;
    let test = json!({ "technique_id": technique, "name": "bench of evidence", "platform": "windows" });
    let test = client.send("POST", "/api/v1/tests", Some(&test), 201).await?;
    Ok(test["id"].as_str().context("a test has no id")?.to_owned())
}

async fn remove(admin: &Client, id: &str) -> Result<()> {
    let path = format!("/api/v1/evidence/{id}?reason=bench");
    let request = Request::delete(path).header(HOST, admin.address()).header(AUTHORIZATION, bearer(admin)?);
    let answer = send(admin.address(), request.body(Source::empty())?).await?;
    ensure!(answer.status().as_u16() == 204, "a removal answered {}", answer.status());
    Ok(())
}

/// A file that the product has taken.
#[derive(Clone)]
pub struct Sent {
    id: String,
    /// Of its signed link; the whole link, where that leads to an S3 store.
    path: String,
    took: Duration,
}

/// Uploads a file of so many bytes; the seed makes it another than all others.
pub async fn up(address: &str, admin: &Client, test: &str, size: u64, seed: u64) -> Result<Sent> {
    let head = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"bench-{seed}.bin\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    );
    let source = Source::new(head.into(), size, format!("\r\n--{BOUNDARY}--\r\n").into(), seed);
    let request = Request::post(format!("/api/v1/tests/{test}/evidence"))
        .header(HOST, address)
        .header(AUTHORIZATION, bearer(admin)?)
        .header(CONTENT_TYPE, format!("multipart/form-data; boundary={BOUNDARY}"))
        .body(source)?;
    let began = Instant::now();
    let answer = send(address, request).await?;
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    let took = began.elapsed();
    ensure!(status.as_u16() == 201, "an upload answered {status}: {}", String::from_utf8_lossy(&body));
    let file: Value = serde_json::from_slice(&body)?;
    let text = |name: &str| file[name].as_str().with_context(|| format!("evidence has no {name}"));
    let url = text("download_url")?;
    let path = url.find("/api/").map_or(url, |at| &url[at..]).to_owned();
    Ok(Sent { id: text("id")?.to_owned(), path, took })
}

/// Downloads and counts; says how long it took.
async fn down(address: &str, path: &str, size: u64) -> Result<Duration> {
    let began = Instant::now();
    let answer = send(address, Request::get(path).header(HOST, address).body(Source::empty())?).await?;
    ensure!(answer.status().as_u16() == 200, "a download answered {}", answer.status());
    let mut body = answer.into_body();
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        read += frame?.data_ref().map_or(0, Bytes::len) as u64;
    }
    ensure!(read == size, "a download had {read} bytes, not {size}");
    Ok(began.elapsed())
}

fn bearer(admin: &Client) -> Result<String> {
    Ok(format!("Bearer {}", admin.token().context("nobody is signed in")?))
}

/// One request on a connection of its own.
async fn send(address: &str, request: Request<Source>) -> Result<Response<Incoming>> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    let (mut connection, driver) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        // Its end is seen by who reads the answer.
        let _ = driver.await;
    });
    Ok(connection.send_request(request).await?)
}

/// A body that is made as it is sent: a head, so many bytes that begin with the seed, a tail.
struct Source {
    head: Bytes,
    seed: Bytes,
    block: Bytes,
    left: u64,
    tail: Bytes,
}

impl Source {
    fn new(head: Bytes, size: u64, tail: Bytes, seed: u64) -> Source {
        // Bytes that nothing on the way to the disk could take for holes or for each other.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ seed;
        let block: Vec<u8> = (0..BLOCK / 8)
            .flat_map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()
            })
            .collect();
        let seed = Bytes::copy_from_slice(&seed.to_le_bytes());
        Source { left: size - seed.len() as u64, head, seed, block: block.into(), tail }
    }

    fn empty() -> Source {
        Source { head: Bytes::new(), seed: Bytes::new(), block: Bytes::new(), left: 0, tail: Bytes::new() }
    }

    fn rest(&self) -> u64 {
        (self.head.len() + self.seed.len() + self.tail.len()) as u64 + self.left
    }
}

impl Body for Source {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        let next = if !this.head.is_empty() {
            std::mem::take(&mut this.head)
        } else if !this.seed.is_empty() {
            std::mem::take(&mut this.seed)
        } else if this.left > 0 {
            let size = this.left.min(this.block.len() as u64);
            this.left -= size;
            this.block.slice(..size as usize)
        } else if !this.tail.is_empty() {
            std::mem::take(&mut this.tail)
        } else {
            return Poll::Ready(None);
        };
        Poll::Ready(Some(Ok(Frame::data(next))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest())
    }
}

/// A bare axum handler that keeps one file: what there is to do at least.
struct Floor {
    address: String,
    file: PathBuf,
}

impl Floor {
    async fn start(file: PathBuf) -> Result<Floor> {
        let router = Router::new().route("/file", get(serve).put(take)).with_state(Arc::new(file.clone()));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Floor { address, file })
    }

    /// Removes the file.
    fn clear(&self) -> Result<()> {
        Ok(std::fs::remove_file(&self.file)?)
    }
}

async fn take(State(path): State<Arc<PathBuf>>, request: AxumRequest) -> Result<AxumStatus, AxumStatus> {
    let copied = async {
        let mut file = File::create(path.as_path()).await?;
        let mut body = request.into_body();
        while let Some(frame) = body.frame().await {
            if let Ok(chunk) = frame?.into_data() {
                file.write_all(&chunk).await?;
            }
        }
        // As durable as what it is compared with.
        file.flush().await?;
        file.sync_all().await?;
        anyhow::Ok(())
    };
    copied.await.map(|()| AxumStatus::NO_CONTENT).map_err(|_| AxumStatus::INTERNAL_SERVER_ERROR)
}

async fn serve(State(path): State<Arc<PathBuf>>) -> Result<AxumResponse, AxumStatus> {
    let file = File::open(path.as_path()).await.map_err(|_| AxumStatus::NOT_FOUND)?;
    Ok(AxumResponse::new(AxumBody::from_stream(ReaderStream::with_capacity(file, BLOCK))))
}
