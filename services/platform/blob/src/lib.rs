//! Files of any size under keys: an S3 store for many processes, a folder for one.
//!
//! A writer that is dropped or fails removes what it sent. A process that is killed cannot: in a folder
//! [`Blobs::sweep`] finds its staging files; in a bucket its parts stay, invisible but paid for, until a lifecycle rule
//! of the bucket takes them (`AbortIncompleteMultipartUpload`, after one day, say). Every bucket should have that rule.

mod folder;
mod gather;
mod key;
mod read;
mod s3;
mod write;

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::aws::AmazonS3;
use object_store::path::Path;
use object_store::signer::{Method, Signer};
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::sync::Semaphore;
use url::Url;

pub use key::{MAX_KEY, content_disposition};
pub use s3::S3Options;
pub use write::{BlobMeta, BlobWriter};

/// A boxed source of an error.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// How long a reachability check may take.
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// Files that a walk through a folder looks at before it answers.
const WALK_BATCH: usize = 1000;
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

/// What a listing tells of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its key.
    pub key: String,
    /// Its bytes.
    pub size: u64,
    /// When it was written.
    pub modified: SystemTime,
}

/// A blob store; clones share it.
#[derive(Clone, Debug)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    prefix: String,
    kind: Kind,
    ahead: Arc<Semaphore>,
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
        Ok(Self { store: Arc::new(store), prefix: String::new(), kind: Kind::Folder(root), ahead: ahead() })
    }

    /// The store in a bucket, at `s3://bucket` or `s3://bucket/prefix`.
    pub fn s3(url: &str, options: &S3Options) -> Result<Self, BlobError> {
        let (store, prefix) = s3::open(url, options)?;
        let store = Arc::new(store);
        Ok(Self { store: Arc::clone(&store) as Arc<dyn ObjectStore>, prefix, kind: Kind::S3(store), ahead: ahead() })
    }

    /// Starts to write a blob; nothing is under the key before [`BlobWriter::finish`] has answered.
    pub async fn writer(&self, key: &str, meta: &BlobMeta) -> Result<BlobWriter, BlobError> {
        let path = self.path(key)?;
        Ok(match &self.kind {
            Kind::Folder(root) => BlobWriter::folder(root.clone(), key),
            Kind::S3(_) => BlobWriter::s3(Arc::clone(&self.store), path, meta, Arc::clone(&self.ahead)),
        })
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
        match read::read(self.store.as_ref(), &path, range).await {
            Err(BlobError::NotFound) => Err(self.absent().await),
            other => other,
        }
    }

    /// Removes a blob; a missing one is no error.
    pub async fn delete(&self, key: &str) -> Result<(), BlobError> {
        let path = self.path(key)?;
        let deleted = match &self.kind {
            Kind::Folder(root) => {
                let (root, key) = (root.clone(), key.to_owned());
                let deleted = folder::blocking(move || match folder::delete(&root, &key) {
                    // `a/b` where `a` is a blob: in a bucket there is simply no such key.
                    Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
                    other => other.map(|()| true),
                });
                match deleted.await? {
                    true => Ok(()),
                    false => Err(BlobError::NotFound),
                }
            }
            Kind::S3(_) => self.store.delete(&path).await.map_err(read::failed),
        };
        match deleted {
            Err(BlobError::NotFound) => match self.absent().await {
                BlobError::NotFound => Ok(()),
                error => Err(error),
            },
            other => other,
        }
    }

    /// The size of a blob, if it exists.
    pub async fn size(&self, key: &str) -> Result<Option<u64>, BlobError> {
        match self.store.head(&self.path(key)?).await.map_err(read::failed) {
            Ok(meta) => Ok(Some(meta.size)),
            Err(BlobError::NotFound) => match self.absent().await {
                BlobError::NotFound => Ok(None),
                error => Err(error),
            },
            Err(e) => Err(e),
        }
    }

    /// What it means that nothing is under a key: in a store that is gone itself, nothing.
    async fn absent(&self) -> BlobError {
        self.ping().await.err().unwrap_or(BlobError::NotFound)
    }

    /// All blobs below a prefix (a whole number of key segments; empty for all), in the order of their keys (of those
    /// that are alike but for letters and digits of one length: the segments of a folder are put in order one by one).
    /// Memory is bounded, however many there are.
    pub fn walk(&self, prefix: &str) -> BoxStream<'static, Result<Entry, BlobError>> {
        let prefix = prefix.trim_end_matches('/');
        let Kind::Folder(root) = &self.kind else { return self.entries(prefix) };
        if !prefix.is_empty()
            && let Err(e) = key::check(prefix)
        {
            return fail(e);
        }
        let walk = folder::Walk::new(root.clone(), prefix);
        let batches = futures::stream::try_unfold(Some(walk), |walk| async move {
            let Some(mut walk) = walk else { return Ok(None) };
            let (found, walk) = folder::blocking(move || {
                let found = walk.next(WALK_BATCH)?;
                Ok((found, walk))
            })
            .await?;
            let more = found.len() == WALK_BATCH;
            let found = futures::stream::iter(found.into_iter().map(Ok));
            Ok(Some((found, more.then_some(walk))))
        });
        batches.try_flatten().boxed()
    }

    /// The keys and sizes below a prefix (a whole number of key segments; empty for all), in no
    /// particular order.
    pub fn list(&self, prefix: &str) -> BoxStream<'static, Result<(String, u64), BlobError>> {
        let entries = self.entries(prefix.trim_end_matches('/'));
        entries.map_ok(|entry| (entry.key, entry.size)).boxed()
    }

    fn entries(&self, prefix: &str) -> BoxStream<'static, Result<Entry, BlobError>> {
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
                        key.filter(|key| key::check(key).is_ok()).map(|key| {
                            let modified = meta.last_modified.into();
                            Ok(Entry { key: key.to_owned(), size: meta.size, modified })
                        })
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
            Kind::Folder(root) => {
                let root = root.clone();
                folder::blocking(move || folder::sweep(&root, older_than)).await
            }
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

fn ahead() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(write::PARTS_AHEAD))
}

fn fail<T: Send + 'static>(error: BlobError) -> BoxStream<'static, Result<T, BlobError>> {
    futures::stream::once(std::future::ready(Err(error))).boxed()
}
