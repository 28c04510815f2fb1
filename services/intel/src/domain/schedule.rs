//! When a source is synced by itself: a cron expression.

/// Longer ones are refused.
const MAX_CHARS: usize = 120;

/// Checks that a text can be a cron expression and gives it with single spaces. What the fields mean is for the
/// scheduler to say.
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
        None => Ok(fields.join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn cron_expressions_are_told_from_other_texts() {
        assert_eq!(parse(" 0  3 * * * "), Ok("0 3 * * *".to_owned()));
        assert!(parse("*/5 0 3 1,15 JAN-MAR MON#2").is_ok());
        for wrong in ["", "daily", "@daily", "0 3 * *", "0 3 * * * * *", "0 3 * * $(x)"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(parse(&format!("0 3 * * {}", "1".repeat(120))).is_err());
    }
}
