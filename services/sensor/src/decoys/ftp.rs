//! FTP: the build of the system, over the files of the believable machine. It never connects out.

pub(super) mod build;
mod data;
mod session;

use std::{io, sync::Arc};

use async_trait::async_trait;

use super::{Options, credentials::Credentials};
use crate::{
    persona::Persona,
    protocol::{Protocol, Server},
    session::{Session, Stream},
    shell::Machine,
};
use build::Build;

/// What is tried on FTP servers most.
const COMMON: [(&str, &str); 12] = [
    ("admin", "admin"),
    ("ftp", "ftp"),
    ("ftpuser", "ftpuser"),
    ("admin", "123456"),
    ("test", "test"),
    ("user", "user"),
    ("www-data", "www-data"),
    ("backup", "backup"),
    ("admin", "password"),
    ("upload", "upload"),
    ("web", "web"),
    ("ftpuser", "password"),
];

/// FTP of one decky.
struct Ftp {
    machine: Arc<Machine>,
    credentials: Credentials,
    build: Build,
    anonymous: bool,
}

/// FTP as this decky has it; `anonymous = yes` or `no` says whether guests are let in.
pub fn server(persona: &Arc<Persona>, options: &Options) -> Result<Server, String> {
    let anonymous = match options.get("anonymous").map(|value| value.trim()) {
        None => persona.number("ftp anonymous", 3) == 0,
        Some("yes" | "true") => true,
        Some("no" | "false") => false,
        Some(other) => return Err(format!("anonymous must be yes or no, not {other}")),
    };
    Ok(Server::Connections(Arc::new(Ftp {
        machine: Machine::of(persona),
        credentials: Credentials::new(persona, "ftp", options, &COMMON)?,
        build: Build::of(persona),
        anonymous,
    })))
}

#[async_trait]
impl Protocol for Ftp {
    async fn serve(self: Arc<Self>, stream: Stream, session: Session) -> io::Result<()> {
        session::Client::new(self, stream, session).serve().await
    }
}
