//! Owns how wishes for a match come to the one center that brings those of a kind together, and how
//! a match becomes a room that its players hear of. Leaves who plays with whom to `queue`.
//!
//! That there is one such center is for good matches only. That a wish leads to one match, also
//! when centers disagree or die, is what the cache keeps under the wish.

use std::{
    collections::BTreeMap,
    sync::{MutexGuard, PoisonError},
};

use tokio::time::sleep;

use super::{
    Inner, RoomCenter, away, checked_name, checked_options,
    queue::{Queue, Size, Wish},
};
use crate::{
    directory::Role,
    limits::{MATCH_EVERY, MATCH_KEPT, MATCH_TELL_DEADLINE, MATCH_WAITING_MAX},
    msg,
    proto::link::{Asking, RoomRecord, seek_match, tell},
    room::book::ms,
    store::Swap,
    wire::{Code, Refusal, put_message},
};

impl RoomCenter {
    /// Somebody wants to be matched, says that it still does, or no longer.
    pub(super) async fn seek_match(
        self,
        request: seek_match::Req,
    ) -> Result<seek_match::Res, Refusal> {
        let inner = &self.0;
        inner.kind(&request.kind)?;
        let (directory, asker) = (&inner.ground.directory, &inner.ground.asker);
        let owner = directory.owner_of(Role::Rooms, &request.kind);
        if let Some(owner) = owner.filter(|owner| owner.id != directory.me() && !request.passed_on)
        {
            let request = seek_match::Req { passed_on: true, ..request };
            return asker.ask_at(&owner.id, Role::Rooms, &request, MATCH_TELL_DEADLINE).await;
        }
        inner.seek(request).await?;
        Ok(seek_match::Res {})
    }

    /// Brings together who waits here, until the tasks stop.
    pub(super) async fn keep_matched(self) {
        let tasks = &self.0.ground.tasks;
        loop {
            tokio::select! {
                biased; // stop before more work
                () = tasks.stopped() => return,
                () = sleep(MATCH_EVERY) => {}
            }
            for (kind, wishes) in self.0.found() {
                let center = self.clone();
                tasks.spawn(async move { center.0.play(kind, wishes).await });
            }
        }
    }
}

impl Inner {
    async fn seek(&self, request: seek_match::Req) -> Result<(), Refusal> {
        let (kind, cancel) = (self.kind(&request.kind)?.kind.name(), request.cancel);
        let wish = self.wish(request)?;
        let (account, number) = (wish.who.account, wish.number);
        if cancel {
            self.queues().entry(kind).or_default().cancel(account, number);
            return Ok(());
        }
        if !self.queues().entry(kind).or_default().waits(account, number) {
            let found = self.ground.cache.get(&match_key(&wish), self.now_ms()).await;
            if let Some(room_id) = found.map_err(away)? {
                self.tell_again(kind, &wish.who, &String::from_utf8_lossy(&room_id)).await;
                return Ok(());
            }
            // A match opens a room as well.
            self.may_open(account).await?;
        }
        let mut queues = self.queues();
        let waiting: usize = queues.values().map(Queue::len).sum();
        let queue = queues.entry(kind).or_default();
        if waiting >= MATCH_WAITING_MAX && !queue.waits(account, number) {
            return Err(Code::BUSY.because("too many wait for a match"));
        }
        queue.seek(wish, self.now_ms());
        Ok(())
    }

    fn wish(&self, request: seek_match::Req) -> Result<Wish, Refusal> {
        let seek_match::Req { who, kind, rating, party, party_size, options, wish, .. } = request;
        let who = who.ok_or(Code::UNDECODABLE)?;
        checked_name("party", &party)?;
        let capacity = self.kind(&kind)?.kind.capacity();
        if party_size > capacity {
            let most = format!("party_size: a room has {capacity} seats");
            return Err(Code::PARAMETER.because(most));
        }
        let members = usize::try_from(party_size).unwrap_or(usize::MAX);
        let party = (!party.is_empty() && members > 1).then_some((party, members));
        Ok(Wish { who, number: wish, rating, party, options: checked_options(options)? })
    }

    fn queues(&self) -> MutexGuard<'_, BTreeMap<&'static str, Queue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn found(&self) -> Vec<(&'static str, Vec<Wish>)> {
        let now_ms = self.now_ms();
        let mut all = Vec::new();
        for (kind, queue) in self.queues().iter_mut() {
            let Some(placed) = self.kinds.get(kind) else { continue };
            let max = usize::try_from(placed.kind.capacity()).unwrap_or(usize::MAX).max(1);
            let min = usize::try_from(placed.kind.match_size()).unwrap_or(usize::MAX).clamp(1, max);
            let found = queue.matches(Size { min, max }, now_ms);
            all.extend(found.into_iter().map(|wishes| (*kind, wishes)));
        }
        all
    }

