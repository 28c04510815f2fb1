//! What a score comes from and what would raise it, in words.

use chrono::{DateTime, Utc};

use super::{
    ENOUGH_RULES, FRESH_DAYS, Part, Score, Sum, Weights, chains, count, covered_platforms, defences, divided, points,
    rules,
};
use crate::domain::matrix::{Knowledge, MatrixTechnique};

/// A part of a score as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ShownPart {
    pub(crate) part: Part,
    /// 0 to 1, four decimals.
    pub(crate) raw: f64,
    /// Percent.
    pub(crate) weight: f64,
    /// Two decimals.
    pub(crate) points: f64,
    pub(crate) basis: String,
    /// Empty where nothing would raise it.
    pub(crate) advice: String,
    /// Points that the advice would bring, two decimals.
    pub(crate) gain: f64,
}

/// The parts of a technique's score.
pub(crate) fn of_technique(
    technique: &MatrixTechnique,
    knowledge: &Knowledge,
    weights: Weights,
    score: &Score,
    now: DateTime<Utc>,
) -> Vec<ShownPart> {
    Part::ALL
        .into_iter()
        .map(|part| {
            let (basis, advice) = match part {
                Part::Tests => tests(technique),
                Part::DetectionRules => detection_rules(rules(knowledge, technique)),
                Part::D3fend => d3fend(defences(knowledge, technique)),
                Part::Freshness => freshness(technique.tests.last_validated_at, now),
                Part::PlatformDiversity => platforms(technique),
            };
            // Rounded, a part may have all its points with something still open.
            let gain = if advice.is_empty() { 0 } else { weights.of(part) - score.points(part) };
            ShownPart {
                part,
                raw: score.share(part).times(10_000) as f64 / 10_000.0,
                weight: weights.percent(part),
                points: points(score.points(part)),
                basis,
                advice: if gain > 0 { advice } else { String::new() },
                gain: points(gain),
            }
        })
        .collect()
}

/// The advice that brings most; the first of equals.
pub(crate) fn best(parts: &[ShownPart]) -> &str {
    let mut best: Option<&ShownPart> = None;
    for part in parts.iter().filter(|part| !part.advice.is_empty()) {
        if best.is_none_or(|best| part.gain > best.gain) {
            best = Some(part);
        }
    }
    best.map_or("", |part| &part.advice)
}

fn tests(technique: &MatrixTechnique) -> (String, String) {
    let verdicts = &technique.tests;
    let all = chains(verdicts);
    if all == 0 {
        return ("no validated test with a result".into(), "run a test and have it detected".into());
    }
    let (partially, not) = (verdicts.partially_detected, verdicts.not_detected);
    let basis = format!("{} of {} detected, {partially} partially, {not} not", verdicts.detected, several(all, "test"));
    let advice = match (partially, not) {
        (0, 0) => String::new(),
        (_, 0) => format!("detect fully what was partially detected, and retest: {}", several(partially, "test")),
        (0, _) => format!("detect what was not detected, and retest: {}", several(not, "test")),
        _ => format!(
            "detect fully what was not or only partially detected, and retest: {}",
            several(partially + not, "test")
        ),
    };
    (basis, advice)
}

fn detection_rules(rules: i64) -> (String, String) {
    if rules >= ENOUGH_RULES {
        return (format!("{rules} rules, {ENOUGH_RULES} are enough"), String::new());
    }
    (format!("{rules} of {ENOUGH_RULES} rules"), format!("add {}", several(ENOUGH_RULES - rules, "detection rule")))
}

fn d3fend((implemented, mapped): (i64, i64)) -> (String, String) {
    if mapped == 0 {
        return ("no countermeasure is mapped to it".into(), String::new());
    }
    let advice = match mapped - implemented {
        0 => String::new(),
        open => format!("implement {} and mark {} as such", several(open, "more countermeasure"), it_or_them(open)),
    };
    (format!("{implemented} of {} implemented", several(mapped, "countermeasure")), advice)
}

fn freshness(last: Option<DateTime<Utc>>, now: DateTime<Utc>) -> (String, String) {
    let Some(last) = last else { return ("never validated".into(), "validate a test".into()) };
    let days = (now - last).num_days().max(0);
    let advice = if (now - last).num_seconds() > FRESH_DAYS * super::DAY { "validate a test again" } else { "" };
    (format!("last validated {} ago", several(days, "day")), advice.into())
}

