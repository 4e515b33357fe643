//! Owns the members: sockets that are read to the end, and one among them that speaks.

use std::{cell::Cell, io, rc::Rc, time::Duration};

use bastide::{Named, msg};
use bastide_benches::{Call, Heard, Servers, join};
use tokio::{
    io::AsyncWriteExt as _,
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::{JoinSet, spawn_local},
    time::{MissedTickBehavior, interval, sleep, timeout},
};

/// Guests that sign in side by side.
const SIGN_INS: usize = 16;

/// Until the last member has heard the last message.
const LATE_MAX: Duration = Duration::from_secs(20);

/// Everybody in one room, of one server.
pub(crate) struct Members {
    servers: Servers,
    speaker: OwnedWriteHalf,
    count: usize,
    /// Bytes that they have heard.
    heard: Rc<Cell<u64>>,
    /// It sends on what is said as it is.
    is_floor: bool,
}

impl Members {
    /// Signs them in and lets them join. Within a `LocalSet`.
    pub(crate) async fn seat(servers: Servers, count: usize) -> Self {
        let is_floor = servers.http.is_none();
        let mut speaker = match is_floor {
            true => connect(&servers.gate).await,
            false => servers.guest().await.sign_in("speaker").await,
        };
        let mut ask = msg::enter_room::Req { kind: "hall".to_owned(), ..Default::default() };
        if !is_floor {
            ask.room_id = join(&mut speaker, &ask).await.expect("a room");
        }
        let (heard, (from, to)) = (Rc::default(), speaker.into_split());
        spawn_local(hear(from, Rc::clone(&heard)));
        let mut seated = JoinSet::new();
        for first in 1..=SIGN_INS {
            let (ask, gate) = (ask.clone(), servers.gate.clone());
            let mut guest = if is_floor { None } else { Some(servers.guest().await) };
            seated.spawn_local(async move {
                let mut sockets = Vec::new();
                for n in (first..count).step_by(SIGN_INS) {
                    let Some(guest) = &mut guest else {
                        sockets.push(connect(&gate).await);
                        continue;
                    };
                    let mut socket = guest.sign_in(&format!("member-{n}")).await;
                    join(&mut socket, &ask).await.expect("a seat");
                    sockets.push(socket);
                }
                sockets
            });
        }
        while let Some(sockets) = seated.join_next().await {
            for socket in sockets.expect("no panic") {
                let (from, to) = socket.into_split();
                // Dropped, it would be closed.
                to.forget();
                spawn_local(hear(from, Rc::clone(&heard)));
            }
        }
        // Those who came are told and saved by now.
        sleep(Duration::from_secs(2)).await;
        Self { servers, speaker: to, count, heard, is_floor }
    }

    /// Says so many messages of so many bytes, so many a second; CPU of the server for each
    /// message and member, in microseconds.
    pub(crate) async fn say(&mut self, bytes: usize, per_s: u32, messages: u32) -> f64 {
        // The field's header.
        let data = vec![7; bytes - if bytes < 130 { 2 } else { 3 }];
        let (said, heard) = (frame(&Call { data: data.clone() }), frame(&Heard { data }));
        let said = if self.is_floor { &heard } else { &said };
        let (before, cpu) = (self.heard.get(), self.servers.cpu());
        let mut pace = interval(Duration::from_secs(1) / per_s);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for _ in 0..messages {
            pace.tick().await;
            self.speaker.write_all(said).await.expect("the server lives");
        }
        let told = u64::from(messages) * self.count as u64;
        let all = before + told * heard.len() as u64;
        let late = timeout(LATE_MAX, async {
            while self.heard.get() < all {
                sleep(Duration::from_millis(2)).await;
            }
        });
        late.await.expect("every member hears every message");
        assert_eq!(self.heard.get(), all, "and nothing else");
        (self.servers.cpu() - cpu).as_secs_f64() * 1e6 / told as f64
    }
}

fn frame<M: Named>(message: &M) -> Vec<u8> {
    let mut frame = Vec::new();
    bastide::wire::put_message(&mut frame, message).expect("fits");
    frame
}

async fn connect(address: &str) -> TcpStream {
    let socket = TcpStream::connect(address).await.expect("the server listens");
    socket.set_nodelay(true).expect("a socket");
    socket
}

async fn hear(socket: OwnedReadHalf, heard: Rc<Cell<u64>>) {
    let mut scratch = [0; 4096];
    loop {
        match socket.try_read(&mut scratch) {
            Ok(0) => return,
            Ok(n) => heard.set(heard.get() + n as u64),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                if socket.readable().await.is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}
