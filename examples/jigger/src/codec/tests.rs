//! Owns a client and a gate around the codec, held against what both are promised.

use bastide::wire::{Cut, FRAME_BYTES_MAX, cut, put, put_message};
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::proto::get_room_list;

const NAME: &str = "guest-7";

/// The codec between a client and a gate.
struct Line {
    codec: Jigger,
    ctx: CodecCtx,
    /// Of what was said to the gate, so many bytes are looked at.
    seen: usize,
    serial: i32,
}

impl Line {
    fn new() -> Self {
        Self { codec: Jigger::default(), ctx: CodecCtx::new(4096), seen: 0, serial: 0 }
    }

    /// Signed in.
    fn open() -> Self {
        let mut line = Self::new();
        line.sends(
            MessageId::AuthRequest,
            &auth::Req { token: "t".into(), ..auth::Req::default() },
        );
        assert_eq!(line.said(), [msg::login::Req::NAME]);
        line.gate(&login());
        assert_eq!(line.hears().len(), 1);
        line
    }

    fn sends(&mut self, id: MessageId, message: &impl prost::Message) {
        self.serial += 1;
        let bytes = envelope(self.serial, id.into(), message.encode_to_vec());
        assert_eq!(self.codec.read(&bytes, &mut self.ctx), Ok(bytes.len()));
    }

    /// The names of what was said to the gate since this was asked last.
    fn said(&mut self) -> Vec<String> {
        self.frames().into_iter().map(|(api, _)| api).collect()
    }

    fn frames(&mut self) -> Vec<(String, Vec<u8>)> {
        let (mut frames, bytes) = (Vec::new(), self.ctx.said());
        while let Ok(Cut::Frame(frame)) = cut(&bytes[self.seen..], FRAME_BYTES_MAX) {
            frames.push((frame.api.as_str().to_owned(), frame.payload.to_vec()));
            self.seen += frame.bytes.len();
        }
        frames
    }

    fn gate<M: Named>(&mut self, message: &M) {
        let mut bytes = Vec::new();
        put_message(&mut bytes, message).expect("it fits");
        self.gate_bytes(&bytes);
    }

    fn gate_bytes(&mut self, bytes: &[u8]) {
        let Ok(Cut::Frame(frame)) = cut(bytes, FRAME_BYTES_MAX) else { panic!("a frame") };
        self.codec.write(&frame, &mut self.ctx);
    }

    fn refuses(&mut self, api: &str, code: Code) {
        self.gate(&msg::error::Res { code: code.0, api: api.to_owned(), message: String::new() });
    }

    fn hears(&mut self) -> Vec<Message> {
        let (mut heard, mut bytes) = (Vec::new(), std::mem::take(self.ctx.client()));
        while let Some((message, taken)) =
            envelope::cut(&bytes, &CodecCtx::new(1 << 20)).expect("ours")
        {
            heard.push(message);
            bytes.drain(..taken);
        }
        assert!(bytes.is_empty());
        heard
    }

    /// The one answer that there is.
    fn hears_one<M: prost::Message + Default>(&mut self, id: MessageId) -> M {
        let heard = self.hears();
        assert_eq!(heard.len(), 1, "{heard:?}");
        assert_eq!((heard[0].id(), &*heard[0].client_id), (id, "c"));
        M::decode(&*heard[0].data).expect("an answer")
    }

    /// Creates a room, which the gate has.
    fn creates(&mut self, name: &str) {
        self.sends(MessageId::CreateRoomRequest, &create_room::Req { name: name.to_owned() });
        assert_eq!(self.said(), [msg::enter_room::Req::NAME]);
        self.gate(&entered());
        assert_eq!(self.said(), [msg::join_room::Req::NAME]);
        self.gate(&joined(name));
    }
}

fn envelope(serial: i32, id: i32, data: Vec<u8>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let client_id = "c".to_owned();
    envelope::put(&mut bytes, &Message { client_id, msg_serial_no: serial, id, data });
    bytes
}

fn login() -> msg::login::Res {
    let item = |idx, num| bastide::def::Item { id: 1, idx, num, create_time: 0, update_time: 0 };
    let user = bastide::def::User {
        id: 7,
        account: 7,
        name: Some(NAME.to_owned()),
        items: vec![item(100, 90), item(101, 10), item(102, 4)],
        ..bastide::def::User::default()
    };
    msg::login::Res {
        code: 0,
        user: Some(user),
        session_id: Some("session_12".to_owned()),
        server_time_ms: Some(1_757_731_002_999),
        ..msg::login::Res::default()
    }
}

