//! Conditional and repeated requests: `ETag`, `If-Match`, `If-None-Match`, `Idempotency-Key`. One rule for all routes.
//!
//! The tag of an entity is `"<version>-<hash>"`: the version is its row's, which a change is checked against; the
//! hash is of the whole body, so that what else is shown there counts for `If-None-Match`.

use aegis_auth::{Conditions, IdempotencyKey, IfMatch, MAX_VERSIONS};
use aegis_error::Failure;
use axum::response::Response;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{
        CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH, TRANSFER_ENCODING,
    },
};
use sha2::{Digest, Sha256};

use crate::routes;

/// Which requests are one to the client.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Longest list of tags, bytes.
const MAX_TAGS: usize = 4096;
/// Bytes of the hash that a tag shows.
const HASH: usize = 8;
/// The moves of an entity: POSTs that change one as a PATCH does, and take `If-Match` as one.
const MOVES: &[&str] = &[
    "/api/v1/tests/{id}/start-execution",
    "/api/v1/tests/{id}/submit-red",
    "/api/v1/tests/{id}/submit-blue",
    "/api/v1/tests/{id}/reopen",
    "/api/v1/tests/{id}/validate-red",
    "/api/v1/tests/{id}/validate-blue",
    "/api/v1/tests/{id}/validate",
    "/api/v1/tests/{id}/reject",
    "/api/v1/test-templates/{id}/toggle-active",
    "/api/v1/data-sources/{id}/sync",
    routes::MUTATE,
];
/// What a DELETE takes away that is no entity.
const NO_ENTITY: &[&str] = &[routes::REINIT];
/// What there is one of, for a caller or for all.
const SINGLE: &[&str] =
    &["/api/v1/auth/me", "/api/v1/config", "/api/v1/notifications/preferences", "/api/v1/scores/config"];

/// Whether an operation changes one entity, so that `If-Match` says something.
pub fn takes_if_match(method: &Method, route: &str) -> bool {
    match *method {
        Method::PATCH | Method::PUT | Method::DELETE => !NO_ENTITY.contains(&route),
        Method::POST => MOVES.contains(&route),
        _ => false,
    }
}

/// Whether an operation reads one entity, so that its answer has a tag.
pub fn reads_one(method: &Method, route: &str) -> bool {
    *method == Method::GET && (route.ends_with('}') || SINGLE.contains(&route))
}

/// What a request asks besides its path, query and body.
pub fn of(method: &Method, route: &str, headers: &HeaderMap) -> Result<Conditions, Failure> {
    if method.is_safe() {
        return Ok(Conditions::default());
    }
    let if_match = match joined(headers, &IF_MATCH) {
        None => None,
        Some(_) if !takes_if_match(method, route) => {
            let problem = "is taken where one entity is changed; this operation makes a new one or is about several";
            return Err(Failure::invalid("If-Match", problem));
        }
        Some(text) => match tags(&text) {
            Some(tags) => Some(versions(&tags)),
            None => {
                let problem = format!(
                    "must be * or ETags with commas between them, such as \"3-9f86d081884c7d65\"; \
                     at most {MAX_VERSIONS} of them"
                );
                return Err(Failure::invalid("If-Match", problem));
            }
        },
    };
    let idempotency_key = if *method == Method::POST { key(headers)? } else { None };
    Ok(Conditions { if_match, idempotency_key })
}

fn key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Failure> {
    let mut given = headers.get_all(&IDEMPOTENCY_KEY).iter();
    let key = match (given.next(), given.next()) {
        (None, _) => return Ok(None),
        (Some(key), None) => IdempotencyKey::new(key.as_bytes()),
        (Some(_), Some(_)) => Err("is given twice"),
    };
    key.map(Some).map_err(|problem| Failure::invalid("Idempotency-Key", problem))
}

/// The tag of an entity of that version that is shown in these bytes.
pub fn etag(version: i64, body: &[u8]) -> HeaderValue {
    let hash = Sha256::digest(body);
    let tag = format!("\"{version}-{}\"", hex::encode(&hash[..HASH]));
    // Digits, letters and a minus.
    HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("\"0\""))
}

/// What the client of a GET has already.
#[derive(Debug, Default)]
pub struct Known(Option<Tags>);

