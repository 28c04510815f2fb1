//! Filters of searches.

use super::directory::{Entry, folded};
use crate::decoys::{
    ber::{self, DEEPEST},
    wire::{Bytes, text},
};

/// The most parts of a filter.
const MOST: usize = 256;

/// A filter.
#[derive(Debug)]
pub(super) enum Filter {
    And(Vec<Filter>),
    Or(Vec<Filter>),
    Not(Box<Filter>),
    Equal(String, String),
    /// What it begins with, has inside, ends with.
    Parts(String, String, Vec<String>, String),
    AtLeast(String, String),
    AtMost(String, String),
    Present(String),
    /// A rule of comparison, such as that of bits.
    Rule(String, String, String),
}

impl Filter {
    /// From a message.
    pub(super) fn read(bytes: &mut Bytes<'_>) -> Option<Filter> {
        let mut left = MOST;
        read(bytes, 0, &mut left)
    }

    /// Whether an entry fits.
    pub(super) fn fits(&self, entry: &Entry) -> bool {
        let any = |name: &str, test: &dyn Fn(&str) -> bool| {
            entry.get(name).is_some_and(|values| values.iter().any(|value| test(&value.to_lowercase())))
        };
        match self {
            Filter::And(all) => all.iter().all(|part| part.fits(entry)),
            Filter::Or(all) => all.iter().any(|part| part.fits(entry)),
            Filter::Not(inner) => !inner.fits(entry),
            Filter::Present(name) => name.eq_ignore_ascii_case("objectClass") || entry.get(name).is_some(),
            Filter::Equal(name, wanted) => {
                let wanted = wanted.to_lowercase();
                let named = |value: &str| {
                    value == wanted
                        || (value.contains('=') && folded(value) == folded(&wanted))
                        || (name.eq_ignore_ascii_case("objectCategory") && value.starts_with(&format!("cn={wanted},")))
                };
                any(name, &named)
            }
            Filter::Parts(name, first, inner, last) => any(name, &|value| {
                let Some(mut rest) = value.strip_prefix(&first.to_lowercase()) else { return false };
                for part in inner {
                    let part = part.to_lowercase();
                    let Some(at) = rest.find(&part) else { return false };
                    rest = rest.get(at + part.len()..).unwrap_or("");
                }
                rest.ends_with(&last.to_lowercase())
            }),
            Filter::AtLeast(name, wanted) => any(name, &|value| order(value, wanted).is_ge()),
            Filter::AtMost(name, wanted) => any(name, &|value| order(value, wanted).is_le()),
            Filter::Rule(rule, name, wanted) => {
                any(name, &|value| match (value.parse::<i64>(), wanted.parse::<i64>()) {
                    (Ok(value), Ok(wanted)) if rule.ends_with(".803") => value & wanted == wanted,
                    (Ok(value), Ok(wanted)) if rule.ends_with(".804") => value & wanted != 0,
                    _ => value.eq_ignore_ascii_case(wanted),
                })
            }
        }
    }

    /// As people write it.
    pub(super) fn shown(&self) -> String {
        let all =
            |sign: &str, parts: &[Filter]| format!("({sign}{})", parts.iter().map(Filter::shown).collect::<String>());
        match self {
            Filter::And(parts) => all("&", parts),
            Filter::Or(parts) => all("|", parts),
            Filter::Not(inner) => format!("(!{})", inner.shown()),
            Filter::Equal(name, value) => format!("({name}={value})"),
            Filter::Parts(name, first, inner, last) => {
                let inner: String = inner.iter().map(|part| format!("{part}*")).collect();
                format!("({name}={first}*{inner}{last})")
            }
            Filter::AtLeast(name, value) => format!("({name}>={value})"),
            Filter::AtMost(name, value) => format!("({name}<={value})"),
            Filter::Present(name) => format!("({name}=*)"),
            Filter::Rule(rule, name, value) => format!("({name}:{rule}:={value})"),
        }
    }
}

fn order(value: &str, wanted: &str) -> std::cmp::Ordering {
    match (value.parse::<i64>(), wanted.parse::<i64>()) {
        (Ok(value), Ok(wanted)) => value.cmp(&wanted),
        _ => value.cmp(&wanted.to_lowercase()),
    }
}

fn read(bytes: &mut Bytes<'_>, depth: usize, left: &mut usize) -> Option<Filter> {
    if depth > DEEPEST {
        return None;
    }
    *left = left.checked_sub(1)?;
    let element = ber::next(bytes)?;
    let mut inner = Bytes(element.value);
    let pair = |mut inner: Bytes<'_>| Some((text(ber::expect(&mut inner, 4)?), text(ber::expect(&mut inner, 4)?)));
    Some(match element.tag {
        0xa0 | 0xa1 => {
            let mut parts = Vec::new();
            while !inner.is_empty() {
                parts.push(read(&mut inner, depth + 1, left)?);
            }
            if element.tag == 0xa0 { Filter::And(parts) } else { Filter::Or(parts) }
        }
        0xa2 => Filter::Not(Box::new(read(&mut inner, depth + 1, left)?)),
        0xa3 | 0xa8 => {
            let (name, value) = pair(inner)?;
            Filter::Equal(name, value)
        }
        0xa4 => {
            let name = text(ber::expect(&mut inner, 4)?);
            let mut parts = Bytes(ber::expect(&mut inner, 0x30)?);
            let (mut first, mut middle, mut last) = (String::new(), Vec::new(), String::new());
            while !parts.is_empty() {
                *left = left.checked_sub(1)?;
                let part = ber::next(&mut parts)?;
                match part.tag {
                    0x80 => first = text(part.value),
                    0x81 => middle.push(text(part.value)),
                    _ => last = text(part.value),
                }
            }
            Filter::Parts(name, first, middle, last)
        }
        0xa5 => {
            let (name, value) = pair(inner)?;
            Filter::AtLeast(name, value)
        }
        0xa6 => {
            let (name, value) = pair(inner)?;
            Filter::AtMost(name, value)
        }
        0x87 => Filter::Present(text(element.value)),
        0xa9 => {
            let (mut rule, mut name, mut value) = (String::new(), String::new(), String::new());
            while !inner.is_empty() {
                let part = ber::next(&mut inner)?;
                match part.tag {
                    0x81 => rule = text(part.value),
                    0x82 => name = text(part.value),
                    0x83 => value = text(part.value),
                    _ => {}
                }
            }
            Filter::Rule(rule, name, value)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_filters_are_refused() {
        let mut bytes = ber::nested(0x87, b"cn");
        for _ in 0..10 {
            bytes = ber::nested(0xa2, &bytes);
        }
        assert_eq!(Filter::read(&mut Bytes(&bytes)).unwrap().shown(), "(!(!(!(!(!(!(!(!(!(!(cn=*)))))))))))");
        for _ in 0..200 {
            bytes = ber::nested(0xa2, &bytes);
        }
        assert!(Filter::read(&mut Bytes(&bytes)).is_none());
    }
}
