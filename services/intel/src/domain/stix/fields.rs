//! Reads single fields of a STIX object, each checked and bounded. The errors name the field.

use serde_json::{Map, Value};

const MAX_NAME_CHARS: usize = 512;
const MAX_DESCRIPTION_BYTES: usize = 100_000;
const MAX_PLATFORMS: usize = 64;
pub(super) const MAX_WORD_CHARS: usize = 100;
const MAX_URL_BYTES: usize = 2048;
/// A text of an entry in a list, such as what a reference is about; the longest of 18.1 has 505.
const MAX_TEXT_BYTES: usize = 10_000;
pub(super) const MAX_STIX_ID_BYTES: usize = 128;

pub(super) fn shorten(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(40).collect()
}

pub(super) fn attack_reference(references: &Value) -> Option<&Map<String, Value>> {
    references.as_array()?.iter().filter_map(Value::as_object).find(|reference| {
        matches!(
            reference.get("source_name").and_then(Value::as_str),
            Some("mitre-attack" | "mitre-mobile-attack" | "mitre-ics-attack")
        )
    })
}

pub(super) fn reference(object: &Map<String, Value>) -> Result<&Map<String, Value>, String> {
    let references = object.get("external_references").unwrap_or(&Value::Null);
    attack_reference(references)
        .ok_or_else(|| "it has no ATT&CK id: no external_references entry of mitre-attack".to_owned())
}

pub(super) fn reference_id(reference: &Map<String, Value>) -> Result<&str, String> {
    let id = reference.get("external_id").and_then(Value::as_str);
    id.ok_or_else(|| "it has no ATT&CK id: external_id is missing".to_owned())
}

pub(super) fn stix_id(object: &Map<String, Value>, kind: &str) -> Result<String, String> {
    match text(object, "id")? {
        Some(id) if id.len() > MAX_STIX_ID_BYTES => Err(format!("id is longer than {MAX_STIX_ID_BYTES} bytes")),
        Some(id) if id.strip_prefix(kind).and_then(|id| id.strip_prefix("--")).is_some_and(|id| !id.is_empty()) => {
            Ok(id.to_owned())
        }
        Some(id) => Err(format!("id `{}` does not begin with `{kind}--`", shorten(id))),
        None => Err("id is missing".to_owned()),
    }
}

/// A page's address, unless it is none that a browser should be sent to.
pub(super) fn web_address(url: &str) -> Option<&str> {
    let known = url.starts_with("https://") || url.starts_with("http://");
    (known && url.len() <= MAX_URL_BYTES && !url.chars().any(|c| c.is_control() || c.is_whitespace())).then_some(url)
}

pub(super) fn url(reference: &Map<String, Value>) -> Option<String> {
    reference.get("url").and_then(Value::as_str).and_then(web_address).map(str::to_owned)
}

/// PostgreSQL's text holds no NUL, so neither does a record.
fn without_nul<'a>(field: &str, text: &'a str) -> Result<&'a str, String> {
    match text.contains('\0') {
        true => Err(format!("{field} holds a NUL character")),
        false => Ok(text),
    }
}

/// A text field; absent and null are one.
pub(super) fn text<'a>(object: &'a Map<String, Value>, field: &str) -> Result<Option<&'a str>, String> {
    match object.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => without_nul(field, text).map(Some),
        Some(_) => Err(format!("{field} is not a text")),
    }
}

pub(super) fn flag(object: &Map<String, Value>, field: &str) -> Result<bool, String> {
    match object.get(field) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(format!("{field} is neither true nor false")),
    }
}

pub(super) fn name(object: &Map<String, Value>) -> Result<String, String> {
    let name = text(object, "name")?.map(str::trim).unwrap_or_default();
    if name.is_empty() {
        return Err("name is missing".to_owned());
    }
    if name.chars().count() > MAX_NAME_CHARS {
        return Err(format!("name is longer than {MAX_NAME_CHARS} characters"));
    }
    Ok(name.to_owned())
}

pub(super) fn description(object: &Map<String, Value>) -> Result<Option<String>, String> {
    described(text(object, "description")?)
}

