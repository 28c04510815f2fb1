//! Settings: where values come from, what survives, what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test fails by panicking")]

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use aegis_runtime::ConfigError;
use aegis_runtime::config::{field_names, load_from, redact};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Mode {
    Fast,
    Safe,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
struct Settings {
    listen: SocketAddr,
    data_dir: PathBuf,
    name: String,
    limit: u64,
    port: u16,
    offset: i64,
    ratio: f64,
    developer: bool,
    mode: Mode,
    origins: Vec<String>,
    database_url: Option<String>,
    max_age: Option<u32>,
    #[serde(serialize_with = "redact")]
    password: Option<SecretString>,
    #[serde(skip_serializing)]
    key: Option<SecretString>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8000)),
            data_dir: "./data".into(),
            name: "default".into(),
            limit: 10,
            port: 1,
            offset: 0,
            ratio: 0.5,
            developer: false,
            mode: Mode::Safe,
            origins: vec!["a".into()],
            database_url: None,
            max_age: None,
            password: Some(SecretString::from("built-in")),
            key: None,
        }
    }
}

fn env(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    let mut all: Vec<(OsString, OsString)> = pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    all.push(("PATH".into(), "/bin".into()));
    all.push(("AEGISX".into(), "not ours".into()));
    all
}

fn from_env(pairs: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    load_from(None, env(pairs), &(), &[])
}

fn exposed(secret: &Option<SecretString>) -> Option<&str> {
    secret.as_ref().map(ExposeSecret::expose_secret)
}

#[test]
fn nothing_given_is_the_default() {
    let settings = from_env(&[]).unwrap();
    assert_eq!(settings.name, "default");
    assert_eq!(settings.limit, 10);
    assert_eq!(exposed(&settings.password), Some("built-in"));
    assert_eq!(exposed(&settings.key), None);
}

#[test]
fn later_layers_win() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("aegis.toml");
    std::fs::write(&file, "name = \"file\"\nlimit = 20\nport = 2\norigins = [\"x\", \"y\"]\nmode = \"fast\"\n")
        .unwrap();
    let environment = env(&[("AEGIS_LIMIT", "30"), ("AEGIS_PORT", "3")]);
    let overrides = json!({"port": 4, "name": null});
    let settings: Settings = load_from(Some(&file), environment, &overrides, &[]).unwrap();
    assert_eq!(settings.name, "file");
    assert_eq!(settings.limit, 30);
    assert_eq!(settings.port, 4);
    assert_eq!(settings.origins, ["x", "y"]);
    assert_eq!(settings.mode, Mode::Fast);
    assert!(!settings.developer);
}

#[test]
fn text_stays_text_whatever_it_looks_like() {
    for text in [
        "12345678",
        "true",
        "007",
        "1e5",
        "-1",
        "0.10",
        "[1,2]",
        "{a=1}",
        "\"quoted\"",
        "null",
        " spaced ",
        "a,b",
        "10000000000000000000000000000000000000000000000000",
    ] {
        let settings = from_env(&[
            ("AEGIS_PASSWORD", text),
            ("AEGIS_KEY", text),
            ("AEGIS_NAME", text),
            ("AEGIS_DATABASE_URL", text),
            ("AEGIS_DATA_DIR", text),
        ])
        .unwrap();
        assert_eq!(exposed(&settings.password), Some(text));
        assert_eq!(exposed(&settings.key), Some(text));
        assert_eq!(settings.name, text);
        assert_eq!(settings.database_url.as_deref(), Some(text));
        assert_eq!(settings.data_dir, Path::new(text));
    }
}

#[test]
fn variables_fill_every_type() {
    let settings = from_env(&[
        ("AEGIS_LISTEN", "[::1]:9000"),
        ("AEGIS_LIMIT", "18446744073709551615"),
        ("AEGIS_PORT", "65535"),
        ("AEGIS_OFFSET", "-5"),
        ("AEGIS_RATIO", "0.25"),
        ("AEGIS_DEVELOPER", "true"),
        ("AEGIS_MODE", "fast"),
        ("AEGIS_ORIGINS", "https://a, https://b"),
        ("AEGIS_MAX_AGE", "7"),
    ])
    .unwrap();
    assert_eq!(settings.listen.port(), 9000);
    assert_eq!(settings.limit, u64::MAX);
    assert_eq!(settings.port, 65535);
    assert_eq!(settings.offset, -5);
    assert!((settings.ratio - 0.25).abs() < f64::EPSILON);
    assert!(settings.developer);
    assert_eq!(settings.mode, Mode::Fast);
    assert_eq!(settings.origins, ["https://a", "https://b"]);
    assert_eq!(settings.max_age, Some(7));
    assert!(!from_env(&[("AEGIS_DEVELOPER", "false")]).unwrap().developer);
    // Compose passes on what is not set as empty.
    assert_eq!(from_env(&[("AEGIS_LIMIT", "")]).unwrap().limit, 10);
}

