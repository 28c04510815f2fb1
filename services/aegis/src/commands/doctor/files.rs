//! The store of evidence and artifacts: something is put, read and removed.

use std::time::Instant;

use aegis_blob::{BlobError, BlobMeta};
use bytes::Bytes;
use futures::TryStreamExt;
use uuid::Uuid;

use super::{
    Findings,
    report::{Finding, Level, sentence, span},
};
use crate::{settings::Settings, stores};

/// What is put.
const TEXT: &[u8] = b"aegis doctor was here; this can be removed";

/// What it is called.
pub(super) fn place(settings: &Settings) -> String {
    match &settings.blob_url {
        Some(_) => "bucket".to_owned(),
        None => "folder".to_owned(),
    }
}

/// Looks at it.
pub(super) async fn check(settings: &Settings) -> Findings {
    let advice = match settings.blob_url {
        Some(_) => "check AEGIS_BLOB_URL and the AEGIS_S3_ settings, and that the key may put, get, list and delete",
        None => "the folder blobs in the data folder has to be writable",
    };
    if settings.blob_url.is_none() && !settings.data_dir.join("blobs").is_dir() {
        return vec![Finding::new(Level::Note, "there is no folder of files yet: the first start makes it")];
    }
    let began = Instant::now();
    let finding = match probe(settings).await {
        Ok(()) => Finding::ok(format!("a file was put, read and removed in {}", span(began.elapsed().as_secs_f64()))),
        Err(error) => {
            let away = settings.blob_url.is_some()
                && error.chain().any(|cause| matches!(cause.downcast_ref(), Some(BlobError::Unavailable(_))));
            let level = if away { Level::Unreachable } else { Level::Problem };
            Finding::new(level, sentence(error.as_ref())).advice(advice)
        }
    };
    vec![finding]
}

async fn probe(settings: &Settings) -> anyhow::Result<()> {
    let blobs = stores::blobs(settings)?;
    let key = format!("doctor/{}", Uuid::now_v7());
    let mut writer = blobs.writer(&key, &BlobMeta::default()).await?;
    writer.write(Bytes::from_static(TEXT)).await?;
    writer.finish().await?;
    let read = async {
        let (_, mut bytes) = blobs.read(&key, None).await?;
        let mut all = Vec::new();
        while let Some(part) = bytes.try_next().await? {
            all.extend_from_slice(&part);
        }
        Ok::<_, BlobError>(all)
    };
    let read = read.await;
    blobs.delete(&key).await?;
    anyhow::ensure!(read? == TEXT, "what was put is not what is read");
    Ok(())
}
