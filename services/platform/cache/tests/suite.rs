//! One suite of expectations, run against both stores.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test fails by panicking")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aegis_cache::{Cache, CacheError, MAX_KEY, MAX_VALUE};
use futures::future::join_all;
use tokio::net::{TcpListener, TcpStream};

const LONG: Duration = Duration::from_secs(60);

/// Keys of one run, so that a Redis that is kept between runs does not disturb.
struct Keys(String);

impl Keys {
    fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Self(format!("test-{}-{}", std::process::id(), now.as_nanos()))
    }

    fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.0)
    }
}

async fn suite(cache: Cache) {
    let keys = Keys::new();
    cache.ping().await.unwrap();
    values(&cache, &keys).await;
    expiry(&cache, &keys).await;
    counters(&cache, &keys).await;
    races(&cache, &keys).await;
    bounds(&cache, &keys).await;
}

async fn values(cache: &Cache, keys: &Keys) {
    let key = &keys.key("value");
    assert_eq!(cache.get(key).await.unwrap(), None);
    assert_eq!(cache.take(key).await.unwrap(), None);
    cache.delete(key).await.unwrap();

    let bytes = [0u8, 255, 13, 10, 0];
    cache.set(key, &bytes, LONG).await.unwrap();
    assert_eq!(cache.get(key).await.unwrap().as_deref(), Some(&bytes[..]));
    cache.set(key, b"", LONG).await.unwrap();
    assert_eq!(cache.get(key).await.unwrap().as_deref(), Some(&b""[..]));

    assert!(!cache.set_if_absent(key, b"other", LONG).await.unwrap());
    assert_eq!(cache.take(key).await.unwrap().as_deref(), Some(&b""[..]));
    assert_eq!(cache.get(key).await.unwrap(), None);
    assert!(cache.set_if_absent(key, b"other", LONG).await.unwrap());
    cache.delete(key).await.unwrap();
    assert_eq!(cache.get(key).await.unwrap(), None);
}

async fn gone(cache: &Cache, key: &str) {
    for _ in 0..500 {
        if cache.get(key).await.unwrap().is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{key} did not expire");
}

async fn expiry(cache: &Cache, keys: &Keys) {
    let short = Duration::from_millis(30);
    let key = &keys.key("expiry");
    cache.set(key, b"v", short).await.unwrap();
    gone(cache, key).await;
    assert_eq!(cache.take(key).await.unwrap(), None);
    assert!(cache.set_if_absent(key, b"v", short).await.unwrap());
    gone(cache, key).await;
    assert!(cache.set_if_absent(key, b"v", LONG).await.unwrap());

    // A shorter time to live replaces a longer one, and the other way round.
    cache.set(key, b"v", short).await.unwrap();
    gone(cache, key).await;
    cache.set(key, b"v", short).await.unwrap();
    cache.set(key, b"w", LONG).await.unwrap();
    tokio::time::sleep(short * 3).await;
    assert_eq!(cache.get(key).await.unwrap().as_deref(), Some(&b"w"[..]));

    cache.set(key, b"v", Duration::ZERO).await.unwrap();
    gone(cache, key).await;
    cache.set(key, b"v", Duration::MAX).await.unwrap();
    assert!(cache.get(key).await.unwrap().is_some());
}

async fn counters(cache: &Cache, keys: &Keys) {
    let key = &keys.key("window");
    let window = Duration::from_millis(200);
    assert_eq!(cache.incr(key, window).await.unwrap(), 1);
    assert_eq!(cache.incr(key, LONG).await.unwrap(), 2);
    assert_eq!(cache.get(key).await.unwrap().as_deref(), Some(&b"2"[..]));
    // The second call must not have prolonged the window.
    gone(cache, key).await;
    assert_eq!(cache.incr(key, LONG).await.unwrap(), 1);

    cache.set(key, b"41", LONG).await.unwrap();
    assert_eq!(cache.incr(key, LONG).await.unwrap(), 42);
    for value in ["text", "", "9223372036854775807"] {
        cache.set(key, value.as_bytes(), LONG).await.unwrap();
        let error = cache.incr(key, LONG).await.unwrap_err();
        assert!(matches!(error, CacheError::NotACounter | CacheError::Refused(_)), "{value}: {error:?}");
        let kept = cache.get(key).await.unwrap().unwrap();
        assert_eq!(kept, value.as_bytes());
    }
}

async fn races(cache: &Cache, keys: &Keys) {
    let spawn = |n: usize, key: String| {
        let cache = cache.clone();
        tokio::spawn(async move {
            let mut counts = Vec::new();
            for _ in 0..n {
                counts.push(cache.incr(&key, LONG).await.unwrap());
            }
            counts
        })
    };
    let counter = keys.key("raced");
    let tasks = join_all((0..8).map(|_| spawn(250, counter.clone()))).await;
    let mut counts: Vec<u64> = tasks.into_iter().flat_map(Result::unwrap).collect();
    counts.sort_unstable();
    assert_eq!(counts, (1..=2000).collect::<Vec<u64>>());

    for round in 0..50 {
        let key = keys.key(&format!("once-{round}"));
        let tasks = join_all((0..8).map(|i: u8| {
            let (cache, key) = (cache.clone(), key.clone());
            tokio::spawn(async move { cache.set_if_absent(&key, &[i], LONG).await.unwrap() })
        }))
        .await;
        let winners = tasks.into_iter().filter(|won| *won.as_ref().unwrap());
        assert_eq!(winners.count(), 1);

        let tasks = join_all((0..8).map(|_| {
            let (cache, key) = (cache.clone(), key.clone());
            tokio::spawn(async move { cache.take(&key).await.unwrap() })
        }))
        .await;
        let takers = tasks.into_iter().filter(|v| v.as_ref().unwrap().is_some());
        assert_eq!(takers.count(), 1);
    }
}

async fn bounds(cache: &Cache, keys: &Keys) {
    for key in [String::new(), "k".repeat(MAX_KEY + 1)] {
        let error = cache.get(&key).await.unwrap_err();
        assert!(matches!(error, CacheError::Invalid(_)), "{error:?}");
        assert!(cache.incr(&key, LONG).await.is_err());
    }
    let key = &keys.key("big");
    let value = vec![7u8; MAX_VALUE + 1];
    assert!(cache.set(key, &value, LONG).await.is_err());
    assert!(cache.set_if_absent(key, &value, LONG).await.is_err());
    let value = &value[..MAX_VALUE];
    cache.set(key, value, LONG).await.unwrap();
    assert_eq!(cache.take(key).await.unwrap().as_deref(), Some(value));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_keeps_the_contract() {
    suite(Cache::memory()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn redis_keeps_the_contract() {
    let Ok(url) = std::env::var("AEGIS_TEST_REDIS_URL") else {
        eprintln!("skipped: AEGIS_TEST_REDIS_URL is not set");
        return;
    };
    suite(Cache::redis(&url, None).unwrap()).await;
}

/// Passes connections on to Redis until it is dropped.
struct Proxy {
    port: u16,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    async fn start(port: u16, redis: String) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (mut from, _) = listener.accept().await.unwrap();
                let redis = redis.clone();
                connections.spawn(async move {
                    let mut to = TcpStream::connect(redis).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
                });
            }
        });
        Self { port, task }
    }

    async fn stop(self) -> u16 {
        self.task.abort();
        let _ = self.task.await;
        self.port
    }
}

