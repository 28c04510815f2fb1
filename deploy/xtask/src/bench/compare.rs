//! `cargo xtask bench compare`: two runs beside each other.

use std::{collections::HashMap, path::Path};

use anstream::println;
use anyhow::{Context, Result, bail};
use owo_colors::OwoColorize;
use serde_json::Value;

/// What differs by less than this is the same: machines are not that quiet.
const SAME: f64 = 0.05;

/// A figure of a run.
#[derive(Debug)]
struct Figure {
    part: String,
    name: String,
    value: f64,
    unit: String,
    better: Option<bool>,
}

/// What became of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Better,
    Worse,
    Same,
    /// There is no telling whether more is better.
    Other,
}

/// Prints two runs as a table with the ratio of the second to the first.
pub fn run(before: &Path, after: &Path) -> Result<u8> {
    let (first, second) = (read(before)?, read(after)?);
    let (old, new) = (figures(&first, before)?, figures(&second, after)?);
    for (name, run) in [("before", &first), ("after", &second)] {
        let about = |key: &str| run["about"][key].as_str().unwrap_or("?").to_owned();
        println!("{name:<6} {} · {} · {}", about("when"), about("commit"), about("store"));
    }
    let known: HashMap<(&str, &str), &Figure> = old.iter().map(|figure| (key(figure), figure)).collect();
    let mut part = "";
    let mut counts = [0_usize; 3];
    for figure in &new {
        if figure.part != part {
            part = &figure.part;
            println!("{}", part.bold());
        }
        let name = short(&figure.name);
        let Some(old) = known.get(&key(figure)) else {
            println!("  {name:<64} {:>12} {:>12.1} {:<11}", "–", figure.value, figure.unit);
            continue;
        };
        let ratio = figure.value / old.value;
        let line = format!("{name:<64} {:>12.1} {:>12.1} {:<11} × {ratio:.2}", old.value, figure.value, figure.unit);
        match change(old.value, figure.value, figure.better) {
            Change::Better => {
                counts[0] += 1;
                println!("{} {line}", "▲".green());
            }
            Change::Worse => {
                counts[1] += 1;
                println!("{} {line}", "▼".red().bold());
            }
            Change::Same => {
                counts[2] += 1;
                println!("= {line}");
            }
            Change::Other => println!("  {line}"),
        }
    }
    let still: HashMap<(&str, &str), ()> = new.iter().map(|figure| (key(figure), ())).collect();
    for gone in old.iter().filter(|figure| !still.contains_key(&key(figure))) {
        println!("  only before: {}: {}", gone.part, short(&gone.name));
    }
    let [better, worse, same] = counts;
    println!("{better} better, {worse} worse, {same} the same (within {:.0} %)", SAME * 100.0);
    Ok(0)
}

fn read(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not what `bench --json` writes", path.display()))
}

/// All figures; where two have the same name, the later ones have a number.
fn figures(run: &Value, path: &Path) -> Result<Vec<Figure>> {
    let Some(rows) = run["figures"].as_array() else {
        bail!("{} is not what `bench --json` writes: it has no figures", path.display());
    };
    let mut met: HashMap<(String, String), usize> = HashMap::new();
    let mut figures = Vec::new();
    for row in rows {
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let (part, mut name) = (text("part"), text("name"));
        if let Some(of) = row["of"].as_str() {
            name = format!("{of} › {name}");
        }
        let times = met.entry((part.clone(), name.clone())).or_default();
        *times += 1;
        if *times > 1 {
            name = format!("{name} ({times})");
        }
        // A figure that could not be measured is null.
        let Some(value) = row["value"].as_f64() else { continue };
        let better = row["better"].as_str().map(|better| better == "higher");
        figures.push(Figure { part, name, value, unit: text("unit"), better });
    }
    Ok(figures)
}

fn key(figure: &Figure) -> (&str, &str) {
    (&figure.part, &figure.name)
}

fn change(old: f64, new: f64, more_is_better: Option<bool>) -> Change {
    let Some(more_is_better) = more_is_better else { return Change::Other };
    if (new - old).abs() <= SAME * old.abs() {
        return Change::Same;
    }
    if (new > old) == more_is_better { Change::Better } else { Change::Worse }
}

/// A name that fits its column.
fn short(name: &str) -> String {
    const MOST: usize = 64;
    let length = name.chars().count();
    if length <= MOST {
        return name.to_owned();
    }
    // The end says what was measured.
    let tail: String = name.chars().skip(length - (MOST - 1)).collect();
    format!("…{tail}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_of_two_runs_find_each_other() {
        let run = json!({ "figures": [
            { "part": "p", "of": null, "name": "a", "value": 1.0, "unit": "ms", "better": "lower" },
            { "part": "p", "of": "a", "name": "ratio", "value": 50.0, "unit": "%", "better": "higher" },
            { "part": "p", "of": "a", "name": "ratio", "value": 60.0, "unit": "%", "better": "higher" },
            { "part": "p", "of": null, "name": "not measured", "value": null, "unit": "ms", "better": "lower" },
        ]});
        let figures = figures(&run, Path::new("x")).unwrap();
        let names: Vec<&str> = figures.iter().map(|figure| figure.name.as_str()).collect();
        assert_eq!(names, ["a", "a › ratio", "a › ratio (2)"]);
        assert!(super::figures(&json!({}), Path::new("x")).is_err());
    }

    #[test]
    fn a_change_counts_when_it_is_more_than_noise() {
        assert_eq!(change(100.0, 104.0, Some(true)), Change::Same);
        assert_eq!(change(100.0, 110.0, Some(true)), Change::Better);
        assert_eq!(change(100.0, 110.0, Some(false)), Change::Worse);
        assert_eq!(change(100.0, 80.0, Some(false)), Change::Better);
        assert_eq!(change(100.0, 80.0, None), Change::Other);
        assert_eq!(short(&"x".repeat(100)).chars().count(), 64);
    }
}
