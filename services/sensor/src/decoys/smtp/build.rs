//! The mail servers that deckies run, and how each says things.

use chrono::Utc;

use crate::{
    decoys::Options,
    persona::{Os, Persona},
};

/// A mail server of one build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::decoys) enum Build {
    /// With what follows its name in the greeting.
    Postfix(&'static str),
    /// With its version.
    Exim(&'static str),
    Exchange,
}

/// What a server says.
#[derive(Clone, Debug)]
pub(super) enum Say<'a> {
    Greeting,
    Helo(&'a str),
    Ehlo(&'a str),
    Ok,
    Reset,
    Sender,
    Recipient,
    Data,
    /// With the id and the size of the message.
    Queued(&'a str, u64),
    Bye,
    Help,
    Vrfy(&'a str, bool),
    Expn,
    StartTls,
    TlsAlready,
    LoggedIn,
    LoginFailed,
    NoMechanism,
    LoginAborted,
    LoginAlready,
    /// A command with arguments that are none.
    Syntax(&'static str),
    Unknown,
    HeloFirst,
    SenderFirst,
    SenderAlready,
    RecipientFirst,
    BadAddress(&'a str),
    NoRelay(&'a str),
    NoUser(&'a str),
    TooMany,
    TooLarge,
    TooManyErrors,
    NotMail,
}

impl Build {
    /// What this decky runs: the option `server` (postfix, exim or exchange), else what its system and seed give.
    pub(in crate::decoys) fn of(persona: &Persona, options: &Options) -> Result<Build, String> {
        let (postfix, exim) = match persona.os {
            Os::Debian12 => (" (Debian/GNU)", "4.96"),
            Os::Debian11 => (" (Debian/GNU)", "4.94.2"),
            Os::Ubuntu2204 => (" (Ubuntu)", "4.95"),
            Os::Ubuntu2004 => (" (Ubuntu)", "4.93"),
            Os::Rocky9 => ("", "4.97.1"),
            Os::CentOs7 => ("", "4.96.2"),
            Os::FreeBsd13 | Os::BusyBox | Os::WindowsServer2019 | Os::Windows10 => ("", "4.96"),
        };
        let (postfix, exim) = (Build::Postfix(postfix), Build::Exim(exim));
        match options.get("server").map(|name| name.trim()) {
            Some("postfix") => Ok(postfix),
            Some("exim") => Ok(exim),
            Some("exchange") => Ok(Build::Exchange),
            Some(other) => Err(format!("server must be postfix, exim or exchange, not {other}")),
            None => Ok(match persona.os {
                Os::WindowsServer2019 | Os::Windows10 => Build::Exchange,
                Os::Debian12 | Os::Debian11 => {
                    persona.pick("mail server", &[postfix, postfix, exim]).copied().unwrap_or(postfix)
                }
                _ => postfix,
            }),
        }
    }

    /// The longest message that it takes.
    pub(super) fn largest(self) -> u64 {
        match self {
            Build::Postfix(_) => 10_240_000,
            Build::Exim(_) => 52_428_800,
            Build::Exchange => 37_748_736,
        }
    }

    /// Mistakes that it forgives in one connection.
    pub(super) fn patience(self) -> u32 {
        match self {
            Build::Postfix(_) => 20,
            Build::Exim(_) => 3,
            Build::Exchange => 10,
        }
    }

    /// The mechanisms that it takes.
    pub(super) fn mechanisms(self) -> &'static [&'static str] {
        match self {
            Build::Postfix(_) | Build::Exim(_) => &["PLAIN", "LOGIN"],
            Build::Exchange => &["LOGIN"],
        }
    }

    /// The id of a message that it takes.
    pub(super) fn queue_id(self, host: &str) -> String {
        let random: u64 = rand::random();
        match self {
            Build::Postfix(_) => format!("{:X}", (random & 0xff_ffff_ffff) | 0x10_0000_0000),
            Build::Exim(_) => {
                let digits = |mut number: u64, count: usize| {
                    let signs = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
                    let mut id = vec![b'0'; count];
                    for digit in id.iter_mut().rev() {
                        let at = usize::try_from(number % 62).unwrap_or(0);
                        *digit = signs.get(at).copied().unwrap_or(b'0');
                        number /= 62;
                    }
                    String::from_utf8_lossy(&id).into_owned()
                };
                let now = u64::try_from(Utc::now().timestamp()).unwrap_or(0);
                format!("{}-{}-{}", digits(now, 6), digits(random % 4_000_000, 6), digits(random % 2000, 2))
            }
            Build::Exchange => {
                format!("<{:032x}@{host}> [InternalId={}, Hostname={host}]", rand::random::<u128>(), random >> 24)
            }
        }
    }

    /// The lines of an answer.
    pub(super) fn say(self, what: Say<'_>, host: &str, tls: bool, peer: &str) -> String {
        let text = match self {
            Build::Postfix(suffix) => postfix(what, host, suffix, tls),
            Build::Exim(version) => exim(what, host, version, tls, peer),
            Build::Exchange => exchange(what, host, tls, peer),
        };
        text + "\r\n"
    }
}

fn date() -> String {
    Utc::now().format("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

/// Several lines with one code.
fn lines(code: u16, texts: &[String]) -> String {
    let last = texts.len().saturating_sub(1);
    let line = |(at, text): (usize, &String)| format!("{code}{}{text}", if at == last { ' ' } else { '-' });
    texts.iter().enumerate().map(line).collect::<Vec<_>>().join("\r\n")
}

fn postfix(what: Say<'_>, host: &str, suffix: &str, tls: bool) -> String {
    match what {
        Say::Greeting => format!("220 {host} ESMTP Postfix{suffix}"),
        Say::Helo(_) => format!("250 {host}"),
        Say::Ehlo(_) => {
            let mut able: Vec<String> = [host, "PIPELINING", "SIZE 10240000", "VRFY", "ETRN"].map(str::to_owned).into();
            if !tls {
                able.push("STARTTLS".into());
            }
            able.extend(
                ["AUTH PLAIN LOGIN", "ENHANCEDSTATUSCODES", "8BITMIME", "DSN", "SMTPUTF8", "CHUNKING"].map(Into::into),
            );
            lines(250, &able)
        }
        Say::Ok | Say::Reset => "250 2.0.0 Ok".into(),
        Say::Sender => "250 2.1.0 Ok".into(),
        Say::Recipient => "250 2.1.5 Ok".into(),
        Say::Data => "354 End data with <CR><LF>.<CR><LF>".into(),
        Say::Queued(id, _) => format!("250 2.0.0 Ok: queued as {id}"),
        Say::Bye => "221 2.0.0 Bye".into(),
        Say::Vrfy(user, true) => format!("252 2.0.0 {user}"),
        Say::Vrfy(user, false) | Say::NoUser(user) => {
            format!("550 5.1.1 <{user}>: Recipient address rejected: User unknown in local recipient table")
        }
        Say::StartTls => "220 2.0.0 Ready to start TLS".into(),
        Say::TlsAlready => "554 5.5.1 Error: TLS already active".into(),
        Say::LoggedIn => "235 2.7.0 Authentication successful".into(),
        Say::LoginFailed => "535 5.7.8 Error: authentication failed: authentication failure".into(),
        Say::NoMechanism => "535 5.7.8 Error: authentication failed: no mechanism available".into(),
        Say::LoginAborted => "501 5.7.0 Authentication aborted".into(),
        Say::LoginAlready => "503 5.5.1 Error: already authenticated".into(),
        Say::Syntax(command) => match command {
            "HELO" | "EHLO" => format!("501 Syntax: {command} hostname"),
            "MAIL" => "501 5.5.4 Syntax: MAIL FROM:<address>".into(),
            "RCPT" => "501 5.5.4 Syntax: RCPT TO:<address>".into(),
            "AUTH" => "501 5.5.4 Syntax: AUTH mechanism".into(),
            "VRFY" => "501 5.5.4 Syntax: VRFY address".into(),
            _ => "501 5.5.4 Syntax error in parameters".into(),
        },
        Say::Help | Say::Expn | Say::Unknown => "502 5.5.2 Error: command not recognized".into(),
        Say::HeloFirst => "503 5.5.1 Error: send HELO/EHLO first".into(),
        Say::SenderFirst => "503 5.5.1 Error: need MAIL command".into(),
        Say::SenderAlready => "503 5.5.1 Error: nested MAIL command".into(),
        Say::RecipientFirst => "503 5.5.1 Error: need RCPT command".into(),
        Say::BadAddress(address) => format!("501 5.1.3 Bad recipient address syntax: {address}"),
        Say::NoRelay(address) => format!("454 4.7.1 <{address}>: Relay access denied"),
        Say::TooMany => "452 4.5.3 Error: too many recipients".into(),
        Say::TooLarge => "552 5.3.4 Error: message file too big".into(),
        Say::TooManyErrors => format!("421 4.7.0 {host} Error: too many errors"),
        Say::NotMail => "221 2.7.0 Error: I can break rules, too. Goodbye.".into(),
    }
}

fn exim(what: Say<'_>, host: &str, version: &str, tls: bool, peer: &str) -> String {
    match what {
        Say::Greeting => format!("220 {host} ESMTP Exim {version} {}", date()),
        Say::Helo(name) => format!("250 {host} Hello {name} [{peer}]"),
        Say::Ehlo(name) => {
            let mut able = vec![format!("{host} Hello {name} [{peer}]"), "SIZE 52428800".into(), "8BITMIME".into(), "PIPELINING".into()];
            if !version.starts_with("4.93") && !version.starts_with("4.92") {
                able.push("PIPECONNECT".into());
            }
            able.extend(["AUTH PLAIN LOGIN".into(), "CHUNKING".into()]);
            if !tls {
                able.push("STARTTLS".into());
            }
            able.extend(["PRDR".into(), "HELP".into()]);
            lines(250, &able)
        }
        Say::Ok | Say::Sender => "250 OK".into(),
        Say::Reset => "250 Reset OK".into(),
        Say::Recipient => "250 Accepted".into(),
        Say::Data => "354 Enter message, ending with \".\" on a line by itself".into(),
        Say::Queued(id, _) => format!("250 OK id={id}"),
        Say::Bye => format!("221 {host} closing connection"),
        Say::Help => "214-Commands supported:\r\n214 AUTH STARTTLS HELO EHLO MAIL RCPT DATA BDAT NOOP QUIT RSET HELP".into(),
        Say::Vrfy(..) => "252 Administrative prohibition".into(),
        Say::Expn => "550 Administrative prohibition".into(),
        Say::StartTls => "220 TLS go ahead".into(),
        Say::TlsAlready => "503 STARTTLS command used when not advertised".into(),
        Say::LoggedIn => "235 Authentication succeeded".into(),
        Say::LoginFailed => "535 Incorrect authentication data".into(),
        Say::NoMechanism => "504 authentication mechanism not supported".into(),
        Say::LoginAborted => "501 Authentication cancelled".into(),
        Say::LoginAlready => "503 already authenticated".into(),
        Say::Syntax("HELO") => "501 Syntactically invalid HELO argument(s)".into(),
        Say::Syntax("EHLO") => "501 Syntactically invalid EHLO argument(s)".into(),
        Say::Syntax(command) => format!("501 {command} must have an address operand"),
        Say::Unknown => "500 unrecognized command".into(),
        Say::HeloFirst => "503 HELO or EHLO required".into(),
        Say::SenderFirst => "503 sender not yet given".into(),
        Say::SenderAlready => "503 sender already given".into(),
        Say::RecipientFirst => "503-All RCPT commands were rejected with this error:\r\n503-relay not permitted\r\n503 Valid RCPT command must precede DATA".into(),
        Say::BadAddress(address) => format!("501 <{address}>: malformed address"),
        Say::NoRelay(_) => "550 relay not permitted".into(),
        Say::NoUser(_) => "550 Unrouteable address".into(),
        Say::TooMany => "452 too many recipients".into(),
        Say::TooLarge => "552 Message size exceeds maximum permitted".into(),
        Say::TooManyErrors => "421 too many syntax or protocol errors".into(),
        Say::NotMail => "554 SMTP synchronization error".into(),
    }
}

fn exchange(what: Say<'_>, host: &str, tls: bool, peer: &str) -> String {
    match what {
        Say::Greeting => format!("220 {host} Microsoft ESMTP MAIL Service ready at {}", date()),
        Say::Helo(_) => format!("250 {host} Hello [{peer}]"),
        Say::Ehlo(_) => {
            let mut able = vec![format!("{host} Hello [{peer}]")];
            able.extend(["SIZE 37748736", "PIPELINING", "DSN", "ENHANCEDSTATUSCODES"].map(Into::into));
            if !tls {
                able.push("STARTTLS".into());
            }
            able.extend(["AUTH LOGIN", "8BITMIME", "BINARYMIME", "CHUNKING", "SMTPUTF8"].map(Into::into));
            lines(250, &able)
        }
        Say::Ok => "250 2.0.0 OK".into(),
        Say::Reset => "250 2.0.0 Resetting".into(),
        Say::Sender => "250 2.1.0 Sender OK".into(),
        Say::Recipient => "250 2.1.5 Recipient OK".into(),
        Say::Data => "354 Start mail input; end with <CRLF>.<CRLF>".into(),
        Say::Queued(id, size) => format!("250 2.6.0 {id} {size} bytes in 0.124, {} KB/sec Queued mail for delivery", 1 + size / 128),
        Say::Bye => "221 2.0.0 Service closing transmission channel".into(),
        Say::Help => "214-This server supports the following commands:\r\n214 HELO EHLO STARTTLS RCPT DATA RSET MAIL QUIT HELP AUTH BDAT".into(),
        Say::Vrfy(..) => "252 2.1.5 Cannot VRFY user".into(),
        Say::Expn | Say::Unknown => "500 5.3.3 Unrecognized command".into(),
        Say::StartTls => "220 2.0.0 SMTP server ready".into(),
        Say::TlsAlready => "503 5.5.2 Only one STARTTLS command can be issued per session".into(),
        Say::LoggedIn => "235 2.7.0 Authentication successful".into(),
        Say::LoginFailed => "535 5.7.3 Authentication unsuccessful".into(),
        Say::NoMechanism => "504 5.7.4 Unrecognized authentication type".into(),
        Say::LoginAborted => "501 5.5.4 Authentication canceled".into(),
        Say::LoginAlready => "503 5.5.2 Already authenticated".into(),
        Say::Syntax("HELO" | "EHLO") => "501 5.5.4 Invalid domain name".into(),
        Say::Syntax(_) => "501 5.5.4 Invalid arguments".into(),
        Say::HeloFirst => "503 5.5.2 Send hello first".into(),
        Say::SenderFirst => "503 5.5.2 Need mail command".into(),
        Say::SenderAlready => "503 5.5.2 Sender already specified".into(),
        Say::RecipientFirst => "503 5.5.2 Need rcpt command".into(),
        Say::BadAddress(_) => "501 5.1.3 Invalid address".into(),
        Say::NoRelay(_) => "550 5.7.54 SMTP; Unable to relay recipient in non-accepted domain".into(),
        Say::NoUser(_) => "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup".into(),
        Say::TooMany => "452 4.5.3 Too many recipients".into(),
        Say::TooLarge => "552 5.3.4 Message size exceeds fixed maximum message size".into(),
        Say::TooManyErrors => "421 4.7.0 Too many errors on this connection, closing transmission channel".into(),
        Say::NotMail => "500 5.3.3 Unrecognized command".into(),
    }
}
