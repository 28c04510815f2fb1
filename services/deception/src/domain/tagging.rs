//! Which ATT&CK techniques an event shows, by the rules of `data/rules.toml` and by Sigma rules of the catalogue.

use std::{collections::HashMap, sync::OnceLock};

use regex::bytes::{RegexSet, RegexSetBuilder};
use serde::Deserialize;

use super::{
    event::{EVENT_TYPES, Event},
    sigma::Set,
};

/// Our own rules. Their form stands at their head.
const RULES: &str = include_str!("../../data/rules.toml");
/// Stands for every field, and the message.
const ANY: &str = "*";
/// Where a command begins: at the start, after what ends or encloses another, or behind what only runs it; then a path.
const BEGINS: &str =
    r"(?:^|[;&|(`\n{!]|\b(?:sudo|busybox|nohup|setsid|time|exec|env|then|do|else)\s+(?:-\S+\s+)*)\s*(?:[\w.~/-]*/)?";
/// What follows the name of a program.
const ENDS: &str = r"(?:[\s;&|)<>`]|$)";
/// Bytes that one set may take when it is compiled, and while it works.
const MAX_SET: usize = 16 * 1024 * 1024;
/// Techniques of one event.
const MAX_TECHNIQUES: usize = 40;

/// A rule as it is shown.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    pub(crate) id: String,
    events: Vec<String>,
    #[serde(default)]
    services: Vec<String>,
    #[serde(default)]
    programs: Vec<String>,
    args: Option<String>,
    field: Option<String>,
    regex: Option<String>,
    /// ATT&CK ids.
    pub(crate) techniques: Vec<String>,
    /// Why such an event shows them.
    pub(crate) reason: String,
    #[cfg_attr(not(test), expect(dead_code, reason = "an example for the tests"))]
    tags: Option<String>,
    #[cfg_attr(not(test), expect(dead_code, reason = "an example for the tests"))]
    spares: Option<String>,
}

impl Rule {
    fn is_of(&self, service: &str) -> bool {
        self.services.is_empty() || self.services.iter().any(|of| of == service)
    }

    /// The field that is looked at and what it must fit; nothing where the event alone is enough.
    fn pattern(&self) -> Result<Option<(&str, String)>, String> {
        match (&self.programs[..], &self.field, &self.regex) {
            ([], None, None) => Ok(None),
            ([], Some(field), Some(regex)) => Ok(Some((field, regex.clone()))),
            (programs @ [_, ..], None, None) => {
                let args = self.args.as_deref().unwrap_or(ENDS);
                Ok(Some(("command", format!("{BEGINS}(?:{}){args}", programs.join("|")))))
            }
            _ => Err(format!("the rule {} has neither programs nor field and regex, or both", self.id)),
        }
    }
}

#[derive(Deserialize)]
struct File {
    rule: Vec<Rule>,
}

/// Rules that look at one field of one type of event, all at once.
#[derive(Debug)]
struct Group {
    field: String,
    set: RegexSet,
    /// By their place in the set, places among all rules.
    rules: Vec<usize>,
}

/// All rules, ready to be used.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    rules: Vec<Rule>,
    /// By type of event: rules for which that is enough.
    plain: HashMap<String, Vec<usize>>,
    groups: HashMap<String, Vec<Group>>,
}

impl Rules {
    fn parse(text: &str) -> Result<Rules, String> {
        let rules = toml::from_str::<File>(text).map_err(|error| error.to_string())?.rule;
        let mut plain: HashMap<String, Vec<usize>> = HashMap::new();
        let mut patterns: HashMap<(String, String), Vec<(usize, String)>> = HashMap::new();
        for (at, rule) in rules.iter().enumerate() {
            let pattern = rule.pattern()?;
            for event in &rule.events {
                if !EVENT_TYPES.contains(&event.as_str()) {
                    return Err(format!("the rule {} is of {event}, which no event is", rule.id));
                }
                match &pattern {
                    None => plain.entry(event.clone()).or_default().push(at),
                    Some((field, regex)) => {
                        let of = (event.clone(), (*field).to_owned());
                        patterns.entry(of).or_default().push((at, regex.clone()));
                    }
                }
            }
        }
        let mut groups: HashMap<String, Vec<Group>> = HashMap::new();
        for ((event, field), patterns) in patterns {
            let (rules, texts): (Vec<usize>, Vec<String>) = patterns.into_iter().unzip();
            let set = RegexSetBuilder::new(texts)
                // What attackers send is any bytes; a letter is one of ASCII here.
                .unicode(false)
                .size_limit(MAX_SET)
                .dfa_size_limit(MAX_SET)
                .build()
                .map_err(|error| error.to_string())?;
            groups.entry(event).or_default().push(Group { field, set, rules });
        }
        Ok(Rules { rules, plain, groups })
    }

