//! Owns what waits to be written to one client: bounded in bytes, in the order of the requests.
//!
//! Entities append from any thread; the connection takes everything that is there and writes it
//! at once. Answers that arrive before an earlier request is answered wait here, so that a
//! session's answers come in the order of its requests whoever gives them.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};

use futures_util::task::AtomicWaker;
use metrics::Counter;
use tokio::time::Instant;

use super::routes::RouteId;
use crate::{
    Named,
    link::{Batch, Frames, SessionEnd, UNTAGGED, error_message},
    wire::{Code, Refusal, put_message},
};

/// The frames on their way to one client.
#[derive(Debug)]
pub(crate) struct Outbox {
    /// Std mutex: held to append or to swap a buffer, never across an await or a syscall.
    inner: Mutex<Inner>,
    /// The connection's task.
    writer: AtomicWaker,
    bytes_max: usize,
    /// Answers to requests that the gate had answered itself.
    late_answers: Counter,
}

/// How the session ends, decided by somebody else than the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kicked {
    pub(crate) code: Code,
    pub(crate) reason: String,
}

#[derive(Debug, Default)]
struct Inner {
    /// Whole frames, ready to be written.
    ready: Vec<u8>,
    /// Bytes that the connection has taken and not yet written.
    taken_bytes: usize,
    /// Requests without an answer, oldest first; their numbers have no gaps.
    pending: VecDeque<Pending>,
    /// Bytes of answers in `pending` that wait for an earlier one.
    early_bytes: usize,
    /// Number of the newest request; numbers start at 1, for 0 is [`UNTAGGED`].
    last_request: u32,
    /// What the entity pushed before the client was told that it is signed in.
    held: Option<Vec<u8>>,
    kicked: Option<Kicked>,
    /// The player goes to another node.
    moving: Option<Moving>,
    draining: bool,
}

/// A player on its way to another node.
#[derive(Debug, Default)]
struct Moving {
    /// Requests that it had not begun.
    returned: Batch,
    /// Nothing more is returned.
    detached: bool,
}

#[derive(Debug)]
struct Pending {
    route: RouteId,
    /// When the gate answers 1003 itself.
    deadline: Instant,
    answer: Option<Vec<u8>>,
}

/// What the connection's task finds when it wakes.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) kicked: Option<Kicked>,
    pub(crate) draining: bool,
    pub(crate) moving: bool,
    pub(crate) in_flight: usize,
    /// When the oldest unanswered request must be given up.
    pub(crate) oldest_deadline: Option<Instant>,
}

impl Outbox {
    pub(crate) fn new(bytes_max: usize, late_answers: Counter) -> Self {
        Self { inner: Mutex::default(), writer: AtomicWaker::new(), bytes_max, late_answers }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while it was held leaves whole frames or one missing; the client goes on.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection's task is woken by whatever happens from now on.
    pub(crate) fn register(&self, waker: &Waker) {
        self.writer.register(waker);
    }

    // === Called by the connection ===

    /// Swaps the ready frames into `writing`, which must have been written whole (`unwritten`
    /// bytes are left of it otherwise, and nothing is swapped).
    pub(crate) fn take(&self, writing: &mut Vec<u8>, unwritten: usize) -> Taken {
        let mut inner = self.lock();
        // Here too: what the gate answers itself does not come through `deliver`.
        inner.taken_bytes = unwritten;
        inner.kick_above(self.bytes_max);
        if unwritten == 0 {
            writing.clear();
            std::mem::swap(writing, &mut inner.ready);
            inner.taken_bytes = writing.len();
        }
        Taken {
            kicked: inner.kicked.clone(),
            draining: inner.draining,
            moving: inner.moving.is_some(),
            in_flight: inner.pending.len(),
            oldest_deadline: inner.pending.front().map(|p| p.deadline),
        }
    }

    /// Begins numbering requests; the outbox is locked until the end of it.
    pub(crate) fn requests(&self, deadline: Instant) -> Numbering<'_> {
        Numbering { inner: self.lock(), deadline }
    }

    /// From now on what entities push is held back until [`Outbox::open`].
    pub(crate) fn hold(&self) {
        self.lock().held = Some(Vec::new());
    }

    /// Tells the client that it is signed in, then everything that was held back.
    pub(crate) fn open<M: Named>(&self, greeting: &M) {
        let mut inner = self.lock();
        let held = inner.held.take().unwrap_or_default();
        put_message(&mut inner.ready, greeting).expect("a sign-in answer is small");
        inner.ready.extend_from_slice(&held);
    }

    /// Answers 1003 for every request whose deadline has passed. How many there were, and when
    /// the oldest of the rest must be given up.
    pub(crate) fn expire(
        &self,
        now: Instant,
        name: impl Fn(RouteId) -> String,
    ) -> (usize, Option<Instant>) {
        let mut inner = self.lock();
        let mut expired = 0;
        while let Some(oldest) = inner.pending.front()
            && oldest.answer.is_none()
            && oldest.deadline <= now
        {
            let error = error_message(&name(oldest.route), Code::DEADLINE, Code::DEADLINE.text());
            inner.pending.pop_front();
            put_message(&mut inner.ready, &error).expect("an error is small");
            inner.release_early();
            expired += 1;
        }
        (expired, inner.pending.front().map(|p| p.deadline))
    }

