//! Prepared statements: their parameters come to their places as texts.

use super::*;

impl Client<'_> {
    pub(super) async fn prepare<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        packets: &mut Packets<S>,
        query: &str,
    ) -> io::Result<()> {
        let parameters = places(query).len();
        if self.prepared.len() >= MOST_PREPARED || parameters > MOST_PARAMETERS {
            let full = Refusal::new(
                1461,
                "42000",
                "Can't create more than max_prepared_stmt_count statements (current value: 16382)",
            );
            return packets.write(&full.packet()).await;
        }
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        let mut out = vec![0];
        out.extend(id.to_le_bytes());
        out.extend([0, 0]);
        out.extend(u16::try_from(parameters).unwrap_or(0).to_le_bytes());
        out.extend([0, 0, 0]);
        packets.write(&out).await?;
        if parameters > 0 {
            for _ in 0..parameters {
                let col = sql::Col::new("?", Kind::Varchar);
                packets.write(&results::column(&col, "", self.manner)).await?;
            }
            if self.manner.wants & can::DEPRECATE_EOF == 0 {
                packets.write(&results::eof(self.manner)).await?;
            }
        }
        let prepared = Prepared { text: query.to_owned(), parameters, long: BTreeMap::new(), types: Vec::new() };
        self.prepared.insert(id, prepared);
        Ok(())
    }

    pub(super) async fn execute<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &mut self,
        packets: &mut Packets<S>,
        mut bytes: Bytes<'_>,
    ) -> io::Result<()> {
        let id = bytes.le32().ok_or_else(|| broken("execute"))?;
        let Some(prepared) = self.prepared.get_mut(&id) else {
            let unknown = Refusal::new(
                1243,
                "HY000",
                format!("Unknown prepared statement handler ({id}) given to mysqld_stmt_execute"),
            );
            return packets.write(&unknown.packet()).await;
        };
        bytes.take(5).ok_or_else(|| broken("execute"))?;
        let Some(statement) = prepared.bound(&mut bytes) else {
            let wrong = Refusal::new(1210, "HY000", "Incorrect arguments to mysqld_stmt_execute");
            return packets.write(&wrong.packet()).await;
        };
        let answer = self.statement(&statement).await;
        self.manner.binary = true;
        let done = self.answer(packets, answer).await;
        self.manner.binary = false;
        done
    }
}

impl Prepared {
    /// The statement with its parameters in their places.
    pub(super) fn bound(&mut self, bytes: &mut Bytes<'_>) -> Option<String> {
        let mut values = Vec::with_capacity(self.parameters);
        if self.parameters > 0 {
            let nulls = bytes.take(self.parameters.div_ceil(8))?;
            if bytes.byte()? == 1 {
                self.types.clear();
                for _ in 0..self.parameters {
                    let [kind, flags] = bytes.array()?;
                    self.types.push((kind, flags));
                }
            }
            for at in 0..self.parameters {
                let (kind, flags) = *self.types.get(at)?;
                if nulls.get(at / 8)? & (1 << (at % 8)) != 0 {
                    values.push("NULL".to_owned());
                } else if let Some(long) = self.long.get(&at) {
                    values.push(quoted(long));
                } else {
                    values.push(parameter(bytes, kind, flags & 0x80 != 0)?);
                }
            }
        }
        let mut out = String::with_capacity(self.text.len());
        let mut from = 0;
        for (place, value) in places(&self.text).into_iter().zip(values) {
            out.push_str(self.text.get(from..place)?);
            out.push_str(&value);
            from = place + 1;
        }
        out.push_str(self.text.get(from..)?);
        self.long.clear();
        Some(out)
    }
}

fn quoted(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")),
        Err(_) => format!("x'{}'", hex::encode(bytes)),
    }
}

fn parameter(bytes: &mut Bytes<'_>, kind: u8, unsigned: bool) -> Option<String> {
    Some(match kind {
        1 => {
            let byte = bytes.byte()?;
            if unsigned { byte.to_string() } else { byte.cast_signed().to_string() }
        }
        2 | 13 => {
            let short = bytes.le16()?;
            if unsigned { short.to_string() } else { short.cast_signed().to_string() }
        }
        3 | 9 => {
            let int = bytes.le32()?;
            if unsigned { int.to_string() } else { int.cast_signed().to_string() }
        }
        4 => f32::from_le_bytes(bytes.array()?).to_string(),
        5 => f64::from_le_bytes(bytes.array()?).to_string(),
        6 => "NULL".to_owned(),
        8 => {
            let long = u64::from_le_bytes(bytes.array()?);
            if unsigned { long.to_string() } else { long.cast_signed().to_string() }
        }
        7 | 10 | 12 => {
            let length = bytes.byte()?;
            let mut of = Bytes(bytes.take(usize::from(length))?);
            let (year, month, day) = (of.le16().unwrap_or(0), of.byte().unwrap_or(0), of.byte().unwrap_or(0));
            let (hour, minute, second) = (of.byte().unwrap_or(0), of.byte().unwrap_or(0), of.byte().unwrap_or(0));
            format!("'{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}'")
        }
        _ => quoted(sized(bytes)?),
    })
}

/// Where the `?` of a statement are.
fn places(text: &str) -> Vec<usize> {
    let (mut found, mut quote, mut escaped) = (Vec::new(), None, false);
    for (at, byte) in text.bytes().enumerate() {
        match (byte, quote) {
            _ if escaped => escaped = false,
            (b'\\', Some(_)) => escaped = true,
            (b'\'' | b'"' | b'`', None) => quote = Some(byte),
            (byte, Some(open)) if byte == open => quote = None,
            (b'?', None) => found.push(at),
            _ => {}
        }
    }
    found
}
