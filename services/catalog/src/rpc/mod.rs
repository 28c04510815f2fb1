//! The gRPC methods: messages in and out, nothing else.

mod catalog;
mod messages;
mod templates;

pub(crate) use catalog::CatalogRpc;
pub(crate) use templates::TemplateRpc;
