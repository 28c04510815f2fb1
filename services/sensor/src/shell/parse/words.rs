//! Words: quotes, variables, substitutions, redirections.

use super::{Fault, MAX_DEPTH, Part, Redirect, Result, Way, Word, commands::Parser};

impl Parser {
    pub(super) fn redirect(&mut self) -> Result<Option<Redirect>> {
        let from = self.at;
        let mut fd = None;
        if let Some(digit) = self.peek().and_then(|c| c.to_digit(10))
            && matches!(self.peek_at(1), Some('<' | '>'))
        {
            fd = u8::try_from(digit).ok();
            self.at += 1;
        }
        let (way, default) = if self.eat("&>>") || self.eat("&>") {
            (Way::Both, 1)
        } else if self.eat("<<<") {
            self.blanks();
            let mut target = self.word()?;
            target.push(Part::Quoted("\n".to_owned()));
            return Ok(Some(Redirect { fd: 0, way: Way::Here, target }));
        } else if self.eat("<<") {
            let tabs = self.eat("-");
            self.blanks();
            let word = self.word()?;
            let quoted = word.iter().any(|part| matches!(part, Part::Quoted(_)));
            let end = word
                .iter()
                .map(|part| match part {
                    Part::Text(text) | Part::Quoted(text) => text.as_str(),
                    _ => "",
                })
                .collect();
            let number = self.texts.len() + self.heres.len();
            self.heres.push((end, tabs, quoted));
            let target = vec![Part::Command { source: format!("\0{number}"), quoted: true }];
            return Ok(Some(Redirect { fd: 0, way: Way::Here, target }));
        } else if self.eat(">>") {
            (Way::Append, 1)
        } else if self.eat(">&") {
            (Way::Duplicate, 1)
        } else if self.eat(">|") || self.eat(">") {
            (Way::Out, 1)
        } else if self.eat("<&") {
            (Way::Duplicate, 0)
        } else if self.eat("<>") || self.eat("<") {
            (Way::In, 0)
        } else {
            self.at = from;
            return Ok(None);
        };
        self.blanks();
        if let None | Some('\n' | ';' | '&' | '|' | ')' | '(' | '<' | '>') = self.peek() {
            return Err(Fault::Unexpected(self.peek_operator().unwrap_or_else(|| "newline".to_owned())));
        }
        let target = self.word()?;
        Ok(Some(Redirect { fd: fd.unwrap_or(default), way, target }))
    }

