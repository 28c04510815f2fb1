//! The OpenAPI document: the operations that the handlers declare, and what all of them have in common.

mod conditions;
pub(crate) mod responses;

use std::collections::BTreeMap;

use http::Method;
use serde_json::Value;
use utoipa::{
    PartialSchema,
    openapi::{
        Content, Header, HttpMethod, Info, License, OpenApi, PathItem, Ref, RefOr, Response, Schema, Server, Tag,
        header::HeaderBuilder,
        path::Operation,
        schema::Components,
        security::{Flow, Http, HttpAuthScheme, OAuth2, Password, Scopes, SecurityRequirement, SecurityScheme},
        tag::TagBuilder,
    },
};

use crate::routes as handlers;

const BEARER: &str = "bearer";
const PASSWORD_FORM: &str = "password";
/// Who may use an operation, in its extensions; absent: everyone who is signed in.
const ROLES: &str = "x-roles";
/// Who else may: `creator` or `assignee` of the entity.
const ALSO: &str = "x-also";

const DESCRIPTION: &str = "\
Purple-team coverage of MITRE ATT&CK: techniques, the tests that prove their detection, evidence, figures. And decoys: \
a fleet of them, what attackers do there, who they are and which techniques they show.

**Signing in.** `POST /api/v1/auth/login` gives a token; send it as `Authorization: Bearer …`. Where \
`must_change_password` is true, every route but change-password, `/auth/me` and logout answers 403 \
`PASSWORD_CHANGE_REQUIRED` until the password was changed.

**Roles.** `x-roles` of an operation names the roles that may use it; without it, everyone who is signed in may. \
`x-also` names who else may, by the entity: its `creator`, its `assignee`.

**Lists** take `limit` and `offset` and answer `X-Total-Count`. Parameters that an operation does not know are refused.

**Changes** (PATCH) leave alone what is absent; `null` clears what may be empty. Fields that are not known are refused.

**Trying again.** Every POST takes an `Idempotency-Key`: the same key and request within 24 hours gives the first \
answer again and changes nothing more, also when the first answer never arrived; the same key with another request is \
422. While the first request is under way the second waits for it, for five seconds; after that, or when the answer was \
lost, it is 409 with the `id` of what was made. A request that was refused has not used its key up. An answer that \
holds a secret (an API key) is given once: the second is that 409. Keys are the caller's own.

**Versions.** Reading one entity answers an `ETag`, `\"<version>-<hash>\"`, and 304 for an `If-None-Match` that has it. \
A PATCH, PUT or DELETE, or a move, with `If-Match` is done if the entity still has that version, else it is 412 and \
changes nothing; read it again.

**Errors** are `{\"detail\", \"code\"}`; a validation error adds `errors`, one entry for each field. A refused move of a \
test has all of it inside `detail`. A request that does not validate is 400, on the routes of decoys, of the \
configuration and of the sign-in 422. Every answer has an `X-Request-Id` (and the same as `request_id`); a client may \
send its own (`[A-Za-z0-9._-]{1,64}`). The `traceparent` of an answer (W3C Trace Context) names its trace; one that a \
client sends goes on with the client's.

**Figures** come from a projection that events keep; `X-As-Of` says up to when it had taken them in, or when the figures \
were computed. A figure that nothing is known for is null, never 0.

**Times** are RFC 3339 in UTC.";

const TAGS: &[(&str, &str)] = &[
    ("Authentication", "Signing in and out, one's own account"),
    ("Users", "Users and their roles"),
    ("Techniques", "The ATT&CK matrix"),
    ("Tests", "Tests of techniques"),
    ("Workflow", "draft → red_executing → blue_evaluating → in_review → validated or rejected → draft"),
    ("Campaigns", "Tests in order, each in a phase, by hand or on a schedule"),
    ("Test templates", "Ready-made procedures"),
    ("Knowledge", "What is known of techniques, and the search over all of it"),
    ("Threat actors", "Who uses which techniques"),
    ("Detection rules", "Rules of Sigma and Elastic, and those of one's own"),
    ("D3FEND", "Countermeasures"),
    ("Compliance", "Frameworks, their controls and the techniques behind them"),
    ("Intel", "What is new in the world and matters here"),
    ("Evidence", "Files that prove what a test showed"),
    ("Metrics", "Coverage figures, and how the work goes"),
    ("Scores", "How well techniques, tactics, threat actors and all of it are covered, from 0 to 100"),
    ("Coverage snapshots", "Coverage as it was"),
    ("Reports", "What is handed on: as JSON, as CSV, as a page"),
    ("Notifications", "The caller's own notifications"),
    ("Audit", "Who did what, hash-chained"),
    ("Data sources", "Where knowledge comes from"),
    ("System", "Health, syncs and jobs"),
    ("Configuration", "The fleet of decoys as a whole, and the users as its clients know them"),
    ("Fleet", "Decoys: what is deployed, what hosts it, what it can be"),
    ("Decoy events", "What happens on decoys, as it was and as it comes"),
    ("Attackers", "Who touched decoys, how, with which techniques, and what they left"),
    ("Deception alerts", "What somebody should hear of, and who may scan without"),
];

