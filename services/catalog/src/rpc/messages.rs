//! Between messages and what the use cases work with.

use std::collections::HashMap;

use aegis_error::Failure;
use aegis_proto::catalog::v1 as pb;
use chrono::{DateTime, Utc};

use crate::{
    app::import::{Header, Outcome, TechniqueChange},
    cache::Found,
    domain::{
        import::{Counts, TacticRecord, TechniqueRecord},
        knowledge::{Incoming, Link, Record, kind, relation},
        technique::{Domain, Tactic, Technique, platform_names},
        template::{Template, TemplateRecord},
    },
    events::{id, time},
    store::facts::TestFact,
};

pub(super) fn timestamp(at: DateTime<Utc>) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.timestamp(), nanos: i32::try_from(at.timestamp_subsec_nanos()).unwrap_or(0) }
}

pub(super) fn technique(t: Technique) -> pb::Technique {
    pb::Technique {
        id: t.id.to_string(),
        status_global: t.status().as_str().to_owned(),
        tactic: t.tactics.first().cloned().unwrap_or_default(),
        mitre_id: t.mitre_id,
        name: t.name,
        description: t.description,
        tactics: t.tactics,
        platforms: t.platforms,
        is_subtechnique: t.is_subtechnique,
        parent_mitre_id: t.parent_mitre_id,
        domain: t.domain.as_str().to_owned(),
        attack_version: t.attack_version,
        url: t.url,
        status_overridden: t.status_override.is_some(),
        review_required: t.review_required,
        last_reviewed_at: t.last_reviewed_at.map(timestamp),
        revoked: t.revoked,
        revoked_by: t.revoked_by,
        deprecated: t.deprecated,
        created_at: Some(timestamp(t.created_at)),
        updated_at: Some(timestamp(t.updated_at)),
        version: t.version,
        source: t.source.as_str().to_owned(),
        replaces: Vec::new(),
        successor: None,
        attack_release: String::new(),
    }
}

/// A technique for a projection, with the release that its matrix is of.
pub(super) fn exported(t: Technique, releases: &HashMap<Domain, String>) -> pb::Technique {
    pb::Technique { attack_release: releases.get(&t.domain).cloned().unwrap_or_default(), ..technique(t) }
}

/// A technique that was asked for by itself.
pub(super) fn found(found: &Found) -> pb::Technique {
    pb::Technique {
        replaces: found.succession.replaces.clone(),
        successor: found.succession.successor.clone(),
        ..technique(found.technique.clone())
    }
}

pub(super) fn tactic(t: Tactic) -> pb::Tactic {
    pb::Tactic {
        id: t.id.to_string(),
        mitre_id: t.mitre_id,
        short_name: t.short_name,
        name: t.name,
        domain: t.domain.as_str().to_owned(),
        position: i32::try_from(t.position).unwrap_or(i32::MAX),
    }
}

pub(super) fn template(t: Template) -> pb::Template {
    pb::Template {
        platform: t.platform().map(str::to_owned),
        id: t.id.to_string(),
        name: t.name,
        description: t.description,
        source: t.source,
        source_id: t.source_id,
        mitre_technique_id: t.mitre_technique_id,
        severity: t.severity,
        attack_procedure: t.attack_procedure,
        tool_suggested: t.tool_suggested,
        suggested_remediation: t.suggested_remediation,
        expected_detection: t.expected_detection,
        cleanup_procedure: t.cleanup_procedure,
        is_active: t.is_active,
        created_at: Some(timestamp(t.created_at)),
        updated_at: Some(timestamp(t.updated_at)),
        version: t.version,
        platforms: t.platforms,
        details_json: t.details,
        vanished: t.vanished,
    }
}

pub(super) fn header(header: pb::ImportHeader) -> Header {
    Header {
        source: header.source,
        domain: header.domain,
        upstream_version: header.upstream_version,
        dry_run: header.dry_run,
        origin: header.origin,
        partial: header.partial,
        force: header.force,
    }
}

