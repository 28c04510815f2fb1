//! Reading blobs, and what the store's errors mean.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{GetOptions, GetResult, GetResultPayload, ObjectStore, ObjectStoreExt};
use tokio::task::JoinHandle;

use crate::BlobError;

/// What is read of a file at once. (The library's own stream goes to a blocking thread for every 8 KiB.)
const PIECE: u64 = 512 * 1024;

pub(crate) async fn read(
    store: &dyn ObjectStore,
    path: &Path,
    range: Option<Range<u64>>,
) -> Result<(u64, BoxStream<'static, Result<Bytes, BlobError>>), BlobError> {
    if range.as_ref().is_some_and(|range| range.start >= range.end) {
        return Err(BlobError::Invalid("byte range"));
    }
    let options = GetOptions { range: range.clone().map(Into::into), ..GetOptions::default() };
    let result = match store.get_opts(path, options).await {
        Ok(result) => result,
        Err(e) => return Err(refused(store, path, range, failed(e)).await),
    };
    let size = result.meta.size;
    Ok((size, stream(result)))
}

/// Stores say in different ways that a range starts behind the end.
async fn refused(store: &dyn ObjectStore, path: &Path, range: Option<Range<u64>>, error: BlobError) -> BlobError {
    let (Some(range), BlobError::Unavailable(_)) = (range, &error) else {
        return error;
    };
    match store.head(path).await {
        Ok(meta) if range.start >= meta.size => BlobError::Invalid("byte range"),
        _ => error,
    }
}

fn stream(result: GetResult) -> BoxStream<'static, Result<Bytes, BlobError>> {
    match result.payload {
        GetResultPayload::File(file, _) => file_stream(file, result.range),
        GetResultPayload::Stream(stream) => stream.map_err(failed).boxed(),
    }
}

/// Reads a part of a file ahead of its reader: while one piece is on its way, the next one is read.
fn file_stream(file: File, range: Range<u64>) -> BoxStream<'static, Result<Bytes, BlobError>> {
    let first = (range.start < range.end).then(|| read_ahead(file, range));
    stream::try_unfold(first, |reading| async move {
        let Some(reading) = reading else { return Ok(None) };
        let read = reading.await.map_err(|e| BlobError::Unavailable(Box::new(e)))?;
        let (file, bytes, rest) = read.map_err(|e| BlobError::Unavailable(Box::new(e)))?;
        let next = (!rest.is_empty()).then(|| read_ahead(file, rest));
        Ok(Some((bytes, next)))
    })
    .boxed()
}

type Piece = (File, Bytes, Range<u64>);

fn read_ahead(mut file: File, range: Range<u64>) -> JoinHandle<io::Result<Piece>> {
    tokio::task::spawn_blocking(move || {
        let wanted = (range.end - range.start).min(PIECE);
        let mut piece = Vec::with_capacity(usize::try_from(wanted).unwrap_or(0));
        file.seek(SeekFrom::Start(range.start))?;
        file.by_ref().take(wanted).read_to_end(&mut piece)?;
        // Somebody has cut the file off: its reader must not take a part for the whole.
        if piece.len() as u64 != wanted {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok((file, Bytes::from(piece), range.start + wanted..range.end))
    })
}

/// What an error of the store means to a caller.
pub(crate) fn failed(error: object_store::Error) -> BlobError {
    if matches!(error, object_store::Error::NotFound { .. }) {
        return BlobError::NotFound;
    }
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(e) = source {
        if let Some(e) = e.downcast_ref::<io::Error>() {
            match e.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    return BlobError::Full;
                }
                // `a/b` where `a` is a blob: in a bucket there is simply no such key.
                io::ErrorKind::NotADirectory => return BlobError::NotFound,
                _ => {}
            }
        }
        source = e.source();
    }
    BlobError::Unavailable(Box::new(error))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_full_disk_is_told_apart() {
        let Ok(mut full) = std::fs::File::options().write(true).open("/dev/full") else {
            eprintln!("skipped: no /dev/full here");
            return;
        };
        let error = object_store::Error::Generic { store: "test", source: Box::new(full.write_all(b"x").unwrap_err()) };
        assert!(matches!(failed(error), BlobError::Full));
        let error = object_store::Error::Generic { store: "test", source: Box::new(io::Error::other("broken")) };
        assert!(matches!(failed(error), BlobError::Unavailable(_)));
    }
}
