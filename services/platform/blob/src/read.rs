//! Reading blobs, and what the store's errors mean.

use std::io::{self, SeekFrom};
use std::ops::Range;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{GetOptions, GetResult, GetResultPayload, ObjectStore, ObjectStoreExt};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use crate::BlobError;

/// The library's own stream of a file goes to a blocking thread for every 8 KiB.
const CHUNK: usize = 256 * 1024;

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
    Ok((size, stream(result).await?))
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

async fn stream(result: GetResult) -> Result<BoxStream<'static, Result<Bytes, BlobError>>, BlobError> {
    match result.payload {
        GetResultPayload::File(file, _) => {
            let mut file = tokio::fs::File::from_std(file);
            let unavailable = |e: io::Error| BlobError::Unavailable(Box::new(e));
            if result.range.start > 0 {
                file.seek(SeekFrom::Start(result.range.start)).await.map_err(unavailable)?;
            }
            let part = file.take(result.range.end - result.range.start);
            Ok(ReaderStream::with_capacity(part, CHUNK).map_err(unavailable).boxed())
        }
        GetResultPayload::Stream(stream) => Ok(stream.map_err(failed).boxed()),
    }
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
