//! Reads what is typed into a shell: words, quotes, pipes, redirections, compound commands. Bounded in depth and size.

mod commands;
mod words;

use std::sync::Arc;

use commands::Parser;

/// Deepest nesting.
const MAX_DEPTH: usize = 20;
/// Most words and parts in one input.
const MAX_PARTS: usize = 20_000;

/// A part of a word.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// Text as it stands, open to patterns.
    Text(String),
    /// Text from quotes.
    Quoted(String),
    /// `$name`, `${name}` or with an operation.
    Variable {
        /// Its name.
        name: String,
        /// Such as `:-` and `%%`, or empty.
        operation: String,
        /// What follows the operation.
        argument: Vec<Part>,
        /// Inside double quotes.
        quoted: bool,
    },
    /// `$(…)` or backticks.
    Command {
        /// What is to be run.
        source: String,
        /// Inside double quotes.
        quoted: bool,
    },
    /// `$((…))`.
    Arithmetic(String),
}

/// A word of several parts.
pub type Word = Vec<Part>;

/// How a redirection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// `<`
    In,
    /// `>`
    Out,
    /// `>>`
    Append,
    /// `>&` and `<&`
    Duplicate,
    /// `&>`
    Both,
    /// `<<` with the text, or `<<<`.
    Here,
}

/// A redirection.
#[derive(Clone, Debug, PartialEq)]
pub struct Redirect {
    /// File descriptor.
    pub fd: u8,
    /// How.
    pub way: Way,
    /// Where to.
    pub target: Word,
}

/// A command.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// Assignments, words, redirections.
    Simple {
        /// `NAME=value` before it.
        assignments: Vec<(String, Word)>,
        /// The command and its arguments.
        words: Vec<Word>,
        /// Where its data goes.
        redirects: Vec<Redirect>,
    },
    /// `a | b`
    Pipeline(Vec<Node>, bool),
    /// `a && b`
    And(Box<Node>, Box<Node>),
    /// `a || b`
    Or(Box<Node>, Box<Node>),
    /// `a; b & c`: with whether it is in the background.
    Sequence(Vec<(Node, bool)>),
    /// `{ …; }` or, in a shell of its own, `( … )`.
    Group(Box<Node>, bool, Vec<Redirect>),
    /// `if`
    If(Vec<(Node, Node)>, Option<Box<Node>>, Vec<Redirect>),
    /// `while` and, turned round, `until`
    While(Box<Node>, Box<Node>, bool, Vec<Redirect>),
    /// `for`
    For(String, Option<Vec<Word>>, Box<Node>, Vec<Redirect>),
    /// `case`
    Case(Word, Vec<(Vec<Word>, Node)>),
    /// `name() { … }`
    Function(String, Arc<Node>),
}

/// Why it could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// More has to come: a quote or a block is open.
    Incomplete,
    /// This was not expected.
    Unexpected(String),
}

type Result<T> = std::result::Result<T, Fault>;

/// Reads a whole input.
pub fn parse(source: &str) -> Result<Node> {
    let mut parser =
        Parser { chars: source.chars().collect(), at: 0, depth: 0, parts: 0, heres: Vec::new(), texts: Vec::new() };
    let mut node = parser.sequence(&[])?;
    if let Some(rest) = parser.peek_operator() {
        return Err(Fault::Unexpected(rest));
    }
    if !parser.heres.is_empty() {
        return Err(Fault::Incomplete);
    }
    fill(&mut node, &parser.texts);
    Ok(node)
}

/// Puts the texts of here-documents where they were announced.
fn fill(node: &mut Node, texts: &[Word]) {
    let set = |redirects: &mut Vec<Redirect>| {
        for redirect in redirects {
            if redirect.way == Way::Here
                && let [Part::Command { source, .. }] = redirect.target.as_slice()
                && let Some(at) = source.strip_prefix('\0').and_then(|at| at.parse::<usize>().ok())
            {
                redirect.target = texts.get(at).cloned().unwrap_or_default();
            }
        }
    };
    match node {
        Node::Simple { redirects, .. } => set(redirects),
        Node::Pipeline(nodes, _) => nodes.iter_mut().for_each(|node| fill(node, texts)),
        Node::And(a, b) | Node::Or(a, b) => {
            fill(a, texts);
            fill(b, texts);
        }
        Node::Sequence(nodes) => nodes.iter_mut().for_each(|(node, _)| fill(node, texts)),
        Node::Group(node, _, redirects) => {
            fill(node, texts);
            set(redirects);
        }
        Node::If(arms, other, redirects) => {
            for (condition, body) in arms {
                fill(condition, texts);
                fill(body, texts);
            }
            if let Some(other) = other {
                fill(other, texts);
            }
            set(redirects);
        }
        Node::While(a, b, _, redirects) => {
            fill(a, texts);
            fill(b, texts);
            set(redirects);
        }
        Node::For(_, _, body, redirects) => {
            fill(body, texts);
            set(redirects);
        }
        Node::Case(_, arms) => arms.iter_mut().for_each(|(_, body)| fill(body, texts)),
        Node::Function(_, body) => {
            if let Some(body) = Arc::get_mut(body) {
                fill(body, texts);
            }
        }
    }
}
