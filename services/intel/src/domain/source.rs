//! The data sources that can be synced, and where their publishers offer them.

use super::stix::Domain;

/// A data source as its publisher offers it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Published {
    /// Its name here.
    pub name: &'static str,
    /// Which reader its documents need; also the `source` of what it brings.
    pub kind: &'static str,
    /// The ATT&CK knowledge base.
    pub domain: Domain,
    /// The publisher's address.
    pub url: &'static str,
}

/// MITRE ATT&CK, STIX 2.1.
pub(crate) const MITRE_ATTACK: &str = "mitre_attack";

/// All of them.
pub(crate) const PUBLISHED: [Published; 3] = [
    Published {
        name: "mitre_attack_enterprise",
        kind: MITRE_ATTACK,
        domain: Domain::Enterprise,
        url: "https://raw.githubusercontent.com/mitre-attack/attack-stix-data/master/enterprise-attack/enterprise-attack.json",
    },
    Published {
        name: "mitre_attack_mobile",
        kind: MITRE_ATTACK,
        domain: Domain::Mobile,
        url: "https://raw.githubusercontent.com/mitre-attack/attack-stix-data/master/mobile-attack/mobile-attack.json",
    },
    Published {
        name: "mitre_attack_ics",
        kind: MITRE_ATTACK,
        domain: Domain::Ics,
        url: "https://raw.githubusercontent.com/mitre-attack/attack-stix-data/master/ics-attack/ics-attack.json",
    },
];

/// Names of a bundle inside an archive, the best first: the latest release, else one that names its release.
pub(crate) const ENTRY_NAMES: [fn(Domain, &str) -> bool; 2] = [
    |domain, name| name == format!("{domain}-attack.json"),
    |domain, name| name.starts_with(&format!("{domain}-attack-")) && name.ends_with(".json"),
];
