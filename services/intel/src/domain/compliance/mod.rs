//! Frameworks of controls, and which techniques their controls help against: the mappings of the Center for
//! Threat-Informed Defense, and the control texts of NIST.

mod control_id;
mod mapping;
mod oscal;
#[cfg(test)]
mod real_data_tests;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::json;
use super::knowledge::{Kind, Knowledge, KnowledgeRecord, LinkRecord, ReadError, Reader};
pub use control_id::canonical_id;
use mapping::{FileName, Mapping, Rank};
use oscal::Catalog;

/// A set of controls that is mapped to ATT&CK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Framework {
    /// NIST SP 800-53.
    Nist80053,
    /// The CRI Profile of the Cyber Risk Institute.
    Cri,
    /// The Cloud Controls Matrix of the Cloud Security Alliance.
    CsaCcm,
    /// What Amazon Web Services offers.
    Aws,
    /// What Microsoft Azure offers.
    Azure,
    /// What Google Cloud offers.
    Gcp,
    /// What Microsoft 365 offers.
    M365,
    /// Known exploited vulnerabilities: each is a "control" of this framework.
    Kev,
    /// The VERIS vocabulary of incidents.
    Veris,
}

impl Framework {
    /// All of them.
    pub const ALL: [Framework; 9] = [
        Framework::Nist80053,
        Framework::Cri,
        Framework::CsaCcm,
        Framework::Aws,
        Framework::Azure,
        Framework::Gcp,
        Framework::M365,
        Framework::Kev,
        Framework::Veris,
    ];

    /// Its key.
    pub fn as_str(self) -> &'static str {
        match self {
            Framework::Nist80053 => "nist_800_53",
            Framework::Cri => "cri",
            Framework::CsaCcm => "csa_ccm",
            Framework::Aws => "aws",
            Framework::Azure => "azure",
            Framework::Gcp => "gcp",
            Framework::M365 => "m365",
            Framework::Kev => "kev",
            Framework::Veris => "veris",
        }
    }

    /// By its key.
    pub fn parse(key: &str) -> Option<Framework> {
        Framework::ALL.into_iter().find(|framework| framework.as_str() == key)
    }

    /// What people call it.
    pub fn title(self) -> &'static str {
        match self {
            Framework::Nist80053 => "NIST SP 800-53",
            Framework::Cri => "CRI Profile",
            Framework::CsaCcm => "CSA Cloud Controls Matrix",
            Framework::Aws => "Amazon Web Services",
            Framework::Azure => "Microsoft Azure",
            Framework::Gcp => "Google Cloud Platform",
            Framework::M365 => "Microsoft 365",
            Framework::Kev => "Known Exploited Vulnerabilities",
            Framework::Veris => "VERIS",
        }
    }

    /// What the mappings call it.
    fn in_mappings(self) -> &'static str {
        match self {
            Framework::Cri => "cri_profile",
            other => other.as_str(),
        }
    }
}

/// What a link's mappings say, kept of one control and one technique.
const MAX_REFERENCES: usize = 20;

/// Reads one framework from an archive of the mappings, or from single files.
#[derive(Debug)]
pub struct CtidReader {
    framework: Framework,
    mapping: Option<Mapping>,
    catalog: Option<Catalog>,
}

impl CtidReader {
    /// For one framework.
    pub fn new(framework: Framework) -> Self {
        CtidReader { framework, mapping: None, catalog: None }
    }

    fn takes_mapping(&self, name: &FileName<'_>) -> bool {
        name.framework == self.framework.in_mappings() && name.domain == "enterprise"
    }

    fn add_mapping(&mut self, path: &str, value: Value, rank: Option<Rank>) -> Result<(), ReadError> {
        let metadata = value.get("metadata");
        let said = |member: &str| json::text(metadata.and_then(|metadata| metadata.get(member)), 100);
        let (framework, domain) = (said("mapping_framework"), said("technology_domain"));
        if framework.as_deref() != Some(self.framework.in_mappings()) || domain.as_deref() != Some("enterprise") {
            return Err(ReadError(format!(
                "{path} is no mapping of {} to ATT&CK Enterprise, but of {} to {}; check the source's url",
                self.framework.in_mappings(),
                framework.as_deref().unwrap_or("something unknown"),
                domain.as_deref().unwrap_or("something unknown"),
            )));
        }
        let mapping = Mapping::read(self.framework, path, &value, rank)?;
        if self.mapping.as_ref().is_none_or(|known| known.rank < mapping.rank) {
            self.mapping = Some(mapping);
        }
        Ok(())
    }
}

/// `NIST_SP-800-53_rev5_catalog.json`: the whole catalogue, not a baseline's.
fn is_catalog(name: &str) -> bool {
    name.starts_with("NIST_SP-800-53")
        && name.contains("_catalog")
        && name.ends_with(".json")
        && !name.contains("profile")
}

impl Reader for CtidReader {
    fn wants(&self, path: &str) -> bool {
        let name = path.rsplit('/').next().unwrap_or(path);
        match FileName::parse(name) {
            Some(name) => self.takes_mapping(&name),
            None if self.framework == Framework::Nist80053 && is_catalog(name) => true,
            // No archive, but one document: what it says of itself tells.
            None => name == path && name.ends_with(".json"),
        }
    }

