//! The gRPC methods: messages in and out, nothing else.

mod catalog;
mod knowledge;
mod messages;
mod templates;

pub(crate) use catalog::CatalogRpc;
pub(crate) use knowledge::KnowledgeRpc;
pub(crate) use templates::TemplateRpc;