fn entered() -> msg::enter_room::Res {
    msg::enter_room::Res { ticket: vec![1; 16], ..msg::enter_room::Res::default() }
}

fn joined(name: &str) -> msg::join_room::Res {
    let (id, name) = ("r".to_owned(), name.to_owned());
    let room = Some(Room { id, name, max_players: 4, current_players: 1 });
    let state = RoomDetail { room, current_players: Vec::new() }.encode_to_vec();
    msg::join_room::Res { code: 0, room_id: "r".to_owned(), state }
}

fn closed(room_id: &str) -> msg::RoomClosed {
    msg::RoomClosed { room_id: room_id.to_owned(), ..msg::RoomClosed::default() }
}

fn detail(room_id: &str, current_players: i32) -> RoomDetailNotify {
    let room = Room { id: room_id.to_owned(), current_players, ..Room::default() };
    let room = RoomDetail { room: Some(room), current_players: Vec::new() };
    RoomDetailNotify { be_notified_uid: 7, room: Some(room) }
}

#[test]
fn who_signs_in_is_told_who_it_is() {
    let mut line = Line::new();
    let auth = auth::Req {
        token: "t".to_owned(),
        client_version: "1.0.0".to_owned(),
        device_type: "desktop".to_owned(),
        device_id: "d".to_owned(),
        is_guest: true,
        ..auth::Req::default()
    };
    line.sends(MessageId::AuthRequest, &auth);
    let (api, payload) = line.frames().remove(0);
    assert_eq!(api, msg::login::Req::NAME);
    let asked = msg::login::Req::decode(&*payload).expect("a sign-in");
    let said = (&*asked.token, asked.device_id(), asked.platform(), asked.version());
    assert_eq!(said, ("t", "d", "desktop", "1.0.0"));
    line.gate(&login());
    let told: auth::Res = line.hears_one(MessageId::AuthResponse);
    assert_eq!((told.ret(), told.uid, &*told.nickname), (ErrorCode::Ok, 7, NAME));
    assert_eq!((told.gold, told.diamond, told.is_guest), (90, 10, true));
    assert_eq!((told.conn_id.len(), &*told.server_time), (32, "2025-09-13T02:36:42Z"));
    assert_eq!(told.session_expiry, 1_757_731_002 + 86_400);
}

#[test]
fn who_cannot_sign_in_is_told_why_and_may_try_again() {
    let mut line = Line::new();
    let unknown = auth::Req { token: "t".to_owned(), ..auth::Req::default() };
    for (payload, code, ret, text) in [
        (vec![], 2001, 1, "Token is required"),
        (vec![0xff], 2001, 1, "Invalid request format"),
        (unknown.encode_to_vec(), 2001, 3, "Invalid token or session expired"),
        (unknown.encode_to_vec(), 2002, 3, "Invalid token or session expired"),
        (unknown.encode_to_vec(), 101, 2, Code::NOT_READY.text()),
    ] {
        let bytes = envelope(1, MessageId::AuthRequest.into(), payload);
        assert_eq!(line.codec.read(&bytes, &mut line.ctx), Ok(bytes.len()));
        assert_eq!(line.said(), [msg::login::Req::NAME], "each is one of its tries");
        line.gate(&msg::login::Res { code, ..msg::login::Res::default() });
        let told: auth::Res = line.hears_one(MessageId::AuthResponse);
        assert_eq!((told.ret, &*told.error_msg, told.uid), (ret, text, 0));
    }
    line.sends(MessageId::AuthRequest, &unknown);
    line.gate(&login());
    assert_eq!(line.hears_one::<auth::Res>(MessageId::AuthResponse).ret(), ErrorCode::Ok);
    line.sends(MessageId::AuthRequest, &unknown);
    assert_eq!(line.said().last().map(String::as_str), Some(unknown::Req::NAME));
    line.refuses(unknown::Req::NAME, Code::UNKNOWN_API);
    assert_eq!(line.hears_one::<auth::Res>(MessageId::AuthResponse).ret(), ErrorCode::InvalidState);
}

#[test]
fn a_stranger_hears_nothing_but_each_of_its_messages_counts() {
    let mut line = Line::new();
    for id in (0..24).filter(|id| *id != 2).chain([-1, 77, i32::MAX]) {
        let bytes = envelope(1, id, vec![0xff; 9]);
        assert_eq!(line.codec.read(&bytes, &mut line.ctx), Ok(bytes.len()));
        assert_eq!(line.said(), [unknown::Req::NAME]);
        line.refuses(unknown::Req::NAME, Code::NOT_SIGNED_IN);
        assert_eq!(line.hears(), []);
    }
}

