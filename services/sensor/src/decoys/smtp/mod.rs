//! Mail servers: Postfix, Exim and Exchange. What is sent is captured and goes nowhere.

pub(super) mod build;
mod message;

use std::{io, sync::Arc, time::Duration};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use tokio::io::{AsyncRead, AsyncWrite};

use self::build::{Build, Say};
use super::{
    Options,
    credentials::Credentials,
    lines::{Buffered, Line},
    tls::{Spoken, Tls},
};
use crate::{
    persona::Persona,
    protocol::{Protocol, Server},
    session::{EventType, Session, Stream, escaped},
};

/// The longest line of a command.
const LINE: usize = 2048;
/// Recipients of one message.
const RECIPIENTS: usize = 100;
/// What is tried most on mail servers.
const COMMON: [(&str, &str); 12] = [
    ("admin", "admin"),
    ("admin", "123456"),
    ("info", "info"),
    ("info", "123456"),
    ("test", "test"),
    ("test", "test123"),
    ("scanner", "scanner"),
    ("sales", "sales"),
    ("support", "support"),
    ("user", "password"),
    ("postmaster", "postmaster"),
    ("webmaster", "123456"),
];
/// People and functions that have a mailbox.
const BOXES: [&str; 24] = [
    "info", "sales", "support", "office", "contact", "hr", "billing", "it", "scanner", "backup", "anna", "martin",
    "peter", "julia", "thomas", "maria", "stefan", "laura", "david", "sarah", "m.weber", "j.novak", "k.larsen",
    "service",
];

struct Smtp {
    build: Build,
    host: String,
    domain: String,
    boxes: Vec<String>,
    credentials: Credentials,
    tls: Tls,
    /// Whether it says that it relays for everybody.
    open: bool,
}

/// SMTP.
pub(crate) fn server(persona: &Arc<Persona>, options: &Options) -> Result<Server, String> {
    let build = Build::of(persona, options)?;
    let domains = ["corp.local", "office.lan", "intranet.local", "internal.lan", "company.local", "prod.lan"];
    let domain = match (options.get("domain"), persona.hostname.split_once('.')) {
        (Some(domain), _) => domain.clone(),
        (None, Some((_, domain))) => domain.to_owned(),
        (None, None) => persona.pick("mail domain", &domains).copied().unwrap_or("local").to_owned(),
    };
    let host = match persona.hostname.contains('.') {
        true => persona.hostname.clone(),
        false => format!("{}.{domain}", persona.hostname),
    };
    let mut boxes: Vec<String> = ["root", "postmaster", "admin"].map(str::to_owned).into();
    boxes.extend(
        BOXES.iter().filter(|name| persona.number(&format!("mailbox {name}"), 3) > 0).map(|name| (*name).to_owned()),
    );
    let open = match options.get("relay").map(|relay| relay.trim()) {
        None | Some("closed") => false,
        Some("open") => true,
        Some(other) => return Err(format!("relay must be open or closed, not {other}")),
    };
    let credentials = Credentials::new(persona, "smtp", options, &COMMON)?;
    let tls = Tls::new(persona, &[]);
    Ok(Server::Connections(Arc::new(Smtp { build, host, domain, boxes, credentials, tls, open })))
}

#[derive(Default)]
struct State {
    greeted: bool,
    user: Option<String>,
    sender: Option<String>,
    recipients: Vec<String>,
    refused: u32,
    tls: bool,
    /// What came with BDAT so far.
    message: Option<message::Message>,
}

impl State {
    fn reset(&mut self) {
        self.sender = None;
        self.recipients.clear();
        self.message = None;
    }
}

enum End {
    Done,
    StartTls,
}

#[async_trait]
impl Protocol for Smtp {
    async fn serve(self: Arc<Self>, stream: Stream, session: Session) -> io::Result<()> {
        stream.limit_idle(Duration::from_secs(300));
        let mut conn = Buffered::new(stream);
        conn.write(self.say(Say::Greeting, &session, false).as_bytes()).await?;
        if let End::Done = self.talk(&mut conn, &session, false).await? {
            conn.close().await;
            return Ok(());
        }
        // What was sent before TLS began is thrown away, as servers do since it was found to be a hole.
        let (stream, _) = conn.into_parts();
        if let Spoken::Tls(stream) = self.tls.accept(stream, &session).await? {
            let mut conn = Buffered::new(stream);
            self.talk(&mut conn, &session, true).await?;
            conn.close().await;
        }
        Ok(())
    }
}

