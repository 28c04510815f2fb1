//! Manifests and folders as an auditor has them: whole, altered, hostile.

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::Parser;
use ed25519_dalek::{Signer, SigningKey};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::*;
use crate::cli::{Cli, Command};

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn jwk(key: &SigningKey) -> Value {
    let x = URL_SAFE_NO_PAD.encode(key.verifying_key().as_bytes());
    json!({"kty": "OKP", "crv": "Ed25519", "kid": "k1", "alg": "EdDSA", "use": "sig", "x": x})
}

fn listed(files: &[(&str, &[u8])]) -> Value {
    let rows = files.iter().enumerate().map(|(n, (name, bytes))| {
        json!({
            "id": format!("0190b7a2-8000-7e21-b0aa-{n:012}"), "file_name": name, "size_bytes": bytes.len(),
            "sha256": hex::encode(Sha256::digest(bytes)), "team": "red", "uploaded_by_username": "ana",
        })
    });
    json!({
        "kind": "aegis-evidence-manifest", "version": 1,
        "test": {"id": "0190b7a2-6a00-7b1d-8c55-0f3a9d2b7c01", "name": "Encoded command", "state": "in_review"},
        "files": rows.collect::<Vec<_>>(), "generated_at": "2026-01-01T00:00:00Z",
    })
}

/// As the product writes it.
fn signed(manifest: &Value, kind: &str, key: &SigningKey) -> Value {
    let protected = json!({"alg": "EdDSA", "typ": kind, "kid": "k1"}).to_string();
    let (protected, payload) = (URL_SAFE_NO_PAD.encode(protected), URL_SAFE_NO_PAD.encode(manifest.to_string()));
    let signature = key.sign(format!("{protected}.{payload}").as_bytes()).to_bytes();
    json!({
        "payload": payload, "protected": protected, "signature": URL_SAFE_NO_PAD.encode(signature),
        "header": {"jwk": jwk(key)}, "manifest": manifest,
    })
}

/// A folder with files, and a manifest beside it.
struct Case {
    folder: TempDir,
    jwks: Option<PathBuf>,
}

impl Case {
    fn new(files: &[(&str, &[u8])]) -> Case {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("files")).unwrap();
        let case = Case { folder, jwks: None };
        for (name, bytes) in files {
            fs::write(case.files().join(name), bytes).unwrap();
        }
        case
    }

    fn files(&self) -> PathBuf {
        self.folder.path().join("files")
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn keys(mut self, keys: &[SigningKey]) -> Case {
        let jwks = json!({"keys": keys.iter().map(jwk).collect::<Vec<_>>()});
        let path = self.at("jwks.json");
        fs::write(&path, jwks.to_string()).unwrap();
        self.jwks = Some(path);
        self
    }

    fn verify(&self, manifest: &str) -> Result<Report> {
        let path = self.at("manifest.json");
        fs::write(&path, manifest).unwrap();
        verify_at(&path, &self.files(), self.jwks.as_deref())
    }

    /// Of files, signed as they should be.
    fn verify_files(&self, files: &[(&str, &[u8])]) -> Report {
        self.verify(&signed(&listed(files), "aegis-evidence-manifest", &key(7)).to_string()).unwrap()
    }

    /// Why a manifest proves nothing.
    fn refused(&self, manifest: &str) -> String {
        format!("{:#}", self.verify(manifest).err().expect("it is refused"))
    }
}

fn verify_at(manifest: &Path, folder: &Path, jwks: Option<&Path>) -> Result<Report> {
    let args =
        EvidenceVerifyArgs { manifest: manifest.to_owned(), folder: folder.to_owned(), jwks: jwks.map(Path::to_owned) };
    verify(&args, Output { json: true })
}

fn states(report: &Report) -> Vec<&'static str> {
    report.found.files.iter().map(|file| file.status.name()).collect()
}

#[test]
fn files_that_are_as_they_were_are_proved() {
    let files: &[(&str, &[u8])] = &[("a.txt", b"one"), ("Überwachung – 証拠.pcap", b""), ("c (1).bin", &[0; 70_000])];
    let report = Case::new(files).verify_files(files);
    assert!(report.good());
    assert_eq!(states(&report), ["ok", "ok", "ok"]);
    assert!(report.found.extra.is_empty());
    let told = report.json();
    assert_eq!((&told["valid"], &told["ok"], &told["key"]["trusted"]), (&json!(true), &json!(3), &Value::Null));
    assert_eq!(told["key"]["thumbprint"].as_str().map(str::len), Some(43));

    // The manifest of a test without files holds too.
    assert!(Case::new(&[]).verify_files(&[]).good());
}