#[test]
fn a_message_of_the_game_goes_through_as_it_is_and_so_does_its_answer() {
    let mut line = Line::open();
    line.sends(MessageId::DrawCardRequest, &draw_card::Req { uid: 7, count: 2 });
    assert_eq!(line.frames(), [(draw_card::Req::NAME.to_owned(), vec![8, 7, 16, 2])]);
    let mut bytes = Vec::new();
    put(&mut bytes, draw_card::Res::NAME, b"\x12\x00").expect("it fits");
    line.gate_bytes(&bytes);
    let heard = line.hears();
    let (id, serial, data) = (heard[0].id, heard[0].msg_serial_no, &*heard[0].data);
    assert_eq!((id, serial, data), (17, 2, &b"\x12\x00"[..]));
    line.sends(MessageId::GetUserInfoRequest, &get_user_info::Req { uid: 7 });
    line.refuses(get_user_info::Req::NAME, Code::DEADLINE);
    let told: get_user_info::Res = line.hears_one(MessageId::GetUserInfoResponse);
    assert_eq!(told.ret(), ErrorCode::Timeout);
}

#[test]
fn an_id_that_nobody_knows_gets_no_answer_and_the_next_does() {
    let mut line = Line::open();
    for id in [0, 1, 3, 14, 22, 23, 9999, -7] {
        let bytes = envelope(9, id, Vec::new());
        assert_eq!(line.codec.read(&bytes, &mut line.ctx), Ok(bytes.len()));
    }
    line.sends(MessageId::GetReadyRequest, &get_ready::Req::default());
    assert_eq!(line.said().len(), 9);
    (0..8).for_each(|_| line.refuses(unknown::Req::NAME, Code::UNKNOWN_API));
    line.refuses(get_ready::Req::NAME, Code::NOT_IN_ROOM);
    let told: get_ready::Res = line.hears_one(MessageId::GetReadyResponse);
    assert_eq!(told.ret(), ErrorCode::InvalidRoom);
}

#[test]
fn news_have_no_number_and_answer_nothing() {
    let mut line = Line::open();
    line.sends(MessageId::GameActionRequest, &game_action::Req::default());
    line.gate(&RoomDetailNotify::default());
    line.gate(&GameStateNotify { be_notified_uid: 7, ..GameStateNotify::default() });
    line.gate(&PlayerActionNotify::default());
    line.gate(&msg::get_items::Res::default());
    line.gate(&msg::kick::Res::default());
    line.refuses("", Code::PROTOCOL);
    let heard = line.hears();
    assert_eq!(heard.iter().map(|news| news.id).collect::<Vec<_>>(), [14, 15, 22]);
    assert!(heard.iter().all(|news| news.msg_serial_no == -1 && news.client_id.is_empty()));
    assert_eq!(heard[1].data, [8, 7]);
    line.gate(&game_action::Res::default());
    assert_eq!(line.hears_one::<game_action::Res>(MessageId::GameActionResponse).ret, 0);
}

