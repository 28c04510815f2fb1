//! Dashboards and alerts: whether they can be read, and whether every metric that they name is one of the product's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::rules::{list, text};
use super::{Ground, Outcome, tools};

/// What Prometheus says of its targets itself.
const OF_PROMETHEUS: [&str; 1] = ["up"];
/// Labels that Prometheus gives, or the file that tells it of its targets.
const LABELS_OF_PROMETHEUS: [&str; 3] = ["instance", "le", "role"];
/// Words of its language that are no function and no metric.
const WORDS: [&str; 14] = [
    "and",
    "atan2",
    "bool",
    "by",
    "group_left",
    "group_right",
    "ignoring",
    "inf",
    "nan",
    "offset",
    "on",
    "or",
    "unless",
    "without",
];

/// The metrics that dashboards and alerts name, and where.
pub(super) fn named(ground: &Ground) -> Result<BTreeMap<String, String>> {
    let mut named = BTreeMap::new();
    for (place, expression) in expressions(ground)? {
        for metric in words(&expression).metrics {
            named.entry(metric).or_insert_with(|| place.clone());
        }
    }
    for known in OF_PROMETHEUS {
        named.remove(known);
    }
    Ok(named)
}

/// The names of which the product's own text has metrics: one that counts what has not happened yet is not exported yet.
pub(super) fn declared(root: &Path, names: &BTreeSet<String>) -> Result<BTreeSet<String>> {
    let mut left: BTreeSet<String> = names.clone();
    for folder in ["services", "gateway"] {
        look(&root.join(folder), &mut left)?;
    }
    Ok(names.difference(&left).cloned().collect())
}

fn look(folder: &Path, left: &mut BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "tests") {
                look(&path, left)?;
            }
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let code = fs::read_to_string(&path)?;
            let has = |name: &str| code.contains(&format!("\"{name}\""));
            left.retain(|name| !has(name) && !has(family(name)));
        }
    }
    Ok(())
}

/// The metric that a line of a histogram belongs to.
pub(super) fn family(name: &str) -> &str {
    ["_bucket", "_sum", "_count"].iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name)
}

/// Reads the files, and has Prometheus's own checker read those that are for it.
pub(super) fn check_files(ground: &Ground) -> Result<Outcome> {
    let mut problems = Vec::new();
    let mut seen = BTreeSet::new();
    let dashboards = dashboards(ground)?;
    for (name, dashboard) in &dashboards {
        for (what, path) in [("uid", "/uid"), ("title", "/title")] {
            let value = text(dashboard, path);
            if value.is_empty() || !seen.insert(value.to_owned()) {
                problems.push(format!("{name}: its {what} is missing or another's: {value}"));
            }
        }
        let panels = list(dashboard, "/panels");
        let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
        if ids.len() != panels.len() {
            problems.push(format!("{name}: panels share an id"));
        }
    }
    let places = expressions(ground)?;
    if places.is_empty() {
        problems.push("no dashboard asks for anything".to_owned());
    }
    let documented = labels(&ground.root)?;
    for (place, expression) in &places {
        let unknown: Vec<String> = words(expression).groupings.difference(&documented).cloned().collect();
        if !unknown.is_empty() {
            problems.push(format!("{place}: groups by {}, which no metric has", unknown.join(", ")));
        }
    }
    collector(ground, &mut problems)?;
    if !problems.is_empty() {
        bail!("deploy/observability:\n  {}", problems.join("\n  "));
    }
    let folder = ground.root.join("deploy/observability/prometheus");
    let by = match ground.tools.promtool() {
        Some(program) => {
            tools::answer(Command::new(&program).args(["check", "config"]).arg(folder.join("prometheus.yml")))?;
            let rules: Vec<Value> = places
                .iter()
                .map(|(_, expression)| serde_json::json!({ "record": "any", "expr": without_variables(expression) }))
                .collect();
            let groups = rules
                .into_iter()
                .enumerate()
                .map(|(at, rule)| serde_json::json!({ "name": at.to_string(), "rules": [rule] }));
            let file = ground.scratch.path().join("expressions.json");
            fs::write(&file, serde_json::json!({ "groups": groups.collect::<Vec<_>>() }).to_string())?;
            tools::answer(Command::new(&program).args(["check", "rules"]).arg(&file))?;
            "read by promtool"
        }
        None => "not read by promtool, which is not here",
    };
    Ok(Outcome::Held(format!("{} dashboards, {} expressions, {by}", dashboards.len(), places.len())))
}

