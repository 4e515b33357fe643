//! Sessions and players over time: who may be signed in, what is kept, how it ends.

use bastide::{Code, client::ClientError, msg};

use crate::world::{World, code, echo_of, get, kick, slow_of, told};

#[test]
fn a_second_sign_in_wins_and_the_first_is_told_so() {
    let world = World::new();
    world.run(async {
        let mut first = world.player_on("same").await;
        let mut second = world.player_on("same").await;
        assert_eq!(kick(first.receive().await), Code::SIGNED_IN_ELSEWHERE);
        assert!(matches!(first.receive().await, Err(ClientError::Closed | ClientError::Io(_))));
        second.request(&echo_of(1)).await.unwrap();
    });
}

/// The old connection's end is told to the player after the new one signed in: it must not be
/// taken for the end of the new one.
#[test]
fn a_late_close_of_the_old_connection_never_touches_the_new_session() {
    let world = World::new();
    world.run(async {
        let mut last = world.player_on("same").await;
        for _ in 0..20 {
            let mut new = world.player_on("same").await;
            drop(last);
            new.request(&echo_of(1)).await.unwrap();
            last = new;
        }
        last.request(&slow_of(20)).await.unwrap();
    });
}

#[test]
fn the_state_is_there_again_after_signing_out_and_after_a_restart() {
    let world = World::new();
    world.run(async {
        let mut client = world.player_on("keeper").await;
        for _ in 0..3 {
            client.request(&msg::get_items::Req::default()).await.unwrap();
        }
        drop(client);
        let mut client = world.player_on("keeper").await;
        assert_eq!(told(&client.request(&msg::get_items::Req::default()).await.unwrap()), 4);
    });
    let world = world.restart();
    world.run(async {
        let mut client = world.player_on("keeper").await;
        assert_eq!(told(&client.request(&msg::get_items::Req::default()).await.unwrap()), 5);
        let mut other = world.player_on("other").await;
        assert_eq!(told(&other.request(&msg::get_items::Req::default()).await.unwrap()), 1);
    });
}

#[test]
fn a_player_whom_nobody_needs_is_saved_and_leaves_the_memory() {
    let world = World::with(&["game.linger=50ms", "session.resume_window=50ms"]);
    world.run(async {
        let mut client = world.player_on("leaver").await;
        client.request(&msg::get_items::Req::default()).await.unwrap();
        assert!(world.meter("entity_running").await >= 1.0);
        drop(client);
        let gone = async {
            while world.meter("entity_running").await > 0.0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(5), gone).await.unwrap();
        let mut client = world.player_on("leaver").await;
        assert_eq!(told(&client.request(&msg::get_items::Req::default()).await.unwrap()), 2);
    });
}

/// Signing in and leaving at the very moment when the player is being put away.
#[test]
fn a_player_that_is_just_stopping_is_woken_again_without_losing_a_count() {
    let world =
        World::with(&["game.linger=0s", "session.resume_window=0s", "gate.rate_frames_per_s=0"]);
    world.run(async {
        let token = world.token("churn").await;
        for n in 1..=60 {
            let mut client = world.connect().await;
            client.sign_in(&token).await.unwrap();
            // The greeting push has the name of the answer that is asked for next.
            client.receive().await.unwrap();
            assert_eq!(told(&client.request(&msg::get_items::Req::default()).await.unwrap()), n);
        }
    });
}

#[test]
fn draining_answers_what_is_under_way_tells_everybody_and_refuses_the_rest() {
    let world = std::sync::Arc::new(World::new());
    let (ready, is_ready) = std::sync::mpsc::channel();
    let theirs = world.clone();
    // On a runtime of their own: the game's ends with the game.
    let clients = std::thread::spawn(move || {
        let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        rt.block_on(async {
            let (mut busy, mut idle) = (theirs.player().await, theirs.player().await);
            busy.send(&slow_of(300)).await.unwrap();
            // Written is arrived, here: what had arrived when the drain began is answered.
            busy.send(&msg::ping::Req::default()).await.unwrap();
            idle.request(&echo_of(1)).await.unwrap();
            drop(theirs);
            ready.send(()).unwrap();
            assert_eq!(kick(idle.receive().await), Code::DRAINING);
            assert_eq!(busy.receive().await.unwrap().api, "msg.GetRank.Res");
            assert_eq!(busy.receive().await.unwrap().api, "msg.Ping.Res");
            assert_eq!(kick(busy.receive().await), Code::DRAINING);
        });
    });
    is_ready.recv().unwrap();
    std::sync::Arc::into_inner(world).unwrap().stop();
    clients.join().unwrap();
}

