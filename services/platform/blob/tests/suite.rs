//! One suite of expectations, run against a folder and, where there is one, an S3 store.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aegis_blob::{BlobError, BlobMeta, Blobs, S3Options, content_disposition};
use bytes::Bytes;
use futures::TryStreamExt;
use secrecy::SecretString;

fn meta() -> BlobMeta {
    BlobMeta { file_name: "Prüfung 1.txt".into(), content_type: "text/plain; charset=utf-8".into() }
}

/// Bytes that differ everywhere, so that parts in the wrong order show.
fn bytes(len: usize) -> Bytes {
    (0..len).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

async fn put(blobs: &Blobs, key: &str, content: &Bytes, chunk: usize) {
    let mut writer = blobs.writer(key, &meta()).await.unwrap();
    for part in content.chunks(chunk.max(1)) {
        writer.write(content.slice_ref(part)).await.unwrap();
    }
    assert_eq!(blobs.size(key).await.unwrap(), None, "visible too early");
    writer.finish().await.unwrap();
}

async fn get(blobs: &Blobs, key: &str, range: Option<std::ops::Range<u64>>) -> Result<(u64, Vec<u8>), BlobError> {
    let (size, stream) = blobs.read(key, range).await?;
    let chunks: Vec<Bytes> = stream.try_collect().await?;
    Ok((size, chunks.concat()))
}

async fn listed(blobs: &Blobs, prefix: &str) -> BTreeMap<String, u64> {
    blobs.list(prefix).try_collect().await.unwrap()
}

async fn suite(blobs: &Blobs) {
    blobs.ping().await.unwrap();
    round_trips(blobs).await;
    ranges(blobs).await;
    unfinished(blobs).await;
    listing(blobs).await;
    refusals(blobs).await;
}

async fn round_trips(blobs: &Blobs) {
    const MIB: usize = 1024 * 1024;
    // Around the part sizes of both stores, and several parts.
    for (len, chunk) in [
        (0, 1),
        (1, 1),
        (1000, 7),
        (MIB - 1, 65_536),
        (MIB, MIB),
        (MIB + 1, 65_536),
        (5 * MIB, 5 * MIB),
        (23 * MIB + 17, 60_000),
        (23 * MIB + 17, 23 * MIB + 17),
    ] {
        let key = format!("trip/{len}-{chunk}.bin");
        let content = bytes(len);
        put(blobs, &key, &content, chunk).await;
        assert_eq!(blobs.size(&key).await.unwrap(), Some(len as u64));
        let (size, read) = get(blobs, &key, None).await.unwrap();
        assert_eq!(size, len as u64);
        assert!(read == content, "{key}: other bytes");
        blobs.delete(&key).await.unwrap();
        assert_eq!(blobs.size(&key).await.unwrap(), None);
        blobs.delete(&key).await.unwrap();
    }
    // The second write under a key replaces the first.
    for text in ["first", "second"] {
        let mut writer = blobs.writer("trip/again", &meta()).await.unwrap();
        writer.write(Bytes::from(text)).await.unwrap();
        writer.finish().await.unwrap();
    }
    let (_, read) = get(blobs, "trip/again", None).await.unwrap();
    assert_eq!(read, b"second");
    blobs.delete("trip/again").await.unwrap();
}

async fn ranges(blobs: &Blobs) {
    let content = bytes(1_000_000);
    put(blobs, "range/blob", &content, 50_000).await;
    for range in [0..1, 0..1_000_000, 999_999..1_000_000, 300_000..700_001] {
        let (size, read) = get(blobs, "range/blob", Some(range.clone())).await.unwrap();
        assert_eq!(size, 1_000_000);
        assert!(read == content[range.start as usize..range.end as usize], "{range:?}");
    }
    let (_, read) = get(blobs, "range/blob", Some(999_990..2_000_000)).await.unwrap();
    assert_eq!(read, content[999_990..]);
    #[allow(clippy::reversed_empty_ranges, reason = "an empty range is what is refused")]
    for range in [5..5, 7..3, 1_000_000..1_000_001, u64::MAX - 1..u64::MAX] {
        let error = get(blobs, "range/blob", Some(range.clone())).await.unwrap_err();
        assert!(matches!(error, BlobError::Invalid(_)), "{range:?}: {error:?}");
    }
    blobs.delete("range/blob").await.unwrap();
}

async fn unfinished(blobs: &Blobs) {
    for len in [10, 12 * 1024 * 1024] {
        let mut writer = blobs.writer("half/aborted", &meta()).await.unwrap();
        writer.write(bytes(len)).await.unwrap();
        writer.abort().await.unwrap();
        let mut writer = blobs.writer("half/dropped", &meta()).await.unwrap();
        writer.write(bytes(len)).await.unwrap();
        drop(writer);
    }
    assert_eq!(listed(blobs, "half").await, BTreeMap::new());
    assert_eq!(blobs.size("half/aborted").await.unwrap(), None);
}

async fn listing(blobs: &Blobs) {
    assert_eq!(listed(blobs, "list").await, BTreeMap::new());
    for (key, len) in [("list/a/1", 1), ("list/a/2", 2), ("list/ab/3", 3)] {
        put(blobs, key, &bytes(len), 10).await;
    }
    let of =
        |pairs: &[(&str, u64)]| -> BTreeMap<String, u64> { pairs.iter().map(|(k, n)| ((*k).to_owned(), *n)).collect() };
    let all = of(&[("list/a/1", 1), ("list/a/2", 2), ("list/ab/3", 3)]);
    assert_eq!(listed(blobs, "list/").await, all);
    assert_eq!(listed(blobs, "").await, all);
    let below = of(&[("list/a/1", 1), ("list/a/2", 2)]);
    assert_eq!(listed(blobs, "list/a").await, below);
    let walked: Vec<_> = blobs.walk("list").map_ok(|entry| (entry.key, entry.size)).try_collect().await.unwrap();
    assert_eq!(walked, all.clone().into_iter().collect::<Vec<_>>());
    let walked: Vec<_> = blobs.walk("").try_collect().await.unwrap();
    assert_eq!(walked.len(), 3);
    assert!(walked.iter().all(|entry| entry.modified.elapsed().is_ok_and(|age| age < Duration::from_secs(3600))));
    assert_eq!(blobs.walk("nothing/here").try_collect::<Vec<_>>().await.unwrap(), []);
    for key in all.keys() {
        blobs.delete(key).await.unwrap();
    }
}

async fn refusals(blobs: &Blobs) {
    for key in ["", "../x", "a/../../x", "/etc/passwd", "a b", "x#1"] {
        let invalid = |e: BlobError| assert!(matches!(e, BlobError::Invalid(_)), "{key}: {e:?}");
        invalid(blobs.writer(key, &meta()).await.unwrap_err());
        invalid(get(blobs, key, None).await.unwrap_err());
        invalid(blobs.delete(key).await.unwrap_err());
        invalid(blobs.size(key).await.unwrap_err());
        invalid(blobs.presign(key, Duration::from_secs(1)).await.unwrap_err());
    }
    let error = get(blobs, "no/such", None).await.unwrap_err();
    assert!(matches!(error, BlobError::NotFound), "{error:?}");
    let error = get(blobs, "no/such", Some(0..1)).await.unwrap_err();
    assert!(matches!(error, BlobError::NotFound), "{error:?}");
    put(blobs, "blob", &bytes(3), 3).await;
    assert_eq!(blobs.size("blob/below").await.unwrap(), None);
    blobs.delete("blob").await.unwrap();
}

fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.file_name().into_string().unwrap());
        }
    }
    found
}