/// The OpenAPI document of the whole interface.
pub fn openapi() -> OpenApi {
    let (_, mut public) = handlers::public().split_for_parts();
    let (_, mut protected) = handlers::protected().merge(handlers::streams()).split_for_parts();
    let mut components = Components::default();
    for document in [&mut public, &mut protected] {
        components.schemas.extend(document.components.take().unwrap_or_default().schemas);
    }
    components.schemas.insert("Error".into(), responses::Error::schema());
    components.schemas.insert("FieldError".into(), responses::FieldError::schema());
    components.schemas.insert("TransitionError".into(), responses::TransitionError::schema());
    components.schemas.insert("RefusedTransition".into(), responses::RefusedTransition::schema());
    components.responses = responses::all();
    components.security_schemes = security_schemes();

    for (document, is_public) in [(&mut public, true), (&mut protected, false)] {
        for (path, item) in &mut document.paths.paths {
            let invalid = if handlers::answers_422(path) { ("422", "Invalid") } else { ("400", "BadRequest") };
            for (method, operation) in operations_mut(item) {
                let method = method_name(method);
                conditions::add(operation, &method, path, is_public);
                complete(operation, is_public, method == Method::GET, invalid, &components);
            }
        }
    }
    let mut paths = public.paths;
    for (path, item) in protected.paths.paths {
        match paths.paths.get_mut(&path) {
            Some(present) => present.merge_operations(item),
            None => {
                paths.paths.insert(path, item);
            }
        }
    }
    let mut info = Info::new("Aegis API", env!("CARGO_PKG_VERSION"));
    info.description = Some(DESCRIPTION.into());
    info.license = Some(License::new("Apache-2.0"));
    if let Some(license) = &mut info.license {
        license.identifier = Some("Apache-2.0".into());
    }
    let mut document = OpenApi::new(info, paths);
    document.servers = Some(vec![Server::new("/")]);
    document.components = Some(components);
    document.tags = Some(TAGS.iter().map(|(name, text)| tag(name, text)).collect());
    document
}

/// One operation, for the tests that walk all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// HTTP method.
    pub method: Method,
    /// Path with its parameters in braces.
    pub path: String,
    /// Name of the operation.
    pub operation_id: String,
    /// Needs no token.
    pub public: bool,
    /// Roles that may use it whatever the entity; all six where everyone who is signed in may.
    pub roles: Vec<String>,
    /// Who else may, by the entity: `creator` or `assignee`.
    pub also: Option<String>,
}

/// All operations, from the OpenAPI document.
pub fn routes() -> Vec<Route> {
    let mut document = openapi();
    let mut routes = Vec::new();
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations_mut(item) {
            let extension = |name| operation.extensions.as_ref().and_then(|all| all.get(name).cloned());
            let roles = match extension(ROLES) {
                Some(roles) => serde_json::from_value(roles).unwrap_or_default(),
                None => aegis_auth::Role::NAMES.map(String::from).to_vec(),
            };
            routes.push(Route {
                method: method_name(method),
                path: path.clone(),
                operation_id: operation.operation_id.clone().unwrap_or_default(),
                public: operation.security.as_ref().is_some_and(Vec::is_empty),
                roles,
                also: extension(ALSO).and_then(|who| who.as_str().map(str::to_owned)),
            });
        }
    }
    routes
}

fn operations_mut(item: &mut PathItem) -> Vec<(HttpMethod, &mut Operation)> {
    let all = [
        (HttpMethod::Get, &mut item.get),
        (HttpMethod::Post, &mut item.post),
        (HttpMethod::Put, &mut item.put),
        (HttpMethod::Patch, &mut item.patch),
        (HttpMethod::Delete, &mut item.delete),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?))).collect()
}