#[test]
fn a_room_is_a_new_one_each_time_and_what_is_sent_behind_waits_for_it() {
    let mut line = Line::open();
    let name = "Python测试房间";
    line.sends(MessageId::CreateRoomRequest, &create_room::Req { name: name.to_owned() });
    line.sends(MessageId::GetReadyRequest, &get_ready::Req::default());
    let (api, payload) = line.frames().remove(0);
    assert_eq!(api, msg::enter_room::Req::NAME);
    let first = msg::enter_room::Req::decode(&*payload).expect("a wish");
    assert_eq!((&*first.kind, &*first.room_id, &*first.options["name"]), (KIND, "", name));
    line.gate(&entered());
    let (api, payload) = line.frames().remove(0);
    assert_eq!(api, msg::join_room::Req::NAME);
    let join = msg::join_room::Req::decode(&*payload).expect("a ticket");
    assert_eq!((join.ticket, &*join.name), (vec![1; 16], NAME));
    line.gate(&joined(name));
    let told: create_room::Res = line.hears_one(MessageId::CreateRoomResponse);
    let room = told.room.clone().unwrap_or_default();
    assert_eq!((told.ret(), &*room.id, &*room.name), (ErrorCode::Ok, "r", name));
    assert_eq!(line.said(), [get_ready::Req::NAME]);
    line.gate(&get_ready::Res::default());
    line.hears();

    // Nobody has two rooms, and nobody is asked for one.
    for (id, answer) in [
        (MessageId::CreateRoomRequest, MessageId::CreateRoomResponse),
        (MessageId::JoinRoomRequest, MessageId::JoinRoomResponse),
    ] {
        line.sends(id, &create_room::Req { name: "r".to_owned() });
        assert_eq!(line.said(), [unknown::Req::NAME]);
        line.refuses(unknown::Req::NAME, Code::UNKNOWN_API);
        let told: join_room::Res = line.hears_one(answer);
        assert_eq!(told.ret(), ErrorCode::PlayerAlreadyInRoom);
    }

    line.sends(MessageId::LeaveRoomRequest, &leave_room::Req::default());
    let (_, payload) = line.frames().remove(0);
    assert_eq!(msg::leave_room::Req::decode(&*payload).expect("a room").room_id, "r");
    line.gate(&msg::leave_room::Res { code: 0 });
    let told: leave_room::Res = line.hears_one(MessageId::LeaveRoomResponse);
    assert_eq!(told.room.map(|room| (room.id, room.current_players)), Some(("r".to_owned(), 0)));

    line.sends(MessageId::CreateRoomRequest, &create_room::Req { name: name.to_owned() });
    let (_, payload) = line.frames().remove(0);
    let second = msg::enter_room::Req::decode(&*payload).expect("a wish");
    assert_ne!(first.options, second.options, "a like one would be the same room");
}

#[test]
fn who_gets_no_seat_is_told_why() {
    let mut line = Line::open();
    for (code, ret) in [
        (Code::ROOM_NOT_FOUND, ErrorCode::InvalidRoom),
        (Code::ROOM_FULL, ErrorCode::NotAllowed),
        (Code::NO_ROOM_SERVER, ErrorCode::ServerError),
        (Code::PARAMETER, ErrorCode::InvalidParam),
    ] {
        line.sends(MessageId::JoinRoomRequest, &join_room::Req { room_id: "r".to_owned() });
        line.refuses(msg::enter_room::Req::NAME, code);
        assert_eq!(line.hears_one::<join_room::Res>(MessageId::JoinRoomResponse).ret(), ret);
        line.sends(MessageId::CreateRoomRequest, &create_room::Req { name: "n".to_owned() });
        line.gate(&entered());
        line.refuses(msg::join_room::Req::NAME, code);
        let told: create_room::Res = line.hears_one(MessageId::CreateRoomResponse);
        assert_eq!((told.ret(), told.room.map(|room| room.name)), (ret, Some("n".to_owned())));
    }
    line.said();
    // Without an id it would be any.
    line.sends(MessageId::JoinRoomRequest, &join_room::Req::default());
    assert_eq!(line.said(), [unknown::Req::NAME]);
    line.refuses(unknown::Req::NAME, Code::UNKNOWN_API);
    let told: join_room::Res = line.hears_one(MessageId::JoinRoomResponse);
    assert_eq!(told.ret(), ErrorCode::InvalidRoom);
    line.sends(MessageId::LeaveRoomRequest, &leave_room::Req::default());
    let (_, payload) = line.frames().remove(0);
    assert!(payload.is_empty(), "whatever room it is in");
    line.refuses(msg::leave_room::Req::NAME, Code::NOT_IN_ROOM);
    let told: leave_room::Res = line.hears_one(MessageId::LeaveRoomResponse);
    assert_eq!(told.ret(), ErrorCode::InvalidRoom);
}

#[test]
fn a_room_that_was_closed_is_left() {
    let mut line = Line::open();
    line.creates("n");
    line.hears();
    line.gate(&closed("r"));
    assert_eq!(line.hears(), []);
    line.creates("m");
    assert_eq!(line.hears_one::<create_room::Res>(MessageId::CreateRoomResponse).ret, 0);
}

#[test]
fn what_is_told_of_another_room_changes_nothing_of_ones_own() {
    let mut line = Line::open();
    line.creates("n");
    line.hears();
    line.gate(&closed("another"));
    line.gate(&detail("another", 3));
    line.gate(&detail("r", 2));
    assert_eq!(line.hears().len(), 2);
    line.sends(MessageId::LeaveRoomRequest, &leave_room::Req::default());
    let (_, payload) = line.frames().remove(0);
    assert_eq!(msg::leave_room::Req::decode(&*payload).expect("a room").room_id, "r");
    line.gate(&msg::leave_room::Res { code: 0 });
    let told: leave_room::Res = line.hears_one(MessageId::LeaveRoomResponse);
    assert_eq!(told.room.map(|room| (room.id, room.current_players)), Some(("r".to_owned(), 1)));
}

