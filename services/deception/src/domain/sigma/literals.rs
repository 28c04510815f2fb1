//! Texts without which a rule cannot hold: looked for all at once, so that few rules are evaluated for an event.

use std::collections::HashMap;

use rsigma_eval::{CompiledDetection, CompiledDetectionItem, CompiledMatcher, CompiledRule, matcher::GroupMode};
use rsigma_parser::{ConditionExpr, Quantifier};

/// Texts of one rule at most: one that has more is as good as one that has none.
const MAX_TEXTS: usize = 2_000;

/// Any of these has to be somewhere in an event, in small letters; nothing where none has to be.
type Texts = Option<Vec<String>>;

/// Texts of which one has to be in an event for which the rule holds; nothing where that cannot be told. `constants` are
/// in each event.
pub(super) fn of(rule: &CompiledRule, constants: &[String]) -> Texts {
    let finder = Finder { detections: &rule.detections, constants };
    let texts = any(rule.conditions.iter().map(|condition| finder.condition(condition)))?;
    (!texts.is_empty() && texts.len() <= MAX_TEXTS).then_some(texts)
}

/// One of these holds: each of them needs one of its own.
fn any(parts: impl Iterator<Item = Texts>) -> Texts {
    let mut all = Vec::new();
    for part in parts {
        all.extend(part?);
    }
    all.sort_unstable();
    all.dedup();
    Some(all)
}

/// All of these hold: what is rarest of what one of them needs.
fn all(parts: impl Iterator<Item = Texts>) -> Texts {
    let rare = |texts: &Vec<String>| {
        let shortest = texts.iter().map(String::len).min().unwrap_or(0);
        (shortest.min(8), std::cmp::Reverse(texts.len()))
    };
    parts.flatten().filter(|texts| !texts.is_empty()).max_by_key(rare)
}

struct Finder<'a> {
    detections: &'a HashMap<String, CompiledDetection>,
    constants: &'a [String],
}

impl Finder<'_> {
    fn condition(&self, condition: &ConditionExpr) -> Texts {
        match condition {
            ConditionExpr::And(parts) => all(parts.iter().map(|part| self.condition(part))),
            ConditionExpr::Or(parts) => any(parts.iter().map(|part| self.condition(part))),
            ConditionExpr::Not(_) => None,
            ConditionExpr::Identifier(name) => self.detections.get(name).and_then(|found| self.detection(found)),
            ConditionExpr::Selector { quantifier, pattern } => {
                let named = self.detections.iter().filter(|(name, _)| pattern.matches_detection_name(name));
                let parts = named.map(|(_, found)| self.detection(found));
                match quantifier {
                    Quantifier::All => all(parts),
                    Quantifier::Any => any(parts),
                    Quantifier::Count(0) => None,
                    Quantifier::Count(_) => any(parts),
                }
            }
        }
    }

    fn detection(&self, detection: &CompiledDetection) -> Texts {
        match detection {
            CompiledDetection::AllOf(items) => all(items.iter().map(|item| self.item(item))),
            CompiledDetection::AnyOf(parts) => any(parts.iter().map(|part| self.detection(part))),
            CompiledDetection::And(parts) => all(parts.iter().map(|part| self.detection(part))),
            CompiledDetection::Keywords(matcher) => self.matcher(matcher),
            CompiledDetection::ArrayMatch { .. } | CompiledDetection::Conditional { .. } => None,
        }
    }

    fn item(&self, item: &CompiledDetectionItem) -> Texts {
        match item.exists {
            Some(_) => None,
            None => self.matcher(&item.matcher),
        }
    }

    fn matcher(&self, matcher: &CompiledMatcher) -> Texts {
        match matcher {
            CompiledMatcher::Exact { value, .. }
            | CompiledMatcher::Contains { value, .. }
            | CompiledMatcher::StartsWith { value, .. }
            | CompiledMatcher::EndsWith { value, .. } => self.text(value).map(|text| vec![text]),
            CompiledMatcher::AhoCorasickSet { needles, .. } => {
                any(needles.iter().map(|text| self.text(text).map(|text| vec![text])))
            }
            CompiledMatcher::AnyOf(parts)
            | CompiledMatcher::CaseInsensitiveGroup { children: parts, mode: GroupMode::Any } => {
                any(parts.iter().map(|part| self.matcher(part)))
            }
            CompiledMatcher::AllOf(parts)
            | CompiledMatcher::CaseInsensitiveGroup { children: parts, mode: GroupMode::All } => {
                all(parts.iter().map(|part| self.matcher(part)))
            }
            _ => None,
        }
    }

    /// Nothing where it cannot be looked for by its letters, or is always there.
    fn text(&self, text: &str) -> Option<String> {
        let lower = text.to_ascii_lowercase();
        let always = self.constants.iter().any(|constant| constant.to_lowercase().contains(&lower));
        (!text.is_empty() && text.is_ascii() && !always).then_some(lower)
    }
}
