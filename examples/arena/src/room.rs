//! Owns what the room asks of an arena: each call is handed on.

use std::time::Duration;

use bastide::{Code, LoadError, Member, Named, Refusal, Room, RoomCtx, Seat};

use crate::{
    arena::{Arena, Stage},
    proto::arena as proto,
};

impl Room for Arena {
    fn open(ctx: &mut RoomCtx) -> Result<Self, Refusal> {
        let [robots, seconds] = ["robots", "seconds"].map(|key| ctx.options().get(key).cloned());
        Self::open(robots.as_deref(), seconds.as_deref(), ctx)
    }

    fn on_join(&mut self, member: &Member, ctx: &mut RoomCtx) -> Result<(), Refusal> {
        self.join(member.seat, &member.name, member.away, ctx);
        Ok(())
    }

    fn state(&self, member: &Member, _: &RoomCtx) -> Vec<u8> {
        self.field(member.seat)
    }

    fn on_leave(&mut self, member: &Member, _: &mut RoomCtx) {
        self.leave(member.seat);
    }

    fn on_away(&mut self, member: &Member, _: &mut RoomCtx) {
        self.away(member.seat);
    }

    fn on_back(&mut self, member: &Member, _: &mut RoomCtx) {
        self.back(member.seat);
    }

    fn on_tick(&mut self, dt: Duration, ctx: &mut RoomCtx) {
        self.tick(dt, ctx);
    }

    fn save(&self) -> Vec<u8> {
        self.save()
    }

    fn restore(saved: &[u8], ctx: &mut RoomCtx) -> Result<Self, LoadError> {
        let mut arena = Self::restored(saved, ctx.options().get("seconds").map(String::as_str))?;
        let members: Vec<Member> = ctx.members().cloned().collect();
        for member in members {
            arena.join(member.seat, &member.name, member.away, ctx);
        }
        Ok(arena)
    }
}

/// Where a member wants to go.
pub(crate) fn steer(
    arena: &mut Arena,
    steer: proto::Steer,
    member: &Member,
    _: &mut RoomCtx,
) -> Result<(), Code> {
    arena.steer(member.seat, steer.dx, steer.dy);
    Ok(())
}

/// Who was eaten comes in again.
pub(crate) fn respawn(
    arena: &mut Arena,
    _: proto::respawn::Req,
    member: &Member,
    ctx: &mut RoomCtx,
) -> Result<proto::respawn::Res, Code> {
    arena.respawn(member.seat, ctx);
    Ok(proto::respawn::Res { code: 0 })
}

impl Stage for RoomCtx {
    fn random(&mut self) -> u64 {
        self.random()
    }

    fn now_ms(&self) -> i64 {
        self.now_ms()
    }

    fn push<M: Named>(&mut self, to: Seat, message: &M) {
        self.push(to, message);
    }

    fn broadcast<M: Named>(&mut self, message: &M) {
        self.broadcast(message);
    }

    fn close(&mut self, reason: &str) {
        self.close(reason);
    }
}
