//! Calls between services: one client type whether the service is in this process or behind a socket, and what a
//! server offers besides its own methods (deadline, panics, health, reflection).

mod addresses;
mod edge;
mod introspection;
mod kept;
mod pool;
mod remote;
mod tls;
mod watch;

use http::{Request, Response};
use tonic::{Code, Status, body::Body};
use tower::util::BoxCloneSyncService;

pub use addresses::{AddressError, MAX_ADDRESSES, check_addresses, ports};
pub use edge::{Edge, EdgeLayer, local};
pub use introspection::{health_service, methods, reflection_services};
pub use remote::{remote, remote_over};
pub use tls::ClientTls;

/// What every generated client is made over: `FooServiceClient<RpcService>`. A caller cannot tell whether the
/// service is in the same process.
pub type RpcService = BoxCloneSyncService<Request<Body>, Response<Body>, Status>;

/// The largest message that a client or server takes, bytes.
pub const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// What a process takes of one call before the one that it is for has read it, bytes: enough for the speed of a local
/// network, and the most that a call which nobody reads can hold.
pub const STREAM_WINDOW: u32 = 1024 * 1024;

/// The same of all answers on a connection together. Another process has one connection for all calls to a service:
/// with less, a few downloads that stand still would shut out the rest.
pub const ANSWERS_WINDOW: u32 = 256 * STREAM_WINDOW;

/// The same of all requests on a connection together; less, because it may be a stranger's.
pub const REQUESTS_WINDOW: u32 = 16 * STREAM_WINDOW;

/// Largest frame, bytes: a chunk of a file in two instead of sixteen.
pub const MAX_FRAME: u32 = 128 * 1024;

/// Says on the span of a call how it ended. It has failed with one of `faults`, or, where none are named, with anything
/// but OK: that is a matter of the side that one looks from.
fn ended(span: &tracing::Span, code: i32, faults: &[Code]) {
    span.record("rpc.response.status_code", aegis_telemetry::grpc_status(code));
    let code = Code::from_i32(code);
    if code != Code::Ok && (faults.is_empty() || faults.contains(&code)) {
        span.record("otel.status_code", "ERROR");
    }
}
