//! Parts of a file, as HTTP asks for them (RFC 9110, section 14).

use aegis_proto::evidence::v1::ByteRange;
use http::{
    HeaderMap,
    header::{IF_RANGE, RANGE},
};

/// The one part that is asked for; `None` where the whole file is the answer: there is no `Range`, it has another unit
/// or cannot be read, or it names several parts.
pub fn wanted(headers: &HeaderMap) -> Option<ByteRange> {
    let mut given = headers.get_all(RANGE).iter();
    let (Some(range), None) = (given.next(), given.next()) else { return None };
    let (unit, ranges) = range.to_str().ok()?.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    // Empty entries of a list count for nothing.
    let mut ranges = ranges.split(',').map(str::trim).filter(|range| !range.is_empty());
    let (Some(one), None) = (ranges.next(), ranges.next()) else { return None };
    let (first, last) = one.split_once('-')?;
    match (first.trim_end(), last.trim_start()) {
        ("", suffix) => Some(ByteRange { suffix: Some(number(suffix)?), ..ByteRange::default() }),
        (first, "") => Some(ByteRange { first: Some(number(first)?), ..ByteRange::default() }),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(ByteRange { first: Some(first), last: Some(last), suffix: None })
        }
    }
}

/// A number of any length; what no file reaches is the largest that there is.
fn number(digits: &str) -> Option<i64> {
    let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    all_digits.then(|| digits.parse().unwrap_or(i64::MAX))
}

/// Whether a part is wanted of this file only: `If-Range` names another, or a date, which files here have none of.
pub fn of_another(headers: &HeaderMap, etag: &str) -> bool {
    let mut given = headers.get_all(IF_RANGE).iter();
    match (given.next(), given.next()) {
        (None, _) => false,
        (Some(tag), None) => tag.as_bytes().trim_ascii() != etag.as_bytes(),
        (Some(_), Some(_)) => true,
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(name: HeaderName, values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_str(value).unwrap())).fold(
            HeaderMap::new(),
            |mut headers, (name, value)| {
                headers.append(name, value);
                headers
            },
        )
    }

    fn read(range: &str) -> Option<(Option<i64>, Option<i64>, Option<i64>)> {
        wanted(&headers(RANGE, &[range])).map(|range| (range.first, range.last, range.suffix))
    }

    #[test]
    fn one_part_is_read() {
        assert_eq!(read("bytes=0-0"), Some((Some(0), Some(0), None)));
        assert_eq!(read("bytes=5-9"), Some((Some(5), Some(9), None)));
        assert_eq!(read("Bytes= 5 - 9 "), Some((Some(5), Some(9), None)));
        assert_eq!(read("bytes=5-"), Some((Some(5), None, None)));
        assert_eq!(read("bytes=-5"), Some((None, None, Some(5))));
        assert_eq!(read("bytes=-0"), Some((None, None, Some(0))));
        assert_eq!(read("bytes=, 5-9,"), Some((Some(5), Some(9), None)));
        assert_eq!(read("bytes=0-99999999999999999999"), Some((Some(0), Some(i64::MAX), None)));
        assert_eq!(read("bytes=99999999999999999999-"), Some((Some(i64::MAX), None, None)));
    }

    #[test]
    fn all_else_is_the_whole_file() {
        for range in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=,",
            "bytes=5",
            "bytes=9-5",
            "bytes=a-b",
            "bytes=+1-2",
            "bytes=--5",
            "bytes=0x1-",
            "bytes=0-1,4-5",
            "lines=1-2",
            "0-1",
        ] {
            assert_eq!(read(range), None, "{range}");
        }
        assert_eq!(wanted(&HeaderMap::new()), None);
        assert_eq!(wanted(&headers(RANGE, &["bytes=0-1", "bytes=4-5"])), None);
    }

    #[test]
    fn a_part_of_another_file_is_of_no_use() {
        let of = |values: &[&str]| of_another(&headers(IF_RANGE, values), "\"ab\"");
        assert!(!of(&[]) && !of(&["\"ab\""]));
        assert!(of(&["\"cd\""]) && of(&["W/\"ab\""]) && of(&["Wed, 21 Oct 2015 07:28:00 GMT"]) && of(&["ab"]));
        assert!(of(&["\"ab\"", "\"ab\""]));
    }
}
