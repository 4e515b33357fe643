//! Owns `load`: how many messages a server takes, and how long each takes. Connections play a plan,
//! several processes of them where it takes that; what they count becomes a table, a JSON file and
//! a page with plots.
//!
//! - `plan`, `scenario`, `script`: what is to be done, by whom, when.
//! - `worker`, `seat`, `dialogue`, `pacer`, `sign_in`: connections that do it, on one thread.
//! - `meter`: what is counted; `crew`: workers as one; `server`: what the processes use.
//! - `outcome`, `chart`, `report`: what came of it.

mod chart;
mod crew;
mod dialogue;
mod flags;
mod meter;
mod outcome;
mod pacer;
mod plan;
mod progress;
mod report;
mod run;
mod scenario;
mod script;
mod seat;
mod server;
mod sign_in;
mod worker;

use crate::{app::Game, schema::Schema};

pub(crate) use self::{
    crew::{WORKER, work_for_another},
    flags::LoadFlags,
    plan::Language,
    run::{LoadError, run},
};

/// What is asked where nothing else is said.
const ECHO: &str = "msg.Echo.Req";

/// The body of a message where none is said.
fn default_body(api: &str) -> String {
    if api == ECHO { r#"{"val": 7}"# } else { "{}" }.to_owned()
}

impl Language {
    /// What clients of this game may say.
    pub(crate) fn of(game: &Game) -> Self {
        let rooms = game.parts.rooms.iter().map(|kind| kind.name().to_owned()).collect();
        Self { schema: Schema::new(&game.schemas()), apis: game.player.apis(), rooms }
    }
}
