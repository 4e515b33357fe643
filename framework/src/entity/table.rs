//! Owns the handler table: api name → decode → the studio's function → encode.

use std::{fmt, future::Future, pin::Pin};

use rustc_hash::FxHashMap;

use super::Ctx;
use crate::{
    Request,
    link::Mark,
    wire::{ApiName, Code, Refusal},
};

/// A function that answers one kind of request, with the state of its entity at hand.
///
/// Implemented for every `async fn(&mut S, Q, &Ctx) -> Result<Q::Res, E>` whose error becomes a
/// [`Refusal`], such as [`Code`] or [`Refusal`] itself. The request's type decides which messages
/// it gets and what it has to answer; an input without `Req` is answered with `()`.
///
/// The function runs alone on its entity: no other message of it is handled meanwhile. When its
/// deadline passes it is dropped at its current await, and the client is told 1003.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot handle `{Q}` for `{S}`",
    label = "not a handler of `{Q}`",
    note = "a handler is `async fn(&mut {S}, {Q}, &Ctx) -> Result<<{Q} as bastide::Request>::Res, Code>`",
    note = "its future must be `Send`: hold no `Rc` and no std lock guard across an await"
)]
pub trait Handler<'a, S: 'a, Q: Request>: Send + Sync + 'static {
    /// Why it may refuse.
    type Error: Into<Refusal> + Send;
    /// What calling it gives.
    type Future: Future<Output = Result<Q::Res, Self::Error>> + Send + 'a;

    /// Calls it.
    fn call(&self, state: &'a mut S, request: Q, ctx: &'a Ctx) -> Self::Future;
}

impl<'a, S, Q, E, F, Fut> Handler<'a, S, Q> for F
where
    S: 'a,
    Q: Request,
    E: Into<Refusal> + Send,
    F: Fn(&'a mut S, Q, &'a Ctx) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Q::Res, E>> + Send + 'a,
{
    type Error = E;
    type Future = Fut;

    fn call(&self, state: &'a mut S, request: Q, ctx: &'a Ctx) -> Fut {
        self(state, request, ctx)
    }
}

/// A call under way; what it answers lies in the context's batch when it is done.
pub(crate) type Calling<'a> = Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send + 'a>>;

type Call<S> = Box<dyn for<'a> Fn(&'a mut S, Mark, &'a [u8], &'a Ctx) -> Calling<'a> + Send + Sync>;

/// Every handler of one kind of entity.
pub(crate) struct Table<S> {
    calls: FxHashMap<&'static [u8], Call<S>>,
    names: Vec<&'static str>,
    /// The schemas of these messages, each once.
    schemas: Vec<&'static [u8]>,
}

impl<S: Send + 'static> Table<S> {
    pub(crate) fn new() -> Self {
        Self { calls: FxHashMap::default(), names: Vec::new(), schemas: Vec::new() }
    }

    /// Adds a handler for the messages named `Q::NAME`.
    ///
    /// # Panics
    /// When there is one already: which of two would run could not be told.
    pub(crate) fn on<Q, H>(&mut self, handler: H)
    where
        Q: Request,
        H: for<'a> Handler<'a, S, Q>,
    {
        let call = higher_ranked(move |state, mark, payload, ctx| match Q::decode(payload) {
            Ok(request) => {
                let answer = handler.call(state, request, ctx);
                Box::pin(async move {
                    let answer = answer.await.map_err(Into::into)?;
                    if Q::ANSWER.is_some() { ctx.answer::<Q>(mark, &answer) } else { Ok(()) }
                })
            }
            Err(e) => Box::pin(async move { Err(Code::UNDECODABLE.because(e.to_string())) }),
        });
        let replaced = self.calls.insert(Q::NAME.as_bytes(), Box::new(call));
        assert!(replaced.is_none(), "two handlers for {}: keep one of them", Q::NAME);
        self.names.push(Q::NAME);
        let schema = Q::schema();
        if !self.schemas.iter().any(|known| std::ptr::eq(*known, schema)) {
            self.schemas.push(schema);
        }
    }

    /// Begins the call that a message asks for; `None` when no handler has its name.
    #[inline]
    pub(crate) fn call<'a>(
        &self,
        api: ApiName<'_>,
        state: &'a mut S,
        mark: Mark,
        payload: &'a [u8],
        ctx: &'a Ctx,
    ) -> Option<Calling<'a>> {
        Some(self.calls.get(api.as_bytes())?(state, mark, payload, ctx))
    }

    /// The names it has handlers for, in the order in which they were added.
    pub(crate) fn names(&self) -> &[&'static str] {
        &self.names
    }

    /// What describes the messages that it has handlers for.
    pub(crate) fn schemas(&self) -> &[&'static [u8]] {
        &self.schemas
    }
}

impl<S> fmt::Debug for Table<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { calls: _, names, schemas: _ } = self;
        f.debug_tuple("Table").field(names).finish()
    }
}

/// Makes the compiler see a closure as one that works for every lifetime.
fn higher_ranked<S, F>(call: F) -> F
where
    F: for<'a> Fn(&'a mut S, Mark, &'a [u8], &'a Ctx) -> Calling<'a>,
{
    call
}
