//! Owns the memory of actors that do nothing: each crate's in a process of its own.

use std::{
    env,
    process::{self, Command},
    time::Duration,
};

use bastide::__bench::Idlers;
use bastide_benches::{ROLE, game, median, memory};
use tokio::{runtime::Builder, time::sleep};

use crate::{
    peer::Peer,
    peers::{Actix, Bastide, Kameo, Ractor, Tokio},
};

/// Players that come at once, and the time after which they rest: as they do when they come one
/// after the other.
const GROUP: usize = 5000;
const RESTS: Duration = Duration::from_millis(2500);

/// Bytes an actor, of so many.
type Fill = fn(usize) -> f64;

const PEERS: [(&str, Fill); 6] = [
    (Tokio::NAME, fill::<Tokio>),
    (Bastide::NAME, fill::<Bastide>),
    ("entity", fill_entities),
    (Kameo::NAME, fill::<Kameo>),
    (Ractor::NAME, fill::<Ractor>),
    (Actix::NAME, fill::<Actix>),
];

/// The process of one: prints what it counted.
pub(crate) fn main(role: &str) {
    let actors = env::args().nth(1).and_then(|n| n.parse().ok()).expect("how many");
    let (_, fill) = PEERS.iter().find(|(name, _)| *name == role).expect("a peer");
    println!("{}", fill(actors));
}

pub(crate) fn measure(actors: usize, rounds: usize) {
    println!("{actors} idle actors; {rounds} rounds, interleaved; medians");
    println!("{:8} {:>11} {:>8}", "peer", "bytes each", "x tokio");
    let mut figures = PEERS.map(|_| Vec::new());
    for _ in 0..rounds {
        for ((name, _), figures) in PEERS.iter().zip(&mut figures) {
            let mut command = Command::new(env::current_exe().expect("this program"));
            let ran = command.env(ROLE, name).arg(actors.to_string()).output().expect("it starts");
            let text = String::from_utf8_lossy(&ran.stdout);
            figures.push(text.trim().parse::<f64>().unwrap_or_else(|_| {
                panic!("{name}: {}", String::from_utf8_lossy(&ran.stderr));
            }));
        }
    }
    let tokio = median(&figures[0], |bytes| *bytes);
    for ((name, _), of) in PEERS.iter().zip(&figures) {
        let bytes = median(of, |bytes| *bytes);
        println!("{name:8} {bytes:>11.0} {:>8.2}", bytes / tokio);
    }
}

fn rss() -> f64 {
    memory(process::id()).rss
}

fn fill<P: Peer>(actors: usize) -> f64 {
    P::block_on(1, async move {
        let (mut all, before) = (Vec::with_capacity(actors), rss());
        for _ in 0..actors {
            let actor = P::spawn(1).await;
            // It has started, and waits again.
            assert!(P::ask(&actor, 0).await, "it answers");
            all.push(actor);
        }
        let bytes = rss() - before;
        drop(all);
        bytes / actors as f64
    })
}

fn fill_entities(actors: usize) -> f64 {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (players, before) = (Idlers::new(game()), rss());
        for account in 0..actors {
            players.sign_in(account as i64).await.expect("a seat for everybody");
            if account % GROUP == GROUP - 1 || account == actors - 1 {
                sleep(RESTS).await;
            }
        }
        let bytes = rss() - before;
        drop(players);
        bytes / actors as f64
    })
}
