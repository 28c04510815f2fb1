//! Statements that are prepared, bound and executed.

use super::*;

impl Client<'_> {
    pub(super) async fn extended<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &mut self,
        messages: &mut Messages<S>,
        kind: u8,
        body: &[u8],
    ) -> io::Result<Result<(), Refusal>> {
        let malformed = || broken("extended query");
        let mut bytes = Bytes(body);
        match kind {
            b'P' => {
                let name = text(bytes.until_zero().ok_or_else(malformed)?);
                let query = String::from_utf8_lossy(bytes.until_zero().ok_or_else(malformed)?).into_owned();
                let count = usize::from(bytes.be16().unwrap_or(0));
                let mut types = Vec::new();
                for _ in 0..count {
                    types.push(bytes.be32().ok_or_else(malformed)?);
                }
                if sql::split(&query, Dialect::Postgres).len() > 1 {
                    return Ok(Err(Refusal::new("42601", "cannot insert multiple commands into a prepared statement")
                        .at("tcop", "postgres.c", "1458", "exec_parse_message")));
                }
                if self.statements.len() >= MOST_PREPARED {
                    self.statements.clear();
                }
                self.statements.insert(name, Prepared { text: query, types });
                messages.put(b'1', &[]);
            }
            b'B' => {
                let portal = text(bytes.until_zero().ok_or_else(malformed)?);
                let name = text(bytes.until_zero().ok_or_else(malformed)?);
                let Some(prepared) = self.statements.get(&name) else {
                    return Ok(Err(Refusal::new("26000", format!("prepared statement \"{name}\" does not exist")).at(
                        "commands",
                        "prepare.c",
                        "454",
                        "FetchPreparedStatement",
                    )));
                };
                let mut formats = Vec::new();
                for _ in 0..bytes.be16().ok_or_else(malformed)? {
                    formats.push(bytes.be16().ok_or_else(malformed)?);
                }
                let mut values = Vec::new();
                for at in 0..usize::from(bytes.be16().ok_or_else(malformed)?) {
                    let length = bytes.be32().ok_or_else(malformed)?;
                    if length == u32::MAX {
                        values.push("NULL".to_owned());
                        continue;
                    }
                    let value = bytes.take(usize::try_from(length).map_err(io::Error::other)?).ok_or_else(malformed)?;
                    let binary = super::super::wire::is_binary(&formats, at);
                    values.push(parameter(value, binary, prepared.types.get(at).copied().unwrap_or(0)));
                }
                let mut results = Vec::new();
                for _ in 0..bytes.be16().unwrap_or(0) {
                    results.push(bytes.be16().ok_or_else(malformed)?);
                }
                let bound = bound(&prepared.text, &values);
                if self.portals.len() >= MOST_PREPARED {
                    self.portals.clear();
                }
                self.portals.insert(portal, Portal { text: bound, formats: results, done: None });
                messages.put(b'2', &[]);
            }
            b'D' => {
                let what = bytes.byte().ok_or_else(malformed)?;
                let name = text(bytes.until_zero().ok_or_else(malformed)?);
                if what == b'S' {
                    return self.describe(messages, &name).await;
                }
                let Some(mut portal) = self.portals.remove(&name) else {
                    return Ok(Err(Refusal::new("34000", format!("portal \"{name}\" does not exist"))));
                };
                if portal.done.is_none() {
                    match self.statement(&portal.text).await {
                        Ok(answer) => portal.done = Some(answer),
                        Err(refused) => return Ok(Err(refused)),
                    }
                }
                match &portal.done {
                    Some(Answer::Rows(rows, _)) => messages.put(b'T', &description(&rows.cols, &portal.formats)),
                    _ => messages.put(b'n', &[]),
                }
                self.portals.insert(name, portal);
            }
            b'E' => {
                let name = text(bytes.until_zero().ok_or_else(malformed)?);
                let Some(portal) = self.portals.remove(&name) else {
                    return Ok(Err(Refusal::new("34000", format!("portal \"{name}\" does not exist"))));
                };
                let answer = match portal.done {
                    Some(answer) => answer,
                    None => match self.statement(&portal.text).await {
                        Ok(answer) => answer,
                        Err(refused) => return Ok(Err(refused)),
                    },
                };
                self.answer(messages, answer, Some(&portal.formats), false).await?;
            }
            _ => {
                let what = bytes.byte().ok_or_else(malformed)?;
                let name = text(bytes.until_zero().ok_or_else(malformed)?);
                if what == b'S' {
                    self.statements.remove(&name);
                } else {
                    self.portals.remove(&name);
                }
                messages.put(b'3', &[]);
            }
        }
        Ok(Ok(()))
    }

    /// What a statement takes and gives, before it has values: a query is tried with nothing in their places.
    async fn describe<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &mut self,
        messages: &mut Messages<S>,
        name: &str,
    ) -> io::Result<Result<(), Refusal>> {
        let Some(prepared) = self.statements.get(name) else {
            return Ok(Err(Refusal::new("26000", format!("prepared statement \"{name}\" does not exist"))));
        };
        let count = places(&prepared.text).into_iter().map(|(_, _, number)| number).max().unwrap_or(0).min(256);
        let mut types = u16::try_from(count).unwrap_or(0).to_be_bytes().to_vec();
        for at in 0..count {
            let known = prepared.types.get(at).copied().filter(|known| *known != 0);
            types.extend(known.unwrap_or(25).to_be_bytes());
        }
        let tried = bound(&prepared.text, &vec!["NULL".to_owned(); count]);
        let query = sql::words(&tried, 1)
            .first()
            .is_some_and(|word| matches!(word.as_str(), "select" | "show" | "values" | "with" | "table"));
        let rows = if query { self.perform(&tried).await } else { Ok(Answer::Empty) };
        match rows {
            Err(refused) => return Ok(Err(refused)),
            Ok(Answer::Rows(rows, _)) => {
                messages.put(b't', &types);
                messages.put(b'T', &description(&rows.cols, &[]));
            }
            Ok(_) => {
                messages.put(b't', &types);
                messages.put(b'n', &[]);
            }
        }
        Ok(Ok(()))
    }
}

