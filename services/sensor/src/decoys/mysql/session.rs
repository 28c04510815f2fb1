//! One client of a MySQL server.

mod admit;
mod prepared;

use std::{collections::BTreeMap, io, time::Duration};

use rand::Rng;
use rsa::Oaep;
use sha1::Sha1;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    MySql,
    build::Build,
    errors::{Refusal, refusal},
    facts::Server,
    login::{self, Hello, can},
    packet::{Packets, number, sized},
    results::{self, Manner},
    show,
};
use crate::{
    decoys::{
        common_passwords::COMMON,
        sql::{self, Context, Dialect, Kind, Relation, Runner, Undo},
        tls::Spoken,
        wire::{Bytes, broken, cut, text},
    },
    session::{EventType, Session, Stream},
};
use admit::admitted;

/// The most prepared statements of a connection, and the most parameters of one.
const MOST_PREPARED: usize = 64;
const MOST_PARAMETERS: usize = 1_024;

/// What a statement is answered with.
enum Answer {
    Done { affected: usize, last_id: i64 },
    Rows(Relation),
    Refused(Refusal),
}

struct Client<'a> {
    of: &'a MySql,
    session: &'a Session,
    server: Server,
    user: String,
    database: String,
    undo: Option<Undo>,
    manner: Manner,
    prepared: BTreeMap<u32, Prepared>,
    next: u32,
}

struct Prepared {
    text: String,
    parameters: usize,
    long: BTreeMap<usize, Vec<u8>>,
    types: Vec<(u8, u8)>,
}

/// Talks to a client until it leaves.
pub(super) async fn serve(of: &MySql, stream: Stream, session: &Session) -> io::Result<()> {
    let build = Build::of(of.persona.os);
    let connection = of.number();
    let mut salt = [0_u8; 20];
    rand::rng().fill_bytes(&mut salt);
    // Bytes that a C string can hold.
    salt.iter_mut().for_each(|byte| *byte = *byte % 93 + 33);
    let mut packets = Packets::new(stream);
    packets.write(&login::greeting(&build, connection, &salt)).await?;
    packets.flush().await?;
    let Some(first) = packets.read().await? else { return Ok(()) };
    let Some(hello) = login::hello(&first, &build) else {
        session.emit(EventType::Unknown, "no MySQL handshake", &[("data", &text(cut_bytes(&first, 512)))]);
        let bad = Refusal::new(1043, "08S01", "Bad handshake").packet();
        packets.write(&bad).await?;
        return packets.flush().await;
    };
    let build_can_tls = build.can & can::SSL != 0;
    if first.len() <= 32 && hello.wants & can::SSL != 0 && build_can_tls {
        let (Some(tls), number) = (&of.tls, packets.number) else { return Err(broken("no TLS")) };
        let Spoken::Tls(stream) = tls.accept(packets.stream, session).await? else { return Err(broken("no TLS")) };
        let mut packets = Packets::new(stream);
        packets.number = number;
        let Some(second) = packets.read().await? else { return Ok(()) };
        let hello = login::hello(&second, &build).ok_or_else(|| broken("hello"))?;
        return talk(of, packets, session, build, connection, hello, &salt, true).await;
    }
    talk(of, packets, session, build, connection, hello, &salt, false).await
}

fn cut_bytes(bytes: &[u8], most: usize) -> &[u8] {
    bytes.get(..most.min(bytes.len())).unwrap_or_default()
}

