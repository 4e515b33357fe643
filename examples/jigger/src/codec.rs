//! Owns the way between envelopes and frames: which message is which, who waits for what, and the
//! steps behind a message that are more than one here. Leaves the bytes to `envelope`, and what an
//! answer says to `answers`.
//!
//! Each message of a client becomes one frame, also one that means nothing here
//! (`jigger.Unknown.Req`), so that all of them count in its rate and are answered in their order.
//! To sign in, to create, join or leave a room takes its time: what is sent behind waits, here, so
//! that it finds what came of it.

#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use bastide::{
    Begins, Code, Codec, CodecCtx, Malformed, Named, msg,
    wire::{Frame, HEADER_BYTES},
};
use prost::Message as _;

use crate::{
    KIND, answers, envelope,
    proto::{
        ErrorCode, GameStateNotify, Message, MessageId, PlayerActionNotify, Room, RoomDetail,
        RoomDetailNotify, auth, create_room, draw_card, game_action, get_ready, get_user_info,
        join_room, leave_room, unknown,
    },
};

/// Messages of one client that wait, for their turn or for their answers: half of what a gate lets
/// a client have under way. Beyond: answered with SERVER_ERROR, at once.
const WAITING_MAX: usize = 512;

/// Bytes of those that wait for their turn: one message as large as may be, and many small ones.
/// Beyond: the same.
const HELD_BYTES_MAX: usize = 128 * 1024;

/// Rooms that a list shows: a page as large as there are.
const LISTED_MAX: u32 = 100;

/// A client that speaks numbered envelopes.
#[derive(Debug, Default)]
pub struct Jigger {
    /// Who has signed in.
    me: Option<Me>,
    /// The room that it is in, as it was told of it last.
    room: Option<Room>,
    /// Said to the gate, in this order.
    asked: VecDeque<Asked>,
    /// What was sent behind them and waits for its turn.
    held: VecDeque<Held>,
    held_bytes: usize,
    /// How often it has asked for a new room.
    created: u64,
    /// The clientId that came last: the next is the same, most likely.
    client_id: Arc<str>,
}

#[derive(Debug)]
struct Me {
    uid: u64,
    name: String,
    session: String,
}

/// Whose message it is.
#[derive(Clone, Debug)]
struct Sender {
    client_id: Arc<str>,
    serial: i32,
    id: i32,
}

#[derive(Debug)]
struct Held {
    sender: Sender,
    payload: Vec<u8>,
}

#[derive(Debug)]
struct Asked {
    sender: Sender,
    step: Step,
}

/// What a message has come to.
#[derive(Debug)]
enum Step {
    /// It signs in; with what is wrong with it in any case.
    SignIn {
        is_guest: bool,
        fault: Option<&'static str>,
    },
    /// A handler of the game answers as the client wants it: its request's and answer's names.
    Game(&'static str, &'static str),
    List,
    /// A seat is asked for; in a new room of this name when there is one.
    Enter(Option<String>),
    /// The seat is taken.
    Join(Option<String>),
    Leave,
    /// Nobody is asked: this is the answer, if there is any.
    Settled(Option<Vec<u8>>),
}

impl Step {
    /// The names of what is asked, and of its answer.
    const fn names(&self) -> (&'static str, &'static str) {
        match self {
            Self::SignIn { .. } => (msg::login::Req::NAME, msg::login::Res::NAME),
            Self::Game(request, answer) => (request, answer),
            Self::List => (msg::list_rooms::Req::NAME, msg::list_rooms::Res::NAME),
            Self::Enter(_) => (msg::enter_room::Req::NAME, msg::enter_room::Res::NAME),
            Self::Join(_) => (msg::join_room::Req::NAME, msg::join_room::Res::NAME),
            Self::Leave => (msg::leave_room::Req::NAME, msg::leave_room::Res::NAME),
            Self::Settled(_) => (unknown::Req::NAME, unknown::Res::NAME),
        }
    }

    /// Whether what comes behind has to know what came of it.
    const fn is_alone(&self) -> bool {
        match self {
            Self::SignIn { .. } | Self::Enter(_) | Self::Join(_) | Self::Leave => true,
            Self::Game(..) | Self::List | Self::Settled(_) => false,
        }
    }
}

