//! Owns the real servers that tests run against: etcd, Redis and PostgreSQL of Debian, as child
//! processes on free ports of the loopback, each with a folder of its own. Leaves what is asked
//! of them to the tests.
//!
//! ```
//! let mut redis = bastide_testkit::Redis::start();
//! assert!(redis.url().starts_with("redis://127.0.0.1:"));
//! redis.kill();
//! redis.restart();
//! ```
//!
//! A server ends with its value, and all of them with the test process, also when that is killed.
//! Everything here blocks: a test on an async runtime calls it from where waiting is no harm.

mod etcd;
mod guard;
mod ports;
mod postgres;
mod redis;
mod secrets;
mod server;

use std::{
    process,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

pub use crate::{
    etcd::{Etcd, Taken},
    ports::free_port,
    postgres::Postgres,
    redis::Redis,
    secrets::{assert_none_is_logged, logged, secret},
};

/// One server of each kind.
#[derive(Debug)]
pub struct Services {
    /// Nodes, claims, configuration.
    pub etcd: Etcd,
    /// What may be lost.
    pub redis: Redis,
    /// What must not.
    pub postgres: Postgres,
}

impl Services {
    /// Starts a set of one's own, for a test that stops or freezes them.
    ///
    /// # Panics
    ///
    /// When a server is not installed or does not start; the text says what to do.
    pub fn start() -> Self {
        // Side by side: a test program waits for the slowest, not for the sum.
        thread::scope(|scope| {
            let etcd = scope.spawn(Etcd::start);
            let postgres = scope.spawn(Postgres::start);
            let redis = Redis::start();
            let etcd = etcd.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let postgres = postgres.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Self { etcd, redis, postgres }
        })
    }
}

/// One set for a whole test program, started by whoever asks first and stopped when the program
/// ends, however it ends. Tests share the servers, not the keys: see [`cluster_name`] and
/// [`Postgres::database`].
///
/// # Panics
///
/// As [`Services::start`].
pub fn shared() -> &'static Services {
    static SHARED: OnceLock<Services> = OnceLock::new();
    SHARED.get_or_init(Services::start)
}

/// A name that no other test on this machine has: the process id tells programs apart, the
/// number the tests of one program.
pub fn cluster_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("test-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
