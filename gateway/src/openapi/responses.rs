//! The error answers of the document, each declared once.
#![allow(dead_code, reason = "the types here are schemas; `crate::error` writes the bodies")]

use std::collections::BTreeMap;

use aegis_error::Code;
use serde_json::{Value, json};
use utoipa::{
    PartialSchema, ToResponse, ToSchema,
    openapi::{
        Content, Ref, RefOr, Response,
        content::ContentBuilder,
        header::HeaderBuilder,
        response::ResponseBuilder,
        schema::{OneOfBuilder, Schema},
    },
};

/// What went wrong.
#[derive(ToSchema)]
pub struct Error {
    /// What went wrong, for people.
    detail: String,
    /// What went wrong, for programs.
    code: String,
    /// The fields that did not validate.
    #[schema(required = false)]
    errors: Vec<FieldError>,
    /// What more there is to know: the `id` of the first copy, the `job_id` of the sync that runs …
    #[schema(required = false)]
    context: BTreeMap<String, String>,
}

/// A field that did not validate.
#[derive(ToSchema)]
pub struct FieldError {
    /// Its name, dotted where nested; `body` for the whole.
    field: String,
    /// What is wrong and what is right.
    problem: String,
}

/// A move of a test that its state does not allow.
#[derive(ToSchema)]
pub struct TransitionError {
    detail: RefusedTransition,
}

/// Why a move was refused.
#[derive(ToSchema)]
pub struct RefusedTransition {
    message: String,
    /// Always INVALID_TRANSITION.
    code: String,
    current_state: crate::values::TestState,
    target_state: crate::values::TestState,
    valid_transitions: Vec<crate::values::TestState>,
    /// Of a request for many tests: those that it was refused for.
    #[schema(required = false)]
    errors: Vec<FieldError>,
}

