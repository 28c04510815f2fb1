//! Packets of MQTT, versions 3.1, 3.1.1 and 5.

use crate::decoys::wire::{Bytes, text};

/// The longest packet that is taken.
pub(super) const LONGEST: usize = 256 << 10;

/// A packet: its first byte and what follows its length.
pub(super) struct Packet {
    pub(super) head: u8,
    pub(super) body: Vec<u8>,
}

/// The packet at the beginning of what came and how long it is; nothing when it is not whole; an error when it is none.
pub(super) fn first(bytes: &[u8]) -> Result<Option<(Packet, usize)>, ()> {
    let mut left = Bytes(bytes);
    let Some(head) = left.byte() else { return Ok(None) };
    let (mut length, mut shift) = (0_usize, 0);
    loop {
        let Some(digit) = left.byte() else { return Ok(None) };
        length |= usize::from(digit & 0x7f) << shift;
        if digit & 0x80 == 0 {
            break;
        }
        shift += 7;
        if shift > 21 {
            return Err(());
        }
    }
    if length > LONGEST {
        return Err(());
    }
    let used = bytes.len() - left.0.len();
    Ok(left.take(length).map(|body| (Packet { head, body: body.to_vec() }, used + length)))
}

/// A packet as bytes.
pub(super) fn packet(head: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![head];
    put_number(&mut out, body.len());
    out.extend_from_slice(body);
    out
}

/// A number in one to four bytes.
pub(super) fn put_number(out: &mut Vec<u8>, mut number: usize) {
    loop {
        let digit = u8::try_from(number & 0x7f).unwrap_or(0);
        number >>= 7;
        out.push(if number > 0 { digit | 0x80 } else { digit });
        if number == 0 {
            return;
        }
    }
}

/// Bytes with their length.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.extend(length.to_be_bytes());
    out.extend(bytes.iter().take(usize::from(length)));
}

/// Bytes with their length.
pub(super) fn sized<'a>(bytes: &mut Bytes<'a>) -> Option<&'a [u8]> {
    let length = bytes.be16()?;
    bytes.take(usize::from(length))
}

/// The properties of version 5, which are stepped over.
pub(super) fn properties(bytes: &mut Bytes<'_>, version: u8) -> Option<()> {
    if version != 5 {
        return Some(());
    }
    let (mut length, mut shift) = (0_usize, 0);
    loop {
        let digit = bytes.byte()?;
        length |= usize::from(digit & 0x7f) << shift;
        shift += 7;
        if digit & 0x80 == 0 {
            break;
        }
        if shift > 21 {
            return None;
        }
    }
    bytes.take(length).map(|_| ())
}

/// What a client says of itself.
#[derive(Debug, Default)]
pub(super) struct Connect {
    pub(super) name: String,
    pub(super) version: u8,
    pub(super) clean: bool,
    pub(super) client: String,
    pub(super) will: Option<(String, Vec<u8>, bool)>,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
}

/// The first packet of a client.
pub(super) fn connect(body: &[u8]) -> Option<Connect> {
    let mut bytes = Bytes(body);
    let name = text(sized(&mut bytes)?);
    let version = bytes.byte()? & 0x7f;
    let flags = bytes.byte()?;
    bytes.be16()?;
    let mut connect = Connect { name, version, clean: flags & 2 != 0, ..Connect::default() };
    if !matches!(version, 3..=5) {
        return Some(connect);
    }
    properties(&mut bytes, version)?;
    connect.client = text(sized(&mut bytes)?);
    if flags & 4 != 0 {
        properties(&mut bytes, version)?;
        let topic = text(sized(&mut bytes)?);
        connect.will = Some((topic, sized(&mut bytes)?.to_vec(), flags & 0x20 != 0));
    }
    if flags & 0x80 != 0 {
        connect.user = Some(text(sized(&mut bytes)?));
    }
    if flags & 0x40 != 0 {
        connect.password = Some(text(sized(&mut bytes)?));
    }
    Some(connect)
}

/// Whether a topic fits a filter with `+` and `#`.
pub(super) fn fits(topic: &str, filter: &str) -> bool {
    if topic.starts_with('$') != filter.starts_with('$') {
        return false;
    }
    let (mut levels, mut wanted) = (topic.split('/'), filter.split('/'));
    loop {
        match (levels.next(), wanted.next()) {
            (_, Some("#")) | (None, None) => return true,
            (Some(_), Some("+")) => {}
            (Some(level), Some(want)) if level == want => {}
            _ => return false,
        }
    }
}

/// Whether a filter is one.
pub(super) fn is_filter(filter: &str) -> bool {
    let levels: Vec<&str> = filter.split('/').collect();
    let last = levels.len().saturating_sub(1);
    !filter.is_empty()
        && levels.iter().enumerate().all(|(at, level)| match *level {
            "#" => at == last,
            "+" => true,
            other => !other.contains(['#', '+']),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_there_and_back() {
        for size in [0, 1, 127, 128, 20_000] {
            let out = packet(0x30, &vec![7; size]);
            let (found, used) = first(&out).unwrap().unwrap();
            assert_eq!((found.body.len(), used), (size, out.len()));
            assert!(first(&out[..out.len() - 1]).unwrap().is_none());
        }
        assert!(first(&[0x10, 0xff, 0xff, 0xff, 0xff, 1]).is_err());
        assert!(first(&[0x10, 0xff, 0xff, 0xff, 0x7f]).is_err());
    }

    #[test]
    fn filters() {
        assert!(fits("a/b/c", "a/#") && fits("a", "a/#") && fits("a/b", "+/b") && fits("$SYS/x", "$SYS/#"));
        assert!(!fits("$SYS/x", "#") && !fits("a/b", "a") && !fits("a", "a/+"));
        assert!(is_filter("a/+/#") && !is_filter("a/#/b") && !is_filter("a+") && !is_filter(""));
    }
}
