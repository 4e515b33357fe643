//! What a client of a running game sees, over real sockets. One binary: it links once.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod classes;
mod codecs;
mod datagrams;
mod ends;
mod handshakes;
mod hooks;
mod hostile;
mod life;
mod path;
mod phones;
mod proxy;
mod refresh;
mod resume;
mod rooms;
mod square;
mod tidy;
mod transports;
mod trouble;
mod validators;
mod ways;
mod websocket;
mod world;
