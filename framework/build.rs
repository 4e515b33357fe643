//! Compiles `proto/`: what clients, gates and the account center say to each other.

fn main() -> bastide_build::Result {
    bastide_build::compile("../proto")
}
