//! Certificates between the processes: identity, catalog, deception and the gateway, each a process. No event passes
//! here, so no broker is needed; Redis is, and without one this is skipped.

use std::{path::Path, time::Duration};

use aegis_proto::catalog::v1::{ListTacticsRequest, catalog_service_client::CatalogServiceClient};
use aegis_rpc::ClientTls;
use reqwest::{Certificate, Identity};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::certificates::Ca;
use crate::harness::{Api, PASSWORD, Process, binary, eventually, free_port, plain, rows};

const SOON: Duration = Duration::from_secs(90);
/// The gateway last: it needs the others.
const RUNNING: [&str; 4] = ["identity", "catalog", "deception", "gateway"];
const OTHERS: [&str; 4] = ["testing", "evidence", "intel", "analytics"];

struct World {
    folder: TempDir,
    ca: Ca,
    addresses: Vec<(&'static str, String)>,
    settings: Vec<(String, String)>,
}

impl World {
    fn new(redis: String) -> World {
        let (folder, ca) = (tempfile::tempdir().unwrap(), Ca::new());
        let addresses = RUNNING.map(|role| (role, format!("localhost:{}", free_port()))).to_vec();
        let text = |path: &Path| path.display().to_string();
        let mut settings = vec![
            ("AEGIS_DATA_DIR".to_owned(), text(&folder.path().join("data"))),
            ("AEGIS_ADMIN_PASSWORD".to_owned(), PASSWORD.to_owned()),
            ("AEGIS_SERVICE_SECRET".to_owned(), "s".repeat(40)),
            ("AEGIS_CACHE_URL".to_owned(), redis),
            ("AEGIS_BROKER_URL".to_owned(), "amqp://127.0.0.1:9".to_owned()),
            ("AEGIS_PEER_CA_FILE".to_owned(), text(&folder.path().join("ca.crt"))),
            ("AEGIS_LOG".to_owned(), "warn,aegis=info".to_owned()),
        ];
        for (role, address) in &addresses {
            settings.push((format!("AEGIS_{}_URL", role.to_uppercase()), format!("https://{address}")));
        }
        for role in OTHERS {
            settings.push((format!("AEGIS_{}_URL", role.to_uppercase()), "https://localhost:9".to_owned()));
        }
        settings.retain(|(name, _)| name != "AEGIS_GATEWAY_URL");
        let world = World { folder, ca, addresses, settings };
        world.ca.write(&world.file("ca", "crt"));
        for role in RUNNING {
            world.certify(role);
        }
        world
    }

    fn file(&self, name: &str, kind: &str) -> std::path::PathBuf {
        self.folder.path().join(format!("{name}.{kind}"))
    }

    fn certify(&self, role: &str) {
        self.ca.issue(&[role, "localhost"], &self.file(role, "crt"), &self.file(role, "key"));
    }

    fn start(&self, role: &str) -> Process {
        let mut command = binary();
        command.args(["serve", role]).envs(self.settings.iter().map(|(name, value)| (name, value)));
        command.env("AEGIS_LISTEN", self.address(role).replace("localhost", "127.0.0.1"));
        command.env("AEGIS_PEER_CERT_FILE", self.file(role, "crt"));
        command.env("AEGIS_PEER_KEY_FILE", self.file(role, "key"));
        Process::spawn(role, command, self.folder.path())
    }

    fn address(&self, role: &str) -> String {
        self.addresses.iter().find(|(name, _)| *name == role).expect("a role").1.clone()
    }