    fn file(&mut self, path: &str, bytes: &[u8]) -> Result<(), ReadError> {
        let name = FileName::parse(path.rsplit('/').next().unwrap_or(path));
        let rank = name.map(|name| name.rank());
        if let (Some(rank), Some(known)) = (&rank, &self.mapping)
            && *rank <= known.rank
        {
            return Ok(());
        }
        let value: Value = json::read(path, bytes)?;
        if self.framework == Framework::Nist80053 && value.get("catalog").is_some() {
            let catalog = Catalog::read(path, &value)?;
            if self.catalog.as_ref().is_none_or(|known| known.rank < catalog.rank) {
                self.catalog = Some(catalog);
            }
            return Ok(());
        }
        self.add_mapping(path, value, rank)
    }

    fn finish(self: Box<Self>) -> Result<Knowledge, ReadError> {
        let CtidReader { framework, mapping, catalog } = *self;
        let Some(mapping) = mapping else {
            return Err(ReadError(format!(
                "there is no mapping of {0} to ATT&CK Enterprise. Point the source's url at an archive of \
                 center-for-threat-informed-defense/mappings-explorer, or at its \
                 mappings/{0}/…/enterprise/{0}-…-enterprise.json",
                framework.in_mappings()
            )));
        };
        let mut knowledge = Knowledge {
            upstream_version: Some(upstream_version(&mapping, catalog.as_ref())),
            records: vec![framework_record(framework, &mapping, catalog.as_ref())],
            links: links(framework, &mapping),
            ..Knowledge::default()
        };
        let mut controls = controls(framework, &mapping);
        if let Some(catalog) = catalog {
            // Its texts and titles are the framework's own, and go before what the mapping says.
            controls.extend(catalog.controls);
            knowledge.skipped = catalog.skipped;
        }
        for skip in &mapping.skipped.first {
            knowledge.skipped.add(skip.id.as_str(), skip.reason.as_str());
        }
        knowledge.skipped.total += mapping.skipped.total - mapping.skipped.first.len() as u64;
        knowledge.records.extend(controls.into_values());
        Ok(knowledge)
    }
}

/// The key of a control.
fn key(framework: Framework, control: &str) -> String {
    format!("{}:{control}", framework.as_str())
}

fn upstream_version(mapping: &Mapping, catalog: Option<&Catalog>) -> String {
    let version = mapping.version.as_deref().unwrap_or("unknown");
    let version = match catalog.and_then(|catalog| catalog.version.as_deref()) {
        Some(catalog) => format!("{version} (catalog {catalog})"),
        None => version.to_owned(),
    };
    match &mapping.attack_version {
        Some(attack) => format!("{version} on ATT&CK {attack}"),
        None => version,
    }
}

fn framework_record(framework: Framework, mapping: &Mapping, catalog: Option<&Catalog>) -> KnowledgeRecord {
    let mut record = KnowledgeRecord::new(Kind::Framework, framework.as_str(), framework.as_str(), framework.title());
    record.url = Some("https://center-for-threat-informed-defense.github.io/mappings-explorer/".to_owned());
    let mut attributes = Map::new();
    attributes.insert("source".to_owned(), Value::from("CTID Mappings Explorer"));
    for (name, value) in [
        ("version", &mapping.version),
        ("attack_version", &mapping.attack_version),
        ("mapping_created", &mapping.created),
        ("mapping_updated", &mapping.updated),
        ("catalog_version", &catalog.and_then(|catalog| catalog.version.clone())),
        ("catalog_updated", &catalog.and_then(|catalog| catalog.updated.clone())),
    ] {
        if let Some(value) = value {
            attributes.insert(name.to_owned(), Value::from(value.as_str()));
        }
    }
    record.attributes = attributes;
    record
}

fn controls(framework: Framework, mapping: &Mapping) -> BTreeMap<String, KnowledgeRecord> {
    let mut records = BTreeMap::new();
    for (id, control) in &mapping.controls {
        let name = control.name.as_deref().unwrap_or(id);
        let mut record = KnowledgeRecord::new(Kind::Control, key(framework, id), id, name);
        record.description = control.description.clone();
        record.collection = Some(framework.as_str().to_owned());
        if let Some(family) = &control.family {
            record.attributes.insert("family".to_owned(), Value::from(family.as_str()));
            if let Some(name) = mapping.families.get(family) {
                record.attributes.insert("family_name".to_owned(), Value::from(name.as_str()));
            }
        }
        if let Some(parent) = parent(framework, id) {
            record.attributes.insert("parent".to_owned(), Value::from(parent));
        }
        records.insert(id.clone(), record);
    }
    records
}

/// The control that an enhancement is of.
fn parent(framework: Framework, id: &str) -> Option<&str> {
    if framework != Framework::Nist80053 {
        return None;
    }
    id.split_once('(').map(|(control, _)| control)
}

fn links(framework: Framework, mapping: &Mapping) -> Vec<LinkRecord> {
    let link = |((control, technique), references): (&(String, String), &Vec<Value>)| {
        let mut link = LinkRecord::to_technique(Kind::Control, &key(framework, control), "maps_to", technique);
        link.references = references.clone();
        link
    };
    mapping.pairs.iter().map(link).collect()
}
