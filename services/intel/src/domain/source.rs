//! The data sources that can be synced, and where their publishers offer them.

use super::stix::Domain;

/// A data source as its publisher offers it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Published {
    /// Its name here; also the origin of what it brings.
    pub name: &'static str,
    /// Which reader its documents need; also the `source` of what it brings.
    pub kind: &'static str,
    /// The ATT&CK knowledge base.
    pub domain: Option<Domain>,
    /// The publisher's address.
    pub url: &'static str,
    /// Where the second document is, of a source that has two. `{id}` stands for each technique's id.
    pub companion_url: Option<&'static str>,
    /// When it is synced by itself until an administrator says otherwise: cron, UTC.
    pub schedule: &'static str,
}

/// MITRE ATT&CK, STIX 2.1.
pub(crate) const MITRE_ATTACK: &str = "mitre_attack";
/// Known exploited vulnerabilities; its entries stay with this service.
pub(crate) const KEV: &str = "kev";
/// Which techniques exploited vulnerabilities lead to.
pub(crate) const KEV_MAPPINGS: &str = "kev_mappings";
/// What people bring in.
pub(crate) const CUSTOM: &str = "custom";

const fn attack(name: &'static str, domain: Domain, url: &'static str, schedule: &'static str) -> Published {
    Published { name, kind: MITRE_ATTACK, domain: Some(domain), url, companion_url: None, schedule }
}

const fn one(name: &'static str, url: &'static str, schedule: &'static str) -> Published {
    Published { name, kind: name, domain: None, url, companion_url: None, schedule }
}

const fn two(name: &'static str, url: &'static str, companion_url: &'static str, schedule: &'static str) -> Published {
    Published { companion_url: Some(companion_url), ..one(name, url, schedule) }
}

/// A file of the Center for Threat-Informed Defense's mappings. Their names have versions: a newer one is put in by an
/// administrator, or here.
macro_rules! ctid {
    ($path:literal) => {
        concat!(
            "https://raw.githubusercontent.com/center-for-threat-informed-defense/mappings-explorer/main/mappings/",
            $path
        )
    };
}

/// All of them. ATT&CK comes first: the others speak of its techniques.
pub(crate) const PUBLISHED: [Published; 20] = [
    attack(
        "mitre_attack_enterprise",
        Domain::Enterprise,
        "https://raw.githubusercontent.com/mitre-attack/attack-stix-data/master/enterprise-attack/enterprise-attack.json",
        "0 2 * * MON",
    ),
    attack(
        "mitre_attack_mobile",
        Domain::Mobile,
        "https://raw.githubusercontent.com/mitre-attack/attack-stix-data/master/mobile-attack/mobile-attack.json",
        "20 2 * * MON",
    ),
    attack(
        "mitre_attack_ics",
        Domain::Ics,
        "https://raw.githubusercontent.com/mitre-attack/attack-stix-data/master/ics-attack/ics-attack.json",
        "40 2 * * MON",
    ),
    two(
        "d3fend",
        "https://d3fend.mitre.org/ontologies/d3fend.json",
        "https://d3fend.mitre.org/api/offensive-technique/attack/{id}.json",
        "0 3 * * TUE",
    ),
    one(
        "atomic_red_team",
        "https://codeload.github.com/redcanaryco/atomic-red-team/tar.gz/refs/heads/master",
        "0 3 * * WED",
    ),
    one("caldera", "https://codeload.github.com/mitre/stockpile/tar.gz/refs/heads/master", "20 3 * * WED"),
    one("lolbas", "https://codeload.github.com/LOLBAS-Project/LOLBAS/tar.gz/refs/heads/master", "40 3 * * WED"),
    one("sigma", "https://github.com/SigmaHQ/sigma/releases/latest/download/sigma_all_rules.zip", "0 3 * * THU"),
    one("elastic", "https://codeload.github.com/elastic/detection-rules/tar.gz/refs/heads/main", "20 3 * * THU"),
    one(
        "misp_threat_actors",
        "https://raw.githubusercontent.com/MISP/misp-galaxy/main/clusters/threat-actor.json",
        "40 3 * * THU",
    ),
    two(
        "nist_800_53",
        ctid!("nist_800_53/attack-16.1/nist_800_53-rev5/enterprise/nist_800_53-rev5_attack-16.1-enterprise.json"),
        "https://raw.githubusercontent.com/usnistgov/oscal-content/main/nist.gov/SP800-53/rev5/json/NIST_SP-800-53_rev5_catalog.json",
        "0 3 * * FRI",
    ),
    one(
        "cri",
        ctid!("cri_profile/attack-16.1/cri_profile-v2.1/enterprise/cri_profile-v2.1_attack-16.1-enterprise.json"),
        "10 3 * * FRI",
    ),
    one(
        "csa_ccm",
        ctid!("csa_ccm/attack-17.1/csa_ccm-4.1/enterprise/csa_ccm-4.1_attack-17.1-enterprise.json"),
        "20 3 * * FRI",
    ),
    one(
        "aws",
        ctid!("aws/attack-16.1/aws-12.12.2024/enterprise/aws-12.12.2024_attack-16.1-enterprise.json"),
        "0 4 * * FRI",
    ),
    one(
        "azure",
        ctid!("azure/attack-16.1/azure-04.26.2025/enterprise/azure-04.26.2025_attack-16.1-enterprise.json"),
        "10 4 * * FRI",
    ),
    one(
        "gcp",
        ctid!("gcp/attack-16.1/gcp-03.06.2025/enterprise/gcp-03.06.2025_attack-16.1-enterprise.json"),
        "20 4 * * FRI",
    ),
    one(
        "m365",
        ctid!("m365/attack-16.1/m365-07.18.2025/enterprise/m365-07.18.2025_attack-16.1-enterprise.json"),
        "30 4 * * FRI",
    ),
    one(
        "veris",
        ctid!("veris/attack-16.1/veris-1.4.0/enterprise/veris-1.4.0_attack-16.1-enterprise.json"),
        "40 4 * * FRI",
    ),
    one(
        KEV_MAPPINGS,
        ctid!("kev/attack-16.1/kev-07.28.2025/enterprise/kev-07.28.2025_attack-16.1-enterprise.json"),
        "50 4 * * FRI",
    ),
    // Small, and new on most days.
    one(KEV, "https://www.cisa.gov/sites/default/files/feeds/known_exploited_vulnerabilities.json", "30 5 * * *"),
];

/// Which of the counts of a source are at the top: those of the records that it is there for.
pub(crate) fn main_kind(kind: &str) -> &'static str {
    match kind {
        MITRE_ATTACK => "technique",
        "atomic_red_team" | "caldera" | "lolbas" => "template",
        "sigma" | "elastic" => "detection_rule",
        "d3fend" => "defence",
        "misp_threat_actors" => "threat_actor",
        KEV => "vulnerability",
        _ => "control",
    }
}

/// Names of a bundle inside an archive, the best first: the latest release, else one that names its release.
pub(crate) const ENTRY_NAMES: [fn(Domain, &str) -> bool; 2] = [
    |domain, name| name == format!("{domain}-attack.json"),
    |domain, name| name.starts_with(&format!("{domain}-attack-")) && name.ends_with(".json"),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_source_has_a_name_and_a_time_of_its_own() {
        let mut seen = HashSet::new();
        for source in PUBLISHED {
            assert!(seen.insert(source.name) && seen.insert(source.schedule), "{}", source.name);
            assert_eq!(aegis_schedule::parse(source.schedule).as_deref(), Ok(source.schedule));
            assert!(source.url.starts_with("https://"));
        }
    }
}
