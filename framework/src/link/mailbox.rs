//! Owns the queue before an entity: bounded, in order, and whatever comes while the entity is awake
//! or on its way costs no further wake.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    thread::{self, ThreadId},
};

use futures_util::task::AtomicWaker;
use tokio::sync::{Notify, oneshot};

use super::{ConnectionId, End, Mail, Requests};
use crate::{
    limits::{MAILBOX_BATCHES_MAX, MAILBOX_BYTES_MAX, MAILBOX_REFUSED_BYTES_MAX},
    tasks::Tasks,
    wire::Code,
};

/// An entity's mailbox, in this process. A clone is the same one.
///
/// The entity's actor takes from it beside what kameo has for it: with a thousand players that each
/// ask once in a while, a queue of the runtime's own costs a microsecond a message more.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mailbox(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Std mutex: held to append or to take one piece of mail, never across an await.
    queue: Mutex<Queue>,
    /// The entity, while it waits for a handler.
    hurried: AtomicWaker,
    /// Who waits for a place.
    room: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    mail: VecDeque<Mail>,
    /// Ends of sessions: they wait for no other mail.
    ends: VecDeque<(End, oneshot::Sender<bool>)>,
    /// Of the batches in it.
    bytes: usize,
    /// The entity, while it waits for mail.
    entity: Option<Waker>,
    /// The entity, while it rests.
    resting: Option<Box<dyn Resting>>,
    /// The thread of its shard, since it rested first.
    home: Option<ThreadId>,
    /// Something was asked of it from another.
    from_afar: bool,
    /// The entity has stopped.
    closed: bool,
}

/// An entity that nothing runs: it lies with its mailbox until there is mail.
pub(crate) trait Resting: Send + fmt::Debug {
    /// Runs it again.
    fn get_up(self: Box<Self>);
    /// Does what its client asks for, on the thread of its shard; it rests again then, or runs.
    fn serve(self: Box<Self>, requests: Requests);
}

/// Why an entity did not take its mail.
#[derive(Debug)]
pub(crate) enum SendError {
    /// Its mailbox is full: the entity is slower than its callers. The mail comes back.
    Full(Mail),
    /// It has stopped.
    Stopped,
}

impl Mailbox {
    // === Called by whoever has mail ===

    /// Hands mail over without waiting.
    ///
    /// # Errors
    /// [`SendError`] with the mail, when the mailbox is full or the entity has stopped.
    #[inline]
    pub(crate) fn send(&self, mail: Mail) -> Result<(), SendError> {
        let mut queue = self.queue();
        if queue.closed {
            return Err(SendError::Stopped);
        }
        if let Mail::Blocked(connection, _) = &mail {
            // The last word is what counts: it never waits for a place, and has one at most.
            let same = |m: &Mail| matches!(m, Mail::Blocked(of, _) if of == connection);
            if queue.is_full() {
                queue.mail.retain(|m| !same(m));
            }
        } else if queue.is_full() {
            return Err(SendError::Full(mail));
        }
        queue.mail.push_back(mail);
        self.rouse(queue);
        Ok(())
    }

    /// Hands over what a session said, without waiting; an entity that rests on this shard has done
    /// it when this returns, unless a handler waits. When the mailbox is full the requests take
    /// their place in it as refusals (1002), which are small: a session's answers come in order.
    ///
    /// # Errors
    /// 1001 when the entity has stopped, 1002 when there is no room for refusals either; nothing
    /// was then taken, or counted.
    #[inline]
    pub(crate) fn requests(&self, requests: Requests) -> Result<(), Code> {
        let mut queue = self.queue();
        if queue.closed {
            return Err(Code::NOT_CONNECTED);
        }
        let afar = queue.home.is_some_and(|home| home != thread::current().id());
        queue.from_afar |= afar;
        if let Some(resting) = queue.resting.take_if(|_| !afar) {
            // Nothing is before it: whatever else had come would have roused the entity.
            drop(queue);
            resting.serve(requests);
            return Ok(());
        }
        if queue.is_full() {
            queue.refuse(requests)?;
        } else {
            queue.bytes += requests.batch.bytes_len();
            queue.mail.push_back(Mail::Requests(requests));
        }
        self.rouse(queue);
        Ok(())
    }

