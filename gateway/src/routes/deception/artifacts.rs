//! The bytes of files that attackers have left.

use aegis_error::Fields;
use aegis_proto::deception::v1::{ReadArtifactRequest, read_artifact_response::Item};
use axum::{body::Body, extract::State, response::Response};
use bytes::Bytes;
use futures::TryStreamExt;
use http::{
    HeaderValue,
    header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, ETAG},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    error::Problem,
    extract::{Caller, Names},
    openapi::responses::NotFound,
    routes::evidence::attachment,
    state::Gateway,
};

/// Digits of the hash that a tag shows.
const HASH: usize = 16;

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new().routes(routes!(get_artifact))
}

/// Download a captured file
///
/// Administrators only. The bytes are an attacker's: always an attachment of no particular type. A name that no artifact
/// can have is 400, one that none has 404.
#[utoipa::path(get, path = "/api/v1/artifacts/{decky}/{stored_as}", tag = "Attackers",
    params(
        ("decky" = String, Path, description = "Decky: `^[a-z0-9][a-z0-9-]{0,62}$`", example = "decky-03"),
        ("stored_as" = String, Path,
            description = "`<time>_<first 12 hex of sha256>_<name>`, as the event has it in `fields`",
            example = "2024-01-01T02:22:56Z_abcdef012345_payload.sh"),
    ),
    extensions(("x-roles" = json!(["admin"]))),
    responses(
        (status = 200, description = "The bytes", body = String, content_type = "application/octet-stream",
            headers(("Content-Disposition" = String, description = "attachment, with `stored_as` as its name")),
            example = json!("the bytes of the file")),
        (status = 404, response = NotFound),
    ))]
async fn get_artifact(
    State(gateway): State<Gateway>,
    caller: Caller,
    Names(decky, stored_as): Names,
) -> Result<Response, Problem> {
    let mut fields = Fields::default();
    fields.check(is_decky(&decky), "decky", "must be 1 to 63 of a-z, 0-9 and -, and not begin with -");
    let problem = "must be a time, the first 12 hex digits of the SHA-256 and a name, with _ between them, such as \
                   2024-01-01T02:22:56Z_abcdef012345_payload.sh";
    fields.check(is_stored_as(&stored_as), "stored_as", problem);
    fields.finish()?;
    let name = attachment(&stored_as);
    let request = caller.ctx().outgoing(ReadArtifactRequest { decky, stored_as });
    let mut parts = gateway.deps.logs.clone().read_artifact(request).await?.into_inner();
    let Some(Item::Info(info)) = parts.message().await?.and_then(|part| part.item) else {
        return Err(Problem::internal("an artifact began without saying what it is"));
    };
    // An error ends the connection, so that the client does not take a part for the whole.
    let bytes = parts.map_err(std::io::Error::other).try_filter_map(async |part| {
        Ok(match part.item {
            Some(Item::Chunk(chunk)) => Some(Bytes::from(chunk)),
            _ => None,
        })
    });
    let mut response = Response::new(Body::from_stream(bytes));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(info.size));
    headers.insert(CONTENT_DISPOSITION, name);
    // It never changes.
    let hash: String = info.sha256.chars().take(HASH).collect();
    headers.insert(ETAG, HeaderValue::try_from(format!("\"0-{hash}\"")).map_err(Problem::internal)?);
    Ok(response)
}

/// `^[a-z0-9][a-z0-9-]{0,62}$`
fn is_decky(name: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len()) && name.bytes().all(good) && !name.starts_with('-')
}

/// `^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z_[a-f0-9]{12}_[A-Za-z0-9._-]{1,255}$`
fn is_stored_as(name: &str) -> bool {
    const TIME: &[u8] = b"0000-00-00T00:00:00Z";
    let mut parts = name.splitn(3, '_');
    let (Some(time), Some(hash), Some(rest)) = (parts.next(), parts.next(), parts.next()) else { return false };
    let fits = |(byte, wanted): (u8, &u8)| if *wanted == b'0' { byte.is_ascii_digit() } else { byte == *wanted };
    time.len() == TIME.len()
        && time.bytes().zip(TIME).all(fits)
        && hash.len() == 12
        && hash.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        && (1..=255).contains(&rest.len())
        && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_the_reference_has_them() {
        let long = "n".repeat(255);
        for good in ["payload.sh", "_", "..", "a_b_c", &long] {
            assert!(is_stored_as(&format!("2024-01-01T02:22:56Z_abcdef012345_{good}")), "{good}");
        }
        for bad in [
            "",
            "payload.sh",
            "2024-01-01T02:22:56Z_abcdef012345_",
            "2024-01-01T02:22:56Z_abcdef012345_a/b",
            "2024-01-01T02:22:56Z_abcdef012345_\u{e9}",
            "2024-01-01T02:22:56Z_ABCDEF012345_a",
            "2024-01-01T02:22:56Z_abcdef01234_a",
            "2024-01-01 02:22:56Z_abcdef012345_a",
            "2024-01-01T02:22:5\u{666}_abcdef012345_a",
            &format!("2024-01-01T02:22:56Z_abcdef012345_{long}n"),
        ] {
            assert!(!is_stored_as(bad), "{bad}");
        }
        assert!(is_decky("a") && is_decky("0-") && is_decky(&"d".repeat(63)));
        assert!(!is_decky("") && !is_decky("-a") && !is_decky("A") && !is_decky("..") && !is_decky(&"d".repeat(64)));
    }
}
