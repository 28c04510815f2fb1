//! Hands what was read of a document to the catalog, as one import.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aegis_auth::Background;
use aegis_error::Failure;
use aegis_proto::catalog::v1::{
    ImportCounts, ImportHeader, ImportKnowledgeRequest, ImportKnowledgeResponse, KnowledgeBatch, KnowledgeRecord,
    LinkBatch, LinkRecord, TacticBatch, TacticRecord, TechniqueBatch, TechniqueRecord, TemplateBatch, TemplateRecord,
    catalog_service_client::CatalogServiceClient, import_knowledge_request::Part,
};
use aegis_rpc::RpcService;
use futures::stream;
use prost::Message;
use serde_json::{Map, Value};

use super::progress::Progress;
use crate::{
    domain::{
        counts::{Counts, Tally},
        knowledge::{self, Knowledge, content_hash},
        source::main_kind,
        stix::{self, Domain},
    },
    store::job::Change,
};

/// Records of one message.
const BATCH_RECORDS: usize = 200;
/// Links of one message: they are small, and many.
const BATCH_LINKS: usize = 2000;
/// Bytes of one message, unless a single record has more.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Messages that wait to be sent.
const WAITING: usize = 4;
/// How long the catalog may take.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Records that go to the catalog together.
#[derive(Default)]
pub(super) struct Import {
    /// Whose records they are.
    pub source: String,
    /// The data source that they come from.
    pub origin: String,
    /// The ATT&CK knowledge base.
    pub domain: Option<Domain>,
    /// The publisher's version.
    pub upstream_version: Option<String>,
    /// Only adds and changes.
    pub partial: bool,
    /// Only says what would change.
    pub dry_run: bool,
    /// Even where most of what the source brought before is not in it.
    pub force: bool,
    pub techniques: Vec<stix::TechniqueRecord>,
    pub tactics: Vec<stix::TacticRecord>,
    pub knowledge: Knowledge,
}

/// What the catalog made of them.
pub(super) struct Applied {
    pub counts: Counts,
    pub changes: Vec<Change>,
}

/// Applies them. The catalog changes all of it or nothing.
pub(super) async fn apply(
    catalog: &CatalogServiceClient<RpcService>,
    background: &Background,
    import: Import,
    progress: &Arc<Progress>,
) -> Result<Applied, Failure> {
    let main = (import.domain.is_none()).then(|| main_kind(&import.source));
    let ctx = background.ctx().await?;
    // Each message is hashed and written as JSON in parts: beside the sending of the one before, and not on a thread
    // that serves requests. Where that fails the stream ends early, and nothing is changed.
    let (sender, receiver) = tokio::sync::mpsc::channel(WAITING);
    let messages = messages(import, Arc::clone(progress));
    tokio::task::spawn_blocking(move || {
        for message in messages {
            if sender.blocking_send(message).is_err() {
                break;
            }
        }
    });
    let sent = stream::unfold(receiver, |mut receiver| async { receiver.recv().await.map(|next| (next, receiver)) });
    let mut request = ctx.outgoing(sent);
    request.set_timeout(TIMEOUT);
    let answer = catalog.clone().import_knowledge(request).await.map_err(Failure::from)?.into_inner();
    Ok(applied(answer, main))
}

fn applied(answer: ImportKnowledgeResponse, main: Option<&str>) -> Applied {
    let mut kinds: BTreeMap<String, Tally> =
        answer.kinds.into_iter().map(|(kind, counts)| (kind, tally(counts))).collect();
    let mut counts = match main {
        Some(main) => Counts::of_kind(main, kinds),
        None => {
            kinds.retain(|kind, _| kind != "technique" && kind != "tactic");
            let techniques = tally(answer.techniques.unwrap_or_default());
            let tactics = tally(answer.tactics.unwrap_or_default());
            let mut counts = Counts::of_techniques(techniques, tactics);
            counts.kinds = kinds;
            counts
        }
    };
    counts.links_unknown = answer.links_unknown;
    let changes = answer.changes.into_iter().map(|change| Change {
        mitre_id: change.mitre_id,
        name: change.name,
        change: change.change,
        revoked_by: change.revoked_by,
        technique_id: change.technique_id,
        tests: change.tests,
        templates: change.templates,
    });
    Applied { counts, changes: changes.collect() }
}