#[allow(clippy::too_many_arguments, reason = "what a connection consists of")]
async fn talk<S: AsyncRead + AsyncWrite + Unpin + Send>(
    of: &MySql,
    mut packets: Packets<S>,
    session: &Session,
    build: Build,
    connection: u32,
    hello: Hello,
    salt: &[u8; 20],
    secure: bool,
) -> io::Result<()> {
    let of_client = |name: &str| hello.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let banner: Vec<String> =
        ["program_name", "_client_name", "_client_version", "_os"].into_iter().filter_map(of_client).collect();
    if !banner.is_empty() {
        session.learn("client_banner", banner.join(" "));
    }
    if hello.wants & build.can & (can::COMPRESS | can::ZSTD) != 0 {
        // Compressed packets are not understood: as if the library were missing.
        return Err(broken("compression"));
    }
    if !admitted(of, &mut packets, session, &build, &hello, salt, secure).await? {
        return Ok(());
    }
    let server = Server {
        persona: of.persona.clone(),
        build,
        connection,
        host: session.peer().ip().to_string(),
        port: session.peer().port(),
        last_id: 0,
        rows: -1,
    };
    let mut client = Client {
        of,
        session,
        server,
        user: hello.user.clone(),
        database: String::new(),
        undo: None,
        manner: Manner { wants: hello.wants, maria_wants: hello.maria_wants, ..Manner::default() },
        prepared: BTreeMap::new(),
        next: 1,
    };
    if !hello.database.is_empty()
        && let Err(refused) = client.enter(&hello.database)
    {
        packets.write(&refused.packet()).await?;
        return packets.flush().await;
    }
    packets.write(&results::ok(client.manner, 0, 0, 0)).await?;
    packets.flush().await?;
    client.commands(&mut packets).await
}

