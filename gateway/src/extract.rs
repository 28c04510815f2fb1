//! What handlers take from a request: who asks, the id in the path, the query, the body. All bounded, all with
//! errors that name the field.

use std::{
    marker::PhantomData,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use aegis_auth::{Conditions, OpCtx, Origin, Principal};
use aegis_error::{Code, Failure, Fields};
use axum::{
    body::{Body, BodyDataStream},
    extract::{FromRequest, FromRequestParts, RawPathParams, Request},
};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE, request::Parts};
use http_body::Body as _;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::{error::Problem, refusal, state::Gateway};

/// What is read and thrown away of a body that was refused, so that the client hears why instead of a reset.
const MAX_DRAINED: usize = 32 * 1024 * 1024;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest text in a path or query, bytes.
const MAX_PARAMETER: usize = 500;
/// Longest text in a query with a sentence in it, bytes: a thousand characters, whatever the script.
const MAX_SENTENCE: usize = 4000;

/// Where a request comes from. The context of public routes.
#[derive(Clone, Debug)]
pub struct Visitor {
    pub(crate) peer: Option<IpAddr>,
    pub(crate) forwarded: Option<HeaderValue>,
    pub(crate) user_agent: Option<HeaderValue>,
    pub(crate) request_id: HeaderValue,
    pub(crate) deadline: Instant,
}

impl Visitor {
    /// A context without a principal.
    pub fn ctx(&self) -> OpCtx {
        OpCtx::new(None, None, self.origin(), Some(self.deadline))
    }

    pub(crate) fn origin(&self) -> Origin {
        let text = |value: &Option<HeaderValue>, max: usize| {
            let text = value.as_ref().and_then(|v| v.to_str().ok()).unwrap_or_default();
            text.chars().take(max).collect::<String>()
        };
        // The last entry is the one that our own proxy added; the others are the client's to invent.
        let forwarded = text(&self.forwarded, usize::MAX);
        let forwarded = forwarded.rsplit(',').next().and_then(|last| last.trim().parse::<IpAddr>().ok());
        let address = forwarded.or(self.peer).map(|ip| ip.to_canonical().to_string());
        Origin {
            address: address.unwrap_or_default(),
            user_agent: text(&self.user_agent, 256),
            request_id: self.request_id.to_str().unwrap_or_default().to_owned(),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Visitor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get().cloned().ok_or_else(|| Problem::internal("a request came past the edge"))
    }
}

/// Who asks; there is one only behind [`crate::middleware::authenticate`].
#[derive(Clone, Debug)]
pub struct Caller {
    pub(crate) principal: Arc<Principal>,
    pub(crate) token: String,
    pub(crate) visitor: Visitor,
    /// Under which the request asks for its change; the services see to them.
    pub(crate) conditions: Conditions,
}

impl Caller {
    /// The context of a call on behalf of the caller. Made when a call is made: an answer from memory needs none.
    pub fn ctx(&self) -> OpCtx {
        OpCtx::new(
            Some((*self.principal).clone()),
            Some(self.token.clone()),
            self.visitor.origin(),
            Some(self.visitor.deadline),
        )
        .asking_under(self.conditions.clone())
    }

    #[cfg(test)]
    pub fn example(must_change_password: bool) -> Caller {
        Caller {
            principal: Arc::new(Principal {
                user_id: Uuid::nil(),
                username: "ana".into(),
                role: aegis_auth::Role::Viewer,
                jti: Uuid::nil(),
                epoch: 0,
                expires_at: chrono::Utc::now() + chrono::TimeDelta::hours(1),
                must_change_password,
                bearer: aegis_auth::Bearer::Token,
            }),
            token: "token".into(),
            visitor: Visitor {
                peer: None,
                forwarded: None,
                user_agent: None,
                request_id: HeaderValue::from_static("r1"),
                deadline: Instant::now() + Duration::from_secs(5),
            },
            conditions: Conditions::default(),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.remove().ok_or_else(|| Problem::internal("a route is not behind the authentication layer"))
    }
}

/// The UUID in the path.
#[derive(Clone, Copy, Debug)]
pub struct Id(pub Uuid);

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let (name, text) = parameter(parts, state).await?;
        match Uuid::try_parse(&text) {
            Ok(id) => Ok(Id(id)),
            Err(_) => Err(Problem::invalid(name, "must be a UUID")),
        }
    }
}

