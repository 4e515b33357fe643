//! Owns what a studio calls: a game is declared here, one line a handler, and run.

use std::{fmt, sync::Arc};

use crate::{
    Request, cli,
    entity::{AnyKind, Handler, Kind, Player, Table},
    play::{AnyScript, Script, any_script},
};

/// How the program ends: 0 when all went well, 1 when what was asked did not work, 2 when the
/// operator has to change something.
pub use std::process::ExitCode as Exit;

/// A game: its name, and, once [`App::player`] said so, the state of its players.
///
/// ```no_run
/// # struct Hero;
/// # impl bastide::Player for Hero {
/// #     fn load(_: &bastide::Account, _: Option<&[u8]>, _: i64) -> Result<Self, bastide::LoadError> { Ok(Hero) }
/// #     fn save(&self) -> Vec<u8> { Vec::new() }
/// # }
/// use bastide::{App, Code, Ctx, msg};
///
/// async fn echo(_: &mut Hero, request: msg::echo::Req, _: &Ctx) -> Result<msg::echo::Res, Code> {
///     Ok(msg::echo::Res { val: request.val, ct: request.ct })
/// }
///
/// fn main() -> bastide::Exit {
///     App::new("town").player::<Hero>().on(echo).main()
/// }
/// ```
pub struct App<S = ()> {
    name: &'static str,
    table: Table<S>,
    script: Option<AnyScript>,
}

impl App {
    /// Begins a game; the name is the program's, in its banner and its help.
    pub fn new(name: &'static str) -> Self {
        Self { name, table: Table::new(), script: None }
    }

    /// Says what the state of a player is; the handlers that follow work on it.
    pub fn player<P: Player>(self) -> App<P> {
        let Self { name, table: _, script } = self;
        App { name, table: Table::new(), script }
    }
}

impl<P: Player> App<P> {
    /// Adds a handler: an `async fn(&mut P, Q, &Ctx) -> Result<Q::Res, E>`. Its request's type
    /// says which messages it gets.
    ///
    /// # Panics
    /// When there is a handler for these messages already.
    #[must_use]
    pub fn on<Q, H>(mut self, handler: H) -> Self
    where
        Q: Request,
        H: for<'a> Handler<'a, P, Q>,
    {
        self.table.on(handler);
        self
    }

    /// Adds the steps of this game to `play`: an `async fn(&mut Play) -> Result<(), PlayError>`.
    #[must_use]
    pub fn play(mut self, script: impl for<'a> Script<'a>) -> Self {
        self.script = Some(any_script(script));
        self
    }

    /// Does what the command line says (`dev` when it says nothing) and returns when it is done.
    pub fn main(self) -> Exit {
        let Self { name, table, script } = self;
        let kind: Arc<dyn AnyKind> = Arc::new(Kind::player(table));
        cli::main(name, kind, script)
    }
}

impl<S> fmt::Debug for App<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, table, script } = self;
        f.debug_struct("App")
            .field("name", name)
            .field("handlers", table)
            .field("play", &script.is_some())
            .finish()
    }
}