impl Codec for Jigger {
    fn read(&mut self, bytes: &[u8], ctx: &mut CodecCtx) -> Result<usize, Malformed> {
        let Some((envelope, taken)) = envelope::cut(bytes, ctx)? else { return Ok(0) };
        let Message { client_id, msg_serial_no: serial, id, data: payload } = envelope;
        if *self.client_id != *client_id {
            self.client_id = client_id.into();
        }
        let sender = Sender { client_id: self.client_id.clone(), serial, id };
        let waiting = self.asked.len() + self.held.len();
        if waiting >= WAITING_MAX || self.held_bytes + payload.len() > HELD_BYTES_MAX {
            let answer = asks(id).then(|| answers::only_ret(ErrorCode::ServerError));
            self.settled(&sender, answer, ctx);
            return Ok(taken);
        }
        self.held_bytes += payload.len();
        self.held.push_back(Held { sender, payload });
        self.go_on(ctx)?;
        Ok(taken)
    }

    fn write(&mut self, frame: &Frame<'_>, ctx: &mut CodecCtx) {
        let api = frame.api.as_str();
        let error = (api == msg::error::Res::NAME)
            .then(|| msg::error::Res::decode(frame.payload).unwrap_or_default());
        let asked = self.asked.pop_front_if(|asked| match &error {
            Some(error) => error.api == asked.step.names().0,
            None => api == asked.step.names().1,
        });
        match (asked, error) {
            (Some(Asked { sender, step }), Some(error)) => {
                self.refused(&sender, step, Code(error.code), ctx);
            }
            (Some(Asked { sender, step }), None) => self.answered(&sender, step, frame, ctx),
            (None, None) => self.told(api, frame.payload, ctx),
            // Of no message of this client's: the gate closes.
            (None, Some(_)) => {}
        }
        // What is said here is small, but for what was as large when it came.
        let _said: Result<(), Malformed> = self.go_on(ctx);
    }

    fn begins(bytes: &[u8]) -> Begins {
        envelope::begins(bytes)
    }
}

impl Jigger {
    /// Says what may be said by now.
    fn go_on(&mut self, ctx: &mut CodecCtx) -> Result<(), Malformed> {
        loop {
            let is_busy = !self.asked.is_empty();
            let waits = self.asked.front().is_some_and(|asked| asked.step.is_alone());
            let next = self.held.pop_front_if(|held| !waits && (!is_busy || !held.is_alone()));
            let Some(Held { sender, payload }) = next else { return Ok(()) };
            self.held_bytes -= payload.len();
            let step = self.begin(sender.id, &payload, ctx)?;
            self.asked.push_back(Asked { sender, step });
        }
    }

    /// Says a message to the gate.
    fn begin(&mut self, id: i32, payload: &[u8], ctx: &mut CodecCtx) -> Result<Step, Malformed> {
        use MessageId::{
            AuthRequest, CreateRoomRequest, DrawCardRequest, GameActionRequest, GetReadyRequest,
            GetRoomListRequest, GetUserInfoRequest, JoinRoomRequest, LeaveRoomRequest,
        };
        match MessageId::try_from(id) {
            Ok(AuthRequest) => self.sign_in(payload, ctx),
            // Nobody answers a stranger, and nobody looks at what it says.
            _ if self.me.is_none() => settle(None, ctx),
            Ok(GetUserInfoRequest) => ask_game::<get_user_info::Req>(payload, ctx),
            Ok(DrawCardRequest) => ask_game::<draw_card::Req>(payload, ctx),
            Ok(GetReadyRequest) => ask_game::<get_ready::Req>(payload, ctx),
            Ok(GameActionRequest) => ask_game::<game_action::Req>(payload, ctx),
            Ok(GetRoomListRequest) => {
                ctx.say(&msg::list_rooms::Req {
                    kind: KIND.to_owned(),
                    page_size: LISTED_MAX,
                    ..msg::list_rooms::Req::default()
                })?;
                Ok(Step::List)
            }
            Ok(CreateRoomRequest) => match create_room::Req::decode(payload) {
                Ok(create_room::Req { name }) => self.create(name, ctx),
                Err(_) => settle_with(ErrorCode::InvalidParam, ctx),
            },
            Ok(JoinRoomRequest) => match join_room::Req::decode(payload) {
                Ok(join_room::Req { room_id }) => self.join(room_id, ctx),
                Err(_) => settle_with(ErrorCode::InvalidParam, ctx),
            },
            Ok(LeaveRoomRequest) => {
                // An empty id is that of the room that it is in, should there be one after all.
                let room_id = self.room.as_ref().map(|room| room.id.clone()).unwrap_or_default();
                ctx.say(&msg::leave_room::Req { room_id })?;
                Ok(Step::Leave)
            }
            _ => settle(None, ctx),
        }
    }

