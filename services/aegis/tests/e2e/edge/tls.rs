//! The product over TLS, with the clients of every day.

use std::{process::Command, time::Duration};

use serde_json::{Value, json};

use super::{certificates::Ca, embedded};
use crate::harness::{PASSWORD, Process, eventually, plain};

const SOON: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_product_speaks_tls_and_takes_new_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let [ca_file, certificate, key] = ["ca.crt", "tls.crt", "tls.key"].map(|name| folder.path().join(name));
    let (ca, other) = (Ca::new(), Ca::new());
    ca.write(&ca_file);
    ca.issue(&["localhost"], &certificate, &key);
    let command = |arguments: &[&str], address: &str| {
        let mut command = embedded(&folder);
        command.args(arguments).env("AEGIS_LISTEN", address).env("AEGIS_SENSOR", "true");
        command.env("AEGIS_TLS_CERT_FILE", &certificate).env("AEGIS_TLS_KEY_FILE", &key);
        command
    };
    let mut process = Process::spawn("tls", command(&[], "127.0.0.1:0"), folder.path());
    let address = process.listening().await;
    assert!(process.stdout().contains("listening on https://"), "{}", process.stdout());
    let port = address.rsplit(':').next().unwrap().to_owned();
    let base = format!("https://localhost:{port}");

    // People and browsers.
    let client = ca.believer();
    let login = json!({"username": "admin", "password": PASSWORD});
    let answer = client.post(format!("{base}/api/v1/auth/login")).json(&login).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, reqwest::Version::HTTP_2));
    assert_eq!(answer.headers()["strict-transport-security"], "max-age=31536000");
    let token: Value = answer.json().await.unwrap();
    let token = token["access_token"].as_str().unwrap();
    assert!(other.believer().get(&base).send().await.is_err(), "a certificate of another CA is believed");
    let plainly = plain().build().unwrap().get(format!("http://{address}/livez")).send().await;
    assert!(plainly.is_err(), "plain HTTP is answered");

    // Commands beside it, and its own sensor.
    let healthy = command(&["health"], &address).output().unwrap();
    assert!(healthy.status.success(), "{}", String::from_utf8_lossy(&healthy.stderr));
    let rebuilt = command(&["rebuild", "statuses"], &address).output().unwrap();
    assert!(rebuilt.status.success(), "{}", String::from_utf8_lossy(&rebuilt.stderr));
    eventually("the sensor is attached", SOON, || async {
        let sensors = client.get(format!("{base}/api/v1/sensors")).bearer_auth(token).send().await.unwrap();
        let sensors: Value = sensors.json().await.unwrap();
        match sensors.to_string().contains("\"attached\":true") {
            true => Ok(()),
            false => Err(sensors.to_string()),
        }
    })
    .await;

    everyday_clients(&base, &port, ca_file.to_str().unwrap());

    // A broken pair is refused; a new one is taken, and asked for by a signal at once.
    std::fs::write(&key, "nothing").unwrap();
    process.hang_up();
    eventually("the broken pair is refused", SOON, || async {
        match process.stderr().contains("the new certificate is not taken") {
            true => Ok(()),
            false => Err(process.last_lines()),
        }
    })
    .await;
    assert!(ca.believer().get(format!("{base}/livez")).send().await.is_ok());
    other.issue(&["localhost"], &certificate, &key);
    process.hang_up();
    eventually("the new pair is taken", SOON, || async {
        other.believer().get(format!("{base}/livez")).send().await.map(drop).map_err(|error| format!("{error:?}"))
    })
    .await;
    // Who was connected still is.
    assert_eq!(client.get(format!("{base}/livez")).send().await.unwrap().status(), 200);
    let metrics = client.get(format!("{base}/metrics")).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("aegis_tls_not_after_timestamp_seconds{certificate=\"socket\"}"), "{metrics}");
    assert!(metrics.contains("aegis_tls_loads_total{certificate=\"socket\",result=\"refused\"} 1"), "{metrics}");
    assert!(process.terminate().await.success(), "{}", process.last_lines());
}

/// Those of Debian, where they are installed.
fn everyday_clients(base: &str, port: &str, ca: &str) {
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).stdin(std::process::Stdio::null()).output().ok()?;
        Some((output.status.success(), format!("{output:?}")))
    };
    let url = format!("{base}/livez");
    match run("curl", &["--silent", "--show-error", "--noproxy", "*", "--cacert", ca, "-w", " %{http_code}", &url]) {
        Some((good, told)) => assert!(good && told.contains("ok 200"), "{told}"),
        None => println!("skipped: there is no curl"),
    }
    let address = format!("localhost:{port}");
    let handshake = |version: &str| {
        let arguments =
            ["s_client", "-connect", &address, "-CAfile", ca, "-verify_return_error", "-alpn", "h2", version];
        run("openssl", &arguments)
    };
    let Some((good, told)) = handshake("-tls1_3") else {
        return println!("skipped: there is no openssl");
    };
    assert!(good && told.contains("ALPN protocol: h2"), "{told}");
    let (good, told) = handshake("-tls1_2").unwrap();
    assert!(good && told.contains("ALPN protocol: h2"), "{told}");
    for old in ["-tls1_1", "-tls1"] {
        let (good, told) = handshake(old).unwrap();
        assert!(!good, "{old} is spoken: {told}");
    }
}
