//! The encoding of LDAP and SNMP: a tag, a length, a value.

use super::wire::Bytes;

/// How deep values may nest.
pub(super) const DEEPEST: usize = 16;

/// A value as it came: its tag and its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) value: &'a [u8],
}

/// The length after a tag; none when it is of no such length.
pub(super) fn length(bytes: &mut Bytes<'_>) -> Option<usize> {
    let first = bytes.byte()?;
    if first & 0x80 == 0 {
        return Some(usize::from(first));
    }
    let count = usize::from(first & 0x7f);
    if count == 0 || count > 4 {
        return None;
    }
    let digits = bytes.take(count)?;
    Some(digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)))
}

/// The next value.
pub(super) fn next<'a>(bytes: &mut Bytes<'a>) -> Option<Element<'a>> {
    let tag = bytes.byte()?;
    let length = length(bytes)?;
    Some(Element { tag, value: bytes.take(length)? })
}

/// The next value, which must have that tag.
pub(super) fn expect<'a>(bytes: &mut Bytes<'a>, tag: u8) -> Option<&'a [u8]> {
    next(bytes).filter(|element| element.tag == tag).map(|element| element.value)
}

/// A whole number.
pub(super) fn int(value: &[u8]) -> Option<i64> {
    if value.is_empty() || value.len() > 8 {
        return None;
    }
    let negative = value.first().is_some_and(|first| first & 0x80 != 0);
    Some(value.iter().fold(if negative { -1 } else { 0 }, |number: i64, digit| number << 8 | i64::from(*digit)))
}

/// A value with its tag and length.
pub(super) fn put(out: &mut Vec<u8>, tag: u8, value: &[u8]) {
    out.push(tag);
    match value.len() {
        short @ 0..0x80 => out.extend(u8::try_from(short)),
        long => {
            let digits = u32::try_from(long).unwrap_or(0).to_be_bytes();
            let digits: Vec<u8> = digits.into_iter().skip_while(|digit| *digit == 0).collect();
            out.push(0x80 | u8::try_from(digits.len()).unwrap_or(4));
            out.extend(digits);
        }
    }
    out.extend_from_slice(value);
}

/// Values inside one.
pub(super) fn nested(tag: u8, inner: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(inner.len() + 6);
    put(&mut out, tag, inner);
    out
}

/// A whole number in as few bytes as it needs.
pub(super) fn put_int(out: &mut Vec<u8>, tag: u8, number: i64) {
    let bytes = number.to_be_bytes();
    let mut digits = bytes.as_slice();
    while let [first, second, ..] = digits {
        let spare = (*first == 0 && second & 0x80 == 0) || (*first == 0xff && second & 0x80 != 0);
        if !spare {
            break;
        }
        digits = digits.get(1..).unwrap_or_default();
    }
    put(out, tag, digits);
}

/// A number without a sign.
pub(super) fn put_unsigned(out: &mut Vec<u8>, tag: u8, number: u64) {
    match i64::try_from(number) {
        Ok(number) => put_int(out, tag, number),
        Err(_) => {
            let mut digits = vec![0];
            digits.extend(number.to_be_bytes());
            put(out, tag, &digits);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for number in [0, 1, -1, 127, 128, -128, -129, 65_536, i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            put_int(&mut out, 2, number);
            assert_eq!(int(expect(&mut Bytes(&out), 2).unwrap()), Some(number));
        }
        for size in [0, 127, 128, 255, 256, 70_000] {
            let value = vec![7; size];
            assert_eq!(expect(&mut Bytes(&nested(4, &value)), 4), Some(value.as_slice()));
        }
    }

    #[test]
    fn lengths_are_not_believed() {
        assert!(next(&mut Bytes(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 1])).is_none());
        assert!(next(&mut Bytes(&[0x30, 0x80])).is_none());
        assert!(next(&mut Bytes(&[0x30, 0x85, 0, 0, 0, 0, 1, 1])).is_none());
        assert!(int(&[]).is_none());
    }
}