fn platforms(technique: &MatrixTechnique) -> (String, String) {
    if technique.platforms.is_empty() {
        return match chains(&technique.tests) {
            0 => ("it names no platform, any test counts; there is none".into(), "validate a test".into()),
            _ => ("it names no platform, any test counts".into(), String::new()),
        };
    }
    let open = open_platforms(technique);
    let basis = format!(
        "{} of {} with a validated test",
        covered_platforms(technique),
        several(count(technique.platforms.len()), "platform")
    );
    let advice = if open.is_empty() { String::new() } else { format!("validate a test on {}", open.join(", ")) };
    (basis, advice)
}

/// Platforms of a technique that have no test that counts, in its order.
pub(crate) fn open_platforms(technique: &MatrixTechnique) -> Vec<&str> {
    let open = technique.platforms.iter().filter(|platform| !technique.tests.platforms.contains(*platform));
    open.map(String::as_str).collect()
}

/// The parts of a mean over techniques.
pub(crate) fn of_many(
    techniques: &[(&MatrixTechnique, Score)],
    knowledge: &Knowledge,
    weights: Weights,
    now: DateTime<Utc>,
) -> Vec<ShownPart> {
    let sum: Sum = techniques.iter().map(|(_, score)| score).collect();
    Part::ALL
        .into_iter()
        .map(|part| {
            let (basis, advice, reachable) = of_many_part(part, techniques, knowledge, now);
            // What is still open of those that can reach more.
            let open: i64 = reachable.iter().map(|score| weights.of(part) - score.points(part)).sum();
            let gain = divided(open, sum.n);
            ShownPart {
                part,
                raw: sum.mean_raw(part),
                weight: weights.percent(part),
                points: sum.mean_points(part),
                basis,
                advice: if gain > 0 { advice } else { String::new() },
                gain: points(gain),
            }
        })
        .collect()
}

/// Basis, advice, and the scores that can be higher.
fn of_many_part<'a>(
    part: Part,
    techniques: &'a [(&MatrixTechnique, Score)],
    knowledge: &Knowledge,
    now: DateTime<Utc>,
) -> (String, String, Vec<&'a Score>) {
    let all = count(techniques.len());
    let those = |good: &dyn Fn(&MatrixTechnique) -> bool| count(techniques.iter().filter(|(t, _)| good(t)).count());
    let scores = || techniques.iter().map(|(_, score)| score).collect::<Vec<_>>();
    match part {
        Part::Tests => {
            let tested = those(&|t| chains(&t.tests) > 0);
            let advice = match all - tested {
                0 => "detect fully what was not, and retest".to_owned(),
                open => format!("test {} without a validated test", several(open, "technique")),
            };
            (format!("{tested} of {} with a validated test", several(all, "technique")), advice, scores())
        }
        Part::DetectionRules => {
            let enough = those(&|t| rules(knowledge, t) >= ENOUGH_RULES);
            let basis = format!("{enough} of {} with {ENOUGH_RULES} rules or more", several(all, "technique"));
            (basis, format!("add detection rules for {} with fewer", several(all - enough, "technique")), scores())
        }
        Part::D3fend => {
            let mapped = |t: &MatrixTechnique| defences(knowledge, t).1 > 0;
            let with = those(&mapped);
            let whole = those(&|t| {
                let (implemented, all) = defences(knowledge, t);
                all > 0 && implemented == all
            });
            let basis = format!(
                "{} with countermeasures mapped to {}, all of them implemented for {whole}",
                several(with, "technique"),
                it_or_them(with)
            );
            let reachable = techniques.iter().filter(|(t, _)| mapped(t)).map(|(_, score)| score).collect();
            (basis, format!("implement countermeasures of {}", several(with - whole, "technique")), reachable)
        }
        Part::Freshness => {
            let fresh = those(&|t| {
                t.tests.last_validated_at.is_some_and(|last| (now - last).num_seconds() <= FRESH_DAYS * super::DAY)
            });
            let basis = format!("{fresh} of {} validated in the last {FRESH_DAYS} days", several(all, "technique"));
            (basis, format!("validate tests of {} anew", several(all - fresh, "technique")), scores())
        }
        Part::PlatformDiversity => {
            let platforms: i64 = techniques.iter().map(|(t, _)| count(t.platforms.len())).sum();
            let covered: i64 = techniques.iter().map(|(t, _)| covered_platforms(t)).sum();
            let basis =
                format!("{covered} of {} of the techniques with a validated test", several(platforms, "platform"));
            let advice = "run tests on the platforms of techniques that have none".to_owned();
            (basis, advice, scores())
        }
    }
}

/// `1 test`, `2 tests`.
pub(crate) fn several(n: i64, thing: &str) -> String {
    if n == 1 { format!("{n} {thing}") } else { format!("{n} {thing}s") }
}

fn it_or_them(n: i64) -> &'static str {
    if n == 1 { "it" } else { "them" }
}
