//! What the processes export for Prometheus is what is documented, name by name and label by label.

use std::collections::{BTreeMap, BTreeSet};

use crate::harness::{Mode, Product};

const DOCUMENTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/observability/METRICS.md");

/// A kind and the names of labels.
type Family = (String, BTreeSet<String>);

pub async fn scenario(product: &mut Product) {
    // Something has to have happened.
    let admin = product.admin().await;
    admin.get("/metrics/summary").await.json(200);
    admin.post("/tests", &serde_json::json!({})).await;

    let documented = documented();
    let mut exported: BTreeMap<String, Family> = BTreeMap::new();
    for process in product.processes() {
        let url = format!("{}/metrics", product.address_of(process));
        let text = product.anonymous().get(&url).await.text();
        for (name, (kind, labels)) in families(&text) {
            let family = exported.entry(name).or_insert_with(|| (kind.clone(), BTreeSet::new()));
            assert_eq!(family.0, kind);
            family.1.extend(labels);
        }
        no_ids(process, &text);
    }
    for (name, (kind, labels)) in &exported {
        let (_, family) = documented.get(name).unwrap_or_else(|| panic!("{name} is not documented"));
        assert_eq!(kind, &family.0, "{name}");
        // Prometheus has labels of these names for whom it asks.
        assert!(!["job", "instance", "service"].iter().any(|taken| labels.contains(*taken)), "{name}");
        // That of the recorder of spans says about itself what it likes.
        if name != "target_info" {
            assert_eq!(labels, &family.1, "{name}");
        }
    }
    for (name, (when, _)) in &documented {
        let expected = match when.as_str() {
            "always" => true,
            "many" => product.mode == Mode::Processes,
            "TLS" => false,
            other => panic!("{name}: when is {other:?}?"),
        };
        assert_eq!(exported.contains_key(name), expected, "{name} is documented");
    }
    product.assert_alive();
}

/// The rows of the table: name, kind, labels and when it is exported.
fn documented() -> BTreeMap<String, (String, Family)> {
    let mut all = BTreeMap::new();
    let text = std::fs::read_to_string(DOCUMENTED).expect("the documentation");
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        // The other tables have two.
        let [name, kind, labels, when, ..] = cells[..] else { continue };
        let plain = |text: &str| text.trim().trim_matches('`').to_owned();
        let labels = labels.split(',').map(plain).filter(|label| !label.is_empty()).collect();
        let row = (when.to_owned(), (kind.to_owned(), labels));
        assert!(all.insert(plain(name), row).is_none(), "{name} is documented twice");
    }
    assert!(all.len() > 30, "the table was not read");
    all
}

fn families(text: &str) -> BTreeMap<String, Family> {
    let mut all: BTreeMap<String, Family> = BTreeMap::new();
    for line in text.lines() {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, kind) = declared.split_once(' ').expect("a kind");
            all.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
        } else if !line.starts_with('#') {
            let (name, labels) = sample(line);
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let base = base.filter(|base| all.contains_key(*base)).unwrap_or(name);
            let family = all.get_mut(base).unwrap_or_else(|| panic!("{name} has no type"));
            family.1.extend(labels.into_iter().map(|(name, _)| name).filter(|name| name != "le"));
        }
    }
    all
}

/// Name and labels of a line.
fn sample(line: &str) -> (&str, Vec<(String, String)>) {
    let Some((name, rest)) = line.split_once('{') else {
        return (line.split(' ').next().unwrap_or_default(), Vec::new());
    };
    let (labels, _) = rest.rsplit_once('}').expect("an end of the labels");
    let pair = |text: &str| {
        let (name, value) = text.split_once("=\"").expect("a value");
        (name.to_owned(), value.to_owned())
    };
    (name, labels.trim_end_matches(['"', ',']).split("\",").map(pair).collect())
}

/// No label has a value that grows with what people do: an id, an address, a name of theirs.
fn no_ids(process: &str, text: &str) {
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.starts_with("target_info")) {
        for (label, value) in sample(line).1 {
            // The bounds of histograms are numbers.
            let digits = value.chars().filter(char::is_ascii_digit).count();
            let few = digits <= 6 || matches!(label.as_str(), "le" | "version");
            assert!(few && !value.contains('@'), "{process}: {label} of {line}");
        }
    }
}
