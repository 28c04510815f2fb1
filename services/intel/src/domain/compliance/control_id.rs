//! The one form of a control's id.

use super::Framework;

const MAX_ID_CHARS: usize = 200;

/// The form in which a control's id is kept: of NIST 800-53 `AC-17(8)`, whether written `ac-17.8`, `AC-17 (08)` or
/// `AC-017(8)`; of the others as published. `None` for what cannot be an id.
pub fn canonical_id(framework: Framework, text: &str) -> Option<String> {
    if framework == Framework::Nist80053 {
        return nist(text.trim());
    }
    let id = text.split_whitespace().collect::<Vec<_>>().join(" ");
    (!id.is_empty() && id.chars().count() <= MAX_ID_CHARS && !id.chars().any(char::is_control)).then_some(id)
}

fn nist(text: &str) -> Option<String> {
    let (family, rest) = text.split_once('-')?;
    if family.len() != 2 || !family.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return None;
    }
    let (control, enhancement) = match rest.split_once(['.', '(']) {
        None => (rest, None),
        Some((control, enhancement)) => {
            let closed = enhancement.strip_suffix(')');
            // A bracket that opens must close, and a dot opens none.
            if closed.is_some() != rest[control.len()..].starts_with('(') {
                return None;
            }
            (control.trim_end(), Some(closed.unwrap_or(enhancement)))
        }
    };
    let id = format!("{}-{}", family.to_ascii_uppercase(), number(control)?);
    match enhancement {
        None => Some(id),
        Some(enhancement) => Some(format!("{id}({})", number(enhancement.trim())?)),
    }
}

fn number(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| digits && *number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_form_inside() {
        let nist = |text| canonical_id(Framework::Nist80053, text);
        for (text, id) in [
            ("CM-03", "CM-3"),
            ("AC-1", "AC-1"),
            ("cm-3", "CM-3"),
            (" ac-10 ", "AC-10"),
            ("ac-17.8", "AC-17(8)"),
            ("AC-17(8)", "AC-17(8)"),
            ("AC-17 (8)", "AC-17(8)"),
            ("AC-17(08)", "AC-17(8)"),
            ("ac-02.10", "AC-2(10)"),
            ("AC-017( 8 )", "AC-17(8)"),
        ] {
            assert_eq!(nist(text).as_deref(), Some(id), "{text}");
        }
        for text in [
            "",
            "AC",
            "AC-",
            "AC-0",
            "ACX-1",
            "A1-1",
            "AC-1(",
            "AC-1(2",
            "AC-1.2)",
            "AC-1(2)(3)",
            "AC-+1",
            "AC-1a",
            "AC-99999",
            "é-1",
        ] {
            assert_eq!(nist(text), None, "{text}");
        }
        // Leading zeros are part of the ids of others.
        assert_eq!(canonical_id(Framework::Cri, " DE.AE-02.01 ").as_deref(), Some("DE.AE-02.01"));
        assert_eq!(canonical_id(Framework::CsaCcm, "A&A-01").as_deref(), Some("A&A-01"));
        assert_eq!(canonical_id(Framework::Veris, "  "), None);
        assert_eq!(canonical_id(Framework::Veris, &"a".repeat(201)), None);
    }
}
