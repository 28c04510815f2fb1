//! The context of an operation: who asks, from where, and how long there is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use aegis_error::{Code, Failure};
use http::{Extensions, HeaderMap};
use tonic::metadata::{Ascii, MetadataValue};
use uuid::Uuid;

use crate::{Conditions, IdempotencyKey, IfMatch, Principal, Role};

/// Request id, set by the gateway.
pub const REQUEST_ID_HEADER: &str = "x-request-id";
/// Client address as the gateway saw it; for the audit trail only.
pub const ADDRESS_HEADER: &str = "x-aegis-client-address";
/// User agent of the gateway's client; for the audit trail only.
pub const USER_AGENT_HEADER: &str = "x-aegis-client-agent";

/// Where a request comes from. Goes into the audit trail; decides nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Client address.
    pub address: String,
    /// User agent, at most 256 characters.
    pub user_agent: String,
    /// Request id.
    pub request_id: String,
}

/// First argument of every use case. Cheap to clone.
#[derive(Clone, Debug)]
pub struct OpCtx(Arc<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    principal: Option<Principal>,
    token: Option<String>,
    origin: Origin,
    deadline: Option<Instant>,
    /// Under which the change was asked for, here.
    precondition: Option<Arc<Precondition>>,
    idempotency_key: Option<IdempotencyKey>,
    /// Under which the calls made with this context ask for their change. Only the gateway's has any.
    outgoing: Conditions,
    extensions: Extensions,
}

/// What `If-Match` said, and whether somebody has looked.
#[derive(Debug)]
struct Precondition {
    if_match: IfMatch,
    looked_at: AtomicBool,
}

impl OpCtx {
    /// A context; `token` is passed on in [`OpCtx::outgoing`].
    pub fn new(principal: Option<Principal>, token: Option<String>, origin: Origin, deadline: Option<Instant>) -> Self {
        OpCtx(Arc::new(Inner {
            principal,
            token,
            origin,
            deadline,
            precondition: None,
            idempotency_key: None,
            outgoing: Conditions::default(),
            extensions: Extensions::new(),
        }))
    }

