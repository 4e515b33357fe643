//! Writes a game's messages as a JavaScript module: `bastide-js game/proto > messages.js`. Each
//! argument is a folder of `.proto` files; bastide's own messages are always among them.

use std::{
    env,
    io::{self, Write as _},
};

fn main() -> bastide_build::Result {
    let folders: Vec<_> = env::args_os().skip(1).collect();
    let folders: Vec<&std::path::Path> = folders.iter().map(std::path::Path::new).collect();
    io::stdout().write_all(bastide_build::javascript(&folders)?.as_bytes())?;
    Ok(())
}
