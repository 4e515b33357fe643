//! Owns one client's way through an arena: its key signs it in and gets it a seat; from then on the
//! arena's messages become those that it knows, and its own become those of the arena.

use std::{collections::VecDeque, fmt};

use bastide::{Begins, Code, Codec, CodecCtx, Malformed, Named as _, def, msg, wire::Frame};
use prost::Message;

use crate::{
    frame::{self, Said, command},
    key::Key,
    proto::mope as proto,
    scene::{Scene, steer},
};

/// So many views after the first tell nothing: a client with a window loads its maps for some
/// 400 ms, and stumbles over food that comes earlier.
const VIEWS_LEFT_OUT: u32 = 8;

/// Heart beats that are under way. Beyond: not answered.
const HEART_BEATS_MAX: usize = 64;

/// Bytes that one holds: most are empty. Beyond: not answered.
const HEART_BEAT_BYTES_MAX: usize = 64;

/// Letters of a name; a room cuts it there.
const NAME_LETTERS_MAX: usize = 14;

/// Beyond the numbers of accounts: who is known by a ball alone.
const OTHERS: u64 = 1 << 32;

/// Errors, as such clients count them.
mod error {
    pub(super) const ROOM_NOT_FOUND: u32 = 3;
    pub(super) const UNAVAILABLE: u32 = 4;
    pub(super) const PARAMETER: u32 = 6;
    pub(super) const DECODE: u32 = 8;
    pub(super) const ROOM_FULL: u32 = 13;
    pub(super) const VERIFICATION: u32 = 17;
    pub(super) const TOO_QUICK: u32 = 18;
    pub(super) const SIGNED_IN_ELSEWHERE: u32 = 21;
    pub(super) const BANNED: u32 = 53;
}

/// The codec of one connection.
#[derive(Default)]
pub struct Mope {
    stage: Stage,
    account: u64,
    name: String,
    room_id: String,
    scene: Scene,
    views: u32,
    seconds_left: u32,
    top: Vec<arena::top::Place>,
    /// Whom it is to hear of with its welcome.
    others: Vec<proto::Player>,
    /// What they held, oldest first.
    heart_beats: VecDeque<Vec<u8>>,
}

/// How far a client has come.
#[derive(Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Fresh,
    /// It has shown its key; until it has a seat.
    Entering(String),
    /// It has a seat, and was not told yet.
    Seated,
    Playing,
    /// It leaves, or its room is over.
    Over,
}

impl Codec for Mope {
    fn read(&mut self, bytes: &[u8], ctx: &mut CodecCtx) -> Result<usize, Malformed> {
        let Some(said) = frame::read(bytes, ctx)? else { return Ok(0) };
        match (&self.stage, said.command) {
            (Stage::Fresh, command::LOGIN) => self.login(&said.body()?, ctx)?,
            // Whoever does not begin with it is not heard.
            (Stage::Fresh, _) => {}
            (_, command::HEART_BEAT) => self.heart_beat(&said.body()?, ctx)?,
            (Stage::Playing, command::MOVE) => match proto::Move::decode(&*said.body()?) {
                Ok(proto::Move { angle, power, .. }) => ctx.say(&steer(angle, power))?,
                Err(_) => fail(ctx, error::DECODE),
            },
            (Stage::Playing, command::RELIFE) => ctx.say(&arena::respawn::Req {})?,
            (_, command::CLOSE) => {
                self.stage = Stage::Over;
                ctx.say(&msg::logout::Req { account: self.account.cast_signed() })?;
            }
            _ => {}
        }
        Ok(said.taken)
    }

    fn read_datagram(&mut self, bytes: &[u8], ctx: &mut CodecCtx) -> Result<usize, Malformed> {
        match frame::read(bytes, ctx)? {
            Some(said) if said.command == command::MOVE => self.read(bytes, ctx),
            Some(_) | None => Ok(0),
        }
    }

