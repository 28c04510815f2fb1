//! A product: its processes, its settings, its users.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::Method;
use serde_json::json;

use super::{
    collector,
    http::{Api, try_send},
    process::{Process, binary, free_port},
    stores::Stores,
    watchdog,
};

/// The roles that have a process of their own in [`Mode::Processes`]; the gateway last.
const ROLES: [&str; 8] = ["identity", "catalog", "testing", "evidence", "intel", "analytics", "deception", "gateway"];

/// The same once more, in the same order: what the second process of each is called.
const SECOND: [&str; 8] =
    ["identity-2", "catalog-2", "testing-2", "evidence-2", "intel-2", "analytics-2", "deception-2", "gateway-2"];

/// The password of every user that the suite makes.
pub const PASSWORD: &str = "correct-horse-battery";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One process on SQLite and a folder.
    Embedded,
    /// A process a role on PostgreSQL, RabbitMQ, Redis and S3.
    Processes,
}

pub struct Product {
    pub mode: Mode,
    /// Where REST is, as in `http://127.0.0.1:8000`.
    pub base: String,
    settings: Vec<(String, String)>,
    /// Name and address of each process.
    peers: Vec<(&'static str, String)>,
    running: HashMap<&'static str, Process>,
    /// Of its own in [`Mode::Processes`]; else a child of the product.
    sensor: Option<Process>,
    folder: PathBuf,
    /// Of `admin`, as it is now.
    pub admin_password: String,
    tokens: HashMap<String, String>,
}

impl Product {
    /// A new product, ready to answer.
    pub async fn start(mode: Mode) -> Product {
        let folder = tempfile::Builder::new().prefix("aegis-e2e-").tempdir().expect("a temporary folder").keep();
        watchdog::folder(&folder);
        let admin_password = format!("first-{}", random_hex(8));
        let mut settings = vec![
            ("AEGIS_DATA_DIR".to_owned(), folder.join("data").display().to_string()),
            ("AEGIS_ADMIN_PASSWORD".to_owned(), admin_password.clone()),
            ("AEGIS_LOG".to_owned(), "info".to_owned()),
            ("AEGIS_SHUTDOWN_SECONDS".to_owned(), "10".to_owned()),
            // Only what a scenario asks for is recorded.
            ("AEGIS_OTLP_ENDPOINT".to_owned(), collector::endpoint()),
            ("AEGIS_TRACE_SAMPLE".to_owned(), "0".to_owned()),
            ("OTEL_BSP_SCHEDULE_DELAY".to_owned(), "200".to_owned()),
        ];
        let mut peers = Vec::new();
        match mode {
            Mode::Embedded => peers.push(("aegis", address())),
            Mode::Processes => {
                settings.extend(Stores::from_environment().expect("stores").provision().await);
                settings.push(("AEGIS_SERVICE_SECRET".to_owned(), random_hex(32)));
                for role in ROLES {
                    let address = address();
                    if role != "gateway" {
                        settings.push((format!("AEGIS_{}_URL", role.to_uppercase()), format!("http://{address}")));
                    }
                    peers.push((role, address));
                }
            }
        }
        let gateway = peers.last().expect("a process").1.clone();
        let mut product = Product {
            mode,
            base: format!("http://{gateway}"),
            settings,
            peers,
            running: HashMap::new(),
            sensor: None,
            folder,
            admin_password,
            tokens: HashMap::new(),
        };
        if mode == Mode::Processes {
            let output = product.command(&["migrate"]).output().expect("aegis runs");
            assert!(output.status.success(), "aegis migrate: {}", String::from_utf8_lossy(&output.stderr));
        }
        product.ensure_running().await;
        product
    }

    /// `aegis` with these arguments and this product's settings.
    pub fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = binary();
        command.args(arguments).envs(self.settings.iter().map(|(name, value)| (name, value)));
        command
    }

