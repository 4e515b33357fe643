//! What a client of a running game sees, over real sockets. One binary: it links once.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod ends;
mod hooks;
mod life;
mod path;
mod tidy;
mod trouble;
mod world;