impl Client<'_> {
    fn context<T>(&self, act: impl FnOnce(&Context<'_>) -> T) -> T {
        self.of
            .engine
            .with(|catalog| act(&Context::new(catalog, &self.server, Dialect::MySql, &self.user, &self.database)))
    }

    fn enter(&mut self, database: &str) -> Result<(), Refusal> {
        if !self.context(|context| self.server.has(context, database)) {
            return Err(Refusal::new(1049, "42000", format!("Unknown database '{database}'")));
        }
        database.clone_into(&mut self.database);
        Ok(())
    }

    async fn commands<S: AsyncRead + AsyncWrite + Unpin + Send>(&mut self, packets: &mut Packets<S>) -> io::Result<()> {
        loop {
            let Some(packet) = packets.read().await? else {
                let long = Refusal::new(1153, "08S01", "Got a packet bigger than 'max_allowed_packet' bytes");
                packets.write(&long.packet()).await?;
                return packets.flush().await;
            };
            let mut bytes = Bytes(&packet);
            let command = bytes.byte().ok_or_else(|| broken("no command"))?;
            match command {
                0x01 => return Ok(()),
                0x02 => {
                    let database = text(bytes.rest());
                    let answer = match self.enter(&database) {
                        Ok(()) => results::ok(self.manner, 0, 0, 0),
                        Err(refused) => refused.packet(),
                    };
                    packets.write(&answer).await?;
                }
                0x03 => {
                    if self.manner.wants & self.server.build.can & can::QUERY_ATTRIBUTES != 0 {
                        let count = number(&mut bytes).ok_or_else(|| broken("attributes"))?;
                        number(&mut bytes).ok_or_else(|| broken("attributes"))?;
                        if count > 0 {
                            let bad = Refusal::new(1835, "HY000", "Malformed communication packet.");
                            packets.write(&bad.packet()).await?;
                            packets.flush().await?;
                            continue;
                        }
                    }
                    let query = String::from_utf8_lossy(bytes.rest()).into_owned();
                    self.query(packets, &query).await?;
                }
                0x04 => self.fields(packets, bytes.until_zero().unwrap_or_default()).await?,
                0x09 => {
                    let uptime = self.server.uptime();
                    let questions = uptime / 3 + 40;
                    let said = format!(
                        "Uptime: {uptime}  Threads: 2  Questions: {questions}  Slow queries: 0  Opens: 142  Open tables: 61  \
                         Queries per second avg: 0.333"
                    );
                    packets.write(said.as_bytes()).await?;
                }
                0x0e => packets.write(&results::ok(self.manner, 0, 0, 0)).await?,
                0x16 => self.prepare(packets, &String::from_utf8_lossy(bytes.rest())).await?,
                0x17 => self.execute(packets, bytes).await?,
                0x18 => {
                    // A long parameter; nothing is answered.
                    let (id, at) = (bytes.le32().unwrap_or(0), usize::from(bytes.le16().unwrap_or(0)));
                    if let Some(prepared) = self.prepared.get_mut(&id)
                        && at < prepared.parameters
                        && prepared.long.values().map(Vec::len).sum::<usize>() + bytes.0.len() <= 1 << 20
                    {
                        prepared.long.entry(at).or_default().extend(bytes.rest());
                    }
                }
                0x19 => {
                    self.prepared.remove(&bytes.le32().unwrap_or(0));
                }
                0x1a => packets.write(&results::ok(self.manner, 0, 0, 0)).await?,
                0x1b => packets.write(&results::eof(self.manner)).await?,
                0x1f => {
                    self.prepared.clear();
                    self.undo = None;
                    packets.write(&results::ok(self.manner, 0, 0, 0)).await?;
                }
                0x11 => {
                    let user = text(bytes.until_zero().unwrap_or_default());
                    let refused = Refusal::new(
                        1045,
                        "28000",
                        format!("Access denied for user '{user}'@'{}' (using password: YES)", self.server.host),
                    );
                    self.session.emit(
                        EventType::AuthFail,
                        format!("{user} was refused"),
                        &[("username", &user), ("method", "change_user")],
                    );
                    packets.write(&refused.packet()).await?;
                    packets.flush().await?;
                    return Ok(());
                }
                0x12 => {
                    self.session.emit(EventType::Scan, "asked for the binary log", &[("kind", "binlog_dump")]);
                    packets
                        .write(
                            &Refusal::new(1236, "HY000", "Could not find first log file name in binary log index file")
                                .packet(),
                        )
                        .await?;
                }
                _ => packets.write(&Refusal::new(1047, "08S01", "Unknown command").packet()).await?,
            }
            packets.flush().await?;
        }
    }

    /// The columns of a table, for clients that complete names.
    async fn fields<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        packets: &mut Packets<S>,
        table: &[u8],
    ) -> io::Result<()> {
        let name = text(table);
        let cols = self
            .of
            .engine
            .with(|catalog| catalog.table(&self.database, "", &name).map(|table| Relation::from(table.as_ref()).cols));
        match cols {
            Some(cols) => {
                for col in cols {
                    let mut packet = results::column(&col, &self.database, self.manner);
                    packet.push(0xfb);
                    packets.write(&packet).await?;
                }
                packets.write(&results::eof(self.manner)).await
            }
            None => {
                let refused = Refusal::new(1146, "42S02", format!("Table '{}.{name}' doesn't exist", self.database));
                packets.write(&refused.packet()).await
            }
        }
    }

    async fn query<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &mut self,
        packets: &mut Packets<S>,
        text: &str,
    ) -> io::Result<()> {
        let statements = sql::split(text, Dialect::MySql);
        if statements.is_empty() {
            self.tell(text);
            return packets.write(&Refusal::new(1065, "42000", "Query was empty").packet()).await;
        }
        for (at, statement) in statements.iter().enumerate() {
            self.manner.more = at + 1 < statements.len();
            let answer = self.statement(statement).await;
            let refused = matches!(answer, Answer::Refused(_));
            self.answer(packets, answer).await?;
            if refused {
                break;
            }
        }
        self.manner.more = false;
        Ok(())
    }

    async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        packets: &mut Packets<S>,
        answer: Answer,
    ) -> io::Result<()> {
        self.manner.in_transaction = self.undo.is_some();
        match answer {
            Answer::Done { affected, last_id } => packets.write(&results::ok(self.manner, affected, last_id, 0)).await,
            Answer::Rows(rows) => results::rows(packets, &rows, &self.database, self.manner).await,
            Answer::Refused(refused) => packets.write(&refused.packet()).await,
        }
    }

    fn tell(&self, statement: &str) {
        let statement = text(cut(statement.trim(), 4_096).as_bytes());
        let fields =
            [("query", statement.as_str()), ("database", self.database.as_str()), ("username", self.user.as_str())];
        self.session.emit(EventType::Query, cut(&statement, 200), &fields);
    }

    /// One statement.
    async fn statement(&mut self, statement: &str) -> Answer {
        self.tell(statement);
        let words = sql::words(statement, 48);
        let word = |at: usize| words.get(at).map_or("", String::as_str);
        let done = Answer::Done { affected: 0, last_id: 0 };
        let lower = cut(statement, 256 << 10).to_lowercase();
        if let Some(kind) = ["into dumpfile", "into outfile"].iter().find(|kind| lower.contains(**kind)) {
            return self.file(statement, &lower, kind).await;
        }
        match (word(0), word(1)) {
            ("use", name) => {
                let name = sql::unquote(name);
                return match self.enter(&name) {
                    Ok(()) => done,
                    Err(refused) => Answer::Refused(refused),
                };
            }
            ("begin" | "start", _) => {
                self.undo = Some(self.of.engine.with(|catalog| catalog.begin(&self.database)));
                return done;
            }
            ("commit", _) => {
                self.undo = None;
                return done;
            }
            ("rollback", _) => {
                if let Some(undo) = self.undo.take() {
                    self.of.engine.with(|catalog| catalog.undo(&undo));
                }
                return done;
            }
            ("create", "function") | ("create", "aggregate") if lower.contains("soname") => {
                let library = words.iter().rev().find(|word| word.starts_with('\'') || word.starts_with('"'));
                let library = library.map(|word| sql::unquote(word)).unwrap_or_default();
                let path = format!("{}{library}", self.server.build.plugins);
                return Answer::Refused(Refusal::new(
                    1126,
                    "HY000",
                    format!(
                        "Can't open shared library '{library}' (errno: 2 {path}: cannot open shared object file: No such \
                         file or directory)"
                    ),
                ));
            }
            ("load", "data") => {
                return Answer::Refused(if self.server.build.maria {
                    Refusal::new(
                        4166,
                        "HY000",
                        "The used command is not allowed because the MariaDB server or client has \
                        disabled the local infile capability",
                    )
                } else {
                    Refusal::new(
                        3948,
                        "42000",
                        "Loading local data is disabled; this must be enabled on both the client \
                        and server sides",
                    )
                });
            }
            ("shutdown", _) => {
                return Answer::Refused(Refusal::new(
                    1227,
                    "42000",
                    "Access denied; you need (at least one of) the SHUTDOWN privilege(s) for this operation",
                ));
            }
            (
                "insert" | "replace" | "update" | "delete" | "select" | "with" | "values" | "(" | "alter" | "drop"
                | "create" | "truncate",
                second,
            ) if !matches!(
                second,
                "user"
                    | "role"
                    | "event"
                    | "trigger"
                    | "procedure"
                    | "function"
                    | "index"
                    | "unique"
                    | "definer"
                    | "server"
                    | "instance"
                    | "tablespace"
            ) && (word(0) != "alter" || !matches!(second, "database" | "schema")) => {}
            (
                "set" | "grant" | "revoke" | "flush" | "lock" | "unlock" | "analyze" | "optimize" | "kill" | "call"
                | "do" | "handler" | "check" | "repair" | "reset" | "purge" | "change" | "stop" | "savepoint"
                | "release" | "install" | "uninstall" | "alter" | "drop" | "create" | "prepare" | "execute"
                | "deallocate" | "rename" | "xa" | "import",
                _,
            ) => {
                return done;
            }
            _ => {
                let shown = self.context(|context| show::show(&self.server, context, &words));
                match shown {
                    Some(Ok(relation)) => return Answer::Rows(relation),
                    Some(Err(fault)) => return Answer::Refused(refusal(&fault, &self.server.build, &self.database)),
                    None => {}
                }
            }
        }
        self.run(statement).await
    }

    async fn run(&mut self, statement: &str) -> Answer {
        let mut undo = self.undo.take();
        let outcome = self.of.engine.with(|catalog| {
            let runner =
                Runner { facts: &self.server, dialect: Dialect::MySql, user: &self.user, database: &self.database };
            runner.run(catalog, statement, undo.as_mut())
        });
        self.undo = undo;
        match outcome {
            Ok(done) => {
                if done.delay > 0.0 {
                    tokio::time::sleep(Duration::from_secs_f64(done.delay)).await;
                }
                if let Some(rows) = done.rows {
                    self.server.rows = -1;
                    return Answer::Rows(rows);
                }
                self.server.rows = i64::try_from(done.affected).unwrap_or(0);
                if done.last_id > 0 {
                    self.server.last_id = done.last_id;
                }
                Answer::Done { affected: done.affected, last_id: done.last_id }
            }
            Err(fault) => Answer::Refused(refusal(&fault, &self.server.build, &self.database)),
        }
    }

    /// A statement that would write a file: what it would write is kept, and nothing is written.
    async fn file(&mut self, statement: &str, lower: &str, kind: &str) -> Answer {
        let after = lower.find(kind).and_then(|at| statement.get(at + kind.len()..)).unwrap_or("");
        let path = sql::words(after, 1).first().map(|word| sql::unquote(word)).unwrap_or_default();
        if let Some(bytes) = payload(statement)
            && let Some(mut capture) = self.session.capture(path.rsplit(['/', '\\']).next().unwrap_or("file")).await
        {
            let kept = capture.write(&bytes).await;
            if kept.is_ok() {
                let _ = capture.finish(&path).await;
            }
        }
        Answer::Refused(if self.server.build.files.is_some() {
            Refusal::new(
                1290,
                "HY000",
                format!(
                    "The {} server is running with the --secure-file-priv option so it cannot execute this statement",
                    self.server.build.product()
                ),
            )
        } else {
            Refusal::new(1, "HY000", format!("Can't create/write to file '{path}' (Errcode: 13 \"Permission denied\")"))
        })
    }
}

