//! Compiles the message that the benchmarks send.

fn main() -> bastide_build::Result {
    bastide_build::compile("proto")
}
