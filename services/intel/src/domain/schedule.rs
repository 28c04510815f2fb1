//! When a source is synced by itself: a cron expression.

use super::cron;

/// Longer ones are refused.
const MAX_CHARS: usize = 120;

/// Checks that a text is a cron expression that comes some day, and gives it with single spaces.
pub(crate) fn parse(text: &str) -> Result<String, String> {
    if text.chars().count() > MAX_CHARS {
        return Err(format!("must have at most {MAX_CHARS} characters"));
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    if !matches!(fields.len(), 5 | 6) {
        return Err(format!("must be a cron expression of 5 or 6 fields such as `0 3 * * *`, not of {}", fields.len()));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "*/,-#?".contains(c);
    match fields.iter().find(|field| !field.chars().all(allowed)) {
        Some(field) => {
            Err(format!("`{field}` is no field of a cron expression: use digits, names, `*`, `/`, `,` and `-`"))
        }
        None => {
            let text = fields.join(" ");
            cron::problem(&text).map_or(Ok(text), Err)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn cron_expressions_are_told_from_other_texts() {
        assert_eq!(parse(" 0  3 * * * "), Ok("0 3 * * *".to_owned()));
        assert!(parse("*/5 0 3 1,15 JAN-MAR MON#2").is_ok());
        for wrong in ["", "daily", "@daily", "0 3 * *", "0 3 * * * * *", "0 3 * * $(x)", "61 3 * * *", "0 0 30 2 *"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(parse(&format!("0 3 * * {}", "1".repeat(120))).is_err());
    }
}
