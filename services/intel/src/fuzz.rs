//! For the fuzzer: every format of a publisher, every archive, and what people upload. Nothing of it may make one fail.

use std::io::Write;

use crate::{
    domain::{
        compliance::{CtidReader, Framework, canonical_id},
        d3fend::D3fendReader,
        feeds::parse_feed,
        kev::parse_kev,
        knowledge::{Knowledge, Reader},
        matching::{Matcher, Named},
        misp::MispReader,
        rules::{self, ElasticReader, SigmaReader},
        stix::parse_attack,
        templates::{self, AtomicReader, CalderaReader, LolbasReader},
    },
    fetch::{Document, FetchError, FetchLimits, Location, Visitor, each, open},
};

/// A target by its name.
pub type Target = (&'static str, fn(&[u8]));

/// Each by its name.
pub const TARGETS: &[Target] = &[
    ("stix", |data| drop(parse_attack(data, &mut |_| {}))),
    ("d3fend", |data| read(Box::<D3fendReader>::default(), &["d3fend.json", "full-mappings.json"], data)),
    ("atomic", |data| read(Box::<AtomicReader>::default(), &["a/atomics/T1059/T1059.yaml"], data)),
    ("atomic_upload", |data| drop(templates::parse_upload("T1059.yaml", data))),
    ("caldera", |data| read(Box::<CalderaReader>::default(), &["a/data/abilities/execution/x.yml"], data)),
    ("lolbas", |data| read(Box::<LolbasReader>::default(), &["a/yml/OSBinaries/X.yml"], data)),
    ("sigma", |data| read(Box::<SigmaReader>::default(), &["a/rules/windows/x.yml"], data)),
    ("rule_upload", |data| drop(rules::parse_upload(data))),
    ("elastic", |data| read(Box::<ElasticReader>::default(), &["a/rules/windows/x.toml"], data)),
    ("misp", |data| read(Box::<MispReader>::default(), &["threat-actor.json"], data)),
    ("nist", |data| {
        const MAPPING: &str = "nist_800_53-rev5_attack-16.1-enterprise.json";
        read(Box::new(CtidReader::new(Framework::Nist80053)), &[MAPPING, "NIST_SP-800-53_rev5_catalog.json"], data);
    }),
    ("cri", |data| {
        read(Box::new(CtidReader::new(Framework::Cri)), &["cri_profile-v2.1_attack-16.1-enterprise.json"], data);
    }),
    ("csa_ccm", |data| {
        read(Box::new(CtidReader::new(Framework::CsaCcm)), &["csa_ccm-4.1_attack-17.1-enterprise.json"], data);
    }),
    ("control_id", control_id),
    ("kev", |data| drop(parse_kev(data))),
    ("feed", |data| drop(parse_feed(data))),
    ("archive_zip", |data| archive("x.zip", data)),
    ("archive_tar", |data| archive("x.tar", data)),
    ("archive_tar_gz", |data| archive("x.tar.gz", &gzip(data))),
    ("archive_tar_zst", |data| archive("x.tar.zst", &zstd(data))),
    ("archive_any", |data| archive("x", data)),
    ("location", |data| drop(Location::parse(&String::from_utf8_lossy(data)))),
    ("matching", matching),
];

/// Parts the documents of a source that has several.
const PART: &[u8] = b"\n=====\n";

/// The documents of a source, as its reader takes them.
fn read(mut reader: Box<dyn Reader>, paths: &[&str], data: &[u8]) {
    let mut rest = Some(data);
    for path in paths {
        let Some(left) = rest else { break };
        let end = left.windows(PART.len()).position(|bytes| bytes == PART);
        let document = left.get(..end.unwrap_or(left.len())).unwrap_or_default();
        rest = end.and_then(|end| left.get(end + PART.len()..));
        assert!(reader.wants(path), "{path} is not wanted");
        // An error is the answer; what is left is read all the same.
        let _ = reader.file(path, document);
    }
    let Ok(mut knowledge) = reader.finish() else { return };
    Knowledge::without_nul(&mut knowledge);
}

fn control_id(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for framework in Framework::ALL {
        if let Some(id) = canonical_id(framework, &text) {
            assert_eq!(canonical_id(framework, &id).as_deref(), Some(id.as_str()), "one spelling stays itself");
        }
    }
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let _ = packed.write_all(data);
    packed.finish().unwrap_or_default()
}

fn zstd(data: &[u8]) -> Vec<u8> {
    zstd::encode_all(data, 1).unwrap_or_default()
}

/// Takes everything, and counts it.
struct All(u64);

impl Visitor for All {
    type Error = FetchError;

    fn wants(&self, path: &str) -> bool {
        assert!(!path.starts_with('/') && !path.split('/').any(|part| part == ".."), "{path:?}");
        true
    }

    fn file(&mut self, path: &str, bytes: &[u8]) -> Result<(), FetchError> {
        assert!(!path.contains('\0'), "{path:?}");
        self.0 += bytes.len() as u64;
        Ok(())
    }
}

/// An archive, with all that it has, and with one file of it.
#[expect(clippy::expect_used, reason = "a fuzzer without a disk is of no use")]
fn archive(name: &str, data: &[u8]) {
    let limits = FetchLimits {
        max_download_bytes: 1 << 20,
        max_unpacked_bytes: 1 << 20,
        max_file_bytes: 1 << 16,
        ..FetchLimits::default()
    };
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(data).expect("a file");
    let Ok(document) = Document::sent(file.into_temp_path(), name, &limits) else { return };
    let mut all = All(0);
    let _ = each(&document, &limits, &mut all);
    assert!(all.0 <= limits.max_unpacked_bytes, "{} bytes", all.0);
    if let Ok(mut first) = open(&document, &|_| true, &limits) {
        let read = std::io::copy(&mut first, &mut std::io::sink()).unwrap_or(0);
        assert!(read <= limits.max_unpacked_bytes, "{read} bytes");
    }
}

/// Names, one a line, and after an empty line a text that they are looked for in.
#[expect(clippy::expect_used, reason = "names always make a matcher")]
fn matching(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (names, body) = text.split_once("\n\n").unwrap_or(("Turla\nAPT 28", &text));
    let known = names.lines().take(16).enumerate().map(|(at, name)| Named {
        kind: "threat_actor".to_owned(),
        key: format!("G{at:04}"),
        name: name.to_owned(),
        ..Named::default()
    });
    let matcher = Matcher::new(known.collect()).expect("a matcher");
    let _ = matcher.find(body);
}
