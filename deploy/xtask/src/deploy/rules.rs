//! What holds of every container, wherever it is described.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use serde_json::Value;

use super::tools;

/// Variables of a container.
pub type Variables = BTreeMap<String, String>;

/// Whether an image is named with a version that is one.
pub fn pinned(image: &str) -> bool {
    let name = image.rsplit('/').next().unwrap_or(image);
    name.split_once([':', '@']).is_some_and(|(_, version)| version.contains(|c: char| c.is_ascii_digit()))
}

/// What is wrong with the variables: secrets belong in files.
pub fn open_secrets(variables: &Variables) -> Vec<String> {
    let is_secret = |name: &str| {
        ["PASSWORD", "SECRET", "TOKEN", "ACCESS_KEY", "DATABASE_URL", "BROKER_URL", "CACHE_URL"]
            .iter()
            .any(|word| name.contains(word))
    };
    let open =
        variables.iter().filter(|(name, value)| is_secret(name) && !name.ends_with("_FILE") && !value.is_empty());
    open.map(|(name, _)| format!("{name} is a secret and not in a file")).collect()
}

/// Asks the product whether it understands these settings.
pub fn understood(binary: &Path, variables: &Variables) -> Result<()> {
    let mut command = Command::new(binary);
    tools::answer(command.arg("config").env_clear().envs(variables)).map(drop)
}

/// The text at a path of a document, such as `/spec/replicas`.
pub fn text<'a>(document: &'a Value, path: &str) -> &'a str {
    document.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

/// The list at a path of a document; none is an empty one.
pub fn list<'a>(document: &'a Value, path: &str) -> &'a [Value] {
    document.pointer(path).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Whether the value at a path is `true`.
pub fn holds(document: &Value, path: &str) -> bool {
    document.pointer(path) == Some(&Value::Bool(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_more_than_a_word() {
        for (image, good) in [
            ("postgres:17.11-bookworm", true),
            ("registry.example.com:5000/aegis:0.1.0", true),
            ("a@sha256:0123", true),
            ("postgres", false),
            ("postgres:latest", false),
            ("registry.example.com:5000/aegis", false),
        ] {
            assert_eq!(pinned(image), good, "{image}");
        }
    }

    #[test]
    fn secrets_are_told_from_their_files() {
        let variables = [("AEGIS_SERVICE_SECRET_FILE", "/f"), ("POSTGRES_PASSWORD", "x"), ("AEGIS_LOG", "info")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert_eq!(open_secrets(&variables), ["POSTGRES_PASSWORD is a secret and not in a file"]);
    }
}
