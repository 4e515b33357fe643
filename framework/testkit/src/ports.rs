//! Owns which port a server gets. Leaves what happens when it is taken after all to `server`.

use std::{
    collections::HashSet,
    hash::{BuildHasher as _, RandomState},
    net::{Ipv4Addr, TcpListener},
    ops::Range,
    sync::{Mutex, PoisonError},
};

/// Below 32768, where Linux takes the near end of outgoing connections from: while a server is
/// stopped, a client that tries to come back could be given the very port, connect to itself and
/// keep the server from starting again. Above what is well known.
const PORTS: Range<u16> = 12_000..32_000;

/// A port of 127.0.0.1 on which nobody listens, and that was not handed out by this process yet.
///
/// # Panics
///
/// When a thousand tries find none.
pub fn free_port() -> u16 {
    /// Std mutex: held for a look-up.
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    // Seeded by the system: two test programs that start at once take different ports.
    let chance = RandomState::new();
    for attempt in 0..1000_u32 {
        let span = u64::from(PORTS.end - PORTS.start);
        let offset = u16::try_from(chance.hash_one(attempt) % span).expect("below the span");
        let port = PORTS.start + offset;
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
        if free && given.get_or_insert_default().insert(port) {
            return port;
        }
    }
    panic!("no port between {} and {} of 127.0.0.1 is free", PORTS.start, PORTS.end)
}
