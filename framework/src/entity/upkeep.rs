//! Owns what an entity does by the clock: its state is saved, and it stops when nobody needs it.

use tokio::time::{Instant, sleep_until};

use super::actor::Entity;
use crate::{store::StoreError, telemetry::catch, wire::Code};

impl<S: Send + Sync + 'static> Entity<S> {
    /// The state may have changed: it is written within the save interval, however busy the
    /// entity is.
    pub(super) fn touch(&mut self, now: Instant) {
        match self.save_due {
            Some(due) if due <= now => self.begin_save(now),
            Some(_) => {}
            None => {
                self.save_due = Some(now + self.host.settings().save_interval);
                self.set_timer();
            }
        }
    }

    fn begin_save(&mut self, now: Instant) {
        if self.saving.is_some() {
            return;
        }
        self.save_due = None;
        if let Some(state) = self.state_bytes() {
            self.saving = Some(Box::pin(self.ctx.writer().write(state)));
        } else {
            self.save_due = Some(now + self.host.settings().save_interval);
        }
    }

    pub(super) fn state_bytes(&self) -> Option<Vec<u8>> {
        catch(|| (self.kind.save)(&self.state))
            .inspect_err(|panic| self.tell_panic("save", panic))
            .ok()
    }

    pub(super) fn saved(&mut self, result: Result<(), StoreError>) {
        self.saving = None;
        self.wrote = true;
        self.save_failed = false;
        if !self.stirred {
            // That was what it got up for.
            self.rest_at = Instant::now();
        }
        if let Err(StoreError::Unavailable(why)) = result {
            self.save_failed = true;
            self.save_due = Some(Instant::now() + self.host.settings().save_interval);
            self.host.save_failed(&why);
        }
        self.set_timer();
    }

    /// Does what is due; says whether nobody needs the entity any more. It stays while its state
    /// is only here, however long the store is away.
    pub(super) fn unneeded(&mut self, now: Instant) -> bool {
        if self.away_until.is_some_and(|until| until <= now) {
            self.end_session(Code::OK, "");
        }
        if self.save_due.is_some_and(|due| due <= now) {
            self.begin_save(now);
        }
        let idle = self.linger_until.is_some_and(|until| until <= now);
        idle && self.away_until.is_none() && self.saving.is_none() && self.save_due.is_none()
    }

    /// When there is something to do, whatever comes.
    pub(super) fn next_due(&self) -> Option<Instant> {
        // While a save runs its end is waited for, and the timer is set again then.
        let due = self.save_due.filter(|_| self.saving.is_none());
        let saved = self.saving.is_none() && self.save_due.is_none() && !self.save_failed;
        let idle = self.linger_until.filter(|_| saved && self.away_until.is_none());
        due.into_iter().chain(idle).chain(self.away_until).min()
    }

    pub(super) fn set_timer(&mut self) {
        if self.lies {
            return;
        }
        let at = self.next_due().map_or(self.rest_at, |due| due.min(self.rest_at));
        match &mut self.timer {
            Some(timer) if timer.deadline() == at => {}
            Some(timer) => {
                timer.as_mut().reset(at);
                self.timer_at = None;
            }
            None => self.timer = Some(Box::pin(sleep_until(at))),
        }
    }
}
