//! Arrays, as PostgreSQL writes them.

use super::super::{Dialect, Value};

/// An array, as PostgreSQL writes one.
pub(in crate::decoys::sql) fn array(items: &[Value]) -> Value {
    let mut text = "{".to_owned();
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        match item {
            Value::Null => text.push_str("NULL"),
            value => {
                let inner = value.show(Dialect::Postgres).unwrap_or_default();
                if inner.is_empty() || inner.contains([',', '{', '}', '"', '\\', ' ']) {
                    text.push_str(&format!("\"{}\"", inner.replace('\\', "\\\\").replace('"', "\\\"")));
                } else {
                    text.push_str(&inner);
                }
            }
        }
    }
    text.push('}');
    Value::Text(text)
}

/// What is in an array.
pub(in crate::decoys::sql) fn elements(value: &Value) -> Vec<Value> {
    let text = value.text();
    let Some(inner) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let (mut item, mut quoted, mut was_quoted, mut escaped) = (String::new(), false, false, false);
    let finish = |item: &mut String, was_quoted: bool| {
        let text = std::mem::take(item);
        if text == "NULL" && !was_quoted { Value::Null } else { Value::Text(text) }
    };
    if inner.is_empty() {
        return found;
    }
    for c in inner.chars() {
        match c {
            _ if escaped => {
                item.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => {
                quoted = !quoted;
                was_quoted = true;
            }
            ',' if !quoted => {
                found.push(finish(&mut item, was_quoted));
                was_quoted = false;
            }
            c => item.push(c),
        }
    }
    found.push(finish(&mut item, was_quoted));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_there_and_back() {
        let items = vec!["a,b".into(), Value::Null, "c\"d".into(), "NULL x".into()];
        assert_eq!(elements(&array(&items)), items);
        assert!(elements(&"{}".into()).is_empty());
    }
}
