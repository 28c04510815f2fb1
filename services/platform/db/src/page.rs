//! Page sizes and page tokens of the internal lists.

use aegis_error::Failure;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Serialize, de::DeserializeOwned};

/// A token is never longer.
const MAX_TOKEN: usize = 1024;

/// The number of rows of a page: `default` for 0.
pub fn size(requested: i32, default: i64, max: i64) -> Result<i64, Failure> {
    match i64::from(requested) {
        0 => Ok(default),
        n if (1..=max).contains(&n) => Ok(n),
        _ => Err(Failure::invalid("limit", format!("must be 1 to {max}"))),
    }
}

/// The number of rows to skip before the page.
pub fn skip(requested: i32) -> Result<i64, Failure> {
    if requested < 0 {
        return Err(Failure::invalid("offset", "must be 0 or more"));
    }
    Ok(i64::from(requested))
}

/// A token for the page after the row with this sort key.
pub fn token<K: Serialize>(key: &K) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(key).unwrap_or_default())
}

/// The sort key in a token; `None` for the first page.
pub fn key<K: DeserializeOwned>(token: &str) -> Result<Option<K>, Failure> {
    if token.is_empty() {
        return Ok(None);
    }
    let wrong = || Failure::invalid("page_token", "is not a token that this list gave");
    if token.len() > MAX_TOKEN {
        return Err(wrong());
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| wrong())?;
    serde_json::from_slice(&bytes).map(Some).map_err(|_| wrong())
}

/// Offset paging behind a token, for lists that are short or have no key to go on from: where a page begins, given
/// the token and the rows to skip.
pub fn offset(page_token: &str, skip_rows: i32) -> Result<i64, Failure> {
    let before = key::<i64>(page_token)?.unwrap_or(0);
    if before < 0 {
        return Err(Failure::invalid("page_token", "is not a token that this list gave"));
    }
    Ok(before.saturating_add(skip(skip_rows)?))
}

/// The token after a page that began at `offset` and had `rows` of `total`; empty after the last.
pub fn next_offset(offset: i64, rows: usize, total: i64) -> String {
    let end = offset.saturating_add(i64::try_from(rows).unwrap_or(i64::MAX));
    if rows > 0 && end < total { token(&end) } else { String::new() }
}
