use serde_json::{Value, json};

use super::*;
use crate::domain::testing;

fn ontology() -> Value {
    let class = |name: &str, id: &str, label: &str, parents: Value| {
        json!({"@id": format!("d3f:{name}"), "@type": ["owl:Class"], "d3f:d3fend-id": id, "rdfs:label": label,
               "d3f:definition": format!("{label}."), "rdfs:subClassOf": parents})
    };
    let mut network =
        class("NetworkTrafficAnalysis", "D3-NTA", "Network Traffic Analysis", json!({"@id": "d3f:DefensiveTechnique"}));
    network["d3f:enables"] = json!({"@id": "d3f:Detect"});
    network["d3f:synonym"] = json!("NTA");
    let mut filtering = class(
        "NetworkTrafficFiltering",
        "D3-NTF",
        "Network Traffic Filtering",
        json!([{"@id": "_:N1"}, {"@id": "d3f:NetworkTrafficAnalysis"}]),
    );
    filtering["d3f:synonym"] = json!(["Filtering", {"@value": "Screening"}]);
    filtering["d3f:definition"] = json!(["First.", "Second."]);
    filtering["d3f:kb-reference"] = json!({"@id": "d3f:Reference-One"});
    json!({"@context": {}, "@graph": [
        {"@id": "d3f:Detect", "rdfs:label": "Detect"},
        network,
        filtering,
        class("ShortOne", "D3-TWO", "Short One", json!({"@id": "d3f:NetworkTrafficAnalysis"})),
        class("TheLongerOne", "D3-TWO", "The Longer One", json!({"@id": "d3f:NetworkTrafficAnalysis"})),
        {"@id": "d3f:Nameless", "d3f:d3fend-id": "D3-NO", "rdfs:subClassOf": {"@id": "d3f:ShortOne"}},
        class("Model", "D3-ARMA", "No tactic above it", json!({"@id": "d3f:Model"})),
        class("Artifact", "D3A-X", "An artifact", json!({"@id": "d3f:NetworkTrafficAnalysis"})),
        {"@id": "d3f:Reference-One", "rdfs:label": "A paper", "d3f:has-link": {"@value": "https://example.org/p"}},
        7,
    ]})
}

fn row(technique: &str, defence: Option<&str>, artifact: &str) -> Value {
    let uri =
        |name: &str| json!({"type": "uri", "value": format!("http://d3fend.mitre.org/ontologies/d3fend.owl#{name}")});
    let literal = |text: &str| json!({"type": "literal", "value": text});
    let mut row = json!({
        "off_tech_id": literal(technique), "off_tech": uri(technique), "off_artifact_rel_label": literal("produces"),
        "off_artifact_label": literal(artifact), "sc": literal("-<-")});
    if let Some(defence) = defence {
        row["def_tech"] = uri(defence);
        row["def_artifact_rel_label"] = literal("an\u{61}lyzes \"it\"");
        row["def_artifact_label"] = literal(artifact);
    }
    row
}

fn file(path: &str, value: &Value) -> (String, Vec<u8>) {
    (path.to_owned(), value.to_string().into_bytes())
}

fn mapping(technique: &str, rows: &[Value]) -> (String, Vec<u8>) {
    let value =
        json!({"off_to_def": {"head": {}, "results": {"bindings": rows}}, "description": {}, "subtechniques": {}});
    file(&format!("site/api/offensive-technique/attack/{technique}.json"), &value)
}

