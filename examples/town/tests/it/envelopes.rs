//! Owns a client that speaks numbered envelopes and waits for each answer, the three doors by which
//! it comes in, and the HTTP before it. Leaves what is expected of a town to `jigger`.

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use bastide::{Named, prost::Message as _};
use bastide_testkit::secret;
use jigger::proto::{
    Action, ErrorCode, GameStateNotify, Message, MessageId, Room, RoomDetailNotify, auth,
    create_room, draw_card, game_action, get_ready, get_room_list, get_user_info, join_room,
    leave_room,
};
use serde_json::{Value, json};
use tokio::{runtime::Runtime, time::sleep};
use tungstenite::WebSocket;

use crate::town::Town;

/// Longer than anything here takes; what comes later never does.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) const PHONE: &str = "13812345678";

/// The ways in.
pub(crate) const DOORS: [Door; 3] = [Door::Ws, Door::Tcp, Door::Own];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// `/ws`, as all WebSockets.
    Ws,
    /// Where clients of frames come in as well.
    Tcp,
    /// Where nobody else does.
    Own,
}

pub(crate) enum Carrier {
    Tcp(TcpStream),
    Ws(Box<WebSocket<TcpStream>>),
}

/// A client, which waits for each answer.
pub(crate) struct Player {
    pub(crate) carrier: Carrier,
    pub(crate) arrived: Vec<u8>,
    pub(crate) serial: i32,
    pub(crate) uid: u64,
    /// What came between answers.
    pub(crate) news: Vec<Message>,
}

/// A town with a platform and a login server at addresses of their own.
pub(crate) fn town() -> (tempfile::TempDir, Town) {
    town_with(&[])
}

pub(crate) fn town_with(args: &[&str]) -> (tempfile::TempDir, Town) {
    let dir = tempfile::tempdir().unwrap();
    let args = [&["--http", "127.0.0.1:0,127.0.0.1:0"], args].concat();
    let town = Town::start_with(dir.path(), &args);
    (dir, town)
}

