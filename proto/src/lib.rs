//! Generated gRPC messages, clients, servers and descriptors of every service.
#![allow(missing_docs, clippy::all, reason = "generated; the .proto files are the documentation")]

/// The encoded `FileDescriptorSet` of all packages, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

macro_rules! packages {
    ($($name:ident)*) => {$(
        #[doc = concat!("Package `aegis.", stringify!($name), ".v1`.")]
        pub mod $name {
            /// Version 1.
            pub mod v1 {
                include!(concat!(env!("OUT_DIR"), "/aegis.", stringify!($name), ".v1.rs"));
            }
        }
    )*};
}

packages!(events identity catalog testing evidence intel analytics deception);
