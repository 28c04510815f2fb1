//! The terminal between a client and a shell: raw bytes in, lines out, with editing, history and an echo as a real one has.

use std::{collections::VecDeque, io, time::Duration};

use async_trait::async_trait;

use super::expand::from_bytes;
use crate::session::Recorder;

/// Longest line that is taken; a real terminal rings its bell beyond.
const MAX_LINE: usize = 8 << 10;
/// What may be typed ahead.
const MAX_AHEAD: usize = 16 << 10;

/// What comes from the client.
#[derive(Debug)]
pub enum Input {
    /// Bytes.
    Data(Vec<u8>),
    /// The window has this size now.
    Size(u16, u16),
    /// Nothing more comes.
    End,
}

/// The way to a client: an ssh channel, a telnet connection.
#[async_trait]
pub trait Line: Send {
    /// What comes next. It must be possible to drop the future without losing anything.
    async fn read(&mut self) -> Input;
    /// To the client.
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// To the client, as what went wrong.
    async fn write_error(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write(bytes).await
    }
}

/// What reading a line gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// A line without its end.
    Line(String),
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-D on an empty line, or the client is gone.
    End,
}

/// A terminal.
pub struct Terminal {
    line: Box<dyn Line>,
    recorder: Option<Recorder>,
    /// Whether there is a terminal at all: echo, editing, line ends.
    pub tty: bool,
    /// Columns and rows.
    pub size: (u16, u16),
    ahead: VecDeque<u8>,
    ended: bool,
    last_cr: bool,
}

/// What a line so far could go on with.
type Complete<'a> = dyn Fn(&str) -> Vec<String> + Sync + 'a;

/// How a line is read.
pub struct Ask<'a> {
    /// Shown before it.
    pub prompt: &'a str,
    /// Whether what is typed is shown.
    pub echo: bool,
    /// Lines before this one.
    pub history: &'a [String],
    /// What a tab would complete: the line so far gives what is to be added, or choices to show.
    pub complete: Option<&'a Complete<'a>>,
}

impl Terminal {
    /// Over this line.
    pub fn new(line: Box<dyn Line>, tty: bool, size: (u16, u16), recorder: Option<Recorder>) -> Terminal {
        Terminal { line, recorder, tty, size, ahead: VecDeque::new(), ended: false, last_cr: false }
    }

    /// Whether the client has no more to say.
    pub fn ended(&self) -> bool {
        self.ended && self.ahead.is_empty()
    }

