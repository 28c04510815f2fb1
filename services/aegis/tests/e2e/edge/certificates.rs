//! A CA for one test, and what it signs.

use std::{fs, path::Path};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use reqwest::Certificate;

pub struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    pub fn new() -> Ca {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // A name of its own: OpenSSL takes who has the name of its issuer for its own issuer.
        params.distinguished_name.push(DnType::CommonName, "a CA for tests");
        Ca(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA"))
    }

    /// Writes its own certificate.
    pub fn write(&self, path: &Path) {
        fs::write(path, self.0.pem()).expect("a file");
    }

    /// Writes a new certificate for these names, and the key to it.
    pub fn issue(&self, names: &[&str], certificate: &Path, key: &Path) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let pair = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(names).expect("parameters");
        let signed = params.signed_by(&pair, &self.0).expect("a certificate");
        fs::write(key, pair.serialize_pem()).expect("a file");
        fs::write(certificate, signed.pem()).expect("a file");
    }

    /// A client that believes it, and nobody else.
    pub fn believer(&self) -> reqwest::Client {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let root = Certificate::from_pem(self.0.pem().as_bytes()).expect("a certificate");
        reqwest::Client::builder().no_proxy().tls_certs_only([root]).build().expect("a client")
    }
}