    /// Drops what has not been written, for a client that is told goodbye out of turn.
    pub(crate) fn discard(&self) {
        let mut inner = self.lock();
        let Inner { ready, pending, early_bytes, held, .. } = &mut *inner;
        ready.clear();
        pending.clear();
        *early_bytes = 0;
        *held = None;
    }

    /// Ready when the player has left its node, with what it had not begun.
    ///
    /// # Errors
    /// When the session is ended meanwhile.
    pub(crate) async fn moved(&self) -> Result<Batch, Refusal> {
        poll_fn(|cx| {
            self.register(cx.waker());
            let mut inner = self.lock();
            if let Some(Kicked { code, .. }) = &inner.kicked {
                return Poll::Ready(Err((*code).into()));
            }
            match inner.moving.take_if(|moving| moving.detached) {
                Some(moving) => Poll::Ready(Ok(moving.returned)),
                None => Poll::Pending,
            }
        })
        .await
    }

    /// Nobody is here who would follow the player.
    pub(crate) fn stay(&self) {
        self.lock().moving = None;
    }

    /// The gate is going away: no new requests, the answers still due are awaited.
    pub(crate) fn drain(&self) {
        self.lock().draining = true;
        self.writer.wake();
    }

    /// Unwritten bytes and unanswered requests.
    #[cfg(test)]
    pub(crate) fn depth(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.unwritten_bytes(), inner.pending.len())
    }
}

impl SessionEnd for Outbox {
    /// Appends what an entity has for this client. More than the limit unread: the client is
    /// kicked (2008), nobody waits for it.
    #[inline]
    fn deliver(&self, frames: Frames<'_>) {
        let mut inner = self.lock();
        if inner.kicked.is_some() {
            return;
        }
        for (tag, frame) in frames {
            if !inner.accept(tag, frame.bytes) {
                self.late_answers.increment(1);
            }
        }
        inner.kick_above(self.bytes_max);
        drop(inner);
        self.writer.wake();
    }

    fn kick(&self, code: Code, reason: &str) {
        self.lock().kicked.get_or_insert_with(|| Kicked { code, reason: reason.to_owned() });
        self.writer.wake();
    }

    fn leaving(&self) {
        self.lock().moving.get_or_insert_default();
        self.writer.wake();
    }

    fn give_back(&self, frames: Frames<'_>) {
        self.lock().moving.get_or_insert_default().returned.append(frames);
    }

    fn detached(&self) {
        if let Some(moving) = &mut self.lock().moving {
            moving.detached = true;
        }
        self.writer.wake();
    }
}

impl Inner {
    fn unwritten_bytes(&self) -> usize {
        self.ready.len()
            + self.taken_bytes
            + self.early_bytes
            + self.held.as_ref().map_or(0, Vec::len)
    }

    /// The client does not read: nobody waits for it.
    fn kick_above(&mut self, bytes_max: usize) {
        if self.unwritten_bytes() > bytes_max && self.kicked.is_none() {
            let reason = format!("more than {bytes_max} bytes unread");
            self.kicked = Some(Kicked { code: Code::TOO_SLOW, reason });
        }
    }

    /// Says whether anybody waits for it.
    #[inline]
    fn accept(&mut self, tag: u32, frame: &[u8]) -> bool {
        if tag == UNTAGGED {
            self.held.as_mut().unwrap_or(&mut self.ready).extend_from_slice(frame);
            return true;
        }
        // Numbers have no gaps, so the distance to the newest is the place in the queue.
        let back = self.last_request.wrapping_sub(tag) as usize;
        let Some(place) = self.pending.len().checked_sub(back + 1) else { return false };
        if place == 0 {
            self.pending.pop_front();
            self.ready.extend_from_slice(frame);
            self.release_early();
        } else if self.pending[place].answer.is_none() {
            self.early_bytes += frame.len();
            self.pending[place].answer = Some(frame.to_vec());
        }
        true
    }

    fn release_early(&mut self) {
        while let Some(answer) = self.pending.front_mut().and_then(|p| p.answer.take()) {
            self.pending.pop_front();
            self.early_bytes -= answer.len();
            self.ready.extend_from_slice(&answer);
        }
    }
}

/// Gives numbers to requests, in order.
#[derive(Debug)]
pub(crate) struct Numbering<'a> {
    inner: MutexGuard<'a, Inner>,
    deadline: Instant,
}