/// Markdown as published; a blank one is none.
pub(super) fn described(description: Option<&str>) -> Result<Option<String>, String> {
    match description.map(|text| without_nul("description", text)).transpose()? {
        Some(text) if text.len() > MAX_DESCRIPTION_BYTES => {
            Err(format!("description is longer than {MAX_DESCRIPTION_BYTES} bytes"))
        }
        Some(text) if !text.trim().is_empty() => Ok(Some(text.to_owned())),
        _ => Ok(None),
    }
}

pub(super) fn version(object: &Map<String, Value>) -> Result<Option<String>, String> {
    match text(object, "x_mitre_version")?.map(str::trim) {
        Some(version) if version.len() > 32 => Err("x_mitre_version is longer than 32 bytes".to_owned()),
        Some(version) if !version.is_empty() => Ok(Some(version.to_owned())),
        _ => Ok(None),
    }
}

pub(super) fn word<'a>(field: &str, text: &'a str) -> Result<&'a str, String> {
    let text = text.trim();
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(format!("{field} is empty or holds control characters"));
    }
    if text.chars().count() > MAX_WORD_CHARS {
        return Err(format!("{field} is longer than {MAX_WORD_CHARS} characters"));
    }
    Ok(text)
}

/// A field's list; absent and null are an empty one.
pub(super) fn list<'a>(object: &'a Map<String, Value>, field: &str, most: usize) -> Result<&'a [Value], String> {
    match object.get(field) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(items)) if items.len() > most => Err(format!("{field} has more than {most} entries")),
        Some(Value::Array(items)) => Ok(items),
        Some(_) => Err(format!("{field} is not a list")),
    }
}

/// A list of short texts, each once.
pub(super) fn words(object: &Map<String, Value>, field: &str, most: usize) -> Result<Vec<String>, String> {
    let items = list(object, field, most)?;
    let mut found: Vec<String> = Vec::with_capacity(items.len());
    for item in items {
        let item = word(field, item.as_str().ok_or_else(|| format!("{field} holds something that is not a text"))?)?;
        if !found.iter().any(|known| known == item) {
            found.push(item.to_owned());
        }
    }
    Ok(found)
}

/// The publisher writes "None" where a technique has no platform.
pub(super) fn platforms(object: &Map<String, Value>) -> Result<Vec<String>, String> {
    let mut platforms = words(object, "x_mitre_platforms", MAX_PLATFORMS)?;
    platforms.retain(|platform| !platform.eq_ignore_ascii_case("none"));
    Ok(platforms)
}

/// A short text that may be absent; an empty one is.
pub(super) fn short(object: &Map<String, Value>, field: &str) -> Result<Option<String>, String> {
    match text(object, field)?.filter(|text| !text.trim().is_empty()) {
        Some(text) => word(field, text).map(|text| Some(text.to_owned())),
        None => Ok(None),
    }
}

/// A longer text that may be absent; an empty one is.
pub(super) fn long(object: &Map<String, Value>, field: &str) -> Result<Option<String>, String> {
    let text = text(object, field)?.map(str::trim).filter(|text| !text.is_empty());
    text.map(|text| bounded(field, text).map(str::to_owned)).transpose()
}

fn bounded<'a>(field: &str, text: &'a str) -> Result<&'a str, String> {
    match text.len() > MAX_TEXT_BYTES {
        true => Err(format!("{field} is longer than {MAX_TEXT_BYTES} bytes")),
        false => Ok(text),
    }
}

/// A reference as it is kept: of what it has, its name, its address and what it is.
pub(super) fn reference_value(
    source_name: Option<&str>,
    url: Option<&str>,
    description: Option<&str>,
) -> Result<Option<Value>, String> {
    let mut kept = Map::new();
    for (field, text) in
        [("source_name", source_name), ("url", url.and_then(web_address)), ("description", description)]
    {
        if let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) {
            kept.insert(field.to_owned(), bounded(field, without_nul(field, text)?)?.into());
        }
    }
    Ok((!kept.is_empty()).then_some(Value::Object(kept)))
}