/// The two UUIDs in the path: of a thing and of what belongs to it.
#[derive(Clone, Copy, Debug)]
pub struct Ids(pub Uuid, pub Uuid);

impl<S: Send + Sync> FromRequestParts<S> for Ids {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let params = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|_| Problem::invalid("path", "must be UTF-8"))?;
        let mut fields = Fields::default();
        let mut ids = params.iter().map(|(name, text)| {
            let id = Uuid::try_parse(text);
            fields.check(id.is_ok(), name, "must be a UUID");
            id.unwrap_or_default()
        });
        let (Some(one), Some(other)) = (ids.next(), ids.next()) else {
            return Err(Problem::internal("the route has not two parameters"));
        };
        drop(ids);
        fields.finish()?;
        Ok(Ids(one, other))
    }
}

/// The text in the path: an ATT&CK id or a name.
#[derive(Clone, Debug)]
pub struct Name(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let (_, value) = parameter(parts, state).await?;
        Ok(Name(value))
    }
}

/// The two texts in the path: of a thing and of what it belongs to.
#[derive(Clone, Debug)]
pub struct Names(pub String, pub String);

impl<S: Send + Sync> FromRequestParts<S> for Names {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let params = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|_| Problem::invalid("path", "must be UTF-8"))?;
        let mut fields = Fields::default();
        for (name, text) in &params {
            check(&mut fields, name, text, MAX_PARAMETER);
        }
        fields.finish()?;
        let mut texts = params.iter().map(|(_, text)| text.to_owned());
        let (Some(one), Some(other)) = (texts.next(), texts.next()) else {
            return Err(Problem::internal("the route has not two parameters"));
        };
        Ok(Names(one, other))
    }
}

/// The first parameter of the path: its name and what is there.
pub async fn parameter<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<(String, String), Problem> {
    let params =
        RawPathParams::from_request_parts(parts, state).await.map_err(|_| Problem::invalid("path", "must be UTF-8"))?;
    let Some((name, value)) = params.iter().next() else {
        return Err(Problem::internal("the route has no parameter"));
    };
    let mut fields = Fields::default();
    check(&mut fields, name, value, MAX_PARAMETER);
    fields.finish()?;
    Ok((name.to_owned(), value.to_owned()))
}

/// The query. Parameters that the route does not know are refused: a filter that is misspelled would answer
/// everything.
#[derive(Clone, Debug)]
pub struct Query<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        query(parts, MAX_PARAMETER).map(Query)
    }
}

/// A [`Query`] with a sentence in it.
#[derive(Clone, Debug)]
pub struct LongQuery<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for LongQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        query(parts, MAX_SENTENCE).map(LongQuery)
    }
}

fn query<T: DeserializeOwned>(parts: &Parts, longest: usize) -> Result<T, Problem> {
    let query = parts.uri.query().unwrap_or_default().as_bytes();
    let mut fields = Fields::default();
    for (name, value) in form_urlencoded::parse(query) {
        if name.chars().any(char::is_control) {
            fields.add("query", "must not contain control characters");
        } else {
            check(&mut fields, &name, &value, longest);
        }
    }
    fields.finish()?;
    form(query)
}

fn check(fields: &mut Fields, name: &str, value: &str, longest: usize) {
    let name: String = name.chars().take(100).collect();
    if value.len() > longest {
        fields.add(name, format!("must have at most {longest} bytes"));
    } else if value.chars().any(char::is_control) {
        fields.add(name, "must not contain control characters");
    }
}

