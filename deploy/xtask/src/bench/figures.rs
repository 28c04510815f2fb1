//! What was measured, and how it is printed.

use anstream::println;
use owo_colors::OwoColorize;
use serde_json::json;

/// All figures of a run.
#[derive(Default)]
pub struct Figures {
    rows: Vec<Row>,
    notes: Vec<String>,
}

struct Row {
    name: String,
    value: f64,
    unit: &'static str,
    goal: Option<(&'static str, f64)>,
}

impl Row {
    fn good(&self) -> Option<bool> {
        self.goal.map(|(sign, limit)| if sign == "<" { self.value < limit } else { self.value >= limit })
    }
}

impl Figures {
    /// Adds a figure; the goal is `<` or `>` and a limit.
    pub fn add(&mut self, name: &str, value: f64, unit: &'static str, goal: Option<(&'static str, f64)>) {
        eprintln!("measured: {name}: {value:.1} {unit}");
        self.rows.push(Row { name: name.to_owned(), value, unit, goal });
    }

    /// Adds a remark.
    pub fn note(&mut self, note: &str) {
        self.notes.push(note.to_owned());
    }

    /// Prints all.
    pub fn print(&self, as_json: bool) {
        if as_json {
            let rows: Vec<_> = self
                .rows
                .iter()
                .map(|row| json!({ "name": row.name.trim(), "value": row.value, "unit": row.unit, "good": row.good() }))
                .collect();
            println!("{}", json!({ "figures": rows, "notes": self.notes }));
            return;
        }
        for row in &self.rows {
            let goal = row.goal.map(|(sign, limit)| format!("{sign} {limit}")).unwrap_or_default();
            let line = format!("{:<44} {:>12.1} {:<11} {goal}", row.name, row.value, row.unit);
            match row.good() {
                Some(true) => println!("{} {line}", "✓".green()),
                Some(false) => println!("{} {line}", "✗".red().bold()),
                None => println!("  {line}"),
            }
        }
        for note in &self.notes {
            println!("  {note}");
        }
    }
}

/// The value that so many percent of `values` do not exceed.
pub fn percentile(values: &mut [f64], percent: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    let at = (percent / 100.0 * values.len() as f64).ceil() as usize;
    values.get(at.saturating_sub(1).min(last)).copied().unwrap_or(f64::NAN)
}

/// A count with commas, as in `1,000,000`.
pub fn grouped(count: usize) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