impl Smtp {
    fn say(&self, what: Say<'_>, session: &Session, tls: bool) -> String {
        let peer = session.peer().ip().to_canonical().to_string();
        self.build.say(what, &self.host, tls, &peer)
    }

    async fn talk<S>(&self, conn: &mut Buffered<S>, session: &Session, tls: bool) -> io::Result<End>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let mut state = State { tls, ..State::default() };
        loop {
            let line = match conn.line(LINE).await? {
                Line::Whole(line) => line,
                Line::TooLong => {
                    session.emit(
                        EventType::Unknown,
                        "a line that is too long",
                        &[("data", &escaped(conn.unread(), 512))],
                    );
                    if !conn.skip_line().await? {
                        return Ok(End::Done);
                    }
                    Vec::new()
                }
                Line::End(_) => return Ok(End::Done),
            };
            let text = escaped(&line, LINE);
            let (verb, argument) = text.split_once(' ').unwrap_or((text.as_str(), ""));
            let (verb, argument) = (verb.to_ascii_uppercase(), argument.trim());
            let answer = match verb.as_str() {
                "QUIT" => {
                    conn.write(self.say(Say::Bye, session, tls).as_bytes()).await?;
                    return Ok(End::Done);
                }
                "STARTTLS" if !tls && argument.is_empty() => {
                    conn.write(self.say(Say::StartTls, session, tls).as_bytes()).await?;
                    return Ok(End::StartTls);
                }
                "AUTH" => self.auth(conn, &mut state, session, argument).await?,
                "DATA" | "BDAT" => self.content(conn, &mut state, session, &verb, argument).await?,
                "GET" | "POST" | "CONNECT" => {
                    session.emit(
                        EventType::Scan,
                        "another protocol on the mail port",
                        &[("kind", "malformed"), ("detail", &text)],
                    );
                    conn.write(self.say(Say::NotMail, session, tls).as_bytes()).await?;
                    return Ok(End::Done);
                }
                _ => self.command(&mut state, session, &verb, argument, &text),
            };
            // Postfix counts every refusal, the others what is wrong with the protocol.
            if matches!(self.build, Build::Postfix(_)) && answer.starts_with(['4', '5']) || answer.starts_with("50") {
                state.refused += 1;
            }
            conn.write(answer.as_bytes()).await?;
            if state.refused > self.build.patience() {
                conn.write(self.say(Say::TooManyErrors, session, tls).as_bytes()).await?;
                return Ok(End::Done);
            }
        }
    }

    /// Commands that are done with their line.
    fn command(&self, state: &mut State, session: &Session, verb: &str, argument: &str, text: &str) -> String {
        let tls = state.tls;
        let say = |what| self.say(what, session, tls);
        match verb {
            "HELO" | "EHLO" => {
                let known = if verb == "HELO" { "HELO" } else { "EHLO" };
                if argument.is_empty() && self.build != Build::Exchange {
                    return say(Say::Syntax(known));
                }
                session.learn("client_banner", format!("{known} {argument}"));
                let answer = if known == "HELO" { say(Say::Helo(argument)) } else { say(Say::Ehlo(argument)) };
                state.greeted = true;
                state.reset();
                answer
            }
            "MAIL" => {
                if !state.greeted && self.build == Build::Exchange {
                    return say(Say::HeloFirst);
                }
                if state.sender.is_some() {
                    return say(Say::SenderAlready);
                }
                let Some((sender, parameters)) = address(argument, "FROM:") else {
                    return say(Say::Syntax("MAIL"));
                };
                let size = parameters.to_ascii_uppercase();
                let size = size.split(' ').find_map(|part| part.strip_prefix("SIZE=")?.parse::<u64>().ok());
                if size.is_some_and(|size| size > self.build.largest()) {
                    return say(Say::TooLarge);
                }
                session.emit(EventType::MailFrom, format!("mail from <{sender}>"), &[("address", &sender)]);
                let answer = say(Say::Sender);
                state.sender = Some(sender);
                answer
            }
            "RCPT" => {
                if state.sender.is_none() {
                    return say(Say::SenderFirst);
                }
                let Some((to, _)) = address(argument, "TO:") else {
                    return say(Say::Syntax("RCPT"));
                };
                let answer = self.recipient(state, session, &to);
                let status = answer.get(..3).unwrap_or_default();
                session.emit(
                    EventType::RcptTo,
                    format!("mail to <{to}>: {status}"),
                    &[("address", &to), ("status", status)],
                );
                answer
            }
            "RSET" => {
                state.reset();
                say(Say::Reset)
            }
            "NOOP" => say(Say::Ok),
            "HELP" => say(Say::Help),
            "VRFY" | "EXPN" | "ETRN" => {
                session.emit(EventType::Command, text, &[("command", text)]);
                let user = argument.trim_matches(['<', '>']);
                match (verb, argument.is_empty()) {
                    ("VRFY", true) => say(Say::Syntax("VRFY")),
                    ("VRFY", false) => say(Say::Vrfy(user, self.mailbox(user).unwrap_or(false))),
                    _ => say(Say::Expn),
                }
            }
            "STARTTLS" if state.tls => say(Say::TlsAlready),
            "STARTTLS" => say(Say::Syntax("STARTTLS")),
            _ => {
                session.emit(
                    EventType::Unknown,
                    "not a command of SMTP",
                    &[("data", text.get(..text.floor_char_boundary(512)).unwrap_or_default())],
                );
                say(Say::Unknown)
            }
        }
    }

    fn recipient(&self, state: &mut State, session: &Session, to: &str) -> String {
        let tls = state.tls;
        let say = |what| self.say(what, session, tls);
        if to.is_empty() {
            return say(Say::BadAddress(to));
        }
        if state.recipients.len() >= RECIPIENTS {
            return say(Say::TooMany);
        }
        match self.mailbox(to) {
            Some(true) => {}
            Some(false) => return say(Say::NoUser(to)),
            None if self.open || state.user.is_some() => {}
            None => return say(Say::NoRelay(to)),
        }
        let answer = say(Say::Recipient);
        state.recipients.push(to.to_owned());
        answer
    }

    /// Whether there is this mailbox; none for another domain's.
    fn mailbox(&self, address: &str) -> Option<bool> {
        let (user, domain) = address.rsplit_once('@').unwrap_or((address, ""));
        let ours =
            domain.is_empty() || domain.eq_ignore_ascii_case(&self.domain) || domain.eq_ignore_ascii_case(&self.host);
        ours.then(|| self.boxes.iter().any(|known| known.eq_ignore_ascii_case(user)))
    }

    async fn auth<S>(
        &self,
        conn: &mut Buffered<S>,
        state: &mut State,
        session: &Session,
        argument: &str,
    ) -> io::Result<String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let (mechanism, initial) = argument.split_once(' ').unwrap_or((argument, ""));
        let (mechanism, initial) = (mechanism.to_ascii_uppercase(), initial.trim());
        let tls = state.tls;
        let say = |what| self.say(what, session, tls);
        if mechanism.is_empty() {
            return Ok(say(Say::Syntax("AUTH")));
        }
        if !state.greeted {
            return Ok(say(Say::HeloFirst));
        }
        if state.user.is_some() {
            return Ok(say(Say::LoginAlready));
        }
        if !self.build.mechanisms().contains(&mechanism.as_str()) {
            session.emit(EventType::AuthAttempt, format!("mail login by {mechanism}"), &[("method", &mechanism)]);
            return Ok(say(Say::NoMechanism));
        }
        let mut given = if initial.is_empty() { None } else { Some(initial.to_owned()) };
        let (user, password) = if mechanism == "PLAIN" {
            let Some(secret) = ask(conn, &mut given, "").await? else {
                return Ok(say(Say::LoginAborted));
            };
            let mut parts = secret.split(|byte| *byte == 0).skip(1).map(|part| escaped(part, 512));
            (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
        } else {
            let Some(user) = ask(conn, &mut given, "Username:").await? else {
                return Ok(say(Say::LoginAborted));
            };
            let Some(password) = ask(conn, &mut None, "Password:").await? else {
                return Ok(say(Say::LoginAborted));
            };
            (escaped(&user, 512), escaped(&password, 512))
        };
        // People log in as anna and as anna@domain.
        let short = user.strip_suffix(&format!("@{}", self.domain)).unwrap_or(&user);
        let accepted = self.credentials.accepts(&user, &password) || self.credentials.accepts(short, &password);
        let (event, word) =
            if accepted { (EventType::AuthSuccess, "succeeded") } else { (EventType::AuthFail, "failed") };
        let method = mechanism.to_ascii_lowercase();
        session.emit(
            event,
            format!("mail login of {user} {word}"),
            &[("username", &user), ("password", &password), ("method", &method)],
        );
        if !accepted {
            // As slow as the real ones are with a wrong password.
            tokio::time::sleep(Duration::from_millis(900)).await;
            return Ok(say(Say::LoginFailed));
        }
        let answer = say(Say::LoggedIn);
        state.user = Some(user);
        Ok(answer)
    }

    async fn content<S>(
        &self,
        conn: &mut Buffered<S>,
        state: &mut State,
        session: &Session,
        verb: &str,
        argument: &str,
    ) -> io::Result<String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let mut chunk = argument.split(' ');
        let size: Option<u64> = chunk.next().and_then(|size| size.parse().ok());
        if verb == "BDAT" && size.is_none_or(|size| size > self.build.largest()) {
            return Ok(self.say(Say::TooLarge, session, state.tls));
        }
        let missing = match (&state.sender, state.recipients.is_empty()) {
            (None, _) => Some(Say::SenderFirst),
            (Some(_), true) => Some(Say::RecipientFirst),
            _ => None,
        };
        if let Some(missing) = missing {
            if verb == "BDAT" {
                message::Message::default().chunk(conn, size.unwrap_or(0)).await?;
            }
            return Ok(self.say(missing, session, state.tls));
        }
        let id = self.build.queue_id(&self.host);
        let mut message = match state.message.take() {
            Some(message) => message,
            None => message::Message::begin(session, &file_name(&id)).await,
        };
        if verb == "DATA" {
            conn.write(self.say(Say::Data, session, state.tls).as_bytes()).await?;
            message.lines(conn).await?;
        } else {
            message.chunk(conn, size.unwrap_or(0)).await?;
            let last = chunk.next().is_some_and(|last| last.eq_ignore_ascii_case("LAST"));
            if !last && message.size() <= self.build.largest() {
                state.message = Some(message);
                return Ok(self.say(Say::Ok, session, state.tls));
            }
        }
        let size = message.size();
        let too_large = size > self.build.largest();
        let sender = state.sender.clone().unwrap_or_default();
        message.finish(session, &sender, &state.recipients).await;
        state.reset();
        Ok(self.say(if too_large { Say::TooLarge } else { Say::Queued(&id, size) }, session, state.tls))
    }
}