#[test]
fn rooms_are_listed_by_name_with_who_is_there() {
    let mut line = Line::open();
    line.sends(MessageId::GetRoomListRequest, &get_room_list::Req {});
    let (_, payload) = line.frames().remove(0);
    assert_eq!(msg::list_rooms::Req::decode(&*payload).expect("a list").kind, KIND);
    line.gate(&msg::list_rooms::Res {
        rooms: vec![msg::list_rooms::Room {
            room_id: "r".to_owned(),
            members: 3,
            capacity: 4,
            info: HashMap::from([("name".to_owned(), "n".to_owned())]),
            ..msg::list_rooms::Room::default()
        }],
        ..msg::list_rooms::Res::default()
    });
    let told: get_room_list::Res = line.hears_one(MessageId::GetRoomListResponse);
    let room =
        Room { id: "r".to_owned(), name: "n".to_owned(), max_players: 4, current_players: 3 };
    assert_eq!(told, get_room_list::Res { ret: 0, rooms: vec![room] });
}

#[test]
fn what_waits_is_bounded_and_what_is_beyond_is_refused_at_once() {
    let mut line = Line::open();
    line.said();
    for _ in 0..WAITING_MAX {
        line.sends(MessageId::GetReadyRequest, &get_ready::Req::default());
    }
    assert_eq!((line.said().len(), line.hears().len()), (WAITING_MAX, 0));
    line.sends(MessageId::GetReadyRequest, &get_ready::Req::default());
    let told: get_ready::Res = line.hears_one(MessageId::GetReadyResponse);
    assert_eq!((told.ret(), line.said().len()), (ErrorCode::ServerError, 0));
    line.gate(&get_ready::Res::default());
    assert_eq!(line.hears_one::<get_ready::Res>(MessageId::GetReadyResponse).ret, 0);
    line.sends(MessageId::GetReadyRequest, &get_ready::Req::default());
    assert_eq!(line.said().len(), 1);

    let mut line = Line::open();
    line.ctx = CodecCtx::new(FRAME_BYTES_MAX);
    line.seen = 0;
    line.sends(MessageId::CreateRoomRequest, &create_room::Req { name: "n".to_owned() });
    let large = get_ready::Req { player_id: "x".repeat(60_000) };
    (0..3).for_each(|_| line.sends(MessageId::GetReadyRequest, &large));
    let told: get_ready::Res = line.hears_one(MessageId::GetReadyResponse);
    assert_eq!(told.ret(), ErrorCode::ServerError, "two fit");
}

#[test]
fn what_no_frame_holds_is_refused_and_the_connection_lives() {
    let mut line = Line::open();
    line.ctx = CodecCtx::new(1000);
    line.seen = 0;
    line.sends(MessageId::GetReadyRequest, &get_ready::Req { player_id: "x".repeat(978) });
    assert_eq!(line.said(), [unknown::Req::NAME]);
    line.refuses(unknown::Req::NAME, Code::UNKNOWN_API);
    let told: get_ready::Res = line.hears_one(MessageId::GetReadyResponse);
    assert_eq!(told.ret(), ErrorCode::InvalidParam);
    line.sends(MessageId::CreateRoomRequest, &create_room::Req { name: "x".repeat(970) });
    assert_eq!(line.said(), [unknown::Req::NAME]);
}

/// What a gate says to what it was asked last.
fn answer_of(api: &str, good: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let put = if good && api != unknown::Req::NAME {
        match api {
            msg::login::Req::NAME => put_message(&mut bytes, &login()),
            msg::enter_room::Req::NAME => put_message(&mut bytes, &entered()),
            msg::join_room::Req::NAME => put_message(&mut bytes, &joined("n")),
            api => put(&mut bytes, &api.replace(".Req", ".Res"), b""),
        }
    } else if api == msg::login::Req::NAME {
        put_message(&mut bytes, &msg::login::Res { code: 2001, ..msg::login::Res::default() })
    } else {
        let (code, api) = (Code::BUSY.0, api.to_owned());
        put_message(&mut bytes, &msg::error::Res { code, api, message: String::new() })
    };
    put.expect("it fits");
    bytes
}

