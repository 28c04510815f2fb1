//! Messages of PostgreSQL's protocol.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::decoys::{
    sql::{Col, Dialect, Kind, Relation, Value},
    wire::{broken, read_exactly},
};

/// The longest message that is taken.
pub(super) const LONGEST: usize = 1 << 20;
/// The longest message before the client has logged in: as the real server has it.
pub(super) const LONGEST_AT_FIRST: usize = 10_000;

/// A connection in messages.
pub(super) struct Messages<S> {
    pub(super) stream: S,
    pub(super) out: Vec<u8>,
    pub(super) longest: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Messages<S> {
    pub(super) fn new(stream: S) -> Messages<S> {
        Messages { stream, out: Vec::new(), longest: LONGEST_AT_FIRST }
    }

    /// The next message: its letter and what it says.
    pub(super) async fn read(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let kind = self.stream.read_u8().await?;
        Ok((kind, self.body().await?))
    }

    /// What follows a length.
    pub(super) async fn body(&mut self) -> io::Result<Vec<u8>> {
        let length = self.stream.read_u32().await?;
        let length = usize::try_from(length).ok().and_then(|length| length.checked_sub(4));
        let length =
            length.filter(|length| *length <= self.longest).ok_or_else(|| broken("invalid length of message"))?;
        read_exactly(&mut self.stream, length).await
    }

    /// A message more to send.
    pub(super) fn put(&mut self, kind: u8, body: &[u8]) {
        self.out.push(kind);
        let length = u32::try_from(body.len() + 4).unwrap_or(4);
        self.out.extend(length.to_be_bytes());
        self.out.extend_from_slice(body);
    }

    /// Sends when there is much.
    pub(super) async fn relieve(&mut self) -> io::Result<()> {
        if self.out.len() > 16 << 10 { self.flush().await } else { Ok(()) }
    }

    pub(super) async fn flush(&mut self) -> io::Result<()> {
        let out = std::mem::take(&mut self.out);
        self.stream.write_all(&out).await?;
        self.stream.flush().await
    }

    /// `SELECT 1` and the like is done.
    pub(super) fn complete(&mut self, tag: &str) {
        self.put(b'C', &zero(tag));
    }

    /// A setting that clients want to know.
    pub(super) fn setting(&mut self, name: &str, value: &str) {
        self.put(b'S', &[zero(name), zero(value)].concat());
    }
}

/// A text with its zero.
pub(super) fn zero(text: &str) -> Vec<u8> {
    let mut bytes: Vec<u8> = text.bytes().filter(|byte| *byte != 0).collect();
    bytes.push(0);
    bytes
}

/// The number and the size of a type.
pub(super) fn type_of(kind: Kind) -> (u32, i16) {
    match kind {
        Kind::Bool => (16, 1),
        Kind::Int => (23, 4),
        Kind::BigInt => (20, 8),
        Kind::Float => (701, 8),
        Kind::Numeric => (1_700, -1),
        Kind::Varchar => (1_043, -1),
        Kind::Name => (19, 64),
        Kind::Oid => (26, 4),
        Kind::Char => (18, 1),
        Kind::Timestamp => (1_114, 8),
        Kind::Date => (1_082, 4),
        Kind::Bytes => (17, -1),
        Kind::Text | Kind::Unknown => (25, -1),
    }
}

/// Which columns of an answer are wanted in binary.
pub(super) fn is_binary(formats: &[u16], at: usize) -> bool {
    match formats {
        [] => false,
        [all] => *all == 1,
        many => many.get(at) == Some(&1),
    }
}

fn can_be_binary(kind: Kind) -> bool {
    !matches!(kind, Kind::Numeric | Kind::Timestamp | Kind::Date)
}

/// The columns of an answer.
pub(super) fn description(cols: &[Col], formats: &[u16]) -> Vec<u8> {
    let mut out = u16::try_from(cols.len()).unwrap_or(0).to_be_bytes().to_vec();
    for (at, col) in cols.iter().enumerate() {
        out.extend(zero(&col.name));
        out.extend([0; 6]);
        let (oid, size) = type_of(col.kind);
        out.extend(oid.to_be_bytes());
        out.extend(size.to_be_bytes());
        out.extend((-1_i32).to_be_bytes());
        let binary = is_binary(formats, at) && can_be_binary(col.kind);
        out.extend(u16::from(binary).to_be_bytes());
    }
    out
}

/// A row of an answer.
pub(super) fn row(relation: &Relation, row: &[Value], formats: &[u16]) -> Vec<u8> {
    let mut out = u16::try_from(relation.cols.len()).unwrap_or(0).to_be_bytes().to_vec();
    for (at, col) in relation.cols.iter().enumerate() {
        let value = row.get(at).unwrap_or(&Value::Null);
        let cell = if is_binary(formats, at) && can_be_binary(col.kind) && *value != Value::Null {
            Some(binary(value, col.kind))
        } else {
            value.bytes(Dialect::Postgres)
        };
        match cell {
            Some(cell) => {
                out.extend(u32::try_from(cell.len()).unwrap_or(0).to_be_bytes());
                out.extend(cell);
            }
            None => out.extend((-1_i32).to_be_bytes()),
        }
    }
    out
}

fn binary(value: &Value, kind: Kind) -> Vec<u8> {
    match kind {
        Kind::Bool => vec![u8::from(value.truth() == Some(true))],
        Kind::Int | Kind::Oid => i32::try_from(value.int()).unwrap_or(0).to_be_bytes().to_vec(),
        Kind::BigInt => value.int().to_be_bytes().to_vec(),
        Kind::Float => value.number().to_be_bytes().to_vec(),
        Kind::Bytes => value.bytes(Dialect::MySql).unwrap_or_default(),
        _ => value.bytes(Dialect::Postgres).unwrap_or_default(),
    }
}
