//! Owns what the texts look like: a client's commands, and `{code, api, body, err_msg}` for it.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use tungstenite::protocol::frame::coding::{Data, OpCode};

use super::{frames::put_header, login::Wanted};
use crate::wire::{ApiName, Code};

/// `cmd_id` of a login.
const LOGIN: i64 = 1001;

/// Longest `device_id` or `platform`, in bytes: with a token it fits the frame of a sign-in.
const DEVICE_BYTES_MAX: usize = 256;

/// What a client's text asks for.
pub(super) enum Command<'a> {
    /// A message in JSON: the twin of a frame.
    Message { api: &'a str, body: Option<&'a str> },
    /// To sign in by name.
    Login(Wanted),
    /// A `cmd_id` that means nothing here.
    Unknown(i64),
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    api: Option<&'a RawValue>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
    cmd_id: Option<i64>,
    device_id: Option<String>,
    platform: Option<String>,
}

#[derive(Deserialize)]
struct Credentials {
    username: Option<String>,
    password: Option<String>,
}

/// Reads a client's text.
///
/// # Errors
/// What is wrong with it, for the client's programmer.
pub(super) fn command(text: &str) -> Result<Command<'_>, String> {
    let wrong = |e: serde_json::Error| format!("Malformed message: {e}");
    let envelope: Envelope<'_> = serde_json::from_str(text).map_err(wrong)?;
    if let Some(api) = envelope.api {
        // An api's letters are written as they are, never escaped.
        let api = api.get().strip_prefix('"').and_then(|api| api.strip_suffix('"'));
        let api = api.filter(|api| ApiName::parse(api.as_bytes()).is_ok());
        let api = api.ok_or("Malformed message: `api` is not the name of a message")?;
        return Ok(Command::Message { api, body: envelope.body.map(RawValue::get) });
    }
    match envelope.cmd_id {
        Some(LOGIN) => {}
        Some(other) => return Ok(Command::Unknown(other)),
        None => return Err("Malformed message: `api` or `cmd_id` is missing".to_owned()),
    }
    let body = envelope.body.map_or("{}", RawValue::get);
    let missing = |name| format!("Login failed: `body.{name}` is missing");
    let credentials: Credentials = serde_json::from_str(body)
        .map_err(|e| format!("Login failed: `body` is malformed: {e}"))?;
    let device = [&envelope.device_id, &envelope.platform];
    if device.into_iter().flatten().any(|text| text.len() > DEVICE_BYTES_MAX) {
        return Err("Login failed: `device_id` or `platform` is too long".to_owned());
    }
    let filled = |field: Option<String>| field.filter(|text| !text.is_empty());
    Ok(Command::Login(Wanted {
        username: filled(credentials.username).ok_or_else(|| missing("username"))?,
        password: filled(credentials.password).ok_or_else(|| missing("password"))?,
        device_id: envelope.device_id,
        platform: envelope.platform,
    }))
}

/// What a client is told: code, name where it is a message, body as JSON, text for people.
pub(super) struct Text<'a> {
    code: i32,
    api: Option<Cow<'a, str>>,
    body: Vec<u8>,
    err_msg: String,
}

impl<'a> Text<'a> {
    pub(super) fn ok(body: &Value) -> Self {
        Self { code: 200, api: None, body: body.to_string().into(), err_msg: String::new() }
    }

    pub(super) fn greeting(message: &str, session_id: &str) -> Self {
        Self::ok(&json!({ "message": message, "session_id": session_id }))
    }

    pub(super) fn refusal(code: i32, err_msg: &str) -> Self {
        Self { code, api: None, body: b"null".to_vec(), err_msg: err_msg.to_owned() }
    }

    /// A message; its body is JSON already.
    pub(super) fn message(code: i32, api: &'a str, body: Vec<u8>, err_msg: &str) -> Self {
        Self { code, api: Some(Cow::Borrowed(api)), body, err_msg: err_msg.to_owned() }
    }

    /// `msg.Error.Res`; `of` is the request that it answers.
    pub(super) fn error(code: Code, of: &str, message: &str) -> Self {
        Self::about(code.0, code, of, message)
    }

    pub(super) fn not_signed_in(of: &str) -> Self {
        let text = "Authentication required. Please login first.";
        Self::about(401, Code::NOT_SIGNED_IN, of, text)
    }

    fn about(told: i32, code: Code, of: &str, message: &str) -> Self {
        let body = json!({ "code": code.0, "api": of, "message": message });
        Self {
            code: told,
            api: Some(Cow::Borrowed("msg.Error.Res")),
            body: body.to_string().into(),
            err_msg: message.to_owned(),
        }
    }

    /// Appends it as a text message.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let Self { code, api, body, err_msg } = self;
        let api = api.as_ref().map(|api| format!("\"api\":{},", Value::from(api.as_ref())));
        let front = format!("{{\"code\":{code},{}\"body\":", api.unwrap_or_default());
        let back = format!(",\"err_msg\":{}}}", Value::from(err_msg.as_str()));
        let bytes = front.len() + body.len() + back.len();
        put_header(out, OpCode::Data(Data::Text), bytes);
        out.reserve(bytes);
        out.extend_from_slice(front.as_bytes());
        out.extend_from_slice(body);
        out.extend_from_slice(back.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_command_is_a_message_or_a_login_and_says_what_it_lacks() {
        let text = r#"{"body":{"val":7},"api":"msg.Echo.Req","more":[1]}"#;
        let Ok(Command::Message { api, body }) = command(text) else { panic!("a message") };
        assert_eq!((api, body), ("msg.Echo.Req", Some(r#"{"val":7}"#)));
        let login = r#"{"cmd_id":1001,"from_uid":"a","device_id":"d","platform":"web","body":{"username":"a","password":"b"}}"#;
        let Ok(Command::Login(wanted)) = command(login) else { panic!("a login") };
        assert_eq!((wanted.username.as_str(), wanted.platform.as_deref()), ("a", Some("web")));
        assert!(matches!(command(r#"{"cmd_id":2001}"#), Ok(Command::Unknown(2001))));
        for (text, told) in [
            ("", "Malformed message"),
            ("[]", "Malformed message"),
            ("{}", "`api` or `cmd_id` is missing"),
            (r#"{"api":7}"#, "`api` is not the name"),
            (r#"{"api":"a b"}"#, "`api` is not the name"),
            (r#"{"cmd_id":"x"}"#, "Malformed message"),
            (r#"{"cmd_id":1001}"#, "`body.username` is missing"),
            (r#"{"cmd_id":1001,"body":[]}"#, "`body` is malformed"),
            (r#"{"cmd_id":1001,"body":7}"#, "`body` is malformed"),
            (r#"{"cmd_id":1001,"body":{"username":"a","password":""}}"#, "`body.password`"),
        ] {
            let Err(e) = command(text) else { panic!("{text} is a command") };
            assert!(e.contains(told), "{text}: {e}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,60}", body in "[\\[\\]{}\",:a1 ]{0,40}") {
            drop(command(&text));
            drop(command(&format!(r#"{{"cmd_id":1001,"body":{body}}}"#)));
        }
    }
}
