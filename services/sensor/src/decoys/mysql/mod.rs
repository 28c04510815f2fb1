//! MySQL and MariaDB: logging in, statements over a small database, prepared statements.

mod build;
mod errors;
mod facts;
mod login;
mod packet;
mod results;
mod session;
mod show;

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use async_trait::async_trait;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use rsa::{RsaPrivateKey, pkcs8::EncodePublicKey};
use tokio::sync::OnceCell;

use super::{
    Options,
    credentials::Credentials,
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
const COMMON: [(&str, &str); 12] = [
    ("root", ""),
    ("root", "root"),
    ("root", "123456"),
    ("root", "password"),
    ("root", "mysql"),
    ("root", "toor"),
    ("root", "1234"),
    ("admin", "admin"),
    ("mysql", "mysql"),
    ("root", "admin"),
    ("test", "test"),
    ("root", "12345678"),
];

/// One decky's server.
pub(super) struct MySql {
    persona: Arc<Persona>,
    credentials: Credentials,
    engine: Engine,
    connections: AtomicU32,
    tls: Option<Tls>,
    /// Its key for passwords that come without TLS.
    key: OnceCell<Arc<(RsaPrivateKey, String)>>,
}

/// The server of a decky.
pub(super) fn server(persona: &Arc<Persona>, options: &Options) -> Result<Server, String> {
    let credentials = Credentials::new(persona, "mysql", options, &COMMON)?;
    let of = persona.clone();
    let first = u32::try_from(persona.number("mysql connections", 4_000)).unwrap_or(0) + 12;
    Ok(Server::Connections(Arc::new(MySql {
        persona: persona.clone(),
        credentials,
        engine: Engine::new(move || sql::seeded(&of, Dialect::MySql)),
        connections: AtomicU32::new(first),
        tls: (!Build::of(persona.os).maria).then(|| Tls::new(persona, &[])),
        key: OnceCell::new(),
    })))
}

impl MySql {
    /// The number of the next connection.
    fn number(&self) -> u32 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }

    /// The key and its public half as it is told.
    async fn key(&self) -> std::io::Result<Arc<(RsaPrivateKey, String)>> {
        let make = || async {
            let seed = self.persona.secret("mysql key");
            let made = tokio::task::spawn_blocking(move || {
                let key =
                    RsaPrivateKey::new(&mut ChaCha20Rng::from_seed(seed), 2_048).map_err(std::io::Error::other)?;
                let public = key.to_public_key().to_public_key_der().map_err(std::io::Error::other)?;
                let mut shown = "-----BEGIN PUBLIC KEY-----\n".to_owned();
                for (at, c) in BASE64_STANDARD.encode(public.as_bytes()).chars().enumerate() {
                    if at > 0 && at % 64 == 0 {
                        shown.push('\n');
                    }
                    shown.push(c);
                }
                shown.push_str("\n-----END PUBLIC KEY-----\n");
                Ok::<_, std::io::Error>(Arc::new((key, shown)))
            });
            made.await.map_err(std::io::Error::other)?
        };
        self.key.get_or_try_init(make).await.cloned()
    }
}

#[async_trait]
impl Protocol for MySql {
    async fn serve(self: Arc<Self>, stream: Stream, session: Session) -> std::io::Result<()> {
        session::serve(&self, stream, &session).await
    }
}