impl Numbering<'_> {
    /// The number under which this request will be answered.
    #[inline]
    pub(crate) fn request(&mut self, route: RouteId) -> u32 {
        let inner = &mut *self.inner;
        // Numbers start again at 1 in a quiet moment of the upper half of their range, so that
        // they neither wrap nor have gaps.
        if inner.pending.is_empty() && inner.last_request > u32::MAX / 2 {
            inner.last_request = 0;
        }
        inner.last_request += 1;
        inner.pending.push_back(Pending { route, deadline: self.deadline, answer: None });
        inner.last_request
    }

    /// An answer that the gate gives itself, in its turn among the others.
    pub(crate) fn answer<M: Named>(&mut self, route: RouteId, message: &M) {
        let mut frame = Vec::new();
        put_message(&mut frame, message).expect("what a gate says itself is small");
        if self.inner.pending.is_empty() {
            self.inner.ready.extend_from_slice(&frame);
        } else {
            let number = self.request(route);
            let _taken: bool = self.inner.accept(number, &frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        msg,
        wire::{Cut, FRAME_BYTES_MAX, cut},
    };
    use proptest::prelude::*;
    use std::time::Duration;

    fn echo(val: i64) -> msg::echo::Res {
        msg::echo::Res { val: Some(val), ct: None }
    }

    fn written(outbox: &Outbox) -> Vec<String> {
        let mut bytes = Vec::new();
        outbox.take(&mut bytes, 0);
        let (mut rest, mut seen) = (&bytes[..], Vec::new());
        while let Ok(Cut::Frame(frame)) = cut(rest, FRAME_BYTES_MAX) {
            seen.push(format!("{} {:?}", frame.api, frame.payload));
            rest = &rest[frame.bytes.len()..];
        }
        seen
    }

    fn answer(outbox: &Outbox, tag: u32, val: i64) {
        let mut batch = Batch::default();
        batch.push_message(tag, &echo(val)).expect("fits");
        outbox.deliver(batch.frames());
    }

    #[tokio::test]
    async fn an_answer_that_comes_too_early_waits_for_the_ones_before_it() {
        let outbox = Outbox::new(1 << 20, Counter::noop());
        let mut numbers = outbox.requests(Instant::now());
        let (first, second) = (numbers.request(RouteId(0)), numbers.request(RouteId(0)));
        numbers.answer(RouteId(0), &echo(3));
        drop(numbers);

        answer(&outbox, second, 2);
        assert_eq!(written(&outbox), Vec::<String>::new());
        answer(&outbox, first, 1);
        let frames = [1, 2, 3].map(|v| format!("msg.Echo.Res {:?}", [8, v]));
        assert_eq!(written(&outbox), frames);
        assert_eq!(outbox.depth(), (3 * 18, 0), "taken bytes count until they are written");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_nobody_answers_is_answered_by_the_gate_and_a_late_answer_is_dropped() {
        let outbox = Outbox::new(1 << 20, Counter::noop());
        let deadline = Instant::now() + Duration::from_secs(1);
        let tag = outbox.requests(deadline).request(RouteId(0));
        let later = deadline + Duration::from_secs(5);
        outbox.requests(later).request(RouteId(0));
        let name = |_| "a.Req".to_owned();
        assert_eq!(outbox.expire(Instant::now(), name), (0, Some(deadline)));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(outbox.expire(Instant::now(), name), (1, Some(later)));
        answer(&outbox, tag, 1);
        let seen = written(&outbox);
        assert_eq!(seen.len(), 1, "{seen:?}");
        assert!(seen[0].starts_with("msg.Error.Res"), "{seen:?}");
    }

    #[tokio::test]
    async fn pushes_made_during_sign_in_come_after_its_answer() {
        let outbox = Outbox::new(1 << 20, Counter::noop());
        outbox.hold();
        answer(&outbox, UNTAGGED, 1);
        outbox.open(&echo(0));
        let seen = written(&outbox);
        assert!(seen[0].ends_with("[8, 0]") && seen[1].ends_with("[8, 1]"), "{seen:?}");
    }

    #[tokio::test]
    async fn what_the_gate_answers_itself_counts_as_unread_too() {
        let outbox = Outbox::new(1000, Counter::noop());
        for n in 0..1000 {
            outbox.requests(Instant::now()).answer(RouteId(0), &echo(n));
        }
        let taken = outbox.take(&mut Vec::new(), 5);
        assert_eq!(taken.kicked.map(|k| k.code), Some(Code::TOO_SLOW));
    }

    #[tokio::test]
    async fn more_unread_bytes_than_the_limit_kick_the_client_and_are_not_kept() {
        let outbox = Outbox::new(1000, Counter::noop());
        for n in 0..1000 {
            answer(&outbox, UNTAGGED, n);
        }
        let taken = outbox.take(&mut Vec::new(), 0);
        assert_eq!(taken.kicked.map(|k| k.code), Some(Code::TOO_SLOW));
        assert!(outbox.depth().0 < 1100, "{:?}", outbox.depth());
    }

    proptest! {
        #[test]
        fn whatever_the_order_of_answering_the_client_sees_the_order_of_asking(order in Just((1..=20u32).collect::<Vec<_>>()).prop_shuffle()) {
            let rt = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let _guard = rt.enter();
            let outbox = Outbox::new(1 << 20, Counter::noop());
            let mut numbers = outbox.requests(Instant::now());
            for _ in 0..20 { numbers.request(RouteId(0)); }
            drop(numbers);
            for tag in order { answer(&outbox, tag, i64::from(tag)); }
            let frames: Vec<_> = (1..=20).map(|v| format!("msg.Echo.Res {:?}", [8, v])).collect();
            prop_assert_eq!(written(&outbox), frames);
        }
    }
}
