//! SSH: a build of OpenSSH to all who look, over russh, with the believable machine behind it.

pub mod build;
mod channel;
mod handler;
pub mod keys;
mod scp;
mod sftp;
mod sniff;

use std::{
    borrow::Cow,
    io,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use russh::{
    MethodKind, MethodSet, Preferred, SshId, cipher, compression, kex,
    keys::{Algorithm, EcdsaCurve, HashAlg},
    mac, server,
};
use tokio::sync::OnceCell;

use super::{Options, credentials::Credentials};
use crate::{
    persona::Persona,
    protocol::{Protocol, Server},
    session::{Session, Stream},
    shell::{Family, Machine},
};
use build::{Build, Sha1};

/// What is tried on machines with SSH most.
const COMMON: [(&str, &str); 18] = [
    ("root", "123456"),
    ("root", "root"),
    ("root", "password"),
    ("root", "admin"),
    ("root", "toor"),
    ("root", "1234"),
    ("root", "12345678"),
    ("root", "qwerty"),
    ("root", "root123"),
    ("root", "P@ssw0rd"),
    ("admin", "admin"),
    ("admin", "123456"),
    ("ubuntu", "ubuntu"),
    ("user", "user"),
    ("test", "test"),
    ("oracle", "oracle"),
    ("postgres", "postgres"),
    ("pi", "raspberry"),
];
/// The same on Windows.
const COMMON_WINDOWS: [(&str, &str); 6] = [
    ("Administrator", "P@ssw0rd"),
    ("Administrator", "Passw0rd"),
    ("Administrator", "123456"),
    ("Administrator", "Admin123"),
    ("administrator", "password"),
    ("admin", "admin"),
];

/// SSH of one decky.
struct Ssh {
    persona: Arc<Persona>,
    machine: Arc<Machine>,
    credentials: Credentials,
    build: Build,
    config: OnceCell<Arc<server::Config>>,
}

/// SSH as this decky has it.
pub fn server(persona: &Arc<Persona>, options: &Options) -> Result<Server, String> {
    let machine = Machine::of(persona);
    let common: &[(&str, &str)] = if machine.facts().family == Family::Windows { &COMMON_WINDOWS } else { &COMMON };
    Ok(Server::Connections(Arc::new(Ssh {
        credentials: Credentials::new(persona, "ssh", options, common)?,
        build: Build::of(persona.os),
        persona: persona.clone(),
        machine,
        config: OnceCell::new(),
    })))
}

impl Ssh {
    async fn config(&self) -> io::Result<Arc<server::Config>> {
        let config = self
            .config
            .get_or_try_init(|| async {
                let persona = self.persona.clone();
                let keys = tokio::task::spawn_blocking(move || keys::HostKeys::of(&persona)).await;
                let keys = keys.map_err(io::Error::other)?.all().to_vec();
                Ok::<_, io::Error>(Arc::new(server::Config {
                    server_id: SshId::Standard(Cow::Borrowed(self.build.banner)),
                    methods: methods(self.build.keyboard),
                    // The handler waits as PAM does, and only where PAM does.
                    auth_rejection_time: Duration::ZERO,
                    auth_rejection_time_initial: None,
                    keys,
                    preferred: preferred(&self.build),
                    // The handler counts, so that the last word is sshd's.
                    max_auth_attempts: 0,
                    // The sensor's own limits hold.
                    inactivity_timeout: None,
                    window_size: 2 << 20,
                    maximum_packet_size: 32_768,
                    channel_buffer_size: 64,
                    event_buffer_size: 64,
                    ..server::Config::default()
                }))
            })
            .await?;
        Ok(config.clone())
    }
}

/// How one can log in.
fn methods(keyboard: bool) -> MethodSet {
    let both: &[MethodKind] = &[MethodKind::PublicKey, MethodKind::Password, MethodKind::KeyboardInteractive];
    both.get(..if keyboard { 3 } else { 2 }).unwrap_or_default().into()
}

/// The lists of a build.
fn preferred(build: &Build) -> Preferred {
    let mut kex: Vec<kex::Name> = build.kex.split(',').filter_map(|name| kex::Name::try_from(name).ok()).collect();
    if build.strict {
        kex.push(kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER);
    }
    let sha = |hash| Algorithm::Rsa { hash };
    let mut key = vec![sha(Some(HashAlg::Sha512)), sha(Some(HashAlg::Sha256))];
    match build.sha1 {
        Sha1::No => {}
        Sha1::Last => key.push(sha(None)),
        Sha1::First => key.insert(0, sha(None)),
    }
    key.push(Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 });
    key.push(Algorithm::Ed25519);
    Preferred {
        kex: kex.into(),
        key: key.into(),
        cipher: build.ciphers.split(',').filter_map(|name| cipher::Name::try_from(name).ok()).collect(),
        mac: build.macs.split(',').filter_map(|name| mac::Name::try_from(name).ok()).collect(),
        compression: vec![compression::NONE, compression::ZLIB_LEGACY].into(),
        ..Preferred::DEFAULT
    }
}

#[async_trait]
impl Protocol for Ssh {
    async fn serve(self: Arc<Self>, stream: Stream, session: Session) -> io::Result<()> {
        let Some(stream) = sniff::Sniffed::greet(stream, self.build.banner, &session).await? else { return Ok(()) };
        let config = self.config().await?;
        let handle = Arc::new(OnceLock::new());
        let client = handler::Client::new(&session, &self.machine, &self.credentials, &self.build, handle.clone());
        let running = server::run_stream(config, stream, client).await.map_err(io::Error::other)?;
        let _ = handle.set(running.handle());
        running.await.map_err(io::Error::other)
    }
}
