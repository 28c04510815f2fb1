//! TLS as a decky speaks it: a certificate of its own that it signed itself, as its system would have made it.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use chrono::{DateTime, Datelike, TimeDelta, Timelike, Utc};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SerialNumber,
};
use rsa::{RsaPrivateKey, pkcs8::EncodePrivateKey};
use rustls::{
    CipherSuite, ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    version::{TLS12, TLS13},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    sync::OnceCell,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    fingerprint::{FirstBytes, first_bytes},
    persona::{Os, Persona},
    session::{EventType, Session},
};

/// What is read at most to see the hello of a client.
const HELLO: usize = 16 * 1024;

/// The TLS of one decky. Its key is made when the first client comes.
pub(crate) struct Tls {
    persona: Arc<Persona>,
    /// What it answers of the protocols that a client offers.
    alpn: Vec<Vec<u8>>,
    config: OnceCell<Arc<ServerConfig>>,
}

/// What a client that ought to speak TLS speaks.
pub(crate) enum Spoken<S> {
    Tls(Box<TlsStream<Replay<S>>>),
    /// None of it was answered.
    Plain(Replay<S>),
}

impl Tls {
    pub(crate) fn new(persona: &Arc<Persona>, alpn: &[&str]) -> Tls {
        let alpn = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Tls { persona: persona.clone(), alpn, config: OnceCell::new() }
    }

    /// Takes a client in. Tells of its hello.
    pub(crate) async fn accept<S>(&self, stream: S, session: &Session) -> io::Result<Spoken<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let mut stream = Replay { inner: stream, read: Vec::new(), at: 0 };
        loop {
            stream.read.reserve(1024);
            if stream.inner.read_buf(&mut stream.read).await? == 0 {
                if !stream.read.is_empty() {
                    session.emit(EventType::Scan, "no TLS hello", &[("kind", "malformed")]);
                }
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            // 0x16 begins a handshake; with the high bit set it is a hello of SSL 2.
            let first = stream.read.first().copied().unwrap_or_default();
            if first != 0x16 && first & 0x80 == 0 {
                return Ok(Spoken::Plain(stream));
            }
            match first_bytes(&stream.read) {
                FirstBytes::Incomplete if stream.read.len() < HELLO => {}
                FirstBytes::Hello(hello) => {
                    let alpn = hello.alpn.join(",");
                    session.learn("ja3", hello.ja3.clone());
                    session.learn("ja3_text", hello.ja3_text.clone());
                    let mut fields = vec![
                        ("ja3", hello.ja3.as_str()),
                        ("ja3_text", hello.ja3_text.as_str()),
                        ("alpn", alpn.as_str()),
                    ];
                    if let Some(name) = &hello.sni {
                        fields.push(("sni", name));
                    }
                    session.emit(EventType::TlsClientHello, format!("TLS hello, JA3 {}", hello.ja3), &fields);
                    break;
                }
                _ => {
                    session.emit(EventType::Scan, "no TLS hello", &[("kind", "malformed")]);
                    break;
                }
            }
        }
        let config = self.config().await?;
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        Ok(Spoken::Tls(Box::new(stream)))
    }

    async fn config(&self) -> io::Result<Arc<ServerConfig>> {
        let make = || async {
            let (persona, alpn) = (self.persona.clone(), self.alpn.clone());
            tokio::task::spawn_blocking(move || config(&persona, alpn)).await.map_err(io::Error::other)?
        };
        self.config.get_or_try_init(make).await.cloned()
    }
}

fn config(persona: &Persona, alpn: Vec<Vec<u8>>) -> io::Result<Arc<ServerConfig>> {
    let (certificate, key) = certificate(persona)?;
    let mut provider = rustls::crypto::ring::default_provider();
    // The order of OpenSSL; Windows has no ChaCha20 in its list.
    let order = [
        CipherSuite::TLS13_AES_256_GCM_SHA384,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        CipherSuite::TLS13_AES_128_GCM_SHA256,
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    ];
    let windows = matches!(persona.os, Os::WindowsServer2019 | Os::Windows10);
    let place = |suite: &rustls::SupportedCipherSuite| order.iter().position(|known| *known == suite.suite());
    let chacha = |suite: &rustls::SupportedCipherSuite| format!("{:?}", suite.suite()).contains("CHACHA20");
    provider.cipher_suites.retain(|suite| place(suite).is_some() && !(windows && chacha(suite)));
    provider.cipher_suites.sort_by_key(place);
    // OpenSSL 1.0.2 and the Windows of 2019 have no TLS 1.3.
    let old = windows || matches!(persona.os, Os::CentOs7 | Os::BusyBox);
    let versions: &[_] = if old { &[&TLS12] } else { &[&TLS13, &TLS12] };
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.into()], PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key)))
        .map_err(io::Error::other)?;
    config.alpn_protocols = alpn;
    config.ignore_client_order = true;
    Ok(Arc::new(config))
}