/// The messages of one import, each made when it is sent.
fn messages(import: Import, progress: Arc<Progress>) -> impl Iterator<Item = ImportKnowledgeRequest> + Send {
    let Import { source, origin, domain, upstream_version, partial, dry_run, force, techniques, tactics, knowledge } =
        import;
    let header = Part::Header(ImportHeader {
        source,
        domain: domain.map(Domain::as_str).unwrap_or_default().to_owned(),
        upstream_version: upstream_version.unwrap_or_default(),
        dry_run,
        origin,
        partial,
        force,
    });
    let Knowledge { templates, records, links, .. } = knowledge;
    let total = techniques.len() + templates.len() + records.len() + links.len();
    let tactics = batches(tactics.into_iter().map(tactic), BATCH_RECORDS)
        .map(|tactics| (tactics.len(), Part::Tactics(TacticBatch { tactics })));
    let techniques = batches(techniques.into_iter().map(technique), BATCH_RECORDS)
        .map(|techniques| (techniques.len(), Part::Techniques(TechniqueBatch { techniques })));
    let templates = batches(templates.into_iter().map(template), BATCH_RECORDS)
        .map(|templates| (templates.len(), Part::Templates(TemplateBatch { templates })));
    let records = batches(records.into_iter().map(record), BATCH_RECORDS)
        .map(|records| (records.len(), Part::Knowledge(KnowledgeBatch { records })));
    let links =
        batches(links.into_iter().map(link), BATCH_LINKS).map(|links| (links.len(), Part::Links(LinkBatch { links })));
    let mut sent = 0;
    let parts = tactics.chain(techniques).chain(templates).chain(records).chain(links).map(move |(records, part)| {
        sent += records;
        progress.applying(sent, total);
        part
    });
    std::iter::once(header)
        .chain(parts)
        .chain(std::iter::once(Part::Commit(true)))
        .map(|part| ImportKnowledgeRequest { part: Some(part) })
}

/// Records in batches that fit into a message.
fn batches<M: Message>(records: impl Iterator<Item = M>, most: usize) -> impl Iterator<Item = Vec<M>> {
    let mut records = records.peekable();
    std::iter::from_fn(move || {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(record) = records.next_if(|next| {
            bytes += next.encoded_len();
            batch.is_empty() || (batch.len() < most && bytes <= BATCH_BYTES)
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

fn template(template: knowledge::TemplateRecord) -> TemplateRecord {
    let content_hash = content_hash(&template).to_vec();
    TemplateRecord {
        source_id: template.source_id,
        name: template.name,
        description: template.description,
        mitre_technique_id: template.mitre_technique_id,
        platforms: template.platforms,
        severity: template.severity,
        attack_procedure: template.attack_procedure,
        tool_suggested: template.tool_suggested,
        suggested_remediation: template.suggested_remediation,
        expected_detection: template.expected_detection,
        cleanup_procedure: template.cleanup_procedure,
        details_json: object(template.details),
        content_hash,
    }
}

fn record(record: knowledge::KnowledgeRecord) -> KnowledgeRecord {
    let content_hash = content_hash(&record).to_vec();
    KnowledgeRecord {
        kind: record.kind.as_str().to_owned(),
        key: record.key,
        source_id: record.source_id,
        name: record.name,
        description: record.description,
        aliases: record.aliases,
        platforms: record.platforms,
        url: record.url,
        revoked: record.revoked,
        deprecated: record.deprecated,
        revoked_by: record.revoked_by,
        severity: record.severity,
        status: record.status,
        country: record.country,
        motivation: record.motivation,
        collection: record.collection,
        content: record.content,
        attributes_json: object(record.attributes),
        content_hash,
    }
}

fn link(link: knowledge::LinkRecord) -> LinkRecord {
    LinkRecord {
        from_kind: link.from_kind.to_owned(),
        from_key: link.from_key,
        relation: link.relation.to_owned(),
        to_kind: link.to_kind.to_owned(),
        to_key: link.to_key,
        description: link.description,
        references_json: Value::Array(link.references).to_string(),
    }
}

fn object(members: Map<String, Value>) -> String {
    Value::Object(members).to_string()
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
        batches(records.into_iter(), BATCH_RECORDS).map(|batch| batch.len()).collect()
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
