//! Telnet: the login of the believable machine, and its shell.

use std::{io, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use super::{Options, credentials::Credentials};
use crate::{
    persona::Persona,
    protocol::{Protocol, Server},
    session::{EventType, Session, Stream, escaped},
    shell::{
        Family, Machine, Shell,
        tty::{Ask, Input, Line, Read, Terminal},
    },
};

/// What is tried on devices with telnet most.
const COMMON: [(&str, &str); 20] = [
    ("root", "xc3511"),
    ("root", "vizxv"),
    ("root", "admin"),
    ("admin", "admin"),
    ("root", "888888"),
    ("root", "xmhdipc"),
    ("root", "default"),
    ("root", "juantech"),
    ("root", "123456"),
    ("root", "54321"),
    ("support", "support"),
    ("root", "root"),
    ("root", "12345"),
    ("user", "user"),
    ("admin", "password"),
    ("root", "pass"),
    ("admin", "1234"),
    ("root", "1111"),
    ("admin", "smcadmin"),
    ("guest", "guest"),
];
/// Logins that fail before the connection is ended.
const MAX_TRIES: u32 = 3;

const IAC: u8 = 255;
const DONT: u8 = 254;
const DO: u8 = 253;
const WONT: u8 = 252;
const WILL: u8 = 251;
const SB: u8 = 250;
const SE: u8 = 240;
const ECHO: u8 = 1;
const SUPPRESS_GO_AHEAD: u8 = 3;
const TERMINAL_TYPE: u8 = 24;
const WINDOW_SIZE: u8 = 31;
const TERMINAL_SPEED: u8 = 32;
const X_DISPLAY: u8 = 35;
const NEW_ENVIRONMENT: u8 = 39;

/// Telnet of one decky.
struct Telnet {
    machine: Arc<Machine>,
    credentials: Credentials,
}

/// Telnet as this decky has it.
pub fn server(persona: &Arc<Persona>, options: &Options) -> Result<Server, String> {
    Ok(Server::Connections(Arc::new(Telnet {
        machine: Machine::of(persona),
        credentials: Credentials::new(persona, "telnet", options, &COMMON)?,
    })))
}

impl Telnet {
    /// What is asked for at the beginning, by the daemon of the system.
    fn opening(&self) -> Vec<u8> {
        match self.machine.facts().family {
            // BusyBox' own.
            Family::BusyBox => vec![IAC, DO, ECHO, IAC, DO, WINDOW_SIZE, IAC, WILL, ECHO, IAC, WILL, SUPPRESS_GO_AHEAD],
            Family::Windows => vec![
                IAC,
                DO,
                37,
                IAC,
                WILL,
                ECHO,
                IAC,
                WILL,
                SUPPRESS_GO_AHEAD,
                IAC,
                DO,
                NEW_ENVIRONMENT,
                IAC,
                DO,
                WINDOW_SIZE,
                IAC,
                WILL,
                0,
            ],
            // netkit's and its heirs'.
            _ => vec![IAC, DO, TERMINAL_TYPE, IAC, DO, TERMINAL_SPEED, IAC, DO, X_DISPLAY, IAC, DO, NEW_ENVIRONMENT],
        }
    }

    /// The rest of what is asked for, once the client has answered.
    fn rest(&self) -> &'static [u8] {
        match self.machine.facts().family {
            Family::BusyBox | Family::Windows => &[],
            _ => &[IAC, WILL, SUPPRESS_GO_AHEAD, IAC, DO, ECHO, IAC, DO, WINDOW_SIZE, IAC, WILL, ECHO],
        }
    }

    fn issue(&self) -> String {
        let facts = self.machine.facts();
        let host = &self.machine.persona().hostname;
        match facts.family {
            Family::BusyBox => format!("\r\n{}\r\n", facts.issue),
            Family::Windows => "Welcome to Microsoft Telnet Service \r\n\n\r".to_owned(),
            Family::RedHat => format!("\r\nKernel {} on an {}\r\n", facts.kernel, facts.machine),
            Family::Bsd => format!("\r\nFreeBSD/{} ({host}) (pts/0)\r\n\r\n", facts.machine),
            Family::Debian => format!("{}\r\n", facts.issue),
        }
    }

    async fn login(&self, terminal: &mut Terminal, session: &Session) -> Option<String> {
        let facts = self.machine.facts();
        let host = self.machine.persona().hostname.clone();
        let name_prompt = match facts.family {
            Family::BusyBox | Family::Debian | Family::RedHat => format!("{host} login: "),
            _ => "login: ".to_owned(),
        };
        let mut failures = 0;
        loop {
            let ask = Ask { prompt: &name_prompt, echo: true, history: &[], complete: None };
            let user = match terminal.read_line(&ask).await {
                Read::Line(user) => user.trim().to_owned(),
                _ => return None,
            };
            if user.is_empty() {
                continue;
            }
            let secret = if facts.family == Family::Windows { "password: " } else { "Password: " };
            let password =
                match terminal.read_line(&Ask { prompt: secret, echo: false, history: &[], complete: None }).await {
                    Read::Line(password) => password,
                    _ => return None,
                };
            let accepted = self.credentials.accepts(&user, &password);
            let (told, secret) = (escaped(user.as_bytes(), 512), escaped(password.as_bytes(), 512));
            let fields = [("username", told.as_str()), ("password", secret.as_str()), ("method", "password")];
            if accepted {
                session.emit(EventType::AuthSuccess, format!("{told} logged in"), &fields);
                return Some(user);
            }
            session.emit(EventType::AuthFail, format!("login failed for {told}"), &fields);
            if terminal.wait(Duration::from_millis(2300 + rand::random_range(0..900_u64))).await {
                return None;
            }
            let word: &[u8] = if facts.family == Family::Windows {
                b"\nThe handle is invalid.\n\nLogin Failed\n\n"
            } else {
                b"\nLogin incorrect\n"
            };
            terminal.write(word).await.ok()?;
            failures += 1;
            if failures >= MAX_TRIES {
                if facts.family == Family::Debian {
                    let _ = terminal.write(b"Maximum number of tries exceeded (3)\n").await;
                }
                return None;
            }
        }
    }
}

