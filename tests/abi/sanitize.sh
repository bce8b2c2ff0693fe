#!/bin/sh
# Runs the tests of the plugin boundary with AddressSanitizer, in the worker, the SDK and the Rust plugins: reads and writes
# out of bounds and after free are found on both sides of it. Needs a nightly toolchain; without one, says so and succeeds.
# C plugins are compiled as usual, but their allocations are watched, too.
#
#   tests/abi/sanitize.sh [sdk]     "sdk": only the batches over the C interface, a minute to build instead of ten
set -eu
cd "$(dirname "$0")/../.."

if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "sanitize: skipped, there is no nightly toolchain (rustup toolchain install nightly)"
    exit 0
fi
host=$(rustc +nightly -vV | sed -n 's/^host: //p')
case $host in
*-linux-gnu) ;;
*)
    echo "sanitize: skipped, AddressSanitizer is set up here for Linux with glibc, not for $host"
    exit 0
    ;;
esac

# A target of its own: with --target, build scripts and macros are not instrumented, and nothing of the usual build is lost.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}-sanitize"
export RUSTFLAGS="-Zsanitizer=address -Cunsafe-allow-abi-mismatch=sanitizer"
# Panicked instances and libraries are leaked on purpose; that all else is released is what the ownership tests count.
export ASAN_OPTIONS="detect_leaks=0:abort_on_error=0:detect_stack_use_after_return=1"

cargo +nightly test --target "$host" -p tributary-sdk --test ffi
[ "${1:-}" = sdk ] || cargo +nightly test --target "$host" -p tributary-abi-tests
echo "sanitize: passed"