    fn sign_in(&self, payload: &[u8], ctx: &mut CodecCtx) -> Result<Step, Malformed> {
        let (auth, fault) = match auth::Req::decode(payload) {
            Ok(auth) if auth.token.is_empty() => (auth, Some("Token is required")),
            Ok(auth) => (auth, None),
            Err(_) => (auth::Req::default(), Some("Invalid request format")),
        };
        let auth::Req { token, client_version, device_type, device_id, is_guest, .. } = auth;
        if self.me.is_some() {
            let again = answers::refused(ErrorCode::InvalidState, "Already signed in", is_guest);
            return settle(Some(again.encode_to_vec()), ctx);
        }
        // Also without a token: so it is one of the tries that a connection has.
        ctx.say(&msg::login::Req {
            token,
            device_id: Some(device_id),
            platform: Some(device_type),
            version: Some(client_version),
        })?;
        Ok(Step::SignIn { is_guest, fault })
    }

    /// A new room. That it is never one that is there already is what `by` is for: a room center
    /// gives a seat in a room that was opened with the same options.
    fn create(&mut self, name: String, ctx: &mut CodecCtx) -> Result<Step, Malformed> {
        if self.room.is_some() {
            let refused = answers::not_created(ErrorCode::PlayerAlreadyInRoom, name);
            return settle(Some(refused.encode_to_vec()), ctx);
        }
        self.created += 1;
        let session = self.me.as_ref().map_or("", |me| &me.session);
        let by = format!("{session}/{}", self.created);
        let options = [("name", name.clone()), ("by", by)];
        let wanted = msg::enter_room::Req {
            kind: KIND.to_owned(),
            options: HashMap::from(options.map(|(key, value)| (key.to_owned(), value))),
            ..msg::enter_room::Req::default()
        };
        if !fits(msg::enter_room::Req::NAME, wanted.encoded_len(), ctx) {
            return settle_with(ErrorCode::InvalidParam, ctx);
        }
        ctx.say(&wanted)?;
        Ok(Step::Enter(Some(name)))
    }

    fn join(&self, room_id: String, ctx: &mut CodecCtx) -> Result<Step, Malformed> {
        let (kind, name_bytes) = (KIND.to_owned(), room_id.len());
        let refused = if self.room.is_some() {
            Some(ErrorCode::PlayerAlreadyInRoom)
        } else if room_id.is_empty() || !fits(msg::enter_room::Req::NAME, name_bytes + 16, ctx) {
            // Without an id it would be any room.
            Some(ErrorCode::InvalidRoom)
        } else {
            None
        };
        if let Some(ret) = refused {
            return settle_with(ret, ctx);
        }
        ctx.say(&msg::enter_room::Req { kind, room_id, ..msg::enter_room::Req::default() })?;
        Ok(Step::Enter(None))
    }

