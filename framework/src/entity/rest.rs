//! Owns the rest of entities: one that waits for nothing but its client is laid down with its
//! mailbox, and no actor runs it. An actor of the runtime takes 6 KiB and more; the player of
//! somebody who only looks needs none of it.
//!
//! What its client asks for is done where it lies, by whoever brings it, as long as no handler
//! waits: nobody is woken for it, and nothing is queued. Whatever else there is, or when a time
//! comes, an actor takes over.

use std::{
    cell::Cell,
    fmt,
    future::{Future as _, poll_fn},
    panic::AssertUnwindSafe,
    pin::pin,
    task::{Context, Waker},
};

use futures_util::FutureExt as _;
use kameo::{actor::PreparedActor, mailbox};
use tokio::{
    runtime::Handle,
    task::unconstrained,
    time::{Instant, sleep_until},
};
use tokio_util::sync::ReusableBoxFuture;

use super::actor::{Awake, Entity};
use crate::{
    limits::REST_AFTER,
    link::{Requests, Resting},
};

thread_local! {
    /// Room for what is done where an entity lies: one at a time, and most of the time at once.
    static PLACE: Cell<Option<ReusableBoxFuture<'static, ()>>> = const { Cell::new(None) };
}

impl<S: Send + Sync + 'static> Entity<S> {
    /// Has an actor run it, on the caller's shard, whenever there is something to do.
    pub(super) fn wake_up(self: Box<Self>) {
        let tasks = self.host.world().tasks.clone();
        tasks.spawn(self.run());
    }

    async fn run(mut self: Box<Self>) {
        let now = Instant::now();
        (self.lies, self.rests, self.rest_at) = (false, false, now + REST_AFTER);
        // What is not over will go off, and find it at rest or not.
        self.alarm_at = self.alarm_at.filter(|at| *at > now);
        // Its mail comes through a mailbox of ours: kameo's own has nothing to hold.
        let actor = PreparedActor::new(mailbox::bounded(1));
        match actor.run(Awake(self)).await {
            Ok((Awake(entity), _)) if entity.rests => entity.lie_down(),
            Ok(_) => {}
            Err(panic) => {
                tracing::error!(target: "entity", "an entity failed to start: {panic}");
            }
        }
    }

    /// Whether for a while nothing happened that an actor is needed for, nor waits now.
    pub(super) fn may_rest(&mut self, now: Instant) -> bool {
        if now < self.rest_at {
            return false;
        }
        self.rest_at = now + REST_AFTER;
        // Who is asked from another shard would get up for each.
        self.stirred |= self.mailbox.was_asked_from_afar();
        !std::mem::take(&mut self.stirred) && !self.needs_actor()
    }

    /// Whether it waits for something else than its client and the clock.
    fn needs_actor(&self) -> bool {
        self.saving.is_some() || !self.seats.is_empty() || self.left || self.ended.is_some()
    }

    fn lie_down(mut self: Box<Self>) {
        (self.timer, self.timer_at) = (None, None);
        self.ctx.shrink();
        self.home = Some(Handle::current());
        self.lie();
    }

    /// Lies with its mailbox, until there is mail that somebody else brings, or a time comes.
    fn lie(mut self: Box<Self>) {
        self.lies = true;
        let due = self.next_due();
        let alarm = due.filter(|due| self.alarm_at.is_none_or(|at| *due < at));
        self.alarm_at = alarm.or(self.alarm_at);
        let alarm = alarm.map(|at| (at, self.host.world().tasks.clone()));
        let mailbox = self.mailbox.clone();
        if let Some(entity) = mailbox.rest(self) {
            return entity.get_up();
        }
        if let Some((at, tasks)) = alarm {
            let stop = tasks.clone();
            tasks.spawn(async move {
                tokio::select! {
                    () = sleep_until(at) => mailbox.nudge(),
                    () = stop.stopped() => {}
                }
            });
        }
    }

    /// Does what its client asks for, and lies down again if nothing else is to be done.
    async fn take_lying(mut self: Box<Self>, requests: Requests) {
        // As under an actor: what is not a handler's fault ends this entity, and nobody else.
        let taken = AssertUnwindSafe(self.requests(requests)).catch_unwind().await;
        if taken.is_err() || self.is_overtaken() {
            // Not here, where it would hold up who brought the requests.
            let tasks = self.host.world().tasks.clone();
            return tasks.spawn(async move { self.stop().await });
        }
        if self.stirred || self.needs_actor() {
            self.wake_up();
        } else {
            self.lie();
        }
    }
}

impl<S: Send + Sync + 'static> Resting for Entity<S> {
    fn get_up(self: Box<Self>) {
        let (tasks, home) = (self.host.world().tasks.clone(), self.home.clone());
        match home {
            Some(home) => tasks.spawn_on(self.run(), &home),
            None => tasks.spawn(self.run()),
        }
    }

    fn serve(self: Box<Self>, requests: Requests) {
        let host = self.host.clone();
        let serving = self.take_lying(requests);
        let mut place = match PLACE.take() {
            Some(mut place) => {
                place.set(serving);
                place
            }
            None => ReusableBoxFuture::new(serving),
        };
        // Whom it is to wake is said when it is looked at again. A handler is not made to wait
        // for what others of this turn have done.
        let mut looked = pin!(unconstrained(poll_fn(|cx| place.poll(cx))));
        let looked = looked.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        if looked.is_ready() {
            PLACE.set(Some(place));
        } else {
            host.world().tasks.spawn(place);
        }
    }
}

