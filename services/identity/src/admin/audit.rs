//! The audit trail for the command line: verified and exported straight from the database, and exports checked by
//! themselves.

use std::io::{self, BufRead, Read};

use aegis_db::Db;
use aegis_error::Failure;
use chrono::{DateTime, Utc};

use crate::{
    app::{AuditFilter, Verdict},
    domain::{chain::Break, export::FileWalk},
};

pub use crate::app::{Export, ExportPart, Progress};

/// A line of an export is never longer, bytes.
const MAX_LINE: u64 = 1024 * 1024;

/// What a walk over the chain found.
#[derive(Debug)]
pub struct ChainVerdict {
    /// Records that fit.
    pub records: i64,
    /// Hash of the last of them, in hex.
    pub head: String,
    /// The first record that does not fit.
    pub broken: Option<Break>,
    /// Position of the last record that was removed by age; 0 where none was.
    pub pruned_through: i64,
}

/// What the check of an exported file found.
#[derive(Debug)]
pub struct FileVerdict {
    /// Records that fit.
    pub records: i64,
    /// Positions of the first and the last of them.
    pub span: Option<(i64, i64)>,
    /// Hash of the last of them, in hex.
    pub head: Option<String>,
    /// The first line that does not fit, from 1, and what is wrong with it.
    pub broken: Option<(u64, Break)>,
    /// Places where records lie between two lines that are not in the file, as in an export with a filter.
    pub gaps: i64,
    /// The first position that is not in the file.
    pub first_gap: Option<i64>,
}

/// Walks the audit trail. Somebody else can look at how far it is.
pub async fn verify_audit(db: &Db, progress: &Progress) -> Result<ChainVerdict, Failure> {
    Ok(told(super::app(db).walk_audit(progress).await?))
}

/// Walks the newest records of the audit trail, `most` of them, on a database that may be open for reading alone.
pub async fn verify_audit_tail(db: &Db, most: i64) -> Result<ChainVerdict, Failure> {
    Ok(told(crate::app::walk_audit_tail(db, most).await?))
}

fn told(verdict: Verdict) -> ChainVerdict {
    ChainVerdict {
        records: verdict.records,
        head: hex::encode(verdict.head.hash),
        broken: verdict.broken,
        pruned_through: verdict.anchor.seq,
    }
}

/// Begins an export of the records between two moments, oldest first.
pub async fn export_audit(db: &Db, from: Option<DateTime<Utc>>, to: Option<DateTime<Utc>>) -> Result<Export, Failure> {
    let filter = AuditFilter { start_date: from, end_date: to, ..AuditFilter::default() };
    Ok(super::app(db).begin_export(&super::ctx(), filter).await?)
}

/// Checks an exported file by itself: that each record is what was hashed, and follows the one before it. Blocks.
pub fn verify_export(mut file: impl BufRead) -> io::Result<FileVerdict> {
    let mut walk = FileWalk::default();
    let mut line = Vec::new();
    let mut broken = None;
    for number in 1.. {
        line.clear();
        let read = file.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
        if read == 0 {
            break;
        }
        if let Err(found) = walk.take(&line) {
            broken = Some((number, found));
            break;
        }
    }
    Ok(FileVerdict {
        records: walk.records,
        span: walk.first.zip(walk.last.map(|last| last.seq)),
        head: walk.last.map(|last| hex::encode(last.hash)),
        broken,
        gaps: walk.gaps,
        first_gap: walk.first_gap,
    })
}
