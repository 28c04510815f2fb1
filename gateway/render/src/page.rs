//! The page that a board is shown: one document of HTML, to be read on a screen or printed on sheets that lie on their side.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::{
    chart,
    model::{Actor, Actors, Change, Matrix, Report, Status, Technique},
    picture,
    scale::{self, Metric},
    text,
};

const STYLE: &str = include_str!("page.css");
/// Nothing is loaded and nothing runs, also where the page was saved and is opened from a disk.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";
/// How high the matrix may be on a sheet, for 1,400 in width: what is left of A4 below a heading.
const SHEET: f32 = 866.0;
/// Gaps that are named.
const GAPS: usize = 10;
/// Techniques that are named of each kind of change.
const CHANGED: usize = 5;

/// The page.
pub fn html(report: &Report) -> String {
    let matrix = &report.matrix;
    let title = text::clean(&matrix.title);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="robots" content="noindex";
                title { (title) " – " (text::clean(&matrix.scope)) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    section.page {
                        (heading(matrix))
                        div.row.first { (score(report)) (coverage(matrix)) (history(report)) }
                        div.row.second { (tactics(matrix)) (made_of(report)) }
                    }
                    (matrices(matrix))
                    @if let Some(actor) = &report.actor { (against(matrix, actor)) }
                    section.page {
                        (gaps(matrix))
                        @if let Some(name) = &matrix.compared_with { (changes(matrix, name)) }
                        (method(report))
                    }
                }
            }
        }
    };
    page.into_string()
}

fn heading(matrix: &Matrix) -> Markup {
    html! {
        header {
            div {
                h1 { (text::clean(&matrix.title)) }
                p.scope {
                    (text::clean(&matrix.scope))
                    @if !matrix.attack_version.is_empty() { " · ATT&CK " (text::clean(&matrix.attack_version)) }
                    " · " (text::count(matrix.counts.total, "technique", "techniques"))
                }
            }
            @if let Some(as_of) = matrix.as_of {
                p.date { (text::day(as_of)) small { "as of " (as_of.format("%H:%M UTC")) } }
            }
        }
    }
}

fn score(report: &Report) -> Markup {
    let matrix = &report.matrix;
    let name = if report.filtered { "Score of this selection" } else { "Organisation score" };
    html! {
        section.card.score {
            h2 { (name) " " small { (text::clean(&matrix.scope)) } }
            @match matrix.score {
                Some(score) => {
                    div { b { (text::figure(score)) } " " span { "of 100" } }
                    (gauge(score))
                    p.means { (meaning(score, matrix.counts.total)) }
                    @if let Some(since) = since(report) { p.since { (since) } }
                }
                None => p.none { "There is no technique here that could have a score." }
            }
        }
    }
}

fn gauge(score: f64) -> Markup {
    let at = score.clamp(0.0, 100.0) as f32;
    html! {
        svg.gauge viewBox="0 0 100 6" preserveAspectRatio="none" role="img" aria-label={ (text::figure(score)) " of 100" } {
            rect width="100" height="6" fill="#e4e9ed" {}
            rect width=(text::N(at)) height="6" fill=(scale::of_status(Status::Validated).strong) {}
            @for mark in [25, 50, 75] { rect x=(mark) width="0.4" height="6" fill="#ffffff" {} }
        }
    }
}

/// The score in one sentence.
fn meaning(score: f64, techniques: i64) -> String {
    let word = match score {
        score if score >= 80.0 => "well proven",
        score if score >= 60.0 => "largely proven, with gaps",
        score if score >= 40.0 => "proven in part",
        score if score >= 20.0 => "a beginning, with most of it unproven",
        _ => "nearly all of it unproven",
    };
    let subject = match techniques {
        1 => "the one attack technique in scope".to_owned(),
        n => format!("the {n} attack techniques in scope"),
    };
    format!("Of all that would prove that we detect {subject}, {score:.0}\u{a0}% is in place: {word}.")
}