pub(super) fn parameter(value: &[u8], binary: bool, kind: u32) -> String {
    if binary {
        let number = match (kind, value) {
            (16, [truth]) => return if *truth == 0 { "false" } else { "true" }.to_owned(),
            (21 | 23 | 20 | 26, bytes) if bytes.len() <= 8 => {
                let negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
                bytes.iter().fold(if negative { -1_i64 } else { 0 }, |number, byte| number << 8 | i64::from(*byte))
            }
            (701, bytes) => match bytes.try_into() {
                Ok(bytes) => return f64::from_be_bytes(bytes).to_string(),
                Err(_) => 0,
            },
            _ => return quoted(value),
        };
        return number.to_string();
    }
    quoted(value)
}

fn quoted(value: &[u8]) -> String {
    match std::str::from_utf8(value) {
        Ok(text) => format!("'{}'", text.replace('\'', "''")),
        Err(_) => format!("'\\x{}'", hex::encode(value)),
    }
}

/// Where the `$1` of a statement are: begin, end and number.
fn places(text: &str) -> Vec<(usize, usize, usize)> {
    let (mut found, mut quote) = (Vec::new(), None);
    let mut bytes = text.bytes().enumerate().peekable();
    while let Some((at, byte)) = bytes.next() {
        match (byte, quote) {
            (b'\'' | b'"', None) => quote = Some(byte),
            (byte, Some(open)) if byte == open => quote = None,
            (b'$', None) => {
                let (mut number, mut end) = (0_usize, at + 1);
                while let Some((_, digit @ b'0'..=b'9')) = bytes.peek() {
                    number = number.saturating_mul(10).saturating_add(usize::from(digit - b'0'));
                    end += 1;
                    bytes.next();
                }
                if number > 0 {
                    found.push((at, end, number));
                }
            }
            _ => {}
        }
    }
    found
}

pub(super) fn bound(text: &str, values: &[String]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for (begin, end, number) in places(text) {
        out.push_str(text.get(from..begin).unwrap_or(""));
        out.push_str(values.get(number - 1).map_or("NULL", String::as_str));
        from = end;
        if out.len() > LONGEST {
            break;
        }
    }
    out.push_str(text.get(from..).unwrap_or(""));
    out
}