/// The certificate and its key (PKCS#8), both the same at each start.
pub(crate) fn certificate(persona: &Persona) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut random = ChaCha20Rng::from_seed(persona.secret("tls key"));
    let key = RsaPrivateKey::new(&mut random, 2048).map_err(io::Error::other)?;
    let key = key.to_pkcs8_der().map_err(io::Error::other)?.as_bytes().to_vec();
    let pair =
        KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(key.as_slice()), &rcgen::PKCS_RSA_SHA256)
            .map_err(io::Error::other)?;
    let host = persona.hostname.as_str();
    let mut params = CertificateParams::new(vec![host.to_owned()]).map_err(io::Error::other)?;
    let mut name = DistinguishedName::new();
    let email = || DnType::CustomDnType(vec![1, 2, 840, 113_549, 1, 9, 1]);
    // Days that it holds.
    let mut holds = 365;
    match persona.os {
        // As the package ssl-cert makes it.
        Os::Debian12 | Os::Debian11 | Os::Ubuntu2204 | Os::Ubuntu2004 => {
            name.push(DnType::CommonName, host);
            params.is_ca = IsCa::ExplicitNoCa;
            holds = 3650;
        }
        // As the packages of mod_ssl make it.
        Os::CentOs7 => {
            name.push(DnType::CountryName, "--");
            name.push(DnType::StateOrProvinceName, "SomeState");
            name.push(DnType::LocalityName, "SomeCity");
            name.push(DnType::OrganizationName, "SomeOrganization");
            name.push(DnType::OrganizationalUnitName, "SomeOrganizationalUnit");
            name.push(DnType::CommonName, host);
            name.push(email(), format!("root@{host}"));
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.subject_alt_names.clear();
        }
        Os::Rocky9 => {
            name.push(DnType::CountryName, "US");
            name.push(DnType::OrganizationName, "Unspecified");
            name.push(DnType::CommonName, host);
            name.push(email(), format!("root@{host}"));
            params.is_ca = IsCa::ExplicitNoCa;
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        }
        // As the console of IIS makes it.
        Os::WindowsServer2019 | Os::Windows10 => {
            name.push(DnType::CommonName, host);
            params.key_usages = vec![KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::DataEncipherment];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        }
        // What OpenSSL asks, answered with the enter key.
        Os::FreeBsd13 => {
            name.push(DnType::CountryName, "AU");
            name.push(DnType::StateOrProvinceName, "Some-State");
            name.push(DnType::OrganizationName, "Internet Widgits Pty Ltd");
            name.push(DnType::CommonName, host);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.subject_alt_names.clear();
        }
        Os::BusyBox => {
            name.push(DnType::CountryName, "CN");
            name.push(DnType::OrganizationName, "Embedded Device");
            name.push(DnType::CommonName, persona.ip.to_string());
            params.subject_alt_names.clear();
            holds = 3650;
        }
    }
    params.distinguished_name = name;
    let mut serial = persona.secret("tls serial").get(..20).unwrap_or_default().to_vec();
    if let Some(first) = serial.first_mut() {
        *first = (*first & 0x7f) | 0x01;
    }
    params.serial_number = Some(SerialNumber::from(serial));
    // Within the hundred days before it was started last, at any time of the day.
    let since = TimeDelta::seconds(i64::try_from(persona.number("tls made", 100 * 86_400)).unwrap_or(0));
    let made = persona.booted_at - since;
    let number = |number: u32| u8::try_from(number).map_err(io::Error::other);
    let time_of = |time: DateTime<Utc>| -> io::Result<_> {
        let day = rcgen::date_time_ymd(time.year(), number(time.month())?, number(time.day())?);
        Ok(day + std::time::Duration::from_secs(u64::from(time.num_seconds_from_midnight())))
    };
    params.not_before = time_of(made)?;
    params.not_after = time_of(made + TimeDelta::days(holds))?;
    let certificate = params.self_signed(&pair).map_err(io::Error::other)?;
    Ok((certificate.der().to_vec(), key))
}

/// A connection whose first bytes were read already.
pub(crate) struct Replay<S> {
    inner: S,
    read: Vec<u8>,
    at: usize,
}

impl<S: AsyncRead + Unpin> AsyncRead for Replay<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let rest = self.read.get(self.at..).unwrap_or_default();
        if rest.is_empty() {
            return Pin::new(&mut self.inner).poll_read(cx, buf);
        }
        let take = rest.len().min(buf.remaining());
        buf.put_slice(rest.get(..take).unwrap_or_default());
        self.at += take;
        if self.at >= self.read.len() {
            self.read = Vec::new();
            self.at = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Replay<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_certificate_is_the_deckys_own_and_stays() {
        let persona = testing::persona(Os::Debian12);
        let (certificate, key) = super::certificate(&persona).unwrap();
        // The time of booting of a test's persona moves; all else is kept.
        assert_eq!(super::certificate(&persona).unwrap(), (certificate, key.clone()));
        let (_, other) = super::certificate(&testing::persona_of(Os::Debian12, 8)).unwrap();
        assert_ne!(key, other);
    }

    #[test]
    fn every_system_has_a_certificate_that_rustls_takes() {
        for (name, os) in Os::ALL {
            config(&testing::persona(os), vec![b"http/1.1".to_vec()]).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
}
