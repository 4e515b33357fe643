#!/bin/sh
# Builds and runs the program beside it. It has a target folder of its own (the workspace's is
# locked by the build that calls this), and must not borrow that build's job tokens.
set -eu
unset CARGO_MAKEFLAGS MAKEFLAGS RUSTFLAGS CARGO_ENCODED_RUSTFLAGS PROTOC RUSTC_WORKSPACE_WRAPPER RUSTC_WRAPPER || true
here=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../target}/protoc
"${CARGO:-cargo}" build --quiet --locked --manifest-path "$here/Cargo.toml" --target-dir "$target" 1>&2
exec "$target/debug/protoc" "$@"
