//! What hostile clients may cost a town: memory of its process, as the system counts it, and that
//! somebody good beside them is answered.

use std::{fs, time::Duration};

use bastide::{
    Named,
    client::{Client, guest},
    msg,
    wire::{put, put_message},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::town::Town;

const MIB: usize = 1024 * 1024;

/// What waits for one client by default, and what is kept of it for a resume while the client
/// tells nothing; a buffer that grows may be twice as large as what it holds.
const OUTBOX_BYTES_MAX: usize = 2 * MIB;
const REPLAY_BYTES_MAX: usize = 2 * 256 * 1024;

/// What waits before a player, with refusals behind it.
const MAILBOX_BYTES_MAX: usize = 2 * MIB;

/// What the town takes for itself, and the allocator keeps of what was freed.
const SLACK: usize = 32 * MIB;

impl Town {
    /// Bytes of memory that are resident.
    fn memory(&self) -> usize {
        let status = format!("/proc/{}/status", self.addresses["pid"]);
        let status = fs::read_to_string(status).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }

    /// A signed-in guest.
    async fn player(&self, device: &str) -> Client {
        let mut client = Client::connect(&self.gate()).await.unwrap();
        client.sign_in(&self.token(device).await).await.unwrap();
        client
    }

    async fn token(&self, device: &str) -> String {
        guest(&self.http(), device).await.unwrap().token
    }
}

async fn echoes(client: &mut Client) {
    let answer = client.request(&msg::echo::Req { val: Some(7), ct: None }).await.unwrap();
    assert_eq!(answer.val, Some(7));
}

fn frame<M: Named>(message: &M) -> Vec<u8> {
    let mut frame = Vec::new();
    put_message(&mut frame, message).unwrap();
    frame
}

/// Signs in, if it has a token, asks until the gate closes, and reads nothing.
async fn deaf(gate: String, token: Option<String>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut socket = socket.connect(gate.parse().unwrap()).await.unwrap();
    if let Some(token) = token {
        let login = msg::login::Req { token, ..msg::login::Req::default() };
        socket.write_all(&frame(&login)).await.unwrap();
        let answered = socket.read(&mut [0; 64]).await.unwrap();
        assert!(answered > 0);
    }
    let mut unknown = Vec::new();
    put(&mut unknown, &format!("no.{}.Req", "x".repeat(100)), b"").unwrap();
    let packet = unknown.repeat(100);
    while socket.write_all(&packet).await.is_ok() {}
}

/// How much the town grew while so many do not read, and one beside them plays.
async fn grown_by_deaf(town: &Town, signed_in: bool) -> usize {
    let mut good = town.player("good").await;
    let before = town.memory();
    let mut all = JoinSet::new();
    for n in 0..100 {
        let token = match signed_in {
            true => Some(town.token(&format!("deaf-{n}")).await),
            false => None,
        };
        all.spawn(deaf(town.gate(), token));
    }
    let mut most = before;
    while !all.is_empty() {
        most = most.max(town.memory());
        echoes(&mut good).await;
        if let Ok(Some(ended)) = timeout(Duration::from_millis(20), all.join_next()).await {
            ended.unwrap();
        }
    }
    most - before
}

#[tokio::test]
async fn a_hundred_players_that_never_read_take_no_more_than_they_may() {
    let dir = tempfile::tempdir().unwrap();
    let free = ["--http", "127.0.0.1:0", "--set", "gate.rate_frames_per_s=0"];
    let town = Town::start_with(dir.path(), &free);
    let grown = grown_by_deaf(&town, true).await;
    let each = OUTBOX_BYTES_MAX + REPLAY_BYTES_MAX + MAILBOX_BYTES_MAX;
    assert!(grown < 100 * each + SLACK, "{} MiB", grown / MIB);
    town.stop().await;
}

#[tokio::test]
async fn a_hundred_strangers_that_never_read_take_far_less() {
    let dir = tempfile::tempdir().unwrap();
    let free = ["--http", "127.0.0.1:0", "--set", "gate.rate_frames_per_s=0"];
    let town = Town::start_with(dir.path(), &free);
    let grown = grown_by_deaf(&town, false).await;
    // 256 KiB may wait for a stranger.
    assert!(grown < 100 * 2 * 256 * 1024 + SLACK, "{} MiB", grown / MIB);
    town.stop().await;
}

/// Two thousand that begin a frame of 4 KB and leave it at 2 KB, and as many that say nothing.
#[tokio::test]
async fn connections_that_are_half_open_cost_a_few_kilobytes_each() {
    let dir = tempfile::tempdir().unwrap();
    let town = Town::start(dir.path());
    let mut good = town.player("good").await;
    let mut open = Vec::new();
    for (first, most) in [(&[][..], 12 * 1024), (&[b'x'; 2048], 16 * 1024)] {
        let before = town.memory();
        for _ in 0..2000 {
            let mut socket = TcpStream::connect(town.gate()).await.unwrap();
            if !first.is_empty() {
                let half = [&4000_u16.to_le_bytes()[..], &80_u16.to_le_bytes(), first].concat();
                socket.write_all(&half).await.unwrap();
            }
            open.push(socket);
        }
        echoes(&mut good).await;
        // What was sent last has been read, and the rest of it.
        sleep(Duration::from_millis(300)).await;
        let each = (town.memory() - before) / 2000;
        assert!(each < most, "{each} bytes each");
    }
    echoes(&mut good).await;
    town.stop().await;
}
