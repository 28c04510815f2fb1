//! Turns words into arguments: variables, substitutions, splitting, patterns.

use futures::future::BoxFuture;

use super::{
    parse::{Part, Word},
    run::Shell,
};

/// Most bytes of one word.
const MAX_WORD: usize = 64 << 10;
/// Most words that one can become.
const MAX_WORDS: usize = 4096;

/// A word while it grows: special letters that were quoted have a backslash before them.
#[derive(Default)]
struct Field {
    pattern: String,
    open: bool,
}

impl Shell {
    /// What words become.
    pub(super) fn expand_words<'a>(&'a mut self, words: &'a [Word]) -> BoxFuture<'a, Vec<String>> {
        Box::pin(async move {
            let mut all = Vec::new();
            for word in words {
                for word in braces(word) {
                    for field in self.fields(&word, true).await {
                        if all.len() < MAX_WORDS {
                            self.paths(&field, &mut all);
                        }
                    }
                }
            }
            all
        })
    }

    /// What a word becomes where it is not split, as after `=` and in redirections.
    pub(super) fn expand_one<'a>(&'a mut self, word: &'a Word) -> BoxFuture<'a, String> {
        Box::pin(async move {
            let fields = self.fields(word, false).await;
            fields.iter().map(|field| unescape(&field.pattern)).collect::<Vec<_>>().join(" ")
        })
    }

    /// A pattern as `case` compares with.
    pub(super) fn expand_pattern<'a>(&'a mut self, word: &'a Word) -> BoxFuture<'a, String> {
        Box::pin(async move {
            self.fields(word, false).await.into_iter().map(|field| field.pattern).collect::<Vec<_>>().join(" ")
        })
    }

    fn fields<'a>(&'a mut self, word: &'a Word, split: bool) -> BoxFuture<'a, Vec<Field>> {
        Box::pin(async move {
            let mut fields: Vec<Field> = Vec::new();
            let mut current = Field::default();
            for (n, part) in word.iter().enumerate() {
                let (text, quoted) = match part {
                    Part::Text(text) if n == 0 && text.starts_with('~') => (self.tilde(text), None),
                    Part::Text(text) => (text.clone(), None),
                    Part::Quoted(text) => (text.clone(), Some(true)),
                    Part::Variable { name, quoted: true, operation, .. } if name == "@" && operation.is_empty() => {
                        let positional = self.positional.clone();
                        for (n, text) in positional.iter().enumerate() {
                            if n > 0 {
                                fields.push(std::mem::take(&mut current));
                            }
                            push(&mut current, text, true);
                        }
                        continue;
                    }
                    Part::Variable { name, operation, argument, quoted } => {
                        (self.variable(name, operation, argument).await, Some(*quoted))
                    }
                    Part::Command { source, quoted } => (self.substitute(source).await, Some(*quoted)),
                    Part::Arithmetic(text) => (self.arithmetic(text).await, Some(true)),
                };
                match quoted {
                    Some(false) if split => {
                        let mut pieces = text.split([' ', '\t', '\n']).peekable();
                        while let Some(piece) = pieces.next() {
                            push(&mut current, piece, false);
                            if piece.is_empty() {
                                current.open = current.open && !current.pattern.is_empty();
                            }
                            if pieces.peek().is_some() && (current.open || !current.pattern.is_empty()) {
                                fields.push(std::mem::take(&mut current));
                                if fields.len() >= MAX_WORDS {
                                    return fields;
                                }
                            }
                        }
                    }
                    _ => push(&mut current, &text, quoted == Some(true)),
                }
            }
            if current.open || !current.pattern.is_empty() || !split {
                fields.push(current);
            }
            fields
        })
    }

    fn tilde(&self, text: &str) -> String {
        let (user, rest) = match text.find('/') {
            Some(at) => (text.get(1..at).unwrap_or(""), text.get(at..).unwrap_or("")),
            None => (text.get(1..).unwrap_or(""), ""),
        };
        let home = if user.is_empty() {
            Some(self.variable_text("HOME").unwrap_or_else(|| self.user.home.clone()))
        } else {
            self.files.user(user).map(|user| user.home)
        };
        home.map_or_else(|| text.to_owned(), |home| format!("{home}{rest}"))
    }