    /// The rules that an event fits, in their order.
    pub(crate) fn of(&self, event: &Event) -> Vec<&Rule> {
        let mut found: Vec<usize> = self.plain.get(event.event_type).cloned().unwrap_or_default();
        for group in self.groups.get(event.event_type).into_iter().flatten() {
            let mut look = |text: &str| {
                let fits = group.set.matches(text.as_bytes());
                found.extend(fits.iter().filter_map(|at| group.rules.get(at)));
            };
            if group.field == ANY {
                look(&event.msg);
                event.fields.pairs().iter().for_each(|(_, text)| look(text));
            } else if let Some(text) = event.field(&group.field) {
                look(text);
            }
        }
        found.sort_unstable();
        found.dedup();
        found.into_iter().filter_map(|at| self.rules.get(at)).filter(|rule| rule.is_of(&event.service)).collect()
    }

    /// All of them, in their order.
    pub(crate) fn all(&self) -> &[Rule] {
        &self.rules
    }
}

/// Our own rules.
pub(crate) fn rules() -> &'static Rules {
    static COMPILED: OnceLock<Rules> = OnceLock::new();
    // That they can be read is tested.
    COMPILED.get_or_init(|| Rules::parse(RULES).unwrap_or_default())
}

/// ATT&CK ids of the techniques that an event shows, each once; what is more than an event can hold is left out.
pub(crate) fn tag<'a>(event: &Event, sigma: &'a Set) -> Vec<&'a str> {
    let own = rules().of(event).into_iter().flat_map(|rule| &rule.techniques);
    let others = sigma.of(event).into_iter().flat_map(|rule| &rule.techniques);
    let mut techniques: Vec<&'a str> = Vec::new();
    for technique in own.chain(others).map(String::as_str) {
        if techniques.len() < MAX_TECHNIQUES && !techniques.contains(&technique) {
            techniques.push(technique);
        }
    }
    techniques
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn event(rule: &Rule, event_type: &str, text: Option<&str>) -> Event {
        let service = rule.services.first().map_or("ssh", String::as_str);
        let field = match (&rule.field, rule.programs.is_empty()) {
            (_, false) => "command",
            (Some(field), _) if field != ANY => field,
            _ => "detail",
        };
        let fields = text.map(|text| serde_json::json!({ field: text }).to_string()).unwrap_or_default();
        Event::example(event_type, service, &fields)
    }

    #[test]
    fn each_rule_tags_its_example_and_spares_the_other() {
        let rules = Rules::parse(RULES).unwrap();
        assert!(rules.all().len() >= 60, "{} rules", rules.all().len());
        let ids: HashSet<&str> = rules.all().iter().map(|rule| rule.id.as_str()).collect();
        assert_eq!(ids.len(), rules.all().len(), "ids are unique");
        let mut wrong = Vec::new();
        for rule in rules.all() {
            assert!(rule.reason.len() > 20 && !rule.techniques.is_empty(), "{}", rule.id);
            for event_type in &rule.events {
                let fits = |text: Option<&str>| {
                    rules.of(&event(rule, event_type, text)).iter().any(|found| found.id == rule.id)
                };
                let looks = rule.field.is_some() || !rule.programs.is_empty();
                if !fits(rule.tags.as_deref()) {
                    wrong.push(format!("{} does not tag {:?}", rule.id, rule.tags));
                }
                if looks && (rule.spares.is_none() || fits(rule.spares.as_deref()) || fits(Some("")) || fits(None)) {
                    wrong.push(format!("{} tags {:?} or nothing at all", rule.id, rule.spares));
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn a_command_is_seen_wherever_it_begins() {
        for text in [
            "uname -a",
            "/bin/uname",
            "sudo uname -r",
            "cd /tmp; uname",
            "cd /tmp&&uname -a",
            "echo $(uname)",
            "`uname`",
            "if true; then uname; fi",
            "nohup /usr/bin/uname &",
            "/bin/busybox uname -a",
        ] {
            let fields = serde_json::json!({ "command": text }).to_string();
            assert!(tag(&Event::example("command", "ssh", &fields), &Set::default()).contains(&"T1082"), "{text}");
        }
    }

    #[test]
    fn a_rule_that_says_nothing_sensible_is_refused() {
        let rule = |rest: &str| {
            let head = "[[rule]]\nid = 'a'\nevents = ['command']\ntechniques = ['T1']\nreason = 'x'\n";
            Rules::parse(&format!("{head}{rest}")).is_ok()
        };
        assert!(rule("") && rule("field = 'command'\nregex = 'a'"));
        for bad in [
            "field = 'command'",
            "regex = 'a'",
            "programs = ['a']\nfield = 'b'\nregex = 'c'",
            "field = 'c'\nregex = '('",
        ] {
            assert!(!rule(bad), "{bad}");
        }
        assert!(Rules::parse("[[rule]]\nid = 'a'\nevents = ['no']\ntechniques = []\nreason = ''").is_err());
    }
}
