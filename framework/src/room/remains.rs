//! Owns what a room leaves behind: what it can come back from, what room centers are told, its
//! recording, and the last word on each when it is over.

use std::ops::ControlFlow;

use tokio::time::Instant;

use super::{
    Room,
    life::{End, Life},
};
use crate::{
    directory::Role,
    entity::EntityId,
    proto::link::{RoomRecord, move_room},
    store::{CacheError, StoreError},
};

impl<R: Room> Life<R> {
    pub(super) fn keeping(
        &self,
        kept: Vec<u8>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + 'static {
        let (world, id, epoch) = (self.host.world().clone(), self.id.clone(), self.claim.epoch);
        let now_ms = world.clock.now_ms();
        async move { world.store.save_record(id.kind, &id.key, epoch, kept, now_ms).await }
    }

    pub(super) fn kept(&mut self, result: Result<(), StoreError>) -> ControlFlow<()> {
        match result {
            Ok(()) => {}
            Err(StoreError::Unavailable(why)) => {
                self.keeper.touch();
                self.host.save_failed(&why);
            }
            Err(StoreError::Fenced) => return self.fenced(),
        }
        ControlFlow::Continue(())
    }

    /// What room centers are told.
    pub(super) fn record(&self) -> RoomRecord {
        let ctx = self.core.ctx();
        let (node, incarnation) = self.host.me();
        RoomRecord {
            room_id: self.id.key.to_string(),
            kind: self.id.kind.to_owned(),
            node: node.to_owned(),
            incarnation,
            capacity: ctx.capacity(),
            locked: self.told.locked,
            private: ctx.options().get("private").is_some_and(|private| private == "1"),
            options: ctx.options().clone().into_iter().collect(),
            info: self.told.info.clone().into_iter().collect(),
            members: ctx.members().map(|member| member.account).collect(),
            reserved: Vec::new(),
            opening_until_ms: 0,
            saved: self.keeper.is_saved(),
            epoch: self.claim.epoch,
        }
    }

    pub(super) fn was_told(
        &mut self,
        result: Result<bool, CacheError>,
        now: Instant,
    ) -> ControlFlow<()> {
        match result {
            Ok(true) => ControlFlow::Continue(()),
            Ok(false) => self.fenced(),
            Err(e) => {
                tracing::debug!(target: "room", room = %self.id, "the room centers are not told: {e}");
                self.teller.failed(now);
                ControlFlow::Continue(())
            }
        }
    }

    fn fenced(&mut self) -> ControlFlow<()> {
        tracing::warn!(target: "room", room = %self.id, "another node runs it now: stopping");
        self.end = End::Fenced;
        ControlFlow::Break(())
    }

    /// The last of the room at this node: it is kept, or nowhere any more.
    pub(super) async fn put_down(&mut self) {
        self.teller.finish().await;
        let (world, book) = (self.host.world().clone(), self.host.book().clone());
        let is_over = match self.end {
            End::Fenced => return,
            End::Closed(_) => true,
            End::Stopped => !self.keeper.is_saved(),
        };
        if is_over {
            let EntityId { kind, key } = &self.id;
            if self.keeper.is_saved()
                && let Err(e) = world.store.delete_record(kind, key, self.claim.epoch).await
            {
                tracing::warn!(target: "room", room = %self.id, "it may come back although it is closed: {e}");
            }
            let mut closed = book.closed(kind, key, self.claim.epoch).await;
            if closed.is_err() {
                closed = book.closed(kind, key, self.claim.epoch).await;
            }
            if let Err(e) = closed {
                tracing::debug!(target: "room", room = %self.id, "the room centers take it for open: {e}");
            }
        } else if let Some(kept) = self.core.kept() {
            match self.keeping(kept).await {
                Ok(()) => {}
                // Whoever runs it by now has a later one.
                Err(StoreError::Fenced) => self.end = End::Fenced,
                Err(e) => {
                    tracing::error!(target: "room", room = %self.id, "what happened since it was kept is lost: {e}");
                }
            }
        }
    }

    /// Has a room center open it elsewhere at once, where there is an elsewhere.
    pub(super) async fn move_on(&mut self) {
        let side = self.host.room_side();
        if side.links.is_none() {
            return;
        }
        let EntityId { kind, key } = &self.id;
        let (kind, room_id) = ((*kind).to_owned(), key.to_string());
        let moves = move_room::Req { kind, room_id };
        if let Err(refusal) = side.asker.ask(Role::Rooms, &moves).await {
            // When the node is gone, room centers find it lost.
            tracing::debug!(target: "room", room = %self.id, "it comes back later: {refusal}");
        }
    }

    pub(super) fn write_recording(&mut self) {
        let Some(recorder) = self.core.recording() else { return };
        let id = self.id.clone();
        self.host.world().tasks.spawn(async move {
            match tokio::task::spawn_blocking(move || recorder.write()).await {
                Ok(Ok(path)) => {
                    tracing::info!(target: "room", room = %id, path = %path.display(), "recorded");
                }
                Ok(Err(e)) => {
                    tracing::warn!(target: "room", room = %id, "not recorded, see `rooms.record`: {e}");
                }
                Err(e) => tracing::error!(target: "room", room = %id, "not recorded: {e}"),
            }
        });
    }
}
