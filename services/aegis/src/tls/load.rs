//! Reads certificates and keys, and makes of them what the socket and the clients work by.

use std::{fs, io::Read, path::PathBuf, sync::Arc};

use anyhow::{Context, Result, anyhow, bail};
use chrono::{DateTime, TimeDelta, Utc};
use rustls::{
    ClientConfig, Error, InconsistentKeys, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};

/// Certificates are small; a wrong path to something large must not be read whole.
const MAX_FILE: u64 = 1024 * 1024;
/// A certificate that ends within this time is spoken of, or, if it holds for less, in the last quarter of it.
const SOON: TimeDelta = TimeDelta::days(21);

/// A file, and the setting that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// As in `AEGIS_TLS_CERT_FILE`.
    pub setting: &'static str,
    /// Where it is.
    pub path: PathBuf,
}

impl Source {
    /// What is in it now.
    pub fn read(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = fs::File::open(&self.path).with_context(|| format!("{self}: cannot be read"))?;
        file.take(MAX_FILE + 1).read_to_end(&mut bytes).with_context(|| format!("{self}: cannot be read"))?;
        if bytes.len() as u64 > MAX_FILE {
            bail!("{self}: is larger than 1 MiB, so it is no certificate and no key");
        }
        Ok(bytes)
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.setting, self.path.display())
    }
}

/// A certificate with its chain, and the key to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The chain, the own certificate first.
    pub certificate: Source,
    /// The private key.
    pub key: Source,
}

/// From when to when a certificate holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first moment.
    pub from: DateTime<Utc>,
    /// The last.
    pub until: DateTime<Utc>,
}

impl Validity {
    /// Of the own certificate of a chain.
    pub fn of(chain: &[CertificateDer<'_>]) -> Result<Validity> {
        let leaf = chain.first().context("there is no certificate")?;
        let (_, leaf) =
            x509_parser::parse_x509_certificate(leaf).map_err(|_| anyhow!("the certificate cannot be read"))?;
        let moment = |seconds: i64| DateTime::from_timestamp(seconds, 0).context("the certificate has no validity");
        let validity = leaf.validity();
        Ok(Validity { from: moment(validity.not_before.timestamp())?, until: moment(validity.not_after.timestamp())? })
    }

    /// Whether it is time for a new one.
    pub fn ends_soon(&self, now: DateTime<Utc>) -> bool {
        let quarter = (self.until - self.from) / 4;
        self.until - now < SOON.min(quarter)
    }
}

/// A pair as it was read.
pub struct Shown {
    /// For handshakes.
    pub key: CertifiedKey,
    /// Of the own certificate.
    pub validity: Validity,
}

impl Pair {
    /// Its files.
    pub fn sources(&self) -> [Source; 2] {
        [self.certificate.clone(), self.key.clone()]
    }

    /// Reads it; a key that is another certificate's is refused.
    pub fn load(&self) -> Result<Shown> {
        let chain = certificates(&self.certificate)?;
        let validity = Validity::of(&chain).with_context(|| self.certificate.to_string())?;
        let key = PrivateKeyDer::from_pem_slice(&self.key.read()?).map_err(|_| {
            // The error may quote the file.
            anyhow!("{}: there is no private key in it (PEM: PKCS#8, PKCS#1 or SEC1, without a password)", self.key)
        })?;
        match CertifiedKey::from_der(chain, key, &provider()) {
            Ok(key) => Ok(Shown { key, validity }),
            Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                bail!("{}: the key is not that of the certificate in {}", self.key, self.certificate)
            }
            Err(error) => Err(anyhow!("{}: the key cannot be used: {error}", self.key)),
        }
    }
}

/// The certificates of a file, at least one.
pub fn certificates(source: &Source) -> Result<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_slice_iter(&source.read()?).collect();
    let found = found.map_err(|_| anyhow!("{source}: cannot be read as certificates (PEM)"))?;
    if found.is_empty() {
        bail!("{source}: there is no certificate in it (PEM: BEGIN CERTIFICATE)");
    }
    Ok(found)
}

/// The roots of a file.
fn roots(source: &Source, roots: &mut RootCertStore) -> Result<()> {
    for certificate in certificates(source)? {
        roots.add(certificate).map_err(|error| anyhow!("{source}: a certificate cannot be believed: {error}"))?;
    }
    Ok(())
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(ring::default_provider()))
}

/// What the socket works by; clients may show a certificate of `peers`.
pub fn server(shown: Shown, peers: Option<&Source>) -> Result<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13, &TLS12])?;
    let builder = match peers {
        None => builder.with_no_client_auth(),
        Some(source) => {
            let mut believed = RootCertStore::empty();
            roots(source, &mut believed)?;
            // Probes show none, and are answered; which calls need one is decided where they are known.
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(believed), provider())
                .allow_unauthenticated()
                .build()
                .map_err(|error| anyhow!("{source}: {error}"))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(shown.key)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = ring::Ticketer::new()?;
    Ok(config)
}

/// Whom a client believes.
pub enum Believed<'a> {
    /// Whom browsers believe, and these.
    Public(Option<&'a Source>),
    /// These alone.
    Only(&'a Source),
}

/// What calls of other processes work by.
pub fn client(believed: Believed<'_>, shown: Option<Shown>) -> Result<ClientConfig> {
    let mut store = RootCertStore::empty();
    match believed {
        Believed::Only(source) => roots(source, &mut store)?,
        Believed::Public(more) => {
            store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            if let Some(source) = more {
                roots(source, &mut store)?;
            }
        }
    }
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = builder.with_root_certificates(store);
    Ok(match shown {
        Some(shown) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shown.key))),
        None => builder.with_no_client_auth(),
    })
}
