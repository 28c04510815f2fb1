//! The catalogue of known exploited vulnerabilities that CISA publishes.

use std::collections::HashSet;

use chrono::{DateTime, NaiveDate, Utc};
use serde::Deserialize;
use serde_json::Value;

use super::json;
use super::knowledge::{ReadError, Skips};

/// What is read of the catalogue.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KevDocument {
    /// Such as `2025.01.27`.
    pub catalog_version: Option<String>,
    /// When this version appeared.
    pub date_released: Option<DateTime<Utc>>,
    /// In the order of the document, each CVE once.
    pub entries: Vec<KevEntry>,
    /// What could not be read.
    pub skipped: Skips,
}

/// A vulnerability that is exploited in the wild.
#[derive(Debug, Clone, PartialEq)]
pub struct KevEntry {
    /// Such as `CVE-2021-44228`.
    pub cve_id: String,
    /// Who makes it.
    pub vendor: String,
    /// What has it.
    pub product: String,
    /// What it is called.
    pub name: String,
    /// What it is.
    pub description: String,
    /// What is to be done.
    pub required_action: String,
    /// When it was added to the catalogue.
    pub date_added: NaiveDate,
    /// By when the US agencies must have acted.
    pub due_date: Option<NaiveDate>,
    /// Whether it is known of ransomware campaigns.
    pub ransomware: bool,
    /// Such as `CWE-502`.
    pub cwes: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    catalog_version: Value,
    #[serde(default)]
    date_released: Value,
    vulnerabilities: Vec<Value>,
}

const MAX_ENTRIES: usize = 100_000;
const MAX_NAME: usize = 300;
const MAX_TEXT: usize = 10_000;
const MAX_CWES: usize = 50;

/// Reads the catalogue.
pub fn parse_kev(bytes: &[u8]) -> Result<KevDocument, ReadError> {
    let document: Document = json::read("the KEV catalogue", bytes)?;
    if document.vulnerabilities.len() > MAX_ENTRIES {
        return Err(ReadError(format!(
            "the KEV catalogue has more than {MAX_ENTRIES} entries; check the source's url"
        )));
    }
    let mut kev = KevDocument {
        catalog_version: json::text(Some(&document.catalog_version), 100),
        date_released: json::text(Some(&document.date_released), 100)
            .and_then(|text| Some(DateTime::parse_from_rfc3339(&text).ok()?.to_utc())),
        entries: Vec::with_capacity(document.vulnerabilities.len()),
        skipped: Skips::default(),
    };
    let mut seen = HashSet::new();
    for (index, value) in document.vulnerabilities.iter().enumerate() {
        match entry(value) {
            Ok(entry) if !seen.insert(entry.cve_id.clone()) => kev.skipped.add(entry.cve_id, "it is listed twice"),
            Ok(entry) => kev.entries.push(entry),
            Err(reason) => {
                let id = json::text(value.get("cveID"), MAX_NAME).unwrap_or_else(|| format!("entry {}", index + 1));
                kev.skipped.add(id, reason);
            }
        }
    }
    if kev.entries.is_empty() {
        let why = kev.skipped.first.first().map_or("it is empty", |skip| &skip.reason);
        return Err(ReadError(format!(
            "the KEV catalogue holds no entry that can be read: {why}. Point the source's url at \
             known_exploited_vulnerabilities.json"
        )));
    }
    Ok(kev)
}

fn entry(value: &Value) -> Result<KevEntry, &'static str> {
    let text = |member: &str, max| json::text(value.get(member), max).unwrap_or_default();
    let date = |member: &str| NaiveDate::parse_from_str(&text(member, 100), "%Y-%m-%d").ok();
    let cve_id = text("cveID", MAX_NAME).to_uppercase();
    if !is_cve(&cve_id) {
        return Err("its cveID is no CVE id");
    }
    Ok(KevEntry {
        vendor: text("vendorProject", MAX_NAME),
        product: text("product", MAX_NAME),
        name: json::text(value.get("vulnerabilityName"), MAX_NAME).unwrap_or_else(|| cve_id.clone()),
        description: text("shortDescription", MAX_TEXT),
        required_action: text("requiredAction", MAX_TEXT),
        date_added: date("dateAdded").ok_or("its dateAdded is no date")?,
        due_date: date("dueDate"),
        ransomware: text("knownRansomwareCampaignUse", MAX_NAME).eq_ignore_ascii_case("known"),
        cwes: json::texts(value.get("cwes"), MAX_CWES, 100),
        cve_id,
    })
}

