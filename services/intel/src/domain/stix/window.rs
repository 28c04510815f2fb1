//! A sliding window over the bytes of a JSON document: hands out one complete value at a time.
//!
//! serde_json's reader source works byte by byte; over a slice it is several times as fast. So the window reads large
//! pieces and lets serde_json find the end of each value in the slice, reading on where the slice ends inside one.

use std::io::{ErrorKind, Read};

use serde::de::{DeserializeOwned, IgnoredAny};

use super::{MAX_VALUE_BYTES, ParseError};

const START_BYTES: usize = 256 * 1024;

/// The window, its reader and who is told of the progress.
pub(super) struct Window<'a> {
    reader: &'a mut dyn Read,
    progress: &'a mut dyn FnMut(u64),
    buffer: Vec<u8>,
    /// Bytes of `buffer` already consumed.
    start: usize,
    /// Bytes of `buffer` that are filled.
    end: usize,
    /// Bytes of the document before `buffer`.
    offset: u64,
    at_end: bool,
    object: Option<u64>,
}

impl<'a> Window<'a> {
    pub(super) fn new(reader: &'a mut dyn Read, progress: &'a mut dyn FnMut(u64)) -> Self {
        Self {
            reader,
            progress,
            buffer: vec![0; START_BYTES],
            start: 0,
            end: 0,
            offset: 0,
            at_end: false,
            object: None,
        }
    }

    /// Names the object that errors from now on are in.
    pub(super) fn set_object(&mut self, number: Option<u64>) {
        self.object = number;
    }

    pub(super) fn skip_byte_order_mark(&mut self) -> Result<(), ParseError> {
        self.fill()?;
        if self.buffer[..self.end].starts_with(&[0xEF, 0xBB, 0xBF]) {
            self.start = 3;
        } else if self.buffer[..self.end].starts_with(&[0xFF, 0xFE])
            || self.buffer[..self.end].starts_with(&[0xFE, 0xFF])
        {
            return Err(ParseError::NotUtf8 { byte: 0, place: " (it is UTF-16)".to_owned() });
        }
        Ok(())
    }

    /// The next byte that is no white space, not consumed; nothing at the document's end.
    pub(super) fn peek(&mut self) -> Result<Option<u8>, ParseError> {
        loop {
            while self.start < self.end {
                match self.buffer[self.start] {
                    b' ' | b'\n' | b'\r' | b'\t' => self.start += 1,
                    byte => return Ok(Some(byte)),
                }
            }
            if self.at_end {
                return Ok(None);
            }
            self.fill()?;
        }
    }

    /// Consumes the byte that `peek` showed.
    pub(super) fn bump(&mut self) {
        self.start += 1;
    }

    pub(super) fn expect(&mut self, wanted: u8) -> Result<(), ParseError> {
        if self.peek()? == Some(wanted) {
            self.bump();
            return Ok(());
        }
        Err(self.unexpected(&format!("expected `{}`", wanted as char)))
    }

    /// After a member: true when a comma brings another one, false when `close` ends the list or object.
    pub(super) fn next_member(&mut self, close: u8) -> Result<bool, ParseError> {
        match self.peek()? {
            Some(b',') => {
                self.bump();
                Ok(true)
            }
            Some(byte) if byte == close => {
                self.bump();
                Ok(false)
            }
            _ => Err(self.unexpected(&format!("expected `,` or `{}`", close as char))),
        }
    }

    /// Consumes one JSON value of any type, checked to be well-formed, and shows its text.
    pub(super) fn value(&mut self) -> Result<&str, ParseError> {
        if self.peek()?.is_none() {
            return Err(self.truncated());
        }
        let length = loop {
            let slice = &self.buffer[self.start..self.end];
            let mut values = serde_json::Deserializer::from_slice(slice).into_iter::<IgnoredAny>();
            let result = values.next();
            let length = values.byte_offset();
            match result {
                // A number or a literal at the slice's end may go on behind it.
                Some(Ok(_)) if length < slice.len() || self.at_end || matches!(slice[0], b'{' | b'[' | b'"') => {
                    break length;
                }
                Some(Err(error)) if !error.is_eof() || self.at_end => {
                    return Err(self.wrong(&error));
                }
                None if self.at_end => return Err(self.truncated()),
                _ => self.fill()?,
            }
        };
        if length > MAX_VALUE_BYTES {
            return Err(self.too_large());
        }
        let from = self.start;
        self.start += length;
        std::str::from_utf8(&self.buffer[from..from + length]).map_err(|error| ParseError::NotUtf8 {
            byte: self.offset + (from + error.valid_up_to()) as u64,
            place: self.place(),
        })
    }

    /// Consumes one JSON value of a known type.
    pub(super) fn value_as<T: DeserializeOwned>(&mut self) -> Result<T, ParseError> {
        let byte = self.position();
        let place = self.place();
        serde_json::from_str(self.value()?).map_err(|error| ParseError::NotJson { byte, place, detail: plain(&error) })
    }

    /// The error for the byte that `peek` showed.
    pub(super) fn unexpected(&self, detail: &str) -> ParseError {
        if self.start >= self.end {
            return self.truncated();
        }
        ParseError::NotJson { byte: self.position(), place: self.place(), detail: detail.to_owned() }
    }

    fn position(&self) -> u64 {
        self.offset + self.start as u64
    }

    fn place(&self) -> String {
        self.object.map(|number| format!(" (object {number})")).unwrap_or_default()
    }

    fn truncated(&self) -> ParseError {
        ParseError::Truncated { bytes: self.offset + self.end as u64, place: self.place() }
    }

    fn too_large(&self) -> ParseError {
        let place = self.place();
        ParseError::TooLarge(format!(
            "a value at byte {}{place} is larger than {MAX_VALUE_BYTES} bytes",
            self.position()
        ))
    }

    /// Turns serde_json's line and column, which count from the value's start, into a byte of the document.
    fn wrong(&self, error: &serde_json::Error) -> ParseError {
        if error.is_eof() {
            return self.truncated();
        }
        let slice = &self.buffer[self.start..self.end];
        let line_start: usize =
            slice.split_inclusive(|byte| *byte == b'\n').take(error.line().saturating_sub(1)).map(<[u8]>::len).sum();
        let byte = self.position() + (line_start + error.column().saturating_sub(1)) as u64;
        ParseError::NotJson { byte, place: self.place(), detail: plain(error) }
    }

    /// Reads on: moves what is not consumed to the front, grows when that is most of the buffer, and fills it.
    fn fill(&mut self) -> Result<(), ParseError> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.offset += self.start as u64;
        self.end -= self.start;
        self.start = 0;
        if self.end * 2 > self.buffer.len() {
            // The bytes that are there are one unfinished value.
            if self.end > MAX_VALUE_BYTES {
                return Err(self.too_large());
            }
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        while self.end < self.buffer.len() {
            match self.reader.read(&mut self.buffer[self.end..]) {
                Ok(0) => {
                    self.at_end = true;
                    break;
                }
                Ok(read) => self.end += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(ParseError::Read(error)),
            }
        }
        (self.progress)(self.offset + self.end as u64);
        Ok(())
    }
}

/// serde_json's words without its ` at line 1 column 2`, which counts from the wrong place.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}
