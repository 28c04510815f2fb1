//! TLS towards other processes: what is believed and shown can be replaced while connections come and go.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock},
};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use crate::addresses::AddressError;

/// The one protocol that services speak.
const HTTP2: &[u8] = b"h2";

/// How `https` addresses are connected to. Clones share it; a new connection takes what holds then.
#[derive(Clone)]
pub struct ClientTls(Arc<RwLock<Arc<ClientConfig>>>);

impl ClientTls {
    /// Connections by this configuration, whatever protocols it names.
    pub fn new(config: ClientConfig) -> ClientTls {
        ClientTls(Arc::new(RwLock::new(ours(config))))
    }

    /// Later connections go by this one; those that are open stay.
    pub fn replace(&self, config: ClientConfig) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = ours(config);
    }

    fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// One connection to `address`, made when it is needed, again and again; the server there has to be `host`.
    pub(crate) fn channel(
        &self,
        endpoint: &Endpoint,
        address: SocketAddr,
        host: &str,
    ) -> Result<Channel, AddressError> {
        let name = ServerName::try_from(host.to_owned()).map_err(AddressError::of)?;
        let tls = self.clone();
        Ok(endpoint.connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
            let (config, name) = (tls.config(), name.clone());
            async move {
                let socket = TcpStream::connect(address).await?;
                socket.set_nodelay(true)?;
                let stream = TlsConnector::from(config).connect(name, socket).await?;
                if stream.get_ref().1.alpn_protocol() != Some(HTTP2) {
                    return Err(io::Error::other("the server does not speak HTTP/2 over TLS"));
                }
                Ok(TokioIo::new(stream))
            }
        })))
    }
}

fn ours(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![HTTP2.to_vec()];
    Arc::new(config)
}

/// Believes whom browsers believe, and shows nothing.
impl Default for ClientTls {
    fn default() -> ClientTls {
        let roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        ClientTls::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientTls")
    }
}
