//! Owns the rest of entities: one that has nothing to do is laid down with its mailbox, and no
//! actor runs it until there is mail, or a time comes. An actor of the runtime takes 6 KiB and
//! more; the player of somebody who only looks needs none of it.

use std::fmt;

use kameo::{actor::PreparedActor, mailbox};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep_until},
};

use super::actor::{Awake, Entity};
use crate::{limits::REST_AFTER, link::Resting};

impl<S: Send + Sync + 'static> Entity<S> {
    /// Has an actor run it, on the caller's shard, whenever there is something to do.
    pub(super) fn wake_up(self: Box<Self>) {
        let tasks = self.host.world().tasks.clone();
        tasks.spawn(self.run());
    }

    async fn run(self: Box<Self>) {
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

    /// Whether it has had nothing to do for a while, and waits for nothing but mail.
    pub(super) fn may_rest(&mut self, now: Instant) -> bool {
        if now < self.rest_at {
            return false;
        }
        self.rest_at = now + REST_AFTER;
        let waits = self.saving.is_some() || self.save_due.is_some() || !self.seats.is_empty();
        !std::mem::take(&mut self.stirred) && !waits && !self.left && self.ended.is_none()
    }

    fn lie_down(mut self: Box<Self>) {
        (self.timer, self.timer_at) = (None, None);
        self.ctx.shrink();
        let (mailbox, tasks) = (self.mailbox.clone(), self.host.world().tasks.clone());
        let until = self.away_until.into_iter().chain(self.linger_until).min();
        let lies = Lies { entity: self, home: Handle::current() };
        if let Some(lies) = mailbox.rest(Box::new(lies)) {
            return lies.get_up();
        }
        if let Some(until) = until {
            let stop = tasks.clone();
            tasks.spawn(async move {
                tokio::select! {
                    () = sleep_until(until) => mailbox.nudge(),
                    () = stop.stopped() => {}
                }
            });
        }
    }
}

/// An entity that no actor runs.
struct Lies<S> {
    entity: Box<Entity<S>>,
    /// The shard that it lives on.
    home: Handle,
}

impl<S: Send + Sync + 'static> Resting for Lies<S> {
    fn get_up(self: Box<Self>) {
        let Self { mut entity, home } = *self;
        (entity.rests, entity.rest_at) = (false, Instant::now() + REST_AFTER);
        let tasks = entity.host.world().tasks.clone();
        tasks.spawn_on(entity.run(), &home);
    }
}

impl<S> fmt::Debug for Lies<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lies").field("entity", self.entity.ctx.entity()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use tokio::time::sleep;

    use crate::{
        entity::{
            Host,
            model::{self, End},
        },
        limits::REST_AFTER,
        link::{Arrival, ConnectionId, Entry, Mailbox, SessionPort},
    };

    async fn signed_in(host: &Arc<Host>) -> Mailbox {
        let entry = Entry::SignIn { openid: "o".into(), sid: "s".into() };
        let port = SessionPort::Local(Arc::new(End::default()));
        let (connection, account) = (ConnectionId(1), 7);
        let arrival = Arrival { connection, account, port, entry, datagram_bytes_max: 0 };
        host.attach(arrival).await.expect("signed in").0
    }

    async fn nothing_happens(host: &Host) {
        sleep(host.settings().save_interval + 3 * REST_AFTER).await;
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
