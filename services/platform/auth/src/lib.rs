//! Who is asking: roles, principals, the token verifier, the layer that every service stands behind, and the context
//! that every use case takes as its first argument.

mod background;
mod context;
mod layer;
mod role;
mod verifier;

pub use background::{Background, IssueToken};
pub use context::{ADDRESS_HEADER, OpCtx, Origin, REQUEST_ID_HEADER, USER_AGENT_HEADER};
pub use layer::AuthLayer;
pub use role::Role;
pub use verifier::{AUDIENCE, Claims, ISSUER, KeySource, MAX_TOKEN_BYTES, Principal, Revocation, Verifier};
