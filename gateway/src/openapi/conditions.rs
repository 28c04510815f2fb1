//! What the document says of conditional and repeated requests: by the same rules that [`crate::conditions`] follows.

use http::Method;
use serde_json::json;
use utoipa::{
    PartialSchema,
    openapi::{
        Ref, RefOr,
        path::{Operation, Parameter, ParameterBuilder, ParameterIn},
        schema::{ObjectBuilder, Type},
    },
};

use super::header;
use crate::{conditions, routes::answers_422};

/// Adds the headers that an operation takes and answers, and what comes of them.
pub fn add(operation: &mut Operation, method: &Method, path: &str, public: bool) {
    if public {
        return;
    }
    if *method == Method::POST {
        parameter(operation, idempotency_key());
        response(operation, "409", "Conflict");
        // There the one answer for a request that does not validate says it too.
        if !answers_422(path) {
            response(operation, "422", "KeyReused");
        }
    }
    if conditions::takes_if_match(method, path) {
        let description = "An `ETag` of the entity, or several, or `*`. Only the version in it counts: the change is \
                           made if the entity still has it.";
        parameter(operation, tags("If-Match", description));
        response(operation, "412", "PreconditionFailed");
    }
    if conditions::reads_one(method, path) {
        parameter(operation, tags("If-None-Match", "The `ETag` of what the client has already."));
        response(operation, "304", "NotModified");
        if let Some(RefOr::T(read)) = operation.responses.responses.get_mut("200") {
            let text = "`\"<version>-<hash>\"`: the version of the entity and a hash of the body";
            read.headers.insert("ETag".into(), header(text));
        }
    }
}

fn parameter(operation: &mut Operation, parameter: Parameter) {
    operation.parameters.get_or_insert_default().push(parameter.into());
}

fn response(operation: &mut Operation, status: &str, name: &str) {
    let all = &mut operation.responses.responses;
    all.entry(status.into()).or_insert_with(|| Ref::from_response_name(name).into());
}

fn idempotency_key() -> Parameter {
    let key = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(255));
    ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .description(Some("The same for every try of one request, such as a random UUID; see above."))
        .schema(Some(key.pattern(Some("^[!-~]+$"))))
        .example(Some(json!("5b1a3f52-9a4f-4a54-9d0e-6f1f7f6f3c11")))
        .build()
}

fn tags(name: &str, description: &str) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .description(Some(description))
        .schema(Some(String::schema()))
        .example(Some(json!("\"3-9f86d081884c7d65\"")))
        .build()
}
