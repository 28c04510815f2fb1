//! Standard health and reflection.

use std::collections::HashSet;

use prost::Message;
use prost_types::FileDescriptorSet;
use tonic_health::{
    pb::health_server::{Health, HealthServer},
    server::HealthReporter,
};
use tonic_reflection::server::{
    Builder, Error,
    v1::{ServerReflection, ServerReflectionServer},
    v1alpha,
};

/// The standard health service and the handle that sets its answers.
pub fn health_service() -> (HealthReporter, HealthServer<impl Health>) {
    tonic_health::server::health_reporter()
}

/// The standard reflection service over an encoded `FileDescriptorSet`, in both versions that clients ask for.
pub fn reflection_services(
    descriptors: &'static [u8],
) -> Result<
    (ServerReflectionServer<impl ServerReflection>, v1alpha::ServerReflectionServer<impl v1alpha::ServerReflection>),
    Error,
> {
    let builder = || {
        Builder::configure()
            .register_encoded_file_descriptor_set(descriptors)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    Ok((builder().build_v1()?, builder().build_v1alpha()?))
}

/// The paths of all methods of an encoded `FileDescriptorSet`, such as `/aegis.testing.v1.TestingService/GetTest`, and
/// of health and reflection.
pub fn methods(descriptors: &[u8]) -> HashSet<String> {
    // They were written by the build of the same program; without them all methods are unknown, which the tests see.
    let mut methods: HashSet<String> = [descriptors, tonic_health::pb::FILE_DESCRIPTOR_SET]
        .into_iter()
        .flat_map(|set| FileDescriptorSet::decode(set).unwrap_or_default().file)
        .flat_map(|file| {
            let package = file.package().to_owned();
            file.service.into_iter().map(move |service| (package.clone(), service))
        })
        .flat_map(|(package, service)| {
            let prefix = format!("/{package}.{}", service.name());
            let paths = service.method.iter().map(|method| format!("{prefix}/{}", method.name()));
            paths.collect::<Vec<_>>()
        })
        .collect();
    for version in ["v1", "v1alpha"] {
        methods.insert(format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"));
    }
    methods
}
