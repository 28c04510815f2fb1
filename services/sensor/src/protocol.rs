//! What a service of a decky is to the sensor.

use std::{io, sync::Arc};

use async_trait::async_trait;

use crate::session::{Session, Stream};

/// A protocol over connections, as one decky speaks it.
#[async_trait]
pub trait Protocol: Send + Sync + 'static {
    /// Talks to one client until either is done. The sensor itself tells of the connection's beginning and end, and ends
    /// it when it lasts too long, says nothing for too long or sends too much: reads fail then. An error is no fault:
    /// it is how clients leave.
    async fn serve(self: Arc<Self>, stream: Stream, session: Session) -> io::Result<()>;
}

/// A protocol over single datagrams, as one decky speaks it.
#[async_trait]
pub trait Datagrams: Send + Sync + 'static {
    /// The answer to a datagram; nothing is answered with none. An answer is never longer than four times the question:
    /// decoys must not amplify.
    async fn answer(&self, datagram: &[u8], session: &Session) -> Option<Vec<u8>>;
}

/// A service that is ready to be bound to a port.
#[derive(Clone)]
pub enum Server {
    /// TCP.
    Connections(Arc<dyn Protocol>),
    /// UDP.
    Datagrams(Arc<dyn Datagrams>),
}