#[test]
fn a_property_is_one_or_many_and_ids_are_joined_by_uri() {
    let files = [
        // The mappings may come first.
        mapping(
            "T1001",
            &[
                row("T1001", Some("NetworkTrafficFiltering"), "Traffic"),
                row("T1001", Some("NetworkTrafficFiltering"), "Traffic"),
                row("T1001", Some("NetworkTrafficFiltering"), "Packets"),
                row("T1001", Some("ShortOne"), "Traffic"),
                row("T1001", Some("TheLongerOne"), "Traffic"),
                row("T1001", Some("NotInTheOntology"), "Traffic"),
                row("T1001", None, "Traffic"),
            ],
        ),
        mapping("T1002", &[]),
        ("site/api/offensive-technique/attack/T1003.json".to_owned(), br#"{"off_to_def": {"results"#.to_vec()),
        file("site/ontologies/d3fend.json", &ontology()),
        file("site/api/version.json", &json!({"version": "0.14.0"})),
    ];
    let knowledge = testing::read(Box::<D3fendReader>::default(), &files);
    assert_eq!(knowledge.upstream_version.as_deref(), Some("0.14.0"));

    let keys: Vec<_> = knowledge.records.iter().map(|record| record.key.as_str()).collect();
    assert_eq!(keys, ["D3-NTA", "D3-NTF", "D3-TWO", "D3-TWO:ShortOne"]);
    let filtering = &knowledge.records[1];
    assert_eq!(
        (filtering.source_id.as_str(), filtering.collection.as_deref()),
        ("d3f:NetworkTrafficFiltering", Some("Detect"))
    );
    assert_eq!(filtering.description.as_deref(), Some("First.\n\nSecond."));
    assert_eq!(filtering.aliases, ["Filtering", "Screening"]);
    assert_eq!(
        (&filtering.attributes["parent_id"], &filtering.attributes["parent_name"]),
        (&json!("D3-NTA"), &json!("Network Traffic Analysis"))
    );
    assert_eq!(filtering.attributes["references"], json!([{"source_name": "A paper", "url": "https://example.org/p"}]));
    assert_eq!(knowledge.records[0].aliases, ["NTA"]);
    assert!(!knowledge.records[0].attributes.contains_key("parent_id"));
    assert_eq!(
        (knowledge.records[2].name.as_str(), &knowledge.records[3].attributes["d3fend_id"]),
        ("The Longer One", &json!("D3-TWO"))
    );

    let links: Vec<_> = knowledge
        .links
        .iter()
        .map(|link| (link.from_key.as_str(), link.to_key.as_str(), link.references.len()))
        .collect();
    assert_eq!(links, [("D3-NTF", "T1001", 2), ("D3-TWO", "T1001", 1), ("D3-TWO:ShortOne", "T1001", 1)]);
    assert_eq!(
        knowledge.links[0].references[0],
        json!({
        "defence_relation": "analyzes \"it\"", "artifact": "Packets", "offence_relation": "produces", "offence_artifact": "Packets"})
    );
    let skipped: Vec<_> = knowledge.skipped.first.iter().map(|skip| skip.id.as_str()).collect();
    assert_eq!(skipped, ["site/api/offensive-technique/attack/T1003.json", "D3-NO", "NotInTheOntology"]);
    assert!(knowledge.skipped.first[0].reason.contains("the download was cut"));
}

#[test]
fn one_file_of_all_mappings() {
    let mut labelled = row("T1003.001", None, "Process");
    labelled["def_tech_label"] = json!({"value": "Network Traffic Filtering"});
    let rows = json!([
        row("T1001", Some("NetworkTrafficAnalysis"), "Traffic"),
        labelled,
        row("EX-0001", Some("NetworkTrafficAnalysis"), "Traffic")
    ]);
    let files = [
        file("d3fend.json", &ontology()),
        file("d3fend-full-mappings.json", &json!({"head": {"vars": []}, "results": {"bindings": rows}})),
    ];
    let knowledge = testing::read(Box::<D3fendReader>::default(), &files);
    let links: Vec<_> = knowledge.links.iter().map(|link| (link.from_key.as_str(), link.to_key.as_str())).collect();
    assert_eq!(links, [("D3-NTA", "T1001"), ("D3-NTF", "T1003.001")]);
    assert!(knowledge.skipped.first.iter().any(|skip| skip.id == "EX-0001"));
}

#[test]
fn what_is_nothing_without_a_part() {
    let reader = D3fendReader::default();
    for path in [
        "x/ontologies/d3fend.json",
        "version.json",
        "api/technique/all.json",
        "api/offensive-technique/attack/T1059.001.json",
        "d3fend-full-mappings.json",
    ] {
        assert!(reader.wants(path), "{path}");
    }
    for path in [
        "api/offensive-technique/all.json",
        "api/tactic/all.json",
        "api/matrix.json",
        "ontologies/d3fend.csv",
        "attack/TABLE.json",
        "api/technique/d3f:X.json",
    ] {
        assert!(!reader.wants(path), "{path}");
    }
    assert!(Box::new(reader).finish().unwrap_err().0.contains("full-mappings"));

    let mut reader = D3fendReader::default();
    let (path, bytes) = mapping("T1001", &[row("T1001", Some("NetworkTrafficAnalysis"), "Traffic")]);
    reader.file(&path, &bytes).unwrap();
    assert!(Box::new(reader).finish().unwrap_err().0.contains("there is no ontology"));

    let mut reader = D3fendReader::default();
    let whole = ontology().to_string();
    assert!(reader.file("d3fend.json", &whole.as_bytes()[..100]).unwrap_err().0.contains("the download was cut"));
    assert!(reader.file("d3fend.json", b"{}").unwrap_err().0.contains("another form"));
    assert!(reader.file("d3fend-full-mappings.json", b"{}").unwrap_err().0.contains("neither"));
    assert!(reader.file("d3fend.json", b"\xef\xbb\xbf{\"@graph\": []}").is_ok());
}

#[test]
fn a_circle_of_classes_ends() {
    let graph = json!({"@graph": [
        {"@id": "d3f:A", "d3f:d3fend-id": "D3-A", "rdfs:label": "A", "rdfs:subClassOf": [{"@id": "d3f:B"}]},
        {"@id": "d3f:B", "d3f:d3fend-id": "D3-B", "rdfs:label": "B", "rdfs:subClassOf": [{"@id": "d3f:A"}, {"@id": "d3f:B"}]}]});
    let mut reader = D3fendReader::default();
    reader.file("d3fend.json", graph.to_string().as_bytes()).unwrap();
    let (path, bytes) = mapping("T1001", &[row("T1001", Some("A"), "Traffic")]);
    reader.file(&path, &bytes).unwrap();
    assert!(Box::new(reader).finish().unwrap_err().0.contains("no defence that can be read"));
}
