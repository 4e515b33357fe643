//! Owns who has a socket: how many there are, how many of one address, and which of them an account
//! signed in on last.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use socketioxide::socket::Sid;
use tokio::sync::Semaphore;

use super::super::super::throttle::network;
use crate::{
    limits::{SOCKET_CALLS_MAX, SOCKETS_MAX, SOCKETS_PER_IP_MAX},
    wire::Code,
};

/// All sockets. A clone is a handle to the same.
#[derive(Clone, Default)]
pub(super) struct Seats(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Whether nobody is let in any more.
    closed: AtomicBool,
    /// Std mutex: held for a look-up, never across an await.
    taken: Mutex<Taken>,
    /// On which socket an account signed in last. Std mutex: as above.
    signed_in: Mutex<HashMap<i64, Sid>>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    /// This machine's own are not among them.
    by_address: HashMap<String, usize>,
}

/// The right to have a socket, until it is dropped.
pub(super) struct Seat {
    seats: Seats,
    pub(super) ip: Option<IpAddr>,
    /// The key that it is counted under.
    address: Option<String>,
    /// One for each call that may be under way.
    pub(super) calls: Semaphore,
}

impl Seats {
    /// A seat for whoever comes from there.
    ///
    /// # Errors
    /// [`Code::DRAINING`] when nobody is let in any more, [`Code::BUSY`] when all are taken,
    /// [`Code::TOO_MANY_TRIES`] when that address has enough of them.
    pub(super) fn take(&self, ip: Option<IpAddr>) -> Result<Arc<Seat>, Code> {
        if self.0.closed.load(Ordering::Relaxed) {
            return Err(Code::DRAINING);
        }
        let counted = ip.filter(|ip| !ip.to_canonical().is_loopback());
        let address = counted.map(|ip| network(&ip.to_string()));
        let mut taken = self.taken();
        if taken.all >= SOCKETS_MAX {
            tracing::debug!(target: "account", limit = SOCKETS_MAX, "SOCKETS_MAX reached");
            return Err(Code::BUSY);
        }
        if let Some(address) = &address {
            let of = taken.by_address.entry(address.clone()).or_default();
            if *of >= SOCKETS_PER_IP_MAX {
                return Err(Code::TOO_MANY_TRIES);
            }
            *of += 1;
        }
        taken.all += 1;
        let calls = Semaphore::new(SOCKET_CALLS_MAX);
        Ok(Arc::new(Seat { seats: self.clone(), ip, address, calls }))
    }

    /// From now on nobody is let in.
    pub(super) fn close(&self) {
        self.0.closed.store(true, Ordering::Relaxed);
    }

    /// Whether nobody is let in.
    pub(super) fn closed(&self) -> bool {
        self.0.closed.load(Ordering::Relaxed)
    }

    /// Notes where an account is signed in. The socket that it was signed in on before, if that is
    /// another.
    pub(super) fn sign_in(&self, account: i64, socket: Sid) -> Option<Sid> {
        let mut signed_in = self.signed_in();
        // Who signs in as another is not the first any more.
        signed_in.retain(|other, on| *on != socket || *other == account);
        signed_in.insert(account, socket).filter(|before| *before != socket)
    }

    /// Forgets a socket that is gone.
    pub(super) fn gone(&self, socket: Sid) {
        self.signed_in().retain(|_, on| *on != socket);
    }

    /// How many sockets there are, and accounts that are signed in on one.
    #[cfg(test)]
    pub(super) fn count(&self) -> (usize, usize) {
        (self.taken().all, self.signed_in().len())
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signed_in(&self) -> MutexGuard<'_, HashMap<i64, Sid>> {
        self.0.signed_in.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Self { seats, ip: _, address, calls: _ } = self;
        let mut taken = seats.taken();
        taken.all -= 1;
        if let Some(address) = address.take()
            && let Some(of) = taken.by_address.get_mut(&address)
        {
            *of -= 1;
            if *of == 0 {
                taken.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_some_of_all_sockets_and_gives_them_back() {
        let seats = Seats::default();
        let ip = |n: u8| Some(IpAddr::from([203, 0, 113, n]));
        let mut held: Vec<_> =
            (0..SOCKETS_PER_IP_MAX).map(|_| seats.take(ip(1)).unwrap()).collect();
        assert_eq!(seats.take(ip(1)).err(), Some(Code::TOO_MANY_TRIES));
        held.push(seats.take(ip(2)).unwrap());
        held.remove(0);
        held.push(seats.take(ip(1)).unwrap());
        while held.len() < SOCKETS_MAX {
            held.push(seats.take(Some([127, 0, 0, 1].into())).unwrap());
        }
        assert_eq!(seats.take(ip(3)).err(), Some(Code::BUSY));
        drop(held);
        assert_eq!(seats.count(), (0, 0));
        assert!(seats.taken().by_address.is_empty());
        seats.close();
        assert_eq!(seats.take(None).err(), Some(Code::DRAINING));
    }

    #[test]
    fn an_account_is_on_the_socket_where_it_signed_in_last() {
        let seats = Seats::default();
        let (one, other) = (Sid::new(), Sid::new());
        assert_eq!(seats.sign_in(1, one), None);
        assert_eq!(seats.sign_in(1, one), None);
        assert_eq!(seats.sign_in(1, other), Some(one));
        assert_eq!(seats.sign_in(2, other), None);
        assert_eq!(seats.sign_in(1, one), None, "its socket is another's now");
        seats.gone(one);
        seats.gone(other);
        assert_eq!(seats.count(), (0, 0));
    }
}