    pub(super) fn word(&mut self) -> Result<Word> {
        let mut word = Vec::new();
        let mut text = String::new();
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' | '\n' | '\r' | ';' | '&' | '|' | '<' | '>' | '(' | ')' => break,
                '\\' => {
                    self.at += 1;
                    match self.peek() {
                        Some('\n') => self.at += 1,
                        Some(next) => {
                            flush(&mut text, &mut word);
                            word.push(Part::Quoted(next.to_string()));
                            self.at += 1;
                        }
                        None => return Err(Fault::Incomplete),
                    }
                }
                '\'' => {
                    flush(&mut text, &mut word);
                    self.at += 1;
                    word.push(Part::Quoted(self.until('\'')?));
                }
                '"' => {
                    flush(&mut text, &mut word);
                    self.at += 1;
                    self.double(&mut word)?;
                }
                '$' if self.peek_at(1) == Some('\'') => {
                    flush(&mut text, &mut word);
                    self.at += 2;
                    let inside = self.until_escaped('\'')?;
                    word.push(Part::Quoted(super::super::expand::escapes(&inside)));
                }
                '$' | '`' => {
                    flush(&mut text, &mut word);
                    let part = self.dollar(false)?;
                    word.push(part);
                }
                _ => {
                    text.push(c);
                    self.at += 1;
                }
            }
        }
        flush(&mut text, &mut word);
        if word.is_empty() {
            return Err(Fault::Unexpected(self.peek_operator().unwrap_or_else(|| "newline".to_owned())));
        }
        Ok(word)
    }

    pub(super) fn until(&mut self, end: char) -> Result<String> {
        let mut text = String::new();
        while let Some(c) = self.peek() {
            self.at += 1;
            if c == end {
                return Ok(text);
            }
            text.push(c);
        }
        Err(Fault::Incomplete)
    }

    pub(super) fn until_escaped(&mut self, end: char) -> Result<String> {
        let mut text = String::new();
        while let Some(c) = self.peek() {
            self.at += 1;
            if c == end {
                return Ok(text);
            }
            text.push(c);
            if c == '\\'
                && let Some(next) = self.peek()
            {
                text.push(next);
                self.at += 1;
            }
        }
        Err(Fault::Incomplete)
    }

    pub(super) fn double(&mut self, word: &mut Word) -> Result<()> {
        let mut text = String::new();
        loop {
            match self.peek() {
                None => return Err(Fault::Incomplete),
                Some('"') => {
                    self.at += 1;
                    word.push(Part::Quoted(text));
                    return Ok(());
                }
                Some('\\') => {
                    self.at += 1;
                    match self.peek() {
                        None => return Err(Fault::Incomplete),
                        Some('\n') => {}
                        Some(c @ ('$' | '`' | '"' | '\\')) => text.push(c),
                        Some(c) => {
                            text.push('\\');
                            text.push(c);
                        }
                    }
                    self.at += 1;
                }
                Some('$' | '`') => {
                    word.push(Part::Quoted(std::mem::take(&mut text)));
                    let part = self.dollar(true)?;
                    word.push(part);
                }
                Some(c) => {
                    text.push(c);
                    self.at += 1;
                }
            }
        }
    }

    /// What begins with `$` or a backtick.
    pub(super) fn dollar(&mut self, quoted: bool) -> Result<Part> {
        self.count()?;
        if self.eat("`") {
            let source = self.until_escaped('`')?.replace("\\`", "`").replace("\\$", "$");
            return Ok(Part::Command { source, quoted });
        }
        self.at += 1;
        let variable = |name: String| Part::Variable { name, operation: String::new(), argument: Vec::new(), quoted };
        match self.peek() {
            Some('(') if self.peek_at(1) == Some('(') => {
                let from = self.at;
                self.at += 2;
                let text = self.balanced()?;
                if self.eat(")") {
                    return Ok(Part::Arithmetic(text));
                }
                // Two shells in each other, then.
                self.at = from + 1;
                let source = self.balanced()?;
                Ok(Part::Command { source, quoted })
            }
            Some('(') => {
                self.at += 1;
                Ok(Part::Command { source: self.balanced()?, quoted })
            }
            Some('{') => {
                self.at += 1;
                self.deeper(|parser| parser.braces(quoted))
            }
            Some(c @ ('?' | '$' | '!' | '#' | '@' | '*' | '-' | '0'..='9')) => {
                self.at += 1;
                Ok(variable(c.to_string()))
            }
            Some(c) if c.is_ascii_alphabetic() || c == '_' => Ok(variable(self.name())),
            _ => Ok(Part::Quoted("$".to_owned())),
        }
    }

    /// Up to the bracket that closes, which is eaten.
    pub(super) fn balanced(&mut self) -> Result<String> {
        let mut open = 1_usize;
        let mut text = String::new();
        while let Some(c) = self.peek() {
            self.at += 1;
            match c {
                '(' => open += 1,
                ')' => open -= 1,
                '\'' => {
                    let inside = self.until('\'')?;
                    text.push('\'');
                    text.push_str(&inside);
                }
                '\\' => {
                    text.push(c);
                    if let Some(next) = self.peek() {
                        text.push(next);
                        self.at += 1;
                    }
                    continue;
                }
                _ => {}
            }
            if open == 0 {
                return Ok(text);
            }
            text.push(c);
        }
        Err(Fault::Incomplete)
    }

    pub(super) fn braces(&mut self, quoted: bool) -> Result<Part> {
        let length = self.peek() == Some('#') && self.peek_at(1) != Some('}');
        if length {
            self.at += 1;
        }
        let mut name = self.name();
        if name.is_empty()
            && let Some(c) = self.peek().filter(|c| "?$!#@*-".contains(*c))
        {
            name.push(c);
            self.at += 1;
        }
        let mut operation = String::new();
        if length {
            operation.push_str("length");
        } else if let Some(first) = self.peek().filter(|c| ":-+=?%#/^,".contains(*c)) {
            operation.push(first);
            self.at += 1;
            let second = self
                .peek()
                .filter(|c| if first == ':' { "-+=?".contains(*c) } else { *c == first && "%#/^,".contains(first) });
            if let Some(second) = second {
                operation.push(second);
                self.at += 1;
            }
        }
        let mut argument = Vec::new();
        let mut text = String::new();
        loop {
            match self.peek() {
                None => return Err(Fault::Incomplete),
                Some('}') => {
                    self.at += 1;
                    break;
                }
                Some('$' | '`') => {
                    flush(&mut text, &mut argument);
                    let part = self.dollar(quoted)?;
                    argument.push(part);
                }
                Some('\'') if !quoted => {
                    flush(&mut text, &mut argument);
                    self.at += 1;
                    argument.push(Part::Quoted(self.until('\'')?));
                }
                Some('"') => {
                    flush(&mut text, &mut argument);
                    self.at += 1;
                    self.double(&mut argument)?;
                }
                Some('\\') => {
                    self.at += 1;
                    if let Some(c) = self.peek() {
                        text.push(c);
                        self.at += 1;
                    }
                }
                Some(c) => {
                    text.push(c);
                    self.at += 1;
                }
            }
        }
        flush(&mut text, &mut argument);
        Ok(Part::Variable { name, operation, argument, quoted })
    }
}

/// The text of a here-document whose variables count.
pub(super) fn here(text: &str) -> Result<Word> {
    let mut parser = Parser {
        chars: text.replace('"', "\\\"").chars().chain(['"']).collect(),
        at: 0,
        depth: MAX_DEPTH / 2,
        parts: 0,
        heres: Vec::new(),
        texts: Vec::new(),
    };
    let mut word = Vec::new();
    parser.double(&mut word)?;
    Ok(word)
}

fn flush(text: &mut String, word: &mut Word) {
    if !text.is_empty() {
        word.push(Part::Text(std::mem::take(text)));
    }
}