    /// Shows something; line ends become what a terminal needs.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        if !self.tty {
            return self.line.write(bytes).await;
        }
        let cooked = cook(bytes);
        if let Some(recorder) = &self.recorder {
            recorder.output(&cooked);
        }
        self.line.write(&cooked).await
    }

    /// Shows what went wrong: on the other stream where there is no terminal.
    pub async fn write_error(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.tty { self.write(bytes).await } else { self.line.write_error(bytes).await }
    }

    async fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(recorder) = &self.recorder {
            recorder.output(bytes);
        }
        self.line.write(bytes).await
    }

    async fn fill(&mut self) {
        match self.line.read().await {
            Input::Data(bytes) => {
                if let Some(recorder) = &self.recorder
                    && self.tty
                {
                    recorder.input(&bytes);
                }
                // A terminal drops what is too much; without one, it is read only as fast as it is used.
                let room = if self.tty { MAX_AHEAD.saturating_sub(self.ahead.len()) } else { usize::MAX };
                self.ahead.extend(bytes.into_iter().take(room));
            }
            Input::Size(columns, rows) => self.size = (columns.clamp(1, 1000), rows.clamp(1, 1000)),
            Input::End => self.ended = true,
        }
    }

    /// The next byte that is typed; none when the client is gone.
    pub async fn byte(&mut self) -> Option<u8> {
        loop {
            if let Some(byte) = self.ahead.pop_front() {
                return Some(byte);
            }
            if self.ended {
                return None;
            }
            self.fill().await;
        }
    }

    /// Waits this long; true when Ctrl-C ended it, or the client is gone.
    pub async fn wait(&mut self, time: Duration) -> bool {
        let until = tokio::time::Instant::now() + time;
        loop {
            if self.tty
                && let Some(at) = self.ahead.iter().position(|byte| *byte == 3)
            {
                self.ahead.drain(..=at);
                let _ = self.write(b"^C\n").await;
                return true;
            }
            if self.ended {
                if self.tty {
                    return true;
                }
                tokio::time::sleep_until(until).await;
                return false;
            }
            if self.ahead.len() >= MAX_AHEAD {
                // What is typed ahead stays where it is.
                tokio::time::sleep_until(until).await;
                return false;
            }
            tokio::select! {
                () = tokio::time::sleep_until(until) => return false,
                () = self.fill() => {}
            }
        }
    }

    /// All that comes until the client ends it; at most so much. With a terminal it is lines until Ctrl-D; none is Ctrl-C.
    pub async fn read_all(&mut self, most: usize) -> Option<Vec<u8>> {
        let mut all = Vec::new();
        if self.tty {
            let ask = Ask { prompt: "", echo: true, history: &[], complete: None };
            loop {
                match self.read_line(&ask).await {
                    Read::Line(line) if all.len() < most => {
                        all.extend_from_slice(&super::expand::to_bytes(&line));
                        all.push(b'\n');
                    }
                    Read::Line(_) => {}
                    Read::End => return Some(all),
                    Read::Interrupt => return None,
                }
            }
        }
        loop {
            let room = most.saturating_sub(all.len());
            // What is too much is read and forgotten.
            all.extend(self.ahead.drain(..).take(room));
            if self.ended {
                return Some(all);
            }
            self.fill().await;
        }
    }

    /// Some of the next bytes, at most so many; none at the end.
    pub async fn some(&mut self, most: usize) -> Option<Vec<u8>> {
        let first = self.byte().await?;
        let mut bytes = vec![first];
        let count = self.ahead.len().min(most.saturating_sub(1));
        bytes.extend(self.ahead.drain(..count));
        Some(bytes)
    }

    /// A line.
    pub async fn read_line(&mut self, ask: &Ask<'_>) -> Read {
        if !ask.prompt.is_empty() && (self.tty || !ask.echo) && self.write(ask.prompt.as_bytes()).await.is_err() {
            return Read::End;
        }
        if !self.tty {
            return self.plain_line().await;
        }
        let prompt = ask.prompt.rsplit('\n').next().unwrap_or("");
        let mut editor = Editor { text: Vec::new(), at: 0, place: ask.history.len(), draft: Vec::new() };
        let mut bytes = Vec::new();
        loop {
            let Some(byte) = self.byte().await else { return Read::End };
            let after_cr = std::mem::take(&mut self.last_cr);
            let shown: Vec<u8> = match byte {
                b'\n' if after_cr => continue,
                0 => continue,
                b'\r' | b'\n' => {
                    self.last_cr = byte == b'\r';
                    let _ = self.raw(b"\r\n").await;
                    return Read::Line(editor.text.into_iter().collect());
                }
                3 => {
                    let _ = self.raw(if ask.echo { b"^C\r\n" } else { b"\r\n" }).await;
                    return Read::Interrupt;
                }
                4 if editor.text.is_empty() => return Read::End,
                4 => editor.delete(),
                1 => editor.to(0),
                5 => editor.to(editor.text.len()),
                2 => editor.to(editor.at.saturating_sub(1)),
                6 => editor.to(editor.at + 1),
                8 | 127 => editor.back(),
                11 => editor.cut_end(),
                12 => {
                    let mut shown = b"\x1b[H\x1b[2J".to_vec();
                    shown.extend_from_slice(prompt.as_bytes());
                    shown.extend(editor.draw_all());
                    shown
                }
                14 => editor.history(ask.history, 1),
                16 => editor.history(ask.history, -1),
                21 => editor.cut_start(),
                23 => editor.cut_word(),
                b'\t' => match ask.complete {
                    Some(complete) => {
                        let before: String = editor.text.iter().take(editor.at).collect();
                        let found = complete(&before);
                        match found.as_slice() {
                            [] => b"\x07".to_vec(),
                            [one] => one.chars().flat_map(|c| editor.insert(c)).collect(),
                            many => {
                                let mut shown = format!("\r\n{}\r\n", many.join("  ")).into_bytes();
                                shown.extend_from_slice(prompt.as_bytes());
                                shown.extend(editor.draw_all());
                                shown
                            }
                        }
                    }
                    None => editor.insert('\t'),
                },
                27 => self.escape(&mut editor, ask).await,
                0x20..=0x7e | 0x80.. => {
                    bytes.push(byte);
                    let wanted = match bytes.first() {
                        Some(0xc0..=0xdf) => 2,
                        Some(0xe0..=0xef) => 3,
                        Some(0xf0..=0xf7) => 4,
                        _ => 1,
                    };
                    if bytes.len() < wanted && byte >= 0x80 {
                        continue;
                    }
                    let text = from_bytes(&std::mem::take(&mut bytes));
                    if editor.text.len() >= MAX_LINE {
                        b"\x07".to_vec()
                    } else {
                        text.chars().flat_map(|c| editor.insert(c)).collect()
                    }
                }
                _ => continue,
            };
            if ask.echo && !shown.is_empty() && self.raw(&shown).await.is_err() {
                return Read::End;
            }
        }
    }

    async fn escape(&mut self, editor: &mut Editor, ask: &Ask<'_>) -> Vec<u8> {
        match self.byte().await {
            Some(b'[' | b'O') => {}
            Some(b'b') => return editor.to(editor.word_start()),
            _ => return Vec::new(),
        }
        let mut number = 0_u32;
        for _ in 0..8 {
            match self.byte().await {
                Some(digit @ b'0'..=b'9') => number = number.saturating_mul(10).saturating_add(u32::from(digit - b'0')),
                Some(b';') => number = 0,
                Some(b'A') => return editor.history(ask.history, -1),
                Some(b'B') => return editor.history(ask.history, 1),
                Some(b'C') => return editor.to(editor.at + 1),
                Some(b'D') => return editor.to(editor.at.saturating_sub(1)),
                Some(b'H') => return editor.to(0),
                Some(b'F') => return editor.to(editor.text.len()),
                Some(b'~') => {
                    return match number {
                        1 | 7 => editor.to(0),
                        3 => editor.delete(),
                        4 | 8 => editor.to(editor.text.len()),
                        _ => Vec::new(),
                    };
                }
                _ => return Vec::new(),
            }
        }
        Vec::new()
    }

    async fn plain_line(&mut self) -> Read {
        let mut line = Vec::new();
        loop {
            match self.byte().await {
                Some(b'\n') => break,
                Some(byte) if line.len() < MAX_LINE => line.push(byte),
                Some(_) => {}
                None if line.is_empty() => return Read::End,
                None => break,
            }
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Read::Line(from_bytes(&line))
    }
}