impl Known {
    /// A list that cannot be read is no reason to withhold anything.
    pub fn of(method: &Method, headers: &HeaderMap) -> Known {
        match *method {
            Method::GET | Method::HEAD => Known(joined(headers, &IF_NONE_MATCH).and_then(|text| tags(&text))),
            _ => Known(None),
        }
    }

    /// The answer, or that the client has it.
    pub fn answer(self, response: Response) -> Response {
        let read = matches!(response.status(), StatusCode::OK | StatusCode::PARTIAL_CONTENT);
        let Some(tags) = self.0.filter(|_| read) else { return response };
        let Some(etag) = response.headers().get(ETAG) else { return response };
        let has = match tags {
            Tags::Any => true,
            // The bytes that follow decide, weak or not.
            Tags::Listed(tags) => tags.iter().any(|tag| tag.opaque.as_slice() == etag.as_bytes().trim_ascii()),
        };
        if !has {
            return response;
        }
        let (mut head, _) = response.into_parts();
        head.status = StatusCode::NOT_MODIFIED;
        for name in [CONTENT_TYPE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_ENCODING, TRANSFER_ENCODING] {
            head.headers.remove(name);
        }
        Response::from_parts(head, axum::body::Body::empty())
    }
}

/// A list of tags, as RFC 9110 has it.
#[derive(Debug, PartialEq, Eq)]
enum Tags {
    Any,
    Listed(Vec<Tag>),
}

#[derive(Debug, PartialEq, Eq)]
struct Tag {
    weak: bool,
    /// With its quotes.
    opaque: Vec<u8>,
}

/// The header's lines as one.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<u8>> {
    let lines: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    (!lines.is_empty()).then(|| lines.join(&b", "[..]))
}

fn tags(text: &[u8]) -> Option<Tags> {
    let mut rest = text.trim_ascii();
    if rest == b"*" {
        return Some(Tags::Any);
    }
    if rest.len() > MAX_TAGS {
        return None;
    }
    let mut tags = Vec::new();
    loop {
        // Empty entries count for nothing.
        while let Some(after) = rest.strip_prefix(b",") {
            rest = after.trim_ascii_start();
        }
        if rest.is_empty() {
            break;
        }
        let (weak, quoted) = match rest.strip_prefix(b"W/") {
            Some(quoted) => (true, quoted),
            None => (false, rest),
        };
        let inner = quoted.strip_prefix(b"\"")?;
        let end = inner.iter().position(|byte| *byte == b'"')?;
        if inner[..end].iter().any(|byte| *byte <= b' ' || *byte == 0x7f) || tags.len() == MAX_VERSIONS {
            return None;
        }
        tags.push(Tag { weak, opaque: quoted[..end + 2].to_vec() });
        rest = quoted[end + 2..].trim_ascii_start();
        if !rest.is_empty() && !rest.starts_with(b",") {
            return None;
        }
    }
    (!tags.is_empty()).then_some(Tags::Listed(tags))
}

/// The versions that tags stand for. A weak tag, or one that is none of ours, fits nothing.
fn versions(tags: &Tags) -> IfMatch {
    let Tags::Listed(tags) = tags else { return IfMatch::Any };
    IfMatch::Versions(tags.iter().filter(|tag| !tag.weak).filter_map(|tag| version(&tag.opaque)).collect())
}

