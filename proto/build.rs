//! Compiles the `.proto` files with protox, so that no `protoc` has to be installed.
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "aegis/events/v1/envelope.proto",
        "aegis/events/v1/testing.proto",
        "aegis/events/v1/catalog.proto",
        "aegis/events/v1/evidence.proto",
        "aegis/events/v1/intel.proto",
        "aegis/events/v1/deception.proto",
        "aegis/identity/v1/identity.proto",
        "aegis/identity/v1/notification.proto",
        "aegis/identity/v1/audit.proto",
        "aegis/identity/v1/api_key.proto",
        "aegis/catalog/v1/catalog.proto",
        "aegis/catalog/v1/template.proto",
        "aegis/catalog/v1/knowledge.proto",
        "aegis/testing/v1/testing.proto",
        "aegis/testing/v1/campaign.proto",
        "aegis/evidence/v1/evidence.proto",
        "aegis/intel/v1/intel.proto",
        "aegis/intel/v1/upload.proto",
        "aegis/intel/v1/scheduler.proto",
        "aegis/intel/v1/scan.proto",
        "aegis/analytics/v1/analytics.proto",
        "aegis/analytics/v1/score.proto",
        "aegis/analytics/v1/snapshot.proto",
        "aegis/analytics/v1/compliance.proto",
        "aegis/analytics/v1/operational.proto",
        "aegis/deception/v1/fleet.proto",
        "aegis/deception/v1/sensor.proto",
        "aegis/deception/v1/log.proto",
        "aegis/deception/v1/attacker.proto",
        "aegis/deception/v1/observation.proto",
    ];
    println!("cargo:rerun-if-changed=aegis");
    let descriptors = protox::compile(files, ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), encode(&descriptors))?;
    tonic_prost_build::configure().bytes(".aegis.evidence.v1").compile_fds(descriptors)?;
    Ok(())
}

fn encode(descriptors: &impl prost::Message) -> Vec<u8> {
    descriptors.encode_to_vec()
}
