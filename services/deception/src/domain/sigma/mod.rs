//! Sigma rules of the catalogue over events: those whose log source fits what decoys see tag with their techniques.
//!
//! What cannot be used is told with its reason. How long an event takes is bounded: a rule is looked at where a text that
//! it needs is in the event, and only so many are.

mod literals;
mod shell;
mod source;

use std::{
    borrow::Cow,
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use rsigma_eval::{CompiledRule, compile_rule, compiler::eval_condition};
use rsigma_parser::{ConditionExpr, SigmaRule, parse_sigma_yaml};

pub(crate) use source::{Source, sources};

use super::event::Event;
use source::View;

/// Rules that are kept.
pub(crate) const MAX_RULES: usize = 5_000;
/// Bytes of a rule's text; of those that are published one has more.
pub(crate) const MAX_TEXT: usize = 64 * 1024;
/// Rules of one log source that are evaluated for each of its events, because no text is needed for them.
const MAX_ALWAYS: usize = 100;
/// Evaluations for one event.
const MAX_EVALUATED: usize = 500;
/// Techniques of one rule.
const MAX_TECHNIQUES: usize = 20;
/// Characters of a reason.
const MAX_REASON: usize = 1_000;

/// A rule as the catalogue has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) key: String,
    pub(crate) name: String,
    pub(crate) author: String,
    pub(crate) licence: String,
    /// YAML; empty where it is too long.
    pub(crate) content: String,
}

/// A rule that tags, or the reason why it does not.
#[derive(Debug)]
pub(crate) struct Rule {
    /// By what the catalogue names it.
    pub(crate) key: String,
    pub(crate) name: String,
    pub(crate) author: String,
    pub(crate) licence: String,
    /// Why such an event shows its techniques.
    pub(crate) reason: String,
    /// ATT&CK ids.
    pub(crate) techniques: Vec<String>,
    /// Why it is not used.
    pub(crate) problem: Option<String>,
    compiled: Option<CompiledRule>,
}

/// The rules of one log source.
#[derive(Debug)]
struct Filled {
    source: &'static Source,
    /// Finds all texts that are needed; nothing where none is.
    texts: Option<AhoCorasick>,
    /// By text, which rules need it.
    by_text: Vec<Vec<usize>>,
    /// Rules that need none.
    always: Vec<usize>,
}

/// All rules, ready to be used.
#[derive(Debug, Default)]
pub(crate) struct Set {
    rules: Vec<Rule>,
    filled: Vec<Filled>,
    /// By type of event, places in `filled`.
    by_event: HashMap<&'static str, Vec<usize>>,
}

impl Set {
    /// Reads rules. What is wrong with one is told with it, and changes nothing for the others.
    pub(crate) fn compile(texts: Vec<Text>) -> Set {
        let mut rules: Vec<Rule> = Vec::with_capacity(texts.len().min(MAX_RULES));
        let mut of_source: Vec<Vec<usize>> = sources().iter().map(|_| Vec::new()).collect();
        for text in texts.into_iter().take(MAX_RULES) {
            let read = catch_unwind(AssertUnwindSafe(|| read(&text.content)));
            let read = read.unwrap_or_else(|_| Err("it cannot be read".to_owned()));
            let mut rule = Rule {
                key: text.key,
                reason: text.name.clone(),
                name: text.name,
                author: text.author,
                licence: text.licence,
                techniques: Vec::new(),
                problem: None,
                compiled: None,
            };
            match read {
                Ok(found) => {
                    of_source.get_mut(found.source).into_iter().for_each(|places| places.push(rules.len()));
                    if let Some(reason) = found.reason {
                        rule.reason = reason;
                    }
                    rule.techniques = found.techniques;
                    rule.compiled = Some(found.compiled);
                }
                Err(problem) => rule.problem = Some(cut(&problem).to_owned()),
            }
            rules.push(rule);
        }
        let mut set = Set { rules, ..Set::default() };
        for (source, places) in sources().iter().zip(of_source) {
            if !places.is_empty() {
                let filled = set.fill(source, places);
                for event in &source.events {
                    set.by_event.entry(*event).or_default().push(set.filled.len());
                }
                set.filled.push(filled);
            }
        }
        set
    }

    fn fill(&mut self, source: &'static Source, places: Vec<usize>) -> Filled {
        let mut filled = Filled { source, texts: None, by_text: Vec::new(), always: Vec::new() };
        let mut known: HashMap<String, usize> = HashMap::new();
        let mut patterns = Vec::new();
        for place in places {
            let Some(rule) = self.rules.get_mut(place) else { continue };
            let Some(compiled) = &rule.compiled else { continue };
            match literals::of(compiled, source.constants()) {
                Some(texts) => {
                    for text in texts {
                        let at = *known.entry(text).or_insert_with_key(|text| {
                            patterns.push(text.clone());
                            filled.by_text.push(Vec::new());
                            patterns.len() - 1
                        });
                        filled.by_text.get_mut(at).into_iter().for_each(|rules| rules.push(place));
                    }
                }
                None if filled.always.len() < MAX_ALWAYS => filled.always.push(place),
                None => {
                    rule.compiled = None;
                    rule.problem = Some(format!(
                        "it looks for no plain text, and {MAX_ALWAYS} such rules of its log source are in use"
                    ));
                }
            }
        }
        let built = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(&patterns);
        match built {
            Ok(texts) if !patterns.is_empty() => filled.texts = Some(texts),
            Ok(_) => {}
            Err(error) => {
                tracing::error!(%error, "Sigma rules of a log source cannot be used");
                for place in filled.by_text.drain(..).flatten() {
                    if let Some(rule) = self.rules.get_mut(place) {
                        rule.compiled = None;
                        rule.problem = Some("there are too many texts to look for".to_owned());
                    }
                }
            }
        }
        filled
    }