    fn write(&mut self, frame: &Frame<'_>, ctx: &mut CodecCtx) {
        let (api, payload) = (frame.api.as_str(), frame.payload);
        match api {
            msg::login::Res::NAME => self.signed_in(&decoded(payload), ctx),
            msg::enter_room::Res::NAME => self.entered(decoded(payload), ctx),
            msg::join_room::Res::NAME => self.joined(&decoded(payload)),
            msg::error::Res::NAME => self.refused(&decoded(payload), ctx),
            msg::kick::Res::NAME => {
                let msg::kick::Res { code, .. } = decoded(payload);
                fail(ctx, error_of(Code(code)));
            }
            msg::RoomClosed::NAME => self.ended(ctx),
            msg::ping::Res::NAME => {
                if let Some(body) = self.heart_beats.pop_front() {
                    frame::put_body(ctx.client(), command::HEART_BEAT, &body);
                }
            }
            msg::logout::Res::NAME => frame::put_body(ctx.client(), command::CLOSE, &[]),
            arena::View::NAME => self.view(&decoded(payload), ctx),
            arena::Names::NAME => self.names(decoded(payload), ctx),
            arena::Top::NAME => self.top(decoded(payload), ctx),
            arena::Eaten::NAME => self.eaten(decoded(payload), ctx),
            arena::respawn::Res::NAME => self.respawned(ctx),
            _ => {}
        }
    }

    fn begins(bytes: &[u8]) -> Begins {
        // A first message is far smaller than 64 KiB, and a login.
        let begins = |at: usize, as_it_is: &[u8]| {
            bytes[at.min(bytes.len())..].iter().zip(as_it_is).all(|(one, other)| one == other)
        };
        if !begins(2, &[0]) || !begins(4, &command::LOGIN.to_le_bytes()) {
            return Begins::NotMine;
        }
        match frame::read(bytes, &CodecCtx::new(FIRST_BYTES_MAX)) {
            Ok(None) => Begins::Unsure,
            Ok(Some(said)) if is_login(&said) => Begins::Mine,
            Ok(Some(_)) | Err(_) => Begins::NotMine,
        }
    }

    fn claims(datagram: &[u8]) -> Option<Vec<u8>> {
        let said = frame::read(datagram, &CodecCtx::new(FIRST_BYTES_MAX)).ok()??;
        if said.command != command::BIND_SESSION || said.taken != datagram.len() {
            return None;
        }
        let bind = proto::BindSession::decode(&*said.body().ok()?).ok()?;
        word(bind.id, &bind.key)
    }
}

fn is_login(said: &Said<'_>) -> bool {
    said.body().is_ok_and(|body| proto::Login::decode(&*body).is_ok())
}

/// What a client that has not signed in may send at once.
const FIRST_BYTES_MAX: usize = 4096;

/// What a client's datagrams come with: as much of its key as nobody guesses.
fn word(id: u64, key: &str) -> Option<Vec<u8>> {
    let secret = key.len().checked_sub(64).and_then(|at| key.get(at..))?;
    Some([&id.to_le_bytes(), secret.as_bytes()].concat())
}

impl Mope {
    /// It comes back as it was, when the session has answered.
    fn heart_beat(&mut self, body: &[u8], ctx: &mut CodecCtx) -> Result<(), Malformed> {
        if body.len() > HEART_BEAT_BYTES_MAX || self.heart_beats.len() >= HEART_BEATS_MAX {
            return Ok(());
        }
        self.heart_beats.push_back(body.to_vec());
        ctx.say(&msg::ping::Req::default())
    }

    /// A client shows the key that it was given over HTTP.
    fn login(&mut self, body: &[u8], ctx: &mut CodecCtx) -> Result<(), Malformed> {
        let Ok(proto::Login { name, key }) = proto::Login::decode(body) else {
            fail(ctx, error::DECODE);
            return Ok(());
        };
        let Some(Key { room_id, token }) = Key::parse(&key) else {
            fail(ctx, error::VERIFICATION);
            return Ok(());
        };
        let letters = name.chars().filter(|letter| !letter.is_control());
        self.name = letters.take(NAME_LETTERS_MAX).collect();
        self.room_id = room_id.to_owned();
        let platform = Some("mope".to_owned());
        ctx.say(&msg::login::Req { token: token.to_owned(), platform, ..Default::default() })?;
        self.stage = Stage::Entering(key);
        Ok(())
    }

