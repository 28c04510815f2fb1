//! The publishers' own files, against figures that independent scripts counted. Skipped where they are absent.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::time::Instant;

use serde_json::Value;

use super::*;
use crate::domain::knowledge::Reader;

fn data_dir() -> PathBuf {
    match std::env::var_os("AEGIS_TEST_DATA") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
    }
}

/// The files of an archive that the reader wants.
fn files(archive: &str, reader: &dyn Reader) -> Option<Vec<(String, Vec<u8>)>> {
    let Ok(file) = File::open(data_dir().join(archive)) else {
        println!("SKIPPED: {archive} is not in the test data folder (AEGIS_TEST_DATA)");
        return None;
    };
    let mut files = Vec::new();
    for entry in tar::Archive::new(zstd::Decoder::new(file).unwrap()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_string_lossy().into_owned();
        if entry.header().entry_type().is_file() && reader.wants(&path) {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            files.push((path, bytes));
        }
    }
    Some(files)
}

fn read(mut reader: impl Reader, files: &[(String, Vec<u8>)]) -> Knowledge {
    let start = Instant::now();
    for (path, bytes) in files {
        reader.file(path, bytes).unwrap();
    }
    let knowledge = Box::new(reader).finish().unwrap();
    println!("{} templates of {} files in {:?}", knowledge.templates.len(), files.len(), start.elapsed());
    assert_eq!(knowledge.skipped, Skips::default());
    assert!(knowledge.records.is_empty() && knowledge.links.is_empty());
    let ids: BTreeSet<_> = knowledge.templates.iter().map(|t| t.source_id.as_str()).collect();
    assert_eq!(ids.len(), knowledge.templates.len(), "ids are unique");
    for template in &knowledge.templates {
        let filled = |text: &Option<String>| text.as_deref().is_none_or(|text| !text.trim().is_empty());
        assert!(is_technique_id(&template.mitre_technique_id), "{template:?}");
        let procedure = template.attack_procedure.as_ref().or(template.cleanup_procedure.as_ref()).cloned();
        assert!(procedure.is_some() && filled(&procedure), "{template:?}");
        assert!(template.tool_suggested.is_some() && filled(&template.description), "{template:?}");
        assert!(!template.platforms.is_empty() && !template.name.is_empty(), "{template:?}");
        assert_eq!(template.severity, "medium");
    }
    knowledge
}

fn count<'a>(of: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, usize> {
    let mut counts = BTreeMap::new();
    for key in of {
        *counts.entry(key).or_default() += 1;
    }
    counts
}

fn by_technique(knowledge: &Knowledge) -> BTreeMap<&str, usize> {
    count(knowledge.templates.iter().map(|t| t.mitre_technique_id.as_str()))
}

fn check_golden(knowledge: &Knowledge, column: [usize; 8]) {
    let counts = by_technique(knowledge);
    let techniques = ["T1003.001", "T1059", "T1059.001", "T1078", "T1562.001", "T1112", "T1566.001", "T1190"];
    let counted = techniques.map(|technique| counts.get(technique).copied().unwrap_or(0));
    assert_eq!(counted, column);
}

/// Everything is written in a way that the published model allows.
fn write_all(source: &str, knowledge: &Knowledge) -> Vec<(String, String)> {
    let mut techniques: BTreeMap<&str, Vec<Exported<'_>>> = BTreeMap::new();
    for template in &knowledge.templates {
        techniques.entry(&template.mitre_technique_id).or_default().push(Exported { source, template });
    }
    let start = Instant::now();
    let written: Vec<_> = techniques
        .iter()
        .map(|(id, templates)| (format!("{id}.yaml"), write_technique(id, "Some technique", templates).unwrap()))
        .collect();
    println!("{} documents written in {:?}", written.len(), start.elapsed());
    for (path, yaml) in &written {
        let (templates, problems) = parse_upload(path, yaml.as_bytes());
        assert!(problems.is_empty(), "{path}: {problems:#?}\n{yaml}");
        assert_eq!(templates.len(), techniques[path.strip_suffix(".yaml").unwrap()].len());
    }
    written
}

const ATOMIC: &str = "atomic/atomics-yaml-b3dc12d4.tar.zst";

