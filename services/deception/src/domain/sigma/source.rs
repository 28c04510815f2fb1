//! How our events look to Sigma rules: the log sources of `data/sigma.toml`.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    sync::OnceLock,
};

use regex::Regex;
use rsigma_eval::{Event as SigmaEvent, EventValue};
use serde::Deserialize;
use serde_json::Value;

use super::shell::{Process, System, processes};
use crate::domain::event::{EVENT_TYPES, Event};

/// Its form stands at its head.
const SOURCES: &str = include_str!("../../../data/sigma.toml");

/// An entry of the table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(default)]
    category: String,
    #[serde(default)]
    product: String,
    #[serde(default)]
    service: String,
    events: Vec<String>,
    #[serde(default)]
    services: Vec<String>,
    field: Option<String>,
    regex: Option<String>,
    #[serde(default)]
    needs: Vec<String>,
    read: Read,
    names: BTreeMap<String, String>,
    #[serde(default)]
    always: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct File {
    source: Vec<Entry>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Read {
    Fields,
    Request,
    Unix,
    Windows,
}

/// Where a value of a view comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    Address,
    Field(String),
    Uri,
    Stem,
    Query,
    Url,
    Extension,
    Image,
    Line,
    Parent,
    ParentLine,
    Arg(usize),
}

impl Origin {
    fn parse(text: &str, read: Read) -> Option<Origin> {
        let Some(derived) = text.strip_prefix('@') else {
            return Some(if text == "attacker_ip" { Origin::Address } else { Origin::Field(text.to_owned()) });
        };
        match (read, derived) {
            (Read::Request, "uri") => Some(Origin::Uri),
            (Read::Request, "stem") => Some(Origin::Stem),
            (Read::Request, "query") => Some(Origin::Query),
            (Read::Request, "url") => Some(Origin::Url),
            (Read::Request, "extension") => Some(Origin::Extension),
            (Read::Unix | Read::Windows, "image") => Some(Origin::Image),
            (Read::Unix | Read::Windows, "line") => Some(Origin::Line),
            (Read::Unix | Read::Windows, "parent") => Some(Origin::Parent),
            (Read::Unix | Read::Windows, "parent_line") => Some(Origin::ParentLine),
            (Read::Unix | Read::Windows, arg) => arg.strip_prefix('a')?.parse().ok().map(Origin::Arg),
            _ => None,
        }
    }
}

/// Events as rules of one log source see them.
#[derive(Debug)]
pub(crate) struct Source {
    /// What a rule's `logsource` says; empty where it has to say nothing.
    pub(crate) category: String,
    pub(crate) product: String,
    pub(crate) service: String,
    pub(super) events: Vec<&'static str>,
    services: Vec<String>,
    fits: Option<(String, Regex)>,
    needs: Vec<String>,
    read: Read,
    /// Each once; the constants are behind them.
    values: Vec<Origin>,
    constants: Vec<String>,
    /// By Sigma's name the place of the value.
    names: HashMap<String, usize>,
}

impl Source {
    fn of(entry: Entry) -> Result<Source, String> {
        let wrong = |what: String| format!("{}/{}/{}: {what}", entry.category, entry.product, entry.service);
        let mut events = Vec::new();
        for event in &entry.events {
            let known = EVENT_TYPES.into_iter().find(|known| known == event);
            events.push(known.ok_or_else(|| wrong(format!("no event is {event}")))?);
        }
        let fits = match (&entry.field, &entry.regex) {
            (None, None) => None,
            (Some(field), Some(regex)) => {
                Some((field.clone(), Regex::new(regex).map_err(|error| wrong(error.to_string()))?))
            }
            _ => return Err(wrong("field and regex come together".into())),
        };
        let (mut values, mut names) = (Vec::new(), HashMap::new());
        for (name, from) in &entry.names {
            let from = Origin::parse(from, entry.read).ok_or_else(|| wrong(format!("{name} comes from nowhere")))?;
            let place = values.iter().position(|known| *known == from).unwrap_or_else(|| {
                values.push(from);
                values.len() - 1
            });
            names.insert(name.clone(), place);
        }
        let mut constants = Vec::new();
        for (name, value) in &entry.always {
            names.insert(name.clone(), values.len() + constants.len());
            constants.push(value.clone());
        }
        let Entry { category, product, service, services, needs, read, .. } = entry;
        Ok(Source { category, product, service, events, services, fits, needs, read, values, constants, names })
    }

    /// Whether a rule that says this is for these events. One that says nothing is for none.
    pub(super) fn is_for(&self, category: &str, product: &str, service: &str) -> bool {
        let fits = |rule: &str, source: &str| rule.is_empty() || rule == source;
        !(category.is_empty() && product.is_empty() && service.is_empty())
            && fits(category, &self.category)
            && fits(product, &self.product)
            && fits(service, &self.service)
    }

    /// What is the same in each view.
    pub(super) fn constants(&self) -> &[String] {
        &self.constants
    }

