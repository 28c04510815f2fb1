//! For the fuzzer: every decoy, the shell and the database, each over bytes as an attacker may send them. Nothing that
//! is sent may make one fail.

use std::{
    cell::RefCell,
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    time::timeout,
};
use uuid::Uuid;

use super::{
    Options,
    sql::{Catalog, Context, Dialect, Facts, Fault, Relation, Runner, Value, seeded, split, words},
};
use crate::{
    buffer::Buffer,
    fingerprint,
    outlet::{self, Outlet, Report, Reports},
    persona::{Os, Persona},
    protocol::{Datagrams, Protocol, Server},
    session::{Limits, Session, Stream},
    shell::{
        Machine, Shell,
        tty::{Input, Line, Terminal},
    },
    testing,
};

/// A target by its name.
pub type Target = (&'static str, fn(&[u8]));

/// Each by its name.
pub const TARGETS: &[Target] = &[
    ("ssh", |data| talk("ssh", data)),
    ("telnet", |data| talk("telnet", data)),
    ("ftp", |data| talk("ftp", data)),
    ("http", |data| talk("http", data)),
    ("https", |data| talk("https", data)),
    ("smtp", |data| talk("smtp", data)),
    ("mysql", |data| talk("mysql", data)),
    ("postgres", |data| talk("postgres", data)),
    ("redis", |data| talk("redis", data)),
    ("mongodb", |data| talk("mongodb", data)),
    ("ldap", |data| talk("ldap", data)),
    ("mqtt", |data| talk("mqtt", data)),
    ("vnc", |data| talk("vnc", data)),
    ("snmp", |data| talk("snmp", data)),
    ("docker_api", |data| talk("docker_api", data)),
    ("elasticsearch", |data| talk("elasticsearch", data)),
    ("shell", |data| shell(Os::Debian12, data)),
    ("shell_windows", |data| shell(Os::WindowsServer2019, data)),
    ("sql_mysql", |data| sql(Dialect::MySql, data)),
    ("sql_postgres", |data| sql(Dialect::Postgres, data)),
    ("client_hello", client_hello),
    ("hassh", hassh),
    ("buffer", buffer),
];

/// A connection that says nothing more for so long is over: some decoys let those wait who fail to sign in.
const PATIENCE: Duration = Duration::from_secs(1);
const GUEST: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 40_022);

thread_local! {
    static RUNTIME: Runtime = runtime();
    static BENCH: RefCell<Bench> = RefCell::new(Bench::new());
}

#[expect(clippy::expect_used, reason = "a fuzzer without a runtime is of no use")]
fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// What connections need.
struct Bench {
    /// Decoys keep their keys, which take long to make, and what was stored in them: as they do for attackers.
    servers: RefCell<HashMap<&'static str, Server>>,
    outlet: Outlet,
    reports: Reports,
    folder: PathBuf,
}

impl Bench {
    fn new() -> Bench {
        let folder = folder();
        let (outlet, reports) = outlet::outlet(folder.clone());
        Bench { servers: RefCell::default(), outlet, reports, folder }
    }

    fn session(&self, persona: &Arc<Persona>, service: &str, limits: &Limits) -> Session {
        let local = SocketAddr::new(persona.ip, 22);
        Session::begin(&self.outlet, persona, &service.into(), (GUEST, local), limits)
    }

