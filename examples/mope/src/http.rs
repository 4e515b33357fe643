//! Owns what such clients ask over HTTP: `GET /msg?c=1` signs in, `c=3` asks for a room. Each answer
//! is one message, as on the wire; the sign-in goes on in a cookie.

use bastide::{Code, HttpAnswer, HttpCall, Refusal, SignedIn, msg};
use prost::Message;

use crate::{CODEC, MATCH_SECONDS, frame, key::Key, proto::mope as proto};

/// What `c` says.
mod ask {
    pub(super) const LOGIN: &str = "1";
    pub(super) const ROOM: &str = "3";
}

/// Commands of the answers.
mod answer {
    pub(super) const LOGIN: u16 = 1;
    pub(super) const ROOM: u16 = 3;
    pub(super) const ERROR: u16 = 4;
}

/// Errors, as such clients count them.
mod error {
    pub(super) const ROOM_NOT_FOUND: u32 = 3;
    pub(super) const PARAMETER: u32 = 6;
    pub(super) const SESSION: u32 = 7;
    pub(super) const ROOM_FULL: u32 = 13;
}

/// One free room for all, until the match is over.
const MODEL: u32 = 1;

pub(crate) async fn msg(call: HttpCall) -> HttpAnswer {
    match call.param("c") {
        Some(ask::LOGIN) => login(&call).await,
        Some(ask::ROOM) => plain(answer::ROOM, &room(&call).await),
        _ => {
            let error = proto::RetError { ret_code: error::PARAMETER, ..Default::default() };
            plain(answer::ERROR, &error)
        }
    }
}

/// The sign is not looked at: whoever has such a client has the key that it is made with.
async fn login(call: &HttpCall) -> HttpAnswer {
    match sign_in(call).await {
        Ok(who) => {
            let login = proto::RetLogin {
                account: who.name.clone(),
                id: who.account.cast_unsigned(),
                is_newbie: who.is_new,
                nick: Some(who.name),
                ..proto::RetLogin::default()
            };
            let cookie = format!("session={}; Path=/; HttpOnly", who.token);
            plain(answer::LOGIN, &login).header("set-cookie", cookie)
        }
        // An id of 0 says that it did not succeed; the cookie is looked for all the same.
        Err(_) => plain(answer::LOGIN, &proto::RetLogin::default())
            .header("set-cookie", "session=; Path=/; Max-Age=0".to_owned()),
    }
}

/// By name and password; without them by the device.
async fn sign_in(call: &HttpCall) -> Result<SignedIn, Refusal> {
    let said = |name| call.param(name).filter(|text| !text.is_empty());
    match (said("a"), said("p"), said("dev")) {
        (Some(account), Some(password), _) => call.sign_in(account, password).await,
        (_, None, Some(device)) => call.sign_in_guest(device).await,
        _ => Err(Code::PARAMETER.because("dev, or a and p")),
    }
}

async fn room(call: &HttpCall) -> proto::RetIntoRoom {
    let refused = |err| proto::RetIntoRoom { err, ..proto::RetIntoRoom::default() };
    let Some(token) = call.cookie("session") else { return refused(error::SESSION) };
    let Ok(who) = call.signed_in(token).await else { return refused(error::SESSION) };
    let Some(addr) = call.gate(CODEC, &who) else { return refused(error::ROOM_NOT_FOUND) };
    let seconds = ("seconds".to_owned(), MATCH_SECONDS.to_string());
    let wanted = msg::enter_room::Req {
        kind: arena::KIND.to_owned(),
        options: [seconds].into(),
        ..msg::enter_room::Req::default()
    };
    match call.enter_room(&who, wanted).await {
        Ok(room) => proto::RetIntoRoom {
            err: 0,
            addr: Some(addr),
            key: Some(Key { room_id: &room.room_id, token }.text()),
            uid: Some(who.account.cast_unsigned()),
            model: Some(MODEL),
            scene_id: call.param("scene").and_then(|scene| scene.parse().ok()),
        },
        Err(refusal) if refusal.code == Code::ROOM_FULL => refused(error::ROOM_FULL),
        Err(_) => refused(error::ROOM_NOT_FOUND),
    }
}

/// These clients do not unpack what comes over HTTP.
fn plain(command: u16, message: &impl Message) -> HttpAnswer {
    let mut body = Vec::new();
    frame::put_plain(&mut body, command, message);
    HttpAnswer::bytes("application/octet-stream", body)
}
