//! Compiles `proto/cards.proto`.

fn main() -> bastide_build::Result {
    bastide_build::compile("proto")
}
