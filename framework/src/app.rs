//! Owns what a studio calls: a game is declared here, one line a handler, and run.

use std::{fmt, net::SocketAddr, sync::Arc};

use tokio::runtime::Runtime;

use crate::{
    Named, Request,
    account::{CodeSender, HttpAnswer, HttpCall, OwnRoutes, Sender, Validator, Validators},
    cli,
    doors::Addresses,
    entity::{AnyKind, Classes, Handler, Kind, PLAYER, Player, Table},
    gate::{Codec, CodecKind, Codecs, GateHooks, Hooks, Page, Pages},
    msg,
    node::Node,
    play::{AnyScript, Script, any_script},
    room::{AnyRoomKind, Room, RoomKind},
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
    classes: Classes,
    parts: Parts,
    script: Option<AnyScript>,
}

/// What of a game has nothing to do with its players' state.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) hooks: Hooks,
    pub(crate) pages: Pages,
    pub(crate) codecs: Codecs,
    pub(crate) routes: OwnRoutes,
    pub(crate) sender: Sender,
    pub(crate) validators: Validators,
    pub(crate) rooms: Vec<Arc<dyn AnyRoomKind>>,
}

/// What a node needs of a game.
#[derive(Clone)]
pub(crate) struct Game {
    pub(crate) player: Arc<dyn AnyKind>,
    pub(crate) parts: Parts,
}

impl Game {
    /// What describes the messages that clients may send and hear.
    pub(crate) fn schemas(&self) -> Vec<&'static [u8]> {
        let rooms = &self.parts.rooms;
        let own = (!rooms.is_empty()).then(msg::enter_room::Req::schema);
        let rooms = rooms.iter().flat_map(|kind| kind.schemas());
        self.player.schemas().iter().chain(rooms).copied().chain(own).collect()
    }
}

impl App {
    /// Begins a game; the name is the program's, in its banner and its help.
    pub fn new(name: &'static str) -> Self {
        let parts = Parts {
            hooks: Hooks::default(),
            pages: Pages::default(),
            codecs: Codecs::default(),
            routes: OwnRoutes::default(),
            sender: Sender::none(),
            validators: Validators::default(),
            rooms: Vec::new(),
        };
        Self { name, table: Table::new(), classes: Classes::default(), parts, script: None }
    }

    /// Says what the state of a player is; the handlers that follow work on it.
    pub fn player<P: Player>(self) -> App<P> {
        let Self { name, table: _, classes, parts, script } = self;
        App { name, table: Table::new(), classes, parts, script }
    }
}

impl<S> App<S> {
    /// Lets a studio have its word at the gate: who is let in, and why connections end.
    #[must_use]
    pub fn gate(mut self, hooks: impl GateHooks) -> Self {
        self.parts.hooks = Hooks::new(hooks);
        self
    }

    /// Shows a file to browsers at this path of every gate's WebSocket port, such as the page that
    /// the game is played in, and its scripts. With one, `/front.json` there tells pages where
    /// account centers and gates are. Nothing else is shown: what is below the path is 404.
    ///
    /// # Panics
    /// When the path is taken, or is no path.
    #[must_use]
    pub fn page(mut self, path: &'static str, page: Page) -> Self {
        self.parts.pages.add(path, page);
        self
    }

    /// Lets clients in that speak another wire than frames; `docs/CODECS.md` shows how one is
    /// written. `dev` turns on every codec of the game, `serve` those that the operator names
    /// (`[codecs.<name>]`).
    ///
    /// # Panics
    /// When there is a codec of that name already.
    #[must_use]
    pub fn codec<C: Codec>(mut self, kind: CodecKind<C>) -> Self {
        self.parts.codecs.add(Arc::new(kind));
        self
    }