    fn signed_in(&mut self, answer: &msg::login::Res, ctx: &mut CodecCtx) {
        let msg::login::Res { code: 0, user: Some(def::User { account, .. }), .. } = answer else {
            self.stage = Stage::Fresh;
            return fail(ctx, error_of(Code(answer.code)));
        };
        self.account = account.cast_unsigned();
        if let Stage::Entering(key) = &self.stage
            && let Some(word) = word(self.account, key)
        {
            ctx.expect(word);
        }
        let (kind, room_id) = (arena::KIND.to_owned(), self.room_id.clone());
        let enter = msg::enter_room::Req { kind, room_id, ..Default::default() };
        ctx.say(&enter).expect("the name of a room is short");
    }

    fn entered(&mut self, answer: msg::enter_room::Res, ctx: &mut CodecCtx) {
        let join = msg::join_room::Req { ticket: answer.ticket, name: self.name.clone() };
        if ctx.say(&join).is_err() {
            fail(ctx, error::PARAMETER);
        }
    }

    fn joined(&mut self, answer: &msg::join_room::Res) {
        let field: arena::Field = decoded(&answer.state);
        self.seconds_left = field.seconds_left;
        self.scene = Scene::new(field);
        if let Stage::Entering(_) = self.stage {
            // It is told with what it sees first.
            self.stage = Stage::Seated;
        }
    }

    fn refused(&mut self, refusal: &msg::error::Res, ctx: &mut CodecCtx) {
        let code = Code(refusal.code);
        match refusal.api.as_str() {
            // It was the first of them that was answered, or none is to be.
            msg::ping::Req::NAME => drop(self.heart_beats.pop_front()),
            msg::enter_room::Req::NAME | msg::join_room::Req::NAME => {
                self.stage = Stage::Over;
                fail(ctx, error_of(code));
            }
            _ => fail(ctx, error_of(code)),
        }
    }

    fn view(&mut self, view: &arena::View, ctx: &mut CodecCtx) {
        let first = self.stage == Stage::Seated;
        if !first && self.stage != Stage::Playing {
            return;
        }
        // It says nothing for minutes while it watches.
        ctx.lives();
        if first {
            let seen = self.scene.see(view);
            self.scene.forget_food();
            return self.welcome(view, seen.scene.add_players, ctx);
        }
        if self.views < VIEWS_LEFT_OUT {
            self.views += 1;
            return;
        }
        let news = self.scene.see(view);
        if news.scene != proto::SceneTcp::default() {
            frame::put(ctx.client(), command::SCENE_TCP, &news.scene);
        }
        for (ball, level) in news.levels {
            let animal = proto::PlayerAnimal { id: Some(self.id_of(ball)), animalid: Some(level) };
            frame::put(ctx.client(), command::PLAYER_ANIMAL, &animal);
        }
        if !news.moves.moves.is_empty() {
            let mut moves = Vec::new();
            frame::put(&mut moves, command::SCENE_UDP, &news.moves);
            ctx.client_loosely(moves);
        }
    }

    /// It is in: what it may do now, who it is, and what it sees.
    fn welcome(&mut self, view: &arena::View, mut balls: Vec<proto::Ball>, ctx: &mut CodecCtx) {
        let me = self.scene.me();
        balls.sort_by_key(|ball| ball.id != me);
        let player = self.player(me, &self.name.clone());
        let out = ctx.client();
        let top = proto::Top { end_time: Some(self.seconds_left), ..proto::Top::default() };
        frame::put(out, command::TOP, &top);
        let result = proto::LoginResult {
            ok: true,
            id: self.account,
            name: Some(self.name.clone()),
            others: [vec![player.clone()], std::mem::take(&mut self.others)].concat(),
            frame: u32::try_from(view.tick).unwrap_or(u32::MAX),
            local: 0,
            room_name: Some(self.room_id.clone()),
            ball_id: me,
            balls: Vec::new(),
            playerballs: balls,
            left_time: Some(self.seconds_left),
        };
        frame::put(out, command::LOGIN, &result);
        frame::put(out, command::ADD_PLAYER, &proto::AddPlayer { player });
        self.stage = Stage::Playing;
    }

    fn names(&mut self, told: arena::Names, ctx: &mut CodecCtx) {
        for arena::names::Name { id, name } in told.names {
            let player = self.player(id, &name);
            match self.stage {
                Stage::Seated if id != self.scene.me() => self.others.push(player),
                Stage::Playing => {
                    frame::put(ctx.client(), command::ADD_PLAYER, &proto::AddPlayer { player });
                }
                _ => {}
            }
        }
    }

