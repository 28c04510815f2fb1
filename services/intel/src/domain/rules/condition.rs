//! The condition of a Sigma rule: whether it can be read, and whether it names selections that exist.

use super::collected::add_once;

/// Characters a condition may have.
const MAX_CONDITION: usize = 10_000;

/// What comes next.
enum Expected {
    Operand,
    Operator,
}

/// Everything that is wrong with a condition over these selections. Only the first mistake in its form is told, but
/// every unknown selection.
pub(super) fn problems(condition: &str, selections: &[&str]) -> Vec<String> {
    if condition.len() > MAX_CONDITION {
        return vec![format!("is longer than {MAX_CONDITION} characters")];
    }
    let mut found = Vec::new();
    if let Err(problem) = check(condition, selections, &mut found) {
        found.push(problem);
    }
    found
}

fn check(condition: &str, selections: &[&str], unknown: &mut Vec<String>) -> Result<(), String> {
    let mut tokens = tokens(condition).into_iter().peekable();
    let mut open = 0_usize;
    let mut expected = Expected::Operand;
    while let Some(token) = tokens.next() {
        let word = token.to_ascii_lowercase();
        let of_follows = tokens.peek().is_some_and(|next| next.eq_ignore_ascii_case("of"));
        expected = match (expected, word.as_str()) {
            (_, "|") => {
                return Err("an aggregation after `|` is no longer part of Sigma: write a correlation rule".to_owned());
            }
            (Expected::Operand, "(") => {
                open += 1;
                Expected::Operand
            }
            (Expected::Operand, "not") => Expected::Operand,
            (Expected::Operand, quantifier) if of_follows => {
                let count = quantifier.parse::<u32>().is_ok_and(|count| count > 0);
                if !count && !matches!(quantifier, "all" | "any") {
                    return Err(format!("`{token} of`: only a number, `all` or `any` can be before `of`"));
                }
                tokens.next();
                let target = tokens.next().filter(|target| is_name(target, true));
                let target =
                    target.ok_or_else(|| format!("a name, a pattern or `them` is missing after `{token} of`"))?;
                if !any_matches(target, selections) {
                    add_once(unknown, format!("no selection fits `{target}`"));
                }
                Expected::Operator
            }
            (Expected::Operand, "and" | "or" | ")" | "of" | "them" | "all" | "any") => {
                return Err(format!("a selection is missing before `{token}`"));
            }
            (Expected::Operand, _) => {
                if !is_name(token, false) {
                    return Err(format!("`{token}` is not the name of a selection"));
                }
                if !selections.contains(&token) {
                    add_once(unknown, format!("there is no selection `{token}`"));
                }
                Expected::Operator
            }
            (Expected::Operator, "and" | "or") => Expected::Operand,
            (Expected::Operator, ")") => {
                open = open.checked_sub(1).ok_or("`)` closes nothing")?;
                Expected::Operator
            }
            (Expected::Operator, _) => return Err(format!("`and` or `or` is missing before `{token}`")),
        };
    }
    match expected {
        Expected::Operand => Err("it ends where a selection is expected".to_owned()),
        Expected::Operator if open > 0 => Err("`(` is not closed".to_owned()),
        Expected::Operator => Ok(()),
    }
}

/// Words, and parentheses and pipes as words of their own.
fn tokens(condition: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    for word in condition.split_whitespace() {
        let mut rest = word;
        while let Some(at) = rest.find(['(', ')', '|']) {
            if at > 0 {
                tokens.push(&rest[..at]);
            }
            tokens.push(&rest[at..=at]);
            rest = &rest[at + 1..];
        }
        if !rest.is_empty() {
            tokens.push(rest);
        }
    }
    tokens
}

fn is_name(text: &str, wildcards: bool) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.') || (wildcards && b == b'*'))
}

/// `them` stands for all selections but those that begin with an underscore.
fn any_matches(target: &str, selections: &[&str]) -> bool {
    if target.eq_ignore_ascii_case("them") {
        return selections.iter().any(|selection| !selection.starts_with('_'));
    }
    selections.iter().any(|selection| fits(target, selection))
}

/// Whether a name fits a pattern whose `*` stands for any characters.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(mut name) = name.strip_prefix(start) else {
        return false;
    };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return name.ends_with(part);
        }
        match name.find(part) {
            Some(at) => name = &name[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const SELECTIONS: [&str; 4] = ["selection", "filter_main_a", "filter_main_b", "_note"];

    #[test]
    fn conditions_that_are_right() {
        for condition in [
            "selection",
            "selection and not filter_main_a",
            "selection and not 1 of filter_main_*",
            "(selection or filter_main_a) AND NOT (filter_main_b)",
            "all of them",
            "any of filter_*_b or not not selection",
            "2 of *\n  and selection",
            "1 of selection",
        ] {
            assert_eq!(problems(condition, &SELECTIONS), Vec::<String>::new(), "{condition}");
        }
    }

    #[test]
    fn conditions_that_are_wrong() {
        for (condition, problem) in [
            ("", "it ends where a selection is expected"),
            ("selection and", "it ends where a selection is expected"),
            ("selection filter_main_a", "`and` or `or` is missing before `filter_main_a`"),
            ("(selection", "`(` is not closed"),
            ("selection)", "`)` closes nothing"),
            ("and selection", "a selection is missing before `and`"),
            ("selection and ()", "a selection is missing before `)`"),
            ("selektion", "there is no selection `selektion`"),
            ("1 of filtre_*", "no selection fits `filtre_*`"),
            ("some of them", "`some of`: only a number, `all` or `any` can be before `of`"),
            ("0 of them", "`0 of`: only a number, `all` or `any` can be before `of`"),
            ("1 of", "a name, a pattern or `them` is missing after `1 of`"),
            (
                "selection | count() > 5",
                "an aggregation after `|` is no longer part of Sigma: write a correlation rule",
            ),
            ("sel$ection", "`sel$ection` is not the name of a selection"),
        ] {
            assert_eq!(problems(condition, &SELECTIONS), [problem], "{condition}");
        }
        assert_eq!(problems("a and b or a)", &SELECTIONS).len(), 3);
        assert_eq!(problems("1 of them", &["_note"]).len(), 1);
        let deep = format!("{}selection", "(".repeat(9_000));
        assert_eq!(problems(&deep, &SELECTIONS), ["`(` is not closed"]);
        assert_eq!(problems(&"(".repeat(20_000), &SELECTIONS).len(), 1);
    }
}