proptest! {
    /// Whatever a client sends and however the gate answers, each message that has an answer gets
    /// one, in their order, with its own number.
    #[test]
    fn answers_come_in_the_order_of_what_was_asked(
        ids in vec(0..24_i32, 0..60),
        good in vec(any::<bool>(), 1..9),
        news in vec(any::<bool>(), 1..7),
        answered_after in 1..9_usize,
    ) {
        let mut line = Line::open();
        line.serial = 0;
        let (mut good, mut news) = (good.into_iter().cycle(), news.into_iter().cycle());
        let (mut pending, mut heard) = (VecDeque::new(), Vec::new());
        let mut turn = |line: &mut Line, most: usize| {
            for _ in 0..most {
                pending.extend(line.said());
                if news.next() == Some(true) {
                    line.gate(&RoomDetailNotify::default());
                }
                let Some(api) = pending.pop_front() else { break };
                line.gate_bytes(&answer_of(&api, good.next() == Some(true)));
                let answers = line.hears();
                heard.extend(answers.into_iter().filter(|message| message.msg_serial_no != -1));
            }
        };
        for (n, id) in ids.iter().enumerate() {
            let bytes = envelope(n as i32 + 1, *id, Vec::new());
            prop_assert_eq!(line.codec.read(&bytes, &mut line.ctx), Ok(bytes.len()));
            if n % answered_after == 0 {
                turn(&mut line, answered_after);
            }
        }
        turn(&mut line, 1000);
        let has_answer = |id: &i32| [2, 4, 6, 8, 10, 12, 16, 18, 20].contains(id);
        let numbered = (1..).zip(&ids);
        let expected: Vec<_> =
            numbered.filter(|(_, id)| has_answer(id)).map(|(n, id)| (n, *id + 1)).collect();
        let heard: Vec<_> = heard.iter().map(|message| (message.msg_serial_no, message.id)).collect();
        prop_assert_eq!(heard, expected);
        prop_assert!(line.codec.asked.is_empty() && line.codec.held.is_empty());
        prop_assert_eq!(line.codec.held_bytes, 0);
    }

    #[test]
    fn where_bytes_are_cut_does_not_matter(
        messages in vec((0..24_i32, vec(any::<u8>(), 0..40)), 0..12),
        cuts in vec(1..40_usize, 1..6),
    ) {
        let bytes: Vec<u8> = (0..)
            .zip(messages)
            .flat_map(|(n, (id, data))| envelope(n, id, data))
            .collect();
        let said = |sizes: &[usize]| {
            let mut line = Line::open();
            let (mut arrived, mut rest) = (Vec::new(), &bytes[..]);
            for size in sizes.iter().cycle() {
                let (now, later) = rest.split_at((*size).min(rest.len()));
                arrived.extend_from_slice(now);
                rest = later;
                while let Ok(taken @ 1..) = line.codec.read(&arrived, &mut line.ctx) {
                    arrived.drain(..taken);
                }
                if rest.is_empty() {
                    break;
                }
            }
            let mut frames = line.frames();
            // A map is written in any order.
            for (_, payload) in frames.iter_mut().filter(|(api, _)| api == msg::enter_room::Req::NAME) {
                payload.sort_unstable();
            }
            (frames, line.hears(), arrived)
        };
        prop_assert_eq!(said(&cuts), said(&[usize::MAX]));
    }

    #[test]
    fn no_bytes_and_no_frame_make_it_panic(
        bytes in vec(any::<u8>(), 0..200),
        id in 0..24_i32,
        api in prop_oneof!["[a-zA-Z.]{1,20}", Just("msg.Login.Res".to_owned()),
            Just("msg.JoinRoom.Res".to_owned()), Just("msg.EnterRoom.Res".to_owned()),
            Just("msg.Error.Res".to_owned()), Just("msg.ListRooms.Res".to_owned()),
            Just("jigger.RoomDetailNotify".to_owned())],
    ) {
        let length = (bytes.len() as u32).to_le_bytes();
        for open in [false, true] {
            let mut line = if open { Line::open() } else { Line::new() };
            for bytes in [&bytes[..], &[&length[..], &bytes].concat(), &envelope(1, id, bytes.clone())] {
                if let Ok(taken) = line.codec.read(bytes, &mut line.ctx) {
                    prop_assert!(taken <= bytes.len());
                }
                let mut frame = Vec::new();
                put(&mut frame, &api, bytes).expect("it fits");
                line.gate_bytes(&frame);
            }
        }
    }
}
