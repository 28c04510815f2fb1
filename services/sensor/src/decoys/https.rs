//! HTTP over TLS: the same web server as http of the same decky.

pub(crate) use super::http::tls_server as server;