#[tokio::test]
async fn a_folder_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("made/on demand");
    let blobs = Blobs::folder(&root).unwrap();
    suite(&blobs).await;
    let link = blobs.presign("a", Duration::from_secs(60)).await.unwrap();
    assert!(link.is_none());
    // What was dropped is removed in the background.
    for _ in 0..500 {
        if files(&root).is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("left behind: {:?}", files(&root));
}

#[tokio::test]
async fn what_a_crash_left_is_hidden_and_swept() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::folder(dir.path()).unwrap();
    put(&blobs, "kept/blob", &bytes(5), 5).await;
    std::fs::write(dir.path().join("kept/other#1"), b"half").unwrap();
    std::fs::write(dir.path().join("a stranger's file"), b"x").unwrap();
    assert_eq!(listed(&blobs, "").await.len(), 1);
    assert_eq!(blobs.sweep(Duration::from_secs(3600)).await.unwrap(), 0);
    assert_eq!(blobs.sweep(Duration::ZERO).await.unwrap(), 1);
    assert_eq!(listed(&blobs, "kept").await.len(), 1);
    assert_eq!(files(dir.path()).len(), 2);
}

#[tokio::test]
async fn a_folder_that_cannot_be_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, b"x").unwrap();
    let error = Blobs::folder(file.join("below")).unwrap_err();
    assert!(matches!(error, BlobError::Unavailable(_)), "{error:?}");

    let root = dir.path().join("goes");
    let blobs = Blobs::folder(&root).unwrap();
    let mut writer = blobs.writer("a/b", &meta()).await.unwrap();
    writer.write(bytes(10)).await.unwrap();
    std::fs::remove_dir(&root).unwrap();
    assert!(blobs.ping().await.is_err());
    // Nothing is written in its stead, and what is not there was not removed.
    let unavailable = |e: BlobError| assert!(matches!(e, BlobError::Unavailable(_)), "{e:?}");
    unavailable(writer.finish().await.unwrap_err());
    assert!(!root.exists());
    unavailable(blobs.size("a/b").await.unwrap_err());
    unavailable(get(&blobs, "a/b", None).await.unwrap_err());
    unavailable(blobs.delete("a/b").await.unwrap_err());
    unavailable(blobs.walk("a").try_collect::<Vec<_>>().await.unwrap_err());
}

