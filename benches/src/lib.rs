//! What the benchmarks share: the message they send, the game that answers it, the processes
//! that run it, and a client that costs little beside them.

pub mod floor;
mod guest;
mod instructions;
mod load;
mod machine;
mod plan;
mod servers;

use std::time::Duration;

use bastide::{Account, App, Code, Ctx, LoadError, Player};

mod proto {
    include!(concat!(env!("OUT_DIR"), "/proto.rs"));
}

pub use guest::{Guest, ask, join, sign_in_over};
pub use instructions::{Accepted, Verdict, compare};
pub use load::{Demand, Figures, play, run};
pub use machine::{cpu, machine, memory};
pub use plan::{HEADING, Plan, numbers, row};
pub use proto::bench::{
    Call, Heard, blob,
    echo::{Req, Res},
    slow,
};
pub use servers::{Memory, Nodes, ROLE, Servers, Setup, median};

/// Bytes of the protobuf payload that every benchmark sends: two for the field's header.
pub const PAYLOAD_BYTES: usize = 64;

/// The request that every benchmark sends.
pub fn request() -> Req {
    Req { text: "7".repeat(PAYLOAD_BYTES - 2) }
}

/// A player without a state.
#[derive(Debug)]
pub struct Nobody;

impl Player for Nobody {
    fn load(_: &Account, _: Option<&[u8]>, _: i64) -> Result<Self, LoadError> {
        Ok(Self)
    }

    fn save(&self) -> Vec<u8> {
        Vec::new()
    }
}

async fn echo(_: &mut Nobody, request: Req, _: &Ctx) -> Result<Res, Code> {
    Ok(Res { text: request.text })
}

async fn send_back(_: &mut Nobody, request: blob::Req, _: &Ctx) -> Result<blob::Res, Code> {
    Ok(blob::Res { data: request.data })
}

async fn wait(_: &mut Nobody, request: slow::Req, _: &Ctx) -> Result<slow::Res, Code> {
    tokio::time::sleep(Duration::from_millis(request.ms.into())).await;
    Ok(slow::Res {})
}

/// The game under measurement.
pub fn game() -> App<Nobody> {
    App::new("bench").player::<Nobody>().on(echo).on(send_back).on(wait)
}
