//! Compiles the message that the benchmarks send, and keeps which compiler they are built with.

use std::{env, process::Command};

fn main() -> bastide_build::Result {
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = Command::new(rustc).arg("--version").output()?.stdout;
    println!("cargo::rustc-env=BENCH_RUSTC={}", String::from_utf8_lossy(&version).trim());
    bastide_build::compile("proto")
}