    /// The names of the processes, the gateway's last.
    pub fn processes(&self) -> Vec<&'static str> {
        self.peers.iter().map(|(name, _)| *name).collect()
    }

    /// Where the gRPC calls of a role go.
    pub fn address_of(&self, role: &str) -> String {
        let peer = self.peers.iter().find(|(name, _)| *name == role).or_else(|| self.peers.last());
        format!("http://{}", peer.expect("a process").1)
    }

    /// Starts what does not run, and waits until everything is ready.
    pub async fn ensure_running(&mut self) {
        let logs = self.folder.clone();
        for (name, address) in self.peers.clone() {
            if self.running.get_mut(name).is_some_and(Process::alive) {
                continue;
            }
            let mut command = match self.mode {
                Mode::Embedded => self.command(&[]),
                Mode::Processes => self.command(&["serve", name.trim_end_matches("-2")]),
            };
            command.env("AEGIS_LISTEN", &address);
            self.running.insert(name, Process::spawn(name, command, &logs));
        }
        for process in self.running.values_mut() {
            process.listening().await;
        }
        self.wait_ready().await;
    }

    /// Two of every role from now on, each of which knows both addresses of all others; or one of each again.
    pub async fn set_replicas(&mut self, two: bool) {
        self.running.clear();
        self.sensor = None;
        self.peers.retain(|(name, _)| !SECOND.contains(name));
        if two {
            // The gateway of before stays the last.
            for (at, name) in SECOND.into_iter().enumerate() {
                self.peers.insert(at, (name, address()));
            }
        }
        for role in ROLES.iter().filter(|role| **role != "gateway") {
            let both = self.peers.iter().rev().filter(|(name, _)| name.trim_end_matches("-2") == *role);
            let urls: Vec<String> = both.map(|(_, address)| format!("http://{address}")).collect();
            let variable = format!("AEGIS_{}_URL", role.to_uppercase());
            if let Some((_, value)) = self.settings.iter_mut().find(|(name, _)| *name == variable) {
                *value = urls.join(",");
            }
        }
        self.ensure_running().await;
    }

    /// A sensor is attached, so that decoys can be deployed.
    pub async fn ensure_sensor(&mut self) {
        let admin = self.admin().await;
        if self.mode == Mode::Processes && !self.sensor.as_mut().is_some_and(Process::alive) {
            let me = admin.get("/auth/me").await.json(200);
            let wish = json!({"name": format!("sensor-{}", random_hex(4)), "role": "sensor"});
            let path = format!("/users/{}/api-keys", me["id"].as_str().expect("an id"));
            let key = admin.post(&path, &wish).await.json(201);
            // It knows nothing of the product's but where deception is, and its own key.
            let mut command = binary();
            let deception = self.settings.iter().find(|(name, _)| name == "AEGIS_DECEPTION_URL");
            command.arg("sensor").env("AEGIS_DECEPTION_URL", &deception.expect("an address").1);
            command.env("AEGIS_SENSOR_TOKEN", key["key"].as_str().expect("a key"));
            command.env("AEGIS_DATA_DIR", self.folder.join("sensor")).env("AEGIS_LOG", "info");
            self.sensor = Some(Process::spawn("sensor", command, &self.folder));
        }
        super::eventually("a sensor is attached", Duration::from_secs(60), || async {
            let sensors = admin.get("/sensors").await.json(200);
            let attached = super::rows(&sensors).iter().any(|sensor| sensor["attached"] == true);
            if attached { Ok(()) } else { Err(sensors.to_string()) }
        })
        .await;
    }

    async fn wait_ready(&self) {
        let nobody = self.anonymous();
        for (name, address) in &self.peers {
            let url = format!("http://{address}/readyz");
            super::eventually(&format!("{name} is ready"), Duration::from_secs(60), || async {
                match try_send(nobody.request(Method::GET, &url)).await {
                    Ok(answer) if answer.status == 200 => Ok(()),
                    Ok(answer) => Err(answer.to_string()),
                    Err(error) => Err(error.to_string()),
                }
            })
            .await;
        }
    }

    /// kill -9 of one process.
    pub fn kill9(&mut self, name: &str) {
        self.running.get_mut(name).expect("a process of that name").kill9();
    }

    /// Fails if a process ended by itself.
    pub fn assert_alive(&mut self) {
        for process in self.running.values_mut().chain(&mut self.sensor) {
            assert!(process.alive(), "{} ended by itself{}", process.name, process.last_lines());
        }
    }

    /// A folder of this product for files of a scenario.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A client that is nobody.
    pub fn anonymous(&self) -> Api {
        Api::new(&self.base, None)
    }

    /// The first administrator.
    pub async fn admin(&mut self) -> Api {
        let password = self.admin_password.clone();
        self.login("admin", &password).await
    }

    /// Someone of this role, the same for all scenarios.
    pub async fn someone(&mut self, role: &str) -> Api {
        self.user(role, &format!("some-{}", role.replace('_', "-"))).await
    }

    /// A user of this role and name, made if it is not there.
    pub async fn user(&mut self, role: &str, username: &str) -> Api {
        if !self.tokens.contains_key(username) {
            let body = json!({"username": username, "password": PASSWORD, "role": role});
            let answer = self.admin().await.post("/users", &body).await;
            assert!(matches!(answer.status, 201 | 409), "{answer}");
        }
        self.login(username, PASSWORD).await
    }

    /// Signs in, unless that was done before.
    pub async fn login(&mut self, username: &str, password: &str) -> Api {
        if let Some(token) = self.tokens.get(username) {
            return Api::new(&self.base, Some(token.clone()));
        }
        let body = json!({"username": username, "password": password});
        let answer = self.anonymous().post("/auth/login", &body).await.json(200);
        let token = answer["access_token"].as_str().expect("a token").to_owned();
        self.tokens.insert(username.to_owned(), token.clone());
        Api::new(&self.base, Some(token))
    }

    /// Its token no longer holds.
    pub fn forget(&mut self, username: &str) {
        self.tokens.remove(username);
    }
}

fn address() -> String {
    format!("127.0.0.1:{}", free_port())
}

/// `bytes` random bytes as hexadecimal digits.
pub fn random_hex(bytes: usize) -> String {
    (0..bytes).map(|_| format!("{:02x}", rand::random::<u8>())).collect()
}