    fn variable<'a>(&'a mut self, name: &'a str, operation: &'a str, argument: &'a Word) -> BoxFuture<'a, String> {
        Box::pin(async move {
            let value = self.variable_text(name);
            let set = match operation.starts_with(':') {
                true => value.as_ref().is_some_and(|value| !value.is_empty()),
                false => value.is_some(),
            };
            match operation {
                "" => value.unwrap_or_default(),
                "length" => value.unwrap_or_default().chars().count().to_string(),
                ":-" | "-" if set => value.unwrap_or_default(),
                ":-" | "-" => self.expand_one(argument).await,
                ":+" | "+" if !set => String::new(),
                ":+" | "+" => self.expand_one(argument).await,
                ":=" | "=" if set => value.unwrap_or_default(),
                ":=" | "=" => {
                    let value = self.expand_one(argument).await;
                    self.set(name, &value);
                    value
                }
                "%" | "%%" | "#" | "##" => {
                    let pattern = self.expand_pattern(argument).await;
                    strip(&value.unwrap_or_default(), &pattern, operation)
                }
                "/" | "//" => {
                    let text = self.expand_pattern(argument).await;
                    let (from, to) = text.split_once('/').unwrap_or((&text, ""));
                    let (value, from, to) = (value.unwrap_or_default(), unescape(from), unescape(to));
                    match operation {
                        _ if from.is_empty() => value,
                        "//" => value.replace(&from, &to),
                        _ => value.replacen(&from, &to, 1),
                    }
                }
                ":" => {
                    let text = self.expand_one(argument).await;
                    let (from, length) = text.split_once(':').unwrap_or((&text, ""));
                    let from = from.trim().parse::<usize>().unwrap_or(0);
                    let length = length.trim().parse::<usize>().unwrap_or(usize::MAX);
                    value.unwrap_or_default().chars().skip(from).take(length).collect()
                }
                "^^" => value.unwrap_or_default().to_uppercase(),
                ",," => value.unwrap_or_default().to_lowercase(),
                _ => value.unwrap_or_default(),
            }
        })
    }

    async fn arithmetic(&mut self, text: &str) -> String {
        let mut text = text.to_owned();
        if text.contains("$(") || text.contains('`') {
            text = self.substitute(&format!("echo \"{text}\"")).await;
        }
        calculate(self, &text).to_string()
    }

    /// The files that a pattern fits, or the word itself.
    fn paths(&self, field: &Field, all: &mut Vec<String>) {
        if !has_pattern(&field.pattern) {
            all.push(unescape(&field.pattern));
            return;
        }
        let absolute = field.pattern.starts_with('/');
        let mut found: Vec<String> = vec![if absolute { "/".to_owned() } else { String::new() }];
        for part in field.pattern.split('/').filter(|part| !part.is_empty()) {
            let mut next = Vec::new();
            for base in &found {
                let join = |name: &str| {
                    if base.is_empty() || base.ends_with('/') {
                        format!("{base}{name}")
                    } else {
                        format!("{base}/{name}")
                    }
                };
                if !has_pattern(part) {
                    let path = join(&unescape(part));
                    if self.files.stat(&self.cwd, &path, false).is_ok() {
                        next.push(path);
                    }
                    continue;
                }
                let folder = if base.is_empty() { "." } else { base };
                for (name, _) in self.files.list(&self.cwd, folder).unwrap_or_default() {
                    if next.len() < MAX_WORDS && (!name.starts_with('.') || part.starts_with('.')) && fits(part, &name)
                    {
                        next.push(join(&name));
                    }
                }
            }
            found = next;
        }
        if found.is_empty() {
            all.push(unescape(&field.pattern));
        } else {
            all.append(&mut found);
        }
    }
}

fn push(field: &mut Field, text: &str, quoted: bool) {
    field.open = true;
    for c in text.chars() {
        if field.pattern.len() > MAX_WORD {
            return;
        }
        if c == '\\' || (quoted && "*?[]/".contains(c) && c != '/') {
            field.pattern.push('\\');
        }
        field.pattern.push(c);
    }
}

fn has_pattern(pattern: &str) -> bool {
    let mut escaped = false;
    for c in pattern.chars() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if "*?[".contains(c) {
            return true;
        }
    }
    false
}

fn unescape(pattern: &str) -> String {
    let mut text = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        text.push(if c == '\\' { chars.next().unwrap_or('\\') } else { c });
    }
    text
}