    /// The rules that hold for an event, in the order of their keys.
    pub(crate) fn of(&self, event: &Event) -> Vec<&Rule> {
        let Some(filled) = self.by_event.get(event.event_type) else { return Vec::new() };
        let mut found = Vec::new();
        let mut left = MAX_EVALUATED;
        for filled in filled.iter().filter_map(|at| self.filled.get(*at)) {
            for view in filled.source.views(event) {
                for place in filled.candidates(&view) {
                    if left == 0 || found.contains(&place) {
                        continue;
                    }
                    left -= 1;
                    let compiled = self.rules.get(place).and_then(|rule| rule.compiled.as_ref());
                    if compiled.is_some_and(|compiled| holds(compiled, &view)) {
                        found.push(place);
                    }
                }
            }
        }
        found.sort_unstable();
        found.into_iter().filter_map(|place| self.rules.get(place)).collect()
    }

    /// All of them in their order, those that are not used among them.
    pub(crate) fn all(&self) -> &[Rule] {
        &self.rules
    }
}

impl Filled {
    /// Rules that may hold, each once.
    fn candidates(&self, view: &View<'_>) -> Vec<usize> {
        let mut places = self.always.clone();
        if let Some(texts) = &self.texts {
            // A text may be in an event thousands of times, and be needed by thousands of rules.
            let mut hit = vec![false; self.by_text.len()];
            for text in view.texts() {
                let text = if text.is_ascii() { Cow::from(text) } else { Cow::from(text.to_lowercase()) };
                for found in texts.find_overlapping_iter(text.as_ref()) {
                    hit.get_mut(found.pattern().as_usize()).into_iter().for_each(|hit| *hit = true);
                }
            }
            places.extend(self.by_text.iter().zip(hit).filter(|(_, hit)| *hit).flat_map(|(rules, _)| rules));
        }
        places.sort_unstable();
        places.dedup();
        places
    }
}

fn holds(rule: &CompiledRule, view: &View<'_>) -> bool {
    rule.conditions.iter().any(|condition| eval_condition(condition, &rule.detections, view, &mut Vec::new()))
}

/// A rule that can be used.
struct Read {
    compiled: CompiledRule,
    techniques: Vec<String>,
    reason: Option<String>,
    /// Its place among [`sources`].
    source: usize,
}

fn read(content: &str) -> Result<Read, String> {
    if content.is_empty() || content.len() > MAX_TEXT {
        return Err(format!("it is longer than {} KiB", MAX_TEXT / 1024));
    }
    let mut parsed = parse_sigma_yaml(content).map_err(|error| error.to_string())?;
    if !parsed.correlations.is_empty() {
        return Err("it is a correlation of other rules; single events are looked at".to_owned());
    }
    if let Some(error) = parsed.errors.first() {
        return Err(error.clone());
    }
    // What comes before only completes it.
    let rule = parsed.rules.pop().ok_or("there is no rule in it")?;
    let techniques = techniques(&rule);
    if techniques.is_empty() {
        return Err("it names no ATT&CK technique".to_owned());
    }
    let said = |part: &Option<String>| part.as_deref().unwrap_or_default().trim().to_lowercase();
    let about = &rule.logsource;
    let (category, product, service) = (said(&about.category), said(&about.product), said(&about.service));
    let place = sources().iter().position(|source| source.is_for(&category, &product, &service));
    let place = place.ok_or("no events here are of its log source")?;
    let compiled = compile_rule(&rule).map_err(|error| error.to_string())?;
    if let Some(pattern) = compiled.conditions.iter().find_map(|condition| chooses_nothing(condition, &compiled)) {
        return Err(format!("no selection fits {pattern}"));
    }
    let nothing = sources().get(place).map(Source::nothing);
    if nothing.is_some_and(|nothing| holds(&compiled, &nothing)) {
        return Err("it holds for events that say nothing".to_owned());
    }
    let reason = rule.description.as_deref().map(str::trim).filter(|text| !text.is_empty());
    Ok(Read { reason: reason.map(|text| cut(text).to_owned()), compiled, techniques, source: place })
}

/// ATT&CK ids that it is tagged with, each once.
fn techniques(rule: &SigmaRule) -> Vec<String> {
    let mut found = Vec::new();
    for tag in &rule.tags {
        let tag = tag.trim().to_ascii_uppercase();
        if let Some(id) = tag.strip_prefix("ATTACK.")
            && is_technique(id)
            && found.len() < MAX_TECHNIQUES
            && !found.iter().any(|known| known == id)
        {
            found.push(id.to_owned());
        }
    }
    found
}

/// Such as T1059 or T1059.001.
fn is_technique(id: &str) -> bool {
    let digits = |text: &str, n: usize| text.len() == n && text.bytes().all(|b| b.is_ascii_digit());
    let Some(id) = id.strip_prefix('T') else { return false };
    match id.split_once('.') {
        None => digits(id, 4),
        Some((id, sub)) => digits(id, 4) && digits(sub, 3),
    }
}

/// A pattern for selections that none has the name of: all of none would hold for everything.
fn chooses_nothing(condition: &ConditionExpr, rule: &CompiledRule) -> Option<String> {
    match condition {
        ConditionExpr::And(parts) | ConditionExpr::Or(parts) => {
            parts.iter().find_map(|part| chooses_nothing(part, rule))
        }
        ConditionExpr::Not(part) => chooses_nothing(part, rule),
        ConditionExpr::Identifier(_) => None,
        ConditionExpr::Selector { pattern, .. } => {
            let any = rule.detections.keys().any(|name| pattern.matches_detection_name(name));
            (!any).then(|| pattern.to_string())
        }
    }
}

fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_REASON)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
