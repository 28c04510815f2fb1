//! The settings of the product: flat, compiled-in defaults, checked at start with all errors at once.

mod socket;

use std::{ffi::OsStr, net::SocketAddr, path::PathBuf};

use aegis_runtime::config::{self, ConfigError};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::roles::Role;

/// Variables that begin with `AEGIS_` and are not settings.
const NOT_SETTINGS: &[&str] = &["AEGIS_CONFIG", "AEGIS_TEST_*", "AEGIS_UP_*", "AEGIS_BENCH_*"];

/// The name of `AEGIS_DEVELOPER` in the deception reference.
const DECNET_DEVELOPER: &str = "DECNET_DEVELOPER";

/// All settings. Each is a key of the TOML file, a variable `AEGIS_<NAME>`, and for secrets `AEGIS_<NAME>_FILE`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Address and port of REST, pages and gRPC.
    pub listen: String,
    /// Where the embedded product keeps its databases, files and secrets.
    pub data_dir: PathBuf,
    /// Password of `admin` at the first start; a random one is printed if it is not set.
    #[serde(serialize_with = "config::redact")]
    pub admin_password: Option<SecretString>,
    /// PostgreSQL; `{service}` stands for the service's name. Not set: SQLite files in the data folder.
    #[serde(serialize_with = "config::redact")]
    pub database_url: Option<SecretString>,
    /// Most database connections a service.
    pub database_connections: u32,
    /// RabbitMQ. Not set: events stay in the process.
    #[serde(serialize_with = "config::redact")]
    pub broker_url: Option<SecretString>,
    /// Redis. Not set: memory.
    #[serde(serialize_with = "config::redact")]
    pub cache_url: Option<SecretString>,
    /// `s3://bucket/prefix`. Not set: a folder in the data folder.
    pub blob_url: Option<String>,
    /// S3 endpoint, for stores other than Amazon's.
    pub s3_endpoint: Option<String>,
    /// S3 region.
    pub s3_region: Option<String>,
    /// S3 access key.
    #[serde(serialize_with = "config::redact")]
    pub s3_access_key_id: Option<SecretString>,
    /// S3 secret key.
    #[serde(serialize_with = "config::redact")]
    pub s3_secret_access_key: Option<SecretString>,
    /// What the processes of one product share, at least 32 characters. Embedded: made at the first start.
    #[serde(serialize_with = "config::redact")]
    pub service_secret: Option<SecretString>,
    /// Where identity is, if not in this process: `http://host:port`, several of them with commas between. A host
    /// may be a name with several addresses. The same holds for the six after it.
    pub identity_url: Option<String>,
    /// Where catalog is, if not in this process.
    pub catalog_url: Option<String>,
    /// Where testing is, if not in this process.
    pub testing_url: Option<String>,
    /// Where evidence is, if not in this process.
    pub evidence_url: Option<String>,
    /// Where intel is, if not in this process.
    pub intel_url: Option<String>,
    /// Where analytics is, if not in this process.
    pub analytics_url: Option<String>,
    /// Where deception is, if not in this process.
    pub deception_url: Option<String>,
    /// The product's address as its users see it, for links.
    pub public_url: Option<String>,
    /// Believe `X-Forwarded-For` (only behind a proxy that sets it).
    pub trust_proxy: bool,
    /// The certificate of the socket with its chain, PEM. Not set: plain HTTP. Read again when it changes.
    pub tls_cert_file: Option<PathBuf>,
    /// The key to it.
    pub tls_key_file: Option<PathBuf>,
    /// Roots of a private CA, PEM, believed besides the public ones: of databases, broker, cache, file store, mirrors
    /// of data sources, and other roles.
    pub ca_file: Option<PathBuf>,
    /// The CA of the product's own processes, PEM: calls of services need a certificate of it, and other roles are
    /// believed by it alone. Goes together with the two after it.
    pub peer_ca_file: Option<PathBuf>,
    /// The certificate that this process shows to others, with its chain, PEM.
    pub peer_cert_file: Option<PathBuf>,
    /// The key to it.
    pub peer_key_file: Option<PathBuf>,
    /// Connections that may be open, 64 or more.
    pub connections: u32,
    /// Connections of one address that may be open; 0: any number. Behind a proxy (`trust_proxy`) any number.
    pub connections_per_address: u32,
    /// Pages of these origins may use the API from a browser, such as `https://soc.example.com`; none: no other's.
    pub cors_origins: Vec<String>,
    /// Names under which the product may be asked, besides `public_url`, addresses and localhost; `*` for all. None:
    /// all, but where it listens on this machine alone.
    pub allowed_hosts: Vec<String>,
    /// Hours that an access token holds, 1 to 168.
    pub token_hours: u32,
    /// Fewest characters of a new password, 8 to 64.
    pub password_min_length: u32,
    /// Seconds that a failed login counts, 1 to 86,400.
    pub login_window_seconds: u32,
    /// Failed logins of one username from one address after which the next is refused unread.
    pub login_failures: u32,
    /// The same for one address, whatever the username.
    pub login_failures_per_address: u32,
    /// The same for one username, whatever the address.
    pub login_failures_per_username: u32,
    /// Notification streams that one user may have open.
    pub notification_streams_per_user: u32,
    /// Notification streams that may be open in one process.
    pub notification_streams: u32,
    /// Days that audit records are kept, 30 or more; 0: for ever.
    pub audit_retention_days: u32,
    /// Largest evidence file, bytes.
    pub max_evidence_bytes: u64,
    /// Minutes that a download link holds.
    pub evidence_link_minutes: u32,
    /// Whether submitting a side needs its results.
    pub workflow_require_results: bool,
    /// Whether processes of the role intel run what is scheduled.
    pub scheduler_enabled: bool,
    /// The time zone of all schedules, by its IANA name.
    pub scheduler_time_zone: String,
    /// When the intel scan runs by itself (cron); empty: by hand only.
    pub scan_schedule: String,
    /// When coverage is kept as a snapshot, with a point of the score's history (cron); empty: never.
    pub snapshot_schedule: String,
    /// Scheduled snapshots that are kept; older ones go.
    pub snapshots_kept: u32,
    /// Proxy for the publishers of data sources, such as `http://proxy.example.org:3128`. Not set: `HTTPS_PROXY`,
    /// `HTTP_PROXY` and `NO_PROXY` hold.
    #[serde(serialize_with = "config::redact")]
    pub source_proxy: Option<SecretString>,
    /// Whether a data source may be a mirror over plain http; to this machine it always may.
    pub source_allow_http: bool,
    /// Whether the product in one process starts a sensor, which hosts the decoys.
    pub sensor: bool,
    /// What a sensor is called in the list of sensors.
    pub sensor_name: String,
    /// The API key of the role `sensor` that `aegis sensor`, and containers of decoys, hand events in with. From a file
    /// it is read again when it changes; the sensor may read all of that file's folder, so the folder has nothing else.
    #[serde(serialize_with = "config::redact")]
    pub sensor_token: Option<SecretString>,
    /// Mebibytes on a sensor's disk that events may take while deception is away, 16 or more.
    pub sensor_buffer_mib: u32,
    /// Connections that a sensor may have open.
    pub sensor_connections: u32,
    /// Connections of one address that a sensor may have open.
    pub sensor_connections_per_address: u32,
    /// Seconds after which a connection to a decoy ends on which nobody says anything, 5 to 3,600.
    pub sensor_idle_seconds: u32,
    /// Minutes after which any connection to a decoy ends, 1 to 1,440.
    pub sensor_session_minutes: u32,
    /// The net of a deployment of decoys that names none.
    pub decky_net: String,
    /// What is added to the ports of decoys on loopback addresses, so that trying out needs no root; 0: their own.
    pub decky_port_offset: u16,
    /// Days that events of decoys are kept after they came in, 1 to 36,500; 0: for ever. They go 65,536 at a time at most.
    pub event_retention_days: u32,
    /// The newest events of decoys that are kept, 1,000,000 or more; 0: all. One takes 500 to 800 bytes.
    pub events_kept: u64,
    /// Address and port where syslog (RFC 5424 over TCP) of other honeypots is taken in. Not set: nowhere.
    pub syslog_listen: Option<String>,
    /// The socket of a container engine, such as `/var/run/docker.sock`, that runs the decoys. Not set: sensors do.
    pub docker_socket: Option<String>,
    /// The image with the product in it that a container of a decoy is made of.
    pub docker_image: Option<String>,
    /// Where containers reach deception, as seen from the network `docker_control_network`.
    pub docker_control_url: Option<String>,
    /// The internal network over which containers reach deception, and nothing else.
    pub docker_control_network: String,
    /// Developer mode: what would be too much to allow in earnest. `DECNET_DEVELOPER` counts too.
    pub developer: bool,
    /// What is logged, as in `info,aegis_testing=debug`.
    pub log: String,
    /// `text` or `json`.
    pub log_format: String,
    /// OTLP collector (gRPC) for traces. Not set: none.
    pub otlp_endpoint: Option<String>,
    /// Share of the traces that begin here which are recorded, 0 to 1. Of a trace that a caller began the caller decides.
    pub trace_sample: f64,
    /// Seconds to finish what runs after SIGTERM.
    pub shutdown_seconds: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            listen: "127.0.0.1:8000".into(),
            data_dir: "aegis-data".into(),
            admin_password: None,
            database_url: None,
            database_connections: 8,
            broker_url: None,
            cache_url: None,
            blob_url: None,
            s3_endpoint: None,
            s3_region: None,
            s3_access_key_id: None,
            s3_secret_access_key: None,
            service_secret: None,
            identity_url: None,
            catalog_url: None,
            testing_url: None,
            evidence_url: None,
            intel_url: None,
            analytics_url: None,
            deception_url: None,
            public_url: None,
            trust_proxy: false,
            tls_cert_file: None,
            tls_key_file: None,
            ca_file: None,
            peer_ca_file: None,
            peer_cert_file: None,
            peer_key_file: None,
            connections: 10_000,
            connections_per_address: 1_000,
            cors_origins: Vec::new(),
            allowed_hosts: Vec::new(),
            token_hours: 12,
            password_min_length: 8,
            login_window_seconds: 300,
            login_failures: 10,
            login_failures_per_address: 100,
            login_failures_per_username: 100,
            notification_streams_per_user: 10,
            notification_streams: 5000,
            audit_retention_days: 0,
            max_evidence_bytes: 1024 * 1024 * 1024,
            evidence_link_minutes: 15,
            workflow_require_results: false,
            scheduler_enabled: true,
            scheduler_time_zone: "UTC".into(),
            scan_schedule: "0 6 * * *".into(),
            snapshot_schedule: "0 5 * * 1".into(),
            snapshots_kept: 160,
            source_proxy: None,
            source_allow_http: false,
            sensor: true,
            sensor_name: "sensor".into(),
            sensor_token: None,
            sensor_buffer_mib: 1024,
            sensor_connections: 20_000,
            sensor_connections_per_address: 512,
            sensor_idle_seconds: 300,
            sensor_session_minutes: 120,
            decky_net: "127.0.0.0/8".into(),
            decky_port_offset: 20_000,
            event_retention_days: 0,
            events_kept: 100_000_000,
            syslog_listen: None,
            docker_socket: None,
            docker_image: None,
            docker_control_url: None,
            docker_control_network: "aegis-control".into(),
            developer: false,
            log: "warn,aegis=info".into(),
            log_format: "text".into(),
            otlp_endpoint: None,
            trace_sample: 1.0,
            shutdown_seconds: 20,
        }
    }
}

