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

use super::{Options, credentials::Credentials};
use crate::{
    persona::Persona,
    protocol::{Protocol, Server},
    session::{Session, Stream},
    shell::{Family, Machine},
};
use build::{Build, Sha1};
use keys::HostKeys;

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
    /// With all of its keys, as soon as they are made.
    config: OnceLock<Arc<server::Config>>,
    /// With what stands for the RSA key.
    quick: OnceLock<Arc<server::Config>>,
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
        config: OnceLock::new(),
        quick: OnceLock::new(),
    })))
}

impl Ssh {
    /// What a session with this client needs. Until the RSA key is made, only those wait for it who may come to have it:
    /// the others are offered the same, and have another of the keys.
    async fn config(&self, stream: &mut sniff::Sniffed) -> io::Result<Arc<server::Config>> {
        if let Some(config) = self.config.get() {
            return Ok(config.clone());
        }
        let keys = match HostKeys::known(&self.persona) {
            Some(keys) => keys,
            None => {
                HostKeys::order(&self.persona);
                if !stream.may_want_rsa(self.build.host_keys()).await? {
                    let config = self.quick.get_or_init(|| self.config_of(&HostKeys::quick(&self.persona)));
                    return Ok(config.clone());
                }
                let keys = HostKeys::of(&self.persona).await;
                keys.ok_or_else(|| io::Error::other("the host keys cannot be made"))?
            }
        };
        Ok(self.config.get_or_init(|| self.config_of(&keys)).clone())
    }

    fn config_of(&self, keys: &HostKeys) -> Arc<server::Config> {
        Arc::new(server::Config {
            server_id: SshId::Standard(Cow::Borrowed(self.build.banner)),
            methods: methods(self.build.keyboard),
            // The handler waits as PAM does, and only where PAM does.
            auth_rejection_time: Duration::ZERO,
            auth_rejection_time_initial: None,
            keys: keys.all().to_vec(),
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
        })
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
        let Some(mut stream) = sniff::Sniffed::greet(stream, self.build.banner, &session).await? else { return Ok(()) };
        let config = self.config(&mut stream).await?;
        let handle = Arc::new(OnceLock::new());
        let client = handler::Client::new(&session, &self.machine, &self.credentials, &self.build, handle.clone());
        let running = server::run_stream(config, stream, client).await.map_err(io::Error::other)?;
        let _ = handle.set(running.handle());
        running.await.map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;
    use crate::{
        persona::Os,
        testing::{self, Decoy},
    };

    /// A client's key exchange with these host keys, as a packet.
    fn key_exchange(host_keys: &str) -> Vec<u8> {
        let mut payload = vec![20];
        payload.extend([7; 16]);
        for list in [
            "curve25519-sha256",
            host_keys,
            "aes128-ctr",
            "aes128-ctr",
            "hmac-sha2-256",
            "hmac-sha2-256",
            "none",
            "none",
            "",
            "",
        ] {
            payload.extend(u32::try_from(list.len()).unwrap().to_be_bytes());
            payload.extend(list.bytes());
        }
        payload.extend([0; 5]);
        let padding = 16 - (payload.len() + 5) % 8;
        let mut packet = u32::try_from(1 + payload.len() + padding).unwrap().to_be_bytes().to_vec();
        packet.push(u8::try_from(padding).unwrap());
        packet.extend(payload);
        packet.extend(vec![0; padding]);
        packet
    }

    /// What the decoy offers to a client that says this after its first line, from the lists on.
    async fn offered(decoy: &Decoy, says: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(decoy.address()).await.unwrap();
        stream.write_all(b"SSH-2.0-test\r\n").await.unwrap();
        // In pieces, as a network may bring it.
        for part in says.chunks(100) {
            stream.write_all(part).await.unwrap();
        }
        while stream.read_u8().await.unwrap() != b'\n' {}
        let length = usize::try_from(stream.read_u32().await.unwrap()).unwrap();
        let mut packet = vec![0; length];
        stream.read_exact(&mut packet).await.unwrap();
        let padding = usize::from(packet[0]);
        packet[18..length - padding].to_vec()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_wants_no_rsa_key_does_not_wait_for_it_and_all_are_offered_the_same() {
        let persona = testing::persona_of(Os::Debian11, 221);
        let server = server(&persona, &Options::new()).unwrap();
        let decoy = Decoy::start(persona.clone(), "ssh", server).unwrap();
        // Others are made first.
        let others = [222, 223, 224].map(|seed| {
            tokio::spawn(async move { HostKeys::of(&testing::persona_of(Os::Debian11, seed)).await.is_some() })
        });
        while HostKeys::known(&testing::persona_of(Os::Debian11, 222)).is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let early = offered(&decoy, &key_exchange("ssh-ed25519,rsa-sha2-512")).await;
        assert!(HostKeys::known(&persona).is_none());
        // One that names RSA first, one that waits for what is offered, and one when the key is there.
        assert_eq!(early, offered(&decoy, &key_exchange("rsa-sha2-512,ssh-ed25519")).await);
        assert!(HostKeys::known(&persona).is_some());
        assert_eq!(early, offered(&decoy, b"").await);
        assert_eq!(early, offered(&decoy, &key_exchange("ssh-ed25519")).await);
        let host_keys = Build::of(Os::Debian11).host_keys().join(",");
        assert!(early.windows(host_keys.len()).any(|part| part == host_keys.as_bytes()));
        for other in others {
            assert!(other.await.unwrap());
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_waits_for_what_is_offered_gets_it() {
        let persona = testing::persona_of(Os::CentOs7, 225);
        let server = server(&persona, &Options::new()).unwrap();
        let decoy = Decoy::start(persona, "ssh", server).unwrap();
        let silent = offered(&decoy, b"").await;
        assert_eq!(silent, offered(&decoy, &key_exchange("ssh-rsa")).await);
    }
}