fn is_cve(id: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    id.strip_prefix("CVE-").and_then(|rest| rest.split_once('-')).is_some_and(|(year, number)| {
        year.len() == 4 && (4..=19).contains(&number.len()) && digits(year) && digits(number)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::testing;

    #[test]
    fn stray_spaces_and_empty_lists() {
        let document = json!({"catalogVersion": "2025.01.24", "dateReleased": "2025-01-24T15:00:57.5282Z", "vulnerabilities": [
            {"cveID": " cve-2021-44228 ", "vendorProject": "Apache ", "product": " Log4j2\t", "vulnerabilityName": "Log4Shell ",
             "dateAdded": "2021-12-10", "shortDescription": " Remote code. ", "requiredAction": "Patch.", "dueDate": "2021-12-24",
             "knownRansomwareCampaignUse": "Known", "cwes": []},
            {"cveID": "CVE-2021-44228", "dateAdded": "2021-12-10"},
            {"cveID": "CVE-2020-0001", "dateAdded": "2020-01-01", "dueDate": "soon", "cwes": ["CWE-20 ", "CWE-20"]},
            {"cveID": "CVE-20-1", "dateAdded": "2020-01-01"},
            {"cveID": "CVE-2020-0002", "dateAdded": "yesterday"},
            7,
        ]});
        let kev = parse_kev(document.to_string().as_bytes()).unwrap();
        assert_eq!(kev.catalog_version.as_deref(), Some("2025.01.24"));
        assert_eq!(kev.date_released.unwrap().timestamp(), 1_737_730_857);
        let [first, second] = kev.entries.as_slice() else { panic!("{kev:?}") };
        assert_eq!(
            (first.cve_id.as_str(), first.vendor.as_str(), first.product.as_str()),
            ("CVE-2021-44228", "Apache", "Log4j2")
        );
        assert_eq!((first.name.as_str(), first.description.as_str()), ("Log4Shell", "Remote code."));
        assert!(first.ransomware && first.cwes.is_empty() && first.due_date.is_some());
        assert_eq!((second.name.as_str(), second.due_date, second.ransomware), ("CVE-2020-0001", None, false));
        assert_eq!(second.cwes, ["CWE-20"]);
        let skipped: Vec<_> = kev.skipped.first.iter().map(|skip| (skip.id.as_str(), skip.reason.as_str())).collect();
        assert_eq!(
            skipped,
            [
                ("CVE-2021-44228", "it is listed twice"),
                ("CVE-20-1", "its cveID is no CVE id"),
                ("CVE-2020-0002", "its dateAdded is no date"),
                ("entry 6", "its cveID is no CVE id"),
            ]
        );
    }

    #[test]
    fn another_document_changes_nothing() {
        assert!(parse_kev(br#"{"title": "no catalogue"}"#).unwrap_err().0.contains("check the source's url"));
        assert!(parse_kev(br#"{"vulnerabilities": []}"#).unwrap_err().0.contains("it is empty"));
        assert!(
            parse_kev(br#"{"vulnerabilities": [{"cveID": "CVE-20"#).unwrap_err().0.contains("the download was cut")
        );
    }

    #[test]
    fn real_catalogue() {
        let Some(files) = testing::files("kev/known_exploited_vulnerabilities-2025-01-27.json.zst") else { return };
        let kev = parse_kev(&files[0].1).unwrap();
        assert_eq!((kev.entries.len(), kev.skipped.total), (1_252, 0));
        assert_eq!(kev.catalog_version.as_deref(), Some("2025.01.24"));
        assert_eq!(kev.entries.iter().filter(|entry| entry.ransomware).count(), 245);
        assert_eq!(kev.entries.iter().filter(|entry| entry.cwes.is_empty()).count(), 143);
        assert!(kev.entries.iter().all(|entry| entry.due_date.is_some() && entry.name == entry.name.trim()));
    }
}
