//! Which of two forms of an answer a client would rather have: the `Accept` header.

use std::cmp::Ordering;

use http::{HeaderMap, header::ACCEPT};

/// What of a header is read.
const MAX_RANGES: usize = 32;

/// How much a client wants a media type: how much it likes it, how exactly it named it, how early.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Wish {
    quality: f32,
    exactness: u8,
    place: usize,
}

/// Whether the client would rather have `this` than `usual`, which it gets where it does not say. `*/*` asks for nothing
/// in particular.
pub fn prefers(headers: &HeaderMap, this: &str, usual: &str) -> bool {
    let lines: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok()).collect();
    let accept = lines.join(",").to_ascii_lowercase();
    let Some(wish) = wish(&accept, this).filter(|wish| wish.exactness > 0 && wish.quality > 0.0) else { return false };
    match self::wish(&accept, usual) {
        None => true,
        Some(other) => match wish.quality.total_cmp(&other.quality).then(wish.exactness.cmp(&other.exactness)) {
            Ordering::Equal => wish.place < other.place,
            order => order.is_gt(),
        },
    }
}

/// What a list of media ranges says of a type: the range that names it most exactly counts.
fn wish(accept: &str, wanted: &str) -> Option<Wish> {
    let kind = wanted.split('/').next().unwrap_or_default();
    let wishes = accept.split(',').take(MAX_RANGES).enumerate().filter_map(|(place, range)| {
        let mut parts = range.split(';').map(str::trim);
        let exactness = match parts.next()? {
            "*/*" => 0,
            range if range.strip_suffix("/*") == Some(kind) => 1,
            range if range == wanted => 2,
            _ => return None,
        };
        let quality = parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1.0), |q| q.trim().parse().ok());
        Some(Wish { quality: quality?, exactness, place })
    });
    wishes.reduce(|best, next| if next.exactness > best.exactness { next } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_form_is_for_those_who_ask_for_it() {
        for (accept, csv) in [
            ("", false),
            ("*/*", false),
            ("application/json", false),
            ("text/html,application/xhtml+xml,*/*;q=0.8", false),
            ("text/csv", true),
            ("Text/CSV; charset=utf-8", true),
            ("text/csv, */*", true),
            ("text/*", true),
            ("text/csv, application/json", true),
            ("application/json, text/csv", false),
            ("application/json;q=0.5, text/csv", true),
            ("text/csv;q=0.5, */*", false),
            ("text/csv;q=0", false),
            ("text/csv;q=nonsense", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            assert_eq!(prefers(&headers, "text/csv", "application/json"), csv, "{accept}");
        }
        assert!(!prefers(&HeaderMap::new(), "text/csv", "application/json"));
    }
}
