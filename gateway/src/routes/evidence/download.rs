//! Bytes of evidence out: a whole file or a part of it, as it comes from the service.

use aegis_error::Code;
use aegis_proto::evidence::v1::{
    ByteRange, DownloadEvidenceRequest, DownloadEvidenceResponse, DownloadHead, download_evidence_response::Part,
};
use axum::{body::Body, extract::State, response::Response};
use futures::{StreamExt, TryStreamExt};
use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use tonic::Streaming;
use utoipa::IntoParams;
use uuid::Uuid;

use super::range;
use crate::{
    error::Problem,
    extract::{Id, Query, Visitor},
    openapi::responses::{Forbidden, NotFound, NotModified, RangeNotSatisfiable},
    state::Gateway,
};

/// What RFC 5987 lets stand in an extended value besides letters and digits.
const NOT_ATTR_CHAR: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// The signature of a link, as `download_url` has it.
#[derive(Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Signed {
    /// Unix seconds.
    expires: u32,
    /// The user for whom the link was made.
    user: Uuid,
    signature: String,
}

/// Download an evidence file
///
/// With the link of `download_url`; no token. Always an attachment of no particular type: evidence may be malware.
/// The `ETag` is the SHA-256 of the bytes. One `Range` is honoured (`bytes=0-99`, `bytes=100-`, `bytes=-100`), under
/// `If-Range` where that is given; several at once are answered with the whole file. HEAD tells the size.
#[utoipa::path(get, path = "/api/v1/evidence/{id}/download", tag = "Evidence",
    params(
        ("id" = Uuid, Path, description = "Evidence"),
        Signed,
        ("Range" = Option<String>, Header, description = "A part of the file", example = "bytes=0-1048575"),
        ("If-Range" = Option<String>, Header, description = "The `ETag` of the file of which a part is wanted",
            example = "\"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\""),
        ("If-None-Match" = Option<String>, Header, description = "The `ETag` of what the client has already",
            example = "\"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\""),
    ),
    responses(
        (status = 200, description = "The bytes", body = String, content_type = "application/octet-stream",
            headers(
                ("Content-Disposition" = String, description = "attachment, with the file's name"),
                ("ETag" = String, description = "SHA-256 of the file, lower-case hex, in quotes"),
                ("Accept-Ranges" = String, description = "Always bytes")
            ),
            example = json!("the bytes of the file")),
        (status = 206, description = "The part that was asked for", body = String,
            content_type = "application/octet-stream",
            headers(
                ("Content-Range" = String, description = "`bytes <first>-<last>/<size>`"),
                ("ETag" = String, description = "SHA-256 of the whole file, lower-case hex, in quotes")
            ),
            example = json!("the bytes")),
        (status = 304, response = NotModified),
        (status = 403, response = Forbidden),
        (status = 404, response = NotFound),
        (status = 416, response = RangeNotSatisfiable),
    ))]
pub async fn download_evidence(
    State(gateway): State<Gateway>,
    visitor: Visitor,
    id: Id,
    Query(signed): Query<Signed>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let link = Link { gateway: &gateway, visitor: &visitor, id, signed };
    // A part is something that GET alone has.
    let range = range::wanted(&headers).filter(|_| method == Method::GET);
    let conditional = headers.contains_key(http::header::IF_RANGE);
    let Some(range) = range else {
        let (head, parts) = link.open(None).await?;
        return answer(&head, parts, false);
    };
    match link.open(Some(range)).await {
        // The client has a part of something else: all of this is the answer.
        Ok((head, _)) if range::of_another(&headers, &etag(&head)) => {
            let (head, parts) = link.open(None).await?;
            answer(&head, parts, false)
        }
        Ok((head, parts)) => answer(&head, parts, true),
        Err(refused) if conditional && refused.0.code() == Code::RangeNotSatisfiable => {
            let (head, parts) = link.open(None).await?;
            match range::of_another(&headers, &etag(&head)) {
                true => answer(&head, parts, false),
                false => Err(refused),
            }
        }
        Err(refused) => Err(refused),
    }
}

/// Asks for the bytes behind a link.
struct Link<'a> {
    gateway: &'a Gateway,
    visitor: &'a Visitor,
    id: Id,
    signed: Signed,
}

impl Link<'_> {
    async fn open(
        &self,
        range: Option<ByteRange>,
    ) -> Result<(DownloadHead, Streaming<DownloadEvidenceResponse>), Problem> {
        let request = DownloadEvidenceRequest {
            id: self.id.to_string(),
            expires: i64::from(self.signed.expires),
            user_id: self.signed.user.to_string(),
            signature: self.signed.signature.clone(),
            range,
        };
        let mut client = self.gateway.deps.evidence.clone();
        let mut parts = client.download_evidence(self.visitor.ctx().outgoing(request)).await?.into_inner();
        match parts.message().await?.and_then(|message| message.part) {
            Some(Part::Head(head)) => Ok((head, parts)),
            _ => Err(Problem::internal("a download began without its head")),
        }
    }
}

fn etag(head: &DownloadHead) -> String {
    format!("\"{}\"", head.sha256_hash)
}

/// What follows the head, as the whole file or as the part that was asked for.
fn answer(head: &DownloadHead, parts: Streaming<DownloadEvidenceResponse>, is_part: bool) -> Result<Response, Problem> {
    let bytes = parts.map_err(std::io::Error::other).filter_map(|message| {
        std::future::ready(match message {
            Ok(message) => match message.part {
                Some(Part::Chunk(chunk)) => Some(Ok(chunk)),
                _ => None,
            },
            // Ends the connection, so that the client does not take a part for the whole.
            Err(error) => Some(Err(error)),
        })
    });
    let mut response = Response::new(Body::from_stream(bytes));
    if is_part {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let last = head.offset + head.length - 1;
        let range = format!("bytes {}-{last}/{}", head.offset, head.size_bytes);
        response.headers_mut().insert(CONTENT_RANGE, HeaderValue::try_from(range).map_err(Problem::internal)?);
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(head.length));
    headers.insert(CONTENT_DISPOSITION, attachment(&head.file_name));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(ETAG, HeaderValue::try_from(etag(head)).map_err(Problem::internal)?);
    Ok(response)
}

/// An attachment of this name, in plain ASCII for old clients and in full for others (RFC 6266).
pub fn attachment(name: &str) -> HeaderValue {
    let plain: String = name
        .chars()
        .map(|c| if c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '%') || c == ' ' { c } else { '_' })
        .collect();
    let full = utf8_percent_encode(name, NOT_ATTR_CHAR);
    HeaderValue::from_str(&format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{full}"))
        .unwrap_or(HeaderValue::from_static("attachment"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_cannot_leave_its_header() {
        assert_eq!(
            attachment("Übersicht \"1\"\r\n.png"),
            "attachment; filename=\"_bersicht _1___.png\"; \
             filename*=UTF-8''%C3%9Cbersicht%20%221%22%0D%0A.png"
        );
    }
}