fn form<T: DeserializeOwned>(text: &[u8]) -> Result<T, Problem> {
    let pairs = serde_urlencoded::Deserializer::new(form_urlencoded::parse(text));
    Ok(serde_path_to_error::deserialize(pairs).map_err(refusal::of_form)?)
}

/// Which part of a list is asked for; the number of rows and how many to leave out before.
pub fn page(limit: Option<u32>, offset: Option<u32>, default: i32, max: i32) -> Result<(i32, i32), Failure> {
    let mut fields = Fields::default();
    let limit = limit.map_or(default, |n| i32::try_from(n).unwrap_or(i32::MAX));
    fields.check((1..=max).contains(&limit), "limit", &format!("must be 1 to {max}"));
    let skip = i32::try_from(offset.unwrap_or(0));
    fields.check(skip.is_ok(), "offset", &format!("must be 0 to {}", i32::MAX));
    fields.finish()?;
    Ok((limit, skip.unwrap_or(0)))
}

/// A JSON object as the body.
#[derive(Clone, Debug)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Gateway> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, gateway: &Gateway) -> Result<Self, Problem> {
        if !is_type(request.headers(), "application/json") {
            return Err(unsupported("application/json"));
        }
        let body = read(request.into_body(), gateway.deps.config.max_json_bytes).await?;
        object(&body).map(Json)
    }
}

/// A JSON object as the body, or no body.
#[derive(Clone, Debug)]
pub struct OptionalJson<T>(pub T);

impl<T: DeserializeOwned + Default> FromRequest<Gateway> for OptionalJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, gateway: &Gateway) -> Result<Self, Problem> {
        let json = is_type(request.headers(), "application/json");
        let body = read(request.into_body(), gateway.deps.config.max_json_bytes).await?;
        if matches!(body.trim_ascii(), b"" | b"null") {
            return Ok(OptionalJson(T::default()));
        }
        if !json {
            return Err(unsupported("application/json"));
        }
        object(&body).map(OptionalJson)
    }
}

/// A form or a JSON object, by its content type. Other fields of a form are ignored (OAuth2 clients send some),
/// other fields of JSON are refused.
#[derive(Clone, Debug)]
pub struct FormOrJson<F, J>(pub J, pub PhantomData<F>);

impl<F, J> FromRequest<Gateway> for FormOrJson<F, J>
where
    F: DeserializeOwned + Into<J>,
    J: DeserializeOwned,
{
    type Rejection = Problem;

    async fn from_request(request: Request, gateway: &Gateway) -> Result<Self, Problem> {
        let json = is_type(request.headers(), "application/json");
        if !json && !is_type(request.headers(), "application/x-www-form-urlencoded") {
            return Err(unsupported("application/x-www-form-urlencoded or application/json"));
        }
        let body = read(request.into_body(), gateway.deps.config.max_json_bytes).await?;
        let value = if json { object(&body)? } else { form::<F>(&body)?.into() };
        Ok(FormOrJson(value, PhantomData))
    }
}

fn unsupported(wanted: &str) -> Problem {
    Failure::new(Code::UnsupportedMediaType, format!("the Content-Type must be {wanted}")).into()
}

/// Whether the body is of this media type, whatever its parameters.
pub fn is_type(headers: &HeaderMap, wanted: &str) -> bool {
    let given = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    given.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(wanted)
}

pub(crate) fn object<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // serde would take an array of the fields' values for an object.
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(Problem::invalid("body", "must be an object, not an array"));
    }
    no_nul(body)?;
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut json).map_err(refusal::of_json)?;
    match json.end() {
        Ok(()) => Ok(value),
        Err(_) => Err(Problem::invalid("body", "must be one JSON object with nothing after it")),
    }
}