    fn answered(&mut self, sender: &Sender, step: Step, frame: &Frame<'_>, ctx: &mut CodecCtx) {
        match step {
            Step::SignIn { is_guest, fault } => {
                let login = msg::login::Res::decode(frame.payload).unwrap_or(NO_LOGIN);
                self.signed_in(sender, &login, is_guest, fault, ctx);
            }
            Step::Game(..) => sender.answer(frame.payload.to_vec(), ctx),
            Step::List => {
                let rooms = msg::list_rooms::Res::decode(frame.payload).unwrap_or_default();
                sender.answer(answers::listed(rooms).encode_to_vec(), ctx);
            }
            Step::Enter(created) => {
                let seat = msg::enter_room::Res::decode(frame.payload).unwrap_or_default();
                let name = self.me.as_ref().map(|me| me.name.clone()).unwrap_or_default();
                let taken = msg::join_room::Req { ticket: seat.ticket, name };
                match ctx.say(&taken) {
                    Ok(()) => {
                        let (sender, step) = (sender.clone(), Step::Join(created));
                        // Nothing else is asked meanwhile.
                        self.asked.push_front(Asked { sender, step });
                    }
                    Err(_) => self.refused(sender, Step::Join(created), Code::INTERNAL, ctx),
                }
            }
            Step::Join(created) => {
                let joined = msg::join_room::Res::decode(frame.payload).unwrap_or_default();
                self.seated(&joined);
                let ret = ErrorCode::Ok.into();
                let answer = match created {
                    Some(_) => create_room::Res { ret, room: self.room.clone() }.encode_to_vec(),
                    None => join_room::Res { ret }.encode_to_vec(),
                };
                sender.answer(answer, ctx);
            }
            Step::Leave => {
                let mut room = self.room.take();
                if let Some(room) = &mut room {
                    room.current_players = room.current_players.saturating_sub(1).max(0);
                }
                let ret = ErrorCode::Ok.into();
                sender.answer(leave_room::Res { ret, room }.encode_to_vec(), ctx);
            }
            Step::Settled(answer) => self.settled(sender, answer, ctx),
        }
    }

    fn refused(&mut self, sender: &Sender, step: Step, code: Code, ctx: &mut CodecCtx) {
        let ret = answers::ret_of(code);
        match step {
            Step::SignIn { is_guest, fault } => {
                let login = msg::login::Res { code: code.0, ..NO_LOGIN };
                self.signed_in(sender, &login, is_guest, fault, ctx);
            }
            Step::Settled(answer) => self.settled(sender, answer, ctx),
            // Nobody answers a stranger.
            _ if code == Code::NOT_SIGNED_IN => {}
            Step::Enter(Some(name)) | Step::Join(Some(name)) => {
                sender.answer(answers::not_created(ret, name).encode_to_vec(), ctx);
            }
            Step::Leave if code == Code::NOT_IN_ROOM => {
                self.room = None;
                sender.answer(answers::only_ret(ret), ctx);
            }
            Step::Game(..) | Step::List | Step::Enter(None) | Step::Join(None) | Step::Leave => {
                sender.answer(answers::only_ret(ret), ctx);
            }
        }
    }

    fn signed_in(
        &mut self,
        sender: &Sender,
        login: &msg::login::Res,
        is_guest: bool,
        fault: Option<&'static str>,
        ctx: &mut CodecCtx,
    ) {
        let code = Code(login.code);
        let answer = if let Some(fault) = fault {
            answers::refused(ErrorCode::InvalidParam, fault, is_guest)
        } else if code == Code::OK {
            let answer = answers::signed_in(login, is_guest);
            let (uid, name) = (answer.uid, answer.nickname.clone());
            self.me = Some(Me { uid, name, session: login.session_id().to_owned() });
            answer
        } else {
            answers::not_signed_in(code, is_guest)
        };
        sender.answer(answer.encode_to_vec(), ctx);
    }

    fn settled(&self, sender: &Sender, answer: Option<Vec<u8>>, ctx: &mut CodecCtx) {
        if let (Some(_), Some(answer)) = (&self.me, answer) {
            sender.answer(answer, ctx);
        }
    }