/// The old session has filled its player's mailbox with slow work. The account's owner signs in
/// from elsewhere: what the old one left is skipped, only the handler that runs is waited for.
#[test]
fn a_busy_old_session_cannot_keep_a_new_one_out() {
    let world = World::with(&["gate.rate_frames_per_s=0"]);
    world.run(async {
        let mut old = world.player_on("owner").await;
        for _ in 0..400 {
            old.send(&slow_of(900)).await.unwrap();
            // Each in a wake of its own.
            tokio::task::yield_now().await;
        }
        let mut new = world.player_on("owner").await;
        new.request(&echo_of(1)).await.unwrap();
    });
}

#[test]
fn operators_see_that_it_lives_that_it_is_ready_and_what_it_counts() {
    let world = World::new();
    world.run(async {
        for admin in world.admin() {
            let page = |path: &str| format!("http://{admin}{path}");
            assert_eq!(get(&page("/healthz")).await.0, 200);
            assert_eq!(get(&page("/readyz")).await.0, 200);
            assert_eq!(get(&page("/nothing")).await.0, 404);
        }
        let before = world.meter("gate_sign_ins_total").await;
        let _client = world.player().await;
        assert_eq!(world.meter("gate_sign_ins_total").await, before + 1.0);
        assert!(world.meter("gate_sessions").await >= 1.0);
    });
}

#[test]
fn a_second_game_on_the_same_data_is_refused_with_the_reason() {
    let world = World::alone(&[]);
    let data = world.data();
    let mut args = vec!["--data", &data];
    for free in ["--http", "--gate-tcp", "--gate-ws", "--gate-quic", "--admin"] {
        args.extend([free, "127.0.0.1:0"]);
    }
    let refused = crate::world::game().start(&args).map(|_| ()).unwrap_err();
    assert!(refused.contains("another") && refused.contains("--data"), "{refused}");
}

#[test]
fn a_port_that_is_taken_is_named_with_its_key_and_the_remedy() {
    let world = World::alone(&[]);
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let taken = [("gate.tcp", world.gate()), ("gate.ws", world.ws()), ("gate.quic", world.quic())];
    for (key, taken) in taken {
        let (taken, mut args) = (taken.to_string(), vec!["--data", data]);
        for free in ["--http", "--gate-tcp", "--gate-ws", "--gate-quic", "--admin"] {
            let here = free.trim_start_matches('-').replace('-', ".") == key;
            args.extend([free, if here { &taken } else { "127.0.0.1:0" }]);
        }
        let refused = crate::world::game().start(&args).map(|_| ()).unwrap_err();
        let flag = format!("--{}", key.replace('.', "-"));
        for part in [key, &taken, &flag, "--port-base"] {
            assert!(refused.contains(part), "{part} is not in: {refused}");
        }
    }
}

#[test]
fn only_a_token_of_this_town_opens_a_session() {
    let (here, elsewhere) = (World::new(), World::new());
    let foreign = elsewhere.run(elsewhere.token("a"));
    here.run(async {
        let mut client = here.connect().await;
        assert_eq!(code(client.sign_in(&foreign).await), Code::TOKEN_INVALID);
        let mut forged = here.token("a").await.into_bytes();
        let middle = forged.len() / 2;
        forged[middle] = if forged[middle] == b'A' { b'B' } else { b'A' };
        let forged = String::from_utf8(forged).unwrap();
        assert_eq!(code(client.sign_in(&forged).await), Code::TOKEN_INVALID);
    });
}