    /// A view of nothing.
    pub(super) fn nothing(&self) -> View<'_> {
        self.view(vec![None; self.values.len()])
    }

    /// An event of the right type as rules see it: once, or as often as it has parts; not at all where it is not of this
    /// source.
    pub(super) fn views<'a>(&'a self, event: &'a Event) -> Vec<View<'a>> {
        let here = self.services.is_empty() || self.services.contains(&event.service);
        let fits = |(field, regex): &(String, Regex)| regex.is_match(event.field(field).unwrap_or_default());
        if !here || !self.needs.iter().all(|field| event.field(field).is_some()) || !self.fits.as_ref().is_none_or(fits)
        {
            return Vec::new();
        }
        let system = match self.read {
            Read::Fields => return vec![self.each(|from| plain(from, event))],
            Read::Request => {
                let request = Request::of(event);
                return vec![self.each(|from| request.value(from).or_else(|| plain(from, event)))];
            }
            Read::Unix => System::Unix,
            Read::Windows => System::Windows,
        };
        let command = event.field("command").unwrap_or_default();
        let seen = |process: Process| self.each(|from| value(&process, from).or_else(|| plain(from, event)));
        processes(command, system).into_iter().map(seen).collect()
    }

    fn each<'a>(&'a self, value: impl Fn(&Origin) -> Option<Cow<'a, str>>) -> View<'a> {
        self.view(self.values.iter().map(value).collect())
    }

    fn view<'a>(&'a self, mut values: Vec<Option<Cow<'a, str>>>) -> View<'a> {
        values.extend(self.constants.iter().map(|value| Some(Cow::from(value))));
        View { source: self, values }
    }
}

/// A field as it is.
fn plain<'a>(from: &Origin, event: &'a Event) -> Option<Cow<'a, str>> {
    match from {
        Origin::Field(field) => event.field(field).map(Cow::from),
        Origin::Address => Some(Cow::from(&event.attacker_ip)),
        _ => None,
    }
}

fn value<'a>(process: &Process, from: &Origin) -> Option<Cow<'a, str>> {
    let text = match from {
        Origin::Image => process.image.clone(),
        Origin::Line => Some(process.line.clone()),
        Origin::Parent => process.parent.as_ref().map(|(image, _)| image.clone()),
        Origin::ParentLine => process.parent.as_ref().map(|(_, line)| line.clone()),
        Origin::Arg(at) => process.args.get(*at).cloned(),
        _ => None,
    };
    text.map(Cow::from)
}

/// A request's parts.
struct Request<'a> {
    uri: &'a str,
    stem: &'a str,
    query: Option<&'a str>,
    url: String,
}

impl<'a> Request<'a> {
    fn of(event: &'a Event) -> Request<'a> {
        let uri = event.field("path").unwrap_or_default();
        let (stem, query) = uri.split_once('?').map_or((uri, None), |(stem, query)| (stem, Some(query)));
        let url = if uri.contains("://") {
            uri.to_owned()
        } else {
            let scheme = if event.service.contains("https") { "https" } else { "http" };
            format!("{scheme}://{}{uri}", event.field("host").unwrap_or_default())
        };
        Request { uri, stem, query, url }
    }

    fn value(&self, from: &Origin) -> Option<Cow<'a, str>> {
        match from {
            Origin::Uri => Some(Cow::from(self.uri)),
            Origin::Stem => Some(Cow::from(self.stem)),
            Origin::Query => self.query.map(Cow::from),
            Origin::Url => Some(Cow::from(self.url.clone())),
            Origin::Extension => {
                let file = self.stem.rsplit('/').next().unwrap_or_default();
                file.rsplit_once('.').map(|(_, extension)| Cow::from(extension))
            }
            _ => None,
        }
    }
}

/// An event, or a part of it, as a rule sees it.
#[derive(Debug)]
pub(super) struct View<'a> {
    source: &'a Source,
    values: Vec<Option<Cow<'a, str>>>,
}

impl View<'_> {
    /// All texts that are not the same in each view.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.values.iter().take(self.source.values.len()).flatten().map(AsRef::as_ref)
    }
}

impl SigmaEvent for View<'_> {
    fn get_field(&self, path: &str) -> Option<EventValue<'_>> {
        let value = self.values.get(*self.source.names.get(path)?)?.as_ref()?;
        Some(EventValue::Str(Cow::from(value.as_ref())))
    }

    fn any_string_value(&self, pred: &dyn Fn(&str) -> bool) -> bool {
        self.texts().any(pred)
    }

    fn all_string_values(&self) -> Vec<Cow<'_, str>> {
        self.texts().map(Cow::from).collect()
    }

    fn to_json(&self) -> Value {
        let text = |place: &usize| self.values.get(*place)?.as_ref().map(|text| Value::from(text.as_ref()));
        self.source.names.iter().filter_map(|(name, place)| Some((name.clone(), text(place)?))).collect()
    }
}

/// All log sources, in their order.
pub(crate) fn sources() -> &'static [Source] {
    static READ: OnceLock<Vec<Source>> = OnceLock::new();
    // That they can be read is tested.
    READ.get_or_init(|| parse(SOURCES).unwrap_or_default())
}

fn parse(text: &str) -> Result<Vec<Source>, String> {
    let file = toml::from_str::<File>(text).map_err(|error| error.to_string())?;
    file.source.into_iter().map(Source::of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_can_be_read() {
        let sources = parse(SOURCES).unwrap();
        assert!(sources.len() >= 6);
        for source in &sources {
            assert!(!source.events.is_empty() && !source.names.is_empty(), "{source:?}");
            assert!(!source.category.is_empty() || !source.product.is_empty(), "{source:?}");
        }
    }

    #[test]
    fn what_says_nothing_sensible_is_refused() {
        let entry = |rest: &str| parse(&format!("[[source]]\ncategory = 'a'\nevents = ['query']\n{rest}")).is_ok();
        assert!(entry("read = 'fields'\n[source.names]\na = 'b'"));
        for bad in [
            "read = 'fields'",
            "read = 'other'\n[source.names]\na = 'b'",
            "read = 'fields'\n[source.names]\na = '@line'",
            "read = 'unix'\n[source.names]\na = '@stem'",
            "read = 'unix'\nfield = 'a'\n[source.names]\na = 'b'",
            "read = 'unix'\nfield = 'a'\nregex = '('\n[source.names]\na = 'b'",
        ] {
            assert!(!entry(bad), "{bad}");
        }
    }
}