/// What a message is called that is kept.
fn file_name(id: &str) -> String {
    let plain: String = id.chars().filter(char::is_ascii_alphanumeric).take(32).collect();
    format!("{plain}.eml")
}

/// Asks for a part of a login; none when the client gives up or sends what is no base64.
async fn ask<S>(conn: &mut Buffered<S>, given: &mut Option<String>, question: &str) -> io::Result<Option<Vec<u8>>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let answer = match given.take() {
        Some(given) => given.into_bytes(),
        None => {
            conn.write(format!("334 {}\r\n", STANDARD.encode(question)).as_bytes()).await?;
            match conn.line(LINE).await? {
                Line::Whole(line) => line,
                _ => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    };
    if answer == b"=" {
        return Ok(Some(Vec::new()));
    }
    Ok(STANDARD.decode(answer.trim_ascii()).ok())
}

/// The address of `FROM:<a@b> SIZE=1`, and what follows it.
fn address(argument: &str, word: &str) -> Option<(String, String)> {
    let head = argument.get(..word.len())?;
    if !head.eq_ignore_ascii_case(word) {
        return None;
    }
    let rest = argument.get(word.len()..)?.trim_start();
    let (address, parameters) = match rest.strip_prefix('<') {
        Some(rest) => rest.split_once('>')?,
        None => rest.split_once(' ').unwrap_or((rest, "")),
    };
    let address = address.trim();
    // A route before the address is read over, as RFC 5321 has it.
    let address = match address.strip_prefix('@') {
        Some(route) => route.split_once(':')?.1,
        None => address,
    };
    (address.len() <= 320).then(|| (address.to_owned(), parameters.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        assert_eq!(address("FROM:<a@b.c> SIZE=10", "FROM:"), Some(("a@b.c".into(), "SIZE=10".into())));
        assert_eq!(address("to: a@b.c", "TO:"), Some(("a@b.c".into(), String::new())));
        assert_eq!(address("FROM:<>", "FROM:"), Some((String::new(), String::new())));
        assert_eq!(address("TO:<@x,@y:a@b>", "TO:"), Some(("a@b".into(), String::new())));
        assert_eq!(address("a@b.c", "FROM:"), None);
        assert_eq!(address("FROM:<a@b", "FROM:"), None);
    }
}