/// What the score has done since the history begins.
fn since(report: &Report) -> Option<String> {
    if report.filtered {
        return None;
    }
    let first = report.history.iter().find_map(|point| Some((point.at, point.score?)))?;
    let last = report.history.iter().rev().find_map(|point| Some((point.at, point.score?)))?;
    (last.0 > first.0).then(|| format!("{} points since {}", text::signed(last.1 - first.1), text::day(first.0)))
}

fn coverage(matrix: &Matrix) -> Markup {
    let figure = format!("{} %", text::figure(matrix.coverage_percentage));
    html! {
        section.card {
            h2 { "Coverage " small { "techniques by verdict" } }
            div.ring {
                (chart::donut(&chart::shares(&matrix.counts), &figure, "covered", "d"))
                ul.legend {
                    @for status in Status::ALL {
                        li { (key(*status)) (status.label()) b { (matrix.counts.of(*status)) } }
                    }
                }
            }
        }
    }
}

fn key(status: Status) -> Markup {
    let class = scale::of_status(status);
    html! { span.key style={ "background:" (class.strong) } { (class.mark) } }
}

fn history(report: &Report) -> Markup {
    html! {
        section.card {
            h2 { "Trend " small { (text::clean(&report.history_of)) } }
            @match chart::trend(&report.history) {
                Some(chart) => (chart),
                None => p.none { "The history begins with the first two weekly points; there are not two yet." }
            }
        }
    }
}

fn tactics(matrix: &Matrix) -> Markup {
    html! {
        section.card {
            h2 { "By tactic " small { "in the order of an attack; V validated, P partial, I in progress, N not covered, – not evaluated" } }
            (chart::bars(&matrix.tactics, "b"))
        }
    }
}

fn made_of(report: &Report) -> Markup {
    let mut advice: Vec<_> = report.parts.iter().filter(|part| !part.advice.is_empty()).collect();
    advice.sort_by(|a, b| (b.weight - b.points).total_cmp(&(a.weight - a.points)));
    html! {
        section.card {
            h2 { "The score is made of " small { "in points, of those that it can give" } }
            @if report.parts.is_empty() {
                p.none { "The parts of the score are not known." }
            } @else {
                (chart::parts(&report.parts))
                @if !advice.is_empty() {
                    h3 style="margin-top:12px" { "What would raise it" }
                    ul.advice { @for part in advice.iter().take(4) { li { (text::clean(&part.advice)) } } }
                }
            }
        }
    }
}

fn matrices(matrix: &Matrix) -> Markup {
    let sheets = picture::sheets(matrix, Metric::Status, SHEET);
    let count = sheets.len();
    html! {
        @for (at, sheet) in sheets.into_iter().enumerate() {
            section.page.sheet {
                h2 {
                    "The matrix "
                    small {
                        @if count > 1 { "sheet " (at + 1) " of " (count) "; " }
                        "small boxes are sub-techniques of the technique above them"
                    }
                }
                div.key-line { (legend(matrix, at)) }
                (sheet)
            }
        }
    }
}

fn legend(matrix: &Matrix, sheet: usize) -> Markup {
    let prefix = format!("l{sheet}");
    html! {
        svg viewBox="0 0 1400 22" font-family=(text::FONTS) fill=(scale::TEXT) role="img" aria-label="Legend" {
            (picture::hatches(&prefix))
            (picture::legend(matrix, Metric::Status, &prefix))
        }
    }
}

fn against(matrix: &Matrix, actor: &Actor) -> Markup {
    let class = |status| scale::of_status(status);
    let all = actor.covered + actor.partial + actor.uncovered;
    let shares = [
        (actor.covered as i64, class(Status::Validated)),
        (actor.partial as i64, class(Status::Partial)),
        (actor.uncovered as i64, class(Status::NotCovered)),
    ];
    let figure = match all {
        0 => "–".to_owned(),
        all => format!("{:.0} %", (actor.covered + actor.partial) as f64 * 100.0 / all as f64),
    };
    let used = used(matrix, actor);
    html! {
        section.page {
            h2 { "Against " (text::clean(&actor.name)) " " small { (text::clean(&actor.key)) } }
            div.actor {
                div.ring {
                    (chart::donut(&shares, &figure, "covered", "a"))
                    ul.legend {
                        @for ((count, class), label) in shares.iter().zip(["Covered", "Partial", "Uncovered"]) {
                            li { span.key style={ "background:" (class.strong) } { (class.mark) } (label) b { (count) } }
                        }
                    }
                }
                div {
                    p.big { (sentence(actor, all)) }
                    @let open: Vec<&Technique> = used.gaps(6).into_iter().map(|gap| gap.technique).collect();
                    @if !open.is_empty() {
                        p { b { "First to close: " } (named(&open)) "." }
                    }
                }
            }
            @if used.techniques.is_empty() {
                p.none { "None of its techniques is in this selection." }
            } @else {
                @for sheet in picture::sheets(&used, Metric::Status, SHEET - 195.0) {
                    div.block { (sheet) }
                }
            }
        }
    }
}

