//! Charts of a page, as SVG.

use std::f64::consts::TAU;

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use maud::{Markup, html};

use crate::{
    model::{Counts, Part, Point, Status, Tactic},
    picture::hatches,
    scale::{self, Class, LINE, MUTED, ON_STRONG, TEXT},
    text::{self, FONTS, N},
};

/// A share of a whole, and how it is drawn.
pub(crate) type Share = (i64, &'static Class);

/// The shares of the statuses.
pub(crate) fn shares(counts: &Counts) -> Vec<Share> {
    Status::ALL.iter().map(|status| (counts.of(*status), scale::of_status(*status))).collect()
}

/// A ring of shares with a figure and a word in its middle. The ring of nothing is grey.
pub(crate) fn donut(shares: &[Share], figure: &str, word: &str, prefix: &str) -> Markup {
    const MIDDLE: f64 = 100.0;
    const OUTER: f64 = 94.0;
    const INNER: f64 = 60.0;
    let total: i64 = shares.iter().map(|(count, _)| (*count).max(0)).sum();
    let mut from = 0.0;
    let mut parts = Vec::new();
    for (count, class) in shares.iter().filter(|(count, _)| *count > 0) {
        let share = *count as f64 / total as f64;
        let middle = (from + share / 2.0) * TAU;
        let at = |radius: f64| (MIDDLE + radius * middle.sin(), MIDDLE - radius * middle.cos());
        parts.push((ring(MIDDLE, OUTER, INNER, from, share), *class, at((OUTER + INNER) / 2.0), share));
        from += share;
    }
    html! {
        svg.donut viewBox="0 0 200 200" font-family=(FONTS) fill=(TEXT) role="img" aria-label={ (figure) " " (word) } {
            (hatches(prefix))
            @if parts.is_empty() {
                circle cx="100" cy="100" r="77" fill="none" stroke=(LINE) stroke-width="34" {}
            }
            @for (path, class, (x, y), share) in &parts {
                path d=(path) fill=(class.strong) stroke="#ffffff" stroke-width="1.5" fill-rule="evenodd" {}
                @if class.hatched {
                    path d=(path) fill={ "url(#" (prefix) "-strong)" } fill-rule="evenodd" {}
                }
                @if *share > 0.035 {
                    @if class.hatched { circle cx=(N(*x as f32)) cy=(N(*y as f32)) r="9" fill=(class.strong) {} }
                    text x=(N(*x as f32)) y=(N(*y as f32 + 4.6)) font-size="13" font-weight="700" text-anchor="middle" fill=(ON_STRONG) {
                        (class.mark)
                    }
                }
            }
            text x="100" y="103" font-size="30" font-weight="700" text-anchor="middle" { (figure) }
            text x="100" y="123" font-size="13" text-anchor="middle" fill=(MUTED) { (word) }
        }
    }
}

/// The outline of a part of a ring.
fn ring(middle: f64, outer: f64, inner: f64, from: f64, share: f64) -> String {
    let at = |radius: f64, turn: f64| {
        let (x, y) = (middle + radius * (turn * TAU).sin(), middle - radius * (turn * TAU).cos());
        format!("{x:.2} {y:.2}")
    };
    if share > 0.9999 {
        // An arc that ends where it begins is none.
        let circle = |radius: f64| {
            let (top, bottom) = (at(radius, 0.0), at(radius, 0.5));
            format!("M{top}A{radius} {radius} 0 0 1 {bottom}A{radius} {radius} 0 0 1 {top}Z")
        };
        return format!("{}{}", circle(outer), circle(inner));
    }
    let to = from + share;
    let large = u8::from(share > 0.5);
    format!(
        "M{}A{outer} {outer} 0 {large} 1 {}L{}A{inner} {inner} 0 {large} 0 {}Z",
        at(outer, from),
        at(outer, to),
        at(inner, to),
        at(inner, from)
    )
}

/// Score and coverage over time. Needs two points of different moments.
pub(crate) fn trend(points: &[Point]) -> Option<Markup> {
    const WIDE: f32 = 520.0;
    const TALL: f32 = 232.0;
    const LEFT: f32 = 30.0;
    const RIGHT: f32 = 92.0;
    const TOP: f32 = 10.0;
    const BOTTOM: f32 = 26.0;
    let (first, last) = (points.first()?.at, points.last()?.at);
    let span = (last - first).num_seconds();
    if span <= 0 {
        return None;
    }
    let x = |at: DateTime<Utc>| LEFT + (WIDE - LEFT - RIGHT) * ((at - first).num_seconds() as f32 / span as f32);
    let y = |value: f64| TOP + (TALL - TOP - BOTTOM) * (1.0 - value.clamp(0.0, 100.0) as f32 / 100.0);
    let line = |value: fn(&Point) -> Option<f64>| {
        let mut path = String::new();
        let mut broken = true;
        for point in points {
            let Some(value) = value(point) else {
                broken = true;
                continue;
            };
            path += &format!("{}{:.1} {:.1}", if broken { "M" } else { "L" }, x(point.at), y(value));
            broken = false;
        }
        path
    };
    let score = line(|point| point.score);
    let coverage = line(|point| Some(point.coverage_percentage));
    let newest = points.iter().rev().find_map(|point| Some((point.at, point.score?)));
    let covered = points.last().map_or(0.0, |point| point.coverage_percentage);
    let (dark, light) = (scale::of_status(Status::Validated).strong, scale::of_status(Status::NotCovered).strong);
    // The two names at the end of the lines keep apart.
    let (mut score_at, mut covered_at) = (y(newest.map_or(0.0, |(_, score)| score)), y(covered));
    if (score_at - covered_at).abs() < 30.0 {
        let (middle, sign) = ((score_at + covered_at) / 2.0, if score_at <= covered_at { -1.0 } else { 1.0 });
        (score_at, covered_at) = (middle + sign * 15.0, middle - sign * 15.0);
    }
    let lowest = TALL - BOTTOM - 18.0;
    let (score_at, covered_at) = (score_at.clamp(TOP + 4.0, lowest), covered_at.clamp(TOP + 4.0, lowest));
    let end = WIDE - RIGHT + 8.0;
    Some(html! {
        svg.trend viewBox={ "0 0 " (N(WIDE)) " " (N(TALL)) } font-family=(FONTS) fill=(TEXT) font-size="11.5" role="img" aria-label="Score and coverage over time" {
            @for value in [0.0, 25.0, 50.0, 75.0, 100.0] {
                line x1=(N(LEFT)) x2=(N(WIDE - RIGHT)) y1=(N(y(value))) y2=(N(y(value))) stroke=(LINE) stroke-width=(if value == 0.0 { "1.4" } else { "0.7" }) {}
                text x=(N(LEFT - 6.0)) y=(N(y(value) + 4.0)) text-anchor="end" fill=(MUTED) { (format!("{value:.0}")) }
            }
            @for (at, label) in ticks(first, last) {
                line x1=(N(x(at))) x2=(N(x(at))) y1=(N(y(0.0))) y2=(N(y(0.0) + 4.0)) stroke=(MUTED) stroke-width="1" {}
                text x=(N(x(at))) y=(N(TALL - 7.0)) text-anchor="middle" fill=(MUTED) { (label) }
            }
            path d=(coverage) fill="none" stroke=(light) stroke-width="2" stroke-dasharray="6 4" stroke-linejoin="round" {}
            path d=(score) fill="none" stroke=(dark) stroke-width="3" stroke-linejoin="round" stroke-linecap="round" {}
            @for point in points.iter().filter(|point| point.snapshot) {
                @if let Some(score) = point.score {
                    @let (x, y) = (x(point.at), y(score));
                    path d={ "M" (N(x)) " " (N(y - 5.0)) "L" (N(x + 5.0)) " " (N(y)) "L" (N(x)) " " (N(y + 5.0)) "L" (N(x - 5.0)) " " (N(y)) "Z" }
                        fill="#ffffff" stroke=(dark) stroke-width="1.6" {}
                }
            }
            @if let Some((at, score)) = newest {
                circle cx=(N(x(at))) cy=(N(y(score))) r="4" fill=(dark) {}
                text x=(N(end)) y=(N(score_at)) font-weight="700" fill=(dark) font-size="15" { (text::figure(score)) }
                text x=(N(end)) y=(N(score_at + 13.0)) fill=(dark) { "score" }
            }
            text x=(N(end)) y=(N(covered_at)) font-weight="700" fill=(light) font-size="15" { (text::figure(covered)) " %" }
            text x=(N(end)) y=(N(covered_at + 13.0)) fill=(light) { "covered (- -)" }
        }
    })
}

/// A few moments between two, with names.
fn ticks(first: DateTime<Utc>, last: DateTime<Utc>) -> Vec<(DateTime<Utc>, String)> {
    const COUNT: i32 = 5;
    let days = (last - first).num_days();
    let format = if days > 200 { "%b %Y" } else { "%-d %b" };
    let step = (last - first) / COUNT;
    let mut ticks: Vec<(DateTime<Utc>, String)> = Vec::new();
    for n in 0..=COUNT {
        let mut at = first + step * n;
        if days > 200 && n > 0 {
            // The month that is named begins here.
            at -= TimeDelta::days(i64::from(at.day0()));
        }
        let label = at.format(format).to_string();
        if ticks.last().is_none_or(|(_, known)| *known != label) && at >= first {
            ticks.push((at, label));
        }
    }
    ticks
}

/// The statuses of each tactic, all bars equally long, with coverage and score.
pub(crate) fn bars(tactics: &[Tactic], prefix: &str) -> Markup {
    const WIDE: f32 = 640.0;
    const LABEL: f32 = 156.0;
    const FIGURES: f32 = 116.0;
    const ROW: f32 = 21.5;
    const TOP: f32 = 18.0;
    let room = WIDE - LABEL - FIGURES;
    let tall = TOP + tactics.len() as f32 * ROW;
    html! {
        svg.bars viewBox={ "0 0 " (N(WIDE)) " " (N(tall)) } font-family=(FONTS) fill=(TEXT) font-size="12" role="img" aria-label="Techniques of each tactic by status" {
            (hatches(prefix))
            text x=(N(WIDE - 56.0)) y="11" text-anchor="end" fill=(MUTED) font-size="11" { "covered" }
            text x=(N(WIDE)) y="11" text-anchor="end" fill=(MUTED) font-size="11" { "score" }
            @for (at, tactic) in tactics.iter().enumerate() {
                @let y = TOP + at as f32 * ROW;
                @let name = if tactic.name.is_empty() { &tactic.short_name } else { &tactic.name };
                text x=(N(LABEL - 8.0)) y=(N(y + 13.0)) text-anchor="end" { (text::lines(name, 12.6, LABEL - 10.0, 1).concat()) }
                @for (x, wide, count, class) in stacked(&tactic.counts, LABEL, room) {
                    rect x=(N(x)) y=(N(y)) width=(N(wide)) height="17" fill=(class.strong) stroke="#ffffff" stroke-width="0.8" {}
                    @if class.hatched {
                        rect x=(N(x)) y=(N(y)) width=(N(wide)) height="17" fill={ "url(#" (prefix) "-strong)" } {}
                    }
                    @let label = format!("{} {count}", class.mark);
                    @let needed = text::width(&label, 11.0) + 6.0;
                    @if wide > needed {
                        @if class.hatched {
                            rect x=(N(x + wide / 2.0 - needed / 2.0)) y=(N(y + 2.0)) width=(N(needed)) height="13" rx="2" fill=(class.strong) {}
                        }
                        text x=(N(x + wide / 2.0)) y=(N(y + 12.6)) text-anchor="middle" font-size="11" font-weight="700" fill=(ON_STRONG) { (label) }
                    }
                }
                @if tactic.counts.total == 0 {
                    text x=(N(LABEL)) y=(N(y + 13.0)) fill=(MUTED) font-style="italic" { "no technique here" }
                } @else {
                    text x=(N(WIDE - 56.0)) y=(N(y + 13.0)) text-anchor="end" { (text::figure(tactic.coverage_percentage)) " %" }
                    text x=(N(WIDE)) y=(N(y + 13.0)) text-anchor="end" font-weight="700" { (text::figure_or_dash(tactic.score)) }
                }
            }
        }
    }
}

fn stacked(counts: &Counts, from: f32, room: f32) -> Vec<(f32, f32, i64, &'static Class)> {
    let total: i64 = shares(counts).iter().map(|(count, _)| (*count).max(0)).sum();
    let mut x = from;
    let mut parts = Vec::new();
    for (count, class) in shares(counts).into_iter().filter(|(count, _)| *count > 0) {
        let wide = room * count as f32 / total as f32;
        parts.push((x, wide, count, class));
        x += wide;
    }
    parts
}

/// What each part gives of what it can give.
pub(crate) fn parts(parts: &[Part]) -> Markup {
    const WIDE: f32 = 420.0;
    const LABEL: f32 = 136.0;
    const FIGURES: f32 = 82.0;
    const ROW: f32 = 22.0;
    let most = parts.iter().map(|part| part.weight).fold(1.0, f64::max);
    let room = WIDE - LABEL - FIGURES;
    let long = |points: f64| room * (points.clamp(0.0, most) / most) as f32;
    let fill = scale::of_status(Status::Validated).strong;
    html! {
        svg.parts viewBox={ "0 0 " (N(WIDE)) " " (N(parts.len() as f32 * ROW)) } font-family=(FONTS) fill=(TEXT) font-size="12" role="img" aria-label="Parts of the score" {
            @for (at, part) in parts.iter().enumerate() {
                @let y = at as f32 * ROW;
                text x=(N(LABEL - 8.0)) y=(N(y + 13.0)) text-anchor="end" { (text::lines(part_name(&part.name), 12.6, LABEL - 10.0, 1).concat()) }
                rect x=(N(LABEL)) y=(N(y)) width=(N(long(part.weight))) height="16" fill="#eef1f4" stroke=(LINE) stroke-width="0.8" {}
                rect x=(N(LABEL)) y=(N(y)) width=(N(long(part.points))) height="16" fill=(fill) {}
                text x=(N(WIDE)) y=(N(y + 13.0)) text-anchor="end" {
                    tspan font-weight="700" { (text::figure(part.points)) }
                    " of " (format!("{:.0}", part.weight))
                }
            }
        }
    }
}

/// The name of a part of the score, for people.
pub(crate) fn part_name(name: &str) -> &str {
    match name {
        "tests" => "Tests detected",
        "detection_rules" => "Detection rules",
        "d3fend" => "Countermeasures",
        "freshness" => "Freshness of proof",
        "platform_diversity" => "Platforms tested",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(day: i64, score: Option<f64>) -> Point {
        let at = DateTime::from_timestamp(1_700_000_000 + day * 86_400, 0).unwrap();
        Point { at, score, coverage_percentage: 10.0, snapshot: false }
    }

    #[test]
    fn a_trend_needs_two_moments_and_breaks_where_there_is_no_score() {
        assert!(trend(&[]).is_none());
        assert!(trend(&[point(0, Some(1.0)), point(0, Some(2.0))]).is_none());
        let drawn = trend(&[point(0, Some(1.0)), point(7, None), point(14, Some(3.0)), point(21, Some(4.0))]).unwrap();
        let score = drawn.into_string().split("path d=\"").nth(2).unwrap().split('"').next().unwrap().to_owned();
        assert_eq!((score.matches('M').count(), score.matches('L').count()), (2, 1), "{score}");
    }

    #[test]
    fn a_whole_ring_is_drawn_and_an_empty_one_is_grey() {
        let class = scale::of_status(Status::Validated);
        let whole = donut(&[(7, class), (0, class)], "100 %", "covered", "d").into_string();
        assert_eq!(whole.matches("<path").count(), 1);
        assert!(!whole.contains("NaN"));
        let none = donut(&[(0, class)], "–", "covered", "d").into_string();
        assert!(none.contains("<circle") && !none.contains("<path"));
    }
}
