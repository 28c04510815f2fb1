//! Pages of other origins, which may use the API where the administrator names them, and nowhere else.

use std::time::Duration;

use aegis_auth::REQUEST_ID_HEADER;
use http::{
    HeaderName, HeaderValue, Method,
    header::{
        ACCEPT, AUTHORIZATION, CONTENT_DISPOSITION, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH, LOCATION, RANGE,
        RETRY_AFTER,
    },
};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::{
    answer::{AS_OF, TOTAL_COUNT},
    conditions::IDEMPOTENCY_KEY,
};

const REQUEST_ID: HeaderName = HeaderName::from_static(REQUEST_ID_HEADER);
/// The position from which an event stream goes on.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// How long a browser may go by what it was told.
const MAX_AGE: Duration = Duration::from_secs(600);

/// The layer for these origins; none without any: then no answer says anything of other origins, and browsers keep them
/// out. Nothing here goes by cookies, so credentials are not allowed.
pub fn layer(origins: &[String]) -> Option<CorsLayer> {
    let origins: Vec<HeaderValue> = origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect();
    if origins.is_empty() {
        return None;
    }
    let layer = CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([
            ACCEPT,
            AUTHORIZATION,
            CONTENT_TYPE,
            IF_MATCH,
            IF_NONE_MATCH,
            RANGE,
            IDEMPOTENCY_KEY,
            LAST_EVENT_ID,
            REQUEST_ID,
        ])
        .expose_headers([AS_OF, CONTENT_DISPOSITION, ETAG, LOCATION, RETRY_AFTER, TOTAL_COUNT, REQUEST_ID])
        .max_age(MAX_AGE);
    Some(layer)
}
