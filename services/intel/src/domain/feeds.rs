//! News feeds: RSS, Atom and JSON Feed, all read into the same few fields.

mod plain;

use std::fmt::Write;

use chrono::{DateTime, Utc};
use feed_rs::model::{Entry, FeedType, Text};
use sha2::{Digest, Sha256};
use url::Url;

use super::json::bounded;
use super::knowledge::ReadError;
use plain::{one_line, plain_text};

/// What is read of a feed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FeedDocument {
    /// What its publisher calls it.
    pub title: String,
    /// In the order of the feed, at most [`MAX_ITEMS`].
    pub items: Vec<FeedItem>,
}

/// One entry of a feed.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedItem {
    /// By which its publisher tells it from others; made of its content where it has none, the same each time.
    pub external_id: String,
    /// Plain text.
    pub title: String,
    /// Plain text, at most [`MAX_SUMMARY`] characters.
    pub summary: String,
    /// Its page, over http or https.
    pub url: Option<String>,
    /// When it appeared; some feeds do not say.
    pub published_at: Option<DateTime<Utc>>,
}

/// Items that are read of one feed.
pub const MAX_ITEMS: usize = 500;

/// Characters of a summary.
pub const MAX_SUMMARY: usize = 2_000;

/// Bytes of a feed.
pub const MAX_FEED: usize = 5 * 1024 * 1024;

const MAX_TITLE: usize = 300;
const MAX_ID: usize = 500;
const MAX_URL: usize = 2_000;

/// Reads a feed of any of the three kinds.
pub fn parse_feed(bytes: &[u8]) -> Result<FeedDocument, ReadError> {
    if bytes.len() > MAX_FEED {
        return Err(ReadError(format!(
            "the feed is larger than {} MiB; point its url at a shorter one",
            MAX_FEED >> 20
        )));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    refuse_entities(bytes)?;
    let feed = feed_rs::parser::Builder::new()
        // Theirs is random where there is neither link nor title.
        .id_generator(|_, _, _| String::new())
        .sanitize_content(false)
        .build()
        .parse(bytes)
        .map_err(|error| {
            ReadError(format!("it is no RSS, Atom or JSON feed ({error}); check the feed's url, or fetch it again"))
        })?;
    let kind = feed.feed_type;
    Ok(FeedDocument {
        title: line(feed.title.as_ref(), &kind).unwrap_or_default(),
        items: feed.entries.into_iter().filter_map(|entry| item(entry, &kind)).take(MAX_ITEMS).collect(),
    })
}

/// The parser replaces no entities but XML's own, so that none can grow; a document that declares some is hostile or
/// would be shown with holes.
fn refuse_entities(bytes: &[u8]) -> Result<(), ReadError> {
    let holds = |needle: &[u8]| {
        let wide: Vec<u8> = needle.iter().flat_map(|byte| [*byte, 0]).collect();
        // UTF-16 of either order has the wide form in it.
        [needle, wide.as_slice().strip_suffix(&[0]).unwrap_or(&wide)]
            .iter()
            .any(|needle| bytes.windows(needle.len()).any(|window| window.eq_ignore_ascii_case(needle)))
    };
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') && holds(b"<!ENTITY") {
        return Err(ReadError(
            "it declares entities in its DOCTYPE, which no feed needs; ask its publisher for a plain feed".to_owned(),
        ));
    }
    Ok(())
}

fn item(entry: Entry, kind: &FeedType) -> Option<FeedItem> {
    let url = entry
        .links
        .iter()
        .filter(|link| matches!(link.rel.as_deref(), None | Some("alternate")))
        .find_map(|link| page(&link.href));
    let summary = text(entry.summary.as_ref(), kind, MAX_SUMMARY).or_else(|| {
        let content = entry.content.as_ref()?;
        plain(content.body.as_deref()?, content.content_type.as_ref(), kind, MAX_SUMMARY)
    });
    let title = line(entry.title.as_ref(), kind).or_else(|| bounded(&one_line(summary.as_deref()?), 120))?;
    let published_at = entry.published.or(entry.updated);
    let summary = summary.unwrap_or_default();
    let external_id = match (identity(&entry.id), &url) {
        (Some(id), _) => id,
        (None, Some(url)) => url.clone(),
        (None, None) => digest(&[&title, &summary]),
    };
    Some(FeedItem { external_id, title, summary, url, published_at })
}

/// An id that is too long is kept by its hash, as cut ones could be equal.
fn identity(id: &str) -> Option<String> {
    let id = id.trim();
    match bounded(id, MAX_ID)? {
        cut if cut.len() < id.len() => Some(digest(&[id])),
        id => Some(id),
    }
}

fn digest(texts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for text in texts {
        hasher.update(text.as_bytes());
        hasher.update([0]);
    }
    let mut id = String::from("sha256:");
    for byte in hasher.finalize() {
        // Writing to a String cannot fail.
        let _ = write!(id, "{byte:02x}");
    }
    id
}

fn page(href: &str) -> Option<String> {
    let url = Url::parse(href.trim()).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.has_host() && url.as_str().len() <= MAX_URL).then(|| url.into())
}

fn line(text: Option<&Text>, kind: &FeedType) -> Option<String> {
    let text = text?;
    bounded(&one_line(&plain(&text.content, text.content_type.as_ref(), kind, MAX_TITLE)?), MAX_TITLE)
}

fn text(text: Option<&Text>, kind: &FeedType, max: usize) -> Option<String> {
    let text = text?;
    plain(&text.content, text.content_type.as_ref(), kind, max)
}

/// Atom and JSON Feed say when a text is no HTML; in RSS it may always be.
fn plain(text: &str, media: &str, kind: &FeedType, max: usize) -> Option<String> {
    let says = matches!(kind, FeedType::Atom | FeedType::JSON);
    match says && media.to_ascii_lowercase().starts_with("text/plain") {
        true => bounded(&without_controls(text), max),
        false => bounded(&without_controls(&plain_text(text, max)), max),
    }
}

fn without_controls(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control() || *letter == '\n').collect()
}

#[cfg(test)]
mod tests;
