//! Two versions side by side: this one goes on while a newer one brings the tables further and says things that this one
//! has never heard of; and it starts again on what the newer one has left.

use std::{path::PathBuf, time::Duration};

use aegis_proto::events::v1::{Actor, Envelope, TestChanged};
use lapin::{
    BasicProperties, ConnectionProperties,
    options::{BasicPublishOptions, QueueDeclareOptions},
    types::FieldTable,
};
use prost::Message;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};
use uuid::Uuid;

use crate::{
    harness::{Mode, Product, eventually, head},
    roles::Operation,
};

const SERVICES: [&str; 7] = ["identity", "catalog", "testing", "evidence", "intel", "analytics", "deception"];
/// Those that hear of events.
const CONSUMERS: [&str; 6] = ["identity", "catalog", "testing", "evidence", "analytics", "deception"];
const PATIENCE: Duration = Duration::from_secs(30);

/// The version of a migration that this program does not know.
const FUTURE: i64 = 9990;

/// The databases of a product, from outside.
enum Bases {
    Folder(PathBuf),
    Server(String),
}

impl Bases {
    fn of(product: &Product) -> Bases {
        let command = product.command(&[]);
        let setting = |name: &str| {
            let value = command.get_envs().find(|(known, _)| *known == name).and_then(|(_, value)| value);
            value.map(|value| value.to_string_lossy().into_owned())
        };
        match setting("AEGIS_DATABASE_URL") {
            None => Bases::Folder(setting("AEGIS_DATA_DIR").expect("a folder").into()),
            Some(url) => {
                let database = url.rsplit('/').next().expect("a database").to_owned();
                let mut admin =
                    url::Url::parse(&std::env::var("AEGIS_TEST_POSTGRES_URL").expect("a server")).expect("a URL");
                admin.set_path(&database);
                Bases::Server(admin.into())
            }
        }
    }

    async fn sqlite(folder: &std::path::Path, service: &str) -> SqliteConnection {
        let url = format!("sqlite://{}", folder.join(format!("{service}.db")).display());
        let mut database = SqliteConnection::connect(&url).await.expect("a database");
        database.execute("PRAGMA busy_timeout = 20000").await.expect("a setting");
        database
    }

    async fn postgres(url: &str, service: &str) -> PgConnection {
        let mut server = PgConnection::connect(url).await.expect("a server");
        server.execute(AssertSqlSafe(format!("SET search_path = {service}"))).await.expect("a schema");
        server
    }

    /// Runs statements on a service's database.
    async fn run(&self, service: &str, statements: &[String]) {
        for statement in statements {
            let sql = AssertSqlSafe(statement.clone());
            let done = match self {
                Bases::Folder(folder) => Self::sqlite(folder, service).await.execute(sql).await.map(|_| ()),
                Bases::Server(url) => Self::postgres(url, service).await.execute(sql).await.map(|_| ()),
            };
            done.unwrap_or_else(|error| panic!("{service}: {statement}: {error}"));
        }
    }

    async fn count(&self, service: &str, table: &str) -> i64 {
        let sql = AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"));
        match self {
            Bases::Folder(folder) => {
                sqlx::query_scalar(sql).fetch_one(&mut Self::sqlite(folder, service).await).await.expect("a count")
            }
            Bases::Server(url) => {
                sqlx::query_scalar(sql).fetch_one(&mut Self::postgres(url, service).await).await.expect("a count")
            }
        }
    }

    /// The tables of a service that can have another column.
    async fn tables(&self, service: &str) -> Vec<String> {
        const SQLITE: &str = "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table'
            AND name NOT LIKE 'sqlite%' AND name <> '_sqlx_migrations'";
        const POSTGRES: &str = "SELECT relname::text FROM pg_class WHERE relnamespace = $1::regnamespace
            AND relkind IN ('r', 'p') AND NOT relispartition AND relname <> '_sqlx_migrations'";
        match self {
            Bases::Folder(folder) => {
                sqlx::query_scalar(SQLITE).fetch_all(&mut Self::sqlite(folder, service).await).await.expect("tables")
            }
            Bases::Server(url) => sqlx::query_scalar(POSTGRES)
                .bind(service)
                .fetch_all(&mut Self::postgres(url, service).await)
                .await
                .expect("tables"),
        }
    }

    /// What a newer version may do: every table has a column more, and there are tables that this one does not know.
    async fn expand(&self, service: &str) {
        let mut statements = Vec::new();
        for table in self.tables(service).await {
            statements.push(format!("ALTER TABLE \"{table}\" ADD COLUMN of_the_future TEXT"));
            statements.push(format!("CREATE INDEX \"future_{table}\" ON \"{table}\" (of_the_future)"));
        }
        statements.push("CREATE TABLE of_the_future (id BIGINT PRIMARY KEY)".to_owned());
        let empty = if matches!(self, Bases::Folder(_)) { "x'00'" } else { "'\\x00'" };
        statements.push(format!(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES ({FUTURE}, 'of the future', TRUE, {empty}, 0)"
        ));
        self.run(service, &statements).await;
    }