/// Whether a pattern fits a text. In time that is the product of both lengths at most.
pub fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().take(512).collect(), text.chars().take(4096).collect());
    let (mut p, mut t) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while t < text.len() {
        let step = match pattern.get(p) {
            Some('*') => {
                back = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some('?') => Some(p + 1),
            Some('[') => class(&pattern, p, text.get(t).copied().unwrap_or('\0')),
            Some('\\') => (pattern.get(p + 1) == text.get(t)).then_some(p + 2),
            Some(c) => (Some(c) == text.get(t)).then_some(p + 1),
            None => None,
        };
        match (step, back) {
            (Some(next), _) => {
                p = next;
                t += 1;
            }
            (None, Some((star, at))) => {
                p = star;
                t = at + 1;
                back = Some((star, at + 1));
            }
            (None, None) => return false,
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|c| *c == '*')
}

fn class(pattern: &[char], from: usize, c: char) -> Option<usize> {
    let mut at = from + 1;
    let not = matches!(pattern.get(at), Some('!' | '^'));
    if not {
        at += 1;
    }
    let mut found = false;
    let first = at;
    loop {
        let low = *pattern.get(at)?;
        if low == ']' && at > first {
            return (found != not).then_some(at + 1);
        }
        if pattern.get(at + 1) == Some(&'-')
            && let Some(high) = pattern.get(at + 2).filter(|high| **high != ']')
        {
            found |= (low..=*high).contains(&c);
            at += 3;
        } else {
            found |= low == c;
            at += 1;
        }
    }
}

fn strip(value: &str, pattern: &str, operation: &str) -> String {
    let bounds: Vec<usize> = value.char_indices().map(|(at, _)| at).chain([value.len()]).take(4096).collect();
    let suffix = operation.starts_with('%');
    let longest = matches!(operation, "%%" | "##");
    let hits: Vec<usize> = bounds
        .into_iter()
        .filter(|at| {
            let part = if suffix { value.get(*at..) } else { value.get(..*at) };
            part.is_some_and(|part| fits(pattern, part))
        })
        .collect();
    // Prefixes grow with the place, suffixes shrink.
    let hit = if suffix == longest { hits.first() } else { hits.last() };
    match hit {
        Some(at) if suffix => value.get(..*at).unwrap_or("").to_owned(),
        Some(at) => value.get(*at..).unwrap_or("").to_owned(),
        None => value.to_owned(),
    }
}

/// `a{b,c}d` and `{1..5}` of unquoted text.
fn braces(word: &Word) -> Vec<Word> {
    for (n, part) in word.iter().enumerate() {
        let Part::Text(text) = part else { continue };
        let Some((open, close)) = text.find('{').and_then(|open| Some((open, open + text.get(open..)?.find('}')?)))
        else {
            continue;
        };
        let inside = text.get(open + 1..close).unwrap_or("");
        let options: Vec<String> = if let Some((from, to)) = inside.split_once("..") {
            match (from.parse::<i64>(), to.parse::<i64>()) {
                (Ok(from), Ok(to)) if (to - from).abs() < 1024 => {
                    let (low, high) = (from.min(to), from.max(to));
                    let mut all: Vec<String> = (low..=high).map(|n| n.to_string()).collect();
                    if from > to {
                        all.reverse();
                    }
                    all
                }
                _ => continue,
            }
        } else if inside.contains(',') {
            inside.split(',').take(256).map(str::to_owned).collect()
        } else {
            continue;
        };
        let (before, after) = (text.get(..open).unwrap_or(""), text.get(close + 1..).unwrap_or(""));
        return options
            .into_iter()
            .map(|option| {
                let mut word = word.clone();
                if let Some(part) = word.get_mut(n) {
                    *part = Part::Text(format!("{before}{option}{after}"));
                }
                word
            })
            .collect();
    }
    vec![word.clone()]
}

/// A byte as a letter: those above 127 have letters of their own in the private area, so that they come out as they went in.
pub fn byte_letter(byte: u8) -> char {
    if byte < 0x80 { char::from(byte) } else { char::from_u32(0xf700 + u32::from(byte)).unwrap_or('?') }
}

/// A text as bytes.
pub fn to_bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for c in text.chars() {
        match u32::from(c) {
            code @ 0xf780..=0xf7ff => bytes.push(u8::try_from(code - 0xf700).unwrap_or(0)),
            _ => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

/// Bytes as a text that gives them back.
pub fn from_bytes(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|byte| byte_letter(*byte)));
    }
    text
}

