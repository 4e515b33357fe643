//! Owns what a player asks of rooms as such: to come, to go, to look, to be matched.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::time::{Instant, sleep};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{At, Seat, Seats, attach};
use crate::{
    Named, Request,
    directory::Role,
    entity::{Ctx, EntityId, Host},
    limits::{ROOM_SEARCH_RETRY, WISH_MAX, WISH_TOLD},
    link::{Mark, Seating},
    msg,
    proto::link::{Asking, enter, seek_match},
    wire::{Code, Frame, Refusal},
};

/// What may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Own {
    Enter,
    Join,
    Leave,
    List,
    Match,
    CancelMatch,
}

impl Own {
    pub(super) const ALL: [Self; 6] =
        [Self::Enter, Self::Join, Self::Leave, Self::List, Self::Match, Self::CancelMatch];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Enter => msg::enter_room::Req::NAME,
            Self::Join => msg::join_room::Req::NAME,
            Self::Leave => msg::leave_room::Req::NAME,
            Self::List => msg::list_rooms::Req::NAME,
            Self::Match => msg::match_room::Req::NAME,
            Self::CancelMatch => msg::cancel_match::Req::NAME,
        }
    }
}

/// A player waits to be matched. Dropped, it does not any more.
pub(in crate::entity) struct Wish {
    kind: String,
    /// The room center has found others: it need not be told.
    matched: Arc<AtomicBool>,
    _waits: DropGuard,
}

/// Who asks: the player's session, and where it runs.
pub(in crate::entity) struct Asks<'a> {
    pub(in crate::entity) host: &'a Arc<Host>,
    /// The sign-in that the session belongs to.
    pub(in crate::entity) sid: &'a str,
    pub(in crate::entity) ctx: &'a Ctx,
    pub(in crate::entity) deadline: Instant,
}

impl Asks<'_> {
    fn who(&self) -> Asking {
        let account = self.ctx.account();
        Asking { account: account.id, openid: account.openid.clone(), sid: self.sid.to_owned() }
    }
}

impl Seats {
    /// Does what is asked, and answers.
    pub(in crate::entity) async fn own(
        &mut self,
        own: Own,
        mark: Mark,
        frame: &Frame<'_>,
        asks: Asks<'_>,
    ) -> Result<(), Refusal> {
        let ctx = asks.ctx;
        match own {
            Own::Enter => {
                let entered = enter(decode(frame)?, &asks).await?;
                ctx.answer::<msg::enter_room::Req>(mark, &entered)
            }
            Own::Join => {
                let joined = self.join(decode(frame)?, &asks).await?;
                ctx.answer::<msg::join_room::Req>(mark, &joined)
            }
            Own::Leave => self.leave(decode(frame)?, mark, frame, &asks).await,
            Own::List => {
                let request: msg::list_rooms::Req = decode(frame)?;
                let listed = asks.host.room_side().asker.ask(Role::Rooms, &request).await?;
                ctx.answer::<msg::list_rooms::Req>(mark, &listed)
            }
            Own::Match => {
                self.seek_match(decode(frame)?, &asks).await?;
                ctx.answer::<msg::match_room::Req>(mark, &msg::match_room::Res { code: 0 })
            }
            Own::CancelMatch => {
                let request: msg::cancel_match::Req = decode(frame)?;
                self.wish.take_if(|wish| wish.kind == request.kind);
                ctx.answer::<msg::cancel_match::Req>(mark, &msg::cancel_match::Res { code: 0 })
            }
        }
    }

    /// Takes the seat that a ticket is for.
    async fn join(
        &mut self,
        request: msg::join_room::Req,
        asks: &Asks<'_>,
    ) -> Result<msg::join_room::Res, Refusal> {
        let Asks { host, ctx, .. } = asks;
        let account = ctx.account().id;
        let ticket = host.room_side().tickets.take(&request.ticket, Some(account)).await?;
        let kind = host.room_kind(&ticket.kind).ok_or(Code::ROOM_NOT_FOUND)?.name();
        let room_id = ticket.room_id;
        if self.of_kind(kind).is_some_and(|seat| seat.room_id != room_id) {
            return Err(Code::ALREADY_IN_ROOM.because("leave the other room of this kind first"));
        }
        let seating = Seating {
            kind: kind.to_owned(),
            room_id: room_id.clone(),
            name: request.name,
            joins: true,
        };
        let id = EntityId { kind, key: room_id.as_str().into() };
        let (way, attached) = loop {
            match attach(host, account, &id, seating.clone()).await {
                // It is being opened, or this node has not heard of its node yet.
                Err(refusal)
                    if refusal.code == Code::NOT_CONNECTED
                        && Instant::now() + ROOM_SEARCH_RETRY < asks.deadline =>
                {
                    sleep(ROOM_SEARCH_RETRY).await;
                }
                attached => break attached?,
            }
        };
        self.seats.retain(|seat| seat.kind != kind);
        let at = At::There(way);
        self.seats.push(Seat { kind, room_id: room_id.clone(), at });
        ctx.writer().note_played();
        Ok(msg::join_room::Res { code: Code::OK.0, room_id, state: attached.state })
    }

