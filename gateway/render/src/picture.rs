//! The matrix as a picture: one that stands alone, or sheets of a page.

use std::collections::HashMap;

use maud::{Markup, html};

use crate::{
    layout::{self, Column, Row, Sizes},
    model::{Actors, Matrix, Technique},
    scale::{self, Class, LINE, MUTED, Metric, TEXT},
    text::{self, FONTS, N},
};

/// Around a picture that stands alone.
const MARGIN: f32 = 28.0;
/// Of its title, scope and legend.
const TOP: f32 = 104.0;
/// Of its last line.
const BOTTOM: f32 = 30.0;
/// Of a sheet of paper that lies on its side.
const LANDSCAPE: f32 = std::f32::consts::SQRT_2;

/// The whole matrix as one picture, with title and legend: an SVG document.
pub fn svg(matrix: &Matrix, metric: Metric) -> String {
    let sizes = Sizes { column: 190.0, font: 11.0, boxes: false };
    let rows = layout::rows(matrix, &sizes);
    let high = best_height(&rows, &sizes);
    let columns = layout::columns(rows, &sizes, high);
    let deep = columns.iter().map(|column| layout::height(column, &sizes)).fold(sizes.row(1), f32::max);
    let wide = (columns.len() as f32 * sizes.column - Sizes::GAP).max(900.0) + 2.0 * MARGIN;
    let tall = TOP + sizes.head() + deep + BOTTOM + 2.0 * MARGIN;
    let picture = html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox={ "0 0 " (N(wide)) " " (N(tall)) } width=(N(wide)) height=(N(tall))
            font-family=(FONTS) fill=(TEXT) role="img" aria-label=(text::clean(&matrix.title)) {
            title { (text::clean(&matrix.title)) }
            (hatches("m"))
            rect width=(N(wide)) height=(N(tall)) fill="#ffffff" {}
            g transform={ "translate(" (N(MARGIN)) " " (N(MARGIN)) ")" } {
                text y="26" font-size="26" font-weight="700" { (text::clean(&matrix.title)) }
                text y="50" font-size="14" fill=(MUTED) { (text::clean(&scope(matrix))) }
                g transform="translate(0 64)" { (legend(matrix, metric, "m")) }
                g transform={ "translate(0 " (N(TOP)) ")" } { (drawn(matrix, &columns, metric, &sizes, "m")) }
                text y=(N(tall - 2.0 * MARGIN)) font-size="11" fill=(MUTED) { (text::clean(&footer(matrix))) }
            }
        }
    };
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}\n", picture.into_string())
}