/// The labels that the documented metrics have.
fn labels(root: &Path) -> Result<BTreeSet<String>> {
    let text = fs::read_to_string(root.join("deploy/observability/METRICS.md"))?;
    let mut found: BTreeSet<String> = LABELS_OF_PROMETHEUS.iter().map(ToString::to_string).collect();
    for row in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        if let [_, _, "counter" | "gauge" | "histogram", labels, ..] = cells.as_slice() {
            found.extend(labels.split(',').map(|label| label.trim().trim_matches('`').to_owned()));
        }
    }
    Ok(found)
}

/// The expressions of all dashboards and alerts, with where they are.
fn expressions(ground: &Ground) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for (name, dashboard) in dashboards(ground)? {
        for panel in list(&dashboard, "/panels") {
            for target in list(panel, "/targets") {
                found.push((format!("{name}, {}", text(panel, "/title")), text(target, "/expr").to_owned()));
            }
        }
        for variable in list(&dashboard, "/templating/list") {
            let query = text(variable, "/query/query");
            let metric = query.strip_prefix("label_values(").and_then(|rest| rest.split(',').next());
            found.extend(metric.map(|metric| (format!("{name}, a variable"), metric.to_owned())));
        }
    }
    let alerts = fs::read_to_string(ground.root.join("deploy/observability/prometheus/alerts.yml"))?;
    for document in ground.tools.yaml(&alerts)?.unwrap_or_default() {
        for rule in list(&document, "/groups").iter().flat_map(|group| list(group, "/rules")) {
            found.push((format!("the alert {}", text(rule, "/alert")), text(rule, "/expr").to_owned()));
        }
    }
    Ok(found)
}

fn dashboards(ground: &Ground) -> Result<Vec<(String, Value)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(ground.root.join("deploy/observability/grafana/dashboards"))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().display().to_string();
        let dashboard = serde_json::from_str(&fs::read_to_string(&path)?).with_context(|| name.clone())?;
        found.push((name, dashboard));
    }
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(found)
}

/// A pipeline names only what the collector's file has.
fn collector(ground: &Ground, problems: &mut Vec<String>) -> Result<()> {
    let file = fs::read_to_string(ground.root.join("deploy/observability/otel/collector.yaml"))?;
    for document in ground.tools.yaml(&file)?.unwrap_or_default() {
        for (name, pipeline) in document.pointer("/service/pipelines").and_then(Value::as_object).into_iter().flatten()
        {
            for part in ["receivers", "processors", "exporters"] {
                for used in list(pipeline, &format!("/{part}")).iter().filter_map(Value::as_str) {
                    if document[part].get(used).is_none() {
                        problems.push(format!(
                            "collector.yaml: the pipeline {name} names {used}, which is not among its {part}"
                        ));
                    }
                }
            }
        }
    }
    Ok(())
}

/// An expression as Prometheus gets it: Grafana has put values for its variables by then.
fn without_variables(expression: &str) -> String {
    let expression =
        expression.replace("$__rate_interval", "5m").replace("$__range", "1h").replace("$__interval", "1m");
    expression.replace("$route", ".*").replace("$method", ".*")
}

/// What an expression names.
#[derive(Default)]
struct Words {
    metrics: BTreeSet<String>,
    /// The labels of `by (…)` and the like.
    groupings: BTreeSet<String>,
}

