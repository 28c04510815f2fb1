//! From text to statements, with a bound on how deep and how long they may be.

use sqlparser::{
    ast::Statement,
    dialect::{Dialect as Grammar, MySqlDialect, PostgreSqlDialect},
    keywords::Keyword,
    parser::{Parser, ParserError},
    tokenizer::{Token, Tokenizer},
};

use super::{Dialect, Fault};

/// The longest statement that is understood.
const LONGEST: usize = 256 << 10;
/// The most statements of one text.
const MOST: usize = 1_000;
/// The most operators and keywords of one statement: chains of them nest as deep as they are long.
const HEAVIEST: usize = 900;
/// How deep expressions may nest.
const DEEPEST: usize = 32;

/// Splits a text at its semicolons, but for those in quotes and comments. Empty statements are left out.
pub(crate) fn split(text: &str, dialect: Dialect) -> Vec<&str> {
    let bytes = text.as_bytes();
    let mut parts = Vec::new();
    let (mut begin, mut at) = (0, 0);
    let find = |from: usize, what: &str| {
        bytes
            .get(from..)
            .and_then(|rest| rest.windows(what.len()).position(|window| window == what.as_bytes()))
            .map_or(bytes.len(), |found| from + found + what.len())
    };
    while let Some(&byte) = bytes.get(at) {
        let next = bytes.get(at + 1).copied();
        match byte {
            b'\'' | b'"' | b'`' => {
                let escapes = dialect == Dialect::MySql && byte != b'`';
                at += 1;
                while let Some(&inner) = bytes.get(at) {
                    at += 1;
                    if inner == b'\\' && escapes {
                        at += 1;
                    } else if inner == byte {
                        break;
                    }
                }
            }
            b'-' if next == Some(b'-') => at = find(at, "\n"),
            b'#' if dialect == Dialect::MySql => at = find(at, "\n"),
            b'/' if next == Some(b'*') => at = find(at + 2, "*/"),
            b'$' if dialect == Dialect::Postgres => {
                let tag = bytes.get(at + 1..).and_then(|rest| {
                    let end = rest.iter().take(64).position(|byte| *byte == b'$')?;
                    rest.get(..end)?.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').then_some(end)
                });
                match tag.and_then(|end| text.get(at..at + end + 2)) {
                    Some(quote) => at = find(at + quote.len(), quote),
                    None => at += 1,
                }
            }
            b';' => {
                parts.extend(text.get(begin..at));
                at += 1;
                begin = at;
                if parts.len() >= MOST {
                    return parts;
                }
            }
            _ => at += 1,
        }
        at = at.min(bytes.len());
    }
    parts.extend(text.get(begin..));
    parts.retain(|part| !words(part, 1).is_empty());
    parts
}

/// The first words of a statement in lower case, without comments; other signs are words of their own, quoted texts stay
/// as they are.
pub(crate) fn words(text: &str, most: usize) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while found.len() < most && !rest.is_empty() {
        if let Some(comment) = rest.strip_prefix("/*") {
            // MySQL runs what stands in `/*! … */`.
            match comment.strip_prefix('!') {
                Some(inner) => rest = inner.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start(),
                None => rest = comment.split_once("*/").map_or("", |(_, after)| after).trim_start(),
            }
            continue;
        }
        if let Some(end) = rest.strip_prefix("*/") {
            rest = end.trim_start();
            continue;
        }
        if rest.starts_with("--") || rest.starts_with('#') {
            rest = rest.split_once('\n').map_or("", |(_, after)| after).trim_start();
            continue;
        }
        let Some(first) = rest.chars().next() else { break };
        let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '@' | '$' | '.');
        let end = if matches!(first, '\'' | '"' | '`') {
            rest.char_indices().skip(1).find(|(_, c)| *c == first).map_or(rest.len(), |(at, c)| at + c.len_utf8())
        } else if word(first) {
            rest.find(|c| !word(c)).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        let (taken, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
        found.push(if matches!(first, '\'' | '"' | '`') { taken.to_owned() } else { taken.to_lowercase() });
        rest = after.trim_start();
    }
    found
}

/// Whether a statement begins with these words.
pub(crate) fn looks_like(words: &[String], begin: &[&str]) -> bool {
    words.len() >= begin.len() && words.iter().zip(begin).all(|(word, expected)| word == expected)
}

/// A word without its quotes.
pub(crate) fn unquote(word: &str) -> String {
    let Some(quote) = word.chars().next().filter(|c| matches!(c, '\'' | '"' | '`')) else { return word.to_owned() };
    let inner = word.get(1..).unwrap_or("");
    inner.strip_suffix(quote).unwrap_or(inner).to_owned()
}