pub(crate) fn post(addr: &Value, path: &str, body: &Value) -> (u16, Value) {
    let addr = addr.as_str().unwrap();
    let mut stream = TcpStream::connect(addr).unwrap();
    let (body, length) = (body.to_string(), body.to_string().len());
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {addr}\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

impl Town {
    pub(crate) fn platform(&self, path: &str, body: &Value) -> (u16, Value) {
        post(&self.addresses["http"][0], path, body)
    }

    pub(crate) fn login_server(&self, path: &str, body: &Value) -> (u16, Value) {
        post(&self.addresses["http"][1], path, body)
    }

    /// A guest's credential.
    pub(crate) fn guest_token(&self, device: &str) -> String {
        let body = json!({ "device_id": device, "app_id": "jigger_game", "is_guest": true });
        session_id(&self.login_server("/login", &body))
    }

    pub(crate) fn connect(&self, door: Door) -> Player {
        let addr = match door {
            Door::Ws => self.gate_ws(),
            Door::Tcp => self.gate(),
            Door::Own => self.addresses["codecs"]["jigger"]["tcp"].as_str().unwrap().to_owned(),
        };
        let stream = TcpStream::connect(&addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let carrier = match door {
            Door::Ws => {
                let (socket, _) = tungstenite::client(format!("ws://{addr}/ws"), stream).unwrap();
                Carrier::Ws(Box::new(socket))
            }
            Door::Tcp | Door::Own => Carrier::Tcp(stream),
        };
        Player { carrier, arrived: Vec::new(), serial: 0, uid: 0, news: Vec::new() }
    }

    /// A guest that has signed in.
    pub(crate) fn signed_in(&self, door: Door, device: &str) -> Player {
        let token = self.guest_token(device);
        let mut player = self.connect(door);
        let told = player.auth(&token);
        assert_eq!((told.ret(), &*told.error_msg), (ErrorCode::Ok, ""));
        player
    }
}

pub(crate) fn session_id((status, said): &(u16, Value)) -> String {
    assert_eq!((*status, &said["success"]), (200, &json!(true)), "{said}");
    assert!(said["gateway_url"].as_str().unwrap().starts_with("ws://"), "{said}");
    secret(said["session_id"].as_str().unwrap().to_owned())
}

pub(crate) fn framed(serial: i32, id: i32, data: Vec<u8>) -> Vec<u8> {
    let client_id = "3a0c6c1e-6f7d-4f0e-8a55-6b0f4f1f3a10".to_owned();
    let body = Message { client_id, msg_serial_no: serial, id, data }.encode_to_vec();
    [&(body.len() as u32).to_le_bytes()[..], &body].concat()
}

impl Player {
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        match &mut self.carrier {
            Carrier::Tcp(stream) => stream.write_all(bytes).unwrap(),
            Carrier::Ws(socket) => socket.send(bytes.to_vec().into()).unwrap(),
        }
    }

    pub(crate) fn send(&mut self, id: MessageId, message: &impl bastide::prost::Message) {
        self.serial += 1;
        let bytes = framed(self.serial, id.into(), message.encode_to_vec());
        self.send_bytes(&bytes);
    }

    /// The next message; `None`: the gate has closed.
    pub(crate) fn next(&mut self) -> Option<Message> {
        loop {
            if let Some(head) = self.arrived.first_chunk::<4>() {
                let end = 4 + u32::from_le_bytes(*head) as usize;
                if let Some(body) = self.arrived.get(4..end) {
                    let message = Message::decode(body).unwrap();
                    self.arrived.drain(..end);
                    return Some(message);
                }
            }
            match &mut self.carrier {
                Carrier::Tcp(stream) => {
                    let mut bytes = [0; 4096];
                    match stream.read(&mut bytes) {
                        Ok(0) => return None,
                        Ok(n) => self.arrived.extend_from_slice(&bytes[..n]),
                        Err(e) if e.kind() == ErrorKind::ConnectionReset => return None,
                        Err(e) => panic!("{e}"),
                    }
                }
                Carrier::Ws(socket) => match socket.read() {
                    Ok(tungstenite::Message::Binary(bytes)) => self.arrived.extend(bytes),
                    Ok(tungstenite::Message::Close(_)) => return None,
                    Ok(tungstenite::Message::Text(text)) => panic!("a text: {text}"),
                    Ok(_) => {}
                    Err(tungstenite::Error::Io(e)) if e.kind() == ErrorKind::WouldBlock => {
                        panic!("nothing comes")
                    }
                    Err(_) => return None,
                },
            }
        }
    }

    /// The answer to what was sent last.
    pub(crate) fn answer<M: bastide::prost::Message + Default>(&mut self, id: MessageId) -> M {
        loop {
            let message = self.next().expect("the gate has closed");
            if message.msg_serial_no == -1 {
                assert_eq!(message.client_id, "");
                self.news.push(message);
                continue;
            }
            assert_eq!((message.id(), message.msg_serial_no), (id, self.serial));
            assert_eq!(message.client_id.len(), 36);
            return M::decode(&*message.data).unwrap();
        }
    }

    pub(crate) fn auth(&mut self, token: &str) -> auth::Res {
        let auth = auth::Req {
            token: token.to_owned(),
            protocol_version: "1.0".to_owned(),
            client_version: "1.0.0".to_owned(),
            device_type: "desktop".to_owned(),
            device_id: format!("another-{}", self.serial),
            app_id: "jigger_game".to_owned(),
            nonce: "n".to_owned(),
            timestamp: 1_700_000_000_000,
            ..auth::Req::default()
        };
        self.send(MessageId::AuthRequest, &auth);
        let told: auth::Res = self.answer(MessageId::AuthResponse);
        self.uid = told.uid;
        told
    }

    pub(crate) fn info(&mut self, uid: u64) -> get_user_info::Res {
        self.send(MessageId::GetUserInfoRequest, &get_user_info::Req { uid });
        self.answer(MessageId::GetUserInfoResponse)
    }

    pub(crate) fn draw(&mut self, uid: u64, count: i32) -> draw_card::Res {
        self.send(MessageId::DrawCardRequest, &draw_card::Req { uid, count });
        self.answer(MessageId::DrawCardResponse)
    }

    pub(crate) fn create(&mut self, name: &str) -> create_room::Res {
        self.send(MessageId::CreateRoomRequest, &create_room::Req { name: name.to_owned() });
        self.answer(MessageId::CreateRoomResponse)
    }

    pub(crate) fn join(&mut self, room: &Room) -> ErrorCode {
        self.send(MessageId::JoinRoomRequest, &join_room::Req { room_id: room.id.clone() });
        self.answer::<join_room::Res>(MessageId::JoinRoomResponse).ret()
    }

    pub(crate) fn leave(&mut self) -> leave_room::Res {
        self.send(MessageId::LeaveRoomRequest, &leave_room::Req::default());
        self.answer(MessageId::LeaveRoomResponse)
    }

    pub(crate) fn ready(&mut self) -> ErrorCode {
        self.send(MessageId::GetReadyRequest, &get_ready::Req::default());
        self.answer::<get_ready::Res>(MessageId::GetReadyResponse).ret()
    }

    pub(crate) fn act(&mut self, action: Option<Action>) -> ErrorCode {
        self.send(MessageId::GameActionRequest, &game_action::Req { action });
        self.answer::<game_action::Res>(MessageId::GameActionResponse).ret()
    }

    pub(crate) fn rooms(&mut self) -> Vec<Room> {
        self.send(MessageId::GetRoomListRequest, &get_room_list::Req {});
        self.answer::<get_room_list::Res>(MessageId::GetRoomListResponse).rooms
    }

    /// The next of what nobody asked for, which is of this kind.
    pub(crate) fn news<M: Named>(&mut self, id: MessageId) -> M {
        let message = match self.news.is_empty() {
            true => self.next().expect("the gate has closed"),
            false => self.news.remove(0),
        };
        assert_eq!((message.id(), message.msg_serial_no), (id, -1));
        M::decode(&*message.data).unwrap()
    }

    /// Says who sits in its room, when that changes.
    pub(crate) fn company(&mut self) -> Vec<u64> {
        let told: RoomDetailNotify = self.news(MessageId::RoomStateNotification);
        assert_eq!(told.be_notified_uid, self.uid);
        let detail = told.room.unwrap();
        let players: Vec<_> = detail.current_players.iter().map(|player| player.uid).collect();
        assert_eq!(detail.room.unwrap().current_players as usize, players.len());
        players
    }

    pub(crate) fn game(&mut self) -> GameStateNotify {
        let told: GameStateNotify = self.news(MessageId::GameStateNotification);
        assert_eq!(told.be_notified_uid, self.uid);
        told
    }

    /// Plays as the published clients do: who am I, draw, who am I.
    pub(crate) fn plays(&mut self) {
        let before = self.info(self.uid).user_info.unwrap();
        let drawn = self.draw(self.uid, 1);
        assert_eq!((drawn.ret(), drawn.cards.len()), (ErrorCode::Ok, 1));
        let after = self.info(self.uid).user_info.unwrap();
        assert_eq!(after.draw_card_count, before.draw_card_count + 1);
        assert_eq!((after.gold, after.diamond), (100, 10), "a card costs nothing");
        assert!(after.backpack.unwrap().cards.contains(&drawn.cards[0]));
    }
}

impl Player {
    /// Whether more came, whatever it is.
    pub(crate) fn next_bytes(&mut self) -> bool {
        match &mut self.carrier {
            Carrier::Tcp(stream) => match stream.read(&mut [0; 256]) {
                Ok(n) => n > 0,
                Err(e) => {
                    assert_eq!(e.kind(), ErrorKind::ConnectionReset);
                    false
                }
            },
            Carrier::Ws(socket) => match socket.read() {
                Ok(message) => !message.is_close(),
                Err(tungstenite::Error::Io(e)) => {
                    assert_eq!(e.kind(), ErrorKind::ConnectionReset);
                    false
                }
                Err(_) => false,
            },
        }
    }
}

/// Whether the gate has closed, without a word to this client.
pub(crate) fn is_closed_silently(mut player: Player) -> bool {
    player.next().is_none() && player.arrived.is_empty()
}

/// Rooms tell of themselves a moment later.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let runtime = Runtime::new().unwrap();
    for _ in 0..100 {
        if is_so() {
            return;
        }
        runtime.block_on(async { sleep(Duration::from_millis(50)).await });
    }
    panic!("never: {what}");
}

/// The code that the town has sent, which in `dev` is in its log.
pub(crate) fn code_of(town: &Town) -> String {
    let log = fs::read_to_string(town.log()).unwrap();
    let said = format!("向手机号 +86{PHONE} 发送验证码: ");
    log.split_once(&said).unwrap().1.chars().take_while(char::is_ascii_digit).collect()
}
