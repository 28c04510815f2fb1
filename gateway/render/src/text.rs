//! Texts: how wide they are, where they break, figures in words.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use maud::Render;

/// Fonts that have the widths of [`width`]; one of them is on every system.
pub(crate) const FONTS: &str = "'Helvetica Neue', Helvetica, Arial, 'Liberation Sans', Arimo, sans-serif";

/// Without characters that no XML may have, and without those that turn the direction of what follows.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    let unwanted = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}')
    };
    if text.contains(unwanted) { Cow::Owned(text.replace(unwanted, " ")) } else { Cow::Borrowed(text) }
}

/// About how wide a text is in [`FONTS`].
pub(crate) fn width(text: &str, size: f32) -> f32 {
    text.chars().map(advance).sum::<f32>() * size
}

/// The width of a character, in ems.
fn advance(c: char) -> f32 {
    match c {
        'i' | 'j' | 'l' | '\'' | '|' => 0.22,
        'I' | 't' | 'f' | ' ' | '.' | ',' | ':' | ';' | '!' | '/' | '\\' | '[' | ']' => 0.28,
        'r' | '(' | ')' | '-' | '`' | '"' | '*' => 0.34,
        'm' | 'M' => 0.84,
        'w' | 'C' | 'D' | 'H' | 'N' | 'R' | 'U' => 0.72,
        'G' | 'O' | 'Q' => 0.78,
        'W' | '@' | '%' | '…' | '—' => 0.96,
        'A' | 'B' | 'E' | 'K' | 'P' | 'S' | 'V' | 'X' | 'Y' | '&' => 0.67,
        'F' | 'T' | 'Z' | 'L' => 0.61,
        'c' | 'k' | 's' | 'v' | 'x' | 'y' | 'z' | 'J' => 0.5,
        c if c.is_ascii() => 0.56,
        // Wide scripts, and what is not known.
        c if (c as u32) < 0x1100 => 0.62,
        _ => 1.0,
    }
}

/// The text in at most `most` lines of this width; the last ends with … where there is more.
pub(crate) fn lines(text: &str, size: f32, wide: f32, most: usize) -> Vec<String> {
    let text = clean(text);
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    // A line breaks between words, and after a slash.
    let words = text.split_whitespace().flat_map(|word| {
        let parts = word.split_inclusive('/').enumerate();
        parts.map(|(part, text)| (if part == 0 { " " } else { "" }, text))
    });
    for (space, word) in words {
        let longer = if line.is_empty() { word.to_owned() } else { format!("{line}{space}{word}") };
        if width(&longer, size) <= wide || line.is_empty() {
            line = longer;
            continue;
        }
        lines.push(std::mem::replace(&mut line, word.to_owned()));
        if lines.len() == most {
            break;
        }
    }
    if lines.len() == most {
        // What was begun is more than there is room for.
        if let Some(last) = lines.last_mut() {
            last.push_str(" …");
        }
    } else if !line.is_empty() {
        lines.push(line);
    }
    for line in &mut lines {
        shorten(line, size, wide);
    }
    lines
}

/// Cuts a line that is too wide.
fn shorten(line: &mut String, size: f32, wide: f32) {
    if width(line, size) <= wide {
        return;
    }
    while line.pop().is_some() {
        let end = line.trim_end_matches([' ', '…']).len();
        line.truncate(end);
        if width(line, size) + width("…", size) <= wide {
            break;
        }
    }
    line.push('…');
}

/// A length or place in a picture: two decimals at most.
#[derive(Clone, Copy)]
pub(crate) struct N(pub(crate) f32);

impl Render for N {
    fn render_to(&self, out: &mut String) {
        use std::fmt::Write;
        let at = out.len();
        // Writing into a String does not fail.
        let _ = write!(out, "{:.2}", self.0);
        let end = out[at..].trim_end_matches('0').trim_end_matches('.').len();
        out.truncate(at + end);
        if &out[at..] == "-0" {
            out.truncate(at);
            out.push('0');
        }
    }
}

/// One decimal.
pub(crate) fn figure(value: f64) -> String {
    format!("{value:.1}")
}

/// One decimal, or a dash where there is none.
pub(crate) fn figure_or_dash(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), figure)
}

/// With a sign, one decimal.
pub(crate) fn signed(value: f64) -> String {
    match figure(value.abs()) {
        same if same == "0.0" => "±0.0".to_owned(),
        size if value < 0.0 => format!("−{size}"),
        size => format!("+{size}"),
    }
}

/// A count with its noun.
pub(crate) fn count(n: i64, one: &str, many: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {many}") }
}

/// `22 November 2026`.
pub(crate) fn day(moment: DateTime<Utc>) -> String {
    moment.format("%-d %B %Y").to_string()
}

/// `22 November 2026, 10:30 UTC`.
pub(crate) fn moment(moment: DateTime<Utc>) -> String {
    moment.format("%-d %B %Y, %H:%M UTC").to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_break_between_words_and_end_with_an_ellipsis() {
        assert_eq!(lines("Valid Accounts", 10.0, 200.0, 2), ["Valid Accounts"]);
        assert_eq!(
            lines("Exploit Public-Facing Application", 10.0, 110.0, 2),
            ["Exploit Public-Facing", "Application"]
        );
        let cut = lines("one two three four five six seven", 10.0, 40.0, 2);
        assert_eq!(cut.len(), 2);
        assert!(cut[1].ends_with('…'), "{cut:?}");
        assert!(lines("", 10.0, 40.0, 2).is_empty());
    }

    #[test]
    fn figures_are_as_short_as_they_can_be() {
        let text = |value| N(value).render().into_string();
        assert_eq!([text(1.0), text(1.25), text(-0.001), text(100.0)], ["1", "1.25", "0", "100"]);
        assert_eq!([signed(1.25), signed(-3.0), signed(0.01)], ["+1.2", "−3.0", "±0.0"]);
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_its_room(text in "\\PC{0,80}", wide in 30.0_f32..300.0, most in 1_usize..4) {
            let lines = lines(&text, 10.0, wide, most);
            prop_assert!(lines.len() <= most);
            for line in lines {
                prop_assert!(width(&line, 10.0) <= wide + 0.01, "{line}");
            }
        }
    }
}
