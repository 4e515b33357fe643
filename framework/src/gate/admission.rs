//! Owns how many connections there may be, in all and from one address.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustc_hash::FxHashMap;
use tokio::time::Instant;

/// Counts connections.
#[derive(Clone, Debug)]
pub(crate) struct Admission(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    connections_max: usize,
    connections_per_ip_max: usize,
    /// Std mutex: held to count one connection in or out.
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_ip: FxHashMap<IpAddr, usize>,
}

/// One connection's place; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    admission: Admission,
    ip: IpAddr,
    /// When it was taken: its client has connected.
    pub(super) since: Instant,
}

impl Admission {
    pub(crate) fn new(connections_max: usize, connections_per_ip_max: usize) -> Self {
        Self(Arc::new(Counts { connections_max, connections_per_ip_max, open: Mutex::default() }))
    }

    /// A place for one connection; `None` when there is none, at all or for this address.
    pub(crate) fn seat(&self, ip: IpAddr) -> Option<Seat> {
        let ip = subscriber(ip);
        let mut open = self.open();
        if open.total >= self.0.connections_max {
            return None;
        }
        let per_ip_max = self.0.per_ip_max(open.total);
        let from_here = open.by_ip.entry(ip).or_default();
        if *from_here >= per_ip_max {
            return None;
        }
        *from_here += 1;
        open.total += 1;
        Some(Seat { admission: self.clone(), ip, since: Instant::now() })
    }

    /// How many places are taken.
    pub(crate) fn taken(&self) -> usize {
        self.open().total
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    /// How many connections one address may have, of so many in all.
    ///
    /// Of the last quarter of the places an address that has much gets no more, so that a few that
    /// take what they can leave some to everybody else. Where one address may have them all, there
    /// is no such share: a load balancer is in front.
    fn per_ip_max(&self, total: usize) -> usize {
        let Self { connections_max, connections_per_ip_max, .. } = *self;
        let (free, last) = (connections_max - total, connections_max / 4);
        if connections_per_ip_max >= connections_max || free >= last {
            return connections_per_ip_max;
        }
        // Not a single place is refused to who has none.
        (connections_per_ip_max * free / last).max(1)
    }
}

impl Seat {
    /// The same connection's place, counted for another address: a proxy has told the client's.
    pub(crate) fn of(self, ip: IpAddr) -> Option<Self> {
        let (admission, since) = (self.admission.clone(), self.since);
        drop(self);
        let mut seat = admission.seat(ip)?;
        seat.since = since;
        Some(seat)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = self.admission.open();
        open.total -= 1;
        if let Some(from_here) = open.by_ip.get_mut(&self.ip) {
            *from_here -= 1;
            if *from_here == 0 {
                open.by_ip.remove(&self.ip);
            }
        }
    }
}

/// The address that stands for one subscriber: of IPv6 the first 64 bits, for the rest is theirs
/// to choose.
fn subscriber(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gets_no_more_than_its_share_and_its_seats_come_back() {
        let admission = Admission::new(10, 2);
        let [a, b]: [IpAddr; 2] = [[1, 1, 1, 1].into(), [2, 2, 2, 2].into()];
        let seats = [admission.seat(a), admission.seat(a)];
        assert!(seats.iter().all(Option::is_some));
        assert!(admission.seat(a).is_none());
        assert!(admission.seat(b).is_some());
        drop(seats);
        assert!(admission.seat(a).is_some());
        assert_eq!(admission.open().by_ip.len(), 0, "nothing is kept for an address that left");
    }

    #[test]
    fn all_addresses_together_get_no_more_than_the_whole() {
        let admission = Admission::new(3, 2);
        let seats: Vec<_> = (0..5u8).map(|n| admission.seat([n, 0, 0, 1].into())).collect();
        assert_eq!(seats.iter().flatten().count(), 3);
    }

    #[test]
    fn a_few_addresses_that_take_what_they_can_leave_places_to_everybody_else() {
        let admission = Admission::new(1600, 400);
        let hostile = (0..4000u16).map(|n| admission.seat([9, 9, 9, (n % 8) as u8].into()));
        let held: Vec<_> = hostile.flatten().collect();
        assert!((1200..1500).contains(&held.len()), "{}", held.len());
        let others = (0..100).map(|n| admission.seat([1, 1, 1, n].into()));
        assert_eq!(others.flatten().count(), 100, "not while they are held, either");
        drop(held);
        let alone = (0..500).map(|_| admission.seat([9, 9, 9, 9].into()));
        assert_eq!(alone.flatten().collect::<Vec<_>>().len(), 400, "with room, its whole share");

        let behind_one_address = Admission::new(1000, 1000);
        let seats = (0..1001).map(|_| behind_one_address.seat([1, 1, 1, 1].into()));
        assert_eq!(seats.flatten().collect::<Vec<_>>().len(), 1000);
    }

    #[test]
    fn an_ipv6_subscriber_is_counted_by_network_and_a_mapped_v4_as_itself() {
        let one: IpAddr = "2001:db8::1".parse().expect("an address");
        let two: IpAddr = "2001:db8::ffff:2".parse().expect("an address");
        assert_eq!(subscriber(one), subscriber(two));
        let mapped: IpAddr = "::ffff:1.2.3.4".parse().expect("an address");
        assert_eq!(subscriber(mapped), IpAddr::from([1, 2, 3, 4]));
    }
}