    /// Takes what was told, so that there is room for more.
    async fn drain(&mut self) {
        while let Ok(Some(reports)) = timeout(Duration::ZERO, self.reports.next(1_000)).await {
            for report in reports {
                if let Report::Captured { header, path } = report {
                    self.outlet.state().release(header.size);
                    // One that stays is one in the temporary folder.
                    let _ = std::fs::remove_file(path);
                }
            }
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A folder that is empty.
#[expect(clippy::expect_used, reason = "a fuzzer without a disk is of no use")]
fn folder() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("aegis-fuzz-{}", Uuid::now_v7()));
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// Does something on this thread's bench, and takes what was told.
fn on_bench(act: impl AsyncFnOnce(&Bench)) {
    RUNTIME.with(|runtime| {
        BENCH.with_borrow_mut(|bench| {
            runtime.block_on(async {
                act(bench).await;
                bench.drain().await;
            });
        });
    });
}

/// A service where everybody may sign in, if it knows such a thing: there is more to be found behind a login.
#[expect(clippy::panic, reason = "a fuzzer without the decoy is of no use")]
fn server(bench: &Bench, service: &'static str, persona: &Arc<Persona>) -> Server {
    let make = || {
        let open = Options::from([("auth".to_owned(), "any".to_owned())]);
        super::server(service, persona, &open)
            .or_else(|_| super::server(service, persona, &Options::new()))
            .unwrap_or_else(|error| panic!("{service}: {error}"))
    };
    bench.servers.borrow_mut().entry(service).or_insert_with(make).clone()
}

/// A whole connection, or a datagram.
fn talk(service: &'static str, data: &[u8]) {
    let persona = testing::persona(Os::Debian12);
    on_bench(async |bench| match server(bench, service, &persona) {
        Server::Connections(protocol) => connection(bench, protocol, &persona, service, data).await,
        Server::Datagrams(datagrams) => datagram(bench, &*datagrams, &persona, service, data).await,
    });
}

async fn connection(bench: &Bench, protocol: Arc<dyn Protocol>, persona: &Arc<Persona>, service: &str, data: &[u8]) {
    let Ok((mut client, server)) = pair().await else { return };
    let limits = Limits { idle: PATIENCE, total: PATIENCE, ..Limits::default() };
    let session = bench.session(persona, service, &limits);
    let stream = Stream::new(Arc::new(server), session.0.traffic.clone(), bench.outlet.clone());
    let said = async {
        let (mut from, mut to) = client.split();
        // The decoy may close before it has all.
        let say = async {
            let _ = to.write_all(data).await;
            let _ = to.shutdown().await;
        };
        let hear = async {
            let mut room = [0; 16 * 1024];
            while matches!(from.read(&mut room).await, Ok(1..)) {}
        };
        tokio::join!(say, hear);
    };
    let served = protocol.serve(stream, session.clone());
    let _ = timeout(PATIENCE, async { tokio::join!(said, served) }).await;
    session.end();
}

/// Both ends of a connection.
async fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let (client, accepted) = tokio::join!(TcpStream::connect(listener.local_addr()?), listener.accept());
    let (client, server) = (client?, accepted?.0);
    // Thousands of connections a second would leave no ports to go on with.
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
    Ok((client, server))
}

async fn datagram(bench: &Bench, datagrams: &dyn Datagrams, persona: &Arc<Persona>, service: &str, data: &[u8]) {
    let session = bench.session(persona, service, &Limits::default());
    if let Some(answer) = datagrams.answer(data, &session).await {
        assert!(answer.len() <= data.len() * 4, "an answer of {} bytes to {}", answer.len(), data.len());
    }
    session.end();
}

/// A command, and after a NUL what its client types.
fn shell(os: Os, data: &[u8]) {
    let persona = testing::persona(os);
    on_bench(async |bench| {
        let session = bench.session(&persona, "ssh", &Limits::default());
        let (command, typed) = data.split_at(data.iter().position(|byte| *byte == 0).unwrap_or(data.len()));
        let line = Typed(typed.get(1..).unwrap_or_default().to_vec());
        let terminal = Terminal::new(Box::new(line), false, (80, 24), None);
        let mut shell = Shell::new(&Machine::of(&persona), &session, "root", terminal);
        let _ = timeout(PATIENCE, shell.execute(&String::from_utf8_lossy(command))).await;
        session.end();
    });
}

/// A client that has said all that it will.
struct Typed(Vec<u8>);

#[async_trait]
impl Line for Typed {
    async fn read(&mut self) -> Input {
        match std::mem::take(&mut self.0) {
            bytes if bytes.is_empty() => Input::End,
            bytes => Input::Data(bytes),
        }
    }

    async fn write(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

/// A server that knows nothing.
struct Nobody;

impl Facts for Nobody {
    fn table(&self, _: &Context<'_>, _: Option<&str>, _: &str) -> Option<Relation> {
        None
    }

    fn function(&self, _: &Context<'_>, _: &str, _: &[Value]) -> Option<Result<Value, Fault>> {
        None
    }

    fn variable(&self, _: &Context<'_>, _: &str) -> Option<Value> {
        None
    }
}

/// Statements, one after the other.
fn sql(dialect: Dialect, data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let persona = testing::persona(Os::Debian12);
    let mut catalog: Catalog = seeded(&persona, dialect);
    let runner = Runner { facts: &Nobody, dialect, user: "root", database: "shop" };
    let _ = words(&text, 8);
    for statement in split(&text, dialect).into_iter().take(8) {
        let _ = runner.run(&mut catalog, statement, None);
    }
}

fn client_hello(data: &[u8]) {
    let _ = fingerprint::first_bytes(data);
}

fn hassh(data: &[u8]) {
    let _ = fingerprint::hassh_of(data);
}

/// The sensor's store, as a disk that fails may leave it.
#[expect(clippy::expect_used, reason = "what is on the disk is no fault")]
fn buffer(data: &[u8]) {
    let folder = folder();
    std::fs::write(folder.join(format!("{:020}.events", 1)), data).expect("a file");
    let (buffer, _writer) = Buffer::open(&folder, 1 << 20).expect("what is there");
    let mut cursor = buffer.start();
    // An event that cannot be read is an error, not a fault.
    for _ in 0..64 {
        if !matches!(buffer.read(&mut cursor, 16, 1 << 16), Ok(Some(_))) {
            break;
        }
    }
    let _ = std::fs::remove_dir_all(&folder);
}
