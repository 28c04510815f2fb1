//! Under which conditions a change is asked for: that the entity is still as the client read it, and that the same
//! request sent again changes nothing more.

use std::{fmt, str::FromStr};

use aegis_error::Failure;
use http::{HeaderMap, HeaderName};

/// The versions that an `If-Match` names, between the processes of the product: `*`, or numbers with commas between
/// them; none at all fits no entity. The gateway makes it of the client's header; other gRPC clients may send it.
pub const IF_MATCH_HEADER: &str = "x-aegis-if-match";
/// The `Idempotency-Key` of a change, between the processes of the product. Other gRPC clients may send it too.
pub const IDEMPOTENCY_KEY_HEADER: &str = "x-aegis-idempotency-key";

/// Versions that one `If-Match` may name.
pub const MAX_VERSIONS: usize = 64;
/// Longest `Idempotency-Key`, bytes.
const MAX_KEY: usize = 255;

/// Which versions of an entity may be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IfMatch {
    /// `*`: any that there is.
    Any,
    /// One of these.
    Versions(Vec<i64>),
}

/// Which requests are the same to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(String);

/// What a request asks besides what its message says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// The entity has one of these versions.
    pub if_match: Option<IfMatch>,
    /// It is to be done once.
    pub idempotency_key: Option<IdempotencyKey>,
}

impl IfMatch {
    /// Whether an entity of that version may be changed.
    pub fn allows(&self, version: i64) -> bool {
        match self {
            IfMatch::Any => true,
            IfMatch::Versions(versions) => versions.contains(&version),
        }
    }
}

impl fmt::Display for IfMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IfMatch::Any => f.write_str("*"),
            IfMatch::Versions(versions) => {
                for (i, version) in versions.iter().enumerate() {
                    write!(f, "{}{version}", if i == 0 { "" } else { "," })?;
                }
                Ok(())
            }
        }
    }
}

impl FromStr for IfMatch {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let problem = || {
            let problem = format!("must be * or at most {MAX_VERSIONS} version numbers with commas between them");
            Failure::invalid(IF_MATCH_HEADER, problem)
        };
        let text = text.trim();
        if text == "*" {
            return Ok(IfMatch::Any);
        }
        let versions = text.split(',').map(str::trim).filter(|text| !text.is_empty());
        let versions = versions.take(MAX_VERSIONS + 1).map(str::parse).collect::<Result<Vec<i64>, _>>();
        match versions {
            Ok(versions) if versions.len() <= MAX_VERSIONS => Ok(IfMatch::Versions(versions)),
            _ => Err(problem()),
        }
    }
}

impl IdempotencyKey {
    /// The key, if it is one; else what is wrong with it.
    pub fn new(text: &[u8]) -> Result<Self, &'static str> {
        let visible = (1..=MAX_KEY).contains(&text.len()) && text.iter().all(u8::is_ascii_graphic);
        match String::from_utf8(text.to_vec()) {
            Ok(text) if visible => Ok(IdempotencyKey(text)),
            _ => Err("must have 1 to 255 visible ASCII characters"),
        }
    }

    /// As the client wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Conditions {
    /// From the metadata of a gRPC request.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Result<Self, Failure> {
        let if_match = match single(headers, IF_MATCH_HEADER)? {
            Some(value) => Some(
                std::str::from_utf8(value).map_err(|_| Failure::invalid(IF_MATCH_HEADER, "must be ASCII"))?.parse()?,
            ),
            None => None,
        };
        let key = single(headers, IDEMPOTENCY_KEY_HEADER)?.map(IdempotencyKey::new).transpose();
        let idempotency_key = key.map_err(|problem| Failure::invalid(IDEMPOTENCY_KEY_HEADER, problem))?;
        Ok(Conditions { if_match, idempotency_key })
    }

    /// As metadata of a gRPC request.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&'static str, String)> {
        let if_match = self.if_match.as_ref().map(|versions| (IF_MATCH_HEADER, versions.to_string()));
        let key = self.idempotency_key.as_ref().map(|key| (IDEMPOTENCY_KEY_HEADER, key.0.clone()));
        if_match.into_iter().chain(key)
    }
}

fn single<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a [u8]>, Failure> {
    let mut values = headers.get_all(HeaderName::from_static(name)).iter();
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(Failure::invalid(name, "is given twice")),
        (value, None) => Ok(value.map(|value| value.as_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_survive_the_wire_and_nonsense_does_not() {
        for versions in [IfMatch::Any, IfMatch::Versions(vec![3]), IfMatch::Versions(vec![0, 7, 7]), none()] {
            assert_eq!(versions.to_string().parse::<IfMatch>().unwrap(), versions);
        }
        assert!(IfMatch::Any.allows(9) && !none().allows(0));
        let many = vec!["1"; MAX_VERSIONS + 1].join(",");
        for bad in ["x", "1;2", "1,*", "9999999999999999999999", &many] {
            assert_eq!(bad.parse::<IfMatch>().unwrap_err().fields()[0].field, IF_MATCH_HEADER, "{bad}");
        }
    }

    fn none() -> IfMatch {
        IfMatch::Versions(Vec::new())
    }

    #[test]
    fn keys_are_visible_and_short() {
        assert_eq!(IdempotencyKey::new(b"a-1_\"~").unwrap().as_str(), "a-1_\"~");
        assert!(IdempotencyKey::new(&[b'k'; MAX_KEY]).is_ok());
        for bad in [&b""[..], b"a b", b"a\tb", b"\x7f", "\u{e9}".as_bytes(), &[b'k'; MAX_KEY + 1]] {
            assert!(IdempotencyKey::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_condition_comes_once() {
        let mut headers = HeaderMap::new();
        headers.append(IDEMPOTENCY_KEY_HEADER, "k".parse().unwrap());
        let read = Conditions::from_headers(&headers).unwrap();
        assert_eq!(read.idempotency_key.as_ref().map(IdempotencyKey::as_str), Some("k"));
        assert_eq!(read.if_match, None);
        headers.append(IDEMPOTENCY_KEY_HEADER, "l".parse().unwrap());
        assert!(Conditions::from_headers(&headers).is_err());
    }
}
