//! The stores of the product of many processes: a database with a role and a schema a service, an empty broker.

use lapin::{
    ConnectionProperties,
    options::{ExchangeDeleteOptions, QueueDeleteOptions},
};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

/// Fixed: what an earlier run left behind is replaced, not added to.
const DATABASE: &str = "aegis_e2e";
const SERVICES: [&str; 7] = ["identity", "catalog", "testing", "evidence", "intel", "analytics", "deception"];
/// The queues that consumers have, and the exchanges, by the names that the events crate gives them.
const QUEUES: [&str; 5] = ["identity", "catalog", "testing", "evidence", "analytics"];
const EXCHANGES: [&str; 2] = ["aegis.events", "aegis.dead"];

/// Where they are.
pub struct Stores {
    postgres: String,
    redis: String,
    rabbitmq: String,
    s3_url: String,
    s3: Vec<(&'static str, String)>,
}

impl Stores {
    /// From the variables that `cargo xtask test` sets; nothing where one is missing.
    pub fn from_environment() -> Option<Stores> {
        let read = |name: &str| std::env::var(format!("AEGIS_TEST_{name}")).ok().filter(|value| !value.is_empty());
        Some(Stores {
            postgres: read("POSTGRES_URL")?,
            redis: read("REDIS_URL")?,
            rabbitmq: read("RABBITMQ_URL")?,
            s3_url: read("S3_URL")?,
            s3: vec![
                ("AEGIS_S3_ENDPOINT", read("S3_ENDPOINT")?),
                ("AEGIS_S3_REGION", read("S3_REGION")?),
                ("AEGIS_S3_ACCESS_KEY_ID", read("S3_ACCESS_KEY_ID")?),
                ("AEGIS_S3_SECRET_ACCESS_KEY", read("S3_SECRET_ACCESS_KEY")?),
            ],
        })
    }

    /// The number of the broker's process, where whoever started it starts it again when it ends.
    pub fn broker() -> Option<i32> {
        let file = std::env::var("AEGIS_TEST_BROKER_PID_FILE").ok().filter(|file| !file.is_empty())?;
        std::fs::read_to_string(file).ok()?.trim().parse().ok()
    }

    /// kill -9 of the broker. It comes back by itself.
    pub fn kill_broker() {
        let pid = Stores::broker().and_then(rustix::process::Pid::from_raw).expect("a broker of ours");
        // One that is gone already is what is wanted.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }

    /// Makes them as new and gives the settings that lead there.
    pub async fn provision(&self) -> Vec<(String, String)> {
        let database_url = self.database().await;
        self.empty_broker().await;
        let blobs = format!("{}/e2e-{}", self.s3_url.trim_end_matches('/'), std::process::id());
        let mut settings: Vec<(String, String)> = [
            ("AEGIS_DATABASE_URL", database_url),
            // A foreign server may have a hundred connections in all.
            ("AEGIS_DATABASE_CONNECTIONS", "5".to_owned()),
            ("AEGIS_BROKER_URL", self.rabbitmq.clone()),
            ("AEGIS_CACHE_URL", self.redis.clone()),
            ("AEGIS_BLOB_URL", blobs),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        settings.extend(self.s3.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        settings
    }

    /// A fresh database, and its URL with `{service}` for the service's name.
    async fn database(&self) -> String {
        let admin = url::Url::parse(&self.postgres).expect("AEGIS_TEST_POSTGRES_URL is a URL");
        run(
            &admin,
            &[format!("DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)"), format!("CREATE DATABASE {DATABASE}")],
        )
        .await;
        let password = super::product::random_hex(16);
        let mut statements = Vec::new();
        for service in SERVICES {
            let role = format!("{DATABASE}_{service}");
            statements.push(format!(
                "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN \
                 CREATE ROLE {role}; END IF; END $$"
            ));
            statements.push(format!("ALTER ROLE {role} LOGIN NOSUPERUSER PASSWORD '{password}'"));
            statements.push(format!("CREATE SCHEMA {service} AUTHORIZATION {role}"));
            statements.push(format!("ALTER ROLE {role} SET search_path = {service}"));
        }
        statements.push("REVOKE ALL ON SCHEMA public FROM PUBLIC".to_owned());
        let mut own = admin.clone();
        own.set_path(DATABASE);
        run(&own, &statements).await;
        let (host, port) = (admin.host_str().unwrap_or("127.0.0.1"), admin.port().unwrap_or(5432));
        format!("postgres://{DATABASE}_{{service}}:{password}@{host}:{port}/{DATABASE}")
    }

    /// Messages of an earlier product would tell this one of users and tests that it does not have.
    async fn empty_broker(&self) {
        let connection = lapin::Connection::connect(&self.rabbitmq, ConnectionProperties::default())
            .await
            .expect("AEGIS_TEST_RABBITMQ_URL names a broker that answers");
        let channel = connection.create_channel().await.expect("a channel");
        for queue in QUEUES {
            for name in [format!("aegis.{queue}"), format!("aegis.{queue}.dead")] {
                channel.queue_delete(name.into(), QueueDeleteOptions::default()).await.expect("the queue is deleted");
            }
        }
        for exchange in EXCHANGES {
            channel
                .exchange_delete(exchange.into(), ExchangeDeleteOptions::default())
                .await
                .expect("the exchange is deleted");
        }
        connection.close(200, "done".into()).await.expect("the connection closes");
    }
}

async fn run(server: &url::Url, statements: &[String]) {
    let mut connection =
        PgConnection::connect(server.as_str()).await.expect("AEGIS_TEST_POSTGRES_URL names a server that answers");
    for statement in statements {
        connection.execute(AssertSqlSafe(statement.clone())).await.unwrap_or_else(|e| panic!("{statement}: {e}"));
    }
    connection.close().await.expect("the connection closes");
}
