//! What was measured, and how it is told: as a table, as JSON, as Markdown.

use std::{fmt::Write as _, path::Path, time::Instant};

use anstream::println;
use anyhow::{Context, Result};
use owo_colors::OwoColorize;
use serde_json::{Value, json};

/// All figures of a run, by part.
pub struct Figures {
    /// What it was measured on.
    about: Vec<(&'static str, String)>,
    parts: Vec<Part>,
    began: Instant,
}

struct Part {
    name: &'static str,
    rows: Vec<Row>,
    notes: Vec<String>,
    began: Instant,
    seconds: f64,
}

struct Row {
    /// With two spaces before it: it belongs to the last one that has none.
    name: String,
    value: f64,
    unit: &'static str,
    goal: Option<(&'static str, f64)>,
}

impl Row {
    fn good(&self) -> Option<bool> {
        self.goal.map(|(sign, limit)| if sign == "<" { self.value < limit } else { self.value >= limit })
    }

    fn is_of_another(&self) -> bool {
        self.name.starts_with("  ")
    }

    /// Whether more is better, if one of the two is.
    fn better(&self) -> Option<&'static str> {
        match (self.goal, self.unit) {
            (Some(("<", _)), _) => Some("lower"),
            (Some(_), _) => Some("higher"),
            (None, "%") => Some("higher"),
            (None, unit) if unit.ends_with("/s") => Some("higher"),
            (None, "ms" | "s" | "µs" | "MB") => Some("lower"),
            (None, _) => None,
        }
    }

    fn goal_text(&self) -> String {
        let Some((sign, limit)) = self.goal else { return String::new() };
        format!("{} {}", if sign == "<" { "<" } else { "≥" }, number(limit))
    }
}

impl Figures {
    /// None yet.
    pub fn new(about: Vec<(&'static str, String)>) -> Figures {
        Figures { about, parts: Vec::new(), began: Instant::now() }
    }

    /// What comes from now on belongs to this part.
    pub fn begin(&mut self, name: &'static str) {
        self.end();
        self.parts.push(Part { name, rows: Vec::new(), notes: Vec::new(), began: Instant::now(), seconds: 0.0 });
    }

    /// The last part is over.
    pub fn end(&mut self) {
        if let Some(part) = self.parts.last_mut().filter(|part| part.seconds == 0.0) {
            part.seconds = part.began.elapsed().as_secs_f64();
            eprintln!("part {}: {:.0} s", part.name, part.seconds);
        }
    }

    fn part(&mut self) -> &mut Part {
        if self.parts.is_empty() {
            self.begin("all");
        }
        let last = self.parts.len() - 1;
        &mut self.parts[last]
    }

    /// Adds a figure; the goal is `<` or `>` and a limit.
    pub fn add(&mut self, name: &str, value: f64, unit: &'static str, goal: Option<(&'static str, f64)>) {
        eprintln!("measured: {name}: {value:.1} {unit}");
        self.part().rows.push(Row { name: name.to_owned(), value, unit, goal });
    }

    /// Adds a remark.
    pub fn note(&mut self, note: &str) {
        self.part().notes.push(note.to_owned());
    }

    /// Writes all where it is wanted; `-` is the standard output, which has a table where nothing else goes there.
    pub fn tell(&mut self, as_json: Option<&Path>, as_markdown: Option<&Path>) -> Result<()> {
        self.end();
        let mut printed = false;
        for (path, text) in [(as_json, format!("{}\n", self.json())), (as_markdown, self.markdown())] {
            match path {
                None => {}
                Some(path) if path == Path::new("-") => {
                    printed = true;
                    println!("{}", text.trim_end());
                }
                Some(path) => {
                    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
                }
            }
        }
        if !printed {
            self.print();
        }
        Ok(())
    }

    fn took(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    fn print(&self) {
        for part in &self.parts {
            println!("{} {}", part.name.bold(), format!("({:.0} s)", part.seconds).dimmed());
            for row in &part.rows {
                let line = format!("{:<52} {:>12.1} {:<11} {}", row.name, row.value, row.unit, row.goal_text());
                match row.good() {
                    Some(true) => println!("{} {line}", "✓".green()),
                    Some(false) => println!("{} {line}", "✗".red().bold()),
                    None => println!("  {line}"),
                }
            }
            for note in &part.notes {
                println!("  {note}");
            }
        }
        let all: Vec<bool> = self.parts.iter().flat_map(|part| &part.rows).filter_map(Row::good).collect();
        let met = all.iter().filter(|good| **good).count();
        println!("{met} of {} targets met, in {:.0} s", all.len(), self.took());
    }

    fn json(&self) -> Value {
        let mut rows = Vec::new();
        for part in &self.parts {
            let mut of = "";
            for row in &part.rows {
                if !row.is_of_another() {
                    of = &row.name;
                }
                rows.push(json!({
                    "part": part.name, "of": row.is_of_another().then_some(of), "name": row.name.trim(),
                    "value": row.value, "unit": row.unit, "better": row.better(), "good": row.good(),
                    "goal": row.goal.map(|(sign, limit)| json!({ "sign": sign, "limit": limit })),
                }));
            }
        }
        let parts: Vec<Value> =
            self.parts.iter().map(|part| json!({ "name": part.name, "seconds": part.seconds })).collect();
        let notes: Vec<&String> = self.parts.iter().flat_map(|part| &part.notes).collect();
        let about: serde_json::Map<String, Value> =
            self.about.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into())).collect();
        json!({ "about": about, "took_seconds": self.took(), "parts": parts, "figures": rows, "notes": notes })
    }