/// A text for an event: bytes that are no text as `\xNN`.
pub fn told(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match u32::from(c) {
            code @ 0xf780..=0xf7ff => out.push_str(&format!("\\x{:02x}", code - 0xf700)),
            _ => out.push(c),
        }
    }
    out
}

/// `\n`, `\x41`, `\101` and their like.
pub fn escapes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let number = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>, radix: u32, most: usize, start: u32| {
            let mut value = start;
            let mut digits = 0;
            while digits < most
                && let Some(digit) = chars.peek().and_then(|c| c.to_digit(radix))
            {
                value = value * radix + digit;
                digits += 1;
                chars.next();
            }
            byte_letter(u8::try_from(value & 0xff).unwrap_or(0))
        };
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('a') => out.push('\x07'),
            Some('b') => out.push('\x08'),
            Some('f') => out.push('\x0c'),
            Some('v') => out.push('\x0b'),
            Some('e' | 'E') => out.push('\x1b'),
            Some('x') => out.push(number(&mut chars, 16, 2, 0)),
            Some('0') => out.push(number(&mut chars, 8, 3, 0)),
            Some(digit @ '1'..='7') => out.push(number(&mut chars, 8, 2, digit.to_digit(8).unwrap_or(0))),
            Some('\\') => out.push('\\'),
            Some(other) => {
                out.push('\\');
                out.push(other);
            }
            None => out.push('\\'),
        }
    }
    out
}

/// An arithmetic expression; what makes no sense is 0.
pub fn calculate(shell: &Shell, text: &str) -> i64 {
    let chars: Vec<char> = text.chars().filter(|c| !c.is_whitespace() && *c != '$').take(1024).collect();
    let mut at = 0;
    level(shell, &chars, &mut at, 0, 0)
}

const LEVELS: [&[&str]; 6] = [&["||"], &["&&"], &["==", "!="], &["<=", ">=", "<", ">"], &["+", "-"], &["*", "/", "%"]];

fn level(shell: &Shell, chars: &[char], at: &mut usize, depth: usize, nested: usize) -> i64 {
    if nested > 32 {
        *at = chars.len();
        return 0;
    }
    let Some(operators) = LEVELS.get(depth) else { return atom(shell, chars, at, nested) };
    let mut left = level(shell, chars, at, depth + 1, nested);
    loop {
        let here = |operator: &&&str| operator.chars().enumerate().all(|(n, c)| chars.get(*at + n) == Some(&c));
        let Some(operator) = operators.iter().find(here) else { return left };
        *at += operator.len();
        let right = level(shell, chars, at, depth + 1, nested);
        left = match *operator {
            "||" => i64::from(left != 0 || right != 0),
            "&&" => i64::from(left != 0 && right != 0),
            "==" => i64::from(left == right),
            "!=" => i64::from(left != right),
            "<=" => i64::from(left <= right),
            ">=" => i64::from(left >= right),
            "<" => i64::from(left < right),
            ">" => i64::from(left > right),
            "+" => left.wrapping_add(right),
            "-" => left.wrapping_sub(right),
            "*" => left.wrapping_mul(right),
            "/" => left.checked_div(right).unwrap_or(0),
            _ => left.checked_rem(right).unwrap_or(0),
        };
    }
}

fn atom(shell: &Shell, chars: &[char], at: &mut usize, nested: usize) -> i64 {
    match chars.get(*at) {
        Some('(') => {
            *at += 1;
            let value = level(shell, chars, at, 0, nested + 1);
            if chars.get(*at) == Some(&')') {
                *at += 1;
            }
            value
        }
        Some(sign @ ('-' | '+' | '!')) if nested < 32 => {
            *at += 1;
            let value = atom(shell, chars, at, nested + 1);
            match sign {
                '-' => value.wrapping_neg(),
                '!' => i64::from(value == 0),
                _ => value,
            }
        }
        _ => {
            let mut word = String::new();
            while let Some(c) = chars.get(*at).filter(|c| c.is_ascii_alphanumeric() || **c == '_') {
                word.push(*c);
                *at += 1;
            }
            if word.is_empty() {
                *at += 1;
                return 0;
            }
            if let Some(hex) = word.strip_prefix("0x") {
                return i64::from_str_radix(hex, 16).unwrap_or(0);
            }
            word.parse()
                .unwrap_or_else(|_| shell.variable_text(&word).and_then(|text| text.trim().parse().ok()).unwrap_or(0))
        }
    }
}
