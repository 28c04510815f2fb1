//! Settings: compiled-in defaults, then a TOML file, then `AEGIS_…` variables, then the command line.
//!
//! A settings struct is flat and has `#[serde(default)]`; the variable of the field `database_url`
//! is `AEGIS_DATABASE_URL`, or `AEGIS_DATABASE_URL_FILE` with a file that holds the value.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::io::Read;
use std::path::Path;

use figment::Figment;
use figment::error::{Actual, Kind};
use figment::providers::Serialized;
use figment::value::{Dict, Value};
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};

pub use crate::fields::field_names;

const PREFIX: &str = "AEGIS_";
const FILE_SUFFIX: &str = "_FILE";
/// Settings and secrets are small; a wrong path to something large must not be read whole.
const MAX_FILE: u64 = 1024 * 1024;
const REDACTED: &str = "[redacted]";

/// Everything that is wrong with the settings, one problem a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<String>,
}

impl ConfigError {
    /// An error of these problems; for checks that a type alone cannot make.
    pub fn new(problems: Vec<String>) -> Self {
        Self { problems }
    }

    /// The problems, each naming the setting and where its value came from.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

/// Serialises a secret setting without its value: `#[serde(serialize_with = "config::redact")]`.
pub fn redact<S: Serializer>(value: &Option<SecretString>, to: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(_) => to.serialize_some(REDACTED),
        None => to.serialize_none(),
    }
}

/// Reads the settings of this process.
///
/// An empty variable counts as not set. `overrides` is what the command line gave: anything that
/// serialises to a map, where null is "not given". An `AEGIS_` variable (or a key of the file) that
/// is no field of `T` is an error, except those named in `ignored`, as variables; a name there may
/// end with `*`.
pub fn load<T>(file: Option<&Path>, overrides: &impl Serialize, ignored: &[&str]) -> Result<T, ConfigError>
where
    T: DeserializeOwned + Serialize + Default,
{
    load_from(file, std::env::vars_os(), overrides, ignored)
}

/// [`load`] with the environment handed in.
pub fn load_from<T>(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    overrides: &impl Serialize,
    ignored: &[&str],
) -> Result<T, ConfigError>
where
    T: DeserializeOwned + Serialize + Default,
{
    let mut layers = Layers::new::<T>(ignored)?;
    if let Some(file) = file {
        layers.file(file);
    }
    layers.environment(environment);
    layers.overrides(overrides);
    layers.extract()
}

/// The merged values, with the origin of each for messages.
struct Layers<'a> {
    known: BTreeSet<String>,
    ignored: &'a [&'a str],
    values: Dict,
    origins: BTreeMap<String, String>,
    problems: Vec<String>,
}

