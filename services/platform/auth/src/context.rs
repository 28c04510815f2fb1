//! The context of an operation: who asks, from where, and how long there is.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aegis_error::{Code, Failure};
use http::HeaderMap;
use tonic::metadata::{Ascii, MetadataValue};
use uuid::Uuid;

use crate::{Principal, Role};

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

#[derive(Debug)]
struct Inner {
    principal: Option<Principal>,
    token: Option<String>,
    origin: Origin,
    deadline: Option<Instant>,
}

impl OpCtx {
    /// A context; `token` is passed on in [`OpCtx::outgoing`].
    pub fn new(principal: Option<Principal>, token: Option<String>, origin: Origin, deadline: Option<Instant>) -> Self {
        OpCtx(Arc::new(Inner { principal, token, origin, deadline }))
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
        self.0.principal.as_ref().ok_or_else(|| Failure::new(Code::Unauthenticated, "sign in first"))
    }

    /// The one who is signed in and has nothing left to do before working.
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
