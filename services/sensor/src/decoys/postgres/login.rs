//! How clients log in: in clear, by MD5, by SCRAM-SHA-256.

use std::io;

use rand::Rng;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Method, Postgres, errors::Refusal, wire::Messages};
use crate::{
    decoys::{
        common_passwords::COMMON,
        scram::{Kind, Scram},
        wire::{Bytes, broken, text},
    },
    fingerprint::md5_hex,
    session::{EventType, Session},
};

const SHA256: Kind = Kind { sha1: false, iterations: 4_096, secret: |_, password| password.to_owned() };

/// What MD5 makes of a password: `md5` and 32 digits.
fn md5(user: &str, password: &str, salt: [u8; 4]) -> String {
    let inner = md5_hex(format!("{password}{user}").as_bytes());
    format!("md5{}", md5_hex(&[inner.as_bytes(), &salt].concat()))
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin>(messages: &mut Messages<S>) -> io::Result<Vec<u8>> {
    messages.flush().await?;
    match messages.read().await? {
        (b'p', body) => Ok(body),
        _ => Err(broken("expected password response")),
    }
}

/// Whether the client may come in, or why not. It is told by the caller.
pub(super) async fn admitted<S: AsyncRead + AsyncWrite + Unpin>(
    of: &Postgres,
    messages: &mut Messages<S>,
    session: &Session,
    (user, database): (&str, &str),
    secure: bool,
) -> io::Result<Result<(), Refusal>> {
    let mut hash = String::new();
    let (method, password, accepted) = match of.method {
        Method::Clear => {
            messages.put(b'R', &3_u32.to_be_bytes());
            let body = answer(messages).await?;
            let password = text(body.strip_suffix(&[0]).unwrap_or(&body));
            let accepted = of.credentials.accepts(user, &password);
            ("password", Some(password), accepted)
        }
        Method::Md5 => {
            let mut salt = [0_u8; 4];
            rand::rng().fill_bytes(&mut salt);
            messages.put(b'R', &[5_u32.to_be_bytes(), salt].concat());
            let body = answer(messages).await?;
            let given = text(body.strip_suffix(&[0]).unwrap_or(&body));
            let own =
                of.credentials.pairs().iter().filter(|(known, _)| known == user).map(|(_, password)| password.as_str());
            let password = own.chain(COMMON).find(|password| md5(user, password, salt) == given).map(str::to_owned);
            let known = password.as_ref().is_some_and(|password| of.credentials.accepts(user, password));
            if password.is_none() {
                hash =
                    format!("$postgres${user}*{}*{}", hex::encode(salt), given.strip_prefix("md5").unwrap_or(&given));
            }
            ("md5", password, known || of.credentials.any())
        }
        Method::Scram => match scram(of, messages, user, secure).await? {
            Ok((password, accepted)) => ("scram-sha-256", password, accepted),
            Err(refused) => return Ok(Err(refused)),
        },
    };
    let mut fields = vec![("username", user), ("method", method), ("database", database)];
    match &password {
        Some(password) => fields.push(("password", password)),
        None if !hash.is_empty() => fields.push(("password_hash", &hash)),
        None => {}
    }
    if accepted {
        session.emit(EventType::AuthSuccess, format!("{user} logged in"), &fields);
        return Ok(Ok(()));
    }
    session.emit(EventType::AuthFail, format!("{user} was refused"), &fields);
    Ok(Err(Refusal::fatal("28P01", format!("password authentication failed for user \"{user}\"")).at(
        "libpq",
        "auth.c",
        "326",
        "auth_failed",
    )))
}

type Proof = (Option<String>, bool);

async fn scram<S: AsyncRead + AsyncWrite + Unpin>(
    of: &Postgres,
    messages: &mut Messages<S>,
    user: &str,
    secure: bool,
) -> io::Result<Result<Proof, Refusal>> {
    let malformed =
        || Refusal::fatal("08P01", "malformed SCRAM message").at("libpq", "auth-scram.c", "850", "read_any_attr");
    let mut offered = 10_u32.to_be_bytes().to_vec();
    if secure {
        offered.extend(b"SCRAM-SHA-256-PLUS\0");
    }
    offered.extend(b"SCRAM-SHA-256\0\0");
    messages.put(b'R', &offered);
    let body = answer(messages).await?;
    let mut bytes = Bytes(&body);
    let mechanism = bytes.until_zero().unwrap_or_default();
    if !mechanism.starts_with(b"SCRAM-SHA-256") {
        return Ok(Err(Refusal::fatal("08P01", "client selected an invalid SASL authentication mechanism").at(
            "libpq",
            "auth-scram.c",
            "275",
            "scram_init",
        )));
    }
    let _length = bytes.be32();
    let first = text(bytes.rest());
    let Some(scram) = Scram::begin(SHA256, &of.persona, "postgres", &first, Some(user)) else {
        return Ok(Err(malformed()));
    };
    messages.put(b'R', &[&11_u32.to_be_bytes(), scram.challenge().as_bytes()].concat());
    let last = text(&answer(messages).await?);
    let own: Vec<String> = of
        .credentials
        .pairs()
        .iter()
        .filter(|(known, _)| known == user)
        .map(|(_, password)| password.clone())
        .collect();
    let Some(proven) = scram.finish(&last, own, &of.verifiers).await? else { return Ok(Err(malformed())) };
    let accepted = proven.password.as_ref().is_some_and(|password| of.credentials.accepts(user, password));
    if accepted {
        use base64::{Engine as _, prelude::BASE64_STANDARD};
        let last = format!("v={}", BASE64_STANDARD.encode(&proven.signature));
        messages.put(b'R', &[&12_u32.to_be_bytes(), last.as_bytes()].concat());
    }
    Ok(Ok((proven.password, accepted)))
}
