//! When the certificate of an address ends, whoever signed it.

use std::{io, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::report::{Finding, Level, span};

/// A certificate that ends within this is to be replaced, seconds.
const SOON: i64 = 21 * 86_400;

/// Looks at the certificate of `https://host:port`.
pub(super) async fn check(host: &str, port: u16) -> Finding {
    match ends(host, port).await {
        Ok(at) => judge(at - chrono::Utc::now().timestamp()),
        Err(error) => Finding::new(Level::Problem, format!("no TLS comes about: {error}"))
            .advice("is this address served over https, and does it show a certificate?"),
    }
}

fn judge(left: i64) -> Finding {
    match left {
        left if left <= 0 => Finding::new(Level::Problem, format!("the certificate ended {} ago", span(-left as f64)))
            .advice("put a new one in its place; it is taken up without a restart"),
        left if left < SOON => Finding::new(Level::Warning, format!("the certificate ends in {}", span(left as f64)))
            .advice("put a new one in its place; it is taken up without a restart"),
        _ => Finding::ok(format!("the certificate holds for {}", span(left as f64))),
    }
}

async fn ends(host: &str, port: u16) -> io::Result<i64> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth();
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(io::Error::other)?;
    let socket = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, socket).await?;
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).cloned();
    let shown = shown.ok_or_else(|| io::Error::other("it shows no certificate"))?;
    let (_, certificate) =
        x509_parser::parse_x509_certificate(&shown).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(certificate.validity().not_after.timestamp())
}

/// Believes every certificate: here it is only looked at, and nothing is sent. That what is signed is signed by who shows
/// it is verified all the same.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_told_in_time() {
        let level = |left| serde_json::to_value(judge(left)).unwrap()["level"].clone();
        assert_eq!(level(90 * 86_400), "ok");
        assert_eq!(level(86_400), "warning");
        assert_eq!(level(-1), "problem");
    }
}
