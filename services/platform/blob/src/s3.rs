//! The bucket that holds blobs.

use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::{Certificate, ClientOptions, RetryConfig};
use secrecy::{ExposeSecret, SecretString};

use crate::{BlobError, key};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest silence in an answer; there is no limit on a whole transfer.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
const RETRY_TIMEOUT: Duration = Duration::from_secs(15);
const MAX_RETRIES: usize = 3;
const DEFAULT_REGION: &str = "us-east-1";

/// How to reach an S3 store.
#[derive(Clone, Debug, Default)]
pub struct S3Options {
    /// The address of the store, with path-style buckets; Amazon's own when missing.
    pub endpoint: Option<String>,
    /// The region, `us-east-1` when missing.
    pub region: Option<String>,
    /// The access key; without one the usual `AWS_…` variables and instance roles count.
    pub access_key_id: Option<SecretString>,
    /// Its secret.
    pub secret_access_key: Option<SecretString>,
    /// Allows an endpoint without TLS; one that is given as `http://` implies it.
    pub allow_http: bool,
    /// Certificates of a private CA (PEM) that are believed besides those of the system.
    pub roots: Option<Vec<u8>>,
}

pub(crate) fn open(url: &str, options: &S3Options) -> Result<(AmazonS3, String), BlobError> {
    let rest = url.strip_prefix("s3://").ok_or(BlobError::Invalid("blob address: s3://bucket/prefix expected"))?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.trim_end_matches('/');
    let in_bucket = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if !(3..=63).contains(&bucket.len()) || !bucket.chars().all(in_bucket) {
        return Err(BlobError::Invalid("bucket name in the blob address"));
    }
    if !prefix.is_empty() {
        key::check(prefix).map_err(|_| BlobError::Invalid("prefix in the blob address"))?;
    }

    // The client wants a provider when it is built. Another part of the process may have chosen one
    // first; that is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();

    let plain = options.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    let mut builder = match (&options.access_key_id, &options.secret_access_key) {
        (Some(id), Some(secret)) => {
            AmazonS3Builder::new().with_access_key_id(id.expose_secret()).with_secret_access_key(secret.expose_secret())
        }
        (None, None) => AmazonS3Builder::from_env(),
        _ => {
            return Err(BlobError::Invalid("S3 credentials: the access key and its secret go together"));
        }
    };
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(region) = &options.region {
        builder = builder.with_region(region);
    } else if options.access_key_id.is_some() {
        builder = builder.with_region(DEFAULT_REGION);
    }
    let mut client = ClientOptions::new()
        .with_allow_http(options.allow_http || plain)
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_read_timeout(READ_TIMEOUT)
        .with_timeout_disabled();
    if let Some(roots) = &options.roots {
        let roots =
            Certificate::from_pem_bundle(roots).map_err(|_| BlobError::Invalid("certificates of a private CA"))?;
        for root in roots {
            client = client.with_root_certificate(root);
        }
    }
    let store = builder
        .with_client_options(client)
        .with_retry(RetryConfig { max_retries: MAX_RETRIES, retry_timeout: RETRY_TIMEOUT, ..RetryConfig::default() })
        .with_bucket_name(bucket)
        .with_virtual_hosted_style_request(false)
        // One key at a time is deleted; every store knows that request.
        .with_disable_bulk_delete(true)
        .build()
        .map_err(|e| BlobError::Unavailable(Box::new(e)))?;
    Ok((store, prefix.to_owned()))
}

pub(crate) async fn ping(store: &AmazonS3) -> Result<(), BlobError> {
    // Shows a missing bucket and wrong credentials, which a look for one key may not.
    let options = PaginatedListOptions { max_keys: Some(1), ..PaginatedListOptions::default() };
    let page = store.list_paginated(None, options).await;
    page.map(drop).map_err(|e| BlobError::Unavailable(Box::new(e)))
}