#[tokio::test]
async fn a_restart_of_redis_is_survived() {
    let Ok(url) = std::env::var("AEGIS_TEST_REDIS_URL") else {
        eprintln!("skipped: AEGIS_TEST_REDIS_URL is not set");
        return;
    };
    let Some(address) = url.strip_prefix("redis://").map(|a| a.trim_end_matches('/')) else {
        eprintln!("skipped: AEGIS_TEST_REDIS_URL is not plain redis://");
        return;
    };
    if address.contains(['@', '/']) {
        eprintln!("skipped: AEGIS_TEST_REDIS_URL is not host:port alone");
        return;
    }
    let (keys, address) = (Keys::new(), address.to_owned());
    let key = &keys.key("kept");
    let proxy = Proxy::start(0, address.clone()).await;
    let cache = Cache::redis(&format!("redis://127.0.0.1:{}", proxy.port), None).unwrap();
    cache.set(key, b"v", LONG).await.unwrap();

    // Down and up again between two calls: the caller sees nothing of it.
    let port = proxy.stop().await;
    let proxy = Proxy::start(port, address.clone()).await;
    assert_eq!(cache.get(key).await.unwrap().as_deref(), Some(&b"v"[..]));

    // Down: an error, each time.
    let port = proxy.stop().await;
    for _ in 0..3 {
        let error = cache.get(key).await.unwrap_err();
        assert!(matches!(error, CacheError::Unavailable(_)), "{error:?}");
        assert!(cache.incr(key, LONG).await.is_err());
    }

    // Up again: it recovers without help.
    let _proxy = Proxy::start(port, address).await;
    for _ in 0..500 {
        if cache.ping().await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(cache.get(key).await.unwrap().as_deref(), Some(&b"v"[..]));
}

#[tokio::test]
async fn memory_is_bounded_and_takes_new_entries_when_full() {
    let cache = Cache::memory();
    let value = vec![1u8; MAX_VALUE];
    for i in 0..200 {
        let key = format!("bulk-{i}");
        cache.set(&key, &value, LONG).await.unwrap();
        assert!(cache.get(&key).await.unwrap().is_some(), "{key}");
    }
    let mut kept = 0;
    for i in 0..200 {
        kept += u32::from(cache.get(&format!("bulk-{i}")).await.unwrap().is_some());
    }
    // 64 MiB, and what the store has not yet got round to evicting.
    assert!(kept < 150, "{kept} MiB kept");
}

#[tokio::test]
async fn a_bad_or_dead_address_is_an_error() {
    for url in ["", "http://localhost", "redis://", "rediss://:x:y/z"] {
        let error = Cache::redis(url, None).unwrap_err();
        assert!(matches!(error, CacheError::Invalid(_)), "{url}: {error:?}");
    }
    // A port that was free a moment ago.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let cache = Cache::redis(&format!("redis://:secret@127.0.0.1:{port}"), None).unwrap();
    let error = cache.ping().await.unwrap_err();
    assert!(matches!(error, CacheError::Unavailable(_)), "{error:?}");
    assert!(!format!("{error:?}").contains("secret"));
}

#[tokio::test]
async fn a_silent_server_is_given_up_on() {
    // Accepts and never answers.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let cache = Cache::redis(&format!("redis://127.0.0.1:{port}"), None).unwrap();
    let error = cache.get("key").await.unwrap_err();
    assert!(matches!(error, CacheError::Unavailable(_)), "{error:?}");
    drop(listener);
}