#[test]
fn what_became_of_each_file_is_told() {
    let case =
        Case::new(&[("same.txt", b"same"), ("other.txt", b"0ther"), ("longer.txt", b"longer!"), ("new.txt", b"")]);
    fs::create_dir(case.files().join("folder.txt")).unwrap();
    let report = case.verify_files(&[
        ("same.txt", b"same"),
        ("other.txt", b"other"),
        ("longer.txt", b"longer"),
        ("gone.txt", b"gone"),
        ("folder.txt", b"x"),
    ]);
    assert!(!report.good());
    assert_eq!(states(&report), ["ok", "altered", "altered", "missing", "missing"]);
    assert_eq!(report.found.extra, ["new.txt"]);
    assert_eq!(report.found.files[2].problem, "it has 7 bytes, not 6");
    assert_eq!(report.json()["altered"], 2);
}

#[test]
fn files_of_one_name_are_found_by_their_bytes() {
    let manifest: &[(&str, &[u8])] = &[("shot.png", b"one"), ("shot.png", b"two"), ("b.txt", b"six")];
    let all: &[(&str, &[u8])] = &[("shot.png", b"two"), ("shot (1).png", b"one"), ("b.txt", b"six")];
    let report = Case::new(all).verify_files(manifest);
    assert!(report.good());
    let found: Vec<_> = report.found.files.iter().map(|file| file.found_as.as_deref().unwrap()).collect();
    assert_eq!(found, ["shot (1).png", "shot.png", "b.txt"]);

    let report = Case::new(&[("shot.png", b"0ne"), ("b.txt", b"six")]).verify_files(manifest);
    assert_eq!(states(&report), ["altered", "missing", "ok"]);
    // A file that is another one's by its name is not taken for it.
    let manifest: &[(&str, &[u8])] = &[("shot.png", b"one"), ("shot.png", b"six"), ("b.txt", b"six")];
    let report = Case::new(&[("shot.png", b"one"), ("b.txt", b"six")]).verify_files(manifest);
    assert_eq!(states(&report), ["ok", "missing", "ok"]);
}

#[test]
fn what_lies_beside_the_files_does_no_harm() {
    let files: &[(&str, &[u8])] = &[("a.txt", b"one")];
    let case = Case::new(files).keys(&[key(7)]);
    let manifest = signed(&listed(files), "aegis-evidence-manifest", &key(7)).to_string();
    let (path, jwks) = (case.files().join("manifest.json"), case.files().join("jwks.json"));
    fs::write(&path, manifest).unwrap();
    fs::copy(case.jwks.as_ref().unwrap(), &jwks).unwrap();
    fs::create_dir(case.files().join("below")).unwrap();
    let report = verify_at(&path, &case.files(), Some(&jwks)).unwrap();
    assert!(report.good() && report.found.extra.is_empty(), "{:?}", report.found);
}

