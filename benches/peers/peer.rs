//! Owns what a peer is: how its processes start, how a connection comes in, what an echo is in
//! its bytes. Leaves the load to `load`, and each peer to its own file.

use std::{future::Future, io, pin::Pin, process::Command, sync::Arc};

use bastide_benches::Servers;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// What comes later, or why it does not.
pub(crate) type Later<T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send>>;

/// A server that is measured, and its protocol. One value speaks for all connections: what a
/// frame means must be in the frame.
pub(crate) trait Peer: Sync {
    /// As `--peers` takes it, and the table prints it.
    fn name(&self) -> &'static str;

    /// Makes ready what can be started, and says its versions, as it tells them itself.
    ///
    /// # Errors
    /// What is missing, and what to do about it.
    fn install(&self) -> Result<String, String>;

    /// Its processes, in the order of their start: each is told where the one before it listens,
    /// and clients connect to the last. Names are unique among all peers.
    fn roles(&self) -> &'static [&'static str] {
        &[]
    }

    /// What the process of a role is to run: it writes `{"gate_tcp": "host:port"}` to the file
    /// `announce` once it listens. None: the role is none of its own, or of this program.
    fn program(&self, _role: &str, _announce: &str, _before: &str) -> Option<Command> {
        None
    }

    /// Starts the processes.
    fn start(&'static self) -> Later<Servers> {
        Box::pin(async move { Ok(Servers::raw(self.roles()).await) })
    }

    /// The `nth` connection, once echoes may be asked of it.
    fn join(&'static self, at: Arc<At>, nth: usize) -> Later<TcpStream>;

    /// Appends the frame that asks for the `nth` echo; all are of one size. `nth` counts those
    /// under way and starts again at 0: a server that answers out of turn may hold two of one.
    fn request(&self, nth: usize, out: &mut Vec<u8>);

    /// Takes whole frames: says how many bytes they were and how many answers. What the server
    /// wants to hear besides, as a pong, goes to `reply`.
    ///
    /// # Errors
    /// When something is neither an answer to what was asked nor known.
    fn answers(&self, unread: &[u8], reply: &mut Vec<u8>) -> Result<Taken, String>;
}

/// Where a peer listens.
#[derive(Debug)]
pub(crate) struct At {
    pub(crate) gate: String,
    pub(crate) http: Option<String>,
}

/// What was taken from the bytes read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Taken {
    pub(crate) bytes: usize,
    pub(crate) answers: usize,
}

/// The frame at the front of what was read: what it is, what is in it, its bytes in all.
pub(crate) type Front<'a> = (u8, &'a [u8], usize);

/// A connection that does not wait to fill packets.
pub(crate) async fn connect(at: &At) -> Result<TcpStream, String> {
    let socket = TcpStream::connect(&at.gate).await;
    let socket = socket.map_err(|e| format!("{} does not accept: {e}", at.gate))?;
    socket.set_nodelay(true).map_err(|e| e.to_string())?;
    Ok(socket)
}

/// Sends all of it.
pub(crate) async fn send(socket: &mut TcpStream, bytes: &[u8]) -> Result<(), String> {
    socket.write_all(bytes).await.map_err(|e| format!("the server does not read: {e}"))
}

/// Reads what there is behind what was read before.
pub(crate) async fn read(socket: &mut TcpStream, unread: &mut Vec<u8>) -> Result<(), String> {
    match socket.read_buf(unread).await {
        Ok(0) => Err(hung_up(&io::ErrorKind::UnexpectedEof.into())),
        Ok(_) => Ok(()),
        Err(e) => Err(hung_up(&e)),
    }
}

fn hung_up(why: &io::Error) -> String {
    format!("the server hangs up: {why}")
}

/// What was got where something else was expected, short enough to be read.
pub(crate) fn unexpected(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(120)];
    format!("an answer that was not asked for: \"{}\"", shown.escape_ascii())
}
