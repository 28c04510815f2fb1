//! What is wrong with a body or a query, in words for the client: serde's messages name Rust types and repeat the
//! values, ours do neither.

use aegis_error::Failure;

/// A failure of a JSON body that was read along `path`.
pub fn of_json(error: serde_path_to_error::Error<serde_json::Error>) -> Failure {
    let path = error.path().to_string();
    let inner = error.into_inner();
    match inner.classify() {
        serde_json::error::Category::Data => of_text(&path, &inner.to_string()),
        _ => Failure::invalid("body", format!("is not valid JSON: {inner}")),
    }
}

/// A failure of a query or form that was read along `path`.
pub fn of_form(error: serde_path_to_error::Error<serde::de::value::Error>) -> Failure {
    let path = error.path().to_string();
    of_text(&path, &error.into_inner().to_string())
}

fn of_text(path: &str, message: &str) -> Failure {
    // serde_json adds where in the text it was; the field says more.
    let message = message.split(" at line ").next().unwrap_or(message);
    let path = if path == "." || path == "?" { "" } else { path };
    let parent = |field: &str| match path.strip_suffix(field) {
        Some(rest) if rest.is_empty() || rest.ends_with('.') => path.to_owned(),
        _ if path.is_empty() => field.to_owned(),
        _ => format!("{path}.{field}"),
    };
    if let Some(field) = quoted(message, "missing field `") {
        return Failure::invalid(parent(field), "is required");
    }
    if let Some(field) = quoted(message, "duplicate field `") {
        return Failure::invalid(parent(field), "is given twice");
    }
    if let Some(field) = quoted(message, "unknown field `") {
        let known = names_after(message, ", expected ");
        let field: String = parent(field).chars().take(100).collect();
        return match known.is_empty() {
            true => Failure::invalid(field, "is not known; there are no fields here"),
            false => Failure::invalid(field, format!("is not known; known here: {}", known.join(", "))),
        };
    }
    let field = if path.is_empty() { "body" } else { path };
    Failure::invalid(field, problem(message))
}

fn problem(message: &str) -> String {
    if let Some(rest) = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: ")) {
        // The value comes first and may hold anything; the expectation is the last part.
        let (value, wanted) = rest.rsplit_once(", expected ").unwrap_or((rest, "something else"));
        let wanted = wanted_in_words(wanted);
        return match given_in_words(value) {
            Some(given) if message.starts_with("invalid type") => {
                format!("must be {wanted}, not {given}")
            }
            _ => format!("must be {wanted}"),
        };
    }
    if message.starts_with("UUID parsing failed") {
        return "must be a UUID".into();
    }
    match message {
        "invalid digit found in string"
        | "number too large to fit in target type"
        | "number too small to fit in target type"
        | "cannot parse integer from empty string" => "must be a whole number from 0 to 4294967295".into(),
        "provided string was not `true` or `false`" => "must be true or false".into(),
        ours => ours.into(),
    }
}

fn wanted_in_words(wanted: &str) -> &str {
    match wanted {
        "a sequence" => "an array",
        "a map" => "an object",
        "f64" | "f32" => "a number",
        "u8" | "u16" | "u32" | "u64" | "i8" | "i16" | "i32" | "i64" | "usize" => "a whole number within range",
        "a UUID string" | "a formatted UUID string" => "a UUID",
        _ if wanted.starts_with("struct ") => "an object",
        _ if wanted.starts_with("a ") || wanted.starts_with("an ") => wanted,
        _ => "of another type",
    }
}

fn given_in_words(value: &str) -> Option<&'static str> {
    let kinds = [
        ("null", "null"),
        ("string", "a string"),
        ("integer", "a number"),
        ("floating point", "a number"),
        ("number", "a number"),
        ("boolean", "a boolean"),
        ("sequence", "an array"),
        ("map", "an object"),
    ];
    kinds.into_iter().find(|(kind, _)| value.starts_with(kind)).map(|(_, words)| words)
}

