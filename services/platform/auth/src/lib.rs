//! Who is asking: roles, principals, the token verifier, the layer that every service stands behind, and the context
//! that every use case takes as its first argument.

mod background;
mod conditions;
mod context;
mod layer;
mod role;
mod verifier;

pub use background::{Background, IssueToken};
pub use conditions::{Conditions, IDEMPOTENCY_KEY_HEADER, IF_MATCH_HEADER, IdempotencyKey, IfMatch, MAX_VERSIONS};
pub use context::{ADDRESS_HEADER, OpCtx, Origin, REQUEST_ID_HEADER, USER_AGENT_HEADER};
pub use layer::AuthLayer;
pub use role::Role;
pub use verifier::{
    API_KEY_PREFIX, AUDIENCE, Bearer, Claims, ISSUER, KeySource, MAX_TOKEN_BYTES, News, Principal, Revocation, Verifier,
};