    /// Gives those who were brought together a room, and tells them.
    async fn play(&self, kind: &'static str, mut wishes: Vec<Wish>) {
        let room_id = self.new_room_id();
        let room = match self.claim(&room_id, &mut wishes).await {
            Ok(None) => self.room_for(kind, &room_id, &wishes).await,
            Ok(Some(lost)) => {
                // That one has a match already; the others go on waiting.
                let mut queues = self.queues();
                let queue = queues.entry(kind).or_default();
                let rest = wishes.into_iter().filter(|wish| wish.who.account != lost);
                rest.for_each(|wish| queue.seek(wish, self.now_ms()));
                return;
            }
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = &room {
            tracing::warn!(target: "room", kind, "no room for a match: {refusal}");
            self.disclaim(&room_id, &wishes).await;
        }
        for wish in &wishes {
            let matched = self.matched(kind, &wish.who, room.as_ref()).await;
            self.tell(wish.who.account, &matched).await;
        }
    }

    async fn room_for(
        &self,
        kind: &str,
        room_id: &str,
        wishes: &[Wish],
    ) -> Result<RoomRecord, Refusal> {
        let accounts: Vec<_> = wishes.iter().map(|wish| wish.who.account).collect();
        let options = wishes.first().map(|wish| wish.options.clone()).unwrap_or_default();
        for account in &accounts {
            self.opens(*account).await?;
        }
        self.place_match(self.kind(kind)?, room_id, &accounts, &options).await
    }

    /// Writes under each wish which room it leads to. Where another center did so before, that
    /// account, and nothing is written. In the order of the accounts, so that of two centers that
    /// want the same one gets them.
    async fn claim(&self, room_id: &str, wishes: &mut [Wish]) -> Result<Option<i64>, Refusal> {
        wishes.sort_by_key(|wish| wish.who.account);
        for (at, wish) in wishes.iter().enumerate() {
            let (key, value) = (match_key(wish), room_id.as_bytes().to_vec());
            let cache = &self.ground.cache;
            let put = cache.put_if_absent(&key, value, ms(MATCH_KEPT), self.now_ms()).await;
            if !put.map_err(away)? {
                self.disclaim(room_id, &wishes[..at]).await;
                return Ok(Some(wish.who.account));
            }
        }
        Ok(None)
    }

    /// What stands under a wish stays when it leads to another room.
    async fn disclaim(&self, room_id: &str, wishes: &[Wish]) {
        for wish in wishes {
            let (key, expected) = (match_key(wish), Some(room_id.as_bytes().to_vec()));
            let ttl_ms = ms(MATCH_KEPT);
            let swap = Swap { key, expected, new: None, ttl_ms, ranks: Vec::new() };
            if let Err(e) = self.ground.cache.swap(swap, self.now_ms()).await {
                tracing::debug!(target: "room", "a wish is taken for matched: {e}");
            }
        }
    }

    /// Whoever still says that it waits has not heard of its match. While the room is not there yet,
    /// it is just being had.
    async fn tell_again(&self, kind: &'static str, who: &Asking, room_id: &str) {
        match self.certain(kind, room_id, who.account).await {
            Ok(room) => {
                let matched = self.matched(kind, who, Ok(&room)).await;
                self.tell(who.account, &matched).await;
            }
            Err(refusal) => tracing::debug!(target: "room", room_id, "not told again: {refusal}"),
        }
    }

    async fn matched(
        &self,
        kind: &str,
        who: &Asking,
        room: Result<&RoomRecord, &Refusal>,
    ) -> msg::Matched {
        let kind = kind.to_owned();
        let ticketed = match room {
            Ok(room) => self.ticket(who, room).await.map(|ticket| (room, ticket)),
            Err(refusal) => Err(refusal.clone()),
        };
        match ticketed {
            Ok((room, ticket)) => {
                let (room_id, addr) = (room.room_id.clone(), self.gate_of(room, who.account));
                msg::Matched { kind, room_id, ticket, addr, code: 0 }
            }
            Err(refusal) => msg::Matched { kind, code: refusal.code.0, ..msg::Matched::default() },
        }
    }

    /// One try: who does not hear it says again that it waits.
    async fn tell(&self, account: i64, matched: &msg::Matched) {
        let mut frame = Vec::new();
        if let Err(e) = put_message(&mut frame, matched) {
            tracing::error!(target: "room", "a match that no frame holds: {e}");
            return;
        }
        let told = async {
            let player = format!("{}/{account}", crate::entity::PLAYER);
            let node = self.ground.directory.locate(&player).await?.ok_or(Code::NOT_CONNECTED)?;
            let request = tell::Req { account, frame };
            self.ground.asker.ask_at(&node, Role::Game, &request, MATCH_TELL_DEADLINE).await
        };
        match told.await {
            Ok(tell::Res { told: true }) => {}
            Ok(_) => tracing::debug!(target: "room", account, "nobody to be told of a match"),
            Err(refusal) => tracing::debug!(target: "room", account, "not told: {refusal}"),
        }
    }
}

fn match_key(wish: &Wish) -> String {
    format!("match:{}:{:016x}", wish.who.account, wish.number)
}
