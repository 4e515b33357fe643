//! Owns a handler's call that was not done at once: what it answered so far goes out each time it
//! waits, and what is urgent is looked at meanwhile.

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{Ctx, session::Session, table::Calling};
use crate::{
    directory::Lease,
    link::{End, Mailbox},
    telemetry::{Panic, catch},
    wire::{Code, Refusal},
};

/// What came of a call; or that a studio's code panicked.
pub(super) type Outcome = Result<Result<(), Refusal>, Panic>;

/// A call that was looked at once.
pub(super) enum Begun<'a> {
    Done(Outcome),
    Waits(Waiting<'a>),
}

/// A call under way.
pub(super) struct Waiting<'a> {
    pub(super) call: Calling<'a>,
    pub(super) urgent: Urgent<'a>,
    pub(super) lease: &'a Lease,
}

impl Waiting<'_> {
    /// Waits for its end, until the deadline.
    pub(super) async fn end(self, deadline: Instant) -> Outcome {
        let Self { mut call, mut urgent, lease } = self;
        urgent.ctx.flush();
        let rest = poll_fn(|cx| {
            urgent.look(cx);
            if !lease.holds(Instant::now()) {
                // Another node may run this player by now; what the handler began ends here.
                return Poll::Ready(Ok(Err(Code::NOT_CONNECTED.into())));
            }
            let outcome = match catch(|| call.as_mut().poll(cx)) {
                Ok(polled) => polled.map(Ok),
                Err(panic) => Poll::Ready(Err(panic)),
            };
            if outcome.is_pending() {
                urgent.ctx.flush();
            }
            outcome
        });
        let late = |_| Ok(Err(Code::DEADLINE.into()));
        let outcome = timeout_at(deadline, rest).await.unwrap_or_else(late);
        // What the handler leaves behind may panic in its turn.
        catch(|| drop(call)).and(outcome)
    }
}

/// What an entity looks at while a handler of it waits: that somebody ends its session.
pub(super) struct Urgent<'a> {
    pub(super) ctx: &'a Ctx,
    pub(super) session: Option<&'a Session>,
    pub(super) mailbox: &'a Mailbox,
    pub(super) ended: &'a mut Option<(End, oneshot::Sender<bool>)>,
}

impl Urgent<'_> {
    fn look(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready((end, reply)) = self.mailbox.poll_end(cx) {
            if !self.session.is_some_and(|session| end.is_of(&session.sid)) {
                // Who asked may have given up.
                let _heard = reply.send(false);
                continue;
            }
            if let Some(port) = self.ctx.port() {
                port.kick(end.code, &end.reason);
            }
            *self.ended = Some((end, reply));
        }
    }
}
