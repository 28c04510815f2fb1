//! HTML as the text that a reader of it sees, near enough to be searched and quoted.

/// Elements whose text is not seen.
const UNSEEN: [&str; 5] = ["script", "style", "template", "noscript", "svg"];
/// Elements that end a line.
const BLOCKS: [&str; 16] =
    ["p", "br", "div", "li", "ul", "ol", "tr", "table", "h1", "h2", "h3", "h4", "h5", "h6", "pre", "blockquote"];

/// The text of it, without its tags, at most `max` characters and not read further than that.
pub(super) fn plain_text(html: &str, max: usize) -> String {
    let mut text = Text { out: String::new(), chars: 0, gap: Gap::None };
    let mut rest = html;
    while !rest.is_empty() && text.chars < max {
        let Some(first) = rest.chars().next() else { break };
        rest = match first {
            '<' => match tag(rest) {
                Some(tag) => {
                    text.gap = text.gap.max(if BLOCKS.contains(&tag.name.as_str()) { Gap::Line } else { Gap::None });
                    match !tag.closes && UNSEEN.contains(&tag.name.as_str()) {
                        true => after_end(tag.rest, &tag.name),
                        false => tag.rest,
                    }
                }
                None => text.push(first, &rest[1..]),
            },
            '&' => match entity(rest) {
                Some((letter, rest)) => text.push(letter, rest),
                None => text.push(first, &rest[1..]),
            },
            other => text.push(other, &rest[other.len_utf8()..]),
        };
    }
    text.out
}

/// A text on one line, with single spaces.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Gap {
    None,
    Space,
    Line,
}

struct Text {
    out: String,
    chars: usize,
    gap: Gap,
}

impl Text {
    fn push<'a>(&mut self, letter: char, rest: &'a str) -> &'a str {
        if letter.is_whitespace() {
            self.gap = self.gap.max(Gap::Space);
            return rest;
        }
        if !self.out.is_empty() && self.gap != Gap::None {
            self.out.push(if self.gap == Gap::Line { '\n' } else { ' ' });
            self.chars += 1;
        }
        self.gap = Gap::None;
        self.out.push(letter);
        self.chars += 1;
        rest
    }
}

struct Tag<'a> {
    name: String,
    closes: bool,
    rest: &'a str,
}

/// The tag or comment that the text begins with; `None` for a mere `<`, as in `a < b`.
fn tag(text: &str) -> Option<Tag<'_>> {
    let inner = text.strip_prefix('<')?;
    if let Some(comment) = inner.strip_prefix("!--") {
        let rest = comment.split_once("-->").map_or("", |(_, rest)| rest);
        return Some(Tag { name: String::new(), closes: false, rest });
    }
    let closes = inner.starts_with('/');
    let named = inner.trim_start_matches('/');
    if !named.starts_with(|letter: char| letter.is_ascii_alphabetic() || matches!(letter, '!' | '?')) {
        return None;
    }
    let name: String =
        named.chars().take_while(char::is_ascii_alphanumeric).take(20).collect::<String>().to_ascii_lowercase();
    let rest = after_tag(inner).unwrap_or("");
    Some(Tag { name, closes, rest })
}

/// What follows the `>` that is not inside quotes.
fn after_tag(text: &str) -> Option<&str> {
    let mut quote = None;
    for (at, byte) in text.bytes().enumerate() {
        match (quote, byte) {
            (None, b'>') => return text.get(at + 1..),
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), byte) if open == byte => quote = None,
            _ => {}
        }
    }
    // A quote that never closes is a slip of the pen, such as an apostrophe.
    text.split_once('>').map(|(_, rest)| rest)
}

fn after_end<'a>(text: &'a str, name: &str) -> &'a str {
    let mut rest = text;
    while let Some(at) = rest.find("</") {
        rest = &rest[at + 2..];
        if rest.get(..name.len()).is_some_and(|found| found.eq_ignore_ascii_case(name)) {
            return rest.split_once('>').map_or("", |(_, rest)| rest);
        }
    }
    ""
}

/// The letter that an entity stands for, and what follows it.
fn entity(text: &str) -> Option<(char, &str)> {
    let (name, rest) = text.strip_prefix('&')?.get(..).and_then(|inner| {
        let end = inner.bytes().take(12).position(|byte| byte == b';')?;
        Some((&inner[..end], &inner[end + 1..]))
    })?;
    let letter = match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => ' ',
        "ndash" => '–',
        "mdash" => '—',
        "lsquo" => '‘',
        "rsquo" => '’',
        "ldquo" => '“',
        "rdquo" => '”',
        "hellip" => '…',
        "bull" => '•',
        "copy" => '©',
        "reg" => '®',
        "trade" => '™',
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)?
        }
    };
    Some((letter, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_go_and_text_stays() {
        for (html, text) in [
            ("<p>One <b>bold</b>&nbsp;word.</p><p>Two</p>", "One bold word.\nTwo"),
            ("a < b &amp;&amp; c > d", "a < b && c > d"),
            ("<script>if (a < b) { alert('</x>') }</script>seen", "seen"),
            ("<SCRIPT src=x>x</ScRiPt >y", "y"),
            ("<a href=\"x>y\" title='>'>link</a>", "link"),
            ("<!-- <b> -->kept<br/>line", "kept\nline"),
            ("&#8217;&#x2019;&bogus;&#0;&", "’’&bogus;\u{0}&"),
            ("<p title=\"never closed>text", "text"),
            ("cut <a href=", "cut"),
            ("<style>all", ""),
            ("é<é>", "é<é>"),
        ] {
            assert_eq!(plain_text(html, 1_000), text, "{html}");
        }
        assert_eq!(plain_text(&"ab ".repeat(1_000_000), 7), "ab ab a");
        assert_eq!(one_line(" a\n\tb "), "a b");
    }
}