fn some(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

pub(super) fn template_record(r: pb::TemplateRecord) -> TemplateRecord {
    TemplateRecord {
        source_id: r.source_id,
        name: r.name,
        description: some(r.description),
        mitre_technique_id: r.mitre_technique_id,
        platforms: platform_names(&r.platforms),
        severity: r.severity,
        attack_procedure: some(r.attack_procedure),
        tool_suggested: some(r.tool_suggested),
        suggested_remediation: some(r.suggested_remediation),
        expected_detection: some(r.expected_detection),
        cleanup_procedure: some(r.cleanup_procedure),
        details: r.details_json,
        content_hash: r.content_hash,
    }
}

pub(super) fn knowledge_record(r: pb::KnowledgeRecord) -> Incoming {
    let record = Record {
        kind: kind(&r.kind),
        key: r.key,
        source_id: r.source_id,
        name: r.name,
        description: some(r.description),
        aliases: r.aliases,
        platforms: platform_names(&r.platforms),
        url: some(r.url),
        revoked: r.revoked,
        deprecated: r.deprecated,
        revoked_by: some(r.revoked_by),
        severity: some(r.severity),
        status: some(r.status),
        country: some(r.country),
        motivation: some(r.motivation),
        collection: some(r.collection),
        content: some(r.content),
        ..Record::default()
    };
    Incoming { record, attributes_json: r.attributes_json, content_hash: r.content_hash }
}

pub(super) fn link_record(r: pb::LinkRecord) -> Link {
    Link {
        from_kind: kind(&r.from_kind),
        from_key: r.from_key,
        relation: relation(&r.relation),
        to_kind: kind(&r.to_kind),
        to_key: r.to_key,
        description: some(r.description),
        references: r.references_json,
    }
}

pub(super) fn outcome(outcome: Outcome) -> pb::ImportKnowledgeResponse {
    let change = |change: TechniqueChange| pb::TechniqueChange {
        mitre_id: change.mitre_id,
        name: change.name,
        change: change.change.as_str().to_owned(),
        revoked_by: change.revoked_by,
        technique_id: change.id.to_string(),
        tests: change.tests,
        templates: change.templates,
    };
    pb::ImportKnowledgeResponse {
        techniques: Some(counts(&outcome.techniques)),
        tactics: Some(counts(&outcome.tactics)),
        kinds: outcome.kinds.iter().map(|(kind, of)| ((*kind).to_owned(), counts(of))).collect(),
        changes: outcome.changes.into_iter().map(change).collect(),
        links_unknown: outcome.links_unknown,
    }
}

pub(super) fn technique_record(r: pb::TechniqueRecord) -> TechniqueRecord {
    TechniqueRecord {
        stix_id: r.stix_id,
        mitre_id: r.mitre_id,
        name: r.name,
        description: some(r.description),
        tactics: r.tactics,
        platforms: platform_names(&r.platforms),
        is_subtechnique: r.is_subtechnique,
        parent_mitre_id: some(r.parent_mitre_id),
        attack_version: some(r.attack_version),
        url: some(r.url),
        revoked: r.revoked,
        deprecated: r.deprecated,
        revoked_by: some(r.revoked_by),
        content_hash: r.content_hash,
    }
}

pub(super) fn tactic_record(r: pb::TacticRecord) -> TacticRecord {
    TacticRecord {
        stix_id: r.stix_id,
        mitre_id: r.mitre_id,
        short_name: r.short_name,
        name: r.name,
        position: i64::from(r.position),
        deprecated: r.deprecated,
    }
}

fn counts(c: &Counts) -> pb::ImportCounts {
    pb::ImportCounts {
        created: c.created,
        updated: c.updated,
        unchanged: c.unchanged,
        revoked: c.revoked,
        deprecated: c.deprecated,
        vanished: c.vanished,
        removed: c.removed,
    }
}

pub(super) fn test_fact(fact: pb::TestFact) -> Result<TestFact, Failure> {
    let test_id = id("test_id", &fact.test_id)?;
    Ok(TestFact {
        test_id,
        version: fact.version,
        technique_id: id("technique_id", &fact.technique_id)?,
        state: fact.state,
        detection_result: fact.detection_result,
        chain_id: if fact.chain_id.is_empty() { test_id } else { id("chain_id", &fact.chain_id)? },
        validated_at: fact.validated_at.and_then(time),
        deleted: false,
    })
}
