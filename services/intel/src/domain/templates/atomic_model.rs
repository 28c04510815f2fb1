//! What Atomic Red Team's published model allows.

use std::collections::HashSet;

use serde_json::Value;

/// The platforms of a test.
pub(super) const PLATFORMS: [&str; 13] = [
    "windows",
    "macos",
    "linux",
    "office-365",
    "azure-ad",
    "google-workspace",
    "saas",
    "iaas",
    "containers",
    "iaas:gcp",
    "iaas:azure",
    "iaas:aws",
    "esxi",
];

/// By hand; all others run a command.
pub(super) const MANUAL: &str = "manual";
/// What runs a test.
pub(super) const EXECUTORS: [&str; 5] = [MANUAL, "powershell", "sh", "bash", "command_prompt"];

/// The types of an argument, in lower case; the first letter may be upper case.
pub(super) const ARGUMENT_TYPES: [&str; 5] = ["url", "string", "float", "integer", "path"];

/// Steps of a manual test, in characters.
pub(super) const MIN_STEPS_CHARS: usize = 10;
/// The technique's name, in characters.
pub(super) const MIN_DISPLAY_NAME_CHARS: usize = 5;
/// An argument's name, in characters.
pub(super) const MIN_ARGUMENT_CHARS: usize = 2;

/// Whether an argument can be named so.
pub(super) fn is_argument_name(name: &str) -> bool {
    name.chars().count() >= MIN_ARGUMENT_CHARS && name.chars().all(is_argument_char)
}

pub(super) fn is_argument_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '-'
}

/// The parts of a text: what stands between placeholders, and the names in placeholders.
pub(super) enum Part<'a> {
    /// As it is.
    Text(&'a str),
    /// `#{name}`; it ends on its line.
    Placeholder(&'a str),
}

/// A command cut at its placeholders.
pub(super) fn split(command: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = command;
    let mut from = 0;
    while let Some(start) = rest.get(from..).and_then(|tail| tail.find("#{")).map(|at| from + at) {
        let inside = &rest[start + 2..];
        match inside.find(['}', '\n']) {
            Some(end) if inside[end..].starts_with('}') => {
                parts.push(Part::Text(&rest[..start]));
                parts.push(Part::Placeholder(&inside[..end]));
                rest = &inside[end + 1..];
                from = 0;
            }
            // Nothing else ends on this line either.
            Some(end) => from = start + 2 + end,
            None => break,
        }
    }
    parts.push(Part::Text(rest));
    parts
}

/// The names in the placeholders of some texts, each once.
pub(super) fn placeholders<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = HashSet::new();
    let names = texts.into_iter().flat_map(split).filter_map(|part| match part {
        Part::Placeholder(name) => Some(name),
        Part::Text(_) => None,
    });
    names.filter(|name| seen.insert(*name)).collect()
}

/// Whether a test of these platforms with these commands must say that it needs elevation.
pub(super) fn needs_elevation<'a>(platforms: &[&str], commands: impl IntoIterator<Item = &'a str>) -> bool {
    platforms.iter().any(|platform| matches!(*platform, "linux" | "macos"))
        && commands.into_iter().any(|command| command.contains("sudo"))
}

/// A flag as the model reads it, which also knows some words and numbers.
pub(super) fn flag(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::Number(number) => match number.as_i64()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        },
        Value::String(text) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "y" | "t" | "1" => Some(true),
            "false" | "no" | "off" | "n" | "f" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_end_on_their_line() {
        assert_eq!(placeholders(["a #{one} #{two}#{one}", "#{three"]), ["one", "two"]);
        assert_eq!(placeholders(["#{not\nclosed} #{yes}"]), ["yes"]);
        assert_eq!(placeholders(["#{}"]), [""]);
        assert_eq!(placeholders(["#{a#{b}"]), ["a#{b"]);
        assert!(placeholders(["${#array[@]} #"]).is_empty());
        assert_eq!(placeholders(["#{a #{b\n #{c} #{d"]), ["c"]);
    }

    #[test]
    fn names_of_arguments() {
        assert!(is_argument_name("output_file-2"));
        for name in ["", "a", "host.user", "a b"] {
            assert!(!is_argument_name(name), "{name}");
        }
    }
}