/// One statement.
pub(super) fn statement(text: &str, dialect: Dialect) -> Result<Statement, Fault> {
    if text.len() > LONGEST {
        return Err(Fault::TooComplex);
    }
    let grammar: &dyn Grammar = match dialect {
        Dialect::MySql => &MySqlDialect {},
        Dialect::Postgres => &PostgreSqlDialect {},
    };
    let tokens = Tokenizer::new(grammar, text)
        .tokenize_with_location()
        .map_err(|error| syntax(text, error.location.line, error.location.column))?;
    let heavy = tokens.iter().filter(|token| weighs(&token.token)).count();
    if heavy > HEAVIEST {
        return Err(Fault::TooComplex);
    }
    let mut parser = Parser::new(grammar).with_recursion_limit(DEEPEST).with_tokens_with_locations(tokens);
    let parsed = parser.parse_statement();
    let at = |parser: &Parser<'_>| {
        let next = parser.peek_token();
        match next.token {
            Token::EOF => syntax(text, u64::MAX, 0),
            _ => syntax(text, next.span.start.line, next.span.start.column),
        }
    };
    match parsed {
        Ok(statement) => {
            while parser.consume_token(&Token::SemiColon) {}
            match parser.peek_token().token {
                Token::EOF => Ok(statement),
                _ => Err(at(&parser)),
            }
        }
        Err(ParserError::RecursionLimitExceeded) => Err(Fault::TooComplex),
        Err(ParserError::TokenizerError(message) | ParserError::ParserError(message)) => {
            let place = message.rsplit_once("Line: ").and_then(|(_, place)| {
                let (line, column) = place.split_once(", Column: ")?;
                let digits = column.split(|c: char| !c.is_ascii_digit()).next()?;
                Some((line.trim().parse().ok()?, digits.parse().ok()?))
            });
            Err(match place {
                Some((line, column)) => syntax(text, line, column),
                None => at(&parser),
            })
        }
    }
}

fn weighs(token: &Token) -> bool {
    match token {
        Token::Word(word) => !matches!(
            word.keyword,
            Keyword::NoKeyword | Keyword::NULL | Keyword::DEFAULT | Keyword::TRUE | Keyword::FALSE
        ),
        Token::Comma
        | Token::Whitespace(_)
        | Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_)
        | Token::HexStringLiteral(_)
        | Token::EscapedStringLiteral(_)
        | Token::NationalStringLiteral(_)
        | Token::LParen
        | Token::RParen
        | Token::Period
        | Token::SemiColon
        | Token::EOF => false,
        _ => true,
    }
}

fn syntax(text: &str, line: u64, column: u64) -> Fault {
    let (mut now_line, mut now_column) = (1, 1);
    let mut place = (text.trim_end().len(), text.trim_end().chars().count() + 1);
    for (count, (at, c)) in text.char_indices().enumerate() {
        if (now_line, now_column) == (line, column) {
            place = (at, count + 1);
            break;
        }
        if c == '\n' {
            now_line += 1;
            now_column = 1;
        } else {
            now_column += 1;
        }
    }
    let rest = text.get(place.0..).unwrap_or("").trim_end();
    let first = rest.chars().next();
    let near = match first {
        Some('\'' | '"') => rest.get(..words(rest, 1).first().map_or(0, String::len)).unwrap_or(rest).to_owned(),
        Some(c) if c.is_alphanumeric() || c == '_' => {
            rest.split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '$'))).next().unwrap_or("").to_owned()
        }
        Some(c) => c.to_string(),
        None => String::new(),
    };
    let line = if line == u64::MAX { u64::try_from(text.lines().count().max(1)).unwrap_or(1) } else { line.max(1) };
    Fault::Syntax { near, rest: rest.to_owned(), line, at: place.1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn semicolons_in_quotes_split_nothing() {
        assert_eq!(split("a; b 'x;y' ; -- c;d\n;", Dialect::MySql), ["a", " b 'x;y' "]);
        assert_eq!(split("DO $x$ a; b $x$; c", Dialect::Postgres), ["DO $x$ a; b $x$", " c"]);
        assert_eq!(split("'\\';'; a", Dialect::MySql).len(), 2);
        assert!(split("';;;;", Dialect::Postgres).len() == 1);
    }

    #[test]
    fn first_words() {
        assert_eq!(words("/* a */ SHOW Full `A b` LIKE 'X%'", 9), ["show", "full", "`A b`", "like", "'X%'"]);
        assert_eq!(words("/*!40101 SET NAMES utf8 */", 9), ["set", "names", "utf8"]);
    }

    #[test]
    fn says_where_it_was_not_understood() {
        let Err(Fault::Syntax { near, line, at, .. }) = statement("SELECT 1\nFORM users x", Dialect::Postgres) else {
            panic!("not refused")
        };
        assert_eq!((near.as_str(), line, at), ("users", 2, 15));
    }

    #[test]
    fn deep_and_long_statements_are_refused() {
        for text in [
            format!("SELECT {}1{}", "(".repeat(20_000), ")".repeat(20_000)),
            format!("SELECT 1{}", "+1".repeat(100_000)),
            format!("SELECT {}1", "NOT ".repeat(50_000)),
            format!("SELECT 1{}", "::int".repeat(50_000)),
            format!("SELECT 1{}", " UNION SELECT 1".repeat(5_000)),
            format!("SELECT {}1", "-".repeat(50_000)),
            format!("SELECT 'a{}'", "b".repeat(300_000)),
            format!("SELECT a{}", "[1]".repeat(50_000)),
            format!("SELECT a{}", ".b".repeat(50_000)),
        ] {
            for dialect in [Dialect::MySql, Dialect::Postgres] {
                let _ = statement(&text, dialect);
            }
        }
    }
}
