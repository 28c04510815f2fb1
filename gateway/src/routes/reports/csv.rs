//! CSV: files that a service streams, and small ones that are written here.

use aegis_proto::analytics::v1::{ExportRemediationStatusResponse, ExportTestResultsResponse};
use axum::{body::Body, response::Response};
use chrono::{DateTime, SecondsFormat, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use http::{
    HeaderMap, HeaderValue,
    header::{CONTENT_DISPOSITION, CONTENT_TYPE, VARY},
};
use prost_types::Timestamp;
use tonic::Streaming;

use crate::{accept::prefers, answer::AS_OF, error::Problem, values::time};

/// The media type.
const CSV: &str = "text/csv";

/// Whether the client would rather have CSV than JSON.
pub fn wanted(headers: &HeaderMap) -> bool {
    prefers(headers, CSV, "application/json")
}

/// An answer of a route that has both forms says so to whoever keeps answers.
pub fn varying(mut response: Response) -> Response {
    response.headers_mut().append(VARY, HeaderValue::from_static("accept"));
    response
}

/// A piece of a file, as services send them.
pub trait Piece {
    /// The bytes, and in the first piece the moment for which they hold.
    fn parts(self) -> (Vec<u8>, Option<Timestamp>);
}

impl Piece for ExportTestResultsResponse {
    fn parts(self) -> (Vec<u8>, Option<Timestamp>) {
        (self.chunk, self.as_of)
    }
}

impl Piece for ExportRemediationStatusResponse {
    fn parts(self) -> (Vec<u8>, Option<Timestamp>) {
        (self.chunk, self.as_of)
    }
}

/// A file that comes as it is read. What fails before its first piece is an error answer; an error after it ends the
/// connection, so that the client does not take a part for the whole.
pub async fn streamed<M>(name: &str, mut pieces: Streaming<M>) -> Result<Response, Problem>
where
    M: Piece + Send + 'static,
{
    let Some(first) = pieces.message().await? else {
        return Err(Problem::internal("a file ended before its header line"));
    };
    let (first, as_of) = first.parts();
    let rest = pieces.map_ok(|piece| piece.parts().0).map_err(std::io::Error::other);
    let body = Body::from_stream(stream::once(std::future::ready(Ok(first))).chain(rest));
    Ok(attachment(name, body, time(as_of)))
}

/// A file of this text.
pub fn whole(name: &str, text: String, as_of: Option<DateTime<Utc>>) -> Response {
    attachment(name, Body::from(text), as_of)
}

fn attachment(name: &str, body: Body, as_of: Option<DateTime<Utc>>) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8"));
    let file = format!("attachment; filename=\"aegis-{name}-{}.csv\"", Utc::now().format("%Y-%m-%d"));
    headers.insert(CONTENT_DISPOSITION, HeaderValue::from_str(&file).unwrap_or(HeaderValue::from_static("attachment")));
    let as_of = as_of.map(|moment| moment.to_rfc3339_opts(SecondsFormat::AutoSi, true));
    if let Some(as_of) = as_of.and_then(|text| HeaderValue::from_str(&text).ok()) {
        headers.insert(AS_OF, as_of);
    }
    response
}

/// Adds a line of these cells (RFC 4180).
pub fn line<'a>(text: &mut String, cells: impl IntoIterator<Item = &'a str>) {
    for (place, cell) in cells.into_iter().enumerate() {
        if place > 0 {
            text.push(',');
        }
        write(text, cell);
    }
    text.push_str("\r\n");
}

/// Adds a cell. What a spreadsheet would take for a formula is defused.
fn write(text: &mut String, cell: &str) {
    // The signs in their full width too, which spreadsheets of East Asia read alike.
    let defused = cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠']);
    let quoted = cell.contains([',', '"', '\n', '\r']);
    if quoted {
        text.push('"');
    }
    if defused {
        text.push('\'');
    }
    match quoted {
        true => text.push_str(&cell.replace('"', "\"\"")),
        false => text.push_str(cell),
    }
    if quoted {
        text.push('"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_stay_cells_and_never_become_formulas() {
        let mut text = String::new();
        line(&mut text, ["plain", "", "a,b", "say \"hi\"", "two\nlines"]);
        line(&mut text, ["=1+1", "+1", "-1", "@x", "\tx", "＝x", "=a,\"b\"", "1=1"]);
        let expected = "plain,,\"a,b\",\"say \"\"hi\"\"\",\"two\nlines\"\r\n\
                        '=1+1,'+1,'-1,'@x,'\tx,'＝x,\"'=a,\"\"b\"\"\",1=1\r\n";
        assert_eq!(text, expected);
    }
}