    /// Writes an event as a newer version of a service would.
    async fn say(&self, service: &str, event: &Envelope, unknown: &[u8]) {
        let mut body = event.encode_to_vec();
        body.extend_from_slice(unknown);
        let body = hex::encode(body);
        let (body, at) = match self {
            Bases::Folder(_) => (format!("x'{body}'"), "'2026-01-01T00:00:00+00:00'"),
            Bases::Server(_) => (format!("'\\x{body}'"), "now()"),
        };
        let (id, kind) = (&event.id, &event.r#type);
        self.run(
            service,
            &[format!("INSERT INTO outbox (id, kind, body, at) VALUES ('{id}', '{kind}', {body}, {at})")],
        )
        .await;
    }

    async fn dead(&self) -> Vec<i64> {
        let mut counts = Vec::new();
        for service in SERVICES {
            counts.push(self.count(service, "dead_letter").await);
        }
        counts
    }
}

pub async fn scenario(product: &mut Product) {
    let bases = Bases::of(product);
    // Statements are prepared, and kept, before the tables change under them.
    works(product).await;
    works(product).await;
    for service in SERVICES {
        bases.expand(service).await;
    }
    works(product).await;

    let before = bases.dead().await;
    events_of_the_future(product, &bases).await;
    works(product).await;
    assert_eq!(bases.dead().await, before, "an event was set aside");

    // Its replicas start again on the newer tables, all of them.
    for name in product.processes() {
        product.kill9(name);
        product.ensure_running().await;
    }
    works(product).await;
    product.assert_alive();
}

/// Everything that can be read is, something is changed, and the change reaches the other services.
async fn works(product: &mut Product) {
    let admin = product.admin().await;
    for operation in Operation::ALL {
        let (method, path) = operation.route();
        if method != "GET" || path.contains('{') {
            continue;
        }
        let asked = match path.strip_prefix("/api/v1") {
            Some(rest) => rest.to_owned(),
            None => format!("/{path}"),
        };
        // Several times: a pool has several connections, each with statements of its own.
        for _ in 0..3 {
            let answer = head(admin.request(reqwest::Method::GET, &asked)).await;
            assert!(answer.status < 500, "{path}: {answer}");
        }
    }
    let red = product.user("red_tech", "versions-red").await;
    let blue = product.user("blue_tech", "versions-blue").await;
    let technique = admin.get("/techniques/T1001").await.json(200)["id"].as_str().unwrap().to_owned();
    let body = json!({"technique_id": technique, "name": "two versions", "platform": "linux"});
    let test = red.post("/tests", &body).await.json(201)["id"].as_str().unwrap().to_owned();
    red.upload(&format!("/tests/{test}/evidence"), "a.txt", vec![7; 100], &[]).await.json(201);
    for step in ["start-execution", "submit-red"] {
        red.act(&format!("/tests/{test}/{step}")).await.json(200);
    }
    eventually("the others hear of it", PATIENCE, || async {
        let told = blue.get("/notifications?limit=100").await.text();
        let trail = admin.get("/audit-logs?action=submit_red&limit=100").await.text();
        let timeline = red.get(&format!("/tests/{test}/timeline")).await.text();
        match told.contains(&test) && trail.contains(&test) && timeline.contains("add_evidence") {
            true => Ok(()),
            false => Err(format!("{told} {trail} {timeline}")),
        }
    })
    .await;
}

fn event(kind: &str, data: Vec<u8>) -> Envelope {
    Envelope {
        id: Uuid::now_v7().to_string(),
        r#type: kind.to_owned(),
        source: "testing".to_owned(),
        actor: Some(Actor {
            username: "system:future".to_owned(),
            role: "of_the_future".to_owned(),
            ..Actor::default()
        }),
        data,
        ..Envelope::default()
    }
}

async fn events_of_the_future(product: &mut Product, bases: &Bases) {
    // Field 200, a number: nobody here knows it.
    const UNKNOWN: [u8; 3] = [0xc0, 0x0c, 0x01];
    let changed = TestChanged {
        test_id: Uuid::now_v7().to_string(),
        version: 1,
        technique_id: Uuid::now_v7().to_string(),
        chain_id: Uuid::now_v7().to_string(),
        name: "of the future".to_owned(),
        state: "teleported".to_owned(),
        previous_state: "dematerialised".to_owned(),
        detection_result: "foreseen".to_owned(),
        notes: vec!["of_the_future".to_owned()],
        ..TestChanged::default()
    };
    let mut data = changed.encode_to_vec();
    data.extend_from_slice(&UNKNOWN);
    bases.say("testing", &event("testing.test.changed", data), &UNKNOWN).await;
    let unknown = event("testing.test.teleported", vec![0xff; 40]);
    bases.say("testing", &unknown, &UNKNOWN).await;
    eventually("the events are passed on", PATIENCE, || async {
        match bases.count("testing", "outbox").await {
            0 => Ok(()),
            left => Err(format!("{left} are left")),
        }
    })
    .await;
    if product.mode == Mode::Embedded {
        return;
    }
    // The queue of a consumer is that of all its versions: what only the newer one has bound to it comes to this one, too.
    let url = std::env::var("AEGIS_TEST_RABBITMQ_URL").expect("a broker");
    let connection = lapin::Connection::connect(&url, ConnectionProperties::default()).await.expect("a broker");
    let channel = connection.create_channel().await.expect("a channel");
    for consumer in CONSUMERS {
        let unknown = event("testing.test.teleported", vec![0xff; 40]).encode_to_vec();
        let queue = format!("aegis.{consumer}");
        channel
            .basic_publish(
                "".into(),
                queue.into(),
                BasicPublishOptions::default(),
                &unknown,
                BasicProperties::default(),
            )
            .await
            .expect("it is published");
    }
    for consumer in CONSUMERS {
        for (queue, what) in [(format!("aegis.{consumer}"), "taken"), (format!("aegis.{consumer}.dead"), "not dead")] {
            eventually(&format!("what came to {queue} is {what}"), PATIENCE, || async {
                let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
                let state = channel.queue_declare(queue.clone().into(), options, FieldTable::default()).await;
                match state.expect("the queue is there").message_count() {
                    0 => Ok(()),
                    left => Err(format!("{left} wait")),
                }
            })
            .await;
        }
    }
    connection.close(200, "done".into()).await.expect("the connection closes");
}
