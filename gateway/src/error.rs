//! The one place where a failure becomes an HTTP answer.

use aegis_error::{Code, Failure};
use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{
    HeaderValue, StatusCode,
    header::{CONTENT_RANGE, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde_json::{Map, Value, json};

/// A failure on its way to the client.
#[derive(Debug)]
pub struct Problem(pub Failure);

/// Marks an answer that has the form of our errors already, with its code.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// Of the failure.
    pub code: Code,
}

/// When to come back, where the service did not say.
const RETRY_SECONDS: u64 = 2;

/// What a service may add for the client: the id of the first copy, the job that runs, the state that forbids it, the
/// version that there is now, where in a file the fault is.
const CONTEXT: &[&str] =
    &["id", "job_id", "current_state", "current_status", "test_id", "successor", "limit", "version", "line", "section"];

impl Problem {
    /// A fault of ours.
    pub fn internal(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Problem {
        Problem(Failure::internal(source))
    }

    /// One field does not validate.
    pub fn invalid(field: impl Into<String>, problem: impl Into<String>) -> Problem {
        Problem(Failure::invalid(field, problem))
    }

    /// A service answered without what its answer is about.
    pub fn empty() -> Problem {
        Problem::internal("a service answered without the entity")
    }

    fn body(&self) -> Value {
        let failure = &self.0;
        if failure.code() == Code::InvalidTransition {
            return transition(failure);
        }
        let mut body = Map::new();
        body.insert("detail".into(), failure.message().into());
        body.insert("code".into(), failure.code().name().into());
        if !failure.fields().is_empty() {
            body.insert("errors".into(), errors(failure));
        }
        let context = CONTEXT.iter().filter_map(|key| Some((String::from(*key), Value::from(failure.get(key)?))));
        let context: Map<String, Value> = context.collect();
        if !context.is_empty() {
            body.insert("context".into(), Value::Object(context));
        }
        Value::Object(body)
    }
}

/// The body of a refused move, as the reference shows it: all of it inside `detail`.
fn transition(failure: &Failure) -> Value {
    let states = failure.get("valid_transitions").unwrap_or_default();
    let states: Vec<&str> = states.split(',').map(str::trim).filter(|s| !s.is_empty()).collect();
    let mut detail = json!({
        "message": failure.message(),
        "code": failure.code().name(),
        "current_state": failure.get("current_state"),
        "target_state": failure.get("target_state"),
        "valid_transitions": states,
    });
    // Of many tests: which of them it is about.
    if !failure.fields().is_empty() {
        detail["errors"] = errors(failure);
    }
    json!({"detail": detail})
}

fn errors(failure: &Failure) -> Value {
    failure.fields().iter().map(|e| json!({"field": e.field, "problem": e.problem})).collect()
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Problem(failure)
    }
}

impl From<tonic::Status> for Problem {
    fn from(status: tonic::Status) -> Self {
        Problem(Failure::from(status))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let code = self.0.code();
        if code == Code::Internal {
            tracing::error!(cause = %self.0, "request failed");
        }
        let body = self.body().to_string();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = code.http();
        response.extensions_mut().insert(Told { code });
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match code.http() {
            StatusCode::UNAUTHORIZED => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                let wait = self.0.retry_after().map_or(RETRY_SECONDS, |after| after.as_millis().div_ceil(1000) as u64);
                headers.insert(RETRY_AFTER, HeaderValue::from(wait.max(1)));
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                let whole = self.0.get("size").and_then(|size| HeaderValue::try_from(format!("bytes */{size}")).ok());
                headers.extend(whole.map(|whole| (CONTENT_RANGE, whole)));
            }
            _ => {}
        }
        response
    }
}

/// No route has this path.
pub async fn unknown_route() -> Problem {
    Failure::new(Code::NotFound, "there is no such route; /docs lists all of them").into()
}

/// The route of this path has no such method. The router adds `Allow`.
pub async fn wrong_method() -> Problem {
    Failure::new(Code::MethodNotAllowed, "the route does not take this method; the Allow header names those it takes")
        .into()
}

/// An error that a library below answered in its own form, in ours. Headers such as `Allow` stay.
pub fn reworded(response: Response) -> Response {
    let status = response.status();
    let (code, message) = match status {
        StatusCode::NOT_FOUND => (Code::NotFound, "there is no such route; /docs lists all of them"),
        StatusCode::METHOD_NOT_ALLOWED => (Code::MethodNotAllowed, "the route does not take this method"),
        StatusCode::PAYLOAD_TOO_LARGE => (Code::TooLarge, "the body is too large"),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => (Code::UnsupportedMediaType, "the body is of a type that is not taken"),
        status if status.is_client_error() => (Code::Validation, "the request cannot be read"),
        _ => (Code::Internal, "something went wrong on our side; the log has the cause under this request id"),
    };
    let mut told = Problem(Failure::new(code, message)).into_response();
    for (name, value) in response.headers() {
        if !matches!(name.as_str(), "content-type" | "content-length" | "transfer-encoding") {
            told.headers_mut().insert(name, value.clone());
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_move_has_the_body_of_the_reference() {
        let failure = Failure::new(
            Code::InvalidTransition,
            "Cannot transition from 'draft' to 'validated'. Valid transitions: ['red_executing']",
        )
        .with("current_state", "draft")
        .with("target_state", "validated")
        .with("valid_transitions", "red_executing");
        assert_eq!(
            Problem(failure).body(),
            json!({"detail": {
                "message": "Cannot transition from 'draft' to 'validated'. Valid transitions: ['red_executing']",
                "code": "INVALID_TRANSITION",
                "current_state": "draft",
                "target_state": "validated",
                "valid_transitions": ["red_executing"],
            }})
        );
    }

    #[test]
    fn a_validation_error_names_its_fields() {
        let body = Problem::invalid("limit", "must be 1 to 200").body();
        assert_eq!(body["code"], "VALIDATION_ERROR");
        assert_eq!(body["errors"], json!([{"field": "limit", "problem": "must be 1 to 200"}]));
    }

    #[test]
    fn answers_say_when_to_come_back_and_how_to_sign_in() {
        let busy = Problem(Failure::unavailable("catalog")).into_response();
        assert_eq!(busy.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(busy.headers()[RETRY_AFTER], "2");
        let stranger = Problem(Failure::new(Code::InvalidCredentials, "wrong")).into_response();
        assert_eq!(stranger.headers()[WWW_AUTHENTICATE], "Bearer");
    }
}
