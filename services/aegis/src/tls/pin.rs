//! How commands see certificates otherwise than other clients do: the product's own on this machine is known not by its
//! name, which is rarely 127.0.0.1, but by being the one in the file; and one that is only looked at may be anybody's.

use std::sync::Arc;

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::SingleCertAndKey,
};

use super::load::{Shown, provider};

/// Connections to whoever has the key of one of these certificates.
pub fn client(pinned: Vec<CertificateDer<'static>>, shown: Option<Shown>) -> anyhow::Result<ClientConfig> {
    config(Whom::These(pinned), shown)
}

/// Connections to anybody, on which nothing may be sent: they are for looking at the certificate.
pub fn onlooker() -> anyhow::Result<ClientConfig> {
    config(Whom::Anybody, None)
}

fn config(whom: Whom, shown: Option<Shown>) -> anyhow::Result<ClientConfig> {
    let provider = provider();
    let verifier = Arc::new(Verifier { whom, provider: Arc::clone(&provider) });
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    Ok(match shown {
        Some(shown) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shown.key))),
        None => builder.with_no_client_auth(),
    })
}

/// Who is believed.
#[derive(Debug)]
enum Whom {
    These(Vec<CertificateDer<'static>>),
    Anybody,
}

/// That what is signed is signed by who shows the certificate is verified in any case.
#[derive(Debug)]
struct Verifier {
    whom: Whom,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.whom {
            Whom::Anybody => Ok(ServerCertVerified::assertion()),
            Whom::These(pinned) if pinned.contains(end_entity) => Ok(ServerCertVerified::assertion()),
            Whom::These(_) => Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
