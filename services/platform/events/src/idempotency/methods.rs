//! What is to be known of a method before a call of it, read from the descriptors of all services.

use std::{
    collections::{HashMap, HashSet},
    sync::LazyLock,
};

use prost::Message;
use prost_types::{DescriptorProto, FileDescriptorSet, field_descriptor_proto::Type};

/// Methods whose names begin so change nothing.
const READS: [&str; 7] = ["Get", "List", "Count", "Verify", "Export", "Search", "Pick"];
/// A text with one of these words in its name lets its holder in somewhere.
const SECRETS: [&str; 4] = ["token", "secret", "password", "ticket"];
/// Where a list goes on: no secret.
const PAGE_TOKEN: &str = "next_page_token";

/// A method that changes something and answers with one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Method {
    /// The request is a stream.
    pub streamed: bool,
    /// The answer holds a secret: it must not be kept.
    pub secret: bool,
}

/// By path, such as `/aegis.testing.v1.TestingService/CreateTest`.
static METHODS: LazyLock<HashMap<String, Method>> = LazyLock::new(|| read(aegis_proto::DESCRIPTORS));

/// The method of that path, if it changes something.
pub(super) fn method(path: &str) -> Option<Method> {
    METHODS.get(path).copied()
}

fn read(descriptors: &[u8]) -> HashMap<String, Method> {
    // They were written by the build of the same program; without them no key is honoured, which the tests would see.
    let files = FileDescriptorSet::decode(descriptors).unwrap_or_default().file;
    let mut messages = HashMap::new();
    for file in &files {
        collect(&format!(".{}", file.package()), &file.message_type, &mut messages);
    }
    let mut methods = HashMap::new();
    for file in &files {
        for service in &file.service {
            for method in &service.method {
                if READS.iter().any(|read| method.name().starts_with(read)) || method.server_streaming() {
                    continue;
                }
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                let secret = holds_secret(method.output_type(), &messages, &mut HashSet::new());
                methods.insert(path, Method { streamed: method.client_streaming(), secret });
            }
        }
    }
    methods
}

fn collect<'a>(scope: &str, messages: &'a [DescriptorProto], into: &mut HashMap<String, &'a DescriptorProto>) {
    for message in messages {
        let name = format!("{scope}.{}", message.name());
        collect(&name, &message.nested_type, into);
        into.insert(name, message);
    }
}

fn holds_secret<'a>(name: &'a str, all: &HashMap<String, &'a DescriptorProto>, seen: &mut HashSet<&'a str>) -> bool {
    let Some(message) = all.get(name).filter(|_| seen.insert(name)) else { return false };
    message.field.iter().any(|field| match field.r#type() {
        Type::String | Type::Bytes => {
            field.name() != PAGE_TOKEN && field.name().split('_').any(|word| SECRETS.contains(&word))
        }
        Type::Message => holds_secret(field.type_name(), all, seen),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_known_and_reads_are_not() {
        let create = method("/aegis.testing.v1.TestingService/CreateTest").unwrap();
        assert_eq!(create, Method { streamed: false, secret: false });
        assert!(method("/aegis.evidence.v1.EvidenceService/UploadEvidence").unwrap().streamed);
        for read in ["/aegis.testing.v1.TestingService/ListTests", "/aegis.evidence.v1.EvidenceService/GetEvidence"] {
            assert_eq!(method(read), None, "{read}");
        }
        assert_eq!(method("/grpc.health.v1.Health/Check"), None);
    }

    #[test]
    fn what_lets_somebody_in_is_not_kept() {
        let secret: HashSet<&str> = METHODS.iter().filter(|(_, m)| m.secret).map(|(path, _)| path.as_str()).collect();
        for path in [
            "/aegis.identity.v1.IdentityService/Login",
            "/aegis.identity.v1.IdentityService/IssueServiceToken",
            "/aegis.identity.v1.ApiKeyService/CreateApiKey",
        ] {
            assert!(secret.contains(path), "{path} is not among {secret:?}");
        }
        // All else is kept: nothing outside of identity gives secrets out.
        assert!(secret.iter().all(|path| path.starts_with("/aegis.identity.v1.")), "{secret:?}");
    }
}