#[tokio::test]
async fn a_folder_that_is_empty_goes_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::folder(dir.path()).unwrap();
    put(&blobs, "a/b/1", &bytes(1), 1).await;
    put(&blobs, "a/2", &bytes(1), 1).await;
    blobs.delete("a/b/1").await.unwrap();
    assert!(dir.path().join("a/2").exists() && !dir.path().join("a/b").exists());
    // Writers and deletions at the same time find their folders.
    let one = |n: usize| {
        let blobs = blobs.clone();
        async move {
            let key = format!("a/b/{n}");
            for _ in 0..20 {
                put(&blobs, &key, &bytes(10), 10).await;
                blobs.delete(&key).await.unwrap();
            }
        }
    };
    futures::future::join_all((0..8).map(|n| tokio::spawn(one(n)))).await.into_iter().for_each(|done| done.unwrap());
    assert_eq!(files(dir.path()), ["2"]);
}

#[tokio::test]
async fn a_file_that_was_cut_off_is_not_taken_for_a_whole_one() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::folder(dir.path()).unwrap();
    put(&blobs, "a", &bytes(3_000_000), 100_000).await;
    let (size, stream) = blobs.read("a", None).await.unwrap();
    assert_eq!(size, 3_000_000);
    std::fs::File::options().write(true).open(dir.path().join("a")).unwrap().set_len(1_200_000).unwrap();
    assert!(stream.try_collect::<Vec<_>>().await.is_err());
}

#[tokio::test]
async fn a_full_disk_is_told_apart_and_leaves_nothing() {
    // A folder on a file system of a few MiB, of its own.
    let Ok(small) = std::env::var("AEGIS_TEST_FULL_DIR") else {
        eprintln!("skipped: AEGIS_TEST_FULL_DIR is not set");
        return;
    };
    let root = Path::new(&small).join("blobs");
    let blobs = Blobs::folder(&root).unwrap();
    let mut writer = blobs.writer("big/one", &meta()).await.unwrap();
    let error = loop {
        if let Err(e) = writer.write(bytes(700_000)).await {
            break e;
        }
    };
    assert!(matches!(error, BlobError::Full), "{error:?}");
    assert!(writer.write(bytes(1)).await.is_err());
    assert!(writer.finish().await.is_err());
    assert_eq!(files(&root), Vec::<String>::new());
    put(&blobs, "big/small", &bytes(1000), 1000).await;
    blobs.delete("big/small").await.unwrap();
}