fn words(expression: &str) -> Words {
    let mut found = Words::default();
    let mut rest = expression;
    let mut grouping = false;
    while let Some(c) = rest.chars().next() {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        match c {
            '"' | '\'' => rest = after(&rest[1..], c),
            '{' => rest = after(&rest[1..], '}'),
            '[' => rest = after(&rest[1..], ']'),
            '(' if grouping => {
                grouping = false;
                let tail = after(&rest[1..], ')');
                let inside = rest[1..rest.len() - tail.len()].trim_end_matches(')');
                let labels = inside.split(',').map(str::trim).filter(|label| !label.is_empty());
                found.groupings.extend(labels.map(str::to_owned));
                rest = tail;
            }
            '0'..='9' | '$' => rest = rest[1..].trim_start_matches(|c: char| is_name(c) || c == '.'),
            _ if is_name(c) => {
                let end = rest.find(|c: char| !is_name(c)).unwrap_or(rest.len());
                let (word, tail) = rest.split_at(end);
                let lower = word.to_lowercase();
                if WORDS.contains(&lower.as_str()) {
                    grouping = !matches!(
                        lower.as_str(),
                        "and" | "or" | "unless" | "offset" | "bool" | "inf" | "nan" | "atan2"
                    );
                } else if !tail.trim_start().starts_with('(') && !followed_by_grouping(tail) {
                    found.metrics.insert(word.to_owned());
                }
                rest = tail;
            }
            _ => rest = &rest[c.len_utf8()..],
        }
    }
    found
}

/// `sum by (…) (…)`: the word before is a function.
fn followed_by_grouping(tail: &str) -> bool {
    let tail = tail.trim_start();
    ["by", "without"].iter().any(|word| tail.strip_prefix(word).is_some_and(|rest| rest.trim_start().starts_with('(')))
}

/// What follows the first `end` that is outside of quotes.
fn after(text: &str, end: char) -> &str {
    let mut quoted = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match quoted {
            _ if escaped => escaped = false,
            _ if c == '\\' => escaped = true,
            None if c == end => return &text[at + c.len_utf8()..],
            None if end != '"' && end != '\'' && (c == '"' || c == '\'') => quoted = Some(c),
            Some(quote) if c == quote => quoted = None,
            _ => {}
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_told_from_functions_labels_and_words() {
        for (expression, expected) in [
            ("up == 0", vec!["up"]),
            ("sum by (le, job) (rate(a_bucket{x=~\"5..|}\"}[$__rate_interval])) > 0.01", vec!["a_bucket"]),
            ("histogram_quantile(0.95, sum(rate(b_bucket[5m])) by (le))", vec!["b_bucket"]),
            ("a{s=\"used\"} / on (pool) group_left (x) b_max and c or vector(0)", vec!["a", "b_max", "c"]),
            ("time() - max without(job) (d_seconds offset 5m)", vec!["d_seconds"]),
            ("label_replace(e, \"new\", \"$1\", \"old\", \"(f)\")", vec!["e"]),
        ] {
            assert_eq!(words(expression).metrics.into_iter().collect::<Vec<_>>(), expected, "{expression}");
        }
    }

    #[test]
    fn labels_are_those_that_are_grouped_by() {
        for (expression, expected) in [
            ("sum by (le, job) (rate(a_bucket{x=~\"(y)\"}[5m]))", vec!["job", "le"]),
            ("a / on (pool) group_left (x) b", vec!["pool", "x"]),
            ("max(c)", vec![]),
        ] {
            assert_eq!(words(expression).groupings.into_iter().collect::<Vec<_>>(), expected, "{expression}");
        }
    }

    #[test]
    fn lines_of_histograms_belong_to_one_metric() {
        assert_eq!((family("a_seconds_bucket"), family("a_total")), ("a_seconds", "a_total"));
    }
}