/// Line ends as a terminal needs them.
pub fn cook(bytes: &[u8]) -> Vec<u8> {
    let mut cooked = Vec::with_capacity(bytes.len() + 16);
    for byte in bytes {
        if *byte == b'\n' {
            cooked.push(b'\r');
        }
        cooked.push(*byte);
    }
    cooked
}

/// A line that is being edited; each change gives what the terminal has to show.
struct Editor {
    text: Vec<char>,
    at: usize,
    place: usize,
    draft: Vec<char>,
}

impl Editor {
    fn insert(&mut self, c: char) -> Vec<u8> {
        let at = self.at.min(self.text.len());
        self.text.insert(at, c);
        self.at = at + 1;
        let mut shown = self.encode(at..self.text.len());
        shown.extend(back(self.text.len() - self.at));
        shown
    }

    fn back(&mut self) -> Vec<u8> {
        if self.at == 0 {
            return b"\x07".to_vec();
        }
        self.at -= 1;
        let mut shown = back(1);
        shown.extend(self.delete());
        shown
    }

    fn delete(&mut self) -> Vec<u8> {
        if self.at >= self.text.len() {
            return Vec::new();
        }
        self.text.remove(self.at);
        let mut shown = self.encode(self.at..self.text.len());
        shown.push(b' ');
        shown.extend(back(self.text.len() - self.at + 1));
        shown
    }

    fn to(&mut self, at: usize) -> Vec<u8> {
        let at = at.min(self.text.len());
        let shown = if at < self.at { back(self.at - at) } else { self.encode(self.at..at) };
        self.at = at;
        shown
    }

    fn cut_end(&mut self) -> Vec<u8> {
        self.text.truncate(self.at);
        b"\x1b[K".to_vec()
    }

    fn cut_start(&mut self) -> Vec<u8> {
        let mut shown = back(self.at);
        self.text.drain(..self.at.min(self.text.len()));
        self.at = 0;
        shown.extend_from_slice(b"\x1b[K");
        shown.extend(self.encode(0..self.text.len()));
        shown.extend(back(self.text.len()));
        shown
    }

    fn word_start(&self) -> usize {
        let mut at = self.at;
        while at > 0 && self.text.get(at - 1) == Some(&' ') {
            at -= 1;
        }
        while at > 0 && self.text.get(at - 1) != Some(&' ') {
            at -= 1;
        }
        at
    }

    fn cut_word(&mut self) -> Vec<u8> {
        let start = self.word_start();
        let mut shown = Vec::new();
        while self.at > start {
            shown.extend(self.back());
        }
        shown
    }

    fn history(&mut self, lines: &[String], step: isize) -> Vec<u8> {
        let Some(place) = self.place.checked_add_signed(step).filter(|place| *place <= lines.len()) else {
            return b"\x07".to_vec();
        };
        if self.place == lines.len() {
            self.draft = self.text.clone();
        }
        self.place = place;
        let mut shown = back(self.at);
        shown.extend_from_slice(b"\x1b[K");
        self.text = lines.get(place).map_or_else(|| std::mem::take(&mut self.draft), |line| line.chars().collect());
        self.at = self.text.len();
        shown.extend(self.encode(0..self.text.len()));
        shown
    }

    fn draw_all(&self) -> Vec<u8> {
        let mut shown = self.encode(0..self.text.len());
        shown.extend(back(self.text.len() - self.at));
        shown
    }

    fn encode(&self, range: std::ops::Range<usize>) -> Vec<u8> {
        super::expand::to_bytes(&self.text.get(range).unwrap_or_default().iter().collect::<String>())
    }
}

fn back(count: usize) -> Vec<u8> {
    vec![8; count]
}