macro_rules! errors {
    ($($(#[doc = $doc:literal])* $name:ident = $code:ident, $detail:literal $(, $header:literal)?;)*) => {
        $(
            $(#[doc = $doc])*
            pub struct $name;

            impl<'r> ToResponse<'r> for $name {
                fn response() -> (&'r str, RefOr<Response>) {
                    let example = json!({"detail": $detail, "code": Code::$code.name()});
                    let headers: &[&str] = &[$($header)?];
                    let description = concat!($($doc),*).trim();
                    (stringify!($name), response(description, body("Error", example), headers).into())
                }
            }
        )*

        /// All of them, by name.
        pub fn all() -> BTreeMap<String, RefOr<Response>> {
            let all = [$($name::response(),)* BadRequest::response(), Invalid::response(), InvalidTransition::response(), NotModified::response()];
            all.into_iter().map(|(name, response)| (name.to_owned(), response)).collect()
        }
    };
}

errors! {
    /// No token, or one that does not hold; a wrong username or password
    Unauthorized = Unauthenticated, "the token has expired; sign in again", "WWW-Authenticate";
    /// Signed in, but not allowed; or the password must be changed first
    Forbidden = Forbidden, "your role viewer may not do this; it needs admin";
    /// There is no entity of that id
    NotFound = NotFound, "technique 'T9999' does not exist";
    /// It exists already, somebody else was faster, a rule that spans entities forbids it, or the first request with
    /// the Idempotency-Key is still under way
    Conflict = Conflict, "somebody else changed it at the same moment; read it again";
    /// The body is too large
    TooLarge = TooLarge, "the body is larger than 1048576 bytes";
    /// The body is of a type that the operation does not take
    UnsupportedMediaType = UnsupportedMediaType, "the Content-Type must be application/json";
    /// The part that is asked for is not in the file
    RangeNotSatisfiable = RangeNotSatisfiable, "the file has 1024 bytes: no part of it begins at 4096", "Content-Range";
    /// The entity has another version than If-Match names
    PreconditionFailed = PreconditionFailed,
        "it was changed since you read it, and is at version 4 now: read it again";
    /// The Idempotency-Key was used with another request
    KeyReused = Unprocessable,
        "this Idempotency-Key was used with another request in the last 24 hours: take a new one";
    /// What was fetched cannot be read, or the Idempotency-Key was used with another request
    Unprocessable = Unprocessable, "the document is not a STIX bundle";
    /// The publisher of the data source cannot be reached or is too slow
    SourceUnreachable = SourceUnreachable, "example.org cannot be reached: check the network and the data source's url";
    /// Too many requests
    RateLimited = RateLimited, "too many failed logins; try again later", "Retry-After";
    /// The store is full
    InsufficientStorage = StorageFull, "the store is full";
    /// A fault of ours
    Internal = Internal, "something went wrong on our side; the log has the cause under this request id";
    /// A part of the product is not reachable
    Unavailable = Unavailable, "catalog is not reachable; try again in a moment", "Retry-After";
    /// The request took too long
    Timeout = Timeout, "the request took longer than it may";
}

/// An event of a stream, as a client's reader of server-sent events gives it.
#[derive(ToSchema)]
#[allow(dead_code, reason = "it describes what streams write")]
pub struct ServerEvent {
    /// Where a stream goes on that is opened with it as `Last-Event-ID`. Not every event has one.
    #[schema(required = false)]
    id: Option<String>,
    /// What kind of event it is.
    event: String,
    /// JSON, or nothing.
    data: String,
}

/// The request does not validate.
pub struct BadRequest;

impl<'r> ToResponse<'r> for BadRequest {
    fn response() -> (&'r str, RefOr<Response>) {
        let description = "The request does not validate, or the entity's state does not allow it";
        ("BadRequest", response(description, body("Error", invalid()), &[]).into())
    }
}

/// The client has what it asks for.
pub struct NotModified;

impl<'r> ToResponse<'r> for NotModified {
    fn response() -> (&'r str, RefOr<Response>) {
        let header = |text: &str| HeaderBuilder::new().schema(Some(String::schema())).description(Some(text)).build();
        let response = ResponseBuilder::new()
            .description("The client has it: If-None-Match names its ETag")
            .header("X-Request-Id", header("Id of the request, as the log and the audit trail have it"))
            .header("ETag", header("The tag that the client named"))
            .build();
        ("NotModified", response.into())
    }
}

/// The request does not validate, on routes of the deception reference.
pub struct Invalid;

impl<'r> ToResponse<'r> for Invalid {
    fn response() -> (&'r str, RefOr<Response>) {
        let description = "The request does not validate, or its idempotency key was used for another one";
        ("Invalid", response(description, body("Error", invalid()), &[]).into())
    }
}

/// The request does not validate, or the test's state has no such move.
pub struct InvalidTransition;

impl<'r> ToResponse<'r> for InvalidTransition {
    fn response() -> (&'r str, RefOr<Response>) {
        let schema = OneOfBuilder::new()
            .item(Ref::from_schema_name("TransitionError"))
            .item(Ref::from_schema_name("Error"))
            .build();
        let example = json!({"detail": {
            "message": "Cannot transition from 'draft' to 'validated'. Valid transitions: ['red_executing']",
            "code": Code::InvalidTransition.name(),
            "current_state": "draft",
            "target_state": "validated",
            "valid_transitions": ["red_executing"],
        }});
        let content = ContentBuilder::new().schema(Some(Schema::OneOf(schema))).example(Some(example)).build();
        let description = "The test's state has no such move, or the request does not validate";
        ("InvalidTransition", response(description, content, &[]).into())
    }
}

fn invalid() -> Value {
    json!({
        "detail": "name: must have 1 to 200 characters, not 0",
        "code": Code::Validation.name(),
        "errors": [{"field": "name", "problem": "must have 1 to 200 characters, not 0"}],
    })
}

fn body(schema: &str, example: Value) -> Content {
    ContentBuilder::new().schema(Some(Ref::from_schema_name(schema))).example(Some(example)).build()
}

fn response(description: &str, content: Content, headers: &[&str]) -> Response {
    let header = |text: &str| HeaderBuilder::new().schema(Some(String::schema())).description(Some(text)).build();
    let mut builder = ResponseBuilder::new()
        .description(description)
        .content("application/json", content)
        .header("X-Request-Id", header("Id of the request, as the log and the audit trail have it"));
    for name in headers {
        let text = match *name {
            "Retry-After" => "Seconds to wait",
            "Content-Range" => "`bytes */<size>`",
            _ => "Always Bearer",
        };
        builder = builder.header(*name, header(text));
    }
    builder.build()
}