impl<S> fmt::Debug for Entity<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entity").field("entity", self.ctx.entity()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread, time::Duration};

    use prost::Message as _;
    use tokio::time::{Instant, sleep};

    use crate::{
        entity::{
            Host, World,
            model::{self, End},
        },
        limits::REST_AFTER,
        link::{Arrival, Batch, ConnectionId, Entry, Mailbox, Mark, Requests, SessionPort},
        msg,
    };

    async fn signed_in(host: &Arc<Host>) -> Mailbox {
        comes(host, Arc::default()).await
    }

    async fn comes(host: &Arc<Host>, end: Arc<End>) -> Mailbox {
        let entry = Entry::SignIn { openid: "o".into(), sid: "s".into() };
        let (connection, account, port) = (ConnectionId(1), 7, SessionPort::Local(end));
        let arrival = Arrival { connection, account, port, entry, datagram_bytes_max: 0 };
        host.attach(arrival).await.expect("signed in").0
    }

    async fn nothing_happens(host: &Host) {
        sleep(host.settings().save_interval + 3 * REST_AFTER).await;
    }

    /// A player whose client says nothing, and what its client hears.
    async fn at_rest() -> (World, Arc<Host>, Arc<End>, Mailbox) {
        let (world, end) = (model::world(), Arc::new(End::default()));
        let host = model::host(&world, 1);
        let player = comes(&host, end.clone()).await;
        nothing_happens(&host).await;
        (world, host, end, player)
    }

    /// The handler of every third waits.
    fn asks(player: &Mailbox, asked: &[i64]) {
        let mut batch = Batch::default();
        for &ct in asked {
            let ask = msg::echo::Req { val: Some(ct), ct: Some(ct) };
            batch.push_message(Mark::Request, &ask).expect("fits");
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        player.requests(Requests { connection: ConnectionId(1), deadline, batch }).expect("taken");
    }

    /// What was asked in the requests that were answered.
    fn answered(end: &End) -> Vec<i64> {
        let inbox = end.0.lock().expect("whole");
        let said = inbox.frames.iter().map(|(_, payload)| msg::echo::Res::decode(&payload[..]));
        said.filter_map(|said| said.expect("an answer").ct).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn who_rests_does_at_once_what_its_client_asks_for_and_is_saved_as_anybody() {
        let (world, host, end, player) = at_rest().await;
        asks(&player, &[1]);
        asks(&player, &[2, 4]);
        assert_eq!(answered(&end), [1, 2, 4]);
        assert!(player.is_resting(), "nobody was needed for it");
        nothing_happens(&host).await;
        assert!(player.is_resting());
        let saved = world.store.load_record("player", "7", i64::MAX).await.expect("readable");
        // Six words, and not away.
        assert_eq!(saved.expect("written"), [6, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn behind_a_handler_that_waits_everything_keeps_its_turn() {
        let (_world, host, end, player) = at_rest().await;
        asks(&player, &[1, 3, 4]);
        assert_eq!((answered(&end), player.is_resting()), (vec![1], false));
        asks(&player, &[5]);
        sleep(Duration::from_millis(2)).await;
        assert_eq!(answered(&end), [1, 3, 4, 5]);
        nothing_happens(&host).await;
        assert!(player.is_resting());
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_asked_from_another_shard_gets_up_where_it_lives() {
        let (_world, _host, end, player) = at_rest().await;
        thread::scope(|scope| {
            scope.spawn(|| asks(&player, &[1]));
        });
        assert_eq!((answered(&end), player.is_resting()), (vec![], false));
        sleep(Duration::from_millis(1)).await;
        assert_eq!(answered(&end), [1]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_rests_is_saved_and_stops_when_its_node_goes_away() {
        let world = model::world();
        let host = model::host(&world, 1);
        let player = signed_in(&host).await;
        assert!(!player.is_resting());
        nothing_happens(&host).await;
        assert!(player.is_resting());
        assert_eq!(host.stop_all(Duration::from_secs(10)).await, 0);
        let saved = world.store.load_record("player", "7", i64::MAX).await.expect("readable");
        assert!(saved.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_ends_in_time_although_its_player_rests() {
        let world = model::world();
        let host = model::host(&world, 1);
        let player = signed_in(&host).await;
        assert!(player.detach(ConnectionId(1), &world.tasks));
        nothing_happens(&host).await;
        assert!(player.is_resting() && host.count() == 1, "it may be gone on with");
        sleep(host.sessions().resume_window + host.settings().linger).await;
        nothing_happens(&host).await;
        assert_eq!(host.count(), 0);
    }
}
