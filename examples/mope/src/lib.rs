//! Lets clients of the ball game mope into arenas, beside those that speak frames: they sign in at
//! `/msg`, get a key for a room, and play over TCP and UDP in messages of their own. Read `mount`
//! first, then `codec`.
//!
//! Owns what of it is told to the outside. Leaves a message on the wire to `frame`, what a client
//! knows of its arena to `scene`.

mod codec;
mod frame;
mod http;
mod key;
mod scene;

mod proto {
    include!(concat!(env!("OUT_DIR"), "/proto.rs"));
}

use bastide::{App, CodecKind};

pub use codec::Mope;

/// What operators know the codec by.
pub const CODEC: &str = "mope";

/// How long a match is.
pub const MATCH_SECONDS: u32 = 600;

/// The port of the room servers that such clients know, for TCP and for UDP.
const PORT: u16 = 9001;

/// Adds the codec, and the route through which its clients sign in.
pub fn mount<P>(app: App<P>) -> App<P> {
    app.codec(CodecKind::<Mope>::new(CODEC).tcp(PORT).udp(PORT)).route("/msg", http::msg)
}