/// What the command line can set, over everything else.
#[derive(Debug, Default, Serialize)]
pub struct Overrides {
    /// `--listen`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    /// `--data-dir`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
}

impl Settings {
    /// Reads and checks them.
    pub fn load(file: Option<&std::path::Path>, overrides: &Overrides) -> Result<Settings, ConfigError> {
        let mut settings: Settings = config::load(file, overrides, NOT_SETTINGS)?;
        settings.check()?;
        settings.developer |= is_true(DECNET_DEVELOPER, std::env::var_os(DECNET_DEVELOPER).as_deref())?;
        Ok(settings)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        let mut check = |good: bool, problem: &str| {
            if !good {
                problems.push(problem.to_owned());
            }
        };
        check(
            self.listen.parse::<SocketAddr>().is_ok() || self.listen.starts_with("localhost:"),
            "listen (AEGIS_LISTEN) must be an address and a port, such as 127.0.0.1:8000 or [::]:8000",
        );
        self.check_socket(&mut check);
        check(
            matches!(self.log_format.as_str(), "text" | "json"),
            "log_format (AEGIS_LOG_FORMAT) must be text or json",
        );
        check((0.0..=1.0).contains(&self.trace_sample), "trace_sample (AEGIS_TRACE_SAMPLE) must be 0 to 1");
        check((1..=168).contains(&self.token_hours), "token_hours (AEGIS_TOKEN_HOURS) must be 1 to 168");
        check(
            (8..=64).contains(&self.password_min_length),
            "password_min_length (AEGIS_PASSWORD_MIN_LENGTH) must be 8 to 64",
        );
        check(
            (1..=86_400).contains(&self.login_window_seconds),
            "login_window_seconds (AEGIS_LOGIN_WINDOW_SECONDS) must be 1 to 86400",
        );
        for (value, name) in [
            (self.login_failures, "login_failures (AEGIS_LOGIN_FAILURES)"),
            (self.login_failures_per_address, "login_failures_per_address (AEGIS_LOGIN_FAILURES_PER_ADDRESS)"),
            (self.login_failures_per_username, "login_failures_per_username (AEGIS_LOGIN_FAILURES_PER_USERNAME)"),
            (self.notification_streams_per_user, "notification_streams_per_user (AEGIS_NOTIFICATION_STREAMS_PER_USER)"),
            (self.notification_streams, "notification_streams (AEGIS_NOTIFICATION_STREAMS)"),
        ] {
            check(value >= 1, &format!("{name} must be 1 or more"));
        }
        check(
            matches!(self.audit_retention_days, 0 | 30..=36500),
            "audit_retention_days (AEGIS_AUDIT_RETENTION_DAYS) must be 0 (for ever) or 30 to 36500",
        );
        check(
            (1..=200).contains(&self.database_connections),
            "database_connections (AEGIS_DATABASE_CONNECTIONS) must be 1 to 200",
        );
        check(
            (1..=7 * 24 * 60).contains(&self.evidence_link_minutes),
            "evidence_link_minutes (AEGIS_EVIDENCE_LINK_MINUTES) must be 1 to 10080",
        );
        let intel = self.intel();
        if let Some(problem) = intel.time_zone_problem() {
            check(false, &format!("scheduler_time_zone (AEGIS_SCHEDULER_TIME_ZONE) {problem}"));
        }
        if let Some(problem) = intel.scan_schedule_problem() {
            check(false, &format!("scan_schedule (AEGIS_SCAN_SCHEDULE) {problem}"));
        }
        if let Some(problem) = intel.snapshot_schedule_problem() {
            check(false, &format!("snapshot_schedule (AEGIS_SNAPSHOT_SCHEDULE) {problem}"));
        }
        check((1..=2_000).contains(&self.snapshots_kept), "snapshots_kept (AEGIS_SNAPSHOTS_KEPT) must be 1 to 2000");
        check(self.max_evidence_bytes >= 1, "max_evidence_bytes (AEGIS_MAX_EVIDENCE_BYTES) must be 1 or more");
        for (secret, name, schemes) in [
            (&self.database_url, "database_url (AEGIS_DATABASE_URL)", &["postgres://", "postgresql://"][..]),
            (&self.broker_url, "broker_url (AEGIS_BROKER_URL)", &["amqp://", "amqps://"]),
            (&self.cache_url, "cache_url (AEGIS_CACHE_URL)", &["redis://", "rediss://"]),
        ] {
            if let Some(url) = secret {
                let good = schemes.iter().any(|scheme| url.expose_secret().starts_with(scheme));
                check(good, &format!("{name} must begin with {}", schemes.join(" or ")));
            }
        }
        if let Some(url) = &self.source_proxy {
            let good = ["http://", "https://"].iter().any(|scheme| url.expose_secret().starts_with(scheme));
            check(good, "source_proxy (AEGIS_SOURCE_PROXY) must begin with http:// or https://");
        }
        if let Some(url) = &self.blob_url {
            check(url.starts_with("s3://"), "blob_url (AEGIS_BLOB_URL) must be s3://bucket/prefix");
        }
        if let Some(secret) = &self.service_secret {
            check(
                secret.expose_secret().len() >= 32,
                "service_secret (AEGIS_SERVICE_SECRET) must have at least 32 characters",
            );
        }
        check(self.sensor_buffer_mib >= 16, "sensor_buffer_mib (AEGIS_SENSOR_BUFFER_MIB) must be 16 or more");
        for (value, name) in [
            (self.sensor_connections, "sensor_connections (AEGIS_SENSOR_CONNECTIONS)"),
            (
                self.sensor_connections_per_address,
                "sensor_connections_per_address (AEGIS_SENSOR_CONNECTIONS_PER_ADDRESS)",
            ),
        ] {
            check(value >= 1, &format!("{name} must be 1 or more"));
        }
        check(
            (5..=3600).contains(&self.sensor_idle_seconds),
            "sensor_idle_seconds (AEGIS_SENSOR_IDLE_SECONDS) must be 5 to 3600",
        );
        check(
            (1..=1440).contains(&self.sensor_session_minutes),
            "sensor_session_minutes (AEGIS_SENSOR_SESSION_MINUTES) must be 1 to 1440",
        );
        check(
            (1..=64).contains(&self.sensor_name.chars().count()),
            "sensor_name (AEGIS_SENSOR_NAME) must have 1 to 64 characters",
        );
        check(
            self.event_retention_days <= 36_500,
            "event_retention_days (AEGIS_EVENT_RETENTION_DAYS) must be 0 (for ever) to 36500",
        );
        check(
            self.events_kept == 0 || self.events_kept >= 1_000_000,
            "events_kept (AEGIS_EVENTS_KEPT) must be 0 (all), or 1000000 or more",
        );
        if let Some(address) = &self.syslog_listen {
            check(
                address.parse::<SocketAddr>().is_ok(),
                "syslog_listen (AEGIS_SYSLOG_LISTEN) must be an address and a port, such as 0.0.0.0:6514",
            );
        }
        check(
            with_net(&mut aegis_deception::Config::default(), &self.decky_net),
            "decky_net (AEGIS_DECKY_NET) must be a network, such as 192.0.2.0/24",
        );
        if self.docker_socket.is_some() {
            let whole = self.docker_image.is_some() && self.docker_control_url.is_some() && self.sensor_token.is_some();
            check(
                whole,
                "docker_socket (AEGIS_DOCKER_SOCKET) needs docker_image (AEGIS_DOCKER_IMAGE), docker_control_url \
                 (AEGIS_DOCKER_CONTROL_URL) and sensor_token (AEGIS_SENSOR_TOKEN)",
            );
        } else {
            check(
                self.docker_image.is_none() && self.docker_control_url.is_none(),
                "docker_image (AEGIS_DOCKER_IMAGE) and docker_control_url (AEGIS_DOCKER_CONTROL_URL) need docker_socket \
                 (AEGIS_DOCKER_SOCKET): without it no container is made",
            );
        }
        for role in Role::SERVICES {
            if let Some(url) = self.peer(role)
                && let Err(problem) = aegis_rpc::check_addresses(url)
            {
                let variable = format!("AEGIS_{}_URL", role.as_str().to_uppercase());
                check(false, &format!("{role}_url ({variable}): {problem}"));
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(ConfigError::new(problems)) }
    }

    /// What these roles need and these settings lack.
    pub fn check_roles(&self, roles: &[Role]) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        let everything = Role::ALL.iter().all(|role| roles.contains(role));
        if !everything {
            if self.broker_url.is_none() {
                problems.push(
                    "broker_url (AEGIS_BROKER_URL) is needed: the services of several processes talk over RabbitMQ"
                        .into(),
                );
            }
            if self.service_secret.is_none() {
                problems.push("service_secret (AEGIS_SERVICE_SECRET) is needed: all processes share it".into());
            }
            if self.cache_url.is_none() && roles.contains(&Role::Identity) {
                problems.push(
                    "cache_url (AEGIS_CACHE_URL) is needed: replicas count failed logins together, in Redis".into(),
                );
            }
        }
        problems.extend(self.peer_problems(roles));
        for role in Role::SERVICES {
            let needed = role == Role::Identity || roles.iter().any(|other| other.calls().contains(&role));
            if needed && !roles.contains(&role) && self.peer(role).is_none() {
                problems.push(format!(
                    "{role}_url (AEGIS_{}_URL) is needed: {role} does not run in this process",
                    role.as_str().to_uppercase()
                ));
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(ConfigError::new(problems)) }
    }

    /// The settings of intel.
    pub fn intel(&self) -> aegis_intel::Config {
        let schedule = |text: &String| Some(text.clone()).filter(|text| !text.trim().is_empty());
        aegis_intel::Config {
            scheduler_enabled: self.scheduler_enabled,
            scheduler_time_zone: self.scheduler_time_zone.clone(),
            scan_schedule: schedule(&self.scan_schedule),
            snapshot_schedule: schedule(&self.snapshot_schedule),
            fetch: aegis_intel::fetch::FetchLimits {
                proxy: self.source_proxy.clone(),
                allow_http: self.source_allow_http,
                off_limits: vec![self.data_dir.clone()],
                roots: self.more_roots(),
                ..aegis_intel::fetch::FetchLimits::default()
            },
            ..aegis_intel::Config::default()
        }
    }

    /// The settings of analytics.
    pub fn analytics(&self) -> aegis_analytics::Config {
        aegis_analytics::Config { snapshots_kept: self.snapshots_kept }
    }

    /// The settings of deception.
    pub fn deception(&self) -> aegis_deception::Config {
        let mut config = aegis_deception::Config {
            loopback_port_offset: self.decky_port_offset,
            developer: self.developer,
            event_retention_days: self.event_retention_days,
            events_kept: self.events_kept,
            syslog_listen: self.syslog_listen.as_deref().and_then(|address| address.parse().ok()),
            docker: self.docker(),
            ..aegis_deception::Config::default()
        };
        with_net(&mut config, &self.decky_net);
        config
    }

    fn docker(&self) -> Option<aegis_deception::DockerConfig> {
        Some(aegis_deception::DockerConfig {
            socket: self.docker_socket.clone()?,
            image: self.docker_image.clone()?,
            control_url: self.docker_control_url.clone()?,
            control_network: self.docker_control_network.clone(),
            token: self.sensor_token.clone()?,
        })
    }

    /// The folder that is a sensor's own.
    pub fn sensor_folder(&self) -> PathBuf {
        self.data_dir.join("sensor")
    }

    /// Where a service of another process is.
    pub fn peer(&self, role: Role) -> Option<&str> {
        match role {
            Role::Identity => self.identity_url.as_deref(),
            Role::Catalog => self.catalog_url.as_deref(),
            Role::Testing => self.testing_url.as_deref(),
            Role::Evidence => self.evidence_url.as_deref(),
            Role::Intel => self.intel_url.as_deref(),
            Role::Analytics => self.analytics_url.as_deref(),
            Role::Deception => self.deception_url.as_deref(),
            Role::Gateway => None,
        }
    }
}

/// Sets the net of deployments that name none; false when the text is none.
fn with_net(config: &mut aegis_deception::Config, text: &str) -> bool {
    text.parse().map(|net| config.default_net = net).is_ok()
}

/// What a variable that is no setting of ours says, in the words that our own take.
fn is_true(name: &str, value: Option<&OsStr>) -> Result<bool, ConfigError> {
    let value = value.unwrap_or_default().to_string_lossy().to_lowercase();
    match value.as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "" | "false" | "no" | "off" | "0" => Ok(false),
        _ => Err(ConfigError::new(vec![format!("{name} must be true or false")])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_name_of_developer_mode_is_read() {
        let read = |value: &str| is_true(DECNET_DEVELOPER, Some(OsStr::new(value)));
        assert_eq!(is_true(DECNET_DEVELOPER, None), Ok(false));
        assert_eq!((read("true"), read("True"), read("1")), (Ok(true), Ok(true), Ok(true)));
        assert_eq!((read("false"), read("0"), read("")), (Ok(false), Ok(false), Ok(false)));
        assert!(read("perhaps").is_err());
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let settings =
            Settings { listen: "nowhere".into(), token_hours: 0, log_format: "xml".into(), ..Settings::default() };
        assert_eq!(settings.check().unwrap_err().problems().len(), 3);
    }

    #[test]
    fn one_role_alone_needs_what_the_others_share() {
        let problems = Settings::default().check_roles(&[Role::Testing]).unwrap_err();
        let text = problems.to_string();
        for name in ["AEGIS_BROKER_URL", "AEGIS_SERVICE_SECRET", "AEGIS_IDENTITY_URL", "AEGIS_CATALOG_URL"] {
            assert!(text.contains(name), "{text}");
        }
        assert!(Settings::default().check_roles(&Role::ALL).is_ok());
    }

    #[test]
    fn secrets_are_not_shown() {
        let settings =
            Settings { service_secret: Some("s3cret-s3cret-s3cret-s3cret-s3cret".into()), ..Settings::default() };
        assert!(!format!("{settings:?}").contains("s3cret-"));
        assert!(!toml::to_string(&settings).unwrap().contains("s3cret-"));
    }
}