#[tokio::test]
async fn bad_addresses_are_refused() {
    let options = S3Options::default();
    for url in ["", "http://x/y", "s3://", "s3://a", "s3://bucket/../x", "s3://bu cket/x"] {
        let error = Blobs::s3(url, &options).unwrap_err();
        assert!(matches!(error, BlobError::Invalid(_)), "{url}: {error:?}");
    }
    let half = S3Options { access_key_id: Some(SecretString::from("id")), ..S3Options::default() };
    assert!(Blobs::s3("s3://bucket", &half).is_err());
}

#[tokio::test]
async fn a_dead_store_is_unavailable_and_secrets_stay_secret() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let options = S3Options {
        endpoint: Some(endpoint),
        access_key_id: Some(SecretString::from("hunter1")),
        secret_access_key: Some(SecretString::from("hunter2")),
        ..S3Options::default()
    };
    assert!(!format!("{options:?}").contains("hunter"));
    let blobs = Blobs::s3("s3://bucket/prefix", &options).unwrap();
    assert!(!format!("{blobs:?}").contains("hunter2"));
    let error = blobs.ping().await.unwrap_err();
    assert!(matches!(error, BlobError::Unavailable(_)), "{error:?}");
    let link = blobs.presign("a/b", Duration::from_secs(60)).await.unwrap();
    let link = link.unwrap();
    assert_eq!(link.path(), "/bucket/prefix/a/b");
    assert!(link.query().unwrap().contains("X-Amz-Expires=60"));
}

#[tokio::test]
async fn a_bucket_keeps_the_contract() {
    let Ok(url) = std::env::var("AEGIS_TEST_S3_URL") else {
        eprintln!("skipped: AEGIS_TEST_S3_URL is not set");
        return;
    };
    let secret = |name: &str| {
        let value = std::env::var(format!("AEGIS_TEST_S3_{name}")).ok();
        value.map(SecretString::from)
    };
    let options = S3Options {
        endpoint: std::env::var("AEGIS_TEST_S3_ENDPOINT").ok(),
        access_key_id: secret("ACCESS_KEY_ID"),
        secret_access_key: secret("SECRET_ACCESS_KEY"),
        ..S3Options::default()
    };
    // A prefix of its own, so that a bucket that is kept between runs does not disturb.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let url = format!("{}/run-{}", url.trim_end_matches('/'), now.as_nanos());
    let blobs = Blobs::s3(&url, &options).unwrap();
    suite(&blobs).await;
    let missing = Blobs::s3("s3://no-such-bucket-here", &options).unwrap();
    assert!(missing.ping().await.is_err());
    let wrong = S3Options { secret_access_key: Some(SecretString::from("wrong")), ..options.clone() };
    assert!(Blobs::s3(&url, &wrong).unwrap().ping().await.is_err());

    // Anybody with the link gets the bytes, and is told what they are; in one part and in several.
    for len in [100, 6 * 1024 * 1024] {
        put(&blobs, "linked", &bytes(len), 65_536).await;
        let link = blobs.presign("linked", Duration::from_secs(60)).await;
        let answer = reqwest::get(link.unwrap().unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], meta().content_type);
        let disposition = content_disposition(&meta().file_name);
        assert_eq!(answer.headers()["content-disposition"], disposition);
        assert!(answer.bytes().await.unwrap() == bytes(len));
        blobs.delete("linked").await.unwrap();
    }
    assert_eq!(blobs.sweep(Duration::ZERO).await.unwrap(), 0);
}
