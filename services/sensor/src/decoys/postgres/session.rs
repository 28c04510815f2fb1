//! One client of a PostgreSQL server.

mod extended;
mod statement;

use std::{collections::BTreeMap, io, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::{
    Postgres,
    build::Build,
    catalog::Server,
    copy::{self, Copied},
    errors::{Refusal, refusal},
    login,
    wire::{LONGEST, Messages, description, row},
};
use crate::{
    decoys::{
        sql::{self, Context, Dialect, Kind, Relation, Runner, Undo},
        tls::Spoken,
        wire::{Bytes, broken, cut, text},
    },
    session::{EventType, Session, Stream},
};

const TLS: u32 = 80_877_103;
const GSS: u32 = 80_877_104;
const CANCEL: u32 = 80_877_102;
/// The most prepared statements and portals of a connection.
const MOST_PREPARED: usize = 64;
/// The most settings that a client makes.
const MOST_SETTINGS: usize = 64;
/// What a client may send in one `COPY`.
const MOST_COPIED: usize = 1 << 20;

/// What a statement is answered with.
enum Answer {
    Rows(Relation, String),
    Done(String),
    Copy(Copied),
    Empty,
}

struct Client<'a> {
    of: &'a Postgres,
    session: &'a Session,
    server: Server,
    user: String,
    database: String,
    undo: Option<Undo>,
    failed: bool,
    changed: Vec<(String, String)>,
    statements: BTreeMap<String, Prepared>,
    portals: BTreeMap<String, Portal>,
}

struct Prepared {
    text: String,
    types: Vec<u32>,
}

struct Portal {
    text: String,
    formats: Vec<u16>,
    done: Option<Answer>,
}

/// Talks to a client until it leaves.
pub(super) async fn serve(of: &Postgres, stream: Stream, session: &Session) -> io::Result<()> {
    let mut messages = Messages::new(stream);
    // A client asks for encryption twice at most.
    for _ in 0..3 {
        let body = messages.body().await.inspect_err(|error| {
            if error.kind() == io::ErrorKind::InvalidData {
                session.emit(EventType::Scan, "no PostgreSQL startup", &[("kind", "malformed")]);
            }
        })?;
        match Bytes(&body).be32() {
            Some(TLS) => match &of.tls {
                Some(tls) => {
                    messages.stream.write_all(b"S").await?;
                    messages.stream.flush().await?;
                    let Spoken::Tls(stream) = tls.accept(messages.stream, session).await? else {
                        return Err(broken("no TLS"));
                    };
                    return talk(of, Messages::new(stream), session, None, true).await;
                }
                None => messages.stream.write_all(b"N").await?,
            },
            Some(GSS) => messages.stream.write_all(b"N").await?,
            _ => return talk(of, messages, session, Some(body), false).await,
        }
        messages.stream.flush().await?;
    }
    Ok(())
}

async fn talk<S: AsyncRead + AsyncWrite + Unpin + Send>(
    of: &Postgres,
    mut messages: Messages<S>,
    session: &Session,
    first: Option<Vec<u8>>,
    secure: bool,
) -> io::Result<()> {
    let build = Build::of(of.persona.os);
    let body = match first {
        Some(body) => body,
        None => messages.body().await?,
    };
    let mut bytes = Bytes(&body);
    let code = bytes.be32().ok_or_else(|| broken("startup"))?;
    if code == CANCEL {
        return Ok(());
    }
    if code >> 16 != 3 {
        session.emit(
            EventType::Scan,
            "an unknown protocol",
            &[("kind", "nmap_probe"), ("detail", &format!("protocol {}.{}", code >> 16, code & 0xffff))],
        );
        let said = format!(
            "unsupported frontend protocol {}.{}: server supports {} to 3.0",
            code >> 16,
            code & 0xffff,
            build.oldest
        );
        let refused =
            Refusal::fatal("0A000", said).at("postmaster", "postmaster.c", build.line, "ProcessStartupPacket");
        return refuse(&mut messages, &refused, &build).await;
    }
    let mut settings = Vec::new();
    while let (Some(key), Some(value)) = (bytes.until_zero(), bytes.until_zero()) {
        if key.is_empty() || settings.len() >= MOST_SETTINGS {
            break;
        }
        settings.push((text(key), text(value)));
    }
    let setting = |name: &str| settings.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let Some(user) = setting("user").filter(|user| !user.is_empty()) else {
        let refused = Refusal::fatal("28000", "no PostgreSQL user name specified in startup packet").at(
            "postmaster",
            "postmaster.c",
            "2351",
            "ProcessStartupPacket",
        );
        return refuse(&mut messages, &refused, &build).await;
    };
    let database = setting("database").unwrap_or_else(|| user.clone());
    let application = setting("application_name").unwrap_or_default();
    if !application.is_empty() {
        session.learn("client_banner", application.clone());
    }
    if let Err(refused) = login::admitted(of, &mut messages, session, (&user, &database), secure).await? {
        return refuse(&mut messages, &refused, &build).await;
    }
    messages.longest = LONGEST;
    messages.put(b'R', &[0; 4]);
    let known = of.engine.with(|catalog| catalog.databases.contains_key(&database));
    if !known {
        let refused = Refusal::fatal("3D000", format!("database \"{database}\" does not exist")).at(
            "utils\\init",
            "postinit.c",
            "961",
            "InitPostgres",
        );
        return refuse(&mut messages, &refused, &build).await;
    }
    settings.retain(|(name, _)| !matches!(name.as_str(), "user" | "database" | "replication" | "options"));
    let mut roles: Vec<String> = of.credentials.pairs().iter().map(|(user, _)| user.clone()).collect();
    roles.push(user.clone());
    roles.sort();
    roles.dedup();
    let server = Server {
        persona: of.persona.clone(),
        build,
        process: of.process(),
        client: (session.peer().ip().to_string(), session.peer().port()),
        application,
        settings,
        roles,
    };
    let mut client = Client {
        of,
        session,
        server,
        user,
        database,
        undo: None,
        failed: false,
        changed: Vec::new(),
        statements: BTreeMap::new(),
        portals: BTreeMap::new(),
    };
    client.welcome(&mut messages);
    client.ready(&mut messages).await?;
    client.commands(&mut messages).await
}

