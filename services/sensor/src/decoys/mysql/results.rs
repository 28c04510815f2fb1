//! Rows as packets.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    login::can,
    packet::{Packets, put_bytes, put_number},
};
use crate::decoys::sql::{Col, Dialect, Kind, Relation, Value};

/// How rows are written to this client.
#[derive(Clone, Copy, Default)]
pub(super) struct Manner {
    pub(super) wants: u32,
    pub(super) maria_wants: u32,
    pub(super) more: bool,
    pub(super) binary: bool,
    pub(super) in_transaction: bool,
}

impl Manner {
    fn status(self) -> u16 {
        // Autocommit, more results follow, in a transaction.
        2 | if self.more { 8 } else { 0 } | u16::from(self.in_transaction)
    }

    fn no_eof(self) -> bool {
        self.wants & can::DEPRECATE_EOF != 0
    }
}

/// A statement without rows is done.
pub(super) fn ok(manner: Manner, affected: usize, last_id: i64, first: u8) -> Vec<u8> {
    let mut out = vec![first];
    put_number(&mut out, u64::try_from(affected).unwrap_or(0));
    put_number(&mut out, u64::try_from(last_id).unwrap_or(0));
    out.extend(manner.status().to_le_bytes());
    out.extend([0, 0]);
    out
}

pub(super) fn eof(manner: Manner) -> Vec<u8> {
    let mut out = vec![0xfe, 0, 0];
    out.extend(manner.status().to_le_bytes());
    out
}

fn kind(kind: Kind) -> (u8, u16, u32, u16, u8) {
    // Type, character set, length, flags, decimals.
    match kind {
        Kind::Bool => (1, 63, 1, 0x81, 0),
        Kind::Int | Kind::Oid => (3, 63, 11, 0x80, 0),
        Kind::BigInt => (8, 63, 21, 0x81, 0),
        Kind::Float => (5, 63, 23, 0x80, 31),
        Kind::Numeric => (0xf6, 63, 16, 0x80, 2),
        Kind::Timestamp => (12, 63, 19, 0x80, 0),
        Kind::Date => (10, 63, 10, 0x80, 0),
        Kind::Bytes => (0xfc, 63, 65_535, 0x90, 0),
        Kind::Text => (0xfc, 255, 262_140, 0x10, 0),
        _ => (0xfd, 255, 1_020, 0, 0),
    }
}

/// A column. In a binary answer all are texts: that is what their values are sent as.
pub(super) fn column(col: &Col, database: &str, manner: Manner) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, b"def");
    put_bytes(&mut out, if col.table.is_empty() { b"" } else { database.as_bytes() });
    put_bytes(&mut out, col.table.as_bytes());
    put_bytes(&mut out, col.table.as_bytes());
    put_bytes(&mut out, col.name.as_bytes());
    put_bytes(&mut out, if col.table.is_empty() { b"" } else { col.name.as_bytes() });
    if manner.maria_wants & can::MARIA_EXTENDED_METADATA != 0 {
        put_bytes(&mut out, b"");
    }
    out.push(12);
    let (kind, charset, length, flags, decimals) = kind(if manner.binary { Kind::Varchar } else { col.kind });
    let charset = if charset == 63 { 63 } else { 45 };
    out.extend(u16::to_le_bytes(charset));
    out.extend(length.to_le_bytes());
    out.push(kind);
    out.extend(flags.to_le_bytes());
    out.push(decimals);
    out.extend([0, 0]);
    out
}

/// Rows with their columns.
pub(super) async fn rows<S: AsyncRead + AsyncWrite + Unpin>(
    packets: &mut Packets<S>,
    relation: &Relation,
    database: &str,
    manner: Manner,
) -> io::Result<()> {
    let mut count = Vec::new();
    put_number(&mut count, u64::try_from(relation.cols.len()).unwrap_or(0));
    if manner.maria_wants & can::MARIA_CACHE_METADATA != 0 {
        count.push(1);
    }
    packets.write(&count).await?;
    for col in &relation.cols {
        packets.write(&column(col, database, manner)).await?;
    }
    if !manner.no_eof() {
        packets.write(&eof(manner)).await?;
    }
    let mut out = Vec::new();
    for row in &relation.rows {
        out.clear();
        let cells: Vec<Option<Vec<u8>>> = (0..relation.cols.len())
            .map(|at| row.get(at).and_then(|value: &Value| value.bytes(Dialect::MySql)))
            .collect();
        if manner.binary {
            out.push(0);
            let mut nulls = vec![0_u8; (relation.cols.len() + 9) / 8];
            for (at, cell) in cells.iter().enumerate() {
                if cell.is_none()
                    && let Some(byte) = nulls.get_mut((at + 2) / 8)
                {
                    *byte |= 1 << ((at + 2) % 8);
                }
            }
            out.extend(nulls);
            cells.iter().flatten().for_each(|cell| put_bytes(&mut out, cell));
        } else {
            for cell in &cells {
                match cell {
                    Some(cell) => put_bytes(&mut out, cell),
                    None => out.push(0xfb),
                }
            }
        }
        packets.write(&out).await?;
    }
    let end = if manner.no_eof() { ok(manner, 0, 0, 0xfe) } else { eof(manner) };
    packets.write(&end).await
}