/// No store takes a NUL in a text; it is refused here, once, for all fields.
fn no_nul(body: &[u8]) -> Result<(), Problem> {
    const NUL: &[u8] = b"\\u0000";
    let escapes = body.windows(NUL.len()).filter(|window| *window == NUL).count();
    if escapes == 0 {
        return Ok(());
    }
    fn holds_nul(value: &serde_json::Value) -> bool {
        match value {
            serde_json::Value::String(text) => text.contains('\0'),
            serde_json::Value::Array(values) => values.iter().any(holds_nul),
            serde_json::Value::Object(map) => map.iter().any(|(k, v)| k.contains('\0') || holds_nul(v)),
            _ => false,
        }
    }
    match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(value) => {
            let named = value.as_object().and_then(|map| map.iter().find(|(_, v)| holds_nul(v)));
            match named {
                Some((field, _)) => Err(Problem::invalid(field.replace('\0', ""), "must not contain a NUL character")),
                None if holds_nul(&value) => Err(Problem::invalid("body", "must not contain a NUL character")),
                None => Ok(()),
            }
        }
        // What is wrong with it is found by who reads it.
        Err(_) => Ok(()),
    }
}

/// The whole body, if it is within the limit.
pub async fn read(body: Body, limit: usize) -> Result<Bytes, Problem> {
    let announced = body.size_hint().lower();
    let mut stream = body.into_data_stream();
    if announced > limit as u64 {
        drain(stream, announced).await;
        return Err(too_large(limit as u64));
    }
    let mut whole = BytesMut::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| Problem::invalid("body", "could not be read to its end"))?;
        if whole.len() + chunk.len() > limit {
            drain(stream, 0).await;
            return Err(too_large(limit as u64));
        }
        if whole.is_empty() && stream.size_hint().exact() == Some(0) {
            return Ok(chunk);
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

/// The body is larger than it may be.
pub fn too_large(limit: u64) -> Problem {
    Failure::new(Code::TooLarge, format!("the body is larger than {limit} bytes")).into()
}

/// Reads what is left of a body that was refused, up to a limit, and throws it away.
pub async fn drain(mut stream: BodyDataStream, announced: u64) {
    if announced > MAX_DRAINED as u64 {
        return;
    }
    let mut drained = 0;
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, async {
        while let Some(Ok(chunk)) = stream.next().await {
            drained += chunk.len();
            if drained > MAX_DRAINED {
                break;
            }
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Named {
        name: String,
    }

    #[test]
    fn a_body_is_one_object() {
        assert_eq!(object::<Named>(br#" {"name": "n"} "#).unwrap().name, "n");
        assert!(object::<Named>(br#"["n"]"#).is_err());
        assert!(object::<Named>(br#"{"name": "n"} {"name": "m"}"#).is_err());
        assert!(object::<Named>(b"").is_err());
    }

    #[test]
    fn a_nul_is_refused_by_field_and_its_spelling_is_not() {
        let refused = object::<Named>(br#"{"name": "a\u0000b"}"#).unwrap_err();
        assert_eq!(refused.0.fields()[0].field, "name");
        assert!(object::<Named>(br#"{"name": "a\\u0000b"}"#).is_ok());
    }

    #[test]
    fn pages_have_limits() {
        assert_eq!(page(None, None, 50, 200).unwrap(), (50, 0));
        assert_eq!(page(Some(200), Some(7), 50, 200).unwrap(), (200, 7));
        let failure = page(Some(0), Some(u32::MAX), 50, 200).unwrap_err();
        assert_eq!(failure.fields().len(), 2);
    }

    #[test]
    fn the_last_forwarded_address_counts() {
        let mut visitor = Caller::example(false).visitor;
        visitor.peer = Some("::ffff:10.0.0.9".parse().unwrap());
        assert_eq!(visitor.origin().address, "10.0.0.9");
        visitor.forwarded = Some(HeaderValue::from_static("6.6.6.6, 192.0.2.7"));
        assert_eq!(visitor.origin().address, "192.0.2.7");
        visitor.forwarded = Some(HeaderValue::from_static("nonsense"));
        assert_eq!(visitor.origin().address, "10.0.0.9");
    }
}
