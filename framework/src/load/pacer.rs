//! Owns who is due when: one queue of a worker's connections by time, and an alarm that is more
//! exact than the runtime's milliseconds.

use std::{cell::RefCell, cmp::Reverse, collections::BinaryHeap, io, time::Duration};

use tokio::{sync::Notify, time::Instant};

/// Connections by when they have something to do.
#[derive(Debug)]
pub(super) struct Pacer {
    due: RefCell<BinaryHeap<Reverse<(Instant, usize)>>>,
    sooner: Notify,
    alarm: Alarm,
}

impl Pacer {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { due: RefCell::default(), sooner: Notify::new(), alarm: Alarm::new()? })
    }

    /// Has a connection called then.
    pub(super) fn call(&self, connection: usize, at: Instant) {
        let mut due = self.due.borrow_mut();
        if due.peek().is_none_or(|Reverse((first, _))| at < *first) {
            self.sooner.notify_one();
        }
        due.push(Reverse((at, connection)));
    }

    /// The next connection that is due, once it is.
    pub(super) async fn next(&self) -> usize {
        loop {
            let first = self.due.borrow().peek().map(|Reverse(first)| *first);
            match first {
                Some((at, connection)) if at <= Instant::now() => {
                    self.due.borrow_mut().pop();
                    return connection;
                }
                Some((at, _)) => tokio::select! {
                    () = self.alarm.at(at) => {}
                    () = self.sooner.notified() => {}
                },
                None => self.sooner.notified().await,
            }
        }
    }
}

/// Wakes at a time, to some ten microseconds: a timer of the system.
#[cfg(target_os = "linux")]
#[derive(Debug)]
struct Alarm(tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>);

#[cfg(target_os = "linux")]
impl Alarm {
    #[expect(
        deprecated,
        reason = "its sound successor is unsafe to call; an OwnedFd that nobody else has stays \
                  open until this is dropped"
    )]
    fn new() -> io::Result<Self> {
        use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self(tokio::io::unix::AsyncFd::new(timer)?))
    }

    async fn at(&self, at: Instant) {
        use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};
        let Self(timer) = self;
        // Zero would turn it off.
        let wait = at.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
        let it_value = Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: wait.subsec_nanos().into(),
        };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        let set = timerfd_settime(
            timer,
            TimerfdTimerFlags::empty(),
            &Itimerspec { it_interval, it_value },
        );
        if set.is_err() {
            return tokio::time::sleep(wait).await;
        }
        loop {
            let Ok(mut ready) = timer.readable().await else { return };
            // It was set anew if there is nothing to be read.
            let read = |timer: &tokio::io::unix::AsyncFd<_>| {
                rustix::io::read(timer, &mut [0; 8]).map_err(io::Error::from)
            };
            if ready.try_io(read).is_ok() {
                return;
            }
        }
    }
}

/// Wakes at a time, as the runtime does: to a millisecond.
#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
struct Alarm;

#[cfg(not(target_os = "linux"))]
impl Alarm {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn at(&self, at: Instant) {
        tokio::time::sleep_until(at).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_are_called_in_the_order_of_their_time_and_not_before() {
        let pacer = Pacer::new().expect("a timer");
        let now = Instant::now();
        for (connection, ms) in [(1, 30), (2, 10), (3, 20), (4, 0)] {
            pacer.call(connection, now + Duration::from_millis(ms));
        }
        for (connection, ms) in [(4, 0), (2, 10), (3, 20), (1, 30)] {
            assert_eq!(pacer.next().await, connection);
            assert!(now.elapsed() >= Duration::from_millis(ms));
        }
    }

    #[tokio::test]
    async fn who_is_due_sooner_is_called_sooner_also_while_it_waits() {
        let pacer = Pacer::new().expect("a timer");
        let now = Instant::now();
        pacer.call(1, now + Duration::from_secs(600));
        let sooner = async {
            tokio::task::yield_now().await;
            pacer.call(2, now + Duration::from_millis(1));
        };
        let (next, ()) = tokio::join!(pacer.next(), sooner);
        assert_eq!(next, 2);
    }
}
