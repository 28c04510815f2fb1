//! A web server on this machine that serves files, and misbehaves where it is told to.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// How one request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection closes in the middle of the body.
    Cut,
    /// The length that is told is larger than the body.
    TooLong,
    /// The length that is told is half of the body.
    TooShort,
    /// The body comes in small pieces with pauses.
    Drip,
    /// 429, and come again at once.
    Busy,
    /// A redirect to the same place.
    Loop,
    /// Zeros without end.
    Nothing,
}

#[derive(Default)]
struct State {
    files: HashMap<String, Vec<u8>>,
    /// For the next requests of a path; after the last of them it behaves.
    faults: HashMap<String, VecDeque<Fault>>,
    requests: Vec<String>,
}

/// The server. Every file has an ETag and can be asked for in parts.
#[derive(Clone)]
pub struct Mirror {
    pub base: String,
    state: Arc<Mutex<State>>,
}

impl Mirror {
    pub async fn start() -> Mirror {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let mirror = Mirror { base, state: Arc::default() };
        let server = mirror.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move {
                    let _ = server.answer(stream).await;
                });
            }
        });
        mirror
    }

    /// Serves a file and gives its url.
    pub fn serve(&self, path: &str, bytes: Vec<u8>) -> String {
        self.state.lock().unwrap().files.insert(path.to_owned(), bytes);
        format!("{}{path}", self.base)
    }

    pub fn misbehave(&self, path: &str, faults: &[Fault]) {
        self.state.lock().unwrap().faults.insert(path.to_owned(), faults.iter().copied().collect());
    }

    /// The requests so far, heads in lower case.
    pub fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }

    async fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let path = head.split_whitespace().nth(1).unwrap_or_default().to_owned();
        let head = head.to_ascii_lowercase();
        let (file, fault) = {
            let mut state = self.state.lock().unwrap();
            state.requests.push(head.clone());
            let fault = state.faults.get_mut(&path).and_then(VecDeque::pop_front);
            (state.files.get(&path).cloned(), fault)
        };
        let close = "Connection: close\r\n";
        let Some(file) = file else {
            let text = format!("HTTP/1.1 404 Not Found\r\n{close}Content-Length: 0\r\n\r\n");
            return stream.write_all(text.as_bytes()).await;
        };
        let etag = format!("\"{}-{}\"", file.len(), file.iter().map(|byte| u64::from(*byte)).sum::<u64>());
        match fault {
            Some(Fault::Busy) => {
                let text =
                    format!("HTTP/1.1 429 Too Many Requests\r\n{close}Retry-After: 0\r\nContent-Length: 0\r\n\r\n");
                return stream.write_all(text.as_bytes()).await;
            }
            Some(Fault::Loop) => {
                self.misbehave(&path, &[Fault::Loop]);
                let text = format!("HTTP/1.1 302 Found\r\n{close}Location: {path}\r\nContent-Length: 0\r\n\r\n");
                return stream.write_all(text.as_bytes()).await;
            }
            Some(Fault::Nothing) => {
                let text = format!("HTTP/1.1 200 OK\r\n{close}\r\n");
                stream.write_all(text.as_bytes()).await?;
                let zeros = vec![0; 1024 * 1024];
                for _ in 0..1024 {
                    stream.write_all(&zeros).await?;
                }
                return Ok(());
            }
            _ => {}
        }
        if head.contains(&format!("if-none-match: {etag}")) {
            let text = format!("HTTP/1.1 304 Not Modified\r\n{close}\r\n");
            return stream.write_all(text.as_bytes()).await;
        }
        let from = head.split("range: bytes=").nth(1).and_then(|rest| rest.split('-').next()?.parse().ok());
        let from = from.filter(|from: &usize| *from < file.len());
        let body = &file[from.unwrap_or(0)..];
        let status = match from {
            Some(from) => {
                format!("206 Partial Content\r\nContent-Range: bytes {from}-{}/{}", file.len() - 1, file.len())
            }
            None => "200 OK".to_owned(),
        };
        let length = match fault {
            Some(Fault::TooLong) => body.len() + 1000,
            Some(Fault::TooShort) => body.len() / 2,
            _ => body.len(),
        };
        let text = format!(
            "HTTP/1.1 {status}\r\n{close}ETag: {etag}\r\nAccept-Ranges: bytes\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(text.as_bytes()).await?;
        match fault {
            Some(Fault::Cut) => stream.write_all(&body[..body.len() / 2]).await?,
            Some(Fault::Drip) => {
                for piece in body.chunks(body.len().div_ceil(20)) {
                    stream.write_all(piece).await?;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            _ => stream.write_all(body).await?,
        }
        stream.shutdown().await
    }
}
