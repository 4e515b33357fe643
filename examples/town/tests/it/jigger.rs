//! Clients that speak numbered envelopes, from their first request over HTTP to the end: over
//! WebSockets, over TCP at the door of all, and at the door of their own.

use std::{
    io::{ErrorKind, Write as _},
    time::Duration,
};

use bastide::{
    client::{Client as FrameClient, guest},
    msg,
    prost::Message as _,
    wire::put_message,
};
use bastide_testkit::secret;
use jigger::proto::{
    Action, ActionType, ErrorCode, GameStateNotify, Message, MessageId, PlaceCard,
    PlayerActionNotify, Room, action::ActionDetail, auth, create_room, draw_card, get_ready,
    get_user_info,
};
use serde_json::{Value, json};
use tokio::{net::TcpSocket, runtime::Runtime};

use crate::envelopes::{
    Carrier, DOORS, Door, PHONE, Player, code_of, framed, is_closed_silently, session_id, town,
    town_with, until,
};

#[test]
fn who_signs_in_by_phone_plays_though_each_request_names_another_device() {
    let (_dir, town) = town();
    let with = |more: Value| {
        let mut body = json!({ "country_code": "+86", "phone": PHONE });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let app = "jigger_game";
    let asked = with(json!({ "app_id": app, "device_id": "python_client_1" }));
    let (status, said) = town.platform("/auth/phone/send-code", &asked);
    assert_eq!((status, &said["expires_in"]), (200, &json!(300)), "{said}");
    let code = code_of(&town);
    let wrong = with(json!({ "code": "x", "app_id": app, "device_id": "python_client_2" }));
    assert_eq!(town.platform("/auth/phone/login", &wrong).0, 401);
    let login = with(json!({ "code": code, "app_id": app, "device_id": "python_client_3" }));
    let (status, said) = town.platform("/auth/phone/login", &login);
    assert_eq!(status, 200, "{said}");
    assert!(!secret(said["token"].as_str().unwrap()).is_empty());
    assert!(said["user"]["username"].as_str().unwrap().starts_with("user_86_"));
    let again = with(json!({ "code": code, "device_id": "python_client_4" }));
    let token = session_id(&town.login_server("/phone/login", &again));

    let mut player = town.connect(Door::Ws);
    let told = player.auth(&token);
    assert_eq!((told.ret(), told.gold, told.diamond), (ErrorCode::Ok, 100, 10));
    assert_eq!(told.conn_id.len(), 32);
    assert!(told.server_time.ends_with('Z') && told.session_expiry > 1_700_000_000);
    player.plays();
}

#[test]
fn who_has_a_name_registers_and_signs_in_and_plays() {
    let (_dir, town) = town();
    let password = secret("swordfish-77".to_owned());
    let known = json!({ "username": "anna", "password": password, "email": "anna@example.com" });
    let with = |more: Value| {
        let mut body = known.clone();
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let (status, said) = town.platform("/auth/register", &with(json!({ "app_id": "jigger_game" })));
    assert_eq!((status, &said["user"]["username"]), (200, &json!("anna")), "{said}");
    secret(said["token"].as_str().unwrap());
    let registered = session_id(&town.login_server("/register", &known));
    let mut player = town.connect(Door::Own);
    assert_eq!(player.auth(&registered).ret(), ErrorCode::Ok);
    let uid = player.uid;
    player.plays();

    let wrong = with(json!({
        "password": "wrong-password", "app_id": "jigger_game", "device_id": "python_client_0",
    }));
    assert_eq!(town.platform("/auth/login", &wrong).0, 401);
    let again = with(json!({ "app_id": "jigger_game", "device_id": "python_client_1" }));
    let (status, said) = town.platform("/auth/login", &again);
    assert_eq!(status, 200, "{said}");
    secret(said["token"].as_str().unwrap());
    let device = with(json!({ "device_id": "python_client_2" }));
    let signed_in = session_id(&town.login_server("/login", &device));

    let mut player = town.connect(Door::Ws);
    assert_eq!((player.auth(&signed_in).ret(), player.uid), (ErrorCode::Ok, uid));
    player.plays();
}

#[test]
fn a_guest_plays_over_every_door_and_is_the_same_player() {
    let (_dir, town) = town();
    let mut uids = Vec::new();
    for door in DOORS {
        let mut player = town.signed_in(door, "python_test_device_12345");
        player.plays();
        // A room of another run is in nobody's way.
        assert_eq!(player.create("Python测试房间").ret(), ErrorCode::Ok, "{door:?}");
        uids.push(player.uid);
    }
    assert!(uids[0] > 0 && uids.iter().all(|uid| *uid == uids[0]), "{uids:?}");
}

#[test]
fn a_sign_in_that_fails_says_why_and_may_be_tried_again() {
    let (_dir, town) = town();
    for door in DOORS {
        let mut player = town.connect(door);
        let said = |told: auth::Res| (told.ret(), told.error_msg, told.uid);
        let expired = "Invalid token or session expired".to_owned();
        assert_eq!(said(player.auth("test_token")), (ErrorCode::AuthFailed, expired, 0));
        let required = "Token is required".to_owned();
        assert_eq!(said(player.auth("")), (ErrorCode::InvalidParam, required, 0));
        player.serial += 1;
        player.send_bytes(&framed(player.serial, 2, vec![0x0a, 0xff]));
        let told = player.answer(MessageId::AuthResponse);
        let invalid = "Invalid request format".to_owned();
        assert_eq!(said(told), (ErrorCode::InvalidParam, invalid, 0));
        // Who has not signed in hears nothing.
        for id in [4, 6, 8, 10, 12, 16, 18, 20, 77] {
            player.send_bytes(&framed(1000, id, vec![8, 1]));
        }
        assert_eq!(player.auth(&town.guest_token("late")).ret(), ErrorCode::Ok, "{door:?}");
        player.plays();
    }
}

#[test]
fn who_asks_for_what_it_may_not_have_is_told_so() {
    let (_dir, town) = town();
    let mut player = town.signed_in(Door::Tcp, "one");
    let (uid, other) = (player.uid, town.signed_in(Door::Own, "other").uid);
    for not_mine in [0, other, 999_999, u64::MAX] {
        assert_eq!(player.info(not_mine).ret(), ErrorCode::AuthFailed, "{not_mine}");
        assert_eq!(player.draw(not_mine, 1).ret(), ErrorCode::InvalidCard, "{not_mine}");
    }
    for count in [i32::MIN, -1, 0, 101, i32::MAX] {
        assert_eq!(player.draw(uid, count).ret(), ErrorCode::InvalidParam, "{count}");
    }
    player.serial += 1;
    player.send_bytes(&framed(player.serial, 16, vec![0xff]));
    let told: draw_card::Res = player.answer(MessageId::DrawCardResponse);
    assert_eq!(told.ret(), ErrorCode::InvalidParam);
    let nowhere = Room { id: "nowhere".to_owned(), ..Room::default() };
    assert_eq!(player.join(&nowhere), ErrorCode::InvalidRoom);
    assert_eq!(player.join(&Room::default()), ErrorCode::InvalidRoom);
    assert_eq!(player.leave().ret(), ErrorCode::InvalidRoom);
    assert_eq!(player.ready(), ErrorCode::InvalidRoom);
    assert_eq!(player.act(Some(Action::default())), ErrorCode::InvalidRoom);
    assert_eq!(player.create(&"x".repeat(257)).ret(), ErrorCode::InvalidParam);
    assert_eq!(player.create(&"x".repeat(3000)).ret(), ErrorCode::InvalidParam);
    // What nobody knows has no answer.
    for id in [0, 1, 5, 14, 23, -1, i32::MAX] {
        player.send_bytes(&framed(1000, id, vec![1, 2, 3]));
    }
    assert_eq!(player.info(uid).user_info.unwrap().draw_card_count, 0);
    assert_eq!(player.auth("again").ret(), ErrorCode::InvalidState);
    player.uid = uid;
    player.plays();
    assert_eq!(player.news.len(), 0);
}

#[test]
fn a_rare_card_comes_by_the_fiftieth_and_every_card_is_its_own() {
    let (_dir, town) = town();
    let mut player = town.signed_in(Door::Ws, "one");
    let mut drawn = Vec::new();
    for _ in 0..20 {
        drawn.extend(player.draw(player.uid, 10).cards);
    }
    let rare: Vec<_> = drawn.iter().map(|card| card.rarity == 3).collect();
    assert!(rare.windows(50).all(|fifty| fifty.contains(&true)), "{rare:?}");
    let info = player.info(player.uid).user_info.unwrap();
    let mut ids: Vec<_> = info.backpack.unwrap().cards.iter().map(|card| card.id).collect();
    let mut of_drawn: Vec<_> = drawn.iter().map(|card| card.id).collect();
    ids.sort_unstable();
    of_drawn.sort_unstable();
    of_drawn.dedup();
    assert_eq!((ids.len(), info.draw_card_count, ids), (200, 200, of_drawn));
}

#[test]
fn rooms_are_made_listed_joined_and_left_and_all_in_one_hear_of_it() {
    let (_dir, town) = town();
    let mut anna = town.signed_in(Door::Ws, "anna");
    let mut bert = town.signed_in(Door::Tcp, "bert");
    let created = anna.create("Python测试房间");
    assert_eq!(created.ret(), ErrorCode::Ok);
    let room = created.room.unwrap();
    let seats = (room.max_players, room.current_players);
    assert_eq!((&*room.name, seats, room.id.is_empty()), ("Python测试房间", (4, 1), false));
    assert_eq!(anna.create("another").ret(), ErrorCode::PlayerAlreadyInRoom);
    assert_eq!(anna.join(&room), ErrorCode::PlayerAlreadyInRoom);
    // Of the same name, and another room.
    let own = bert.create("Python测试房间").room.unwrap();
    assert_ne!(own.id, room.id);
    let mut listed = Vec::new();
    until("both are listed", || {
        listed = bert.rooms();
        listed.iter().filter(|listed| listed.current_players == 1).count() == 2
    });
    assert!(listed.iter().all(|listed| listed.name == room.name && listed.max_players == 4));
    assert!(listed.iter().any(|listed| listed.id == room.id));

    assert_eq!(bert.leave().room.map(|left| left.id), Some(own.id));
    assert_eq!(bert.join(&room), ErrorCode::Ok);
    for player in [&mut anna, &mut bert] {
        assert_eq!(player.company().len(), 2);
    }
    let mut carl = town.signed_in(Door::Own, "carl");
    let mut dora = town.signed_in(Door::Own, "dora");
    assert_eq!(carl.join(&room), ErrorCode::Ok);
    assert_eq!(dora.join(&room), ErrorCode::Ok);
    let mut emil = town.signed_in(Door::Own, "emil");
    assert_eq!(emil.join(&room), ErrorCode::NotAllowed, "it is full");
    for heard in [3, 4] {
        assert_eq!(anna.company().len(), heard);
        assert_eq!(bert.company().len(), heard);
    }
    let left = bert.leave();
    assert_eq!((left.ret(), left.room.unwrap().current_players), (ErrorCode::Ok, 3));
    assert_eq!(bert.leave().ret(), ErrorCode::InvalidRoom);
    let there = anna.company();
    assert!(there.contains(&anna.uid) && there.len() == 3 && !there.contains(&bert.uid));
    // Who is gone without a word is not waited for.
    drop(dora);
    assert_eq!(anna.company(), [anna.uid, carl.uid]);
    until("its seat is to be had", || emil.join(&room) == ErrorCode::Ok);
    assert_eq!(anna.company().len(), 3);
}

#[test]
fn two_at_a_table_are_dealt_words_and_lay_them_in_turn() {
    let (_dir, town) = town();
    let (mut anna, mut bert) =
        (town.signed_in(Door::Ws, "anna"), town.signed_in(Door::Own, "bert"));
    let room = anna.create("table").room.unwrap();
    let chat = Action { action_type: ActionType::AutoChat.into(), ..Action::default() };
    assert_eq!(bert.join(&room), ErrorCode::Ok);
    let pass = Action { action_type: ActionType::SkipTurn.into(), ..Action::default() };
    assert_eq!(anna.act(Some(pass)), ErrorCode::InvalidState, "no game is on");
    assert_eq!(anna.act(None), ErrorCode::InvalidParam);
    assert_eq!(anna.act(Some(Action::default())), ErrorCode::InvalidAction);
    let bert_uid = bert.uid;
    // It is the server that says who it was.
    assert_eq!(bert.act(Some(Action { player_id: anna.uid, timestamp: 5, ..chat })), ErrorCode::Ok);
    for player in [&mut anna, &mut bert] {
        assert_eq!(player.company().len(), 2);
    }
    for player in [&mut anna, &mut bert] {
        let told: PlayerActionNotify = player.news(MessageId::GameActionNotification);
        assert_eq!((told.be_notified_uid, &told.room_id), (player.uid, &room.id));
        let action = told.action.unwrap();
        assert_eq!((action.action_type(), action.timestamp), (ActionType::AutoChat, 5));
        assert_eq!((told.player_id, action.player_id), (bert_uid, bert_uid));
    }
    assert_eq!(anna.ready(), ErrorCode::Ok);
    assert_eq!(bert.ready(), ErrorCode::Ok);
    let (of_anna, of_bert) = (anna.game(), bert.game());
    let state = of_anna.game_state.clone().unwrap();
    let hands = |told: &GameStateNotify| -> Vec<usize> {
        let players = &told.game_state.as_ref().unwrap().players;
        players.iter().map(|player| player.cards.len()).collect()
    };
    assert_eq!((hands(&of_anna), hands(&of_bert)), (vec![8, 0], vec![0, 8]), "hands are hidden");
    assert_eq!(anna.ready(), ErrorCode::InvalidState);
    let place = |card_id| Action {
        action_type: ActionType::PlaceCard.into(),
        action_detail: Some(ActionDetail::PlaceCard(PlaceCard { card_id, target_index: 0 })),
        ..Action::default()
    };
    let (first, second) = match state.current_turn {
        0 => (&mut anna, &mut bert),
        _ => (&mut bert, &mut anna),
    };
    assert_eq!(second.act(Some(place(0))), ErrorCode::NotAllowed, "not its turn");
    assert_eq!(first.act(Some(place(8))), ErrorCode::InvalidCard);
    assert_eq!(first.act(Some(place(7))), ErrorCode::Ok);
    assert_eq!(second.act(Some(pass)), ErrorCode::Ok);
    let (first_uid, second_uid) = (first.uid, second.uid);
    for player in [first, second] {
        for (uid, laid) in [(first_uid, 1), (second_uid, 1)] {
            let told: PlayerActionNotify = player.news(MessageId::GameActionNotification);
            assert_eq!(told.player_id, uid);
            let state = player.game().game_state.unwrap();
            let table = state.card_table.unwrap();
            assert_eq!((table.cards.len(), &table.sentence), (laid, &table.cards[0].word));
        }
    }
    drop(bert);
    assert_eq!(anna.company(), [anna.uid]);
    assert_eq!(anna.game().game_state.unwrap().players.len(), 1, "it is over");
    assert_eq!(anna.ready(), ErrorCode::Ok);
}

#[test]
fn what_is_sent_in_one_piece_or_byte_by_byte_is_answered_in_order() {
    let (_dir, town) = town();
    for door in DOORS {
        let mut player = town.connect(door);
        let token = town.guest_token("all at once");
        let auth = auth::Req { token, ..auth::Req::default() };
        let create = create_room::Req { name: "n".to_owned() };
        let all = [
            framed(1, 2, auth.encode_to_vec()),
            framed(2, 8, create.encode_to_vec()),
            framed(3, 18, Vec::new()),
            framed(4, 12, Vec::new()),
            framed(5, 18, Vec::new()),
            framed(6, 6, Vec::new()),
        ]
        .concat();
        // As the first message of a WebSocket an envelope arrives whole.
        let (at_once, bytewise) = all.split_at(all.len() - 40);
        player.send_bytes(at_once);
        bytewise.iter().for_each(|byte| player.send_bytes(&[*byte]));
        let answers: Vec<_> = (0..6).map(|_| player.next().unwrap()).collect();
        let numbers: Vec<_> = answers.iter().map(|a| (a.msg_serial_no, a.id)).collect();
        assert_eq!(numbers, [(1, 3), (2, 9), (3, 19), (4, 13), (5, 19), (6, 7)], "{door:?}");
        let rets = answers[1..5].iter().map(|a| get_ready::Res::decode(&*a.data).unwrap().ret);
        assert_eq!(rets.collect::<Vec<_>>(), [0, 0, 0, ErrorCode::InvalidRoom as i32]);
    }
}

#[test]
fn clients_of_frames_come_in_by_the_same_door_and_have_the_same_bag() {
    let (_dir, town) = town();
    Runtime::new().unwrap().block_on(async {
        let signed_in = guest(&town.http(), "both").await.unwrap();
        let token = secret(signed_in.token);
        let mut framed = FrameClient::connect(&town.gate()).await.unwrap();
        framed.sign_in(&token).await.unwrap();
        framed.request(&cards::draw::Req { count: 5 }).await.unwrap();
        let mut beside = town.signed_in(Door::Tcp, "beside");
        beside.plays();
        let answer = framed.request(&msg::echo::Req { val: Some(7), ct: None }).await.unwrap();
        assert_eq!(answer.val, Some(7));
        drop(framed);

        let mut player = town.connect(Door::Tcp);
        assert_eq!(player.auth(&token).gold, 95);
        let info = player.info(player.uid).user_info.unwrap();
        assert_eq!((info.draw_card_count, info.gold), (5, 95));
        assert_eq!(player.draw(player.uid, 2).cards.len(), 2);
        drop(player);

        let mut framed = FrameClient::connect(&town.gate()).await.unwrap();
        framed.sign_in(&token).await.unwrap();
        let bag = framed.request(&msg::get_items::Req { idx: Some(102) }).await.unwrap();
        assert_eq!(bag.items.iter().map(|item| item.num).sum::<i64>(), 7);
        beside.plays();
    });
}

#[test]
fn what_is_no_envelope_ends_its_connection_and_nobody_elses() {
    let (_dir, town) = town();
    let mut good = town.signed_in(Door::Own, "good");
    let not_envelopes: [&[u8]; 6] = [
        &[0xff; 64],
        &[1, 16, 0, 0],
        &[0, 0, 0, 0x80, 1, 2, 3],
        &[4, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
        &[2, 0, 0, 0, 0x0a, 9],
        &framed(1, 2, Vec::new())[..4].repeat(20),
    ];
    for bytes in not_envelopes {
        let mut stranger = town.connect(Door::Own);
        stranger.send_bytes(bytes);
        assert!(is_closed_silently(stranger), "{bytes:?}");
    }
    for door in DOORS {
        for bytes in [&70_000_u32.to_le_bytes()[..], &[3, 0, 0, 0, 0xff, 0xff, 0xff]] {
            let mut player = town.signed_in(door, "bad");
            player.send_bytes(bytes);
            assert!(is_closed_silently(player), "{door:?} {bytes:?}");
        }
    }
    good.plays();
}

#[test]
fn an_envelope_that_never_ends_is_closed_when_its_time_is_over() {
    let (_dir, town) = town_with(&["--set", "gate.sign_in_timeout=2s"]);
    for door in DOORS {
        let mut stranger = town.connect(door);
        stranger.send_bytes(&framed(1, 2, vec![0; 90])[..60]);
        // At a door of all it was taken for frames by then, and is told so.
        while stranger.next_bytes() {}
    }
    town.signed_in(Door::Ws, "good").plays();
}

#[test]
fn who_asks_too_much_is_refused_and_then_closed() {
    let (_dir, town) = town();
    let mut good = town.signed_in(Door::Ws, "good");
    for door in DOORS {
        let mut player = town.signed_in(door, "hasty");
        let all: Vec<u8> = (0..300).flat_map(|n| framed(n, 18, Vec::new())).collect();
        player.send_bytes(&all);
        let answers: Vec<_> = (0..300).map(|_| player.next().unwrap()).collect();
        assert!(answers.iter().zip(0..).all(|(answer, n)| answer.msg_serial_no == n));
        let ret = |answer: &Message| get_ready::Res::decode(&*answer.data).unwrap().ret();
        assert_eq!(ret(&answers[0]), ErrorCode::InvalidRoom);
        assert_eq!(ret(&answers[299]), ErrorCode::NotAllowed, "{door:?}");
        // Unknown ids count as well, and are never answered.
        let flood: Vec<u8> = (0..5000).flat_map(|n| framed(n, 99, Vec::new())).collect();
        match &mut player.carrier {
            // The gate may close before it has read all of it.
            Carrier::Tcp(stream) => drop(stream.write_all(&flood)),
            Carrier::Ws(socket) => drop(socket.send(flood.into())),
        }
        assert!(is_closed_silently(player), "{door:?}");
        good.plays();
    }
}

#[test]
fn who_does_not_read_is_closed_and_nobody_waits_for_it() {
    let (_dir, town) = town_with(&["--set", "gate.rate_frames_per_s=0"]);
    let mut good = town.signed_in(Door::Tcp, "good");
    let runtime = Runtime::new().unwrap();
    let own = town.addresses["codecs"]["jigger"]["tcp"].as_str().unwrap().parse().unwrap();
    let deaf = runtime.block_on(async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(own).await.unwrap().into_std().unwrap()
    });
    deaf.set_nonblocking(false).unwrap();
    let carrier = Carrier::Tcp(deaf);
    let mut deaf = Player { carrier, arrived: Vec::new(), serial: 0, uid: 0, news: Vec::new() };
    assert_eq!(deaf.auth(&town.guest_token("deaf")).ret(), ErrorCode::Ok);
    for _ in 0..50 {
        assert_eq!(deaf.draw(deaf.uid, 10).cards.len(), 10);
    }
    let ask = get_user_info::Req { uid: deaf.uid }.encode_to_vec();
    let asks = framed(1, 4, ask).repeat(100);
    let Carrier::Tcp(stream) = &mut deaf.carrier else { panic!("it is TCP") };
    stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    // Each is answered with 20 KB; the gate stops reading, then closes.
    let closed = (0..2000).find_map(|_| {
        good.plays();
        stream.write_all(&asks).err()
    });
    let closed = closed.expect("it is closed").kind();
    assert!([ErrorKind::BrokenPipe, ErrorKind::ConnectionReset].contains(&closed), "{closed:?}");
    good.plays();
}

#[test]
fn a_newer_sign_in_ends_the_older_connection_without_a_word() {
    let (_dir, town) = town();
    let older = town.signed_in(Door::Ws, "twice");
    let mut newer = town.signed_in(Door::Tcp, "twice");
    assert!(is_closed_silently(older));
    newer.plays();
}

#[test]
fn a_frame_behind_an_envelope_is_no_frame() {
    let (_dir, town) = town();
    let mut player = town.signed_in(Door::Tcp, "mixed");
    let mut frame = Vec::new();
    put_message(&mut frame, &msg::echo::Req { val: Some(7), ct: None }).unwrap();
    player.send_bytes(&frame);
    assert!(is_closed_silently(player));
}