/// The matrix in sheets that lie on their side, each a picture without title; sub-techniques are small boxes.
pub(crate) fn sheets(matrix: &Matrix, metric: Metric, tall: f32) -> Vec<Markup> {
    const WIDE: f32 = 1400.0;
    let plan = plan(matrix, WIDE, tall);
    let sizes = plan.sizes;
    let columns = layout::columns(layout::rows(matrix, &sizes), &sizes, tall - sizes.head());
    let draw = |(number, part): (usize, &[Column<'_>])| {
        let prefix = format!("s{number}");
        let deep = part.iter().map(|column| layout::height(column, &sizes)).fold(sizes.row(1), f32::max);
        html! {
            svg.matrix viewBox={ "0 0 " (N(WIDE)) " " (N(sizes.head() + deep)) } font-family=(FONTS) fill=(TEXT) role="img"
                aria-label={ "Matrix, sheet " (number + 1) } {
                (hatches(&prefix))
                (drawn(matrix, part, metric, &sizes, &prefix))
            }
        }
    };
    columns.chunks(plan.columns).enumerate().map(draw).collect()
}

/// How a matrix is laid on sheets.
struct Plan {
    sizes: Sizes,
    /// On a sheet.
    columns: usize,
}

/// As few sheets as the smallest text allows, and on these the largest text.
fn plan(matrix: &Matrix, wide: f32, tall: f32) -> Plan {
    const FONTS: [f32; 5] = [12.6, 11.6, 10.8, 10.2, 9.6];
    const SHEETS: usize = 12;
    let plan =
        |columns: usize, font: f32| Plan { sizes: Sizes { column: wide / columns as f32, font, boxes: true }, columns };
    // Most plans are too small by far; that costs no look at a text.
    let rows = layout::fewest_rows(matrix);
    let mut needed: HashMap<(usize, u32), usize> = HashMap::new();
    for sheets in 1..=SHEETS {
        // What fits one sheet with narrow columns is better on one than on two.
        let choices: &[usize] = if sheets == 1 { &[4, 6, 8, 10, 12] } else { &[5, 6, 7, 8] };
        for font in FONTS {
            for &columns in choices {
                let plan = plan(columns, font);
                let sizes = &plan.sizes;
                // Of a large text in a narrow column little is left.
                if sizes.column < font * 12.0 {
                    continue;
                }
                let high = tall - sizes.head();
                let room = (columns * sheets) as f32 * high;
                if rows as f32 * (sizes.row(1) + Sizes::ROW_GAP) > room {
                    continue;
                }
                let needed = needed
                    .entry((columns, font.to_bits()))
                    .or_insert_with(|| layout::extent(&layout::rows(matrix, sizes), sizes, high).0);
                if *needed <= columns * sheets {
                    return plan;
                }
            }
        }
    }
    plan(8, 9.6)
}

/// What the colours mean, with the number of techniques of each.
pub(crate) fn legend(matrix: &Matrix, metric: Metric, prefix: &str) -> Markup {
    let classes = metric.classes();
    let mut counts = vec![0_usize; classes.len()];
    for technique in &matrix.techniques {
        if let Some(count) = counts.get_mut(metric.index(technique)) {
            *count += 1;
        }
    }
    let mut x = text::width(metric.label(), 13.0) * 1.1 + 16.0;
    let title = metric.label();
    let entries = classes.iter().zip(counts).map(|(class, count)| {
        let label = format!("{} ({count})", class.label);
        let at = x;
        x += 36.0 + text::width(&label, 13.0) + 20.0;
        (at, class, label)
    });
    html! {
        text y="15" font-size="13" font-weight="700" { (title) }
        @for (at, class, label) in entries {
            g transform={ "translate(" (N(at)) " 0)" } {
                rect width="30" height="20" rx="2" fill=(class.fill) stroke=(class.strong) stroke-width="1" {}
                @if class.hatched { rect width="30" height="20" rx="2" fill={ "url(#" (prefix) "-hatch)" } {} }
                rect width="14" height="20" rx="2" fill=(class.strong) {}
                text x="7" y="14.5" font-size="12" font-weight="700" text-anchor="middle" fill=(scale::ON_STRONG) { (class.mark) }
                text x="36" y="15" font-size="13" { (label) }
            }
        }
    }
}

/// The hatches of a picture; their names begin with `prefix`, because all pictures of a page share them.
pub(crate) fn hatches(prefix: &str) -> Markup {
    html! {
        defs {
            pattern id={ (prefix) "-hatch" } width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)" {
                rect width="1.6" height="6" fill="#d9742f" fill-opacity="0.38" {}
            }
            pattern id={ (prefix) "-strong" } width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)" {
                rect width="2" height="6" fill="#ffffff" fill-opacity="0.55" {}
            }
        }
    }
}

