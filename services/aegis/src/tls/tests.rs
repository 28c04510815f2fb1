use std::{fs, net::Ipv4Addr, path::Path, time::Duration};

use aegis_runtime::Shutdown;
use axum::{Extension, Router, routing::get};
use chrono::{TimeDelta, Utc};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::*;
use crate::listen::{Limits, Peer, Socket, listen};

/// A CA that is made for one test.
struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    fn new() -> Ca {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ca(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let mut params = CertificateParams::new(vec![name.to_owned(), "127.0.0.1".to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

fn put(folder: &Path, name: &str, (certificate, key): &(String, String)) {
    fs::write(folder.join(format!("{name}.crt")), certificate).unwrap();
    fs::write(folder.join(format!("{name}.key")), key).unwrap();
}

fn settings(folder: &Path) -> Settings {
    Settings {
        tls_cert_file: Some(folder.join("own.crt")),
        tls_key_file: Some(folder.join("own.key")),
        ..Settings::default()
    }
}

fn folder() -> (TempDir, Ca) {
    let (folder, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    put(folder.path(), "own", &ca.issue("localhost", |_| ()));
    (folder, ca)
}

fn problem(settings: &Settings) -> String {
    let error = Tls::load(settings, &Role::ALL).err().expect("it is refused");
    crate::sentence(&error)
}

#[test]
fn what_is_wrong_is_told_with_the_setting() {
    let (folder, ca) = folder();
    let settings = settings(folder.path());
    assert!(Tls::load(&settings, &Role::ALL).unwrap().server.is_some());

    let good = fs::read_to_string(folder.path().join("own.key")).unwrap();
    put(folder.path(), "other", &ca.issue("localhost", |_| ()));
    fs::copy(folder.path().join("other.key"), folder.path().join("own.key")).unwrap();
    let told = problem(&settings);
    assert!(told.contains("AEGIS_TLS_KEY_FILE") && told.contains("not that of the certificate"), "{told}");
    fs::write(folder.path().join("own.key"), "secret, and no key").unwrap();
    let told = problem(&settings);
    assert!(
        told.contains("AEGIS_TLS_KEY_FILE") && told.contains("no private key") && !told.contains("secret"),
        "{told}"
    );
    fs::write(folder.path().join("own.key"), &good).unwrap();
    fs::write(folder.path().join("own.crt"), &good).unwrap();
    let told = problem(&settings);
    assert!(told.contains("AEGIS_TLS_CERT_FILE") && told.contains("no certificate"), "{told}");
    fs::remove_file(folder.path().join("own.crt")).unwrap();
    assert!(problem(&settings).contains("AEGIS_TLS_CERT_FILE"));
}

#[test]
fn a_certificate_that_ends_is_told_of_in_time() {
    let now = Utc::now();
    let validity =
        |from: i64, until: i64| Validity { from: now + TimeDelta::hours(from), until: now + TimeDelta::hours(until) };
    assert!(!validity(-24, 24 * 60).ends_soon(now));
    assert!(validity(-24 * 300, 24 * 20).ends_soon(now));
    // One of a day is renewed within the day.
    assert!(!validity(-12, 12).ends_soon(now));
    assert!(validity(-20, 4).ends_soon(now));
}

/// Says whether the client showed a certificate of the CA.
async fn served(tls: &Tls) -> (u16, Shutdown) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let shutdown = Shutdown::new();
    let router =
        Router::new().route("/", get(|Extension(peer): Extension<Peer>| async move { peer.certified.to_string() }));
    let limits = Limits { handshake: Duration::from_millis(300), ..Limits::default() };
    let socket = Socket { tls: tls.server.clone(), strangers: true, limits };
    tokio::spawn(listen(listener, router, shutdown.clone(), socket));
    (port, shutdown)
}

fn client(config: ClientConfig) -> reqwest::Client {
    reqwest::Client::builder().no_proxy().tls_backend_preconfigured(config).build().unwrap()
}

#[tokio::test]
async fn a_new_pair_is_taken_and_a_broken_one_is_not() {
    let (folder, ca) = folder();
    fs::write(folder.path().join("ca.crt"), ca.pem()).unwrap();
    let settings = Settings { ca_file: Some(folder.path().join("ca.crt")), ..settings(folder.path()) };
    let tls = Tls::load(&settings, &Role::ALL).unwrap();
    let (port, shutdown) = served(&tls).await;
    tokio::spawn(watch(tls.clone(), shutdown.clone()));
    let url = format!("https://localhost:{port}/");
    let believing = || client(Files::of(&settings, &[]).client().unwrap().0);
    // Who is pinned to a file takes exactly what is in it.
    let pinned = || client(here(&settings).unwrap().unwrap());
    assert_eq!(believing().get(&url).send().await.unwrap().text().await.unwrap(), "false");
    assert!(pinned().get(&url).send().await.is_ok());

    // The key first, then the certificate, as a tool does that writes one after the other.
    let (certificate, key) = ca.issue("localhost", |_| ());
    fs::write(folder.path().join("own.key"), &key).unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(believing().get(&url).send().await.is_ok(), "the old pair is shown meanwhile");
    fs::write(folder.path().join("own.crt"), &certificate).unwrap();
    let since = tokio::time::Instant::now();
    while pinned().get(&url).send().await.is_err() {
        assert!(since.elapsed() < Duration::from_secs(60), "the new pair is not taken");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    // Nothing good: the one in use stays.
    let pinned = pinned();
    let ended = ca.issue("localhost", |params| {
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2001, 1, 1);
    });
    for (broken, key) in [(certificate.as_str(), "nothing"), (&ended.0, &ended.1), ("", "")] {
        fs::write(folder.path().join("own.crt"), broken).unwrap();
        fs::write(folder.path().join("own.key"), key).unwrap();
        // A look, and another to see that it stands still.
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(pinned.get(&url).send().await.is_ok());
        let fresh = reqwest::Client::builder().no_proxy();
        let root = reqwest::Certificate::from_pem(ca.pem().as_bytes()).unwrap();
        let fresh = fresh.tls_certs_only([root]).build().unwrap();
        assert_eq!(fresh.get(&url).send().await.unwrap().status(), 200);
    }
    shutdown.cancel();
}

#[tokio::test]
async fn a_pair_that_is_replaced_before_anybody_looks_is_taken() {
    let (folder, ca) = folder();
    let settings = settings(folder.path());
    let tls = Tls::load(&settings, &Role::ALL).unwrap();
    let (port, shutdown) = served(&tls).await;
    // The process opens its databases meanwhile.
    put(folder.path(), "own", &ca.issue("localhost", |_| ()));
    tokio::spawn(watch(tls.clone(), shutdown.clone()));
    let new = client(here(&settings).unwrap().unwrap());
    let url = format!("https://localhost:{port}/");
    let since = tokio::time::Instant::now();
    while new.get(&url).send().await.is_err() {
        assert!(since.elapsed() < Duration::from_secs(60), "the new pair is not taken");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    shutdown.cancel();
}

#[tokio::test]
async fn peers_are_known_by_their_ca() {
    let (folder, ca) = folder();
    let (stranger, path) = (Ca::new(), folder.path());
    fs::write(path.join("ca.crt"), ca.pem()).unwrap();
    put(path, "peer", &ca.issue("identity", |_| ()));
    put(path, "stranger", &stranger.issue("identity", |_| ()));
    let settings = Settings {
        peer_ca_file: Some(path.join("ca.crt")),
        peer_cert_file: Some(path.join("peer.crt")),
        peer_key_file: Some(path.join("peer.key")),
        ..Settings::default()
    };
    let tls = Tls::load(&settings, &[Role::Identity]).unwrap();
    assert!(tls.demanded && Tls::load(&settings, &[Role::Gateway]).unwrap().server.is_none());
    let (port, shutdown) = served(&tls).await;
    let url = format!("https://127.0.0.1:{port}/");

    let peer = client(Files::of(&settings, &[]).client().unwrap().0);
    assert_eq!(peer.get(&url).send().await.unwrap().text().await.unwrap(), "true");
    // A probe shows none, and is let in; somebody else's certificate is not.
    let ca_alone = Settings { ca_file: settings.peer_ca_file.clone(), ..Settings::default() };
    let probe = client(Files::of(&ca_alone, &[]).client().unwrap().0);
    assert_eq!(probe.get(&url).send().await.unwrap().text().await.unwrap(), "false");
    let wrong = Settings {
        peer_cert_file: Some(path.join("stranger.crt")),
        peer_key_file: Some(path.join("stranger.key")),
        ..settings.clone()
    };
    let wrong = client(Files::of(&wrong, &[]).client().unwrap().0);
    assert!(wrong.get(&url).send().await.is_err());
    // Whom nobody has signed is not believed.
    let public = client(Files::default().client().unwrap().0);
    assert!(public.get(&url).send().await.is_err());
    shutdown.cancel();
}

#[tokio::test]
async fn who_only_connects_is_hung_up_on() {
    use tokio::io::AsyncReadExt;
    let (folder, _ca) = folder();
    let tls = Tls::load(&settings(folder.path()), &Role::ALL).unwrap();
    let (port, shutdown) = served(&tls).await;
    let mut stream = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut [0; 64])).await;
    assert!(matches!(read, Ok(Ok(0) | Err(_))), "{read:?}");
    shutdown.cancel();
}
