//! A REST client that says what it asked when an answer is not what was expected.

use std::{fmt, time::Duration};

use reqwest::{Method, header::HeaderMap, multipart};
use serde_json::{Value, json};

/// The header that every answer has.
pub const REQUEST_ID: &str = "x-request-id";
const PREFIX: &str = "/api/v1";

/// Someone who asks, with or without a token. Belongs to the test's runtime.
#[derive(Clone)]
pub struct Api {
    http: reqwest::Client,
    pub base: String,
    pub token: Option<String>,
}

/// What came back.
pub struct Answer {
    asked: String,
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Api {
    pub fn new(base: &str, token: Option<String>) -> Api {
        let http = plain()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(120))
            .build()
            .expect("a client");
        Api { http, base: base.to_owned(), token }
    }

    /// The same client with another token.
    pub fn with_token(&self, token: &str) -> Api {
        Api { token: Some(token.to_owned()), ..self.clone() }
    }

    /// The same client at another address.
    pub fn at(&self, base: &str) -> Api {
        Api { base: base.to_owned(), ..self.clone() }
    }

    /// A request to a path below `/api/v1`, or to any path where it begins with `//`.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let url = match path.strip_prefix("//") {
            Some(rest) => format!("{}/{rest}", self.base),
            None if path.starts_with("http") => path.to_owned(),
            None => format!("{}{PREFIX}{path}", self.base),
        };
        let request = self.http.request(method, url);
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        send(self.request(Method::POST, path).json(body)).await
    }

    pub async fn patch(&self, path: &str, body: &Value) -> Answer {
        send(self.request(Method::PATCH, path).json(body)).await
    }

    /// A POST without a body.
    pub async fn act(&self, path: &str) -> Answer {
        send(self.request(Method::POST, path)).await
    }

    /// Uploads evidence.
    pub async fn upload(&self, path: &str, name: &str, bytes: Vec<u8>, fields: &[(&'static str, &str)]) -> Answer {
        send(self.request(Method::POST, path).multipart(form(name, bytes, fields))).await
    }

    /// The `X-Total-Count` of a list, read with one row of it.
    pub async fn total(&self, path: &str) -> u64 {
        let sign = if path.contains('?') { '&' } else { '?' };
        let answer = self.get(&format!("{path}{sign}limit=1")).await;
        answer.json(200);
        answer.total()
    }

    /// All rows of a list, bare or in an envelope, read in pages of a hundred. A list that grows on the way is read
    /// again: a row that is put before the others moves one of them to the next page, where it would be seen twice.
    pub async fn all(&self, path: &str) -> Vec<Value> {
        const TRIES: usize = 50;
        for _ in 0..TRIES {
            if let Some(all) = self.all_at_once(path).await {
                return all;
            }
        }
        panic!("{path} grew while it was read, {TRIES} times");
    }

    /// All rows, if no page began with one that was seen before. The total does not tell: it is counted beside the page.
    async fn all_at_once(&self, path: &str) -> Option<Vec<Value>> {
        const PAGE: usize = 100;
        let sign = if path.contains('?') { '&' } else { '?' };
        let mut all = Vec::new();
        loop {
            let page = self.get(&format!("{path}{sign}limit={PAGE}&offset={}", all.len())).await.json(200);
            let rows = rows(&page);
            if rows.first().is_some_and(|first| all.contains(first)) {
                return None;
            }
            let last = rows.len() < PAGE;
            all.extend(rows);
            if last {
                return Some(all);
            }
        }
    }
}

/// A client for plain HTTP and for this machine alone. The system's certificates, which nobody needs for that, take a
/// build without optimisation a tenth of a second to read.
pub fn plain() -> reqwest::ClientBuilder {
    // The binary installs its own; here the test has to.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().tls_certs_only([])
}

/// The rows of a list, bare or in an envelope.
pub fn rows(body: &Value) -> Vec<Value> {
    body.as_array().or_else(|| body["items"].as_array()).unwrap_or_else(|| panic!("no list: {body}")).clone()
}

/// The multipart body of an upload.
pub fn form(name: &str, bytes: Vec<u8>, fields: &[(&'static str, &str)]) -> multipart::Form {
    let mut form = multipart::Form::new();
    for (field, value) in fields {
        form = form.text(*field, (*value).to_owned());
    }
    form.part("file", multipart::Part::bytes(bytes).file_name(name.to_owned()))
}

/// Sends and reads the whole answer; fails if there is none.
pub async fn send(request: reqwest::RequestBuilder) -> Answer {
    try_send(request).await.unwrap_or_else(|e| panic!("no answer: {e:?}"))
}

/// As [`send`], for a server that may be gone.
pub async fn try_send(request: reqwest::RequestBuilder) -> Result<Answer, reqwest::Error> {
    let (client, request) = request.build_split();
    let request = request?;
    let asked = format!("{} {}", request.method(), request.url());
    let answer = client.execute(request).await?;
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let body = answer.bytes().await?.to_vec();
    Ok(Answer { asked, status, headers, body })
}

/// Sends and reads the head of an answer whose body does not end; of an error the body too.
pub async fn head(request: reqwest::RequestBuilder) -> Answer {
    let (client, request) = request.build_split();
    let request = request.expect("a request");
    let asked = format!("{} {}", request.method(), request.url());
    let answer = client.execute(request).await.unwrap_or_else(|e| panic!("no answer: {e:?}"));
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let body = if status < 400 { Vec::new() } else { answer.bytes().await.expect("a body").to_vec() };
    Answer { asked, status, headers, body }
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body, which must be JSON and have this status.
    #[track_caller]
    pub fn json(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self}");
        self.value()
    }

    /// The body, whatever the status.
    #[track_caller]
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("no JSON ({e}): {self}"))
    }

    /// An error in the one form that all have. Gives its body.
    #[track_caller]
    pub fn error(&self, status: u16, code: &str) -> Value {
        self.error_about(status, code, "\u{0}")
    }

    /// An error that may repeat `told`, which the client wrote itself.
    #[track_caller]
    pub fn error_about(&self, status: u16, code: &str, told: &str) -> Value {
        let body = self.json(status);
        assert_eq!(body["code"], json!(code), "{self}");
        let detail = body["detail"].as_str().unwrap_or_else(|| panic!("no detail: {self}"));
        assert!(!detail.is_empty(), "{self}");
        let lower = String::from_utf8_lossy(&self.body).replace(told, "").to_lowercase();
        for inner in ["select ", "insert ", "sqlx", "sqlite", "postgres", "panicked", "backtrace", ".rs:", "/tmp/"] {
            assert!(!lower.contains(inner), "shows its inside ({inner}): {self}");
        }
        if status == 401 {
            assert_eq!(self.header("www-authenticate"), "Bearer", "{self}");
        }
        self.request_id();
        body
    }

    /// The header that every answer of the product has.
    #[track_caller]
    pub fn request_id(&self) -> String {
        let id = self.header(REQUEST_ID);
        assert!(!id.is_empty(), "no {REQUEST_ID}: {self}");
        id
    }

    /// A header, or nothing.
    pub fn header(&self, name: &str) -> String {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    }

    #[track_caller]
    pub fn total(&self) -> u64 {
        self.header("x-total-count").parse().unwrap_or_else(|_| panic!("no X-Total-Count: {self}"))
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(&self.body);
        let text: String = text.chars().take(2000).collect();
        write!(f, "{} answered {}: {text}", self.asked, self.status)
    }
}
