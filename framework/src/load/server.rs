//! Owns what is known of processes on this machine, the server's and the generator's: their CPU and
//! memory, as Linux tells; elsewhere nothing is.

use std::time::Duration;

/// What processes have used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Usage {
    /// Since they began.
    pub(super) cpu: Duration,
    /// Bytes, resident now.
    pub(super) memory: u64,
}

/// Processes whose use is looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Processes(pub(super) Vec<u32>);

#[cfg(target_os = "linux")]
impl Processes {
    /// Who listens at these addresses, where that is this machine.
    pub(super) fn listening(addresses: &[std::net::SocketAddr]) -> Self {
        use procfs::{net::TcpState, process::FDTarget};
        let here = |at: &&std::net::SocketAddr| std::net::UdpSocket::bind((at.ip(), 0)).is_ok();
        let ports: Vec<_> = addresses.iter().filter(here).map(std::net::SocketAddr::port).collect();
        let sockets = procfs::net::tcp().into_iter().chain(procfs::net::tcp6()).flatten();
        let of_ours = sockets.filter(|socket| {
            socket.state == TcpState::Listen && ports.contains(&socket.local_address.port())
        });
        let inodes: Vec<_> = of_ours.map(|socket| socket.inode).collect();
        if inodes.is_empty() {
            return Self::default();
        }
        let holds = |process: &procfs::process::Process| {
            process.fd().into_iter().flatten().flatten().any(
                |file| matches!(file.target, FDTarget::Socket(inode) if inodes.contains(&inode)),
            )
        };
        let all = procfs::process::all_processes().into_iter().flatten().flatten();
        let pids = all.filter(holds).filter_map(|process| u32::try_from(process.pid()).ok());
        Self(pids.collect())
    }

    /// What they have used, all together; `None` when none of them is there.
    pub(super) fn usage(&self) -> Option<Usage> {
        let Self(pids) = self;
        let of = |pid: &u32| {
            let process = procfs::process::Process::new(i32::try_from(*pid).ok()?).ok()?;
            let stat = process.stat().ok()?;
            let ticks = (stat.utime + stat.stime) as f64;
            let cpu =
                Duration::try_from_secs_f64(ticks / procfs::ticks_per_second() as f64).ok()?;
            Some(Usage { cpu, memory: stat.rss * procfs::page_size() })
        };
        let add = |a: Usage, b: Usage| Usage { cpu: a.cpu + b.cpu, memory: a.memory + b.memory };
        pids.iter().filter_map(of).reduce(add)
    }
}

#[cfg(not(target_os = "linux"))]
impl Processes {
    pub(super) fn listening(_: &[std::net::SocketAddr]) -> Self {
        Self::default()
    }

    pub(super) fn usage(&self) -> Option<Usage> {
        None
    }
}

/// What this machine's processors are called, and how many of them there are for us.
pub(super) fn machine() -> (String, usize) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let arch = std::env::consts::ARCH;
    (named.map_or_else(|| arch.to_owned(), |(_, name)| name.trim().to_owned()), cores)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn who_listens_is_found_and_nobody_where_nobody_does() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("an address");
        let found = Processes::listening(&[at]);
        assert!(found.0.contains(&std::process::id()), "{found:?}");
        let usage = found.usage().expect("it runs");
        assert!(usage.memory > 1_000_000, "{usage:?}");
        drop(listener);
        assert_eq!(Processes::listening(&[at]), Processes::default());
        assert_eq!(Processes::default().usage(), None);
    }
}