    /// The entity has something to do.
    #[inline]
    fn rouse(&self, mut queue: MutexGuard<'_, Queue>) {
        let (entity, resting) = (queue.entity.take(), queue.resting.take());
        drop(queue);
        if let Some(entity) = entity {
            entity.wake();
        }
        if let Some(resting) = resting {
            resting.get_up();
        }
    }

    /// Has an entity that rests look whether there is something to do.
    pub(crate) fn nudge(&self) {
        let queue = self.queue();
        if queue.resting.is_some() {
            self.rouse(queue);
        }
    }

    /// Hands mail over, waiting for a place in the mailbox: for the few that must not be lost.
    /// Says whether the entity was there to take it.
    pub(crate) async fn deliver(&self, mut mail: Mail) -> bool {
        let mut waited = false;
        loop {
            let room = self.0.room.notified();
            mail = match self.send(mail) {
                Ok(()) => break,
                Err(SendError::Stopped) => return false,
                Err(SendError::Full(mail)) => mail,
            };
            room.await;
            waited = true;
        }
        // The entity calls one of those who wait, when its mailbox is full no more.
        if waited && !self.queue().is_full() {
            self.0.room.notify_one();
        }
        true
    }

    /// Hands over what must not be lost, in its turn, without waiting here. Says whether the
    /// entity was there.
    pub(crate) fn must_send(&self, mail: Mail, tasks: &Tasks) -> bool {
        match self.send(mail) {
            Ok(()) => true,
            Err(SendError::Stopped) => false,
            Err(SendError::Full(mail)) => {
                let mailbox = self.clone();
                tasks.spawn(async move { mailbox.deliver(mail).await });
                true
            }
        }
    }

    /// Tells the entity that a connection is gone: it would never know that it is alone.
    pub(crate) fn detach(&self, connection: ConnectionId, tasks: &Tasks) -> bool {
        self.must_send(Mail::Detach(connection), tasks)
    }

    /// Ends the session: at once, whatever other mail there is.
    ///
    /// `reply` hears whether there was such a session; nothing, when the entity has stopped.
    pub(crate) fn end(&self, end: End, reply: oneshot::Sender<bool>, tasks: &Tasks) {
        let mut queue = self.queue();
        if queue.closed {
            return;
        }
        if queue.ends.len() >= ENDS_MAX {
            drop(queue);
            let _told: bool = self.must_send(Mail::End(end, reply), tasks);
            return;
        }
        queue.ends.push_back((end, reply));
        self.rouse(queue);
        self.0.hurried.wake();
    }

    // === Called by the entity ===

    /// Takes the next end of a session, while a handler runs.
    pub(crate) fn poll_end(&self, cx: &mut Context<'_>) -> Poll<(End, oneshot::Sender<bool>)> {
        self.0.hurried.register(cx.waker());
        self.queue().ends.pop_front().map_or(Poll::Pending, Poll::Ready)
    }