#[cfg(unix)]
#[test]
fn links_are_not_followed() {
    let case = Case::new(&[]);
    fs::write(case.at("outside"), b"one").unwrap();
    std::os::unix::fs::symlink(case.at("outside"), case.files().join("a.txt")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", case.files().join("b.txt")).unwrap();
    let report = case.verify_files(&[("a.txt", b"one"), ("b.txt", b"one")]);
    assert_eq!(states(&report), ["missing", "missing"]);
}

#[test]
fn the_key_must_be_a_known_one_where_some_are_known() {
    let files: &[(&str, &[u8])] = &[("a.txt", b"one")];
    let manifest = signed(&listed(files), "aegis-evidence-manifest", &key(7)).to_string();
    let known = Case::new(files).keys(&[key(8), key(7)]).verify(&manifest).unwrap();
    assert!(known.good() && known.json()["key"]["trusted"] == true);

    // Of the same id and another key.
    let stranger = Case::new(files).keys(&[key(8)]).refused(&manifest);
    assert!(stranger.contains("not in") && stranger.contains("jwks.json"), "{stranger}");
    let mut case = Case::new(files);
    fs::write(case.at("keys"), "{}").unwrap();
    case.jwks = Some(case.at("keys"));
    assert!(case.refused(&manifest).contains("no set of keys"));
}

#[test]
fn a_manifest_that_was_touched_proves_nothing() {
    let files: &[(&str, &[u8])] = &[("a.txt", b"one")];
    let case = Case::new(files);
    let good = signed(&listed(files), "aegis-evidence-manifest", &key(7));
    let with = |change: &dyn Fn(&mut Value)| {
        let mut manifest = good.clone();
        change(&mut manifest);
        case.refused(&manifest.to_string())
    };
    let other = URL_SAFE_NO_PAD.encode(listed(&[("a.txt", b"two")]).to_string());
    assert!(with(&|m| m["payload"] = other.clone().into()).contains("does not hold"));
    assert!(with(&|m| m["header"]["jwk"] = jwk(&key(8))).contains("does not hold"));
    assert!(with(&|m| m["manifest"]["files"][0]["size_bytes"] = 4.into()).contains("not what is signed"));
    assert!(with(&|m| m["manifest"] = Value::Null).contains("not what is signed"));
    assert!(with(&|m| m["signature"] = "AAAA".into()).contains("64 bytes"));
    assert!(with(&|m| m["signature"] = "!".into()).contains("base64url"));
    assert!(with(&|m| m["header"]["jwk"]["kty"] = "RSA".into()).contains("Ed25519"));
    assert!(with(&|m| m["header"]["jwk"]["x"] = "AA".into()).contains("32 bytes"));
    let header = |header: Value| URL_SAFE_NO_PAD.encode(header.to_string());
    let none = header(json!({"alg": "none", "typ": "aegis-evidence-manifest"}));
    assert!(with(&|m| m["protected"] = none.clone().into()).contains("does not know"));
    let crit = header(json!({"alg": "EdDSA", "typ": "aegis-evidence-manifest", "crit": ["b64"], "b64": false}));
    assert!(with(&|m| m["protected"] = crit.clone().into()).contains("does not know"));
    // Good signatures over something else.
    let token = signed(&listed(files), "jwt", &key(7)).to_string();
    assert!(case.refused(&token).contains("aegis-evidence-manifest"));
    let mut newer = listed(files);
    newer["version"] = 2.into();
    let newer = signed(&newer, "aegis-evidence-manifest", &key(7)).to_string();
    assert!(case.refused(&newer).contains("version 2"));
    let list = signed(&json!([1]), "aegis-evidence-manifest", &key(7)).to_string();
    assert!(case.refused(&list).contains("version"));
    for no_manifest in ["", "{}", "[]", "not JSON", "{\"payload\": 1}"] {
        assert!(case.refused(no_manifest).contains("download it again"), "{no_manifest}");
    }
    assert!(case.verify(&good.to_string()).is_ok_and(|report| report.good()));
}

#[test]
fn names_do_not_lead_outside() {
    let case = Case::new(&[]);
    let long = "n".repeat(256);
    for name in ["../manifest.json", "/etc/passwd", "..", ".", "", "a/b", "a\\b", "a/", "./a", "nul\0", &long] {
        let manifest = signed(&listed(&[(name, b"one")]), "aegis-evidence-manifest", &key(7)).to_string();
        let refused = case.refused(&manifest);
        assert!(refused.contains("outside the folder"), "{name}: {refused}");
    }
    let mut manifest = listed(&[("a.txt", b"one")]);
    manifest["files"][0]["sha256"] = "ABC".into();
    assert!(case.refused(&signed(&manifest, "aegis-evidence-manifest", &key(7)).to_string()).contains("SHA-256"));
}

#[test]
fn what_cannot_be_read_is_told() {
    let case = Case::new(&[]);
    let missing = verify_at(&case.at("nowhere.json"), &case.files(), None).err().unwrap();
    assert!(format!("{missing:#}").contains("cannot read the manifest"), "{missing:#}");
    assert!(case.refused(&" ".repeat(4 * 1024 * 1024 + 1)).contains("more than 4 MiB"));
    let manifest = case.at("manifest.json");
    fs::write(&manifest, signed(&listed(&[]), "aegis-evidence-manifest", &key(7)).to_string()).unwrap();
    let no_folder = verify_at(&manifest, &manifest, None).err().unwrap();
    assert!(format!("{no_folder:#}").contains("give the folder"), "{no_folder:#}");
}

#[test]
fn a_name_cannot_play_with_the_terminal() {
    assert_eq!(shown("Übersicht 証拠.png"), "Übersicht 証拠.png");
    assert_eq!(shown("a\u{1b}[2Jb\u{202e}gpj.exe"), "a\\u{1b}[2Jb\\u{202e}gpj.exe");
}

#[test]
fn the_command_ends_with_what_it_found() {
    let files: &[(&str, &[u8])] = &[("a.txt", b"one")];
    let case = Case::new(files);
    let manifest = case.at("manifest.json");
    fs::write(&manifest, signed(&listed(files), "aegis-evidence-manifest", &key(7)).to_string()).unwrap();
    let run = |json: bool| {
        let (manifest, folder) = (manifest.to_str().unwrap(), case.files());
        let mut line = vec!["aegis", "evidence", "verify", manifest, folder.to_str().unwrap()];
        line.extend(json.then_some("--json"));
        let cli = Cli::try_parse_from(line).unwrap();
        let Some(Command::Evidence(command)) = &cli.command else { panic!("another command") };
        super::run(command, Output { json: cli.json }).unwrap()
    };
    for json in [false, true] {
        assert_eq!(format!("{:?}", run(json)), format!("{:?}", ExitCode::SUCCESS));
    }
    fs::write(case.files().join("a.txt"), b"0ne").unwrap();
    for json in [false, true] {
        assert_eq!(format!("{:?}", run(json)), format!("{:?}", ExitCode::from(1)));
    }
    let incomplete = Cli::try_parse_from(["aegis", "evidence", "verify"]).unwrap_err();
    assert!(incomplete.to_string().contains("MANIFEST"), "{incomplete}");
}
