//! JSON as Elasticsearch writes it: in the order of its fields, and indented when it is asked for that.

use std::fmt::Write as _;

/// A text in quotes.
pub(super) fn quoted(text: &str) -> String {
    // Nothing of a text can fail.
    serde_json::to_string(text).unwrap_or_else(|_| "\"\"".to_owned())
}

/// The same JSON with line ends and two spaces for each level. Works on the text, so that depth costs nothing.
pub(super) fn pretty(compact: &str) -> String {
    let mut out = String::with_capacity(compact.len() * 2);
    let (mut depth, mut inside, mut escaped) = (0usize, false, false);
    let mut signs = compact.chars().peekable();
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        // Deeper than that it is no longer read by people.
        let _ = write!(out, "{:width$}", "", width = 2 * depth.min(64));
    };
    while let Some(sign) = signs.next() {
        if inside {
            out.push(sign);
            match sign {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => inside = false,
                _ => {}
            }
            continue;
        }
        match sign {
            '"' => {
                inside = true;
                out.push('"');
            }
            '{' | '[' => {
                let close = if sign == '{' { '}' } else { ']' };
                while signs.next_if(|next| next.is_whitespace()).is_some() {}
                out.push(sign);
                if signs.next_if_eq(&close).is_some() {
                    out.push_str(if sign == '{' { " }" } else { " ]" });
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(sign);
            }
            ',' => {
                out.push(',');
                line(&mut out, depth);
            }
            ':' => out.push_str(" : "),
            sign if sign.is_whitespace() => {}
            sign => out.push(sign),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_indented_as_elasticsearch_does() {
        let text = r#"{"a":1,"b":{"c":"x, {y}:\" z"},"d":[],"e":[1,2]}"#;
        let expected = "{\n  \"a\" : 1,\n  \"b\" : {\n    \"c\" : \"x, {y}:\\\" z\"\n  },\n  \"d\" : [ ],\n  \"e\" : [\n    1,\n    2\n  ]\n}";
        assert_eq!(pretty(text), expected);
        let same: serde_json::Value = serde_json::from_str(&pretty(text)).unwrap();
        assert_eq!(same, serde_json::from_str::<serde_json::Value>(text).unwrap());
    }
}
