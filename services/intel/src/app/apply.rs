//! Hands a document that was read whole to the catalog, as one import.

use std::{sync::Arc, time::Duration};

use aegis_auth::Background;
use aegis_error::Failure;
use aegis_proto::catalog::v1::{
    ImportCounts, ImportHeader, ImportKnowledgeRequest, TacticBatch, TacticRecord, TechniqueBatch, TechniqueRecord,
    catalog_service_client::CatalogServiceClient, import_knowledge_request::Part,
};
use aegis_rpc::RpcService;
use futures::stream;
use prost::Message;

use super::progress::Progress;
use crate::domain::{
    counts::{Counts, Tally},
    source::MITRE_ATTACK,
    stix::{self, AttackDocument},
};

/// Records of one message.
const BATCH_RECORDS: usize = 200;
/// Bytes of one message, unless a single record has more.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// How long the catalog may take.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Applies the document. The catalog changes all of it or nothing.
pub(super) async fn apply(
    catalog: &CatalogServiceClient<RpcService>,
    background: &Background,
    document: AttackDocument,
    progress: &Arc<Progress>,
) -> Result<Counts, Failure> {
    let skipped = i64::try_from(document.skipped_total).unwrap_or(i64::MAX);
    let ctx = background.ctx().await?;
    let mut request = ctx.outgoing(stream::iter(messages(document, Arc::clone(progress))));
    request.set_timeout(TIMEOUT);
    let answer = catalog.clone().import_knowledge(request).await.map_err(Failure::from)?.into_inner();
    Ok(Counts::new(tally(answer.techniques.unwrap_or_default()), tally(answer.tactics.unwrap_or_default()), skipped))
}

/// The messages of one import, each made when it is sent.
fn messages(document: AttackDocument, progress: Arc<Progress>) -> impl Iterator<Item = ImportKnowledgeRequest> + Send {
    let header = Part::Header(ImportHeader {
        source: MITRE_ATTACK.to_owned(),
        domain: document.domain.as_str().to_owned(),
        upstream_version: document.upstream_version.unwrap_or_default(),
        dry_run: false,
    });
    let total = document.techniques.len();
    let mut sent = 0;
    let tactics =
        batches(document.tactics.into_iter().map(tactic)).map(|tactics| Part::Tactics(TacticBatch { tactics }));
    let techniques = batches(document.techniques.into_iter().map(technique)).map(move |techniques| {
        sent += techniques.len();
        progress.applying(sent, total);
        Part::Techniques(TechniqueBatch { techniques })
    });
    std::iter::once(header)
        .chain(tactics)
        .chain(techniques)
        .chain(std::iter::once(Part::Commit(true)))
        .map(|part| ImportKnowledgeRequest { part: Some(part) })
}

/// Records in batches that fit into a message.
fn batches<M: Message>(records: impl Iterator<Item = M>) -> impl Iterator<Item = Vec<M>> {
    let mut records = records.peekable();
    std::iter::from_fn(move || {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(record) = records.next_if(|next| {
            bytes += next.encoded_len();
            batch.is_empty() || (batch.len() < BATCH_RECORDS && bytes <= BATCH_BYTES)
        }) {
            batch.push(record);
        }
        (!batch.is_empty()).then_some(batch)
    })
}

fn technique(record: stix::TechniqueRecord) -> TechniqueRecord {
    TechniqueRecord {
        stix_id: record.stix_id,
        mitre_id: record.mitre_id,
        name: record.name,
        description: record.description,
        tactics: record.tactics,
        platforms: record.platforms,
        is_subtechnique: record.is_subtechnique,
        parent_mitre_id: record.parent_mitre_id,
        attack_version: record.attack_version,
        url: record.url,
        revoked: record.revoked,
        deprecated: record.deprecated,
        revoked_by: record.revoked_by,
        content_hash: record.content_hash.to_vec(),
    }
}

fn tactic(record: stix::TacticRecord) -> TacticRecord {
    TacticRecord {
        stix_id: record.stix_id,
        mitre_id: record.mitre_id,
        short_name: record.short_name,
        name: record.name,
        position: record.position,
        deprecated: record.deprecated,
    }
}

fn tally(counts: ImportCounts) -> Tally {
    Tally {
        new: counts.created,
        updated: counts.updated,
        unchanged: counts.unchanged,
        revoked: counts.revoked,
        deprecated: counts.deprecated,
        vanished: counts.vanished,
        removed: counts.removed,
        total: counts.created + counts.updated + counts.unchanged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(bytes: usize) -> TacticRecord {
        TacticRecord { name: "x".repeat(bytes), ..TacticRecord::default() }
    }

    fn sizes(records: Vec<TacticRecord>) -> Vec<usize> {
        batches(records.into_iter()).map(|batch| batch.len()).collect()
    }

    #[test]
    fn batches_are_bounded_in_records_and_bytes() {
        assert_eq!(sizes(Vec::new()), Vec::<usize>::new());
        assert_eq!(sizes(vec![record(1); 401]), [200, 200, 1]);
        let megabyte = 1024 * 1024;
        assert_eq!(sizes(vec![record(megabyte); 7]), [3, 3, 1]);
        assert_eq!(sizes(vec![record(1), record(5 * megabyte), record(1)]), [1, 1, 1]);
    }
}
