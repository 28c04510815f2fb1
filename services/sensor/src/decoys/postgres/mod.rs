//! PostgreSQL: logging in, statements over a small database, both ways of asking, `COPY`.

mod build;
mod catalog;
mod copy;
mod errors;
mod files;
mod login;
mod session;
mod wire;

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use async_trait::async_trait;

use super::{
    Options,
    credentials::Credentials,
    scram::Verifiers,
    sql::{self, Dialect, Engine},
    tls::Tls,
};
use crate::{
    persona::Persona,
    protocol::{Protocol, Server},
    session::{Session, Stream},
};
use build::Build;

/// What is tried on such servers most.
const COMMON: [(&str, &str); 9] = [
    ("postgres", "postgres"),
    ("postgres", "password"),
    ("postgres", "123456"),
    ("postgres", "admin"),
    ("postgres", "1234"),
    ("postgres", "postgres123"),
    ("admin", "admin"),
    ("postgres", "12345"),
    ("postgres", "root"),
];

/// How a client proves its password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Clear,
    Md5,
    Scram,
}

/// One decky's server.
pub(super) struct Postgres {
    persona: Arc<Persona>,
    credentials: Credentials,
    method: Method,
    verifiers: Verifiers,
    engine: Engine,
    processes: AtomicI64,
    tls: Option<Tls>,
}

/// The server of a decky.
pub(super) fn server(persona: &Arc<Persona>, options: &Options) -> Result<Server, String> {
    let credentials = Credentials::new(persona, "postgres", options, &COMMON)?;
    let build = Build::of(persona.os);
    let method = match options.get("auth_method").map(|method| method.trim()) {
        // Who lets everybody in cannot prove that it knows their passwords.
        None if credentials.any() => Method::Clear,
        None if build.scram => Method::Scram,
        None | Some("md5") => Method::Md5,
        Some("password") => Method::Clear,
        Some("scram-sha-256") if credentials.any() => {
            return Err("auth = any does not go with auth_method = scram-sha-256".to_owned());
        }
        Some("scram-sha-256") => Method::Scram,
        Some(other) => return Err(format!("auth_method must be password, md5 or scram-sha-256, not {other}")),
    };
    let of = persona.clone();
    let first = i64::try_from(persona.number("postgres processes", 3_000)).unwrap_or(0) + 1_200;
    Ok(Server::Connections(Arc::new(Postgres {
        persona: persona.clone(),
        credentials,
        method,
        verifiers: Verifiers::default(),
        engine: Engine::new(move || sql::seeded(&of, Dialect::Postgres)),
        processes: AtomicI64::new(first),
        tls: build.tls.then(|| Tls::new(persona, &[])),
    })))
}

impl Postgres {
    /// The process of the next connection.
    fn process(&self) -> i64 {
        self.processes.fetch_add(3, Ordering::Relaxed)
    }
}

#[async_trait]
impl Protocol for Postgres {
    async fn serve(self: Arc<Self>, stream: Stream, session: Session) -> std::io::Result<()> {
        session::serve(&self, stream, &session).await
    }
}
