#!/usr/bin/env bash
# Everything that must pass before a change travels, here and on the build server alike.
# Needs Rust, a C compiler and, for the servers of the tests, Debian. Prints each step with its time, and at the end the sum of the tests.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

test_log=$(mktemp)
trap finish EXIT

# Runs one step and prints how long it took. Each step is a simple command, so that `set -e`
# ends the script at the first failure, and `finish` names it.
step() {
    current="$*"
    local begin=$SECONDS
    echo "==> $current"
    "$@"
    echo "<== $((SECONDS - begin)) s: $current"
}

# All tests run even if one fails: the sum is worth more than the minutes saved.
tests() {
    cargo test --workspace --locked --no-fail-fast 2>&1 | tee "$test_log"
}

# The framework's end-to-end suite once more, on the other set of backends: an account center, a
# gate and two game servers on etcd, Redis and PostgreSQL. The first time each was one process.
cluster_tests() {
    TEST_SET=cluster cargo test -p bastide --test it --locked --no-fail-fast 2>&1 | tee -a "$test_log"
}

docs() {
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
}

# Instructions a message, beside the figures that were accepted: the same on a busy machine.
instructions() {
    cargo bench -p bastide-benches --bench instructions --profile instructions --locked
}

# Prints what failed, if something did, and as the last line the sum of the tests: cargo prints
# one `test result:` line for each binary.
finish() {
    local status=$?
    if [ "$status" -ne 0 ]; then
        echo "ci.sh: failed after ${SECONDS} s at: ${current:-the start}" >&2
    else
        echo "ci.sh: all steps passed in ${SECONDS} s"
    fi
    awk '/^test result:/ { passed += $4; failed += $6; ignored += $8 }
         END { printf "tests: %d passed, %d failed, %d ignored\n", passed, failed, ignored }' "$test_log"
    rm -f "$test_log"
    exit "$status"
}

step ./services.sh
step cargo fmt --all --check
step cargo clippy --workspace --all-targets --locked -- -D warnings
step tests
step cluster_tests
step docs
step instructions
