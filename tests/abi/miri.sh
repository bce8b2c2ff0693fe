#!/bin/sh
# Runs the SDK's side of the plugin boundary under Miri, where it is installed: aliasing, provenance, uninitialised memory.
# Without Miri, says so and succeeds.
set -eu
cd "$(dirname "$0")/../.."

if ! cargo +nightly miri --version >/dev/null 2>&1; then
    echo "miri: skipped, it is not installed (rustup component add --toolchain nightly miri)"
    exit 0
fi
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}-miri"
# The tests of malformed batches leak what they replace, and the panic hook reads the environment.
export MIRIFLAGS="-Zmiri-ignore-leaks -Zmiri-disable-isolation"
cargo +nightly miri test -p tributary-sdk --test ffi
echo "miri: passed"
