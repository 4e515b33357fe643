//! Owns the handler table of a kind of rooms: api name → decode → the studio's function → encode.

use std::fmt;

use rustc_hash::FxHashMap;

use super::{Member, RoomCtx, RoomHandler};
use crate::{
    Request,
    link::Mark,
    wire::{Code, Refusal},
};

type Call<R> =
    Box<dyn Fn(&mut R, Mark, &[u8], &Member, &mut RoomCtx) -> Result<(), Refusal> + Send + Sync>;

/// Every handler of one kind of rooms.
pub(super) struct Table<R> {
    calls: FxHashMap<&'static str, Call<R>>,
    names: Vec<&'static str>,
    /// The schemas of these messages, each once.
    schemas: Vec<&'static [u8]>,
}

impl<R: 'static> Table<R> {
    pub(super) fn new() -> Self {
        Self { calls: FxHashMap::default(), names: Vec::new(), schemas: Vec::new() }
    }

    /// Adds a handler for the messages named `Q::NAME`.
    ///
    /// # Panics
    /// When there is one already: which of two would run could not be told.
    pub(super) fn on<Q: Request, H: RoomHandler<R, Q>>(&mut self, handler: H) {
        let call: Call<R> = Box::new(move |room, mark, payload, member, ctx| {
            let request = Q::decode(payload);
            let request = request.map_err(|e| Code::UNDECODABLE.because(e.to_string()))?;
            let answer = handler.call(room, request, member, ctx).map_err(Into::into)?;
            Q::ANSWER.map_or(Ok(()), |name| ctx.answer(member.seat, mark, name, &answer))
        });
        let replaced = self.calls.insert(Q::NAME, call);
        assert!(replaced.is_none(), "two handlers for {}: keep one of them", Q::NAME);
        self.names.push(Q::NAME);
        let schema = Q::schema();
        if !self.schemas.iter().any(|known| std::ptr::eq(*known, schema)) {
            self.schemas.push(schema);
        }
    }

    /// Does what a message asks for.
    #[inline]
    pub(super) fn call(
        &self,
        api: &str,
        room: &mut R,
        mark: Mark,
        payload: &[u8],
        member: &Member,
        ctx: &mut RoomCtx,
    ) -> Result<(), Refusal> {
        let call = self.calls.get(api).ok_or(Code::UNKNOWN_API)?;
        call(room, mark, payload, member, ctx)
    }

    /// The names it has handlers for, in the order in which they were added.
    pub(super) fn names(&self) -> &[&'static str] {
        &self.names
    }

    /// What describes the messages that it has handlers for.
    pub(super) fn schemas(&self) -> &[&'static [u8]] {
        &self.schemas
    }
}

impl<R> fmt::Debug for Table<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { calls: _, names, schemas: _ } = self;
        f.debug_tuple("Table").field(names).finish()
    }
}