#[async_trait]
impl Protocol for Telnet {
    async fn serve(self: Arc<Self>, mut stream: Stream, session: Session) -> io::Result<()> {
        stream.write_all(&self.opening()).await?;
        stream.flush().await?;
        let (read, write) = tokio::io::split(stream);
        let mut line = TelnetLine { read, write, parser: Parser::default(), session: session.clone() };
        line.write_raw(self.rest()).await?;
        line.write_raw(self.issue().as_bytes()).await?;
        let recorder = session.record(80, 24);
        let mut terminal = Terminal::new(Box::new(line), true, (80, 24), Some(recorder));
        let Some(user) = self.login(&mut terminal, &session).await else { return Ok(()) };
        let mut shell = Shell::new(&self.machine, &session, &user, terminal);
        shell.interact().await;
        Ok(())
    }
}

/// A connection of telnet as the way to a client: commands are taken out of what comes and answered.
struct TelnetLine {
    read: ReadHalf<Stream>,
    write: WriteHalf<Stream>,
    parser: Parser,
    session: Session,
}

impl TelnetLine {
    async fn write_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.write.write_all(bytes).await?;
        self.write.flush().await
    }
}

#[async_trait]
impl Line for TelnetLine {
    async fn read(&mut self) -> Input {
        let mut buffer = [0; 1024];
        loop {
            // What is to be answered is answered before the next wait, so that nothing is lost when that is given up.
            if !self.parser.answer.is_empty() {
                let answer = std::mem::take(&mut self.parser.answer);
                if self.write_raw(&answer).await.is_err() {
                    return Input::End;
                }
            }
            if let Some(terminal) = self.parser.terminal.take() {
                self.session.learn("terminal", terminal);
            }
            if let Some((columns, rows)) = self.parser.size.take() {
                return Input::Size(columns, rows);
            }
            if !self.parser.data.is_empty() {
                return Input::Data(std::mem::take(&mut self.parser.data));
            }
            match self.read.read(&mut buffer).await {
                Ok(0) | Err(_) => return Input::End,
                Ok(count) => self.parser.feed(buffer.get(..count).unwrap_or_default()),
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.contains(&IAC) {
            let doubled: Vec<u8> =
                bytes.iter().flat_map(|byte| std::iter::repeat_n(*byte, 1 + usize::from(*byte == IAC))).collect();
            return self.write_raw(&doubled).await;
        }
        self.write_raw(bytes).await
    }
}

#[derive(Default)]
enum State {
    #[default]
    Data,
    Command,
    Option(u8),
    Sub(Vec<u8>),
    SubCommand(Vec<u8>),
}

/// What comes over telnet, taken apart.
#[derive(Default)]
struct Parser {
    state: State,
    data: Vec<u8>,
    answer: Vec<u8>,
    size: Option<(u16, u16)>,
    terminal: Option<String>,
}

/// Longest subnegotiation that is kept.
const MAX_SUB: usize = 256;

impl Parser {
    fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.state = match (std::mem::take(&mut self.state), *byte) {
                (State::Data, IAC) => State::Command,
                (State::Data, byte) => {
                    self.data.push(byte);
                    State::Data
                }
                (State::Command, IAC) => {
                    self.data.push(IAC);
                    State::Data
                }
                (State::Command, verb @ (DO | DONT | WILL | WONT)) => State::Option(verb),
                (State::Command, SB) => State::Sub(Vec::new()),
                // Interrupt process and break.
                (State::Command, 243 | 244) => {
                    self.data.push(3);
                    State::Data
                }
                (State::Command, _) => State::Data,
                (State::Option(verb), option) => {
                    match (verb, option) {
                        (WILL, TERMINAL_TYPE) => self.answer.extend([IAC, SB, TERMINAL_TYPE, 1, IAC, SE]),
                        // What was offered or asked for by this side needs no answer.
                        (DO, ECHO | SUPPRESS_GO_AHEAD)
                        | (
                            WILL,
                            ECHO | WINDOW_SIZE | TERMINAL_SPEED | X_DISPLAY | NEW_ENVIRONMENT | SUPPRESS_GO_AHEAD,
                        ) => {}
                        (DO, option) if self.answer.len() < MAX_SUB => self.answer.extend([IAC, WONT, option]),
                        (WILL, option) if self.answer.len() < MAX_SUB => self.answer.extend([IAC, DONT, option]),
                        _ => {}
                    }
                    State::Data
                }
                (State::Sub(kept), IAC) => State::SubCommand(kept),
                (State::Sub(mut kept), byte) => {
                    if kept.len() < MAX_SUB {
                        kept.push(byte);
                    }
                    State::Sub(kept)
                }
                (State::SubCommand(kept), SE) => {
                    self.sub(&kept);
                    State::Data
                }
                (State::SubCommand(mut kept), byte) => {
                    if kept.len() < MAX_SUB {
                        kept.push(byte);
                    }
                    State::Sub(kept)
                }
            };
        }
    }