fn sentence(actor: &Actor, all: usize) -> String {
    let name = text::clean(&actor.name);
    match (all, actor.score) {
        (0, _) | (_, None) => format!("No technique is known that {name} uses."),
        (all, Some(score)) => format!(
            "{name} is known to use {}. We have proof that we detect {} of them, and {} in part; for {} there is none. The \
             score against it is {} of 100.",
            text::count(all as i64, "technique", "techniques"),
            actor.covered,
            actor.partial,
            actor.uncovered,
            text::figure(score)
        ),
    }
}

/// The techniques of the matrix that an actor uses; tactics that it has none in are left out.
fn used(matrix: &Matrix, actor: &Actor) -> Matrix {
    let ids: std::collections::HashSet<&str> = actor.techniques.iter().map(String::as_str).collect();
    let techniques: Vec<Technique> =
        matrix.techniques.iter().filter(|technique| ids.contains(technique.id.as_str())).cloned().collect();
    let mut tactics = matrix.tactics.clone();
    for tactic in &mut tactics {
        let all: Vec<&Technique> =
            techniques.iter().filter(|technique| technique.tactics.contains(&tactic.short_name)).collect();
        let covered = all.iter().filter(|t| matches!(t.status, Status::Validated | Status::Partial)).count();
        tactic.counts.total = all.len() as i64;
        tactic.coverage_percentage = covered as f64 * 100.0 / all.len().max(1) as f64;
        tactic.score =
            (!all.is_empty()).then(|| all.iter().map(|technique| technique.score).sum::<f64>() / all.len() as f64);
    }
    tactics.retain(|tactic| tactic.counts.total > 0);
    Matrix { tactics, techniques, ..matrix.clone() }
}

fn named(techniques: &[&Technique]) -> String {
    let names: Vec<String> =
        techniques.iter().map(|technique| format!("{} {}", technique.id, text::clean(&technique.name))).collect();
    names.join(", ")
}

fn gaps(matrix: &Matrix) -> Markup {
    let gaps = matrix.gaps(GAPS);
    html! {
        h2 { "The largest gaps " small { "techniques without proof of detection, those that most threat actors use first" } }
        @if gaps.is_empty() {
            p.none { "Every technique here is validated." }
        } @else {
            table {
                thead {
                    tr {
                        th.n { "#" } th { "Technique" } th { "Tactic" } th { "Status" } th.n { "Score" } th { "Used by" }
                        th.n { "Rules" } th { "What is missing" }
                    }
                }
                tbody {
                    @for (at, gap) in gaps.iter().enumerate() {
                        @let technique = gap.technique;
                        tr {
                            td.n { (at + 1) }
                            td { span.id { (text::clean(&technique.id)) } " " (text::clean(&technique.name)) }
                            td { (text::clean(&tactic_names(matrix, technique))) }
                            td.status { (key(technique.status)) (technique.status.label()) }
                            td.n { (text::figure(technique.score)) }
                            td.status { (Actors(technique.threat_actors).to_string()) }
                            td.n { (technique.detection_rules) }
                            td { (missing(technique)) }
                        }
                    }
                }
            }
        }
    }
}

fn tactic_names(matrix: &Matrix, technique: &Technique) -> String {
    let name = |short: &String| {
        let tactic = matrix.tactics.iter().find(|tactic| tactic.short_name == *short);
        tactic.map_or_else(|| short.clone(), |tactic| tactic.name.clone())
    };
    technique.tactics.iter().map(name).collect::<Vec<_>>().join(", ")
}

