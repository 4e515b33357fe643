//! Hostile clients of each kind beside a good one: what they are told and counted as, and that the
//! good one is answered. How long it waits is for `benches/hostile`.

use std::time::Duration;

use bastide::{
    Code, Named,
    client::{Client, ClientError},
    msg,
    wire::{put, put_message},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use crate::world::{World, code, echo_of, error, slow_of, told};

pub(crate) const COUNT: msg::get_items::Req = msg::get_items::Req { idx: None };

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn frame<M: Named>(message: &M) -> Vec<u8> {
    let mut frame = Vec::new();
    put_message(&mut frame, message).unwrap();
    frame
}

pub(crate) fn resume_of(token: &[u8], received: u64) -> msg::resume::Req {
    msg::resume::Req { resume_token: token.to_vec(), received }
}

/// A signed-in guest, its greeting read off, and what it shows to go on.
async fn player_with_token(world: &World, device: &str) -> (Client, i64, Vec<u8>) {
    let mut client = world.connect().await;
    let welcome = client.sign_in(&world.token(device).await).await.unwrap();
    assert_eq!(client.receive().await.unwrap().api, "msg.GetItems.Res");
    let account = welcome.user.unwrap().account;
    (client, account, welcome.resume_token.unwrap())
}

/// What nobody gave out for an account: of the right form, and all else made up.
fn forged(account: i64) -> Vec<u8> {
    [&account.to_le_bytes()[..], &[7; 24]].concat()
}

/// Reads until the gate closes; how many bytes came.
pub(crate) async fn read_off(socket: &mut TcpStream) -> usize {
    let (mut bytes, mut all) = (vec![0; 4096], 0);
    loop {
        match timeout(PATIENCE, socket.read(&mut bytes)).await.expect("the gate closes") {
            Ok(0) | Err(_) => return all,
            Ok(n) => all += n,
        }
    }
}

pub(crate) async fn echoes(client: &mut Client) {
    assert_eq!(client.request(&echo_of(7)).await.unwrap().val, Some(7));
}

// === Resume tokens ===

#[test]
fn a_resume_token_that_was_used_up_is_refused_ten_times_and_its_session_goes_on() {
    let world = World::new();
    world.run(async {
        let (first, _, old) = player_with_token(&world, "replayed").await;
        let mut playing = world.connect().await;
        assert_eq!(playing.request(&resume_of(&old, 1)).await.unwrap().code, 0);
        // That it speaks shows that it has the next token.
        assert_eq!(told(&playing.request(&COUNT).await.unwrap()), 1);
        drop(first);

        for round in 2..7 {
            let mut thief = world.connect().await;
            for _ in 0..10 {
                let answer = thief.request(&resume_of(&old, 1)).await.unwrap();
                assert_eq!(answer.code, Code::RESUME_REFUSED.0);
            }
            let closed = thief.receive().await;
            assert!(matches!(closed, Err(ClientError::Closed | ClientError::Io(_))), "{closed:?}");
            assert_eq!(told(&playing.request(&COUNT).await.unwrap()), round);
        }
        world.counts("gate_resumes_refused_total", 50.0).await;
    });
}

#[test]
fn made_up_resume_tokens_are_refused_whether_the_account_plays_sleeps_or_is_none() {
    let world = World::new();
    world.run(async {
        let (mut playing, account, token) = player_with_token(&world, "a").await;
        let (mut gone, asleep, _) = player_with_token(&world, "b").await;
        gone.request(&msg::logout::Req { account: asleep }).await.unwrap();
        let mut wrong_secret = token.clone();
        wrong_secret[31] ^= 1;
        let mut thief = world.connect().await;
        for token in [forged(account), wrong_secret, forged(asleep), forged(-1), vec![0; 31]] {
            let answer = thief.request(&resume_of(&token, 0)).await.unwrap();
            assert_eq!(answer.code, Code::RESUME_REFUSED.0);
        }
        // Nobody is woken for it.
        let running = world.meter("entity_running").await;
        for account in 1_000_000..1_000_005 {
            let answer = thief.request(&resume_of(&forged(account), 0)).await.unwrap();
            assert_eq!(answer.code, Code::RESUME_REFUSED.0);
        }
        assert!(world.meter("entity_running").await <= running);
        echoes(&mut playing).await;
    });
}

/// Each is refused before it stands in the queue of the player: a busy player's own client would
/// find no place in it (1002).
#[test]
fn a_flood_of_made_up_resumes_takes_no_place_of_a_busy_player() {
    let world = World::new();
    world.run(async {
        let (mut owner, account, _) = player_with_token(&world, "busy").await;
        owner.send(&slow_of(4000)).await.unwrap();
        let mut thieves = Vec::new();
        for _ in 0..400 {
            let mut thief = world.connect().await;
            thief.send(&resume_of(&forged(account), 0)).await.unwrap();
            thieves.push(thief);
        }
        let told = async {
            for thief in &mut thieves {
                assert_eq!(thief.receive().await.unwrap().api, "msg.Resume.Res");
            }
        };
        // As long as the player is busy they are answered all the same, or not at all.
        let _told = timeout(Duration::from_secs(2), told).await;
        owner.send(&echo_of(5)).await.unwrap();
        assert_eq!(owner.receive().await.unwrap().api, "msg.GetRank.Res");
        let answer = owner.receive().await.unwrap();
        assert_eq!(answer.api, "msg.Echo.Res", "{answer:?}");
    });
}

#[test]
fn a_flood_of_made_up_resumes_keeps_no_owner_out() {
    let world = World::new();
    world.run(async {
        let (mut owner, account, _) = player_with_token(&world, "owner").await;
        owner.request(&msg::logout::Req { account }).await.unwrap();
        let (mut flood, gate) = (JoinSet::new(), world.gate().to_string());
        for _ in 0..200 {
            let gate = gate.clone();
            flood.spawn(async move {
                loop {
                    let Ok(mut thief) = Client::connect(&gate).await else { continue };
                    while thief.request(&resume_of(&forged(account), 0)).await.is_ok() {}
                }
            });
        }
        for _ in 0..5 {
            let (mut owner, _, token) = player_with_token(&world, "owner").await;
            echoes(&mut owner).await;
            drop(owner);
            let mut again = world.connect().await;
            assert_eq!(again.request(&resume_of(&token, 2)).await.unwrap().code, 0);
            again.request(&msg::logout::Req { account }).await.unwrap();
        }
        flood.shutdown().await;
    });
}

#[test]
fn of_fifty_connections_that_resume_one_session_at_once_one_plays_on() {
    let world = World::new();
    world.run(async {
        let (mut first, _, token) = player_with_token(&world, "fifty").await;
        assert_eq!(told(&first.request(&COUNT).await.unwrap()), 1);
        let mut resuming = JoinSet::new();
        for _ in 0..50 {
            let (mut client, resume) = (world.connect().await, resume_of(&token, 2));
            resuming.spawn(async move {
                let answer = client.request(&resume).await;
                (client, answer)
            });
        }
        let mut playing = 0;
        for (mut client, answer) in resuming.join_all().await {
            let resumed = answer.is_ok_and(|answer| answer.code == 0);
            if resumed && let Ok(items) = client.request(&COUNT).await {
                playing += 1;
                assert_eq!(told(&items), 2);
            }
        }
        assert_eq!(playing, 1);
    });
}

#[test]
fn of_sign_ins_and_resumes_that_race_one_session_is_left_and_it_plays() {
    let world = World::new();
    world.run(async {
        let (mut first, _, mut token) = player_with_token(&world, "races").await;
        echoes(&mut first).await;
        let login = world.token("races").await;
        for _ in 0..10 {
            let (mut signing_in, mut resuming) = (world.connect().await, world.connect().await);
            let resume = resume_of(&token, 1);
            let (signed_in, _resumed) =
                tokio::join!(signing_in.sign_in(&login), resuming.request(&resume));
            let welcome = signed_in.unwrap();
            echoes(&mut signing_in).await;
            // If it was first, what it missed may still come before it is sent away.
            let _sent = resuming.send(&COUNT).await;
            while let Ok(missed) = resuming.receive().await {
                if missed.api == "msg.Error.Res" {
                    assert_eq!(error(&missed).0, Code::NOT_SIGNED_IN.0);
                    break;
                }
                assert_eq!(missed.api, "msg.Echo.Res");
            }
            token = welcome.resume_token.unwrap();
        }
    });
}

// === Counts that cannot be ===

#[test]
fn a_client_that_lies_about_what_it_received_plays_on_and_can_still_resume() {
    let world = World::new();
    world.run(async {
        let (mut client, _, token) = player_with_token(&world, "liar").await;
        for count in 1..=5 {
            assert_eq!(told(&client.request(&COUNT).await.unwrap()), count);
        }
        // Six frames were sent: more than that, all there is, and backwards.
        for received in [7, u64::MAX, u64::MAX - 1, 1 << 63, 4, 2, 0, 3] {
            let ping = msg::ping::Req { ct: 1, received };
            assert_eq!(client.request(&ping).await.unwrap().received, 5);
        }
        let mut again = world.connect().await;
        for received in [7, u64::MAX, 3] {
            let refused = again.request(&resume_of(&token, received)).await.unwrap();
            assert_eq!(refused.code, Code::RESUME_REFUSED.0, "{received}");
        }
        assert_eq!(again.request(&resume_of(&token, 4)).await.unwrap().code, 0);
        for count in [4, 5] {
            let missed = again.receive().await.unwrap();
            let items = <msg::get_items::Res as prost::Message>::decode(&missed.payload[..]);
            assert_eq!(told(&items.unwrap()), count);
        }
        assert_eq!(told(&again.request(&COUNT).await.unwrap()), 6);
    });
}

// === Frames in a state that is not theirs ===

#[test]
fn frames_behind_a_login_or_a_resume_in_one_packet_are_answered_behind_it() {
    let world = World::new();
    world.run(async {
        let (_, _, token) = player_with_token(&world, "hasty").await;
        let resume = [frame(&resume_of(&token, 1)), frame(&COUNT), frame(&COUNT)].concat();
        let mut client = world.connect().await;
        client.send_bytes(&resume).await.unwrap();
        for api in ["msg.Resume.Res", "msg.GetItems.Res", "msg.GetItems.Res"] {
            assert_eq!(client.receive().await.unwrap().api, api);
        }

        let login = msg::login::Req { token: world.token("hasty").await, ..Default::default() };
        let bad = msg::login::Req { token: "x".to_owned(), ..Default::default() };
        let all = [frame(&bad), frame(&COUNT), frame(&login), frame(&COUNT)].concat();
        let mut client = world.connect().await;
        client.send_bytes(&all).await.unwrap();
        let expected = [
            "msg.Login.Res",
            "msg.Error.Res",
            "msg.Login.Res",
            "msg.GetItems.Res",
            "msg.GetItems.Res",
        ];
        for api in expected {
            assert_eq!(client.receive().await.unwrap().api, api);
        }
    });
}

#[test]
fn a_signed_in_client_that_logs_in_or_resumes_is_closed_and_may_come_back() {
    let world = World::new();
    world.run(async {
        let login = msg::login::Req { token: world.token("twice").await, ..Default::default() };
        let resume = resume_of(&[0; 32], 0);
        for again in [frame(&login), frame(&resume)] {
            let (mut client, _, token) = player_with_token(&world, "twice").await;
            // What lies behind it is not looked at.
            client.send_bytes(&[again, frame(&COUNT)].concat()).await.unwrap();
            assert_eq!(error(&client.receive().await.unwrap()).0, Code::PROTOCOL.0);
            assert!(client.receive().await.is_err());
            let mut back = world.connect().await;
            assert_eq!(back.request(&resume_of(&token, 2)).await.unwrap().code, 0);
            echoes(&mut back).await;
        }
    });
}

#[test]
fn a_stranger_that_asks_for_everything_is_told_to_sign_in_and_may() {
    let world = World::new();
    world.run(async {
        let mut client = world.connect().await;
        assert_eq!(code(client.request(&COUNT).await), Code::NOT_SIGNED_IN);
        for api in ["no.Such.Req", "msg.Logout.Req", "msg.Kick.Res", "x"] {
            let mut bytes = Vec::new();
            put(&mut bytes, api, b"\xff\xff").unwrap();
            client.send_bytes(&bytes).await.unwrap();
            let told = error(&client.receive().await.unwrap());
            assert_eq!(told, (Code::NOT_SIGNED_IN.0, api.to_owned()));
        }
        client.sign_in(&world.token("stranger").await).await.unwrap();
    });
}

#[test]
fn ten_bad_tokens_close_the_connection_and_are_counted() {
    let world = World::new();
    world.run(async {
        let mut good = world.player().await;
        let token = world.token("victim").await;
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let mut other = signature.as_bytes().to_vec();
        other.rotate_left(7);
        let token = format!("{signed}.{}", String::from_utf8(other).unwrap());
        let bad = msg::login::Req { token, ..Default::default() };
        let mut client = world.connect().await;
        client.send_bytes(&frame(&bad).repeat(20)).await.unwrap();
        let mut refused = 0;
        while let Ok(answer) = client.receive().await {
            assert_eq!(answer.api, "msg.Login.Res");
            refused += 1;
        }
        assert_eq!(refused, 10);
        world.counts("gate_sign_ins_refused_total", 10.0).await;
        echoes(&mut good).await;
    });
}

// === Too much, too slowly ===

#[test]
fn pings_count_as_frames_signed_in_or_not() {
    let world = World::new();
    world.run(async {
        let mut good = world.player().await;
        let pings = frame(&msg::ping::Req::default()).repeat(600);
        for mut client in [world.player().await, world.connect().await] {
            client.send_bytes(&pings).await.unwrap();
            let mut refused = 0;
            for _ in 0..600 {
                let answer = client.receive().await.unwrap();
                if answer.api != "msg.Ping.Res" {
                    assert_eq!(error(&answer).0, Code::RATE_LIMITED.0);
                    refused += 1;
                }
            }
            assert!(refused > 250, "{refused}");
        }
        assert!(world.meter("gate_frames_rate_limited_total").await > 500.0);
        echoes(&mut good).await;
    });
}

/// A stranger may keep less waiting than somebody who is signed in: it costs nothing to be one.
#[test]
fn a_stranger_that_does_not_read_is_closed_early() {
    let world = World::with(&["gate.rate_frames_per_s=0", "gate.outbox_bytes_max=67108864"]);
    world.run(async {
        let mut good = world.player().await;
        let mut deaf = TcpStream::connect(world.gate()).await.unwrap();
        let mut unknown = Vec::new();
        put(&mut unknown, &format!("no.{}.Req", "x".repeat(100)), b"").unwrap();
        let (packet, mut sent) = (unknown.repeat(500), 0);
        while deaf.write_all(&packet).await.is_ok() {
            sent += packet.len();
            // The systems' own buffers take some megabytes, 64 MiB would be the outbox.
            assert!(sent < 40_000_000, "never closed");
        }
        world.counts("gate_sessions_kicked_slow_total", 1.0).await;
        echoes(&mut good).await;
    });
}

#[test]
fn halves_of_large_frames_keep_nobody_from_playing_and_end_with_the_idle_limit() {
    let world = World::with(&["gate.idle_timeout=2s"]);
    world.run(async {
        let mut good = world.player().await;
        let mut halves = Vec::new();
        for _ in 0..16 {
            let mut client = world.player().await;
            let half = [&b"\xff\xff\x0c\0msg.Echo.Req"[..], &[8; 65_000]].concat();
            client.send_bytes(&half).await.unwrap();
            halves.push(client);
        }
        echoes(&mut good).await;
        for mut half in halves {
            let ended = half.receive().await;
            assert!(matches!(ended, Err(ClientError::Closed | ClientError::Io(_))), "{ended:?}");
        }
    });
}

#[test]
fn players_whose_handlers_are_slow_keep_nobody_waiting_but_themselves() {
    let world = World::with(&["gate.rate_frames_per_s=0"]);
    world.run(async {
        let mut good = world.player().await;
        let asks = frame(&slow_of(500)).repeat(200);
        let mut slow = Vec::new();
        for _ in 0..50 {
            let mut client = world.player().await;
            client.send_bytes(&asks).await.unwrap();
            slow.push(client);
        }
        for _ in 0..100 {
            echoes(&mut good).await;
        }
    });
}

#[test]
fn an_account_center_that_is_asked_a_byte_at_a_time_still_signs_others_in() {
    let world = World::new();
    world.run(async {
        let mut slow = Vec::new();
        for n in 0..300 {
            let mut socket = TcpStream::connect(world.http()).await.unwrap();
            let head = "POST /v1/account/auth HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n";
            let end = if n % 2 == 0 { "\r\nd" } else { "X" };
            socket.write_all(format!("{head}{end}").as_bytes()).await.unwrap();
            slow.push(socket);
        }
        let mut good = world.player().await;
        echoes(&mut good).await;
        // Both the head and the body have their time.
        for socket in &mut slow {
            let answered = timeout(Duration::from_secs(30), read_off(socket)).await;
            answered.expect("the account center closes");
        }
    });
}