async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(
    messages: &mut Messages<S>,
    refused: &Refusal,
    build: &Build,
) -> io::Result<()> {
    messages.put(b'E', &refused.body(build));
    messages.flush().await
}

impl Client<'_> {
    fn context<T>(&self, act: impl FnOnce(&Context<'_>) -> T) -> T {
        self.of
            .engine
            .with(|catalog| act(&Context::new(catalog, &self.server, Dialect::Postgres, &self.user, &self.database)))
    }

    fn welcome<S: AsyncRead + AsyncWrite + Unpin>(&self, messages: &mut Messages<S>) {
        let mut names = vec!["application_name", "client_encoding", "DateStyle"];
        if self.server.build.number >= 140_000 {
            names.extend(["default_transaction_read_only", "in_hot_standby"]);
        }
        names.extend([
            "integer_datetimes",
            "IntervalStyle",
            "is_superuser",
            "server_encoding",
            "server_version",
            "session_authorization",
            "standard_conforming_strings",
            "TimeZone",
        ]);
        for name in names {
            let value = self.context(|context| self.server.setting(context, name));
            messages.setting(name, &value.unwrap_or_default());
        }
        let secret = self.of.persona.number(&format!("cancel {}", self.server.process), u64::from(u32::MAX));
        let mut key = u32::try_from(self.server.process).unwrap_or(0).to_be_bytes().to_vec();
        key.extend(u32::try_from(secret).unwrap_or(0).to_be_bytes());
        messages.put(b'K', &key);
    }

    async fn ready<S: AsyncRead + AsyncWrite + Unpin>(&mut self, messages: &mut Messages<S>) -> io::Result<()> {
        for (name, value) in std::mem::take(&mut self.changed) {
            messages.setting(&name, &value);
        }
        let state = match (&self.undo, self.failed) {
            (Some(_), true) => b'E',
            (Some(_), false) => b'T',
            (None, _) => b'I',
        };
        messages.put(b'Z', &[state]);
        messages.flush().await
    }

    fn refused<S: AsyncRead + AsyncWrite + Unpin>(&mut self, messages: &mut Messages<S>, refused: &Refusal) {
        if self.undo.is_some() {
            self.failed = true;
        }
        messages.put(b'E', &refused.body(&self.server.build));
    }

    async fn commands<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &mut self,
        messages: &mut Messages<S>,
    ) -> io::Result<()> {
        let mut skipping = false;
        loop {
            let (kind, body) = messages.read().await?;
            if skipping && !matches!(kind, b'S' | b'X') {
                continue;
            }
            match kind {
                b'X' => return Ok(()),
                b'Q' => {
                    let query = String::from_utf8_lossy(body.strip_suffix(&[0]).unwrap_or(&body)).into_owned();
                    self.query(messages, &query).await?;
                    self.ready(messages).await?;
                }
                b'S' => {
                    skipping = false;
                    self.portals.clear();
                    self.ready(messages).await?;
                }
                b'H' => messages.flush().await?,
                b'P' | b'B' | b'D' | b'E' | b'C' => {
                    if let Err(refused) = self.extended(messages, kind, &body).await? {
                        self.refused(messages, &refused);
                        skipping = true;
                    }
                    messages.relieve().await?;
                }
                b'd' | b'c' | b'f' => {}
                b'F' => {
                    let refused = Refusal::new("42501", "permission denied for function");
                    self.refused(messages, &refused);
                    self.ready(messages).await?;
                }
                other => {
                    let refused = Refusal::fatal("08P01", format!("invalid frontend message type {other}")).at(
                        "tcop",
                        "postgres.c",
                        "429",
                        "SocketBackend",
                    );
                    return refuse(messages, &refused, &self.server.build).await;
                }
            }
        }
    }

    async fn query<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &mut self,
        messages: &mut Messages<S>,
        query: &str,
    ) -> io::Result<()> {
        let statements = sql::split(query, Dialect::Postgres);
        if statements.is_empty() {
            messages.put(b'I', &[]);
            return Ok(());
        }
        for statement in statements {
            match self.statement(statement).await {
                Ok(answer) => {
                    if !self.answer(messages, answer, None, true).await? {
                        break;
                    }
                }
                Err(refused) => {
                    self.refused(messages, &refused);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Sends an answer; false when it ended with an error.
    async fn answer<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &mut self,
        messages: &mut Messages<S>,
        answer: Answer,
        formats: Option<&[u16]>,
        describe: bool,
    ) -> io::Result<bool> {
        match answer {
            Answer::Empty => messages.put(b'I', &[]),
            Answer::Done(tag) => messages.complete(&tag),
            Answer::Rows(rows, tag) => {
                let formats = formats.unwrap_or_default();
                if describe {
                    messages.put(b'T', &description(&rows.cols, formats));
                }
                for values in &rows.rows {
                    messages.put(b'D', &row(&rows, values, formats));
                    messages.relieve().await?;
                }
                messages.complete(&tag);
            }
            Answer::Copy(Copied::Done(count)) => messages.complete(&format!("COPY {count}")),
            Answer::Copy(Copied::Out(lines, columns)) => {
                messages.put(b'H', &copy_header(columns));
                let count = lines.len();
                for line in lines {
                    messages.put(b'd', line.as_bytes());
                    messages.relieve().await?;
                }
                messages.put(b'c', &[]);
                messages.complete(&format!("COPY {count}"));
            }
            Answer::Copy(Copied::In { target, columns }) => {
                messages.put(b'G', &copy_header(columns));
                messages.flush().await?;
                let mut data = Vec::new();
                let failed = loop {
                    let (kind, body) = messages.read().await?;
                    match kind {
                        b'd' if data.len() + body.len() <= MOST_COPIED => data.extend(body),
                        b'd' => {}
                        b'c' => break None,
                        b'f' => {
                            break Some(Refusal::new("57014", "COPY from stdin failed").at(
                                "commands",
                                "copyfromparse.c",
                                "312",
                                "CopyGetData",
                            ));
                        }
                        b'H' | b'S' => {}
                        _ => return Err(broken("in COPY")),
                    }
                };
                let data = text(&data);
                let lines: Vec<String> = data.lines().filter(|line| *line != "\\.").map(str::to_owned).collect();
                let shown = cut(&data, 2_048);
                self.session.emit(
                    EventType::Query,
                    format!("COPY {target}: {} rows", lines.len()),
                    &[("query", shown), ("database", &self.database), ("username", &self.user)],
                );
                let taken = match failed {
                    Some(refused) => Err(refused),
                    None => copy::take(self.of, &self.server, (&self.user, &self.database), &target, columns, &lines),
                };
                match taken {
                    Ok(count) => messages.complete(&format!("COPY {count}")),
                    Err(refused) => {
                        self.refused(messages, &refused);
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }
}

fn copy_header(columns: usize) -> Vec<u8> {
    let columns = u16::try_from(columns).unwrap_or(1);
    let mut out = vec![0];
    out.extend(columns.to_be_bytes());
    (0..columns).for_each(|_| out.extend([0, 0]));
    out
}

#[cfg(test)]
mod tests {
    use super::extended::{bound, parameter};

    #[test]
    fn parameters_come_to_their_places() {
        let values = vec!["7".to_owned(), "'o''x'".to_owned()];
        assert_eq!(bound("SELECT $2, '$1', $1::int, $9", &values), "SELECT 'o''x', '$1', 7::int, NULL");
        assert_eq!(parameter(&(-3_i32).to_be_bytes(), true, 23), "-3");
        assert_eq!(parameter(b"a'b", false, 25), "'a''b'");
    }
}
