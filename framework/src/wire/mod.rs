//! Owns what the bytes between a client and a gate mean: frames, names, codes.
//! Pure: no sockets, no clock, no tokio; the gate and the client both stand on it.

mod code;
mod frame;
mod name;

pub use code::{Code, Refusal};
pub(crate) use frame::put_named;
pub use frame::{Cut, FRAME_BYTES_MAX, Frame, FrameError, HEADER_BYTES, cut, put, put_message};
pub use name::{ApiName, NAME_BYTES_MAX, NameError};
