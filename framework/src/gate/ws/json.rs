//! Owns the text codec: a client's commands become frames, frames become texts, and a sign-in
//! takes place on the way. Leaves to `texts` what a text looks like, to `login` what a sign-in by
//! name asks for, to the schema what a message looks like.
//!
//! What is refused here and not behind the gate goes through it all the same, so that it keeps its
//! place among the answers of the session, and counts in the rate. A message goes as a frame of its
//! name, for both sides count it as one; what names no message as a ping, which nobody counts.
//!
//! A sign-in by name begins with a ping, so that it counts in the rate before anybody is asked; one
//! that the account center refuses ends with a sign-in without a token, so that it counts among
//! the tries, and waits as they do.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use prost::Message as _;
use tokio::{
    io::ReadBuf,
    time::{Sleep, sleep},
};

use super::{
    frames::Violation,
    handshake::Hello,
    login::{self, Asking, SignedUp},
    texts::{self, Command, Text},
};
use crate::{
    Named,
    gate::Gate,
    limits::{
        FRAME_BYTES_BEFORE_SIGN_IN_MAX, SIGN_IN_FAILED_PAUSE, WS_ANSWERS_WAITING_MAX,
        WS_MESSAGE_BYTES_MAX, WS_TEXT_BYTES_BEFORE_SIGN_IN_MAX,
    },
    link::SessionId,
    msg,
    schema::TranscodeError,
    wire::{Code, Cut, Frame, Refusal, cut, put, put_message},
};

/// One client's text side.
#[derive(Debug)]
pub(super) struct Json {
    gate: Arc<Gate>,
    peer: SocketAddr,
    hello: Hello,
    /// The message so far.
    text: Vec<u8>,
    /// Frames for the connection, of which `given` bytes are gone.
    frames: Vec<u8>,
    given: usize,
    signing_in: SigningIn,
    signed_in: bool,
    /// What the pings under way stand for, oldest first.
    pings: VecDeque<Ping>,
    /// Why the frames of [`REFUSED`] in `frames` are refused, oldest first.
    refusals: VecDeque<Refusal>,
}

/// The payload of a frame that stands for a message which is none: no message is encoded so.
const REFUSED: &[u8] = &[0xff];

/// A sign-in under way; nothing else is taken in meanwhile.
#[derive(Debug)]
enum SigningIn {
    Not,
    /// It waits until what was asked before is answered.
    Wanted(login::Wanted),
    /// The account center is asked.
    Asking(login::Wanted, Asking),
    /// The gate is asked.
    Sent(For),
    /// It was refused, and the rate left no place to count it among the tries: once more, later.
    Uncounted(Refusal, Pin<Box<Sleep>>),
}

/// What a sign-in's answer is for.
#[derive(Debug)]
enum For {
    /// The token that the client connected with.
    Greeting,
    /// The text login.
    Command(SignedUp),
    /// The text login, refused already; the gate is to count it.
    Refused(Refusal),
    /// The client's own `msg.Login.Req` or `msg.Resume.Req`.
    Message,
}

/// What a ping stands for.
#[derive(Debug)]
enum Ping {
    /// The client sent it.
    Client,
    /// An answer that was found here.
    Answer(Vec<u8>),
    /// The text login, which goes on when this is answered.
    Login,
}

impl Json {
    pub(super) fn new(gate: Arc<Gate>, peer: SocketAddr, hello: Hello) -> Self {
        Self {
            gate,
            peer,
            hello,
            text: Vec::new(),
            frames: Vec::new(),
            given: 0,
            signing_in: SigningIn::Not,
            signed_in: false,
            pings: VecDeque::new(),
            refusals: VecDeque::new(),
        }
    }

    /// The first text of a client that brought no token.
    pub(super) fn greet(&self, out: &mut Vec<u8>) {
        let session_id = SessionId(self.gate.chance.next_u64()).to_string();
        Text::greeting("Connected successfully. Please login or provide token.", &session_id)
            .put(out);
    }