fn quoted<'a>(message: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = message.strip_prefix(prefix)?;
    // A name from the client may hold a backtick; the expectation after it never does before its own.
    let end = rest.find("`, expected ").or_else(|| rest.rfind('`')).or_else(|| rest.find('`'))?;
    Some(&rest[..end])
}

fn names_after<'a>(message: &'a str, marker: &str) -> Vec<&'a str> {
    let Some((_, list)) = message.rsplit_once(marker) else {
        return Vec::new();
    };
    list.split('`').skip(1).step_by(2).collect()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use uuid::Uuid;

    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only what refuses to be read matters here")]
    struct Body {
        name: String,
        #[serde(default)]
        platforms: Vec<String>,
        #[serde(default)]
        id: Option<Uuid>,
        #[serde(default)]
        active: Option<bool>,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only what refuses to be read matters here")]
    struct Search {
        limit: Option<u32>,
        #[serde(rename = "async")]
        background: Option<bool>,
        id: Option<Uuid>,
    }

    fn body(text: &str) -> (String, String) {
        let mut json = serde_json::Deserializer::from_str(text);
        let error = serde_path_to_error::deserialize::<_, Body>(&mut json).unwrap_err();
        first(of_json(error))
    }

    fn query(text: &str) -> (String, String) {
        let form = serde_urlencoded::Deserializer::new(form(text));
        first(of_form(serde_path_to_error::deserialize::<_, Search>(form).unwrap_err()))
    }

    fn form(text: &str) -> form_urlencoded::Parse<'_> {
        form_urlencoded::parse(text.as_bytes())
    }

    fn first(failure: Failure) -> (String, String) {
        let error = &failure.fields()[0];
        (error.field.clone(), error.problem.clone())
    }

    fn told(field: &str, problem: &str) -> (String, String) {
        (field.into(), problem.into())
    }

    #[test]
    fn bodies_are_refused_by_field_without_rust_types() {
        assert_eq!(body("{}"), told("name", "is required"));
        assert_eq!(body(r#"{"name": 5}"#), told("name", "must be a string, not a number"));
        assert_eq!(body(r#"{"name": "n", "name": "m"}"#), told("name", "is given twice"));
        assert_eq!(
            body(r#"{"name": "n", "colour": 1}"#),
            told("colour", "is not known; known here: name, platforms, id, active")
        );
        assert_eq!(body(r#"{"name": "n", "platforms": "linux"}"#), told("platforms", "must be an array, not a string"));
        assert_eq!(body(r#"{"name": "n", "platforms": [1]}"#), told("platforms[0]", "must be a string, not a number"));
        assert_eq!(body(r#"{"name": "n", "id": "x"}"#), told("id", "must be a UUID"));
        assert_eq!(body(r#"{"name": "n", "id": 1}"#), told("id", "must be a UUID, not a number"));
        assert_eq!(body(r#"{"name": "n", "active": "yes"}"#), told("active", "must be a boolean, not a string"));
        assert_eq!(body("7"), told("body", "must be an object, not a number"));
        let (field, problem) = body(r#"{"name": "#);
        assert_eq!(field, "body");
        assert!(problem.starts_with("is not valid JSON: EOF"), "{problem}");
    }

    #[test]
    fn a_refusal_does_not_repeat_a_value() {
        let (_, problem) = body(r#"{"name": "n", "active": "secret, expected a boolean"}"#);
        assert!(!problem.contains("secret"), "{problem}");
    }

    #[test]
    fn queries_are_refused_by_parameter() {
        assert_eq!(query("limit=many"), told("limit", "must be a whole number from 0 to 4294967295"));
        assert_eq!(query("limit=-1"), told("limit", "must be a whole number from 0 to 4294967295"));
        assert_eq!(query("async=maybe"), told("async", "must be true or false"));
        assert_eq!(query("id=7"), told("id", "must be a UUID"));
        assert_eq!(query("limit=1&limit=2"), told("limit", "is given twice"));
        assert_eq!(query("limt=1"), told("limt", "is not known; known here: limit, async, id"));
    }
}