    /// Gives a seat back; the room answers.
    async fn leave(
        &mut self,
        request: msg::leave_room::Req,
        mark: Mark,
        frame: &Frame<'_>,
        asks: &Asks<'_>,
    ) -> Result<(), Refusal> {
        let Asks { ctx, deadline, .. } = asks;
        // Who says no room means the one that it is in.
        let any = request.room_id.is_empty() && self.seats.len() == 1;
        let mine = |seat: &Seat| any || seat.room_id == request.room_id;
        let Some(at) = self.seats.iter().position(mine) else {
            return Err(Code::NOT_IN_ROOM.into());
        };
        // Whatever the room says to it, the seat is given up.
        let mut seat = self.seats.remove(at);
        if let At::There(way) = &mut seat.at
            && way.forward(Mark::Logout, frame.bytes, *deadline).is_ok()
        {
            way.owed += 1;
            return std::future::poll_fn(|cx| way.poll_answer(ctx, cx)).await;
        }
        ctx.answer::<msg::leave_room::Req>(mark, &msg::leave_room::Res { code: Code::OK.0 })
    }

    /// Waits to be matched from now on.
    async fn seek_match(
        &mut self,
        request: msg::match_room::Req,
        asks: &Asks<'_>,
    ) -> Result<(), Refusal> {
        let msg::match_room::Req { kind, rating, party, party_size, options } = request;
        let world = asks.host.world();
        let wish = world.chance.next_u64();
        let who = Some(asks.who());
        let wanted = seek_match::Req {
            who,
            kind: kind.clone(),
            rating,
            party,
            party_size,
            options,
            wish,
            cancel: false,
            passed_on: false,
        };
        // One at a time; the one before must not take the place of this one.
        self.wish = None;
        let roles = asks.host.room_side().asker.clone();
        roles.ask(Role::Rooms, &wanted).await?;
        let (waits, matched) = (CancellationToken::new(), Arc::new(AtomicBool::new(false)));
        let (over, found) = (waits.clone(), matched.clone());
        let (host, account) = (asks.host.clone(), asks.ctx.account().id);
        world.tasks.spawn(async move {
            let until = Instant::now() + WISH_MAX;
            while Instant::now() < until {
                tokio::select! {
                    () = over.cancelled() => break,
                    () = sleep(WISH_TOLD) => {}
                }
                told(roles.ask(Role::Rooms, &wanted).await);
            }
            let (kind, code) = (wanted.kind.clone(), Code::DEADLINE.0);
            if !found.load(Ordering::Relaxed) {
                told(roles.ask(Role::Rooms, &seek_match::Req { cancel: true, ..wanted }).await);
            }
            if !over.is_cancelled() {
                host.tell_message(account, &msg::Matched { kind, code, ..Default::default() });
            }
        });
        self.wish = Some(Wish { kind, matched, _waits: waits.drop_guard() });
        Ok(())
    }

    /// Somebody has a push for the client; the room center, when it has matched the player.
    pub(in crate::entity) fn told(&mut self, frame: &Frame<'_>) {
        if frame.api.as_str() == msg::Matched::NAME
            && let Some(wish) = self.wish.take()
        {
            wish.matched.store(true, Ordering::Relaxed);
        }
    }

    /// The player goes to another node, where nobody waits for it.
    pub(in crate::entity) fn give_up_wish(&mut self, ctx: &Ctx) {
        if let Some(Wish { kind, .. }) = self.wish.take() {
            ctx.push(&msg::Matched { kind, code: Code::DRAINING.0, ..msg::Matched::default() });
        }
    }
}

async fn enter(
    request: msg::enter_room::Req,
    asks: &Asks<'_>,
) -> Result<msg::enter_room::Res, Refusal> {
    let msg::enter_room::Req { kind, room_id, request_id, options } = request;
    let wanted = enter::Req { who: Some(asks.who()), kind, room_id, request_id, options };
    let enter::Res { room_id, ticket, addr, members } =
        asks.host.room_side().asker.ask(Role::Rooms, &wanted).await?;
    Ok(msg::enter_room::Res { code: Code::OK.0, room_id, ticket, addr, members })
}

fn decode<Q: Request>(frame: &Frame<'_>) -> Result<Q, Refusal> {
    Q::decode(frame.payload).map_err(|e| Code::UNDECODABLE.because(e.to_string()))
}

/// What is said again soon.
fn told(answer: Result<seek_match::Res, Refusal>) {
    if let Err(refusal) = answer {
        tracing::debug!(target: "entity", "the room center does not know who waits: {refusal}");
    }
}
