//! Commands: sequences, pipes, blocks.

use std::sync::Arc;

use super::{Fault, MAX_DEPTH, MAX_PARTS, Node, Part, Redirect, Result, Word, words::here};

pub(super) struct Parser {
    pub(super) chars: Vec<char>,
    pub(super) at: usize,
    pub(super) depth: usize,
    pub(super) parts: usize,
    /// Here-documents that are announced: the word that ends them, whether tabs go, whether it is quoted.
    pub(super) heres: Vec<(String, bool, bool)>,
    pub(super) texts: Vec<Word>,
}

const RESERVED: [&str; 13] = ["then", "else", "elif", "fi", "do", "done", "esac", "}", "in", ")", ";;", "if", "while"];

impl Parser {
    pub(super) fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    pub(super) fn peek_at(&self, more: usize) -> Option<char> {
        self.chars.get(self.at + more).copied()
    }

    pub(super) fn starts(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(n, c)| self.peek_at(n) == Some(c))
    }

    pub(super) fn eat(&mut self, text: &str) -> bool {
        let found = self.starts(text);
        if found {
            self.at += text.chars().count();
        }
        found
    }

    pub(super) fn count(&mut self) -> Result<()> {
        self.parts += 1;
        if self.parts > MAX_PARTS { Err(Fault::Unexpected("newline".to_owned())) } else { Ok(()) }
    }

    pub(super) fn deeper<T>(&mut self, with: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth >= MAX_DEPTH {
            return Err(Fault::Unexpected("(".to_owned()));
        }
        self.depth += 1;
        let result = with(self);
        self.depth -= 1;
        result
    }

    /// Blanks, escaped line ends and comments.
    pub(super) fn blanks(&mut self) {
        loop {
            match self.peek() {
                Some(' ' | '\t' | '\r') => self.at += 1,
                Some('\\') if self.peek_at(1) == Some('\n') => self.at += 2,
                Some('#') => {
                    while self.peek().is_some_and(|c| c != '\n') {
                        self.at += 1;
                    }
                }
                _ => return,
            }
        }
    }

    pub(super) fn newlines(&mut self) -> Result<()> {
        loop {
            self.blanks();
            if self.peek() != Some('\n') {
                return Ok(());
            }
            self.at += 1;
            self.read_heres()?;
        }
    }

    pub(super) fn read_heres(&mut self) -> Result<()> {
        for (end, tabs, quoted) in std::mem::take(&mut self.heres) {
            let mut text = String::new();
            loop {
                if self.at >= self.chars.len() {
                    return Err(Fault::Incomplete);
                }
                let mut line = String::new();
                while let Some(c) = self.peek() {
                    self.at += 1;
                    if c == '\n' {
                        break;
                    }
                    line.push(c);
                }
                let line = if tabs { line.trim_start_matches('\t') } else { line.as_str() };
                if line.trim_end_matches('\r') == end {
                    break;
                }
                text.push_str(line);
                text.push('\n');
            }
            let word = if quoted { vec![Part::Quoted(text)] } else { self.deeper(|_| here(&text))? };
            self.texts.push(word);
        }
        Ok(())
    }

    pub(super) fn peek_operator(&mut self) -> Option<String> {
        self.blanks();
        match self.peek() {
            None => None,
            Some('\n') => Some("newline".to_owned()),
            Some(c @ (';' | '&' | '|' | '(' | ')' | '<' | '>')) => {
                Some(if self.peek_at(1) == Some(c) && c != '(' && c != ')' { format!("{c}{c}") } else { c.to_string() })
            }
            Some(_) => {
                let mut word = String::new();
                let mut at = self.at;
                while let Some(c) = self.chars.get(at).filter(|c| !c.is_whitespace() && !";&|()<>".contains(**c)) {
                    word.push(*c);
                    at += 1;
                    if word.len() > 64 {
                        break;
                    }
                }
                Some(word)
            }
        }
    }

    /// Whether one of these reserved words is next.
    pub(super) fn next_is(&mut self, words: &[&str]) -> bool {
        self.peek_operator().is_some_and(|next| words.contains(&next.as_str()))
    }

    pub(super) fn expect(&mut self, word: &str) -> Result<()> {
        self.newlines()?;
        match self.peek_operator() {
            None => Err(Fault::Incomplete),
            Some(next) if next == word => {
                self.at += word.chars().count();
                Ok(())
            }
            Some(next) => Err(Fault::Unexpected(next)),
        }
    }

    /// Commands up to one of these words.
    pub(super) fn sequence(&mut self, ends: &[&str]) -> Result<Node> {
        self.deeper(|parser| {
            let mut nodes = Vec::new();
            loop {
                parser.newlines()?;
                match parser.peek_operator() {
                    None if ends.is_empty() => break,
                    None => return Err(Fault::Incomplete),
                    Some(next) if ends.contains(&next.as_str()) => break,
                    Some(_) => {}
                }
                let node = parser.and_or()?;
                parser.blanks();
                let mut background = false;
                if parser.starts(";;") {
                    nodes.push((node, false));
                    continue;
                }
                if parser.eat(";") {
                } else if parser.starts("&") && !parser.starts("&&") {
                    parser.at += 1;
                    background = true;
                } else if let Some(next) = parser.peek_operator()
                    && next != "newline"
                    && !ends.contains(&next.as_str())
                {
                    return Err(Fault::Unexpected(next));
                }
                nodes.push((node, background));
                parser.count()?;
            }
            Ok(Node::Sequence(nodes))
        })
    }

    pub(super) fn body(&mut self, ends: &[&str]) -> Result<Node> {
        let node = self.sequence(ends)?;
        if let Node::Sequence(nodes) = &node
            && nodes.is_empty()
        {
            return Err(Fault::Unexpected(self.peek_operator().unwrap_or_default()));
        }
        Ok(node)
    }

    pub(super) fn and_or(&mut self) -> Result<Node> {
        let mut left = self.pipeline()?;
        loop {
            self.blanks();
            let and = self.starts("&&");
            if !and && !self.starts("||") {
                return Ok(left);
            }
            self.at += 2;
            self.count()?;
            self.newlines()?;
            if self.peek().is_none() {
                return Err(Fault::Incomplete);
            }
            let right = self.pipeline()?;
            left = if and {
                Node::And(Box::new(left), Box::new(right))
            } else {
                Node::Or(Box::new(left), Box::new(right))
            };
        }
    }

    pub(super) fn pipeline(&mut self) -> Result<Node> {
        self.blanks();
        let mut negate = false;
        while self.peek() == Some('!') && self.peek_at(1).is_none_or(char::is_whitespace) {
            self.at += 1;
            negate = !negate;
            self.blanks();
        }
        let mut nodes = vec![self.command()?];
        loop {
            self.blanks();
            if !self.starts("|") || self.starts("||") {
                break;
            }
            self.at += 1;
            self.eat("&");
            self.count()?;
            self.newlines()?;
            if self.peek().is_none() {
                return Err(Fault::Incomplete);
            }
            nodes.push(self.command()?);
        }
        match nodes.pop() {
            Some(only) if nodes.is_empty() && !negate => Ok(only),
            Some(last) => {
                nodes.push(last);
                Ok(Node::Pipeline(nodes, negate))
            }
            None => Err(Fault::Incomplete),
        }
    }

    pub(super) fn redirects(&mut self) -> Result<Vec<Redirect>> {
        let mut redirects = Vec::new();
        loop {
            self.blanks();
            match self.redirect()? {
                Some(redirect) => redirects.push(redirect),
                None => return Ok(redirects),
            }
        }
    }

    pub(super) fn command(&mut self) -> Result<Node> {
        self.count()?;
        self.blanks();
        if self.peek() == Some('(') {
            self.at += 1;
            let body = self.body(&[")"])?;
            self.expect(")")?;
            return Ok(Node::Group(Box::new(body), true, self.redirects()?));
        }
        match self.peek_operator().as_deref() {
            Some("{") => {
                self.at += 1;
                let body = self.body(&["}"])?;
                self.expect("}")?;
                Ok(Node::Group(Box::new(body), false, self.redirects()?))
            }
            Some("if") => {
                self.at += 2;
                let mut arms = Vec::new();
                let mut other = None;
                loop {
                    let condition = self.body(&["then"])?;
                    self.expect("then")?;
                    let body = self.body(&["elif", "else", "fi"])?;
                    arms.push((condition, body));
                    if self.next_is(&["elif"]) {
                        self.at += 4;
                        continue;
                    }
                    if self.next_is(&["else"]) {
                        self.at += 4;
                        other = Some(Box::new(self.body(&["fi"])?));
                    }
                    self.expect("fi")?;
                    break;
                }
                Ok(Node::If(arms, other, self.redirects()?))
            }
            Some(word @ ("while" | "until")) => {
                let until = word == "until";
                self.at += 5;
                let condition = self.body(&["do"])?;
                self.expect("do")?;
                let body = self.body(&["done"])?;
                self.expect("done")?;
                Ok(Node::While(Box::new(condition), Box::new(body), until, self.redirects()?))
            }
            Some("for") => {
                self.at += 3;
                self.blanks();
                let name = self.name();
                if name.is_empty() {
                    return Err(Fault::Unexpected(self.peek_operator().unwrap_or_default()));
                }
                self.newlines()?;
                let mut words = None;
                if self.next_is(&["in"]) {
                    self.at += 2;
                    let mut list = Vec::new();
                    loop {
                        self.blanks();
                        match self.peek() {
                            None => return Err(Fault::Incomplete),
                            Some('\n' | ';') => break,
                            _ => list.push(self.word()?),
                        }
                    }
                    words = Some(list);
                }
                self.blanks();
                self.eat(";");
                self.expect("do")?;
                let body = self.body(&["done"])?;
                self.expect("done")?;
                Ok(Node::For(name, words, Box::new(body), self.redirects()?))
            }
            Some("case") => {
                self.at += 4;
                self.blanks();
                let word = self.word()?;
                self.expect("in")?;
                let mut arms = Vec::new();
                loop {
                    self.newlines()?;
                    if self.next_is(&["esac"]) {
                        self.at += 4;
                        break;
                    }
                    self.eat("(");
                    let mut patterns = Vec::new();
                    loop {
                        self.blanks();
                        if self.peek().is_none() {
                            return Err(Fault::Incomplete);
                        }
                        patterns.push(self.word()?);
                        self.blanks();
                        if !self.eat("|") {
                            break;
                        }
                    }
                    self.expect(")")?;
                    let body = self.sequence(&[";;", "esac"])?;
                    self.eat(";;");
                    arms.push((patterns, body));
                    self.count()?;
                }
                Ok(Node::Case(word, arms))
            }
            Some("function") => {
                self.at += 8;
                self.blanks();
                let name = self.name();
                self.blanks();
                self.eat("()");
                self.newlines()?;
                let body = self.deeper(Self::command)?;
                Ok(Node::Function(name, Arc::new(body)))
            }
            Some(word) if RESERVED.contains(&word) || word.is_empty() => Err(Fault::Unexpected(word.to_owned())),
            Some(";" | "&" | "|" | "&&" | "||" | "newline") | None => {
                Err(self.peek_operator().map_or(Fault::Incomplete, Fault::Unexpected))
            }
            Some(_) => self.simple(),
        }
    }

    pub(super) fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(c) = self.peek().filter(|c| c.is_ascii_alphanumeric() || *c == '_') {
            name.push(c);
            self.at += 1;
        }
        name
    }

    pub(super) fn simple(&mut self) -> Result<Node> {
        let (mut assignments, mut words, mut redirects) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            self.blanks();
            self.count()?;
            if let Some(redirect) = self.redirect()? {
                redirects.push(redirect);
                continue;
            }
            match self.peek() {
                None | Some('\n' | ';' | '&' | '|' | ')') => break,
                Some('(') => {
                    if let ([word], true) = (words.as_slice(), self.starts("()"))
                        && let [Part::Text(name)] = Vec::as_slice(word)
                    {
                        let name = name.clone();
                        self.at += 2;
                        self.newlines()?;
                        if self.peek().is_none() {
                            return Err(Fault::Incomplete);
                        }
                        let body = self.deeper(Self::command)?;
                        return Ok(Node::Function(name, Arc::new(body)));
                    }
                    return Err(Fault::Unexpected("(".to_owned()));
                }
                Some(_) => {}
            }
            if words.is_empty() {
                let from = self.at;
                let name = self.name();
                if !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) && self.peek() == Some('=') {
                    self.at += 1;
                    let value = match self.peek() {
                        None | Some(' ' | '\t' | '\n' | ';' | '&' | '|' | ')') => Vec::new(),
                        _ => self.word()?,
                    };
                    assignments.push((name, value));
                    continue;
                }
                self.at = from;
            }
            words.push(self.word()?);
        }
        Ok(Node::Simple { assignments, words, redirects })
    }
}
