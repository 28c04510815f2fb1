#!/bin/sh
# Builds the product for the image. Needs Rust and a C compiler; run anywhere in the checkout.
#   deploy/image/build.sh [PROFILE]     a profile of Cargo: release (the default) or dev
set -eu
cd "$(dirname "$0")/../.."
# Addresses that the loader adjusts, packed: three megabytes less. Needs glibc 2.36, which the image has.
export RUSTFLAGS="${RUSTFLAGS:-} -C link-arg=-Wl,-z,pack-relative-relocs"
exec cargo build --locked --package aegis --profile "${1:-release}"
