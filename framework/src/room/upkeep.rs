//! Owns what a room writes behind itself: what room centers are told, and what it can be made
//! again from. One at a time of each, and the room never waits for them.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::{
    limits::{ROOM_TOLD, ROOM_TOLD_AGAIN},
    store::{CacheError, StoreError},
};

/// Tells the room centers.
#[derive(Default)]
pub(super) struct Teller {
    /// There is something to tell, then.
    due: Option<Instant>,
    /// Not before.
    earliest: Option<Instant>,
    telling: Option<BoxFuture<'static, Result<bool, CacheError>>>,
}

impl Teller {
    /// What lists tell of the room has changed.
    pub(super) fn news(&mut self, now: Instant) {
        let at = self.earliest.map_or(now, |earliest| earliest.max(now));
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Whether it is time to tell.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.telling.is_none() && self.due.is_some_and(|due| due <= now)
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due.filter(|_| self.telling.is_none())
    }

    /// It is told; once more after a while, for the cache may lose it.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        telling: impl Future<Output = Result<bool, CacheError>> + Send + 'static,
    ) {
        self.telling = Some(Box::pin(telling));
        (self.due, self.earliest) = (Some(now + ROOM_TOLD_AGAIN), Some(now + ROOM_TOLD.0));
    }

    /// Ready when it was told, or not.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, CacheError>> {
        let Some(telling) = &mut self.telling else { return Poll::Pending };
        let told = telling.as_mut().poll(cx);
        if told.is_ready() {
            self.telling = None;
        }
        told
    }

    /// It was not told: again, later.
    pub(super) fn failed(&mut self, now: Instant) {
        let later = now + ROOM_TOLD.1;
        (self.due, self.earliest) = (Some(later), Some(later));
    }

    /// What is being told comes to its end.
    pub(super) async fn finish(&mut self) {
        if let Some(telling) = self.telling.take()
            && let Err(e) = telling.await
        {
            tracing::debug!(target: "room", "the room centers were not told: {e}");
        }
    }
}

/// Keeps what a room can be made again from.
pub(super) struct Keeper {
    /// `None`: its kind does not.
    every: Option<Duration>,
    due: Instant,
    /// Something has happened since.
    changed: bool,
    keeping: Option<BoxFuture<'static, Result<(), StoreError>>>,
}

impl Keeper {
    pub(super) fn new(every: Option<Duration>, now: Instant) -> Self {
        Self { every, due: now + every.unwrap_or_default(), changed: false, keeping: None }
    }

    pub(super) fn is_saved(&self) -> bool {
        self.every.is_some()
    }

    pub(super) fn touch(&mut self) {
        self.changed = true;
    }

    /// Whether it is time to keep it.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due().is_some_and(|due| due <= now)
    }

    pub(super) fn due(&self) -> Option<Instant> {
        let idle = self.every.is_none() || self.keeping.is_some() || !self.changed;
        Some(self.due).filter(|_| !idle)
    }

    /// It is kept; `None`: there is nothing to keep just now.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        keeping: Option<impl Future<Output = Result<(), StoreError>> + Send + 'static>,
    ) {
        self.changed = keeping.is_none();
        self.keeping = keeping.map(|keeping| Box::pin(keeping) as _);
        self.due = now + self.every.unwrap_or_default();
    }

    /// Ready when it was kept, or not.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StoreError>> {
        let Some(keeping) = &mut self.keeping else { return Poll::Pending };
        let kept = keeping.as_mut().poll(cx);
        if kept.is_ready() {
            self.keeping = None;
        }
        kept
    }

    /// What is being kept comes to its end.
    pub(super) async fn finish(&mut self) -> Result<(), StoreError> {
        match self.keeping.take() {
            Some(keeping) => keeping.await,
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    fn ready_now<T>(poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        poll(&mut Context::from_waker(std::task::Waker::noop()))
    }

    #[tokio::test(start_paused = true)]
    async fn news_are_told_at_once_and_what_follows_together_a_little_later() {
        let (mut teller, began) = (Teller::default(), Instant::now());
        assert!(teller.due().is_none() && !teller.is_due(began));
        teller.news(began);
        assert!(teller.is_due(began));
        teller.begin(began, ready(Ok(true)));
        teller.news(began);
        assert!(!teller.is_due(began + ROOM_TOLD.0), "one after the other");
        assert!(matches!(ready_now(|cx| teller.poll(cx)), Poll::Ready(Ok(true))));
        teller.news(began + ROOM_TOLD.0 / 2);
        assert_eq!(teller.due(), Some(began + ROOM_TOLD.0));
        teller.begin(began + ROOM_TOLD.0, ready(Ok(true)));
        assert!(ready_now(|cx| teller.poll(cx)).is_ready());
        let told = began + ROOM_TOLD.0;
        assert_eq!(teller.due(), Some(told + ROOM_TOLD_AGAIN), "nothing is new");
        teller.news(told + ROOM_TOLD.0);
        assert_eq!(teller.due(), Some(told + ROOM_TOLD.0), "now something is");
    }

    #[tokio::test(start_paused = true)]
    async fn what_could_not_be_told_is_told_again_later() {
        let (mut teller, began) = (Teller::default(), Instant::now());
        teller.begin(began, ready(Err(CacheError::Unavailable("away".to_owned()))));
        assert!(matches!(ready_now(|cx| teller.poll(cx)), Poll::Ready(Err(_))));
        teller.failed(began);
        teller.news(began);
        assert_eq!(teller.due(), Some(began + ROOM_TOLD.1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_room_is_kept_when_something_has_happened_and_nothing_is_on_its_way() {
        let (every, began) = (Duration::from_secs(2), Instant::now());
        let mut keeper = Keeper::new(Some(every), began);
        assert_eq!((keeper.due(), Keeper::new(None, began).due()), (None, None));
        keeper.touch();
        assert_eq!(keeper.due(), Some(began + every));
        keeper.begin(began + every, Some(pending()));
        keeper.touch();
        assert_eq!(keeper.due(), None, "one after the other");
        assert!(ready_now(|cx| keeper.poll(cx)).is_pending());
        keeper.begin(began + every, Some(ready(Ok(()))));
        assert!(ready_now(|cx| keeper.poll(cx)).is_ready());
        assert_eq!(keeper.due(), None, "nothing has happened since");
        keeper.begin(began, None::<std::future::Ready<Result<(), StoreError>>>);
        assert_eq!(keeper.due(), Some(began + every), "it could not be saved: once more");
    }
}