#[test]
fn atomic_red_team() {
    let Some(files) = files(ATOMIC, &AtomicReader::default()) else { return };
    assert_eq!(files.len(), 327);
    let knowledge = read(AtomicReader::default(), &files);
    assert_eq!(knowledge.templates.len(), 1_750);
    assert_eq!(by_technique(&knowledge).len(), 327);
    check_golden(&knowledge, [14, 1, 22, 0, 59, 90, 2, 0]);

    let detail = |key: &'static str| knowledge.templates.iter().filter_map(move |t| t.details.get(key));
    let raw = detail("supported_platforms").flat_map(|raw| raw.as_array().unwrap()).filter_map(Value::as_str);
    let counted = [
        ("windows", 1_196),
        ("linux", 378),
        ("macos", 240),
        ("iaas:aws", 21),
        ("containers", 19),
        ("azure-ad", 18),
        ("iaas:azure", 15),
        ("office-365", 7),
        ("iaas:gcp", 6),
        ("google-workspace", 1),
    ];
    assert_eq!(count(raw), BTreeMap::from(counted));
    let platforms = count(knowledge.templates.iter().flat_map(|t| t.platforms.iter().map(String::as_str)));
    assert_eq!(platforms["windows"], 1_196);
    assert_eq!(platforms["identity provider"], 18);
    let tools = count(knowledge.templates.iter().filter_map(|t| t.tool_suggested.as_deref()));
    let counted = [("powershell", 677), ("command_prompt", 556), ("sh", 383), ("bash", 118), ("manual", 16)];
    assert_eq!(tools, BTreeMap::from(counted));
    assert_eq!(detail("input_arguments").count(), 1_001);
    assert_eq!(detail("dependencies").count(), 683);
    assert_eq!(detail("dependency_executor_name").count(), 541);
    let elevated = detail("executor").filter(|executor| executor["elevation_required"] == true).count();
    assert_eq!(elevated, 669);
    let cleanup = |executor: &&Value| executor["cleanup_command"].as_str().is_some_and(|text| !text.trim().is_empty());
    assert_eq!(detail("executor").filter(cleanup).count(), 962);
    assert_eq!(knowledge.templates.iter().filter(|t| t.cleanup_procedure.is_some()).count(), 962);
    let names: BTreeSet<_> = knowledge.templates.iter().map(|t| (&t.mitre_technique_id, &t.name)).collect();
    assert_eq!(names.len(), 1_750 - 9, "eight techniques have tests of one name, one of them three");

    let arguments = detail("input_arguments").filter_map(Value::as_object).flat_map(|map| map.values());
    let kinds: Vec<_> = arguments.map(|argument| (argument["type"].as_str().unwrap(), &argument["default"])).collect();
    let of =
        |kind: &str, is: fn(&Value) -> bool| kinds.iter().filter(|(name, value)| *name == kind && is(value)).count();
    assert_eq!(of("string", Value::is_string), 1_219);
    assert_eq!(of("string", Value::is_null), 43);
    assert_eq!(of("integer", Value::is_i64), 48);
    assert_eq!(of("integer", Value::is_string), 4);
    assert_eq!(of("url", Value::is_string), 84);
    assert_eq!(of("float", Value::is_f64), 1);
}

#[test]
fn atomic_red_team_is_written_as_it_was_read() {
    let Some(files) = files(ATOMIC, &AtomicReader::default()) else { return };
    let knowledge = read(AtomicReader::default(), &files);
    let written = write_all("atomic_red_team", &knowledge);
    assert_eq!(written.len(), 327);
    let copies: Vec<_> = written.into_iter().map(|(path, yaml)| (path, yaml.into_bytes())).collect();
    let again = read(AtomicReader::default(), &copies);
    let sorted = |knowledge: &Knowledge| {
        let mut templates = knowledge.templates.clone();
        templates.sort_by(|a, b| a.source_id.cmp(&b.source_id));
        templates
    };
    for (before, after) in sorted(&knowledge).iter().zip(sorted(&again)) {
        assert_eq!(*before, after);
    }
    assert_eq!(again.templates.len(), 1_750);
}

#[test]
fn atomic_red_team_is_right_as_a_persons_file() {
    let Some(files) = files(ATOMIC, &AtomicReader::default()) else { return };
    let mut tests = 0;
    for (path, bytes) in &files {
        let (templates, problems) = parse_upload(path, bytes);
        assert!(problems.is_empty(), "{path}: {problems:#?}");
        tests += templates.len();
    }
    assert_eq!(tests, 1_750);
}

#[test]
fn caldera() {
    let archive = "caldera/stockpile-data-996ec41c.tar.zst";
    let Some(files) = files(archive, &CalderaReader::default()) else { return };
    assert_eq!(files.len(), 209);
    let knowledge = read(CalderaReader::default(), &files);
    assert_eq!(knowledge.templates.len(), 209);
    // Two say the id with a space before it, of which one more ability has the id without.
    assert_eq!(by_technique(&knowledge).len(), 123);
    check_golden(&knowledge, [4, 0, 3, 0, 3, 1, 0, 0]);
    let platforms = count(knowledge.templates.iter().flat_map(|t| t.platforms.iter().map(String::as_str)));
    assert_eq!(platforms, BTreeMap::from([("windows", 171), ("linux", 80), ("macos", 68)]));
    let executors = knowledge.templates.iter().flat_map(|t| t.details["executors"].as_array().unwrap());
    let names = count(executors.flat_map(|e| e["names"].as_array().unwrap()).filter_map(Value::as_str));
    let counted = [
        ("psh", 146 + 15),
        ("sh", 137 + 4),
        ("pwsh", 22),
        ("cmd", 20),
        ("shellcode_amd64", 2),
        ("native", 1),
        ("shellcode_386", 1),
        ("osa", 1),
    ];
    assert_eq!(names, BTreeMap::from(counted));
    write_all("caldera", &knowledge);
}

#[test]
fn lolbas() {
    let archive = "lolbas/lolbas-yml-3403b338.tar.zst";
    let Some(files) = files(archive, &LolbasReader::default()) else { return };
    assert_eq!(files.len(), 243);
    let knowledge = read(LolbasReader::default(), &files);
    assert_eq!(knowledge.templates.len(), 482);
    assert_eq!(by_technique(&knowledge).len(), 60);
    check_golden(&knowledge, [8, 5, 3, 1, 1, 0, 0, 0]);
    let categories = count(knowledge.templates.iter().filter_map(|t| t.details["category"].as_str()));
    assert_eq!((categories["Execute"], categories["Download"], categories["AWL Bypass"]), (261, 62, 49));
    assert_eq!(categories.values().sum::<usize>(), 482);
    let tools: BTreeSet<_> = knowledge.templates.iter().filter_map(|t| t.tool_suggested.as_deref()).collect();
    assert_eq!(tools.len(), 243);
    write_all("lolbas", &knowledge);
}