fn missing(technique: &Technique) -> String {
    let mut told = match technique.status {
        Status::NotEvaluated if technique.detection_rules == 0 => "Never tested, and no detection rule".to_owned(),
        Status::NotEvaluated => "Never tested: its rules are unproven".to_owned(),
        Status::InProgress => "Under test, without a verdict yet".to_owned(),
        Status::NotCovered if technique.detection_rules == 0 => "Tested and not seen; no detection rule".to_owned(),
        Status::NotCovered => "Tested and not seen, in spite of its rules".to_owned(),
        Status::Partial => "Seen only in part".to_owned(),
        Status::Validated => "Nothing".to_owned(),
    };
    if technique.observed > 0 {
        told += &format!("; seen here by decoys {}", text::count(technique.observed, "time", "times"));
    }
    told
}

fn changes(matrix: &Matrix, name: &str) -> Markup {
    let kinds = [Change::Improved, Change::Worsened, Change::Added];
    let remapped = matrix.changes(Change::Remapped).count();
    html! {
        section.block {
            h2 {
                "Since " (text::clean(name)) " "
                @if remapped > 0 { small { (text::count(remapped as i64, "technique was", "techniques were")) " remapped by ATT&CK" } }
            }
            div.changes {
                @for kind in kinds {
                    @let all: Vec<&Technique> = matrix.changes(kind).collect();
                    div {
                        h3 { (kind.label()) ": " (all.len()) }
                        @if !all.is_empty() {
                            ul {
                                @for technique in all.iter().take(CHANGED) { li { (became(technique)) } }
                                @if all.len() > CHANGED { li.none { "and " (all.len() - CHANGED) " more" } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn became(technique: &Technique) -> Markup {
    html! {
        b { (text::clean(&technique.id)) } " " (text::clean(&technique.name)) ": "
        @match technique.previous_status {
            Some(before) if before != technique.status => {
                (before.label().to_lowercase()) " → " (technique.status.label().to_lowercase())
            }
            _ => @if let Some(before) = technique.previous_score {
                "score " (format!("{before:.0}")) " → " (format!("{:.0}", technique.score))
            } @else { (technique.status.label().to_lowercase()) }
        }
    }
}

fn method(report: &Report) -> Markup {
    let matrix = &report.matrix;
    let weights: Vec<String> = report
        .parts
        .iter()
        .map(|part| format!("{} {:.0}", chart::part_name(&part.name).to_lowercase(), part.weight))
        .collect();
    html! {
        section.block.method {
            h2 { "How these figures come about" }
            div.two {
                p {
                    b { "Status. " }
                    "A technique is validated when all of its tests that both leads have approved were detected, partial when "
                    "some were or were in part, and not covered when none was. Of a chain of retests the newest counts. Without such a "
                    "test it is in progress, or not evaluated."
                }
                p {
                    b { "Coverage. " }
                    "Validated and partial techniques, of all that ATT&CK has and that are neither revoked nor deprecated. A "
                    "technique counts once in the whole, and in each of its tactics."
                }
                p {
                    b { "Score. " }
                    "Each technique earns up to 100 points"
                    @if !weights.is_empty() { " (" (text::clean(&weights.join(", "))) ")" }
                    "; a score is the mean over its techniques. Proof is fresh for 90 days and counts for nothing after a year. An attack "
                    "that was not tested earns nothing for tests, whatever rules there are."
                }
                p {
                    b { "Gaps. " }
                    "Ranked by how many known threat actors use the technique, times the share of its score that is missing; "
                    "what our own decoys have seen counts as twelve actors more."
                }
                p {
                    b { "Limits. " }
                    "ATT&CK has what was reported in public; a technique that is validated was detected in these tests, on these "
                    "platforms, and not everywhere."
                }
            }
            footer {
                "Made by Aegis"
                @if let Some(as_of) = matrix.as_of { " from what was known at " (text::moment(as_of)) }
                ". MITRE ATT&CK is a registered trademark of The MITRE Corporation."
            }
        }
    }
}
