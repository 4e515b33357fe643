//! Owns what a studio calls: a game is declared here, one line a handler, and run.

use std::{fmt, net::SocketAddr, sync::Arc};

use tokio::runtime::Runtime;

use crate::{
    Request, cli,
    doors::Addresses,
    entity::{AnyKind, Handler, Kind, Player, Table},
    gate::{GateHooks, Hooks},
    node::Node,
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
    hooks: Hooks,
    script: Option<AnyScript>,
}

/// What a node needs of a game.
#[derive(Clone)]
pub(crate) struct Game {
    pub(crate) player: Arc<dyn AnyKind>,
    pub(crate) hooks: Hooks,
}

impl App {
    /// Begins a game; the name is the program's, in its banner and its help.
    pub fn new(name: &'static str) -> Self {
        Self { name, table: Table::new(), hooks: Hooks::default(), script: None }
    }

    /// Says what the state of a player is; the handlers that follow work on it.
    pub fn player<P: Player>(self) -> App<P> {
        let Self { name, table: _, hooks, script } = self;
        App { name, table: Table::new(), hooks, script }
    }
}

impl<S> App<S> {
    /// Lets a studio have its word at the gate: who is let in, and why connections end.
    #[must_use]
    pub fn gate(mut self, hooks: impl GateHooks) -> Self {
        self.hooks = Hooks::new(hooks);
        self
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

    /// Starts the game as `dev` does, inside this program: for tests and tools.
    ///
    /// `args` are those of `dev`, such as `["--port-base", "20000"]`; the environment counts too.
    ///
    /// # Errors
    /// The sentence that the operator would read.
    pub fn start(self, args: &[&str]) -> Result<Running, String> {
        cli::start(self.name, self.into_game(), args)
    }

    fn into_game(self) -> Game {
        Game { player: Arc::new(Kind::player(self.table)), hooks: self.hooks }
    }

    pub(crate) fn into_table(self) -> Table<P> {
        self.table
    }

    /// Does what the command line says (`dev` when it says nothing) and returns when it is done.
    pub fn main(mut self) -> Exit {
        let (name, script) = (self.name, self.script.take());
        cli::main(name, self.into_game(), script)
    }
}

/// A game that runs inside another program. It stops when this is dropped; [`Running::stop`]
/// stops it without losing anything.
#[derive(Debug)]
pub struct Running {
    /// `None` once it is stopped.
    node: Option<Node>,
    /// `None` once it is dropped.
    runtime: Option<Runtime>,
    addresses: Addresses,
}

impl Running {
    pub(crate) fn new(node: Node, runtime: Runtime) -> Self {
        Self { addresses: node.addresses().clone(), node: Some(node), runtime: Some(runtime) }
    }

    /// Where clients reach the gate over TCP, when this node is one.
    pub fn gate_tcp(&self) -> Option<SocketAddr> {
        self.addresses.gate_tcp
    }

    /// Where the account center listens, when this node is one.
    pub fn http(&self) -> Option<SocketAddr> {
        self.addresses.http.first().copied()
    }

    /// Where operators' pages are.
    pub fn admin(&self) -> SocketAddr {
        self.addresses.admin
    }

    /// Runs a future of the caller's beside the game, such as a client.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.as_ref().expect("there until dropped").block_on(future)
    }

    /// Drains: requests finish, players are saved, clients are told. Takes at most
    /// `shutdown.grace`.
    pub fn stop(mut self) {
        if let Some(node) = self.node.take() {
            self.block_on(node.drain());
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl<S> fmt::Debug for App<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, table, hooks, script } = self;
        f.debug_struct("App")
            .field("name", name)
            .field("handlers", table)
            .field("gate", hooks)
            .field("play", &script.is_some())
            .finish()
    }
}
