//! Calls between services: one client type whether the service is in this process or behind a socket, and what a
//! server offers besides its own methods (deadline, panics, health, reflection).

mod edge;
mod introspection;
mod remote;

use http::{Request, Response};
use tonic::{Status, body::Body};
use tower::util::BoxCloneSyncService;

pub use edge::{Edge, EdgeLayer, local};
pub use introspection::{health_service, reflection_services};
pub use remote::remote;

/// What every generated client is made over: `FooServiceClient<RpcService>`. A caller cannot tell whether the
/// service is in the same process.
pub type RpcService = BoxCloneSyncService<Request<Body>, Response<Body>, Status>;

/// The largest message that a client or server takes, bytes.
pub const MAX_MESSAGE: usize = 16 * 1024 * 1024;
