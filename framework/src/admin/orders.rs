//! Owns what an operator tells a node to do, kick, ban, unban, sign with a new key, and what he
//! asks about an account or about rooms. Any node takes the order and hands it to an account center
//! or a room center. Leaves who may give orders to `guard`.

use std::{net::IpAddr, time::UNIX_EPOCH};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web::{self, Bytes, Data},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{Admin, guard::Verdict};
use crate::{
    directory::Role,
    limits::{BAN_MAX, HTTP_BODY_BYTES_MAX, REASON_BYTES_MAX},
    proto::admin as proto,
    wire::{Code, Refusal},
};

/// Every order, with its route.
pub(super) fn configure(cfg: &mut web::ServiceConfig) {
    let post = web::post;
    cfg.app_data(web::PayloadConfig::new(HTTP_BODY_BYTES_MAX))
        .route("/admin/kick", post().to(kick))
        .route("/admin/ban", post().to(ban))
        .route("/admin/unban", post().to(unban))
        .route("/admin/accounts/{account}", web::get().to(view))
        .route("/admin/rooms", web::get().to(rooms))
        .route("/admin/keys/rotate", post().to(rotate_key));
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kick {
    account: i64,
    #[serde(default)]
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ban {
    account: i64,
    /// From now on; or `until`.
    seconds: Option<u64>,
    /// A date such as `2030-01-31T12:00:00Z`.
    until: Option<String>,
    #[serde(default)]
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Unban {
    account: i64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RotateKey {}

async fn kick(req: HttpRequest, body: Bytes, admin: Data<Admin>) -> HttpResponse {
    let act = async |Kick { account, reason }: Kick| {
        let request = proto::kick::Req { account, reason: checked(reason)? };
        let answer = admin.asker.ask(Role::Account, &request).await?;
        Ok(json!({ "account": account, "session": word(answer.session()) }))
    };
    order("kick", &req, &body, &admin, act).await
}

async fn ban(req: HttpRequest, body: Bytes, admin: Data<Admin>) -> HttpResponse {
    let act = async |ban: Ban| {
        let account = ban.account;
        let until_ms = until_ms(&ban, admin.clock.now_ms())?;
        let request = proto::ban::Req { account, until_ms, reason: checked(ban.reason)? };
        let answer = admin.asker.ask(Role::Account, &request).await?;
        let until = date(until_ms);
        Ok(json!({ "account": account, "until": until, "session": word(answer.session()) }))
    };
    order("ban", &req, &body, &admin, act).await
}

async fn unban(req: HttpRequest, body: Bytes, admin: Data<Admin>) -> HttpResponse {
    let act = async |Unban { account }: Unban| {
        let answer = admin.asker.ask(Role::Account, &proto::unban::Req { account }).await?;
        Ok(json!({ "account": account, "was_banned": answer.was_banned }))
    };
    order("unban", &req, &body, &admin, act).await
}

/// What there is to know of an account, and what happened to it last.
async fn view(req: HttpRequest, path: web::Path<String>, admin: Data<Admin>) -> HttpResponse {
    let by = match let_in("view", &req, &admin).await {
        Ok(by) => by,
        Err(denied) => return denied,
    };
    let Ok(account) = path.parse() else {
        return refused(&Code::PARAMETER.because("the account in the path is not a number"));
    };
    match admin.asker.ask(Role::Account, &proto::view::Req { account }).await {
        Ok(view) => {
            // Who looked, and not what was seen: a phone has no business in the log.
            tracing::info!(target: "admin", %by, what = "view", account, "order done");
            HttpResponse::Ok().json(shown(view))
        }
        Err(refusal) => {
            tracing::info!(target: "admin", %by, what = "view", account, "order not done: {refusal}");
            refused(&refusal)
        }
    }
}

fn shown(view: proto::view::Res) -> Value {
    let when = |ms: i64| (ms > 0).then(|| date(ms));
    let note = |note: proto::view::Note| {
        let proto::view::Note { at_ms, what, way, app_id, ip, detail } = note;
        json!({
            "at": date(at_ms), "what": what, "way": way, "app_id": app_id, "ip": ip,
            "detail": detail,
        })
    };
    json!({
        "code": 0,
        "account": view.account,
        "openid": view.openid,
        "username": view.username,
        "phone": view.phone,
        "email": view.email,
        "guest": view.guest,
        "password": view.password,
        "status": view.status,
        "created": date(view.created_ms),
        "last_sign_in": when(view.last_sign_in_ms),
        "last_play": when(view.last_play_ms),
        "banned_until": when(view.banned_until_ms),
        "banned_reason": view.banned_reason,
        "notes": view.notes.into_iter().map(note).collect::<Vec<_>>(),
    })
}

/// Every room of the cluster, or the first of very many.
async fn rooms(req: HttpRequest, admin: Data<Admin>) -> HttpResponse {
    let by = match let_in("rooms", &req, &admin).await {
        Ok(by) => by,
        Err(denied) => return denied,
    };
    match admin.asker.ask(Role::Rooms, &proto::rooms::Req {}).await {
        Ok(proto::rooms::Res { rooms, more }) => {
            tracing::info!(target: "admin", %by, what = "rooms", rooms = rooms.len(), "order done");
            let rooms: Vec<_> = rooms.into_iter().map(room).collect();
            HttpResponse::Ok().json(json!({ "code": 0, "rooms": rooms, "more": more }))
        }
        Err(refusal) => {
            tracing::info!(target: "admin", %by, what = "rooms", "order not done: {refusal}");
            refused(&refusal)
        }
    }
}

fn room(room: proto::rooms::Room) -> Value {
    let proto::rooms::Room {
        kind,
        room_id,
        node,
        members,
        reserved,
        capacity,
        locked,
        private,
        opening,
    } = room;
    json!({
        "kind": kind, "room_id": room_id, "node": node, "members": members,
        "reserved": reserved, "capacity": capacity, "locked": locked, "private": private,
        "opening": opening,
    })
}

async fn rotate_key(req: HttpRequest, body: Bytes, admin: Data<Admin>) -> HttpResponse {
    let act = async |RotateKey {}: RotateKey| {
        let answer = admin.asker.ask(Role::Account, &proto::rotate_key::Req {}).await?;
        Ok(json!({ "kid": answer.kid, "signs_from": date(answer.signs_from_ms) }))
    };
    // There is nothing to say.
    let body: &[u8] = if body.is_empty() { b"{}" } else { &body };
    order("rotate-key", &req, body, &admin, act).await
}

/// Lets the operator in, reads the order, does it, and writes down who did what to whom.
async fn order<O, F>(
    what: &'static str,
    req: &HttpRequest,
    body: &[u8],
    admin: &Admin,
    act: F,
) -> HttpResponse
where
    O: DeserializeOwned + std::fmt::Debug,
    F: AsyncFnOnce(O) -> Result<Value, Refusal>,
{
    let by = match let_in(what, req, admin).await {
        Ok(by) => by,
        Err(denied) => return denied,
    };
    let order: O = match serde_json::from_slice(body) {
        Ok(order) => order,
        Err(e) => return refused(&Code::PARAMETER.because(format!("the body: {e}"))),
    };
    let said = format!("{order:?}");
    match act(order).await {
        Ok(Value::Object(mut answer)) => {
            tracing::info!(target: "admin", %by, what, order = said, outcome = %json!(answer), "order done");
            answer.insert("code".to_owned(), 0.into());
            HttpResponse::Ok().json(answer)
        }
        Ok(_) => refused(&Code::INTERNAL.into()),
        Err(refusal) => {
            tracing::info!(target: "admin", %by, what, order = said, "order not done: {refusal}");
            refused(&refusal)
        }
    }
}

/// Who shows the secret, or an administrator's token, is let in; the answer is who, from where.
/// `Err` is what anybody else is told.
async fn let_in(
    what: &'static str,
    req: &HttpRequest,
    admin: &Admin,
) -> Result<String, HttpResponse> {
    let by = req.peer_addr().map_or(IpAddr::from([0; 4]), |peer| peer.ip());
    let shown = req.headers().get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let shown = shown.and_then(|v| v.strip_prefix("Bearer ")).map(str::trim);
    let administrator = match shown {
        Some(token) => admin.administrator(token).await,
        None => Ok(None),
    };
    let administrator = administrator.map_err(|refusal| {
        tracing::warn!(target: "admin", %by, what, "order denied: {refusal}");
        refused(&refusal)
    })?;
    let verdict = match administrator {
        Some(_) => Verdict::Welcome,
        None => admin.guard.judge(by, shown).await,
    };
    let by = administrator.map_or_else(|| by.to_string(), |id| format!("{by}, account {id}"));
    let denied = match verdict {
        Verdict::Welcome => None,
        Verdict::Closed => {
            Some((403, "admin.secret is not set on this node: set it, the same on every node"))
        }
        Verdict::Wrong => Some((401, "the secret is missing or wrong: send Authorization: Bearer")),
        Verdict::TooOften => Some((429, "too many wrong secrets: come back in a minute")),
    };
    if let Some((status, message)) = denied {
        tracing::warn!(target: "admin", %by, what, status, "order denied");
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
        return Err(HttpResponse::build(status).json(json!({ "message": message })));
    }
    Ok(by)
}

fn refused(Refusal { code, message }: &Refusal) -> HttpResponse {
    let status = match *code {
        Code::PARAMETER => StatusCode::BAD_REQUEST,
        Code::NO_SUCH_ACCOUNT => StatusCode::NOT_FOUND,
        Code::TOKEN_INVALID | Code::TOKEN_EXPIRED | Code::BANNED => StatusCode::UNAUTHORIZED,
        Code::NOT_READY | Code::NOT_CONNECTED | Code::BUSY => StatusCode::SERVICE_UNAVAILABLE,
        Code::DEADLINE => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    HttpResponse::build(status).json(json!({ "code": code.0, "message": message }))
}

/// The reason goes to the player and into the log: one short line.
fn checked(reason: String) -> Result<String, Refusal> {
    if reason.len() > REASON_BYTES_MAX || reason.chars().any(char::is_control) {
        let message = format!("`reason` is not one line of at most {REASON_BYTES_MAX} bytes");
        return Err(Code::PARAMETER.because(message));
    }
    Ok(reason)
}

/// When a ban ends.
fn until_ms(ban: &Ban, now_ms: i64) -> Result<i64, Refusal> {
    let wrong = || {
        Code::PARAMETER.because(
            "say either `seconds`, more than 0, or `until`, a date to come such as \
             2030-01-31T12:00:00Z; at most a hundred years",
        )
    };
    let until_ms = match (ban.seconds, &ban.until) {
        (Some(seconds), None) => {
            i64::try_from(seconds).ok().and_then(|s| now_ms.checked_add(s.checked_mul(1000)?))
        }
        (None, Some(date)) => humantime::parse_rfc3339_weak(date)
            .ok()
            .and_then(|date| i64::try_from(date.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()),
        _ => None,
    };
    let max_ms = i64::try_from(BAN_MAX.as_millis()).unwrap_or(i64::MAX);
    let fits = |until: &i64| *until > now_ms && *until <= now_ms.saturating_add(max_ms);
    until_ms.filter(fits).ok_or_else(wrong)
}

fn date(ms: i64) -> String {
    let since = std::time::Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string()
}

fn word(session: proto::Session) -> &'static str {
    match session {
        proto::Session::Ended => "ended",
        proto::Session::None => "none",
        proto::Session::Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ban_ends_at_a_date_to_come_or_after_some_seconds() {
        let until = |seconds: Option<u64>, until: Option<&str>| {
            let until = until.map(str::to_owned);
            let ban = Ban { account: 1, seconds, until, reason: String::new() };
            until_ms(&ban, 1_000).map_err(|r| r.code)
        };
        assert_eq!(until(Some(2), None), Ok(3_000));
        assert_eq!(until(None, Some("1970-01-01T00:00:05Z")), Ok(5_000));
        for (seconds, date) in [
            (None, None),
            (Some(0), None),
            (Some(u64::MAX), None),
            (Some(101 * 366 * 86_400), None),
            (Some(1), Some("2030-01-01T00:00:00Z")),
            (None, Some("tomorrow")),
            (None, Some("1970-01-01T00:00:00Z")),
        ] {
            assert_eq!(until(seconds, date), Err(Code::PARAMETER), "{seconds:?} {date:?}");
        }
    }

    #[test]
    fn a_reason_is_one_short_line() {
        assert!(checked("cheating".into()).is_ok() && checked(String::new()).is_ok());
        assert!(checked("a\nb".into()).is_err() && checked("a".repeat(201)).is_err());
    }
}