fn drawn(matrix: &Matrix, columns: &[Column<'_>], metric: Metric, sizes: &Sizes, prefix: &str) -> Markup {
    // The columns of one tactic stand under one head.
    let mut heads: Vec<(usize, usize, bool, usize)> = Vec::new();
    for (at, column) in columns.iter().enumerate() {
        match heads.last_mut() {
            Some((tactic, _, _, count)) if *tactic == column.tactic => *count += 1,
            _ => heads.push((column.tactic, at, column.continued, 1)),
        }
    }
    html! {
        @for (tactic, at, continued, count) in heads {
            g transform={ "translate(" (N(at as f32 * sizes.column)) " 0)" } {
                (head(matrix, tactic, continued, count, sizes))
            }
        }
        @for (at, column) in columns.iter().enumerate() {
            g transform={ "translate(" (N(at as f32 * sizes.column)) " " (N(sizes.head())) ")" } font-size=(N(sizes.font)) {
                @if column.rows.is_empty() {
                    text x="2" y=(N(sizes.font * 1.2)) fill=(MUTED) font-style="italic" { "no technique here" }
                }
                (rows(column, metric, sizes, prefix))
            }
        }
    }
}

fn head(matrix: &Matrix, tactic: usize, continued: bool, columns: usize, sizes: &Sizes) -> Markup {
    let Some(tactic) = matrix.tactics.get(tactic) else { return html! {} };
    let wide = columns as f32 * sizes.column - Sizes::GAP;
    let mut name = if tactic.name.is_empty() { tactic.short_name.clone() } else { tactic.name.clone() };
    if continued {
        name.push_str(" (continued)");
    }
    // A long name in a narrow column is smaller, and cut only then.
    let one = text::width(&name, 1.08).max(1.0);
    let large = (sizes.font * 1.22).min((wide * 0.99 / one).max(sizes.font * 0.8));
    let name = text::lines(&name, large * 1.08, wide, 1).concat();
    let told = match tactic.score {
        Some(score) => format!("{:.0} % covered · score {score:.0}", tactic.coverage_percentage),
        None => format!("{:.0} % covered", tactic.coverage_percentage),
    };
    let share = (tactic.coverage_percentage.clamp(0.0, 100.0) / 100.0) as f32;
    html! {
        text y=(N(sizes.font * 1.22)) font-size=(N(large)) font-weight="700" { (name) }
        text y=(N(sizes.font * 2.47)) font-size=(N(sizes.font * 0.95)) fill=(MUTED) { (told) }
        rect y=(N(sizes.font * 2.9)) width=(N(wide)) height="3" fill=(LINE) {}
        rect y=(N(sizes.font * 2.9)) width=(N(wide * share)) height="3" fill=(scale::of_status(crate::model::Status::Validated).strong) {}
    }
}

fn rows(column: &Column<'_>, metric: Metric, sizes: &Sizes, prefix: &str) -> Markup {
    let mut y = 0.0;
    let placed: Vec<(f32, &Row<'_>)> = column
        .rows
        .iter()
        .map(|row| {
            let at = y;
            y += row.height(sizes) + Sizes::ROW_GAP;
            (at, row)
        })
        .collect();
    html! {
        @for (y, row) in placed {
            @match row {
                Row::Cell { technique, sub, lines } => {
                    @let x = if *sub { Sizes::INDENT } else { 0.0 };
                    @let place = Place { x, y, wide: sizes.cell() - x, high: sizes.row(lines.len()), mark: sizes.mark() };
                    g {
                        (ground(technique, metric, place, sizes, prefix))
                        @for (line, words) in lines.iter().enumerate() {
                            text x=(N(x + sizes.mark() + sizes.font * 0.4)) y=(N(y + sizes.font * 1.04 + line as f32 * sizes.line()))
                                fill=(metric.class(technique).ink) font-weight=[sizes.bold(*sub).then_some("600")] { (words) }
                        }
                    }
                }
                Row::Boxes(techniques) => {
                    @let step = (sizes.cell() - Sizes::INDENT * 0.5) / sizes.boxes_in_row() as f32;
                    @for (at, technique) in techniques.iter().enumerate() {
                        @let x = Sizes::INDENT * 0.5 + at as f32 * step;
                        @let place = Place { x, y, wide: step - 2.0, high: sizes.box_height(), mark: sizes.font * 1.25 };
                        g {
                            (ground(technique, metric, place, sizes, prefix))
                            text x=(N(x + place.mark + (place.wide - place.mark) / 2.0)) y=(N(y + sizes.font * 0.98)) font-size=(N(sizes.font * 0.84))
                                text-anchor="middle" fill=(metric.class(technique).ink) {
                                (text::clean(layout::number(technique).trim_start_matches('.').get(..3).unwrap_or("…")))
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Of a cell.
#[derive(Clone, Copy)]
struct Place {
    x: f32,
    y: f32,
    wide: f32,
    high: f32,
    /// Width of the mark's ground.
    mark: f32,
}

/// The ground of a cell with its mark and what a pointer above it shows.
fn ground(technique: &Technique, metric: Metric, place: Place, sizes: &Sizes, prefix: &str) -> Markup {
    let class: &Class = metric.class(technique);
    let mark = metric.mark(technique);
    let small = if mark.chars().count() > 2 { 0.68 } else { 0.8 };
    let Place { x, y, wide, high, .. } = place;
    html! {
        title { (text::clean(&told(technique))) }
        rect x=(N(x)) y=(N(y)) width=(N(wide)) height=(N(high)) fill=(class.fill) stroke=(class.strong) stroke-width="0.6" {}
        @if class.hatched {
            rect x=(N(x)) y=(N(y)) width=(N(wide)) height=(N(high)) fill={ "url(#" (prefix) "-hatch)" } {}
        }
        rect x=(N(x)) y=(N(y)) width=(N(place.mark)) height=(N(high)) fill=(class.strong) {}
        text x=(N(x + place.mark / 2.0)) y=(N(y + high / 2.0 + sizes.font * 0.29)) font-size=(N(sizes.font * small)) font-weight="700"
            text-anchor="middle" fill=(scale::ON_STRONG) { (mark) }
    }
}

/// All of a technique, in words.
fn told(technique: &Technique) -> String {
    let mut told = format!("{} {} – {}", technique.id, technique.name, technique.status.label().to_lowercase());
    told += &format!(", score {:.0}", technique.score);
    told += &match technique.tests {
        0 => "; no test".to_owned(),
        tests => format!("; {} of {} validated", technique.validated_tests, text::count(tests, "test", "tests")),
    };
    told += &format!(
        "; {}; used by {}",
        text::count(technique.detection_rules, "detection rule", "detection rules"),
        Actors(technique.threat_actors)
    );
    if technique.observed > 0 {
        told += &format!("; seen by decoys {}", text::count(technique.observed, "time", "times"));
    }
    if let Some(change) = technique.change {
        told += &format!("; {} since", change.label().to_lowercase());
        if let Some(status) = technique.previous_status {
            told += &format!(" {}", status.label().to_lowercase());
        }
    }
    told
}

fn scope(matrix: &Matrix) -> String {
    let mut parts = vec![matrix.scope.clone()];
    if !matrix.attack_version.is_empty() {
        parts.push(format!("ATT&CK {}", matrix.attack_version));
    }
    parts.push(text::count(matrix.counts.total, "technique", "techniques"));
    parts.push(format!("{} % covered", text::figure(matrix.coverage_percentage)));
    if let Some(score) = matrix.score {
        parts.push(format!("score {} of 100", text::figure(score)));
    }
    if let Some(name) = &matrix.compared_with {
        parts.push(format!("compared with {name}"));
    }
    parts.retain(|part| !part.is_empty());
    parts.join(" · ")
}

fn footer(matrix: &Matrix) -> String {
    let as_of = matrix.as_of.map(|moment| format!("As of {}. ", text::moment(moment))).unwrap_or_default();
    format!(
        "{as_of}Covered: validated or partial. A technique stands in each of its tactics. MITRE ATT&CK is a registered trademark of The MITRE Corporation."
    )
}

/// The height of the columns at which the picture is nearest to a sheet of paper on its side.
fn best_height(rows: &[Vec<Row<'_>>], sizes: &Sizes) -> f32 {
    let longest = layout::extent(rows, sizes, f32::MAX).1.max(sizes.row(2) * 4.0);
    let lowest = (sizes.row(2) * 4.0).min(longest);
    let mut best = (f32::MAX, longest);
    for step in 0..=48 {
        let high = lowest + (longest - lowest) * step as f32 / 48.0;
        let (columns, deep) = layout::extent(rows, sizes, high);
        let aspect = (columns as f32 * sizes.column) / (deep + sizes.head() + TOP + BOTTOM);
        let far = (aspect / LANDSCAPE).ln().abs();
        if far < best.0 {
            best = (far, high);
        }
    }
    best.1
}
