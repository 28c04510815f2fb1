//! Files of any size under keys: an S3 store for many processes, a folder for one.

mod folder;
mod key;
mod read;
mod s3;
mod write;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt};
use object_store::aws::AmazonS3;
use object_store::path::Path;
use object_store::signer::{Method, Signer};
use object_store::{ObjectStore, ObjectStoreExt};
use url::Url;

pub use key::{MAX_KEY, content_disposition};
pub use s3::S3Options;
pub use write::{BlobMeta, BlobWriter};

/// A boxed source of an error.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// How long a reachability check may take.
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// S3 signs no link for longer.
const MAX_PRESIGN: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Why a blob operation failed.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// There is no blob under the key.
    #[error("no such blob")]
    NotFound,
    /// The disk or quota is used up.
    #[error("the blob store is full")]
    Full,
    /// The store cannot be reached, or refuses.
    #[error("the blob store is not available")]
    Unavailable(#[source] Source),
    /// The address, key or range is not acceptable.
    #[error("invalid {0}")]
    Invalid(&'static str),
}

/// A blob store; clones share it.
#[derive(Clone, Debug)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    prefix: String,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Folder(PathBuf),
    S3(Arc<AmazonS3>),
}

impl Blobs {
    /// The store in a folder, made if it is missing; for start-up, as it looks at the disk.
    ///
    /// A finished write is on the disk, file and name, before it is answered.
    pub fn folder(path: impl AsRef<std::path::Path>) -> Result<Self, BlobError> {
        let (store, root) = folder::open(path.as_ref())?;
        Ok(Self { store: Arc::new(store), prefix: String::new(), kind: Kind::Folder(root) })
    }

    /// The store in a bucket, at `s3://bucket` or `s3://bucket/prefix`.
    pub fn s3(url: &str, options: &S3Options) -> Result<Self, BlobError> {
        let (store, prefix) = s3::open(url, options)?;
        let store = Arc::new(store);
        Ok(Self { store: Arc::clone(&store) as Arc<dyn ObjectStore>, prefix, kind: Kind::S3(store) })
    }

    /// Starts to write a blob; nothing is under the key before [`BlobWriter::finish`] has answered.
    pub async fn writer(&self, key: &str, meta: &BlobMeta) -> Result<BlobWriter, BlobError> {
        let path = self.path(key)?;
        let folder = matches!(self.kind, Kind::Folder(_));
        Ok(BlobWriter::new(Arc::clone(&self.store), path, meta, folder))
    }

    /// The size of the whole blob, and its bytes or those of a part of it.
    ///
    /// A range that ends behind the end is cut; one that starts there is invalid.
    pub async fn read(
        &self,
        key: &str,
        range: Option<std::ops::Range<u64>>,
    ) -> Result<(u64, BoxStream<'static, Result<bytes::Bytes, BlobError>>), BlobError> {
        let path = self.path(key)?;
        read::read(self.store.as_ref(), &path, range).await
    }

    /// Removes a blob; a missing one is no error.
    pub async fn delete(&self, key: &str) -> Result<(), BlobError> {
        match self.store.delete(&self.path(key)?).await.map_err(read::failed) {
            Err(BlobError::NotFound) => Ok(()),
            other => other,
        }
    }

    /// The size of a blob, if it exists.
    pub async fn size(&self, key: &str) -> Result<Option<u64>, BlobError> {
        match self.store.head(&self.path(key)?).await.map_err(read::failed) {
            Ok(meta) => Ok(Some(meta.size)),
            Err(BlobError::NotFound) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The keys and sizes below a prefix (a whole number of key segments; empty for all), in no
    /// particular order.
    pub fn list(&self, prefix: &str) -> BoxStream<'static, Result<(String, u64), BlobError>> {
        let prefix = prefix.trim_end_matches('/');
        let start = match prefix {
            "" if self.prefix.is_empty() => None,
            "" => match Path::parse(&self.prefix) {
                Ok(path) => Some(path),
                Err(_) => return fail(BlobError::Invalid("blob prefix")),
            },
            _ => match self.path(prefix) {
                Ok(path) => Some(path),
                Err(e) => return fail(e),
            },
        };
        let own = match self.prefix.as_str() {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        self.store
            .list(start.as_ref())
            .filter_map(move |entry| {
                let entry = match entry {
                    Ok(meta) => {
                        let key = meta.location.as_ref().strip_prefix(&own);
                        // Somebody else's file in the folder is no blob.
                        key.filter(|key| key::check(key).is_ok()).map(|key| Ok((key.to_owned(), meta.size)))
                    }
                    Err(e) => Some(Err(read::failed(e))),
                };
                std::future::ready(entry)
            })
            .boxed()
    }

    /// A link that reads the blob for `ttl` without any credentials; `None` where the store serves
    /// no HTTP.
    pub async fn presign(&self, key: &str, ttl: Duration) -> Result<Option<Url>, BlobError> {
        let path = self.path(key)?;
        let Kind::S3(store) = &self.kind else {
            return Ok(None);
        };
        let ttl = ttl.clamp(Duration::from_secs(1), MAX_PRESIGN);
        let url = store.signed_url(Method::GET, &path, ttl).await;
        url.map(Some).map_err(read::failed)
    }

    /// Whether the store can be reached and this process may use it.
    pub async fn ping(&self) -> Result<(), BlobError> {
        let check = async {
            match &self.kind {
                Kind::Folder(root) => folder::ping(root).await,
                Kind::S3(store) => s3::ping(store).await,
            }
        };
        tokio::time::timeout(PING_TIMEOUT, check)
            .await
            .unwrap_or_else(|late| Err(BlobError::Unavailable(Box::new(late))))
    }

    /// Removes what writes that were cut off (a crash) left in the folder, where nothing has
    /// touched it for `older_than`; how many. A bucket does this with a lifecycle rule.
    pub async fn sweep(&self, older_than: Duration) -> Result<u64, BlobError> {
        match &self.kind {
            Kind::Folder(root) => folder::sweep(root.clone(), older_than).await,
            Kind::S3(_) => Ok(0),
        }
    }

    fn path(&self, key: &str) -> Result<Path, BlobError> {
        key::check(key)?;
        let full = match self.prefix.as_str() {
            "" => key.to_owned(),
            prefix => format!("{prefix}/{key}"),
        };
        Path::parse(full).map_err(|_| BlobError::Invalid("blob key"))
    }
}

fn fail<T: Send + 'static>(error: BlobError) -> BoxStream<'static, Result<T, BlobError>> {
    futures::stream::once(std::future::ready(Err(error))).boxed()
}