/// The longest hexadecimal literal of a statement, as bytes.
fn payload(statement: &str) -> Option<Vec<u8>> {
    let digits = statement
        .split(|c: char| !c.is_ascii_alphanumeric())
        .map(|word| word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")).unwrap_or(word))
        .filter(|word| word.len() >= 16 && word.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .max_by_key(|word| word.len());
    match digits {
        Some(digits) => hex::decode(digits.get(..digits.len() & !1)?).ok(),
        // A text that is written, such as a page with code in it.
        None => sql::words(statement, 48)
            .into_iter()
            .find(|word| word.len() > 12 && word.starts_with(['\'', '"']))
            .map(|word| sql::unquote(&word).into_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::packet::put_bytes, *};

    #[test]
    fn parameters_come_to_their_places() {
        let mut prepared = Prepared {
            text: "SELECT ?, '?', ? FROM t".to_owned(),
            parameters: 2,
            long: BTreeMap::new(),
            types: Vec::new(),
        };
        let mut sent = vec![0, 1, 3, 0, 253, 0];
        sent.extend(7_u32.to_le_bytes());
        put_bytes(&mut sent, b"o'x");
        assert_eq!(prepared.bound(&mut Bytes(&sent)).unwrap(), "SELECT 7, '?', 'o\\'x' FROM t");
        assert!(prepared.bound(&mut Bytes(&[0, 1, 3])).is_none());
    }

    #[test]
    fn what_would_be_written() {
        let found = payload("SELECT 0x7f454c4602010100aabb INTO DUMPFILE '/usr/lib/mysql/plugin/u.so'").unwrap();
        assert!(found.starts_with(b"\x7fELF"));
        assert_eq!(payload("select '<?php evil ?>' into outfile '/var/www/x.php'").unwrap(), b"<?php evil ?>");
    }
}