    fn sub(&mut self, kept: &[u8]) {
        match kept {
            [WINDOW_SIZE, a, b, c, d] => {
                self.size = Some((u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])));
            }
            [TERMINAL_TYPE, 0, name @ ..] => self.terminal = Some(escaped(name, 64)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_taken_out_of_what_comes() {
        let mut parser = Parser::default();
        let bytes =
            [b'a', IAC, WILL, WINDOW_SIZE, IAC, SB, WINDOW_SIZE, 0, 100, 0, 40, IAC, SE, IAC, IAC, b'b', IAC, DO, 99];
        // Byte by byte, as they may come.
        for byte in bytes {
            parser.feed(&[byte]);
        }
        assert_eq!(parser.data, [b'a', IAC, b'b']);
        assert_eq!(parser.size, Some((100, 40)));
        assert_eq!(parser.answer, [IAC, WONT, 99]);
    }

    #[test]
    fn endless_negotiation_stays_small() {
        let mut parser = Parser::default();
        parser.feed(&[IAC, SB]);
        parser.feed(&[7; 100_000]);
        parser.feed(&[IAC, DO, 99].repeat(10_000));
        assert!(parser.answer.len() < 2 * MAX_SUB);
        assert!(matches!(&parser.state, State::Sub(kept) if kept.len() <= MAX_SUB));
    }
}