fn method_name(method: HttpMethod) -> Method {
    match method {
        HttpMethod::Post => Method::POST,
        HttpMethod::Put => Method::PUT,
        HttpMethod::Patch => Method::PATCH,
        HttpMethod::Delete => Method::DELETE,
        _ => Method::GET,
    }
}

/// Adds what every operation of its kind has: how to sign in, the errors that do not depend on the handler, headers
/// and examples.
fn complete(
    operation: &mut Operation,
    public: bool,
    reads: bool,
    (invalid_status, invalid): (&str, &str),
    components: &Components,
) {
    operation.security = Some(match public {
        true => Vec::new(),
        false => [BEARER, PASSWORD_FORM].map(|name| SecurityRequirement::new(name, [""; 0])).into(),
    });
    if let Some(RefOr::T(body)) = &mut operation.request_body {
        for content in body.content.values_mut() {
            example(content, components);
        }
    }
    let takes_input = operation.request_body.is_some() || operation.parameters.is_some();
    let all = &mut operation.responses.responses;
    for (status, response) in all.iter_mut() {
        if let RefOr::T(response) = response {
            describe(status, response, components);
        }
    }
    let mut add = |status: &str, name: &str| {
        all.entry(status.into()).or_insert_with(|| Ref::from_response_name(name).into());
    };
    if takes_input {
        add(invalid_status, invalid);
    }
    if operation.request_body.is_some() {
        add("413", "TooLarge");
        add("415", "UnsupportedMediaType");
    }
    if !public {
        add("401", "Unauthorized");
        add("403", "Forbidden");
    }
    add("500", "Internal");
    add("503", "Unavailable");
    add("504", "Timeout");
    if !reads {
        add("507", "InsufficientStorage");
    }
}

fn describe(status: &str, response: &mut Response, components: &Components) {
    response.headers.insert("X-Request-Id".into(), header("Id of the request, as the log and the audit trail have it"));
    if matches!(status, "201" | "202") {
        response.headers.insert("Location".into(), header("Path of what was made"));
    }
    for content in response.content.values_mut() {
        if let RefOr::T(Content { schema: Some(RefOr::T(Schema::Array(_))), .. }) = content
            && status == "200"
        {
            let count = header("How many there are without limit and offset");
            response.headers.insert("X-Total-Count".into(), count);
        }
        example(content, components);
    }
}

/// Gives a body the example of its schema where it has none of its own.
fn example(content: &mut RefOr<Content>, components: &Components) {
    let RefOr::T(content) = content else { return };
    if content.example.is_none() && content.examples.is_empty() {
        content.example = content.schema.as_ref().and_then(|schema| example_of(schema, components));
    }
}

fn example_of(schema: &RefOr<Schema>, components: &Components) -> Option<Value> {
    match schema {
        RefOr::Ref(reference) => {
            let name = reference.ref_location.rsplit('/').next()?;
            example_of(components.schemas.get(name)?, components)
        }
        RefOr::T(Schema::Object(object)) => object.example.clone(),
        RefOr::T(Schema::AllOf(all)) => all.example.clone(),
        // An optional body: null or the type.
        RefOr::T(Schema::OneOf(one)) => one.items.iter().find_map(|item| example_of(item, components)),
        RefOr::T(Schema::Array(array)) => match &array.items {
            utoipa::openapi::schema::ArrayItems::RefOrSchema(items) => {
                Some(Value::Array(vec![example_of(items, components)?]))
            }
            _ => None,
        },
        RefOr::T(_) => None,
    }
}

fn header(description: &str) -> RefOr<Header> {
    HeaderBuilder::new().schema(Some(String::schema())).description(Some(description)).build().into()
}

fn tag(name: &str, description: &str) -> Tag {
    TagBuilder::new().name(name).description(Some(description)).build()
}

fn security_schemes() -> BTreeMap<String, RefOr<SecurityScheme>> {
    let mut bearer = Http::new(HttpAuthScheme::Bearer);
    bearer.bearer_format = Some("JWT".into());
    bearer.description = Some("The access token of POST /api/v1/auth/login".into());
    let form = Password::new("/api/v1/auth/login", Scopes::new());
    let form = OAuth2::with_description([Flow::Password(form)], "Signs in with a username and password");
    [
        (BEARER.to_owned(), SecurityScheme::Http(bearer).into()),
        (PASSWORD_FORM.to_owned(), SecurityScheme::OAuth2(form).into()),
    ]
    .into()
}