fn version(opaque: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(opaque).ok()?.trim_matches('"');
    let (version, hash) = text.split_once('-')?;
    let ours = hash.len() == 2 * HASH && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    let digits = version.bytes().all(|byte| byte.is_ascii_digit());
    version.parse().ok().filter(|_| ours && digits)
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, response::IntoResponse};

    use super::*;

    const MOVE: &str = "/api/v1/tests/{id}/reopen";

    fn headers(name: HeaderName, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    fn if_match(values: &[&str]) -> Result<Option<IfMatch>, Failure> {
        of(&Method::PATCH, "/x", &headers(IF_MATCH, values)).map(|conditions| conditions.if_match)
    }

    fn allowed(versions: &[i64]) -> Option<IfMatch> {
        Some(IfMatch::Versions(versions.to_vec()))
    }

    #[test]
    fn tags_are_read_as_the_rfc_writes_them() {
        let ours = etag(7, b"{}");
        assert_eq!(ours, "\"7-44136fa355b3678a\"");
        let ours = ours.to_str().unwrap();
        assert_eq!(if_match(&[ours]).unwrap(), allowed(&[7]));
        assert_eq!(if_match(&["*"]).unwrap(), Some(IfMatch::Any));
        assert_eq!(if_match(&[&format!(" {ours} ,{}", ours.replace('7', "8"))]).unwrap(), allowed(&[7, 8]));
        assert_eq!(if_match(&[&format!(", {ours},,")]).unwrap(), allowed(&[7]));
        assert_eq!(if_match(&[ours, "\"3-0123456789abcdef\""]).unwrap(), allowed(&[7, 3]));
        assert_eq!(if_match(&[]).unwrap(), None);
        // What cannot be an entity of ours fits none; a weak tag never does.
        for strange in [
            "\"\"",
            "\"a,b\"",
            "\"7\"",
            "\"-7-44136fa355b3678a\"",
            "\"+7-44136fa355b3678a\"",
            "W/\"7-44136fa355b3678a\"",
        ] {
            assert_eq!(if_match(&[strange]).unwrap(), allowed(&[]), "{strange}");
        }
    }

    #[test]
    fn what_is_no_list_of_tags_is_refused_by_name() {
        let long = format!("\"{}\"", "x".repeat(MAX_TAGS));
        let many = vec!["\"1-44136fa355b3678a\""; MAX_VERSIONS + 1].join(",");
        for bad in ["", "7", "\"7", "7\"", "\"7\" \"8\"", ",", "*,\"7\"", "w/\"7\"", "\"a b\"", &long, &many] {
            let failure = if_match(&[bad]).unwrap_err();
            assert_eq!(failure.fields()[0].field, "If-Match", "{bad}");
        }
    }

    #[test]
    fn conditions_are_taken_where_they_mean_something() {
        let tagged = headers(IF_MATCH, &["*"]);
        assert!(of(&Method::POST, MOVE, &tagged).unwrap().if_match.is_some());
        assert!(of(&Method::DELETE, "/api/v1/users/{id}", &tagged).unwrap().if_match.is_some());
        assert!(of(&Method::GET, "/api/v1/users/{id}", &tagged).unwrap().if_match.is_none());
        let refused = of(&Method::POST, "/api/v1/tests", &tagged).unwrap_err();
        assert_eq!(refused.fields()[0].field, "If-Match");

        let keyed = headers(IDEMPOTENCY_KEY, &["a1"]);
        assert!(of(&Method::POST, "/x", &keyed).unwrap().idempotency_key.is_some());
        assert!(of(&Method::PATCH, "/x", &keyed).unwrap().idempotency_key.is_none());
        for bad in [&["a b"][..], &[""], &["é"], &["a", "b"]] {
            let refused = of(&Method::POST, "/x", &headers(IDEMPOTENCY_KEY, bad)).unwrap_err();
            assert_eq!(refused.fields()[0].field, "Idempotency-Key");
        }
    }

    #[test]
    fn the_lists_name_routes() {
        let routes = crate::openapi::routes();
        for (paths, method) in [(MOVES, Method::POST), (SINGLE, Method::GET), (NO_ENTITY, Method::DELETE)] {
            for path in paths {
                assert!(routes.iter().any(|route| route.path == *path && route.method == method), "{path}");
            }
        }
    }

    #[test]
    fn who_has_it_gets_it_not_again() {
        let answer = |known: &str| {
            let mut response = (StatusCode::OK, "{}").into_response();
            response.headers_mut().insert(ETAG, etag(1, b"{}"));
            Known::of(&Method::GET, &headers(IF_NONE_MATCH, &[known])).answer(response)
        };
        let ours = "\"1-44136fa355b3678a\"";
        for known in [ours, "*", &format!("W/{ours}"), &format!("\"x\", {ours}")] {
            let response = answer(known);
            assert_eq!(response.status(), StatusCode::NOT_MODIFIED, "{known}");
            assert_eq!(response.headers()[ETAG], ours);
            assert!(response.headers().get(CONTENT_TYPE).is_none());
        }
        for unknown in ["\"1-44136fa355b3678b\"", "nonsense", ""] {
            assert_eq!(answer(unknown).status(), StatusCode::OK, "{unknown}");
        }
        let failed = (StatusCode::NOT_FOUND, Body::empty()).into_response();
        let known = Known::of(&Method::GET, &headers(IF_NONE_MATCH, &["*"]));
        assert_eq!(known.answer(failed).status(), StatusCode::NOT_FOUND);
    }
}
