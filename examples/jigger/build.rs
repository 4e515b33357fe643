//! Compiles what is below `proto`.

fn main() -> bastide_build::Result {
    bastide_build::compile("proto")
}