impl<'a> Layers<'a> {
    fn new<T>(ignored: &'a [&'a str]) -> Result<Self, ConfigError>
    where
        T: DeserializeOwned + Serialize + Default,
    {
        let mut values = to_dict(&T::default())?;
        let mut known: BTreeSet<String> = values.keys().cloned().collect();
        known.extend(field_names::<T>().iter().map(|name| (*name).to_owned()));
        // A redacted default stands for a value that only `T::default()` has.
        values.retain(|_, value| value.as_str() != Some(REDACTED));
        Ok(Self { known, ignored, values, origins: BTreeMap::new(), problems: Vec::new() })
    }

    fn is_ignored(&self, variable: &str) -> bool {
        self.ignored.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(start) => variable.starts_with(start),
            None => variable == *pattern,
        })
    }

    fn put(&mut self, key: String, value: Value, origin: String) {
        self.values.insert(key.clone(), value);
        self.origins.insert(key, origin);
    }

    fn file(&mut self, path: &Path) {
        let shown = path.display();
        let text = match read_bounded(path) {
            Ok(text) => text,
            Err(e) => return self.problems.push(format!("settings file {shown}: {e}")),
        };
        let table: toml::Table = match toml::from_str(&text) {
            Ok(table) => table,
            Err(e) => {
                // The error's own text quotes the line, which may hold a secret.
                let before = e.span().and_then(|span| text.get(..span.start));
                let line = before.map_or(1, |before| before.matches('\n').count() + 1);
                return self.problems.push(format!("settings file {shown}, line {line}: {}", e.message()));
            }
        };
        for (key, value) in table {
            let origin = format!("file {shown}");
            if !self.known.contains(&key) {
                if !self.is_ignored(&format!("{PREFIX}{}", key.to_uppercase())) {
                    self.problems.push(format!("{key}: unknown setting (from {origin})"));
                }
                continue;
            }
            match Value::serialize(value) {
                Ok(value) => self.put(key, value, origin),
                Err(e) => self.problems.push(format!("{key}: {} (from {origin})", describe(&e.kind))),
            }
        }
    }

    fn environment(&mut self, environment: impl IntoIterator<Item = (OsString, OsString)>) {
        let mut given: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in environment {
            // A name that is no text is not ours.
            let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else {
                continue;
            };
            if self.is_ignored(name) || value.is_empty() {
                continue;
            }
            match value.into_string() {
                Ok(value) => drop(given.insert(name.to_owned(), value)),
                Err(_) => self.problems.push(format!("{name}: the value is no UTF-8")),
            }
        }
        for (name, value) in &given {
            let key = name[PREFIX.len()..].to_lowercase();
            if self.known.contains(&key) {
                // Kept as text: only the field's own type decides whether it is a number.
                self.put(key, Value::from(value.as_str()), name.clone());
            } else if let Some(plain) = self.secret_file_target(name) {
                self.secret_file(name, value, plain, &given);
            } else {
                self.problems.push(format!("{name}: unknown setting (from the environment)"));
            }
        }
    }

    /// The field that `AEGIS_…_FILE` is for.
    fn secret_file_target(&self, variable: &str) -> Option<String> {
        let key = variable.strip_prefix(PREFIX)?.strip_suffix(FILE_SUFFIX)?.to_lowercase();
        self.known.contains(&key).then_some(key)
    }

    fn secret_file(&mut self, name: &str, path: &str, key: String, given: &BTreeMap<String, String>) {
        let direct = name.trim_end_matches(FILE_SUFFIX);
        if given.contains_key(direct) {
            return self.problems.push(format!("{name}: {direct} is set too; give one of them"));
        }
        match read_bounded(Path::new(path)) {
            Ok(text) => self.put(key, Value::from(text.trim()), format!("{name}, {path}")),
            Err(e) => self.problems.push(format!("{name}: cannot read {path}: {e}")),
        }
    }

    fn overrides(&mut self, overrides: &impl Serialize) {
        match to_dict(overrides) {
            Ok(dict) => {
                for (key, value) in dict {
                    match value {
                        Value::Empty(..) => {}
                        _ if !self.known.contains(&key) => {
                            self.problems.push(format!("{key}: unknown setting (from the command line)"))
                        }
                        value => self.put(key, value, "the command line".to_owned()),
                    }
                }
            }
            Err(e) => self.problems.extend(e.problems),
        }
    }

    /// Builds `T`. A setting that does not fit is noted, taken out, and the rest tried again, so
    /// that all of them are found.
    fn extract<T: DeserializeOwned>(mut self) -> Result<T, ConfigError> {
        loop {
            // "Lossy" reads numbers and booleans from text where the field is one.
            let figment = Figment::from(Serialized::defaults(&self.values));
            let error = match figment.extract_lossy::<T>() {
                Ok(config) if self.problems.is_empty() => return Ok(config),
                Ok(_) => break,
                Err(error) => error,
            };
            let Some(key) = error.path.first().cloned() else {
                self.problems.push(describe(&error.kind));
                break;
            };
            let removed = self.values.remove(&key);
            let Some(origin) = self.origins.remove(&key) else {
                self.problems.push(format!("{key}: {} (from the defaults)", describe(&error.kind)));
                if removed.is_none() {
                    break;
                }
                continue;
            };
            // A list in a variable is separated by commas.
            if let (Some(text), Kind::InvalidType(Actual::Str(_), expected)) =
                (removed.as_ref().and_then(Value::as_str), &error.kind)
                && error.path.len() == 1
                && origin.starts_with(PREFIX)
                && expected.contains("sequence")
            {
                let items: Vec<&str> = text.split(',').map(str::trim).collect();
                self.put(key, Value::from(items), format!("variable {origin}"));
                continue;
            }
            self.problems.push(format!("{key}: {} (from {origin})", describe(&error.kind)));
        }
        self.problems.sort_unstable();
        self.problems.dedup();
        Err(ConfigError::new(self.problems))
    }
}

fn to_dict(value: &impl Serialize) -> Result<Dict, ConfigError> {
    match Value::serialize(value) {
        Ok(Value::Dict(_, dict)) => Ok(dict),
        Ok(Value::Empty(..)) => Ok(Dict::new()),
        Ok(_) => Err(ConfigError::new(vec!["settings must serialise to a map".to_owned()])),
        Err(e) => Err(ConfigError::new(vec![describe(&e.kind)])),
    }
}

/// What a file of settings or of a secret holds; an error beyond 1 MiB.
pub fn read_bounded(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    file.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(std::io::Error::other("larger than 1 MiB"));
    }
    Ok(text)
}

/// What is wrong, without the value: it may be a secret in the wrong place.
fn describe(kind: &Kind) -> String {
    match kind {
        Kind::InvalidType(actual, expected) => {
            format!("expected {expected}, found {}", type_name(actual))
        }
        Kind::InvalidValue(_, expected) => {
            format!("expected {expected}, found a value that is malformed or out of range")
        }
        Kind::InvalidLength(length, expected) => {
            format!("expected {expected}, found {length} items")
        }
        Kind::UnknownVariant(_, expected) => format!("expected one of {}", expected.join(", ")),
        Kind::UnknownField(name, _) => format!("{name}: unknown setting"),
        Kind::MissingField(name) => format!("{name}: not set"),
        Kind::ISizeOutOfRange(_) | Kind::USizeOutOfRange(_) => "out of range".to_owned(),
        other => other.to_string(),
    }
}

fn type_name(actual: &Actual) -> &'static str {
    match actual {
        Actual::Bool(_) => "a boolean",
        Actual::Unsigned(_) | Actual::Signed(_) => "an integer",
        Actual::Float(_) => "a number",
        Actual::Char(_) | Actual::Str(_) | Actual::Bytes(_) => "text",
        Actual::Seq => "a list",
        Actual::Map => "a table",
        Actual::Unit | Actual::Option => "nothing",
        _ => "something else",
    }
}