    fn markdown(&self) -> String {
        let mut text = String::from("# Benchmark book\n\n");
        for (name, value) in &self.about {
            let _ = writeln!(text, "- {name}: {value}");
        }
        let _ = writeln!(text, "- took: {:.0} s\n", self.took());
        text.push_str("Indented rows belong to the row above them: floors and ratios are of the same run.\n");
        for part in &self.parts {
            let _ = writeln!(text, "\n## {} ({:.0} s)\n", part.name, part.seconds);
            text.push_str("| figure | value | | asked | |\n|---|---:|---|---|---|\n");
            for row in &part.rows {
                let name = row.name.trim().replace('|', "\\|");
                let name = if row.is_of_another() { format!("&emsp;{name}") } else { name };
                let mark = row.good().map_or("", |good| if good { "✓" } else { "✗" });
                let _ =
                    writeln!(text, "| {name} | {} | {} | {} | {mark} |", number(row.value), row.unit, row.goal_text());
            }
            if !part.notes.is_empty() {
                text.push('\n');
            }
            for note in &part.notes {
                let _ = writeln!(text, "- {note}");
            }
        }
        text
    }
}

/// What is known of the machine and of what is measured.
pub fn about(mut more: Vec<(&'static str, String)>) -> Vec<(&'static str, String)> {
    let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let line = |text: &str, name: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(name)?.split_once(':'));
        found.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let said = |program: &str, arguments: &[&str]| {
        let output = std::process::Command::new(program).args(arguments).output().ok();
        let output = output.filter(|output| output.status.success()).map(|output| output.stdout).unwrap_or_default();
        String::from_utf8_lossy(&output).trim().to_owned()
    };
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let mut about = vec![
        ("when", said("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
        ("commit", said("git", &["describe", "--always", "--dirty"])),
        ("processors", format!("{processors} ({})", line(&file("/proc/cpuinfo"), "model name"))),
        (
            "memory",
            format!("{}{}", line(&file("/proc/meminfo"), "MemTotal"), if takes_back() { TAKEN_BACK } else { "" }),
        ),
        ("kernel", file("/proc/sys/kernel/osrelease").trim().to_owned()),
    ];
    about.append(&mut more);
    about
}

/// Said where it is so: files that were not read for a moment come from the disk again.
const TAKEN_BACK: &str = "; the kernel takes back what was not used for a while (DAMON pageout)";

/// Whether a scheme of DAMON is on that pages out what is cold, however much memory is free.
fn takes_back() -> bool {
    let inside = |folder: &std::path::Path| -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
    };
    let says =
        |path: std::path::PathBuf, word: &str| std::fs::read_to_string(path).is_ok_and(|text| text.trim() == word);
    let on = inside("/sys/kernel/mm/damon/admin/kdamonds".as_ref());
    let on = on.into_iter().filter(|one| says(one.join("state"), "on"));
    let schemes = on.flat_map(|one| inside(&one.join("contexts"))).flat_map(|context| inside(&context.join("schemes")));
    schemes.into_iter().any(|scheme| says(scheme.join("action"), "pageout"))
}

/// A number as people read it: three digits or more, thousands apart.
fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 100.0 {
        let sign = if value < 0.0 { "-" } else { "" };
        return format!("{sign}{}", grouped(size.round() as usize));
    }
    let text = if size >= 10.0 { format!("{value:.1}") } else { format!("{value:.2}") };
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_book_has_every_figure_with_what_it_belongs_to() {
        let mut figures = Figures::new(vec![("commit", "abc".into())]);
        figures.begin("reads");
        figures.add("GET /x", 1_234.5, "requests/s", None);
        figures.add("  ratio", 41.0, "%", Some((">", 40.0)));
        figures.begin("moves");
        figures.add("a move, p99", 20.0, "ms", Some(("<", 15.0)));
        figures.note("slow");
        figures.end();
        let json = figures.json();
        assert_eq!(json["figures"][1]["of"], "GET /x");
        assert_eq!(json["figures"][1]["good"], true);
        assert_eq!(json["figures"][0]["better"], "higher");
        assert_eq!(json["figures"][2]["good"], false);
        assert_eq!(json["parts"][1]["name"], "moves");
        let text = figures.markdown();
        for line in ["- commit: abc", "| GET /x | 1,235 | requests/s |  |  |", "| a move, p99 | 20 | ms | < 15 | ✗ |"]
        {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(text.contains("| &emsp;ratio | 41 | % | ≥ 40 | ✓ |") && text.contains("- slow"), "{text}");
    }

    #[test]
    fn numbers_are_short() {
        let shown = [0.5, 0.0, 9.999, 12.0, 12.34, 123.4, 1_000_000.0].map(number);
        assert_eq!(shown, ["0.5", "0", "10", "12", "12.3", "123", "1,000,000"]);
    }
}