    /// The same, for a change that is asked for under these conditions. They end here: [`OpCtx::outgoing`] does not
    /// pass them on.
    pub fn under(self, conditions: Conditions) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.0);
        inner.precondition =
            conditions.if_match.map(|if_match| Arc::new(Precondition { if_match, looked_at: AtomicBool::new(false) }));
        inner.idempotency_key = conditions.idempotency_key;
        OpCtx(Arc::new(inner))
    }

    /// The same, whose calls ask for their change under these conditions. For the gateway alone: what a service asks
    /// of another is another change, of another entity.
    pub fn asking_under(self, conditions: Conditions) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.0);
        inner.outgoing = conditions;
        OpCtx(Arc::new(inner))
    }

    /// The same, without an end: for calls whose answer is a stream that goes on.
    pub fn without_deadline(self) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.0);
        inner.deadline = None;
        OpCtx(Arc::new(inner))
    }

    /// The same, with something that a layer leaves for those further in.
    pub fn with_extension<T: Clone + Send + Sync + 'static>(self, extension: T) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.0);
        inner.extensions.insert(extension);
        OpCtx(Arc::new(inner))
    }

    /// What [`OpCtx::with_extension`] left.
    pub fn extension<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.0.extensions.get()
    }

    /// The context that [`crate::AuthLayer`] put on a request.
    pub fn of<T>(request: &tonic::Request<T>) -> Result<OpCtx, Failure> {
        request
            .extensions()
            .get::<OpCtx>()
            .cloned()
            .ok_or_else(|| Failure::internal("a request reached a service without passing its authentication layer"))
    }

    /// Who asks, if anyone is signed in; also one whose password must be changed first.
    pub fn anyone(&self) -> Option<&Principal> {
        self.0.principal.as_ref()
    }

    /// The one who is signed in, also when the password must be changed first. For the few operations that
    /// are allowed then.
    pub fn signed_in(&self) -> Result<&Principal, Failure> {
        let principal = self.principal()?;
        if principal.role == Role::Sensor {
            return Err(Failure::forbidden("a sensor may hand events in and hear what it hosts, and nothing else"));
        }
        Ok(principal)
    }

    fn principal(&self) -> Result<&Principal, Failure> {
        self.0.principal.as_ref().ok_or_else(|| Failure::new(Code::Unauthenticated, "sign in first"))
    }

    /// The one who is signed in and has nothing left to do before working. Never a sensor: only [`OpCtx::require`]
    /// lets one in, where it is named.
    pub fn user(&self) -> Result<&Principal, Failure> {
        let principal = self.signed_in()?;
        if principal.must_change_password {
            return Err(Failure::new(
                Code::PasswordChangeRequired,
                "change your password first: POST /api/v1/auth/change-password",
            ));
        }
        Ok(principal)
    }

    /// The one who is signed in, if the role is among `allowed`.
    pub fn require(&self, allowed: &[Role]) -> Result<&Principal, Failure> {
        let principal = self.principal()?;
        if principal.role == Role::Sensor && allowed.contains(&Role::Sensor) {
            return Ok(principal);
        }
        let principal = self.user()?;
        if allowed.contains(&principal.role) {
            return Ok(principal);
        }
        let names = allowed.iter().filter(|r| **r != Role::Service).map(|r| r.as_str()).collect::<Vec<_>>();
        Err(Failure::forbidden(format!(
            "your role {} may not do this; it needs {}",
            principal.role,
            names.join(" or ")
        )))
    }

    /// Where the request comes from.
    pub fn origin(&self) -> &Origin {
        &self.0.origin
    }

    /// When the caller stops waiting.
    pub fn deadline(&self) -> Option<Instant> {
        self.0.deadline
    }

    /// Fails (412) unless the entity may be changed as it is: `If-Match` names `current`, or there is none.
    ///
    /// To be asked in the transaction of the change, of the row that it holds; or somebody may come in between.
    pub fn expect_version(&self, current: i64) -> Result<(), Failure> {
        let Some(precondition) = &self.0.precondition else { return Ok(()) };
        precondition.looked_at.store(true, Ordering::Relaxed);
        if precondition.if_match.allows(current) {
            return Ok(());
        }
        let text = format!("it was changed since you read it, and is at version {current} now: read it again");
        Err(Failure::new(Code::PreconditionFailed, text).with("version", current.to_string()))
    }

    /// Fails when there is an `If-Match` and nobody asked [`OpCtx::expect_version`]: a change must not be written that
    /// the client did not want. A fault of ours.
    pub fn precondition_was_looked_at(&self) -> Result<(), Failure> {
        match &self.0.precondition {
            Some(precondition) if !precondition.looked_at.load(Ordering::Relaxed) => {
                Err(Failure::internal("a change was to be written whose If-Match nobody had looked at"))
            }
            _ => Ok(()),
        }
    }

    /// Which requests are the same as this one to the client.
    pub fn idempotency_key(&self) -> Option<&IdempotencyKey> {
        self.0.idempotency_key.as_ref()
    }

    /// A request to another service on behalf of the same caller, with what is left of the deadline.
    pub fn outgoing<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        let metadata = request.metadata_mut();
        if let Some(token) = &self.0.token
            && let Ok(mut value) = format!("Bearer {token}").parse::<MetadataValue<Ascii>>()
        {
            value.set_sensitive(true);
            metadata.insert("authorization", value);
        }
        let origin = &self.0.origin;
        for (name, text) in [
            (REQUEST_ID_HEADER, &origin.request_id),
            (ADDRESS_HEADER, &origin.address),
            (USER_AGENT_HEADER, &origin.user_agent),
        ] {
            if !text.is_empty()
                && let Ok(value) = text.parse::<MetadataValue<Ascii>>()
            {
                metadata.insert(name, value);
            }
        }
        for (name, text) in self.0.outgoing.headers() {
            if let Ok(value) = text.parse::<MetadataValue<Ascii>>() {
                metadata.insert(name, value);
            }
        }
        if let Some(deadline) = self.0.deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            request.set_timeout(left.max(Duration::from_millis(1)));
        }
        request
    }
}

