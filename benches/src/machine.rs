//! Owns what is asked of the machine: what it is, and the CPU that a process has used.

use std::{fs, thread, time::Duration};

use crate::Memory;

/// One line about the machine, without which no figure means anything.
pub fn machine() -> String {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{cores} cores ({}), {}, Linux {}",
        model.map_or("of an unknown kind", |(_, model)| model),
        env!("BENCH_RUSTC"),
        kernel.trim(),
    )
}

/// CPU that every thread of a process has used so far, as long as the thread is there.
///
/// # Panics
/// Elsewhere than on Linux.
pub fn cpu(process: u32) -> Duration {
    let of_thread = |thread: fs::DirEntry| {
        let line = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        line.split(' ').next()?.parse::<u64>().ok()
    };
    let threads = fs::read_dir(format!("/proc/{process}/task")).expect("this is Linux");
    Duration::from_nanos(threads.flatten().filter_map(of_thread).sum())
}

/// Memory of a process.
///
/// # Panics
/// Elsewhere than on Linux.
pub fn memory(process: u32) -> Memory {
    let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).expect("Linux");
    let bytes = |name: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
        kib.expect("a figure") * 1024.0
    };
    Memory { rss: bytes("Rss:"), pss: bytes("Pss:") }
}