    /// Answers GETs to this path of the account center's HTTP, beside its own routes: for clients
    /// that sign in, or ask for a room, in a way of theirs.
    ///
    /// # Panics
    /// When the path is taken, or is no path.
    #[must_use]
    pub fn route<F>(
        mut self,
        path: &'static str,
        handler: impl Fn(HttpCall) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = HttpAnswer> + Send + 'static,
    {
        self.parts.routes.add(path, handler);
        self
    }

    /// Says how codes get to phones, unless the operator says it (`account.code_sender`). Without
    /// either, `dev` writes them to the log, and nothing else sends any.
    #[must_use]
    pub fn code_sender(mut self, sender: impl CodeSender) -> Self {
        self.parts.sender = Sender::new(sender);
        self
    }

    /// Adds a way to sign in: an `openid` that begins with `name` and a dot is judged by this
    /// validator. `official`, `360`, `tx` and `admin` are built in.
    ///
    /// # Panics
    /// When there is a validator of that name already; when the name is not 1 to 32 letters,
    /// digits, `-` and `_`; when a page of its is taken, or is no path.
    #[must_use]
    pub fn validator(mut self, name: &'static str, validator: impl Validator) -> Self {
        self.parts.validators.add(name, validator);
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

    /// Says that of the messages `M` with equal keys a client needs only the latest, such as where
    /// something is: while it does not keep up, or is away, earlier ones are replaced. Over QUIC
    /// they travel as datagrams, and may be lost. Any other message is reliable: a client that
    /// does not take it in is closed (2008), and may go on where it was.
    ///
    /// # Panics
    /// When the message has a class already.
    #[must_use]
    pub fn latest<M: Named>(mut self, key: fn(&M) -> u64) -> Self {
        self.classes.latest(key);
        self
    }

    /// Says that the messages `M` may be dropped, such as a passing effect: while a client does
    /// not keep up, or is away, some wait (64 KiB with those of [`App::latest`]) and the oldest
    /// go. Over QUIC they travel as datagrams, and may be lost.
    ///
    /// # Panics
    /// When the message has a class already.
    #[must_use]
    pub fn droppable<M: Named>(mut self) -> Self {
        self.classes.droppable::<M>();
        self
    }

    /// Adds a kind of rooms.
    ///
    /// # Panics
    /// When there is a kind of that name already.
    #[must_use]
    pub fn room<R: Room>(mut self, kind: RoomKind<R>) -> Self {
        let name = kind.name();
        let known = self.parts.rooms.iter().any(|known| known.name() == name);
        assert!(!known && name != PLAYER, "two kinds of rooms named {name}: keep one of them");
        self.parts.rooms.push(Arc::new(kind));
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
        let Self { name: _, table, classes, parts, script: _ } = self;
        let player = Arc::new(Kind::player(table, classes).with_rooms(&parts.rooms));
        Game { player, parts }
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

    /// Where clients reach the gate over TLS, when it listens for that.
    pub fn gate_tcp_tls(&self) -> Option<SocketAddr> {
        self.addresses.gate_tcp_tls
    }

    /// Where clients reach the gate by WebSocket, when it listens for that.
    pub fn gate_ws(&self) -> Option<SocketAddr> {
        self.addresses.gate_ws
    }

    /// Where clients reach the gate by WebSocket over TLS, when it listens for that.
    pub fn gate_ws_tls(&self) -> Option<SocketAddr> {
        self.addresses.gate_ws_tls
    }

    /// Where clients reach the gate over QUIC, by UDP, when it listens for that.
    pub fn gate_quic(&self) -> Option<SocketAddr> {
        self.addresses.gate_quic
    }

    /// Where clients of a codec have a door of their own over TCP, when there is one.
    pub fn codec_tcp(&self, codec: &str) -> Option<SocketAddr> {
        self.addresses.codecs.get(codec)?.tcp
    }

    /// Where datagrams of a codec's clients come in, when they do.
    pub fn codec_udp(&self, codec: &str) -> Option<SocketAddr> {
        self.addresses.codecs.get(codec)?.udp
    }

    /// The certificate that the gate shows, in DER, when it encrypts anything: what a client trusts
    /// that knows no authority for it, such as one of a town in `dev`.
    pub fn gate_certificate(&self) -> Option<Vec<u8>> {
        self.node.as_ref()?.gate_certificate()
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
        let Self { name, table, classes, parts, script } = self;
        let Parts { hooks, pages, codecs, routes, sender, validators, rooms } = parts;
        let rooms: Vec<_> = rooms.iter().map(|kind| kind.name()).collect();
        f.debug_struct("App")
            .field("name", name)
            .field("handlers", table)
            .field("classes", classes)
            .field("gate", hooks)
            .field("pages", pages)
            .field("codecs", codecs)
            .field("routes", routes)
            .field("code_sender", sender)
            .field("validators", validators)
            .field("play", &script.is_some())
            .field("rooms", &rooms)
            .finish()
    }
}