    /// Takes the next piece of mail.
    #[inline]
    pub(crate) fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Mail> {
        let mut queue = self.queue();
        if let Some((end, reply)) = queue.ends.pop_front() {
            return Poll::Ready(Mail::End(end, reply));
        }
        let was_full = queue.is_full();
        let Some(mail) = queue.mail.pop_front() else {
            if !queue.entity.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
                queue.entity = Some(cx.waker().clone());
            }
            return Poll::Pending;
        };
        if let Mail::Requests(requests) = &mail {
            queue.bytes -= requests.batch.bytes_len();
        }
        if queue.mail.is_empty() {
            // An entity that was busy once does not keep the room for it.
            queue.mail.shrink_to(KEPT);
        }
        drop(queue);
        if was_full {
            self.0.room.notify_one();
        }
        Poll::Ready(mail)
    }

    /// Lays an entity down until there is mail. It is given back when there is some already, or
    /// will be none any more.
    pub(crate) fn rest(&self, entity: Box<dyn Resting>) -> Option<Box<dyn Resting>> {
        let mut queue = self.queue();
        if queue.closed || !queue.mail.is_empty() || !queue.ends.is_empty() {
            return Some(entity);
        }
        // Whoever ran it is woken no more: its task would stay for that.
        drop((queue.entity.take(), self.0.hurried.take()));
        queue.mail.shrink_to_fit();
        queue.ends.shrink_to_fit();
        (queue.home, queue.resting) = (Some(thread::current().id()), Some(entity));
        None
    }

    /// Whether requests came from another shard since this was asked last.
    pub(crate) fn was_asked_from_afar(&self) -> bool {
        std::mem::take(&mut self.queue().from_afar)
    }

    #[cfg(test)]
    pub(crate) fn is_resting(&self) -> bool {
        self.queue().resting.is_some()
    }

    /// Takes nothing more; what was not taken comes back.
    pub(crate) fn close(&self) -> VecDeque<Mail> {
        let mut queue = self.queue();
        queue.closed = true;
        let left = std::mem::take(&mut queue.mail);
        queue.ends.clear();
        let (entity, resting) = (queue.entity.take(), queue.resting.take());
        drop(queue);
        // Who rests closes its mailbox in its turn.
        drop((entity, resting));
        self.0.room.notify_waiters();
        left
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn is_full(&self) -> bool {
        self.mail.len() >= MAILBOX_BATCHES_MAX || self.bytes >= MAILBOX_BYTES_MAX
    }

    /// Keeps of requests what answers them.
    fn refuse(&mut self, requests: Requests) -> Result<(), Code> {
        if self.bytes >= MAILBOX_BYTES_MAX + MAILBOX_REFUSED_BYTES_MAX {
            return Err(Code::BUSY);
        }
        let (refused, _) = requests.batch.refused(Code::BUSY);
        self.bytes += refused.bytes_len();
        match self.mail.back_mut() {
            Some(Mail::Requests(last)) if last.connection == requests.connection => {
                last.batch.append(refused.frames());
            }
            _ => self.mail.push_back(Mail::Requests(Requests { batch: refused, ..requests })),
        }
        Ok(())
    }
}

/// Ends of sessions that overtake other mail. Beyond: they wait in its turn.
const ENDS_MAX: usize = 16;

/// Places that an empty mailbox keeps.
const KEPT: usize = 4;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    fn numbered(n: u64) -> Mail {
        Mail::Detach(ConnectionId(n))
    }

    async fn next(mailbox: &Mailbox) -> u64 {
        match poll_fn(|cx| mailbox.poll_take(cx)).await {
            Mail::Detach(ConnectionId(n)) => n,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn mail_is_taken_in_order_and_who_waits_for_a_place_gets_the_next() {
        let mailbox = Mailbox::default();
        let max = MAILBOX_BATCHES_MAX as u64;
        for n in 0..max {
            mailbox.send(numbered(n)).expect("there is room");
        }
        assert!(matches!(mailbox.send(numbered(9)), Err(SendError::Full(_))));
        let waits = mailbox.deliver(numbered(max));
        let takes = async {
            for n in 0..=max {
                assert_eq!(next(&mailbox).await, n);
            }
        };
        assert!(tokio::join!(waits, takes).0);
    }

    #[tokio::test]
    async fn who_waits_for_a_place_hears_that_the_entity_has_stopped() {
        let mailbox = Mailbox::default();
        while mailbox.send(numbered(1)).is_ok() {}
        let closes = async { mailbox.close() };
        let (delivered, left) = tokio::join!(mailbox.deliver(numbered(2)), closes);
        assert!(!delivered);
        assert_eq!(left.len(), MAILBOX_BATCHES_MAX);
        assert!(matches!(mailbox.send(numbered(3)), Err(SendError::Stopped)));
    }

    #[tokio::test]
    async fn of_many_who_wait_for_a_place_all_get_one() {
        let (mailbox, tasks) = (Mailbox::default(), Tasks::default());
        while mailbox.send(numbered(0)).is_ok() {}
        for n in 1..=10 {
            assert!(mailbox.must_send(numbered(n), &tasks));
        }
        let mut seen = Vec::new();
        while seen.len() < 10 {
            seen.extend(Some(next(&mailbox).await).filter(|n| *n > 0));
        }
        seen.sort_unstable();
        assert_eq!(seen, (1..=10).collect::<Vec<_>>());
    }
}