    /// Signs in with the token that the client connected with.
    pub(super) fn login_by_token(&mut self, out: &mut Vec<u8>) {
        let frame = self.login_frame();
        if frame.len() > FRAME_BYTES_BEFORE_SIGN_IN_MAX {
            // No token of ours is that long, and a frame like this would end the connection.
            return login::token_refused(Code::TOKEN_INVALID).put(out);
        }
        self.frames = frame;
        self.signing_in = SigningIn::Sent(For::Greeting);
    }

    /// `msg.Login.Req` with the token that the client connected with.
    pub(super) fn login_frame(&self) -> Vec<u8> {
        let Hello { token, device_id, platform, version, choice: _ } = &self.hello;
        let login = msg::login::Req {
            token: token.clone().unwrap_or_default(),
            device_id: device_id.clone(),
            platform: platform.clone(),
            version: version.clone(),
        };
        let mut frame = Vec::new();
        put_message(&mut frame, &login).expect("a request's head is smaller than a frame");
        frame
    }

    /// Nothing more is taken in now.
    pub(super) fn busy(&self) -> bool {
        !matches!(self.signing_in, SigningIn::Not)
            || self.pings.len() >= WS_ANSWERS_WAITING_MAX
            || self.refusals.len() >= WS_ANSWERS_WAITING_MAX
            || self.frames.len() >= WS_MESSAGE_BYTES_MAX
    }

    // === From the client ===

    /// Takes part of a text; the `last` makes it whole.
    pub(super) fn take_text(&mut self, bytes: &[u8], last: bool) -> Result<(), Violation> {
        let bytes_max = match self.signed_in {
            true => WS_MESSAGE_BYTES_MAX,
            false => WS_TEXT_BYTES_BEFORE_SIGN_IN_MAX,
        };
        if self.text.len() + bytes.len() > bytes_max {
            return Err(Violation::TooLarge);
        }
        self.text.extend_from_slice(bytes);
        if last {
            let text = std::mem::take(&mut self.text);
            let text = String::from_utf8(text).map_err(|_| Violation::NotUtf8)?;
            self.command(&text);
        }
        Ok(())
    }

    fn command(&mut self, text: &str) {
        match texts::command(text) {
            Ok(Command::Message { api, body }) => self.message(api, body),
            Ok(Command::Login(_)) if self.signed_in => {
                self.answer(&Text::refusal(400, "Login failed: already signed in"));
            }
            Ok(Command::Login(wanted)) => {
                self.signing_in = SigningIn::Wanted(wanted);
                self.pings.push_back(Ping::Login);
                self.put(&msg::ping::Req::default());
            }
            Ok(Command::Unknown(_)) if !self.signed_in => self.answer(&Text::not_signed_in("")),
            Ok(Command::Unknown(cmd_id)) => {
                self.answer(&Text::refusal(400, &format!("Unknown command: {cmd_id}")));
            }
            Err(e) => self.answer(&Text::refusal(400, &e)),
        }
    }

    /// A message in JSON becomes its frame.
    fn message(&mut self, api: &str, body: Option<&str>) {
        match self.gate.text.schema.encode(api, body) {
            Ok(payload) => self.send(api, &payload),
            Err(_) if !self.signed_in && !before_sign_in(api) => {
                self.answer(&Text::not_signed_in(api));
            }
            Err(TranscodeError::UnknownApi) => self.refuse(api, Code::UNKNOWN_API.into()),
            Err(TranscodeError::Body(why)) => self.refuse(api, Code::UNDECODABLE.because(why)),
        }
    }

    /// Refuses a message. Within a session it counts, and so does its answer: a frame stands for
    /// it, which the gate refuses with these words.
    fn refuse(&mut self, api: &str, refusal: Refusal) {
        if !self.signed_in {
            return self.answer(&Text::error(refusal.code, api, &refusal.message));
        }
        put(&mut self.frames, api, REFUSED).expect("a name and a byte are smaller than a frame");
        self.refusals.push_back(refusal);
        if api == msg::ping::Req::NAME {
            self.pings.push_back(Ping::Client);
        }
    }