#[test]
fn a_secret_may_come_from_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    std::fs::write(&file, "007\n").unwrap();
    let path = file.to_str().unwrap();
    let settings = from_env(&[("AEGIS_PASSWORD_FILE", path), ("AEGIS_KEY_FILE", path)]).unwrap();
    assert_eq!(exposed(&settings.password), Some("007"));
    assert_eq!(exposed(&settings.key), Some("007"));

    let both = from_env(&[("AEGIS_KEY_FILE", path), ("AEGIS_KEY", "x")]).unwrap_err();
    assert!(both.to_string().contains("AEGIS_KEY_FILE"), "{both}");
    let missing = from_env(&[("AEGIS_KEY_FILE", "/does/not/exist")]).unwrap_err();
    assert!(missing.to_string().contains("AEGIS_KEY_FILE"), "{missing}");
    assert!(missing.to_string().contains("/does/not/exist"), "{missing}");
}

#[test]
fn all_problems_are_told_with_their_origin_and_without_values() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("aegis.toml");
    std::fs::write(&file, "password = 87654321\nlimti = 3\nmax_age = -1\norigins = [1]\n").unwrap();
    let environment = env(&[
        ("AEGIS_PORT", "hunter2"),
        ("AEGIS_LIMIT", "-3"),
        ("AEGIS_MODE", "hunter3"),
        ("AEGIS_LISTEN", "nowhere"),
        ("AEGIS_DEVELOPER", "maybe"),
        ("AEGIS_NONSENSE", "hunter4"),
        ("AEGIS_TEST_URL", "ignored"),
        ("AEGIS_CONFIG", "ignored"),
    ]);
    let overrides = json!({"offset": "far", "unheard": 1});
    let error =
        load_from::<Settings>(Some(&file), environment, &overrides, &["AEGIS_TEST_*", "AEGIS_CONFIG"]).unwrap_err();
    let text = error.to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 12, "{text}");
    for (setting, origin) in [
        ("password", "aegis.toml"),
        ("limti", "aegis.toml"),
        ("max_age", "aegis.toml"),
        ("origins", "aegis.toml"),
        ("port", "AEGIS_PORT"),
        ("limit", "AEGIS_LIMIT"),
        ("mode", "AEGIS_MODE"),
        ("listen", "AEGIS_LISTEN"),
        ("developer", "AEGIS_DEVELOPER"),
        ("AEGIS_NONSENSE", "environment"),
        ("offset", "command line"),
        ("unheard", "command line"),
    ] {
        let start = format!("{setting}: ");
        let line = lines.iter().find(|line| line.starts_with(&start));
        let line = line.unwrap_or_else(|| panic!("{setting} is missing in\n{text}"));
        assert!(line.contains(origin), "{line}");
    }
    assert!(!text.contains("87654321") && !text.contains("hunter"), "{text}");
}

#[test]
fn a_file_that_is_missing_broken_or_huge_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("aegis.toml");
    let load = || load_from::<Settings>(Some(&file), env(&[]), &(), &[]).unwrap_err();
    assert!(load().to_string().contains("aegis.toml"));
    std::fs::write(&file, "name = \"x\"\npassword = \"hunter2\n").unwrap();
    let text = load().to_string();
    assert!(text.contains("line 2") && !text.contains("hunter2"), "{text}");
    std::fs::write(&file, vec![b'#'; 2 << 20]).unwrap();
    assert!(load().to_string().contains("1 MiB"));
    std::fs::write(&file, [0xff, 0xfe]).unwrap();
    load();
}

#[test]
fn names_and_output_are_complete_and_safe() {
    assert!(field_names::<Settings>().contains(&"key"));
    assert_eq!(field_names::<String>().len(), 0);
    let shown = serde_json::to_string(&Settings::default()).unwrap();
    assert!(shown.contains("[redacted]") && !shown.contains("built-in"));
}