    /// Calls of the catalogue by a client that shows the certificate of this role, or none.
    fn catalog(&self, shown: Option<&str>) -> CatalogServiceClient<aegis_rpc::RpcService> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.file("ca", "crt")).unwrap()).unwrap();
        let builder = ClientConfig::builder().with_root_certificates(roots);
        let config = match shown {
            None => builder.with_no_client_auth(),
            Some(role) => {
                let chain = vec![CertificateDer::from_pem_file(self.file(role, "crt")).unwrap()];
                let key = PrivateKeyDer::from_pem_file(self.file(role, "key")).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        let url = format!("https://{}", self.address("catalog"));
        CatalogServiceClient::new(aegis_rpc::remote_over(&url, &ClientTls::new(config)).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_know_each_other_by_their_certificates() {
    let Some(redis) = std::env::var("AEGIS_TEST_REDIS_URL").ok().filter(|url| !url.is_empty()) else {
        return println!("skipped: AEGIS_TEST_REDIS_URL is not set (`cargo xtask test` sets it)");
    };
    let world = World::new(redis);
    let believer = world.ca.believer();
    let mut processes: Vec<Process> = RUNNING.iter().map(|role| world.start(role)).collect();
    for process in &mut processes {
        process.listening().await;
    }

    // Through the gateway, to identity and to the catalogue, which asks identity for keys.
    let nobody = Api::new(&format!("http://{}", world.address("gateway")), None);
    let login = json!({"username": "admin", "password": PASSWORD});
    let token = eventually("identity is reached", SOON, || async {
        let answer = nobody.post("/auth/login", &login).await;
        if answer.status == 200 { Ok(answer.value()) } else { Err(answer.to_string()) }
    })
    .await;
    let first = nobody.with_token(token["access_token"].as_str().unwrap());
    let change = json!({"old_password": PASSWORD, "new_password": format!("{PASSWORD}-2")});
    let admin = match first.post("/auth/change-password", &change).await.status {
        200 => {
            let login = json!({"username": "admin", "password": format!("{PASSWORD}-2")});
            let token = nobody.post("/auth/login", &login).await.json(200);
            nobody.with_token(token["access_token"].as_str().unwrap())
        }
        _ => first,
    };
    assert!(admin.total("/techniques").await > 600);

    // Calls of services need a certificate; probes do not, and plain HTTP is not spoken.
    let told = world.catalog(None).list_tactics(ListTacticsRequest::default()).await.unwrap_err();
    assert!(told.code() == tonic::Code::Unauthenticated && told.message().contains("certificate"), "{told:?}");
    let told = world.catalog(Some("gateway")).list_tactics(ListTacticsRequest::default()).await.unwrap_err();
    assert!(!told.message().contains("certificate"), "{told:?}");
    let (address, health) = (world.address("catalog"), Health(&world));
    assert_eq!(believer.get(format!("https://{address}/livez")).send().await.unwrap().status(), 200);
    let plainly = plain().build().unwrap().get(format!("http://{address}/livez")).send().await;
    assert!(plainly.is_err());
    // Who has a certificate of somebody else is not let in at all.
    let stranger = Ca::new();
    stranger.issue(&["gateway"], &world.file("stranger", "crt"), &world.file("stranger", "key"));
    assert!(health.with("gateway").get(format!("https://{address}/livez")).send().await.is_ok());
    assert!(health.with("stranger").get(format!("https://{address}/livez")).send().await.is_err());

    sensor(&world, &admin).await;

    // New certificates, while everything runs.
    for role in RUNNING {
        world.certify(role);
    }
    for process in &processes {
        process.hang_up();
    }
    eventually("new certificates are taken", SOON, || async {
        let metrics = believer.get(format!("https://{address}/metrics")).send().await.unwrap().text().await.unwrap();
        let taken = "aegis_tls_loads_total{certificate=\"peers\",result=\"taken\"} ";
        let count = metrics.lines().find_map(|line| line.strip_prefix(taken)).unwrap_or("0").to_owned();
        if count.parse::<f64>().unwrap() >= 2.0 { Ok(()) } else { Err(count) }
    })
    .await;
    // Another process comes back with connections of its own.
    processes[1].kill9();
    processes[1] = world.start("catalog");
    processes[1].listening().await;
    eventually("the catalogue is back", SOON, || async {
        let answer = admin.get("/tactics").await;
        if answer.status == 200 { Ok(()) } else { Err(answer.to_string()) }
    })
    .await;
}

/// Clients that show a certificate.
struct Health<'a>(&'a World);

impl Health<'_> {
    fn with(&self, name: &str) -> reqwest::Client {
        let read = |kind: &str| std::fs::read(self.0.file(name, kind)).unwrap();
        let identity = Identity::from_pem(&[read("key"), read("crt")].concat()).unwrap();
        let root = Certificate::from_pem(&std::fs::read(self.0.file("ca", "crt")).unwrap()).unwrap();
        reqwest::Client::builder().no_proxy().tls_certs_only([root]).identity(identity).build().unwrap()
    }
}

/// A sensor has a key and no certificate, and believes the CA. Its key comes from a file, and so does the one after it.
async fn sensor(world: &World, admin: &Api) {
    let me = admin.get("/auth/me").await.json(200);
    let path = format!("/users/{}/api-keys", me["id"].as_str().unwrap());
    let key = admin.post(&path, &json!({"name": "sensor", "role": "sensor"})).await.json(201);
    let mut command = binary();
    command.arg("sensor").env("AEGIS_DECEPTION_URL", format!("https://{}", world.address("deception")));
    let keys = world.folder.path().join("sensor-key");
    std::fs::create_dir(&keys).unwrap();
    let file = keys.join("token");
    std::fs::write(&file, "aegis_one-that-has-ended\n").unwrap();
    command.env("AEGIS_CA_FILE", world.file("ca", "crt")).env("AEGIS_SENSOR_TOKEN_FILE", &file);
    command.env("AEGIS_DATA_DIR", world.folder.path().join("sensor")).env("AEGIS_LOG", "info");
    let process = Process::spawn("sensor", command, world.folder.path());
    eventually("the key that has ended is refused", SOON, || async {
        let told = process.last_lines();
        if told.contains("Unauthenticated") { Ok(()) } else { Err(told) }
    })
    .await;
    // As whoever renews it does: the new one takes the place of the old.
    std::fs::write(keys.join("new"), key["key"].as_str().unwrap()).unwrap();
    std::fs::rename(keys.join("new"), &file).unwrap();
    eventually("the sensor is attached", SOON, || async {
        let sensors: Value = admin.get("/sensors").await.json(200);
        match rows(&sensors).iter().any(|sensor| sensor["attached"] == true) {
            true => Ok(()),
            false => Err(format!("{sensors}{}", process.last_lines())),
        }
    })
    .await;
}