    /// What nobody asked for.
    fn told(&mut self, api: &str, payload: &[u8], ctx: &mut CodecCtx) {
        let (id, data) = match api {
            RoomDetailNotify::NAME => {
                let told = RoomDetailNotify::decode(payload).unwrap_or_default();
                // What is said last of a room that it has left says nothing of the next.
                if let (Some(room), Some(now)) = (&mut self.room, told.room.and_then(|d| d.room))
                    && room.id == now.id
                {
                    *room = now;
                }
                (MessageId::RoomStateNotification, payload.to_vec())
            }
            GameStateNotify::NAME => (MessageId::GameStateNotification, payload.to_vec()),
            PlayerActionNotify::NAME => (MessageId::GameActionNotification, payload.to_vec()),
            // The room was out of sight for a while.
            msg::join_room::Res::NAME => {
                let joined = msg::join_room::Res::decode(payload).unwrap_or_default();
                self.seated(&joined);
                let be_notified_uid = self.me.as_ref().map_or(0, |me| me.uid);
                let room = RoomDetail::decode(&*joined.state).ok();
                let told = RoomDetailNotify { be_notified_uid, room };
                (MessageId::RoomStateNotification, told.encode_to_vec())
            }
            msg::RoomClosed::NAME => {
                let closed = msg::RoomClosed::decode(payload).unwrap_or_default();
                self.room.take_if(|room| room.id == closed.room_id);
                return;
            }
            // The bag has changed, somebody has signed in elsewhere: there is no word for it.
            _ => return,
        };
        let (client_id, msg_serial_no) = (String::new(), -1);
        envelope::put(ctx.client(), &Message { client_id, msg_serial_no, id: id.into(), data });
    }

    fn seated(&mut self, joined: &msg::join_room::Res) {
        let detail = RoomDetail::decode(&*joined.state).unwrap_or_default();
        let id = joined.room_id.clone();
        self.room = Some(detail.room.unwrap_or_else(|| Room { id, ..Room::default() }));
    }
}

/// Whether a message with this id is answered.
fn asks(id: i32) -> bool {
    MessageId::try_from(id).is_ok_and(envelope::is_request)
}

impl Held {
    /// Whether it takes more than one step, or changes what the next ones find.
    fn is_alone(&self) -> bool {
        use MessageId::{AuthRequest, CreateRoomRequest, JoinRoomRequest, LeaveRoomRequest};
        [AuthRequest, CreateRoomRequest, JoinRoomRequest, LeaveRoomRequest]
            .contains(&MessageId::try_from(self.sender.id).unwrap_or_default())
    }
}

impl Sender {
    /// Answers: the id is one more than the request's.
    fn answer(&self, data: Vec<u8>, ctx: &mut CodecCtx) {
        let Self { client_id, serial: msg_serial_no, id } = self.clone();
        let (client_id, id) = (client_id.to_string(), id.saturating_add(1));
        envelope::put(ctx.client(), &Message { client_id, msg_serial_no, id, data });
    }
}

/// Asks a handler of the game in the client's own words.
fn ask_game<Q: bastide::Request>(payload: &[u8], ctx: &mut CodecCtx) -> Result<Step, Malformed> {
    if !fits(Q::NAME, payload.len(), ctx) {
        return settle_with(ErrorCode::InvalidParam, ctx);
    }
    ctx.say_encoded(Q::NAME, payload)?;
    Ok(Step::Game(Q::NAME, Q::ANSWER.unwrap_or_default()))
}

fn settle_with(ret: ErrorCode, ctx: &mut CodecCtx) -> Result<Step, Malformed> {
    settle(Some(answers::only_ret(ret)), ctx)
}

/// Asks what nobody knows, and so gets an answer when it is time for this one.
fn settle(answer: Option<Vec<u8>>, ctx: &mut CodecCtx) -> Result<Step, Malformed> {
    ctx.say(&unknown::Req {})?;
    Ok(Step::Settled(answer))
}

/// Whether the gate takes a frame of such a message: its name is longer than an envelope is around
/// its payload.
fn fits(api: &str, payload_bytes: usize, ctx: &CodecCtx) -> bool {
    ctx.body(&[], HEADER_BYTES + api.len(), payload_bytes).is_ok()
}

/// An answer that cannot be read.
const NO_LOGIN: msg::login::Res = msg::login::Res {
    code: Code::INTERNAL.0,
    user: None,
    session_id: None,
    resume_token: None,
    resume_window_s: None,
    server_time_ms: None,
};
