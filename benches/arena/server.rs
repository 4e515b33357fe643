//! Owns the match in a server: a process with everything around the room, and clients that play.

use std::{collections::HashMap, env, time::Duration};

use arena::{Steer, respawn};
use bastide::{msg, wire::put_message};
use bastide_benches::{Nodes, Servers, Setup, join};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep},
};

/// The balls have grown, and what is made once was made.
const WARM_UP: Duration = Duration::from_secs(15);

/// Each client says twice a second where it wants to go, as a hand does.
const STEERS: Duration = Duration::from_millis(500);

/// The meter of ticks.
const METER: &str = "room_tick_seconds";

pub(crate) async fn measure(robots: u32, clients: u32, span: Duration) {
    let this = env::current_exe().expect("this program");
    let servers = Servers::bastide_with(&this, Nodes::One, &Setup::default()).await;
    let options = HashMap::from([("robots".to_owned(), robots.to_string())]);
    let mut ask =
        msg::enter_room::Req { kind: arena::KIND.to_owned(), options, ..Default::default() };
    let mut guest = servers.guest().await;
    let mut players = tokio::task::JoinSet::new();
    for n in 0..clients {
        let mut socket = guest.sign_in(&format!("player-{n}")).await;
        ask.room_id = join(&mut socket, &ask).await.expect("a seat");
        players.spawn(play(socket, n));
    }
    sleep(WARM_UP).await;
    let (began, cpu, before) = (Instant::now(), servers.cpu(), servers.meters(0).await);
    sleep(span).await;
    let (cpu, after) = (servers.cpu() - cpu, servers.meters(0).await);
    let core = cpu.as_secs_f64() / began.elapsed().as_secs_f64() * 100.0;
    let grown = |name: &str| {
        let of = |page: &[(String, f64)]| page.iter().find(|(n, _)| n == name).map(|(_, v)| *v);
        of(&after).unwrap_or_default() - of(&before).unwrap_or_default()
    };
    let (ticks, late) = (grown(&format!("{METER}_count")), grown("room_ticks_late_total"));
    let mean = grown(&format!("{METER}_sum")) / ticks * 1e6;
    let within = |quantile: f64| {
        let bounds = after.iter().filter_map(|(name, _)| {
            let bound = name.strip_prefix(METER)?.strip_prefix("_bucket{le=\"")?;
            Some((name, bound.strip_suffix("\"}")?))
        });
        let mut enough = bounds.filter(|(name, _)| grown(name) >= quantile * ticks);
        enough.next().map_or("+Inf", |(_, bound)| bound).to_owned()
    };
    println!(
        "{robots:>7} {clients:>8} {ticks:>7} {late:>6} {mean:>10.1} {:>10} {:>10} {core:>8.2}",
        within(0.5),
        within(0.99)
    );
    assert!(players.try_join_next().is_none(), "a player was sent away");
}

/// Steers, comes in again, and takes in what it is told.
async fn play(mut socket: TcpStream, nth: u32) {
    let (mut scratch, mut angle) = (vec![0; 64 * 1024], f64::from(nth));
    let mut next = Instant::now();
    loop {
        tokio::select! {
            read = socket.read(&mut scratch) => {
                if !read.is_ok_and(|n| n > 0) {
                    return;
                }
            }
            () = tokio::time::sleep_until(next) => {
                next += STEERS;
                angle += 0.7;
                let (dx, dy) = ((angle.cos() * 100.0) as i32, (angle.sin() * 100.0) as i32);
                let mut said = Vec::new();
                put_message(&mut said, &Steer { dx, dy }).expect("fits");
                // Refused unless it was eaten.
                put_message(&mut said, &respawn::Req {}).expect("fits");
                if socket.write_all(&said).await.is_err() {
                    return;
                }
            }
        }
    }
}