impl Origin {
    /// From the metadata of a gRPC request.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Self {
        let text = |name: &str, max: usize| {
            let value = headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
            value.chars().take(max).collect::<String>()
        };
        let mut origin = Origin {
            address: text(ADDRESS_HEADER, 64),
            user_agent: text(USER_AGENT_HEADER, 256),
            request_id: text(REQUEST_ID_HEADER, 64),
        };
        if origin.user_agent.is_empty() {
            origin.user_agent = text("user-agent", 256);
        }
        if origin.request_id.is_empty() {
            origin.request_id = Uuid::now_v7().to_string();
        }
        origin
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{IDEMPOTENCY_KEY_HEADER, IF_MATCH_HEADER};

    fn ctx(if_match: IfMatch) -> OpCtx {
        let key = IdempotencyKey::new(b"k").ok();
        let conditions = Conditions { if_match: Some(if_match), idempotency_key: key };
        OpCtx::new(None, None, Origin::default(), None).under(conditions)
    }

    #[test]
    fn a_sensor_is_let_in_only_where_it_is_named() {
        let of = |role| {
            let principal = Principal {
                user_id: Uuid::nil(),
                username: "somebody".into(),
                role,
                jti: Uuid::nil(),
                epoch: 0,
                expires_at: chrono::DateTime::UNIX_EPOCH,
                must_change_password: false,
                bearer: crate::Bearer::ApiKey,
            };
            OpCtx::new(Some(principal), None, Origin::default(), None)
        };
        let sensor = of(Role::Sensor);
        assert_eq!(sensor.user().unwrap_err().code(), Code::Forbidden);
        assert_eq!(sensor.signed_in().unwrap_err().code(), Code::Forbidden);
        assert_eq!(sensor.require(&Role::PEOPLE).unwrap_err().code(), Code::Forbidden);
        assert_eq!(sensor.require(&[Role::Admin, Role::Sensor]).unwrap().role, Role::Sensor);
        for role in Role::PEOPLE.into_iter().chain([Role::Service]) {
            assert_eq!(of(role).require(&[Role::Sensor]).unwrap_err().code(), Code::Forbidden, "{role}");
            of(role).user().unwrap();
        }
    }

    #[test]
    fn an_older_version_is_412_and_a_precondition_is_never_overlooked() {
        let ctx = ctx(IfMatch::Versions(vec![3, 4]));
        assert_eq!(ctx.precondition_was_looked_at().unwrap_err().code(), Code::Internal);
        let stale = ctx.expect_version(5).unwrap_err();
        assert_eq!((stale.code(), stale.get("version")), (Code::PreconditionFailed, Some("5")));
        ctx.expect_version(4).unwrap();
        // A copy of the context is the same request.
        ctx.clone().with_extension(1_u8).precondition_was_looked_at().unwrap();
        let none = OpCtx::new(None, None, Origin::default(), None);
        none.expect_version(7).unwrap();
        none.precondition_was_looked_at().unwrap();
    }

    #[test]
    fn conditions_go_one_step_and_no_further() {
        let received = ctx(IfMatch::Any);
        let conditions = Conditions { if_match: Some(IfMatch::Any), idempotency_key: IdempotencyKey::new(b"k").ok() };
        let gateway = OpCtx::new(None, None, Origin::default(), None).asking_under(conditions.clone());
        let request = gateway.outgoing(());
        assert_eq!(request.metadata().get(IF_MATCH_HEADER).unwrap(), "*");
        assert_eq!(request.metadata().get(IDEMPOTENCY_KEY_HEADER).unwrap(), "k");
        assert_eq!(Conditions::from_headers(&request.into_parts().0.into_headers()).unwrap(), conditions);
        let request = received.outgoing(());
        assert!(request.metadata().get(IF_MATCH_HEADER).is_none());
        assert!(request.metadata().get(IDEMPOTENCY_KEY_HEADER).is_none());
    }
}