    /// Each second.
    fn top(&mut self, told: arena::Top, ctx: &mut CodecCtx) {
        self.seconds_left = self.seconds_left.saturating_sub(1);
        self.top = told.places;
        if self.stage != Stage::Playing {
            return;
        }
        let mine = self.top.iter().position(|place| place.name == self.name);
        let place = |(at, place): (usize, &arena::top::Place)| {
            let id = if mine == Some(at) { self.account } else { OTHERS + at as u64 };
            proto::Player { curexp: Some(place.score), ..player(id, &place.name, 0) }
        };
        let top = proto::Top {
            players: self.top.iter().enumerate().map(place).collect(),
            end_time: Some(self.seconds_left),
            rank: mine.and_then(|at| u32::try_from(at + 1).ok()),
            kill_num: None,
        };
        frame::put(ctx.client(), command::TOP, &top);
    }

    fn eaten(&mut self, told: arena::Eaten, ctx: &mut CodecCtx) {
        let death = proto::Death {
            max_score: told.score,
            kill_id: OTHERS,
            kill_name: told.by,
            id: self.account,
        };
        frame::put(ctx.client(), command::DEATH, &death);
    }

    fn respawned(&mut self, ctx: &mut CodecCtx) {
        let snap_info = self.scene.snap(self.account);
        let relife =
            proto::Relife { name: Some(self.name.clone()), snap_info, ..proto::Relife::default() };
        frame::put(ctx.client(), command::RELIFE, &relife);
        // Such a client drops all that it knew.
        self.scene.forget();
    }

    /// The room is over, or its client has lost the seat.
    fn ended(&mut self, ctx: &mut CodecCtx) {
        self.stage = Stage::Over;
        let end = |id: u64, place: &arena::top::Place, rank: u32| proto::EndPlayer {
            id,
            u_name: place.name.clone(),
            name: place.name.clone(),
            score: place.score.into(),
            kill_num: 0,
            rank: Some(rank),
        };
        let places = || self.top.iter().zip(1..);
        let own = places().find(|(place, _)| place.name == self.name);
        let room = proto::EndRoom {
            players: places()
                .map(|(place, rank)| end(OTHERS + u64::from(rank), place, rank))
                .collect(),
            user_self: own.map(|(place, rank)| end(self.account, place, rank)),
            is_valid: Some(true),
        };
        frame::put(ctx.client(), command::END_ROOM, &room);
    }

    fn player(&self, ball: u32, name: &str) -> proto::Player {
        player(self.id_of(ball), name, ball)
    }

    fn id_of(&self, ball: u32) -> u64 {
        if ball == self.scene.me() { self.account } else { OTHERS + u64::from(ball) }
    }
}

fn player(id: u64, name: &str, ball_id: u32) -> proto::Player {
    let (name, is_live) = (name.to_owned(), Some(true));
    proto::Player { id, name, is_live, ball_id, ..proto::Player::default() }
}

/// A message of the game's own; one that cannot be read says nothing.
fn decoded<M: Message + Default>(payload: &[u8]) -> M {
    M::decode(payload).unwrap_or_default()
}

fn fail(ctx: &mut CodecCtx, code: u32) {
    let error = proto::RetError { ret_code: code, ..proto::RetError::default() };
    frame::put(ctx.client(), command::ERROR, &error);
}

const fn error_of(code: Code) -> u32 {
    match code {
        Code::ROOM_NOT_FOUND | Code::NO_ROOM_SERVER | Code::ROOM_CLOSED => error::ROOM_NOT_FOUND,
        Code::ROOM_FULL => error::ROOM_FULL,
        Code::SIGNED_IN_ELSEWHERE => error::SIGNED_IN_ELSEWHERE,
        Code::BANNED | Code::REMOVED => error::BANNED,
        Code::RATE_LIMITED | Code::BUSY | Code::TOO_MANY_TRIES => error::TOO_QUICK,
        Code::UNDECODABLE | Code::PROTOCOL | Code::FRAME_TOO_LARGE => error::DECODE,
        Code::TOKEN_INVALID | Code::TOKEN_EXPIRED | Code::TICKET_INVALID => error::VERIFICATION,
        Code::PARAMETER => error::PARAMETER,
        _ => error::UNAVAILABLE,
    }
}

impl fmt::Debug for Mope {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mope").field("account", &self.account).finish_non_exhaustive()
    }
}