    /// Why the gate refuses this frame, if it was made for that.
    pub(super) fn refuses(&mut self, payload: &[u8]) -> Option<Refusal> {
        if payload == REFUSED { self.refusals.pop_front() } else { None }
    }

    fn send(&mut self, api: &str, payload: &[u8]) {
        if put(&mut self.frames, api, payload).is_err() {
            return self.refuse(api, Code::FRAME_TOO_LARGE.into());
        }
        if api == msg::ping::Req::NAME {
            self.pings.push_back(Ping::Client);
        } else if [msg::login::Req::NAME, msg::resume::Req::NAME].contains(&api) {
            // What comes behind it is taken within the session, or is told that there is none.
            self.signing_in = SigningIn::Sent(For::Message);
        }
    }

    /// Says this in its turn.
    fn answer(&mut self, text: &Text<'_>) {
        let mut answer = Vec::new();
        text.put(&mut answer);
        self.pings.push_back(Ping::Answer(answer));
        self.put(&msg::ping::Req::default());
    }

    fn put<M: Named>(&mut self, message: &M) {
        put_message(&mut self.frames, message).expect("what a gate says itself is small");
    }

    // === To the connection ===

    /// Goes on with a sign-in; pending while it is with somebody else.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.given < self.frames.len() {
            return Poll::Ready(());
        }
        if let SigningIn::Wanted(_) = &self.signing_in
            && self.pings.is_empty()
            && let SigningIn::Wanted(wanted) =
                std::mem::replace(&mut self.signing_in, SigningIn::Not)
        {
            let asking = login::ask(self.gate.text.asker.clone(), &wanted, self.peer.ip());
            self.signing_in = SigningIn::Asking(wanted, asking);
        }
        match &mut self.signing_in {
            // The answers that it waits for come by way of `write`, and so does this task.
            SigningIn::Wanted(_) | SigningIn::Sent(_) => Poll::Pending,
            SigningIn::Not if self.pings.len() >= WS_ANSWERS_WAITING_MAX => Poll::Pending,
            SigningIn::Not => Poll::Ready(()),
            SigningIn::Asking(wanted, asking) => {
                let (login, sent) = match ready!(asking.poll(cx)) {
                    Ok(signed_up) => (wanted.with_token(&signed_up), For::Command(signed_up)),
                    Err(refusal) => (msg::login::Req::default(), For::Refused(refusal)),
                };
                self.put(&login);
                self.signing_in = SigningIn::Sent(sent);
                Poll::Ready(())
            }
            SigningIn::Uncounted(refusal, pause) => {
                ready!(pause.as_mut().poll(cx));
                let sent = For::Refused(refusal.clone());
                self.put(&msg::login::Req::default());
                self.signing_in = SigningIn::Sent(sent);
                Poll::Ready(())
            }
        }
    }

    /// Hands over frames; says whether there were any.
    pub(super) fn give(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let rest = &self.frames[self.given..];
        let bytes = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..bytes]);
        self.given += bytes;
        if self.given == self.frames.len() {
            self.frames = Vec::new();
            self.given = 0;
        }
        bytes > 0
    }

    // === To the client ===

    /// Writes whole frames as texts, as many as `out` is good for; how many bytes were taken.
    pub(super) fn write(&mut self, frames: &[u8], out: &mut Vec<u8>) -> usize {
        let mut at = 0;
        while out.len() < WS_MESSAGE_BYTES_MAX
            && let Ok(Cut::Frame(frame)) = cut(&frames[at..], WS_MESSAGE_BYTES_MAX)
        {
            at += frame.bytes.len();
            self.write_frame(&frame, out);
        }
        debug_assert!(at > 0 || frames.is_empty(), "a connection writes whole frames");
        if at == 0 { frames.len() } else { at }
    }

    fn write_frame(&mut self, frame: &Frame<'_>, out: &mut Vec<u8>) {
        match frame.api.as_str() {
            "msg.Ping.Res" => match self.pings.pop_front() {
                Some(Ping::Answer(answer)) => return out.extend(answer),
                Some(Ping::Login) => return,
                Some(Ping::Client) | None => {}
            },
            "msg.Error.Res" => {
                let error = msg::error::Res::decode(frame.payload).unwrap_or_default();
                return self.error(error, out);
            }
            "msg.Kick.Res" => {
                let kick = msg::kick::Res::decode(frame.payload).unwrap_or_default();
                return self.text(kick.code, frame, &kick.reason).put(out);
            }
            "msg.Login.Res" => {
                let answer = msg::login::Res::decode(frame.payload).unwrap_or_default();
                self.signed_in |= answer.code == Code::OK.0;
                if let Some(text) = self.signed(&answer) {
                    return text.put(out);
                }
            }
            "msg.Resume.Res" => {
                let answer = msg::resume::Res::decode(frame.payload).unwrap_or_default();
                self.signed_in |= answer.code == Code::OK.0;
                self.signing_in = SigningIn::Not;
            }
            _ => {}
        }
        self.text(200, frame, "").put(out);
    }

    /// What a client of the texts hears of its sign-in; `None` when it asked with a message, or
    /// not at all.
    fn signed(&mut self, answer: &msg::login::Res) -> Option<Text<'static>> {
        let sent = match std::mem::replace(&mut self.signing_in, SigningIn::Not) {
            SigningIn::Sent(sent) => sent,
            other => {
                self.signing_in = other;
                return None;
            }
        };
        let code = Code(answer.code);
        let session_id = answer.session_id.as_deref().unwrap_or_default();
        Some(match sent {
            For::Message => return None,
            For::Greeting if code == Code::OK => {
                Text::greeting("Connected and authenticated successfully", session_id)
            }
            For::Greeting => login::token_refused(code),
            For::Command(signed_up) if code == Code::OK => signed_up.text(session_id),
            For::Command(_) => login::refused(&code.into()),
            For::Refused(refusal) => login::refused(&refusal),
        })
    }

    fn error(&mut self, error: msg::error::Res, out: &mut Vec<u8>) {
        let mut api = error.api.as_str();
        let code = Code(error.code);
        if api == msg::ping::Req::NAME {
            match self.pings.pop_front() {
                Some(Ping::Answer(_)) => api = "",
                Some(Ping::Login) => {
                    self.signing_in = SigningIn::Not;
                    return login::refused(&code.into()).put(out);
                }
                Some(Ping::Client) | None => {}
            }
        }
        if api == msg::login::Req::NAME
            && code == Code::RATE_LIMITED
            && let SigningIn::Sent(For::Refused(refusal)) = &self.signing_in
        {
            // Not counted, so not told either: else a client could try for ever at its rate.
            let pause = Box::pin(sleep(SIGN_IN_FAILED_PAUSE));
            self.signing_in = SigningIn::Uncounted(refusal.clone(), pause);
            return;
        }
        if [msg::login::Req::NAME, msg::resume::Req::NAME].contains(&api)
            && let Some(text) = self.signed(&msg::login::Res { code: code.0, ..Default::default() })
        {
            return text.put(out);
        }
        if code == Code::NOT_SIGNED_IN {
            return Text::not_signed_in(api).put(out);
        }
        Text::error(code, api, &error.message).put(out);
    }

    /// A frame's twin.
    fn text<'a>(&self, code: i32, frame: &Frame<'a>, err_msg: &str) -> Text<'a> {
        let api = frame.api.as_str();
        let mut body = Vec::new();
        match self.gate.text.schema.write_json(api, frame.payload, &mut body) {
            Ok(()) => Text::message(code, api, body, err_msg),
            Err(e) => {
                // A game server that is newer than this gate; frames would do.
                tracing::debug!(target: "gate", api, "a message cannot be told in JSON: {e}");
                Text::message(Code::UNDECODABLE.0, api, b"null".to_vec(), "not known to this gate")
            }
        }
    }
}

/// What a client may say before it has signed in.
fn before_sign_in(api: &str) -> bool {
    [msg::login::Req::NAME, msg::resume::Req::NAME, msg::ping::Req::NAME].contains(&api)
}

const _: () = assert!(WS_TEXT_BYTES_BEFORE_SIGN_IN_MAX >= FRAME_BYTES_BEFORE_SIGN_IN_MAX);
